"""Figure of the steps: a stacked bar for each, of what it is made of."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analyzer.format import axis_unit, digits
from analyzer.report.figures.canvas import Margins, draw, legend
from analyzer.report.figures.theme import colour
from analyzer.report.marks.host import StepBars
from analyzer.report.text import clean
from analyzer.schema.profile import STEP_PARTS

PART_NAMES = {
    "kernel": "kernel",
    "memcpy": "copy",
    "memset": "fill",
    "runtime": "runtime",
    "dataloader": "data loader",
    "host": "host operators",
    "other": "other",
}
_LABELLED = 0.09
COMPARABLE = 0.1
"""Panels share one axis of time where the shortest has at least this share of the longest; a shorter one would be a sliver."""

_WIDE = 8
"""Bars of one run up to which their numbers are written into them."""


def limits_us(found: tuple[StepBars, ...]) -> tuple[float, ...]:
    """Return where the axis of time of each run ends: at one time for all where they can be compared, else at its own."""
    longest = tuple(max(bar.total_us for bar in run.bars) for run in found)
    most = max(longest)
    return (most,) * len(found) if min(longest) >= COMPARABLE * most else longest


def steps(found: tuple[StepBars, ...], title: str, units_of: tuple[str, ...]) -> str:
    """Return one panel per run, with a stacked bar per step, on the axes of ``limits_us``.

    ``units_of``: what the time of each run is for, such as `` per step``.
    """
    ends = limits_us(found)
    parts = [part for part in STEP_PARTS if any(part == name for run in found for name, _ in run.mean.parts)]

    def paint(figure: Figure) -> None:
        ratios = {"height_ratios": [_lanes(run) for run in found]}
        panels = figure.subplots(len(found), 1, squeeze=False, gridspec_kw=ratios)[:, 0]
        for axes, run, end_us, unit_of in zip(panels, found, ends, units_of, strict=True):
            factor, unit = axis_unit(end_us)
            _panel(axes, run, factor, end_us / factor, f"{unit}{unit_of}")
        handles = [Patch(label=PART_NAMES[part], **_look(part)) for part in parts]
        legend(figure, handles, len(handles), handlelength=1.1, columnspacing=1.3)

    heights = [0.62 + 0.27 * _lanes(run) for run in found]
    height = 0.4 + sum(heights)
    one = (height - 0.62 - 0.62 * (len(found) - 1) - 0.42) / len(found)
    longest = max(len(_short(bar.name)) for run in found for bar in run.bars)
    margins = Margins(min(0.06 + 0.008 * longest, 0.24), 0.42 / height, 0.985, 1 - 0.62 / height, 0.62 / one)
    text = "Stacked bars of what each step is made of; numbers in the table below"
    return draw("fig-steps", height, title, text, paint, margins)


def _lanes(run: StepBars) -> float:
    return len(run.bars) if len(run.bars) <= _WIDE else 8


def _panel(axes: Axes, run: StepBars, factor: float, longest: float, unit: str) -> None:
    wide = len(run.bars) <= _WIDE
    for place, bar in enumerate(run.bars):
        at = 0.0
        for part, value in bar.parts:
            length = value / factor
            if length > 0:
                _segment(axes, part, place, at, length, longest, wide=wide)
            at += length
    axes.set_title(clean(run.label, 60))
    names = [_short(bar.name) for bar in run.bars]
    if wide:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, longest * 1.01 or 1)
        axes.set_xlabel(unit, labelpad=1)
        axes.tick_params(axis="y", length=0)
        return
    shown = range(0, len(names), max(1, len(names) // 6))
    axes.set_xticks(list(shown), [names[i] for i in shown])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, longest * 1.02 or 1)
    axes.set_ylabel(unit)


def _segment(axes: Axes, part: str, place: int, at: float, length: float, longest: float, *, wide: bool) -> None:
    look = _look(part)
    if not wide:
        axes.bar(place, length, 0.8, bottom=at, **look)
        return
    axes.barh(place, length, 0.72, left=at, **look)
    if length >= _LABELLED * longest:
        ink = colour("fg" if part == "other" else f"on-part-{part}")
        axes.text(at + length / 2, place, digits(length), ha="center", va="center", fontsize=7.5, color=ink)


def _look(part: str) -> dict[str, Any]:
    last = part == STEP_PARTS[-1]
    return {
        "facecolor": colour("idle" if last else f"part-{part}"),
        "edgecolor": colour("fg"),
        "linewidth": 0.5,
        "linestyle": (0, (2, 1.5)) if last else "solid",
    }


def _short(name: str) -> str:
    """Return the name of a step without what all of them begin with."""
    return clean(name.replace("ProfilerStep#", ""), 24)
