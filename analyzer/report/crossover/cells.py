"""Cells and columns that several sections of a crossover report have in common."""

from __future__ import annotations

from dataclasses import replace

from analyzer.format import digits, fixed, interval, marked, times
from analyzer.insight.crossover.contests import OUTCOME_WORDS, Contest
from analyzer.insight.crossover.headline import longer
from analyzer.insight.crossover.result import Crossover
from analyzer.report.blocks import Cell, Head, Table, missing, number
from analyzer.report.figures.theme import RUNS
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence, Quantity

MEASURED, DERIVED, MODELLED = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
GLYPHS = "●▲■◆▼✚"
"""The signs of the template for runs; the markers of the figures have the same shapes."""
MODEL = Head("model", meaning="the model; its sign is that of its line in the figures")
DEVICE = Head("device", meaning="what the points were measured on")
BATCH = Head("batch", "images", True, MEASURED, "images in one batch, a setting")
SIZE = Head("image size", "px", True, MEASURED, "height and width of the images, a setting")
SETTING = Head(
    "setting",
    meaning="number format, then memory layout, implementation of attention, compilation, threads where they are not the "
    "preset or differ between points",
)
LOW = "2.5 % of the bootstrap draws lie below"
HIGH = "2.5 % of the bootstrap draws lie above"


def sign(model: int) -> str:
    """Return the sign of a model."""
    return GLYPHS[model % RUNS]


def short(found: Crossover, model: int, limit: int = 40) -> str:
    """Return the name of a model, fit to be shown."""
    return clean(found.grid.models[model].name, limit)


def signed_name(found: Crossover, model: int, limit: int = 40) -> str:
    """Return sign and name of a model."""
    return f"{sign(model)} {short(found, model, limit)}"


def device(found: Crossover, number_of: int, limit: int = 60) -> str:
    """Return the name of a device, fit to be shown."""
    return clean(found.grid.devices[number_of], limit)


def whole(value: int) -> Cell:
    """Return a cell with a whole number."""
    return Cell(fixed(value, 0), value)


def figures(figure: Quantity | None, places: int, factor: float = 1.0) -> tuple[Cell, Cell, Cell]:
    """Return value, low and high of a figure times ``factor`` as cells."""
    if figure is None or figure.value is None:
        return missing(), missing(), missing()
    ends = [missing() if end is None else number(end * factor, places) for end in (figure.low, figure.high)]
    return number(figure.value * factor, places, figure.evidence), ends[0], ends[1]


def rounded(value: float | None, evidence: Evidence) -> Cell:
    """Return a figure that has no interval with three digits, as missing where there is none."""
    return Cell(marked(digits(value), evidence), value, evidence) if value else missing()


def places_for(value: float) -> int:
    """Return the decimals that leave three digits of ``value``."""
    return 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3


def trim(table: Table, found: Crossover, *more: str) -> Table:
    """Return ``table`` without the columns that say nothing: the device where there is one, and those named ``more``."""
    gone = {*more, *(("device",) if len(found.grid.devices) < 2 else ())}
    kept = [n for n, head in enumerate(table.heads) if head.text not in gone]
    rows = tuple(replace(row, cells=tuple(row.cells[n] for n in kept)) for row in table.rows)
    return replace(table, heads=tuple(table.heads[n] for n in kept), rows=rows)


def outcome(contest: Contest | None, found: Crossover) -> Cell:
    """Return who takes less time, with how many times as long the other takes, or why there is no telling."""
    if contest is None:
        return Cell("not run")
    if contest.ratio is None:
        return Cell(_without(contest, found))
    _, fast, shown = longer(contest)
    span = f" ({interval(shown)})" if shown.low is not None else ""
    text = f"{times(shown)}{span}"
    if contest.outcome in ("first", "second"):
        return Cell(f"{signed_name(found, fast, 24)} {text}", contest.ratio.value)
    return Cell(f"{OUTCOME_WORDS[contest.outcome]}: {text}", contest.ratio.value)


def _without(contest: Contest, found: Crossover) -> str:
    why = clean(contest.why, 80)
    if contest.outcome == "neither":
        return f"no time: {why}"
    alone, other = (contest.first, contest.second) if contest.outcome == "first_only" else (contest.second, contest.first)
    return f"{signed_name(found, alone, 24)} alone; {sign(other)} {why}"
