"""The arguments of convolutions, forward."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import Shape, convolved, like, output, spread, transposed


@dataclass(frozen=True, slots=True)
class _Layout:
    """Positions of the arguments; a position of -1 does not exist. ``flag``: where ``transposed`` stands."""

    stride: int
    padding: int
    dilation: int = -1
    groups: int = -1
    flag: int = -1
    extra: int = -1  # output_padding
    weight: int = 1
    image: int = 0
    is_transposed: bool = False


_AS_PUBLIC = _Layout(3, 4, 5, 6)
_BY_KERNEL_SIZE = _Layout(4, 5, 6)
LAYOUTS = {
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), _Layout(3, 4, 5, 8, flag=6, extra=7)),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "_convolution_mode"), _AS_PUBLIC),
    **dict.fromkeys(("cudnn_convolution_relu", "miopen_convolution_relu"), _AS_PUBLIC),
    **dict.fromkeys(("cudnn_convolution_add_relu", "miopen_convolution_add_relu"), _Layout(5, 6, 7, 8)),
    **dict.fromkeys(("mkldnn_convolution", "miopen_convolution", "miopen_depthwise_convolution"), _Layout(4, 3, 5, 6)),
    "_mps_convolution": _Layout(4, 3, 5, 6),
    "cudnn_convolution": _Layout(3, 2, 4, 5),
    "_nnpack_spatial_convolution": _Layout(4, 3),
    **dict.fromkeys(("_conv_depthwise2d", "conv_depthwise3d", "thnn_conv_depthwise2d", "thnn_conv_depthwise2d_forward",
                     "slow_conv_dilated2d", "slow_conv_dilated3d"), _BY_KERNEL_SIZE),
    **dict.fromkeys(("thnn_conv2d", "thnn_conv2d_forward", "_slow_conv2d_forward", "slow_conv3d", "slow_conv3d_forward"),
                    _Layout(4, 5)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
                    _Layout(3, 4, 7, 6, extra=5, is_transposed=True)),
    **dict.fromkeys(("slow_conv_transpose2d", "slow_conv_transpose3d"), _Layout(4, 5, 7, extra=6, is_transposed=True)),
    "cudnn_convolution_transpose": _Layout(4, 2, 5, 6, extra=3, is_transposed=True),
    "miopen_convolution_transpose": _Layout(5, 3, 6, 7, extra=4, is_transposed=True),
    "mkldnn::_convolution_pointwise": _Layout(4, 3, 5, 6),
    "mkldnn::_convolution_pointwise_": _Layout(5, 4, 6, 7, image=1, weight=2),
    "mkldnn::_convolution_transpose_pointwise": _Layout(5, 3, 6, 7, extra=4, is_transposed=True),
}  # fmt: skip
"""Where each forward convolution has its arguments. The layouts are those of every backend's operator since torch 1.8."""
_WITH_OTHER = _Layout(5, 4, 6, 7, weight=2)
"""mkldnn::_convolution_pointwise.binary: the tensor that is added stands before the weight."""


@dataclass(frozen=True, slots=True)
class ConvolutionArguments:
    """A convolution of ``image`` [N, C, *sides] (or [C, *sides]) with ``weight`` [K, C/groups, *kernel].

    Transposed, the weight is [C, K/groups, *kernel]. ``others`` are the bias and what is added. ``stride``, ``padding``,
    ``dilation`` and ``groups`` are None where they were not recorded (``padding`` too where it is not the same on both sides).
    """

    image: TensorArg
    weight: TensorArg
    out: TensorArg
    others: tuple[TensorArg, ...]
    transposed: bool
    stride: Shape | None
    padding: Shape | None
    dilation: Shape | None
    groups: int | None


def convolution(call: OpCall) -> ConvolutionArguments | None:
    """Return the arguments of a forward convolution; None for other operators, and where they do not suffice."""
    layout = _layout(call)
    if layout is None:
        return None
    image, weight = call.tensor(layout.image), call.tensor(layout.weight)
    if image is None or weight is None or len(weight.shape) < 3 or len(image.shape) < len(weight.shape) - 1:
        return None
    flipped = _is_transposed(call, layout)
    if flipped is None:
        return None
    out = output(call) or _output(call, image, weight, layout, flipped)
    if out is None:
        return None
    rank = len(weight.shape) - 2
    stride, dilation = _sizes(call, layout.stride, rank), _sizes(call, layout.dilation, rank)
    padding = _padding(call, layout, weight.shape[2:])
    if padding is None and call.value(layout.padding) == "same":
        padding = _same(weight.shape[2:], dilation)
    rest = tuple(arg for i, arg in enumerate(call.inputs) if i not in (layout.image, layout.weight))
    others = tuple(OpCall(call.name, rest).tensors())
    groups = _groups(call, layout, image, weight, flipped)
    return ConvolutionArguments(image, weight, out, others, flipped, stride, padding, dilation, groups)


def _layout(call: OpCall) -> _Layout | None:
    name = call.name.removeprefix("aten::")
    if name == "mkldnn::_convolution_pointwise":
        third = call.tensor(2)
        if third is not None and len(third.shape) >= 3:
            return _WITH_OTHER
    return LAYOUTS.get(name)


def _is_transposed(call: OpCall, layout: _Layout) -> bool | None:
    """Tell whether the convolution is transposed; the output's channels tell where the flag was not recorded."""
    if layout.flag < 0:
        return layout.is_transposed
    flag = call.value(layout.flag)
    if isinstance(flag, bool):
        return flag
    image, weight, out = call.tensor(0), call.tensor(1), output(call)
    if image is None or weight is None or out is None:
        return None
    channel = len(image.shape) - len(weight.shape) + 1
    if len(out.shape) != len(image.shape) or not weight.shape[1]:
        return None
    straight = out.shape[channel] == weight.shape[0] and image.shape[channel] % weight.shape[1] == 0
    flipped = image.shape[channel] == weight.shape[0] and out.shape[channel] % weight.shape[1] == 0
    # with as many channels in as out both may hold; only a transposed convolution makes the image larger than its padding
    if straight and flipped:
        grown = any(o > n for o, n in zip(out.shape[channel + 1 :], image.shape[channel + 1 :], strict=True))
        return None if grown else False
    return flipped if straight != flipped else None


def _output(call: OpCall, image: TensorArg, weight: TensorArg, layout: _Layout, flipped: bool) -> TensorArg | None:
    rank = len(weight.shape) - 2
    sides, kernel = image.shape[-rank:], weight.shape[2:]
    stride, dilation = _sizes(call, layout.stride, rank), _sizes(call, layout.dilation, rank)
    padding = _padding(call, layout, kernel)
    if stride is None or dilation is None:
        return None
    if padding is None:
        if call.value(layout.padding) != "same" or set(stride) != {1}:
            return None
        return like(image, (*image.shape[: -rank - 1], weight.shape[0], *sides))
    if not flipped:
        found = convolved(sides, kernel, stride, padding, dilation)
        channels: int | None = weight.shape[0]
    else:
        extra = _sizes(call, layout.extra, rank, 0)
        found = None if extra is None else transposed(sides, kernel, stride, padding, dilation, extra)
        groups = call.value(layout.groups) if layout.groups >= 0 else 1
        channels = weight.shape[1] * groups if isinstance(groups, int) else None
    if found is None or channels is None:
        return None
    return like(image, (*image.shape[: -rank - 1], channels, *found))


def _sizes(call: OpCall, position: int, rank: int, missing: int = 1) -> Shape | None:
    """Return one value per side; ``missing`` where the operator has no such argument, None where it was not recorded."""
    if position < 0:
        return (missing,) * rank
    found = call.ints(position)
    return spread(found, rank) if found else None


def _padding(call: OpCall, layout: _Layout, kernel: Shape) -> Shape | None:
    if call.value(layout.padding) == "valid":
        return (0,) * len(kernel)
    return _sizes(call, layout.padding, len(kernel))


def _same(kernel: Shape, dilation: Shape | None) -> Shape | None:
    """Return the padding that keeps the size at stride 1, None where one side would get more than the other."""
    total = [d * (k - 1) for k, d in zip(kernel, dilation or (), strict=False)]
    return tuple(n // 2 for n in total) if len(total) == len(kernel) and all(n % 2 == 0 for n in total) else None


def _groups(call: OpCall, layout: _Layout, image: TensorArg, weight: TensorArg, flipped: bool) -> int | None:
    """Return the recorded number of groups, else the one that the channels of image and weight tell."""
    given = call.value(layout.groups) if layout.groups >= 0 else None
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    if flipped:
        return 1 if layout.groups < 0 else None
    channels = image.shape[len(image.shape) - len(weight.shape) + 1]
    return channels // weight.shape[1] if weight.shape[1] and channels % weight.shape[1] == 0 else None
