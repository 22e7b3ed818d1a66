"""Which counters belong to a run or a trace: files of its own, beside it, named, and ranges of old traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analyzer.errors import TraceError
from analyzer.schema.run import CounterFacts, Run
from analyzer.trace.counters import counter_file
from analyzer.trace.kineto import Trace, read_trace
from tests.trace.counter_files import ROWS, raw_page, write


def trace_of(tmp_path: Path, events: list[dict[str, object]]) -> Trace:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return read_trace(path)


def event(name: str, cat: str, ts: float, dur: float, **args: object) -> dict[str, object]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": args}


def old_trace(tmp_path: Path, launches: int = 2) -> Trace:
    metric = "smsp__inst_executed.sum"
    ranges = [event(f"k{n}", "cuda_profiler_range", 1000 + 500 * n, 400, **{metric: 7.0 * n}) for n in range(2)]
    ops = [event(name, "cpu_op", 10 * n, 8) for n, name in enumerate(("aten::mm", "aten::relu"))]
    calls = [event("cudaLaunchKernel", "cuda_runtime", 10 * n + 2, 2, correlation=n + 1) for n in range(launches)]
    return trace_of(tmp_path, [*reversed(ranges), *ops, *calls])


def test_counter_ranges_of_old_traces_name_the_operator_of_the_same_launch(tmp_path: Path) -> None:
    trace = old_trace(tmp_path)
    found = counter_file(Run(name="t", trace=tmp_path / "t.json"), trace)
    assert found is not None
    assert (found.kind, found.metrics) == ("ranges", ("smsp__inst_executed.sum",))
    assert found.rows["kernel"].tolist() == ["k0", "k1"]
    assert found.rows["op"].tolist() == ["aten::mm", "aten::relu"]
    assert found.rows["smsp__inst_executed.sum"].tolist() == [0.0, 7.0]
    other = counter_file(Run(name="t", trace=tmp_path / "t.json"), old_trace(tmp_path, launches=1))
    assert other is not None
    assert other.rows["op"].tolist() == ["", ""]


def test_which_counters_a_run_has(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, [event("aten::mm", "cpu_op", 0, 5)])
    bare = Run(name="t", trace=tmp_path / "t.json")
    assert counter_file(bare, trace) is None
    beside = write(tmp_path / "counters.csv", raw_page(ROWS))
    found = counter_file(Run(name="t", trace=tmp_path / "t.json", counters=beside), trace)
    assert found is not None
    assert (found.kind, found.mode) == ("import", "")
    given = write(tmp_path / "given.csv", raw_page(ROWS[:1]))
    found = counter_file(Run(name="t", trace=tmp_path / "t.json", counters=beside), trace, given)
    assert found is not None
    assert (found.name, len(found.rows)) == ("given.csv", 1)


def test_a_broken_file_beside_a_trace_is_refused_and_a_named_one_is_an_error(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, [event("aten::mm", "cpu_op", 0, 5)])
    broken = write(tmp_path / "counters.csv", "nothing")
    found = counter_file(Run(name="t", trace=tmp_path / "t.json", counters=broken), trace)
    assert found is not None
    assert found.refused.startswith("counters.csv holds no counted launch; give what")
    assert str(tmp_path) not in found.refused
    assert (len(found.rows), found.metrics) == (0, ())
    with pytest.raises(TraceError):
        counter_file(Run(name="t", trace=tmp_path / "t.json"), trace, broken)


@pytest.mark.parametrize(("control", "mode"), [("none", "warm"), ("all", "cold"), ("", "")])
def test_our_own_pass_says_how_it_counted(tmp_path: Path, control: str, mode: str) -> None:
    trace = trace_of(tmp_path, [event("aten::mm", "cpu_op", 0, 5)])

    class Facts:
        counters = CounterFacts(available=True, version="2025.3.1", cache_control=control)

    class Own:
        facts, counters = Facts, write(tmp_path / "counters.csv", raw_page(ROWS))

    found = counter_file(Own, trace)  # type: ignore[arg-type]
    assert found is not None
    assert (found.kind, found.tool, found.mode) == ("ncu", "Nsight Compute 2025.3.1", mode)
