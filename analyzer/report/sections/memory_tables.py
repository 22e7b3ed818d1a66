"""The tables of the section on memory."""

from __future__ import annotations

import math

from analyzer.format import count, size
from analyzer.report.blocks import Cell, Head, Row, Table, missing, number
from analyzer.report.marks.memory import Curve, Level, Locality, Throughputs
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis

MAX_HOLDERS = 30
OPEN_HOLDERS = 12
MODULE_LETTERS = 48
M, D, MOD, SPEC = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED, Evidence.SPEC


def throughput_table(data: Throughputs, labels: tuple[str, ...]) -> Table:
    """Return the numbers of the dot plot."""
    counts = any(math.isfinite(mark.counted_pct) for mark in data.marks)
    rows = []
    for mark in data.marks:
        at = Cell("from a cache") if mark.from_cache else number(mark.pct, 1, MOD)
        cells = (
            Cell(labels[mark.run]), Cell(mark.kind, chip=mark.kind), number(mark.share_pct, 1), number(mark.known_pct, 1),
            number(mark.gbps, 1, MOD), at, number(mark.low_pct, 1, MOD), number(mark.high_pct, 1, MOD),
            number(mark.cached_pct, 1, MOD), *([number(mark.counted_pct, 1)] if counts else []),
        )  # fmt: skip
        rows.append(Row(cells, kind=mark.kind))
    heads: tuple[Head, ...] = (
        Head("run"),
        Head("kind"),
        Head("share of time", "%", True, M, "of the kernel time of its run"),
        Head("of it with a byte count", "%", True, D, "share of that time whose bytes follow from operator shapes"),
        Head("compulsory bytes / time", "GB/s", True, MOD, "each input read once, each output written once, over the time"),
        Head("of the bandwidth", "%", True, MOD, "of the DRAM bandwidth used for floors"),
        Head("access model, low", "%", True, MOD, "the same with the fewest bytes that the access model expects at DRAM"),
        Head("access model, high", "%", True, MOD, "the same with the most bytes that the access model expects at DRAM"),
        Head(
            "of its time faster than DRAM", "%", True, MOD, "share of the time in launches whose bytes DRAM could not deliver"
        ),
    )
    if counts:
        heads += (Head("counted", "%", True, M, "DRAM bytes by hardware counters over time, of the bandwidth used for floors"),)
    note = (
        "The access model's ends are cut at 100 %; where it has no figure for a launch, the compulsory bytes stand in. “Faster "
        "than DRAM” is the time in launches whose bytes DRAM could not have delivered, so that a cache held some of them."
    )
    return Table("memory-dram-table", "DRAM throughput by kind", heads, tuple(rows), note=note)


def locality_table(found: tuple[Locality, ...]) -> Table:
    """Return how the time of each run is divided by the size of what a launch touches."""
    rows = []
    for line in found:
        last = line.last
        cells = (
            Cell(clean(line.label, 60)),
            Cell(f"{last.name}, {size(last.figure.value)}") if last and last.figure.value else missing(),
            number(line.beyond_pct, 1, MOD), number(line.within_pct, 1, MOD), number(100 - line.known_pct, 1, D),
            number(line.median_bytes / 2**20, 2, MOD), number(float(line.size_bytes[-1]) / 2**20, 1, MOD),
        )  # fmt: skip
        rows.append(Row(cells))
    heads = (
        Head("run"),
        Head("last cache before DRAM"),
        Head(
            "time in launches that touch more",
            "%",
            True,
            MOD,
            "share of the time in launches whose bytes do not fit this cache",
        ),
        Head("as much or less", "%", True, MOD, "share of the time in launches whose bytes fit this cache"),
        Head("without a byte count", "%", True, D, "share of the time in launches whose shapes are not known"),
        Head("median launch", "MiB", True, MOD, "half of the time is in launches that touch no more"),
        Head("largest launch", "MiB", True, MOD, "bytes of the launch that touches most"),
    )
    note = "Shares are of the run's whole time. The median is weighted by time: half of it is in launches that touch no more."
    return Table("memory-locality-table", "Bytes touched per launch", heads, tuple(rows), note=note)


def levels_table(levels: tuple[Level, ...], labels: tuple[str, ...]) -> Table:
    """Return the capacities that the vertical lines stand at."""
    rows = tuple(
        Row((Cell(level.name), Cell(", ".join(labels[run] for run in level.runs)), number(level.size_bytes / 2**20, 3, SPEC)))
        for level in levels
    )
    heads = (
        Head("level"),
        Head("run"),
        Head("capacity", "MiB", True, SPEC, "bytes that it holds, from the datasheet or the driver"),
    )
    return Table("memory-levels-table", "Capacities of caches and memory", heads, rows)


def profile_table(analyses: tuple[Analysis, ...], curves: tuple[Curve, ...]) -> Table:
    """Return peak and range of every allocator, drawn or not."""
    drawn = {id(curve.profile) for curve in curves}
    rows = []
    for a in analyses:
        for p in a.memory:
            low = float(p.curve["allocated_bytes"].min())
            reserved = float(p.curve["reserved_bytes"].max())
            device = clean(p.device, 40) + ("" if id(p) in drawn else " (not drawn)")
            cells = (
                Cell(clean(a.label, 60)), Cell(device),
                Cell("everything" if p.is_absolute else "change since start"),
                Cell(count(len(p.curve)), float(len(p.curve)), M), _mib(p.peak_bytes), _mib(low), _mib(p.transient_bytes, D),
                _mib(reserved), number((p.peak_ns - a.window.start_ns) / 1e6, 3),
            )  # fmt: skip
            rows.append(Row(cells))
    heads = (
        Head("run"),
        Head("device"),
        Head("what is counted"),
        Head("events", "count", True, M, "allocations and releases in the trace"),
        Head("peak", "MiB", True, M, "highest point of the curve"),
        Head("lowest", "MiB", True, M, "lowest point of the curve"),
        Head("rise to the peak in its step", "MiB", True, D, "peak over the lowest point before it in the same step"),
        Head("reserved, highest", "MiB", True, M, "most that the allocator has reserved from the device"),
        Head("peak at", "ms", True, M, "time of the peak from the start of the curve"),
    )
    return Table("memory-curve-table", "What the allocators held", heads, tuple(rows))


def _mib(value: float, evidence: Evidence = M) -> Cell:
    """Return bytes in MiB; a few of them do not read as none."""
    mib = value / 2**20
    return Cell("<0.001", mib, evidence) if 0 < mib < 0.0005 else number(mib, 3, evidence)


def holders_table(analyses: tuple[Analysis, ...], curves: tuple[Curve, ...]) -> Table | None:
    """Return what holds memory at each peak that is drawn by module and operator, None where no trace tells."""
    known = [(analyses[curve.run], curve.profile) for curve in curves if len(curve.profile.at_peak)]
    if not known:
        return None
    rows = [row for a, p in known for row in _holders(a, p, max(MAX_HOLDERS // len(known), 4))]
    heads = (
        Head("run"),
        Head("device"),
        Head("module"),
        Head("operator"),
        Head("held at the peak", "MiB", True, M, "bytes of its blocks that were not released at the peak"),
        Head("of the peak", "%", True, D, "their share of the peak"),
        Head("blocks", "count", True, M, "how many blocks these are"),
    )
    note = (
        "A block counts for the module and operator that ran when it was allocated, whoever keeps it later. Operators that "
        "only make room (empty) count for the operator that called them."
    )
    return Table("memory-holders", "What holds memory at the peak", heads, tuple(rows), note=note, open_rows=OPEN_HOLDERS)


def _holders(a: Analysis, p: MemoryProfile, limit: int) -> list[Row]:
    run, device = Cell(clean(a.label, 60)), Cell(clean(p.device, 40))
    out = []
    if p.before_bytes > 0:
        out.append(Row((run, device, Cell("held since before the recording"), Cell("–"), *_held(p.before_bytes, p), missing())))
    shown = p.at_peak.iloc[: limit if len(p.at_peak) <= limit else limit - 1]
    for module, op, held, blocks in shown.itertuples(index=False, name=None):
        name = module_cell(str(module)) if module else Cell("no module")
        operator = Cell(clean(str(op), 80)) if op else Cell("no operator")
        out.append(Row((run, device, name, operator, *_held(float(held), p), Cell(count(blocks), float(blocks), M))))
    rest = p.at_peak.iloc[len(shown) :]
    if len(rest):
        blocks = float(rest["blocks"].sum())
        cells = (Cell(f"{count(len(rest))} smaller"), Cell("–"), *_held(float(rest["bytes"].sum()), p))
        out.append(Row((run, device, *cells, Cell(count(blocks), blocks, M))))
    return out


def module_cell(path: str) -> Cell:
    """Return the end of a path that is too long for a column, which tells more than its beginning; the whole is behind it."""
    whole = clean(path, 400)
    if len(whole) <= MODULE_LETTERS:
        return Cell(whole)
    return Cell(f"…{whole[1 - MODULE_LETTERS :]}", detail=(("module", whole),))


def _held(held: float, p: MemoryProfile) -> tuple[Cell, Cell]:
    share = 100 * held / p.peak_bytes if p.peak_bytes > 0 else math.nan
    return _mib(held), number(share if share <= 100 else math.nan, 1, D)
