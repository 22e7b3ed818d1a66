"""Pooling and its gradients."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, band, output, register, short_name, tally
from analyzer.metrics.work.shapes import Shape, like, pooled, spread
from analyzer.schema.operators import OpCall, TensorArg

# max_pool2d and max_pool3d are not here: they call the operators with indices, or oneDNN
# rank, position of dilation (-1: none), position of ceil_mode, whether indices are written
_POOLS = {
    "max_pool2d_with_indices": (2, 4, 5, True), "max_pool3d_with_indices": (3, 4, 5, True),
    "max_pool1d": (1, 4, 5, False), "max_pool1d_with_indices": (1, 4, 5, True),
    "mkldnn_max_pool2d": (2, 4, 5, False), "mkldnn_max_pool3d": (3, 4, 5, False),
    "avg_pool1d": (1, -1, 4, False), "avg_pool2d": (2, -1, 4, False), "avg_pool3d": (3, -1, 4, False),
}  # fmt: skip


@register(*_POOLS)
def _pooling(call: OpCall) -> Work | None:
    """One addition per element of each window, none for a maximum; kernel size at 1, stride at 2, padding at 3.

    Maxima write the indices too, int64. Approximation: windows that reach into the padding count in full.
    """
    x = call.tensor(0)
    rank, _, _, indices = _POOLS[short_name(call)]
    kernel = _kernel(call, 1, rank)
    if x is None or len(x.shape) < rank:
        return None
    shape = _output(call, x)
    out = output(call) or (like(x, shape) if shape else None)
    maximum = short_name(call).startswith(("max", "mkldnn_max"))
    if out is None or (kernel is None and not maximum):
        return None
    flop = 0.0 if maximum or kernel is None else float(out.numel * math.prod(kernel))
    writes = [out, *call.results()[1:]]
    return tally(flop, [x], [*writes, like(out, dtype="int64")] if indices and len(writes) == 1 else writes)


def _kernel(call: OpCall, position: int, rank: int) -> Shape | None:
    found = call.ints(position)
    return spread(found, rank) if found else None


def _output(call: OpCall, x: TensorArg) -> Shape | None:
    rank, dilation_at, ceil_at, _ = _POOLS[short_name(call)]
    kernel = _kernel(call, 1, rank)
    if kernel is None:
        return None
    stride = spread(call.ints(2) or kernel, rank)
    padding = spread(call.ints(3) or (0,), rank)
    dilation = spread((call.ints(dilation_at) if dilation_at >= 0 else None) or (1,), rank)
    if stride is None or padding is None or dilation is None:
        return None
    sides = pooled(x.shape[-rank:], kernel, stride, padding, dilation, call.value(ceil_at) is True)
    return (*x.shape[:-rank], *sides) if sides else None


def _windows(sides: Shape, outs: Shape) -> int:
    """Return the elements of all windows of an adaptive pooling.

    A window reaches from floor(i*n/o) to ceil((i+1)*n/o): neighbours share an element wherever that border is no integer, so a
    side has n + o - gcd(n, o) of them.
    """
    return math.prod(n + o - math.gcd(n, o) for n, o in zip(sides, outs, strict=True))


_ADAPTIVE = {"_adaptive_avg_pool2d": 2, "_adaptive_avg_pool3d": 3, "mkldnn_adaptive_avg_pool2d": 2, "adaptive_avg_pool1d": 1,
             "adaptive_max_pool1d": 1, "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3}  # fmt: skip


@register(*_ADAPTIVE)
def _adaptive(call: OpCall) -> Work | None:
    """One addition per element of each window, none for a maximum, which writes int64 indices; output size at 1."""
    x, name = call.tensor(0), short_name(call)
    rank = _ADAPTIVE[name]
    if x is None or len(x.shape) < rank:
        return None
    size = call.ints(1)
    sides = spread(size, rank) if size else None
    out = output(call) or (like(x, (*x.shape[:-rank], *sides)) if sides else None)
    if out is None or len(out.shape) < rank:
        return None
    writes = [out, *call.results()[1:]]
    if "max" in name:
        return tally(0.0, [x], [*writes, like(out, dtype="int64")] if len(writes) == 1 else writes)
    return tally(math.prod(x.shape[:-rank]) * _windows(x.shape[-rank:], out.shape[-rank:]), [x], writes)


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
    kernel = _kernel(call, 2, 3 if "3d" in call.name else 2)
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
