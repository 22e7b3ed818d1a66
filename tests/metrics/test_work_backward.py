"""Gradients and optimiser steps against numbers worked out by hand."""

from __future__ import annotations

import pytest

from analyzer.metrics.work import has_formula, work_of
from analyzer.schema.operators import Arg, OpCall
from tests.metrics.test_work import t

GRAD, IMAGE, WEIGHT = t(1, 6, 4, 4), t(1, 3, 8, 8), t(6, 3, 3, 3)  # stride 2, padding 1
HALF = 2 * 16 * 162  # 2 * positions * weight elements
REST: tuple[Arg, ...] = ((2, 2), (1, 1), (1, 1), False, (0, 0), 1)

CASES: list[tuple[str, tuple[Arg, ...], float, float]] = [
    ("aten::convolution_backward", (GRAD, IMAGE, WEIGHT, (6,), *REST, (True, True, True)), 2 * HALF, 4 * (96 + 192 + 162 + 192 + 162 + 6)),
    # the weight's gradient alone does not read the weight
    ("aten::convolution_backward", (GRAD, IMAGE, WEIGHT, (0,), *REST, (False, True, False)), HALF, 4 * (96 + 192 + 162)),
    ("aten::convolution_backward", (GRAD, IMAGE, WEIGHT, (0,), *REST, (True, False, False)), HALF, 4 * (96 + 162 + 192)),
    ("aten::cudnn_convolution_backward", (IMAGE, GRAD, WEIGHT, (1, 1), (2, 2), (1, 1), 1, False, False, True, (True, True)), 2 * HALF, 4 * (96 + 192 + 162 + 192 + 162)),
    ("aten::mkldnn_convolution_backward", (IMAGE, GRAD, WEIGHT, (1, 1), (2, 2), (1, 1), 1, (False, True, True)), HALF, 4 * (96 + 192 + 162 + 6)),
    ("aten::cudnn_convolution_backward_input", ((1, 3, 8, 8), GRAD, WEIGHT, (1, 1), (2, 2), (1, 1), 1, False, False, True), HALF, 4 * (96 + 162 + 192)),
    ("aten::cudnn_convolution_backward_weight", ((6, 3, 3, 3), GRAD, IMAGE, (1, 1), (2, 2), (1, 1), 1, False, False, True), HALF, 4 * (96 + 192 + 162)),
    # depthwise: 4 channels, 3x3 on 8x8
    ("aten::convolution_backward", (t(1, 4, 8, 8), t(1, 4, 8, 8), t(4, 1, 3, 3), (0,), (1, 1), (1, 1), (1, 1), False, (0, 0), 4, (True, True, False)), 2 * 2 * 64 * 36, 4 * (256 + 256 + 36 + 256 + 36)),
    # transposed: positions are those of the input, 4x4
    ("aten::convolution_backward", (t(1, 6, 8, 8), t(1, 4, 4, 4), t(4, 6, 2, 2), (0,), (2, 2), (0, 0), (1, 1), True, (0, 0), 1, (True, True, False)), 2 * 2 * 16 * 96, 4 * (384 + 64 + 96 + 64 + 96)),
    ("aten::linear_backward", (t(7, 64), t(7, 32), t(32, 64), (True, True, True)), 2 * 2 * 7 * 32 * 64, 4 * (448 + 224 + 2048 + 448 + 2048 + 32)),
    # five products of 2 * B*H*N*N*D; grad, q, k, v, output, logarithms; dq, dk, dv
    ("aten::_scaled_dot_product_flash_attention_backward", (t(2, 3, 5, 4),) * 5 + (t(2, 3, 5),), 10 * 6 * 25 * 4, 4 * (8 * 120 + 30)),
    ("aten::_flash_attention_backward", (t(2, 5, 3, 4),) * 5 + (t(2, 3, 5),), 10 * 6 * 25 * 4, 4 * (8 * 120 + 30)),
    ("aten::native_layer_norm_backward", (t(2, 8), t(2, 8), (8,), t(2, 1), t(2, 1), t(8), t(8), (True, True, True)), 13 * 16, 4 * (16 + 16 + 2 + 2 + 8 + 16 + 8 + 8)),
    ("aten::native_batch_norm_backward", (t(2, 3, 4), t(2, 3, 4), t(3), t(3), t(3), t(3), t(3), True, 1e-5, (True, True, True)), 9 * 24, 4 * (24 + 24 + 3 + 6 + 24 + 6)),
    ("aten::cudnn_batch_norm_backward", (t(2, 3, 4), t(2, 3, 4), t(3), t(3), t(3), t(3), t(3), 1e-5, t(0, dtype="uint8")), 9 * 24, 4 * (24 + 24 + 3 + 6 + 24 + 6)),
    ("aten::native_group_norm_backward", (t(2, 4, 3), t(2, 4, 3), t(2, 2), t(2, 2), t(4), 2, 4, 3, 2, (True, False, False)), 240, 4 * (24 + 24 + 4 + 4 + 4 + 24)),
    ("aten::batch_norm_backward_reduce", (t(2, 3, 4), t(2, 3, 4), t(3), t(3), t(3), True, True, True), 96, 4 * (24 + 24 + 9 + 12)),
    ("aten::_softmax_backward_data", (t(4, 10), t(4, 10), -1, 6), 160, 4 * 120),
    ("aten::threshold_backward", (t(4, 10), t(4, 10), 0), 0, 4 * 120),
    ("aten::gelu_backward", (t(4, 10), t(4, 10), "none"), 80, 4 * 120),
    ("aten::elu_backward", (t(4), 1.0, 1.0, 1.0, False, t(4)), 8, 4 * 12),
    ("aten::glu_backward", (t(4, 5), t(4, 10), -1), 100, 4 * (20 + 40 + 40)),
    ("aten::native_dropout_backward", (t(4, 10), t(4, 10, dtype="bool"), 2.0), 80, 160 + 40 + 160),
    # of the input only the shape is needed
    ("aten::max_pool2d_with_indices_backward", (t(1, 1, 4, 4), t(1, 1, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False, t(1, 1, 4, 4, dtype="int64")), 16, 64 + 128 + 256),
    ("aten::avg_pool2d_backward", (t(1, 1, 4, 4), t(1, 1, 8, 8), (2, 2), (2, 2), (0, 0), False, True, None), 64, 64 + 256),
    ("aten::upsample_bilinear2d_backward", (t(1, 1, 8, 8), (8, 8), (1, 1, 4, 4), False, None, None), 8 * 64, 4 * (64 + 16)),
    ("aten::embedding_dense_backward", (t(2, 3, 4), t(2, 3, dtype="int64"), 100, -1, False), 24, 96 + 48 + 1600),
    ("aten::nll_loss_backward", (t(), t(8, 1000), t(8, dtype="int64"), None, 1, -100, t()), 8, 4 + 64 + 4 + 32000),
    ("aten::_foreach_add_", ((t(3), t(4)), (t(3), t(4)), 1), 7, 4 * 21),
    ("aten::_foreach_norm", ((t(3), t(4)), 2, None), 14, 4 * 9),
    ("aten::_foreach_copy_", ((t(3),), (t(3),), False), 0, 24),
    # read: parameters, gradients, two moments, one step; written: three of them
    ("aten::_fused_adamw_", ((t(6),), (t(6),), (t(6),), (t(6),), (), (t(),), 0.1, 0.9, 0.99, 0.01, 1e-8, False, False, None, None), 14 * 6, 4 * (24 + 1 + 18)),
    ("aten::_fused_sgd_", ((t(6),), (t(6),), (t(6),), 0.0, 0.9, 0.1, 0.0, False, False, True, None, None), 5 * 6, 4 * (12 + 12)),
    ("aten::_amp_foreach_non_finite_check_and_unscale_", ((t(6),), t(1), t(1)), 6, 4 * (6 + 1 + 6 + 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "flop", "size"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_gradients(name: str, inputs: tuple[Arg, ...], flop: float, size: float) -> None:
    found = work_of(OpCall(name, inputs))
    assert found is not None
    assert (found.flop, found.bytes, found.basis) == (flop, size, "formula")


def test_a_list_of_unknown_type_makes_an_estimate_only() -> None:
    found = work_of(OpCall("aten::_foreach_add_", ((t(3, dtype="unknown"),), 1)))
    assert found is not None
    assert found.basis == "generic"


def test_old_traces_without_concrete_arguments_need_the_output() -> None:
    """torch 1.8 recorded neither sizes nor strides: the size of the image is a list without tensors."""
    inputs: tuple[Arg, ...] = (None, GRAD, WEIGHT, None, None, None, None)
    assert work_of(OpCall("aten::cudnn_convolution_backward_input", inputs)) is None
    found = work_of(OpCall("aten::cudnn_convolution_backward_input", inputs, (IMAGE,)))
    assert found is not None
    assert (found.flop, found.bytes) == (HALF, 4 * (96 + 162 + 192))


def test_without_a_mask_the_outputs_tell_which_gradients_are_computed() -> None:
    inputs: tuple[Arg, ...] = (GRAD, IMAGE, WEIGHT, None, None, None, None, False, None, None, None)
    assert work_of(OpCall("aten::convolution_backward", inputs)) is None
    found = work_of(OpCall("aten::convolution_backward", inputs, (None, WEIGHT, None)))
    assert found is not None
    assert (found.flop, found.bytes) == (HALF, 4 * (96 + 192 + 162))


@pytest.mark.parametrize(
    "name",
    [
        "ConvolutionBackward0",
        "autograd::engine::evaluate_function: ConvolutionBackward0",
        "aten::_scaled_dot_product_attention_math",
    ],
)
def test_wrappers_have_no_formula(name: str) -> None:
    assert not has_formula(name)
