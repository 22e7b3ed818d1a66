"""The marks of the figure "activity": GPM's averages and their counterparts from the trace and from counters, in percent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analyzer.insight.activity import Activity
from analyzer.schema.evidence import Quantity


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure of one run: mean, lowest and highest reading of GPM, the band of the trace, and what counters say.

    NaN where there is none; the ends of the band are equal where it is a single figure.
    """

    run: int
    name: str
    mean: float
    low: float
    high: float
    traced_low: float
    traced_high: float
    counted: float


def marks(found: tuple[Activity, ...]) -> tuple[Mark, ...]:
    """Return the marks of all runs in the order of the figures, a run after the other within each."""
    names = dict.fromkeys(line.name for activity in found for line in activity.lines)
    return tuple(
        Mark(
            run,
            name,
            _value(line.gpm),
            _end(line.gpm, line.gpm.low),
            _end(line.gpm, line.gpm.high),
            _end(line.traced, line.traced.low),
            _end(line.traced, line.traced.high),
            _value(line.counted),
        )
        for name in names
        for run, activity in enumerate(found)
        for line in activity.lines
        if line.name == name
    )


def _value(figure: Quantity) -> float:
    return math.nan if figure.value is None else figure.value


def _end(figure: Quantity, end: float | None) -> float:
    return _value(figure) if end is None else end
