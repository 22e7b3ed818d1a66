"""Section "time": where the time goes, by kind."""

from __future__ import annotations

import math

from analyzer.format import milliseconds, percent
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, number
from analyzer.report.figures.time import stacked
from analyzer.report.marks.time import IDLE, Stack, idle_word, stacks
from analyzer.report.sections.ledger_tables import cause_listing, run_table
from analyzer.report.text import clean, run_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

HOW = (
    "Longer is slower. Kinds keep one order and one colour in every report; segments below 6 % carry no label. The lower bars "
    "leave idle time out, so that runs with much idle time can be compared."
)

TIME_MEANING = "time of the kinds in this run; a moment in which k kernels (CPU: operators) run gives each of them 1/k"


def section(study: Study) -> Section:
    """Return the stacks of all runs that launched something."""
    found = stacks(study.analyses)
    filled = [s for s in found if s.busy_us > 0]
    blocks: list[Block] = [
        Notice(
            f"{clean(found[i].label, 60)}: nothing to show, because the trace holds no "
            f"{'kernels; record it with CUDA activities on' if a.device.type == 'cuda' else 'operators that do work'}."
        )
        for i, a in enumerate(study.analyses)
        if found[i].busy_us <= 0
    ]
    if filled:
        idle = " / ".join(dict.fromkeys(idle_word(a) for a in study.analyses))
        title = "Time by kind"
        blocks += [Prose(_lead(stack)) for stack in filled]
        blocks.append(Figure("fig2", title, HOW, stacked(tuple(filled), idle, title), _table(study.analyses, found, idle)))
    if filled and study.gap is None:
        blocks.append(run_table(study.ledgers))
        blocks.append(cause_listing({entry.term for ledger in study.ledgers for entry in ledger.entries}))
    return Section("time", "Where does the time go?", "Time", tuple(blocks))


def _lead(stack: Stack) -> str:
    largest = sorted((part for part in stack.parts if part[0] != IDLE), key=lambda part: -part[1])[:3]
    named = ", ".join(f"{kind} {milliseconds(value)} ({percent(100 * value / stack.busy_us)})" for kind, value in largest)
    steps = (
        f"per step, mean of {stack.steps}"
        if stack.steps and stack.steps > 1
        else "per step"
        if stack.steps
        else "in the whole trace"
    )
    return f"{clean(stack.label, 60)}: {milliseconds(stack.busy_us)} busy {steps}, traced; most of it {named}."


def _table(analyses: tuple[Analysis, ...], found: tuple[Stack, ...], idle: str) -> Table:
    kinds = list(dict.fromkeys(kind for a in analyses for kind in a.kinds["kind"]))
    values = [dict(stack.parts) for stack in found]
    rows = []
    for kind in [*kinds, IDLE]:
        cells = [Cell(idle if kind == IDLE else kind, chip=kind)]
        for stack, parts in zip(found, values, strict=True):
            us = parts.get(kind, 0.0)
            busy = 100 * us / stack.busy_us if stack.busy_us and kind != IDLE else math.nan
            cells += [number(us / 1e3, 3), number(busy, 1) if kind != IDLE else Cell("–")]
        rows.append(Row(tuple(cells)))
    total = [Cell("sum")]
    for stack in found:
        total += [number(stack.total_us / 1e3, 3), number(100.0 if stack.busy_us else math.nan, 1)]
    rows.append(Row(tuple(total), total=True))
    what = "kernels" if any(a.device.type == "cuda" for a in analyses) else "operators"
    heads = [Head("kind")]
    for stack in found:
        label = run_label(stack.label, 30)
        heads += [
            Head(label, "ms per step" if stack.steps else "ms in the trace", True, Evidence.MEASURED, TIME_MEANING),
            Head("of busy time", "%", True, Evidence.DERIVED, "of the time in which something ran; idle time has no share"),
        ]
    return Table(
        "time-table", f"Time by kind; a moment in which two {what} run counts half for each", tuple(heads), tuple(rows)
    )
