"""Gradients of attention in one operator."""

from __future__ import annotations

from analyzer.metrics.work.attention import score_count
from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.arguments.attention import TOKENS_FIRST
from analyzer.trace.shapes import like, short_name

# positions of: bias or mask, output, logarithm of the sum, flag(s) that ask for the bias's gradient (-1: it has none)
_BACKWARD = {
    "_scaled_dot_product_flash_attention_backward": (-1, 4, 5, -1),
    "_scaled_dot_product_flash_attention_for_cpu_backward": (8, 4, 5, -1),
    "_scaled_dot_product_efficient_attention_backward": (4, 5, 6, 10),
    "_scaled_dot_product_cudnn_attention_backward": (8, 4, 5, -1),
    "_scaled_dot_product_fused_attention_overrideable_backward": (4, 6, 7, 5),
    "_flash_attention_backward": (-1, 4, 5, -1),
    "_efficient_attention_backward": (4, 5, 10, 15),
    "_cudnn_attention_backward": (8, 4, 5, -1),
}


@register(*_BACKWARD)
def _backward(call: OpCall) -> Work | None:
    """2 * B*H*N_q*N_k * (3 D_qk + 2 D_v): the scores anew, and the gradients of scores, values, queries and keys.

    Reads the gradient, q, k, v, the output, the sums and the mask; writes the gradients of q, k, v (and the bias).
    Approximation: causal masks are not subtracted, as in torch's counter.
    """
    grad, q, k, v = (call.tensor(i) for i in range(4))
    if grad is None or q is None or k is None or v is None or len({len(t.shape) for t in (grad, q, k, v)}) != 1:
        return None
    name = short_name(call)
    if len(q.shape) != 4:
        return None  # packed sequences: their lengths are not in the shapes
    mask_at, out_at, sum_at, flag_at = _BACKWARD[name]
    bias = call.tensor(mask_at) if mask_at >= 0 else None
    writes: list[TensorArg] = call.results()[:4]
    if not writes:
        asked = _asks_for_bias(call, flag_at) if bias is not None else False
        if asked is None:
            return None
        writes = [like(t) for t in (q, k, v)] + ([like(bias)] if bias is not None and asked else [])
    scores = score_count(q, k, name in TOKENS_FIRST)
    flop = 2.0 * scores * (3 * q.shape[-1] + 2 * v.shape[-1])
    return tally(flop, [grad, q, k, v, call.tensor(out_at), call.tensor(sum_at), bias], writes)


def _asks_for_bias(call: OpCall, position: int) -> bool | None:
    """Tell whether the bias gets a gradient, None where that was not recorded."""
    given = call.inputs[position] if 0 <= position < len(call.inputs) else None
    if isinstance(given, tuple) and given:
        return given[-1] is True
    return given if isinstance(given, bool) else False if position < 0 else None
