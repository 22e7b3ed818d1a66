"""Time: what runs when, what overlaps, what is idle, and how sure a latency is."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.metrics.student import TAIL_95, WIDEST, freedom_of, quantile
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.trace.spans import Int64

Float64 = npt.NDArray[np.float64]
BOOTSTRAP_SAMPLES = 2000
CONFIDENCE_PCT = 95.0
MIN_ITERATIONS = 10
"""With fewer iterations there is no interval, and two runs are not told apart."""
ENOUGH_PROCESSES = 6
"""With fewer processes a bootstrap of them covers too little, so a t-interval of their medians widens it."""
_CELLS = 4_000_000
"""Resampled times that are in memory at once."""

Samples = tuple[tuple[float, ...], ...]
"""The untraced times of a run in ms, one tuple a process."""


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
    samples: Samples


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


def bootstrap_medians(groups: Sequence[Float64], seed: int = 0) -> Float64:
    """Return BOOTSTRAP_SAMPLES medians of resampled data; with several groups, groups are resampled first.

    Groups of one length are drawn many samples at a time, which is faster than one after the other.
    """
    rng = np.random.default_rng(seed)
    out = np.empty(BOOTSTRAP_SAMPLES)
    if len({len(group) for group in groups}) > 1:
        for i in range(BOOTSTRAP_SAMPLES):
            chosen = rng.integers(0, len(groups), len(groups))
            out[i] = np.median(np.concatenate([rng.choice(groups[g], len(groups[g])) for g in chosen]))
        return out
    table = np.stack(groups)
    processes, times = table.shape
    at_once = max(1, _CELLS // table.size)
    for start in range(0, BOOTSTRAP_SAMPLES, at_once):
        number = min(at_once, BOOTSTRAP_SAMPLES - start)
        chosen = rng.integers(0, processes, (number, processes))
        inside = rng.integers(0, times, (number, processes, times))
        out[start : start + number] = np.median(table[chosen[:, :, None], inside].reshape(number, -1), axis=1)
    return out


def draw(samples: Samples, again: int = 0) -> Float64:
    """Return BOOTSTRAP_SAMPLES medians of resampled ``samples``: the same ones wherever the run is held against another.

    The seed comes from the times themselves, so it depends neither on the task nor on the order of the runs. ``again`` gives
    other draws of the same times.
    """
    groups = [np.array(times, np.float64) for times in samples if times]
    seed = zlib.crc32(b"|".join(group.tobytes() for group in groups), again)
    return bootstrap_medians(groups, seed)


_kept = lru_cache(maxsize=1024)(draw)
"""The draws of a run are kept, because hundreds of runs are held against the same one."""


def ratio(a: Latency, b: Latency) -> Quantity:
    """Return how many times as long ``a`` takes as ``b``, with the 95 % interval of ``ratio_of``."""
    if a.median_ms.value is None or b.median_ms.value is None:
        raise TypeError("a latency always has a median")
    return ratio_of((a.median_ms.value, b.median_ms.value), (a.samples, b.samples))


def ratio_of(
    medians: tuple[float, float], samples: tuple[Samples, Samples], drawn: Callable[[Samples, int], Float64] = _kept
) -> Quantity:
    """Return the first median by the second with its 95 % interval, none with fewer than MIN_ITERATIONS on a side.

    Every ratio of untraced times comes from here, so that it has one interval wherever it is shown. ``medians`` are in ms;
    ``drawn`` keeps draws for longer than this module does, and is ``draw`` otherwise.

    Approximation: of two to five processes the logarithms of the medians are taken for normal, and their t-interval widens
    that of the bootstrap draws, which covers too little there, as three drawn from three are often the same. A run of one
    process has no spread between processes, and its interval is that within it.
    """
    value, what = medians[0] / medians[1], "ratio of the medians"
    if min(sum(map(len, side)) for side in samples) < MIN_ITERATIONS:
        return _with_interval(value, "x", Evidence.DERIVED, None, what)
    found = drawn(samples[0], 0) / drawn(samples[1], int(samples[0] == samples[1]))
    half = _half_width(samples)
    if half is None:
        return _with_interval(value, "x", Evidence.DERIVED, found, what)
    low, high = interval_of(found)
    source = f"{what}, 95 % interval from the medians of the processes"
    if half > WIDEST:
        half, source = WIDEST, f"{source}, which disagree so widely that it is cut off at a factor of a thousand"
    ends = min(low, value * math.exp(-half)), max(high, value * math.exp(half))
    return Quantity(value, "x", Evidence.DERIVED, *ends, source)


def _half_width(samples: tuple[Samples, Samples]) -> float | None:
    """Return half the t-interval of the logarithm of a ratio, None where the bootstrap does as well."""
    parts = [part for part in map(_between, samples) if part is not None]
    if not any(freedom < ENOUGH_PROCESSES - 1 for _, freedom in parts):
        return None
    return quantile(TAIL_95, freedom_of(parts)) * math.sqrt(sum(part for part, _ in parts))


@lru_cache(maxsize=4096)
def _between(samples: Samples) -> tuple[float, float] | None:
    """Return the variance of the mean of ``log_medians`` with its degrees of freedom, None for a single process."""
    medians = log_medians(samples)
    return (float(medians.var(ddof=1)) / len(medians), len(medians) - 1.0) if len(medians) > 1 else None


def log_medians(samples: Samples) -> Float64:
    """Return the logarithms of the medians of the processes."""
    medians = [float(np.median(process)) for process in samples if len(process)]
    return np.log(np.array([median for median in medians if median > 0], np.float64))


def difference(a: Latency, b: Latency) -> tuple[float, float] | None:
    """Return the 95 % interval of the median of ``a`` minus that of ``b`` in ms; None with too few iterations.

    That of their ratio, at the median of ``b``, so that both say the same of whether the two differ.
    """
    found = ratio(a, b)
    if found.low is None or found.high is None or b.median_ms.value is None:
        return None
    return (found.low - 1) * b.median_ms.value, (found.high - 1) * b.median_ms.value


def interval_of(drawn: Float64) -> tuple[float, float]:
    """Return the 95 % interval of draws: their 2.5th and 97.5th percentile."""
    low, high = np.percentile(drawn, [50 - CONFIDENCE_PCT / 2, 50 + CONFIDENCE_PCT / 2])
    return float(low), float(high)


def _with_interval(value: float, unit: str, evidence: Evidence, drawn: Float64 | None, source: str) -> Quantity:
    if drawn is None:
        return Quantity(value, unit, evidence, source=f"{source}; fewer than {MIN_ITERATIONS} iterations give no interval")
    low, high = interval_of(drawn)
    return Quantity(value, unit, evidence, min(low, value), max(high, value), f"{source}, bootstrap 95 % interval")
