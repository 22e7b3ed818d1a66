"""Problems of operator calls: against figures worked out by hand, and against the work model over whole models."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.access.describe import describe
from analyzer.access.problem import PATTERNS, Attention, Convolution, Described, Pass, Problem, Product, Window
from analyzer.metrics.work import registry, work_of
from analyzer.schema.operators import Arg, OpCall, TensorArg
from tests.conftest import ROOT
from tests.metrics.test_work_bands import ARGS, TENSORS

MODELS = sorted(
    {yaml.safe_load(p.read_text())["name"] for family in ("vit", "cnn") for p in (ROOT / "conf" / family).glob("*.yaml")}
    - {None}
)
ITEM = 2


def t(*shape: int, dtype: str = "float16", stride: tuple[int, ...] | None = None) -> TensorArg:
    return TensorArg(shape, dtype, stride)


@lru_cache(maxsize=32)
def calls_of_model(name: str, batch: int, size: int) -> tuple[OpCall, ...]:
    from analyzer.capture.meta import record_ops
    from analyzer.schema.settings import ModelChoice
    from analyzer.trace.calls import calls_of

    return tuple(calls_of(record_ops(ModelChoice("vit", name, name), batch, size, "float16")))


def bytes_of(problem: Problem) -> int:
    return problem.read_bytes + problem.write_bytes


def problem_of(name: str, *inputs: Arg, outputs: tuple[Arg, ...] | None = None, kind: str = "") -> Described:
    found = describe(OpCall(name, inputs, outputs), kind)
    assert found is not None
    assert found.pattern in PATTERNS
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_of_a_model_has_the_flop_and_bytes_of_the_work_model(name: str) -> None:
    """Two formulas written apart. Strided 1x1 convolutions alone differ: only the pixels that they read count here."""
    flop = size = described_flop = described_size = 0.0
    for call in calls_of_model(name, 2, 224):
        work, found = work_of(call), describe(call)
        assert work is not None
        flop, size = flop + work.flop, size + work.bytes
        if found is None:
            continue
        described_flop, described_size = described_flop + work.flop, described_size + work.bytes
        assert found.problem.flop == work.flop, call
        assert found.pattern in PATTERNS
        if found.pattern == "conv1x1" and call.ints(3) != (1, 1):
            assert bytes_of(found.problem) < work.bytes
        else:
            assert bytes_of(found.problem) == pytest.approx(work.bytes, rel=0.01), call
    assert described_flop >= 0.99 * flop
    assert described_size >= 0.95 * size


@pytest.mark.parametrize("name", MODELS)
def test_names_of_cuda_and_unrecorded_outputs_give_the_same_problems(name: str) -> None:
    for call in calls_of_model(name, 2, 224):
        given = OpCall(call.name, call.inputs)
        if call.name == "aten::convolution":
            image, weight, _, stride, padding, dilation, _, _, groups = call.inputs
            given = OpCall("aten::cudnn_convolution", (image, weight, padding, stride, dilation, groups))
        elif call.name == "aten::scaled_dot_product_attention" and call.inputs[3] is None:
            given = OpCall("aten::_scaled_dot_product_flash_attention", (*call.inputs[:3], 0.0, False))
        whole, found = describe(call), describe(given)
        if whole is None or isinstance(whole.problem, Pass):
            continue
        if isinstance(whole.problem, Window) and call.name == "aten::mean":
            assert found == whole
        else:
            assert found is not None
            assert type(found.problem) is type(whole.problem)
            assert (found.pattern, found.problem.flop) == (whole.pattern, whole.problem.flop)


def test_linear_layers_have_all_tokens_in_one_product() -> None:
    expected = Product(1, 394, 2304, 768, ITEM, ITEM, 2304 * ITEM)
    weight, bias = t(2304, 768), t(2304)
    linear = problem_of("aten::linear", t(2, 197, 768), weight, bias)
    assert linear == Described("linear", expected, "2x197x768 2304x768 2304", "float16")
    assert problem_of("aten::addmm", bias, t(394, 768), t(768, 2304), 1, 1).problem == expected
    assert problem_of("aten::_addmm_activation", bias, t(394, 768), t(768, 2304)).problem == expected
    assert problem_of("mkldnn::_linear_pointwise", t(2, 197, 768), weight, bias, "none", (), "").problem == expected
    assert problem_of("aten::matmul", t(2, 197, 768), t(768, 2304)).problem == Product(1, 394, 2304, 768, ITEM, ITEM)
    assert problem_of("aten::mv", t(8, 4), t(4)).problem == Product(1, 8, 1, 4, ITEM, ITEM)


def test_products_of_two_activations_are_scores() -> None:
    q, k = t(24, 197, 64), t(24, 64, 197)
    assert problem_of("aten::bmm", q, k) == Described(
        "scores", Product(24, 197, 197, 64, ITEM, ITEM), "24x197x64 24x64x197", "float16"
    )
    summed = problem_of("aten::baddbmm", t(24, 197, 197), q, k, 1, 1)
    assert summed.problem == Product(24, 197, 197, 64, ITEM, ITEM, 24 * 197 * 197 * ITEM)
    assert problem_of("aten::matmul", t(2, 12, 197, 64), t(2, 12, 64, 197)).problem == Product(24, 197, 197, 64, ITEM, ITEM)


def test_a_factor_that_the_batch_shares_counts_once() -> None:
    a, b = t(4, 10, 8, stride=(80, 8, 1)), t(4, 8, 6, stride=(0, 6, 1))
    assert problem_of("aten::bmm", a, b) == Described("linear", Product(1, 40, 6, 8, ITEM, ITEM), "4x10x8 4x8x6", "float16")
    shared = t(4, 10, 8, stride=(0, 8, 1))
    assert problem_of("aten::bmm", shared, t(4, 8, 6)).problem == Product(1, 24, 10, 8, ITEM, ITEM)
    assert problem_of("aten::addbmm", t(10, 6), t(4, 10, 8), t(4, 8, 6), 1, 1).problem == Product(
        1, 10, 6, 32, ITEM, ITEM, 10 * 6 * ITEM
    )


def conv(image: TensorArg, weight: TensorArg, stride: int, padding: int, groups: int = 1, flipped: bool = False) -> OpCall:
    rank = len(weight.shape) - 2
    return OpCall(
        "aten::convolution",
        (image, weight, None, (stride,) * rank, (padding,) * rank, (1,) * rank, flipped, (0,) * rank, groups),
    )


NHWC = t(2, 64, 56, 56, stride=(64 * 56 * 56, 1, 56 * 64, 64))
PATCHES = Product(1, 2 * 196, 768, 768, ITEM, ITEM)
MOVES = ((3, 3), (1, 1), (1, 1), (1, 1))
CONVOLUTIONS: list[tuple[OpCall, str, Problem]] = [
    (conv(t(2, 3, 224, 224), t(768, 3, 16, 16), 16, 0), "patch_embed", PATCHES),
    (conv(NHWC, t(128, 64, 2, 2), 2, 0), "patch_embed", Product(1, 2 * 784, 128, 256, ITEM, ITEM)),
    (conv(t(2, 64, 56, 56), t(256, 64, 1, 1), 1, 0), "conv1x1", Product(1, 2 * 3136, 256, 64, ITEM, ITEM)),
    (conv(t(2, 64, 56, 56), t(256, 64, 1, 1), 2, 0), "conv1x1", Product(1, 2 * 784, 256, 64, ITEM, ITEM)),
    (conv(t(2, 64, 56, 56), t(64, 64, 3, 3), 1, 1), "conv3x3", Convolution(2, 1, 64, 64, 56, 56, *MOVES, ITEM)),
    (conv(t(2, 64, 56, 56), t(64, 16, 3, 3), 1, 1, 4), "conv3x3", Convolution(2, 4, 16, 16, 56, 56, *MOVES, ITEM)),
    (
        conv(t(2, 3, 224, 224), t(64, 3, 7, 7), 2, 3),
        "conv",
        Convolution(2, 1, 3, 64, 224, 224, (7, 7), (2, 2), (3, 3), (1, 1), ITEM),
    ),
    (
        conv(t(2, 96, 56, 56), t(96, 1, 7, 7), 1, 3, 96),
        "depthwise",
        Window(192, 56, 56, (7, 7), (1, 1), (3, 3), (1, 1), ITEM, 96 * 49 * ITEM),
    ),
    (conv(t(2, 8, 14, 14), t(16, 1, 3, 3), 1, 1, 8), "depthwise", Convolution(2, 8, 1, 2, 14, 14, *MOVES, ITEM)),
    (
        conv(t(2, 4, 100), t(8, 4, 5), 1, 2),
        "conv",
        Convolution(2, 1, 4, 8, 1, 100, (1, 5), (1, 1), (0, 2), (1, 1), ITEM),
    ),
    (conv(t(3, 14, 14), t(8, 3, 3, 3), 1, 1), "conv3x3", Convolution(1, 1, 3, 8, 14, 14, *MOVES, ITEM)),
]


@pytest.mark.parametrize(("call", "pattern", "problem"), CONVOLUTIONS)
def test_convolutions(call: OpCall, pattern: str, problem: Problem) -> None:
    found = describe(call)
    work = work_of(call)
    assert found is not None
    assert work is not None
    assert (found.pattern, found.problem) == (pattern, problem)
    assert found.problem.flop == work.flop


def test_patches_of_video_are_a_product() -> None:
    call = OpCall("aten::conv3d", (t(2, 3, 8, 32, 32), t(96, 3, 2, 4, 4), t(96), (2, 4, 4), (0, 0, 0), (1, 1, 1), 1))
    expected = Product(1, 2 * 4 * 8 * 8, 96, 3 * 2 * 4 * 4, ITEM, ITEM, 96 * ITEM)
    assert problem_of(call.name, *call.inputs) == Described("patch_embed", expected, "2x3x8x32x32 96x3x2x4x4 96", "float16")


def test_padding_that_keeps_the_size() -> None:
    expected = Convolution(1, 1, 2, 3, 5, 5, *MOVES, ITEM)
    assert problem_of("aten::conv2d", t(1, 2, 5, 5), t(3, 2, 3, 3), None, (1, 1), "same", (1, 1), 1).problem == expected
    # two more on one side than on the other: no padding of two equal sides
    assert describe(OpCall("aten::conv2d", (t(1, 2, 5, 5), t(3, 2, 4, 4), None, (1, 1), "same", (1, 1), 1))) is None


def test_attention_in_both_layouts() -> None:
    expected = Attention(2, 12, 12, 197, 197, 64, 64, ITEM)
    q = t(2, 12, 197, 64)
    inner = t(2, 197, 12, 64)
    assert problem_of("aten::scaled_dot_product_attention", q, q, q, None, 0.0, False) == Described(
        "attention_fused", expected, "2x12x197x64 2x12x197x64 2x12x197x64", "float16"
    )
    for name in ("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"):
        assert problem_of(f"aten::{name}", q, q, q).problem == expected
    for name in ("_flash_attention_forward", "_efficient_attention_forward"):
        assert problem_of(f"aten::{name}", inner, inner, inner).problem == expected
    assert problem_of("aten::_cudnn_attention_forward", q, q, q).problem == expected
    # heads folded into the batch
    assert problem_of("aten::scaled_dot_product_attention", t(24, 197, 64), t(24, 49, 64), t(24, 49, 32)).problem == Attention(
        24, 1, 1, 197, 49, 64, 32, ITEM
    )
    assert describe(OpCall("aten::_flash_attention_forward", (t(394, 12, 64),) * 3)) is None  # packed


@pytest.mark.parametrize(
    ("name", "at", "flag"),
    [
        ("scaled_dot_product_attention", 5, True),
        ("_scaled_dot_product_flash_attention", 4, True),
        ("_scaled_dot_product_flash_attention_for_cpu", 4, True),
        ("_scaled_dot_product_efficient_attention", 6, True),
        ("_scaled_dot_product_cudnn_attention", 6, True),
        ("_scaled_dot_product_fused_attention_overrideable", 5, True),
        ("_flash_attention_forward", 8, True),
        ("_efficient_attention_forward", 9, 1),
        ("_cudnn_attention_forward", 10, True),
    ],
)
def test_causal_flags_stand_where_torch_has_them(name: str, at: int, flag: bool | int) -> None:
    import torch

    wanted = ("is_causal", "custom_mask_type")
    schema = torch.ops.aten.__getattr__(name).default._schema if hasattr(torch.ops.aten, name) else None
    if schema is not None:
        assert schema.arguments[at].name in wanted
    q = t(2, 12, 64, 64)
    inputs: tuple[Arg, ...] = (q, q, q, *(None,) * (at - 3))
    plain, causal = (problem_of(f"aten::{name}", *inputs, value).problem for value in (type(flag)(0), flag))
    assert isinstance(plain, Attention)
    assert isinstance(causal, Attention)
    assert (plain.causal, causal.causal) == (False, True)


def test_grouped_queries_and_masks() -> None:
    q, k = t(2, 32, 10, 64), t(2, 8, 10, 64)
    mask = t(2, 32, 10, 10, stride=(0, 0, 10, 1))
    found = problem_of("aten::scaled_dot_product_attention", q, k, k, mask, 0.0, False, None, True).problem
    assert found == Attention(2, 32, 8, 10, 10, 64, 64, ITEM, extra_bytes=100 * ITEM)


def test_pools() -> None:
    x = t(2, 64, 112, 112)
    maximum = problem_of("aten::max_pool2d_with_indices", x, (3, 3), (2, 2), (1, 1), (1, 1), False)
    assert maximum.pattern == "pooling"
    assert maximum.problem == Window(128, 112, 112, (3, 3), (2, 2), (1, 1), (1, 1), ITEM, 0, 0, 8)
    average = problem_of("aten::avg_pool2d", t(2, 8, 7, 7), (2, 2), (2, 2), (0, 0), True, True)  # rounded up
    assert average.problem == Window(16, 7, 7, (2, 2), (2, 2), (0, 0), (1, 1), ITEM, 0, 1, 0, (4, 4))
    whole = Window(4096, 7, 7, (7, 7), (7, 7), (0, 0), (1, 1), ITEM, flop_per_tap=1)
    assert problem_of("aten::_adaptive_avg_pool2d", t(2, 2048, 7, 7), (1, 1)).problem == whole
    assert problem_of("aten::mean", t(2, 2048, 7, 7), (-1, -2), True, None).problem == whole
    assert problem_of("aten::mean", t(2, 7, 7, 2048), (1, 2), False, None).problem == whole
    tokens = problem_of("aten::mean", t(2, 196, 768), (1,), False, None).problem
    assert (bytes_of(tokens), tokens.flop) == (ITEM * (2 * 196 * 768 + 2 * 768), 2 * 196 * 768)
    quarters = problem_of("aten::_adaptive_avg_pool2d", t(2, 8, 14, 14), (7, 7)).problem
    assert quarters == Window(16, 14, 14, (2, 2), (2, 2), (0, 0), (1, 1), ITEM, flop_per_tap=1)


X = t(2, 197, 768)
N = 2 * 197 * 768
PASSES: list[tuple[str, tuple[Arg, ...], str, int, int]] = [
    ("aten::gelu", (X, "none"), "pointwise", N, N),
    ("aten::add", (X, t(1, 197, 768), 1), "pointwise", N + N // 2, N),
    ("aten::relu_", (X,), "pointwise", N, N),
    ("aten::clamp_min", (X, 0, X), "pointwise", N, N),  # into a given tensor
    ("aten::_softmax", (X, -1, False), "softmax", N, N),
    ("aten::clone", (X, None), "layout", N, N),
    ("aten::copy_", (X, X, False), "layout", N, N),
    ("aten::cat", ((X, X), 1), "layout", 2 * N, 2 * N),
    ("aten::batch_norm", (t(2, 8, 4, 4), t(8), t(8), t(8), t(8), False, 0.1, 1e-5), "norm", 256 + 32, 256),
    ("aten::native_layer_norm", (X, (768,), t(768), t(768), 1e-5), "norm", N + 1536, N + 2 * 2 * 2 * 197),
    ("aten::upsample_bilinear2d", (t(2, 8, 4, 4), (8, 8), False), "pooling", 256, 1024),
]


@pytest.mark.parametrize(("name", "inputs", "pattern", "read", "written"), PASSES, ids=[p[0] for p in PASSES])
def test_passes_whose_outputs_follow_from_their_inputs(
    name: str, inputs: tuple[Arg, ...], pattern: str, read: int, written: int
) -> None:
    found = problem_of(name, *inputs)
    assert found.pattern == pattern
    assert (found.problem.read_bytes, found.problem.write_bytes) == (read * ITEM, written * ITEM)


def test_weights_of_a_norm_are_fixed() -> None:
    found = problem_of("aten::native_layer_norm", X, (768,), t(768), t(768), 1e-5).problem
    assert isinstance(found, Pass)
    assert found.fixed_bytes == 2 * 768 * ITEM
    standardised = problem_of(
        "aten::native_batch_norm", t(1, 16, 27), t(16), None, None, None, True, 0.0, 1e-6, outputs=(t(1, 16, 27),)
    )
    assert isinstance(standardised.problem, Pass)
    assert standardised.problem.fixed_bytes == standardised.problem.read_bytes


def test_other_operators_need_recorded_outputs() -> None:
    assert describe(OpCall("aten::cumsum", (X, 1))) is None
    assert problem_of("aten::cumsum", X, 1, outputs=(X,)) == Described(
        "other", Pass(N * ITEM, N * ITEM), "2x197x768", "float16"
    )
    table = problem_of("aten::index", t(169, 3), (t(49, 49, dtype="int64"),), outputs=(t(49, 49, 3),))
    assert table.problem == Pass(169 * 3 * ITEM + 8 * 2401, 2401 * 3 * ITEM)


NOTHING: list[tuple[OpCall, str]] = [
    (OpCall("aten::view", (X, (394, 768)), (X,)), ""),
    (OpCall("aten::convolution_backward", (X, X, X), (X,)), ""),
    (OpCall("aten::_softmax_backward_data", (X, X, -1), (X,)), ""),
    (OpCall("AddmmBackward0", (X,), (X,)), ""),
    (conv(t(2, 8, 14, 14), t(8, 16, 2, 2), 2, 0, flipped=True), ""),
    (conv(t(2, 8, 14, 14), t(16, 8, 3, 3), 1, 1), "layout"),  # the kernel that rearranges its image
    (OpCall("triton_poi_fused_add_relu_0", (X, X, X)), ""),
    (OpCall("aten::add", ()), ""),
    (OpCall("aten::glu", (X, -1)), ""),
    (OpCall("aten::index_put_", (X, (X,), X)), ""),
    (OpCall("nccl::all_reduce", (X,), (X,)), ""),
    (OpCall("my::conv2d", (t(1, 2, 5, 5), t(3, 2, 3, 3), None, (1, 1), (1, 1), (1, 1), 1)), ""),
]


@pytest.mark.parametrize(("call", "kind"), NOTHING, ids=[c.name for c, _ in NOTHING])
def test_what_has_no_problem(call: OpCall, kind: str) -> None:
    assert describe(call, kind) is None


NAMES = [*sorted(registry._FORMULAS), "triton_poi_fused_add_relu_0", "aten::no_such_operator"]
CHAINED = (Product, Convolution, Attention)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(NAMES), st.lists(ARGS, max_size=12).map(tuple), st.none() | st.lists(TENSORS, max_size=3).map(tuple))
def test_hostile_arguments_give_nothing_or_something_possible(
    name: str, inputs: tuple[Arg, ...], outputs: tuple[Arg, ...] | None
) -> None:
    call = OpCall(name, inputs, outputs)
    found = describe(call)
    if found is None:
        return
    assert found.pattern in PATTERNS
    assert 0 < bytes_of(found.problem) < 1 << 60
    assert math.isfinite(found.problem.flop)
    work = work_of(call)
    if outputs is None and isinstance(found.problem, CHAINED) and work is not None:
        assert found.problem.flop == work.flop
