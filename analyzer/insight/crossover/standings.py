"""All models at one place in the order of their times, those without a time and why among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from analyzer.insight.crossover.contests import Best, Outcome, outcome_of
from analyzer.insight.crossover.draws import Draws, ratio
from analyzer.insight.crossover.grid import Grid
from analyzer.schema.evidence import Quantity


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """The models at one place, each at its best setting.

    ``order``: models with a time, fastest first. ``gap`` is how many times as long the second takes, None for fewer than two;
    ``outcome`` is ``second`` where that is clear, for it is the second that takes longer, None without a gap. ``level``: the
    models that are not clearly slower than the first, itself included. ``without``: (why, models) of those without a time.
    """

    device: int
    batch: int
    size: int
    order: tuple[int, ...]
    gap: Quantity | None
    outcome: Outcome | None
    level: tuple[int, ...]
    without: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def clear(self) -> bool:
        """Tell whether the first is clearly faster than the second."""
        return len(self.level) == 1 and len(self.order) > 1


def standings(grid: Grid, best: Iterable[Best], draws: Draws) -> tuple[Standing, ...]:
    """Return the models at each place at which one of them has a point, by device, batch and image size."""
    places: dict[tuple[int, int, int], dict[int, Best]] = defaultdict(dict)
    for b in best:
        places[b.device, b.batch, b.size][b.model] = b
    return tuple(_standing(place, found, grid, draws) for place, found in sorted(places.items()))


def _standing(place: tuple[int, int, int], found: dict[int, Best], grid: Grid, draws: Draws) -> Standing:
    timed = sorted((b.best for b in found.values() if b.best is not None), key=lambda e: e.time_ms)
    gaps = [ratio(entry, timed[0], draws) for entry in timed[1:]]
    level = [e.model for e, gap in zip(timed[1:], gaps, strict=True) if outcome_of(gap) not in ("first", "second")]
    without: dict[str, list[int]] = defaultdict(list)
    for model in grid.models:
        own = found.get(model.number)
        if own is None or own.best is None:
            without[own.why_none if own else "not run"].append(model.number)
    return Standing(
        *place,
        order=tuple(e.model for e in timed),
        gap=gaps[0] if gaps else None,
        outcome=outcome_of(gaps[0]) if gaps else None,
        level=(*(e.model for e in timed[:1]), *level),
        without=tuple((why, tuple(models)) for why, models in without.items()),
    )
