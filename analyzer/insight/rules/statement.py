"""What all rules share: the time of a step, facts, and savings that no change could exceed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.findings import Fact
from analyzer.schema.results import Analysis

Floats = npt.NDArray[np.float64]

WORTH_PCT = 1.0
"""Time below this share of a step is not worth a finding: whatever is done about it drowns in the noise."""


def steps_of(a: Analysis) -> int:
    """Return what sums over the window are divided by: its batches, 1 where the trace names no steps."""
    return a.window.batches or 1


def has_untraced_median(a: Analysis) -> bool:
    """Tell whether the time of a step was measured without the profiler, and the trace divides into steps to go with it."""
    return a.latency is not None and bool(a.latency.median_ms.value) and bool(a.window.batches)


def step_us(a: Analysis) -> float:
    """Return the time of one step in µs: the untraced median where there is one, else the traced wall time."""
    if has_untraced_median(a):
        return float(a.latency.median_ms.value) * 1e3
    return a.totals.wall_us / steps_of(a)


def compile_mode(a: Analysis) -> str:
    """Return the mode of torch.compile that the run was recorded with: "off" without, and for a bare trace.

    It is "off" also where torch.compile was asked for and compiled nothing.
    """
    settings = a.run.facts.settings if a.run.facts else None
    if settings is None or (settings.execution or "").startswith("eager ("):
        return "off"
    if settings.compile == "off" and (settings.execution or "").startswith("torch.compile"):
        return "default"
    return settings.compile


def fact(name: str, value: float, unit: str, evidence: Evidence) -> Fact:
    """Return one figure that a finding rests on."""
    return Fact(name, Quantity(value, unit, evidence))


def saving(a: Analysis, low_us: float, high_us: float, most_us: float) -> Quantity:
    """Return a saving per step in µs, modelled.

    Where ``low_us``, which a model gives, exceeds the measured ``high_us``, both ends are ``high_us``.
    ``most_us`` is the time per step of what would change: by Amdahl's law no more than that can be saved, nor more than the
    step itself takes.
    """
    most = max(min(most_us, step_us(a)), 0.0)
    low, high = (min(max(value, 0.0), most) for value in (min(low_us, high_us), high_us))
    return Quantity((low + high) / 2, "us", Evidence.MODELLED, low, high)


def mean(values: Floats, weights: Floats) -> float:
    """Return the mean of the ``values`` that are known, weighted; NaN where none is."""
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else math.nan
