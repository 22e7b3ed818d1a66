"""Figures: what they draw is what was computed, they leave nothing open, and the same input gives the same bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

from analyzer.insight.gap import difference
from analyzer.insight.ledger import WAITING
from analyzer.report import render
from analyzer.report.figures.gap import _fill, _look, right_us
from analyzer.report.figures.theme import KIND_COLOURS, PART_COLOURS, colour
from analyzer.report.figures.time import what_is_stacked
from analyzer.report.marks.gap import MAX_STEPS, UNEXPLAINED, Step, causes, steps
from analyzer.report.marks.roofline import MAX_MARKS, NAMED, _in_sight, roofline
from analyzer.report.marks.steady import MAX_POINTS, telemetry, thin
from analyzer.report.marks.time import IDLE, Stack, _lane, stacks, timeline
from analyzer.report.marks.time import MAX_MARKS as MAX_SPANS
from analyzer.report.render import page
from analyzer.schema.evidence import Evidence
from analyzer.schema.ledger import Entry, Ledger, Scaling
from analyzer.schema.results import Study
from analyzer.trace.kinds import KINDS

MODELLED = Evidence.MODELLED


def test_no_figure_stays_open_and_bytes_repeat(gpu_single: Study) -> None:
    assert page(gpu_single) == page(gpu_single)
    assert not pyplot.get_fignums()


def test_every_kind_has_its_colour() -> None:
    assert tuple(KIND_COLOURS) == KINDS
    assert len(set(KIND_COLOURS.values())) == len(KINDS)


def test_waterfall_goes_from_the_second_run_to_the_first(gpu_pair: Study) -> None:
    assert gpu_pair.gap is not None
    found = steps(gpu_pair.gap)
    assert found[0].start_us == gpu_pair.gap.second_us
    assert found[-1].key == UNEXPLAINED
    assert found[-1].end_us == pytest.approx(gpu_pair.gap.first_us)
    sizes = [abs(step.delta_us) for step in found[:-1]]
    assert sizes == sorted(sizes, reverse=True)


def test_waterfall_joins_small_kinds() -> None:
    one = ledger("a", tuple(Entry("r", kind, "work", 20.0 - i, 20.0 - i, 20.0 - i, MODELLED) for i, kind in enumerate(KINDS)))
    gap = difference(one, ledger("b", ()))
    found = steps(gap)
    assert len(found) == MAX_STEPS + 1
    assert found[-2].label == f"{len(KINDS) - MAX_STEPS + 1} smaller kinds"
    assert found[-1].end_us == pytest.approx(gap.first_us)


def test_a_label_stands_right_of_all_that_its_row_draws() -> None:
    """From 10: up 3 to 13, back 5 to 8, up 1 to 9; the parts reach 13, the whisker 10 + 4."""
    parts = (("work", 3.0), ("named", -5.0), ("unnamed", 1.0))
    assert right_us(Step("matmul", "matmul", 10.0, parts, MODELLED)) == 13.0
    assert right_us(Step("matmul", "matmul", 10.0, parts, MODELLED, (-2.0, 4.0))) == 14.0
    assert right_us(Step("matmul", "matmul", 10.0, (("work", -3.0),), MODELLED)) == 10.0
    assert right_us(Step("unexplained", "unexplained", 10.0, (), MODELLED)) == 10.0


def test_waiting_is_filled_like_every_named_cause() -> None:
    fill = _fill(Step("idle or between", WAITING, 0.0, (("named", 1.0),), MODELLED), 1.0)
    assert fill == colour("muted")
    assert _look("named", fill)["facecolor"] == fill


def test_the_title_of_the_stacks_says_what_a_bar_is() -> None:
    steps_, whole = Stack("a", 0, (("matmul", 1.0),), 3), Stack("b", 1, (("matmul", 1.0),), None)
    assert what_is_stacked((steps_, steps_)) == "Whole time per step"
    assert what_is_stacked((whole,)) == "Whole trace"
    assert what_is_stacked((whole, whole)) == "Whole traces"
    assert what_is_stacked((steps_, whole)).endswith("where it does not divide into steps")


def test_work_outside_of_steps_makes_the_window_the_timeline(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    inside = timeline(a, 0, 100)
    outside = timeline(replace(a, window=replace(a.window, batches=None)), 0, 100)
    assert inside is not None
    assert outside is not None
    assert inside.step >= 0
    assert (outside.step, outside.length_us) == (-1, (a.window.end_ns - a.window.start_ns) / 1e3)


def test_causes_end_with_what_has_none() -> None:
    names = ("no_model", "residual", "work", "host", "locality")
    entries = [Entry("r", "matmul", term, 10.0 * i, 10.0 * i - 1, 10.0 * i + 1, MODELLED) for i, term in enumerate(names, 1)]
    found = causes(difference(ledger("a", tuple(entries)), ledger("b", ())))
    assert [step.key for step in found] == ["locality", "host", "work", "residual", "no_model"]
    assert found[0].ends_us == (49.0, 51.0)
    assert found[-1].end_us == 150.0


def ledger(label: str, entries: tuple[Entry, ...]) -> Ledger:
    total = sum(entry.us for entry in entries)
    return Ledger(label, "traced time per step", total, None, None, entries, Scaling(total, None, 1.0, 0.0), None, None)


def test_stacks_add_up_to_the_window(gpu_pair: Study) -> None:
    for stack, a in zip(stacks(gpu_pair.analyses), gpu_pair.analyses, strict=True):
        assert stack.steps == 3
        assert stack.total_us * 3 == pytest.approx(a.totals.wall_us)
        assert stack.parts[-1][0] == IDLE


def test_timeline_is_one_step_within_the_budget(gpu_pair: Study) -> None:
    for run, a in enumerate(gpu_pair.analyses):
        found = timeline(a, run, MAX_SPANS // 2)
        assert found is not None
        assert sum(len(lane.spans) for lane in found.lanes) <= MAX_SPANS // 2
        assert found.launches == len(a.kernels) * 6
        busy = sum(length for lane in found.lanes[:2] for _, length in lane.spans)
        idle = sum(length for _, length in found.lanes[2].spans)
        assert busy + idle == pytest.approx(found.length_us)


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_lane_joins_the_closest_marks_first(limit: int) -> None:
    start = np.cumsum(np.random.default_rng(0).integers(20, 400, 200))
    lane = _lane("x", (start, start + 10), limit, 2.0)
    assert lane.time_us == 2.0
    assert len(lane.spans) <= limit
    assert lane.count == 200
    assert lane.spans[0][0] == start[0] / 1e3
    assert lane.spans[-1][0] + lane.spans[-1][1] == pytest.approx((start[-1] + 10) / 1e3)


def test_roofline_keeps_the_work(gpu_pair: Study) -> None:
    found = roofline(gpu_pair.analyses)
    assert 0 < len(found.marks) <= MAX_MARKS
    assert [m.rank for m in found.marks][:NAMED] == list(range(1, min(NAMED, len(found.marks)) + 1))
    for run, a in enumerate(gpu_pair.analyses):
        counted = a.kernels[a.kernels["flop"] > 0]
        flop = sum(m.tflops * m.time_us * 1e6 for m in found.marks if m.run == run)
        assert flop == pytest.approx(float(counted["flop"].sum()))
    memory = [(c.name, c.value) for c in found.ceilings if c.unit == "GB/s"]
    assert memory == [("DRAM", 3350), ("DRAM attainable", 3000)]


def test_marks_that_take_no_time_do_not_stretch_the_axes(gpu_pair: Study) -> None:
    mark = roofline(gpu_pair.analyses).marks[0]
    tiny = replace(mark, share_pct=0.01, tflops=mark.tflops / 1e6)
    near = replace(mark, share_pct=0.01, tflops=mark.tflops / 5)
    slow = replace(mark, share_pct=3.0, tflops=mark.tflops / 4)
    assert _in_sight([mark, tiny, near, slow]) == [mark, near, slow]
    assert _in_sight([tiny]) == [tiny]
    assert _in_sight([]) == []


def test_thinning_keeps_the_extremes() -> None:
    values = np.random.default_rng(1).normal(size=50_000)
    shown = thin(values, MAX_POINTS)
    assert len(shown) <= MAX_POINTS
    assert {int(values.argmin()), int(values.argmax()), 0, 49_999} <= set(shown.tolist())
    assert (np.diff(shown) > 0).all()


def test_telemetry_knows_when_clocks_were_held_down(gpu_pair: Study, cpu_pair: Study) -> None:
    held, free = (telemetry(a, i) for i, a in enumerate(gpu_pair.analyses))
    assert held is not None
    assert held.held is not None
    assert np.allclose(held.held, [(6.1, 8.0)])
    assert free is not None
    assert free.held == ()
    power = next(p for p in held.panels if p.name == "Power")
    assert power.cap == 500.0
    assert len(power.lines[0].x) == 116
    cpu = telemetry(cpu_pair.analyses[0], 0)
    assert cpu is not None
    assert cpu.held is None
    assert [p.name for p in cpu.panels] == ["CPU", "Clock", "Resident"]


def test_the_times_of_the_lanes_add_up_to_the_time_shown(gpu_pair: Study) -> None:
    for run, a in enumerate(gpu_pair.analyses):
        for marks in (6, 600):  # whatever is drawn
            line = timeline(a, run, marks)
            assert line is not None
            assert sum(lane.time_us for lane in line.lanes) + line.other_us == pytest.approx(line.length_us)


def test_parts_of_a_step_do_not_look_like_runs() -> None:
    css = (Path(render.__file__).parent / "assets" / "style.css").read_text(encoding="utf-8")
    runs = set(re.findall(r"--run-[01]:(#[0-9a-f]{6})", css))
    assert len(runs) == 4
    assert not runs & {value.lower() for value in PART_COLOURS.values()}
    blue, orange = "#0173b2", "#de8f05"
    assert not {blue, orange} & {value.lower() for value in PART_COLOURS.values()}
