"""Time: what runs when, what overlaps, what is idle, and how sure a latency is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.schema.evidence import Evidence, Quantity
from analyzer.trace.spans import Int64

Float64 = npt.NDArray[np.float64]
BOOTSTRAP_SAMPLES = 2000
CONFIDENCE_PCT = 95.0
MIN_ITERATIONS = 10
"""With fewer iterations there is no interval, and two runs are not told apart."""


def union_ns(start: Int64, end: Int64) -> int:
    """Return the time covered by at least one of the intervals, in nanoseconds."""
    if not len(start):
        return 0
    order = np.argsort(start, kind="stable")
    s, e = start[order], np.maximum.accumulate(end[order])
    covered_until = np.concatenate(([s[0]], e[:-1]))
    return int(np.maximum(e - np.maximum(s, covered_until), 0).sum())


def gaps(start: Int64, end: Int64, window: tuple[int, int]) -> tuple[Int64, Int64]:
    """Return (start, end) of the stretches of ``window`` that no interval covers."""
    order = np.argsort(start, kind="stable")
    s = np.concatenate((start[order], [window[1]]))
    e = np.concatenate(([window[0]], np.maximum.accumulate(end[order]) if len(order) else np.array([], np.int64)))
    begin, stop = np.maximum(e, window[0]), np.minimum(s, window[1])
    real = stop > begin
    return begin[real], stop[real]


Stretches = tuple[Int64, Int64]
"""(start, end) of stretches that do not overlap, in order."""


def merge(start: Int64, end: Int64) -> Stretches:
    """Return the stretches that the intervals cover."""
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    s, reach = start[order], np.maximum.accumulate(end[order])
    first = np.concatenate(([True], s[1:] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return s[first], reach[last]


def intersect(a: Stretches, b: Stretches) -> Stretches:
    """Return the stretches that lie in both ``a`` and ``b``."""
    time = np.concatenate((*a, *b))
    change = np.concatenate((np.ones(len(a[0])), -np.ones(len(a[0])), np.ones(len(b[0])), -np.ones(len(b[0]))))
    order = np.argsort(time, kind="stable")
    time, covered = time[order], np.cumsum(change[order])
    both = np.flatnonzero((covered[:-1] == 2) & (np.diff(time) > 0)) if len(time) else np.array([], np.int64)
    return merge(time[both], time[both + 1])


def subtract(a: Stretches, b: Stretches) -> Stretches:
    """Return the stretches of ``a`` that ``b`` leaves uncovered."""
    return intersect(a, gaps(*b, (int(a[0][0]), int(a[1][-1])))) if len(a[0]) else a


def length_ns(stretches: Stretches) -> int:
    """Return the summed length of ``stretches``."""
    return int((stretches[1] - stretches[0]).sum())


def exclusive_ns(start: Int64, end: Int64, owner: Int64, owners: int) -> Float64:
    """Return the exclusive time of each owner: a moment in which k intervals run gives each of them 1/k of it.

    The sum over all owners is the union of the intervals.
    """
    if not len(start):
        return np.zeros(owners)
    time = np.concatenate((start, end))
    change = np.concatenate((np.ones(len(start)), -np.ones(len(end))))
    order = np.argsort(time, kind="stable")
    time, running = time[order], np.cumsum(change[order])
    step = np.diff(time).astype(np.float64)
    share = np.divide(step, running[:-1], out=np.zeros_like(step), where=running[:-1] > 0)
    elapsed = np.concatenate(([0.0], np.cumsum(share)))
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    count = len(start)
    own = elapsed[position[count:]] - elapsed[position[:count]]
    total = np.zeros(owners)
    np.add.at(total, owner, own)
    return total


@dataclass(frozen=True, slots=True)
class Latency:
    """Untraced latency of one batch: median with its interval, and what the profiler added."""

    median_ms: Quantity
    n: int
    processes: int
    spread_pct: float
    traced_ms: Quantity
    samples: tuple[tuple[float, ...], ...]


def latency(timings: pd.DataFrame) -> Latency | None:
    """Return the latency in ``timings`` (table TIMINGS), None without untraced iterations.

    The interval is a bootstrap of the median; with several processes it resamples processes first, so that it covers the
    spread from run to run.
    """
    untraced = timings[timings["pass"] == "untraced"]
    if untraced.empty:
        return None
    groups = [g["latency_ms"].to_numpy(np.float64) for _, g in untraced.groupby("repeat")]
    every = np.concatenate(groups)
    median = float(np.median(every))
    quartiles = np.percentile(every, [25, 75])
    return Latency(
        median_ms=_with_interval(
            median, "ms", Evidence.MEASURED, bootstrap_medians(groups) if len(every) >= MIN_ITERATIONS else None,
            f"median of {len(every)} untraced iterations in {len(groups)} process(es)",
        ),
        n=len(every),
        processes=len(groups),
        spread_pct=float(100 * (quartiles[1] - quartiles[0]) / median),
        traced_ms=_traced(timings),
        samples=tuple(tuple(map(float, g)) for g in groups),
    )  # fmt: skip


def _traced(timings: pd.DataFrame) -> Quantity:
    traced = timings.loc[timings["pass"] == "traced", "latency_ms"].to_numpy(np.float64)
    if not len(traced):
        return Quantity.missing("ms", "no traced step was timed")
    return Quantity(float(np.median(traced)), "ms", Evidence.MEASURED, source=f"median of {len(traced)} traced steps")


def bootstrap_medians(groups: list[Float64], seed: int = 0) -> Float64:
    """Return BOOTSTRAP_SAMPLES medians of resampled data; with several groups, groups are resampled first."""
    rng = np.random.default_rng(seed)
    if len(groups) == 1:
        values = groups[0]
        drawn: Float64 = values[rng.integers(0, len(values), (BOOTSTRAP_SAMPLES, len(values)))]
        return np.median(drawn, axis=1)
    out = np.empty(BOOTSTRAP_SAMPLES)
    for i in range(BOOTSTRAP_SAMPLES):
        chosen = rng.integers(0, len(groups), len(groups))
        out[i] = np.median(np.concatenate([rng.choice(groups[g], len(groups[g])) for g in chosen]))
    return out


@lru_cache(maxsize=1024)
def _drawn(samples: tuple[tuple[float, ...], ...], seed: int) -> Float64:
    """Return the resampled medians of one run, kept because hundreds of runs are held against the same one."""
    return bootstrap_medians([np.array(g) for g in samples], seed)


def ratio(a: Latency, b: Latency) -> Quantity:
    """Return how many times as long ``a`` takes as ``b``, with a bootstrap 95 % interval."""
    drawn = None
    if min(a.n, b.n) >= MIN_ITERATIONS:
        drawn = _drawn(a.samples, 1) / _drawn(b.samples, 2)
    if a.median_ms.value is None or b.median_ms.value is None:
        raise TypeError("a latency always has a median")
    return _with_interval(a.median_ms.value / b.median_ms.value, "x", Evidence.DERIVED, drawn, "ratio of the medians")


def difference(a: Latency, b: Latency) -> tuple[float, float] | None:
    """Return the bootstrap 95 % interval of the difference of the medians in ms; None with too few iterations."""
    if min(a.n, b.n) < MIN_ITERATIONS:
        return None
    drawn = _drawn(a.samples, 1) - _drawn(b.samples, 2)
    low, high = np.percentile(drawn, [50 - CONFIDENCE_PCT / 2, 50 + CONFIDENCE_PCT / 2])
    return float(low), float(high)


def _with_interval(value: float, unit: str, evidence: Evidence, drawn: Float64 | None, source: str) -> Quantity:
    if drawn is None:
        return Quantity(value, unit, evidence, source=f"{source}; fewer than {MIN_ITERATIONS} iterations give no interval")
    low, high = np.percentile(drawn, [50 - CONFIDENCE_PCT / 2, 50 + CONFIDENCE_PCT / 2])
    return Quantity(
        value, unit, evidence, min(float(low), value), max(float(high), value), f"{source}, bootstrap 95 % interval"
    )
