"""Figure 5: DRAM reads against cache capacity, one line per access pattern, with the caches of the devices above."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw
from analyzer.report.figures.placing import LINE_IN
from analyzer.report.figures.theme import colour
from analyzer.report.marks.access import KINDS, LARGEST, SMALLEST, Line, short_size
from analyzer.report.text import clean
from analyzer.schema.access import CacheFacts

PLOT_IN, ROW_IN, BOTTOM_IN = 3.3, 0.19, 0.5
LABEL_OCTAVES = 4.1
LEFT, RIGHT = 0.078, 0.965
DASHES: dict[str, Any] = {
    "conv3x3": "solid", "depthwise": (0, (1, 1.3)), "linear": (0, (6, 1.6)), "attention_fused": "solid",
    "attention_materialised": (0, (5, 1.3, 1, 1.3)),
}  # fmt: skip


def curves(lines: tuple[Line, ...], devices: tuple[CacheFacts, ...], title: str) -> str:
    """Return figure 5. All of it is modelled: knees are hollow."""
    shown = sorted((d for d in devices if SMALLEST <= d.capacity_bytes <= LARGEST), key=lambda d: (d.capacity_bytes, d.name))
    strip = ROW_IN * len(shown) + 0.3
    height = BOTTOM_IN + PLOT_IN + strip
    margins = Margins(LEFT, BOTTOM_IN / height, RIGHT, (BOTTOM_IN + PLOT_IN) / height)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _frame(axes, lines)
        _caches(axes, shown)
        for line in lines:
            _line(axes, line)
        _labels(axes, lines)

    return draw("fig5", height, title, "Miss-ratio curves; the numbers are in the table below", paint, margins)


def _frame(axes: Axes, lines: tuple[Line, ...]) -> None:
    top = max(float(line.ratio.max()) for line in lines)
    low = min(float(line.ratio.min()) for line in lines)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(SMALLEST / 2**LABEL_OCTAVES, LARGEST)
    axes.set_ylim(min(0.85, low * 0.9), max(top * 1.35, 3.0))
    axes.xaxis.set_major_locator(FixedLocator([SMALLEST * 4**i for i in range(8)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_size(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = [v for v in (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000) if v <= axes.get_ylim()[1]]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}x"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("capacity of the cache", x=_share(SMALLEST * 2**7), ha="center")
    axes.set_ylabel("DRAM reads / compulsory reads (modelled)")
    # not across the names, which stand left of where the lines begin
    axes.hlines(ticks[1:], SMALLEST, LARGEST, color=colour("line"), linewidth=0.6, zorder=0)
    axes.hlines(1, SMALLEST, LARGEST, color=colour("muted"), linewidth=0.9, zorder=1)
    axes.set_axisbelow(True)


def _share(capacity: float) -> float:
    """Return where a capacity lies on the axis, from 0 to 1."""
    first = math.log2(SMALLEST) - LABEL_OCTAVES
    return (math.log2(capacity) - first) / (math.log2(LARGEST) - first)


def _caches(axes: Axes, devices: list[CacheFacts]) -> None:
    """Draw a row per device above the plot: the largest cache lowest, so that no line crosses the name of another."""
    letter = 0.068 / (WIDTH_IN * (RIGHT - LEFT))
    for place, device in enumerate(devices):
        up = 1 + (0.12 + ROW_IN * (len(devices) - 1 - place + 0.5)) / PLOT_IN
        across = _share(device.capacity_bytes)
        free: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": colour("fg")}
        axes.plot((across, across), (0, up), linewidth=0.7, zorder=1, **{**free, "color": colour("muted")})
        name = clean(device.name, 24)
        if device.partitions == 2:
            half = _share(device.capacity_bytes / 2)
            axes.plot((half, across), (up, up), linewidth=1.6, zorder=2, **free)
            axes.plot([half], [up], marker="|", markersize=5, markeredgewidth=1.2, **free)
            text = f"{name}: 2 x {short_size(device.capacity_bytes / 2)}"
        else:
            half, text = across, f"{name}: {short_size(device.capacity_bytes)}"
        axes.plot([across], [up], marker="|", markersize=5, markeredgewidth=1.2, **free)
        fits = across + 0.006 + letter * len(text) <= 1.01
        place_x, align = (across + 0.006, "left") if fits else (half - 0.006, "right")
        axes.text(place_x, up, text, transform=axes.transAxes, fontsize=7.5, va="center", ha=align, color=colour("fg"))


def _line(axes: Axes, line: Line) -> None:
    shade = colour(f"kind-{KINDS[line.pattern]}")
    axes.plot(line.capacity_bytes, line.ratio, color=shade, linewidth=2.0, linestyle=DASHES[line.pattern], zorder=3)
    if line.knee:
        axes.plot(
            *([value] for value in line.knee), marker="o", markersize=6, markerfacecolor=colour("panel"),
            markeredgecolor=shade, markeredgewidth=1.6, linestyle="none", zorder=4,
        )  # fmt: skip


def _labels(axes: Axes, lines: tuple[Line, ...]) -> None:
    """Name each line left of its beginning; names keep their order and a line's height apart."""
    low, high = (math.log10(v) for v in axes.get_ylim())
    wanted = sorted(
        (((math.log10(float(line.ratio[0])) - low) / (high - low), line) for line in lines), key=lambda item: item[0]
    )
    places = spread([share * PLOT_IN for share, _ in wanted], LINE_IN * 1.15, (0.1, PLOT_IN - 0.1))
    begin = _share(SMALLEST)
    for (share, line), place in zip(wanted, places, strict=True):
        up = place / PLOT_IN
        shade = colour(f"kind-{KINDS[line.pattern]}")
        axes.plot(
            (begin - 0.022, begin - 0.016, begin),
            (up, up, share),
            transform=axes.transAxes,
            color=shade,
            linewidth=1.0,
            zorder=2,
        )
        axes.text(
            begin - 0.026, up, line.label, transform=axes.transAxes, ha="right", va="center", fontsize=8, fontweight="bold",
            color=colour("fg"),
        )  # fmt: skip


def spread(wanted: list[float], least: float, limits: tuple[float, float]) -> list[float]:
    """Return places near ``wanted``, which ascends, at least ``least`` apart and within ``limits`` where they fit."""
    places = list(wanted)
    for _ in range(200):
        moved = False
        for i in range(len(places) - 1):
            lack = least - (places[i + 1] - places[i])
            if lack > 1e-9:
                places[i] -= lack / 2
                places[i + 1] += lack / 2
                moved = True
        places = [min(max(place, limits[0]), limits[1]) for place in places]
        if not moved:
            break
    return places
