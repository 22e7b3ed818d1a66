"""Optimiser steps: operators over lists of tensors, and fused updates.

Kineto has the shapes of a list but not its element type. Without it the basis is ``generic``.
"""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like, short_name

# FLOP per element of a list
_FOREACH = {
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "sqrt", "rsqrt", "exp", "expm1", "log", "abs", "neg", "reciprocal",
                     "sigmoid", "tanh", "sin", "cos", "erf", "lgamma", "log1p", "log2", "log10"), 1.0),
    **dict.fromkeys(("addcmul", "addcdiv"), 2.0),
    "lerp": 3.0,
    **dict.fromkeys(("maximum", "minimum", "clamp_max", "clamp_min", "floor", "ceil", "round", "trunc", "sign", "frac"), 0.0),
}  # fmt: skip


def _list(call: OpCall, position: int) -> list[TensorArg]:
    arg = call.inputs[position] if position < len(call.inputs) else None
    return [t for t in arg if isinstance(t, TensorArg)] if isinstance(arg, tuple) else []


@register(*(f"_foreach_{name}" for name in _FOREACH), *(f"_foreach_{name}_" for name in _FOREACH))
def _foreach(call: OpCall) -> Work | None:
    """Reads each list (and a scalar tensor), writes one of the first list's shapes: itself where in place."""
    first = _list(call, 0)
    if not first:
        return None
    base = short_name(call).removeprefix("_foreach_").removesuffix("_")
    flop = _FOREACH[base] * sum(t.numel for t in first)
    results = [] if short_name(call).endswith("_") else call.results()
    return tally(flop, call.tensors(), results or [like(t) for t in first])


@register("_foreach_zero_", "_foreach_zero", "_foreach_copy_", "_foreach_copy")
def _foreach_write(call: OpCall) -> Work | None:
    """Writes the first list, and reads the second where it is copied."""
    first = _list(call, 0)
    return tally(0.0, _list(call, 1), [like(t) for t in first]) if first else None


@register("_foreach_norm", "_foreach_max")
def _foreach_reduction(call: OpCall) -> Work | None:
    """Two FLOP per element of a norm, none for a maximum; writes one number per tensor."""
    first = _list(call, 0)
    per_element = 2.0 if short_name(call) == "_foreach_norm" else 0.0
    if not first:
        return None
    return tally(per_element * sum(t.numel for t in first), first, call.results() or [like(t, ()) for t in first])


@register("_amp_foreach_non_finite_check_and_unscale_")
def _unscale(call: OpCall) -> Work | None:
    """One product per element; reads and writes the list, reads the scale, writes the flag."""
    grads = _list(call, 0)
    if not grads:
        return None
    return tally(sum(t.numel for t in grads), [*grads, call.tensor(2)], [*(like(t) for t in grads), call.tensor(1)])


@register("_amp_update_scale_")
def _update_scale(call: OpCall) -> Work | None:
    """A few numbers: reads scale, growth tracker and flag, writes the first two."""
    scale = call.tensor(0)
    return None if scale is None else tally(1.0, [scale, call.tensor(1), call.tensor(2)], [scale, call.tensor(1)])


@register("_fused_adam_", "_fused_adamw_")
def _adam(call: OpCall) -> Work | None:
    """Per element: first moment 3, second moment 4, root and denominator 3, update 3; decay (at 9) 2, decoupled 1.

    Reads parameters, gradients, both moments and (AMSGrad, at 11) their maxima; writes all but the gradients.
    """
    params, grads, first, second, largest = (_list(call, i) for i in range(5))
    if not params or not grads or not first or not second:
        return None
    decay = 0.0 if call.value(9) == 0 else 1.0 if short_name(call) == "_fused_adamw_" else 2.0
    written = [*params, *first, *second, *largest]
    steps, scalars = _list(call, 5), [call.tensor(i) for i in (6, 13, 14)]
    return tally(
        (13.0 + decay) * sum(t.numel for t in params), [*written, *grads, *steps, *scalars], [like(t) for t in written]
    )


@register("_fused_sgd_")
def _sgd(call: OpCall) -> Work | None:
    """Per element: update 2, decay (at 3) 2, momentum (at 4) 3, Nesterov (at 7) 2; momentum buffers are read and written.

    The first step (at 9) does not read the buffers.
    """
    params, grads, buffers = (_list(call, i) for i in range(3))
    if not params or not grads:
        return None
    flop = 2.0 + (0.0 if call.value(3) == 0 else 2.0) + (3.0 if buffers else 0.0) + (2.0 if call.value(7) is True else 0.0)
    read = [] if call.value(9) is True else buffers
    scalars = [call.tensor(i) for i in (5, 10, 11)]
    return tally(
        flop * sum(t.numel for t in params), [*params, *grads, *read, *scalars], [like(t) for t in (*params, *buffers)]
    )
