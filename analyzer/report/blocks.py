"""What a page is made of: sections of blocks. Sections hold numbers and words; only the template knows HTML."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import ClassVar

from analyzer.format import MISSING, fixed, fixed_signed, marked
from analyzer.schema.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Head:
    """A column. ``evidence`` puts a badge into the header, ``meaning`` goes to the glossary."""

    text: str
    unit: str = ""
    numeric: bool = False
    evidence: Evidence | None = None
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``value`` is the number behind the text, for sorting and for tests; ``badge`` shows the evidence as a word.

    ``remark`` stands below the text in small type; ``detail`` behind it, folded.
    """

    text: str
    value: float | None = None
    evidence: Evidence | None = None
    badge: bool = False
    chip: str = ""
    remark: str = ""
    detail: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row. ``marked`` rows stand out; ``run`` and ``kind`` are what the filters look at."""

    cells: tuple[Cell, ...]
    marked: bool = False
    total: bool = False
    run: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its header. ``open_rows`` > 0 makes it sortable and folds the rest."""

    template: ClassVar[str] = "table"
    id: str
    caption: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    note: str = ""
    open_rows: int = 0

    @property
    def groups(self) -> list[tuple[Evidence | None, int]]:
        """Return (evidence, number of columns) of neighbouring columns that have it in common."""
        return [(level, len(list(heads))) for level, heads in groupby(self.heads, key=lambda head: head.evidence)]


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its title, one line on how to read it, and its numbers."""

    template: ClassVar[str] = "figure"
    id: str
    title: str
    how_to_read: str
    svg: str
    table: Table | None = None
    caption: str = ""
    table_open: bool = False


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph, with the weakest evidence of its numbers where it has some."""

    template: ClassVar[str] = "prose"
    text: str
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One line that says what is missing, why, and how to get it."""

    template: ClassVar[str] = "notice"
    text: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A card: ``error`` for figures that cannot be true and are therefore not shown, ``note`` for an explanation.

    ``items`` are (what it is about, what is wrong with it).
    """

    template: ClassVar[str] = "alert"
    title: str
    items: tuple[tuple[str, str], ...]
    level: str = "error"


@dataclass(frozen=True, slots=True)
class Listing:
    """A titled list of lines, folded where ``folded``. Terms may be empty."""

    template: ClassVar[str] = "listing"
    title: str
    items: tuple[tuple[str, str], ...]
    folded: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks behind a summary line."""

    template: ClassVar[str] = "folded"
    title: str
    blocks: tuple[Table, ...]


Block = Table | Figure | Prose | Notice | Alert | Listing | Folded


@dataclass(frozen=True, slots=True)
class Reading:
    """One line of a tile: whose figure, the figure, and a remark such as its interval."""

    name: str
    text: str
    evidence: Evidence
    remark: str = ""
    run: int = -1


@dataclass(frozen=True, slots=True)
class Tile:
    """A few figures under one label."""

    label: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page; ``heading`` is a question, ``short`` its name in the navigation."""

    id: str
    heading: str
    short: str
    blocks: tuple[Block, ...] = field(default=())


def number(value: float, places: int, evidence: Evidence = Evidence.MEASURED) -> Cell:
    """Return a numeric cell; NaN becomes ``n/a`` and counts as unavailable."""
    if not math.isfinite(value):
        return missing()
    return Cell(marked(fixed(value, places), evidence), value, evidence)


def difference(value: float, places: int, evidence: Evidence = Evidence.MEASURED) -> Cell:
    """Return a numeric cell with a sign."""
    if not math.isfinite(value):
        return missing()
    return Cell(marked(fixed_signed(value, places), evidence), value, evidence)


def missing() -> Cell:
    """Return the cell of a figure that is not available."""
    return Cell(MISSING, None, Evidence.UNAVAILABLE)


def badge(evidence: Evidence) -> Cell:
    """Return a cell that names the evidence of its row."""
    return Cell(evidence.value, evidence=evidence, badge=True)
