"""Bootstrap draws of the median time of each point, and ratios with the intervals that follow from them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analyzer.insight.crossover.grid import Entry
from analyzer.metrics.timing import BOOTSTRAP_SAMPLES, CONFIDENCE_PCT, MIN_ITERATIONS, bootstrap_medians
from analyzer.schema.evidence import Evidence, Quantity

Float64 = npt.NDArray[np.float64]
_CELLS = 4_000_000
"""Resampled times that are in memory at once."""


@dataclass
class Draws:
    """Draws of medians, kept by point: the same draw serves every ratio that the point is part of."""

    kept: dict[tuple[str, tuple[tuple[float, ...], ...]], Float64 | None] = field(default_factory=dict)

    def of(self, entry: Entry) -> Float64 | None:
        """Return BOOTSTRAP_SAMPLES medians of resampled times of ``entry`` in ms, None with too few iterations.

        Approximation: the points of a sweep are measured one after the other, and the intervals hold what differs within a
        point and between its processes, not a drift of the device from one point to the next.
        """
        name, figures = entry.point.record.key, entry.point.figures
        key = name, figures.samples if figures else ()
        if key not in self.kept:
            self.kept[key] = medians(key[1], zlib.crc32(name.encode("utf-8", "replace")))
        return self.kept[key]


def medians(samples: tuple[tuple[float, ...], ...], seed: int) -> Float64 | None:
    """Return medians of resampled ``samples`` (one tuple a process), None with fewer than MIN_ITERATIONS times.

    Processes are resampled first, then the times within each, as in ``metrics.timing.bootstrap_medians``; processes with
    equally many times are drawn all at once.
    """
    groups = [np.array(times, np.float64) for times in samples if times]
    if sum(map(len, groups)) < MIN_ITERATIONS:
        return None
    if len({len(times) for times in groups}) > 1:
        return bootstrap_medians(groups, seed)
    rng = np.random.default_rng(seed)
    table = np.stack(groups)
    processes, times = table.shape
    at_once = max(1, _CELLS // table.size)
    out = []
    for start in range(0, BOOTSTRAP_SAMPLES, at_once):
        number = min(at_once, BOOTSTRAP_SAMPLES - start)
        chosen = rng.integers(0, processes, (number, processes))
        inside = rng.integers(0, times, (number, processes, times))
        out.append(np.median(table[chosen[:, :, None], inside].reshape(number, -1), axis=1))
    return np.concatenate(out)


def interval_of(drawn: Float64) -> tuple[float, float]:
    """Return the 95 % interval of draws: their 2.5th and 97.5th percentile."""
    low, high = np.percentile(drawn, [50 - CONFIDENCE_PCT / 2, 50 + CONFIDENCE_PCT / 2])
    return float(low), float(high)


def ratio(first: Entry, second: Entry, draws: Draws) -> Quantity:
    """Return how many times as long ``first`` takes as ``second``, with its interval where both have enough iterations.

    Raises:
        ValueError: one of them has no time.
    """
    if not (np.isfinite(first.time_ms) and np.isfinite(second.time_ms)):
        raise ValueError("a ratio needs two times")
    value = first.time_ms / second.time_ms
    a, b = draws.of(first), draws.of(second)
    if a is None or b is None:
        return Quantity(value, "x", Evidence.DERIVED, source=f"ratio of the medians; fewer than {MIN_ITERATIONS} iterations")
    low, high = interval_of(a / b)
    return Quantity(
        value, "x", Evidence.DERIVED, min(low, value), max(high, value), "ratio of the medians, bootstrap 95 % interval"
    )
