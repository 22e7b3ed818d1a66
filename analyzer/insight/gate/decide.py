"""What a ratio amounts to: slower, faster, the same, or not to be told."""

from __future__ import annotations

import math

from analyzer.format import percent
from analyzer.insight.gate.estimate import Ratio
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.gate import GateState

MIN_SHARE_PCT = 1.0
"""Classes with a smaller share of the kernel time on both sides are not judged."""
MIN_OF_MODEL_PCT = 0.5
"""A change of a class that comes to less of the model's kernel time does not count."""
_ROUNDING = 1e-9
"""Logarithms closer than this are equal: 315 us by 300 us is a change of 5 %, whichever way the division was rounded."""


def margin_pct(share_pct: float, min_effect_pct: float) -> float:
    """Return the smallest change that counts of a class with this share of the time: at least MIN_OF_MODEL_PCT of the model."""
    return max(min_effect_pct, 100 * MIN_OF_MODEL_PCT / share_pct) if share_pct > 0 else min_effect_pct


def decide(found: Ratio, margin: float) -> tuple[GateState, str]:
    """Return what ``found`` amounts to where changes below ``margin`` percent do not count, and why it cannot be told.

    A regression is a ratio of at least 1 + margin whose interval lies above 1; an improvement the same of old by new.
    """
    if found.low is None or found.high is None:
        return "cannot tell", "the noise is wider than any effect"
    value, low, high = (math.log(ratio) for ratio in (found.value, found.low, found.high))
    least = math.log1p(margin / 100)
    if low > 0 and value >= least - _ROUNDING:
        return "regression", ""
    if high < 0 and value <= -least + _ROUNDING:
        return "improved", ""
    if low >= -least - _ROUNDING and high <= least + _ROUNDING:
        return "no change", ""
    return "cannot tell", _why(found, margin)


def _why(found: Ratio, margin: float) -> str:
    half = 100 * ((found.high or 1.0) / found.value - 1)
    if (found.low or 0) > 1 or (found.high or 2) < 1:
        return f"a change, but not clearly one of {percent(margin)} or more"
    return f"a change has to exceed {percent(half)} to be told from the noise; {percent(margin)} would count"


def quantity(found: Ratio, tests: int) -> Quantity:
    """Return ``found`` as a figure that carries its evidence."""
    how = "spread from run to run, measured" if found.measured else "spread from run to run, guessed from inside the runs"
    many = f", holds for {tests} ratios together" if tests > 1 else ""
    return Quantity(found.value, "x", Evidence.DERIVED, found.low, found.high, f"new by old, 95 % interval{many}; {how}")
