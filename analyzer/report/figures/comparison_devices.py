"""Figures of a comparison that hold runs against their devices: gains beside offers, and rooflines in small multiples."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from analyzer.format import decade, digits
from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw
from analyzer.report.figures.comparison import whisker
from analyzer.report.figures.placing import LINE_IN, Plan
from analyzer.report.figures.theme import RUNS, colour, kind_name
from analyzer.report.marks.comparison import GainPanel, KindMark, Roof, RoofPanel
from analyzer.report.text import clean
from analyzer.schema.comparison import Gain
from analyzer.schema.evidence import Evidence

BASIS_MARKS = {"time": "o", "FLOP/s": "s", "bytes/s": "D"}
OFFER_DASHES: tuple[Any, ...] = ("solid", (0, (6, 2)), (0, (2, 2)), (0, (6, 2, 1, 2)), (0, (1, 1.5)))
ROW_IN, TOP_IN, BOTTOM_IN = 0.27, 0.2, 0.5
PANEL_IN = 3.3
LARGEST_AREA, SMALLEST_AREA = 900.0, 30.0
NAMED = 5
TITLE = 56


# --- gains ---------------------------------------------------------------------------------------------------------------


def gain_chart(panels: tuple[GainPanel, ...], titles: tuple[str, ...], title: str) -> str:
    """Return the gains of each run by role on one logarithmic axis, with the ratios that its hardware offers as lines."""
    values = [v for p in panels for v in [*(_ends(p.gains)), *(ratio for _, ratio in p.offers)]]
    limits = min(1.0, *values) / 1.25, max(1.0, *values) * 1.6
    heights = [_height(panel) for panel in panels]

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        total, at = sum(heights) + 0.3, 0.3
        for panel, height in zip(panels, heights, strict=True):
            above = 0.32 + TOP_IN * len(panel.offers)
            bottom = total - at - height + BOTTOM_IN
            axes = figure.add_axes((0.2, bottom / total, 0.78, (height - above - BOTTOM_IN) / total))
            _gain_panel(axes, panel, limits, titles[panel.run], titles[panel.baseline])
            at += height
        figure.legend(handles=_basis_handles(panels), loc="upper left", ncols=3)

    text = "Dot plot: speed-up of each role beside what the hardware offers; numbers in the table below"
    return draw("fig-gains", sum(heights) + 0.3, title, text, paint)


def _ends(gains: tuple[Gain, ...]) -> list[float]:
    return [v for g in gains for v in (g.speedup.value, g.speedup.low, g.speedup.high) if v is not None and v > 0]


def _height(panel: GainPanel) -> float:
    return 0.32 + TOP_IN * len(panel.offers) + ROW_IN * (len(panel.gains) + 0.4) + BOTTOM_IN


def _basis_handles(panels: tuple[GainPanel, ...]) -> list[Line2D]:
    used = {g.basis for p in panels for g in p.gains}
    words = {"time": "filled: ratio of times", "FLOP/s": "hollow: ratio of FLOP/s", "bytes/s": "hollow: ratio of bytes/s"}
    return [
        Line2D([], [], linestyle="none", marker=mark, markersize=7, markeredgecolor=colour("fg"), label=words[basis],
               markerfacecolor=colour("fg") if basis == "time" else "none")
        for basis, mark in BASIS_MARKS.items() if basis in used
    ]  # fmt: skip


def _gain_panel(axes: Axes, panel: GainPanel, limits: tuple[float, float], name: str, baseline: str) -> None:
    rows = len(panel.gains)
    axes.set_xscale("log", base=2)
    axes.set_xlim(*limits)
    axes.set_ylim(rows - 0.3, -0.7)
    axes.axvline(1, color=colour("fg"), linewidth=0.9, zorder=1)
    for row, gain in enumerate(panel.gains):
        ink = colour(f"run-{panel.run % RUNS}")
        value = gain.speedup.value or 1.0
        face = ink if gain.basis == "time" else "none"
        axes.plot(
            value, row, BASIS_MARKS[gain.basis], markersize=8, color=ink, markerfacecolor=face, markeredgewidth=1.4, zorder=3
        )
        whisker(axes, gain.speedup, row, upright=False, ink=ink)
        right = max(value, gain.speedup.high or value)
        axes.annotate(
            f"{digits(value)}x",
            (right, row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            zorder=4,
            bbox={"facecolor": colour("panel"), "edgecolor": "none", "pad": 0.8},
        )
    height = ROW_IN * (rows + 0.4)
    top = axes.get_xaxis_transform()
    order = sorted(range(len(panel.offers)), key=lambda i: panel.offers[i][1])
    for level, i in enumerate(reversed(order)):  # the rightmost is written lowest, so that no name crosses a line
        offer, ratio = panel.offers[i]
        up = 1 + (TOP_IN * level + 0.05) / height
        axes.plot((ratio, ratio), (0, up), transform=top, clip_on=False, zorder=1.5, color=colour("muted"), linewidth=1.1,
                  linestyle=OFFER_DASHES[i % len(OFFER_DASHES)])  # fmt: skip
        axes.annotate(
            f"{offer} {digits(ratio)}x", (ratio, up), xycoords=top, xytext=(4, -2), textcoords="offset points", va="bottom",
            fontsize=7.5, color=colour("muted"), annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(rows), ["whole batch" if gain.role == "total" else clean(gain.role, 30) for gain in panel.gains])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{digits(value, 2)}x"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"times as fast as {baseline} (logarithmic)")
    pad = 8 + 72 * TOP_IN * len(panel.offers)
    axes.set_title(name, pad=pad, x=-0.25)


# --- rooflines -----------------------------------------------------------------------------------------------------------


def roofline_chart(panels: tuple[RoofPanel, ...], titles: tuple[str, ...], title: str) -> str:
    """Return rooflines in small multiples with the same axes; a mark is all kernels of one kind."""
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    x, y = _limits(panels)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        figure.subplots_adjust(wspace=0.06)
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_visible(False)
                continue
            _roof_panel(axes, panels[place], (x, y), titles[panels[place].run], PANEL_IN * rows)
            if place + columns >= len(panels):
                axes.set_xlabel("FLOP per compulsory byte (modelled)")
                axes.tick_params(labelbottom=True)
            if place % columns == 0:
                axes.set_ylabel("TFLOP/s")

    height = PANEL_IN * rows
    margins = Margins(0.075, 0.5 / height, 0.985, 1 - 0.3 / height, 0.2)
    text = "Rooflines on the same logarithmic axes, one per run; the marks are listed in the table below"
    return draw("fig-rooflines", height, title, text, paint, margins)


def _limits(panels: tuple[RoofPanel, ...]) -> tuple[tuple[float, float], tuple[float, float]]:
    marks = [mark for panel in panels for mark in panel.marks]
    seen = [mark for mark in marks if mark.share_pct >= 0.1] or marks
    peaks = [roof.figure.value or 0.0 for panel in panels for roof in panel.roofs if roof.figure.unit == "TFLOP/s"]
    intensity = [mark.flop_per_byte for mark in seen]
    rates = [mark.tflops for mark in seen]
    return (min(0.1, min(intensity) / 2), max(2e3, max(intensity) * 2)), (min(rates) / 3, max(*rates, *peaks, 1e-9) * 3)


def _roof_panel(
    axes: Axes, panel: RoofPanel, limits: tuple[tuple[float, float], tuple[float, float]], name: str, height: float
) -> None:
    x, y = limits
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
        axis.set_minor_locator(NullLocator())
    axes.grid(which="major")
    axes.set_axisbelow(True)
    axes.set_title(name if len(name) <= TITLE else f"{name[: TITLE - 1]}…")
    box = axes.get_position()
    plan = Plan(WIDTH_IN * box.width, height * box.height, x, y)
    shown = [m for m in panel.marks if x[0] < m.flop_per_byte < x[1] and y[0] < m.tflops < y[1]]
    for before, now in panel.joined:
        axes.plot(
            (before.flop_per_byte, now.flop_per_byte), (before.tflops, now.tflops), color=colour("fg"), linewidth=0.8,
            marker=".", markersize=4, markevery=[0], zorder=2.5,
        )  # fmt: skip
    for mark in shown:
        _draw_mark(axes, plan, mark)
    _draw_roofs(axes, plan, panel)
    for mark in sorted(shown, key=lambda m: -m.share_pct)[:NAMED]:
        dx, dy = plan.beside(mark.flop_per_byte, mark.tflops, mark.kind)
        axes.annotate(
            mark.kind, (mark.flop_per_byte, mark.tflops), xytext=(dx * 72, dy * 72), textcoords="offset points", fontsize=8,
            zorder=4, va="bottom", arrowprops={"arrowstyle": "-", "color": colour("muted"), "linewidth": 0.6, "shrinkB": 3},
        )  # fmt: skip


def _draw_mark(axes: Axes, plan: Plan, mark: KindMark) -> None:
    area = max(LARGEST_AREA * mark.share_pct / 100, SMALLEST_AREA)
    plan.mark(mark.flop_per_byte, mark.tflops, math.sqrt(area) / 2 / 72)
    axes.scatter(
        [mark.flop_per_byte], [mark.tflops], s=area, facecolor=colour(kind_name(mark.kind)), edgecolor=colour("fg"),
        linewidth=1.0, linestyle=(0, (2, 1.2)), zorder=3,
    )  # fmt: skip


def _draw_roofs(axes: Axes, plan: Plan, panel: RoofPanel) -> None:
    bandwidths = [roof for roof in panel.roofs if roof.figure.unit == "GB/s" and roof.figure.value]
    peaks = [roof for roof in panel.roofs if roof.figure.unit == "TFLOP/s" and roof.figure.value]
    top = max((roof.figure.value or 0.0 for roof in peaks), default=plan.y[1])
    for roof in peaks:
        value = roof.figure.value or 0.0
        begin = min((value / (b.figure.value or 1.0) * 1e3 for b in bandwidths), default=plan.x[0])
        axes.plot((max(begin, plan.x[0]), plan.x[1]), (value, value), zorder=1, **_roof_style(roof.figure.evidence))
        plan.taken.append((0.0, plan.point(plan.x[1], value)[1] - 0.02, plan.width, 0.04))
    for roof in bandwidths:
        slope = (roof.figure.value or 1.0) / 1e3
        end = min(top / slope, plan.x[1])
        axes.plot((plan.x[0], end), (plan.x[0] * slope, end * slope), zorder=1, **_roof_style(roof.figure.evidence))
        start = max(plan.x[0], plan.y[0] / slope) * 1.25
        across, up = plan.point(start, start * slope)
        text = f"{roof.name} {digits(roof.figure.value or 0)} GB/s"
        plan.taken += plan.slanted((across, up + 0.05), len(text))
        _write(axes, plan, (across - 0.03, up + 0.05), text, "left", plan.slope_degrees())
        plan.line(slope)
    for roof in peaks:
        _name_peak(axes, plan, roof)


def _name_peak(axes: Axes, plan: Plan, roof: Roof) -> None:
    """Write the name of a flat roof at its right end, above or below it, else at the left edge, where no mark lies."""
    value = roof.figure.value or 0.0
    text = f"{roof.name} {digits(value)} TFLOP/s"
    width, up = len(text) * 0.058, plan.point(plan.x[1], value)[1]
    places = [(left, low) for left in (plan.width - width - 0.06, 0.06) for low in (up + 0.03, up - LINE_IN - 0.03)]
    left, low = next(((x, y) for x, y in places if plan.is_free((x, y, width, LINE_IN))), places[0])
    plan.taken.append((left, low, width, LINE_IN))
    _write(axes, plan, (left, low), text, "left")


def _roof_style(evidence: Evidence) -> dict[str, Any]:
    """Datasheet figures are thin and solid, measured ones dashed."""
    spec = evidence is Evidence.SPEC
    return {
        "color": colour("muted" if spec else "fg"),
        "linewidth": 0.9 if spec else 1.2,
        "linestyle": "solid" if spec else (0, (5, 2)),
    }


def _write(axes: Axes, plan: Plan, place: tuple[float, float], text: str, align: Any, angle: float = 0.0) -> None:
    axes.text(
        place[0] / plan.width, place[1] / plan.height, text, transform=axes.transAxes, fontsize=7.2, color=colour("muted"),
        ha=align, va="bottom", rotation=angle, rotation_mode="anchor",
    )  # fmt: skip
