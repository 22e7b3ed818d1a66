"""Attention in one operator."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, read_bytes, register
from analyzer.schema.operators import OpCall, TensorArg


@register(
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable",
    "_flash_attention_forward", "_efficient_attention_forward", "_cudnn_attention_forward", "scaled_dot_product_attention",
)  # fmt: skip
def _fused_attention(call: OpCall) -> Work | None:
    """2 * B*H*N_q*N_k * (D_qk + D_v); q[B,H,N,D], or q[B,N,H,D] for the inner kernels. Reads q, k, v and writes the output.

    Approximation: causal masks are not subtracted.
    """
    q, k, v = call.tensor(0), call.tensor(1), call.tensor(2)
    if q is None or k is None or v is None or not 3 <= len(q.shape) == len(k.shape) == len(v.shape) <= 4:
        return None
    inner = call.name in ("aten::_flash_attention_forward", "aten::_efficient_attention_forward")
    if inner and len(q.shape) == 3:
        return None  # packed sequences: their lengths are not in the shapes
    rows = 1 if inner else len(q.shape) - 2
    pairs = math.prod(q.shape[:-1]) * k.shape[rows]
    out = TensorArg((*q.shape[:-1], v.shape[-1]), q.dtype)
    masks = [t for t in call.tensors()[3:] if len(t.shape) >= 2]
    return Work(2.0 * pairs * (q.shape[-1] + v.shape[-1]), read_bytes([q, k, v, *masks]) + out.numel * out.itemsize)


@register("_native_multi_head_attention")
def _native_attention(call: OpCall) -> Work | None:
    """The projections in and out and both products: 2BN*D*3D + 4B*N*N*D + 2BN*D*D, input [B,N,D]."""
    x, w_in, b_in, w_out, b_out = (call.tensor(i) for i in (0, 5, 6, 7, 8))
    if x is None or len(x.shape) != 3:
        return None
    b, n, d = x.shape
    tensors = [t for t in (x, w_in, b_in, w_out, b_out) if t is not None]
    return Work(8.0 * b * n * d * d + 4.0 * b * n * n * d, read_bytes(tensors) + x.numel * x.itemsize)
