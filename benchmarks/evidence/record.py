"""The steps that the analyzer itself takes: ``python -m benchmarks.evidence.record run|counters|doctor|ceilings key=value...``.

They call the functions of ``analyzer.capture``, without Hydra and without a report, which is made later from the run
directories. What a run records as its command is the one that records it again by ``analyzer``.

Exit codes: 0 done, 1 failed, 3 this cannot be had here, 4 it cannot be had here and neither can others that need the same.
The last line of the output is the reason.
"""

from __future__ import annotations

import datetime
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.evidence.state import write_json
from benchmarks.evidence.words import WordError, read_words

EXIT_UNAVAILABLE, EXIT_BLOCKED = 3, 4
RUN_WORDS = {
    "name": "", "model": "", "family": "vit", "image_size": "224", "batch_size": "1", "dtype": "float32",
    "attention": "auto", "compile": "off", "repeats": "3",
}  # fmt: skip
WORDS = {"out": "evidence", "device": "auto", **RUN_WORDS}
TRACED_STEPS = 3
"""As few as the analyzer takes: every traced step adds as much to the size of what has to come back."""
_INTO_COMMAND = ("device", "model", "batch_size", "image_size", "dtype", "attention", "compile", "repeats")


def settings_of(values: dict[str, str], traces: Path) -> Any:
    """Return the settings of a run."""
    from analyzer.schema.settings import CaptureSettings

    preset = {"attention": "auto", "compile": "off"}
    shown = [f"{key}={values[key]}" for key in _INTO_COMMAND if values[key] != preset.get(key)]
    return CaptureSettings(
        device=values["device"],
        batch_size=int(values["batch_size"]),
        image_size=int(values["image_size"]),
        dtype=values["dtype"],
        attention=values["attention"],
        compile=values["compile"],
        repeats=int(values["repeats"]),
        traced_steps=TRACED_STEPS,
        warmup_max_s=10.0,
        out_root=traces,
        command=("analyzer", *shown, f"traced_steps={TRACED_STEPS}"),
    )


def choice_of(values: dict[str, str]) -> Any:
    """Return the model of a run, with the label that ``conf/`` gives it.

    Raises:
        WordError: no file in ``conf/`` is called so.
    """
    import yaml

    from analyzer.schema.settings import ModelChoice

    root = Path(__file__).resolve().parents[2]
    file = root / "conf" / values["family"] / f"{values['model']}.yaml"
    if not file.is_file():
        raise WordError(f"model={values['model']} is no file in conf/{values['family']}")
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    return ModelChoice(values["family"], found["name"], found["label"], options=found["options"])


def run(values: dict[str, str], out: Path) -> int:
    """Record a run into ``runs/NAME``; an older one of that name gives way once the new one is whole."""
    from analyzer.capture import session
    from analyzer.progress import Reporter

    target = out / "runs" / values["name"]
    making = out / "making" / values["name"]
    shutil.rmtree(making, ignore_errors=True)  # of an earlier try that was killed
    found = session.capture(choice_of(values), settings_of(values, making), Reporter())
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    found.rename(target)
    shutil.rmtree(making, ignore_errors=True)
    return 0


def counters(values: dict[str, str], out: Path) -> int:
    """Read the counters of the model of a run that is recorded, into its directory."""
    from analyzer.capture import counting
    from analyzer.capture.ncu import provider
    from analyzer.capture.presets import resolve
    from analyzer.progress import Reporter
    from analyzer.trace import rundir

    directory = out / "runs" / values["name"]
    choice, settings = choice_of(values), settings_of(values, out / "making")
    resolved = resolve(settings, choice.family)
    counting.count([(directory, choice)], settings, Reporter())
    prepared = provider.prepare("auto", resolved)
    if prepared is None:
        print("counters are those of an NVIDIA GPU")
        return EXIT_BLOCKED
    prepared = provider.tried(prepared, resolved.device)  # as it was tried above: one process tries once
    if not prepared.ready:
        print(prepared.obstacle.reason if prepared.obstacle else "no counters are known for this GPU")
        return EXIT_BLOCKED
    told = rundir.read_facts(directory / rundir.RUN_FILE).counters
    if told is None or not told.available:
        print(told.reason if told else "nothing came back")
        return EXIT_UNAVAILABLE
    return 0


def doctor(values: dict[str, str], out: Path) -> int:
    """Write what can be measured here."""
    from analyzer.capture.doctor import examine
    from analyzer.schema.settings import CaptureSettings

    checks = examine(CaptureSettings(device=values["device"]))
    rows = [{"name": c.name, "available": c.available, "detail": c.detail, "hint": c.hint} for c in checks]
    write_result("doctor", values["device"], {"checks": rows}, out)
    return 0


def ceilings(values: dict[str, str], out: Path) -> int:
    """Measure copy bandwidth and the rate of matrix products, for the runs that follow too."""
    import msgspec

    from analyzer.capture.calibrate import calibrate
    from analyzer.capture.environment import device_facts, versions
    from analyzer.capture.presets import resolve
    from analyzer.schema.settings import CaptureSettings

    resolved = resolve(CaptureSettings(device=values["device"], dtype=values["dtype"], calibrate="force"))
    found = calibrate(resolved, device_facts(resolved.device), versions())
    content = {"ceilings": [msgspec.to_builtins(c) for c in found.found], "warnings": list(found.warnings)}
    write_result("ceilings", values["device"], content, out)
    return 0 if found.found else 1


def write_result(name: str, device: str, content: dict[str, Any], out: Path) -> None:
    """Write ``results/NAME.json``: ``content`` with the device, the versions and the time; no host, user or path in it."""
    import msgspec

    from analyzer.capture.environment import device_facts, resolve_device, versions
    from analyzer.capture.privacy import masked_text

    document = {
        "format_version": 1,
        "name": name,
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": msgspec.to_builtins(device_facts(resolve_device(device))),
        "versions": versions(),
        **content,
    }
    write_json(_masked(document, masked_text), out / "results" / f"{name}.json")


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, mask) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(inner, mask) for inner in value]
    return mask(value) if isinstance(value, str) else value


STEPS: dict[str, Callable[[dict[str, str], Path], int]] = {
    "run": run,
    "counters": counters,
    "doctor": doctor,
    "ceilings": ceilings,
}
"""The steps by their name on the command line."""


def main(given: list[str]) -> int:
    """Take the step that ``given`` names; return the exit code."""
    from analyzer.errors import AnalyzerError, UnsupportedError

    began = time.monotonic()
    try:
        if not given or given[0] not in STEPS:
            raise WordError(f"name a step first: {', '.join(STEPS)}")
        values = read_words(given[1:], WORDS)
        code = STEPS[given[0]](values, Path(values["out"]).absolute())
    except (AnalyzerError, WordError) as error:
        print(f"error: {error}")
        return EXIT_UNAVAILABLE if isinstance(error, UnsupportedError) else 1
    if code == 0:
        print(f"{given[0]} took {time.monotonic() - began:.1f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
