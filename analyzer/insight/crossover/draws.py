"""Bootstrap draws of the median time of each point, and ratios with the intervals that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analyzer.insight.crossover.grid import Entry
from analyzer.metrics.timing import MIN_ITERATIONS, Float64, Samples, draw, ratio_of
from analyzer.schema.evidence import Quantity


@dataclass
class Draws:
    """Draws of medians, kept by the times of a point: the same draw serves every ratio that the point is part of."""

    kept: dict[tuple[Samples, int], Float64] = field(default_factory=dict)

    def of(self, entry: Entry) -> Float64 | None:
        """Return BOOTSTRAP_SAMPLES medians of resampled times of ``entry`` in ms, None with too few iterations.

        Approximation: the points of a sweep are measured one after the other, and the intervals hold what differs within a
        point and between its processes, not a drift of the device from one point to the next.
        """
        samples = _samples(entry)
        return self.drawn(samples, 0) if sum(map(len, samples)) >= MIN_ITERATIONS else None

    def drawn(self, samples: Samples, again: int) -> Float64:
        """Return ``metrics.timing.draw`` of ``samples``, which are at least MIN_ITERATIONS times."""
        key = samples, again
        if key not in self.kept:
            self.kept[key] = draw(samples, again)
        return self.kept[key]


def ratio(first: Entry, second: Entry, draws: Draws) -> Quantity:
    """Return how many times as long ``first`` takes as ``second``, with the interval that other tasks give the same two runs.

    Raises:
        ValueError: one of them has no time.
    """
    if not (np.isfinite(first.time_ms) and np.isfinite(second.time_ms)):
        raise ValueError("a ratio needs two times")
    return ratio_of((first.time_ms, second.time_ms), (_samples(first), _samples(second)), draws.drawn)


def _samples(entry: Entry) -> Samples:
    return entry.point.figures.samples if entry.point.figures else ()
