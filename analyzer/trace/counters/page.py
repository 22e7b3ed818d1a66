"""The pages that ``ncu --csv`` prints, as columns of numbers: raw (a line per launch) and details (a line per metric)."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from analyzer.trace.counters.header import Header, metric_name, read_header
from analyzer.trace.counters.numbers import Digits, unit_scale

MAX_ROWS = 500_000
MAX_CELLS = 60_000_000
MAX_NAME_CHARS = 100_000
_CACHE_CONTROL = re.compile(r"--cache-control[ =]+(none|all)")
_VERSION = re.compile(r"(?:Nsight Compute|ncu)\D{0,20}(20\d\d\.\d+(?:\.\d+)*)")
_COUNTS = ("byte", "inst", "sector", "cycle", "request", "ns", "nsecond")
"""Units of sums that have no fraction."""


class TooLargeError(ValueError):
    """More launches or values than are read."""


@dataclass
class Page:
    """What a file holds, a list entry per counted launch; ``values`` has a column per metric, NaN where absent.

    ``part`` counts the headers before a launch. ``errors`` are what ncu said in between, ``mode`` and ``version`` what
    lines of comment tell, ``damaged`` the lines that are cut off, ``units`` those that are not known.
    """

    digits: Digits
    ids: list[int] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    process: list[str] = field(default_factory=list)
    device: list[str] = field(default_factory=list)
    kernel: list[str] = field(default_factory=list)
    grid: list[str] = field(default_factory=list)
    block: list[str] = field(default_factory=list)
    values: dict[str, array[float]] = field(default_factory=dict)
    capabilities: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    damaged: int = 0
    without_units: bool = False
    without_ids: bool = False
    metricless: bool = False
    mode: str = ""
    version: str = ""

    def add(self, fields: list[str], columns: dict[str, int], number: int, part: int) -> int:
        """Append a launch and return its row."""
        row = len(self.ids)
        if row >= MAX_ROWS or row * len(self.values) > MAX_CELLS:
            raise TooLargeError
        told = {role: fields[at].strip() if at < len(fields) else "" for role, at in columns.items()}
        self.ids.append(number)
        self.part.append(part)
        self.process.append(told.get("process", "")[:200])
        self.device.append(told.get("device", "")[:200])
        self.kernel.append(told["kernel"][:MAX_NAME_CHARS])
        self.grid.append(dimensions(told.get("grid", "")))
        self.block.append(dimensions(told.get("block", "")))
        if told.get("capability"):
            self.capabilities[told["capability"].replace(",", ".")[:8]] += 1
        return row

    def put(self, metric: str, row: int, cell: str, unit: str | None) -> None:
        """Set the value of a metric in base units; the first of several stays."""
        column = self.values.setdefault(metric, array("d"))
        if len(column) <= row:
            column.extend([math.nan] * (row + 1 - len(column)))
        scale = _scale(unit or "")
        if scale is None:
            self.units[metric] = (unit or "")[:40]
        elif math.isnan(column[row]):
            whole = ".sum" in metric[-4:] and unit in _COUNTS
            column[row] = self.digits.read(cell, whole=whole) * scale


@lru_cache(maxsize=4096)
def _scale(unit: str) -> float | None:
    return unit_scale(unit)


@lru_cache(maxsize=65536)
def dimensions(text: str) -> str:
    """Return ``x,y,z`` for ``(132, 1, 1)``, ``132,1,1``, ``132x1`` or ``132``; nothing where there are no such numbers."""
    inner = text.strip().strip("()[]").strip()
    parts = [p.replace(",", "") for p in inner.split(", ")] if inner.count(", ") == 2 else re.split(r"\s*[,x]\s*", inner)
    if not 1 <= len(parts) <= 3 or not all(p.isascii() and p.isdigit() and len(p) < 12 for p in parts):
        return ""
    return ",".join(str(int(p)) for p in (*parts, "1", "1")[:3])


def read_page(lines: Iterable[str], digits: Digits) -> Page:
    """Return the counters in ``lines``; whatever the profiled program and ncu printed in between is passed over.

    Raises:
        CommaError, NotationError: see Digits.
        TooLargeError: more than is read.
    """
    page = Page(digits)
    reader = _Reader(page)
    for line in lines:
        if line.startswith("==") or "," not in line:
            _take_comment(page, line)
        else:
            reader.take(line)
    digits.check()
    for column in page.values.values():
        column.extend([math.nan] * (len(page.ids) - len(column)))
    return page


def _take_comment(page: Page, line: str) -> None:
    if "==ERROR==" in line or "No kernels were profiled" in line:
        page.errors = [*page.errors, line.strip("= \t")[:300]][:8]
    if found := _CACHE_CONTROL.search(line):
        page.mode = "warm" if found[1] == "none" else "cold"
    if found := _VERSION.search(line):
        page.version = found[1]


class _Reader:
    """Takes the lines of a table one after the other, and knows where the line before belongs."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.header: Header | None = None
        self.part = -1
        self.units: dict[int, str] = {}
        self.rows: dict[tuple[str, str], int] = {}
        self.last: tuple[tuple[str, ...], set[str]] = ((), set())

    def take(self, line: str) -> None:
        """Take what ``line`` holds, if it is of the table."""
        try:
            fields = next(csv.reader([line]), [])
        except csv.Error:
            self.page.damaged += self.header is not None
            return
        if self.header is None or not self._is_row(fields):
            self._take_other(line, fields)
        elif self.header.is_long:
            self._take_metric(fields)
        else:
            self._take_launch(fields)

    def _is_row(self, fields: list[str]) -> bool:
        at = self.header.columns.get("id") if self.header else None
        if at is None:  # no numbers: whatever is as wide as the header, but the header itself and the units
            header = self.header
            return header is not None and len(fields) == header.width and not self._is_header_or_units(header, fields)
        return len(fields) > at and _number(fields[at]) is not None

    def _is_header_or_units(self, header: Header, fields: list[str]) -> bool:
        return not fields[header.columns["kernel"]].strip() or read_header(fields) is not None

    def _take_other(self, line: str, fields: list[str]) -> None:
        header = read_header(fields) if len(fields) > 1 else None
        if header and (header.metrics or header.is_long):
            self.header, self.units, self.rows, self.part = header, {}, {}, self.part + 1
            self.page.without_ids |= "id" not in header.columns
            told = any(unit is not None for _, _, unit in header.metrics)
            self.page.without_units = not header.is_long and not told
        elif header:
            self.page.metricless = True
        elif self.header and not self.header.is_long and self._are_units(self.header, fields):
            self.units = {at: fields[at].strip() for at, _, _ in self.header.metrics}
            self.page.without_units = False
        else:
            _take_comment(self.page, line)

    def _are_units(self, header: Header, fields: list[str]) -> bool:
        about = [header.columns[role] for role in ("id", "process", "kernel") if role in header.columns]
        return len(fields) == header.width and not self.units and not any(fields[at].strip() for at in about)

    def _take_launch(self, fields: list[str]) -> None:
        header, page = self.header, self.page
        if header and fields[-1] == "":
            fields = fields[: header.width]  # some versions end a line with a comma
        if header is None or len(fields) != header.width:
            page.damaged += 1
            return
        number = _number(fields[header.columns["id"]]) if "id" in header.columns else None
        row = page.add(fields, header.columns, len(page.ids) if number is None else number, self.part)
        for at, name, unit in header.metrics:
            if fields[at]:
                page.put(name, row, fields[at], unit if unit is not None else self.units.get(at, ""))
            elif name not in page.values:
                page.values[name] = array("d")

    def _take_metric(self, fields: list[str]) -> None:
        header, page = self.header, self.page
        if header is None or len(fields) <= max(header.columns[role] for role in ("metric", "value", "kernel")):
            page.damaged += 1
            return
        name = metric_name(fields[header.columns["metric"]].strip())
        row = self._row(fields, header, name)
        if name:
            unit = fields[header.columns["unit"]].strip() if header.columns.get("unit", len(fields)) < len(fields) else ""
            page.put(name, row, fields[header.columns["value"]], unit)

    def _row(self, fields: list[str], header: Header, name: str) -> int:
        """Return the row of the launch that a line of the long form is about, a new one where it is the first."""
        columns = header.columns
        if "id" not in columns:
            about = tuple(fields[columns[role]] for role in ("process", "kernel", "grid", "block") if role in columns)
            metric = fields[columns["metric"]]
            if about != self.last[0] or (name and metric in self.last[1]):
                self.last = (about, set())
                self.page.add(fields, columns, len(self.page.ids), self.part)
            self.last[1].add(metric)
            return len(self.page.ids) - 1
        key = (fields[columns["process"]] if "process" in columns else "", fields[columns["id"]].strip())
        if key not in self.rows:
            self.rows[key] = self.page.add(fields, columns, _number(key[1]) or 0, self.part)
        return self.rows[key]


def _number(text: str) -> int | None:
    text = text.strip().replace(",", "").replace(".", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None
