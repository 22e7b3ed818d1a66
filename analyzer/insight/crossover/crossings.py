"""Where the curves of two models over the image size cross: interpolated between sizes, with an interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from analyzer.insight.crossover.contests import Contest
from analyzer.insight.crossover.draws import Draws
from analyzer.metrics.timing import Float64, interval_of
from analyzer.schema.evidence import Evidence, Quantity

State = Literal["resolved", "unresolved", "possible"]


@dataclass(frozen=True, slots=True)
class Crossing:
    """One change of who is faster.

    ``state``: ``resolved`` between two neighbouring sizes at which the two models differ for certain; ``unresolved`` where
    sizes in between do not tell them apart, or have no time of both; ``possible`` where medians change sides but the sizes
    around do not establish it.
    ``between`` are the sizes around it; ``size_px`` is the crossing itself, without a value unless it is resolved.
    ``below`` is the model that takes less time at the smaller sizes, -1 where that is not established.
    """

    state: State
    between: tuple[int, int]
    size_px: Quantity
    below: int


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One pair of models on one device at one batch size over all image sizes, with the crossings found.

    ``signs``, one per contest with a ratio: +1 where the first clearly takes longer, -1 where the second does, else 0.
    """

    first: int
    second: int
    device: int
    batch: int
    contests: tuple[Contest, ...]
    signs: tuple[int, ...]
    crossings: tuple[Crossing, ...]

    @property
    def timed(self) -> tuple[Contest, ...]:
        """Return the contests in which both have a time, by size."""
        return tuple(c for c in self.contests if c.ratio is not None)


def tracks(contests: Iterable[Contest], draws: Draws) -> tuple[Track, ...]:
    """Return ``contests`` as one track for each pair, device and batch size, in the order of the pairs."""
    grouped: dict[tuple[int, int, int, int], list[Contest]] = defaultdict(list)
    for contest in contests:
        grouped[contest.first, contest.second, contest.device, contest.batch].append(contest)
    return tuple(_track(place, sorted(found, key=lambda c: c.size), draws) for place, found in grouped.items())


def _track(place: tuple[int, int, int, int], contests: list[Contest], draws: Draws) -> Track:
    timed = [c for c in contests if c.ratio is not None]
    signs = tuple({"second": 1, "first": -1}.get(c.outcome, 0) for c in timed)
    return Track(*place, tuple(contests), signs, tuple(_crossings(contests, signs, draws)))


def _crossings(contests: list[Contest], signs: Sequence[int], draws: Draws) -> list[Crossing]:
    """Return the crossings between sizes with an established sign, and possible ones beside them."""
    timed = [c for c in contests if c.ratio is not None]
    untimed = [c.size for c in contests if c.ratio is None]
    known = [n for n, sign in enumerate(signs) if sign]
    if not known:
        return []
    out = []
    edges = [0, *known, len(timed) - 1]
    for left, right in pairwise(edges):
        if left == right:
            continue
        found = _between(timed, signs, (left, right), untimed, draws)
        out += [found] if found is not None else []
    return out


def _between(
    timed: list[Contest], signs: Sequence[int], ends: tuple[int, int], untimed: list[int], draws: Draws
) -> Crossing | None:
    left, right = ends
    sizes = (timed[left].size, timed[right].size)
    below = _faster(timed[left], signs[left])
    if signs[left] * signs[right] < 0:
        unclear = [str(c.size) for c in timed[left + 1 : right]]
        gone = [str(size) for size in untimed if sizes[0] < size < sizes[1]]
        if not unclear and not gone:
            return Crossing("resolved", sizes, crossing_px(timed[left], timed[right], draws), below)
        why = [f"the two are not told apart at {', '.join(unclear)} px"] if unclear else []
        why += [f"there is no time of both at {', '.join(gone)} px"] if gone else []
        return Crossing("unresolved", sizes, Quantity.missing("px", "; ".join(why)), below)
    values = [c.ratio.value or 1.0 for c in timed[left : right + 1] if c.ratio is not None]
    if min(values) < 1 < max(values):
        return Crossing("possible", sizes, Quantity.missing("px", "medians change sides within their spread"), -1)
    return None


def _faster(contest: Contest, sign: int) -> int:
    return {1: contest.second, -1: contest.first, 0: -1}[sign]


def crossing_px(left: Contest, right: Contest, draws: Draws) -> Quantity:
    """Return the image size at which both take equally long, with a bootstrap 95 % interval of sampling alone.

    ln s* = ln s1 + (ln s2 - ln s1) d1 / (d1 - d2), where d is the logarithm of the ratio of the times at each of two sizes of
    which one is above and the other below 0. The interval repeats this for draws of the four medians; a draw in which d does
    not change sign counts for the size at which it is nearer to 0.

    Approximation: between two neighbouring sizes the logarithm of each time is a straight line over the logarithm of the size.
    The interval does not hold how far the curves are from straight lines.
    """
    if left.ratio is None or right.ratio is None or not left.ratio.value or not right.ratio.value:
        raise ValueError("a crossing needs two ratios")
    ends = math.log(left.size), math.log(right.size)
    place = _zero(math.log(left.ratio.value), math.log(right.ratio.value))
    value = math.exp(ends[0] + (ends[1] - ends[0]) * float(place))
    drawn = [_logs(contest, draws) for contest in (left, right)]
    source = "log-log interpolation between neighbouring sizes"
    if drawn[0] is None or drawn[1] is None:
        return Quantity(value, "px", Evidence.DERIVED, source=source)
    low, high = interval_of(np.exp(ends[0] + (ends[1] - ends[0]) * _zeros(drawn[0], drawn[1])))
    source += ", bootstrap 95 % interval of sampling alone"
    return Quantity(value, "px", Evidence.DERIVED, min(low, value), max(high, value), source)


def _zero(d1: float, d2: float) -> float:
    return float(_zeros(np.array([d1]), np.array([d2]))[0])


def _zeros(d1: Float64, d2: Float64) -> Float64:
    """Return where the line from d1 to d2 meets 0, as a share of the way; 0 or 1 where it does not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = d1 / (d1 - d2)
    nearer = np.where(np.abs(d1) < np.abs(d2), 0.0, 1.0)
    out: Float64 = np.where(d1 * d2 < 0, share, nearer)
    return out


def _logs(contest: Contest, draws: Draws) -> Float64 | None:
    first = draws.of(contest.first_entry) if contest.first_entry else None
    second = draws.of(contest.second_entry) if contest.second_entry else None
    if first is None or second is None:
        return None
    out: Float64 = np.log(first / second)
    return out
