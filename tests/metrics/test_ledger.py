"""Every launch splits into parts that add up to its time, each where it belongs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.analysis import analyze
from analyzer.hardware.lookup import sheet_of
from analyzer.metrics.ledger import missing_terms, split_launches, sum_terms
from analyzer.metrics.limits import Limits
from analyzer.schema.ledger import KERNEL_TERMS
from analyzer.schema.run import Ceiling, DeviceFacts
from analyzer.trace.kinds import KINDS, ROLES

H100 = Limits(DeviceFacts(type="cuda", name="H100", vendor="NVIDIA", compute_capability="9.0"), sheet_of("h100_sxm5_80gb"), "")
NAN = math.nan


def launch(**given: Any) -> dict[str, Any]:
    """A convolution of 100 µs whose floor is 40 µs by arithmetic, on matrix units and full multiprocessors."""
    length = given.get("exclusive_us", 100.0)
    row = {
        "kind": "convolution", "role": "dense math", "category": "kernel", "exclusive_us": 100.0, "dur_ns": round(length * 1000),
        "basis": "formula", "floor_us": 40.0, "floor_compute_us": 40.0, "floor_memory_us": 10.0, "flop": 1e9, "unit": "matrix",
        "number_format": "bfloat16", "dtype": "bfloat16", "product": True, "excess_low_us": NAN, "excess_high_us": NAN,
        "blocks_per_sm": 8.0, "tail_efficiency_pct": 100.0,
    }  # fmt: skip
    return row | given


def parts(clock: float | None = None, **given: Any) -> dict[str, float]:
    """Return the parts of one launch that are not zero."""
    split = split_launches(pd.DataFrame([launch(**given)]), H100, clock)
    return {term: pytest.approx(float(value[0])) for term, value in split.value.items() if value[0]}


def test_a_launch_above_its_floor() -> None:
    assert parts() == {"work": 40, "residual": 60}


def test_more_bytes_than_compulsory_are_locality_in_the_middle_of_their_band() -> None:
    assert parts(excess_low_us=4.0, excess_high_us=8.0) == {"work": 40, "locality": 6, "residual": 54}
    split = split_launches(pd.DataFrame([launch(excess_low_us=4.0, excess_high_us=8.0)]), H100)
    assert (split.low["locality"][0], split.high["locality"][0]) == (4, 8)
    assert (split.low["residual"][0], split.high["residual"][0]) == (52, 56)


def test_locality_is_no_more_than_what_is_above_the_floor_as_far_as_its_band_allows() -> None:
    assert parts(exclusive_us=45.0, excess_low_us=4.0, excess_high_us=8.0) == {"work": 40, "locality": 5}
    assert parts(exclusive_us=41.0, excess_low_us=4.0, excess_high_us=8.0) == {"work": 40, "locality": 4, "cached": -3}


def test_a_launch_that_shares_its_time_has_its_share_of_every_part() -> None:
    # 100 us, of which others run in half: no part of it is negative, as it would be with the whole floor against half of the time
    assert parts(exclusive_us=50.0, dur_ns=100_000) == {"work": 20, "residual": 30}


def test_measured_ceilings_give_the_floor_their_band() -> None:
    ceiling = Ceiling(name="matmul", unit="TFLOP/s", dtype="bfloat16", value=500.0, low=400.0, high=625.0, n=9)
    limits = replace(H100, ceilings=(ceiling,))
    split = split_launches(pd.DataFrame([launch()]), limits)
    assert (split.low["work"][0], split.value["work"][0], split.high["work"][0]) == pytest.approx((32, 40, 50))
    assert (split.low["residual"][0], split.high["residual"][0]) == pytest.approx((50, 68))


def test_what_cannot_be_told_is_missing_and_not_zero() -> None:
    whole = launch(excess_low_us=0.0, excess_high_us=1.0)
    assert missing_terms(pd.DataFrame([whole]), H100, 1700.0) == ()
    assert missing_terms(pd.DataFrame([launch(blocks_per_sm=NAN)]), H100) == ("locality", "tail", "clock")
    assert missing_terms(pd.DataFrame([launch(floor_us=NAN)]), H100, 1700.0) == ("work", "locality")


def test_partial_waves_take_at_least_the_quantised_share_and_never_more_than_is_above_the_floor() -> None:
    # 1.5 blocks per multiprocessor: the fullest has 2, so a quarter of 100 µs is lost; by whole waves 62.5 %
    assert parts(blocks_per_sm=1.5, tail_efficiency_pct=37.5) == {"work": 40, "tail": 25, "residual": 35}
    split = split_launches(pd.DataFrame([launch(blocks_per_sm=1.5, tail_efficiency_pct=37.5)]), H100)
    assert (split.high["tail"][0], split.low["residual"][0]) == (60, 0)  # 62.5 µs, but only 60 are above the floor
    assert parts(blocks_per_sm=0.1, tail_efficiency_pct=10.0) == {"work": 40, "tail": 60}
    assert parts(blocks_per_sm=1.0, tail_efficiency_pct=50.0) == {
        "work": 40,
        "residual": 60,
    }  # every multiprocessor has a block


def test_half_precision_on_vector_units_pays_the_difference_of_the_floors() -> None:
    # 1e12 FLOP: 1,010 µs on the matrix units of an H100 (989.4 TFLOP/s), 7,468 µs on its vector units (133.8)
    matrix = 1e12 / 989.4e6
    found = parts(
        unit="vector", number_format="float32", floor_us=9000.0, floor_compute_us=9000.0, exclusive_us=9500.0, flop=1e12
    )
    assert found["work"] == pytest.approx(matrix, rel=0.01)
    assert found["work"].expected + found["vector"].expected == pytest.approx(9000)
    assert found["residual"] == 500


def test_vector_work_that_is_no_product_has_no_matrix_unit_to_miss() -> None:
    assert parts(unit="vector", number_format="float32", product=False, kind="pointwise") == {"work": 40, "residual": 60}


def test_less_than_the_floor_is_bytes_from_a_cache_as_far_as_the_cache_is_large() -> None:
    # 30 µs for a memory floor of 50 µs and 10 µs of arithmetic: the L2 (50 MiB) could have saved up to 31 µs
    assert parts(exclusive_us=30.0, floor_us=50.0, floor_memory_us=50.0, floor_compute_us=10.0) == {"work": 50, "cached": -20}
    # arithmetic cannot come from a cache
    assert parts(exclusive_us=30.0, floor_us=50.0, floor_memory_us=45.0, floor_compute_us=50.0) == {"work": 50, "residual": -20}


def test_a_slow_clock_lengthens_arithmetic_alone() -> None:
    quoted = H100.sheet.peak_clock_mhz if H100.sheet else 0.0
    assert quoted
    assert parts(clock=quoted / 1.25) == {"work": 40, "clock": 10, "residual": 50}
    assert parts(clock=quoted * 1.1) == {"work": 40, "residual": 60}
    assert parts(clock=quoted / 1.25, floor_compute_us=5.0, floor_memory_us=40.0) == {"work": 40, "residual": 60}


def test_a_short_kernel_pays_its_start_and_end_before_any_partial_wave() -> None:
    assert parts(exclusive_us=3.0, floor_us=0.1, floor_compute_us=0.1, floor_memory_us=0.1, blocks_per_sm=0.01) == {
        "work": 0.1, "short": 2.9,
    }  # fmt: skip


def test_short_kernels_and_movers_and_the_unknown() -> None:
    assert parts(exclusive_us=4.0, dur_ns=4000, floor_us=1.0, floor_compute_us=1.0, floor_memory_us=0.5) == {
        "work": 1,
        "short": 3,
    }
    assert parts(kind="layout") == {"copies": 100}
    assert parts(kind="transfer", basis="none", floor_us=NAN, category="memcpy") == {"copies": 100}
    assert parts(basis="none", floor_us=NAN) == {"no_model": 100}
    assert parts(floor_us=NAN) == {"no_floor": 100}


floats = st.floats(0, 1e5)
rows = st.builds(
    launch,
    kind=st.sampled_from(KINDS),
    category=st.sampled_from(("kernel", "memcpy", "operator")),
    exclusive_us=st.just(0.0),
    dur_ns=st.integers(0, 10**8),
    basis=st.sampled_from(("formula", "helper", "view", "generic", "none")),
    floor_us=st.one_of(floats, st.just(NAN)),
    floor_compute_us=st.one_of(floats, st.just(NAN)),
    floor_memory_us=st.one_of(floats, st.just(NAN)),
    flop=st.one_of(floats, st.just(NAN)),
    unit=st.sampled_from(("matrix", "vector", "core")),
    number_format=st.sampled_from(("float32", "bfloat16", "tfloat32")),
    dtype=st.sampled_from(("float32", "bfloat16", "")),
    product=st.booleans(),
    excess_low_us=st.one_of(st.floats(0, 50), st.just(NAN)),
    excess_high_us=st.floats(50, 1e5),
    blocks_per_sm=st.one_of(st.floats(0.001, 100), st.just(NAN)),
    tail_efficiency_pct=st.one_of(st.floats(0.1, 100), st.just(NAN)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, max_size=12), st.one_of(st.none(), st.floats(300, 3000)), st.randoms())
def test_parts_add_up_to_the_time_of_each_launch_in_any_order(
    found: list[dict[str, Any]], clock: float | None, rng: Any
) -> None:
    frame = pd.DataFrame(found, columns=list(launch())).assign(role=[ROLES[row["kind"]] for row in found])
    frame["exclusive_us"] = [rng.random() * row["dur_ns"] / 1e3 for row in found]  # others run at the same time
    split = split_launches(frame, H100, clock)
    assert set(split.value) == set(KERNEL_TERMS)
    assert np.sum(list(split.value.values()), axis=0) == pytest.approx(frame["exclusive_us"].to_numpy(), rel=1e-9, abs=1e-6)
    for term in ("tail", "clock", "short", "copies", "vector", "no_model", "no_floor"):
        assert (split.value[term] >= -1e-9).all(), term
    for term, low in split.low.items():
        assert (low <= split.value[term] + 1e-6).all(), term
        assert (split.high[term] >= split.value[term] - 1e-6).all(), term
    order = list(range(len(found)))
    rng.shuffle(order)
    one, two = (sum_terms(f, H100, clock).set_index(["kind", "term"])["us"].to_dict() for f in (frame, frame.iloc[order]))
    assert one == pytest.approx(two, rel=1e-9, abs=1e-6)


def test_every_public_trace_splits_exactly(public_traces: Path) -> None:
    for path in sorted(public_traces.glob("*.json.gz")):
        a = analyze(path)
        assert a.terms["us"].sum() + a.totals.idle_us == pytest.approx(a.totals.wall_us, rel=1e-9), path.name
        assert set(a.terms["term"]) <= set(KERNEL_TERMS)
