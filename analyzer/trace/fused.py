"""Reads which operators a compiler fused into a kernel, from the kernel's name."""

from __future__ import annotations

import re
from functools import lru_cache

_NAME = re.compile(r"^(?:graph_\d+_)?(?P<kind>triton_(?:poi|red|per|tem|for|mm|split_scan)|cpp)_fused_(?P<body>\w+)$")
_NUMBER = re.compile(r"_\d+$")
_KINDS = {"poi": "pointwise", "red": "reduction", "per": "reduction", "tem": "template", "mm": "template", "for": "foreach",
          "split_scan": "reduction", "cpp": "loops"}  # fmt: skip

_WORDS = """
abs acos add addcdiv addcmul addmm addmv alias all amax amin any arange argmax argmin as_strided asin atan atan2 avg_pool1d
avg_pool2d avg_pool2d_backward avg_pool3d baddbmm bernoulli bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor bmm cat ceil celu clamp clamp_max clamp_min clone col2im constant_pad_nd convert_element_type
convolution convolution_backward copy copysign cos cosh count_nonzero cumprod cumsum detach diagonal div elu elu_backward
embedding embedding_dense_backward empty eq erf erfc exp exp2 expand expm1 fill flex_attention flex_attention_backward flip
floor floor_divide fmax fmin fmod full full_like gather ge gelu gelu_backward glu grid_sampler_2d gt hardsigmoid
hardsigmoid_backward hardswish hardswish_backward hardtanh hardtanh_backward im2col index index_add index_copy index_put
index_select isfinite isinf isnan le leaky_relu leaky_relu_backward lerp lift_fresh_copy linalg_vector_norm log log10 log1p log2
log_sigmoid_forward logical_and logical_not logical_or logical_xor logsumexp lt masked_fill masked_scatter max
max_pool2d_with_indices max_pool2d_with_indices_backward maximum mean min minimum mish mm mse_loss mul nan_to_num
native_batch_norm native_batch_norm_backward native_dropout native_dropout_backward native_group_norm
native_group_norm_backward native_layer_norm native_layer_norm_backward ne neg new_empty new_full new_ones new_zeros
nll_loss_backward nll_loss_forward norm ones ones_like permute pixel_shuffle pixel_unshuffle pow prod rand randn reciprocal
reflection_pad2d relu relu6 remainder repeat replication_pad2d reshape roll round rsqrt rsub scalar_tensor scatter scatter_add
select select_backward select_scatter sigmoid sigmoid_backward sign silu silu_backward sin sinh slice slice_backward
slice_scatter softplus softplus_backward sort split split_with_sizes sqrt square squeeze stack std std_mean sub sum t tan tanh
tanh_backward threshold_backward topk transpose tril triu trunc unbind unfold unsqueeze upsample_bicubic2d upsample_bilinear2d
upsample_nearest2d upsample_nearest2d_backward var var_mean view where xlogy zeros zeros_like scaled_dot_product_attention
layer_norm batch_norm group_norm rms_norm softmax log_softmax cross_entropy_loss linear matmul conv2d contiguous to dropout
_adaptive_avg_pool2d _adaptive_avg_pool2d_backward _fused_rms_norm _fused_rms_norm_backward _log_softmax
_log_softmax_backward_data _native_batch_norm_legit _native_batch_norm_legit_functional
_native_batch_norm_legit_no_training _reshape_alias _scaled_mm _softmax _softmax_backward_data _to_copy _unsafe_index
_unsafe_index_put _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _weight_norm_interface _foreach_add _foreach_mul
_foreach_addcdiv _foreach_addcmul _foreach_div _foreach_lerp _foreach_sqrt _foreach_sub _foreach_copy _foreach_pow _int_mm
__lshift__ __rshift__
"""
_KNOWN = frozenset(_WORDS.split())
_LONGEST = max(map(len, _KNOWN))
"""Operators that Inductor puts into names. It drops the namespace and the overload."""


@lru_cache(maxsize=4096)
def fused_operators(name: str) -> tuple[str, ...]:
    """Return the operators in the name of a compiled kernel, without namespace: ``triton_poi_fused_add_relu_0`` has two.

    Empty where the name carries none (``triton__0d1d2d``) or is not that of a compiled kernel. Words that are no known operator
    are skipped; where several operators fit, the longest does, as names contain underscores themselves.
    """
    match = _NAME.match(name[:2000])
    if match is None:
        return ()
    text = _NUMBER.sub("", match["body"])
    found = []
    at = 0
    while at < len(text):
        reach = range(min(len(text) - at, _LONGEST), 0, -1)
        length = next((n for n in reach if _ends(text, at + n) and text[at : at + n] in _KNOWN), 0)
        if length:
            found.append(text[at : at + length])
            at += length + 1
        else:
            at = _next_word(text, at)
    return tuple(found)


def fused_kind(name: str) -> str | None:
    """Return what sort of kernel it is; None for names that are not those of one.

    One of ``pointwise``, ``reduction``, ``template`` and ``foreach``, or ``loops`` for C++ code, whose names do not tell.
    """
    match = _NAME.match(name[:2000])
    return None if match is None else _KINDS[match["kind"].removeprefix("triton_")]


def _ends(text: str, at: int) -> bool:
    return at == len(text) or text[at] == "_"


def _next_word(text: str, at: int) -> int:
    """Return where the next word begins; underscores before a word belong to it."""
    rest = text.find("_", at + (len(text[at:]) - len(text[at:].lstrip("_"))))
    return len(text) if rest < 0 else rest + 1
