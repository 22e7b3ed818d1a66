"""Which eager operators a compiled kernel does: by hand for each rule of the matching, and that no time is lost, for any runs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.insight.fusion_matching import Matched, Source, Unit, is_generated, match_units, units_of

Call = tuple[str, str, str, float]
"""Kernel, operator, module, µs."""


def table(*calls: Call, steps: int = 1, kind: str = "pointwise") -> pd.DataFrame:
    """Return launches of the same calls in every step, one operator each."""
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        for kernel, op, module, us in calls:
            rows.append(
                {"step": step, "owner": len(rows), "op_index": len(rows), "kernel": kernel, "module": module, "kind": kind,
                 "exclusive_us": us, "start_ns": 1000 * len(rows), "owner_op": op,
                 "bytes_compulsory": 8 * us, "basis": "formula"}
            )  # fmt: skip
    return pd.DataFrame(rows)


def eager(*calls: tuple[str, str, float], **more: Any) -> list[Unit]:
    rows = table(*((op, op, module, us) for op, module, us in calls), **more)
    return units_of(rows, [((op, module),) for op, module in zip(rows["owner_op"], rows["module"], strict=True)])


def compiled(*calls: tuple[str, tuple[Source, ...], float], steps: int = 1) -> list[Unit]:
    rows = table(*((kernel, "", sources[-1][1] if sources else "", us) for kernel, sources, us in calls), steps=steps)
    return units_of(rows, [sources for _, sources, _ in calls] * steps)


def times(found: Matched) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(share.us if share else None for share in shares) for shares in found.shares)


def test_a_call_in_every_step_is_one_unit() -> None:
    (unit,) = eager(("aten::gelu", "act", 2.5), steps=4)
    assert (unit.us, unit.bytes, unit.calls, unit.rows) == (10.0, 80.0, 4, [0, 1, 2, 3])
    assert unit.parts == (("act", "gelu", 0),)


def test_calls_of_one_module_are_told_apart_by_their_order() -> None:
    first, second = eager(("aten::relu_", "block", 1.0), ("aten::relu", "block", 4.0), steps=2)
    assert (first.parts, second.parts) == ((("block", "relu", 0),), (("block", "relu", 1),))
    assert (first.us, second.us) == (2.0, 8.0)


def test_launches_of_one_operator_are_one_call_named_after_the_longest() -> None:
    rows = table(("copy", "aten::linear", "fc", 1.0), ("gemm", "aten::linear", "fc", 9.0)).assign(owner=7)
    (unit,) = units_of(rows.assign(basis=["helper", "formula"]), [(("aten::linear", "fc"),)] * 2)
    assert (unit.us, unit.bytes, unit.calls, unit.rows) == (10.0, 72.0, 1, [0, 1])  # a helper has no bytes of its own
    (unknown,) = units_of(rows.assign(basis="none"), [(("aten::linear", "fc"),)] * 2)
    assert math.isnan(unknown.bytes)


def test_launches_outside_operators_stay_apart() -> None:
    rows = table(("k", "", "", 1.0), ("k", "", "", 2.0)).assign(owner=-1, op_index=-1)
    assert [unit.us for unit in units_of(rows, [(), ()])] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("kernel", "made"),
    [
        ("graph_0_cpp_fused_add_1", True),
        ("cpp_fused_gelu_0", True),
        ("triton_poi_fused_relu_3", True),
        ("triton__0d1d2d", True),
        ("aten::_fused_rms_norm", False),
        ("aten::addmm", False),
        ("void at::native::vectorized_elementwise_kernel<4>", False),
    ],
)
def test_what_a_compiler_made(kernel: str, made: bool) -> None:
    assert is_generated(kernel) is made


def test_a_fused_kernel_gets_the_time_of_its_operators_in_their_own_modules() -> None:
    one = eager(("aten::add", "block", 3.0), ("aten::native_layer_norm", "block.norm", 5.0), ("aten::add", "head", 7.0))
    sources = (("aten::add", "block"), ("aten::native_layer_norm", "block.norm"))
    found = match_units(one, compiled(("cpp_fused_add_native_layer_norm_0", sources, 4.0)))
    assert times(found) == ((3.0, 5.0),)
    assert found.left == (2,)


def test_equally_many_calls_are_paired_in_their_order() -> None:
    one = eager(("aten::relu", "b", 1.0), ("aten::relu", "b", 8.0))
    two = compiled(("cpp_fused_relu_0", (("aten::relu", "b"),), 1.0), ("cpp_fused_relu_1", (("aten::relu", "b"),), 1.0))
    assert times(match_units(one, two)) == ((1.0,), (8.0,))


def test_what_is_done_in_several_kernels_is_divided_equally_among_them() -> None:
    one = eager(("aten::add", "b", 6.0))
    twice = (("aten::add", "b"), ("aten::add", "b"))
    two = compiled(("cpp_fused_add_0", twice, 1.0), ("cpp_fused_add_1", (("aten::add", "b"),), 1.0))
    found = match_units(one, two)
    assert times(found) == ((1.5, 1.5), (3.0,))
    assert all(share and share.divided for shares in found.shares for share in shares)


def test_what_was_taken_apart_is_found_in_its_module() -> None:
    one = eager(("aten::native_layer_norm", "norm", 6.0), ("aten::gelu", "act", 1.0))
    two = compiled(
        ("triton_per_fused_var_mean_0", (("aten::var_mean", "norm"),), 1.0),
        ("triton_poi_fused_mul_sub_1", (("aten::sub", "norm"), ("aten::mul", "norm")), 1.0),
    )
    found = match_units(one, two)
    assert times(found) == ((3.0,), (1.5, 1.5))
    assert found.left == (1,)


def test_other_names_of_one_operator_are_the_same() -> None:
    one = eager(("aten::cudnn_convolution", "conv", 4.0), ("aten::batch_norm", "bn", 2.0))
    two = compiled(
        ("k", (("aten::convolution", "conv"),), 3.0),
        ("triton_poi_fused_0", (("aten::_native_batch_norm_legit_no_training", "bn"),), 1.0),
    )
    assert times(match_units(one, two)) == ((4.0,), (2.0,))


def test_without_modules_only_the_operator_tells() -> None:
    one = eager(("aten::gelu", "act", 2.0), ("aten::addmm", "fc", 9.0))
    two = compiled(("triton_poi_fused_gelu_0", (("aten::gelu", ""),), 1.0), ("mystery", (), 1.0))
    found = match_units(one, two)
    assert times(found) == ((2.0,), (None,))
    assert found.left == (1,)


def test_wrappers_of_a_module_do_not_hide_it() -> None:
    one = eager(("aten::gelu", "blocks.0.act", 2.0))
    assert times(match_units(one, compiled(("cpp_fused_gelu_0", (("aten::gelu", "_orig_mod.blocks.0.act"),), 1.0)))) == (
        (2.0,),
    )


OPS = st.sampled_from(["aten::add", "aten::gelu", "aten::native_layer_norm", "aten::mul", "aten::addmm"])
MODULES = st.sampled_from(["", "a", "a.b", "c.0", "c.1"])
TIMES = st.floats(0.001, 1000.0)


@given(
    one=st.lists(st.tuples(OPS, MODULES, TIMES), max_size=12),
    two=st.lists(
        st.tuples(st.just("cpp_fused_0"), st.lists(st.tuples(OPS, MODULES), max_size=4).map(tuple), TIMES), max_size=8
    ),
    steps=st.integers(1, 3),
)
def test_no_eager_time_is_lost_or_counted_twice(
    one: list[tuple[str, str, float]], two: list[tuple[str, tuple[Source, ...], float]], steps: int
) -> None:
    mine = eager(*one, steps=steps) if one else []
    theirs = compiled(*two, steps=steps) if two else []
    assert sum(unit.us for unit in mine) == pytest.approx(steps * sum(us for *_, us in one))
    found = match_units(mine, theirs)
    shares = [share for shares in found.shares for share in shares if share is not None]
    left = [mine[i] for i in found.left]
    assert sum(x.us for x in (*shares, *left)) == pytest.approx(sum(unit.us for unit in mine), abs=1e-9)
    assert sum(x.bytes for x in (*shares, *left)) == pytest.approx(8 * sum(unit.us for unit in mine), abs=1e-9)
    assert [len(shares) for shares in found.shares] == [len(unit.parts) for unit in theirs]
