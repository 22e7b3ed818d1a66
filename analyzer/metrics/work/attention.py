"""Attention in one operator, forward."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, read_bytes, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.arguments.attention import ATTENTIONS, TOKENS_FIRST, attention
from analyzer.trace.shapes import short_name

# the flag that asks for the logarithm of the sum (True: always written)
_LOGARITHM: dict[str, int | bool] = {
    "scaled_dot_product_attention": False,
    "_scaled_dot_product_efficient_attention": 4,
    "_scaled_dot_product_cudnn_attention": 4,
    "_efficient_attention_forward": 10,
    "_cudnn_attention_forward": 8,
}


@register(*ATTENTIONS)
def _forward(call: OpCall) -> Work | None:
    """2 * B*H*N_q*N_k * (D_qk + D_v), H being the heads of the queries; reads q, k, v and the mask, writes the output.

    The logarithm of the sum, float32[B,H,N_q], is written too where the operator always does or was asked to.
    Approximation: causal masks are not subtracted, as in torch's counter.
    """
    found = attention(call)
    if found is None:
        return None
    q, k, v = found.q, found.k, found.v
    flag = _LOGARITHM.get(short_name(call), True)
    writes: list[TensorArg] = call.results()[:2] or [found.out, *_logarithm(call, q, flag)]
    scores = score_count(q, k, found.tokens_first)
    return tally(2.0 * scores * (q.shape[-1] + v.shape[-1]), [q, k, v, found.mask], writes)


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
