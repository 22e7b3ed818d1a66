"""Softmax and its gradients."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall
from analyzer.trace.shapes import concrete_dtype, like, short_name


@register("_softmax", "_log_softmax", "_safe_softmax", "_masked_softmax", per_element=4.0)
def _softmax(call: OpCall) -> Work | None:
    """Four FLOP per element: subtract, exponential, sum, scale. half_to_float (at 2) writes float32; a mask is read."""
    x = call.tensor(0)
    if x is None:
        return None
    name = short_name(call)
    dtype = concrete_dtype(call, 2) if name == "_safe_softmax" else "float32" if call.value(2) is True else None
    if name == "_masked_softmax":
        dtype = None
    return tally(4.0 * x.numel, [x, call.tensor(1)], call.results()[:1] or [like(x, dtype=dtype)])


@register("_softmax_backward_data", "_log_softmax_backward_data", "_masked_softmax_backward", per_element=4.0)
def _backward(call: OpCall) -> Work | None:
    """Four FLOP per element: y * (dy - sum(dy * y)), and dy - exp(y) * sum(dy). Writes the type at 3."""
    grad, result = call.tensor(0), call.tensor(1)
    if grad is None or result is None:
        return None
    masked = short_name(call) == "_masked_softmax_backward"
    dtype = None if masked else concrete_dtype(call, 3)
    mask = call.tensor(2) if masked else None
    return tally(4.0 * grad.numel, [grad, result, mask], call.results()[:1] or [like(grad, dtype=dtype)])
