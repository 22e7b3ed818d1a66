"""Turns an operator call into the problem that its kernel solves, with the name of its access pattern.

Only shapes, strides and concrete arguments count. An operator that has no such loop nest gets none, and neither do
backward operators, transposed convolutions, views and packed sequences: their bytes are left to the model of work.
"""

from __future__ import annotations

import math

from analyzer.access.passes import pass_of
from analyzer.access.problem import Attention, Described, Problem, Product
from analyzer.access.windows import convolution_of, pooling_of
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.arguments.attention import attention
from analyzer.trace.arguments.products import ProductArguments, product
from analyzer.trace.fused import fused_kind
from analyzer.trace.kinds import is_bracket, is_wrapper, operator_kind
from analyzer.trace.shapes import shapes_text

_MATRIX = ("matmul", "convolution", "depthwise", "attention", "moe")
_UNKNOWN = ("", "other", "unclassified")
_LARGEST = 1 << 60
"""No machine holds more; such a size comes from a damaged trace."""


def describe(call: OpCall, kind: str = "") -> Described | None:
    """Return the problem of ``call``; None where it has none or its arguments do not tell. Never raises.

    ``kind``: that of the kernel where it is known. A kernel that only rearranges data for a product or a convolution does
    not solve the problem of its operator, so it gets none.

    Approximation: both factors of a product, and image and weights, count in the element size of the first.
    """
    if "backward" in call.name.lower() or fused_kind(call.name) or is_bracket(call.name):
        return None
    try:
        found = _problem(call, kind)
        if found is None or not _is_possible(found[1]):
            return None
    except (ArithmeticError, LookupError, TypeError, ValueError):  # arguments that contradict each other: a damaged trace
        return None
    shapes, dtype = shapes_text(call)
    return Described(*found, shapes, dtype)


def _problem(call: OpCall, kind: str) -> tuple[str, Problem] | None:
    own = operator_kind(call.name)
    helps = own in _MATRIX and kind not in _MATRIX and kind not in _UNKNOWN
    if helps or own in ("view", "collective", "optimizer"):
        return None
    found = _product(call) or convolution_of(call) or _attention(call) or pooling_of(call)
    if found is not None or own in _MATRIX or (own is None and is_wrapper(call.name)):
        return found
    return pass_of(call, own or kind)


def _is_possible(problem: Problem) -> bool:
    return 0 < problem.read_bytes + problem.write_bytes < _LARGEST and math.isfinite(problem.flop)


def _product(call: OpCall) -> tuple[str, Product] | None:
    """Return a product whose factor without a batch of its own (a weight) makes all rows one product."""
    found = product(call)
    if found is None:
        return None
    a, b = found.a, found.b
    if len(a.shape) < 3 or len(b.shape) < 3 or found.is_linear:
        pattern = "linear"
    else:
        pattern = "linear" if _is_shared(b) or _is_shared(a) else "scores"
    batch, m, n, k = _sizes(found)
    if len(found.out.shape) < len(found.shape):  # summed over the batch, which is one long inner dimension
        batch, k = 1, batch * k
    elif _is_shared(b) or found.is_linear:
        batch, m = 1, batch * m
    elif _is_shared(a):  # the same product transposed
        batch, m, n = 1, batch * n, m
    if min(batch, m, n, k) < 1:
        return None
    extra = sum(t.footprint_bytes for t in found.added)
    return pattern, Product(batch, m, n, k, a.itemsize, found.out.itemsize, extra)


def _sizes(found: ProductArguments) -> tuple[int, int, int, int]:
    a, b = found.a.shape, found.b.shape
    m = a[-2] if len(a) > 1 else 1
    # a packed weight has a shape of its own, so the product tells the columns
    has_columns = len(found.shape) == len(a) if found.is_linear else len(b) > 1
    n = found.shape[-1] if has_columns else 1
    return math.prod(found.shape) // max(m * n, 1), m, n, a[-1]


def _is_shared(tensor: TensorArg) -> bool:
    """Tell whether a factor is the same for the whole batch."""
    lead = tensor.shape[:-2]
    steps = tensor.stride or ()
    expanded = len(steps) == len(tensor.shape)
    return all(n == 1 or (expanded and step == 0) for n, step in zip(lead, steps if expanded else lead, strict=False))


def _attention(call: OpCall) -> tuple[str, Attention] | None:
    """Return attention in one kernel.

    Approximation: the logarithms of the sums that some operators write, float32 [B, H, N], do not count: 1 % of the bytes
    with heads of 64 channels.
    """
    found = attention(call)
    if found is None:
        return None
    q, v = found.q, found.v
    sizes = (q.shape[0], found.heads, found.kv_heads, found.queries, found.keys, q.shape[-1], v.shape[-1])
    if min(sizes) < 1 or found.heads % found.kv_heads:
        return None
    mask = 0 if found.mask is None else found.mask.footprint_bytes
    return "attention_fused", Attention(*sizes, q.itemsize, found.causal, mask)
