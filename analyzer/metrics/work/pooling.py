"""Pooling and resizing."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, output, read_bytes, register, written_bytes
from analyzer.schema.operators import OpCall, TensorArg


@register("max_pool2d_with_indices", "avg_pool2d", "max_pool2d", "mkldnn_max_pool2d")
def _pooling(call: OpCall) -> Work | None:
    """One addition per element of each window, none for a maximum; kernel size at 1, stride at 2, padding at 3."""
    x, kernel = call.tensor(0), call.ints(1)
    if x is None or not kernel or len(x.shape) < 3:
        return None
    k = (kernel[0], kernel[-1])
    stride = call.ints(2) or k
    s, p = (stride[0], stride[-1]), call.ints(3) or (0, 0)
    sides = [(x.shape[-2 + i] + 2 * p[min(i, len(p) - 1)] - k[i]) // max(s[i], 1) + 1 for i in (0, 1)]
    out = output(call) or TensorArg((*x.shape[:-2], *sides), x.dtype)
    flop = 0 if "max" in call.name else out.numel * k[0] * k[1]
    return Work(float(flop), read_bytes([x]) + written_bytes(call, [out]))


@register(
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_nearest2d",
    "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa",
)
def _upsample(call: OpCall) -> Work | None:
    """Two multiply-adds per tap: 4 taps bilinear, 16 bicubic, none nearest; output size at position 1."""
    x, size = call.tensor(0), call.ints(1)
    if x is None or len(x.shape) != 4:
        return None
    out = output(call) or (TensorArg((*x.shape[:2], *size), x.dtype) if size and len(size) == 2 else None)
    if out is None:
        return None
    taps = 0 if "nearest" in call.name else 16 if "bicubic" in call.name else 4
    return Work(2.0 * taps * out.numel, read_bytes([x]) + out.numel * out.itemsize)
