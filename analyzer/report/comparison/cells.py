"""Cells and columns that several sections of a comparison have in common."""

from __future__ import annotations

import math
from dataclasses import replace

from analyzer.format import counted, digits, fixed, interval, marked, ratio_places
from analyzer.report.blocks import Block, Cell, Figure, Table, missing
from analyzer.report.marks.comparison_names import device_name
from analyzer.schema.comparison import Comparison
from analyzer.schema.evidence import Evidence, Quantity

MEASURED, DERIVED, MODELLED, SPEC = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED, Evidence.SPEC
COLUMNS = 4
"""Runs that stand side by side as columns; more of them stand below each other."""
DEVICES = 4
"""Devices up to which a figure comes first; with more of them its table does."""


def with_numbers(comparison: Comparison, drawn: Figure, table: Table | None) -> list[Block]:
    """Return a figure with its numbers folded below it; with many devices the table, then the figure."""
    if table is None:
        return [drawn]
    if len({device_name(d) for d in comparison.runs}) > DEVICES:
        return [table, drawn]
    return [replace(drawn, table=table)]


def significant(value: float | None, evidence: Evidence = Evidence.MEASURED) -> Cell:
    """Return a figure with three digits whatever its size, for columns whose rows differ by orders of magnitude."""
    if value is None or not math.isfinite(value):
        return missing()
    return Cell(marked(digits(value), evidence), value, evidence)


def figure(found: Quantity, places: int) -> Cell:
    """Return the value of a figure with ``places`` decimals."""
    return (
        missing()
        if found.value is None
        else Cell(marked(fixed(found.value, places), found.evidence), found.value, found.evidence)
    )


def ratio(found: Quantity) -> Cell:
    """Return a ratio with the digits that its interval allows; its column has the unit."""
    return figure(found, ratio_places(found))


def ends(found: Quantity) -> Cell:
    """Return the 95 % interval of a figure as text, a dash where it has none."""
    text = interval(found)
    return Cell(text.replace(f" {found.unit}", ""), found.low) if text else Cell("–")


def cut_note(shown: int, total: int, one: str, many: str, file: str) -> str:
    """Return what is left out of a table and where it stands, empty where nothing is."""
    return f"{counted(total - shown, one, many)} more: {file} has all." if shown < total else ""


def ms_places(values: list[float]) -> int:
    """Return the decimals of a column of milliseconds, by its largest value."""
    top = max((abs(v) for v in values), default=0.0)
    return 1 if top >= 1000 else 2 if top >= 10 else 3
