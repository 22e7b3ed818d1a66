"""Who is faster where: the best setting of each model at each place, and two models held against each other there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from analyzer.insight.crossover.draws import Draws, ratio
from analyzer.insight.crossover.grid import Entry, Grid, Model, Variant, like_for_like
from analyzer.insight.verdict import TOO_WIDE, clearly_different
from analyzer.schema.evidence import Quantity

Outcome = Literal["first", "second", "unclear", "unsteady", "too_few", "first_only", "second_only", "neither"]
OUTCOME_WORDS = {
    "unclear": "no clear difference", "unsteady": "too unsteady to tell", "too_few": "too few iterations to tell",
}  # fmt: skip
"""Outcomes of two times that name no winner."""
STATUS_WORDS = {
    "out_of_memory": "out of memory", "unsupported": "unsupported", "failed": "failed", "measured": "its run cannot be read",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The fastest setting of one model at one place. ``best`` is None where no setting has a time there.

    ``gain`` is how many times as long the runner-up takes, None without one. ``timed`` settings have a time, ``untimed`` say
    what came of the others: (status, how many).
    """

    model: int
    device: int
    batch: int
    size: int
    best: Entry | None
    runner_up: Entry | None
    gain: Quantity | None
    timed: tuple[Entry, ...]
    untimed: tuple[tuple[str, int], ...]

    @property
    def clear(self) -> bool:
        """Tell whether the runner-up is clearly slower."""
        return self.gain is not None and clearly_different(self.gain)

    @property
    def too_large(self) -> bool:
        """Tell whether the place is too large for memory: at least one setting ran out of it and none ran."""
        statuses = {status for status, _ in self.untimed}
        return not self.timed and "out_of_memory" in statuses and "measured" not in statuses

    @property
    def why_none(self) -> str:
        """Return why there is no time, in words."""
        return " and ".join(STATUS_WORDS.get(status, status) for status, _ in self.untimed) or "not run"


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Two models at one place. ``ratio`` is the time of the first over that of the second, None unless both have a time.

    ``why``: what came of the models without a time. ``too_large``: those of the two that ran out of memory.
    """

    first: int
    second: int
    device: int
    batch: int
    size: int
    outcome: Outcome
    ratio: Quantity | None
    first_entry: Entry | None
    second_entry: Entry | None
    why: str = ""
    too_large: tuple[int, ...] = ()


def find_best(grid: Grid, draws: Draws) -> tuple[Best, ...]:
    """Return the best setting of each model at each place where it has a point, by device, batch size, image size and model.

    Approximation: the best of several settings is the one with the smallest median, so among settings that are equally fast
    chance decides, and the more settings a model has, the more chance favours it.
    """
    places: dict[tuple[int, int, int, int], list[Entry]] = defaultdict(list)
    for entry in grid.entries:
        places[entry.device, entry.batch, entry.size, entry.model].append(entry)
    return tuple(_best(place, entries, draws) for place, entries in sorted(places.items()))


def _best(place: tuple[int, int, int, int], entries: list[Entry], draws: Draws) -> Best:
    device, batch, size, model = place
    timed = sorted((e for e in entries if e.latency_ms is not None), key=lambda e: e.time_ms)
    statuses = Counter(e.point.record.status for e in entries if e.latency_ms is None)
    runner_up = timed[1] if len(timed) > 1 else None
    gain = ratio(runner_up, timed[0], draws) if runner_up else None
    return Best(
        model, device, batch, size, timed[0] if timed else None, runner_up, gain, tuple(timed), tuple(sorted(statuses.items()))
    )


def pairs(models: tuple[Model, ...]) -> list[tuple[int, int]]:
    """Return all pairs of models, those of a ViT and a CNN first."""
    found = [(a, b) for a, b in combinations(models, 2)]
    mixed = sorted(found, key=lambda pair: {pair[0].family, pair[1].family} != {"vit", "cnn"})
    return [(a.number, b.number) for a, b in mixed]


def best_contests(grid: Grid, best: Iterable[Best], draws: Draws) -> list[Contest]:
    """Return every pair of models at every place that either has a point at, each at its best setting."""
    at = {(b.device, b.batch, b.size, b.model): b for b in best}
    places = sorted({place[:3] for place in at})
    out = []
    for first, second in pairs(grid.models):
        for device, batch, size in places:
            mine, other = at.get((device, batch, size, first)), at.get((device, batch, size, second))
            if mine is not None or other is not None:
                out.append(_contest((first, second, device, batch, size), mine, other, draws))
    return out


def _contest(place: tuple[int, int, int, int, int], mine: Best | None, other: Best | None, draws: Draws) -> Contest:
    a, b = mine.best if mine else None, other.best if other else None
    if a is not None and b is not None:
        found = ratio(a, b, draws)
        return Contest(*place, outcome_of(found), found, a, b)
    missing = [(found.why_none if found else "not run") for found, entry in ((mine, a), (other, b)) if entry is None]
    outcome: Outcome = "first_only" if a is not None else "second_only" if b is not None else "neither"
    too_large = tuple(found.model for found in (mine, other) if found is not None and found.too_large)
    return Contest(*place, outcome, None, a, b, " / ".join(missing), too_large)


def outcome_of(found: Quantity) -> Outcome:
    """Return what the time of a first over that of a second says; the only place that decides it."""
    if clearly_different(found):
        return "first" if (found.value or 0) < 1 else "second"
    if found.low is None or found.high is None:
        return "too_few"
    return "unsteady" if found.low <= 1 <= found.high and found.high > TOO_WIDE * found.low else "unclear"


def alike_contests(grid: Grid, draws: Draws) -> list[tuple[Variant, Variant, Contest]]:
    """Return every pair of models at every place at each setting that both have a time at.

    Settings are the same in everything; where one of the two is a CNN, the implementation of attention is the ViT's own.
    """
    family = {m.number: m.family for m in grid.models}
    places: dict[tuple[int, int, int, int], list[Entry]] = defaultdict(list)
    for entry in grid.entries:
        if entry.latency_ms is not None:
            places[entry.device, entry.batch, entry.size, entry.model].append(entry)
    out = []
    for first, second in pairs(grid.models):
        for device, batch, size in sorted({place[:3] for place in places}):
            for a in places.get((device, batch, size, first), ()):
                for b in places.get((device, batch, size, second), ()):
                    if like_for_like(a.variant, family[first], b.variant, family[second]):
                        found = ratio(a, b, draws)
                        contest = Contest(first, second, device, batch, size, outcome_of(found), found, a, b)
                        out.append((a.variant, b.variant, contest))
    return out
