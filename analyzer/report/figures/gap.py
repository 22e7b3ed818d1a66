"""Figure 1: the waterfalls from the second run's time to the first's, by kind and by cause."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analyzer.format import axis_unit, digits, fixed_signed, percent
from analyzer.insight.causes import CAUSES
from analyzer.insight.ledger import WAITING
from analyzer.report.figures.canvas import draw
from analyzer.report.figures.theme import colour, kind_name
from analyzer.report.marks.gap import UNEXPLAINED, Step
from analyzer.report.text import clean, run_label
from analyzer.schema.results import Gap

ROW_IN = 0.36
DASHED, DOTTED = (0, (3, 1.5)), (0, (1, 1.5))
ZOOM_BELOW = 0.12
"""Where the steps span less than this share of the axis, the axis no longer starts at zero, and the figure says so."""


def is_zoomed(gap: Gap, steps: tuple[Step, ...]) -> bool:
    """Tell whether the axis of the waterfall is cut because its steps would be too small to see."""
    low, high = _span(gap, steps)
    return high > 0 and (high - low) / high < ZOOM_BELOW


def waterfall(
    figure_id: str, gap: Gap, steps: tuple[Step, ...], intervals: tuple[tuple[float, float] | None, ...], title: str, per: str
) -> str:
    """Return a waterfall.

    ``intervals``: the 95 % intervals of the first and the second run in microseconds, None without. ``per`` says what times are
    given for.
    """
    factor, unit = axis_unit(max(_span(gap, steps)[1], 1e-9))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _totals(axes, gap, intervals, factor, len(steps) + 1)
        for row, step in enumerate(steps, 1):
            _step(axes, step, row, factor)
        _connect(axes, gap, steps, factor)
        _label(axes, gap, intervals, steps, factor, unit)
        _frame(axes, gap, intervals, steps, factor, f"{unit} {per}")
        _legend(figure, {sort for step in steps for sort, _ in step.parts})

    text = f"Waterfall from {clean(gap.second, 80)} to {clean(gap.first, 80)} in {len(steps)} steps; numbers in the table below"
    return draw(figure_id, 0.95 + ROW_IN * (len(steps) + 2), title, text, paint)


def _span(gap: Gap, steps: tuple[Step, ...]) -> tuple[float, float]:
    ends = [gap.first_us, gap.second_us]
    for step in steps:
        at = step.start_us
        ends += [step.start_us + end for end in step.ends_us or ()]
        for _, delta in step.parts:
            at += delta
            ends.append(at)
    return min(ends), max(ends)


def _totals(axes: Axes, gap: Gap, intervals: tuple[tuple[float, float] | None, ...], factor: float, last: int) -> None:
    for row, value, run, interval in ((last, gap.first_us, 0, intervals[0]), (0, gap.second_us, 1, intervals[1])):
        axes.barh(row, value / factor, 0.62, color=colour(f"run-{run}"), edgecolor=colour("fg"), linewidth=0.6)
        if interval:
            low, high = interval[0] / factor, interval[1] / factor
            axes.plot([low, high], [row, row], color=colour("fg"), linewidth=1.4)
            for end in (low, high):
                axes.plot([end, end], [row - 0.17, row + 0.17], color=colour("fg"), linewidth=1.4)


def _step(axes: Axes, step: Step, row: int, factor: float) -> None:
    """The parts follow each other; two or more share the row, the floor above."""
    at = step.start_us / factor
    height = 0.62 / max(len(step.parts), 1)
    for place, (sort, delta) in enumerate(step.parts):
        axes.add_patch(Rectangle((at, row - 0.31 + place * height), delta / factor, height, **_look(sort, _fill(step, delta))))
        at += delta / factor
    if step.ends_us:
        low, high = (step.start_us / factor + end / factor for end in step.ends_us)
        axes.plot([low, high], [row, row], color=colour("fg"), linewidth=1.0)
        for end in (low, high):
            axes.plot([end, end], [row - 0.13, row + 0.13], color=colour("fg"), linewidth=1.0)


def _fill(step: Step, delta: float) -> str:
    """Return the colour of a kind; of a cause, that of the run that it costs more."""
    if step.key in CAUSES:
        return colour("run-0" if delta >= 0 else "run-1")
    if step.key == WAITING:
        return colour("muted")  # the colour of idle time elsewhere is that of the page, and this is a cause with a name
    return colour("idle" if step.key == UNEXPLAINED else kind_name(step.key))


def _look(sort: str, fill: str) -> dict[str, Any]:
    """Return how a part is drawn. Dashes mean modelled, dots that no cause is known."""
    if sort == "work":
        return {"facecolor": "none", "edgecolor": fill, "linewidth": 1.4, "linestyle": DASHED}
    if sort == "named":
        return {"facecolor": fill, "edgecolor": colour("fg"), "linewidth": 0.6, "linestyle": "solid"}
    return {"facecolor": "none", "edgecolor": colour("fg"), "linewidth": 1.3, "linestyle": DOTTED}


def _connect(axes: Axes, gap: Gap, steps: tuple[Step, ...], factor: float) -> None:
    ends = [gap.second_us, *(step.end_us for step in steps)]
    for row, end in enumerate(ends):
        axes.plot([end / factor, end / factor], [row - 0.31, row + 1.31], color=colour("muted"), linewidth=0.6, zorder=0.5)


def _label(
    axes: Axes, gap: Gap, intervals: tuple[tuple[float, float] | None, ...], steps: tuple[Step, ...], factor: float, unit: str
) -> None:
    low, high = _span(gap, steps)
    pad = (high - (low if is_zoomed(gap, steps) else 0)) / factor * 0.012
    for row, step in enumerate(steps, 1):
        share = f" · {percent(100 * step.delta_us / gap.total_us)}" if gap.is_clear else ""
        axes.text(
            right_us(step) / factor + pad, row, f"{_signed(step.delta_us / factor, unit)}{share}", va="center", fontsize=8
        )
    for row, value, interval in ((0, gap.second_us, intervals[1]), (len(steps) + 1, gap.first_us, intervals[0])):
        right = max(value, interval[1] if interval else value) / factor
        axes.text(right + pad, row, f"{digits(value / factor)} {unit}", va="center", fontsize=8.5, fontweight="bold")


def right_us(step: Step) -> float:
    """Return the right end of all that is drawn of a step: its parts, which may go back and forth, and its whiskers."""
    ends = accumulate((delta for _, delta in step.parts), initial=step.start_us)
    return max(*ends, *(step.start_us + end for end in step.ends_us or ()), step.start_us)


def _signed(value: float, unit: str) -> str:
    size = abs(value)
    return f"{fixed_signed(value, 0 if size >= 100 else 1 if size >= 10 else 2)} {unit}"


def _frame(
    axes: Axes, gap: Gap, intervals: tuple[tuple[float, float] | None, ...], steps: tuple[Step, ...], factor: float, unit: str
) -> None:
    span = _span(gap, steps)
    ends = [*span, *(end for interval in intervals if interval for end in interval)]  # no whisker is cut off
    low, high = min(ends), max(ends)
    low, high = low / factor, high / factor
    if is_zoomed(gap, steps):
        axes.set_xlim(low - 0.15 * (high - low), high + 0.35 * (high - low))
    else:
        axes.set_xlim(min(0.0, low * 1.05), high * 1.22 or 1.0)
    names = [run_label(gap.second, 34), *(clean(step.label, 44) for step in steps), run_label(gap.first, 34)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(unit)


def _legend(figure: Figure, sorts: set[str]) -> None:
    ink = colour("fg")
    known: dict[str, tuple[str, str, str, Any]] = {
        "work": ("hollow, dashed: floor of the work (modelled)", "none", ink, DASHED),
        "named": ("filled: time with a named cause", colour("muted"), ink, "solid"),
        "unnamed": ("hollow, dotted: no cause named, or unexplained", "none", ink, DOTTED),
    }
    found = {"unnamed" if sort == "unexplained" else sort for sort in sorts}
    handles = [
        Patch(facecolor=fill, edgecolor=edge, linestyle=line, label=label)
        for sort, (label, fill, edge, line) in known.items()
        if sort in found
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.6)
