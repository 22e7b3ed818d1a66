"""Kinds of operators and kernels."""

from __future__ import annotations

import pytest

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.kind_rules import KERNELS, OPERATORS
from analyzer.trace.kinds import KINDS, ROLES, classify, is_bracket, is_depthwise, is_wrapper, kernel_kind, operator_kind


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
        ("aten::cudnn_convolution_transpose", "convolution"), ("aten::_conv_depthwise2d", "depthwise"), ("aten::convert", None),
        ("aten::_native_batch_norm_legit_no_training", "normalisation"), ("aten::cudnn_batch_norm_backward", "normalisation"),
        ("aten::_softmax_backward_data", "reduction"), ("aten::nll_loss_forward", "reduction"), ("aten::mse_loss", "reduction"),
        ("aten::_fused_adamw_", "optimizer"), ("aten::_foreach_add_", "optimizer"), ("aten::native_dropout", "pointwise"),
        ("aten::_upsample_bicubic2d_aa", "pooling"), ("aten::grid_sampler_2d", "pooling"), ("torchvision::nms", "indexing"),
        ("aten::pixel_unshuffle", "layout"), ("aten::unfold", "view"), ("aten::im2col", "layout"), ("aten::argsort", "indexing"),
        ("aten::index_put_", "indexing"), ("aten::nonzero", "indexing"), ("aten::tril", "indexing"), ("aten::cdist", "reduction"),
        ("aten::bitwise_xor", "pointwise"), ("aten::__xor__", "pointwise"), ("aten::slice_backward", "indexing"), ("aten::_unsafe_index", "indexing"), ("aten::transpose_copy", "layout"), ("aten::cumprod", "reduction"), ("aten::cummax", "reduction"), ("aten::isinf", "pointwise"), ("aten::randperm", "pointwise"), ("aten::outer", "matmul"), ("aten::einsum", "matmul"),
        ("aten::_native_multi_head_attention", "attention"), ("aten::scaled_dot_product_attention", "attention"),
        ("vllm::unified_attention_with_output", "attention"), ("vllm::moe_forward", "moe"), ("_C::rms_norm", "normalisation"),
        ("_C::rotary_embedding", "pointwise"), ("_C::static_scaled_fp8_quant", "pointwise"), ("aten::embedding", "indexing"),
        ("_C_cache_ops::reshape_and_cache_flash", "indexing"), ("symm_mem::multimem_all_reduce_", "collective"),
        ("record_param_comms", "collective"), ("nccl:all_gather", "collective"), ("c10d::allreduce_", "collective"),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", None), ("ConvolutionBackward0", None),
        ("triton_poi_fused_add_gelu_0", "pointwise"), ("triton_per_fused_native_layer_norm_3", "normalisation"),
        ("triton_red_fused__softmax_1", "reduction"), ("triton_tem_fused_addmm_7", "matmul"), ("triton_poi_fused_cat_2", "layout"),
        ("triton_poi_fused_convolution_relu_5", "pointwise"), ("triton_tem_fused_convolution_8", "convolution"),
        ("triton_per_fused_add_var_mean_9", "normalisation"), ("triton_poi_fused_max_pool2d_with_indices_1", "pooling"),
        ("triton_for_fused__foreach_add_0", "optimizer"), ("cpp_fused_add_relu_0", "pointwise"),
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
        ("void wgrad_alg0_engine<float, 128, 6, 7, 3, 3, 5, false, 512>(int)", "convolution"),
        ("cudnn_volta_scudnn_128x64_relu_small_nn_v1", "convolution"),
        ("miopenSp3AsmConv_v30_3_1_gfx94x_fp32_f2x3_stride1", "convolution"),
        ("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt64x64x16", "convolution"),
        ("MIOpenBatchNormFwdInferSpatialEst", "normalisation"),
        ("void ck::kernel_grouped_conv_fwd_multiple_abd_xdl_cshuffle<x>", "convolution"),
        ("ck::kernel_gemm_xdl_cshuffle_v3<x>", "matmul"),
        ("batched_transpose_32x32_dword", "layout"),
        ("attn_fwd", "attention"),
        ("_fwd_kernel_aligned_0d1d2d3d45d6de7de", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(x)", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8>", "matmul"),
        ("void gemmSN_TN_kernel<float, 128, 16, 2, 4, 4, 4, true>", "matmul"),
        ("void splitKreduce_kernel<32, 16, int, float>", "matmul"),
        ("bmm_Bfloat16_MxE2m1MxE4m3_Fp32_t128x16x256u2_s3", "matmul"),
        ("void moe::dev::finalize::finalizeKernelVecLoad<x>", "moe"),
        ("ncclDevKernel_AllGather_RING_LL(x)", "collective"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float>", "normalisation"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<bool>", "layout"),
        ("void at_cuda_detail::cub::DeviceReduceKernel<x>", "indexing"),
        (
            "void at::native::vectorized_elementwise_kernel<4, GeluCUDAKernelImpl(at::TensorIteratorBase&)::{lambda()#1}>",
            "pointwise",
        ),
        ("void multi_tensor_apply_kernel<x>", "optimizer"),
        ("triton_per_fused_native_layer_norm_0", "normalisation"),
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


def test_unnamed_triton_kernels_that_share_memory_reduce() -> None:
    """Old names say nothing; elements that do not meet need no shared memory."""
    assert kernel_kind("triton__0d1d2d3de") == "pointwise"
    assert kernel_kind("triton__0d1d2d3de", shares=True) == "reduction"
    assert kernel_kind("triton_poi_fused_add_0", shares=True) == "pointwise"


@pytest.mark.parametrize(
    ("op", "wrapper"),
    [
        ("autograd::engine::evaluate_function: AddmmBackward0", True), ("AddmmBackward0", True), ("CudnnConvolutionBackward", True),
        ("torch::autograd::AccumulateGrad", True), ("aten::linear", True), ("Optimizer.step#SGD.step", True),
        ("aten::convolution_backward", False), ("aten::addmm", False), ("MyBackwardPass", False),
    ],
)  # fmt: skip
def test_wrappers_only_call_others(op: str, wrapper: bool) -> None:
    assert is_wrapper(op) == wrapper


@pytest.mark.parametrize(
    ("op", "empty"),
    [
        ("AddBackward0", True), ("ReluBackward1", True), ("autograd::engine::evaluate_function: X", True),
        ("torch::autograd::AccumulateGrad", True), ("CompiledFunctionBackward", False), ("MyFunctionBackward", False),
        ("aten::linear", False),
    ],
)  # fmt: skip
def test_only_generated_nodes_are_known_to_do_nothing(op: str, empty: bool) -> None:
    assert is_bracket(op) == empty


def test_depthwise_backward_is_depthwise() -> None:
    image, weight = TensorArg((2, 96, 56, 56), "float32"), TensorArg((96, 1, 7, 7), "float32")
    assert is_depthwise(OpCall("aten::convolution_backward", (image, image, weight)))
    assert is_depthwise(OpCall("aten::cudnn_convolution_backward_input", (None, image, weight)))
    assert is_depthwise(OpCall("aten::cudnn_convolution_backward_weight", (None, image, image), (weight,)))
    dense = TensorArg((96, 96, 7, 7), "float32")
    assert not is_depthwise(OpCall("aten::convolution_backward", (image, image, dense)))
    assert not is_depthwise(OpCall("aten::cudnn_convolution_backward_weight", (None, image, image)))


def test_two_rules_never_name_a_kind_that_does_not_exist() -> None:
    assert {kind for _, kind in (*OPERATORS, *KERNELS)} <= set(KINDS)
