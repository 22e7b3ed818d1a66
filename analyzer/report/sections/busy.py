"""Section "busy": whether the device is kept busy."""

from __future__ import annotations

import math

import numpy as np

from analyzer.format import count, counted, milliseconds, percent
from analyzer.insight.caveats import HOST_BOUND_PCT, HOST_PACE_PCT
from analyzer.metrics.timing import union_ns
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, missing, number
from analyzer.report.figures.time import timelines
from analyzer.report.marks.time import MAX_MARKS, Timeline, timeline
from analyzer.report.sections.waiting import idle_table, link_table
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study
from analyzer.trace.link import is_replayed

EDGE_SHARE = 0.05
"""Idle time before the first kernel or after the last that is worth a sentence, as a share of the traced time."""


def section(study: Study) -> Section:
    """Return one representative step of each run, with its idle share in words."""
    limit = MAX_MARKS // len(study.analyses)
    lines = [(a, timeline(a, number_, limit)) for number_, a in enumerate(study.analyses)]
    shown = tuple(line for _, line in lines if line is not None)
    gpu = any(a.device.type == "cuda" for a in study.analyses)
    blocks: list[Block] = []
    for a, line in lines:
        if line is None:
            blocks.append(Notice(f"{clean(a.label, 60)}: the trace holds nothing that ran on the device."))
        else:
            blocks.append(Prose(_sentence(a, line), Evidence.MEASURED))
    if shown:
        title = _what(shown)[0]
        blocks.append(Figure("fig3", title, _how(shown, gpu), timelines(shown, title), _table(shown)))
    blocks += [table for table in (idle_table(study), link_table(study)) if table is not None]
    blocks += [Prose(f"{clean(a.label, 60)} covers {clean(a.window.source, 300)}.", Evidence.DERIVED) for a in study.analyses]
    heading = "Is the GPU kept busy?" if gpu else "Is the processor kept busy with operators?"
    return Section("busy", heading, "Busy", tuple(blocks))


def _sentence(a: Analysis, line: Timeline) -> str:
    steps = a.window.batches or 1
    launches = _launches(a, steps)
    unit = "per step" if a.window.batches else "in the whole trace"
    share = a.totals.idle_pct
    label = clean(a.label, 60)
    if a.device.type != "cuda":
        wrappers = milliseconds(a.totals.dispatch_us / steps)
        return (
            f"{label}: {percent(share)} of the traced time lies between operators (Python, dispatch, the profiler's own cost; "
            f"{wrappers} {unit} is inside operators that only call others); {launches} {unit}."
        )
    word = (
        "the host sets the pace"
        if share > HOST_PACE_PCT
        else "the GPU waits for a good part of it"
        if share > HOST_BOUND_PCT
        else "the GPU is kept busy for most of it"
    )
    where = " in the step shown" if line.step >= 0 else ""
    gaps = f"{count(line.gap_count)} gaps{where}, mean {milliseconds(line.mean_gap_us)}" if line.gap_count else "no gaps"
    return (
        f"{label}: the GPU is idle for {percent(share)} of the traced time, so {word} while traced; {launches} {unit}; {gaps}."
        f"{_edges(a)}"
    )


def _launches(a: Analysis, steps: int) -> str:
    """Return how much the host launches in words: kernels that one launch of a graph replays are told apart."""
    if a.device.type != "cuda":
        return f"{count(a.totals.kernel_count / steps)} operators, views among them"
    kernels = a.launches[a.launches["category"] == "kernel"]
    replayed = kernels[is_replayed(kernels)]
    if replayed.empty:
        return f"{count(len(kernels) / steps)} launches"
    graphs = len(replayed[["launch_ns", "correlation"]].drop_duplicates()) / steps
    alone = (len(kernels) - len(replayed)) / steps
    single = counted(alone, "kernel launched alone", "kernels launched one by one")
    whole = counted(graphs, "launch of a graph", "launches of graphs")
    return f"{single} and {whole} with {counted(len(replayed) / steps, 'kernel', 'kernels')}"


def _edges(a: Analysis) -> str:
    """Return a sentence on the idle time before the first kernel and after the last; empty where both are short."""
    window, wall = a.window, a.totals.wall_us
    start, stop, row = (np.asarray(column, dtype=np.int64) for column in a.segments)
    computing = a.launches["category"].eq("kernel").to_numpy()[row] if len(row) else np.zeros(0, bool)
    if window.stretches or not computing.any() or wall <= 0:
        return ""
    first, last = int(start[computing].min()), int(stop[computing].max())
    edges = (("before the first kernel", window.start_ns, first), ("after the last kernel", last, window.end_ns))
    said = []
    for where, begin, end in edges:
        busy = union_ns(np.clip(start, begin, end), np.clip(stop, begin, end)) if end > begin else 0
        idle = (end - begin - busy) / 1e3
        if idle > EDGE_SHARE * wall:
            said.append(f"{milliseconds(idle)} ({percent(100 * idle / wall)} of the traced time) {where}")
    return f" This counts start-up and end of the recording: idle {' and '.join(said)}." if said else ""


def _what(lines: tuple[Timeline, ...]) -> tuple[str, str]:
    """Return the title of the timeline and what one panel shows."""
    in_steps = [line.step >= 0 for line in lines]
    if all(in_steps):
        return "One representative step", "One step"
    if any(in_steps):
        return "One representative step, or the traced window", "One step, or the window of a trace without steps,"
    return "The traced window", "The traced window"


def _how(lines: tuple[Timeline, ...], gpu: bool) -> str:
    joined = max((lane.joined_us for line in lines for lane in line.lanes), default=0.0)
    closed = f" Marks closer than {milliseconds(joined)} are drawn as one." if joined > 0 else ""
    what = (
        "No kernel, copy or fill runs where the lowest lane is filled."
        if gpu
        else "The lowest lane is time outside every operator."
    )
    return f"{_what(lines)[1]} from left to right. {what}{closed} For single events open the trace file in ui.perfetto.dev."


def _table(lines: tuple[Timeline, ...]) -> Table:
    rows = []
    for line in lines:
        for lane in line.lanes:
            drawn = sum(length for _, length in lane.spans)
            rows.append(_lane_row(line, lane.name, lane.count, lane.time_us, drawn))
        if line.other_us > 0:
            rows.append(_lane_row(line, "work outside the selection", None, line.other_us, math.nan))
    heads = (
        Head("run"),
        Head("lane", meaning="a row of the timeline: a stream of the device, or what it shows beside them"),
        Head("events", "", True, Evidence.MEASURED, "kernels, copies, fills or operators in the time shown"),
        Head("time", "ms", True, Evidence.DERIVED, "a kernel or operator runs; a copy or fill and no kernel; nothing"),
        Head("of the time shown", "%", True, Evidence.DERIVED, "this time over the length of the time shown"),
        Head("length of the marks", "ms", True, Evidence.DERIVED, "what is drawn: close marks are joined"),
    )
    note = (
        "The times of a run add up to the time shown. The marks may be longer: those that lie close together are drawn as one, "
        "and copies are drawn also where a kernel runs beside them."
    )
    return Table("busy-table", "What the timeline shows", heads, tuple(rows), note=note)


def _lane_row(line: Timeline, name: str, events: int | None, time_us: float, drawn_us: float) -> Row:
    cells = (
        Cell(clean(line.label, 60)),
        Cell(name),
        Cell(count(events), float(events)) if events is not None else missing(),
        number(time_us / 1e3, 3),
        Cell(percent(100 * time_us / line.length_us if line.length_us else 0.0), time_us, Evidence.DERIVED),
        number(drawn_us / 1e3, 3),
    )
    return Row(cells)
