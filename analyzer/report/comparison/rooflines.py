"""Section "rooflines": how near each kind of kernel comes to the limits of its device."""

from __future__ import annotations

from analyzer.format import counted, percent
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Row, Section, Table, number
from analyzer.report.comparison.cells import MODELLED, with_numbers
from analyzer.report.figures.comparison_devices import roofline_chart
from analyzer.report.marks.comparison import MAX_PANELS, KindMark, RoofPanel, roof_panels
from analyzer.report.marks.comparison_names import run_titles
from analyzer.schema.comparison import Comparison
from analyzer.schema.evidence import Evidence

MAX_ROWS, OPEN_ROWS = 400, 30
HOW = (
    "All panels have the same axes. Right is more arithmetic per byte, up is faster. Under the slanted line memory bounds "
    "the rate, under a flat line arithmetic does. A mark is all kernels of one kind; its area is the kind's share of the "
    "run's time. Outlines are dashed because FLOP and bytes are modelled, each tensor read or written once; a mark above the "
    "slanted line may have had its bytes from a cache."
)
JOINED = (
    " A thin line leads to the mark of a kind from where it stands in the run that this one is held against, on another "
    "device; the five kinds with the most time have one."
)
MEASURED_ROOFS = " Dashed limits were measured on the device; a kind that is faster than what was measured lies above them."


def section(comparison: Comparison) -> Section | None:
    """Return the rooflines of up to MAX_PANELS runs and their marks, None where no run has FLOP and bytes."""
    panels, titles = roof_panels(comparison), run_titles(comparison)
    if not panels:
        return None
    drawn = panels[:MAX_PANELS]
    if comparison.baseline not in {panel.run for panel in drawn}:
        drawn = (*(p for p in panels if p.run == comparison.baseline), *drawn)[:MAX_PANELS]
    title = "Rate against arithmetic intensity, by kind"
    measured = any(roof.figure.evidence is Evidence.MEASURED for panel in drawn for roof in panel.roofs)
    joined = JOINED if any(panel.joined for panel in drawn) else ""
    how = HOW + joined + (MEASURED_ROOFS if measured else "")
    figure = Figure("fig-rooflines", title, how, roofline_chart(drawn, titles, title), None, _caption(panels, drawn, titles))
    numbers = with_numbers(comparison, figure, _table(panels, titles))
    blocks: tuple[Block, ...] = (*_notices(comparison, panels, titles), *numbers)
    return Section("rooflines", "How near does each kind come to the limits of its device?", "Limits", blocks)


def _notices(comparison: Comparison, panels: tuple[RoofPanel, ...], titles: tuple[str, ...]) -> tuple[Notice, ...]:
    there = {panel.run for panel in panels}
    without = [titles[run] for run in range(len(comparison.runs)) if run not in there]
    if not without:
        return ()
    more = f" and {counted(len(without) - 6, 'more', 'more')}" if len(without) > 6 else ""
    why = "nothing that ran has known FLOP and bytes. They need operator shapes; record with record_shapes=True"
    return (Notice(f"No roofline for {', '.join(without[:6])}{more}: {why}."),)


def _caption(panels: tuple[RoofPanel, ...], drawn: tuple[RoofPanel, ...], titles: tuple[str, ...]) -> str:
    left = "; ".join(f"{titles[p.run]} {percent(p.left_out_pct)}" for p in drawn)
    roofless = [titles[p.run] for p in drawn if not p.roofs]
    text = f"Share of the time in kinds without FLOP, which have no mark: {left}."
    if roofless:
        text += f" Without limits, for want of a datasheet or measured ceilings: {', '.join(roofless)}."
    if len(panels) > len(drawn):
        text += f" {counted(len(panels) - len(drawn), 'more run is', 'more runs are')} in the table alone."
    return text


def _table(panels: tuple[RoofPanel, ...], titles: tuple[str, ...]) -> Table:
    marks = [(titles[panel.run], mark) for panel in panels for mark in panel.marks]
    rows = tuple(_row(title, mark) for title, mark in marks[:MAX_ROWS])
    heads = (
        Head("kind"),
        Head("run"),
        Head("share of time", "%", True, Evidence.MEASURED, "of the time of all kernels of the run"),
        Head("FLOP per byte", "", True, MODELLED, "FLOP over compulsory bytes: arithmetic intensity"),
        Head("rate", "GFLOP/s", True, MODELLED, "FLOP over the time of the kernels whose FLOP they are"),
    )
    note = f"{len(marks) - len(rows)} more are left out." if len(rows) < len(marks) else ""
    caption = "The marks of the rooflines, run by run"
    return Table("rooflines-table", caption, heads, rows, note, OPEN_ROWS if len(rows) > OPEN_ROWS else 0)


def _row(title: str, mark: KindMark) -> Row:
    cells = (
        Cell(mark.kind, chip=mark.kind),
        Cell(title),
        number(mark.share_pct, 1),
        number(mark.flop_per_byte, 2, MODELLED),
        number(mark.tflops * 1e3, 1, MODELLED),
    )
    return Row(cells, run=title)
