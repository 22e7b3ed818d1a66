"""The arguments of pooling, forward."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import Shape, like, output, pooled, short_name, spread

# max_pool2d and max_pool3d are not here: they call the operators with indices, or oneDNN
# rank, position of dilation (-1: none), position of ceil_mode, whether indices are written
_POOLS = {
    "max_pool2d_with_indices": (2, 4, 5, True), "max_pool3d_with_indices": (3, 4, 5, True),
    "max_pool1d": (1, 4, 5, False), "max_pool1d_with_indices": (1, 4, 5, True),
    "mkldnn_max_pool2d": (2, 4, 5, False), "mkldnn_max_pool3d": (3, 4, 5, False),
    "avg_pool1d": (1, -1, 4, False), "avg_pool2d": (2, -1, 4, False), "avg_pool3d": (3, -1, 4, False),
}  # fmt: skip
_ADAPTIVE = {"_adaptive_avg_pool2d": 2, "_adaptive_avg_pool3d": 3, "mkldnn_adaptive_avg_pool2d": 2, "adaptive_avg_pool1d": 1,
             "adaptive_max_pool1d": 1, "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3}  # fmt: skip
POOLS, ADAPTIVE_POOLS = tuple(_POOLS), tuple(_ADAPTIVE)
"""The operators that ``pooling`` reads: those with a kernel size, and those with an output size."""


@dataclass(frozen=True, slots=True)
class PoolingArguments:
    """A pooling of ``image`` [..., *sides] over its last ``rank`` dimensions.

    ``kernel``, ``stride``, ``padding`` and ``dilation`` are None where they were not recorded, and of an adaptive pooling.
    ``writes`` are the output and, where it ``has_indices``, their indices.
    """

    image: TensorArg
    rank: int
    maximum: bool
    adaptive: bool
    has_indices: bool
    writes: tuple[TensorArg, ...]
    kernel: Shape | None = None
    stride: Shape | None = None
    padding: Shape | None = None
    dilation: Shape | None = None

    @property
    def out(self) -> TensorArg:
        """The output."""
        return self.writes[0]


def pooling(call: OpCall) -> PoolingArguments | None:
    """Return the arguments of a forward pooling; None for other operators, and where they do not suffice."""
    name = call.name.removeprefix("aten::")
    if name in _ADAPTIVE:
        return _adaptive(call, _ADAPTIVE[name])
    return _windowed(call) if name in _POOLS else None


def _windowed(call: OpCall) -> PoolingArguments | None:
    """Kernel size at 1, stride at 2, padding at 3."""
    x, name = call.tensor(0), short_name(call)
    rank, dilation_at, ceil_at, indices = _POOLS[name]
    if x is None or len(x.shape) < rank:
        return None
    kernel = kernel_size(call, 1, rank)
    stride = None if kernel is None else spread(call.ints(2) or kernel, rank)
    padding = spread(call.ints(3) or (0,), rank)
    dilation = spread((call.ints(dilation_at) if dilation_at >= 0 else None) or (1,), rank)
    out = output(call)
    if out is None:
        if kernel is None or stride is None or padding is None or dilation is None:
            return None
        sides = pooled(x.shape[-rank:], kernel, stride, padding, dilation, call.value(ceil_at) is True)
        if not sides:
            return None
        out = like(x, (*x.shape[:-rank], *sides))
    maximum = "max" in name
    return PoolingArguments(x, rank, maximum, False, indices, _writes(call, out, indices), kernel, stride, padding, dilation)


def kernel_size(call: OpCall, position: int, rank: int) -> Shape | None:
    """Return the kernel size at ``position``, None where it was not recorded."""
    found = call.ints(position)
    return spread(found, rank) if found else None


def _adaptive(call: OpCall, rank: int) -> PoolingArguments | None:
    """Output size at 1."""
    x = call.tensor(0)
    if x is None or len(x.shape) < rank:
        return None
    size = call.ints(1)
    sides = spread(size, rank) if size else None
    out = output(call) or (like(x, (*x.shape[:-rank], *sides)) if sides else None)
    if out is None or len(out.shape) < rank:
        return None
    maximum = "max" in call.name
    return PoolingArguments(x, rank, maximum, True, maximum, _writes(call, out, maximum))


def _writes(call: OpCall, out: TensorArg, indices: bool) -> tuple[TensorArg, ...]:
    """Return what is written: indices, int64, too, if the operator has them and they were not recorded beside the output."""
    writes = (out, *call.results()[1:])
    return (*writes, like(out, dtype="int64")) if indices and len(writes) == 1 else writes
