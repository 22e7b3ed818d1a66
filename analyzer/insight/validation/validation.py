"""From counted figures to a validation: halves, parameters of one half, predictions, errors, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from analyzer.insight.counters import absence
from analyzer.insight.validation.families import EVERY, FAMILIES, WARM_AS_COLD
from analyzer.insight.validation.fitting import Fit, fit
from analyzer.insight.validation.halves import halves
from analyzer.insight.validation.items import BYTES, SMALL_BYTES, Item, predicted
from analyzer.insight.validation.published import LeftOut
from analyzer.insight.validation.runs import run_items
from analyzer.insight.validation.scoring import scores
from analyzer.schema.results import Analysis, run_names
from analyzer.schema.validation import FITTED, HELD_OUT, QUANTITIES, SCORE, Prediction, Validation

SMALL = "counted under 1 MB, where a relative error says nothing; in bytes it is in the table of kernels"
NOTHING = "counted as 0"
MOST_SHARE = 100.0


def validate_analyses(analyses: Iterable[Analysis]) -> Validation:
    """Return what the models predicted of the kernels of ``analyses`` against what was counted; empty without counters."""
    analyses = tuple(analyses)
    items: list[Item] = []
    left: list[LeftOut] = []
    for a, name in zip(analyses, run_names(analyses), strict=True):
        found, without = run_items(a, name)
        items += found
        left += without
        if a.counters is None or a.counters.refused:
            left.append(LeftOut("", "", f"{name}: {absence(a).why}", 0))
    return validation_of(items, left)


def validation_of(
    items: Sequence[Item],
    left: Sequence[LeftOut] = (),
    sources: tuple[tuple[str, str], ...] = (),
    command: tuple[str, ...] = (),
) -> Validation:
    """Return predictions and errors of ``items``; those of one kernel, quantity and mode are one, the mean of its calls."""
    items = _distinct(items)
    half_of = halves(items)
    fits = fit(items, half_of)
    predictions = tuple(_prediction(item, half_of[item.key], fits[item.gpu]) for item in items)
    parameters = tuple(row for gpu in sorted(fits) for row in fits[gpu].rows if _depends(items, gpu))
    return Validation(predictions, scores(predictions), parameters, _left_out(predictions, left), sources, command)


def _depends(items: Sequence[Item], gpu: str) -> bool:
    """Tell whether a figure of ``gpu`` depends on parameters of its cache."""
    return any(item.gpu == gpu and item.quantity.startswith("dram") for item in items)


def _distinct(items: Sequence[Item]) -> list[Item]:
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.key, item.quantity, item.mode), []).append(item)
    return [_merged(mine) for mine in groups.values()]


def _merged(mine: Sequence[Item]) -> Item:
    """Return one item for several of the same kernel: the counted figure is the mean of all calls."""
    if len(mine) == 1:
        return mine[0]
    calls = sum(item.calls for item in mine)
    runs = tuple(dict.fromkeys(item.run for item in mine))
    status = FITTED if any(item.status == FITTED for item in mine) else HELD_OUT
    return replace(
        mine[0],
        run=runs[0] if len(runs) == 1 else f"{runs[0]} and {len(runs) - 1} more",
        measured=sum(item.measured * item.calls for item in mine) / calls,
        found=sum(item.found * item.calls for item in mine) / calls,
        before=sum(item.before * item.calls for item in mine) / calls,
        calls=calls,
        share_pct=mine[0].share_pct if len(runs) > 1 else min(sum(item.share_pct for item in mine), MOST_SHARE),
        status=status,
    )


def _prediction(item: Item, half: str, fitted: Fit) -> Prediction:
    point, low, high = predicted(item, item.shipped)
    again = math.nan
    if half == SCORE and fitted.tells(item.quantity):
        again = predicted(item, fitted.used)[0]
    why = item.unscored or _too_small(item)
    return Prediction(
        run=item.run, gpu=item.gpu, family=item.family, key=item.key, kernel=item.kernel, op=item.op, shapes=item.shapes,
        mode=item.mode, quantity=item.quantity, measured=item.measured, point=point, low=low, high=high, calls=item.calls,
        share_pct=item.share_pct, half=half, status=item.status, refitted=again, scored=not why,
        banded=not item.unscored and item.measured > 0 and high > low, why=why,
    )  # fmt: skip


def _too_small(item: Item) -> str:
    if item.quantity in BYTES and item.measured < SMALL_BYTES:
        return SMALL
    return "" if item.measured > 0 else NOTHING


def _left_out(predictions: Sequence[Prediction], left: Sequence[LeftOut]) -> tuple[tuple[str, str, str, int], ...]:
    """Return (class, quantity, why, kernels) of what has no prediction, and of what has one that does not count."""
    told: dict[tuple[str, str, str], int] = {}
    unscored = (LeftOut(one.family, one.quantity, one.why) for one in predictions if one.why and one.mode != WARM_AS_COLD)
    for one in (*left, *unscored):
        key = (one.family, one.quantity, one.why)
        told[key] = told.get(key, 0) + one.kernels
    order = ("", *FAMILIES, EVERY)  # a run without counters first
    names = (*QUANTITIES, "")
    rows = sorted(told.items(), key=lambda row: (order.index(row[0][0]), names.index(row[0][1] if row[0][1] in names else "")))
    return tuple((family, quantity, why, n) for (family, quantity, why), n in rows)
