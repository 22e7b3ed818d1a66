"""Resizing and sampling of images, and unfolding into columns; with their gradients."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import Shape, convolved, like, output, short_name, spread

# taps per output element, spatial rank
_UPSAMPLES = {
    "upsample_nearest1d": (0, 1), "upsample_nearest2d": (0, 2), "upsample_nearest3d": (0, 3),
    "_upsample_nearest_exact1d": (0, 1), "_upsample_nearest_exact2d": (0, 2), "_upsample_nearest_exact3d": (0, 3),
    "upsample_linear1d": (2, 1), "upsample_bilinear2d": (4, 2), "upsample_trilinear3d": (8, 3), "upsample_bicubic2d": (16, 2),
    "_upsample_bilinear2d_aa": (4, 2), "_upsample_bicubic2d_aa": (16, 2), "_upsample_lanczos2d_aa": (36, 2),
}  # fmt: skip


@register(*_UPSAMPLES)
def _upsample(call: OpCall) -> Work | None:
    """Two multiply-adds per tap: 2 taps linear, 4 bilinear, 8 trilinear, 16 bicubic, none nearest; output size at position 1.

    Approximation: antialiased resizing counts the taps of a plain one, although it has more where it shrinks the image.
    """
    x = call.tensor(0)
    taps, rank = _UPSAMPLES[short_name(call)]
    if x is None or len(x.shape) != rank + 2:
        return None
    sides = _sides(call, x, rank)
    out = output(call) or (like(x, (*x.shape[:2], *sides)) if sides else None)
    return None if out is None else tally(2.0 * taps * out.numel, [x], [out])


def _sides(call: OpCall, x: TensorArg, rank: int) -> Shape | None:
    """Return the size at 1, else what the scale factors of ``.vec`` (last argument) make of the input."""
    size = call.ints(1)
    if size:
        return spread(size, rank)
    scales = call.inputs[-1] if len(call.inputs) in (3, 4) else None
    if isinstance(scales, tuple) and len(scales) == rank and all(isinstance(s, float | int) for s in scales):
        return tuple(math.floor(n * float(s)) for n, s in zip(x.shape[2:], scales, strict=True) if isinstance(s, float | int))
    return None


@register(*(f"{name}_backward" for name in _UPSAMPLES))
def _upsample_backward(call: OpCall) -> Work | None:
    """Two FLOP per tap and element of the gradient (one addition for nearest); input size at 2."""
    grad, size = call.tensor(0), call.ints(2)
    taps, _ = _UPSAMPLES[short_name(call).removesuffix("_backward")]
    if grad is None:
        return None
    writes = call.results() or ([like(grad, size)] if size and len(size) == len(grad.shape) else [])
    return tally((2.0 * taps or 1.0) * grad.numel, [grad], writes) if writes else None


_MODES = {0: 8, 1: 0, 2: 32}
"""Two FLOP per tap: bilinear has 4 taps, nearest none, bicubic 16; trilinear (3d) 8."""


@register("grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler", "_grid_sampler_2d_cpu_fallback")
def _grid_sampler(call: OpCall) -> Work | None:
    """Two FLOP per tap of each output element [N,C,H',W'], by the mode at 2; reads the image and the grid [N,H',W',2]."""
    x, grid = call.tensor(0), call.tensor(1)
    mode = 0 if short_name(call) == "cudnn_grid_sampler" else call.value(2)
    if x is None or grid is None or not isinstance(mode, int) or mode not in _MODES or len(grid.shape) != len(x.shape):
        return None
    out = output(call) or like(x, (*x.shape[:2], *grid.shape[1:-1]))
    return tally(_taps(call, mode) * out.numel, [x, grid], [out])


def _taps(call: OpCall, mode: int) -> float:
    return float(_MODES[mode] * (2 if "3d" in call.name and mode == 0 else 1))


@register("grid_sampler_2d_backward", "grid_sampler_3d_backward")
def _grid_sampler_backward(call: OpCall) -> Work | None:
    """As forward for the image's gradient and again for the grid's; output_mask at 6."""
    grad, x, grid, mode = call.tensor(0), call.tensor(1), call.tensor(2), call.value(3)
    mask = call.inputs[6] if len(call.inputs) > 6 else None
    if grad is None or x is None or grid is None or not isinstance(mode, int) or mode not in _MODES:
        return None
    if not isinstance(mask, tuple) or len(mask) != 2:
        return None
    writes: list[TensorArg] = call.results() or [*([like(x)] if mask[0] else []), like(grid)]
    return tally(2.0 * _taps(call, mode) * grad.numel, [grad, x, grid], writes)


@register("im2col", "col2im")
def _columns(call: OpCall) -> Work | None:
    """Columns [N, C*kh*kw, L] from an image (no FLOP), or summed back into one (one addition per element of the columns)."""
    x = call.tensor(0)
    if x is None or len(x.shape) < 2:
        return None
    folding = short_name(call) == "col2im"
    out = output(call)
    if out is None:
        shape = _folded(call, x) if folding else _unfolded(call, x)
        out = None if shape is None else like(x, shape)
    return None if out is None else tally(x.numel if folding else 0.0, [x], [out])


def _unfolded(call: OpCall, x: TensorArg) -> Shape | None:
    """Kernel size at 1, dilation, padding, stride."""
    kernel, dilation, padding, stride = (spread(call.ints(i) or (), 2) for i in (1, 2, 3, 4))
    if kernel is None or dilation is None or padding is None or stride is None or len(x.shape) < 3:
        return None
    sides = convolved(x.shape[-2:], kernel, stride, padding, dilation)
    return None if sides is None else (*x.shape[:-3], x.shape[-3] * math.prod(kernel), math.prod(sides))


def _folded(call: OpCall, x: TensorArg) -> Shape | None:
    """Output size at 1, kernel size at 2."""
    size, kernel = spread(call.ints(1) or (), 2), spread(call.ints(2) or (), 2)
    if size is None or kernel is None or not math.prod(kernel):
        return None
    return (*x.shape[:-2], x.shape[-2] // math.prod(kernel), *size)
