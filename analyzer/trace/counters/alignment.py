"""Aligns two sequences of keys: the heaviest common subsequence, exactly where it is small enough, else halved first.

The counted launches and those of the trace are nearly the same sequence, with the same few kernels over and over. Equal ends
are cut off. What is left is solved exactly by dynamic programming, a row at a time. Where that would take too long it is cut in
two as Hirschberg does (CACM 18, 1975), with the lengths from Hyyrö's bit-parallel recurrence (2004): a whole row of the table
is one integer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
_EXACT_CELLS = 4_000_000
MAX_CELLS = 4_000_000_000
"""Some 60,000 launches against as many, after equal ends are cut off: seconds. Larger ones are aligned by their ends alone."""


def align(counted: Int64, traced: Int64, weight: Int64) -> tuple[Int64, Int64]:
    """Return (row of ``counted``, row of ``traced``) of the pairs, both ascending; the keys of a pair are equal.

    ``weight`` says what a match of each key is worth, a whole number above 0. The sum is the largest there is, but where the
    sequences have to be halved first: there the number of pairs is.
    """
    return _solve(counted, traced, weight)


def _solve(a: Int64, b: Int64, weight: Int64) -> tuple[Int64, Int64]:
    head = _common(a, b)
    tail = _common(a[head:][::-1], b[head:][::-1])
    inner_a, inner_b = a[head : len(a) - tail], b[head : len(b) - tail]
    rows, columns = _middle(inner_a, inner_b, weight)
    start, end = np.arange(head), np.arange(tail)
    return (
        np.concatenate([start, rows + head, end + len(a) - tail]),
        np.concatenate([start, columns + head, end + len(b) - tail]),
    )


def _common(a: Int64, b: Int64) -> int:
    """Return how many keys are equal from the start on."""
    count = min(len(a), len(b))
    different = a[:count] != b[:count]
    return int(np.argmax(different)) if different.any() else count


def _middle(a: Int64, b: Int64, weight: Int64) -> tuple[Int64, Int64]:
    keep_a, keep_b = np.flatnonzero(np.isin(a, b)), np.flatnonzero(np.isin(b, a))  # what the other side lacks matches nothing
    cells = len(keep_a) * len(keep_b)
    if not cells or cells > MAX_CELLS:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if len(keep_a) < len(a) or len(keep_b) < len(b):
        rows, columns = _solve(a[keep_a], b[keep_b], weight)
        return keep_a[rows], keep_b[columns]
    if cells <= _EXACT_CELLS or len(a) < 2:
        return _exact(a, b, weight)
    half = len(a) // 2
    before, after = _lengths(a[:half], b), _lengths(a[half:][::-1], b[::-1])[::-1]
    cut = int(np.argmax(before + after))
    one, two = _solve(a[:half], b[:cut], weight), _solve(a[half:], b[cut:], weight)
    return np.concatenate([one[0], two[0] + half]), np.concatenate([one[1], two[1] + cut])


def _lengths(a: Int64, b: Int64) -> Int64:
    """Return the length of the longest common subsequence of ``a`` and the first 0, 1, ... of ``b``."""
    where = {int(key): int.from_bytes(np.packbits(b == key, bitorder="little").tobytes(), "little") for key in np.unique(b)}
    full = (1 << len(b)) - 1
    row = full
    for key in a.tolist():
        met = row & where.get(key, 0)
        row = ((row + met) | (row - met)) & full
    bits = np.frombuffer(row.to_bytes(len(b) // 8 + 1, "little"), np.uint8)
    steps = 1 - np.unpackbits(bits, bitorder="little")[: len(b)].astype(np.int64)
    return np.concatenate([[0], np.cumsum(steps)])


def _exact(a: Int64, b: Int64, weight: Int64) -> tuple[Int64, Int64]:
    """Return the pairs of the heaviest common subsequence.

    best[i, j] = max(best[i-1, j], best[i, j-1], best[i-1, j-1] + weight where a[i] = b[j]); the second is a running maximum.
    """
    row = np.zeros(len(b) + 1, np.int64)
    from_above, from_left = np.zeros((len(a), len(b)), bool), np.zeros((len(a), len(b)), bool)
    for i, key in enumerate(a.tolist()):
        new = row.copy()
        new[1:] = np.where(b == key, np.maximum(row[:-1] + weight[key], row[1:]), row[1:])
        np.maximum.accumulate(new, out=new)
        from_above[i], from_left[i] = new[1:] == row[1:], new[1:] == new[:-1]
        row = new
    rows, columns = [], []
    i, j = len(a) - 1, len(b) - 1
    while i >= 0 and j >= 0:
        if from_above[i, j]:
            i -= 1
        elif from_left[i, j]:
            j -= 1
        else:
            rows.append(i)
            columns.append(j)
            i, j = i - 1, j - 1
    return np.array(rows[::-1], np.int64), np.array(columns[::-1], np.int64)
