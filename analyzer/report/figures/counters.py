"""The figure of section "counters": DRAM bytes by kind, counted beside what the models expect."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analyzer.format import fixed
from analyzer.report.figures.canvas import Margins, draw, legend
from analyzer.report.figures.memory import GLYPHS
from analyzer.report.figures.theme import MARKERS, colour
from analyzer.report.marks.counters import Group
from analyzer.report.text import run_label

ROW_IN = 0.34
BESIDE = 1.025
UNITS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def traffic(groups: tuple[Group, ...], labels: tuple[str, ...], per: str, title: str) -> str:
    """Return the dot plot of DRAM bytes by kind: compulsory as a tick, the model's band as a bar, counted as a filled mark."""
    kinds = list(dict.fromkeys(group.kind for group in groups))
    runs = sorted({group.run for group in groups})
    row_in = ROW_IN if len(runs) < 3 else 0.15 * len(runs)
    height = 1.05 + row_in * len(kinds)
    top = max(value for g in groups for value in (g.dram.measured, g.dram.high, g.compulsory_bytes) if math.isfinite(value))
    scale, unit = next((size, name) for size, name in UNITS if top >= size or size == 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlim(0, 1.04 * top / scale)
        axes.set_ylim(len(kinds) - 0.4, -0.6)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"bytes through DRAM {per}, {unit}")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        for row, kind in enumerate(kinds):
            found = [group for group in groups if group.kind == kind]
            for group in found:
                _mark(axes, group, row + _offset(runs.index(group.run), len(runs)), scale, 0.5 * min(0.62 / len(runs), 0.4))
            _beside(axes, row, "   ".join(f"{_glyph(g.run, len(runs))}{_ratio(g)}" for g in found))
        _beside(axes, -0.95, "counted over compulsory")
        legend(figure, _handles(runs, labels), len(runs) + 2)

    margins = Margins(0.115, 0.48 / height, 0.765, 1 - 0.52 / height)
    text = "DRAM bytes by kind, counted and modelled, a row per kind; numbers in the table below"
    return draw("fig-counters", height, title, text, paint, margins)


def _mark(axes: Axes, group: Group, y: float, scale: float, half: float) -> None:
    ink = colour(f"run-{group.run % 6}")
    low, high = group.dram.low / scale, group.dram.high / scale
    axes.plot((low, high), (y, y), color=ink, linewidth=5.0, alpha=0.35, solid_capstyle="butt", zorder=2)
    if math.isfinite(group.compulsory_bytes):
        at = group.compulsory_bytes / scale
        axes.plot((at, at), (y - half, y + half), color=colour("fg"), linewidth=1.3, zorder=3)
    axes.plot(
        [group.dram.measured / scale], [y], marker=MARKERS[group.run % 6], markersize=6.5, markerfacecolor=ink,
        markeredgecolor=colour("panel"), markeredgewidth=0.8, linestyle="none", zorder=4, clip_on=False,
    )  # fmt: skip


def _ratio(group: Group) -> str:
    if not group.compulsory_bytes > 0:
        return "n/a"
    return f"{fixed(group.dram.measured / group.compulsory_bytes, 2)}x"


def _glyph(run: int, runs: int) -> str:
    return f"{GLYPHS[run % 6]} " if runs > 1 else ""


def _offset(place: int, count: int) -> float:
    return (place - (count - 1) / 2) * 0.64 / count


def _beside(axes: Axes, row: float, text: str) -> None:
    axes.text(
        BESIDE, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=7.5, color=colour("muted")
    )


def _handles(runs: list[int], labels: tuple[str, ...]) -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = [
        Line2D(
            [], [], linestyle="none", marker=MARKERS[run % 6], markersize=7, color=colour(f"run-{run % 6}"),
            label=f"{run_label(labels[run], 40)}, counted",
        )
        for run in runs
    ]  # fmt: skip
    tick = Line2D([], [], linestyle="none", marker="|", markersize=10, markeredgewidth=1.3, color=colour("fg"))
    tick.set_label("compulsory")
    return [*marks, Patch(facecolor=colour("muted"), alpha=0.45, linewidth=0, label="access model, low to high"), tick]
