"""The figure of a projection: the time on the source, and on each target its floor and the interval of the projected time."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analyzer.format import axis_unit, digits
from analyzer.insight.projection.words import UNKNOWN
from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw, legend
from analyzer.report.figures.theme import colour
from analyzer.report.text import clean
from analyzer.schema.projection import RunProjection, Total

ROW_IN = 0.34
LETTER_IN = 0.078
SOURCE, PROJECTED = "run-0", "run-1"


def projected(runs: tuple[RunProjection, ...], title: str) -> str:
    """Return a row for each run on its source and on every target."""
    rows = [(run, total) for run in runs for total in (None, *(t for t in run.totals if not t.same))]
    names = [_name(run, total, several=len(runs) > 1) for run, total in rows]
    largest = max((value for row in rows for value in _values(*row)), default=1.0)
    factor, unit = axis_unit(largest)
    height = 1.05 + ROW_IN * len(rows)
    left = min((max(map(len, names)) * LETTER_IN + 0.15) / WIDTH_IN, 0.34)
    margins = Margins(left, 0.48 / height, 0.84, 1 - 0.42 / height)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, largest / factor * 1.04 or 1)
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(axis="y", length=0)
        known = all(run.per_batch for run in runs)
        axes.set_xlabel(f"{unit} {'per batch' if known else 'of the whole trace, or per batch where it names steps'}")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        for row, (run, total) in enumerate(rows):
            _row(axes, row, run, total, factor)
        legend(figure, _handles(), 5, columnspacing=1.4, handlelength=1.6)

    return draw(
        "fig-projection", height, title, "Time on the source and on each target; numbers in the table below", paint, margins
    )


def _name(run: RunProjection, total: Total | None, *, several: bool) -> str:
    where = clean(run.source if total is None else total.target.name, 26)
    return f"{clean(run.label, 16)}, {where}" if several else where


def _values(run: RunProjection, total: Total | None) -> list[float]:
    found = [run.kernel_us] if total is None else [total.high_us, total.time_us, total.floor_us]
    return [value for value in found if math.isfinite(value)]


def _row(axes: Axes, row: int, run: RunProjection, total: Total | None, factor: float) -> None:
    style: dict[str, Any] = {"edgecolor": colour("fg"), "linewidth": 0.5}
    if total is None:
        axes.barh(row, run.kernel_us / factor, 0.6, color=colour(SOURCE), **style)
        _label(axes, row, run.kernel_us / factor)
        return
    if total.floor_us > 0:
        axes.barh(row, total.floor_us / factor, 0.6, color=colour("panel"), edgecolor=colour(PROJECTED), linewidth=1.0)
    if math.isfinite(total.time_us):
        low, mid, high = (value / factor for value in (total.low_us, total.time_us, total.high_us))
        trusted = math.isfinite(low) or total.same
        if math.isfinite(low):
            axes.plot((low, high), (row, row), color=colour(PROJECTED), linewidth=2.2)
        axes.plot(
            [mid], [row], marker="o", markersize=7, linestyle="none", markeredgecolor=colour(PROJECTED), markeredgewidth=1.5,
            markerfacecolor=colour(PROJECTED) if trusted else colour("panel"),
        )  # fmt: skip
        _label(axes, row, mid, high if math.isfinite(high) else mid, "" if trusted else f", {UNKNOWN}")
        return
    axes.text(
        (total.floor_us if total.floor_us > 0 else 0.0) / factor + 0.01 * axes.get_xlim()[1],
        row,
        "no projected time, floor only",
        va="center",
        fontsize=7.5,
        color=colour("muted"),
    )


def _label(axes: Axes, row: int, value: float, end: float | None = None, more: str = "") -> None:
    place = value if end is None else max(end, value)
    axes.annotate(
        digits(value) + more,
        (place, row),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        annotation_clip=False,
    )


def _handles() -> list[Patch | Line2D]:
    ink = colour("fg")
    dot: dict[str, Any] = {"color": colour(PROJECTED), "marker": "o", "markersize": 6, "linewidth": 2}
    return [
        Patch(facecolor=colour(SOURCE), edgecolor=ink, label="measured kernels and copies"),
        Patch(facecolor=colour("panel"), edgecolor=colour(PROJECTED), label="floor by datasheet"),
        Line2D([], [], label="projected, 90 % validated", **dot),
        Line2D([], [], markerfacecolor="none", label="projected, error unknown", **(dot | {"linewidth": 0})),
    ]
