"""Section "host": which calls and which modules take the time, what steps are made of, and from which lines of Python."""

from __future__ import annotations

from dataclasses import replace

from analyzer.format import count, milliseconds, percent
from analyzer.metrics.trees import merge_numbered
from analyzer.report.blocks import Block, Figure, Notice, Prose, Section, Tree
from analyzer.report.figures.steps import limits_us
from analyzer.report.figures.steps import steps as draw_steps
from analyzer.report.marks.host import MAX_BARS, StepBar, StepBars, step_bars
from analyzer.report.sections.host_tables import stack_table, steps_table, tree_block
from analyzer.report.text import clean, run_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.profile import HostView
from analyzer.schema.results import Analysis, Study

ID, SHORT = "host", "Operators and modules"
MAX_ROWS = 260
"""Rows of all trees of one sort on a page."""

TITLES = {"operators": "Tree of operators", "modules": "Tree of modules"}
_FIRST = "Each moment counts once, for the first of these that happens:"
HOW_GPU = (
    f"{_FIRST} a kernel runs, a copy, a fill; the host is in a call of the runtime or driver; it waits for a data loader; it "
    "is inside an operator; none of these. Host time that a kernel hides is therefore not seen here."
)
HOW_CPU = f"{_FIRST} the host waits for a data loader; it is inside an operator; none of these."


def section(study: Study) -> Section | None:
    """Return the steps, trees and call stacks of all runs; None where no run has any."""
    views = [(run, a, a.host) for run, a in enumerate(study.analyses) if a.host is not None]
    if not views:
        return None
    gpu = any(a.device.type == "cuda" for _, a, _ in views)
    blocks: list[Block] = [*_steps(study)]
    for which, title in TITLES.items():
        trees = [tree for run, a, view in views for tree in _tree(run, a, view, which, MAX_ROWS // len(views))]
        blocks += [replace(tree, title="" if place else title) for place, tree in enumerate(trees)]
    table = stack_table(study)
    blocks += [table] if table else []
    blocks += [Notice(text) for text in _missing(views)]
    said = [f"{clean(a.label, 60)}: {text}." for _, a, view in views for text in view.left_out]
    blocks += [Notice(text.replace(" %", "\u00a0%")) for text in said]
    heading = "Which calls and modules launch the work?" if gpu else "Which calls and modules take the time?"
    return Section(ID, heading, SHORT, tuple(blocks))


def _steps(study: Study) -> list[Block]:
    each = MAX_BARS if len(study.analyses) == 1 else MAX_BARS // 2
    found = tuple(bars for run, a in enumerate(study.analyses) if (bars := step_bars(a, run, each)) is not None)
    drawn = tuple(bars for bars in found if any(bar.total_us > 0 for bar in bars.bars))
    if not drawn:
        return []
    by_step = [bool(study.analyses[bars.run].steps) for bars in drawn]
    title = "What a step is made of" if any(by_step) else "What the traced time is made of"
    gpu = any(study.analyses[bars.run].device.type == "cuda" for bars in drawn)
    one = "The bar is the traced time." if len(drawn) == 1 else "Each bar is the traced time of a run."
    some = "Each bar is one step, or the traced time where the trace names no steps."
    bar = "Each bar is one step." if all(by_step) else some if any(by_step) else one
    apart = " The runs differ so much that each has a time axis of its own." if len(set(limits_us(drawn))) > 1 else ""
    how = f"{bar}{apart} {HOW_GPU if gpu else HOW_CPU}"
    drawing = draw_steps(drawn, title, tuple(" per step" if steps else " in the trace" for steps in by_step))
    blocks: list[Block] = [Prose(_lead(bars, study.analyses[bars.run]), Evidence.MEASURED) for bars in drawn]
    blocks.append(Figure("fig-steps", title, how, drawing, steps_table(drawn), _grouped(drawn)))
    return blocks


def _lead(bars: StepBars, a: Analysis) -> str:
    mean = bars.mean
    what = f"a step takes {milliseconds(mean.total_us)}" if a.steps else f"{milliseconds(mean.total_us)} were traced"
    of = f", mean of {count(mean.steps)}" if mean.steps > 1 else ""
    return f"{clean(a.label, 60)}: {what}{of}; of it {_largest(mean)}."


def _largest(bar: StepBar) -> str:
    parts = sorted((part for part in bar.parts if part[1] > 0), key=lambda part: -part[1])[:3]
    return ", ".join(f"{_SAID[name]} {percent(100 * value / bar.total_us)}" for name, value in parts) or "nothing is known"


_SAID = {
    "kernel": "kernels",
    "memcpy": "copies alone",
    "memset": "fills alone",
    "runtime": "the host in the runtime",
    "dataloader": "waiting for data",
    "host": "the host in operators",
    "other": "anything else, such as Python between operators",
}


def _grouped(found: tuple[StepBars, ...]) -> str:
    said = [
        f"{run_label(bars.label, 40)}: each bar is the mean of up to {count(bars.each)} steps in a row, because there are "
        f"{count(bars.mean.steps)}."
        for bars in found
        if bars.each > 1
    ]
    return " ".join(said)


def _tree(run: int, a: Analysis, view: HostView, which: str, limit: int) -> list[Tree]:
    tree = view.operators if which == "operators" else view.modules
    if tree.empty:
        return []
    return [tree_block(run, a, merge_numbered(tree) if which == "modules" else tree, which, limit)]


def _missing(views: list[tuple[int, Analysis, HostView]]) -> list[str]:
    """Return one line per thing that runs cannot show, with the reason; the same of several runs said once."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, a, view in views:
        for table, reason in view.silent:
            found.setdefault((table, reason), []).append(clean(a.label, 60))
    return [
        f"{', '.join(labels) if len(views) > len(labels) else 'Not shown'}: {_WHAT[table]}: {reason}."
        for (table, reason), labels in found.items()
    ]


_WHAT = {
    "operators": "no tree of operators",
    "modules": "no tree of modules",
    "stacks": "no grouping by call stack",
    "dataloader": "no data loading",
    "runtime": "no time in the runtime",
}
