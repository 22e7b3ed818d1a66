"""Figure 4: achieved FLOP/s against FLOP per byte, under the ceilings of the device."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from analyzer.format import decade, digits
from analyzer.metrics.limits import ATTAINABLE
from analyzer.report.figures.canvas import WIDTH_IN, Margins, draw, legend
from analyzer.report.figures.placing import LINE_IN, Plan
from analyzer.report.figures.theme import MARKERS, colour
from analyzer.report.marks.roofline import Ceiling, Mark, Roofline
from analyzer.report.text import clean, run_label
from analyzer.schema.evidence import Evidence

HEIGHT_IN = 5.2
MARGINS = Margins(0.075, 0.1, 0.97, 0.925)
LARGEST_AREA, SMALLEST_AREA = 1600.0, 12.0
GLYPHS = ("○", "△", "□", "◇", "▽", "✚")


def roofline(data: Roofline, labels: tuple[str, ...], title: str) -> str:
    """Return figure 4. All marks are hollow: their bytes are modelled."""
    scale, unit = _unit(data)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _frame(axes, data, scale, unit)
        box = axes.get_position()
        plan = Plan(WIDTH_IN * box.width, HEIGHT_IN * box.height, axes.get_xlim(), axes.get_ylim())
        for run in sorted({mark.run for mark in data.marks}):
            _draw(axes, plan, [mark for mark in data.marks if mark.run == run], scale)
        _ceilings(axes, plan, data.ceilings, (scale, unit))
        for mark in data.marks:
            if mark.rank:
                _name(axes, plan, mark, scale)
        runs = sorted({mark.run for mark in data.marks})
        legend(figure, [_handle(run, labels[run]) for run in runs], max(len(runs), 1))

    return draw(
        "fig4", HEIGHT_IN, title, "Roofline on logarithmic axes; the marks are listed in the table below", paint, MARGINS
    )


def _draw(axes: Axes, plan: Plan, marks: list[Mark], scale: float) -> None:
    areas = [max(LARGEST_AREA * mark.share_pct / 100, SMALLEST_AREA) for mark in marks]
    for mark, area in zip(marks, areas, strict=True):
        plan.mark(mark.flop_per_byte, mark.tflops * scale, math.sqrt(area) / 2 / 72)
    axes.scatter(
        [mark.flop_per_byte for mark in marks], [mark.tflops * scale for mark in marks], s=areas,
        marker=MARKERS[marks[0].run], facecolor="none", edgecolor=colour(f"run-{marks[0].run}"), linewidth=1.3, zorder=3,
    )  # fmt: skip


def _unit(data: Roofline) -> tuple[float, str]:
    """Return the factor from TFLOP/s: small devices are shown in GFLOP/s."""
    top = max((c.value for c in data.ceilings if c.unit == "TFLOP/s"), default=max(m.tflops for m in data.marks))
    return (1e3, "GFLOP/s") if top < 1 else (1.0, "TFLOP/s")


def _frame(axes: Axes, data: Roofline, scale: float, unit: str) -> None:
    x = [mark.flop_per_byte for mark in data.marks]
    y = [mark.tflops * scale for mark in data.marks] + [c.value * scale for c in data.ceilings if c.unit == "TFLOP/s"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(0.1, min(x) / 2), max(1e4, max(x) * 2))
    axes.set_ylim(min(y) / 2.5, max(y) * 4)
    axes.set_xlabel("FLOP per compulsory byte (modelled)")
    axes.set_ylabel(f"achieved {unit}")
    axes.grid(which="major")
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
        axis.set_minor_locator(NullLocator())


def _handle(run: int, label: str) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker=MARKERS[run], markersize=8, markerfacecolor="none", markeredgewidth=1.3,
        markeredgecolor=colour(f"run-{run}"), label=run_label(label, 40),
    )  # fmt: skip


def _ceilings(axes: Axes, plan: Plan, ceilings: tuple[Ceiling, ...], unit: tuple[float, str]) -> None:
    scale, name = unit
    peaks = [c.value * scale for c in ceilings if c.unit == "TFLOP/s"]
    everyone = {run for c in ceilings for run in c.runs}
    for ceiling in ceilings:
        whose = "" if set(ceiling.runs) == everyone else f"{GLYPHS[ceiling.runs[0]]} "
        word = (
            "measured" if ceiling.evidence is not Evidence.SPEC else "published" if ceiling.name == ATTAINABLE else "datasheet"
        )
        if ceiling.unit == "TFLOP/s":
            y = ceiling.value * scale
            axes.plot(plan.x, (y, y), zorder=1, **_style(ceiling))
            _write_flat(axes, plan, y, f"{whose}{ceiling.name} {digits(y)} {name}, {word}")
            continue
        slope = ceiling.value / 1e3 * scale  # TFLOP/s = FLOP/byte * GB/s / 1000
        own = [c.value * scale for c in ceilings if c.unit == "TFLOP/s" and set(c.runs) & set(ceiling.runs)]
        end = min(max(own or peaks or [plan.y[1]]) / slope, plan.x[1])
        axes.plot((plan.x[0], end), (plan.x[0] * slope, end * slope), zorder=1, **_style(ceiling))
        above = ceiling.value == max(c.value for c in ceilings if c.unit == "GB/s")
        _write_slanted(axes, plan, (slope, end), above, f"{whose}{ceiling.name} {digits(ceiling.value)} GB/s, {word}")
        if own:
            _ridge(axes, plan, end, max(own), whose)
    for ceiling in ceilings:  # names of marks keep off the lines too
        if ceiling.unit == "GB/s":
            plan.line(ceiling.value / 1e3 * scale)
    for peak in peaks:
        plan.taken.append((0.0, plan.point(plan.x[0], peak)[1] - 0.02, plan.width, 0.04))


def _style(ceiling: Ceiling) -> dict[str, Any]:
    """Datasheet figures are thin and solid, measured ones dashed."""
    spec = ceiling.evidence is Evidence.SPEC
    dash: Any = "solid" if spec else (0, (5, 2))
    return {"color": colour("muted" if spec else "fg"), "linewidth": 0.9 if spec else 1.2, "linestyle": dash}


def _write_flat(axes: Axes, plan: Plan, y: float, text: str) -> None:
    """Write at the right end of a flat ceiling, above it or, where that is taken, below or further left."""
    width = len(text) * 0.062
    _, up = plan.point(plan.x[1], y)
    for right in (plan.width - 0.06, plan.width * 0.6, plan.width * 0.42):
        for low in (up + 0.03, up - LINE_IN - 0.03):
            if plan.is_free((right - width, low, width, LINE_IN)):
                _put(axes, plan, (right, low), text, "right")
                plan.taken.append((right - width, low, width, LINE_IN))
                return
    _put(axes, plan, (plan.width - 0.06, up + 0.03), text, "right")


def _write_slanted(axes: Axes, plan: Plan, roof: tuple[float, float], above: bool, text: str) -> None:
    """Write along a memory roof where no mark lies, else near its lower end; only the highest roof has its name above it."""
    slope, end = roof
    begin = max(plan.x[0], plan.y[0] / slope)
    places = [begin * (end / begin) ** share for share in (0.03, 0.25, 0.45, 0.6)]
    boxes = [(x, plan.slanted(_beside(plan, x, slope, above), len(text))) for x in places]
    chosen, taken = next(((x, b) for x, b in boxes if all(plan.is_free(box) for box in b)), boxes[0])
    plan.taken += taken
    _put(axes, plan, _beside(plan, chosen, slope, above), text, "left", plan.slope_degrees())


def _beside(plan: Plan, x: float, slope: float, above: bool) -> tuple[float, float]:
    across, up = plan.point(x, x * slope)
    return (across - 0.03, up + 0.06) if above else (across + 0.13, up - 0.15)


def _ridge(axes: Axes, plan: Plan, x: float, peak: float, whose: str) -> None:
    """Mark where the memory roof meets the highest peak."""
    axes.plot([x], [peak], marker="|", markersize=9, color=colour("fg"), zorder=2)
    text = f"{whose}ridge {digits(x)} FLOP/byte"
    across, up = plan.point(x, peak)
    width = len(text) * 0.062
    for low in (up + 0.1, up + 0.28, up + 0.46):
        if plan.is_free((across - width / 2, low, width, LINE_IN)):
            _put(axes, plan, (across, low), text, "center")
            plan.taken.append((across - width / 2, low, width, LINE_IN))
            return


def _put(axes: Axes, plan: Plan, place: tuple[float, float], text: str, align: Any, angle: float = 0.0) -> None:
    axes.text(
        place[0] / plan.width, place[1] / plan.height, text, transform=axes.transAxes, fontsize=7.5, color=colour("muted"),
        ha=align, va="bottom", rotation=angle, rotation_mode="anchor",
    )  # fmt: skip


def _name(axes: Axes, plan: Plan, mark: Mark, scale: float) -> None:
    text = f"{mark.rank}: {clean(mark.name, 30)}"
    dx, dy = plan.beside(mark.flop_per_byte, mark.tflops * scale, text)
    axes.annotate(
        text, (mark.flop_per_byte, mark.tflops * scale), xytext=(dx * 72, dy * 72), textcoords="offset points",
        fontsize=8, fontweight="bold", zorder=4, va="bottom",
        arrowprops={"arrowstyle": "-", "color": colour("muted"), "linewidth": 0.6, "shrinkB": 3},
    )  # fmt: skip
