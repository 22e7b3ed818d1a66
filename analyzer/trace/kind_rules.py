"""The ordered rules behind the kinds: operators by name, kernels by name, and operators that only call others.

Data, not logic: the first rule that matches decides. A new library's names belong here.
"""

from __future__ import annotations

import re

OPERATORS: tuple[tuple[str, str], ...] = (
    (r"^(nccl|rccl|_?c10d|symm_mem)|record_param_comms|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|^broadcast_?$",
     "collective"),
    (r"(^|_)moe(_|$)|fused_experts|grouped_mm", "moe"),
    (r"reshape_and_cache|concat_and_cache", "indexing"),
    (r"scaled_dot_product|flash_attn|flash_attention|efficient_attention|cudnn_attention|multi_head_attention|"
     r"flex_attention|unified_attention|mha_(fwd|bwd)|paged_attention|transformer_encoder_layer", "attention"),
    (r"_fused_(adam|sgd|adagrad)|_foreach_|^_?(adam|sgd|lamb)|amp_(foreach|update)|Optimizer\.step", "optimizer"),
    (r"rotary_embedding|quant(ize)?(_|$)|(silu|gelu|relu)_and_mul|dequantize", "pointwise"),
    (r"conv_depthwise|_conv_depthwise2d", "depthwise"),
    (r"conv(?!ert)|nnpack_spatial", "convolution"),
    (r"^_?(addmm|mm|bmm|baddbmm|addbmm|matmul|linear|einsum|addmv|mv|dot|vdot|outer|ger|addr|mkldnn_linear|scaled_mm|"
     r"mkl_linear|addmm_activation|int_mm|weight_int8pack_mm)(_|$)", "matmul"),
    (r"^__i?(and|or|xor|lshift|rshift)__$", "pointwise"),
    (r"^_?(normal|uniform|bernoulli|geometric|cauchy|poisson|multinomial|rand|randperm|randn|randint|maximum|minimum|(native|fused)_dropout|masked_fill|where|"
     r"masked_scale|nan_to_num|dirichlet|exponential|random|one_hot)(_|$|like)", "pointwise"),
    (r"(layer|batch|group|instance|rms|local_response)_?norm|^_fused_rms", "normalisation"),
    (r"softmax", "reduction"),
    (r"^nms(_|$)", "indexing"),
    (r"pool|upsample|interpolate|grid_sampler|roi_align", "pooling"),
    (r"^_?(copy|clone|to_copy|cat|stack|pad|constant_pad_nd|reflection_pad[123]d|replication_pad[123]d|roll|flip|"
     r"repeat|repeat_interleave|(pixel|channel)_(un)?shuffle|im2col|col2im|unfold_copy|reshape_copy|hstack|vstack|"
     r"to_mkldnn|to_dense|mkldnn_reorder_conv[23]d_weight|permute_copy|view_copy|split_with_sizes_copy|split_copy|rot90|"
     r"nchw_to_nhwc|nhwc_to_nchw|pad_enum|pad_circular|nested_\w+|chunk_cat|pin_memory|tile|"
     r"(t|transpose|squeeze|unsqueeze|alias|detach|unbind|expand|narrow|slice|select|lift_fresh|as_strided|"
     r"diagonal)_copy|native_channel_shuffle|mkldnn_transpose)(_backward)?_?$", "layout"),
    (r"^_?(index|gather|scatter|embedding|take|nonzero|masked|topk|sort|searchsorted|bucketize|unique\d?|index_put|"
     r"select_scatter|slice_scatter|slice_backward|select_backward|argsort|msort|kthvalue|histc|bincount|tril|triu|"
     r"tril_indices|triu_indices|put|isin|unsafe_index|unsafe_index_put|argwhere|diagonal_scatter)(_|$)", "indexing"),
    (r"^_?(sum|mean|max|min|amax|amin|argmax|argmin|var|std|prod|all|any|cumsum|logsumexp|norm|linalg|nll_loss|cross_entropy|"
     r"count_nonzero|aminmax|nll_loss2d|mse_loss|l1_loss|smooth_l1_loss|huber_loss|kl_div|binary_cross_entropy|dist|cdist|"
     r"pdist|euclidean_dist|median|nansum|nanmean|nanmedian|logcumsumexp|cummax|cummin|cumprod|mode|histogram|"
     r"soft_margin_loss|trace|trapz|equal|allclose)(_|$)", "reduction"),
    (r"^(view|reshape|_reshape_alias|t|transpose|permute|expand|expand_as|as_strided|as_strided_|unsqueeze|squeeze|select|"
     r"slice|narrow|split|chunk|unbind|flatten|unflatten|reshape_as|view_as|_nnpack_available|detach|alias|resolve_conj|"
     r"resolve_neg|to|contiguous|empty|empty_like|"
     r"empty_strided|resize_|set_|movedim|unfold|dropout|feature_dropout|lift_fresh|result_type|item|"
     r"_local_scalar_dense|numpy_T|real|is_nonzero|_unsafe_view|new_empty|size|stride|new_empty_strided|split_with_sizes)_?$",
     "view"),
    (r"^_?(add|sub|mul|div|pow|sqrt|rsqrt|exp|log|abs|neg|sigmoid|tanh|relu|gelu|silu|hardswish|hardsigmoid|hardtanh|"
     r"leaky_relu|elu|celu|softplus|mish|clamp|clamp_min|clamp_max|sin|cos|erf|reciprocal|square|addcmul|addcdiv|lerp|eq|ne|"
     r"lt|le|gt|ge|logical|bitwise|maximum|minimum|fmod|remainder|floor|ceil|round|trunc|sign|fill|zero|ones|zeros|full|"
     r"arange|threshold|native_dropout|bernoulli|uniform|normal|rand|isnan|isfinite|scalar_tensor|linspace|rsub|"
     r"floor_divide|glu|prelu|log_sigmoid|new_zeros|new_ones|new_full|eye|exp2|expm1|log2|"
     r"log1p|log10|relu6|clip|tan|atan2?|acos|asin|sinh|cosh|asinh|acosh|atanh|selu|logit|erfc|erfinv|expit|xlogy|hypot|"
     r"i0|deg2rad|rad2deg|ldexp|fix|isinf|isneginf|isposinf|fmax|fmin|isclose|negative|hann_window|hamming_window|"
     r"range|heaviside|copysign|frac|positive|sgn|signbit|softsign|tanhshrink|hardshrink|softshrink|rrelu|logsigmoid|float_power|"
     r"true_divide|multiply|subtract|divide|xor|lshift|rshift|gcd|is_same_size|not_equal|greater|less|complex|polar|"
     r"conj_physical|digamma|lgamma|sinc|logaddexp2?|logspace|angle)(_|$|like)", "pointwise"),
)  # fmt: skip

KERNELS: tuple[tuple[str, str], ...] = (
    (r"nccl|rccl|all_?reduce|cross_device_reduce|all_?gather|reduce_?scatter|alltoall|nvshmem|one_?shot|two_?shot",
     "collective"),
    (r"(^|[:_ ])(fused_)?moe([:_]|$)|routingindices|moe_align|topk_?gating|expert", "moe"),
    (r"reshape_and_cache|concat_and_cache|copy_page|page_indices", "indexing"),
    (r"nchwtonhwc|nhwctonchw|nchw2nhwc|nhwc2nchw|tensortransform|batched_transpose|subtensor|padkernel|_transpose_|"
     r"nchw2cnhw|cnhw2nchw|transpose_nchw|transpose_cnhw|layout_transform", "layout"),
    (r"flash|fmha|mha_|_attn|attn_(fwd|bwd)|attention|sdpa|(^|[_ ])(_?fwd_kernel|_?bwd_kernel)|gemm_softmax_gemm", "attention"),
    (r"depthwise|dgrad_dw|conv_dw|dwconv", "depthwise"),
    (r"conv(?!ert)|scudnn|fprop|dgrad|wgrad|winograd|implicit_gemm|igemm|xdlops_(fwd|bwd|wrw)|gemm_fwd_xdl|im2col|col2im|"
     r"im2d2col|fft2d|gcgemm|flip_filter|computeoffsetskernel|compute\w*offsetskernel|scalepackedtensor|wrw|dgrad_engine",
     "convolution"),
    (r"gemm|gemv|gemk|cutlass|cublas|nvjet|splitk|_mm_|matmul|xmma|cijk_|wmma|mfma|dot_kernel|^bmm_|gett", "matmul"),
    (r"layer_?norm|batch_?norm|group_?norm|rms_?norm|rowwisemoments|bn_fw|bn_bw|instance_?norm|welford|batchnorm|"
     r"computeinternalgradients|gammabeta", "normalisation"),
    (r"softmax", "reduction"),
    (r"nms_kernel", "indexing"),
    (r"pool|upsample|interpolate|resize|grid_sampler|roi_align", "pooling"),
    (r"multi_tensor_apply|adam|sgd|lamb_|_lamb", "optimizer"),
    (r"catarray|copy|transpose|memcpy|pad|roll_|to_copy|flip_kernel|pixel_shuffle", "layout"),
    (r"index|gather|scatter|embedding|sort|topk|nonzero|radix|scan|unique|cub::|tril|triu|deviceselect", "indexing"),
    (r"reduce|mean|argmax|sum_|_sum|norm_|nll_loss|nllcriterion|cross_entropy|welford|optensor_reduce", "reduction"),
    (r"elementwise|gelu|relu|silu|sigmoid|tanh|fill|pointwise|poi_|add_|mul_|where|arange|quant|rotary|optensor|op[1-5]dtensor|"
     r"activ|dropout|distribution|epilogue|memset|addbias|bias_?act|threshold|vectorized", "pointwise"),
)  # fmt: skip

_CALLERS = (
    "linear conv2d conv1d conv3d convolution _convolution conv_transpose2d matmul einsum layer_norm batch_norm "
    "_batch_norm_impl_index group_norm instance_norm softmax log_softmax scaled_dot_product_attention "
    "_scaled_dot_product_attention_math reshape contiguous to _to_copy clone dropout feature_dropout relu6 flatten "
    "adaptive_avg_pool2d adaptive_avg_pool1d avg_pool1d max_pool2d pad constant_pad_nd upsample_bilinear2d "
    "upsample_nearest2d unbind chunk split narrow t transpose expand expand_as view select slice type_as ones zeros "
    "ones_like zeros_like full full_like unflatten tensor_split movedim tile repeat permute unsqueeze squeeze "
    "detach item is_nonzero hstack vstack empty_like new_empty new_zeros as_strided_ concat concatenate meshgrid "
    "ravel square clip cross_entropy_loss nll_loss nll_loss_nd nll_loss2d embedding_bag "
)
WRAPPERS = frozenset(f"aten::{name}" for name in _CALLERS.split())

WRAPPER_PATTERN = re.compile(r"^(autograd::engine::evaluate_function|torch::autograd::|[A-Z]\w*Backward\d*$|Optimizer\.)")
"""Autograd's own brackets around the operators of a backward pass, as every version of torch names them."""
BRACKET_PATTERN = re.compile(
    r"^(autograd::engine::evaluate_function|torch::autograd::|[A-Z]\w*Backward\d+$|"
    r"(TorchDynamo Cache Lookup|Pregraph bytecode|AOTDispatcher Runtime Wrapper (Prologue|Epilogue))$)"
)
"""Those that do nothing when they are empty, and what torch.compile runs around compiled code (guards, bookkeeping).
A node without a number may be somebody's own function, or compiled."""

COMPILER_PATTERN = re.compile(
    r"^(Torch-Compiled Region|TorchDynamo Cache Lookup|Pregraph bytecode|AOTDispatcher Runtime Wrapper|## Call CompiledFxGraph|"
    r"CompiledFunction(Backward)?\d*$)"
)
"""What torch.compile and its caller write around compiled code. None of it is an operator."""
CALL_PATTERN = re.compile(r"^(cu|cuda|hip)[A-Z]\w*(Launch|Memcpy|Memset)\w*$|^(cu|cuda|hip)(Launch|Memcpy|Memset|Graph)\w*$")
"""Calls of the runtime, which some profilers list among the operators."""
