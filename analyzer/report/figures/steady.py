"""Figures 9 and 10: every timed iteration, and the telemetry beside it."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyzer.format import digits
from analyzer.report.figures.canvas import draw
from analyzer.report.figures.theme import MARKERS, colour
from analyzer.report.marks.steady import Iterations, Panel, Telemetry
from analyzer.report.text import clean, run_label

ECDF_POINTS = 200
DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)))


def iterations(runs: tuple[Iterations, ...], title: str) -> str:
    """Return figure 9: one point per timed iteration, and at its side the share of iterations up to each time."""

    def paint(figure: Figure) -> None:
        rows = figure.subplots(len(runs), 2, width_ratios=(3.2, 1), sharey="row", squeeze=False)
        for (left, right), run in zip(rows, runs, strict=True):
            ink = colour(f"run-{run.run}")
            sns.scatterplot(
                x=run.shown, y=run.latency_ms[run.shown], ax=left, color=ink, marker=MARKERS[run.run], s=16, linewidth=0
            )
            left.axhspan(run.low_ms, run.high_ms, color=ink, alpha=0.18, linewidth=0)
            left.axhline(run.median_ms, color=colour("fg"), linewidth=0.9)
            for change in np.flatnonzero(np.diff(run.process)) + 1:
                left.axvline(change - 0.5, color=colour("muted"), linewidth=0.7, linestyle=(0, (2, 2)))
            left.set_title(f"{clean(run.label, 50)}: median {digits(run.median_ms)} ms, n = {len(run.latency_ms)}")
            sns.ecdfplot(y=np.quantile(run.latency_ms, np.linspace(0, 1, ECDF_POINTS), method="nearest"), ax=right, color=ink)
            right.axhline(run.median_ms, color=colour("fg"), linewidth=0.9)
            right.set_xlabel("")
            left.set_ylabel("ms per batch")
            left.grid(axis="y")
            right.grid()
        rows[-1][0].set_xlabel("iteration (a dashed line: next process)" if _several(runs) else "iteration")
        rows[-1][1].set_xlabel("share of iterations up to y")

    return draw("fig9", 0.4 + 1.75 * len(runs), title, "Timed iterations and their cumulative distribution", paint)


def _several(runs: tuple[Iterations, ...]) -> bool:
    return any(len(set(run.process.tolist())) > 1 for run in runs)


def telemetry(runs: tuple[Telemetry, ...], title: str, number: str) -> str:
    """Return figure 10: the panels of each run in a column, the same quantity in the same row."""
    names = list(dict.fromkeys(panel.name for run in runs for panel in run.panels))

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(names), len(runs), sharex="col", sharey="row", squeeze=False)
        for column, run in enumerate(runs):
            panels = {panel.name: panel for panel in run.panels}
            for row, name in enumerate(names):
                _panel(grid[row][column], panels.get(name), run, column == 0)
            grid[0][column].set_title(run_label(run.label, 40))
            grid[-1][column].set_xlabel("s since the first sample")
        figure.align_ylabels()

    text = "Telemetry over time, one panel per quantity; ranges in the table below"
    return draw(number, 0.7 + 1.05 * len(names), title, text, paint)


def _panel(axes: Axes, panel: Panel | None, run: Telemetry, first: bool) -> None:
    if panel is None:
        axes.text(0.5, 0.5, "not sampled", transform=axes.transAxes, ha="center", color=colour("muted"))
        return
    if run.timed:
        axes.axvspan(*run.timed, color=colour("line"), alpha=0.55, linewidth=0, zorder=0)
    for start, end in run.held or ():
        axes.axvspan(start, max(end, start + 0.004 * run.seconds), color=colour("warn"), alpha=0.35, linewidth=0, zorder=0.5)
    for place, line in enumerate(panel.lines):
        sns.lineplot(
            x=line.x, y=line.y, ax=axes, color=colour(f"run-{run.run}"), linewidth=1.2, linestyle=DASHES[place], legend=False,
            estimator=None, label=line.name or None, marker="o" if len(line.x) <= 3 else None, markeredgewidth=0,
        )  # fmt: skip
    if panel.cap is not None:
        axes.axhline(panel.cap, color=colour("fg"), linewidth=0.9, linestyle=(0, (5, 2)))
        axes.text(0.995, panel.cap, "cap", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7.5)
    if len(panel.lines) > 1:
        axes.legend(loc="upper left", ncols=3, borderpad=0.1)
    axes.set_ylabel(f"{panel.name}\n{panel.unit}" if first else "")
    axes.grid(axis="y")
    axes.margins(y=0.18)
    if len(panel.lines) > 1:  # room for the legend above the lines
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.4 * (high - low))
