"""The figure of what GPM averaged while the model was looped, beside what the trace derives for the same seconds."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analyzer.report.figures.canvas import Margins, draw, legend
from analyzer.report.figures.theme import MARKERS, RUNS, colour
from analyzer.report.marks.activity import Mark
from analyzer.report.text import run_label

ROW_IN = 0.36
BAR = 7.0
THINNEST_PCT = 1.0
"""A band narrower than this is drawn so wide, or it would not be seen."""


def averages(found: tuple[Mark, ...], labels: tuple[str, ...], title: str) -> str:
    """Return the dot plot: a row per figure, GPM as a filled mark with a line over its readings, the trace as a pale bar."""
    names = list(dict.fromkeys(mark.name for mark in found))
    runs = sorted({mark.run for mark in found})
    row_in = ROW_IN if len(runs) < 3 else 0.16 * len(runs)
    height = 1.05 + row_in * len(names)
    top = max(
        100.0, *(value for mark in found for value in (mark.high, mark.traced_high, mark.counted) if math.isfinite(value))
    )

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlim(0, 1.02 * top)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("% of the time, or of the peak")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        for mark in found:
            step = 0.62 / len(runs)
            offset = (runs.index(mark.run) - (len(runs) - 1) / 2) * step if len(runs) > 1 else 0.0
            _mark(axes, mark, names.index(mark.name) + offset)
        several = any(math.isfinite(mark.counted) for mark in found)
        legend(figure, _handles(runs, labels, counters=several), len(runs) + 3)

    margins = Margins(0.16, 0.48 / height, 0.985, 1 - 0.42 / height)
    text = "What GPM averaged, a row per figure, with what the trace derives for the same seconds; numbers in the table below"
    return draw("fig-activity", height, title, text, paint, margins)


def _mark(axes: Axes, mark: Mark, y: float) -> None:
    ink = colour(f"run-{mark.run % RUNS}")
    if math.isfinite(mark.traced_low):
        middle, half = (mark.traced_low + mark.traced_high) / 2, max(mark.traced_high - mark.traced_low, THINNEST_PCT) / 2
        ends = (max(middle - half, 0.0), middle + half)
        axes.plot(ends, (y, y), color=ink, linewidth=BAR, alpha=0.45, solid_capstyle="butt", zorder=2)
    if math.isfinite(mark.counted):
        axes.plot(mark.counted, y, "|", color=ink, markersize=11, markeredgewidth=1.6, zorder=3)
    axes.plot((mark.low, mark.high), (y, y), color=ink, linewidth=1.0, zorder=4)
    axes.plot(mark.mean, y, MARKERS[mark.run % len(MARKERS)], color=ink, markersize=5.5, zorder=5)


def _handles(runs: list[int], labels: tuple[str, ...], *, counters: bool) -> list[Line2D | Patch]:
    grey = colour("muted")
    found: list[Line2D | Patch] = [
        Line2D([], [], color=colour(f"run-{run % RUNS}"), marker=MARKERS[run % len(MARKERS)], linewidth=1.0, markersize=5.5,
               label=f"GPM, {run_label(labels[run], 30)}")
        for run in runs
    ]  # fmt: skip
    found.append(Patch(facecolor=grey, alpha=0.45, linewidth=0, label="from the trace"))
    if counters:
        found.append(
            Line2D([], [], color=grey, marker="|", linewidth=0, markersize=10, markeredgewidth=1.6, label="from counters")
        )
    return found
