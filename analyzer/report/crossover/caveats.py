"""What a reader of a crossover report has to know before its figures: what differs between points besides the model."""

from __future__ import annotations

from analyzer.format import counted, fixed
from analyzer.insight.crossover.grid import Variant
from analyzer.insight.crossover.result import Crossover
from analyzer.report.crossover.cells import short
from analyzer.report.crossover.untimed import differing_versions
from analyzer.report.text import clean

Caveat = tuple[str, str, str, str]
"""Level, text, id of the section it points to, and the name of that section."""
ENOUGH_PROCESSES = 5
"""Processes a point from which on an interval holds most of what differs between processes: see docs/crossover.md."""
_NAMED, _SETTINGS = 4, 4


def caveats(found: Crossover) -> tuple[Caveat, ...]:
    """Return the caveats of ``found``, the gravest first."""
    made = (*_settings(found), *_versions(found), *_tf32(found), *_intervals(found), *_price(found))
    return tuple(("warning", text, *target) for text, target in made)


def _settings(found: Crossover) -> list[tuple[str, tuple[str, str]]]:
    """Return that models have times under different settings, and which pairs have none in common."""
    groups: dict[frozenset[Variant], list[int]] = {}
    for model in found.grid.models:
        own = found.grid.settings_timed(model.number)
        if own:
            groups.setdefault(own, []).append(model.number)
    if len(groups) < 2:
        return []
    told = []
    for own, models in list(groups.items())[:_NAMED]:
        words = sorted(clean(found.grid.words(v, "cnn"), 80) for v in own)
        more = f" and {len(words) - _SETTINGS} more" if len(words) > _SETTINGS else ""
        told.append(f"{_names(found, models)}: {' / '.join(words[:_SETTINGS])}{more}")
    rest = f"; and {len(groups) - _NAMED} more sets of settings" if len(groups) > _NAMED else ""
    text = f"The models have times under different settings ({'; '.join(told)}{rest}): a difference may be one of settings."
    alike = {(t.first, t.second) for _, _, t in found.alike}
    alone = [pair for pair in dict.fromkeys((t.first, t.second) for t in found.tracks if t.timed) if pair not in alike]
    if alone:
        pairs = "; ".join(f"{short(found, a, 40)} and {short(found, b, 40)}" for a, b in alone[:_NAMED])
        pairs += f"; and {len(alone) - _NAMED} more pairs" if len(alone) > _NAMED else ""
        text += f" No like-for-like comparison is possible of {pairs}: they have no time at the same setting."
    return [(text, ("settings", "Settings"))]


def _names(found: Crossover, models: list[int]) -> str:
    names = ", ".join(short(found, model, 40) for model in models[:_NAMED])
    return f"{names} and {len(models) - _NAMED} more" if len(models) > _NAMED else names


def _versions(found: Crossover) -> list[tuple[str, tuple[str, str]]]:
    different = differing_versions(found)
    if not different:
        return []
    names = clean(", ".join(different[:6]), 200)
    text = f"Points differ in the versions of {names}: a difference of models may be one of versions."
    return [(text, ("method", "Method"))]


def _tf32(found: Crossover) -> list[tuple[str, tuple[str, str]]]:
    mixed = [e for e in found.grid.entries if e.point.figures is not None and e.point.figures.tf32_convolutions]
    if not mixed:
        return []
    text = (
        f"In {counted(len(mixed), 'point', 'points')} of dtype float32 convolutions may have run as TF32, which is less exact "
        "and can be faster; torch allows that by default. Points recorded now forbid it; measure these again to compare them."
    )
    return [(text, ("method", "Method"))]


def _intervals(found: Crossover) -> list[tuple[str, tuple[str, str]]]:
    out = []
    few = sum(e.latency_ms is not None and e.latency_ms.low is None for e in found.grid.entries)
    if few:
        text = f"{counted(few, 'point has', 'points have')} too few iterations for an interval: nothing is clear of them."
        out.append((text, ("settings", "Settings")))
    processes = [len(f.samples) for e in found.grid.entries if (f := e.point.figures) is not None and f.samples]
    few = sum(n < ENOUGH_PROCESSES for n in processes)
    if few:
        ones = sum(n == 1 for n in processes)
        part = f" ({ones} in one alone)" if 0 < ones < few else ""
        each = "one process" if ones == few else f"fewer than {ENOUGH_PROCESSES} processes{part}"
        text = (
            f"{counted(few, 'point was', 'points were')} timed in {each} each. What differs from process to process is "
            f"{'not' if ones == few else 'only in part'} in their intervals, which can be too narrow; "
            f"repeats={ENOUGH_PROCESSES} or more holds most of it."
        )
        out.append((text, ("method", "Method")))
    return out


def _price(found: Crossover) -> list[tuple[str, tuple[str, str]]]:
    price, devices = found.sweep.price, len(found.grid.devices)
    if price is None or devices < 2:
        return []
    text = (
        f"One price, {fixed(price, 2)} per hour, was taken for all {devices} devices: images per unit of currency do not "
        "compare the devices."
    )
    return [(text, ("cost", "Cost"))]
