"""The ledger adds up, whatever the runs hold; the verdict says what the numbers say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.analysis import analyze, compare
from analyzer.insight.gap import difference, explain, normalised
from analyzer.insight.verdict import say_pair
from analyzer.metrics.ledger import TERM_COLUMNS
from analyzer.metrics.timing import Latency, latency, ratio
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.ledger import Entry, Ledger, Scaling
from analyzer.schema.results import Analysis, Rooflines, Totals, Window
from analyzer.schema.run import DeviceFacts, Run
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace.kinds import KINDS, ROLES
from tests import traces

MODELLED = Evidence.MODELLED
NONE = Quantity.missing("%", "not here")


def analysis(label: str, kinds: dict[str, tuple[float, float, float, float]], idle_us: float, **more: Any) -> Analysis:
    """An analysis from (floor, above, no floor, no model) microseconds per kind over ``steps`` steps."""
    rows = [
        {
            "kind": kind, "time_us": floor + above + bare + none, "calls": 1, "flop": 0.0, "bytes_compulsory": 0.0,
            "floor_us": floor, "modelled_us": floor + above,
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
        terms=terms_of(kinds),
        kernels=pd.DataFrame(),
        launches=pd.DataFrame(),
        rooflines=Rooflines(*(pd.DataFrame() for _ in range(4))),
        limits=(),
        latency=more.get("latency"),
        timings=TIMINGS.empty(),
        samples=SAMPLES.empty(),
    )


def terms_of(kinds: dict[str, tuple[float, float, float, float]]) -> pd.DataFrame:
    """The terms of (floor, above, no floor, no model) microseconds per kind."""
    names = ("work", "residual", "no_floor", "no_model")
    rows = [
        (ROLES[kind], kind, term, us, us, us)
        for kind, times in kinds.items()
        for term, us in zip(names, times, strict=True)
        if us
    ]
    return pd.DataFrame(rows, columns=list(TERM_COLUMNS))


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
    both_have_steps = a.window.batches is not None and b.window.batches is not None
    untraced = both_have_steps and a.latency and b.latency

    def total(run: Analysis) -> float:
        if untraced and run.latency:
            return float(run.latency.median_ms.value) * 1e3
        return run.totals.wall_us / (run.window.batches or 1) if both_have_steps else run.totals.wall_us

    larger = max(total(a), total(b), 1.0)
    # the kinds of these runs do not come from a clock, so their sums carry the rounding of their own size
    scale = max(larger, float(a.kinds.time_us.abs().sum()), float(b.kinds.time_us.abs().sum()), 1.0)
    assert sum(p.delta_us for p in gap.parts) == pytest.approx(total(a) - total(b), abs=1e-9 * scale)
    named = sum(p.delta_us for p in gap.parts if p.named)
    assert named + gap.unnamed_us + gap.unexplained_us == pytest.approx(gap.total_us, abs=1e-9 * scale)
    # the other question has other parts, and the same sum
    effects = [r.work_us + r.traffic_us + r.rate_us + r.other_us for r in gap.roles]
    assert sum(effects) == pytest.approx(total(a) - total(b), abs=1e-9 * scale)
    for by in ("image", "GFLOP"):
        found = normalised(gap, by)
        assert found is None or sum(p.delta_us for p in found.parts) == pytest.approx(found.total_us, abs=1e-9 * scale)


def test_waiting_gives_way_before_anything_is_unexplained() -> None:
    a = analysis("A", {"matmul": (300, 600, 0, 60)}, 30, steps=3, latency=timed(0.350))
    b = analysis("B", {"convolution": (90, 30, 0, 0)}, 60, steps=3, latency=timed(0.050))
    gap = explain(a, b)
    # A: 330 us traced, 350 untraced: all waiting stays and 20 us are unexplained. B: 60 us traced, of which 20 are waiting; 50
    # untraced leave half of them
    assert {(p.kind, p.term): round(p.delta_us, 9) for p in gap.parts} == {
        ("matmul", "work"): 100, ("matmul", "residual"): 200, ("convolution", "work"): -30, ("convolution", "residual"): -10,
        ("waiting", "between"): 0, ("matmul", "no_model"): 20, ("tracing", "tracing"): 20,
    }  # fmt: skip
    assert (gap.one.scaling.waiting, gap.one.scaling.rest_us) == (1.0, pytest.approx(20))
    assert (gap.two.scaling.waiting, gap.two.scaling.rest_us) == (pytest.approx(0.5), pytest.approx(0))
    assert gap.unexplained_us == pytest.approx(40)
    assert gap.unnamed_us == pytest.approx(190)
    assert gap.total_us == pytest.approx(300)


def test_kernels_that_take_longer_than_the_untraced_median_leave_a_negative_rest() -> None:
    a = analysis("A", {"matmul": (900, 0, 0, 0)}, 100, steps=1, latency=timed(0.800))
    ledger = explain(a, a).one
    assert (ledger.scaling.waiting, ledger.scaling.rest_us) == (0.0, pytest.approx(-100))
    assert sum(entry.us for entry in ledger.entries) == pytest.approx(800)


def test_whole_traces_are_not_held_against_one_untraced_batch() -> None:
    a = analysis("A", {"matmul": (900, 0, 0, 0)}, 100, steps=None, latency=timed(0.1))
    gap = explain(a, analysis("B", {"matmul": (50, 0, 0, 0)}, 0, steps=1, latency=timed(0.05)))
    assert (gap.first_us, gap.second_us) == (1000, 50)
    assert "whole traces" in gap.basis


def test_a_term_that_one_run_cannot_have_is_no_cause_of_the_difference() -> None:
    entries = (Entry("r", "matmul", "work", 50, 50, 50, MODELLED), Entry("r", "matmul", "locality", 20, 10, 30, MODELLED),
               Entry("r", "matmul", "residual", 10, 0, 20, MODELLED))  # fmt: skip
    one = Ledger("A", "traced time per step", 80.0, None, None, entries, Scaling(80, None, 1, 0), 1.0, 1e9)
    other = (Entry("r", "matmul", "work", 50, 50, 50, MODELLED), Entry("r", "matmul", "residual", 30, 30, 30, MODELLED))
    two = replace(one, label="B", entries=other, lacking=("locality",))
    gap = difference(one, two)
    assert {part.term: part.delta_us for part in gap.parts} == {"work": 0, "residual": 0}
    assert gap.roles[0].traffic_us == 0
    blind = replace(one, label="B", entries=(Entry("r", "matmul", "no_model", 80, 80, 80, MODELLED),), lacking=("work",))
    assert {part.term: part.delta_us for part in difference(one, blind).parts} == {"no_floor": 80, "no_model": -80}


def test_a_role_that_is_short_in_both_is_not_absent() -> None:
    a = analysis("A", {"attention": (1, 2, 0, 0)}, 10_000, steps=1)
    b = analysis("B", {"attention": (1, 5, 0, 0)}, 10_000, steps=1)
    (role, *_) = (r for r in explain(a, b).roles if r.role == "token or spatial mixing")
    assert (role.work_us, role.rate_us) == (0, pytest.approx(-3))
    bare = analysis("C", {"attention": (0, 0, 0, 5)}, 0, steps=1)
    (role, *_) = (r for r in explain(a, bare).roles if r.role == "token or spatial mixing")
    assert (role.work_us, role.other_us) == (0, pytest.approx(-2))


def test_open_parts_of_opposite_sign_do_not_cancel_in_the_headline() -> None:
    a = analysis("A", {"matmul": (100, 0, 0, 90)}, 0, steps=1, latency=timed(0.100))
    b = analysis("B", {"matmul": (0, 0, 0, 0)}, 0, steps=1, latency=timed(0.010))
    gap = explain(a, b)
    assert gap.unexplained_us == pytest.approx(-10)
    assert gap.open_us == pytest.approx(190)
    assert "the cause is not established" in say_pair(a, b, gap, ratio(a.latency, b.latency)).headline


def test_time_above_the_floor_without_a_cause_counts_as_open_role_by_role() -> None:
    a = analysis("A", {"matmul": (100, 60, 0, 0), "attention": (40, 0, 0, 0)}, 0, steps=1, latency=timed(0.200))
    b = analysis("B", {"convolution": (50, 40, 0, 0), "depthwise": (0, 10, 0, 0)}, 0, steps=1, latency=timed(0.100))
    gap = explain(a, b)
    assert gap.unnamed_us == pytest.approx(10)
    assert gap.open_us == pytest.approx(20 + 10)  # dense math +20, token or spatial mixing -10
    assert "the cause is not established" in say_pair(a, b, gap, ratio(a.latency, b.latency)).headline


def test_the_other_question_with_hand_computed_numbers() -> None:
    a = analysis("A", {"matmul": (200, 200, 0, 0), "attention": (50, 0, 0, 0)}, 10, steps=1)
    b = analysis("B", {"convolution": (100, 0, 0, 0), "layout": (0, 0, 0, 5)}, 0, steps=1)
    roles = {role.role: role for role in explain(a, b).roles}
    dense = roles["dense math"]
    # 400 us against 100: L = 300 / ln 4; work doubles and so does the time over the floor, so each is half of the difference
    assert (dense.work_us, dense.traffic_us, dense.rate_us) == (pytest.approx(150), 0, pytest.approx(150))
    assert (roles["token or spatial mixing"].work_us, roles["waiting"].other_us, roles["data movement"].other_us) == (
        50,
        10,
        -5,
    )


def test_per_image_and_per_gflop() -> None:
    one = Ledger("A", "traced time per step", 80.0, None, None, (Entry("r", "matmul", "work", 80, 70, 90, MODELLED),),
                 Scaling(80, None, 1, 0), 8.0, 4e9)  # fmt: skip
    two = replace(
        one, label="B", total_us=10.0, entries=(Entry("r", "matmul", "work", 10, 10, 10, MODELLED),), images=2.0, flop=None
    )
    found = normalised(difference(one, two), "image")
    assert found is not None
    assert (found.first_us, found.second_us, found.parts[0].low_us, found.parts[0].high_us) == (10, 5, 3.75, 6.25)
    assert normalised(difference(one, two), "GFLOP") is None


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
    assert "spans 5.10 ms" in compare(outside).verdict.headline


def test_a_waiting_gpu_comes_before_any_other_reason() -> None:
    gpu = DeviceFacts(type="cuda", name="GPU")
    a = analysis("A", {"matmul": (100, 0, 0, 0)}, 900, steps=1, device=gpu, latency=timed(1.0))
    b = analysis("B", {"convolution": (90, 0, 0, 0)}, 10, steps=1, device=gpu, latency=timed(0.1))
    assert say_pair(a, b, explain(a, b), ratio(a.latency, b.latency)).reason.startswith("The GPU is idle for 90 %")


def test_a_real_pair_adds_up_and_kinds_and_idle_are_the_wall(tmp_path: Path) -> None:
    gpu = traces.write(tmp_path / "gpu.json.gz", traces.document(traces.gpu_step()))
    cpu = traces.write(tmp_path / "cpu.json.gz", traces.document(traces.cpu_step(), gpu=False))
    found = compare(analyze(gpu), analyze(cpu))
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
        assert compare(one).verdict.headline
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
    assert re.search(r"idle for \d+ %", compare(one).verdict.reason)


def test_evidence_of_parts() -> None:
    a = analysis("A", {"matmul": (10, 5, 0, 1)}, 3)
    assert {p.term: p.evidence for p in explain(a, a).parts} == {
        "work": Evidence.MODELLED, "residual": Evidence.MODELLED, "between": Evidence.MEASURED, "no_model": Evidence.MEASURED,
    }  # fmt: skip
