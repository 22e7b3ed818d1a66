"""Gradients of convolutions: with respect to the image, the weight and the bias, together or one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like, short_name


@dataclass(frozen=True, slots=True)
class _Layout:
    """Positions of the arguments. ``mask``: which gradients are wanted (image, weight, bias). ``flag``: ``transposed``."""

    grad: int
    image: int
    weight: int
    mask: int
    flag: int = -1
    is_transposed: bool = False


_LAYOUTS = {
    "convolution_backward": _Layout(0, 1, 2, 10, flag=7),
    "convolution_backward_overrideable": _Layout(0, 1, 2, 9, flag=6),
    "cudnn_convolution_backward": _Layout(1, 0, 2, 10),
    "cudnn_convolution_transpose_backward": _Layout(1, 0, 2, 11, is_transposed=True),
    "mkldnn_convolution_backward": _Layout(1, 0, 2, 7),
    "miopen_convolution_backward": _Layout(1, 0, 2, 9),
    "miopen_depthwise_convolution_backward": _Layout(1, 0, 2, 9),
    "miopen_convolution_transpose_backward": _Layout(1, 0, 2, 10, is_transposed=True),
    "mps_convolution_backward": _Layout(1, 0, 2, 7),
    "mps_convolution_transpose_backward": _Layout(1, 0, 2, 8, is_transposed=True),
    "_slow_conv2d_backward": _Layout(0, 1, 2, 6),
    "thnn_conv2d_backward": _Layout(0, 1, 2, 8),
    "slow_conv3d_backward": _Layout(0, 1, 2, 8),
    "thnn_conv_depthwise2d_backward": _Layout(0, 1, 2, 7),
    "_conv_depthwise2d_backward": _Layout(0, 1, 2, 7),
    "conv_depthwise3d_backward": _Layout(0, 1, 2, 7),
    "slow_conv_dilated2d_backward": _Layout(0, 1, 2, 7),
    "slow_conv_dilated3d_backward": _Layout(0, 1, 2, 7),
    "slow_conv_transpose2d_backward": _Layout(0, 1, 2, 10, is_transposed=True),
    "slow_conv_transpose3d_backward": _Layout(0, 1, 2, 10, is_transposed=True),
}


@register(*_LAYOUTS)
def _backward(call: OpCall) -> Work | None:
    """2 * N * positions * weight elements for each of the two gradients; positions: H'*W' of the output (transposed: input).

    Reads the gradient, the weight for the image's gradient and the image for the weight's; the bias costs no FLOP.
    torch's counter multiplies the weight's gradient of a grouped convolution by the groups once too often; this one does not.
    """
    layout = _LAYOUTS[short_name(call)]
    grad, image, weight = call.tensor(layout.grad), call.tensor(layout.image), call.tensor(layout.weight)
    mask = _wanted(call, layout.mask)
    flipped = call.value(layout.flag) if layout.flag >= 0 else layout.is_transposed
    if grad is None or image is None or weight is None or mask is None or not isinstance(flipped, bool):
        return None
    rank = len(weight.shape) - 2
    if rank < 1 or len(image.shape) != rank + 2 or len(grad.shape) != rank + 2:
        return None
    positions = grad.shape[0] * math.prod((image if flipped else grad).shape[2:])
    half = 2.0 * positions * weight.numel
    bias = like(weight, (grad.shape[1],)) if mask[2] else None
    reads = [grad, weight if mask[0] else None, image if mask[1] else None]
    writes = [like(image) if mask[0] else None, like(weight) if mask[1] else None, bias]
    return tally(half * (mask[0] + mask[1]), reads, call.results() or writes)


def _wanted(call: OpCall, position: int) -> tuple[bool, bool, bool] | None:
    """Return which gradients are computed: the mask, else what was written, else None."""
    given = call.inputs[position] if position < len(call.inputs) else None
    if isinstance(given, tuple) and given and all(isinstance(v, bool) for v in given):
        flags = [v is True for v in given]
    elif call.outputs is not None and len(call.outputs) >= 2:
        flags = [isinstance(out, TensorArg) for out in call.outputs]
    else:
        return None
    flags = [*flags, False, False][:3]
    return flags[0], flags[1], flags[2]


def _single(transposed: bool, wanted: str, *names: str) -> None:
    """Register operators (size, gradient, other tensor, ...) that compute one gradient alone."""

    def formula(call: OpCall) -> Work | None:
        first = 1 if call.tensor(1) is not None and call.tensor(0) is None else 0
        grad, other = call.tensor(first), call.tensor(first + 1)
        results = call.results()
        size = call.ints(0) if first == 1 else None
        if grad is None or other is None or len(grad.shape) < 3:
            return None
        out = results[0] if results else like(other, size) if size else None
        if out is None or not len(out.shape) == len(grad.shape) == len(other.shape):
            return None
        weight, image = (other, out) if wanted == "image" else (out, other)
        flop = 2.0 * grad.shape[0] * math.prod((image if transposed else grad).shape[2:]) * weight.numel
        return tally(flop, [grad, other], results or [out])

    register(*names)(formula)


_single(
    False, "image", "cudnn_convolution_backward_input", "miopen_convolution_backward_input",
    "miopen_depthwise_convolution_backward_input", "mkldnn_convolution_backward_input",
)  # fmt: skip
_single(
    False, "weight", "cudnn_convolution_backward_weight", "miopen_convolution_backward_weight",
    "miopen_depthwise_convolution_backward_weight", "mkldnn_convolution_backward_weights",
)  # fmt: skip
_single(True, "image", "cudnn_convolution_transpose_backward_input", "miopen_convolution_transpose_backward_input")
_single(True, "weight", "cudnn_convolution_transpose_backward_weight", "miopen_convolution_transpose_backward_weight")


@register("cudnn_convolution_backward_bias", "miopen_convolution_backward_bias")
def _bias(call: OpCall) -> Work | None:
    """One addition per element of the gradient [N,C,...]; writes C."""
    grad = call.tensor(0)
    return None if grad is None or len(grad.shape) < 2 else tally(grad.numel, [grad], [like(grad, (grad.shape[1],))])
