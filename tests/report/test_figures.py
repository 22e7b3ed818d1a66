"""Figures: what they draw is what was computed, they leave nothing open, and the same input gives the same bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot

from analyzer.report.figures.theme import KIND_COLOURS
from analyzer.report.marks.gap import MAX_STEPS, UNEXPLAINED, steps
from analyzer.report.marks.roofline import MAX_MARKS, NAMED, _in_sight, roofline
from analyzer.report.marks.steady import MAX_POINTS, telemetry, thin
from analyzer.report.marks.time import IDLE, _lane, stacks, timeline
from analyzer.report.marks.time import MAX_MARKS as MAX_SPANS
from analyzer.report.render import page
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Gap, GapPart, Study
from analyzer.trace.kinds import KINDS


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
    assert found[-1].kind == UNEXPLAINED
    assert found[-1].end_us == pytest.approx(gpu_pair.gap.first_us)
    sizes = [abs(step.delta_us) for step in found[:-1]]
    assert sizes == sorted(sizes, reverse=True)


def test_waterfall_joins_small_kinds() -> None:
    parts = tuple(GapPart(kind, "time", 20.0 - i, 0.0, Evidence.MEASURED, explained=True) for i, kind in enumerate(KINDS))
    gap = Gap("a", "b", sum(p.first_us for p in parts), 0.0, "traced time per step", parts)
    found = steps(gap)
    assert len(found) == MAX_STEPS + 1
    assert found[-2].label == f"{len(KINDS) - MAX_STEPS + 1} smaller kinds"
    assert found[-1].end_us == pytest.approx(gap.first_us)


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
    lane = _lane("x", start, start + 10, limit)
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
