"""The gap between two runs, in parts that add up to it: the difference of two ledgers.

Layered excess: every part of one run's time minus the same part of the other's. It pairs no kernels and depends on no order. It
asks how much time each model spends on each thing, not what would happen if only one thing changed: that is ``rates.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from analyzer.insight.ledger import TRACING, WAITING, ledger_of
from analyzer.insight.rates import role_effects
from analyzer.metrics import timing
from analyzer.schema.evidence import combine
from analyzer.schema.ledger import TERMS, Entry, Ledger
from analyzer.schema.results import Analysis, Gap, GapPart
from analyzer.trace.kinds import KINDS

_ORDER = {kind: place for place, kind in enumerate((*KINDS, WAITING, TRACING))}
_Key = tuple[str, str, str]


def explain(a: Analysis, b: Analysis) -> Gap:
    """Return the gap ``a`` - ``b`` per batch in parts.

    Stated for untraced medians where both runs have them; otherwise for the traced window per step, or for the whole window
    where the number of steps is not known.
    """
    per_batch = comparable(a, b)
    untraced = per_batch and a.latency is not None and b.latency is not None
    found = difference(*(ledger_of(run, untraced=untraced, per_batch=per_batch) for run in (a, b)))
    ends = timing.difference(a.latency, b.latency) if untraced else None
    return replace(found, interval_us=(ends[0] * 1e3, ends[1] * 1e3)) if ends else found


def comparable(a: Analysis, b: Analysis) -> bool:
    """Tell whether the times of both runs can be stated for one batch."""
    return bool(a.window.batches and b.window.batches)


def difference(first: Ledger, second: Ledger) -> Gap:
    """Return ``first`` minus ``second``, part by part.

    A term that cannot be told of one run is no cause of the difference: in both it stays with the time without a cause.
    """
    first, second = _without(first, second.lacking), _without(second, first.lacking)
    one, two = _keyed(first), _keyed(second)
    keys = sorted({*one, *two}, key=lambda key: (_ORDER[key[1]], TERMS.index(key[2]), key[0]))
    parts = tuple(part for key in keys if (part := _part(key, one.get(key), two.get(key))) is not None)
    return Gap(first, second, parts, role_effects(first, second))


def _without(ledger: Ledger, lacking: tuple[str, ...]) -> Ledger:
    """Return ``ledger`` with the time of terms that the other run lacks in the terms that need none of them."""
    moved = dict.fromkeys(lacking, "residual")
    if "work" in lacking:  # without any floor, nothing can be said of what is above it
        moved = dict.fromkeys(("work", "vector", "locality", "cached", "short", "tail", "clock", "residual"), "no_floor")
    kept: dict[_Key, Entry] = {}
    for entry in ledger.entries:
        found = replace(entry, term=moved.get(entry.term, entry.term))
        key = (found.role, found.kind, found.term)
        kept[key] = _joined(kept[key], found) if key in kept else found
    return replace(ledger, entries=tuple(kept.values()))


def _joined(a: Entry, b: Entry) -> Entry:
    us = a.us + b.us
    low, high = us + min(a.low_us - a.us, b.low_us - b.us), us + max(a.high_us - a.us, b.high_us - b.us)
    return replace(a, us=us, low_us=low, high_us=high, evidence=combine(a.evidence, b.evidence))


def _keyed(ledger: Ledger) -> dict[_Key, Entry]:
    return {(entry.role, entry.kind, entry.term): entry for entry in ledger.entries}


def _part(key: _Key, one: Entry | None, two: Entry | None) -> GapPart | None:
    if not any(entry and (entry.us or entry.low_us or entry.high_us) for entry in (one, two)):
        return None
    level = combine(*(entry.evidence for entry in (one, two) if entry))
    nothing = Entry(*key, 0.0, 0.0, 0.0, level)
    a, b = one or nothing, two or nothing
    return GapPart(*key, a.us, b.us, a.low_us - b.high_us, a.high_us - b.low_us, level)


def normalised(gap: Gap, by: Literal["image", "GFLOP"]) -> Gap | None:
    """Return the gap with every time divided by the images, or by the work in GFLOP, of its own run; None where not known.

    Its parts add up to its own difference: that of the times per image, or per GFLOP.
    """
    divisors = [_divisor(ledger, by) for ledger in (gap.one, gap.two)]
    if not all(divisors):
        return None
    return difference(*(_divided(ledger, size or 1.0) for ledger, size in zip((gap.one, gap.two), divisors, strict=True)))


def _divisor(ledger: Ledger, by: str) -> float | None:
    if by == "image":
        return ledger.images
    return ledger.flop / 1e9 if ledger.flop else None


def _divided(ledger: Ledger, size: float) -> Ledger:
    entries = tuple(
        replace(entry, us=entry.us / size, low_us=entry.low_us / size, high_us=entry.high_us / size) for entry in ledger.entries
    )
    ends = (None if end is None else end / size for end in (ledger.low_us, ledger.high_us))
    low, high = ends
    return replace(ledger, total_us=ledger.total_us / size, low_us=low, high_us=high, entries=entries)
