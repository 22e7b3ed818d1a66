"""The ledger adds up, whatever the runs hold; the verdict says what the numbers say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.analysis import analyze, pair, study
from analyzer.insight.gap import explain
from analyzer.insight.verdict import say_pair
from analyzer.metrics.timing import Latency, latency, ratio
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis, Rooflines, Totals, Window
from analyzer.schema.run import DeviceFacts, Run
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace.kinds import KINDS
from tests import traces

NONE = Quantity.missing("%", "not here")


def analysis(label: str, kinds: dict[str, tuple[float, float, float, float]], idle_us: float, **more: Any) -> Analysis:
    """An analysis from (floor, above, no floor, no model) microseconds per kind over ``steps`` steps."""
    rows = [
        {
            "kind": kind, "time_us": floor + above + bare + none, "calls": 1, "flop": 0.0, "bytes_compulsory": 0.0,
            "floor_us": floor, "modelled_us": floor + above, "no_floor_us": bare, "no_model_us": none,
        }
        for kind, (floor, above, bare, none) in kinds.items()
    ]  # fmt: skip
    columns = [
        "kind",
        "time_us",
        "calls",
        "flop",
        "bytes_compulsory",
        "floor_us",
        "modelled_us",
        "no_floor_us",
        "no_model_us",
    ]
    table = pd.DataFrame(rows, columns=columns)
    busy = float(table["time_us"].sum())
    totals = Totals(busy + idle_us, busy, len(rows), 0.0, busy, idle_us, 0.0, 100.0, 100.0, 100.0, 0.0, 0.0, NONE, NONE)
    return Analysis(
        run=Run(name=label, trace=Path("t.json")),
        device=more.get("device", DeviceFacts(type="cpu", name="CPU")),
        label=label,
        dtype="float32",
        window=Window(0, int((busy + idle_us) * 1000), "all", more.get("steps", 3), more.get("steps", 3)),
        totals=totals,
        kinds=table,
        kernels=pd.DataFrame(),
        launches=pd.DataFrame(),
        rooflines=Rooflines(*(pd.DataFrame() for _ in range(4))),
        limits=(),
        latency=more.get("latency"),
        timings=TIMINGS.empty(),
        samples=SAMPLES.empty(),
    )


def timed(*values: float) -> Latency:
    """Return a latency of at least ten iterations: the given ones, over and over."""
    rows = [("untraced", 0, i, 0, values[i % len(values)]) for i in range(12)]
    found = latency(pd.DataFrame(rows, columns=["pass", "repeat", "iteration", "start_unix_ns", "latency_ms"]))
    assert found is not None
    return found


def untimed(median_ms: float) -> Latency:
    """A latency without a bootstrap, for the thousand pairs below."""
    return Latency(Quantity(median_ms, "ms", Evidence.MEASURED), 1, 1, 0.0, NONE, ((median_ms,),))


time_us = st.floats(0, 1e6, allow_nan=False)
terms = st.tuples(time_us, st.floats(-1e5, 1e6), time_us, time_us)
runs = st.builds(
    lambda kinds, idle, steps, median: analysis("run", kinds, idle, steps=steps, latency=untimed(median) if median else None),
    st.dictionaries(st.sampled_from(KINDS), terms, max_size=8),
    time_us,
    st.sampled_from([None, 1, 3, 7]),
    st.one_of(st.none(), st.floats(0.001, 1e4)),
)


@settings(max_examples=1000, deadline=None)
@given(runs, runs)
def test_parts_add_up_to_the_independently_computed_gap(a: Analysis, b: Analysis) -> None:
    gap = explain(a, b)
    untraced = a.latency and b.latency

    def total(run: Analysis) -> float:
        if untraced and run.latency:
            return float(run.latency.median_ms.value) * 1e3
        both_have_steps = a.window.batches is not None and b.window.batches is not None
        return run.totals.wall_us / (run.window.batches or 1) if both_have_steps else run.totals.wall_us

    larger = max(total(a), total(b), 1.0)
    # the kinds of these runs do not come from a clock, so their sums carry the rounding of their own size
    scale = max(larger, float(a.kinds.time_us.abs().sum()), float(b.kinds.time_us.abs().sum()), 1.0)
    assert sum(p.delta_us for p in gap.parts) == pytest.approx(total(a) - total(b), abs=1e-9 * scale)
    explained = sum(p.delta_us for p in gap.parts if p.explained)
    assert explained + gap.unexplained_us == pytest.approx(gap.total_us, abs=1e-9 * scale)


def test_unexplained_is_a_sum_of_its_own() -> None:
    a = analysis("A", {"matmul": (300, 600, 0, 60)}, 30, steps=3, latency=timed(0.350))
    b = analysis("B", {"convolution": (90, 30, 0, 0)}, 0, steps=3, latency=timed(0.050))
    gap = explain(a, b)
    assert {(p.kind, p.term): round(p.delta_us, 9) for p in gap.parts} == {
        ("matmul", "floor"): 100, ("matmul", "above"): 200, ("convolution", "floor"): -30, ("convolution", "above"): -10,
        ("idle", "idle"): 10, ("matmul", "no_model"): 20, ("tracing", "tracing"): 10,
    }  # fmt: skip
    assert gap.unexplained_us == pytest.approx(30)
    assert gap.total_us == pytest.approx(300)


def test_unexplained_parts_of_opposite_sign_do_not_cancel_in_the_headline() -> None:
    a = analysis("A", {"matmul": (100, 0, 0, 90)}, 0, steps=1, latency=timed(0.100))
    b = analysis("B", {"matmul": (0, 0, 0, 0)}, 0, steps=1, latency=timed(0.010))
    gap = explain(a, b)
    assert gap.unexplained_us == pytest.approx(-10)
    assert gap.unexplained_abs_us == pytest.approx(190)
    assert "the cause is not established" in say_pair(a, b, gap, ratio(a.latency, b.latency)).headline


def test_grammar_of_the_headline() -> None:
    steady = {"matmul": (1000.0, 0.0, 0.0, 0.0)}
    slow = analysis("A", steady, 0, steps=1, latency=timed(*[1.0] * 9))
    fast = analysis("B", {"matmul": (500, 0, 0, 0)}, 0, steps=1, latency=timed(*[0.5] * 9))
    forward = say_pair(slow, fast, explain(slow, fast), ratio(slow.latency, fast.latency)).headline
    backward = say_pair(fast, slow, explain(fast, slow), ratio(fast.latency, slow.latency)).headline
    assert forward == backward == "A takes 2.00x as long as B on CPU (float32)"
    same = say_pair(slow, slow, explain(slow, slow), ratio(slow.latency, slow.latency)).headline
    assert same.startswith("No clear difference between A and A")


def test_noise_that_covers_the_difference_is_no_difference() -> None:
    a = analysis("A", {}, 0, steps=1, latency=timed(1.0, 1.1, 0.9))
    b = analysis("B", {}, 0, steps=1, latency=timed(1.0, 1.1, 0.95))
    assert say_pair(a, b, explain(a, b), ratio(a.latency, b.latency)).headline.startswith("No clear difference")
    wild = analysis("W", {}, 0, steps=1, latency=timed(1.0, 2.4, 0.4, 1.2, 0.5, 3.5))
    headline = say_pair(a, wild, explain(a, wild), ratio(a.latency, wild.latency)).headline
    assert headline.startswith("Too unsteady to tell A and W apart")


def test_what_tracing_adds_to_the_host_does_not_make_a_gpu_wait() -> None:
    gpu = DeviceFacts(type="cuda", name="GPU")
    a = analysis("A", {"matmul": (900, 0, 0, 0)}, 900, steps=1, device=gpu, latency=timed(1.0))
    b = analysis("B", {"convolution": (400, 0, 0, 0)}, 400, steps=1, device=gpu, latency=timed(0.5))
    verdict = say_pair(a, b, explain(a, b), ratio(a.latency, b.latency))
    assert not verdict.reason.startswith("The GPU is idle")


def test_too_few_iterations_tell_nothing() -> None:
    few = untimed(1.0)
    a, b = (analysis(n, {}, 0, steps=1, latency=few) for n in "AB")
    assert say_pair(a, b, explain(a, b), ratio(few, few)).headline.startswith("Too few iterations to tell A and B apart")


def test_a_trace_without_steps_is_not_divided_and_gives_no_ratio() -> None:
    a = analysis("A", {"matmul": (100, 0, 0, 0)}, 0, steps=10)
    b = analysis("B", {"matmul": (100, 0, 0, 0)}, 0, steps=None)
    gap = explain(a, b)
    assert (gap.first_us, gap.second_us) == (100, 100)
    verdict = say_pair(a, b, gap, None)
    assert "x as long" not in verdict.headline
    assert "do not both divide into steps" in verdict.headline


def test_work_outside_the_steps_is_not_divided_among_them(tmp_path: Path) -> None:
    inside = analyze(traces.write(tmp_path / "in.json", traces.document(traces.gpu_step())))
    stray = [*traces.gpu_step(), traces.kernel("stray", 5000, 100, 99)]
    outside = analyze(traces.write(tmp_path / "out.json", traces.document(stray)))
    assert (inside.window.steps, inside.window.batches) == (1, 1)
    assert (outside.window.steps, outside.window.batches) == (1, None)
    assert outside.totals.wall_us == 5100
    assert "spans 5.10 ms" in study((outside,)).verdict.headline


def test_a_waiting_gpu_comes_before_any_other_reason() -> None:
    gpu = DeviceFacts(type="cuda", name="GPU")
    a = analysis("A", {"matmul": (100, 0, 0, 0)}, 900, steps=1, device=gpu, latency=timed(1.0))
    b = analysis("B", {"convolution": (90, 0, 0, 0)}, 10, steps=1, device=gpu, latency=timed(0.1))
    assert say_pair(a, b, explain(a, b), ratio(a.latency, b.latency)).reason.startswith("The GPU is idle for 90 %")


def test_a_real_pair_adds_up_and_kinds_and_idle_are_the_wall(tmp_path: Path) -> None:
    gpu = traces.write(tmp_path / "gpu.json.gz", traces.document(traces.gpu_step()))
    cpu = traces.write(tmp_path / "cpu.json.gz", traces.document(traces.cpu_step(), gpu=False))
    found = pair(analyze(gpu), analyze(cpu))
    assert found.gap is not None
    assert sum(p.delta_us for p in found.gap.parts) == pytest.approx(found.gap.total_us, abs=1e-9 * 1000)
    for one in found.analyses:
        assert one.kinds["time_us"].sum() + one.totals.idle_us == pytest.approx(one.totals.wall_us, rel=1e-9)
        assert one.totals.busy_us + one.totals.idle_us == pytest.approx(one.totals.wall_us, rel=1e-9)
    first = found.analyses[0].totals
    assert (first.kernel_time_us, first.copy_us, first.idle_us) == (250.0, 50.0, 700.0)


def test_every_pair_of_public_traces_adds_up(public_traces: Path) -> None:
    found = [analyze(path) for path in sorted(public_traces.glob("*.json.gz"))]
    for one in found:
        assert one.kinds["time_us"].sum() + one.totals.idle_us == pytest.approx(one.totals.wall_us, rel=1e-9), one.label
        assert study((one,)).verdict.headline
    for a in found:
        for b in found:
            gap = explain(a, b)
            larger = max(abs(gap.first_us), abs(gap.second_us))
            assert sum(p.delta_us for p in gap.parts) == pytest.approx(gap.total_us, abs=1e-9 * larger), (
                a.label,
                b.label,
            )


def test_public_h100_trace(public_traces: Path) -> None:
    one = analyze(public_traces / "tracelens_h100_vit_nsfw_infer.json.gz")
    assert one.totals.modelled_pct >= 99
    assert one.totals.classified_pct >= 99
    assert one.totals.flop / 4 / 1e9 == pytest.approx(35.128, rel=0.005)  # batch 4
    assert re.search(r"idle for \d+ %", study((one,)).verdict.reason)


def test_evidence_of_parts() -> None:
    a = analysis("A", {"matmul": (10, 5, 0, 1)}, 3)
    levels = {p.term: p.evidence for p in explain(a, a).parts}
    assert levels == {
        "floor": Evidence.MODELLED,
        "above": Evidence.MODELLED,
        "idle": Evidence.MEASURED,
        "no_model": Evidence.MEASURED,
    }
