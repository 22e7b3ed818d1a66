"""Section "busy": whether the device is kept busy."""

from __future__ import annotations

from analyzer.format import count, digits, milliseconds, percent
from analyzer.insight.caveats import HOST_BOUND_PCT
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, number
from analyzer.report.figures.time import timelines
from analyzer.report.marks.time import MAX_MARKS, Timeline, timeline
from analyzer.report.sections.waiting import idle_table, link_table
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study


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
        title = "One representative step" if all(line.step >= 0 for line in shown) else "The traced window"
        blocks.append(Figure("fig3", title, _how(shown, gpu), timelines(shown, title), _table(shown)))
    blocks += [table for table in (idle_table(study), link_table(study)) if table is not None]
    blocks += [Prose(f"{clean(a.label, 60)} covers {clean(a.window.source, 300)}.", Evidence.DERIVED) for a in study.analyses]
    heading = "Is the GPU kept busy?" if gpu else "Is the processor kept busy with operators?"
    return Section("busy", heading, "Busy", tuple(blocks))


def _sentence(a: Analysis, line: Timeline) -> str:
    steps = a.window.batches or 1
    launches = f"{count(a.totals.kernel_count / steps)} {'launches' if a.device.type == 'cuda' else 'operators that do work'}"
    unit = "per step" if a.window.batches else "in the whole trace"
    share = a.totals.idle_pct
    label = clean(a.label, 60)
    if a.device.type != "cuda":
        wrappers = milliseconds(a.totals.dispatch_us / steps)
        return (
            f"{label}: {percent(share)} of the traced time lies between operators (Python, dispatch, the profiler's own cost; "
            f"{wrappers} {unit} is inside operators that only call others); {launches} {unit}."
        )
    word = "the host sets the pace" if share > HOST_BOUND_PCT else "the GPU is kept busy for most of it"
    where = " in the step shown" if line.step >= 0 else ""
    gaps = f"{count(line.gap_count)} gaps{where}, mean {milliseconds(line.mean_gap_us)}" if line.gap_count else "no gaps"
    return (
        f"{label}: the GPU is idle for {percent(share)} of the traced time, so {word} while traced; {launches} {unit}; {gaps}."
    )


def _how(lines: tuple[Timeline, ...], gpu: bool) -> str:
    joined = max((lane.joined_us for line in lines for lane in line.lanes), default=0.0)
    closed = f" Marks closer than {milliseconds(joined)} are drawn as one." if joined > 0 else ""
    what = (
        "No kernel, copy or fill runs where the lowest lane is filled."
        if gpu
        else "The lowest lane is time outside every operator."
    )
    start = "One step" if all(line.step >= 0 for line in lines) else "The traced window"
    return f"{start} from left to right. {what}{closed} For single events open the trace file in ui.perfetto.dev."


def _table(lines: tuple[Timeline, ...]) -> Table:
    rows = []
    for line in lines:
        for lane in line.lanes:
            total = sum(length for _, length in lane.spans)
            cells = (
                Cell(clean(line.label, 60)),
                Cell(lane.name),
                Cell(count(lane.count), float(lane.count)),
                number(total / 1e3, 3),
                Cell(percent(100 * total / line.length_us) if line.length_us else digits(0), total),
            )
            rows.append(Row(cells))
    heads = (
        Head("run"),
        Head("lane"),
        Head("events", "", True),
        Head("time drawn", "ms", True),
        Head("of the time shown", "%", True),
    )
    return Table(
        "busy-table", "What the timeline shows", heads, tuple(rows), note="Joined marks include the short gaps between them."
    )
