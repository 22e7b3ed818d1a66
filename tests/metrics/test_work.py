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
    # B=2 H=3 N=5 D=4: 4*B*H*N*N*D; q, k, v and output
    ("aten::_scaled_dot_product_flash_attention", (t(2, 3, 5, 4),) * 3, 4 * 2 * 3 * 25 * 4, 4 * 4 * 120),
    # the inner kernel takes [B, N, H, D]
    ("aten::_flash_attention_forward", (t(2, 5, 3, 4),) * 3, 4 * 2 * 3 * 25 * 4, 4 * 4 * 120),
    # cross attention: 5 queries, 7 keys, values of width 6
    ("aten::_scaled_dot_product_efficient_attention", (t(1, 2, 5, 4), t(1, 2, 7, 4), t(1, 2, 7, 6)), 2 * 2 * 35 * 10, 4 * (40 + 56 + 84 + 60)),
    ("aten::native_layer_norm", (t(2, 8), (8,), t(8), t(8)), 5 * 16, 4 * (16 + 8 + 8 + 16)),
    ("aten::_softmax", (t(4, 10), -1, False), 4 * 40, 4 * 80),
    ("aten::gelu", (t(4, 10), "none"), 40, 4 * 80),
    ("aten::add", (t(4, 10), t(10), 1), 40, 4 * (40 + 10 + 40)),
    ("aten::mul_", (t(2, 1, 3), t(1, 5, 1)), 30, 4 * (6 + 5 + 30)),
    ("aten::max_pool2d_with_indices", (t(1, 1, 8, 8), (2, 2), (2, 2)), 0, 4 * (64 + 16)),
    ("aten::avg_pool2d", (t(1, 1, 8, 8), (2, 2), (2, 2)), 16 * 4, 4 * (64 + 16)),
    ("aten::relu", (t(4, 10),), 0, 4 * 80),
    ("aten::native_batch_norm", (t(1, 2, 3), t(2), t(2), t(2), t(2), False, 0.1, 1e-5), 12, 4 * (6 + 8 + 6)),
    ("aten::native_batch_norm", (t(1, 2, 3), t(2), t(2), t(2), t(2), True, 0.1, 1e-5), 30, 4 * (6 + 8 + 6)),
    ("aten::copy_", (t(4, 10, dtype="float16"), t(4, 10)), 0, 40 * 2 + 40 * 4),
    ("aten::cat", ((t(1, 3), t(1, 5)), 1), 0, 4 * 16),
    ("aten::view", (t(4, 10), (40,)), 0, 0),
    ("aten::fill_", (t(4, 10), 0), 0, 160),
    ("aten::upsample_nearest2d", (t(1, 2, 4, 4), (8, 8)), 0, 4 * (32 + 128)),
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
