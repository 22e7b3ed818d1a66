"""Figure 1: the waterfall from the second run's time to the first's."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analyzer.format import axis_unit, digits, fixed_signed, percent
from analyzer.report.figures.canvas import draw
from analyzer.report.figures.theme import colour, kind_name
from analyzer.report.marks.gap import UNEXPLAINED, Step
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Gap

ROW_IN = 0.36
ZOOM_BELOW = 0.12
"""Where the steps span less than this share of the axis, the axis no longer starts at zero, and the figure says so."""


def per(gap: Gap) -> str:
    """Return what the times of a gap are given for."""
    if "untraced" in gap.basis:
        return "per batch"
    return "per step" if "per step" in gap.basis else "in the whole trace"


def is_zoomed(gap: Gap, steps: tuple[Step, ...]) -> bool:
    """Tell whether the axis of the waterfall is cut because its steps would be too small to see."""
    low, high = _span(gap, steps)
    return high > 0 and (high - low) / high < ZOOM_BELOW


def waterfall(gap: Gap, steps: tuple[Step, ...], intervals: tuple[tuple[float, float] | None, ...], title: str) -> str:
    """Return figure 1. ``intervals``: the 95 % intervals of the first and the second run in microseconds, None without."""
    factor, unit = axis_unit(max(_span(gap, steps)[1], 1e-9))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _totals(axes, gap, intervals, factor, len(steps) + 1)
        for row, step in enumerate(steps, 1):
            _step(axes, step, row, factor)
        _connect(axes, gap, steps, factor)
        _label(axes, gap, intervals, steps, factor, unit)
        _frame(axes, gap, intervals, steps, factor, unit)
        _legend(figure, {term for step in steps for term, _ in step.terms})

    text = f"Waterfall from {clean(gap.second, 80)} to {clean(gap.first, 80)} in {len(steps)} steps; numbers in the table below"
    return draw("fig1", 0.95 + ROW_IN * (len(steps) + 2), title, text, paint)


def _span(gap: Gap, steps: tuple[Step, ...]) -> tuple[float, float]:
    ends = [gap.first_us, gap.second_us]
    for step in steps:
        at = step.start_us
        for _, delta in step.terms:
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
    """The terms follow each other; two or more share the row, the floor above."""
    at = step.start_us / factor
    height = 0.62 / max(len(step.terms), 1)
    fill = colour("idle" if step.kind in (UNEXPLAINED, "idle") else kind_name(step.kind))
    for place, (term, delta) in enumerate(step.terms):
        hollow = term in ("floor", "no_model", "tracing")
        modelled = term in ("floor", "above") and step.evidence is Evidence.MODELLED
        axes.add_patch(
            Rectangle(
                (at, row - 0.31 + place * height), delta / factor, height,
                facecolor="none" if hollow else fill,
                edgecolor=colour("fg") if not hollow or step.kind == UNEXPLAINED else fill,
                linewidth=1.3 if hollow else 0.6,
                linestyle=(0, (3, 1.5)) if modelled or step.kind == UNEXPLAINED else "solid",
            )
        )  # fmt: skip
        at += delta / factor


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
        share = f" · {percent(100 * step.delta_us / gap.total_us)}" if gap.total_us else ""
        right = max(step.start_us, step.end_us, step.start_us + step.terms[0][1] if step.terms else 0.0) / factor
        axes.text(right + pad, row, f"{_signed(step.delta_us / factor, unit)}{share}", va="center", fontsize=8)
    for row, value, interval in ((0, gap.second_us, intervals[1]), (len(steps) + 1, gap.first_us, intervals[0])):
        right = max(value, interval[1] if interval else value) / factor
        axes.text(right + pad, row, f"{digits(value / factor)} {unit}", va="center", fontsize=8.5, fontweight="bold")


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
    names = [clean(gap.second, 26), *(clean(step.label, 26) for step in steps), clean(gap.first, 26)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{unit} {per(gap)}")


def _legend(figure: Figure, terms: set[str]) -> None:
    ink = colour("fg")
    known = (
        ("floor", Patch(facecolor="none", edgecolor=ink, linestyle=(0, (3, 1.5)), label="hollow, upper: floor of the work")),
        (
            "above",
            Patch(
                facecolor=colour("muted"), edgecolor=ink, linestyle=(0, (3, 1.5)), label="filled, dashed: time above that floor"
            ),
        ),
        ("time", Patch(facecolor=colour("muted"), edgecolor=ink, label="filled, solid: measured time, no floor known")),
    )
    handles = [handle for term, handle in known if term in terms]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.6)
