"""Figure 6: which addresses thread blocks touch, and when; one small panel per access pattern."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyzer.report.figures.canvas import Margins, draw
from analyzer.report.figures.theme import colour
from analyzer.report.marks.access import short_size
from analyzer.report.marks.access_map import Operand, Panel, reading
from analyzer.report.text import clean

COLUMNS = 2
PANEL_IN, TOP_IN, TEXT_IN, LINE_IN = 2.0, 0.3, 0.45, 0.145
LETTERS = 61
BAND = 0.86
SHADES = ("run-0", "run-1", "run-2", "run-3", "run-4", "run-5")


def access_map(panels: tuple[Panel, ...], title: str) -> str:
    """Return figure 6. Points are strokes of one path each operand, or the drawing would be three times as large."""
    rows = math.ceil(len(panels) / COLUMNS)
    texts = [textwrap.wrap(reading(panel), LETTERS) for panel in panels]
    below = TEXT_IN + LINE_IN * max(len(text) for text in texts)
    height = rows * (PANEL_IN + below + TOP_IN)
    margins = Margins(0.105, below / height, 0.99, 1 - TOP_IN / height, (below + TOP_IN) / PANEL_IN)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
        figure.subplots_adjust(wspace=0.3)
        for axes, panel, text in zip(grid, panels, texts, strict=False):
            _draw(axes, panel, text)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()

    return draw("fig6", height, title, "Access maps; what they show is written below each", paint, margins)


def _draw(axes: Axes, panel: Panel, text: list[str]) -> None:
    count = len(panel.operands)
    for index in range(count):
        own = panel.operand == index
        base = count - 1 - index + (1 - BAND) / 2
        up = base + BAND * panel.position
        _strokes(axes, panel.time[own & ~panel.chosen], up[own & ~panel.chosen], SHADES[index % len(SHADES)], 1.6)
        _strokes(axes, panel.time[own & panel.chosen], up[own & panel.chosen], "fg", 3.0)
        if index:
            axes.axhline(count - index, color=colour("line"), linewidth=0.8)
    axes.set_xlim(-0.01, 1.02)
    axes.set_ylim(0, count)
    axes.set_xticks(())
    names = [_label(operand) for operand in panel.operands]
    axes.set_yticks([count - i - 0.5 for i in range(count)], names)
    axes.tick_params(axis="y", length=0)
    axes.set_title(clean(panel.title, 58))
    axes.set_xlabel("order of access →", loc="left", labelpad=3)
    axes.annotate(
        "\n".join(text), (0, 0), xycoords="axes fraction", xytext=(0, -19), textcoords="offset points", fontsize=8,
        ha="left", va="top", color=colour("fg"), linespacing=1.25,
    )  # fmt: skip


def _label(operand: Operand) -> str:
    known = math.isfinite(operand.size_bytes)
    return f"{clean(operand.name, 12)}\n{short_size(operand.size_bytes)}" if known else clean(operand.name, 12)


def _strokes(axes: Axes, time: np.ndarray, up: np.ndarray, shade: str, width: float) -> None:
    """Draw points as short strokes of one path."""
    if not len(time):
        return
    gap = np.full_like(time, np.nan)
    x = np.column_stack((time, time + 0.008, gap)).ravel()
    y = np.column_stack((up, up, gap)).ravel()
    axes.plot(x, y, color=colour(shade), linewidth=width, solid_capstyle="butt", zorder=3 if shade == "fg" else 2)
