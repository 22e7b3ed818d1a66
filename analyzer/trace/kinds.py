"""Ordered rules that name what a kernel does, from its operator first and its own name second."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import pandas as pd

from analyzer.schema.operators import OpCall
from analyzer.schema.tables import records
from analyzer.trace.spans import Spans

KINDS = (
    "attention", "matmul", "convolution", "depthwise", "normalisation", "pointwise", "pooling", "reduction", "indexing",
    "layout", "transfer", "view", "collective", "optimizer", "other", "unclassified",
)  # fmt: skip
"""All kinds in their fixed order, which is also the order and colour of every figure."""

ROLES = {
    "attention": "token or spatial mixing", "depthwise": "token or spatial mixing", "matmul": "dense math",
    "convolution": "dense math", "normalisation": "normalisation", "pointwise": "pointwise", "pooling": "pooling",
    "reduction": "other", "indexing": "data movement", "layout": "data movement", "transfer": "data movement",
    "view": "other", "collective": "communication", "optimizer": "training", "other": "other", "unclassified": "other",
}  # fmt: skip

NOT_CLASSIFIED = ("other", "unclassified")

_OPERATORS: tuple[tuple[str, str], ...] = (
    (r"scaled_dot_product|flash_attention|efficient_attention|cudnn_attention|_native_multi_head_attention", "attention"),
    (r"_fused_adam|_foreach_|adam|sgd", "optimizer"),
    (r"^(nccl|c10d|record_param_comms|_c10d)", "collective"),
    (r"conv_depthwise|_conv_depthwise2d", "depthwise"),
    (r"conv(?!ert)|thnn_conv|slow_conv|nnpack_spatial", "convolution"),
    (r"^_?(addmm|mm|bmm|baddbmm|addbmm|matmul|linear|einsum|addmv|mv|dot|mkldnn_linear|scaled_mm|mkl_linear|"
     r"addmm_activation)(_|$)", "matmul"),
    (r"^(normal|uniform|bernoulli|rand|maximum|minimum|native_dropout|masked_fill|where)(_|$)", "pointwise"),
    (r"(layer|batch|group|instance|rms|local_response)_?norm|^_fused_rms", "normalisation"),
    (r"softmax", "reduction"),
    (r"pool", "pooling"),
    (r"upsample|interpolate|grid_sampler", "pooling"),
    (r"^_?(copy|clone|contiguous|to_copy|to|cat|stack|pad|constant_pad_nd|reflection_pad[123]d|replication_pad[123]d|roll|flip|"
     r"repeat|repeat_interleave|pixel_shuffle|channel_shuffle|im2col|col2im|reshape_copy|hstack|vstack|to_mkldnn|"
     r"mkldnn_reorder_conv2d_weight)_?$", "layout"),
    (r"^_?(index|gather|scatter|embedding|take|nonzero|masked|topk|sort|searchsorted|bucketize|unique\d?|index_put|"
     r"select_scatter|slice_scatter|tril|triu)(_|$)", "indexing"),
    (r"^_?(sum|mean|max|min|amax|amin|argmax|argmin|var|std|prod|all|any|cumsum|logsumexp|norm|linalg|nll_loss|cross_entropy|"
     r"count_nonzero|aminmax|nll_loss2d)(_|$)", "reduction"),
    (r"^(view|reshape|_reshape_alias|t|transpose|permute|expand|expand_as|as_strided|as_strided_|unsqueeze|squeeze|select|"
     r"slice|narrow|split|chunk|unbind|flatten|unflatten|detach|alias|resolve_conj|resolve_neg|empty|empty_like|"
     r"empty_strided|resize_|set_|movedim|unfold|dropout|feature_dropout|lift_fresh|result_type|item|"
     r"_local_scalar_dense|numpy_T|real|is_nonzero|_unsafe_view|new_empty|size|stride|new_empty_strided|split_with_sizes)_?$",
     "view"),
    (r"^_?(add|sub|mul|div|pow|sqrt|rsqrt|exp|log|abs|neg|sigmoid|tanh|relu|gelu|silu|hardswish|hardsigmoid|hardtanh|"
     r"leaky_relu|elu|celu|softplus|mish|clamp|clamp_min|clamp_max|sin|cos|erf|reciprocal|square|addcmul|addcdiv|lerp|eq|ne|"
     r"lt|le|gt|ge|logical|bitwise|maximum|minimum|fmod|remainder|floor|ceil|round|trunc|sign|fill|zero|ones|zeros|full|"
     r"arange|threshold|native_dropout|bernoulli|uniform|normal|rand|isnan|isfinite|scalar_tensor|linspace|rsub|"
     r"floor_divide|glu|prelu|log_sigmoid|new_zeros|new_ones|new_full|eye|cumprod|exp2|expm1|log2|"
     r"log1p|log10|relu6|clip|tan)(_|$|like)", "pointwise"),
)  # fmt: skip

_KERNELS: tuple[tuple[str, str], ...] = (
    (r"nchwtonhwc|nhwctonchw|nchw2nhwc|nhwc2nchw|tensortransform|batched_transpose|subtensor|padkernel|_transpose_", "layout"),
    (r"nccl|rccl|all_?reduce|cross_device_reduce|all_?gather|reduce_?scatter", "collective"),
    (r"flash|fmha|mha_|_attn|attention|sdpa", "attention"),
    (r"depthwise|dgrad_dw|conv_dw", "depthwise"),
    (r"conv|fprop|dgrad|wgrad|winograd|implicit_gemm|igemm|xdlops_fwd|im2col", "convolution"),
    (r"gemm|gemv|cutlass|cublas|nvjet|splitk|_mm_|matmul|xmma|cijk_|wmma|dot_kernel", "matmul"),
    (r"layer_?norm|batch_?norm|group_?norm|rms_?norm|bn_fw|bn_bw|instance_norm|welford", "normalisation"),
    (r"softmax", "reduction"),
    (r"pool|upsample|interpolate", "pooling"),
    (r"multi_tensor_apply|adam|sgd", "optimizer"),
    (r"catarray|copy|transpose|memcpy|pad|roll_|to_copy", "layout"),
    (r"index|gather|scatter|embedding|sort|topk|nonzero|radix|scan|unique", "indexing"),
    (r"reduce|mean|argmax|sum_|_sum|norm_", "reduction"),
    (r"elementwise|gelu|relu|silu|sigmoid|tanh|fill|pointwise|poi_|add_|mul_|where|arange", "pointwise"),
)  # fmt: skip

_WRAPPERS = frozenset(
    f"aten::{name}"
    for name in [
        "linear",
        "conv2d",
        "conv1d",
        "conv3d",
        "convolution",
        "_convolution",
        "conv_transpose2d",
        "matmul",
        "einsum",
        "layer_norm",
        "batch_norm",
        "_batch_norm_impl_index",
        "group_norm",
        "instance_norm",
        "softmax",
        "log_softmax",
        "scaled_dot_product_attention",
        "_scaled_dot_product_attention_math",
        "reshape",
        "contiguous",
        "to",
        "_to_copy",
        "clone",
        "dropout",
        "feature_dropout",
        "relu6",
        "flatten",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool1d",
        "avg_pool1d",
        "max_pool2d",
        "pad",
        "constant_pad_nd",
        "upsample_bilinear2d",
        "upsample_nearest2d",
        "unbind",
        "chunk",
        "split",
        "narrow",
        "t",
        "transpose",
        "expand",
        "expand_as",
        "view",
        "select",
        "slice",
        "type_as",
        "ones",
        "zeros",
        "ones_like",
        "zeros_like",
        "full",
        "full_like",
        "unflatten",
        "tensor_split",
        "movedim",
        "tile",
        "repeat",
        "permute",
        "unsqueeze",
        "squeeze",
        "detach",
        "item",
        "is_nonzero",
        "hstack",
        "vstack",
        "empty_like",
        "new_empty",
        "new_zeros",
        "as_strided_",
        "concat",
        "concatenate",
        "meshgrid",
        "ravel",
        "square",
        "clip",
    ]
)

_OPERATOR_RULES = tuple((re.compile(pattern), kind) for pattern, kind in _OPERATORS)
_KERNEL_RULES = tuple((re.compile(pattern), kind) for pattern, kind in _KERNELS)
_ATTENTION_MODULE = re.compile(r"(^|[._])(attn|attention|selfattention|self_attn|mha|multihead\w*)($|[._\d])", re.IGNORECASE)


def is_wrapper(op: str) -> bool:
    """Tell whether ``op`` only calls other operators, so that its own time is dispatch and not work."""
    return op in _WRAPPERS


@lru_cache(maxsize=65536)
def operator_kind(op: str) -> str | None:
    """Return the kind of an operator by its name, None where no rule fits."""
    short = op.split("::", 1)[1] if op.startswith(("aten::", "torchvision::", "prims::")) else op
    short = short.removesuffix("_backward") if short.endswith("_backward") else short
    return next((kind for rule, kind in _OPERATOR_RULES if rule.search(short)), None)


@lru_cache(maxsize=65536)
def kernel_kind(kernel: str) -> str | None:
    """Return the kind of a GPU kernel by its own name, None where no rule fits."""
    name = kernel[:2000].lower()
    return next((kind for rule, kind in _KERNEL_RULES if rule.search(name)), None)


def is_depthwise(call: OpCall) -> bool:
    """Tell whether a convolution has one input channel per group and more than one group."""
    image, weight = call.tensor(0), call.tensor(1)
    if image is None or weight is None or len(weight.shape) < 4 or len(image.shape) < 3:
        return False
    return weight.shape[1] == 1 and weight.shape[0] > 1 and image.shape[-3] == weight.shape[0]


def classify(op: str, kernel: str, *, category: str, depthwise: bool, in_attention: bool, module: str) -> str:
    """Return the kind of one launch.

    The operator decides; a kernel that only rearranges data for it (NCHW to NHWC before a convolution) counts as layout.
    ``depthwise``: the convolution has one group per channel. ``in_attention``: an operator of attention encloses it.
    A softmax or a batched product in a module named after attention belongs to attention with its scores materialised.
    """
    if category in ("memcpy", "memset"):
        return "transfer"
    own = kernel_kind(kernel) if category == "kernel" else None
    by_op = operator_kind(op) if op else None
    if own == "layout" and by_op in ("convolution", "depthwise", "matmul", "attention", "normalisation"):
        return "layout"
    if by_op is None or (by_op == "view" and own):
        return own or "unclassified"
    if by_op == "convolution" and depthwise:
        return "depthwise"
    if by_op == "view":
        return by_op
    scores = re.search(r"softmax|::b(add)?bmm$|::bmm$", op) and _ATTENTION_MODULE.search(module)
    return "attention" if in_attention or scores else by_op


def classify_launches(launches: pd.DataFrame, calls: list[OpCall | None], ops: Spans, names: list[str]) -> pd.DataFrame:
    """Return ``launches`` with the columns ``kind`` and ``role``.

    ``calls``, ``ops`` and ``names`` describe the operators of the trace; ``launches.op_index`` points into them.
    """
    attention = enclosed_by(names, ops, lambda name: operator_kind(name) == "attention" or "_dot_product_" in name)
    kinds = []
    for row in records(launches, "op", "kernel", "category", "module", "op_index"):
        call = calls[row.op_index] if row.op_index >= 0 else None
        kinds.append(
            classify(
                row.op, row.kernel, category=row.category, module=row.module,
                depthwise=call is not None and is_depthwise(call),
                in_attention=row.op_index >= 0 and attention[row.op_index],
            )
        )  # fmt: skip
    return launches.assign(kind=kinds, role=[ROLES[kind] for kind in kinds])


def enclosed_by(names: list[str], ops: Spans, wanted: Callable[[str], bool]) -> list[bool]:
    """Tell for each operator whether it, or one that encloses it, is ``wanted``."""
    known = {name: wanted(name) for name in set(names)}
    out = [known[name] for name in names]
    for i in ops.order.tolist():  # parents first, so each has its answer when its children ask
        parent = int(ops.parent[i])
        out[i] = out[i] or (parent >= 0 and out[parent])
    return out
