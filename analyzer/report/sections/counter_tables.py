"""The tables of section "counters"."""

from __future__ import annotations

import math

from analyzer.format import count, marked
from analyzer.report.blocks import Cell, Head, Row, Table, missing, number
from analyzer.report.marks.counters import TENSOR_SEEN_PCT, Compared, Group
from analyzer.report.sections.memory_tables import module_cell
from analyzer.report.text import clean, operator_label
from analyzer.schema.counters import CounterView
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis

M, D, MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
MAX_ROWS, OPEN_ROWS = 60, 12
MIB = 2.0**20

CACHES = {"warm": "as the kernel before left them", "cold": "emptied before each kernel"}
"""What the mode of a counter run means for the caches."""
_CACHES = "; ".join(f"{mode}: {meaning}" for mode, meaning in CACHES.items())

SHARE = Head("share of time", "%", True, M, "of the kernel time of its run")
COUNTED = Head("of it counted", "%", True, M, "share of that time in launches that have counters")
TRAFFIC_NOTE = (
    "Counted and modelled bytes are of the same launches: those that have both. What was counted in the others, which have no "
    "access model or only help another kernel, stands in the column “in other launches”. The model's band spans replacement "
    "policies and what the cache may still hold when a kernel ends; it takes each kernel to find the L2 empty. Where caches "
    "were warm, the counted bytes can be less: the kernel before has left its output there."
)
USE_NOTE = (
    "All figures are means weighted by time. Nsight Compute counts hits and lookups in different passes, so a hit rate can be "
    "a little off. The L1 hit rate leaves out what TMA loads, the copy unit of Hopper and later, because that passes by the "
    "L1's counters. Achieved occupancy is warps resident in the cycles in which a multiprocessor has any; it lies below what "
    "the launches allow where blocks end at different times. The tensor pipe counts as active in each such cycle with an "
    "instruction in it; FLOP over time is less than that by padding, slower clocks, and time in which multiprocessors are "
    "empty."
)


def traffic_table(table_id: str, caption: str, what: str, groups: tuple[Group, ...], labels: tuple[str, ...]) -> Table:
    """Return the bytes of ``groups``, counted beside modelled, in MiB; ``what`` a row is."""
    heads = (
        *_first(what, labels),
        Head(
            "compulsory",
            "MiB",
            True,
            MOD,
            "bytes that cross DRAM where no cache holds any: each input read once, each output written once",
        ),
        Head("model, low", "MiB", True, MOD, "fewest bytes that the access model expects at DRAM"),
        Head("model, high", "MiB", True, MOD, "most bytes that the access model expects at DRAM"),
        Head(
            "DRAM counted",
            "MiB",
            True,
            M,
            "bytes that crossed DRAM by counters, in launches with a model",
        ),
        Head("over compulsory", "x", True, MOD, "counted DRAM bytes over compulsory bytes of the same launches"),
        Head("in other launches", "MiB", True, M, "bytes that crossed DRAM by counters, in launches that cannot be compared"),
        Head("L2 reads, model", "MiB", True, MOD, "bytes that the access model expects multiprocessors to read from L2"),
        Head(
            "L2 reads counted",
            "MiB",
            True,
            M,
            "bytes that multiprocessors read from L2 by counters, TMA included",
        ),
    )
    rows = tuple(Row((*_names(g, what, labels), *_bytes(g)), run=labels[g.run], kind=g.kind) for g in groups)
    return Table(table_id, caption, heads, rows, note=TRAFFIC_NOTE if what == "kind" else "", open_rows=OPEN_ROWS)


def use_table(table_id: str, caption: str, what: str, groups: tuple[Group, ...], labels: tuple[str, ...]) -> Table:
    """Return hit rates, occupancy and use of the tensor pipe of ``groups``; ``what`` a row is."""
    heads = (
        *_first(what, labels),
        Head("L2 hits", "%", True, M, "share of the sectors looked up in L2 that were there"),
        Head("L1 hits", "%", True, M, "share of the sectors looked up in L1 that were there; TMA traffic is not in it"),
        Head("occupancy, theoretical", "%", True, D, "occupancy that registers, shared memory and block size allow"),
        Head("launch-limited", "%", True, D, "the same, where the grid has too few blocks to fill the multiprocessors"),
        Head("achieved", "%", True, M, "resident warps in active cycles by counters, of the most possible"),
        Head("tensor pipe active", "%", True, M, "share of the active cycles of multiprocessors with the tensor pipe in use"),
        Head("FLOP of the peak", "%", True, MOD, "FLOP over time in launches on matrix units, of the peak used for floors"),
    )
    rows = tuple(Row((*_names(g, what, labels), *_use(g)), run=labels[g.run], kind=g.kind) for g in groups)
    return Table(table_id, caption, heads, rows, note=USE_NOTE if what == "kind" else "", open_rows=OPEN_ROWS)


def _first(what: str, labels: tuple[str, ...]) -> tuple[Head, ...]:
    return (Head(what), *((Head("run"),) if len(labels) > 1 else ()), SHARE, COUNTED)


def _names(group: Group, what: str, labels: tuple[str, ...]) -> tuple[Cell, ...]:
    run = (Cell(labels[group.run]),) if len(labels) > 1 else ()
    if what == "module":
        cell = module_cell(group.name)
    else:
        cell = Cell(operator_label(group.name), chip=group.kind if what == "kind" else "")
    return cell, *run, number(group.share_pct, 1), number(group.counted_pct, 1)


def _bytes(group: Group) -> tuple[Cell, ...]:
    known = group.compulsory_bytes > 0
    return (
        _mib(group.compulsory_bytes, MOD), *_ends(group.dram), _mib(group.dram.measured, M),
        number(group.dram.measured / group.compulsory_bytes if known else math.nan, 2, MOD),
        Cell("–") if math.isnan(group.dram.rest) else _mib(group.dram.rest, M),
        _mib(group.l2.low, MOD), _mib(group.l2.measured, M),
    )  # fmt: skip


def _ends(found: Compared) -> tuple[Cell, Cell]:
    return _mib(found.low, MOD), _mib(found.high, MOD)


def _mib(value: float, evidence: Evidence) -> Cell:
    """Return bytes in MiB; a few of them do not read as none."""
    mib = value / MIB
    return Cell(marked("<0.1", evidence), mib, evidence) if 0 < mib < 0.05 else number(mib, 1, evidence)


def _use(group: Group) -> tuple[Cell, ...]:
    idle = math.isnan(group.peak_pct) and not group.tensor_pct > TENSOR_SEEN_PCT
    return (
        number(group.l2_hit_pct, 1), number(group.l1_hit_pct, 1), number(group.theoretical_pct, 1, D),
        number(group.allowed_pct, 1, D), number(group.achieved_pct, 1), number(group.tensor_pct, 1),
        Cell("–") if idle else number(group.peak_pct, 1, MOD),
    )  # fmt: skip


def source_table(analyses: tuple[Analysis, ...], labels: tuple[str, ...]) -> Table:
    """Return where the counters of each run come from and how far they match, refused ones included."""
    found = [(a, label, a.counters) for a, label in zip(analyses, labels, strict=True) if a.counters is not None]
    rows = tuple(Row(_source(a, label, view)) for a, label, view in found)
    heads = (
        Head("run"),
        Head("source"),
        Head("counted by", meaning="the program that read the counters, where the source tells"),
        Head("caches", meaning=_CACHES),
        Head("passes", "", True, M, "how often the model ran for counters, one group of them each"),
        Head("launches counted", "", True, M, "kernel launches in the source"),
        Head("of them matched", "", True, M, "of these, how many were matched to a launch of the trace"),
        Head("kernel time matched", "%", True, M, "share of the kernel time of the trace in launches that have counters"),
        Head("matched by", meaning="how much of a name a counted launch shares with its launch of the trace"),
    )
    note = (
        "Counters are read while kernels run one by one, so no duration comes from them: every time on this page is of the "
        "trace. A counted launch is matched to those of the trace that have the same name and launch shape in the same order."
    )
    return Table("counters-source-table", "Where the counters come from", heads, rows, note=note)


def _source(a: Analysis, label: str, view: CounterView) -> tuple[Cell, ...]:
    facts = a.run.facts.counters if a.run.facts and view.kind == "ncu" else None
    passes = Cell(count(facts.passes), float(facts.passes)) if facts and facts.passes else Cell("–")
    return (
        Cell(label), Cell(clean(view.source, 80)), Cell(clean(view.tool, 60) or "not told"),
        Cell(view.mode if view.mode in CACHES else "not told"), passes, Cell(count(view.rows), float(view.rows)),
        Cell(count(view.used), float(view.used)), number(view.matched_pct, 1) if view.rows else missing(),
        Cell(clean(view.matching, 120) or "–"),
    )  # fmt: skip
