"""The figure of a validation: predicted against measured, a panel per quantity, colour and shape by kernel class."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analyzer.format import decade
from analyzer.insight.validation.families import (
    CONVOLUTION,
    ELEMENTWISE,
    FUSED,
    GEMM,
    GEMM_OPEN,
    MATERIALISED,
    UNMODELLED,
    WINDOWED,
)
from analyzer.report.figures.canvas import Margins, draw, legend
from analyzer.report.figures.theme import colour
from analyzer.report.validation.marks import Mark, Panel, families_of

ID = "fig-validation"
COLUMNS = 3
PANEL_IN, HEAD_IN, FOOT_IN, LEGEND_IN = 2.75, 0.35, 0.5, 0.2
LEGEND_COLUMNS = 3
NEAR = 1.2
"""The thin lines are this many times the measured figure, and its inverse."""
STYLES = {
    ELEMENTWISE: ("kind-pointwise", "o"), GEMM: ("kind-matmul", "s"), GEMM_OPEN: ("kind-moe", "D"),
    FUSED: ("kind-attention", "^"), MATERIALISED: ("kind-reduction", "v"), CONVOLUTION: ("kind-convolution", "P"),
    WINDOWED: ("kind-depthwise", "X"), UNMODELLED: ("kind-unclassified", "d"),
}  # fmt: skip


def scatter(found: tuple[Panel, ...], title: str) -> str:
    """Return a panel per quantity: measured to the right, predicted upwards, both on the same axis."""
    rows = math.ceil(len(found) / COLUMNS)
    classes = families_of(found)
    above = LEGEND_IN * math.ceil((len(classes) + 3) / LEGEND_COLUMNS) + HEAD_IN
    height = above + rows * PANEL_IN + FOOT_IN
    margins = Margins(0.07, FOOT_IN / height, 0.985, 1 - above / height, 0.42)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, COLUMNS, squeeze=False)
        figure.subplots_adjust(wspace=0.32)
        for place, axes in enumerate(grid.flat):
            if place < len(found):
                _panel(axes, found[place])
            else:
                axes.set_axis_off()
        legend(figure, _handles(classes), LEGEND_COLUMNS, columnspacing=2.0, handlelength=1.8)

    return draw(ID, height, title, "Predicted against measured; the numbers are in the table of kernels", paint, margins)


def _panel(axes: Axes, panel: Panel) -> None:
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    for along, axis in ((axes.set_xlim, axes.xaxis), (axes.set_ylim, axes.yaxis)):
        along(panel.low, panel.high)
        if panel.logarithmic:
            _decades(axis, panel)
        else:
            axis.set_ticks([0, 25, 50, 75, 100])
    axes.set_title(panel.title)
    axes.set_xlabel(f"measured, {panel.unit}")
    axes.set_ylabel(f"predicted, {panel.unit}")
    axes.set_box_aspect(1)
    axes.grid(visible=False)
    for factor, style in ((1.0, "-"), (NEAR, ":"), (1 / NEAR, ":")):
        ends = (panel.low, panel.high)
        axes.plot(ends, [end * factor for end in ends], linestyle=style, color=colour("muted"), linewidth=0.8, zorder=1)
    groups: dict[tuple[str, bool, bool], list[Mark]] = {}
    for mark in panel.marks:
        groups.setdefault((mark.family, mark.fitted, mark.scored), []).append(mark)
    for marks in groups.values():
        _marks(axes, marks, panel)


def _decades(axis: Any, panel: Panel) -> None:
    span = math.log10(panel.high / panel.low)
    subs = (1.0,) if span > 3 else (1.0, 3.0) if span > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
    axis.set_minor_locator(NullLocator())


def _marks(axes: Axes, marks: list[Mark], panel: Panel) -> None:
    """Draw marks of one look as one path: a thousand of them by themselves would be larger than the page may be."""
    first = marks[0]
    name, shape = STYLES[first.family]
    ink = colour(name)
    banded = [mark for mark in marks if mark.high > mark.low]
    if banded:
        across = [x for mark in banded for x in (mark.measured, mark.measured, math.nan)]
        lows = (max(mark.low, panel.low) if panel.logarithmic else mark.low for mark in banded)
        up = [y for low, mark in zip(lows, banded, strict=True) for y in (low, mark.high, math.nan)]
        axes.plot(across, up, color=ink, linewidth=2.2, alpha=0.45, zorder=2)
    axes.plot(
        [mark.measured for mark in marks], [mark.predicted for mark in marks], marker=shape,
        markersize=6.5 if first.scored else 4.0, linestyle="none", markeredgecolor=ink if first.fitted else colour("fg"),
        markeredgewidth=1.4 if first.fitted else 0.5, markerfacecolor=colour("panel") if first.fitted else ink, zorder=3,
    )  # fmt: skip


def _handles(classes: tuple[str, ...]) -> list[Line2D]:
    mine = [
        Line2D(
            [], [], linestyle="none", marker=STYLES[name][1], markersize=6.5, markerfacecolor=colour(STYLES[name][0]),
            markeredgecolor=colour("fg"), markeredgewidth=0.5, label=name,
        )
        for name in classes
    ]  # fmt: skip
    ink = colour("muted")
    hollow = Line2D([], [], linestyle="none", marker="o", markersize=6.5, markerfacecolor="none", markeredgecolor=ink,
                    markeredgewidth=1.4, label="hollow: helped to fit the model")  # fmt: skip
    exact = Line2D([], [], linestyle="-", color=ink, linewidth=0.8, label="predicted = measured")
    near = Line2D([], [], linestyle=":", color=ink, linewidth=0.8, label="20 % more, and as much less")
    return [*mine, hollow, exact, near]
