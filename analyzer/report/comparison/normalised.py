"""Section "normalised": the clock, the power and the energy that the times were reached with."""

from __future__ import annotations

from analyzer.format import percent
from analyzer.report.blocks import Cell, Head, Prose, Row, Section, Table, badge, missing
from analyzer.report.comparison.cells import DERIVED, MEASURED, ends, figure, significant
from analyzer.report.marks.comparison import held_clock
from analyzer.report.marks.comparison_names import run_titles
from analyzer.schema.comparison import Comparison, Normalised
from analyzer.schema.digest import Digest

LEAD = "A device whose clocks are held down by a power cap or by heat looks like slower software. "
CYCLES = (
    "Cycles are the time of a batch times the median clock. They are held against each other on one product and for one model "
    "only, since two products do not do the same in a cycle: equal cycles at different clocks mean that the clock makes the "
    "difference. The time at the other run's clock is the time stretched by the ratio of the clocks. Memory has a clock of its "
    "own, so work limited by DRAM does not follow the clock of the multiprocessors."
)
NO_CYCLES = (
    "No run has another of its model on the same product to be held against, so there are no ratios of cycles: two products do "
    "not do the same in a cycle."
)


def section(comparison: Comparison) -> Section | None:
    """Return the table of clocks, cycles, power and energy; None where no telemetry has them."""
    if not comparison.normalised:
        return None
    titles, base = run_titles(comparison), {n.run: n for n in comparison.normalised}
    pairs = [(n, held_clock(comparison, n, base)) for n in comparison.normalised]
    held = any(other is not None for _, other in pairs)
    rows = tuple(_row(n, other, titles, comparison.runs[n.run], held) for n, other in pairs)
    ratios = (
        Head("over", meaning="the run of the same model on the same product that it is held against"),
        Head("time ratio", "x", True, DERIVED, "time of a batch by that of the run in the column “over”"),
        Head("cycle ratio", "x", True, DERIVED, "cycles of a batch by those of the run in the column “over”"),
        Head(
            "time at its clock", "ms", True, DERIVED, "time of a batch, stretched to the clock of the run in the column “over”"
        ),
    )
    heads = (
        Head("run"),
        Head("time", "ms", True, MEASURED, "untraced median of one batch"),
        Head("95 % interval", "ms", meaning="of the median; a dash where there is none"),
        Head("clock", "MHz", True, MEASURED, "median clock of the multiprocessors during the untraced pass"),
        Head("cycles", "million", True, DERIVED, "time of a batch times the median clock"),
        *(ratios if held else ()),
        Head("power", "W", True, MEASURED, "median power during the untraced pass"),
        Head("power cap", meaning="what the device was allowed, as a share of its default"),
        Head("energy", "J", True, DERIVED, "energy of one batch"),
        Head("energy per image", "J", True, DERIVED, "energy of one batch by the images in it"),
        Head("evidence of energy"),
    )
    table = Table("normalised-table", "Clock, power and energy of one batch", heads, rows)
    return Section("normalised", "Clock, power and energy", "Clocks", (Prose(LEAD + (CYCLES if held else NO_CYCLES)), table))


def _row(n: Normalised, other: Normalised | None, titles: tuple[str, ...], d: Digest, held: bool) -> Row:
    cap, default = d.device.power_limit_w, d.device.power_default_w
    energy = n.energy_j
    cells = (
        Cell(titles[n.run]),
        significant(n.time_ms.value),
        ends(n.time_ms),
        figure(n.clock_mhz, 0),
        significant(n.mega_cycles.value, n.mega_cycles.evidence),
        *(_ratios(n, other, titles) if held else ()),
        figure(n.power_w, 0),
        Cell(f"{percent(100 * cap / default)} of {default:.0f} W") if cap and default else Cell("–"),
        significant(energy.value, energy.evidence),
        significant(energy.value / d.batch_size if energy.value is not None and d.batch_size else None, energy.evidence),
        badge(energy.evidence),
    )
    return Row(cells)


def _ratios(n: Normalised, other: Normalised | None, titles: tuple[str, ...]) -> tuple[Cell, ...]:
    if other is None:
        return (Cell("–"), *(Cell("–"),) * 3)
    times, cycles, clocks = (
        _quotient(a.value, b.value)
        for a, b in ((n.time_ms, other.time_ms), (n.mega_cycles, other.mega_cycles), (n.clock_mhz, other.clock_mhz))
    )
    moved = n.time_ms.value * clocks if n.time_ms.value is not None and clocks is not None else None
    numbers = (significant(value, DERIVED) if value is not None else missing() for value in (times, cycles, moved))
    return (Cell(titles[other.run]), *numbers)


def _quotient(top: float | None, bottom: float | None) -> float | None:
    return top / bottom if top is not None and bottom else None
