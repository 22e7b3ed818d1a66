"""Kernels of compiled models: which operators their names carry, and what work that makes."""

from __future__ import annotations

import pytest

from analyzer.metrics.work import has_formula, work_of
from analyzer.schema.operators import Arg, OpCall
from analyzer.trace.fused import fused_kind, fused_operators
from tests.metrics.test_work import t

NAMES = [
    ("triton_poi_fused_add_gelu_0", ("add", "gelu")),
    ("triton_poi_fused_add_bitwise_and_bitwise_not_bitwise_or_ge_lt_mul_sub_0", ("add", "bitwise_and", "bitwise_not", "bitwise_or", "ge", "lt", "mul", "sub")),
    ("triton_red_fused__softmax_add_12", ("_softmax", "add")),
    ("triton_per_fused_add_native_layer_norm_native_layer_norm_backward_3", ("add", "native_layer_norm", "native_layer_norm_backward")),
    ("triton_poi_fused__to_copy_convolution_view_1", ("_to_copy", "convolution", "view")),
    ("triton_poi_fused__native_batch_norm_legit_no_training__to_copy_relu_7", ("_native_batch_norm_legit_no_training", "_to_copy", "relu")),
    ("triton_tem_fused_addmm_relu_2", ("addmm", "relu")),
    ("cpp_fused_native_layer_norm_4", ("native_layer_norm",)),
    ("graph_0_cpp_fused_max_pool2d_with_indices_relu_1", ("max_pool2d_with_indices", "relu")),
    ("triton_poi_fused_add_unheard_of_mul_5", ("add", "mul")),
    ("triton_for_fused_0", ()), ("triton__0d1d2de", ()), ("aten::add", ()), ("void at::native::fused_add_0", ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operators"), NAMES, ids=[n[0] for n in NAMES])
def test_the_operators_in_a_name(name: str, operators: tuple[str, ...]) -> None:
    assert fused_operators(name) == operators
    assert has_formula(name) == (bool(operators) or name == "aten::add")


def test_the_sort_of_a_kernel() -> None:
    kinds = {"triton_poi_fused_add_0": "pointwise", "triton_per_fused_sum_0": "reduction", "triton_tem_fused_mm_0": "template"}
    assert {name: fused_kind(name) for name in kinds} == kinds
    assert fused_kind("aten::add") is None


WORKS: list[tuple[str, tuple[Arg, ...], float, float]] = [
    # add and gelu: two FLOP for each of 40 elements; three tensors
    ("triton_poi_fused_add_gelu_0", (t(4, 10), t(10), t(4, 10), 40), 2 * 40, 4 * 90),
    # comparison and selection are none, views neither
    ("triton_poi_fused_relu_view_0", (t(4, 10), t(4, 10), 40), 0, 4 * 80),
    ("triton_poi_fused_convolution_relu_0", (t(1, 4, 5, 5), t(4), 100, 25), 100, 4 * 104),
    ("triton_per_fused_native_layer_norm_0", (t(4, 10), t(10), t(10), t(4, 1), t(4, 10)), 5 * 40, 4 * 104),
    ("triton_red_fused__softmax_mul_0", (t(4, 10), t(4, 10)), 5 * 40, 4 * 80),
    # 2 * M * N * K
    ("triton_tem_fused_mm_0", (t(4, 6), t(6, 5), t(4, 5)), 2 * 4 * 6 * 5, 4 * (24 + 30 + 20)),
    ("triton_tem_fused_addmm_relu_0", (t(5), t(4, 6), t(6, 5), t(4, 5)), 2 * 4 * 6 * 5, 4 * (5 + 24 + 30 + 20)),
    ("triton_tem_fused_bmm_0", (t(3, 4, 6), t(3, 6, 5), t(3, 4, 5)), 3 * 2 * 4 * 6 * 5, 3 * 4 * (24 + 30 + 20)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "flop", "size"), WORKS, ids=[w[0] for w in WORKS])
def test_work_of_fused_kernels(name: str, inputs: tuple[Arg, ...], flop: float, size: float) -> None:
    found = work_of(OpCall(name, inputs))
    assert found is not None
    assert (found.flop, found.bytes, found.basis) == (flop, size, "formula")


def test_a_template_whose_factors_are_not_plain_has_no_work() -> None:
    assert work_of(OpCall("triton_tem_fused_mm_0", (t(4, 6), t(6, 5), t(4, 5), t(4, 5)))) is None
    assert work_of(OpCall("triton_tem_fused_convolution_0", (t(1, 3, 8, 8), t(6, 3, 3, 3), t(1, 6, 6, 6)))) is None
