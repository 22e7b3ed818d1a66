"""Tables of section "access". Bytes through DRAM in MB (1e6), what a cache holds in KiB and MiB."""

from __future__ import annotations

import math

from analyzer.format import count, digits, fixed, marked, size
from analyzer.insight.locality import time_word
from analyzer.report.blocks import Cell, Head, Row, Table, missing, number
from analyzer.report.figures.sizes import intensity
from analyzer.report.marks.access import KINDS, Growth, amplification, name, traffic_ratio
from analyzer.report.marks.access_map import Panel
from analyzer.report.text import FULL_NAME_LIMIT, clean, kernel_label, run_label
from analyzer.schema.access import AccessResult, CacheFacts, PatternAccess
from analyzer.schema.evidence import Evidence

MEASURED, DERIVED, MODELLED, SPEC = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED, Evidence.SPEC
OPEN_ROWS = 15
MAX_ROWS = 120
MAX_LEFT_OUT = 40
MIB = 1024**2
CPU = "cpu"

LOCALITY_HEADS = (
    Head("pattern"),
    Head("footprint per block", "KiB", True, MODELLED, "distinct bytes that one thread block touches"),
    Head(
        "dependency", "%", True, MODELLED, "share of the image or sequence that one output tile reads; 100 % is global access"
    ),
    Head("byte share", "%", True, MODELLED, "footprint of one block over the bytes of all operands"),
    Head(
        "reuse factor",
        "x",
        True,
        MODELLED,
        "bytes that blocks read from the L2 over compulsory reads: how often a byte is read",
    ),
    Head("reuse distance, median", "MiB", True, MODELLED, "other data touched between two reads of a byte, weighted by bytes"),
    Head("reuse distance, p90", "MiB", True, MODELLED, "nine tenths of the bytes read again come back within this distance"),
    Head("span", "%", True, MODELLED, "address range that a block touches over the range of its operands"),
    Head("stride entropy", "bits", True, MODELLED, "0: a block goes on in equal steps; the more, the less regular its steps"),
    Head("geometry", "", False, None, "how sure tiles and order are: exact, inferred from name and grid, or assumed"),
)
KERNEL_HEADS = (
    Head("module", "", False, None, "alike ones together; * stands for any number"),
    Head("model"),
    Head("pattern"),
    Head("calls", "", True, DERIVED, "launches per batch"),
    Head("time", "ms", True, MEASURED, "of all calls of a batch"),
    Head("work", "GFLOP", True, MODELLED, "of one launch; a multiply-add counts 2"),
    Head("compulsory", "MB", True, MODELLED, "each operand read or written once, one launch"),
    Head("from L2", "MB", True, MODELLED, "bytes that blocks read from the L2, one launch"),
    Head("DRAM", "MB", True, MODELLED, "low to high, one launch that finds the cache empty; sorted by the high end"),
    Head("reuse factor", "x", True, MODELLED, "bytes read from the L2 over compulsory reads"),
    Head("footprint", "KiB", True, MODELLED, "distinct bytes that one thread block touches"),
    Head("geometry", "", False, None, "how sure tiles and order are: exact, inferred from name and grid, or assumed"),
)

AT_CAPACITY = "reads from DRAM over compulsory reads with an ideal cache as large as the L2 of this device"
THROUGH = "DRAM bytes over compulsory bytes through the modelled cache of this device, low to high"


def curve_table(cases: tuple[PatternAccess, ...], devices: tuple[CacheFacts, ...]) -> Table:
    """Return the knee of each curve and DRAM reads over compulsory reads at the L2 capacity of each device."""
    heads = (
        Head("pattern"),
        Head("shapes"),
        Head("knee", "MiB", True, MODELLED, "the smallest cache with at most a tenth more than the compulsory reads"),
        *(Head(clean(d.name, 30), f"x at {digits(d.capacity_bytes / MIB)} MiB", True, MODELLED, AT_CAPACITY) for d in devices),
    )
    rows = tuple(
        Row(
            (
                Cell(f"{name(p.pattern)} · {run_label(p.model, 40)}"),
                Cell(clean(p.shapes, 80)),
                number(p.curve.knee_bytes / MIB if p.curve else math.nan, 1, MODELLED),
                *(number(amplification(p, d.capacity_bytes), 2, MODELLED) for d in devices),
            )
        )
        for p in cases
    )
    note = "Reads of an ideal cache of that capacity over compulsory reads; what the cache of each device makes of it is below."
    return Table("curve-table", "DRAM reads over compulsory reads by capacity", heads, rows, note)


def map_table(panels: tuple[Panel, ...]) -> Table:
    """Return what the access maps show, a row per operand."""
    heads = (
        Head("case", meaning="the layer that the map shows"),
        Head("operand", meaning="an input or the output of the layer"),
        Head("size", meaning="bytes of the whole operand"),
        Head("touched by one block", "%", True, MODELLED, "of the operand, mean over the thread blocks"),
        Head("of it touched by the block before", "%", True, MODELLED, "of what a block touches, mean over the thread blocks"),
        Head("blocks", "", True, MODELLED, "thread blocks of the case"),
    )  # fmt: skip
    rows = tuple(
        Row(
            (
                Cell(clean(panel.title, 80)), Cell(clean(o.name, 40)), _size(o.size_bytes),
                number(o.touched_pct, 1, MODELLED), number(o.shared_pct, 1, MODELLED), Cell(count(panel.blocks), panel.blocks),
            )
        )
        for panel in panels
        for o in panel.operands
    )  # fmt: skip
    note = "Means over all blocks of the case, not only of the points drawn; shares are of what they touch together."
    return Table("access-map-table", "How thread blocks use each operand", heads, rows, note)


def size_table(lines: tuple[Growth, ...]) -> Table:
    """Return the numbers of the figure over image sizes."""
    heads = (
        Head("model"), Head("image", "px", meaning="sides of the image that is asked about"),
        Head("work", "GFLOP", True, MODELLED, "of one image; a multiply-add counts 2"),
        Head("compulsory", "MB", True, MODELLED, "each operand of each kernel read or written once, one image"),
        Head("DRAM, cache empty", "MB", True, MODELLED, "low to high, one image; each kernel finds the cache empty"),
        Head("DRAM, cache warm", "MB", True, MODELLED, "the same; each kernel finds what the one before it wrote, if it fits"),
        Head("FLOP per DRAM byte", "", True, MODELLED, "work over the bytes with the cache empty"),
        Head("floor", "ms", True, MODELLED, "sum over kernels of the longer of FLOP at the peak and bytes at the bandwidth"),
        Head("memory-bound share", "%", True, MODELLED, "part of the floor in which the bytes take longer"),
    )  # fmt: skip
    rows = []
    for line in lines:
        for p in line.points:
            flop_per_byte = intensity(p)
            cells = (
                Cell(clean(line.label, 60)), Cell(str(p.image_size), p.image_size), number(p.flop / 1e9, 1, MODELLED),
                number(p.compulsory_bytes / 1e6, 1, MODELLED), _band((p.dram_bytes[0] / 1e6, p.dram_bytes[1] / 1e6), 1),
                number(p.warm_bytes / 1e6, 1, MODELLED), _band(flop_per_byte, 0), number(p.floor_us / 1e3, 3, MODELLED),
                number(100 * p.memory_share, 0, MODELLED),
            )  # fmt: skip
            rows.append(Row(cells))
    note = (
        "Per image. Cache warm: each kernel finds what the one before it wrote, as far as it fits. Floor: the sum over kernels "
        "of the longer of FLOP at the peak and DRAM bytes at the bandwidth; memory-bound share is that part of it where the "
        "bytes take longer."
    )
    return Table("size-table", "Traffic and work per image by image size", heads, tuple(rows), note)


def locality_table(cases: tuple[PatternAccess, ...]) -> Table:
    """Return the descriptors of the representative patterns."""
    rows = []
    for p in cases:
        found = p.locality
        cells = (
            _named(p),
            _kib(found.footprint_bytes), _share(found.dependency), _share(found.byte_share),
            number(found.reuse_factor, 1, MODELLED), number(found.distance_median_bytes / MIB, 2, MODELLED),
            number(found.distance_p90_bytes / MIB, 2, MODELLED), _share(found.span_ratio),
            number(found.stride_entropy, 1, MODELLED), Cell(clean(p.confidence, 20)),
        )  # fmt: skip
        rows.append(Row(cells))
    note = (
        "Dependency says how far an output looks, byte share how much memory that is: a pattern can be global in the first and "
        "local in the second. Reuse factor: how often a byte is read. Reuse distance: other data touched in between; n/a where "
        "nothing is read again. Stride entropy: 0 where a block goes on in equal steps."
    )
    return Table("locality-table", "Locality of each pattern", LOCALITY_HEADS, tuple(rows), note)


def caches_table(cases: tuple[PatternAccess, ...], devices: tuple[CacheFacts, ...]) -> Table:
    """Return DRAM bytes over compulsory bytes per pattern and device, with the standing of each cache model."""
    heads = (Head("pattern"), *(Head(clean(d.name, 30), "x", True, MODELLED, THROUGH) for d in devices))
    rows = tuple(Row((_named(p), *(_band(traffic_ratio(p, d.key), 2) for d in devices))) for p in cases)
    standing = "; ".join(f"{clean(d.name, 40)} {clean(d.status, 20)} ({clean(d.source, 160)})" for d in devices)
    note = (
        "DRAM bytes, read and written, over compulsory bytes of one launch that finds the cache empty, low to high. All of the "
        "output counts, also what is written back later. Written scores count as compulsory in their row; below 1 they never "
        f"left the cache. Cache models: {standing}."
    )
    if devices[0].key == CPU:
        note = f"The blocks are those assumed for this CPU; a GPU's library would cut and order them otherwise. {note}"
    return Table("traffic-table", "The same accesses through other caches", heads, rows, note)


def kernel_table(results: tuple[AccessResult, ...]) -> Table:
    """Return all distinct layers or kernels, that with most time first, without times that with most bytes."""
    several = len(results) > 1
    found = sorted(
        ((result, p) for result in results for p in result.patterns if not p.hypothetical),
        key=lambda item: (-item[1].time_us, -item[1].calls * item[1].compulsory_bytes),
    )
    timed = any(p.time_us > 0 for _, p in found)
    kept = [i for i, head in enumerate(KERNEL_HEADS) if (several or head.text != "model") and (timed or head.text != "time")]
    rows = []
    for result, p in found[:MAX_ROWS]:
        cells = _kernel_cells(p, result.model, result.own.key if result.own else "")
        rows.append(Row(tuple(cells[i] for i in kept), run=clean(result.model, 60), kind=name(p.pattern)))
    where, why = _dram_of(results)
    what = "operator" if any(_on_cpu(p) for _, p in found) else "kernel"
    caption = f"Every distinct layer or {what} with an access model, {count(len(rows))} of {count(len(found))}{where}"
    note = f"Bytes and work are of one launch. Open a name for shapes, tiles and the order in which blocks take them.{why}"
    return Table("access-kernel-table", caption, tuple(KERNEL_HEADS[i] for i in kept), tuple(rows), note, OPEN_ROWS)


def _dram_of(results: tuple[AccessResult, ...]) -> tuple[str, str]:
    """Return through which device's cache the DRAM bytes of the table go, and why runs have none; each may be empty."""
    names = list(dict.fromkeys(clean(result.own.name, 60) for result in results if result.own))
    without = list(dict.fromkeys(run_label(result.model, 40) for result in results if not result.own))
    where = f"; DRAM on {names[0]}" if len(names) == 1 else "; DRAM on the device of each run" if names else ""
    why = (
        f" DRAM is n/a for {', '.join(without)}: the cache of the device has no model. Other tables here give some of these "
        "accesses on other devices, for comparison."
        if without
        else ""
    )
    return where, why


def _on_cpu(p: PatternAccess) -> bool:
    """Tell whether a row is an operator of a CPU run: only those are worked out for a CPU's cache."""
    return CPU in p.traffic


def _kernel_cells(p: PatternAccess, model: str, device: str) -> tuple[Cell, ...]:
    traffic = p.traffic.get(device)
    total = traffic.total if traffic else (math.nan, math.nan)
    return (
        Cell(clean(p.module, 72) or kernel_label(p.kernel) or name(p.pattern), detail=_detail(p)),
        Cell(run_label(model, 40)),
        Cell(name(p.pattern), chip=KINDS.get(p.pattern, "other")),
        Cell(count(p.calls) if float(p.calls).is_integer() else fixed(p.calls, 1), float(p.calls)),
        number(p.time_us / 1e3, 3),
        number(p.flop / 1e9, 2, MODELLED),
        number(p.compulsory_bytes / 1e6, 1, MODELLED),
        number(p.l2_sm_bytes[0] / 1e6, 1, MODELLED),
        _band((total[0] / 1e6, total[1] / 1e6), 1),
        number(p.locality.reuse_factor, 1, MODELLED),
        _kib(p.locality.footprint_bytes),
        Cell(clean(p.confidence, 20)),
    )


def left_out_table(results: tuple[AccessResult, ...]) -> Table | None:
    """Return what has no access model and why; None where everything has one."""
    several = len(results) > 1
    found = sorted(((r.model, *entry) for r in results for entry in r.left_out), key=lambda entry: -entry[3])
    if not found:
        return None
    word = time_word(results[0])
    heads = (
        Head("what", meaning="the layer or kernel"),
        *((Head("model"),) if several else ()),
        Head("why"),
        Head(f"of the {word}", "%", True, MEASURED, "its share of the sum of all durations of the run"),
    )
    rows = tuple(
        Row(
            (
                Cell(kernel_label(what)),
                *((Cell(run_label(model, 40)),) if several else ()),
                Cell(clean(why, 120)),
                number(share, 2),
            )
        )
        for model, what, why, share in found[:MAX_LEFT_OUT]
    )
    more = len(found) - len(rows)
    note = "What is left out is in no figure, table or sentence above." + (
        f" {count(more)} smaller ones are not listed." if more else ""
    )
    what = "operators" if word.startswith("operator") else "kernels"
    return Table("access-left-out-table", f"Layers and {what} without an access model", heads, rows, note)


def _named(p: PatternAccess) -> Cell:
    return Cell(name(p.pattern), remark=run_label(p.model, 40) + _standing(p), detail=_detail(p))


def _standing(p: PatternAccess) -> str:
    """Return what a row of an attention is that did not run as one kernel; empty for all others."""
    if p.in_parts:
        return ", ran as several kernels"
    return ", not run in this form" if p.hypothetical else ""


def _detail(p: PatternAccess) -> tuple[tuple[str, str], ...]:
    """Return what stands folded behind the name of a case."""
    facts = (
        ("module", p.module), ("operator" if _on_cpu(p) else "kernel", p.kernel), ("shapes", p.shapes), ("type", p.dtype),
        ("tiles", p.tiles), ("order", p.order), ("formula", p.formula),
    )  # fmt: skip
    return tuple((title, clean(text, FULL_NAME_LIMIT)) for title, text in facts if text)


def _kib(value: float) -> Cell:
    return number(value / 1024, 0 if not value < 10 * 1024 else 1, MODELLED)


def _size(value: float) -> Cell:
    return Cell(size(value), value) if math.isfinite(value) else missing()


def _share(value: float) -> Cell:
    """Return a share as a percentage with the digits that a small one needs."""
    if not math.isfinite(value):
        return missing()
    percent = 100 * value
    return Cell(
        marked(fixed(percent, 0 if percent >= 10 else 1) if percent >= 1 else digits(percent, 2), MODELLED), percent, MODELLED
    )


def _band(band: tuple[float, float], places: int) -> Cell:
    """Return a cell with both ends of a band, sorted by its high end."""
    low, high = band
    if not (math.isfinite(low) and math.isfinite(high)):
        return missing()
    first, last = fixed(low, places), fixed(high, places)
    return Cell(marked(last if first == last else f"{first} to {last}", MODELLED), high, MODELLED)
