"""Figure 7: DRAM bytes per image and FLOP per DRAM byte against the size of the image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analyzer.format import count, digits
from analyzer.report.figures.canvas import Margins, draw, legend
from analyzer.report.figures.theme import MARKERS, colour
from analyzer.report.marks.access import Growth
from analyzer.report.text import run_label
from analyzer.schema.access import SizePoint

PLOT_IN = 3.3
LEGEND_LETTERS = 100
DASHES = {"fused": "solid", "materialised": (0, (6, 1.6))}
MEGA = 1e6
Reading = Callable[[SizePoint], tuple[float, float]]


def sizes(lines: tuple[Growth, ...], title: str) -> str:
    """Return figure 7. Marks are hollow: all of it is modelled."""
    handles = _handles(lines)
    columns = max(1, min(len(handles), LEGEND_LETTERS // max(len(str(handle.get_label())) for handle in handles)))
    top = 0.28 + 0.19 * math.ceil(len(handles) / columns)
    margins = Margins(0.075, 0.5 / (PLOT_IN + top), 0.985, 1 - top / (PLOT_IN + top))

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(wspace=0.2)
        for axes in (left, right):
            _frame(axes, lines)
        _draw(left, lines, lambda p: (p.dram_bytes[0] / MEGA, p.dram_bytes[1] / MEGA), lambda p: p.compulsory_bytes / MEGA)
        _draw(right, lines, intensity, lambda p: p.flop / p.compulsory_bytes if p.compulsory_bytes else math.nan)
        left.set_title("DRAM traffic per image, MB")
        right.set_title("FLOP per DRAM byte")
        for axes in (left, right):
            _decades(axes)
        legend(figure, handles, columns, columnspacing=1.6, handlelength=3.2)

    return draw("fig7", PLOT_IN + top, title, "Two panels over image size; the numbers are in the table below", paint, margins)


def intensity(point: SizePoint) -> tuple[float, float]:
    """Return FLOP per DRAM byte (low, high): more bytes are fewer FLOP per byte."""
    low, high = point.dram_bytes
    return (point.flop / high, point.flop / low) if low and high else (math.nan, math.nan)


def middle(band: tuple[float, float]) -> float:
    """Return the geometric middle of a band, which is what the line goes through on a logarithmic axis."""
    return math.sqrt(band[0] * band[1]) if min(band) > 0 else math.nan


def _frame(axes: Axes, lines: tuple[Growth, ...]) -> None:
    places = sorted({point.image_size for line in lines for point in line.points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(places[0] / 1.08, places[-1] * 1.08)
    shown = [place for place in places if not any(place < other < place * 1.17 for other in places)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("side of the image, px")
    axes.grid(which="major", axis="y")
    axes.set_axisbelow(True)


def _draw(axes: Axes, lines: tuple[Growth, ...], band: Reading, least: Callable[[SizePoint], float]) -> None:
    for line in lines:
        shade = colour(f"run-{line.run % 6}")
        x = [point.image_size for point in line.points]
        low, high = zip(*(band(point) for point in line.points), strict=True)
        axes.fill_between(x, low, high, color=shade, alpha=0.22, linewidth=0)
        axes.plot(x, [least(point) for point in line.points], color=shade, linewidth=0.9, linestyle=(0, (1.5, 1.5)))
        axes.plot(x, [middle(band(point)) for point in line.points], **_look(line))


def _look(line: Growth) -> dict[str, Any]:
    run = line.run % len(MARKERS)
    shade = colour(f"run-{run}")
    return {
        "color": shade, "linewidth": 1.6, "linestyle": DASHES.get(line.attention, "solid"), "marker": MARKERS[run],
        "markersize": 5, "markerfacecolor": colour("panel"), "markeredgecolor": shade,
    }  # fmt: skip


def _decades(axes: Axes) -> None:
    """Put ticks at 1, 2 and 5 where the axis is short, else at the powers of ten."""
    low, high = axes.get_ylim()
    steps = (1, 2, 5) if high / low < 300 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value) if value >= 1 else digits(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _handles(lines: tuple[Growth, ...]) -> list[Line2D]:
    found = [Line2D([], [], label=run_label(line.label, 44), **_look(line)) for line in lines]
    return [
        *found,
        Line2D([], [], color=colour("muted"), linewidth=0.9, linestyle=(0, (1.5, 1.5)), label="compulsory bytes alone"),
    ]
