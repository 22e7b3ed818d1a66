"""Section "method": how this was measured, with everything that a doubter asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

from analyzer.format import count, digits, quantity
from analyzer.report.blocks import Block, Cell, Folded, Head, Listing, Notice, Row, Section, Table, badge, number
from analyzer.report.facts import environment
from analyzer.report.sections import rates
from analyzer.report.sections.kernels import HEADS, OCCUPANCY
from analyzer.report.text import clean
from analyzer.schema.results import Analysis, Study
from analyzer.schema.run import Ceiling
from analyzer.schema.tables import LAUNCHES, SAMPLES, TIMINGS

MARK = "Approximation:"

FORMULAS = (
    ("latency", "median of the untraced, synchronised iterations; 95 % interval by bootstrap, processes resampled first"),
    ("ratio", "median of the first run over median of the second; interval from both bootstraps"),
    ("time by kind", "a moment in which k kernels run gives each of them 1/k of it, so the kinds add up to the busy time"),
    ("idle", "the stretches of the window that no kernel, copy or fill (on a CPU: no operator that does work) covers"),
    (
        "floor",
        "max(FLOP / peak, compulsory bytes / bandwidth), with the peak of the unit (tensor cores or the lanes beside them) "
        "and the number format that each kernel used, and the limits of the device in the table above",
    ),
    (
        "limit",
        "the higher floor where it is a third of the time or more, L2 or cache where DRAM could not have been so fast; else "
        "latency for a GPU kernel under 5 µs or with fewer blocks than multiprocessors",
    ),
    (
        "impossible",
        "above the datasheet's peak at the highest clock, above what DRAM and a full L2 deliver or the multiprocessors take "
        "in, or kernels of one stream at the same time: a card, and no figure",
    ),
    ("above the floor", "time minus floor, for kernels that have one"),
    (
        "gap",
        "sum over kinds of the differences of floor and of time above it, plus idle, what has no model and what tracing added",
    ),
    ("FLOP", "from operator shapes; a multiply-add counts 2"),
    (
        "L2 to multiprocessors",
        "element size x (rows x K x column tiles + columns x K x row tiles) for a product; convolution and attention likewise, "
        "with the tile from the kernel's name and grid",
    ),
    (
        "DRAM traffic",
        "the accesses of all thread blocks, in the order of the grid, through a simulated L2 of this GPU, empty at first: a "
        "band over replacement policies and over every order that the grid leaves open",
    ),
    (
        "compulsory bytes",
        "each input read once and each output written once, at the element size; real traffic is this or more",
    ),
    ("arithmetic intensity", "FLOP / compulsory bytes"),
    ("waves", "blocks / (resident blocks per multiprocessor × multiprocessors); tail efficiency is waves / waves rounded up"),
    ("occupancy", "min(resident blocks, blocks / multiprocessors) × threads per block / most threads per multiprocessor"),
)


def section(study: Study) -> Section:
    """Return the passes, the environment, the formulas, the approximations, the limits, the glossary and the command."""
    blocks: list[Block] = [*_passes(study), _environment(study), *_limits(study)]
    blocks += [
        Listing("Formulas", FORMULAS),
        Listing("Approximations", approximations() or (("", "none"),)),
        _reproduce(study),
        Folded("Glossary of the tables", _glossary()),
    ]
    return Section("method", "How was this measured?", "Method", tuple(blocks))


def _passes(study: Study) -> list[Block]:
    rows: list[Row] = []
    blocks: list[Block] = []
    for a in study.analyses:
        label = clean(a.label, 60)
        facts = a.run.facts
        if facts is None:
            text = f"{label}: a bare trace, {clean(a.run.trace_name, 120)}; window: {clean(a.window.source)}. "
            text += "How it was recorded is not known."
            blocks.append(Notice(text))
            continue
        first = min((p.start_unix_ns for p in facts.passes), default=0)
        for found in facts.passes:
            begin, length = (found.start_unix_ns - first) / 1e9, (found.end_unix_ns - found.start_unix_ns) / 1e9
            steps = Cell(count(found.steps), float(found.steps)) if found.steps else Cell("–")
            rows.append(
                Row(
                    (
                        Cell(label),
                        Cell(clean(found.name, 40)),
                        number(begin, 2),
                        number(length, 2),
                        steps,
                        Cell(clean(found.note, 160)),
                    )
                )
            )
    if rows:
        heads = (
            Head("run"),
            Head("pass"),
            Head("start", "s", True),
            Head("length", "s", True),
            Head("steps", "", True),
            Head("note"),
        )
        note = "Latency, trace and operands come from separate passes; no duration comes from a pass that records operands."
        blocks.insert(0, Table("passes-table", "What ran when", heads, tuple(rows), note=note))
    return blocks


def _environment(study: Study) -> Table:
    facts = environment(study)
    rows = tuple(
        Row((Cell(f"≠ {name}" if differs else name), *(Cell(clean(value, 160)) for value in values)), marked=differs)
        for name, values, differs in facts
    )
    heads = (Head("fact"), *(Head(clean(a.label, 60)) for a in study.analyses))
    several = len(study.analyses) > 1
    caption = "Environment; rows that differ come first, marked ≠" if several else "Environment"
    return Table("environment-table", caption, heads, rows)


def _limits(study: Study) -> list[Block]:
    blocks: list[Block] = []
    rows = []
    for a in study.analyses:
        for fact in a.limits:
            figure = fact.figure
            rows.append(
                Row(
                    (
                        Cell(clean(a.label, 60)),
                        Cell(fact.name),
                        Cell(quantity(figure), figure.value, figure.evidence),
                        badge(figure.evidence),
                        Cell(clean(figure.source, 160)),
                    )
                )
            )
    heads: tuple[Head, ...] = (Head("run"), Head("limit"), Head("figure", "", True), Head("evidence"), Head("source"))
    note = "Floors use measured limits where the run has them, else the datasheet's; the two are never mixed in one figure."
    blocks.append(Table("limits-table", "Limits of the device", heads, tuple(rows), note=note))
    measured = [(a, c) for a in study.analyses if a.run.facts for c in a.run.facts.ceilings]
    if measured:
        heads = (
            Head("run"),
            Head("measured"),
            Head("ceiling"),
            Head("type"),
            *(Head(n, "", True) for n in ("median", "10 %", "90 %", "n")),
            Head("unit"),
            Head("size"),
        )
        found = tuple(_ceiling(a, c) for a, c in measured)
        blocks.append(Table("ceilings-table", "Ceilings measured on the device of these runs", heads, found))
    return blocks


def _ceiling(a: Analysis, c: Ceiling) -> Row:
    texts = [
        clean(text, 80) for text in (a.label, c.measured_utc[:16].replace("T", " ") or "–", c.name, c.dtype, c.unit, c.size)
    ]
    run, measured, name, dtype, unit, length = (Cell(text) for text in texts)
    numbers = (Cell(digits(v), v) for v in (c.value, c.low, c.high))
    return Row((run, measured, name, dtype, *numbers, Cell(count(c.n), c.n), unit, length))


@lru_cache(maxsize=1)
def approximations() -> tuple[tuple[str, str], ...]:
    """Return (place, text) of every line of the package that begins with the mark of an admitted simplification.

    Read from the sources, so that none can be admitted in code and forgotten here.
    """
    folders = sorted((item for item in resources.files("analyzer").iterdir() if item.is_dir()), key=lambda item: item.name)
    return tuple(
        (place, text)
        for folder in folders
        if folder.name not in ("report", "capture")
        for place, file in _sources(folder, folder.name)
        for text in admitted(file)
    )


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    """Yield (path, file) of every source file in ``folder`` and below."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _sources(item, f"{path}/{item.name}")
        elif item.name.endswith(".py"):
            yield f"{path}/{item.name}", item


def admitted(file: Traversable) -> list[str]:
    """Return the sentences of one source file that follow the mark, each up to its full stop."""
    source = file.read_text(encoding="utf-8")
    out = []
    for place in (m.end() for m in re.finditer(re.escape(MARK), source)):
        tail = re.split(r"\n\s*\n|\"\"\"", source[place : place + 600], maxsplit=1)[0]
        text = re.sub(r"\s*\n\s*#?\s*", " ", tail).strip()
        out.append(re.split(r"(?<=\.)\s", text, maxsplit=1)[0])
    return out


def _reproduce(study: Study) -> Listing:
    items = []
    for a in study.analyses:
        facts = a.run.facts
        if facts is None:
            items.append((clean(a.label, 60), f"analyzer task=report runs={clean(a.run.trace_name, 160)}"))
        elif facts.command:
            items.append((clean(a.label, 60), clean(" ".join(facts.command), 600)))
        else:
            items.append((clean(a.label, 60), "the run was not recorded by the command line"))
    return Listing("How to reproduce", tuple(items), code=True)


def _glossary() -> tuple[Table, ...]:
    heads = (Head("column"), Head("unit"), Head("evidence"), Head("meaning"))
    tables = []
    for name, caption, columns in (
        ("kernels", "The kernel table", (*HEADS, OCCUPANCY)),
        ("rates", "The tables by operator and by module", rates.HEADS),
    ):
        shown = tuple(
            Row((Cell(h.text), Cell(h.unit or "–"), badge(h.evidence) if h.evidence else Cell("–"), Cell(h.meaning)))
            for h in columns
        )
        tables.append(Table(f"glossary-{name}", caption, heads, shown))
    for table in (TIMINGS, SAMPLES, LAUNCHES):
        rows = tuple(Row((Cell(c.name), Cell(c.unit or "–"), badge(c.evidence), Cell(c.meaning))) for c in table.columns)
        tables.append(Table(f"glossary-{table.name}", f"Table {table.name}", heads, rows))
    return tuple(tables)
