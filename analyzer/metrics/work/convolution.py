"""Convolutions."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, output, read_bytes, register
from analyzer.schema.operators import OpCall, TensorArg

# positions of stride, padding, dilation, transposed (-1: never)
_CONV_LAYOUT = {
    "aten::convolution": (3, 4, 5, 6),
    "aten::_convolution": (3, 4, 5, 6),
    "aten::convolution_overrideable": (3, 4, 5, 6),
    "aten::conv2d": (3, 4, 5, -1),
    "aten::mkldnn_convolution": (4, 3, 5, -1),
    "aten::cudnn_convolution": (3, 2, 4, -1),
    "aten::cudnn_convolution_relu": (3, 4, 5, -1),
    "aten::miopen_convolution": (4, 3, 5, -1),
    "aten::miopen_depthwise_convolution": (4, 3, 5, -1),
    "aten::_conv_depthwise2d": (4, 5, 6, -1),
    "aten::conv_depthwise3d": (4, 5, 6, -1),
    "aten::thnn_conv2d": (4, 5, -1, -1),
    "aten::_slow_conv2d_forward": (4, 5, -1, -1),
    "aten::slow_conv_dilated2d": (4, 5, 6, -1),
}


@register(*(name.removeprefix("aten::") for name in _CONV_LAYOUT))
def _convolution(call: OpCall) -> Work | None:
    """2 * out[N,Co,H',W'] * Ci/groups * kh * kw; weight [Co, Ci/groups, kh, kw] (transposed: 2 * in * Co/groups * kh * kw)."""
    image, weight = call.tensor(0), call.tensor(1)
    if image is None or weight is None or len(weight.shape) < 3:
        return None
    transposed_at = _CONV_LAYOUT[call.name][3]
    transposed = transposed_at >= 0 and call.value(transposed_at) is True
    out = output(call) or (None if transposed else _conv_output(call, image, weight))
    if out is None:
        return None
    per_output = math.prod(weight.shape[1:])
    flop = 2.0 * (image.numel if transposed else out.numel) * per_output
    return Work(flop, read_bytes(call.tensors()) + out.numel * out.itemsize)


def _conv_output(call: OpCall, image: TensorArg, weight: TensorArg) -> TensorArg | None:
    stride_at, padding_at, dilation_at, _ = _CONV_LAYOUT[call.name]
    stride, padding = call.ints(stride_at), call.ints(padding_at)
    dilation = call.ints(dilation_at) if dilation_at >= 0 else (1,)
    if not stride or padding is None or not dilation:
        return None
    space = len(weight.shape) - 2
    sides = []
    for i in range(space):
        s, p, d = (v[i] if i < len(v) else v[-1] for v in (stride, padding or (0,), dilation))
        sides.append((image.shape[-space + i] + 2 * p - d * (weight.shape[2 + i] - 1) - 1) // max(s, 1) + 1)
    return TensorArg((*image.shape[: -space - 1], weight.shape[0], *sides), image.dtype)
