"""Section "memory": how much of the bandwidth is used, whether data fits the caches, and what holds memory at its peak."""

from __future__ import annotations

import math

from analyzer.format import percent, size
from analyzer.insight.counters import is_counted, mean_by_time
from analyzer.report.blocks import Block, Figure, Folded, Notice, Prose, Section, Table
from analyzer.report.figures.memory import curves as draw_curves
from analyzer.report.figures.memory import locality as draw_locality
from analyzer.report.figures.memory import throughput as draw_throughput
from analyzer.report.marks.memory import Curve, Locality, Throughputs, curves, levels, locality, throughputs
from analyzer.report.marks.time import time_word
from analyzer.report.sections.memory_tables import (
    holders_table,
    levels_table,
    locality_table,
    profile_table,
    throughput_table,
)
from analyzer.report.text import clean, operator_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis, Study

ID, HEADING, SHORT = "memory", "How well is memory used?", "Memory"
M, MOD = Evidence.MEASURED, Evidence.MODELLED

THROUGHPUT_HOW = (
    "Each mark is one kind in one run: the bytes that its kernels (on a CPU: operators) had to move at least, over the time "
    "they took, in % of the DRAM bandwidth used for floors. At 100 % DRAM is the limit; far to the left something else is. "
    "Marks are hollow because the bytes are modelled; a bar spans what the access model expects to cross DRAM. A kind marked "
    "“from a cache” moved its bytes faster than DRAM can, so a cache held some of them and its DRAM traffic is not known. The "
    "percentages at the right are shares of each run's time."
)
LOCALITY_HOW = (
    "Each line rises to the share of a run's time that is spent in launches (kernels; on a CPU operators) touching at most so "
    "many bytes. Dashed vertical lines are the capacities of caches. What rises to the left of a cache's line fits that "
    "cache: it may come from DRAM when it is touched first, and need not come again. What rises to the right cannot be held "
    "whole. A line ends below 100 % where kernels have no byte count."
)
CURVE_HOW = (
    "The line is what the allocator has handed out, one step per allocation or release; the triangle marks its peak. A dashed "
    "line is what the allocator has reserved from the device. Several profiler steps are shaded in turn."
)
COUNTERS = (
    "Cache hit rates, that of the L2 among them: not available. They take hardware counters (of a GPU: Nsight Compute, "
    "rocprof), and {who}. The section on access models what a cache can hold."
)
COUNTED_HOW = (
    " A filled mark is what DRAM really moved, by hardware counters: it stands before the hollow one, whose bytes are modelled."
)
NO_COUNTERS = "this report has none: section Counters says why"
NO_EVENTS = (
    "no memory curve, because the trace holds no [memory] events; record with profile_memory=True, or with analyzer, "
    "which does."
)


def section(study: Study) -> Section:
    """Return bandwidth, locality and the allocators of each run, or one line on what is missing."""
    labels = tuple(clean(a.label, 60) for a in study.analyses)
    blocks = [*_bandwidth(study, labels), *_locality(study, labels), *_hits(study, labels), *_allocators(study)]
    return Section(ID, HEADING, SHORT, tuple(blocks))


def _hits(study: Study, labels: tuple[str, ...]) -> list[Block]:
    """Return the counted L2 hit rate of the runs that have one, and what the others lack."""
    blocks: list[Block] = []
    without = []
    for a, label in zip(study.analyses, labels, strict=True):
        if is_counted(a, "l2_hit_pct"):
            hits = mean_by_time(a.launches[a.launches["category"].eq("kernel")], "l2_hit_pct")
            text = f"{label}: of what its kernels looked up in L2, {percent(hits)} was there (mean weighted by time, counted). "
            blocks.append(Prose(f"{text}Section Counters has it by kind, operator and module.", M))
        else:
            without.append(label)
    if not without:
        return blocks
    if all(a.device.type != "cuda" for a in study.analyses):
        who = "those of processors are not read"
    else:
        who = f"{' and '.join(dict.fromkeys(without))} {'has' if len(without) == 1 else 'have'} none" if blocks else NO_COUNTERS
    return [*blocks, Notice(COUNTERS.format(who=who))]


def _bandwidth(study: Study, labels: tuple[str, ...]) -> list[Block]:
    data = throughputs(study.analyses)
    drawn = {mark.run for mark in data.marks}
    blocks: list[Block] = []
    for run, a in enumerate(study.analyses):
        if run not in drawn:
            unknown, what = a.limits[0].figure, "kernel" if a.device.type == "cuda" else "operator"
            why = clean(unknown.source) if unknown.value is None else f"no {what} of this trace has a known number of bytes"
            blocks.append(Notice(f"{labels[run]}: no DRAM throughput: {why}."))
    if data.marks:
        title = "DRAM throughput by kind"
        drawing = draw_throughput(data, labels, title)
        how = THROUGHPUT_HOW + (COUNTED_HOW if any(math.isfinite(mark.counted_pct) for mark in data.marks) else "")
        blocks.append(Figure("fig-dram", title, how, drawing, throughput_table(data, labels), _beyond_mark(data)))
    return blocks


def _beyond_mark(data: Throughputs) -> str:
    """Return why a bar may lie right of its mark, empty where none does."""
    if not any(mark.low_pct > mark.pct + 1 for mark in data.marks):
        return ""
    return (
        "A bar that lies right of its mark: the work of one operator is shared by several launches, of which each moves bytes "
        "of its own that the compulsory ones do not count."
    )


def _locality(study: Study, labels: tuple[str, ...]) -> list[Block]:
    found = [line for run, a in enumerate(study.analyses) if (line := locality(a, run))]
    if not found:
        return []
    blocks: list[Block] = [Prose(_fits(study.analyses[line.run], line), MOD) for line in found]
    lines, title = levels(study.analyses), "Time by bytes touched per launch"
    drawing = draw_locality(tuple(found), lines, title)
    blocks.append(Figure("fig-locality", title, LOCALITY_HOW, drawing, locality_table(tuple(found)), _halves(study, found)))
    if lines:
        blocks.append(Folded("Capacities of caches and memory", (levels_table(lines, labels),)))
    return blocks


def _fits(a: Analysis, line: Locality) -> str:
    """Return how much of the time works on more data than the last cache holds."""
    label, word = clean(a.label, 60), time_word(a)
    rest = 100 - line.known_pct
    what = "kernels" if a.device.type == "cuda" else "operators"
    tail = f"; {percent(rest)} has no byte count" if rest >= 0.1 else ""
    if line.last is None or line.last.figure.value is None:
        return (
            f"{label}: half of the {word} with a byte count is in {what} that touch {size(line.median_bytes)} or less{tail}. "
            "The size of the last cache is not known."
        )
    cache = f"the {line.last.name.removesuffix(' capacity')} holds ({size(line.last.figure.value)})"
    beyond = percent(line.beyond_pct) if line.beyond_pct else "None"
    return (
        f"{beyond} of the {word} of {label} is spent in {what} that touch more data than {cache}, {percent(line.within_pct)} "
        f"in {what} whose data fits it{tail}."
    )


def _halves(study: Study, found: list[Locality]) -> str:
    """Return a warning on caches that may hold everything twice, empty where no run has one."""
    results = [study.analyses[line.run].access for line in found]
    named = [clean(r.own.name, 60) for r in results if r and r.own and r.own.partitions > 1]
    if not named:
        return ""
    return (
        f"The L2 of {' and '.join(dict.fromkeys(named))} has two halves that may each keep a copy of what both need, so in the "
        "worst case only half of it counts."
    )


def _allocators(study: Study) -> list[Block]:
    silent = " and ".join(clean(a.label, 60) for a in study.analyses if not a.memory)
    blocks: list[Block] = [Notice(f"{silent}: {NO_EVENTS}")] if silent else []
    found = curves(study.analyses)
    if not found:
        return blocks
    blocks += [Prose(_peak(curve), M) for curve in found]
    title = "Memory held over time"
    table = profile_table(study.analyses, found)
    blocks.append(Figure("fig-memory", title, CURVE_HOW, draw_curves(found, title), table, _caption(found)))
    for a in study.analyses:
        reasons = dict.fromkeys(p.reason for p in a.memory if p.reason)
        blocks += [Notice(f"{clean(a.label, 60)}: what holds memory at the peak is not known: {reason}.") for reason in reasons]
    holders: Table | None = holders_table(study.analyses, found)
    return [*blocks, holders] if holders else blocks


def _peak(curve: Curve) -> str:
    """Return where the peak of one allocator lies and what holds it."""
    p = curve.profile
    who = f"{clean(curve.label, 60)}, {clean(p.device, 40)}"
    if p.is_absolute:
        text = f"{who}: at its peak the allocator has handed out {size(p.peak_bytes)}"
    else:
        text = f"{who}: at its peak {size(p.peak_bytes)} more is allocated than when the recording began"
    where = "step" if curve.profile.transient_bytes and curve.steps else "window"
    if size(p.transient_bytes) != size(p.peak_bytes):
        text += f", {size(p.transient_bytes)} more than at the lowest point before it in the same {where}"
    if p.before_bytes > 0:
        text += f"; {size(p.before_bytes)} was held since before the recording"
    return f"{text}.{_largest(p)}"


def _largest(p: MemoryProfile) -> str:
    if p.at_peak.empty:
        return ""
    most = p.at_peak.iloc[0]
    op, module = str(most["op"]), clean(str(most["module"]), 120)
    maker = operator_label(op) if op else "code outside any operator"
    where = f" in {module}" if module else ""
    return f" Of what was allocated during the recording, {maker}{where} holds most: {size(float(most['bytes']))}."


def _caption(found: tuple[Curve, ...]) -> str:
    parts = []
    if any(not curve.profile.is_absolute for curve in found):
        parts.append(
            "Where the trace has no totals of the allocator, and on a CPU, the curve begins at what was allocated when the "
            "recording began, and shows changes alone: weights that were there before are not in it."
        )
    if any(not curve.profile.is_absolute and curve.span[0] < 0 for curve in found):
        parts.append("Below zero more was freed than had been allocated since then.")
    return " ".join(parts)
