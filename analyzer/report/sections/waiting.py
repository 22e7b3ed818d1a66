"""Tables of section "busy": what an idle GPU waits for, and how its kernels were attributed."""

from __future__ import annotations

from dataclasses import astuple

import pandas as pd

from analyzer.format import count, fixed, percent
from analyzer.report.blocks import Cell, Head, Row, Table
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Idle, Study

LINK_NAMES = {
    "operator": "to the innermost operator around its launch call",
    "external id": "to the operator whose id the profiler wrote into it",
    "aligned": "to the operator of the same kernel in a trace of the same code without graphs: a CUDA or HIP graph replayed it",
    "graph": "to the launch of a whole CUDA or HIP graph, and to no operator",
    "call": "to its launch call, which no operator encloses",
    "none": "not at all: its launch is not in the trace",
}

IDLE_HEADS = (
    ("idle", "no kernel, copy or fill runs on the GPU"),
    ("waits for its host", "idle, while the host has not yet called the launch that ends the gap"),
    ("waits for data", "idle, while the host waits for its data loader"),
    ("host in a synchronising call", "idle, while the host stands in a call that waits for the GPU"),
    ("launch on its way", "idle, after the host has called the launch that ends the gap"),
    ("launch not traced", "idle before a kernel whose launch is not in the trace"),
    ("copies alone", "a copy or fill runs and no kernel; not part of the idle time"),
)


def idle_table(study: Study) -> Table | None:
    """Return the idle time of each run on a GPU in parts that add up to it; None without a GPU."""
    rows = tuple(_idle_row(a, idle) for a in study.analyses if (idle := a.totals.idle) is not None)
    if not rows:
        return None
    return Table(
        "idle-table",
        "What the GPU waits for while nothing runs on it",
        (Head("run"), *(Head(text, "ms", True, Evidence.DERIVED, meaning) for text, meaning in IDLE_HEADS)),
        rows,
        note="Per step where all work lies in steps, else in the whole window; in brackets the share of the traced time. "
        "The five columns behind idle add up to it. Copies alone are no idle time: a copy or fill runs then, and no kernel.",
    )


def _idle_row(a: Analysis, idle: Idle) -> Row:
    steps, wall = a.window.batches or 1, a.totals.wall_us
    times = (a.totals.idle_us, *astuple(idle), a.totals.copy_only_us)
    cells = [
        Cell(f"{fixed(time / steps / 1e3, 3)} ({percent(100 * time / wall if wall else 0.0)})", time, Evidence.DERIVED)
        for time in times
    ]
    return Row((Cell(clean(a.label, 60)), *cells))


def link_table(study: Study) -> Table | None:
    """Return how the kernels of each run on a GPU were attributed; None without a GPU."""
    rows = [row for a in study.analyses if a.device.type == "cuda" for row in _link_rows(a)]
    if not rows:
        return None
    heads = (
        Head("run"),
        Head("kernels are attributed", meaning="how the operator that launched a kernel was found"),
        Head("kernels", "", True, Evidence.DERIVED, "launches in the window whose operator was found in this way"),
        Head("of the kernel time", "%", True, Evidence.DERIVED, "their share of the sum of all durations"),
    )
    return Table(
        "link-table",
        "How kernels were attributed to operators",
        heads,
        tuple(rows),
        note="Each kernel has at most one operator. What is not attributed to one still counts in every total.",
    )


def _link_rows(a: Analysis) -> list[Row]:
    kernels = a.launches[a.launches["category"] == "kernel"]
    found: pd.DataFrame = kernels.groupby("link")["dur_ns"].agg(["size", "sum"])
    total = float(kernels["dur_ns"].sum())
    rows = []
    for link, text in LINK_NAMES.items():
        if link not in found.index:
            continue
        size, time = (int(found[column].loc[link]) for column in ("size", "sum"))
        share = Cell(percent(100 * time / total) if total else "–", float(time))
        rows.append(Row((Cell(clean(a.label, 60)), Cell(text), Cell(count(size), float(size)), share)))
    return rows
