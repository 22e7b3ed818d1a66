"""Work formulas against numbers worked out by hand."""

from __future__ import annotations

import pytest

from analyzer.metrics.work import registry, work_of
from analyzer.schema.operators import Arg, OpCall, TensorArg


def t(*shape: int, dtype: str = "float32", **more: object) -> TensorArg:
    return TensorArg(shape, dtype, **more)  # type: ignore[arg-type]


CASES: list[tuple[str, tuple[Arg, ...], float, float]] = [
    # 2*M*N*K; (MK + KN + MN + N) * 4
    ("aten::addmm", (t(32), t(16, 64), t(64, 32)), 2 * 16 * 32 * 64, 4 * (32 + 1024 + 2048 + 512)),
    ("aten::mm", (t(16, 64), t(64, 32)), 2 * 16 * 32 * 64, 4 * (1024 + 2048 + 512)),
    ("aten::bmm", (t(3, 16, 64), t(3, 64, 32)), 3 * 2 * 16 * 32 * 64, 4 * 3 * (1024 + 2048 + 512)),
    ("aten::linear", (t(2, 7, 64), t(32, 64), t(32)), 2 * 14 * 32 * 64, 4 * (896 + 2048 + 32 + 448)),
    ("aten::matmul", (t(5, 64), t(3, 64, 32)), 3 * 2 * 5 * 32 * 64, 4 * (320 + 6144 + 480)),
    # 3x3, stride 2, padding 1 on 8x8: 4x4 out; 2 * out * Ci * 9
    ("aten::conv2d", (t(1, 3, 8, 8), t(6, 3, 3, 3), None, (2, 2), (1, 1), (1, 1), 1), 2 * 96 * 27, 4 * (192 + 162 + 96)),
    ("aten::mkldnn_convolution", (t(1, 3, 8, 8), t(6, 3, 3, 3), t(6), (1, 1), (2, 2), (1, 1), 1), 2 * 96 * 27, 4 * (192 + 162 + 6 + 96)),
    ("aten::cudnn_convolution", (t(1, 3, 8, 8), t(6, 3, 3, 3), (1, 1), (2, 2), (1, 1), 1), 2 * 96 * 27, 4 * (192 + 162 + 96)),
    # depthwise 7x7, same size: 2 * out * 49
    ("aten::convolution", (t(1, 4, 8, 8), t(4, 1, 7, 7), None, (1, 1), (3, 3), (1, 1), False, (0, 0), 4), 2 * 256 * 49, 4 * (256 + 196 + 256)),
    # dilation 2: 3x3 covers 5; 8 - 4 = 4 out
    ("aten::conv2d", (t(1, 1, 8, 8), t(1, 1, 3, 3), None, (1, 1), (0, 0), (2, 2), 1), 2 * 16 * 9, 4 * (64 + 9 + 16)),
    # B=2 H=3 N=5 D=4: 4*B*H*N*N*D; q, k, v and output, and 30 logarithms of sums
    ("aten::_scaled_dot_product_flash_attention", (t(2, 3, 5, 4),) * 3, 4 * 2 * 3 * 25 * 4, 4 * (4 * 120 + 30)),
    # the inner kernel takes [B, N, H, D]
    ("aten::_flash_attention_forward", (t(2, 5, 3, 4),) * 3, 4 * 2 * 3 * 25 * 4, 4 * (4 * 120 + 30)),
    # cross attention: 5 queries, 7 keys, values of width 6
    ("aten::_scaled_dot_product_efficient_attention", (t(1, 2, 5, 4), t(1, 2, 7, 4), t(1, 2, 7, 6)), 2 * 2 * 35 * 10, 4 * (40 + 56 + 84 + 60)),
    ("aten::native_layer_norm", (t(2, 8), (8,), t(8), t(8)), 5 * 16, 4 * (16 + 8 + 8 + 16 + 2 + 2)),
    ("aten::native_group_norm", (t(2, 4, 3), t(4), t(4), 2, 4, 3, 2, 1e-5), 5 * 24, 4 * (24 + 8 + 24 + 4 + 4)),
    ("aten::_fused_rms_norm", (t(2, 8), (8,), t(8), 1e-5), 4 * 16, 4 * (16 + 8 + 16 + 2)),
    ("aten::_softmax", (t(4, 10), -1, False), 4 * 40, 4 * 80),
    ("aten::gelu", (t(4, 10), "none"), 40, 4 * 80),
    ("aten::add", (t(4, 10), t(10), 1), 40, 4 * (40 + 10 + 40)),
    ("aten::mul_", (t(2, 5, 3), t(1, 5, 1)), 30, 4 * (30 + 5 + 30)),
    ("aten::mul", (t(2, 1, 3), t(1, 5, 1)), 30, 4 * (6 + 5 + 30)),
    ("aten::max_pool2d_with_indices", (t(1, 1, 8, 8), (2, 2), (2, 2)), 0, 4 * (64 + 16) + 8 * 16),
    ("aten::avg_pool2d", (t(1, 1, 8, 8), (2, 2), (2, 2)), 16 * 4, 4 * (64 + 16)),
    ("aten::relu", (t(4, 10),), 0, 4 * 80),
    ("aten::native_batch_norm", (t(1, 2, 3), t(2), t(2), t(2), t(2), False, 0.1, 1e-5), 12, 4 * (6 + 8 + 6)),
    ("aten::native_batch_norm", (t(1, 2, 3), t(2), t(2), t(2), t(2), True, 0.1, 1e-5), 30, 4 * (6 + 8 + 6 + 4 + 4)),
    ("aten::copy_", (t(4, 10, dtype="float16"), t(4, 10)), 0, 40 * 2 + 40 * 4),
    ("aten::cat", ((t(1, 3), t(1, 5)), 1), 0, 4 * 16),
    ("aten::view", (t(4, 10), (40,)), 0, 0),
    ("aten::fill_", (t(4, 10), 0), 0, 160),
    ("aten::upsample_nearest2d", (t(1, 2, 4, 4), (8, 8)), 0, 4 * (32 + 128)),
    # 2-d transposed, stride 2, output_padding 1: (4 - 1) * 2 - 2 + 2 + 1 + 1 = 8; 2 * in * Co * 9
    ("aten::cudnn_convolution_transpose", (t(1, 4, 4, 4), t(4, 6, 3, 3), (1, 1), (1, 1), (2, 2), (1, 1), 1), 2 * 64 * 6 * 9, 4 * (64 + 216 + 6 * 64)),
    ("aten::conv_transpose2d", (t(1, 4, 4, 4), t(4, 3, 2, 2), t(6), (2, 2), (0, 0), (0, 0), 2, (1, 1)), 2 * 64 * 3 * 4, 4 * (64 + 48 + 6 + 6 * 64)),
    ("aten::conv1d", (t(1, 2, 9), t(4, 2, 3), None, (2,), (1,), (1,), 1), 2 * 20 * 6, 4 * (18 + 24 + 20)),
    ("aten::conv3d", (t(1, 2, 4, 4, 4), t(3, 2, 1, 2, 2), None, (2,), (0,), (1,), 1), 2 * 24 * 8, 4 * (128 + 24 + 24)),
    ("aten::conv2d", (t(1, 2, 5, 5), t(3, 2, 3, 3), None, (1, 1), "same", (1, 1), 1), 2 * 75 * 18, 4 * (50 + 54 + 75)),
    ("aten::thnn_conv_depthwise2d", (t(1, 4, 8, 8), t(4, 1, 3, 3), (3, 3), None, (1, 1), (1, 1), (1, 1)), 2 * 256 * 9, 4 * (256 + 36 + 256)),
    # the summand is read: z like the output
    ("aten::cudnn_convolution_add_relu", (t(1, 3, 8, 8), t(6, 3, 3, 3), t(1, 6, 4, 4), 1.0, t(6), (2, 2), (1, 1), (1, 1), 1), 2 * 96 * 27, 4 * (192 + 162 + 96 + 6 + 96)),
    ("mkldnn::_convolution_pointwise", (t(1, 3, 8, 8), t(6, 3, 3, 3), t(6), (1, 1), (2, 2), (1, 1), 1, "relu", (), None), 2 * 96 * 27, 4 * (192 + 162 + 6 + 96)),
    ("mkldnn::_convolution_pointwise", (t(1, 3, 8, 8), t(1, 6, 4, 4), t(6, 3, 3, 3), t(6), (1, 1), (2, 2), (1, 1), 1, "add"), 2 * 96 * 27, 4 * (192 + 96 + 162 + 6 + 96)),
    ("mkldnn::_linear_pointwise", (t(2, 7, 64), t(32, 64), t(32), "gelu", (), "none"), 2 * 14 * 32 * 64, 4 * (896 + 2048 + 32 + 448)),
    ("mkl::_mkl_linear", (t(14, 64), t(2048), t(32, 64), t(32), 14), 2 * 14 * 32 * 64, 4 * (896 + 2048 + 32 + 448)),
    ("aten::addmm", (t(4, 1), t(4, 3), t(3, 5)), 2 * 60, 4 * (4 + 12 + 15 + 20)),
    ("aten::matmul", (t(4), t(4)), 8, 4 * (4 + 4 + 1)),
    ("aten::matmul", (t(2, 3, 4), t(4)), 2 * 24, 4 * (24 + 4 + 6)),
    ("aten::matmul", (t(2, 1, 3, 4), t(5, 4, 6)), 2 * 10 * 72, 4 * (24 + 120 + 180)),
    ("aten::addbmm", (t(3, 5), t(2, 3, 4), t(2, 4, 5)), 2 * 2 * 60, 4 * (15 + 24 + 40 + 15)),
    ("aten::_scaled_mm", (t(4, 8, dtype="float8_e4m3fn"), t(8, 2, dtype="float8_e4m3fn"), t(), t(), None, None, 15), 2 * 64, 32 + 16 + 8 + 2 * 8),
    ("aten::einsum", ("bhnd,bhmd->bhnm", (t(1, 2, 5, 4), t(1, 2, 7, 4))), 2 * 2 * 35 * 4, 4 * (40 + 56 + 70)),
    # 6 query heads, 2 heads of keys and values
    ("aten::_scaled_dot_product_cudnn_attention", (t(1, 6, 5, 4, dtype="float16"), t(1, 2, 5, 4, dtype="float16"), t(1, 2, 5, 4, dtype="float16"), None, False), 4 * 6 * 25 * 4, 2 * (120 + 40 + 40 + 120)),
    ("aten::scaled_dot_product_attention", (t(1, 2, 5, 4), t(1, 2, 5, 4), t(1, 2, 5, 4), t(1, 1, 5, 5)), 4 * 2 * 25 * 4, 4 * (160 + 25)),
    ("aten::gt", (t(4, 10), 0.5), 0, 160 + 40),
    ("aten::sqrt", (t(6, dtype="int64"),), 6, 48 + 24),
    ("aten::add", (t(4, 10, dtype="bfloat16"), t(10), 1), 40, 80 + 40 + 160),
    ("aten::add", (t(4, 10), t(10), 1, t(4, 10)), 40, 4 * (40 + 10 + 40)),
    ("aten::where", (t(4, 1, dtype="bool"), t(3), t()), 0, 4 + 12 + 4 + 48),
    ("aten::native_dropout", (t(4, 10), 0.5, True), 40, 160 + 160 + 40),
    ("aten::glu", (t(4, 10), -1), 2 * 20, 4 * 60),
    ("aten::max_pool2d_with_indices", (t(1, 1, 5, 5), (2, 2), (2, 2), (0, 0), (1, 1), True), 0, 4 * (25 + 9) + 8 * 9),
    ("aten::avg_pool2d", (t(1, 1, 7, 7), (3, 3), (3, 3), (1, 1), True, True, None), 81, 4 * (49 + 9)),
    # 5 into 3: windows of 2, 3 and 2, so 7 * 7 additions
    ("aten::_adaptive_avg_pool2d", (t(1, 1, 5, 5), (3, 3)), 49, 4 * (25 + 9)),
    ("aten::upsample_bilinear2d", (t(1, 2, 4, 4), None, False, (2.0, 2.0)), 8 * 128, 4 * (32 + 128)),
    ("aten::sum", (t(4, 10), (1,), False, None), 40, 4 * (40 + 4)),
    ("aten::sum", (t(4, 10, dtype="bool"), None), 40, 40 + 8),
    ("aten::mean", (t(4, 10, dtype="bfloat16"), (0,), True, 6), 40, 2 * 40 + 4 * 10),
    ("aten::max", (t(4, 10), 1, False), 0, 4 * 44 + 8 * 4),
    ("aten::var_mean", (t(4, 10), (1,), 0, True), 120, 4 * 48),
    ("aten::_to_copy", (t(4, 10), 15, None, None, None, False, None), 0, 160 + 80),
    ("aten::cat", ((t(1, 3, dtype="float16"), t(1, 5)), 1), 0, 3 * 2 + 5 * 4 + 8 * 4),
    ("aten::constant_pad_nd", (t(2, 3), (1, 1, 0, 2), 0), 0, 4 * (6 + 20)),
    ("aten::repeat", (t(3, 4), (2, 1, 3)), 0, 4 * (12 + 72)),
    ("aten::embedding", (t(100, 4), t(2, 3, dtype="int64")), 0, 8 * 6 + 2 * 4 * 24),
    # a table smaller than what is taken from it is read once
    ("aten::index_select", (t(3, 4), 0, t(100, dtype="int64")), 0, 4 * 12 + 800 + 4 * 400),
    ("aten::topk", (t(3, 9), 4, -1, True, True), 0, 4 * 27 + 12 * 12),
    ("aten::scatter_add_", (t(3, 4), 1, t(3, 2, dtype="int64"), t(3, 2)), 6, 48 + 24 + 24 + 24),
    ("aten::nll_loss_forward", (t(8, 1000), t(8, dtype="int64"), None, 1, -100), 8, 32 + 64 + 8),
    ("aten::mse_loss", (t(8), t(8), 1), 24, 4 * 17),
    ("aten::arange", (0, 9, 2, None, None, None, None), 0, 40),
    ("aten::full", ((3, 2), 1.5, None, None, None, None), 0, 24),
    ("_C::fused_add_rms_norm", (t(8, 16, dtype="bfloat16"), t(8, 16, dtype="bfloat16"), t(16, dtype="bfloat16"), 1e-5), 5 * 128, 2 * (4 * 128 + 16)),
    ("_C::static_scaled_fp8_quant", (t(8, 16, dtype="float8_e4m3fn"), t(8, 16, dtype="bfloat16"), t()), 128, 128 + 256 + 4),
    ("_C::silu_and_mul", (t(8, 16), t(8, 32)), 256, 4 * (128 + 256)),
    ("_C::rotary_embedding", (t(8, dtype="int64"), t(8, 64), t(8, 32), 16, t(100, 16), True), 3 * 768, 64 + 4 * (8 * 16 + 2 * 768)),
    ("torchvision::roi_align", (t(1, 3, 8, 8), t(2, 5), 1.0, 2, 2, 2, False), 24 * 36, 4 * (192 + 10 + 24)),
    # 4 taps of 2 for 1 * 2 * 9 columns at 6x6 places; 3x3 convolution without padding
    ("torchvision::deform_conv2d", (t(1, 2, 8, 8), t(4, 2, 3, 3), t(1, 18, 6, 6), t(0, 1), t(4), 1, 1, 0, 0, 1, 1, 1, 1, False), 2 * 144 * 18 + 8 * 648, 4 * (128 + 72 + 648 + 4 + 144)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "flop", "size"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_formulas(name: str, inputs: tuple[Arg, ...], flop: float, size: float) -> None:
    found = work_of(OpCall(name, inputs))
    assert found is not None
    assert (found.flop, found.bytes, found.basis) == (flop, size, "formula")


def test_a_transposed_convolution_counts_its_input() -> None:
    inputs = (t(1, 4, 8, 8), t(4, 6, 2, 2), None, (2, 2), (0, 0), (1, 1), True, (0, 0), 1)
    call = OpCall("aten::convolution", inputs, (t(1, 6, 16, 16),))
    found = work_of(call)
    assert found is not None
    assert found.flop == 2 * 256 * 6 * 4


def test_exact_strides_count_expanded_and_shared_tensors_once() -> None:
    x = t(4, 10, stride=(10, 1), storage=1)
    squared = work_of(OpCall("aten::mul", (x, x), (t(4, 10, stride=(10, 1), storage=2),)))
    assert squared is not None
    assert squared.bytes == 160 + 160
    expanded = t(4, 10, stride=(0, 1), storage=3)
    added = work_of(OpCall("aten::add", (x, expanded), (t(4, 10, stride=(10, 1), storage=4),)))
    assert added is not None
    assert added.bytes == 160 + 40 + 160


def test_an_operator_without_formula_is_generic_and_one_without_shapes_has_none() -> None:
    found = work_of(OpCall("my::op", (t(4, 10),)))
    assert found is not None
    assert found.basis == "generic"
    assert work_of(OpCall("my::op", (3,))) is None
    assert work_of(OpCall("aten::addmm", (t(3),))) is None
    assert work_of(OpCall("aten::conv2d", (t(1, 3, 8, 8), t(6, 3, 3, 3)))) is None


def test_two_formulas_for_one_operator_are_refused() -> None:
    with pytest.raises(ValueError, match="two formulas"):
        registry.register("addmm")(lambda call: None)


@pytest.mark.parametrize(("name", "position"), [("add", 0), ("add", 1), ("mul", 0), ("where", 1), ("lerp_", 1)])
def test_without_the_shape_of_an_operand_there_is_no_work(name: str, position: int) -> None:
    inputs: list[Arg] = [t(4, 8), t(4, 8), t(4, 8)]
    inputs[position] = None
    told = OpCall(f"aten::{name}", tuple(inputs))
    untold = OpCall(f"aten::{name}", tuple(inputs), untold=(position,))
    assert work_of(untold) is None
    assert work_of(told) is not None  # a number, say
    assert work_of(OpCall(untold.name, untold.inputs, (t(4, 8),), (position,))) is not None  # recorded exactly


def test_a_bound_that_is_left_out_is_no_missing_operand() -> None:
    found = work_of(OpCall("aten::clamp", (t(4, 8), None, t(4, 8)), untold=(1,)))
    assert found is not None
    assert found.bytes == 3 * 4 * 32
