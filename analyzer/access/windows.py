"""Convolutions and pools as problems: products where windows do not overlap, moving windows elsewhere."""

from __future__ import annotations

import math

from analyzer.access.problem import Convolution, Pair, Pass, Problem, Product, Window
from analyzer.schema.operators import OpCall
from analyzer.trace.arguments.convolution import ConvolutionArguments, convolution
from analyzer.trace.arguments.pooling import PoolingArguments, pooling
from analyzer.trace.shapes import Shape, convolved

Found = tuple[str, Problem]


def convolution_of(call: OpCall) -> Found | None:
    """Return the problem of a forward convolution, None for transposed ones and those whose arguments do not tell."""
    found = convolution(call)
    if found is None or found.transposed or found.groups is None:
        return None
    image, weight = found.image.shape, found.weight.shape
    kernel, rank = weight[2:], len(weight) - 2
    stride, padding, dilation = found.stride, found.padding, found.dilation
    if stride is None or padding is None or dilation is None:
        stride, padding, dilation = _inferred(image[-rank:], kernel, found.out.shape[-rank:])
    sizes = (*image, *weight, *stride, *dilation, *found.out.shape)
    fits = weight[1] * found.groups == image[-rank - 1] and weight[0] % found.groups == 0
    if min(sizes) < 1 or min(padding) < 0 or not fits:
        return None
    if convolved(image[-rank:], kernel, stride, padding, dilation) != found.out.shape[-rank:]:
        return None
    apart = kernel == stride and set(dilation) == {1}
    if found.groups == 1 and not any(padding) and (apart or math.prod(kernel) == 1):
        return _without_overlap(found, rank)
    return _overlapping(found, stride, padding, dilation) if rank <= 2 else None


def _inferred(sides: Shape, kernel: Shape, out: Shape) -> tuple[Shape, Shape, Shape]:
    """Return stride, padding and dilation of a convolution whose arguments the trace does not have.

    Approximation: no dilation, padding of half the kernel where that gives the output's sides, else none.
    """
    stride = tuple(max(round(n / max(o, 1)), 1) for n, o in zip(sides, out, strict=True))
    half, one = tuple((k - 1) // 2 for k in kernel), (1,) * len(kernel)
    fits = convolved(sides, kernel, stride, half, one) == out
    return stride, half if fits else (0,) * len(kernel), one


def _without_overlap(found: ConvolutionArguments, rank: int) -> Found:
    """Every output pixel has inputs of its own: a product of pixels and weights. Pixels that a stride skips do not count."""
    image, weight = found.image, found.weight.shape
    kernel, channels = weight[2:], weight[1]
    m = math.prod(image.shape[: -rank - 1]) * math.prod(found.out.shape[-rank:])
    whole = math.prod(kernel) == 1
    sizes = (1, m, weight[0], channels * math.prod(kernel))
    problem = Product(*sizes, image.itemsize, found.out.itemsize, _extra(found))
    return "conv1x1" if whole else "patch_embed", problem


def _overlapping(found: ConvolutionArguments, stride: Shape, padding: Shape, dilation: Shape) -> Found:
    """A depthwise convolution with one filter per channel is a window; with several it is a grouped convolution."""
    image, weight, groups = found.image, found.weight, found.groups or 1
    kernel = _pair(weight.shape[2:], 1)
    rank = len(weight.shape) - 2
    images, (height, width) = math.prod(image.shape[: -rank - 1]), _pair(image.shape[-rank:], 1)
    moves = (kernel, _pair(stride, 1), _pair(padding, 0), _pair(dilation, 1))
    depthwise = weight.shape[1] == 1 and groups > 1
    if depthwise and weight.shape[0] == groups:
        sizes = (images * groups, height, width)
        return "depthwise", Window(*sizes, *moves, image.itemsize, weight.footprint_bytes, extra_bytes=_extra(found))
    pattern = "depthwise" if depthwise else {(3, 3): "conv3x3", (1, 1): "conv1x1"}.get(kernel, "conv")
    channels, filters = weight.shape[1], weight.shape[0] // groups
    return pattern, Convolution(images, groups, channels, filters, height, width, *moves, image.itemsize, _extra(found))


def _extra(found: ConvolutionArguments) -> int:
    return sum(t.footprint_bytes for t in found.others)


def _pair(values: Shape, missing: int) -> Pair:
    return (values[-2], values[-1]) if len(values) > 1 else (missing, values[-1])


def pooling_of(call: OpCall) -> Found | None:
    """Return the problem of a forward pooling, or of a mean over the whole image or all tokens."""
    if call.name == "aten::mean":
        return _global_mean(call)
    found = pooling(call)
    if found is None:
        return None
    if found.rank > 2 or (found.kernel is None and not found.adaptive):
        return _pooled_once(found)
    moves = _adaptive_moves(found) if found.adaptive else _moves(found)
    image, rank = found.image.shape, found.rank
    out = _pair(found.out.shape[-rank:], 1)
    if moves is None or min((*image, *out, *moves[0], *moves[1], *moves[3])) < 1 or min(moves[2]) < 0:
        return None
    index = found.writes[1].itemsize if len(found.writes) > 1 else 0
    taps, item = 0 if found.maximum else 1, found.image.itemsize
    problem = Window(math.prod(image[:-rank]), *_pair(image[-rank:], 1), *moves, item, 0, taps, index)
    if problem.out != out:  # rounded up
        problem = Window(math.prod(image[:-rank]), *_pair(image[-rank:], 1), *moves, item, 0, taps, index, out)
    return "pooling", problem


def _pooled_once(found: PoolingArguments) -> Found | None:
    """Return a pooling in three dimensions, or a maximum over windows that were not recorded, as a pass over its image."""
    taps = 0 if found.maximum else None if found.kernel is None else math.prod(found.kernel)
    if taps is None:
        return None
    written = sum(t.numel * t.itemsize for t in found.writes)
    return "pooling", Pass(found.image.footprint_bytes, written, float(taps * found.out.numel))


def _moves(found: PoolingArguments) -> tuple[Pair, Pair, Pair, Pair] | None:
    kernel, stride, padding, dilation = found.kernel, found.stride, found.padding, found.dilation
    if kernel is None or stride is None or padding is None or dilation is None:
        return None
    return _pair(kernel, 1), _pair(stride, 1), _pair(padding, 0), _pair(dilation, 1)


def _adaptive_moves(found: PoolingArguments) -> tuple[Pair, Pair, Pair, Pair]:
    """Return the windows of one size that come nearest: floor(n / o) apart and reaching to the end; exact where o divides n."""
    sides, outs = _pair(found.image.shape[-found.rank :], 1), _pair(found.out.shape[-found.rank :], 1)
    rows, columns = (max(n // max(o, 1), 1) for n, o in zip(sides, outs, strict=True))
    kernel = (max(sides[0] - (outs[0] - 1) * rows, 1), max(sides[1] - (outs[1] - 1) * columns, 1))
    return kernel, (rows, columns), (0, 0), (1, 1)


def _global_mean(call: OpCall) -> Found | None:
    """Return the mean over the image of [N, C, H, W] or [N, H, W, C], or over the tokens of [N, tokens, C]."""
    x, dims = call.tensor(0), call.ints(1)
    if x is None or not dims or len(x.shape) not in (3, 4) or min(x.shape) < 1:
        return None
    over = sorted(d % len(x.shape) for d in dims)
    if over not in ([[1]] if len(x.shape) == 3 else [[1, 2], [2, 3]]):
        return None
    height, width = x.shape[over[0]], x.shape[over[1]] if len(over) > 1 else 1
    planes = x.numel // (height * width)
    whole = (height, width)
    return "pooling", Window(planes, height, width, whole, whole, (0, 0), (1, 1), x.itemsize, flop_per_tap=1)
