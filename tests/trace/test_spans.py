"""The innermost span around a moment, against a search thread by thread and against a look at every span."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.trace.spans import Int64, Spans

FEW = settings(max_examples=300, deadline=None)
near = st.integers(0, 12)


def by_thread(spans: Spans, moments: Int64, threads: Int64) -> Int64:
    """Return the same as ``Spans.innermost``: threads one by one, ancestors one by one."""
    found = np.full(len(moments), -1, dtype=np.int64)
    for code in np.unique(spans.thread):
        order, mine = spans.order[spans.thread[spans.order] == code], np.flatnonzero(threads == code)
        position = np.searchsorted(spans.start[order], moments[mine], side="right") - 1
        span = np.where(position >= 0, order[np.maximum(position, 0)], -1)
        while (outside := (span >= 0) & (spans.end[span] < moments[mine])).any():
            span = np.where(outside, spans.parent[span], span)
        found[mine] = span
    return found


def numbers(values: list[tuple[int, ...]], width: int) -> list[Int64]:
    return list(np.array(values, np.int64).reshape(-1, width).T)


@given(
    given_spans=st.lists(st.tuples(near, st.integers(0, 5), st.integers(0, 3)), max_size=25),
    asked=st.lists(st.tuples(st.integers(-2, 20), st.integers(-1, 4)), max_size=25),
)
@FEW
def test_any_spans_give_what_a_search_by_thread_gives(
    given_spans: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    start, length, thread = numbers(given_spans, 3)
    moments, threads = numbers(asked, 2)
    spans = Spans(start, start + length, thread)
    found = spans.innermost(moments, threads)
    assert found.dtype == np.int64
    assert found.tolist() == by_thread(spans, moments, threads).tolist()


def nested(low: int, high: int, depth: int = 3) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Spans within ``low`` and ``high`` that nest, an outer one before those inside it; of no length as well."""
    if depth == 0 or high - low < 1:
        return st.just([])

    def fill(cuts: list[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
        pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
        inside = st.tuples(*(nested(a + 1, b - 1, depth - 1) for a, b in pairs))
        return inside.map(lambda parts: [span for pair, part in zip(pairs, parts, strict=True) for span in (pair, *part)])

    return st.lists(st.integers(low, high), max_size=6, unique=True).map(sorted).flatmap(fill)


@given(
    trees=st.lists(nested(0, 40), max_size=4), asked=st.lists(st.tuples(st.integers(-2, 44), st.integers(0, 4)), max_size=25)
)
@FEW
def test_spans_that_nest_give_the_last_begun_that_has_not_ended(
    trees: list[list[tuple[int, int]]], asked: list[tuple[int, int]]
) -> None:
    flat = [(start, end, thread) for thread, tree in enumerate(trees) for start, end in tree]
    start, end, thread = numbers(flat, 3)
    moments, threads = numbers(asked, 2)
    for moment, code, found in zip(moments, threads, Spans(start, end, thread).innermost(moments, threads), strict=True):
        around = [i for i in range(len(flat)) if thread[i] == code and start[i] <= moment <= end[i]]
        assert found == max(around, key=lambda i: start[i], default=-1)


def test_many_threads_take_no_longer_than_one() -> None:
    count = 100_000
    start = np.arange(count, dtype=np.int64)
    taken = []
    for thread in (np.zeros(count, np.int64), np.arange(count, dtype=np.int64)):
        began = time.process_time()
        assert (Spans(start, start + 1, thread).innermost(start, thread) == start).all()
        taken.append(time.process_time() - began)
    assert taken[1] < 10 * taken[0] + 1
