"""Figures of a comparison that show times: slopes from device to device, dots, stacks by kind, and changes."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from analyzer.format import axis_unit, digits, fixed_signed, milliseconds, percent, times
from analyzer.report.figures.canvas import WIDTH_IN, draw
from analyzer.report.figures.theme import KIND_COLOURS, MARKERS, RUNS, colour, kind_name
from analyzer.report.marks.comparison import CHANGE_WORDS, RunTime, Slope, in_ms, on_one_axis, slope_place
from analyzer.report.marks.time import IDLE, Stack
from analyzer.report.text import clean
from analyzer.schema.comparison import Change, GapMove
from analyzer.schema.evidence import Quantity

POINTS_PER_LETTER = 5.1
LABELLED_SHARE = 0.06
LOG_ABOVE = 20.0
"""Times that differ by more than this factor stand on a logarithmic axis."""
DASHED = (0, (2, 1.5))


def whisker(axes: Axes, figure: Quantity, at: float, *, upright: bool, ink: str) -> None:
    """Draw the interval of ``figure`` through ``at``, nothing where it has none."""
    if figure.low is None or figure.high is None:
        return
    ends, place = (figure.low, figure.high), (at, at)
    axes.plot(*((place, ends) if upright else (ends, place)), color=ink, linewidth=1.2, zorder=2)
    for end in ends:
        marker = "_" if upright else "|"
        axes.plot(*((at, end) if upright else (end, at)), marker=marker, markersize=6, color=ink, zorder=2)


def plain_log(axis: object, formatter: FuncFormatter) -> None:
    """Write the ticks of a logarithmic axis as plain numbers."""
    axis.set_major_formatter(formatter)  # type: ignore[attr-defined]
    axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]


# --- how the gap moved ---------------------------------------------------------------------------------------------------


def slope_chart(slopes: tuple[Slope, ...], title: str) -> str:
    """Return the slope chart: a panel per pair of models, devices along x, ms of one batch along a logarithmic y."""

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(slopes), 1, squeeze=False)[:, 0]
        for axes, slope in zip(panels, slopes, strict=True):
            _slope(axes, slope)

    text = "Slope chart: time of one batch of a ViT and a CNN on each device; numbers in the table below"
    return draw("fig-gap", 0.5 + 3.1 * len(slopes), title, text, paint)


_PANEL_PT = 160
"""Height of a panel between its axes, in points."""
_NEAR_PT = 34
"""Two marks that are closer leave no room between them for names and ratio."""


def _slope(axes: Axes, slope: Slope) -> None:
    places = list(dict.fromkeys(map(slope_place, slope.moves)))
    at = [places.index(slope_place(move)) for move in slope.moves]
    ends = _slope_ends(slope)
    axes.set_yscale("log")
    for series, name in enumerate((slope.vit, slope.cnn)):
        ink = colour(f"run-{series}")
        own = [((m.vit_ms, m.cnn_ms), (m.cnn_ms, m.vit_ms))[series] for m in slope.moves]
        known = [(x, figure, other.value or 0.0) for x, (figure, other) in zip(at, own, strict=True) if figure.value]
        line = [x for x, *_ in known], [figure.value or 0.0 for _, figure, _ in known]
        axes.plot(*line, color=ink, marker=MARKERS[series], markersize=7, zorder=3)
        for x, figure, other in known:
            _slope_time(axes, x, figure, other, ink)
        for x, figure, other in known[:1]:
            _slope_name(axes, name, (x, figure.value or 0.0), other, ends, ink)
    for x, move in zip(at, slope.moves, strict=True):
        _slope_ratio(axes, x, move, ends)
    _slope_frame(axes, slope, places)


def _slope_time(axes: Axes, x: int, figure: Quantity, other: float, ink: str) -> None:
    """Draw the interval of a time and write the time at that end of it which is away from the other model."""
    whisker(axes, figure, x, upright=True, ink=ink)
    value = figure.value or 0.0
    above = value >= other
    end = (figure.high if above else figure.low) or value
    axes.annotate(
        f"{digits(value)} ms", (x, end), xytext=(0, 6 if above else -6), textcoords="offset points", ha="center",
        va="bottom" if above else "top", fontsize=8, color=ink,
    )  # fmt: skip


def _slope_name(axes: Axes, name: str, at: tuple[int, float], other: float, ends: tuple[float, float], ink: str) -> None:
    """Write the name of a model left of its first mark; aside, where the mark of the other one is near."""
    aside = 0 if _apart_pt((at[1], other), ends) > _NEAR_PT else 8 if at[1] >= other else -8
    axes.annotate(
        clean(name, 30), at, xytext=(-24 if aside else -9, aside), textcoords="offset points", va="center", ha="right",
        fontsize=8.5, fontweight="bold", color=ink,
    )  # fmt: skip


def _slope_ratio(axes: Axes, x: int, move: GapMove, ends: tuple[float, float]) -> None:
    """Write the ratio between the two marks; above both, over the time that stands there, where they are near."""
    both = (move.vit_ms.value or 0.0, move.cnn_ms.value or 0.0)
    if min(both) <= 0 or move.ratio.value is None:
        return
    axes.plot((x, x), both, color=colour("muted"), linewidth=0.7, linestyle=DASHED)
    near = _apart_pt(both, ends) <= _NEAR_PT
    top = max(end or 0.0 for figure in (move.vit_ms, move.cnn_ms) for end in (figure.value, figure.high))
    axes.annotate(
        times(move.ratio), (x, top if near else (both[0] * both[1]) ** 0.5), xytext=(0, 19) if near else (-5, 0),
        textcoords="offset points", ha="center" if near else "right", va="bottom" if near else "center", fontsize=9,
        fontweight="bold",
    )  # fmt: skip


def _slope_ends(slope: Slope) -> tuple[float, float]:
    """Return the ends of the y axis, in ms: room for the times below the lowest and for time and ratio above the highest."""
    found = [f.value for move in slope.moves for f in (move.vit_ms, move.cnn_ms) if f.value]
    room = (max(found) / min(found)) ** 0.2
    return min(found) / 1.45 / room, max(found) * 1.6 * room


def _apart_pt(both: tuple[float, float], ends: tuple[float, float]) -> float:
    """Return how far apart two times stand on an axis of these ends, in points."""
    return abs(math.log(both[0] / both[1])) / math.log(ends[1] / ends[0]) * _PANEL_PT if min(both) > 0 else math.inf


def _slope_frame(axes: Axes, slope: Slope, places: list[tuple[str, str]]) -> None:
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_xticks(range(len(places)), ["\n".join(clean(text, 26) for text in place if text) for place in places])
    ends = _slope_ends(slope)
    axes.set_ylim(*ends)
    axes.set_ylabel("ms per batch, logarithmic")
    plain_log(axes.yaxis, FuncFormatter(lambda value, _: digits(value, 2)))
    if ends[1] / ends[0] < 100:  # decades alone would be one tick or none
        axes.set_yticks(
            sorted({float(f"{value:.1g}") for value in (1.45 * ends[0], (ends[0] * ends[1]) ** 0.5, ends[1] / 1.45)})
        )
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_title(f"{slope.vit} and {slope.cnn}" + (f" ({slope.settings})" if slope.settings else ""))


# --- times of one batch --------------------------------------------------------------------------------------------------


def dot_chart(found: tuple[RunTime, ...], lines: tuple[tuple[str, str], ...], title: str, per: str = "batch") -> str:
    """Return the times of one batch, or of one of what ``per`` says, as dots with their intervals, a row per run."""
    values = [t.figure.value or 0.0 for t in found]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        logarithmic = max(values) / min(values) > LOG_ABOVE
        axes.set_xscale("log" if logarithmic else "linear")
        for row, time in enumerate(found):
            ink = colour(f"run-{time.run % RUNS}")
            value = time.figure.value or 0.0
            face = ink if time.untraced else "none"
            axes.plot(value, row, MARKERS[time.run % RUNS], markersize=8, color=ink, markerfacecolor=face, zorder=3)
            whisker(axes, time.figure, row, upright=False, ink=ink)
            right = max(value, time.figure.high or value)
            axes.annotate(
                f"{digits(value)} ms", (right, row), xytext=(9, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_yticks(range(len(found)), ["\n".join(lines[t.run]) for t in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        low, high = min(values), max(t.figure.high or t.figure.value or 0.0 for t in found)
        axes.set_xlim(low / 2 if logarithmic else 0, high * (3 if logarithmic else 1.15))
        axes.set_xlabel(f"ms per {per}" + (", logarithmic" if logarithmic else ""))
        if logarithmic:
            plain_log(axes.xaxis, FuncFormatter(lambda value, _: digits(value, 2)))
        axes.grid(axis="x")
        axes.set_axisbelow(True)

    text = f"Dots: time of one {per} of each run with its interval; numbers in the table below"
    return draw("fig-times", 0.8 + 0.42 * len(found), title, text, paint)


# --- stacks by kind ------------------------------------------------------------------------------------------------------


def stack_chart(stacks: tuple[Stack, ...], lines: tuple[tuple[str, str], ...], title: str) -> str:
    """Return stacked bars of all runs on one axis of time, and the same as shares of the busy time."""
    timed = on_one_axis(stacks)
    factor, unit = axis_unit(max(s.total_us for s in timed))
    kinds = [kind for kind in KIND_COLOURS if any(kind == name and us > 0 for s in stacks for name, us in s.parts)]
    rows = -(-(len(kinds) + 1) // 7)
    per = "per batch" if all(s.steps for s in timed) else "in the whole trace"
    left_out = "; whole traces are left out" if len(timed) < len(stacks) else ""

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, height_ratios=(len(timed) + 0.2, len(stacks) + 0.2))
        widest = max(s.total_us for s in timed) / factor
        for axes, found, limit in ((upper, timed, widest), (lower, stacks, 100.0)):
            for row, one in enumerate(found):
                end = _bar(axes, one, row, factor, limit, shares=axes is lower)
                if axes is upper:
                    axes.annotate(
                        milliseconds(one.total_us),
                        (end, row),
                        xytext=(4, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=8,
                    )
            axes.set_yticks(range(len(found)), ["\n".join(lines[s.run]) for s in found])
            axes.set_ylim(len(found) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.set_xlim(0, limit * (1.01 if axes is lower else 1.12))
        upper.set_title(f"Whole time {per}: kinds, then idle{left_out}")
        upper.set_xlabel(f"{unit} {per}")
        lower.set_title("Busy time alone, as shares")
        lower.set_xlabel("% of busy time")
        handles = [Patch(facecolor=colour(f"kind-{k}"), edgecolor=colour("fg"), label=k) for k in kinds]
        handles.append(Patch(facecolor=colour("idle"), edgecolor=colour("fg"), linestyle=DASHED, label=IDLE))
        columns = -(-len(handles) // rows)  # as many in each row
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=1.1, columnspacing=1.3)

    each = 0.53 if len(stacks) <= 4 else 0.4
    height = 1.7 + 0.2 * rows + each * (len(timed) + len(stacks))
    return draw("fig-time", height, title, "Stacked bars of time by kind; numbers in the table below", paint)


def _bar(axes: Axes, one: Stack, row: int, factor: float, limit: float, *, shares: bool) -> float:
    """Draw one bar and return where it ends."""
    whole = one.busy_us if shares else one.total_us
    scale = (100 / whole if whole > 0 else 0.0) if shares else 1 / factor
    at = 0.0
    for kind, us in one.parts:
        if us <= 0 or (shares and kind == IDLE):
            continue
        idle = kind == IDLE
        face = colour("idle") if idle else colour(kind_name(kind))
        style = DASHED if idle else "solid"
        axes.barh(row, us * scale, 0.66, left=at, color=face, edgecolor=colour("fg"), linewidth=0.5, linestyle=style)
        share = us * scale / limit
        if share >= LABELLED_SHARE:
            text = percent(us * scale) if shares else digits(us * scale)
            ink = colour("fg" if idle else f"on-{kind}")
            axes.text(at + us * scale / 2, row, _fit(kind, text, share), ha="center", va="center", fontsize=7.5, color=ink)
        at += us * scale
    return at


def _fit(kind: str, text: str, share: float) -> str:
    """Return the name with the number where the segment is wide enough for both, else the number."""
    points = share * WIDTH_IN * 72 * 0.66
    if points > POINTS_PER_LETTER * (len(kind) + len(text) + 1):
        return f"{kind} {text}"
    return f"{kind}\n{text}" if points > POINTS_PER_LETTER * max(len(kind), len(text)) else text


# --- what changed --------------------------------------------------------------------------------------------------------


def _ink(change: Change) -> str:
    """Return the colour of a change: that of what takes longer, or of what takes less."""
    return colour("warn" if (change.delta_us.value or 0.0) > 0 else "accent")


def change_chart(changes: tuple[Change, ...], title: str) -> str:
    """Return bars of the largest clear changes, to the right what takes longer in the second run."""
    deltas = [in_ms(change.delta_us) for change in changes]
    ends = [end for d in deltas for end in (d.value, d.low, d.high) if end is not None]
    factor, unit = (1.0, "ms") if max(map(abs, ends)) >= 1 else (1e3, "µs")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, (change, delta) in enumerate(zip(changes, deltas, strict=True)):
            value = (delta.value or 0.0) * factor
            ink, clear = _ink(change), change.state in ("faster", "slower")
            style, face = ("solid", ink) if clear else (DASHED, "none")
            axes.barh(row, value, 0.6, color=face, edgecolor=ink, linewidth=1.2, linestyle=style)
            if delta.low is not None and delta.high is not None:
                whisker(axes, _times(delta, factor), row, upright=False, ink=colour("fg"))
            far = max(value, (delta.high or 0.0) * factor, 0.0)
            places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
            axes.annotate(
                f"{fixed_signed(value, places)} {unit} · {CHANGE_WORDS[change.state]}", (far, row), xytext=(6, 0),
                textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
        axes.axvline(0, color=colour("fg"), linewidth=0.9)
        axes.set_yticks(range(len(changes)), [clean(change.name, 44) or "no operator" for change in changes])
        axes.set_ylim(len(changes) - 0.4, -0.6)
        low, high = min(0.0, *ends) * factor, max(0.0, *ends) * factor
        axes.set_xlim(low - 0.04 * (high - low), high + 0.32 * (high - low))
        axes.set_xlabel(f"{unit} per batch, second run minus first")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        handles = [
            Patch(facecolor=colour("warn"), edgecolor=colour("warn"), label="takes longer"),
            Patch(facecolor=colour("accent"), edgecolor=colour("accent"), label="takes less"),
            Line2D([], [], color=colour("muted"), linestyle=DASHED, label="hollow: in one run only, or without an interval"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)

    text = "Bars: change of the time of each operator or module; numbers in the tables below"
    return draw("fig-changes", 1.0 + 0.34 * len(changes), title, text, paint)


def _times(figure: Quantity, factor: float) -> Quantity:
    low, high = ((end or 0.0) * factor for end in (figure.low, figure.high))
    return Quantity((figure.value or 0.0) * factor, figure.unit, figure.evidence, low, high)
