"""Student's t: quantiles for any probability and any degrees of freedom, and the freedom of a sum of variances."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300
_ITERATIONS = 500
_NORMAL_FROM = 1e6
"""Degrees of freedom from which the normal quantile is the same to six digits, and the other loses digits."""


WIDEST = math.log(1e3)
"""An interval of a ratio that reaches further to either side, in logarithms, says nothing."""
TAIL_95 = 0.025
"""What a two-sided interval of 95 % leaves out on either side."""


def freedom_of(parts: Iterable[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances (Welch and Satterthwaite), from (variance, freedom) of each."""
    kept = list(parts)
    total = sum(part for part, _ in kept)
    below = sum(part**2 / freedom for part, freedom in kept if freedom > 0)
    return total**2 / below if below > 0 else math.inf


@lru_cache(maxsize=4096)
def quantile(tail: float, freedom: float) -> float:
    """Return the value that Student's t exceeds with probability ``tail`` (0 < tail < 0.5) at ``freedom`` degrees of freedom.

    Found by bisection of ``upper_tail``; very many or infinitely many give the normal quantile.
    """
    if freedom > _NORMAL_FROM:
        return NormalDist().inv_cdf(1 - tail)
    low, high = 0.0, 2.0
    while upper_tail(high, freedom) > tail:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, freedom) > tail else (low, middle)
    return (low + high) / 2


def upper_tail(value: float, freedom: float) -> float:
    """Return the probability that Student's t exceeds ``value`` >= 0 (Abramowitz and Stegun 26.7.1 with 26.5.2)."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value**2)) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8) by Lentz's method."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, _ITERATIONS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _nonzero(1 + term * d)
            c = _nonzero(1 + term / c)
            found *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return found


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
