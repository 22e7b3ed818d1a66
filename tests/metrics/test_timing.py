"""Interval algebra and latency intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.metrics.timing import Latency, difference, draw, exclusive_ns, gaps, interval_of, latency, ratio, union_ns

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


def _of_processes(*medians_ms: float, seed: int = 3, noise: float = 0.01) -> Latency:
    """Return a latency of twenty iterations in each of the processes with these medians."""
    rng = np.random.default_rng(seed)
    found = latency(_timings([(ms * np.exp(rng.normal(0, noise, 20))).tolist() for ms in medians_ms]))
    assert found is not None
    return found


def _ends(a: Latency, b: Latency) -> tuple[float, float]:
    found = ratio(a, b)
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def _tail(t: float, freedom: float) -> float:
    """Return the area of the density of Student's t beyond ``t``, by the trapezoidal rule."""
    x = t * np.logspace(0, 6, 200_001)
    peak = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = peak * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    return float((np.diff(x) * (density[1:] + density[:-1]) / 2).sum())


def test_few_processes_have_the_t_interval_of_their_medians() -> None:
    a, b = _of_processes(1624.0, 1580.0, 241.0, noise=0.0), _of_processes(237.0, 210.0, 232.0, noise=0.0)
    # by hand: variance of the means of the logarithms 0.3978 + 0.0014, 2.014 degrees of freedom, for which t is 4.274
    logs = [np.log([1624.0, 1580.0, 241.0]), np.log([237.0, 210.0, 232.0])]
    parts = [each.var(ddof=1) / 3 for each in logs]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    assert freedom == pytest.approx(2.014, abs=1e-3)
    t = 4.274
    assert _tail(t, freedom) == pytest.approx(0.025, rel=1e-3)
    half = t * np.sqrt(sum(parts))
    value = ratio(a, b).value
    assert value == pytest.approx(1580 / 232)
    assert _ends(a, b) == pytest.approx((value * np.exp(-half), value * np.exp(half)), rel=1e-3)


@pytest.mark.parametrize("processes", [1, 6])
def test_one_process_and_many_have_the_bootstrap_interval(processes: int) -> None:
    shifts = np.linspace(0.95, 1.05, processes) if processes > 1 else np.ones(1)
    a, b = _of_processes(*(20 * shifts)), _of_processes(*(10 * shifts), seed=4)
    assert _ends(a, b) == interval_of(draw(a.samples) / draw(b.samples))
    assert ratio(a, b).source == "ratio of the medians, bootstrap 95 % interval"


@pytest.mark.parametrize("processes", [1, 3, 6])
def test_the_order_of_two_runs_turns_their_interval_round(processes: int) -> None:
    shifts = np.linspace(0.95, 1.05, processes) if processes > 1 else np.ones(1)
    a, b = _of_processes(*(20 * shifts)), _of_processes(*(10 * shifts), seed=4)
    low, high = _ends(a, b)
    assert _ends(b, a) == pytest.approx((1 / high, 1 / low), rel=1e-4)  # a percentile lies between two draws


def test_the_same_times_twice_are_no_certainty() -> None:
    a = _of_processes(10.0, noise=0.1)
    low, high = _ends(a, a)
    assert low < 0.99
    assert high > 1.01


def test_processes_that_disagree_beyond_any_sense_have_a_wide_interval_and_say_so() -> None:
    a, b = _of_processes(1.0, 1000.0), _of_processes(1.0, 1.1)
    found = ratio(a, b)
    assert found.value is not None
    assert _ends(a, b) == pytest.approx((found.value / 1e3, found.value * 1e3))
    assert "cut off at a factor of a thousand" in found.source


@pytest.mark.parametrize("processes", [1, 3])
def test_a_difference_and_its_ratio_say_the_same(processes: int) -> None:
    for seed in range(20):
        shifts = np.linspace(0.98, 1.02, processes) if processes > 1 else np.ones(1)
        a, b = (
            _of_processes(*(10.1 * shifts), seed=seed, noise=0.03),
            _of_processes(*(10 * shifts), seed=seed + 100, noise=0.03),
        )
        ends = difference(a, b)
        assert ends is not None
        low, high = _ends(a, b)
        assert (ends[0] <= 0 <= ends[1]) == (low <= 1 <= high)
        assert a.median_ms.value is not None
        assert b.median_ms.value is not None
        assert ends[0] <= a.median_ms.value - b.median_ms.value <= ends[1]


def test_groups_of_one_length_and_of_several_are_resampled_alike() -> None:
    rng = np.random.default_rng(5)
    groups = [np.exp(rng.normal(shift, 0.1, 30)) for shift in (0.0, 0.1, 0.3)]
    one, other = (draw(tuple(tuple(map(float, each)) for each in found)) for found in (groups, [groups[0][:-1], *groups[1:]]))
    assert interval_of(one) == pytest.approx(interval_of(other), rel=0.03)
    assert float(np.std(one)) == pytest.approx(float(np.std(other)), rel=0.15)
