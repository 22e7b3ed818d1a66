"""Errors by class of kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from analyzer.insight.validation.families import EVERY, FAMILIES, MODES, inside_target, target
from analyzer.schema.validation import FIT, FITTED, QUANTITIES, REFITTED, SCORE, SHIPPED, WHOLE, Prediction, Score

ENOUGH = 30
"""Distinct kernels that the target for all classes together asks for."""

Group = tuple[str, str, str]
"""Quantity, class, mode."""


def percentile(values: Iterable[float], share: float) -> float:
    """Return the least value that ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def scores(predictions: Sequence[Prediction]) -> tuple[Score, ...]:
    """Return the errors of every quantity, class and mode: shipped parameters on all and on each half, refitted on SCORE.

    A quantity and mode with several classes has a row for all of them too. Unscored figures do not count, but for the bands:
    one that misses a figure too small for a relative error has missed it all the same.
    """
    groups: dict[Group, list[Prediction]] = {}
    for one in predictions:
        if one.scored or one.banded:
            groups.setdefault((one.quantity, one.family, one.mode), []).append(one)
    for quantity, mode in {(quantity, mode) for quantity, _, mode in groups}:
        together = [one for (q, _, m), mine in groups.items() if (q, m) == (quantity, mode) for one in mine]
        if len({one.family for one in together}) > 1:
            groups[(quantity, EVERY, mode)] = together
    found = []
    for group in sorted(groups, key=_order):
        if any(one.scored for one in groups[group]):
            found += _scores(group, groups[group])
    return tuple(found)


def _order(group: Group) -> tuple[int, int, int]:
    quantity, family, mode = group
    return list(QUANTITIES).index(quantity), MODES.index(mode), (*FAMILIES, EVERY).index(family)


def _scores(group: Group, mine: Sequence[Prediction]) -> list[Score]:
    found = [_score(group, SHIPPED, WHOLE, mine, _shipped)]
    for half in (FIT, SCORE):
        half_of = [one for one in mine if one.half == half]
        if any(one.scored for one in half_of):
            found.append(_score(group, SHIPPED, half, half_of, _shipped))
    if again := [one for one in mine if one.scored and math.isfinite(one.refitted)]:
        found.append(_score(group, REFITTED, SCORE, again, _refitted))
    return found


def _shipped(one: Prediction) -> float:
    return one.error_pct


def _refitted(one: Prediction) -> float:
    return one.refitted_error_pct


def _score(group: Group, parameters: str, half: str, mine: Sequence[Prediction], error: Callable[[Prediction], float]) -> Score:
    quantity, family, mode = group
    bands = [one.inside for one in mine if one.banded] if parameters == SHIPPED else []
    mine = [one for one in mine if one.scored]
    errors = [error(one) for one in mine]
    sizes = [abs(value) for value in errors]
    return Score(
        family=family, quantity=quantity, mode=mode, parameters=parameters, half=half, n=len(mine), median_pct=median(sizes),
        p90_pct=percentile(sizes, 0.9), worst_pct=max(sizes), bias_pct=median(errors),
        inside_pct=100 * sum(bands) / len(bands) if bands else math.nan, bands=len(bands),
        target=target(family, quantity, mode) if family != EVERY or len(mine) >= ENOUGH else None,
        inside_target=inside_target(family, quantity, mode) if parameters == SHIPPED else None,
        fitted=sum(one.status == FITTED for one in mine),
    )  # fmt: skip
