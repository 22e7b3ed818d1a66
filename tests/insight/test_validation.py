"""Predicted against measured: what is predicted, which half a kernel falls into, what is fitted there, and what is scored."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.insight.validation import validation_of
from analyzer.insight.validation.families import (
    COLD,
    CONVOLUTION,
    ELEMENTWISE,
    EVERY,
    FUSED,
    GEMM,
    GEMM_OPEN,
    LOOP,
    UNMODELLED,
    WARM,
    WARM_AS_COLD,
    family_of,
    inside_target,
    target,
)
from analyzer.insight.validation.fitting import LEAST_KERNELS, fit
from analyzer.insight.validation.halves import halves
from analyzer.insight.validation.items import SMALL_OUTPUT, Item, Parameters, output_is_small, predicted
from analyzer.insight.validation.published import LeftOut
from analyzer.insight.validation.scoring import ENOUGH
from analyzer.insight.validation.validation import NOTHING, SMALL
from analyzer.insight.validation.words import (
    blocks_of,
    headline,
    left_out_lines,
    refit_sentence,
    shipped_rows,
    table_lines,
    uncompared,
    verdict,
)
from analyzer.schema.validation import FIT, FITTED, REFITTED, SCORE, SHIPPED, WHOLE

SHIPPED_ON_GPU = Parameters(1.1, 10e6)


def item(n: int = 0, quantity: str = "dram_read_bytes", measured: float = 110e6, **other: object) -> Item:
    """A kernel that misses 100 MB in L2 and writes 90 MB: reads 110 MB, writes 80 to 90 MB."""
    known = Item(
        run="run", gpu="GPU", family=GEMM, kernel=f"kernel {n}", op="", shapes="", problem=str(n), mode=COLD,
        quantity=quantity, measured=measured, missed=(100e6, 80e6, 120e6), written=90e6, shipped=SHIPPED_ON_GPU,
    )  # fmt: skip
    return replace(known, **other)  # type: ignore[arg-type]


def test_reads_writes_and_their_sum() -> None:
    assert predicted(item(), SHIPPED_ON_GPU) == pytest.approx((110e6, 88e6, 132e6))
    assert predicted(item(quantity="dram_write_bytes"), SHIPPED_ON_GPU) == pytest.approx((85e6, 80e6, 90e6))
    assert predicted(item(quantity="dram_bytes"), SHIPPED_ON_GPU) == pytest.approx((195e6, 168e6, 222e6))
    assert predicted(item(quantity="dram_write_bytes"), Parameters(1.0, 200e6)) == pytest.approx((45e6, 0.0, 90e6))
    fixed = item(quantity="l2_sm_bytes", fixed=(5.0, 4.0, 6.0))
    assert predicted(fixed, SHIPPED_ON_GPU) == predicted(fixed, Parameters(9.0, 9.0)) == (5.0, 4.0, 6.0)


def test_a_warm_kernel_finds_inputs_and_writes_back_what_was_left() -> None:
    reads = item(mode=WARM, found=30e6, before=40e6)
    assert predicted(reads, SHIPPED_ON_GPU) == pytest.approx((80e6, 58e6, 132e6))  # the high end is that of an empty cache
    writes = item(mode=WARM, quantity="dram_write_bytes", found=30e6, before=40e6)
    # as much as L2 may hold goes both ways: in the middle what is written comes out
    assert predicted(writes, SHIPPED_ON_GPU) == pytest.approx((90e6, 80e6, 100e6))
    assert predicted(replace(writes, before=4e6), SHIPPED_ON_GPU) == pytest.approx((87e6, 80e6, 94e6))


def test_launches_that_share_an_operator_share_what_l2_holds_back() -> None:
    half = item(quantity="dram_write_bytes", part=0.5)
    assert predicted(half, SHIPPED_ON_GPU) == pytest.approx((87.5e6, 85e6, 90e6))


def test_writes_of_a_small_output_are_not_scored() -> None:
    assert output_is_small(40e6, SHIPPED_ON_GPU)
    assert not output_is_small(40.1e6, SHIPPED_ON_GPU)


def test_classes_of_kernels() -> None:
    assert family_of("linear", 1.0, "exact") == GEMM
    assert family_of("linear", 2.0, "inferred") == GEMM_OPEN
    assert family_of("linear", 1.0, "assumed") == GEMM_OPEN
    assert family_of("conv3x3", 2.0, "inferred") == CONVOLUTION
    assert family_of("softmax", 1.0, "exact") == ELEMENTWISE
    assert family_of("", math.nan, "") == UNMODELLED


def test_targets_are_those_of_the_access_model() -> None:
    assert target(ELEMENTWISE, "dram_read_bytes", COLD) == (8.0, 15.0)
    assert target(GEMM, "dram_bytes", COLD) == (12.0, 35.0)
    typical, most = target(FUSED, "dram_bytes", WARM) or (0.0, 0.0)
    assert typical == 15.0
    assert math.isnan(most)
    assert target(GEMM_OPEN, "dram_read_bytes", COLD) is None
    assert inside_target(GEMM_OPEN, "dram_read_bytes", COLD) == 85.0
    assert target(FUSED, "dram_read_bytes", LOOP) is None
    assert target(UNMODELLED, "dram_bytes", COLD) is None


QUANTITIES = ("dram_read_bytes", "dram_write_bytes", "l2_sm_bytes")


def kernels(n: int, **other: object) -> list[Item]:
    """Three quantities each of ``n`` kernels on two GPUs and of two classes."""
    return [
        item(i, quantity, gpu=f"GPU {i % 2}", family=(GEMM, FUSED)[i // 2 % 2], fixed=(1e8, 1e8, 1e8), **other)
        for i in range(n)
        for quantity in QUANTITIES
    ]


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_halves_are_even_whatever_the_order_and_the_figures(n: int, order: random.Random) -> None:
    items = kernels(n)
    found = halves(items)
    shuffled = [replace(one, measured=order.uniform(1, 1e9), mode=order.choice((COLD, LOOP))) for one in items]
    order.shuffle(shuffled)
    assert halves(shuffled) == found
    for group in {(one.gpu, one.family) for one in items} | {(one.gpu, "") for one in items}:
        keys = {one.key for one in items if one.gpu == group[0] and group[1] in ("", one.family)}
        sizes = [sum(found[key] == half for key in keys) for half in (FIT, SCORE)]
        assert abs(sizes[0] - sizes[1]) <= 1


def test_all_quantities_and_modes_of_a_kernel_share_a_half() -> None:
    items = [*kernels(20), *kernels(20, mode=LOOP)]
    found = validation_of(items).predictions
    by_kernel: dict[tuple[str, str], set[str]] = {}
    for one in found:
        by_kernel.setdefault((one.gpu, one.kernel), set()).add(one.half)
    assert len(by_kernel) == 20
    assert all(len(own) == 1 for own in by_kernel.values())


@settings(max_examples=50)
@given(st.lists(st.floats(1e6, 1e12), min_size=40, max_size=40))
def test_nothing_that_is_scored_has_a_say_in_the_parameters(figures: list[float]) -> None:
    items = [replace(one, measured=5e7 + 1e6 * i) for i, one in enumerate(kernels(30))]
    half_of = halves(items)
    before = fit(items, half_of)
    changed = [
        replace(one, measured=figures[i % len(figures)]) if half_of[one.key] == SCORE else one for i, one in enumerate(items)
    ]
    after = fit(changed, halves(changed))
    assert {gpu: found.used for gpu, found in after.items()} == {gpu: found.used for gpu, found in before.items()}
    assert all(row.n >= LEAST_KERNELS for found in before.values() for row in found.rows)


def test_parameters_are_recovered() -> None:
    truth = Parameters(1.25, 16e6)
    made = [
        item(i, quantity, missed=(size, size, size), written=size, measured=0.0)
        for i, size in enumerate(range(50_000_000, 250_000_000, 10_000_000))
        for quantity in QUANTITIES[:2]
    ]
    items = [replace(one, measured=predicted(one, truth)[0]) for one in made]
    found = fit(items, halves(items))["GPU"]
    assert found.used.read_overhead == pytest.approx(1.25)
    assert found.used.retained_bytes == pytest.approx(16e6)
    v = validation_of(items)
    again = [p for p in v.predictions if p.half == SCORE]
    assert all(abs(p.refitted_error_pct) < 1e-6 for p in again)
    assert all(math.isnan(p.refitted) for p in v.predictions if p.half == FIT)
    (row,) = [s for s in v.scores if (s.parameters, s.quantity) == (REFITTED, "dram_read_bytes")]
    assert row.half == SCORE
    assert row.median_pct == pytest.approx(0.0, abs=1e-6)
    assert refit_sentence(v).startswith(
        "With parameters fitted on the other half of the kernels: bytes read from DRAM (cold): better"
    )


def test_totals_tell_what_l2_holds_where_no_writes_were_counted() -> None:
    truth = Parameters(1.1, 16e6)
    made = [item(i, "dram_bytes", written=50e6 + 1e6 * i) for i in range(8)]
    items = [replace(one, measured=predicted(one, truth)[0]) for one in made]
    overhead, kept = fit(items, halves(items))["GPU"].rows
    assert math.isnan(overhead.refitted)
    assert kept.refitted == pytest.approx(16e6)


def test_too_few_kernels_leave_the_shipped_parameters() -> None:
    items = [item(i) for i in range(2 * LEAST_KERNELS - 2)]
    found = fit(items, halves(items))["GPU"]
    assert found.used == SHIPPED_ON_GPU
    assert all(math.isnan(row.refitted) for row in found.rows)
    v = validation_of(items)
    assert {s.parameters for s in v.scores} == {SHIPPED}
    assert "The shipped parameters stand" in refit_sentence(v)


@pytest.mark.parametrize("other", [{"mode": WARM}, {"mode": LOOP}, {"measured": 0.5e6}])
def test_parameters_come_from_emptied_caches_and_from_figures_that_tell(other: dict[str, object]) -> None:
    items = [item(i, **other) for i in range(20)]  # type: ignore[arg-type]
    assert fit(items, halves(items))["GPU"].used == SHIPPED_ON_GPU


def test_errors_of_a_class_by_hand() -> None:
    measured = (100e6, 110e6, 132e6, 55e6)  # 10 %, 0 %, -16.7 % and 100 % of what is predicted
    items = [item(i, measured=size) for i, size in enumerate(measured)]
    (row,) = [s for s in validation_of(items).scores if s.half == WHOLE]
    assert (row.n, row.family, row.parameters) == (4, GEMM, SHIPPED)
    assert row.median_pct == pytest.approx((10 + 100 / 6) / 2)
    assert row.worst_pct == pytest.approx(100)
    assert row.p90_pct == pytest.approx(100)
    assert row.bias_pct == pytest.approx(5)
    assert row.inside_pct == 75  # the band is 88 to 132 MB
    assert row.target == (12.0, 35.0)
    assert row.met is False
    assert "The target of its class is missed" in verdict(row.quantity, row.mode, [row])


def test_a_band_that_has_to_hold_the_truth() -> None:
    inside, outside = [item(i, family=GEMM_OPEN, measured=100e6) for i in range(6)], item(9, family=GEMM_OPEN, measured=50e6)
    (row,) = [s for s in validation_of(inside).scores if s.half == WHOLE]
    assert row.met is True
    (row,) = [s for s in validation_of([*inside, outside, replace(outside, problem="x")]).scores if s.half == WHOLE]
    assert row.inside_pct == 75
    assert row.met is False


def test_next_to_nothing_has_an_error_in_bytes_and_no_place_among_percentages() -> None:
    v = validation_of([item(0, measured=0.2e6), item(1), item(2, "occupancy_pct", measured=0.0, fixed=(5.0, 5.0, 5.0))])
    small, scored, zero = v.predictions
    assert (small.scored, small.why) == (False, SMALL)
    assert scored.scored
    assert (zero.scored, zero.why) == (False, NOTHING)
    assert [s.n for s in v.scores if s.half == WHOLE] == [1]
    assert {(family, why) for family, _, why, _ in v.left_out} == {(GEMM, SMALL), (GEMM, NOTHING)}


def test_what_is_not_scored_is_told_and_counted() -> None:
    left = [
        LeftOut(FUSED, "dram_read_bytes", "no model"),
        LeftOut(FUSED, "dram_read_bytes", "no model"),
        LeftOut("", "flop", "none", 0),
    ]
    v = validation_of([item(0, "dram_write_bytes", unscored=SMALL_OUTPUT)], left)
    assert v.left_out == (
        ("", "flop", "none", 0),
        (GEMM, "dram_write_bytes", SMALL_OUTPUT, 1),
        (FUSED, "dram_read_bytes", "no model", 2),
    )
    assert left_out_lines(v)[2] == "2 x bytes read from DRAM (fused attention): no model"
    assert [text.split(":")[0] for text in uncompared(v)] == [
        "FLOP of the tensor cores", "bytes written to DRAM", "bytes read from DRAM",
    ]  # fmt: skip
    assert headline(v) == "Nothing that was counted could be compared with a prediction."


def test_a_quantity_that_is_scored_somewhere_is_compared() -> None:
    assert uncompared(validation_of([item()], [LeftOut(FUSED, "dram_read_bytes", "no model")])) == ()


def test_several_runs_of_a_kernel_are_one_figure() -> None:
    two = [item(measured=100e6, calls=1.0), item(measured=130e6, calls=3.0, run="other")]
    (one,) = validation_of(two).predictions
    assert one.measured == pytest.approx(122.5e6)
    assert one.calls == 4
    assert one.run == "run and 1 more"


def test_classes_together_and_the_kernels_that_their_target_asks_for() -> None:
    few = [item(i, family=(GEMM, FUSED)[i % 2]) for i in range(4)]
    (row,) = [s for s in validation_of(few).scores if (s.family, s.half) == (EVERY, WHOLE)]
    assert row.n == 4
    assert row.met is None
    many = [item(i, family=(GEMM, FUSED)[i % 2]) for i in range(ENOUGH)]
    (row,) = [s for s in validation_of(many).scores if (s.family, s.half) == (EVERY, WHOLE)]
    assert row.target == (15.0, 40.0)
    assert row.met is True


def test_what_a_parameter_was_fitted_on_is_counted() -> None:
    v = validation_of([item(0, status=FITTED), item(1)])
    (row,) = [s for s in v.scores if s.half == WHOLE]
    assert (row.n, row.fitted) == (2, 1)


def test_warm_counts_are_scored_as_warm_and_as_cold() -> None:
    items = [item(measured=80e6, mode=WARM, found=30e6), item(measured=80e6, mode=WARM_AS_COLD)]
    v = validation_of(items)
    errors = {s.mode: s.median_pct for s in v.scores if s.half == WHOLE}
    assert errors == pytest.approx({WARM: 0.0, WARM_AS_COLD: 37.5})
    assert [mode for _, mode, _ in blocks_of(shipped_rows(v))] == [WARM, WARM_AS_COLD]


def test_lines_of_the_terminal_are_at_most_100_columns_wide() -> None:
    items = [
        item(i, family=family, measured=size) for i, family in enumerate((ELEMENTWISE, GEMM_OPEN, FUSED)) for size in (1e6,)
    ]
    for _, _, rows in blocks_of(shipped_rows(validation_of(items))):
        assert all(len(line) <= 100 for line in table_lines(rows))


def test_nothing_at_all() -> None:
    v = validation_of([])
    assert v.predictions == v.scores == v.parameters == v.left_out == ()
