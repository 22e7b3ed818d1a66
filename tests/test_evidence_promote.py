"""What may become a reference run: whole, unchanged since it was packed, and something that a device ran."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer.schema.run import (
    DeviceFacts,
    ModelFacts,
    PassFacts,
    RunFacts,
    RunSettings,
    SourceFacts,
    TelemetryFacts,
    WarmupFacts,
)
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace import rundir
from benchmarks.evidence import promote as module
from benchmarks.evidence.bundle import MANIFEST, pack
from benchmarks.evidence.identity import Names, names_here
from benchmarks.evidence.promote import RefusedError, device_key, main, promote
from tests import traces

NOBODY = names_here("no-such-host", "nobody-here", "/no/such/home", {})
START = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
CPU = DeviceFacts(type="cpu", name="AMD EPYC 7B13")
H100 = DeviceFacts(
    type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", compute_capability="9.0", sm_count=132,
    memory_bytes=85_000_000_000, l2_bytes=50 << 20,
)  # fmt: skip
VERSIONS = {"torch": "2.13.0", "python": "3.11.7", "cuda": "12.8", "driver": "570.1"}


def facts(device: DeviceFacts = CPU, **other: Any) -> RunFacts:
    def span(name: str, at: int) -> PassFacts:
        return PassFacts(name=name, start_unix_ns=START + at * SECOND, end_unix_ns=START + (at + 1) * SECOND, steps=3)

    there = SourceFacts(available=True)
    preset: dict[str, Any] = {
        "format_version": 1,
        "name": "vit_tiny-cpu",
        "created_utc": "2026-09-21T14:13:20+00:00",
        "device": device,
        "model": ModelFacts(
            name="vit_tiny_patch16_224", family="vit", label="ViT-Ti/16", parameters=5, input_shape=(1, 3, 224, 224)
        ),
        "settings": RunSettings(batch_size=1, image_size=224, dtype="float32", iterations=4, traced_steps=3),
        "versions": VERSIONS,
        "warmup": WarmupFacts(iterations=5, steady=True, spread_pct=1.0),
        "telemetry": TelemetryFacts(period_s=0.1, samples=2, psutil=there, nvml=there, gpm=there),
        "passes": (span("warmup", 0), span("untraced", 1), span("traced", 2)),
        "command": ("analyzer", "model=vit_tiny_patch16_224", "device=cpu"),
    }
    return RunFacts(**(preset | other))


def trace_at(ns: float, device: DeviceFacts = CPU) -> dict[str, Any]:
    work = [traces.op("aten::mm", 10.0, 5.0)] if device.type == "cpu" else [traces.kernel("k", 10.0, 5.0, 1)]
    named = [{"id": 0, "name": device.name}] if device.type == "cuda" else []
    return {"baseTimeNanoseconds": int(ns), "deviceProperties": named, "traceEvents": work}


def make_run(folder: Path, found: RunFacts | None = None, trace: dict[str, Any] | None = None) -> Path:
    found = facts() if found is None else found
    folder.mkdir(parents=True)
    rundir.write_facts(folder, found)
    counts = {"warmup": 5, "untraced": 4, "traced": 3}
    rows = [
        {"pass": name, "repeat": 0, "iteration": n, "start_unix_ns": START + at * SECOND + n * 2_000_000, "latency_ms": 1.0}
        for at, (name, count) in enumerate(counts.items())
        for n in range(count)
    ]
    rundir.write_table(folder / "timings.csv", pd.DataFrame(rows), TIMINGS)
    samples = pd.DataFrame([{"time_ns": START + n, "monotonic_ns": n} for n in range(2)], columns=SAMPLES.names)
    types = {c.name: "int64" if c.dtype == "int" else "float64" for c in SAMPLES.columns}
    rundir.write_table(folder / "samples.csv", samples.astype(types), SAMPLES)
    (folder / "ops.json.gz").write_bytes(gzip.compress(b'{"format_version": 1, "ops": []}'))
    content = trace_at(START + 2 * SECOND, found.device) if trace is None else trace
    (folder / "trace.pt.trace.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    return folder


def bundle_of(root: Path, *runs: str, names: Names = NOBODY) -> list[Path]:
    (root / "results").mkdir(exist_ok=True)
    (root / "results" / "doctor.json").write_text('{"checks": []}')
    return pack(root, runs, names, {"plan": "cpu"}).archives


def promoted(root: Path, bundles: list[Path], **more: Any) -> tuple[list[Path], list[str]]:
    lines: list[str] = []
    return promote(bundles, root / "repo", say=lines.append, **more), lines


class SameTime:
    """Stands for the module ``datetime``: archives that are packed together have one time."""

    UTC = datetime.UTC

    class datetime:  # noqa: N801
        @staticmethod
        def now(zone: datetime.tzinfo) -> datetime.datetime:
            return datetime.datetime(2026, 9, 21, tzinfo=zone)


class TestPromoted:
    def test_a_run_goes_to_the_folder_of_its_device_and_results_beside(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "vit_tiny-224-b1-float32")
        found, lines = promoted(tmp_path, bundle_of(tmp_path, "vit_tiny-224-b1-float32"))
        target = tmp_path / "repo" / "traces" / "reference" / "amd_epyc_7b13" / "vit_tiny-224-b1-float32"
        assert found == [target]
        assert rundir.open_run(target).facts == facts()
        assert (tmp_path / "repo" / "benchmarks" / "evidence" / "measured" / "amd_epyc_7b13" / "doctor.json").is_file()
        assert lines[0] == f"vit_tiny-224-b1-float32 became {target.relative_to(tmp_path / 'repo')}"

    def test_a_dry_run_writes_nothing(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        _, lines = promoted(tmp_path, bundle_of(tmp_path, "a"), dry=True)
        assert not (tmp_path / "repo").exists()
        assert "would become" in lines[0]

    def test_a_gpu_is_named_by_its_sheet(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a", facts(H100))
        found, _ = promoted(tmp_path, bundle_of(tmp_path, "a"))
        assert found[0].parent.name == "h100_sxm5_80gb"
        with pytest.raises(RefusedError, match="no GPU of the database"):
            device_key(DeviceFacts(type="cuda", name="NVIDIA Z900"))

    def test_one_that_is_there_stays_unless_it_shall_be_replaced(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        bundles = bundle_of(tmp_path, "a")
        (target,), _ = promoted(tmp_path, bundles)
        (target / "left.txt").write_text("old")
        with pytest.raises(RefusedError, match="is there already"):
            promoted(tmp_path, bundles)
        promoted(tmp_path, bundles, replace=True)
        assert not (target / "left.txt").exists()

    def test_of_a_run_that_was_recorded_twice_the_later_is_taken_whole(self, tmp_path: Path) -> None:
        make_run(tmp_path / "first" / "runs" / "a")
        (tmp_path / "first" / "runs" / "a" / "counters.csv").write_text("x")
        bundles = bundle_of(tmp_path / "first", "a")
        make_run(tmp_path / "second" / "runs" / "a", facts(warnings=("later",)))
        bundles += bundle_of(tmp_path / "second", "a")
        found, _ = promoted(tmp_path, bundles[::-1])
        assert rundir.open_run(found[0]).facts == facts(warnings=("later",))
        assert not (found[0] / "counters.csv").exists()

    def test_a_run_that_lies_in_two_archives_is_put_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = make_run(tmp_path / "runs" / "a")
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        bundles = []
        monkeypatch.setattr("benchmarks.evidence.bundle.datetime", SameTime)
        for number, part in enumerate((("run.json", "timings.csv"), ("samples.csv", "ops.json.gz", "trace.pt.trace.json.gz"))):
            root = tmp_path / f"half-{number}"
            (root / "runs" / "a").mkdir(parents=True)
            for name in part:
                (root / "runs" / "a" / name).write_bytes(files[name])
            bundles += bundle_of(root, "a")
        found, _ = promoted(tmp_path, bundles)
        assert {path.name for path in found[0].iterdir()} == set(files)

    def test_too_much_is_refused_before_anything_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_run(tmp_path / "runs" / "a")
        monkeypatch.setattr(module, "MOST_BYTES", 1000)
        with pytest.raises(RefusedError, match="0 are the limit"):
            promoted(tmp_path, bundle_of(tmp_path, "a"))
        assert not (tmp_path / "repo").exists()


def altered(**other: Any) -> RunFacts:
    return facts(**other)


class TestRefused:
    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (altered(device=DeviceFacts(type="cpu", name="Synthetic CPU")), "made up or of a test"),
            (altered(device=DeviceFacts(type="cuda", name="stand-in GPU")), "made up or of a test"),
            (altered(model=ModelFacts(name="test_vit", family="vit", label="x", parameters=1, input_shape=(1,))), "of a test"),
            (altered(versions={"python": "3.11.7"}), "no version of torch"),
            (altered(device=H100, versions={"torch": "2.13.0", "python": "3.11.7"}), "no version of cuda, driver"),
            (altered(device=DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3")), "no compute_capability, sm_count"),
            (altered(created_utc=""), "does not tell when"),
            (altered(command=()), "no command"),
            (altered(command=("analyzer", "model=a;rm")), "no command"),
            (altered(passes=()), "the passes traced, untraced, warmup are missing"),
            (altered(telemetry=None), "samples.csv does not have the samples"),
            (
                altered(settings=RunSettings(batch_size=1, image_size=224, dtype="float32", iterations=9, traced_steps=3)),
                "iterations",
            ),
        ],
    )
    def test_what_no_device_ran_or_is_not_whole(self, tmp_path: Path, found: RunFacts, why: str) -> None:
        make_run(tmp_path / "runs" / "a", found)
        with pytest.raises(RefusedError, match=why):
            promoted(tmp_path, bundle_of(tmp_path, "a"))
        assert not (tmp_path / "repo").exists()

    @pytest.mark.parametrize(
        ("trace", "why"),
        [
            (trace_at(START - 90 * SECOND), "recorded at another time"),
            (trace_at(START + 90 * SECOND), "recorded at another time"),
            ({"traceEvents": []}, "shows nothing that ran"),
            ({}, "cannot be read"),
            ([], "cannot be read"),
        ],
    )
    def test_a_trace_of_something_else(self, tmp_path: Path, trace: Any, why: str) -> None:
        make_run(tmp_path / "runs" / "a", trace=trace)
        with pytest.raises(RefusedError, match=why):
            promoted(tmp_path, bundle_of(tmp_path, "a"))

    def test_a_trace_of_another_gpu(self, tmp_path: Path) -> None:
        other = DeviceFacts(type="cuda", name="NVIDIA A100-SXM4-80GB")
        make_run(tmp_path / "runs" / "a", facts(H100), trace_at(START + 2 * SECOND, other))
        with pytest.raises(RefusedError, match="names another device"):
            promoted(tmp_path, bundle_of(tmp_path, "a"))

    @pytest.mark.parametrize("file", ["timings.csv", "samples.csv", "ops.json.gz", "trace.pt.trace.json.gz", "run.json"])
    def test_a_file_that_is_missing(self, tmp_path: Path, file: str) -> None:
        (make_run(tmp_path / "runs" / "a") / file).unlink()
        with pytest.raises(RefusedError):
            promoted(tmp_path, bundle_of(tmp_path, "a"))

    def test_a_name_of_this_machine(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path / "runs" / "a")
        (folder / "note.txt").write_text(f"{Path.home()}/x")
        with pytest.raises(RefusedError, match=r"a/note\.txt holds a home folder"):
            promoted(tmp_path, bundle_of(tmp_path, "a"))

    def test_a_bundle_that_was_changed(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        (path,) = bundle_of(tmp_path, "a")
        with tarfile.open(path) as archive:
            files = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
        files["runs/a/run.json"] += b" "
        write(path, files)
        with pytest.raises(RefusedError, match="changed after it was packed"):
            promoted(tmp_path, [path])
        write(path, {**files, "runs/a/more": b""})
        with pytest.raises(RefusedError, match="does not hold what its manifest lists"):
            promoted(tmp_path, [path])

    @pytest.mark.parametrize("name", ["../../x", "/etc/x", "runs/../../x", "a b", "-x"])
    def test_names_that_lead_elsewhere(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / "b.tar.gz", {MANIFEST: b"{}", name: b"x"})
        with pytest.raises(RefusedError, match="no plain file"):
            promoted(tmp_path, [tmp_path / "b.tar.gz"])

    def test_a_link(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo("runs")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(entry)
        with pytest.raises(RefusedError, match="no plain file"):
            promoted(tmp_path, [tmp_path / "b.tar.gz"])

    def test_what_is_no_bundle(self, tmp_path: Path) -> None:
        (tmp_path / "b.tar.gz").write_bytes(b"x")
        lines: list[str] = []
        assert main([str(tmp_path / "b.tar.gz")], lines.append) == 1
        assert main([str(tmp_path / "none.tar.gz")], lines.append) == 1
        assert lines == [
            "error: b.tar.gz is no whole bundle (ReadError)",
            "error: name the archives of a bundle: evidence/bundle/*.tar.gz",
        ]

    def test_an_archive_with_a_byte_turned(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        (path,) = bundle_of(tmp_path, "a")
        whole = path.read_bytes()
        for place in range(12, len(whole), 97):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            with pytest.raises(RefusedError):
                promoted(tmp_path, [path])
        for length in (0, 9, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(RefusedError, match="no whole bundle"):
                promoted(tmp_path, [path])

    def test_one_recording_under_two_names(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        make_run(tmp_path / "runs" / "b")
        with pytest.raises(RefusedError, match="b is the same recording as a"):
            promoted(tmp_path, bundle_of(tmp_path, "a", "b"))
        promoted(tmp_path, bundle_of(tmp_path, "a"))
        with pytest.raises(RefusedError, match="b is the same recording as a"):
            promoted(tmp_path, bundle_of(tmp_path, "b"))
        promoted(tmp_path, bundle_of(tmp_path, "a"), replace=True)

    @pytest.mark.parametrize(
        ("column", "by", "why"),
        [
            ("latency_ms", 3.5, "untraced last longer than until the next one begins"),
            ("start_unix_ns", 90 * SECOND, "untraced were timed outside of it"),
        ],
    )
    def test_times_that_cannot_be(self, tmp_path: Path, column: str, by: float, why: str) -> None:
        folder = make_run(tmp_path / "runs" / "a")
        timings = pd.read_csv(folder / "timings.csv")
        timings.loc[timings["pass"] == "untraced", column] += by
        rundir.write_table(folder / "timings.csv", timings, TIMINGS)
        with pytest.raises(RefusedError, match=why):
            promoted(tmp_path, bundle_of(tmp_path, "a"))

    def test_a_folder_in_a_run_and_a_damaged_result(self, tmp_path: Path) -> None:
        (make_run(tmp_path / "runs" / "a") / "more").mkdir()
        (tmp_path / "runs" / "a" / "more" / "x.csv").write_text("1")
        with pytest.raises(RefusedError, match="a/more is no file"):
            promoted(tmp_path, bundle_of(tmp_path, "a"))
        make_run(tmp_path / "other" / "runs" / "a")
        bundles = bundle_of(tmp_path / "other", "a")
        with tarfile.open(bundles[0]) as archive:
            files = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
        data = gzip.compress(b"x" * 100)[:-9]
        manifest = json.loads(files.pop(MANIFEST))
        manifest["files"].append({"name": "results/x.json", "sha256": hashlib.sha256(data).hexdigest()})
        write(bundles[0], {MANIFEST: json.dumps(manifest).encode(), **files, "results/x.json": data})
        with pytest.raises(RefusedError, match=r"results/x\.json: it is packed and damaged"):
            promoted(tmp_path, bundles)

    def test_runs_of_two_devices(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        make_run(tmp_path / "runs" / "b", facts(H100))
        with pytest.raises(RefusedError, match="several devices: amd_epyc_7b13, h100_sxm5_80gb"):
            promoted(tmp_path, bundle_of(tmp_path, "a", "b"))

    def test_what_was_left_out_of_the_bundle_is_told(self, tmp_path: Path) -> None:
        make_run(tmp_path / "runs" / "a")
        (make_run(tmp_path / "runs" / "b") / "x.csv").write_text("nobody-here")
        _, lines = promoted(tmp_path, bundle_of(tmp_path, "a", "b"))
        assert lines[:2] == [
            "not in the bundle: runs/b/x.csv: it still holds the name of the user",
            "not in the bundle: b: runs/b/x.csv may not leave, and a run goes whole or not at all",
        ]


def write(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def test_the_run_of_these_tests_is_otherwise_good(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    assert module.accept(path, NOBODY) == module.Accepted(path, "a", "amd_epyc_7b13")
