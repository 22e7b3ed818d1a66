"""Figures 2 and 3: the stacks of kinds, and one representative step."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from analyzer.format import axis_unit, digits, percent
from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw, legend
from analyzer.report.figures.theme import KIND_COLOURS, colour
from analyzer.report.marks.time import IDLE, Stack, Timeline
from analyzer.report.text import clean, run_label

POINTS_PER_LETTER = 5.1
LABELLED_SHARE = 0.06


def stacked(stacks: tuple[Stack, ...], idle: str, title: str) -> str:
    """Return figure 2: time by kind with idle above, shares of the busy time below."""
    factor, unit = axis_unit(max(stack.total_us for stack in stacks))
    kinds = [kind for kind in KIND_COLOURS if any(kind == name for s in stacks for name, _ in s.parts)]

    widest = max(stack.total_us for stack in stacks) / factor

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1)
        for axes, shares in ((upper, False), (lower, True)):
            for row, stack in enumerate(stacks):
                _bar(axes, stack, row, factor, 100 if shares else widest, shares=shares)
            axes.set_yticks(range(len(stacks)), [run_label(s.label, 32) for s in stacks])
            axes.set_ylim(len(stacks) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.set_xlim(0, (100 if shares else widest) * 1.01)
        known = all(stack.steps for stack in stacks)
        upper.set_title(f"{what_is_stacked(stacks)}: kinds, then {idle}")
        upper.set_xlabel(f"{unit} per step" if known else unit)
        lower.set_title("Busy time alone")
        lower.set_xlabel("% of busy time")
        handles = [Patch(facecolor=colour(f"kind-{kind}"), edgecolor=colour("fg"), label=kind) for kind in kinds]
        handles.append(Patch(facecolor=colour("idle"), edgecolor=colour("fg"), linestyle=(0, (2, 1.5)), label=idle))
        legend(figure, handles, 7, handlelength=1.1, columnspacing=1.3)

    rows = -(-(len(kinds) + 1) // 7)
    height = 1.5 + 0.2 * rows + 0.86 * len(stacks)
    margins = _margins(height, [run_label(s.label, 32) for s in stacks], above=0.42 + 0.2 * rows, between=0.68, panels=2)
    text = "Stacked bars of time by kind for each run; numbers in the table below"
    return draw("fig2", height, title, text, paint, margins)


def what_is_stacked(stacks: tuple[Stack, ...]) -> str:
    """Return what one bar of figure 2 is the time of."""
    known = [bool(stack.steps) for stack in stacks]
    if all(known):
        return "Whole time per step"
    if any(known):
        return "Whole time per step, or of the whole trace where it does not divide into steps"
    return "Whole trace" if len(stacks) == 1 else "Whole traces"


def _margins(height: float, names: list[str], *, above: float, between: float, panels: int) -> Margins:
    """Return room for the ``names`` of rows on the left, and in inches ``above`` the axes, below them and ``between`` two."""
    left = (max(len(name) for name in names) * POINTS_PER_LETTER * 1.15 + 12) / 72 / WIDTH_IN
    below = 0.48
    one = (height - above - below - between * (panels - 1)) / panels
    return Margins(left, below / height, 0.985, 1 - above / height, between / one)


def _bar(axes: Axes, stack: Stack, row: int, factor: float, width: float, *, shares: bool) -> None:
    """Draw one bar on an axis of ``width``, of shares of the busy time or of times."""
    whole = stack.busy_us if shares else stack.total_us
    if whole <= 0:
        return
    at = 0.0
    scale = 100 / whole if shares else 1 / factor
    for kind, value in stack.parts:
        if (shares and kind == IDLE) or value <= 0:
            continue
        idle = kind == IDLE
        axes.barh(
            row, value * scale, 0.66, left=at,
            color=colour("idle" if idle else f"kind-{kind}"), edgecolor=colour("fg"), linewidth=0.5,
            linestyle=(0, (2, 1.5)) if idle else "solid",
        )  # fmt: skip
        share = value * scale / width  # of what is drawn: a short bar has no room for words
        if share >= LABELLED_SHARE:
            text = percent(100 * share) if shares else digits(value * scale)
            ink = colour("fg" if idle else f"on-{kind}")
            axes.text(at + value * scale / 2, row, _fit(kind, text, share), ha="center", va="center", fontsize=7.5, color=ink)
        at += value * scale


def _fit(kind: str, text: str, share: float) -> str:
    """Return the name with the number where the segment is wide enough for both, on one line or two, else the number."""
    points = share * WIDTH_IN * 72 * 0.8
    if points > POINTS_PER_LETTER * (len(kind) + len(text) + 1):
        return f"{kind} {text}"
    return f"{kind}\n{text}" if points > POINTS_PER_LETTER * max(len(kind), len(text)) else text


def timelines(lines: tuple[Timeline, ...], title: str) -> str:
    """Return figure 3: for each run the lanes of its representative step."""
    factor, unit = axis_unit(max(line.length_us for line in lines))
    rows = sum(len(line.lanes) for line in lines)
    in_steps = all(line.step >= 0 for line in lines)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(lines), 1, sharex=True, squeeze=False)[:, 0]
        for axes, line in zip(panels, lines, strict=True):
            for row, lane in enumerate(line.lanes):
                last = row == len(line.lanes) - 1
                face = colour("muted" if last else f"run-{line.run}")
                spans = [(start / factor, length / factor) for start, length in lane.spans]
                if spans:
                    shape = _boxes(spans, row - 0.34, row + 0.34)
                    edge, alpha = ("none", 0.5) if last else (face, 1.0)
                    axes.add_patch(PathPatch(shape, facecolor=face, edgecolor=edge, alpha=alpha, linewidth=0.3))
            axes.set_yticks(range(len(line.lanes)), [lane.name for lane in line.lanes])
            axes.set_ylim(len(line.lanes) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.axvline(line.length_us / factor, color=colour("muted"), linewidth=0.8)
            where = f"step {line.step + 1}" if line.step >= 0 else "traced window"
            axes.set_title(f"{clean(line.label, 50)}: {where}, {digits(line.length_us / factor)} {unit}")
        panels[-1].set_xlim(0, max(line.length_us for line in lines) / factor * 1.01)
        panels[-1].set_xlabel(f"{unit} since the start{' of the step' if in_steps else ''}")

    height = 0.55 + 0.4 * len(lines) + 0.26 * rows
    names = [lane.name for line in lines for lane in line.lanes]
    margins = _margins(height, names, above=0.32, between=0.4, panels=len(lines))
    what = "one representative step" if in_steps else "the traced window"
    text = f"Timeline of {what} for each run; numbers in the table below"
    return draw("fig3", height, title, text, paint, margins)


def _boxes(spans: list[tuple[float, float]], low: float, high: float) -> Path:
    """Return all spans as one path, which takes a fifth of the space that a path for each would."""
    corners = [
        ((x, low), (x, high), (x + width, high), (x + width, low), (x, low)) for x, width in spans
    ]  # fmt: skip
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(spans)
    return Path([corner for box in corners for corner in box], codes)
