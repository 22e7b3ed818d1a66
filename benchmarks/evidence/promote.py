"""Makes reference runs of bundles: ``python -m benchmarks.evidence.promote BUNDLE.tar.gz... [dry_run=true] [replace=true]``.

Run directories go to ``traces/reference/<gpu>/<name>``, results to ``benchmarks/evidence/measured/<gpu>/``. All is checked
before anything is written: the checksums, that every run is whole, that a device really ran it, that no name of this machine
stands in it, and that all reference runs together stay within 40 MB. One reason against one run stops it all.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.evidence.bundle import MANIFEST
from benchmarks.evidence.identity import Names, UnreadableError, names_here
from benchmarks.evidence.words import WordError, read_flag, read_words

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 40_000_000
MOST_UNPACKED = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MADE_UP = re.compile(r"stand.?in|synthetic|fake|mock|dummy|\btest|simulat", re.IGNORECASE)
_PASSES = frozenset({"warmup", "untraced", "traced"})
_VERSIONS = {"cpu": ("torch", "python"), "cuda": ("torch", "python", "cuda", "driver")}
_CUDA_FACTS = ("compute_capability", "sm_count", "memory_bytes", "l2_bytes")
_SLACK_NS = 2_000_000_000
"""How far the clock of the trace may stray from that of the passes."""
_OVERLAP_NS = 1_000_000
"""How far a latency, which another clock takes, may reach into the next iteration."""


class RefusedError(Exception):
    """Something that may not become a reference run; the text says what and why."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that may stand among the reference runs: where it lies now, its name, the folder of its device."""

    path: Path
    name: str
    key: str


def unpack(bundle: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest of ``bundle`` and its files: only plain ones with plain names that the manifest lists.

    Raises:
        RefusedError: it is damaged, lists another content, or holds something else.
    """
    try:
        with tarfile.open(bundle, "r:gz") as archive:
            contents = dict(_members(archive, bundle.name))
        with gzip.open(bundle) as file:  # tarfile does not read on to the checksum
            while file.read(1 << 20):
                pass
        manifest: dict[str, Any] = json.loads(contents.pop(MANIFEST))
        listed = {str(entry["name"]): str(entry["sha256"]) for entry in manifest["files"]}
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise RefusedError(f"{bundle.name} is no whole bundle ({type(error).__name__})") from error
    if set(listed) != set(contents):
        raise RefusedError(f"{bundle.name} does not hold what its manifest lists")
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != listed[name]:
            raise RefusedError(f"{bundle.name}: {name} was changed after it was packed")
    return manifest, contents


def lay_out(bundles: Sequence[Path], into: Path) -> list[dict[str, Any]]:
    """Write the files of ``bundles`` into ``into``, older bundles first, and return the manifests.

    A run that lies in several bundles is taken whole from the last; archives that were packed together share their time.
    """
    found = sorted((unpack(bundle) for bundle in bundles), key=lambda each: str(each[0].get("created_utc", "")))
    packed: dict[str, str] = {}
    for manifest, contents in found:
        created = str(manifest.get("created_utc", ""))
        for name, data in contents.items():
            path = into / name
            run = "/".join(path.relative_to(into).parts[:2])
            if name.startswith("runs/") and packed.setdefault(run, created) != created:
                shutil.rmtree(into / run)
                packed[run] = created
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return [manifest for manifest, _ in found]


def _members(archive: tarfile.TarFile, bundle: str) -> Iterator[tuple[str, bytes]]:
    total = 0
    for member in archive:
        parts = PurePosixPath(member.name).parts
        if not member.isfile() or member.name.startswith("/") or not all(map(_NAME.fullmatch, parts)):
            raise RefusedError(f"{bundle} holds something that is no plain file")
        total += member.size
        file = archive.extractfile(member)
        if total > MOST_UNPACKED or file is None:
            raise RefusedError(f"{bundle} unpacks to more than 1 GiB")
        yield member.name, file.read()


def accept(path: Path, names: Names) -> Accepted:
    """Return the run directory ``path`` as a reference run.

    Raises:
        RefusedError: it is not whole, or does not look like something that a device ran, or still holds a name.
    """
    from analyzer.errors import AnalyzerError
    from analyzer.trace import rundir

    try:
        run = rundir.open_run(path)
        timings = rundir.read_timings(run)
        samples = rundir.read_samples(run)
    except (AnalyzerError, OSError) as error:
        raise RefusedError(f"{path.name} cannot be read: {error}") from error
    facts = run.facts
    if facts is None:
        raise RefusedError(f"{path.name} has no run.json")
    reasons = [*_unreal(facts), *_incomplete(run, timings, samples), *_impossible(facts, timings), *_out_of_time(run)]
    if reasons:
        raise RefusedError(f"{path.name}: {reasons[0]}")
    for file in sorted(path.iterdir()):
        if not file.is_file():
            raise RefusedError(f"{path.name}/{file.name} is no file, and a run has nothing else")
        _check_names(file, names)
    return Accepted(path, path.name, device_key(facts.device))


def device_key(device: Any) -> str:
    """Return the folder of a device: the key of its sheet, or its name in lower case with underscores.

    Raises:
        RefusedError: a GPU that the database does not know.
    """
    from analyzer.hardware.lookup import find_sheet

    sheet = find_sheet(device)
    if sheet is not None:
        return sheet.key
    if device.type == "cuda":
        raise RefusedError(f"{device.name} is no GPU of the database: add its sheet to analyzer/hardware/gpus first")
    return re.sub(r"[^a-z0-9]+", "_", device.name.lower()).strip("_")[:40] or "cpu"


def _unreal(facts: Any) -> Iterator[str]:
    """Yield what shows that nothing real ran."""
    for text in (facts.device.name, facts.model.name, facts.model.label, facts.name):
        if _MADE_UP.search(text):
            yield f"{text[:80]} is the name of something that is made up or of a test"
    absent = [name for name in _VERSIONS[facts.device.type] if not facts.versions.get(name)]
    if absent:
        yield f"run.json has no version of {', '.join(absent)}"
    if facts.device.type == "cuda":
        lacking = [name for name in _CUDA_FACTS if not getattr(facts.device, name)]
        if lacking:
            yield f"run.json has no {', '.join(lacking)} of the device"
    if not re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d", facts.created_utc):
        yield "run.json does not tell when it was recorded"
    from analyzer.insight.reproduction import is_own

    if not is_own(facts.command):
        yield "run.json has no command that records it again"
    if facts.model.factory or facts.model.weights:
        yield "a model that is not public cannot be run again by others"


def _incomplete(run: Any, timings: Any, samples: Any) -> Iterator[str]:
    facts = run.facts
    lacking = _PASSES - {each.name for each in facts.passes}
    if lacking:
        yield f"the passes {', '.join(sorted(lacking))} are missing"
    if any(each.end_unix_ns <= each.start_unix_ns for each in facts.passes):
        yield "a pass ends before it begins"
    if run.timings is None or run.samples is None or (run.ops is None and run.compiled is None):
        yield "files are missing: a run has timings.csv, samples.csv and ops.json.gz or compiled.json.gz"
    counts = timings[timings["repeat"] == 0]["pass"].value_counts()
    if counts.get("untraced", 0) != facts.settings.iterations or counts.get("traced", 0) != facts.settings.traced_steps:
        yield "timings.csv does not have the iterations that run.json tells of"
    if facts.telemetry is None or facts.telemetry.samples != len(samples):
        yield "samples.csv does not have the samples that run.json tells of"
    if facts.counters is not None and facts.counters.available and run.counters is None:
        yield "run.json tells of counters, and there are none"


def _impossible(facts: Any, timings: Any) -> Iterator[str]:
    """Yield it if iterations begin outside of their pass, or last longer than until the next one begins."""
    for span in facts.passes:
        rows = timings[(timings["repeat"] == 0) & (timings["pass"] == span.name)].sort_values("iteration")
        starts = rows["start_unix_ns"].to_numpy()
        if len(rows) and (starts.min() < span.start_unix_ns - _SLACK_NS or starts.max() > span.end_unix_ns + _SLACK_NS):
            yield f"iterations of the pass {span.name} were timed outside of it"
        ends = starts + 1e6 * rows["latency_ms"].to_numpy()
        if (ends[:-1] > starts[1:] + _OVERLAP_NS).sum() > 1:  # one may be a step of the clock
            yield f"iterations of the pass {span.name} last longer than until the next one begins"


def _out_of_time(run: Any) -> Iterator[str]:
    """Yield it if the trace is not one of the time in which run.json says that it was recorded, or of another device."""
    traced = next((each for each in run.facts.passes if each.name == "traced"), None)
    try:
        trace = json.loads(gzip.decompress(run.trace.read_bytes()))
        base = int(trace.get("baseTimeNanoseconds", 0))
        kinds = ("kernel",) if run.facts.device.type == "cuda" else ("cpu_op",)
        work = [event for event in trace["traceEvents"] if event.get("cat") in kinds]
        times = [base + 1e3 * float(event["ts"]) for event in work]
        devices = [str(each.get("name")) for each in trace.get("deviceProperties", [])]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"its trace cannot be read ({type(error).__name__})"
        return
    if not times or traced is None:
        yield "its trace shows nothing that ran on the device"
    elif min(times) < traced.start_unix_ns - _SLACK_NS or max(times) > traced.end_unix_ns + _SLACK_NS:
        yield "its trace was recorded at another time than its traced pass"
    if run.facts.device.type == "cuda" and run.facts.device.name not in devices:
        yield "its trace names another device"


def reference_bytes(reference: Path, besides: Sequence[Path] = ()) -> int:
    """Return the bytes of all reference runs, without those in ``besides``."""
    gone = set(besides)
    return sum(path.stat().st_size for path in reference.rglob("*") if path.is_file() and not gone & set(path.parents))


def promote(
    bundles: Sequence[Path],
    root: Path = ROOT,
    *,
    dry: bool = False,
    replace: bool = False,
    say: Callable[[str], object] = print,
) -> list[Path]:
    """Put the runs and results of ``bundles`` where reference runs stand; return the run directories.

    Raises:
        RefusedError: anything speaks against any of them; nothing was written then.
    """
    reference = root / "traces" / "reference"
    with tempfile.TemporaryDirectory() as scratch:
        manifests = lay_out(bundles, Path(scratch))
        for left in (entry for manifest in manifests for entry in manifest.get("left_out", ())):
            say(f"not in the bundle: {left['name']}: {left['why']}")
        names = names_here(places=(str(root),))
        runs = [accept(path, names) for path in sorted((Path(scratch) / "runs").glob("*")) if path.is_dir()]
        if not runs:
            raise RefusedError("there is no run in it")
        _check_one_device({run.key for run in runs})
        _check_results(Path(scratch) / "results", names)
        targets = [reference / run.key / run.name for run in runs]
        taken = [target for target in targets if target.exists()]
        if taken and not replace:
            raise RefusedError(f"{taken[0].relative_to(root)} is there already; replace=true puts the new one in its place")
        _check_unique(runs, reference, targets)
        size = reference_bytes(reference, taken) + sum(f.stat().st_size for run in runs for f in run.path.iterdir())
        if size > MOST_BYTES:
            raise RefusedError(f"all reference runs would take {size / 1e6:.1f} MB, {MOST_BYTES / 1e6:.0f} are the limit")
        if not dry:
            _place(runs, targets, Path(scratch) / "results", root / "benchmarks" / "evidence" / "measured" / runs[0].key)
    verb = "would become" if dry else "became"
    for run, target in zip(runs, targets, strict=True):
        say(f"{run.name} {verb} {target.relative_to(root)}")
    say(f"all reference runs: {size / 1e6:.1f} MB of {MOST_BYTES / 1e6:.0f}")
    return targets


def _check_one_device(keys: set[str]) -> None:
    if len(keys) > 1:
        raise RefusedError(f"it holds runs of several devices: {', '.join(sorted(keys))}")


def _check_results(results: Path, names: Names) -> None:
    for path in sorted(results.glob("*.json")):
        _check_names(path, names)


def _check_names(file: Path, names: Names) -> None:
    shown = f"{file.parent.name}/{file.name}"
    try:
        found = names.found(file.read_bytes())
    except UnreadableError as error:
        raise RefusedError(f"{shown}: {error}") from error
    if found:
        raise RefusedError(f"{shown} holds {found[0]}")


def _check_unique(runs: Sequence[Accepted], reference: Path, targets: Sequence[Path]) -> None:
    """Refuse a run whose trace stands there already under another name: what is measured once counts once."""
    kept = {path: path.parent.name for path in sorted(reference.glob("*/*/*.trace.json.gz")) if path.parent not in targets}
    new = {path: run.name for run in runs for path in sorted(run.path.glob("*.trace.json.gz"))}
    known: dict[str, str] = {}
    for path, name in {**kept, **new}.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path in new and digest in known:
            raise RefusedError(f"{name} is the same recording as {known[digest]}")
        known.setdefault(digest, name)


def _place(runs: Sequence[Accepted], targets: Sequence[Path], results: Path, measured: Path) -> None:
    for run, target in zip(runs, targets, strict=True):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(run.path, target)
    for path in sorted(results.glob("*.json")):
        measured.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, measured / path.name)


def main(given: list[str], say: Callable[[str], object] = print) -> int:
    """Run the command line; return the exit code."""
    try:
        values = read_words([word for word in given if "=" in word], {"dry_run": "false", "replace": "false"})
        bundles = [Path(word) for word in given if "=" not in word]
        if not bundles or not all(bundle.is_file() for bundle in bundles):
            raise WordError("name the archives of a bundle: evidence/bundle/*.tar.gz")
        promote(bundles, dry=read_flag(values, "dry_run"), replace=read_flag(values, "replace"), say=say)
    except (WordError, RefusedError) as error:
        say(f"error: {error}")
        return 1
    except OSError as error:  # a full disk, or names in an archive that cannot stand beside each other
        say(f"error: {error.strerror or type(error).__name__}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
