"""The figures of the section on memory: DRAM throughput by kind, bytes touched per launch, and the allocator's curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analyzer.format import percent, size
from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw, legend
from analyzer.report.figures.theme import MARKERS, colour
from analyzer.report.marks.access import short_size
from analyzer.report.marks.memory import (
    LARGEST,
    SMALLEST,
    Curve,
    Level,
    Locality,
    Throughput,
    Throughputs,
    short_level,
    thinned,
)
from analyzer.report.text import clean, operator_label, run_label

ROW_IN = 0.3
PLOT_IN = 2.9
LEVEL_IN = 0.17
PANEL_IN = 1.75
GLYPHS = ("○", "△", "□", "◇", "▽", "✚")
DASHES: tuple[Any, ...] = ("solid", (0, (6, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.3, 1, 1.3)), (0, (3, 1)), (0, (8, 2)))
ZOOMED_SHARE = 0.25
"""An axis begins at zero where the curve moves by this share of its peak or more."""


def throughput(data: Throughputs, labels: tuple[str, ...], title: str) -> str:
    """Return the dot plot of DRAM throughput by kind. Hollow marks have modelled bytes, filled ones counted bytes."""
    kinds = list(dict.fromkeys(mark.kind for mark in data.marks))
    runs = sorted({mark.run for mark in data.marks})
    row_in = ROW_IN if len(runs) < 3 else 0.13 * len(runs)
    height = 0.95 + row_in * len(kinds)
    margins = Margins(0.115, 0.48 / height, 0.765, 1 - 0.45 / height)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlim(0, 100)
        axes.set_ylim(len(kinds) - 0.4, -0.6)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.tick_params(axis="y", length=0)
        counts = any(math.isfinite(mark.counted_pct) for mark in data.marks)
        what = "bytes / time" if counts else "compulsory bytes / time"
        axes.set_xlabel(f"{what}, % of the bandwidth used for floors ({'filled: counted' if counts else 'modelled'})")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.axvline(100, color=colour("fg"), linewidth=1.0)
        _attainable(axes, data, runs)
        for row, kind in enumerate(kinds):
            found = [mark for mark in data.marks if mark.kind == kind]
            for mark in found:
                _throughput(axes, mark, row + _offset(runs.index(mark.run), len(runs)))
            _beside(axes, row, "   ".join(f"{_glyph(mark.run, len(runs))}{percent(mark.share_pct)}" for mark in found))
        _beside(axes, -0.85, "share of time")
        legend(figure, [_handle(run, labels[run]) for run in runs], len(runs))

    text = "DRAM throughput in percent by kind, a mark per run; numbers in the table below"
    return draw("fig-dram", height, title, text, paint, margins)


def _glyph(run: int, runs: int) -> str:
    return f"{GLYPHS[run % 6]} " if runs > 1 else ""


def _offset(place: int, count: int) -> float:
    return (place - (count - 1) / 2) * 0.64 / count


def _beside(axes: Axes, row: float, text: str) -> None:
    axes.text(
        1.135, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=7.5, color=colour("muted")
    )


def _throughput(axes: Axes, mark: Throughput, y: float) -> None:
    ink = colour(f"run-{mark.run % 6}")
    if math.isfinite(mark.counted_pct):
        axes.plot(
            [mark.counted_pct], [y], marker=MARKERS[mark.run % 6], markersize=6.5, markerfacecolor=ink,
            markeredgecolor=colour("panel"), markeredgewidth=0.6, linestyle="none", zorder=4, clip_on=False,
        )  # fmt: skip
    if mark.from_cache:
        text = f"{_glyph(mark.run, 2)}from a cache"
        axes.text(1.008, y, text, transform=axes.get_yaxis_transform(), fontsize=7, color=ink, va="center")
        return
    if math.isfinite(mark.low_pct) and math.isfinite(mark.high_pct):
        axes.plot((mark.low_pct, mark.high_pct), (y, y), color=ink, linewidth=2.2, alpha=0.45, solid_capstyle="butt", zorder=2)
    axes.plot(
        [mark.pct], [y], marker=MARKERS[mark.run % 6], markersize=6.5, markerfacecolor=colour("panel"), markeredgecolor=ink,
        markeredgewidth=1.5, linestyle="none", zorder=3, clip_on=False,
    )  # fmt: skip


def _attainable(axes: Axes, data: Throughputs, runs: list[int]) -> None:
    found: dict[float, list[int]] = {}
    for run, pct in data.attainable:
        found.setdefault(round(pct, 1), []).append(run)
    for pct, whose in found.items():
        glyph = "" if set(whose) == set(runs) else f"{GLYPHS[whose[0] % 6]} "
        axes.axvline(pct, color=colour("muted"), linewidth=1.0, linestyle=(0, (4, 2)))
        axes.text(
            pct, 1.01, f"{glyph}attainable by a copy", transform=axes.get_xaxis_transform(), ha="right", va="bottom",
            fontsize=7.5, color=colour("muted"),
        )  # fmt: skip


def _handle(run: int, label: str) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker=MARKERS[run % 6], markersize=7, markerfacecolor="none", markeredgewidth=1.4,
        markeredgecolor=colour(f"run-{run % 6}"), label=run_label(label, 44),
    )  # fmt: skip


def locality(found: tuple[Locality, ...], levels: tuple[Level, ...], title: str) -> str:
    """Return the cumulative share of time by bytes touched per launch, dashed where a second run has its line."""
    top = max(LARGEST, 2.0 ** (math.floor(math.log2(max(float(line.size_bytes[-1]) for line in found))) + 1))
    shown = [level for level in levels if SMALLEST < level.size_bytes < top]
    above = 0.36 + LEVEL_IN * len(shown)
    height = 0.5 + PLOT_IN + above
    margins = Margins(0.075, 0.5 / height, 0.985, 1 - above / height)
    everyone = {line.run for line in found}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xscale("log", base=2)
        axes.set_xlim(SMALLEST, top)
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(FixedLocator([SMALLEST * 4**i for i in range(int(math.log2(top / SMALLEST)) // 2 + 1)]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_size(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("compulsory bytes of one launch (modelled)")
        axes.set_ylabel("% of the time, up to that size")
        axes.grid()
        axes.set_axisbelow(True)
        for place, level in enumerate(shown):
            _level(axes, level, place, len(shown), everyone)
        for line in found:
            _ecdf(axes, line, top)
        handles = [
            Line2D(
                [],
                [],
                color=colour(f"run-{f.run % 6}"),
                linestyle=DASHES[f.run % 6],
                linewidth=1.8,
                label=run_label(f.label, 44),
            )
            for f in found
        ]
        legend(figure, handles, min(len(found), 3), handlelength=3.2)

    text = "Cumulative share of time against bytes per launch; numbers in the table below"
    return draw("fig-locality", height, title, text, paint, margins)


def _level(axes: Axes, level: Level, place: int, count: int, everyone: set[int]) -> None:
    """Draw a capacity as a line up to its name: the largest lowest, so that no line crosses the name of another."""
    up = 1 + (0.04 + LEVEL_IN * (count - 1 - place + 0.5)) / PLOT_IN
    low, high = axes.get_xlim()
    across = math.log2(level.size_bytes / low) / math.log2(high / low)
    free: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    axes.plot((across, across), (0, up), color=colour("muted"), linewidth=0.9, linestyle=(0, (4, 2)), zorder=1, **free)
    glyphs = "" if set(level.runs) >= everyone else " ".join(GLYPHS[run % 6] for run in level.runs) + " "
    text = f"{glyphs}{short_level(level.name)}: {short_size(level.size_bytes)}"
    fits = across + 0.075 * len(text) / WIDTH_IN < 1
    axes.text(
        across + (0.004 if fits else -0.004), up, text, transform=axes.transAxes, fontsize=7.5, va="center",
        ha="left" if fits else "right", color=colour("fg"), bbox=_ground(),
    )  # fmt: skip


def _ecdf(axes: Axes, line: Locality, top: float) -> None:
    x, y = thinned(line)
    below = float(y[x <= SMALLEST][-1:].sum())
    inside = x > SMALLEST
    x = np.concatenate([[SMALLEST], x[inside], [top]])
    y = np.concatenate([[below], y[inside], [line.known_pct]])
    ink = colour(f"run-{line.run % 6}")
    axes.step(x, y, where="post", color=ink, linestyle=DASHES[line.run % 6], linewidth=1.8, zorder=3)


def curves(found: tuple[Curve, ...], title: str) -> str:
    """Return the allocator's curves, a panel for each, drawn as steps with the peak marked."""
    below, between = 0.48, 0.62
    height = 0.35 + PANEL_IN * len(found) + between * (len(found) - 1) + below
    margins = Margins(0.085, below / height, 0.985, 1 - 0.35 / height, between / PANEL_IN)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for axes, curve in zip(panels, found, strict=True):
            _curve(axes, curve)
            axes.set_xlabel("ms since the window began" if axes is panels[-1] else "")

    text = "Memory of the allocator over time, the peak marked; numbers in the table below"
    return draw("fig-memory", height, title, text, paint, margins)


def _curve(axes: Axes, curve: Curve) -> None:
    scale, unit = _unit(max(abs(curve.span[0]), abs(curve.span[1])))
    ink = colour(f"run-{curve.run % 6}")
    low, high = (value / scale for value in curve.span)
    top = high if curve.reserved is None else max(high, float(curve.reserved[1].max()) / scale)
    zoomed = curve.profile.is_absolute and high - low < ZOOMED_SHARE * high
    bottom = max(low - 0.5 * (top - low), 0.0) if zoomed else min(low, 0.0)
    axes.set_ylim(bottom, top + 0.22 * ((top - bottom) or 1.0))
    end = float(curve.at_ms[-1])
    for number, (begin, stop) in enumerate(curve.steps if len(curve.steps) > 1 else ()):
        axes.axvspan(begin, stop, color=colour("line"), alpha=0.5 if number % 2 == 0 else 0.22, linewidth=0)
    axes.step(curve.at_ms, curve.allocated_bytes / scale, where="post", color=ink, linewidth=1.2, zorder=3)
    if curve.reserved is not None:
        axes.step(
            curve.reserved[0], curve.reserved[1] / scale, where="post", color=colour("muted"), linewidth=1.0,
            linestyle=(0, (4, 2)), zorder=2,
        )  # fmt: skip
    _peak(axes, curve, scale)
    device = clean(curve.profile.device, 24)
    axes.set_title(f"{GLYPHS[curve.run % 6]} {run_label(curve.label, 44)}, {device}")
    axes.set_ylabel(f"{unit}{', not from 0' if bottom > 0 else ''}")
    first = min([begin for begin, _ in curve.steps] + [float(curve.at_ms[0])])
    last = max([stop for _, stop in curve.steps] + [end])
    axes.set_xlim(first, last if last > first else first + 1)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _peak(axes: Axes, curve: Curve, scale: float) -> None:
    """Mark the peak, with what holds most of it."""
    profile = curve.profile
    text = f"peak {'' if profile.is_absolute else '+'}{size(profile.peak_bytes)}"
    if len(profile.at_peak):
        most = profile.at_peak.iloc[0]
        text += f"; largest: {size(float(most['bytes']))} by {operator_label(str(most['op']))[:32] or 'no operator'}"
    axes.plot(
        [curve.peak_ms], [profile.peak_bytes / scale], marker="v", markersize=7, color=colour("fg"), zorder=4, clip_on=False,
        linestyle="none",
    )  # fmt: skip
    start, end = float(curve.at_ms[0]), float(curve.at_ms[-1])
    late = end > start and (curve.peak_ms - start) / (end - start) > 0.5
    axes.annotate(
        text, (curve.peak_ms, profile.peak_bytes / scale), xytext=(-8 if late else 8, 4), textcoords="offset points",
        ha="right" if late else "left", va="bottom", fontsize=8, fontweight="bold", zorder=5, bbox=_ground(),
    )  # fmt: skip


def _ground() -> dict[str, Any]:
    """Return what keeps a text readable where it crosses a line."""
    return {"facecolor": colour("panel"), "edgecolor": "none", "pad": 0.6}


def _unit(largest: float) -> tuple[float, str]:
    if largest >= 2.0**31:
        return 2.0**30, "GiB"
    return (2.0**20, "MiB") if largest >= 2.0**20 else (2.0**10, "KiB") if largest >= 2.0**10 else (1.0, "bytes")
