"""The figures of section "fusion": kernel time by module in both runs, and bytes of operators apart and in one kernel."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analyzer.format import axis_unit, milliseconds, size
from analyzer.report.figures.canvas import draw
from analyzer.report.figures.theme import MARKERS, RUNS, colour
from analyzer.report.marks.fusion import Pair

ROW_IN, TALL_ROW_IN = 0.32, 0.46
APART, WHOLE = "the operators, each on its own", "the generated kernel as a whole"
HATCH = "////"
UNITS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def module_chart(pairs: tuple[Pair, ...], places: tuple[int, int], title: str, per: str) -> str:
    """Return the dumbbells of kernel time by module: a mark per run, what the compiled run saves beside them.

    ``places`` are the numbers of the eager and of the compiled run in the study, whose colours they have.
    """
    top = max((end for pair in pairs for end in (pair.first, pair.second)), default=0.0)
    factor, unit = axis_unit(top)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, pair in enumerate(pairs):
            _dumbbell(axes, pair, row, places, factor)
            text = f"saves {milliseconds(pair.delta)}" if pair.delta >= 0 else f"{milliseconds(-pair.delta)} longer"
            _beside(axes, row, text if pair.delta else "no difference", bold=pair.delta < 0)
        _frame(axes, [pair.label for pair in pairs], top / factor, f"kernel time {per}, {unit}")
        handles = [
            Line2D(
                [], [], linestyle="none", marker=_marker(place), markersize=7, color=colour(f"run-{place % RUNS}"), label=name
            )
            for place, name in zip(places, ("eager", "compiled"), strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)

    text = "Dumbbells: kernel time of each module pattern in the eager and in the compiled run; numbers in the table below"
    return draw("fig-fusion-modules", 0.95 + ROW_IN * len(pairs), title, text, paint)


def _dumbbell(axes: Axes, pair: Pair, row: int, places: tuple[int, int], factor: float) -> None:
    ends = (pair.first / factor, pair.second / factor)
    axes.plot(ends, (row, row), color=colour("muted"), linewidth=2.2, solid_capstyle="butt", zorder=2)
    for place, value in zip(places, ends, strict=True):
        axes.plot(
            [value],
            [row],
            _marker(place),
            markersize=8,
            color=_ink(place),
            markeredgecolor=colour("panel"),
            clip_on=False,
            zorder=3,
        )


def _marker(place: int) -> str:
    return MARKERS[place % RUNS]


def _ink(place: int) -> str:
    return colour(f"run-{place % RUNS}")


def byte_chart(pairs: tuple[Pair, ...], title: str, per: str) -> str:
    """Return paired bars per group: bytes of the operators each on its own, and of the kernel that does them all."""
    top = max((max(pair.first, pair.second) for pair in pairs), default=0.0)
    factor, unit = next((factor, name) for factor, name in UNITS if top >= factor or factor == 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, pair in enumerate(pairs):
            _bar(axes, row - 0.19, pair.first / factor, apart=True)
            _bar(axes, row + 0.19, pair.second / factor, apart=False)
            text = f"{size(pair.delta)} less" if pair.delta >= 0 else f"{size(-pair.delta)} more"
            _beside(axes, row, text, bold=pair.delta < 0)
        _frame(axes, [f"{pair.label}\n{pair.below}" for pair in pairs], top / factor, f"bytes {per}, {unit}")
        ink = colour("fg")
        handles = [
            Patch(facecolor="none", edgecolor=ink, hatch=HATCH, linewidth=0.8, label=APART),
            Patch(facecolor=colour("accent"), edgecolor=ink, linewidth=0.8, label=WHOLE),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)

    text = "Bars: bytes that the operators of each group move each on its own, and those of the kernel as a whole"
    return draw("fig-fusion-bytes", 0.95 + TALL_ROW_IN * len(pairs), title, text, paint)


def _bar(axes: Axes, at: float, length: float, *, apart: bool) -> None:
    fill, hatch = ("none", HATCH) if apart else (colour("accent"), "")
    axes.barh(at, length, 0.36, color=fill, hatch=hatch, edgecolor=colour("fg"), linewidth=0.8)


def _beside(axes: Axes, row: int, text: str, *, bold: bool) -> None:
    """Write at the right end of a row; what became more stands out."""
    axes.text(
        1.015, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=8,
        fontweight="bold" if bold else "normal",
    )  # fmt: skip


def _frame(axes: Axes, labels: list[str], top: float, what: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, top * 1.04 or 1.0)
    axes.tick_params(axis="y", length=0, pad=8)  # a mark at zero reaches over the axis
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(what)
