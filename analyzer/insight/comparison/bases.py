"""Which run the gains of each run are over: one of the same model, so that a gain is that of a device and not of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.insight.comparison.basis import family_of_work, same_input, same_model, settings_of, training_against_inference
from analyzer.schema.digest import Digest

NOTHING = "nothing to hold it against: no other run is known to be of its model or of its family"

Families = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Bases:
    """Per run the number of the run that its gains are over; None for a run that others are held against, or for ``why``."""

    of: tuple[int | None, ...]
    why: tuple[str, ...]


def find_bases(runs: Sequence[Digest], baseline: int, families: Families) -> Bases:
    """Return what each run is held against.

    That is the run of the same model on the same input on the baseline's device: the baseline itself, else one under its
    settings, else the first. Where the device has none it is the first run of the same model on the same input, unless the
    baseline is the same model on another input. The first of its model is held against the baseline, if that is of the same
    family, else against nothing. Runs of ``families`` (whose operators are the same) are of one model.
    """
    family = {number: place for place, group in enumerate(families) for number in group}
    models = _models(runs, family)
    found = [None if number == baseline else _base(runs, baseline, number, models[number]) for number in range(len(runs))]
    used = {baseline, *found}
    why = [
        "" if base is not None or number in used else _why(runs[baseline], runs[number]) for number, base in enumerate(found)
    ]
    return Bases(tuple(found), tuple(why))


def _why(base: Digest, run: Digest) -> str:
    return training_against_inference(base, run) or NOTHING


def _models(runs: Sequence[Digest], family: dict[int, int]) -> list[list[int]]:
    """Return for each run all runs of its model on its input, itself among them, in order."""
    groups: list[list[int]] = []
    out: list[list[int]] = []
    for number in range(len(runs)):
        mine = next((group for group in groups if _is_same(runs, family, group[0], number)), None)
        if mine is None:
            mine = []
            groups.append(mine)
        mine.append(number)
        out.append(mine)
    return out


def _is_same(runs: Sequence[Digest], family: dict[int, int], one: int, other: int) -> bool:
    if one in family and family[one] == family.get(other):
        return True
    return same_model(runs[one], runs[other]) and same_input(runs[one], runs[other])


def _base(runs: Sequence[Digest], baseline: int, number: int, mine: Sequence[int]) -> int | None:
    """Return what run ``number`` is held against; ``mine`` are all runs of its model."""
    if baseline in mine:
        return baseline
    base, run = runs[baseline], runs[number]
    there = [other for other in mine if runs[other].device.name == base.device.name]
    first = _most_alike(runs, baseline, there) if there else number if same_model(base, run) else mine[0]
    if first != number:
        return first
    return baseline if family_of_work(base) == family_of_work(run) else None


def _most_alike(runs: Sequence[Digest], baseline: int, there: Sequence[int]) -> int:
    """Return the first run with most of the baseline's settings."""
    wanted = set(settings_of(runs[baseline]))
    return max(there, key=lambda number: (len(wanted & set(settings_of(runs[number]))), -number))
