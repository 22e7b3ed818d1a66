"""What a page is made of: sections of blocks. Sections hold numbers and words; only the template knows HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import ClassVar

from analyzer.format import MISSING, fixed, fixed_signed, marked
from analyzer.schema.evidence import Evidence

SORTABLE_ROWS = 6
RUN_HEADS, KIND_HEADS = ("run", "model"), ("kind", "pattern")


@dataclass(frozen=True, slots=True)
class Head:
    """A column. ``evidence`` puts a badge into the header, ``meaning`` goes to the glossary.

    A numeric column has both; one whose rows differ in evidence has a column of badges beside it instead.
    """

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
    """A table; the first cell of each row is its header.

    More than SORTABLE_ROWS rows make it sortable and filterable. ``open_rows`` > 0 does so too, gives it the width of the
    window and folds the rows behind them. ``fixed_order``: the order of the rows means something (a tree), so that they can be
    filtered but not sorted.
    """

    template: ClassVar[str] = "table"
    id: str
    caption: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    note: str = ""
    open_rows: int = 0
    fixed_order: bool = False

    @property
    def interactive(self) -> bool:
        """Return whether the table has filters, and buttons to sort it unless its order is fixed."""
        return self.open_rows > 0 or sum(not row.total for row in self.rows) > SORTABLE_ROWS

    @property
    def labels(self) -> list[tuple[Row, str, str]]:
        """Return (row, run, kind) in order: what the filters look at, from the cells where a row does not say it itself."""
        places = {head.text: place for place, head in reversed(list(enumerate(self.heads)))}
        run, kind = (next((places[name] for name in names if name in places), None) for names in (RUN_HEADS, KIND_HEADS))
        return [
            (row, row.run or (row.cells[run].text if run is not None else ""), row.kind or _kind(row, kind))
            for row in self.rows
        ]

    @property
    def runs(self) -> int:
        """Return how many runs the rows tell apart."""
        return len({run for row, run, _ in self.labels if run and not row.total})

    @property
    def kinds(self) -> int:
        """Return how many kinds the rows tell apart."""
        return len({kind for row, _, kind in self.labels if kind and not row.total})

    @property
    def groups(self) -> list[tuple[Evidence | None, int]]:
        """Return (evidence, number of columns) of neighbouring columns that have it in common."""
        return [(level, len(list(heads))) for level, heads in groupby(self.heads, key=lambda head: head.evidence)]


def _kind(row: Row, place: int | None) -> str:
    """Return the kind that a row shows as a chip, or in the column of kinds at ``place``."""
    return next((cell.chip for cell in row.cells if cell.chip), "") or (row.cells[place].text if place is not None else "")


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


@dataclass(frozen=True, slots=True)
class Link:
    """One line of Links: what it is, the text, where it leads (empty: nowhere, the text alone is shown), and how to use it."""

    term: str
    text: str
    href: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """A titled list of places outside the page. Nothing is fetched from them until a reader follows one."""

    template: ClassVar[str] = "links"
    title: str
    items: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class SavingBar:
    """What a change may save, in words, as shares of a step in words, and both ends of the bar in % of the step."""

    text: str
    share: str
    low_pct: float
    high_pct: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Card:
    """One finding. ``facts`` are (name, figure, evidence); ``run`` is empty where there is one run, ``place`` its number.

    ``target`` is the section that shows more; a page without it has no link.
    """

    title: str
    run: str
    place: int
    claim: str
    facts: tuple[tuple[str, str, Evidence], ...]
    saving: SavingBar | None
    effort: str
    disproof: str
    target: str


@dataclass(frozen=True, slots=True)
class Cards:
    """Findings one below the other, behind their title where ``folded``."""

    template: ClassVar[str] = "cards"
    id: str
    title: str
    items: tuple[Card, ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One row of a Tree and what is below it; ``share_pct`` is the length of its bar.

    ``rest`` rows stand for several small ones.
    """

    cells: tuple[Cell, ...]
    share_pct: float
    children: tuple[Node, ...] = ()
    open: bool = False
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """A table whose rows lie below one another and can be folded, also without a script.

    The first cell of a row is its name, the second one the share that its bar shows. ``run`` gives the bars their colour.
    """

    template: ClassVar[str] = "tree"
    id: str
    caption: str
    heads: tuple[Head, ...]
    nodes: tuple[Node, ...]
    title: str = ""
    run: int = 0
    note: str = ""


Block = Table | Figure | Prose | Notice | Alert | Listing | Folded | Links | Cards | Tree


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


def tables_of(blocks: Iterable[Block]) -> Iterator[Table]:
    """Yield every table among ``blocks``, those of figures and those behind summary lines included."""
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Figure) and block.table is not None:
            yield block.table
        elif isinstance(block, Folded):
            yield from tables_of(block.blocks)
        elif isinstance(block, Tree):
            yield Table(block.id, block.caption, block.heads, ())
