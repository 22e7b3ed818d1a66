"""Section "method": how this was measured, with everything that a doubter asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

from analyzer.format import count, digits, quantity
from analyzer.insight.counters import has_counters
from analyzer.insight.reproduction import recording_command
from analyzer.report.blocks import Block, Cell, Folded, Head, Link, Links, Listing, Notice, Row, Section, Table, badge, number
from analyzer.report.facts import environment
from analyzer.report.origin import Origin, command_line, report_command, trace_href
from analyzer.report.sections.glossary import glossary
from analyzer.report.text import clean
from analyzer.schema.counters import COUNTED
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study
from analyzer.schema.run import Ceiling
from analyzer.schema.tables import LAUNCHES, SAMPLES, TIMINGS

MARK = "Approximation:"
PERFETTO = "https://ui.perfetto.dev"
MEASURED = Evidence.MEASURED
LIMIT = Head("limit", meaning="what the device cannot exceed: a rate of arithmetic or the throughput of a memory")
FIGURE = Head("figure", "", True, None, "the limit with its unit; the word beside it says whether it was measured here")

FORMULAS = (
    ("latency", "median of the untraced, synchronised iterations; 95 % interval by bootstrap, processes resampled first"),
    (
        "ratio",
        "median of the first run over median of the second; interval from both bootstraps, widened to Student's t of the "
        "medians of the processes where there are two to five",
    ),
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
    (
        "ledger",
        "time of a launch = floor of its work + vector units in place of matrix units + bytes moved more than once + start and "
        "end if short + partial waves + slow clocks + the rest above the floor; copies, and what has no floor or model, whole",
    ),
    ("gap", "the difference of two ledgers, part by part: kernels, waiting, and untraced minus traced time"),
    (
        "partial waves",
        "time × (1 − B / ⌈B⌉) with B blocks per multiprocessor, up to time × (1 − waves / ⌈waves⌉), at most what is above the "
        "floor",
    ),
    (
        "by role (LMDI)",
        "L(T1, T2) × ln(f1 / f2) for each factor f of time = work × traffic × rate, with L(x, y) = (x − y) / ln(x / y)",
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


COUNTER_FORMULAS = (
    (
        "hardware counters",
        "read in runs of their own, in which kernels run one by one; each launch of the trace takes the values of the counted "
        "launch with the same name, grid and block at the same place of the sequence; no duration comes from them",
    ),
    ("counted before modelled", "where a figure was counted, it takes the place of the modelled one, which stays beside it"),
    ("cache hit rate", "sectors that hit over sectors looked up, counted in different passes, at most 100 %"),
    ("achieved occupancy", "warps resident per cycle in which a multiprocessor has any, over the most it can hold; counted"),
)
"""What stands among the formulas where a run has counters."""


def section(study: Study, others: tuple[Section, ...] = (), origin: Origin | None = None) -> Section:
    """Return the passes, the environment, the limits, the formulas, the approximations, the commands, the traces, the glossary.

    ``others`` are the sections whose columns the glossary explains besides those of this one.
    """
    origin = origin or Origin()
    has_counts = any(map(has_counters, study.analyses))
    blocks: list[Block] = [*_passes(study), _environment(study), *_limits(study)]
    blocks += [
        Listing("Formulas", FORMULAS + (COUNTER_FORMULAS if has_counts else ())),
        Listing("Approximations", approximations() or (("", "none"),)),
        _reproduce(study, origin),
        _traces(study, origin),
    ]
    own = Section("method", "How was this measured?", "Method", tuple(blocks))
    return replace(
        own, blocks=(*own.blocks, Folded("Glossary of the tables", (glossary((*others, own)), *_columns(has_counts))))
    )


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
            Head("pass", meaning="a part of the recording that serves one purpose"),
            Head("start", "s", True, MEASURED, "from the start of the first pass of the run"),
            Head("length", "s", True, MEASURED, "from the start of the pass to its end, with what it prepares"),
            Head("steps", "", True, MEASURED, "iterations of the model in the pass"),
            Head("note"),
        )
        note = (
            "Latency, trace, operands and counters come from separate passes; no duration comes from a pass that records "
            "operands or reads counters."
        )
        blocks.insert(0, Table("passes-table", "What ran when", heads, tuple(rows), note=note))
    return blocks


def _environment(study: Study) -> Table:
    facts = environment(study)
    rows = tuple(
        Row((Cell(f"≠ {name}" if differs else name), *(Cell(clean(value, 160)) for value in values)), marked=differs)
        for name, values, differs in facts
    )
    told = "what the run or its trace tells; – where it tells nothing"
    heads = (
        Head("fact", meaning="a property of the device, of the model, of the settings or of the software"),
        *(Head(clean(a.label, 60), meaning=told) for a in study.analyses),
    )
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
    heads: tuple[Head, ...] = (Head("run"), LIMIT, FIGURE, Head("evidence"), Head("source"))
    note = "Floors use measured limits where the run has them, else the datasheet's; the two are never mixed in one figure."
    blocks.append(Table("limits-table", "Limits of the device", heads, tuple(rows), note=note, fixed_order=True))
    measured = [(a, c) for a in study.analyses if a.run.facts for c in a.run.facts.ceilings]
    if measured:
        heads = (
            Head("run"),
            Head("measured", meaning="when the ceiling was measured (UTC); later runs on the same device take it over"),
            Head("ceiling", meaning="what was driven to its limit: a copy through memory, or a product of two large matrices"),
            Head("type", meaning="element type of the numbers"),
            Head("median", "", True, MEASURED, "middle one of the repeated timings; floors use it"),
            Head("10 %", "", True, MEASURED, "a tenth of the repeated timings reach less"),
            Head("90 %", "", True, MEASURED, "a tenth of the repeated timings reach more"),
            Head("n", "", True, MEASURED, "how many timings"),
            Head("unit"),
            Head("size", meaning="how much was copied, or the sides of the matrices"),
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


def _traces(study: Study, origin: Origin) -> Links:
    """Return where the trace files are and how to look at single events of them."""
    lines = []
    for a in study.analyses:
        href = trace_href(a.run, origin)
        remark = "" if href else "The page holds no path to it."
        lines.append(Link(clean(a.label, 60), clean(a.run.trace_name, 160), href, remark))
    how = (
        "draws every single event of a trace. Open it and drag the trace file onto its page; it is read in the browser. "
        "This report fetches nothing from there."
    )
    return Links("Trace files", (*lines, Link("to look into them", "ui.perfetto.dev", PERFETTO, how)))


def _reproduce(study: Study, origin: Origin) -> Listing:
    items = []
    for a in study.analyses:
        facts = a.run.facts
        if facts is None:
            items.append((clean(a.label, 60), report_command((a.run,), origin)))
        elif facts.command:
            items.append((clean(a.label, 60), command_line(recording_command(facts))))
        else:
            items.append((clean(a.label, 60), "the run was not recorded by the command line"))
    whole = report_command(tuple(a.run for a in study.analyses), origin)
    if whole not in [text for _, text in items]:
        items.append(("this report", whole))
    items.append(
        ("the traces with these findings in them, for ui.perfetto.dev", whole.replace("task=report", "task=perfetto", 1))
    )
    return Listing("How to reproduce", tuple(items), code=True)


def _columns(has_counts: bool) -> tuple[Table, ...]:
    """Return what the columns of the files mean that every stage passes on."""
    heads = (Head("column"), Head("unit"), Head("evidence"), Head("meaning"))
    tables = []
    for table in (TIMINGS, SAMPLES, LAUNCHES, *((COUNTED,) if has_counts else ())):
        rows = tuple(Row((Cell(c.name), Cell(c.unit or "–"), badge(c.evidence), Cell(c.meaning))) for c in table.columns)
        tables.append(Table(f"glossary-{table.name}", f"Table {table.name}", heads, rows))
    return tuple(tables)
