"""Curves of a crossover report: one panel a batch size, one line a model, both axes logarithmic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from analyzer.format import digits, fixed
from analyzer.report.figures.canvas import draw
from analyzer.report.figures.theme import MARKERS, RUNS, colour
from analyzer.report.marks.crossover import Line, Panel, Panels

PANEL_IN = 2.7
_FEWEST_TICKS, _MOST_TICKS = 3, 8
_FACTORS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(n / 10 for n in range(10, 100, 2)))
_LABEL_IN = 0.15
_LETTER_IN, _LEADER_IN, _AXES_IN = 0.066, 0.25, 7.0
"""Width of a letter of a name, of the leader before it, and of all axes of a row together."""
_DECADES = 0.5
"""An axis that spans less is marked in even steps."""
Limits = tuple[tuple[float, float], tuple[float, float], list[float]]
"""Ends of both axes, and where the points are across."""
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))


@dataclass(frozen=True, slots=True)
class Axis:
    """What the axes of a figure are called, and a height to draw a line at.

    ``mirror``: name of the right axis, whose figures are ``1000 / y``, or empty. ``sizes``: x are whole numbers to be labelled.
    """

    x: str
    y: str
    mirror: str = ""
    sizes: bool = True
    level: float | None = None


def curves(figure_id: str, shown: Panels, axis: Axis, title: str, description: str) -> str:
    """Return the panels as SVG: two in a row, all with the same axes."""
    columns = 1 if len(shown.panels) == 1 else 2
    rows = math.ceil(len(shown.panels) / columns)
    limits = _limits(shown, axis, columns)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False)
        places = grid.ravel().tolist()
        for number, (axes, panel) in enumerate(zip(places, shown.panels, strict=False)):
            _paint(axes, panel, axis, limits, (PANEL_IN - 0.75, number % columns == columns - 1 or columns == 1))
        for axes in places[len(shown.panels) :]:
            axes.set_axis_off()

    return draw(figure_id, rows * PANEL_IN + 0.15, title, description, paint)


def _limits(shown: Panels, axis: Axis, columns: int) -> Limits:
    points = [p for panel in shown.panels for line in panel.lines for p in line.points]
    lost = [x for panel in shown.panels for _, x in panel.lost]
    xs = sorted({p[0] for p in points} | set(lost))
    low, high = shown.span()
    if axis.level is not None:
        low, high = min(low, axis.level), max(high, axis.level)
    wide = max(math.log10(xs[-1] / xs[0]), 0.15)
    tall = max(math.log10(high / low), 0.3)
    # the names of the lines stand in a column to the right of all points; above is room for what ran out of memory
    x = (xs[0] / 10 ** (0.05 * wide), xs[-1] * 10 ** (1.05 * wide * _column(shown, columns)))
    y = (low / 10 ** (0.08 * tall), high * 10 ** ((0.2 if lost else 0.08) * tall))
    return x, y, xs


def _column(shown: Panels, columns: int) -> float:
    """Return the room for the longest name, as a share of the width that the points have."""
    longest = max(len(line.name) for panel in shown.panels for line in panel.lines)
    share = min((_LEADER_IN + longest * _LETTER_IN) / (_AXES_IN / columns), 0.6)
    return share / (1 - share)


def _paint(
    axes: Axes,
    panel: Panel,
    axis: Axis,
    limits: Limits,
    place: tuple[float, bool],
) -> None:
    (x, y, xs), (height_in, last) = limits, place
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    for middle, low, high, resolved in panel.crossings:
        axes.axvspan(low, high, color=colour("idle"), linewidth=0, zorder=0)
        if resolved:
            axes.axvline(middle, color=colour("muted"), linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    if axis.level is not None:
        axes.axhline(axis.level, color=colour("fg"), linewidth=0.9, zorder=1)
    for line in panel.lines:
        _line(axes, line)
    for run, across in panel.lost:
        axes.plot([across], [0.955 - 0.05 * (run % 2)], transform=axes.get_xaxis_transform(), marker="x", markersize=6,
                  markeredgewidth=1.6, color=colour(f"run-{run % RUNS}"), linestyle="none", clip_on=False)  # fmt: skip
    _names(axes, panel, limits, height_in)
    _ticks(axes, axis, x, y, xs)
    axes.set_title(panel.title)
    axes.set_xlabel(axis.x)
    axes.set_ylabel(axis.y)
    axes.grid(visible=True, which="major", axis="both")
    axes.set_axisbelow(True)
    if axis.mirror:
        _mirror(axes, axis.mirror if last else "", y)


def _line(axes: Axes, line: Line) -> None:
    across, up = [p[0] for p in line.points], [p[1] for p in line.points]
    neutral = line.run < 0
    shade = colour("muted") if neutral else colour(f"run-{line.run % RUNS}")
    dash = _DASHES[(-1 - line.run) % len(_DASHES)] if neutral else _DASHES[line.run // RUNS % len(_DASHES)]
    marker = "." if neutral else MARKERS[line.run % RUNS]
    axes.plot(across, up, color=shade, marker=marker, markersize=4.5, linestyle=dash, zorder=3)
    spans = [p for p in line.points if p[3] > p[2]]
    if spans:
        axes.vlines([p[0] for p in spans], [p[2] for p in spans], [p[3] for p in spans], color=shade, linewidth=1.4, zorder=2)


def _names(axes: Axes, panel: Panel, limits: Limits, height_in: float) -> None:
    """Write the names of the lines in one column right of all points, each with a leader from the last point of its line."""
    x, y, xs = limits
    decades = math.log10(y[1] / y[0])
    ends = sorted(
        ((math.log10(line.points[-1][1] / y[0]) / decades * height_in, line) for line in panel.lines if line.points),
        key=lambda item: item[0],
    )
    wide = math.log10(x[1] / x[0])
    edge = math.log10(xs[-1] / x[0]) / wide
    start = edge + (1 - edge) * 0.16
    for (_, line), up in zip(ends, apart([up for up, _ in ends], height_in - 0.05), strict=True):
        last = math.log10(line.points[-1][0] / x[0]) / wide, math.log10(line.points[-1][1] / y[0]) / decades
        # sparse dots, so that nobody takes a leader for a part of its line
        axes.plot([last[0], start - 0.008], [last[1], up / height_in], transform=axes.transAxes, color=colour("muted"),
                  linewidth=0.9, linestyle=(0, (1, 4)), zorder=1.5)  # fmt: skip
        axes.text(start, up / height_in, line.name, transform=axes.transAxes, va="center", ha="left", fontsize=7.5,
                  color=colour("fg"), zorder=4,
                  bbox={"facecolor": colour("panel"), "edgecolor": "none", "pad": 0.6})  # fmt: skip


def apart(wanted: list[float], top: float) -> list[float]:
    """Return heights in inches near ``wanted``, which ascend: _LABEL_IN or more apart, none above ``top``."""
    out: list[float] = []
    for up in wanted:
        out.append(max(up, out[-1] + _LABEL_IN) if out else max(up, 0.05))
    limit = top
    for place in reversed(range(len(out))):
        out[place] = min(out[place], limit)
        limit = out[place] - _LABEL_IN
    return out


def _ticks(axes: Axes, axis: Axis, x: tuple[float, float], y: tuple[float, float], xs: list[float]) -> None:
    marks = _thin(xs, x) if axis.sizes else steps(x)
    for side, at in ((axes.xaxis, marks), (axes.yaxis, steps(y))):
        side.set_major_locator(FixedLocator(at))
        side.set_minor_locator(NullLocator())
        side.set_minor_formatter(NullFormatter())
    axes.set_xticks(marks, [fixed(value, 0) if axis.sizes else _short(value) for value in marks])
    axes.set_yticks(steps(y), [_short(value) for value in steps(y)])


def _mirror(axes: Axes, name: str, y: tuple[float, float]) -> None:
    """Draw the right axis: the images per second that a time per image in ms comes to."""
    other = axes.twinx()
    other.set_yscale("log")
    other.set_ylim(1e3 / y[0], 1e3 / y[1])
    marks = steps((1e3 / y[1], 1e3 / y[0]))
    other.set_yticks(marks, [_short(value) for value in marks])
    other.yaxis.set_minor_locator(NullLocator())
    other.spines["right"].set_visible(False)
    other.tick_params(axis="y", length=2, labelcolor=colour("muted"), labelsize=7.5)
    other.set_ylabel(name)


def steps(limits: tuple[float, float]) -> list[float]:
    """Return round marks within ``limits``: the coarsest kind of which there are at least three, at most _MOST_TICKS.

    They are even steps where ``limits`` span less than half a decade, where powers of ten and their like are too few.
    """
    if math.log10(limits[1] / limits[0]) < _DECADES:
        return _even(limits)
    low, high = math.floor(math.log10(limits[0])), math.ceil(math.log10(limits[1]))
    found: list[float] = []
    for factors in _FACTORS:
        found = [f * 10.0**e for e in range(low, high + 1) for f in factors if limits[0] <= f * 10.0**e <= limits[1]]
        if len(found) >= _FEWEST_TICKS:
            break
    return found[:: math.ceil(len(found) / _MOST_TICKS)] if found else [limits[0]]


def _even(limits: tuple[float, float]) -> list[float]:
    """Return the multiples of the largest round step of which there are four or more within ``limits``."""
    exponent = math.floor(math.log10(limits[1] - limits[0]))
    found: list[float] = []
    for factor, power in ((f, p) for p in (exponent, exponent - 1) for f in (5, 2, 1)):
        step = factor * 10.0**power
        found = [n * step for n in range(math.ceil(limits[0] / step), math.floor(limits[1] / step) + 1)]
        if len(found) > _FEWEST_TICKS:
            break
    return found


def _thin(xs: list[float], limits: tuple[float, float]) -> list[float]:
    """Return the sizes to label: those that are not too close to the one labelled before."""
    decades = math.log10(limits[1] / limits[0])
    kept: list[float] = []
    for value in xs:
        if not kept or math.log10(value / kept[-1]) > 0.085 * decades:
            kept.append(value)
    return kept


def _short(value: float) -> str:
    """Return a mark without the zeros behind its last digit; marks are round and have four digits at most."""
    text = digits(value, 4)
    return text.rstrip("0").rstrip(".") if "." in text else text
