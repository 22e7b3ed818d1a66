"""Interval algebra and latency intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.metrics.timing import exclusive_ns, gaps, latency, ratio, union_ns

intervals = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), max_size=30).map(
    lambda found: (np.array([s for s, _ in found], np.int64), np.array([s + d for s, d in found], np.int64))
)


def _covered(start: np.ndarray, end: np.ndarray) -> set[int]:
    return {t for s, e in zip(start, end, strict=True) for t in range(s, e)}


@given(intervals)
def test_union_is_the_set_of_covered_moments(found: tuple[np.ndarray, np.ndarray]) -> None:
    assert union_ns(*found) == len(_covered(*found))


@given(intervals)
def test_gaps_are_the_rest_of_the_window(found: tuple[np.ndarray, np.ndarray]) -> None:
    begin, stop = gaps(*found, (20, 150))
    assert sorted(t for s, e in zip(begin, stop, strict=True) for t in range(s, e)) == sorted(
        set(range(20, 150)) - _covered(*found)
    )


@given(intervals)
def test_exclusive_times_add_up_to_the_union_and_share_overlaps(found: tuple[np.ndarray, np.ndarray]) -> None:
    start, end = found
    own = exclusive_ns(start, end, np.arange(len(start)), len(start))
    assert own.sum() == pytest.approx(union_ns(start, end), abs=1e-6)
    counts = np.zeros(300)
    for s, e in zip(start, end, strict=True):
        counts[s:e] += 1
    expected = [sum(1 / counts[t] for t in range(s, e)) for s, e in zip(start, end, strict=True)]
    assert own == pytest.approx(np.array(expected), abs=1e-6)


def _timings(groups: list[list[float]], traced: tuple[float, ...] = ()) -> pd.DataFrame:
    rows = [("untraced", r, i, 0, v) for r, g in enumerate(groups) for i, v in enumerate(g)]
    rows += [("traced", 0, i, 0, v) for i, v in enumerate(traced)]
    return pd.DataFrame(rows, columns=["pass", "repeat", "iteration", "start_unix_ns", "latency_ms"])


def test_latency_is_the_untraced_median_with_an_interval_that_holds_it() -> None:
    found = latency(_timings([[10.0, 11.0, 12.0, 30.0, 11.5] * 3], traced=(15.0, 16.0, 17.0)))
    assert found is not None
    median = found.median_ms
    assert median.value == 11.5
    assert median.low is not None
    assert median.high is not None
    assert 10 <= median.low <= 11.5 <= median.high <= 30
    assert found.traced_ms.value == 16.0
    assert latency(_timings([], traced=(1.0,))) is None


def test_too_few_iterations_give_no_interval() -> None:
    few, many = latency(_timings([[1.0] * 9])), latency(_timings([[2.0] * 10]))
    assert few is not None
    assert many is not None
    assert (few.median_ms.low, few.median_ms.high) == (None, None)
    assert many.median_ms.low == 2.0
    assert ratio(few, many).low is None


def test_several_processes_widen_the_interval() -> None:
    calm = [10.0, 10.1, 9.9, 10.0, 10.05] * 4
    one = latency(_timings([calm * 3]))
    three = latency(_timings([calm, [v * 1.2 for v in calm], [v * 0.9 for v in calm]]))
    assert one is not None
    assert three is not None
    assert three.processes == 3
    assert three.median_ms.high - three.median_ms.low > 5 * (one.median_ms.high - one.median_ms.low)  # type: ignore[operator]


def test_ratio_interval() -> None:
    a, b = latency(_timings([[20.0, 20.2, 19.8] * 5])), latency(_timings([[10.0, 10.1, 9.9] * 5]))
    assert a is not None
    assert b is not None
    found = ratio(a, b)
    assert found.value == pytest.approx(2.0)
    assert found.low is not None
    assert found.high is not None
    assert 1.9 < found.low <= 2.0 <= found.high < 2.1
