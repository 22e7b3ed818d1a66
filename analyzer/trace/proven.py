"""Which partners of a sequence are the same in every best alignment with another one, and not only in one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analyzer.trace.spans import Int64

MAX_CELLS = 150_000_000
"""Pairs of places that one alignment may look at, some 12,000 kernels against as many: a few seconds."""

MAX_WEIGHT = 10**13
"""What one pair may be worth: sums over all pairs of an alignment stay whole numbers of 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """For each place of a sequence its ``partner`` in one best alignment (-1 without), and whether it is ``certain``.

    ``certain``: every best alignment gives the place a partner, and all these partners have the same label. ``cells`` were
    looked at; ``exact`` is False where that would have been too many, so that only the surroundings of unique keys count.
    """

    partner: Int64
    certain: npt.NDArray[np.bool_]
    cells: int
    exact: bool = True


def prove(one: Int64, other: Int64, weight: Int64, label: Int64, max_cells: int = MAX_CELLS) -> Proof:
    """Return which places of ``one`` have a partner in ``other`` that no best alignment disputes.

    An alignment pairs places with equal keys and keeps the order of both sides; a best one has the largest sum of weights. All
    of them are looked at, by the best sums from the start and from the end: a pair is in one of them if the best sum before
    it, its own weight and the best sum behind it make the best sum of all; a place can be left out if the best sums before and
    behind it do. Rows of sums from the end are kept at intervals and computed again, so memory stays far below one number per
    pair.

    Args:
        one: key of each place, from 0 on.
        other: key of each place of the other sequence.
        weight: what a pair of each key is worth, whole numbers from 1 to MAX_WEIGHT.
        label: of each place of ``other``: places with the same label are as good as one another.
        max_cells: above so many pairs of places, keys that occur once on both sides and cross no other of their sort are taken
            as paired, and what lies between two of them is aligned by itself, or left out where it is too long as well.
    """
    if np.array_equal(one, other):  # as many on both sides and all of them paired: there is no second way
        return Proof(np.arange(len(one), dtype=np.int64), np.ones(len(one), bool), len(one))
    keep_one, keep_other = np.flatnonzero(np.isin(one, other)), np.flatnonzero(np.isin(other, one))
    partner, certain = np.full(len(one), -1, np.int64), np.zeros(len(one), bool)
    a, b = one[keep_one], other[keep_other]
    cells = len(a) * len(b)
    exact = cells <= max_cells
    found, sure = _exact(a, b, weight, label[keep_other]) if exact else _anchored(a, b, weight, label[keep_other], max_cells)
    has = found >= 0
    partner[keep_one[has]] = keep_other[found[has]]
    certain[keep_one] = sure
    return Proof(partner, certain, min(cells, max_cells), exact)


def _places(keys: Int64) -> dict[int, Int64]:
    """Return where each key stands, in order."""
    order = np.argsort(keys, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    return dict(zip(unique.tolist(), np.split(order, first[1:]), strict=True))


def _backward(row: Int64, at: Int64, worth: int) -> Int64:
    """Return the best sums from one place further ahead on; ``row[j]``: from place j of the other sequence on."""
    new = row.copy()
    new[at] = np.maximum(new[at], row[at + 1] + worth)
    return np.asarray(np.maximum.accumulate(new[::-1])[::-1], np.int64)


def _forward(row: Int64, at: Int64, worth: int) -> Int64:
    """Return the best sums up to one place more; ``row[j]``: with the first j places of the other sequence."""
    new = row.copy()
    new[at + 1] = np.maximum(new[at + 1], row[at] + worth)
    return np.asarray(np.maximum.accumulate(new), np.int64)


def _exact(a: Int64, b: Int64, weight: Int64, label: Int64) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Return the partners of ``a`` in one best alignment, and which of them are certain; every key is on both sides."""
    partner, certain = np.full(len(a), -1, np.int64), np.zeros(len(a), bool)
    if not len(a) or not len(b):
        return partner, certain
    keys, places, stride = a.tolist(), _places(b), max(1, int(len(a) ** 0.5))
    worth = weight.tolist()
    row = np.zeros(len(b) + 1, np.int64)
    kept = {len(a): row}  # the sums from place i of a on, for some i
    for i in range(len(a) - 1, -1, -1):
        row = _backward(row, places[keys[i]], worth[keys[i]])
        if i % stride == 0:
            kept[i] = row
    best, ahead, taken = int(row[0]), np.zeros(len(b) + 1, np.int64), 0
    for start in range(0, len(a), stride):
        end = min(start + stride, len(a))
        rows = [kept[end]]
        for i in range(end - 1, start, -1):
            rows.append(_backward(rows[-1], places[keys[i]], worth[keys[i]]))
        for i, behind in zip(range(start, end), reversed(rows), strict=True):
            at, own = places[keys[i]], worth[keys[i]]
            possible = at[ahead[at] + own + behind[at + 1] == best]
            skipped = int((ahead + behind).max()) == best
            certain[i] = not skipped and bool((label[possible] == label[possible[0]]).all())
            free = at[at >= taken]  # one alignment among the best: always the first partner that leaves the sum whole
            left = int(max(behind[taken], (behind[free + 1] + own).max())) if len(free) else 0
            free = free[behind[free + 1] + own == left] if len(free) else free
            if len(free):
                partner[i], taken = int(free[0]), int(free[0]) + 1
            ahead = _forward(ahead, at, own)
    return partner, certain


def _anchored(a: Int64, b: Int64, weight: Int64, label: Int64, max_cells: int) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Return the same for sequences that are too long: around keys that are unique on both sides."""
    partner, certain = np.full(len(a), -1, np.int64), np.zeros(len(a), bool)
    here, there = _places(a), _places(b)
    single = sorted((int(here[k][0]), int(there[k][0])) for k in here if len(here[k]) == 1 == len(there[k]))
    rows, columns = (np.array(side, np.int64) for side in zip(*single, strict=True)) if single else (np.empty(0, np.int64),) * 2
    before = np.maximum.accumulate(np.concatenate([[-1], columns]))[:-1]
    behind = np.minimum.accumulate(np.concatenate([columns, [len(b)]])[::-1])[::-1][1:]
    straight = (before < columns) & (columns < behind)
    rows, columns = rows[straight], columns[straight]
    partner[rows], certain[rows] = columns, True
    edges = zip(
        [-1, *rows.tolist()], [*rows.tolist(), len(a)], [-1, *columns.tolist()], [*columns.tolist(), len(b)], strict=True
    )
    left = max_cells
    for top, bottom, first, last in edges:
        cells = (bottom - top - 1) * (last - first - 1)
        if not 0 < cells <= left:
            continue
        left -= cells
        part = prove(a[top + 1 : bottom], b[first + 1 : last], weight, label[first + 1 : last], cells)
        has = part.partner >= 0
        partner[top + 1 : bottom] = np.where(has, part.partner + first + 1, -1)
        certain[top + 1 : bottom] = part.certain
    return partner, certain
