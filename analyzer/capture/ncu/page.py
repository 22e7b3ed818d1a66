"""The raw page that ``ncu --import`` prints, and several of them joined to one ``counters.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import TraceError

PASSES = "profiler__replayer_passes"
_PROCESS = "Process ID"
_IDENTITY = ("ID", _PROCESS, "Kernel Name", "Context", "Stream", "Block Size", "Grid Size", "Device", "CC")
"""Columns that are no metrics and that a run keeps. The names of the process and of the host are left out."""

_NEEDED = frozenset({"ID", "Kernel Name"})
_MAX_BYTES = 1 << 28
_MAX_PREAMBLE = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One raw page: the names of its columns, the unit of each, and a row per launch."""

    header: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the columns that hold metrics: their names have two underscores."""
        return tuple(name for name in self.header if "__" in name)

    def column(self, name: str) -> list[float]:
        """Return the figures of a column, NaN where a cell holds none; empty without such a column."""
        if name not in self.header:
            return []
        position = self.header.index(name)
        return [_figure(row[position]) for row in self.rows]

    def counted(self) -> frozenset[str]:
        """Return the metrics with at least one figure: one that ncu does not know has no column, or ``n/a`` in every cell."""
        return frozenset(name for name in self.metrics if not all(map(math.isnan, self.column(name))))


def _figure(cell: str) -> float:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return math.nan


def read_page(path: Path) -> Page:
    """Return the page that ncu printed to ``path``.

    Raises:
        TraceError: it printed something else, or no launch at all.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise TraceError(f"ncu printed more than {_MAX_BYTES >> 20} MiB")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(_from_header(file), strict=True)
            header, units, *rows = (tuple(row) for row in lines if row)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise TraceError("what ncu printed is no table of counters") from error
    if not set(header) >= _NEEDED or len(set(header)) < len(header):
        raise TraceError("what ncu printed is no table of counters")
    if any(len(row) != len(header) for row in (units, *rows)):
        raise TraceError("what ncu printed ends in the middle of a row")
    if not units[header.index("ID")].strip():
        return _of_launches(header, units, rows)
    return _of_launches(header, ("",) * len(header), [units, *rows])  # no row of units: --print-units base has one


def _of_launches(header: tuple[str, ...], units: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Page:
    if not rows:
        raise TraceError("ncu counted no kernel")
    return Page(header, units, tuple(rows))


def _from_header(lines: Iterable[str]) -> Iterable[str]:
    """Yield lines from the header on; what a program or ncu says stands before it."""
    begun = False
    for number, line in enumerate(lines):
        begun = begun or (line.startswith(('"ID"', "ID,")) and "Kernel Name" in line)
        if begun and not line.startswith("=="):
            yield line
        elif number > _MAX_PREAMBLE:
            return


def write_joined(pages: Sequence[Page], path: Path) -> None:
    """Write ``pages`` as one raw page to ``path``, whole or not at all: the rows of one after those of the other.

    The columns are those of all; ``Process ID`` is the number of the page from 1 on; cells of other pages are empty.
    """
    names = {name: None for page in pages for name in page.header if name in _IDENTITY and name != _PROCESS}
    identity = [name for name in _IDENTITY if name == _PROCESS or name in names]
    columns = [*identity, *dict.fromkeys(name for page in pages for name in page.metrics)]
    units = {name: unit for page in reversed(pages) for name, unit in zip(page.header, page.units, strict=True)}
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            out.writerow(columns)
            out.writerow([units.get(name, "") if "__" in name else "" for name in columns])
            for number, page in enumerate(pages, 1):
                for row in page.rows:
                    cells = dict(zip(page.header, row, strict=True)) | {_PROCESS: str(number)}
                    out.writerow([cells.get(name, "") for name in columns])
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
