"""The numbers of the scatter of predicted against measured: a panel per quantity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analyzer.insight.validation.families import FAMILIES, WARM_AS_COLD
from analyzer.schema.validation import FITTED, QUANTITIES, Prediction, Validation

TITLES = {
    "l2_sm_bytes": "L2 to multiprocessors", "sm_l2_bytes": "written to L2", "l2_lookup_bytes": "looked up in L2",
    "l2_miss_bytes": "missed in L2", "dram_read_bytes": "read from DRAM", "dram_write_bytes": "written to DRAM",
    "dram_bytes": "DRAM, reads and writes", "occupancy_theoretical_pct": "theoretical occupancy", "occupancy_pct": "occupancy",
    "flop": "FLOP of the tensor cores",
}  # fmt: skip
"""Short names of quantities: over panels, and in tables."""
MAX_MARKS = 80
"""Marks of a panel, so that a trace of a thousand distinct kernels does not fill the page with them."""
_UNITS = {"bytes": (1e6, "MB"), "FLOP": (1e9, "GFLOP"), "%": (1.0, "%")}


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure in the unit of its panel. ``fitted``: a shipped parameter was fitted on it; ``scored``: its error counts."""

    family: str
    measured: float
    predicted: float
    low: float
    high: float
    fitted: bool
    scored: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity: its marks, the unit of both axes, and the ends that both have in common; logarithmic but for shares.

    ``left_out`` kernels have no mark because MAX_MARKS others have more of the kernel time.
    """

    quantity: str
    title: str
    unit: str
    logarithmic: bool
    low: float
    high: float
    marks: tuple[Mark, ...]
    left_out: int = 0


def title_of(quantity: str) -> str:
    """Return the short name of a quantity; what is none stands as it is."""
    return TITLES.get(quantity, quantity)


def panels(v: Validation) -> tuple[Panel, ...]:
    """Return a panel for each quantity with something to draw; warm counts stand once, beside their warm figure."""
    found = []
    for quantity in QUANTITIES:
        factor, unit = _UNITS[QUANTITIES[quantity][1]]
        mine = [p for p in v.predictions if p.quantity == quantity and p.mode != WARM_AS_COLD]
        mine = [p for p in mine if 0 < p.measured < math.inf and 0 < p.point < math.inf]
        mine.sort(key=lambda p: -p.share_pct if math.isfinite(p.share_pct) else 0.0)
        marks = [_mark(p, factor) for p in mine[:MAX_MARKS]]
        if marks:
            marks.sort(key=lambda mark: FAMILIES.index(mark.family))
            ends, rest = _ends(marks, unit), len(mine) - len(marks)
            found.append(Panel(quantity, TITLES[quantity], unit, unit != "%", *ends, tuple(marks), rest))
    return tuple(found)


def _mark(p: Prediction, factor: float) -> Mark:
    figures = (p.measured / factor, p.point / factor, p.low / factor, p.high / factor)
    return Mark(p.family, *figures, p.status == FITTED, p.scored)


def _ends(marks: list[Mark], unit: str) -> tuple[float, float]:
    if unit == "%":
        return 0.0, 105.0
    values = [value for mark in marks for value in (mark.measured, mark.predicted)]
    return min(values) / 1.8, max(values) * 1.8


def families_of(found: tuple[Panel, ...]) -> tuple[str, ...]:
    """Return the classes that are drawn, in their order."""
    drawn = {mark.family for panel in found for mark in panel.marks}
    return tuple(family for family in FAMILIES if family in drawn)
