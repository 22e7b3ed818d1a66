"""Tables of section "busy": what an idle GPU waits for, and how its kernels were attributed."""

from __future__ import annotations

import pandas as pd

from analyzer.format import count, percent
from analyzer.report.blocks import Cell, Head, Row, Table, number
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

LINK_NAMES = {
    "operator": "to the innermost operator around its launch call",
    "external id": "to the operator whose id the profiler wrote into it",
    "graph": "to the launch of a whole CUDA or HIP graph, and to no operator",
    "call": "to its launch call, which no operator encloses",
    "none": "not at all: its launch is not in the trace",
}


def idle_table(study: Study) -> Table | None:
    """Return the idle time of each run on a GPU in parts that add up to it; None without a GPU."""
    rows = [row for a in study.analyses if a.totals.idle is not None for row in _idle_rows(a)]
    if not rows:
        return None
    heads = (
        Head("run"),
        Head("the GPU waits for"),
        Head("time", "ms", True, Evidence.DERIVED),
        Head("of the traced time", "%", True, Evidence.DERIVED),
    )
    return Table(
        "idle-table",
        "What the GPU waits for while nothing runs on it",
        heads,
        tuple(rows),
        note="Per step where all work lies in steps, else in the whole window. The parts add up to the idle time. "
        "Copies alone are no idle time: a copy or fill runs then, and no kernel.",
    )


def _idle_rows(a: Analysis) -> list[Row]:
    idle, wall = a.totals.idle, a.totals.wall_us
    if idle is None:
        return []
    steps = a.window.batches or 1
    parts = (
        ("its host, which has not launched anything", idle.host_us, False),
        ("its host, which is inside a synchronising call", idle.sync_us, False),
        ("a launch on its way", idle.launch_us, False),
        ("something whose launch is not in the trace", idle.unknown_us, False),
        ("idle time, all of the above", a.totals.idle_us, True),
        ("nothing: copies or fills run, but no kernel", a.totals.copy_only_us, False),
    )
    return [
        Row(
            (
                Cell(clean(a.label, 60)),
                Cell(what),
                number(time / steps / 1e3, 3, Evidence.DERIVED),
                Cell(percent(100 * time / wall) if wall else "–", time),
            ),
            total=total,
        )
        for what, time, total in parts
        if time or total
    ]


def link_table(study: Study) -> Table | None:
    """Return how the kernels of each run on a GPU were attributed; None without a GPU."""
    rows = [row for a in study.analyses if a.device.type == "cuda" for row in _link_rows(a)]
    if not rows:
        return None
    heads = (
        Head("run"),
        Head("kernels are attributed"),
        Head("kernels", "", True, Evidence.DERIVED),
        Head("of the kernel time", "%", True, Evidence.DERIVED),
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
