"""Attention in one operator, forward."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, read_bytes, register, short_name, tally
from analyzer.metrics.work.shapes import like
from analyzer.schema.operators import OpCall, TensorArg

TOKENS_FIRST = frozenset((
    "_flash_attention_forward", "_efficient_attention_forward", "_flash_attention_backward", "_efficient_attention_backward",
))  # fmt: skip
"""Operators whose tensors are [B, N, H, D]; those of all others, ``_cudnn_attention_forward`` too, are [B, H, N, D]."""

# where the mask or bias stands, and the flag that asks for the logarithm of the sum (True: always written)
_FORWARD: dict[str, tuple[int, int | bool]] = {
    "scaled_dot_product_attention": (3, False),
    "_scaled_dot_product_flash_attention": (-1, True),
    "_scaled_dot_product_flash_attention_for_cpu": (5, True),
    "_scaled_dot_product_efficient_attention": (3, 4),
    "_scaled_dot_product_cudnn_attention": (3, 4),
    "_scaled_dot_product_fused_attention_overrideable": (3, True),
    "_flash_attention_forward": (14, True),
    "_efficient_attention_forward": (3, 10),
    "_cudnn_attention_forward": (3, 8),
}


@register(*_FORWARD)
def _forward(call: OpCall) -> Work | None:
    """2 * B*H*N_q*N_k * (D_qk + D_v), H being the heads of the queries; reads q, k, v and the mask, writes the output.

    The logarithm of the sum, float32[B,H,N_q], is written too where the operator always does or was asked to.
    Approximation: causal masks are not subtracted, as in torch's counter.
    """
    q, k, v = call.tensor(0), call.tensor(1), call.tensor(2)
    if q is None or k is None or v is None or not 3 <= len(q.shape) == len(k.shape) == len(v.shape) <= 4:
        return None
    name = short_name(call)
    inner = name in TOKENS_FIRST
    if (inner or "cudnn" in name) and len(q.shape) == 3:
        return None  # packed sequences: their lengths are not in the shapes
    mask_at, sum_at = _FORWARD[name]
    out = like(q, (*q.shape[:-1], v.shape[-1]))
    writes: list[TensorArg] = call.results()[:2] or [out, *_logarithm(call, q, sum_at)]
    mask = call.tensor(mask_at) if mask_at >= 0 else None
    return tally(2.0 * score_count(q, k, inner) * (q.shape[-1] + v.shape[-1]), [q, k, v, mask], writes)


def score_count(q: TensorArg, k: TensorArg, tokens_first: bool) -> int:
    """Return the number of scores, B * H * N_q * N_k."""
    return math.prod(q.shape[:-1]) * k.shape[1 if tokens_first else len(q.shape) - 2]


def _logarithm(call: OpCall, q: TensorArg, flag: int | bool) -> list[TensorArg]:
    asked = flag if isinstance(flag, bool) else call.value(flag) is True
    if not asked:
        return []
    *lead, tokens = q.shape[:-1]
    if short_name(call) in TOKENS_FIRST:
        lead, tokens = [lead[0], tokens], lead[1]
    if "efficient" in call.name:
        tokens = -(-tokens // 32) * 32  # its rows are padded to whole blocks
    return [TensorArg((*lead, tokens), "float32")]


@register("_native_multi_head_attention")
def _native_attention(call: OpCall) -> Work | None:
    """The projections in and out and both products: 2BN*D*3D + 4B*N*N*D + 2BN*D*D, input [B,N,D]."""
    x, w_in, b_in, w_out, b_out, mask = (call.tensor(i) for i in (0, 5, 6, 7, 8, 9))
    if x is None or len(x.shape) != 3:
        return None
    b, n, d = x.shape
    tensors = [t for t in (x, w_in, b_in, w_out, b_out, mask) if t is not None]
    return Work(8.0 * b * n * d * d + 4.0 * b * n * n * d, read_bytes(tensors) + x.numel * x.itemsize)
