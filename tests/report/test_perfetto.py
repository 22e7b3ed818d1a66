"""The annotated trace: what each event is told, the tracks and counters beside it, and that every reader still reads the same."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import analyze
from analyzer.report.perfetto import Written, write_annotated
from analyzer.report.perfetto.counters import _sweep
from analyzer.report.perfetto.events import FIRST_PID, Track, microseconds
from analyzer.report.perfetto.findings import HELPER, describe, nanoseconds
from analyzer.report.perfetto.tracks import MAX_DEPTH, Stretches, _nested
from analyzer.schema.results import Analysis
from analyzer.schema.settings import Selection
from analyzer.trace.rundir import TRACE_FILE
from tests import traces
from tests.conftest import PUBLIC_TRACES
from tests.report.synthetic import UNIX_NS, Fake, write_run
from tests.report.trace_format import faults, load, slices

PUBLIC = sorted(path.name for path in PUBLIC_TRACES.glob("*.json.gz")) if PUBLIC_TRACES.is_dir() else []


def annotated(a: Analysis, folder: Path, **more: Any) -> tuple[dict[str, Any], Written]:
    target = folder / "out.perfetto.json.gz"
    written = write_annotated(a, target, **more)
    document = load(target)
    assert faults(document) == []
    assert written.bytes == target.stat().st_size
    assert len(document["traceEvents"]) == written.events + written.added
    return document, written


def told(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the events of the trace are told, by name."""
    return {e["name"]: e["args"]["analyzer"] for e in document["traceEvents"] if "analyzer" in e.get("args", {})}


def named_tracks(document: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the process and thread of the analyzer's tracks by ``process / track``."""
    ours = [e for e in document["traceEvents"] if e["ph"] == "M" and e["pid"] >= FIRST_PID]
    process = {e["pid"]: e["args"]["name"] for e in ours if e["name"] == "process_name"}
    return {f"{process[e['pid']]} / {e['args']['name']}": (e["pid"], e["tid"]) for e in ours if e["name"] == "thread_name"}


def track(document: dict[str, Any], name: str) -> list[tuple[str, float, float, int, dict[str, Any]]]:
    found = slices(document["traceEvents"], *named_tracks(document)[name])
    return [(label, float(start), float(end), depth, args) for label, start, end, depth, args in found]


def counter(document: dict[str, Any], name: str, series: str) -> list[tuple[float, float]]:
    return [
        (float(e["ts"]), float(e["args"][series]))
        for e in document["traceEvents"]
        if e["ph"] == "C" and e["name"] == name and series in e["args"]
    ]


def same(one: Any, two: Any) -> bool:
    return one == two or (isinstance(one, float) and isinstance(two, float) and math.isnan(one) and math.isnan(two))


def assert_equal(a: Analysis, b: Analysis) -> None:
    """Check that two analyses have the same totals, launches and warnings."""
    for field in dataclasses.fields(a.totals):
        assert same(getattr(a.totals, field.name), getattr(b.totals, field.name)), field.name
    assert (a.window, a.steps, a.warnings, a.impossible) == (b.window, b.steps, b.warnings, b.impossible)
    # threads are numbered as they are met, and a long file is read by two processes
    columns = [c for c in a.launches if c != "launch_thread"]
    assert list(a.launches) == list(b.launches)
    for name in columns:
        assert a.launches[name].equals(b.launches[name]), name
    assert a.kernels.drop(columns="run").equals(b.kernels.drop(columns="run"))
    assert a.kinds.equals(b.kinds)
    assert [profile.peak_bytes for profile in a.memory] == [profile.peak_bytes for profile in b.memory]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_trace_keeps_its_totals(public_traces: Path, tmp_path: Path, name: str) -> None:
    a = analyze(public_traces / name)
    document, written = annotated(a, tmp_path)
    assert (written.annotated, written.left_out) == (len(a.launches), 0)
    assert sum("analyzer" in e.get("args", {}) for e in document["traceEvents"]) == len(a.launches)
    assert_equal(a, analyze(tmp_path / "out.perfetto.json.gz"))
    original = load(public_traces / name)["traceEvents"]
    flows = [[e for e in events if e["ph"] in "stf"] for events in (original, document["traceEvents"])]
    assert flows[0] == flows[1]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_run_keeps_its_totals(tmp_path: Path, device: str) -> None:
    run = write_run(tmp_path, Fake(device=device))
    a = analyze(run)
    document, written = annotated(a, tmp_path)
    assert written.annotated == len(a.launches) == (75 if device == "cuda" else 72)
    copy = tmp_path / "copy" / run.name
    shutil.copytree(run, copy)
    shutil.copyfile(tmp_path / "out.perfetto.json.gz", copy / TRACE_FILE)
    assert_equal(a, analyze(copy))
    events = json.loads(gzip.decompress((run / TRACE_FILE).read_bytes()))["traceEvents"]
    kept = document["traceEvents"][: written.events]
    assert [(e["ph"], e["name"]) for e in kept] == [(e["ph"], e["name"]) for e in events]


def test_what_each_kernel_is_told(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    document, written = annotated(a, tmp_path)
    gemm = told(document)["sm90_xmma_gemm_f16f16_tilesize128x128x64"]
    assert {key: gemm[key] for key in ("kind", "op", "module", "step", "shapes", "dtype", "evidence", "work_of")} == {
        "kind": "matmul", "op": "aten::addmm", "module": "head", "step": "ProfilerStep#3", "shapes": "128x64 32x64 32", "work_of": "aten::linear",
        "dtype": "float16", "evidence": "modelled",
    }  # fmt: skip
    assert gemm["flop"] == 2 * 128 * 64 * 32
    assert gemm["bytes_compulsory"] == 2 * (32 + 128 * 64 + 64 * 32 + 128 * 32)
    row = describe(a).iloc[0]
    assert float(gemm["floor_us"]) == round(float(row["floor_us"]), 3) > 0
    assert float(gemm["floor_pct"]) == pytest.approx(100 * row["floor_us"] / 150, abs=6e-4)
    assert (gemm["occupancy_kineto_pct"], float(gemm["occupancy_pct"])) == (12, pytest.approx(12.5))
    assert "parts" not in gemm or gemm["parts"] == 1
    copied = told(document)["Memcpy DtoH (Device -> Pageable)"]
    assert "flop" not in copied
    assert copied["not_available"].startswith("flop, bytes_compulsory, floor_us and shares of peaks: ")
    assert written.missing.keys() == {"memory curve", "telemetry"}


def test_bounds_and_shares_are_those_of_kernels_csv(tmp_path: Path) -> None:
    """A row of kernels.csv with one launch says of it what the event is told."""
    events = [*traces.gpu_step(), traces.kernel("k", 700, 4, 99)]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    known = told(annotated(a, tmp_path)[0])
    for row in a.kernels.itertuples():
        assert row.calls == 1
        mine = known[row.kernel]
        assert (mine.get("bound", ""), mine["kind"], mine["evidence"]) == (row.bound, row.kind, row.evidence)
        for name in ("flop", "bytes_compulsory", "tflops", "dram_gbps", "dram_pct_of_peak", "waves", "occupancy_pct"):
            value = getattr(row, name)
            assert (name in mine) != math.isnan(value)
            assert name not in mine or float(mine[name]) == pytest.approx(value, abs=1e-3)


def test_a_helper_has_no_floor_of_its_own(tmp_path: Path) -> None:
    helper = traces.kernel("void cudnn::ops::nchwToNhwcKernel<half>(int)", 260, 5, 14, ext=2)
    a = analyze(traces.write(tmp_path / "t.json", traces.document([*traces.gpu_step(), traces.launch(50, 14), helper])))
    assert a.launches["basis"].tolist().count("helper") == 1
    mine = told(annotated(a, tmp_path)[0])[helper["name"]]
    assert not mine.keys() & {"floor_us", "floor_pct", "flop"}
    assert mine["not_available"].endswith(HELPER)


def test_the_tracks_of_a_gpu(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    document, _ = annotated(a, tmp_path)
    assert list(named_tracks(document)) == [f"analyzer: GPU 0 / {name}" for name in ("steps", "modules", "kinds")]
    assert track(document, "analyzer: GPU 0 / steps") == [("ProfilerStep#3", 100, 550, 0, {"launches": 3, "launches_us": 300})]
    assert track(document, "analyzer: GPU 0 / modules") == [("head", 100, 250, 0, {"launches": 1, "launches_us": 150})]
    kinds = [(name, start, end) for name, start, end, *_ in track(document, "analyzer: GPU 0 / kinds")]
    assert kinds == [("matmul", 100, 250), ("reduction", 350, 450), ("transfer", 500, 550)]
    traffic = counter(document, "DRAM traffic at least (0: idle or not known)", "GB/s")
    # addmm moves 28 736 bytes in 150 us, the softmax of 128 x 32 halves 2 x 8192 in 100 us
    assert traffic == [(100, 0.192), (250, 0), (350, 0.164), (450, 0)]


def test_the_tracks_of_a_cpu_run_follow_the_innermost_operator(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.cpu_step(), gpu=False)))
    document, _ = annotated(a, tmp_path)
    spans = [(name, start, end) for name, start, end, *_ in track(document, "analyzer: CPU / kinds")]
    # addmm from 110 to 310 pauses for the copy inside it from 120 to 150
    assert [span[1:] for span in spans] == [(110, 120), (120, 150), (150, 310), (400, 500)]
    assert [span[0] for span in spans][::2] == ["matmul", "matmul"]
    assert track(document, "analyzer: CPU / modules")[0][:4] == ("mlp.fc1", 110, 310, 0) or track(
        document, "analyzer: CPU / modules"
    )[0][:3] == ("mlp", 110, 310)
    mine = told(document)
    assert (mine["aten::addmm"]["own_us"], mine["aten::copy_"]["own_us"]) == (170, 30)
    assert "analyzer" not in next(e for e in document["traceEvents"] if e["name"] == "aten::linear")["args"]


def nested(*launches: tuple[int, int, str]) -> list[tuple[str, float, float, int, int]]:
    """Return the slices of launches (start, end, path) as (name, start, end, depth, launches)."""
    stretches = Stretches(
        "GPU 0", np.array([s for s, _, _ in launches]), np.array([e for _, e, _ in launches]), np.arange(len(launches))
    )
    paths = [[".".join(p.split(".")[: i + 1]) for i in range(len(p.split(".")))] if p else [] for _, _, p in launches]
    events = [json.loads(text) for text in _nested(Track(1, 2), stretches, paths)]
    times = [e["ts"] for e in events]
    assert times == sorted(times)
    return [(n, 1000 * float(s), 1000 * float(e), d, a["launches"]) for n, s, e, d, a in slices(events, 1, 2)]


def test_modules_nest_and_hold_the_idle_time_between_their_launches() -> None:
    found = nested((0, 10, "a.x"), (20, 30, "a.x"), (40, 50, "a.y"), (60, 70, "b"), (80, 90, ""), (95, 99, "b"))
    assert found == [
        ("a", 0, 50, 0, 3), ("a.x", 0, 30, 1, 2), ("a.y", 40, 50, 1, 1), ("b", 60, 70, 0, 1), ("b", 95, 99, 0, 1),
    ]  # fmt: skip


def test_a_slice_ends_where_a_kernel_of_another_stream_starts() -> None:
    assert nested((0, 100, "a.x"), (40, 60, "b"), (50, 120, "a")) == [
        ("a", 0, 40, 0, 1),
        ("a.x", 0, 40, 1, 1),
        ("b", 40, 50, 0, 1),
        ("a", 50, 120, 0, 1),
    ]


LAUNCHES = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 20), st.sampled_from(["", "a", "a.b", "a.b.c", "a.d", "e"])), max_size=12
)


@given(LAUNCHES)
def test_slices_nest_whatever_overlaps(launches: list[tuple[int, int, str]]) -> None:
    ordered = sorted((start, start + length, path) for start, length, path in launches)
    open_ends: list[float] = []
    for _, start, end, depth, count in nested(*ordered):
        del open_ends[depth:]
        assert start <= end
        assert count >= 1
        assert depth == len(open_ends)
        assert not open_ends or end <= open_ends[-1]
        open_ends.append(end)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 5)), max_size=12))
def test_a_rate_is_the_sum_of_what_runs(launches: list[tuple[int, int, int]]) -> None:
    start, length, value = (np.array([row[i] for row in launches], np.int64) for i in range(3))
    found = Stretches("GPU 0", start, start + length, np.arange(len(start)))
    times, levels = _sweep(found, value.astype(float))
    assert times == sorted(set(times))
    for moment in range(52):
        expected = sum(v for s, n, v in launches if s <= moment < s + n)
        at = [level for time, level in zip(times, levels, strict=True) if time <= moment]
        assert (at[-1] if at else 0) == expected


@given(st.integers(-(10**18), 2**62))
def test_times_are_written_to_the_nanosecond(time_ns: int) -> None:
    text = bytes(microseconds(time_ns))
    assert Decimal(text.decode()) * 1000 == time_ns
    assert nanoseconds(text) == time_ns


def test_deep_paths_stop_at_a_depth(tmp_path: Path) -> None:
    events = traces.gpu_step()
    events[1] = traces.note("module::" + ".".join(["m"] * 300), 10, 200)
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    found = track(annotated(a, tmp_path)[0], "analyzer: GPU 0 / modules")
    assert [depth for *_, depth, _ in found] == list(range(MAX_DEPTH))


def test_the_selected_part_alone_is_annotated(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake())
    selection = Selection(steps=(2,))
    a = analyze(run, selection)
    document, written = annotated(a, tmp_path, selection=selection)
    assert written.annotated == len(a.launches) == 25
    assert {e["args"]["analyzer"]["step"] for e in document["traceEvents"] if "analyzer" in e.get("args", {})} == {
        "ProfilerStep#2"
    }
    assert len(analyze(tmp_path / "out.perfetto.json.gz").launches) == 75


@pytest.mark.parametrize("gpu", [True, False])
def test_the_selected_rank_alone_is_annotated(tmp_path: Path, gpu: bool) -> None:
    events = []
    for rank in (0, 1):
        for event in traces.gpu_step() if gpu else traces.cpu_step():
            events.append(event | {"pid": f"[rank {rank}] {event['pid']}"})
    path = traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu))
    selection = Selection(rank=1)
    a = analyze(path, selection)
    document, written = annotated(a, tmp_path, selection=selection)
    assert written.annotated == len(a.launches) == 3
    if not gpu:  # on a GPU the copies of both ranks are equal but for their process
        assert {str(e["pid"])[:8] for e in document["traceEvents"] if "analyzer" in e.get("args", {})} == {"[rank 1]"}


def test_telemetry_lies_on_the_clock_of_the_trace(tmp_path: Path) -> None:
    """Samples come every 100 ms from the trace's base on; the trace lasts some milliseconds, so one lies on either side."""
    a = analyze(write_run(tmp_path, Fake(held=True)))
    document, written = annotated(a, tmp_path)
    assert [time for time, _ in counter(document, "GPU temperature", "°C")] == [0, 100_000]
    assert counter(document, "GPU memory in use", "MiB") == [(0, round(2.5e9 / 2**20, 6)), (100_000, round(2.5e9 / 2**20, 6))]
    assert counter(document, "clocks held down", "any reason") == [(0, 0), (100_000, 0)]
    assert not counter(document, "PCIe from the GPU", "KB/s")
    assert "telemetry" not in written.missing


@pytest.mark.parametrize(
    ("base", "expected"), [(UNIX_NS + 6_950_000_000, 2), (UNIX_NS + 3600 * 10**9, 0), (0, 0), (-5, 0), (10**30, 0)]
)
def test_telemetry_of_another_time_is_left_out(tmp_path: Path, base: int, expected: int) -> None:
    a = dataclasses.replace(analyze(write_run(tmp_path, Fake(held=True))), base_unix_ns=base)
    document, written = annotated(a, tmp_path)
    held = counter(document, "clocks held down", "power cap")
    assert len(held) == expected
    assert ("telemetry" in written.missing) == (expected == 0)
    if expected:  # the samples 69 and 70 are 6.9 s and 7 s behind the first
        assert held == [(-50_000, 1), (50_000, 1)]


def test_the_memory_of_the_allocator(tmp_path: Path) -> None:
    def memory(ts: float, size: int, total: int) -> dict[str, Any]:
        args = {"Bytes": size, "Addr": 7, "Device Type": 1, "Device Id": 0, "Total Allocated": total, "Total Reserved": 2**22}
        return {"ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1, "ts": ts, "args": args}

    events = [*traces.gpu_step(), memory(50, 2**20, 3 * 2**20), memory(90, -(2**20), 2**21)]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    document, written = annotated(a, tmp_path)
    assert counter(document, "memory of the allocator", "allocated, MiB") == [(50, 3), (90, 2)]
    assert counter(document, "memory of the allocator", "reserved, MiB") == [(50, 4), (90, 4)]
    assert "memory curve" not in written.missing
    assert {e["pid"] for e in document["traceEvents"] if e["ph"] == "C"} == {FIRST_PID}, "it stands with the tracks of its GPU"
