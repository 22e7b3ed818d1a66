"""Ratios and differences of means of few values, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyzer.metrics.student import TAIL_95, WIDEST, freedom_of, quantile
from analyzer.metrics.timing import log_medians, ratio
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Quantity

MIN_STEPS = 3
"""With fewer traced steps there is no interval."""


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
    return Spread(mean, sum(part for part, _ in parts), freedom_of(parts))


def between_processes(run: Digest) -> tuple[float, int] | None:
    """Return the standard deviation of the logarithms of the medians of the run's processes and its degrees of freedom.

    For small deviations that is the relative one; it is not held down by one process that is many times as slow.
    """
    medians = log_medians(run.latency.samples) if run.latency is not None else np.array([])
    return (float(medians.std(ddof=1)), len(medians) - 1) if len(medians) > 1 else None


def time_ratio(run: Digest, base: Digest) -> Quantity:
    """Return how many times as long a batch of ``run`` takes as one of ``base``, both timed without the profiler."""
    return ratio(run.latency, base.latency)


def difference(first: Spread, second: Spread) -> tuple[float, float] | None:
    """Return the 95 % interval of ``second`` minus ``first`` (Welch's), None where either has no variance."""
    if first.variance is None or second.variance is None:
        return None
    variance = first.variance + second.variance
    delta = second.mean - first.mean
    half = quantile(TAIL_95, freedom_of([(first.variance, first.freedom), (second.variance, second.freedom)])) * math.sqrt(
        variance
    )
    return delta - half, delta + half


def quotient(top: Spread, bottom: Spread) -> tuple[float, float] | None:
    """Return the 95 % interval of ``top`` by ``bottom``, None where either has no variance.

    Approximation: that of the difference of their logarithms, whose variance is the relative one (the delta method).
    """
    if top.variance is None or bottom.variance is None or top.mean <= 0 or bottom.mean <= 0:
        return None
    parts = [(s.variance / s.mean**2, s.freedom) for s in (top, bottom) if s.variance is not None]
    half = quantile(TAIL_95, freedom_of(parts)) * math.sqrt(sum(part for part, _ in parts))
    value = top.mean / bottom.mean
    if half > WIDEST:
        return None
    return value * math.exp(-half), value * math.exp(half)
