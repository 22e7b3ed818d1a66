"""What every best alignment agrees on, against all alignments tried one by one."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.trace.proven import MAX_WEIGHT, Proof, prove
from analyzer.trace.spans import Int64
from tests.trace.replays import K, adopted, reference, replays, told


def _prove(one: list[int], other: list[int], weight: list[int], label: list[int], **limits: int) -> Proof:
    def numbers(values: list[int]) -> Int64:
        return np.array(values, np.int64)

    return prove(numbers(one), numbers(other), numbers(weight), numbers(label), **limits)


def _best(one: list[int], other: list[int], weight: list[int]) -> list[dict[int, int]]:
    """Return every alignment with the largest sum of weights: all choices of places on either side, tried one by one."""
    found: list[tuple[int, dict[int, int]]] = []
    for n in range(min(len(one), len(other)) + 1):
        for left in combinations(range(len(one)), n):
            for right in combinations(range(len(other)), n):
                if all(one[i] == other[j] for i, j in zip(left, right, strict=True)):
                    found.append((sum(weight[one[i]] for i in left), dict(zip(left, right, strict=True))))
    most = max(total for total, _ in found)
    return [pairs for total, pairs in found if total == most]


def _certain(one: list[int], best: list[dict[int, int]], label: list[int]) -> list[bool]:
    return [all(i in pairs for pairs in best) and len({label[pairs[i]] for pairs in best}) == 1 for i in range(len(one))]


keys = st.lists(st.integers(0, 3), max_size=6)
weights = st.lists(st.integers(1, 3), min_size=4, max_size=4)


@settings(max_examples=400, deadline=None)
@given(keys, keys, weights, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_what_is_certain_is_what_all_best_alignments_agree_on(
    one: list[int], other: list[int], weight: list[int], label: list[int]
) -> None:
    best = _best(one, other, weight)
    proof = _prove(one, other, weight, label[: len(other)])
    assert proof.certain.tolist() == _certain(one, best, label)
    assert proof.exact
    assert {i: j for i, j in enumerate(proof.partner.tolist()) if j >= 0} in best


@settings(max_examples=200, deadline=None)
@given(keys, keys, weights)
def test_the_other_side_may_be_asked_as_well(one: list[int], other: list[int], weight: list[int]) -> None:
    """With a label for each place, the certain pairs are those of every best alignment, so both sides have the same."""
    there = _prove(one, other, weight, list(range(len(other))))
    back = _prove(other, one, weight, list(range(len(one))))
    pairs = {(i, int(there.partner[i])) for i in np.flatnonzero(there.certain).tolist()}
    assert pairs == {(int(back.partner[j]), j) for j in np.flatnonzero(back.certain).tolist()}


def _edited(draw: st.DrawFn, model: list[int]) -> list[int]:
    """Return a model with a few kernels dropped, repeated or moved."""
    out = list(model)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(out) - 1))
        change = draw(st.sampled_from(("drop", "repeat", "move")))
        if change == "drop" and len(out) > 1:
            del out[at]
        elif change == "repeat":
            out.insert(at, out[at])
        else:
            out.insert(draw(st.integers(0, len(out) - 1)), out.pop(at))
    return out


@lru_cache(maxsize=1)
def _layers() -> list[int]:
    """Return the keys of a model of 12 equal blocks of 8 kernels, of which some are equal in a block too."""
    return [0, *[key for _ in range(12) for key in (1, 2, 3, 2, 1, 2, 4, 2)], 5, 6]


@st.composite
def replayed(draw: st.DrawFn) -> list[int]:
    """Return the kernels of a replay of that model, not quite as they should be."""
    return _edited(draw, _layers())


def _by_rows(one: list[int], other: list[int], weight: list[int]) -> list[bool]:
    """Return which places of ``one`` have one partner in all best alignments, from whole tables of sums."""
    n, m = len(one), len(other)
    head, tail = [[0] * (m + 1) for _ in range(n + 1)], [[0] * (m + 1) for _ in range(n + 1)]
    for i in range(n):
        for j in range(m):
            pair = head[i][j] + weight[one[i]] if one[i] == other[j] else 0
            head[i + 1][j + 1] = max(head[i][j + 1], head[i + 1][j], pair)
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            pair = tail[i + 1][j + 1] + weight[one[i]] if one[i] == other[j] else 0
            tail[i][j] = max(tail[i + 1][j], tail[i][j + 1], pair)
    out = []
    for i in range(n):
        skipped = any(head[i][j] + tail[i + 1][j] == head[n][m] for j in range(m + 1))
        pairs = [j for j in range(m) if one[i] == other[j] and head[i][j] + weight[one[i]] + tail[i + 1][j + 1] == head[n][m]]
        out.append(not skipped and len(pairs) == 1)
    return out


@settings(max_examples=25, deadline=None)
@given(replayed())
def test_a_model_of_equal_blocks_with_a_few_kernels_changed(one: list[int]) -> None:
    weight = [7, 3, 40, 20, 11, 2, 1]
    proof = _prove(one, _layers(), weight, list(range(len(_layers()))))
    assert proof.certain.tolist() == _by_rows(one, _layers(), weight)


def test_equal_sequences_have_one_alignment_however_much_they_repeat() -> None:
    proof = _prove([1] * 50, [1] * 50, [1, 1], list(range(50)))
    assert proof.certain.all()
    assert proof.partner.tolist() == list(range(50))
    assert not _prove([1] * 49, [1] * 50, [1, 1], list(range(50))).certain.any()


def test_an_empty_side_has_no_partner() -> None:
    assert _prove([], [1, 2], [1] * 3, [0, 1]).certain.tolist() == []
    proof = _prove([1, 2], [], [1] * 3, [])
    assert (proof.partner.tolist(), proof.certain.tolist()) == ([-1, -1], [False, False])


def test_the_largest_weights_do_not_overflow() -> None:
    count = 300
    proof = _prove([*range(count)], [*range(1, count)], [MAX_WEIGHT] * count, [*range(count)])
    assert proof.certain.tolist() == [False, *[True] * (count - 1)]


def test_what_is_too_long_is_aligned_around_keys_that_are_unique() -> None:
    """Three unique keys, between them [1, 1] against [1, 1] and [2] against [2, 2]; the last crosses nothing."""
    one, other = [7, 1, 1, 8, 2, 9], [7, 1, 1, 8, 2, 2, 9]
    label = list(range(len(other)))
    exact, bounded = _prove(one, other, [1] * 10, label), _prove(one, other, [1] * 10, label, max_cells=10)
    assert exact.certain.tolist() == [True, True, True, True, False, True]
    assert (bounded.certain.tolist(), bounded.partner.tolist()) == (exact.certain.tolist(), [0, 1, 2, 3, 4, 6])
    assert (exact.exact, bounded.exact) == (True, False)


def test_a_unique_key_that_crosses_another_is_no_anchor_and_a_long_gap_stays_empty() -> None:
    one, other = [7, 8, 1, 1, 1, 9, 2], [8, 7, 1, 1, 1, 1, 9, 2]
    proof = _prove(one, other, [1] * 10, list(range(8)), max_cells=4)
    assert proof.certain.tolist() == [False] * 5 + [True, True]
    assert proof.partner.tolist() == [-1] * 5 + [6, 7]


@settings(max_examples=100, deadline=None)
@given(keys, keys, weights, st.integers(0, 20))
def test_a_bound_never_makes_pairs_cross(one: list[int], other: list[int], weight: list[int], bound: int) -> None:
    proof = _prove(one, other, weight, [0] * len(other), max_cells=bound)
    pairs = [(i, j) for i, j in enumerate(proof.partner.tolist()) if j >= 0]
    assert [j for _, j in pairs] == sorted({j for _, j in pairs})
    assert all(one[i] == other[j] for i, j in pairs)


names = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(names, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=5))
def test_traces_get_what_all_best_alignments_agree_on(one: list[int], other: list[tuple[int, int]]) -> None:
    """From files to modules: kernels k0, k1 and k2 of 10, 20 and 35 µs, launched from two modules."""
    time = [10, 20, 35]
    with tempfile.TemporaryDirectory() as folder:
        graphed = replays([[K(f"k{key}", time[key]) for key in one]])
        without = reference([K(f"k{key}", time[key], module=f"m{module}") for key, module in other])
        modules = told(adopted(Path(folder), graphed, without)[0])
    label = [module for _, module in other]
    best = _best(one, [key for key, _ in other], time)
    accepted = 2 * sum(time[one[i]] for i in best[0]) >= sum(time[key] for key in one)
    sure = _certain(one, best, label) if accepted else [False] * len(one)
    assert modules == [f"m{label[best[0][i]]}" if known else "" for i, known in enumerate(sure)]
