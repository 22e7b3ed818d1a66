"""Ratios and differences of means of few values, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analyzer.metrics.timing import ratio
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Quantity

MIN_STEPS = 3
"""With fewer traced steps there is no interval."""
ENOUGH_PROCESSES = 6
"""With fewer processes a bootstrap of them covers too little, so a t-interval of their medians widens it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean with the variance of that mean and its degrees of freedom; no variance where it cannot be told."""

    mean: float
    variance: float | None
    freedom: float


def spread(steps: Sequence[float], run: Digest) -> Spread | None:
    """Return the mean of a time over the traced ``steps``, and how sure it is.

    Approximation: the variance of the mean is that of the steps plus that from process to process. The latter is not known of
    one operator (only one process is traced), so the relative spread of the untraced medians of the run's processes stands in
    for it. A bare trace and a run of one process have none: their intervals cover the spread within one process alone.
    """
    values = np.asarray(steps, np.float64)
    if not len(values) or not run.batches:
        return None  # where work lies outside the steps, their mean is not the time of a batch
    mean = float(values.mean())
    if len(values) < MIN_STEPS:
        return Spread(mean, None, 0.0)
    parts = [(float(values.var(ddof=1)) / len(values), len(values) - 1)]
    between = between_processes(run)
    if between is not None:
        relative, freedom = between
        parts.append(((relative * mean) ** 2, freedom))
    return Spread(mean, sum(part for part, _ in parts), _freedom(parts))


def between_processes(run: Digest) -> tuple[float, int] | None:
    """Return the standard deviation of the logarithms of the medians of the run's processes and its degrees of freedom.

    For small deviations that is the relative one; it is not held down by one process that is many times as slow.
    """
    medians = _log_medians(run) if run.latency is not None else np.array([])
    return (float(medians.std(ddof=1)), len(medians) - 1) if len(medians) > 1 else None


def time_ratio(run: Digest, base: Digest) -> Quantity:
    """Return how many times as long a batch of ``run`` takes as one of ``base``, both timed without the profiler.

    Approximation: the interval is the bootstrap one of ``metrics.timing.ratio``. With two to five processes that covers too
    little, as three drawn from three are often the same, so it is widened to the t-interval of the logarithms of the medians
    of the processes; a run of one process has no spread between processes, and its interval is that within it.
    """
    found = ratio(run.latency, base.latency)
    if found.value is None or found.low is None or found.high is None:
        return found
    sides = [_log_medians(side) for side in (run, base)]
    if not any(1 < len(side) < ENOUGH_PROCESSES for side in sides):
        return found
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in sides if len(side) > 1]
    half = _quantile(_freedom(parts)) * math.sqrt(sum(part for part, _ in parts))
    if half > _WIDEST:
        return replace(
            found, low=None, high=None, source="ratio of the medians; the processes disagree too widely for an interval"
        )
    low, high = min(found.low, found.value * math.exp(-half)), max(found.high, found.value * math.exp(half))
    return replace(found, low=low, high=high, source="ratio of the medians, 95 % interval from the medians of the processes")


def _log_medians(run: Digest) -> np.ndarray:
    medians = [float(np.median(process)) for process in run.latency.samples if len(process)]
    return np.log([median for median in medians if median > 0])


def difference(first: Spread, second: Spread) -> tuple[float, float] | None:
    """Return the 95 % interval of ``second`` minus ``first`` (Welch's), None where either has no variance."""
    if first.variance is None or second.variance is None:
        return None
    variance = first.variance + second.variance
    delta = second.mean - first.mean
    half = _quantile(_freedom([(first.variance, first.freedom), (second.variance, second.freedom)])) * math.sqrt(variance)
    return delta - half, delta + half


def quotient(top: Spread, bottom: Spread) -> tuple[float, float] | None:
    """Return the 95 % interval of ``top`` by ``bottom``, None where either has no variance.

    Approximation: that of the difference of their logarithms, whose variance is the relative one (the delta method).
    """
    if top.variance is None or bottom.variance is None or top.mean <= 0 or bottom.mean <= 0:
        return None
    parts = [(s.variance / s.mean**2, s.freedom) for s in (top, bottom) if s.variance is not None]
    half = _quantile(_freedom(parts)) * math.sqrt(sum(part for part, _ in parts))
    value = top.mean / bottom.mean
    if half > _WIDEST:
        return None  # too wide to say anything
    return value * math.exp(-half), value * math.exp(half)


def _freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances (Welch and Satterthwaite)."""
    total = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts if freedom > 0)
    return total**2 / below if below > 0 else math.inf


def _quantile(freedom: float) -> float:
    """Return the two-sided 95 % quantile of Student's t.

    Cornish-Fisher's expansion of the normal quantile (Abramowitz and Stegun 26.7.5) is within 1 % from 4 degrees on; below,
    the tabulated value of the next lower whole number is taken.
    """
    if freedom < 4:
        return _FEW[max(int(freedom), 1)]
    z = _NORMAL
    if math.isinf(freedom):
        return z
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3


_NORMAL = 1.959964
_WIDEST = math.log(1e3)
"""An interval that reaches further to either side, in logarithms, says nothing."""
_FEW = {1: 12.706, 2: 4.303, 3: 3.182}
