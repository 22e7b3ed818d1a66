"""Everything that a crossover report says, computed once from the points of a sweep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from analyzer.insight.crossover.contests import Best, Contest, alike_contests, best_contests, find_best
from analyzer.insight.crossover.crossings import Track, tracks
from analyzer.insight.crossover.draws import Draws
from analyzer.insight.crossover.grid import Grid, Variant, grid
from analyzer.insight.crossover.standings import Standing, standings
from analyzer.schema.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Fit:
    """How large a batch of one model fits at one image size.

    ``largest``: the largest batch with a time under any setting, None without one. ``smallest_failed``: the smallest batch
    above it that is too large (``Best.too_large``), None without one.
    """

    model: int
    device: int
    size: int
    largest: int | None
    smallest_failed: int | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How far a pair of models is from equal work: (image size, how many % the first is above the second).

    ``flop_pct``: FLOP of one image, by size. ``parameters_pct``: parameters, None where not known.
    """

    first: int
    second: int
    flop_pct: tuple[tuple[int, float], ...]
    parameters_pct: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Crossover:
    """What a sweep shows. ``tracks`` hold each model at its best setting, ``alike`` both at the same one."""

    sweep: Sweep
    grid: Grid
    best: tuple[Best, ...]
    tracks: tuple[Track, ...]
    alike: tuple[tuple[Variant, Variant, Track], ...]
    fits: tuple[Fit, ...]
    mismatches: tuple[Mismatch, ...]
    standings: tuple[Standing, ...] = ()


def crossover(sweep: Sweep) -> Crossover:
    """Return what ``sweep`` shows; any number of models, devices and sizes, none included."""
    draws = Draws()
    places = grid(sweep)
    best = find_best(places, draws)
    found = tracks(best_contests(places, best, draws), draws)
    pairs = list(dict.fromkeys((t.first, t.second) for t in found))
    return Crossover(
        sweep,
        places,
        best,
        found,
        _alike(places, draws),
        _fits(best),
        tuple(_mismatch(places, *pair) for pair in pairs),
        standings(places, best, draws),
    )


def _alike(places: Grid, draws: Draws) -> tuple[tuple[Variant, Variant, Track], ...]:
    grouped: dict[tuple[Variant, Variant], list[Contest]] = defaultdict(list)
    for first, second, contest in alike_contests(places, draws):
        grouped[first, second].append(contest)
    return tuple((*variants, track) for variants, contests in grouped.items() for track in tracks(contests, draws))


def _fits(best: Iterable[Best]) -> tuple[Fit, ...]:
    grouped: dict[tuple[int, int, int], list[Best]] = defaultdict(list)
    for b in best:
        grouped[b.device, b.model, b.size].append(b)
    out = []
    for (device, model, size), found in sorted(grouped.items()):
        largest = max((b.batch for b in found if b.timed), default=None)
        lost = [b.batch for b in found if b.too_large and (largest is None or b.batch > largest)]
        out.append(Fit(model, device, size, largest, min(lost, default=None)))
    return tuple(out)


def _mismatch(places: Grid, first: int, second: int) -> Mismatch:
    """Return how much more FLOP and parameters the first has; FLOP of an image are those of its first point with a figure."""
    flop: dict[tuple[int, int], float] = {}
    parameters: dict[int, int] = {}
    for entry in places.entries:
        figures = entry.point.figures
        if figures is None:
            continue
        if figures.flop.value:
            flop.setdefault((entry.model, entry.size), figures.flop.value)
        if figures.parameters:
            parameters.setdefault(entry.model, figures.parameters)
    sizes = sorted({size for model, size in flop if model == first} & {size for model, size in flop if model == second})
    shares = tuple((size, 100 * (flop[first, size] / flop[second, size] - 1)) for size in sizes)
    known = first in parameters and second in parameters
    return Mismatch(first, second, shares, 100 * (parameters[first] / parameters[second] - 1) if known else None)
