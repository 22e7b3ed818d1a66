"""The blocks of a validation: what the section of a report on counters shows of it, and the page of ``task=validate``."""

from __future__ import annotations

from analyzer.insight.validation.words import (
    blocks_of,
    extent,
    fitted_note,
    left_out_lines,
    overall_note,
    refit_sentence,
    shipped_rows,
    verdict,
)
from analyzer.report.blocks import Block, Figure, Folded, Listing, Notice, Prose
from analyzer.report.figures.validation import ID, scatter
from analyzer.report.text import clean
from analyzer.report.validation.marks import MAX_MARKS, Panel, panels, title_of
from analyzer.report.validation.tables import (
    class_table,
    half_table,
    kernel_table,
    left_out_table,
    mode_listing,
    parameter_table,
)
from analyzer.schema.evidence import Evidence
from analyzer.schema.validation import Validation

HOW = (
    "Each mark is one distinct kernel. On the line the prediction is exact, above it too high. A vertical line is a band: "
    "replacement policies, and every plausible order of tiles where the order is not known. Small marks are not scored. Hollow "
    "marks helped to fit the shipped parameters, so they flatter the model."
)
NOTHING = "No figure was counted that the models predict."


def validation_blocks(v: Validation) -> list[Block]:
    """Return verdicts, scatter, errors by class, parameters, kernels and what was left out; one line where there is nothing."""
    if not v.predictions:
        return [Notice(" ".join((NOTHING, *(clean(f"{text}.", 300) for text in left_out_lines(v)[:3]))))]
    return [
        *verdict_blocks(v),
        *figure_blocks(v),
        *parameter_blocks(v),
        Folded("Each kernel", (kernel_table(v),)),
        *left_blocks(v),
    ]


def verdict_blocks(v: Validation) -> list[Block]:
    """Return a sentence per quantity and state of the caches."""
    rows = blocks_of(shipped_rows(v))
    lines = tuple((f"{title_of(quantity)}, {mode}", verdict(quantity, mode, mine)) for quantity, mode, mine in rows)
    notes = " ".join(note for note in (extent(v), fitted_note(v), overall_note(v)) if note)
    found: list[Block] = [Listing("How far the models were off, in one sentence each", lines)] if lines else []
    return [*found, Prose(notes)] if notes else found


def figure_blocks(v: Validation) -> list[Block]:
    """Return the scatter with the table of errors below it, and what the words of the table mean."""
    title = "Predicted against measured"
    drawn = panels(v)
    table = class_table(v)
    states = Listing("What the words for the caches mean", mode_listing(v), folded=True)
    if not drawn:
        return [table, states] if table.rows else []
    numbers = table if table.rows else None
    return [Figure(ID, title, HOW, scatter(drawn, title), numbers, _undrawn(drawn), table_open=True), states]


def _undrawn(drawn: tuple[Panel, ...]) -> str:
    """Return how many kernels have no mark, empty where all have one."""
    most = max(panel.left_out for panel in drawn)
    return f"Up to {MAX_MARKS} kernels a panel, those with most time; up to {most} more stand in the tables." if most else ""


def parameter_blocks(v: Validation) -> list[Block]:
    """Return what fitting anew on one half changes on the other, and the parameters."""
    if not v.parameters:
        return []
    tables = tuple(table for table in (parameter_table(v), half_table(v)) if table.rows)
    return [Prose(refit_sentence(v), Evidence.DERIVED), Folded("Parameters, and the error on each half", tables)]


def left_blocks(v: Validation) -> list[Block]:
    """Return what could not be compared or is not scored, folded."""
    return [Folded("What was not compared, or is not scored, and why", (left_out_table(v),))] if v.left_out else []
