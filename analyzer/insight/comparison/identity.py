"""What an operator is called whatever library runs it: the names under which operators of different runs are the same."""

from __future__ import annotations

import re
from functools import lru_cache

from analyzer.trace.kinds import JOINT

ATTENTION = "scaled_dot_product_attention"

_CONVOLUTION = r"(cudnn_|miopen_|mkldnn_|thnn_|_?slow_|_)?(depthwise_)?conv(olution|(_depthwise)?\d[dD])"
_SPELLINGS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"_?(scaled_dot_product|flash|efficient|cudnn)_(\w+_)?(attention|attn)(_\w+)?_backward", f"{ATTENTION}_backward"),
        (
            r"_?scaled_dot_product_(\w+_)?attention(_\w+)?|_?(flash|efficient|cudnn)_(attention|attn)(_(varlen_)?forward)?",
            ATTENTION,
        ),
        (rf"{_CONVOLUTION}_(double_)?backward(_\w+)?", "convolution_backward"),
        (rf"{_CONVOLUTION}(_overrideable|_mode|_only|_forward)?|_nnpack_spatial_convolution", "convolution"),
        (r"_?(cudnn_|miopen_|native_)?batch_norm_backward", "batch_norm_backward"),
        (
            r"_?(cudnn_|miopen_|native_)?batch_norm(_impl_index|_with_update\w*|_no_update|_legit\w*|_no_training)?",
            "batch_norm",
        ),
        (r"(native_)?(layer|group)_norm(_backward)?", r"\2_norm\3"),
        (r"_?(log_)?softmax", r"\1softmax"),
        (r"mkldnn_linear|_mkl_linear|_linear_pointwise|linear", "linear"),
        (r"(mkldnn_|_)?(adaptive_avg_pool\dd|max_pool\dd)(_with_indices)?", r"\2"),
        (r"(native_|_fused_)?dropout", "dropout"),
    )
)
"""Operators that belong to one implementation, and the operator that they implement."""

_LONGEST = 200
"""Longer names are nobody's operators and not worth a pattern."""

_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|module)\.")
_INDEX = re.compile(r"\[(\d+)\]")
_NUMBER = re.compile(r"(\d+)")


@lru_cache(maxsize=1 << 16)
def operator_name(op: str) -> str:
    """Return ``op`` without its namespace, its implementation and the mark of an in-place operator.

    Several that a compiler put into one kernel stay joined, each named like this.
    """
    if JOINT in op:
        return JOINT.join(map(operator_name, op.split(JOINT)))
    name = op.rsplit("::", 1)[-1]
    bare = name.rstrip("_") or name
    if len(bare) > _LONGEST:
        return bare
    for pattern, spelling in _SPELLINGS:
        found = pattern.fullmatch(bare)
        if found:
            return found.expand(spelling)
    return bare


@lru_cache(maxsize=1 << 16)
def operand_shapes(op: str, shapes: str) -> str:
    """Return ``shapes`` as they identify a call of ``op`` (an ``operator_name``).

    Entry points of attention disagree on the order of heads and tokens and on what stands behind query, key and value.
    """
    if not op.startswith(ATTENTION):
        return shapes
    out = []
    for text in shapes.split()[:3]:
        sizes = text.split("x")
        out.append("x".join((sizes[0], *sorted(sizes[1:3]), *sizes[3:])) if len(sizes) == 4 else text)
    return " ".join(out)


@lru_cache(maxsize=1 << 16)
def module_name(module: str) -> str:
    """Return ``module`` without what ``torch.compile`` and the wrappers for several GPUs put into its path."""
    return _WRAPPERS.sub("", _INDEX.sub(r".\1", module))


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts ``blocks.2`` before ``blocks.10``."""
    parts = _NUMBER.split(text)
    return tuple((len(part.lstrip("0")), part) if place % 2 else (0, part) for place, part in enumerate(parts))
