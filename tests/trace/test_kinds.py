"""Kinds of operators and kernels."""

from __future__ import annotations

import pytest

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.kinds import KINDS, ROLES, classify, is_depthwise, kernel_kind, operator_kind


def test_every_kind_has_a_role() -> None:
    assert set(ROLES) == set(KINDS)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("aten::addmm", "matmul"), ("aten::bmm", "matmul"), ("aten::mkldnn_convolution", "convolution"),
        ("aten::cudnn_convolution", "convolution"), ("aten::convert_element_type", None), ("aten::native_layer_norm", "normalisation"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"), ("aten::gelu", "pointwise"), ("aten::add_", "pointwise"),
        ("aten::max_pool2d_with_indices", "pooling"), ("aten::mean", "reduction"), ("aten::copy_", "layout"), ("aten::cat", "layout"),
        ("aten::view", "view"), ("aten::as_strided", "view"), ("aten::t", "view"), ("aten::roll", "layout"), ("aten::index", "indexing"),
        ("aten::_softmax", "reduction"), ("aten::batch_norm", "normalisation"), ("my::op", None), ("aten::topk", "indexing"), ("aten::normal_", "pointwise"), ("aten::linalg_vector_norm", "reduction"), ("aten::maximum", "pointwise"), ("aten::mvlgamma", None), ("aten::tolist", None), ("aten::where", "pointwise"), ("aten::masked_fill_", "pointwise"), ("aten::_unique2", "indexing"), ("aten::relu_", "pointwise"), ("aten::std_mean", "reduction"), ("aten::native_batch_norm", "normalisation"), ("aten::zeros_like", "pointwise"), ("aten::threshold_backward", "pointwise"), ("aten::convolution_backward", "convolution"),
    ],
)  # fmt: skip
def test_operator_kinds(op: str, kind: str | None) -> None:
    assert operator_kind(op) == kind


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matmul"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT", "matmul"),
        ("void pytorch_flash::flash_fwd_kernel<...>", "attention"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<...>", "layout"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_bf16bf16", "convolution"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>", "normalisation"),
        ("Cijk_Ailk_Bljk_BBS_BH_MT128x128x32", "matmul"),
        ("triton_poi_fused_add_gelu_0", "pointwise"),
        ("something_else_entirely", None),
    ],
)
def test_kernel_kinds(kernel: str, kind: str | None) -> None:
    assert kernel_kind(kernel) == kind


def _classify(op: str, kernel: str = "", module: str = "", *, in_attention: bool = False, depthwise: bool = False) -> str:
    category = "kernel" if kernel else "operator"
    return classify(op, kernel, category=category, depthwise=depthwise, in_attention=in_attention, module=module)


def test_materialised_scores_are_attention_and_projections_are_not() -> None:
    assert _classify("aten::bmm", module="blocks.3.attn") == "attention"
    assert _classify("aten::_softmax", module="layers.0.blocks.1.attn") == "attention"
    assert _classify("aten::addmm", module="blocks.3.attn.qkv") == "matmul"
    assert _classify("aten::bmm", module="blocks.3.mlp") == "matmul"
    assert _classify("aten::bmm", in_attention=True) == "attention"


def test_layout_kernels_inside_a_convolution_are_layout() -> None:
    assert _classify("aten::cudnn_convolution", "cudnn::nchwToNhwcKernel") == "layout"
    assert _classify("aten::cudnn_convolution", "sm80_fprop_kernel") == "convolution"
    assert _classify("aten::cudnn_convolution", "some_dw_kernel", depthwise=True) == "depthwise"
    assert _classify("", "mystery") == "unclassified"


def test_depthwise_needs_one_channel_per_group() -> None:
    image = TensorArg((1, 96, 56, 56), "float32")
    assert is_depthwise(OpCall("aten::conv2d", (image, TensorArg((96, 1, 7, 7), "float32"))))
    assert not is_depthwise(OpCall("aten::conv2d", (image, TensorArg((192, 96, 2, 2), "float32"))))
    grey = TensorArg((1, 1, 56, 56), "float32")
    assert not is_depthwise(OpCall("aten::conv2d", (grey, TensorArg((8, 1, 3, 3), "float32"))))
