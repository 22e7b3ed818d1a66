"""Values that no profiler should write: each gives exact tables and says what is wrong, or one clear error."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.analysis import analyze
from analyzer.errors import TraceError
from analyzer.trace import columns, document, spans, worker
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import link
from tests import traces

HOSTILE = Path(__file__).parent / "hostile"
LOST = "events that cannot be read and are left out: "
TIME = "events without a start, or with a time that no clock gives, which are left out: "
NO_DURATION = "events without a duration, which counts as 0: "
NEGATIVE = "negative durations, which count as 0: "
TEXT = "names and other texts that are left out, since there are too many different ones (the times are kept): "
ARGUMENTS = "events with arguments of a wrong type, which are left out: "
REPAIRED = "places that JSON does not allow (N/A, NaN, control characters, broken text), which were repaired: "


def read(tmp_path: Path, text: str | bytes) -> Trace:
    path = tmp_path / "t.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_trace(path)


def durations(trace: Trace) -> list[int]:
    return trace.kernels["dur_ns"].tolist()


def kernel(**changed: Any) -> dict[str, Any]:
    return traces.kernel("k", 10, 2, 5) | changed


SOUND = json.dumps(kernel())
"""A kernel of 2000 ns; in each case below it stands beside one kernel that is strange."""

CASES: dict[str, tuple[str, list[int], tuple[str, ...]]] = {
    "NaN": (SOUND.replace('"dur": 2', '"dur": NaN'), [2000, 0], (NO_DURATION + "1", REPAIRED + "1")),
    "Infinity": (SOUND.replace('"dur": 2', '"dur": -Infinity'), [2000, 0], (NO_DURATION + "1", REPAIRED + "1")),
    "N/A": (SOUND.replace('"ts": 10', '"ts": N/A'), [2000], (TIME + "1", REPAIRED + "1")),
    "NaN in arguments": (SOUND.replace("32", "nan", 1), [2000, 2000], (REPAIRED + "1",)),
    "NaN as text": (SOUND.replace('"ts": 10', '"ts": "NaN"'), [2000], (TIME + "1",)),
    "signalling NaN": (SOUND.replace('"dur": 2', '"dur": "sNaN"'), [2000], (TIME + "1",)),
    "infinity as text": (SOUND.replace('"ts": 10', '"ts": "Infinity"'), [2000], (TIME + "1",)),
    "number as text": (SOUND.replace('"dur": 2', '"dur": "2.125"'), [2000, 2125], ()),
    "words as text": (SOUND.replace('"dur": 2', '"dur": "long"'), [2000, 0], (NO_DURATION + "1", REPAIRED + "1")),
    "duplicate key": (SOUND.replace('"dur": 2', '"dur": 9, "dur": 3'), [2000, 3000], ()),
    "invalid UTF-8": (SOUND.replace('"k"', '"k\udcff\udcc3"'), [2000, 2000], (REPAIRED + "1",)),
    "control character": (SOUND.replace('"k"', '"k\x01\n"'), [2000, 2000], (REPAIRED + "1",)),
    "lone surrogate": (SOUND.replace('"k"', '"\\ud800"'), [2000, 2000], (REPAIRED + "1",)),
    "bad escape": (SOUND.replace('"k"', '"c:\\x\\\\d\\u12"'), [2000, 2000], (REPAIRED + "2",)),
    "negative duration": (json.dumps(kernel(dur=-5)), [2000, 0], (NEGATIVE + "1",)),
    "negative start": (json.dumps(kernel(ts=-7)), [2000, 2000], ()),
    "no duration": (json.dumps(kernel(dur=None)), [2000, 0], (NO_DURATION + "1",)),
    "no start": (json.dumps(kernel(ts=None)), [2000], (TIME + "1",)),
    "a century": (json.dumps(kernel(dur=3.2e15)), [2000], (TIME + "1",)),
    "start beyond 2096": (json.dumps(kernel(ts=4e15)), [2000], (TIME + "1",)),
    "1e300": (json.dumps(kernel(ts=1e300)), [2000], (TIME + "1",)),
    "1e999": (SOUND.replace('"ts": 10', '"ts": 1e999'), [2000], (TIME + "1",)),
    "2**63": (json.dumps(kernel(ts=2**63)), [2000], (TIME + "1",)),
    "-2**63": (json.dumps(kernel(ts=-(2**63))), [2000], (TIME + "1",)),
    "2**64": (json.dumps(kernel(dur=2**64)), [2000], (TIME + "1",)),
    "5000 digits": (SOUND.replace('"ts": 10', '"ts": 1' + "0" * 5000), [2000], (TIME + "1",)),
    "id of 2**63": (json.dumps(traces.kernel("k", 10, 2, 2**63)), [2000, 2000], (ARGUMENTS + "1",)),
    "no arguments": (json.dumps(kernel(args=None)), [2000, 2000], (ARGUMENTS + "1",)),
    "arguments as list": (json.dumps(kernel(args=[1])), [2000, 2000], (ARGUMENTS + "1",)),
    "grid of two": (json.dumps(kernel(args={"grid": [1, 2], "correlation": 5})), [2000, 2000], (ARGUMENTS + "1",)),
    "name of a number": (json.dumps(kernel(name=7)), [2000, 2000], (REPAIRED + "1",)),
    "start of true": (json.dumps(kernel(ts=True)), [2000], (TIME + "1", REPAIRED + "1")),
    "process of null": (json.dumps(kernel(pid=None, tid=[])), [2000, 2000], (REPAIRED + "1",)),
    "event of null": ("null", [2000], (LOST + "1",)),
    "event of list": ("[]", [2000], (LOST + "1",)),
    "nested": (SOUND[:-1] + ', "x": ' + "[" * 10_000 + "]" * 10_000 + "}", [2000], (LOST + "1",)),
    "name of 100 kB": (json.dumps(kernel(name="n" * 100_000)), [2000, 2000], ()),
    "name like structure": (json.dumps(kernel(name='}]},{"ph": "X", \\" {[')), [2000, 2000], ()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_strange_kernel_beside_a_sound_one(tmp_path: Path, case: str) -> None:
    strange, expected, warnings = CASES[case]
    for order in (0, 1):
        events = [SOUND, strange][:: -1 if order else 1]
        trace = read(tmp_path, f'{{"traceEvents": [{", ".join(events)}]}}'.encode("utf-8", "surrogateescape"))
        assert durations(trace) == expected[:: -1 if order else 1]
        assert set(trace.warnings) == set(warnings)
        assert len(link(trace).launches) == len(expected)
    assert analyze(tmp_path / "t.json").totals.kernel_count == len(expected)


@pytest.mark.parametrize("at", [1700000000123456.789, 1414456661986.051, 8796093022208.125, 0.001, 1e-9, 2251799813685248.5])
def test_fractions_of_absolute_times_are_exact(tmp_path: Path, at: float) -> None:
    """Written with three decimals; a double of that size does not hold them."""
    texts = [f"{Decimal(repr(at)) + Decimal(i) / 1000:f}" for i in range(20)]
    events = [SOUND.replace('"ts": 10', f'"ts": {text}').replace('"dur": 2', '"dur": 2.0625') for text in texts]
    trace = read(tmp_path, f"[{','.join(events)}]")
    expected = [int((Decimal(text) * 1000).to_integral_value()) for text in texts]
    assert trace.kernels["start_ns"].tolist() == expected
    assert set(durations(trace)) == {2062}  # 2062.5, rounded to even
    assert trace.warnings == ()


@pytest.mark.parametrize("beside", [kernel(ts=None), kernel(ts=2**70), kernel(dur=2**64)])
@pytest.mark.parametrize("order", [1, -1])
def test_a_damaged_time_beside_it_costs_no_fraction(tmp_path: Path, beside: dict[str, Any], order: int) -> None:
    text = SOUND.replace('"ts": 10', '"ts": 1700000000000000.123')
    trace = read(tmp_path, f"[{', '.join([json.dumps(beside), text][::order])}]")
    assert trace.kernels["start_ns"].tolist() == [1700000000000000123]
    assert trace.warnings == (TIME + "1",)


def test_a_sum_that_64_bits_cannot_hold_is_refused(tmp_path: Path) -> None:
    trace = read(tmp_path, json.dumps([kernel(dur=9e11)] * 11_000))
    assert sum(durations(trace)) < 2**61
    assert trace.warnings == (f"{TIME}{11_000 - len(trace.kernels)}",)


def test_missing_brace_or_quote_costs_one_event_alone(tmp_path: Path) -> None:
    events = [traces.kernel(f"k{i}", i, 1, i) for i in range(9)]
    text = json.dumps(traces.document(events))
    for broken in (
        text.replace('"k4"', '"k4', 1),
        text.replace('"name": "k4"', '"name": {"k4"', 1),
        text.replace('"k4"', '"k4"]}', 1),
    ):
        trace = read(tmp_path, broken)
        names = trace.kernels["name"].tolist()
        assert set(names) <= {f"k{i}" for i in range(9) if i != 4}
        assert len(names) >= 7
        assert any(warning.startswith(LOST) for warning in trace.warnings)


@pytest.mark.parametrize(
    ("sound", "broken"), [('"name": "', '"name": "a"'), ('"name": ', '"name": {'), ('"pid"', '"pid'), ("}}", "}")]
)
@pytest.mark.parametrize("piece", [1 << 16, document.PIECE_BYTES])
def test_one_broken_event_in_a_hundred_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: str, broken: str, piece: int
) -> None:
    monkeypatch.setattr(document, "PIECE_BYTES", piece)
    monkeypatch.setattr(document, "MAX_RESCAN_BYTES", 1 << 20)
    events = [json.dumps(traces.kernel(f"k{i}", i, 1, i)) for i in range(20_000)]
    texts = [text.replace(sound, broken, 1) if i % 100 == 50 else text for i, text in enumerate(events)]
    trace = read(tmp_path, f'{{"traceEvents": [{", ".join(texts)}], "schemaVersion": 1}}')
    names = trace.kernels["name"].tolist()
    assert len(names) >= 0.98 * len(events)
    assert set(names) <= {f"k{i}" for i in range(len(events)) if i % 100 != 50}
    assert trace.warnings == (f"{LOST}{len(events) - len(names)}",)


def test_too_many_different_texts_are_left_out_but_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_TEXT_BYTES", 20_000)
    events = [traces.kernel(f"{i % 40}" * 1000, 10 * i, 1.5, i) for i in range(80)]
    trace = read(tmp_path, json.dumps(events))
    names = trace.kernels["name"].tolist()
    kept = sum(map(bool, names[:40]))
    assert 5 < kept < 20
    assert names[:kept] == names[40 : 40 + kept] == [event["name"] for event in events[:kept]]
    assert not any(names[kept:40])
    assert set(durations(trace)) == {1500}
    assert trace.warnings[0].startswith(TEXT)
    assert int(trace.warnings[0].removeprefix(TEXT)) >= 2 * (40 - kept)


def test_text_behind_the_end_and_second_lists_are_told(tmp_path: Path) -> None:
    text = json.dumps(traces.document(traces.gpu_step()))
    assert read(tmp_path, text + text).warnings == (
        "the file goes on behind the end of its JSON text: whatever stood behind that point is missing from every figure",
    )
    two = read(tmp_path, f'{{"traceEvents": [{SOUND}], "traceEvents": [{SOUND}, {SOUND}]}}')
    assert (len(two.kernels), two.warnings) == (3, ("lists of events beyond the first, which are read as well: 1",))


@pytest.mark.parametrize("key", ["deviceProperties", "computeProperties"])
@pytest.mark.parametrize("first", [True, False])
def test_devices_before_and_behind_the_events(tmp_path: Path, key: str, first: bool) -> None:
    events = json.dumps(traces.gpu_step())
    parts = [f'"{key}": {json.dumps([traces.H100])}', f'"traceEvents": {events}']
    trace = read(tmp_path, "{" + ", ".join(parts if first else parts[::-1]) + "}")
    assert (trace.device.name, trace.device.sm_count) == ("NVIDIA H100 80GB HBM3", 132)
    none = read(tmp_path, "{" + parts[1] + "}")
    assert (none.device.name, none.device.sm_count) == ("GPU (not named in the trace)", None)
    assert none.device_events.equals(trace.device_events)


def test_flow_arrows_take_the_place_of_ids_also_in_damaged_text(tmp_path: Path) -> None:
    call = traces.launch(4, 0) | {"args": {}}
    arrow = {"ph": "s", "id": 9, "cat": "ac2g", "name": "a\x01", "pid": 1, "tid": 1, "ts": 4}
    end = arrow | {"ph": "f", "pid": 0, "tid": 7, "ts": 10, "bp": "e"}
    work = kernel(args={"stream": 7})
    text = json.dumps([traces.op("aten::relu", 1, 8), call, work, arrow, end])
    for given in (text, text.replace("\\u0001", "\x01"), text.replace('"ac2g"', "[]")):
        trace = read(tmp_path, given)
        assert link(trace).launches[["op", "launch", "link"]].to_numpy().tolist() == [
            ["aten::relu", "cudaLaunchKernel", "operator"]
        ]


@pytest.mark.parametrize("steps", [0, 1, 64])
def test_the_span_around_a_moment_is_found_however_far_one_climbs(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(spans, "_STEPS", steps)
    random = np.random.default_rng(steps)
    for size in (1, 7, 200):
        start, thread = random.integers(0, 100, size), random.integers(0, 2, size)
        found = spans.Spans(start, start + random.integers(0, 60, size), thread)
        time, where = random.integers(-5, 170, 300), random.integers(0, 3, 300)
        for at, code, mine in zip(time, where, found.innermost(time, where), strict=True):
            before = [i for i in found.order.tolist() if thread[i] == code and start[i] <= at]
            expected = before[-1] if before else -1
            while expected >= 0 and found.end[expected] < at:
                expected = int(found.parent[expected])
            assert mine == expected


def test_counter_ranges_have_a_bounded_number_of_columns(tmp_path: Path) -> None:
    ranges = [
        {
            "ph": "X",
            "cat": "cuda_profiler_range",
            "name": "r",
            "ts": i,
            "dur": 1,
            "args": {f"m__{i}_{j}": j for j in range(100)},
        }
        for i in range(20)
    ]
    found = read(tmp_path, json.dumps(ranges)).counter_ranges
    assert len(found) == 20
    assert sum("__" in str(column) for column in found.columns) == 256


@pytest.mark.parametrize("start", [1 << 16, 1 << 40])
def test_metrics_stand_by_their_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    """Read by one process and by two, piece by piece, some ranges without one of them."""
    monkeypatch.setattr(worker, "START_BYTES", start)
    monkeypatch.setattr(document, "PIECE_BYTES", 1 << 14)
    counted = [{f"m__{j}": i + j for j in range(6) if i % (j + 2)} | {"plain": 1} for i in range(5000)]
    ranges = [kernel(cat="cuda_profiler_range", ts=i, args=args) for i, args in enumerate(counted)]
    ranges[7]["args"] = ranges[8]["args"]["m__1"] = []
    found = read(tmp_path, json.dumps(ranges)).counter_ranges
    assert [str(column) for column in found.columns if "__" in str(column)] == [f"m__{j}" for j in (0, 1, 2, 3, 4, 5)]
    expected = [[i + j if i % (j + 2) and i != 7 and (i, j) != (8, 1) else np.nan for j in range(6)] for i in range(5000)]
    np.testing.assert_array_equal(found[[f"m__{j}" for j in range(6)]].to_numpy(), expected)


@pytest.mark.parametrize("path", sorted(HOSTILE.glob("*.json")), ids=lambda path: path.stem)
def test_the_corpus_gives_an_analysis_or_one_line(path: Path) -> None:
    try:
        assert analyze(path).totals.kernel_count >= 0
    except TraceError as error:
        assert "\n" not in error.message  # noqa: PT017
        assert error.hint  # noqa: PT017


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in HOSTILE.iterdir()) < 100_000
