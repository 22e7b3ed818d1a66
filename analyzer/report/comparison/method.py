"""Section "method": telemetry, formulas, simplifications, limits, the commands, and what the columns mean."""

from __future__ import annotations

from dataclasses import replace

from analyzer.insight.reproduction import recording_command
from analyzer.report.blocks import Block, Cell, Folded, Head, Listing, Prose, Row, Section, Table
from analyzer.report.comparison.cells import MEASURED, cut_note, figure
from analyzer.report.marks.comparison_names import run_titles
from analyzer.report.origin import command_line
from analyzer.report.sections.glossary import glossary
from analyzer.report.sections.method import FORMULAS, approximations
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison
from analyzer.schema.digest import Telemetry

MAX_COMMANDS, MAX_RUNS = 12, 200
USED = ("latency", "ratio", "time by kind", "idle", "FLOP", "compulsory bytes", "arithmetic intensity")
OWN_FORMULAS = (
    (
        "speed-up",
        "time of the run that it is held against over its own where both do the same work, else its own rate over that run's",
    ),
    ("match", "same operator (one name for all libraries), input shapes, element type and module; never the name of a kernel"),
    ("cycles", "untraced median of one batch × median clock of the multiprocessors"),
)
LIMITS = (
    ("one device at a time", "each run says how its own device did; nothing here is a benchmark of a product"),
    ("bare traces", "have no untraced time, so their times include the profiler's cost and the waiting for the host"),
    ("datasheet ratios", "are ratios of peaks; a device may not hold the clock that its peak is quoted at"),
    (
        "role against line",
        "a role that gained the bandwidth ratio behaves like work limited by memory; that does not prove that it is",
    ),
)


def section(comparison: Comparison, others: tuple[Section, ...], command: tuple[str, ...] = ()) -> Section:
    """Return the section that says how all others came about; the glossary explains the columns of ``others`` too."""
    blocks: list[Block] = [_runs(comparison)]
    if any(_seen(d.telemetry) for d in comparison.runs):
        blocks.append(_telemetry(comparison))
    formulas = tuple(item for item in FORMULAS if item[0] in USED)
    blocks += [
        Listing("Formulas", (*formulas, *OWN_FORMULAS)),
        Listing("Limits of a comparison", LIMITS),
        Listing("Approximations", _approximations() or (("", "none"),), folded=True),
        _reproduce(comparison, command),
    ]
    own = Section("method", "How was this worked out?", "Method", tuple(blocks))
    return replace(own, blocks=(*own.blocks, Folded("Glossary of the tables", (glossary((*others, own)),))))


def _approximations() -> tuple[tuple[str, str], ...]:
    return tuple(
        (place, text) for place, text in approximations() if place.startswith(("insight/comparison", "metrics/", "trace/"))
    )


def _runs(comparison: Comparison) -> Table:
    titles = run_titles(comparison)
    rows = tuple(
        Row(
            (
                Cell(titles[run]),
                Cell(clean(comparison.names[run], 80)),
                Cell(clean(d.trace, 80)),
                Cell(clean(d.window, 120)),
                Cell("; ".join(clean(text, 160) for text in d.warnings[:2]) or "–"),
            ),
            marked=run == comparison.baseline,
        )
        for run, d in enumerate(comparison.runs[:MAX_RUNS])
    )
    heads = (
        Head("run"),
        Head("name", meaning="what the files beside this page call the run"),
        Head("trace", meaning="name of the trace file"),
        Head("window", meaning="the stretch of the trace that the figures cover"),
        Head("warnings", meaning="what the run or its reader found odd"),
    )
    note = cut_note(len(rows), len(comparison.runs), "run", "runs", "summary.json")
    return Table("runs-table", "The runs; the baseline stands out", heads, rows, note)


def _seen(found: Telemetry | None) -> bool:
    """Tell whether the sampler saw anything that the table shows."""
    figures = (found.sm_clock_mhz, found.power_w, found.temperature_c) if found else ()
    return any(figure.value is not None for figure in figures)


def _telemetry(comparison: Comparison) -> Table:
    titles = run_titles(comparison)
    rows = []
    for run, d in enumerate(comparison.runs[:MAX_RUNS]):
        seen = d.telemetry
        if seen is None or not _seen(seen):
            continue
        held = Cell(", ".join(clean(name, 60) for name in seen.throttled[:4]) or "–")
        numbers = (figure(seen.sm_clock_mhz, 0), figure(seen.power_w, 0), figure(seen.temperature_c, 0))
        rows.append(Row((Cell(titles[run]), *numbers, held)))
    heads = (
        Head("run"),
        Head("clock", "MHz", True, MEASURED, "median clock of the multiprocessors during the untraced pass"),
        Head("power", "W", True, MEASURED, "median power during the untraced pass"),
        Head("temperature", "°C", True, MEASURED, "median temperature during the untraced pass"),
        Head("clocks held down by", meaning="what the driver says kept the clocks low at any time in that pass"),
    )
    note = "n/a: the device or the driver does not tell. Runs without any such figure are left out."
    return Table("telemetry-table", "What the sampler saw", heads, tuple(rows), note)


def _reproduce(comparison: Comparison, command: tuple[str, ...]) -> Listing | Prose:
    titles = run_titles(comparison)
    items = [("this page", command_line(command))] if command else []
    for run, d in enumerate(comparison.runs):
        if d.facts is not None and d.facts.command and len(items) < MAX_COMMANDS:
            items.append((titles[run], command_line(recording_command(d.facts))))
    if not items:
        return Prose("How to reproduce: analyzer task=compare runs=[...] with the traces named above.")
    return Listing("How to reproduce", tuple(items), code=True)
