"""Pooling and its gradients."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, band, register, tally
from analyzer.schema.operators import OpCall
from analyzer.trace.arguments.pooling import ADAPTIVE_POOLS, POOLS, kernel_size, pooling
from analyzer.trace.shapes import Shape, like, output, short_name


@register(*POOLS)
def _pooling(call: OpCall) -> Work | None:
    """One addition per element of each window, none for a maximum.

    Maxima write the indices too, int64. Approximation: windows that reach into the padding count in full.
    """
    found = pooling(call)
    if found is None or (found.kernel is None and not found.maximum):
        return None
    flop = 0.0 if found.maximum or found.kernel is None else float(found.out.numel * math.prod(found.kernel))
    return tally(flop, [found.image], found.writes)


def _windows(sides: Shape, outs: Shape) -> int:
    """Return the elements of all windows of an adaptive pooling.

    A window reaches from floor(i*n/o) to ceil((i+1)*n/o): neighbours share an element wherever that border is no integer, so a
    side has n + o - gcd(n, o) of them.
    """
    return math.prod(n + o - math.gcd(n, o) for n, o in zip(sides, outs, strict=True))


@register(*ADAPTIVE_POOLS)
def _adaptive(call: OpCall) -> Work | None:
    """One addition per element of each window, none for a maximum, which writes int64 indices."""
    found = pooling(call)
    if found is None:
        return None
    x, rank = found.image, found.rank
    if found.maximum:
        return tally(0.0, [x], found.writes)
    return tally(math.prod(x.shape[:-rank]) * _windows(x.shape[-rank:], found.out.shape[-rank:]), [x], found.writes)


@register("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "mkldnn_adaptive_avg_pool2d_backward")
def _adaptive_backward(call: OpCall) -> Work | None:
    """One addition per element of each window; of the input only the shape is needed."""
    grad, x = call.tensor(0), call.tensor(1)
    rank = 3 if "3d" in call.name else 2
    if grad is None or x is None or min(len(x.shape), len(grad.shape)) < rank:
        return None
    flop = math.prod(x.shape[:-rank]) * _windows(x.shape[-rank:], grad.shape[-rank:])
    return tally(flop, [grad], call.results() or [like(x)])


@register("avg_pool2d_backward", "avg_pool3d_backward")
def _average_backward(call: OpCall) -> Work | None:
    """One addition per element of each window (kernel size at 2); of the input only the shape is needed."""
    grad, x = call.tensor(0), call.tensor(1)
    kernel = kernel_size(call, 2, 3 if "3d" in call.name else 2)
    if grad is None or x is None or kernel is None:
        return None
    return tally(grad.numel * math.prod(kernel), [grad], call.results() or [like(x)])


_WITH_INDICES = {"max_pool2d_with_indices_backward": 7, "max_pool3d_with_indices_backward": 7,
                 "adaptive_max_pool2d_backward": 2, "adaptive_max_pool3d_backward": 2, "fractional_max_pool2d_backward": 4,
                 "fractional_max_pool3d_backward": 4}  # fmt: skip


@register(*_WITH_INDICES)
def _maximum_backward(call: OpCall) -> Work | None:
    """One addition per element of the gradient, at its index; reads the gradient and the indices, writes the input's shape."""
    grad, x, indices = call.tensor(0), call.tensor(1), call.tensor(_WITH_INDICES[short_name(call)])
    if grad is None or x is None or indices is None:
        return None
    return tally(grad.numel, [grad, indices], call.results() or [like(x)])


@register("mkldnn_max_pool2d_backward", "mkldnn_max_pool3d_backward")
def _onednn_backward(call: OpCall) -> Work | None:
    """One addition per element of the gradient; finds the maxima anew from the input (2)."""
    grad, x = call.tensor(0), call.tensor(2)
    return None if grad is None or x is None else tally(grad.numel, [grad, x], call.results() or [like(x)])


@register("max_unpool2d", "max_unpool3d")
def _unpooling(call: OpCall) -> Work | None:
    """Reads input and indices, writes an image of the size at 2, zeros included."""
    x, indices, size = call.tensor(0), call.tensor(1), call.ints(2)
    if x is None or indices is None:
        return None
    out = output(call) or (like(x, (*x.shape[: -len(size)], *size)) if size and len(size) < len(x.shape) else None)
    return None if out is None else tally(0.0, [x, indices], [out])


@register("fractional_max_pool2d", "fractional_max_pool3d")
def _fractional(call: OpCall) -> Work | None:
    """No FLOP; windows at random places read at most the image, and at least what they write. Output size at 2."""
    x, size, kernel = call.tensor(0), call.ints(2), call.ints(1)
    if x is None or not size or not kernel or len(x.shape) < len(size):
        return None
    out = output(call) or like(x, (*x.shape[: -len(size)], *size))
    writes = call.results() or [out, like(out, dtype="int64")]
    low = tally(0.0, [call.tensor(3)], writes).bytes
    return band(0.0, low + min(out.numel, x.numel) * x.itemsize, low + x.footprint_bytes)
