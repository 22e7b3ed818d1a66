"""Section "kernels": which kernels matter."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analyzer.format import APPROXIMATELY, count, fixed, percent, size
from analyzer.metrics.kernels import KEY
from analyzer.report.blocks import Block, Cell, Head, Notice, Prose, Row, Section, Table, missing, number
from analyzer.report.marks.time import time_word
from analyzer.report.text import FULL_NAME_LIMIT, clean, kernel_label, kilobytes_omitted, operator_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

OPEN_ROWS = 20
MAX_ROWS = 200
MODELLED, MEASURED, DERIVED = Evidence.MODELLED, Evidence.MEASURED, Evidence.DERIVED

HEADS = (
    Head("operator · kernel", meaning="operator that launched the kernel, and the kernel's name without its arguments"),
    Head("kind", meaning="what the kernel does, named by fixed rules from its operator and its own name"),
    Head("time", "ms", True, MEASURED, "sum of the durations, per step where the trace names steps"),
    Head("share", "%", True, MEASURED, "of the kernel time of its run"),
    Head("cum.", "%", True, MEASURED, "cumulative: share of this row and of all longer ones of its run"),
    Head("calls", "", True, MEASURED, "launches, per step where the trace names steps"),
    Head("mean", "µs", True, MEASURED, "mean duration of a call, with the standard deviation between the calls"),
    Head("memory", "GB/s", True, MODELLED, "compulsory bytes over time; a lower bound of the real throughput (GB = 1e9 bytes)"),
    Head(
        "of peak",
        "%",
        True,
        MODELLED,
        "of the bandwidth used for floors; 'cache' where memory alone could not have been so fast",
    ),
    Head("rate", "TFLOP/s", True, MODELLED, "FLOP over time; a multiply-add counts 2"),
    Head(
        "of its peak",
        "%",
        True,
        MODELLED,
        "of the peak of the unit and number format that the kernel used; open a row to see it",
    ),
    Head("FLOP/byte", "", True, MODELLED, "FLOP over compulsory bytes: arithmetic intensity"),
    Head(
        "limit",
        "",
        False,
        MODELLED,
        "the higher of the compute and the memory floor; below a third of the time 'latency' for a GPU kernel under 5 µs or "
        "with fewer blocks than multiprocessors, else 'neither'; 'L2' or 'cache' where DRAM alone could not have been so fast",
    ),
)
OCCUPANCY = Head(
    "occupancy", "%", True, DERIVED, "resident warps that registers, shared memory, block and grid allow, of the most possible"
)
ACHIEVED = Head("achieved", "%", True, MEASURED, "resident warps in active cycles by hardware counters, of the most possible")
RUN = Head("run")
MEMORY = ("memory", "of peak")
"""Columns that come from counted bytes where there are some."""


def section(study: Study, max_rows: int = MAX_ROWS) -> Section:
    """Return the kernel table of all runs, longest first."""
    several = len(study.analyses) > 1
    shown = _Columns(several, any(a.device.type == "cuda" for a in study.analyses), any(map(_is_counted, study.analyses)))
    found = [(time, row) for a in study.analyses for time, row in _rows(a, shown, max_rows)]
    gpu = any(a.device.type == "cuda" for a in study.analyses)
    heading, short = ("Which kernels matter?", "Kernels") if gpu else ("Which operators matter?", "Operators")
    total = sum(len(a.kernels) for a in study.analyses)
    if not found:
        text = (
            "The trace holds no kernels and no operators that do work, so there is no table; kernels.csv has its header alone."
        )
        return Section("kernels", heading, short, (Notice(text),))
    found.sort(key=lambda item: -item[0])
    rows = tuple(row for _, row in found[:max_rows])
    heads = _heads(shown, rows)
    caption = f"{count(len(rows))} of {count(total)} rows, longest first; all of them are in kernels.csv"
    blocks: list[Block] = [Prose(_lead(a), MEASURED) for a in study.analyses if len(a.kernels)]
    blocks.append(Table("kernel-table", caption, heads, rows, open_rows=OPEN_ROWS, note=_note(gpu, shown.counted)))
    return Section("kernels", heading, short, tuple(blocks))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns the table has besides HEADS: the run, the occupancy that launches allow, what was achieved."""

    several: bool
    occupancy: bool
    counted: bool


def _is_counted(a: Analysis) -> bool:
    return bool(a.kernels["occupancy_achieved_pct"].notna().any())


def _heads(shown: _Columns, rows: tuple[Row, ...]) -> tuple[Head, ...]:
    """Return the columns; those of memory are measured where every figure in them was counted."""
    heads = [HEADS[0], *([RUN] if shown.several else []), *HEADS[1:]]
    heads += [OCCUPANCY] * shown.occupancy + [ACHIEVED] * shown.counted
    for place, head in enumerate(heads):
        levels = {row.cells[place].evidence for row in rows} - {None, Evidence.UNAVAILABLE}
        if shown.counted and head.text in MEMORY:
            meaning = f"without ≈: from DRAM bytes that were counted; with it: {head.meaning}"
            heads[place] = replace(head, meaning=meaning, evidence=MEASURED if levels == {MEASURED} else head.evidence)
    return tuple(heads)


def _note(gpu: bool, has_counts: bool) -> str:
    what = "" if gpu else " On a CPU the operators stand where kernels stand, each with its own time without its children."
    rates = "Rates are computed from modelled work, so none of them is a counter reading."
    if has_counts:
        rates = (
            "Memory rates without ≈ rest on counted DRAM bytes; the modelled bytes stand behind the name. The other rates are "
            "computed from modelled work."
        )
    return f"Open a name for the whole of it, its shapes, module and launch. {rates}{what}"


def _lead(a: Analysis) -> str:
    top = a.kernels["share_pct"].head(5)
    rows = f"{count(len(top))} of {count(len(a.kernels))} rows make" if len(top) > 1 else "one row makes"
    return f"{clean(a.label, 60)}: {rows} up {percent(float(top.sum()))} of the {time_word(a)}."


def _rows(a: Analysis, shown: _Columns, limit: int) -> list[tuple[float, Row]]:
    steps = a.window.batches or 1
    frame = a.kernels.head(limit)
    spread = _spread(a)
    rate_places = 2 if a.device.type == "cuda" else 4
    label = clean(a.label, 60)
    cumulative = 0.0
    out = []
    for position, row in enumerate(frame.to_dict("records")):
        cumulative += float(row["share_pct"])
        level = MODELLED if row["evidence"] == MODELLED.value else MEASURED
        ms = float(row["time_us"]) / 1e3 / steps
        mean = float(row["mean_us"])
        cells = [
            _name(row),
            *([Cell(label)] if shown.several else []),
            Cell(str(row["kind"]), chip=str(row["kind"])),
            number(ms, 3),
            number(float(row["share_pct"]), 1),
            number(min(cumulative, 100.0), 1),
            Cell(_calls(float(row["calls"]) / steps), float(row["calls"]) / steps),
            Cell(_mean(mean, spread[position]), mean, MEASURED),
            *_memory(row, level),
            number(float(row["tflops"]), rate_places, level),
            number(float(row["peak_pct"]), 1, level),
            number(float(row["flop_per_byte"]), 2, level),
            Cell(str(row["bound"]), evidence=level) if row["bound"] else missing(),
        ]
        if shown.occupancy:
            cells.append(number(float(row["occupancy_pct"]), 1, DERIVED))
        if shown.counted:
            cells.append(number(float(row["occupancy_achieved_pct"]), 1))
        out.append((ms, Row(tuple(cells), run=label, kind=str(row["kind"]))))
    return out


def _memory(row: dict[Any, Any], level: Evidence) -> tuple[Cell, Cell]:
    """Return DRAM throughput and its share of the peak: from counted bytes where the row has them."""
    if row["from_cache"]:
        return (Cell("cache", math.inf, level),) * 2
    level = MEASURED if row["dram_counted"] else level
    return number(float(row["dram_gbps"]), 1, level), number(float(row["dram_pct_of_peak"]), 1, level)


def _calls(value: float) -> str:
    return count(value) if value == int(value) else fixed(value, 1)


def _mean(mean: float, spread: float) -> str:
    places = 0 if mean >= 1000 else 1 if mean >= 10 else 2
    return f"{fixed(mean, places)} ± {fixed(spread, places)}" if math.isfinite(spread) else fixed(mean, places)


def _spread(a: Analysis) -> list[float]:
    """Return the standard deviation of the durations of each row of ``kernels``, NaN for a single call."""
    rows = a.launches[a.launches["category"].isin(("kernel", "operator"))]
    deviation = rows.groupby(KEY, dropna=False, sort=False)["dur_ns"].std().div(1e3).rename("spread").reset_index()
    merged = a.kernels[KEY].merge(deviation, on=KEY, how="left") if len(rows) else pd.DataFrame({"spread": []})
    found = merged["spread"].to_numpy(np.float64)
    return [float(v) for v in found] if len(found) == len(a.kernels) else [math.nan] * len(a.kernels)


def _name(row: dict[Any, Any]) -> Cell:
    kernel, op = str(row["kernel"]), str(row["op"])
    short = kernel_label(kernel)
    text = f"{operator_label(op)} · {short}" if op and op != kernel else operator_label(kernel)
    detail = [("name", clean(kernel, FULL_NAME_LIMIT) + kilobytes_omitted(kernel))]
    for title, key in (("shapes", "shapes"), ("module", "module"), ("type", "dtype"), ("grid", "grid"), ("block", "block")):
        if row[key]:
            detail.append((title, clean(str(row[key]), 300)))
    if row["flop"] > 0 and row["unit"] != "core":
        how = " (assumed: its name does not tell)" if row["unit_assumed"] else ""
        detail.append(("computes on", f"{row['unit']} units, {row['number_format']}{how}"))
    if float(row["bytes_high"]) > float(row["bytes_compulsory"]):
        low, high = size(float(row["bytes_compulsory"])), size(float(row["bytes_high"]))
        detail.append(("bytes between", f"{low} and {high}: the trace does not tell how many elements were chosen"))
    if row["unmodelled"]:
        detail.append(("no work model", clean(str(row["unmodelled"]), 200)))
    for title, key in (("registers", "registers"), ("shared bytes", "shared_bytes"), ("waves", "waves")):
        value = float(row[key])
        if math.isfinite(value):
            detail.append((title, fixed(value, 2) if key == "waves" else count(value)))
    if row["occupancy_limit"]:
        detail.append(("occupancy limited by", str(row["occupancy_limit"])))
    detail += _counters(row)
    return Cell(clean(text, 96), remark=clean(str(row["shapes"]), 46), detail=tuple(detail))


def _counters(row: dict[Any, Any]) -> list[tuple[str, str]]:
    """Return what was counted of a row, each beside what the models say; nothing where nothing was."""
    out = []
    dram, fetched = float(row["bytes_dram_counter"]), float(row["bytes_l2_sm_counter"])
    if math.isfinite(dram):
        low, high, least = (float(row[name]) for name in ("bytes_dram_low", "bytes_dram_high", "bytes_compulsory"))
        model = f"; access model {APPROXIMATELY}{size(low)} to {size(high)}" if math.isfinite(low) else ""
        least_words = f"; compulsory {APPROXIMATELY}{size(least)}" if math.isfinite(least) else ""
        out.append(("DRAM bytes", f"{size(dram)} counted{model}{least_words}"))
    if math.isfinite(fetched):
        out.append(("read from L2", f"{size(fetched)} counted"))
    for title, name in (("L2 hits", "l2_hit_pct"), ("L1 hits", "l1_hit_pct"), ("tensor pipe active", "tensor_active_pct")):
        if math.isfinite(float(row[name])):
            out.append((title, f"{fixed(float(row[name]), 1)} % counted"))
    return out
