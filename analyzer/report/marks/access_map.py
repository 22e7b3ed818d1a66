"""The points of the access maps and what they say in words: how much of each operand a block reads, and who read it before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from analyzer.format import percent
from analyzer.report.marks.access import name
from analyzer.report.text import clean
from analyzer.schema.access import AccessMap, AccessResult

MAX_MAPS = 5
MAX_POINTS = 1500
TITLE = 26
"""Characters of the shapes above a panel; all of them stand in the table."""
NEARLY_ALL, NOTHING = 97.0, 0.05


@dataclass(frozen=True, slots=True)
class Operand:
    """How blocks use one operand: share of its addresses that a block touches, share of those that the block before touched."""

    name: str
    size_bytes: float
    touched_pct: float
    shared_pct: float


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One access map as drawn. ``position`` is 0 to 1 within the operand; ``chosen`` marks the points of one thread block."""

    pattern: str
    title: str
    operands: tuple[Operand, ...]
    time: Any
    position: Any
    operand: Any
    chosen: Any
    blocks: int


def panels(results: tuple[AccessResult, ...]) -> tuple[Panel, ...]:
    """Return the first map of each pattern, at most five with MAX_POINTS points together."""
    found: dict[str, AccessMap] = {}
    for result in results:
        for shown in result.maps:
            if len(shown.time):
                found.setdefault(shown.pattern, shown)
    maps = tuple(found.values())[:MAX_MAPS]
    return tuple(_panel(shown, MAX_POINTS // len(maps)) for shown in maps)


def _panel(shown: AccessMap, budget: int) -> Panel:
    time, address, operand, block = (np.asarray(v) for v in (shown.time, shown.address_bytes, shown.operand, shown.block))
    order = list(dict.fromkeys(block[np.argsort(time, kind="stable")].tolist()))
    middle = order[len(order) // 2]
    position = np.zeros(len(time))
    used = []
    for index, label in enumerate(shown.operands):
        own = operand == index
        if not own.any():
            continue
        first, size = shown.extents[index]
        position[own] = (address[own] - first) / size
        used.append((index, _operand(clean(label, 24), size, address[own], block[own], order)))
    kept = _thinned(block == middle, budget)
    renumbered = np.searchsorted([index for index, _ in used], operand[kept])
    title = ": ".join(part for part in (name(shown.pattern), clean(shown.title, TITLE)) if part)
    operands = tuple(operand for _, operand in used)
    chosen = (block == middle)[kept]
    when = time[kept] / max(float(time.max()), 1.0)
    return Panel(shown.pattern, title, operands, when, position[kept], renumbered, chosen, len(order))


def _thinned(chosen: Any, budget: int) -> Any:
    """Return the places of at most ``budget`` points, up to a third of them those of the chosen block.

    Steps are even in time and never a multiple of the same access, or a regular pattern would show as another one.
    """
    own, rest = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    few = min(len(own), budget // 3)
    return np.sort(np.concatenate((_even(own, few), _even(rest, budget - few))))


def _even(places: Any, count: int) -> Any:
    if len(places) <= count:
        return places
    # golden-ratio steps spread evenly without a period of their own
    share = np.sort((np.arange(count) * 0.6180339887498949) % 1.0)
    return places[np.unique((share * len(places)).astype(int))]


def _operand(label: str, size: int, address: Any, block: Any, order: list[Any]) -> Operand:
    """Return how the blocks, in the order in which they begin, use an operand of ``size`` bytes."""
    everything = np.unique(address)
    step = float(np.diff(everything).min()) if len(everything) > 1 else float(size)
    sets = [np.unique(address[block == b]) for b in order]
    sets = [found for found in sets if len(found)]
    touched = min(float(np.mean([len(found) for found in sets])) * step / size, 1.0)
    pairs = [len(np.intersect1d(now, before, assume_unique=True)) / len(now) for before, now in pairwise(sets)]
    shared = float(np.mean(pairs)) if pairs else 0.0
    return Operand(label, float(size), 100 * touched, 100 * shared)


def reading(panel: Panel) -> str:
    """Return what a thread block touches of each operand and, of that, what the block before touched; alike ones together."""
    text = f"One block touches {_grouped([(o.name, o.touched_pct) for o in panel.operands])}."
    if panel.blocks == 1:
        return text
    return f"{text} Of that, the block before touched {_grouped([(o.name, o.shared_pct) for o in panel.operands])}."


def _grouped(shares: list[tuple[str, float]]) -> str:
    groups: dict[str, list[str]] = {}
    for label, share in sorted(shares, key=lambda item: -item[1]):
        much = "all" if share >= NEARLY_ALL else "none" if share <= NOTHING else percent(share)
        groups.setdefault(much, []).append(label)
    return _listed([f"{much} of {_listed(labels)}" for much, labels in groups.items()])


def _listed(texts: list[str]) -> str:
    """Return texts as a list in words; its own commas are enough where the parts hold lists themselves."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
