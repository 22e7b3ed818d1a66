"""Operators of torchvision."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall
from analyzer.trace.shapes import convolved, like, output


@register("torchvision::roi_align")
def _roi_align(call: OpCall) -> Work | None:
    """Four taps of 2 FLOP for each of s * s samples and their mean: out[K,C,h,w]; h at 3, w at 4, s at 5.

    Where s is not positive the boxes decide how many samples are taken, and there is no formula.
    Approximation: the image is read whole, as boxes usually cover it.
    """
    image, boxes = call.tensor(0), call.tensor(1)
    height, width, samples = (call.value(i) for i in (3, 4, 5))
    if (
        image is None
        or boxes is None
        or len(image.shape) != 4
        or len(boxes.shape) != 2
        or not isinstance(samples, int)
        or samples <= 0
    ):
        return None
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    out = output(call) or like(image, (boxes.shape[0], image.shape[1], height, width))
    return tally(out.numel * (samples**2 * 9.0), [image, boxes], [out])


@register("torchvision::deform_conv2d")
def _deformable(call: OpCall) -> Work | None:
    """2 * out * Ci/groups * kh * kw for the product, and four taps of 2 FLOP for each column [Ci*kh*kw, H'*W'].

    Arguments: input, weight, offset, mask, bias, then stride, padding and dilation as pairs of numbers from 5 on.
    """
    image, weight = call.tensor(0), call.tensor(1)
    numbers = [call.value(i) for i in range(5, 11)]
    if image is None or weight is None or len(weight.shape) != 4 or len(image.shape) != 4:
        return None
    given = tuple(v for v in numbers if isinstance(v, int))
    out = output(call)
    if out is None:
        sides = convolved(image.shape[2:], weight.shape[2:], given[:2], given[2:4], given[4:]) if len(given) == 6 else None
        out = like(image, (image.shape[0], weight.shape[0], *sides)) if sides else None
    if out is None:
        return None
    kernel = math.prod(weight.shape[2:])
    columns = image.shape[0] * image.shape[1] * kernel * math.prod(out.shape[2:])
    return tally(2.0 * out.numel * weight.shape[1] * kernel + 8.0 * columns, call.tensors(), [out])
