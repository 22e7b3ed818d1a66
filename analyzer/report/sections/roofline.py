"""Section "roofline": what limits each kernel."""

from __future__ import annotations

import numpy as np

from analyzer.format import count, counted, percent
from analyzer.metrics.attribution import MODELLED
from analyzer.report.attributed import attribution_text
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, missing, number
from analyzer.report.figures.roofline import roofline as draw_roofline
from analyzer.report.marks.roofline import NAMED, Roofline, roofline
from analyzer.report.marks.time import time_word
from analyzer.report.sections.rates import alerts, model_table, module_table, operator_table, unmodelled
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

HOW = (
    "Right is more arithmetic per byte, up is faster. Under the slanted line memory bounds the rate, under the flat line "
    "arithmetic does; the distance to the line is the distance to that bound. Area is the share of the run's time. Marks are "
    "hollow because their bytes are modelled: each tensor read or written once."
)

WORDS = {
    "compute": "by compute", "DRAM": "by DRAM", "L2": "by the L2 (DRAM could not have been so fast)",
    "cache": "by a cache (memory could not have been so fast)", "latency": "by latency", "neither": "by neither",
}  # fmt: skip

UNSAID_PCT = 0.1
"""Less time without a floor than this is not mentioned."""
NO_MODEL = "has no work model"
HELPER = "helps another operator, which has the work: a bias copy, a cast, a change of layout"
VIEW = "belongs to an operator that only changes how a tensor is seen"
NO_LIMIT = "has work, but no known peak for it"
CHOSEN = "moves as many elements as a mask or an index chooses, and the trace does not tell how many"
NO_BYTES = "has an operator without FLOP and bytes"
REASONS = (NO_MODEL, HELPER, VIEW, NO_LIMIT, CHOSEN, NO_BYTES)


def section(study: Study) -> Section:
    """Return the roofline with what limits the kernels of each run in words."""
    data = roofline(study.analyses)
    labels = tuple(clean(a.label, 60) for a in study.analyses)
    blocks: list[Block] = [Prose(text, Evidence.MODELLED) for a in study.analyses if (text := _bounds(a))]
    blocks += alerts(study)
    gpu = any(a.device.type == "cuda" for a in study.analyses)
    heading = "What limits each kernel?" if gpu else "What limits each operator?"
    first, second, *rest = (make(study) for make in (model_table, operator_table, module_table, unmodelled))
    attributed = [_attributed(a) for a in study.analyses]
    after = [block for block in (first, *attributed, second, *rest) if block]
    if not data.marks:
        blocks.append(
            Notice(
                f"No roofline: no {'kernel' if gpu else 'operator'} of this trace has known FLOP and bytes. They need operator "
                "shapes; record with record_shapes=True, or with analyzer, which does."
            )
        )
        return Section("roofline", heading, "Limits", (*blocks, *after))
    if data.reasons:
        blocks.append(Notice(f"Without ceilings for {'; '.join(clean(reason) for reason in data.reasons)}."))
    title = "Achieved rate against arithmetic intensity"
    figure = Figure("fig4", title, HOW, draw_roofline(data, labels, title), _table(data, labels), _caption(data, labels))
    return Section("roofline", heading, "Limits", (*blocks, figure, *after))


def _attributed(a: Analysis) -> Prose | None:
    """Return how much of the time the tables by operator and by module cover."""
    text = attribution_text(a)
    return Prose(f"{clean(a.label, 60)}: {text}", Evidence.DERIVED) if text else None


def _bounds(a: Analysis) -> str:
    """Return the shares of the kernel time by bound, empty where no kernel has one."""
    total = float(a.kernels["time_us"].sum())
    known = a.kernels[a.kernels["bound"] != ""]
    if known.empty or not total:
        return ""
    shares = known.groupby("bound")["time_us"].sum() / total * 100
    named = [f"{percent(float(shares[name]))} {text}" for name, text in WORDS.items() if name in shares]
    named[0] = named[0].replace(" by", f" of the {time_word(a)} is limited by", 1)
    tail = _no_floor(a, total)
    latency = (
        " Below that a GPU kernel which is short, or leaves multiprocessors without a block, is limited by latency."
        if a.device.type == "cuda"
        else ""
    )
    return (
        f"{clean(a.label, 60)}: {', '.join(named)}{tail}. The higher floor names the limit, if it is at least a "
        f"third of the time.{latency}"
    )


def _no_floor(a: Analysis, total: float) -> str:
    """Return the share of the kernel time without a floor, in parts by reason; empty where it is next to nothing."""
    rows = a.kernels[a.kernels["bound"] == ""]
    basis, chosen = rows["basis"], rows["bytes_high"] > rows["bytes_compulsory"]
    lacking = [~basis.isin(MODELLED), basis.eq("helper"), basis.eq("view"), rows["floor_us"].isna(), chosen]
    reason = np.select(lacking, REASONS[:-1], NO_BYTES)
    shares = 100 * rows["time_us"].groupby(reason).sum() / total
    said = [f"{percent(float(shares[name]))} {name}" for name in REASONS if name in shares]
    rest = float(shares.sum())
    return f"; {percent(rest)} has no floor ({'; '.join(said)})" if rest >= UNSAID_PCT else ""


def _caption(data: Roofline, labels: tuple[str, ...]) -> str:
    parts = [
        f"{labels[run]} {counted(rows, 'row', 'rows')} of kernels.csv, {percent(share)} of the time"
        if rows
        else f"{labels[run]} none"
        for run, rows, share in data.left_out
    ]
    above = sum(1 for m in data.marks if _above_memory(data, m.run, m.flop_per_byte, m.tflops))
    lie = "mark lies above its" if above == 1 else "marks lie above their"
    note = f" {count(above)} {lie} memory line: the bytes came from a cache, or the measured line is too low." if above else ""
    if data.outside:
        few = "mark lies" if data.outside == 1 else "marks lie"
        note += f" {count(data.outside)} {few} too far below to be drawn, each under 0.1 % of its run's time."
    named = f"The {min(NAMED, len(data.marks))} largest are named; numbers refer to the table."
    return f"Left out, because they have no FLOP: {'; '.join(parts)}.{note} {named}"


def _above_memory(data: Roofline, run: int, intensity: float, tflops: float) -> bool:
    roofs = [c.value for c in data.ceilings if c.unit == "GB/s" and run in c.runs]
    return bool(roofs) and tflops * 1e3 > max(roofs) * intensity


def _table(data: Roofline, labels: tuple[str, ...]) -> Table:
    rows = []
    for place, mark in enumerate(data.marks, 1):
        cells = (
            Cell(str(place), float(place)),
            Cell(labels[mark.run]),
            Cell(mark.name),
            Cell(mark.kind, chip=mark.kind),
            Cell(mark.shapes) if mark.shapes else missing(),
            Cell(count(mark.calls), float(mark.calls)),
            number(mark.share_pct, 1),
            number(mark.flop_per_byte, 2, Evidence.MODELLED),
            number(mark.tflops * 1e3, 1, Evidence.MODELLED),
        )
        rows.append(Row(cells))
    heads = (
        Head("#", meaning="number of the mark in the figure"),
        Head("run"),
        Head("operator or kernel"),
        Head("kind"),
        Head("input shapes"),
        Head("calls", "", True, Evidence.MEASURED, "launches in the window"),
        Head("share of time", "%", True, Evidence.MEASURED, "of the kernel time of its run"),
        Head("FLOP per byte", "", True, Evidence.MODELLED, "FLOP over compulsory bytes: arithmetic intensity"),
        Head("achieved", "GFLOP/s", True, Evidence.MODELLED, "FLOP over the measured time"),
    )
    return Table("roofline-table", "The marks of the roofline, largest share of time first", heads, tuple(rows))
