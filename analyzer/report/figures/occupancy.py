"""The occupancy figure: what launches allow against how often they fill the device, with the tail efficiency below."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from analyzer.format import decade
from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw, legend
from analyzer.report.figures.placing import LETTER_IN, LINE_IN, Plan
from analyzer.report.figures.theme import MARKERS, colour
from analyzer.report.marks.occupancy import Mark, Occupancy, tail_curve
from analyzer.report.text import clean, run_label

HEIGHT_IN = 5.4
MARGINS = Margins(0.065, 0.095, 0.985, 0.925)
LARGEST_AREA, SMALLEST_AREA = 1600.0, 10.0
TOP_PCT = 116.0
WHISKER_PCT = 1.0
SIDES = ((1 / 1.12, "right", "← less than one wave"), (1.12, "left", "more than one wave →"))


class HalfLogPlan(Plan):
    """A plan whose ``x`` alone is logarithmic."""

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in inches from the lower left corner."""
        across = math.log10(x / self.x[0]) / math.log10(self.x[1] / self.x[0]) * self.width
        return across, (y - self.y[0]) / (self.y[1] - self.y[0]) * self.height


def occupancy(data: Occupancy, labels: tuple[str, ...], title: str) -> str:
    """Return figure 8. Marks are filled: their figures are derived."""

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
        _frame(upper, data)
        _tail(lower)
        box = upper.get_position()
        plan = HalfLogPlan(WIDTH_IN * box.width, HEIGHT_IN * box.height, upper.get_xlim(), upper.get_ylim())
        _one_wave(upper, plan)
        for run in sorted({mark.run for mark in data.marks}):
            _draw(upper, plan, [mark for mark in data.marks if mark.run == run])
        for mark in data.marks:
            if mark.rank:
                _name(upper, plan, mark)
        runs = sorted({mark.run for mark in data.marks})
        legend(figure, [_handle(run, labels[run]) for run in runs], max(len(runs), 1))

    return draw("fig8", HEIGHT_IN, title, "Occupancy against waves; the marks are listed in the table below", paint, MARGINS)


def _frame(axes: Axes, data: Occupancy) -> None:
    waves = [mark.waves for mark in data.marks]
    axes.set_xscale("log")
    axes.set_xlim(min(0.1, min(waves) / 2), max(10.0, max(waves) * 2))
    axes.set_ylim(0, TOP_PCT)
    axes.set_yticks((0, 25, 50, 75, 100))
    axes.set_ylabel("launch-limited occupancy, %")
    axes.grid(which="major")
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)


def _tail(axes: Axes) -> None:
    """Draw what the last wave leaves unfilled, on the axis of waves that it shares with the marks."""
    low, high = axes.get_xlim()
    points = tail_curve(low, high)
    x, y = [point[0] for point in points], [point[1] for point in points]
    axes.fill_between(x, y, 100, color=colour("idle"), linewidth=0)
    axes.plot(x, y, color=colour("muted"), linewidth=0.8)
    axes.axvline(1, color=colour("muted"), linewidth=0.9)
    axes.set_ylim(0, 100)
    axes.set_yticks((0, 50, 100))
    axes.set_ylabel("tail eff., %")
    axes.set_xlabel("waves: blocks of the grid / blocks that fit at once on the whole device")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _one_wave(axes: Axes, plan: Plan) -> None:
    axes.axvline(1, color=colour("muted"), linewidth=0.9, zorder=1)
    across, up = plan.point(1, TOP_PCT - 7)
    for x, side, text in SIDES:
        axes.text(x, TOP_PCT - 7, text, ha=side, va="bottom", fontsize=8, color=colour("muted"))
        width = len(text) * LETTER_IN
        plan.taken.append((across - width if side == "right" else across, up, width, LINE_IN))
    for step in range(60):  # names keep off the line
        plan.mark(1, TOP_PCT * step / 60, 0.03)


def _draw(axes: Axes, plan: Plan, marks: list[Mark]) -> None:
    """Draw the marks of one run, in one go: no large one of them covers a small one."""
    shade = colour(f"run-{marks[0].run}")
    marks = sorted(marks, key=lambda mark: -mark.share_pct)
    areas = [max(LARGEST_AREA * mark.share_pct / 100, SMALLEST_AREA) for mark in marks]
    for mark, area in zip(marks, areas, strict=True):
        if mark.share_pct >= WHISKER_PCT and mark.theoretical_pct > mark.occupancy_pct + 0.5:
            top = (mark.occupancy_pct, mark.theoretical_pct)
            axes.plot((mark.waves, mark.waves), top, color=shade, linewidth=0.7, alpha=0.6, zorder=2)
            axes.plot(mark.waves, mark.theoretical_pct, marker="_", markersize=5, color=shade, markeredgewidth=0.9, zorder=2)
            plan.mark(mark.waves, mark.theoretical_pct, 0.04)
        plan.mark(mark.waves, mark.occupancy_pct, math.sqrt(area) / 2 / 72)
    axes.scatter(
        [mark.waves for mark in marks], [mark.occupancy_pct for mark in marks], s=areas, marker=MARKERS[marks[0].run],
        facecolor=(shade, 0.3), edgecolor=shade, linewidth=1.0, zorder=3, clip_on=False,
    )  # fmt: skip


def _handle(run: int, label: str) -> Line2D:
    shade = colour(f"run-{run}")
    return Line2D(
        [], [], linestyle="none", marker=MARKERS[run], markersize=8, label=run_label(label, 40), markeredgecolor=shade,
        markerfacecolor=(shade, 0.3),
    )  # fmt: skip


def _name(axes: Axes, plan: Plan, mark: Mark) -> None:
    text = f"{mark.rank}: {clean(mark.name, 24)}"
    dx, dy = plan.beside(mark.waves, mark.occupancy_pct, text)
    axes.annotate(
        text, (mark.waves, mark.occupancy_pct), xytext=(dx * 72, dy * 72), textcoords="offset points",
        fontsize=8, fontweight="bold", zorder=4, va="bottom",
        arrowprops={"arrowstyle": "-", "color": colour("muted"), "linewidth": 0.6, "shrinkB": 3},
    )  # fmt: skip
