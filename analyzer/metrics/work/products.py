"""Matrix products and their relatives."""

from __future__ import annotations

from analyzer.metrics.work.einsum import contraction
from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall
from analyzer.trace.arguments.products import PRODUCTS, product
from analyzer.trace.shapes import like, output


@register(*PRODUCTS)
def _product(call: OpCall) -> Work | None:
    """2 * M * N * K per batch; a bias, a summand (each at its own size) and scales are read and not counted.

    A packed weight is read in place of the original one. ``addbmm`` sums over the batch, so that its output is [M, N].
    """
    found = product(call)
    if found is None:
        return None
    flop = 2.0 * like(found.a, found.shape).numel * found.a.shape[-1]
    return tally(flop, [*found.added, found.a, found.b], [found.out])


@register("linear_backward", "mkldnn_linear_backward")
def _linear_backward(call: OpCall) -> Work | None:
    """2 * rows * out * in for each of the input's and the weight's gradient; output_mask at 3."""
    x, grad, weight = call.tensor(0), call.tensor(1), call.tensor(2)
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    if x is None or grad is None or weight is None or not isinstance(mask, tuple) or len(mask) != 3:
        return None
    if len(weight.shape) != 2:
        return None
    writes = [
        like(x) if mask[0] else None,
        like(weight) if mask[1] else None,
        like(weight, weight.shape[:1]) if mask[2] else None,
    ]
    reads = [grad, weight if mask[0] else None, x if mask[1] else None]
    half = 2.0 * grad.numel * weight.shape[-1]
    return tally(half * (bool(mask[0]) + bool(mask[1])), reads, call.results() or writes)


@register("outer", "ger")
def _outer(call: OpCall) -> Work | None:
    """One multiplication per element of [M, N]."""
    a, b = call.tensor(0), call.tensor(1)
    if a is None or b is None or len(a.shape) != 1 or len(b.shape) != 1:
        return None
    out = output(call) or like(a, a.shape + b.shape)
    return tally(out.numel, [a, b], [out])


@register("einsum")
def _einsum(call: OpCall) -> Work | None:
    """2 * product of all sizes where two operands share a summed index, else one step per element; equation at 0."""
    equation = call.value(0)
    tensors = call.tensors()
    found = contraction(equation, [t.shape for t in tensors]) if isinstance(equation, str) else None
    if found is None:
        return None
    flop, shape = found
    return tally(flop, tensors, [output(call) or like(tensors[0], shape)])
