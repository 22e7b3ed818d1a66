"""Gradients of norms.

With x' = (x - mean) * r and g = dy * weight: dx = r * (g - mean(g) - x' * mean(g * x')),
dweight = sum(dy * x'), dbias = sum(dy).
"""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like, short_name


def _mask(call: OpCall, position: int, count: int) -> tuple[bool, ...] | None:
    """Return which gradients are computed: the mask, else what was written, else None."""
    given = call.inputs[position] if position < len(call.inputs) else None
    if isinstance(given, tuple) and len(given) == count:
        return tuple(v is True for v in given)
    if call.outputs is not None and len(call.outputs) >= count:
        return tuple(isinstance(out, TensorArg) for out in call.outputs[:count])
    return None


def _work(
    call: OpCall, flop: tuple[float, ...], x: TensorArg, mask: tuple[bool, ...], row: TensorArg, reads: list[int]
) -> Work:
    """Return the work of the wanted gradients, whose FLOP per element are ``flop``; weights are like ``row``."""
    writes = [like(x if i == 0 else row) for i, wanted in enumerate(mask) if wanted]
    per_element = sum(f for f, wanted in zip(flop, mask, strict=True) if wanted)
    return tally(per_element * x.numel, [call.tensor(i) for i in reads], call.results() or writes)


@register("native_layer_norm_backward", per_element=13.0)
def _layer_norm(call: OpCall) -> Work | None:
    """Per element 10 FLOP for dx (x' 2, g 1, both sums 3, dx 4), 2 for dweight, 1 for dbias; mask at 7."""
    x, weight, mask = call.tensor(1), call.tensor(5), _mask(call, 7, 3)
    if x is None or mask is None:
        return None
    shape = call.ints(2)
    row = weight or (like(x, shape) if shape else None)
    return None if row is None else _work(call, (10.0, 2.0, 1.0), x, mask, row, [0, 1, 3, 4, 5])


@register("_fused_rms_norm_backward", per_element=11.0)
def _rms_norm(call: OpCall) -> Work | None:
    """Per element 8 FLOP for dx (x' 1, g 1, the sum 2, dx 4) and 2 for dweight; mask at 5."""
    x, weight, mask = call.tensor(1), call.tensor(4), _mask(call, 5, 2)
    if x is None or mask is None:
        return None
    shape = call.ints(2)
    row = weight or (like(x, shape) if shape else None)
    return None if row is None else _work(call, (8.0, 2.0), x, mask, row, [0, 1, 3, 4])


@register("native_group_norm_backward", per_element=13.0)
def _group_norm(call: OpCall) -> Work | None:
    """As layer norm; weight and bias have one value per channel (C at 6). Mask at 9."""
    x, mask = call.tensor(1), _mask(call, 9, 3)
    if x is None or mask is None or len(x.shape) < 2:
        return None
    return _work(call, (10.0, 2.0, 1.0), x, mask, like(call.tensor(4) or x, (x.shape[1],)), [0, 1, 2, 3, 4])


# positions of: gradient, input, training (True: it is), mask (-1: all three)
_BATCH_NORMS: dict[str, tuple[int, int, int | bool, int]] = {
    "native_batch_norm_backward": (0, 1, 7, 9),
    "batch_norm_backward": (0, 1, 7, 9),
    "cudnn_batch_norm_backward": (1, 0, True, -1),
    "miopen_batch_norm_backward": (1, 0, True, -1),
}


@register(*_BATCH_NORMS, per_element=10.0)
def _batch_norm(call: OpCall) -> Work | None:
    """Training: per element 6 FLOP for dx beyond the sums (x' 2, dx 4), 3 for dweight and dbias, which dx needs too.

    With constant statistics dx costs 1 (the product of weight and deviation is one per channel), dweight 4 and dbias 1.
    Constant statistics are the running ones (3, 4), else the saved ones (5, 6) are read.
    """
    grad_at, x_at, choice, mask_at = _BATCH_NORMS[short_name(call)]
    x, weight = call.tensor(x_at), call.tensor(2)
    training = choice if isinstance(choice, bool) else call.value(choice)
    mask = _mask(call, mask_at, 3) if mask_at >= 0 else (True, weight is not None, weight is not None)
    if x is None or mask is None or not isinstance(training, bool) or len(x.shape) < 2 or call.lacks(grad_at):
        return None
    flop = (9.0, 0.0, 0.0) if training and mask[0] else (0.0, 4.0, 1.0) if training else (1.0, 4.0, 1.0)
    row = like(weight or x, (x.shape[1],))
    return _work(call, flop, x, mask, row, [grad_at, x_at, 2, *((5, 6) if training else (3, 4))])


@register("batch_norm_backward_reduce", per_element=5.0)
def _batch_reduce(call: OpCall) -> Work | None:
    """Per element the sum of dy (1) and of dy * (x - mean) (3); flags at 5, 6 and 7 ask for the sums, dweight and dbias [C]."""
    x = call.tensor(1)
    flags = [call.value(i) for i in (5, 6, 7)]
    if x is None or len(x.shape) < 2 or not all(isinstance(flag, bool) for flag in flags):
        return None
    mean = call.tensor(2) or x
    row, weight_row = like(mean, (x.shape[1],)), like(call.tensor(4) or mean, (x.shape[1],))
    writes = [row, row] * (flags[0] is True) + [weight_row] * sum(flag is True for flag in flags[1:])
    return tally(4.0 * x.numel, [call.tensor(i) for i in range(5)], call.results() or writes)


@register("batch_norm_backward_elemt", per_element=6.0)
def _batch_elementwise(call: OpCall) -> Work | None:
    """Six FLOP per element (x' 2, dx 4); reads the gradient, input, statistics, weight, both sums and counts."""
    x = call.tensor(1)
    return None if x is None else tally(6.0 * x.numel, [call.tensor(i) for i in range(8)], call.results() or [like(x)])
