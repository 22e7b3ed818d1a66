"""Section "time": where the time goes in each run, by kind."""

from __future__ import annotations

from analyzer.format import counted, milliseconds, percent
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Row, Section, Table, number
from analyzer.report.comparison.cells import COLUMNS, MEASURED, ms_places, with_numbers
from analyzer.report.figures.comparison import stack_chart
from analyzer.report.marks.comparison import drawn_stacks, stack
from analyzer.report.marks.comparison_names import chart_lines, run_titles
from analyzer.report.marks.time import IDLE, Stack
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison
from analyzer.schema.evidence import Evidence
from analyzer.trace.kinds import KINDS

KIND_COLUMNS = 8
HOW = (
    "A longer bar takes longer; where runs do different work, as their names say, it is not slower for that. The upper bars "
    "share one axis of time, so their lengths can be compared. The lower bars leave idle time out and show the mix alone. "
    "Kinds keep one order and one colour; segments below 6 % carry no label. All of it is traced time."
)
MEANING = "traced time of the kind in this run, per batch where the trace has steps; kernels that overlap share the moment"


def section(comparison: Comparison) -> Section:
    """Return the stacks of the runs, or of the shortest and longest, and the times of all."""
    stacks = tuple(stack(d, run) for run, d in enumerate(comparison.runs))
    titles = run_titles(comparison)
    empty = [titles[s.run] for s in stacks if s.busy_us <= 0]
    blocks: list[Block] = []
    if empty:
        blocks.append(Notice(f"Nothing to show for {', '.join(empty[:6])}: no kernels and no operators that do work."))
    drawn = drawn_stacks(stacks)
    if not drawn:
        return Section("time", "Where did the time go?", "Kinds", tuple(blocks))
    filled = tuple(s for s in stacks if s.busy_us > 0)
    table = _wide(filled, titles) if len(filled) <= COLUMNS else _long(filled, titles)
    title = "Time by kind"
    svg = stack_chart(drawn, chart_lines(comparison), title)
    left = len(filled) - len(drawn)
    caption = (
        f"Drawn are the runs with the least and the most busy time; {counted(left, 'other is', 'others are')} in the table."
        if left
        else ""
    )
    drawing = Figure("fig-time", title, HOW, svg, None, caption, table_open=len(filled) > COLUMNS)
    blocks += with_numbers(comparison, drawing, table)
    return Section("time", "Where did the time go?", "Kinds", tuple(blocks))


def _kinds(stacks: tuple[Stack, ...]) -> list[str]:
    return [kind for kind in KINDS if any(us > 0 for s in stacks for name, us in s.parts if name == kind)] + [IDLE]


def _wide(stacks: tuple[Stack, ...], titles: tuple[str, ...]) -> Table:
    values = [dict(s.parts) for s in stacks]
    places = ms_places([s.total_us / 1e3 for s in stacks])
    rows = []
    for kind in _kinds(stacks):
        cells = [Cell(kind, chip=kind)]
        for one, parts in zip(stacks, values, strict=True):
            us = parts.get(kind, 0.0)
            cells += [
                number(us / 1e3, places),
                Cell("–") if kind == IDLE else number(100 * us / one.busy_us, 1, Evidence.DERIVED),
            ]
        rows.append(Row(tuple(cells)))
    heads = [Head("kind")]
    for one in stacks:
        heads += [
            Head(clean(titles[one.run], 60), "ms" if one.steps else "ms, whole trace", True, MEASURED, MEANING),
            Head(
                "of busy time", "%", True, Evidence.DERIVED, "share of the time in which something ran; idle time has no share"
            ),
        ]
    return Table("time-table", "Time by kind", tuple(heads), tuple(rows))


def _large(stacks: tuple[Stack, ...]) -> list[str]:
    """Return the kinds that get a column: those with the largest share of the busy time of some run."""
    top = {kind: max(dict(s.parts).get(kind, 0.0) / s.busy_us for s in stacks) for kind in _kinds(stacks) if kind != IDLE}
    chosen = sorted(top, key=lambda kind: -top[kind])[:KIND_COLUMNS]
    return [kind for kind in KINDS if kind in chosen]


def _long(stacks: tuple[Stack, ...], titles: tuple[str, ...]) -> Table:
    kinds = _large(stacks)
    rows = []
    for one in stacks:
        parts = dict(one.parts)
        shares = (number(100 * parts.get(kind, 0.0) / one.busy_us, 1, Evidence.DERIVED) for kind in kinds)
        cells = (
            Cell(titles[one.run]),
            Cell("batch" if one.steps else "whole trace"),
            Cell(milliseconds(one.busy_us), one.busy_us / 1e3, MEASURED),
            Cell(percent(100 * parts[IDLE] / one.total_us), 100 * parts[IDLE] / one.total_us, MEASURED),
            *shares,
            number(max(100 - sum(100 * parts.get(kind, 0.0) / one.busy_us for kind in kinds), 0.0), 1, Evidence.DERIVED),
        )
        rows.append(Row(cells))
    heads = (
        Head("run"),
        Head("of", meaning="what the busy time is that of: one batch, or the whole trace where it does not divide into steps"),
        Head("busy", "", True, MEASURED, "time in which a kernel, copy or fill (on a CPU: an operator that does work) ran"),
        Head("idle", "", True, MEASURED, "share of the traced time in which nothing ran"),
        *(Head(kind, "%", True, Evidence.DERIVED, f"share of the busy time that is {kind}") for kind in kinds),
        Head("other kinds", "%", True, Evidence.DERIVED, "share of the busy time in kinds without a column of their own"),
    )
    return Table("shares-table", "Shares of the busy time by kind", heads, tuple(rows))
