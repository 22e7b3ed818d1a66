"""What a run says of a time, how sure that is, and the ratio of two sides with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analyzer.metrics.student import freedom_of, quantile
from analyzer.schema.gate import GateGroup, GateRun

CONFIDENCE = 0.95
RUN_FLOOR = 0.01
"""Relative standard deviation from run to run that is assumed at least, where too few runs tell it."""
UNKNOWN_FLOOR = 0.02
"""The same where no process was repeated, as in a bare trace."""
SIDE_FLOOR = 0.005
"""Relative standard deviation between two sides that no number of runs takes away: they were recorded at different times."""
SIDE = 0.25
"""The same in standard deviations of the iterations, where that is more."""
MIN_RUNS = 3
"""Runs on each side from which the spread from run to run is measured instead of guessed."""
LOWER = 10.0
"""The percentile that stands for a time: whatever disturbs a run makes it longer, never shorter."""
_IQR_OF_NORMAL = 1.349
_LOWER_ERROR = 1.709
"""Standard error of the tenth percentile of n normal values, in standard deviations by the root of n."""
INSIDE = 0.5
"""How far a run is taken to lie from another, in standard deviations of its iterations. On the recording of docs/gate.md it
was a quarter."""
_MEDIAN_ERROR = math.pi / 2
"""Variance of a median of normal values by that of their mean."""
_MIN_VALUES = 3
_WIDEST = math.log(1e3)

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a relative variance with its degrees of freedom."""

    variance: float
    freedom: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A time in µs as one run tells it. ``parts``: how far a run lies from another, as far as it can be told from inside it.

    ``unrest``: the relative variance of its untraced iterations.
    """

    us: float
    parts: tuple[Part, ...] = ()
    unrest: float = 0.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """New by old with its interval; ``low`` and ``high`` are None where the interval is wider than a factor of a thousand."""

    value: float
    low: float | None
    high: float | None
    measured: bool


def whole_latency(run: GateRun) -> Estimate:
    """Return the untraced time of a batch: the median over processes of their tenth percentiles."""
    lower = np.array([np.percentile(values, LOWER) for values in run.samples])
    return Estimate(1e3 * float(np.median(lower)), (*_between(run, len(lower)), *_inside(run)), _unrest(run))


def class_time(run: GateRun, groups: Iterable[GateGroup]) -> Estimate:
    """Return the time of ``groups`` in a batch: the sum of the tenth percentiles over the traced steps.

    Approximation: one process of a run is traced, and a few steps of it say nothing of another process. What stands in for that
    is the spread of the untraced latency between the processes of the run and between its iterations. The variance of a part of
    the time is taken to grow with the part, as if its pieces varied on their own: the relative deviation of a class with a
    quarter of the kernel time is twice that of the whole.
    """
    found = list(groups)
    share = _share(run, found)
    if not found or not all(len(group.step_us) >= _MIN_VALUES for group in found):
        return Estimate(sum(group.time_us for group in found), (*_between(run, 1, share), *_inside(run, share)), _unrest(run))
    steps = np.array([group.step_us for group in found])
    us = float(np.percentile(steps, LOWER, axis=1).sum())
    error = _LOWER_ERROR * robust_deviation(steps.sum(axis=0)) / math.sqrt(steps.shape[1])
    return Estimate(us, (Part(error**2, steps.shape[1] - 1), *_between(run, 1, share), *_inside(run, share)), _unrest(run))


def _share(run: GateRun, groups: list[GateGroup]) -> float:
    """Return the share of the kernel time that ``groups`` have, from just above 0 to 1."""
    total = sum(group.time_us for group in run.groups)
    return min(max(sum(group.time_us for group in groups) / total, 1e-6), 1.0) if total > 0 else 1.0


def robust_deviation(values: Sequence[float] | Float64) -> float:
    """Return the relative standard deviation of ``values`` by the range of their middle half; 0 of fewer than three."""
    logs = np.log(np.maximum(np.asarray(values, np.float64), 1e-9))
    if len(logs) < _MIN_VALUES:
        return 0.0
    low, high = np.percentile(logs, [25, 75])
    return float(high - low) / _IQR_OF_NORMAL


def _between(run: GateRun, processes: int, part: float = 1.0) -> tuple[Part, ...]:
    """Return what the processes of a run tell of the spread between processes, for ``part`` of the time in so many."""
    logs = np.log([np.percentile(values, LOWER) for values in run.samples])
    if len(logs) < 2:
        return (Part(UNKNOWN_FLOOR**2, math.inf),)
    variance = float(logs.var(ddof=1))
    share = 1.0 if processes == 1 else _MEDIAN_ERROR / processes if processes > 2 else 1 / processes
    return Part(RUN_FLOOR**2, math.inf), Part(variance * share / part, len(logs) - 1)


def _inside(run: GateRun, part: float = 1.0) -> tuple[Part, ...]:
    """Return the spread of the iterations, for ``part`` of the time.

    Approximation: what disturbs one iteration and not the next may last longer than a run, so a run is taken to lie half as
    far from another (INSIDE) as an iteration lies from the next one.
    """
    count = sum(len(values) - 1 for values in run.samples)
    return (Part(INSIDE**2 * _unrest(run) / part, count),) if count else ()


def _unrest(run: GateRun) -> float:
    """Return the relative variance of the untraced iterations, the mean over processes; 0 without any."""
    spread = [robust_deviation(values) for values in run.samples if len(values) >= _MIN_VALUES]
    return float(np.mean(np.square(spread))) if spread else 0.0


def discord(
    latency: tuple[Sequence[Estimate], Sequence[Estimate]], kernels: tuple[Sequence[Estimate], Sequence[Estimate]]
) -> float:
    """Return by how much the kernel time changed otherwise than the latency did, relative to the kernel time.

    Where kernels are part of the latency, both change by the same time. If they do not, the traced steps of a side ran under
    other conditions than its untraced iterations, and nothing else would show that.
    """
    (old_ms, new_ms), (old_us, new_us) = (
        [np.mean([estimate.us for estimate in side]) for side in both] for both in (latency, kernels)
    )
    return float(abs((new_us - old_us) - (new_ms - old_ms)) / (0.5 * (old_us + new_us)))


def ratio(old: Sequence[Estimate], new: Sequence[Estimate], tests: int, more: float = 0.0) -> Ratio:
    """Return new by old with an interval that holds for ``tests`` ratios together (Bonferroni), from one estimate per run.

    From MIN_RUNS on each side on, the spread from run to run is that of the runs (pooled over both sides, Student's t); with
    fewer it is guessed from inside them, by the larger of the two, and ``more`` is a further relative variance of that guess.

    Approximation: all runs of a side may share the state that the machine was in, so two sides are taken to lie apart by a
    quarter of the spread of the iterations (SIDE), at least SIDE_FLOOR, however many runs there are.
    """
    sides = [np.log([estimate.us for estimate in side]) for side in (old, new)]
    each = 1 / len(old) + 1 / len(new)
    freedom = len(old) + len(new) - 2
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in sides)
    measured = min(len(old), len(new)) >= MIN_RUNS
    if measured:
        unrest = float(np.median([estimate.unrest for estimate in (*old, *new)]))
        parts = [Part(each * squares / freedom, freedom), Part(2 * max(SIDE_FLOOR**2, SIDE**2 * unrest), math.inf)]
    else:
        parts = [*_guess(old, new), Part(more, math.inf)]
        if freedom and each * squares / freedom > sum(part.variance for part in parts):
            parts = [Part(each * squares / freedom, freedom)]
    delta = float(sides[1].mean() - sides[0].mean())
    whole = max(freedom_of((part.variance, part.freedom) for part in parts), 1.0)
    half = quantile((1 - CONFIDENCE) / 2 / tests, whole) * math.sqrt(sum(part.variance for part in parts))
    if half > _WIDEST or abs(delta) > 3 * _WIDEST:
        return Ratio(math.exp(delta), None, None, measured)
    return Ratio(math.exp(delta), math.exp(delta - half), math.exp(delta + half), measured)


def _guess(old: Sequence[Estimate], new: Sequence[Estimate]) -> list[Part]:
    """Return the variance of the difference of the means of both sides, as guessed from inside their runs."""
    return [
        Part(part.variance / len(side) ** 2, part.freedom)
        for side in (old, new)
        for estimate in side
        for part in estimate.parts
    ]
