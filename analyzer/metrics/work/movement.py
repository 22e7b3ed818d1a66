"""Operators that only move data: copies, concatenation, padding, changes of layout."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import Arg, OpCall, TensorArg
from analyzer.trace.shapes import Shape, concrete_dtype, like, output, promoted, short_name


@register("copy_", per_element=0.0)
def _copy(call: OpCall) -> Work | None:
    """Reads the source (position 1), writes all of the destination (position 0)."""
    to, source = call.tensor(0), call.tensor(1)
    return None if to is None or source is None else tally(0.0, [source], [to])


@register("_to_copy", per_element=0.0)
def _convert(call: OpCall) -> Work | None:
    """Reads the input and writes it in the type at 1, which stays the input's where none is given (but was recorded)."""
    x = call.tensor(0)
    if x is None:
        return None
    dtype = concrete_dtype(call, 1)
    recorded = dtype is not None or any(arg is not None for arg in call.inputs[1:])
    out = output(call) or (like(x, dtype=dtype) if recorded else None)
    return None if out is None else tally(0.0, [x], [out])


@register("cat", "_cat", "stack", "_stack", per_element=0.0)
def _concatenate(call: OpCall) -> Work | None:
    """Reads every part once and writes as much. The basis is generic where the elements' type is not in the trace."""
    parts = _parts(call.inputs[:1])
    if not parts:
        return None
    target = [t for arg in call.inputs[1:] for t in _parts((arg,))]
    return tally(0.0, parts, call.results() or target or [like(part, dtype=promoted(parts)) for part in parts])


def _parts(args: tuple[Arg, ...]) -> list[TensorArg]:
    return OpCall("", args).tensors()


@register("clone", "roll", "flip", "_reshape_copy", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
          "native_channel_shuffle", "tril", "triu", "tril_", "triu_", "mkldnn_reorder_conv2d_weight",
          "mkldnn_reorder_conv3d_weight", "to_mkldnn", "_to_dense", "view_copy", "permute_copy", "transpose_copy", "t_copy",
          "squeeze_copy", "unsqueeze_copy", "alias_copy", "detach_copy", "_mkldnn_transpose", "rot90", "split_with_sizes_copy",
          "split_copy", "unbind_copy", "lift_fresh_copy", "mkldnn::_reorder_convolution_weight",
          "mkldnn::_reorder_convolution_transpose_weight", per_element=0.0)  # fmt: skip
def _rearrange(call: OpCall) -> Work | None:
    """Reads the input and writes as many elements."""
    x = call.tensor(0)
    return None if x is None else tally(0.0, [x], call.results() or [like(x)])


def _moved(shape_of: Callable[[OpCall, TensorArg], Shape | None], *names: str) -> None:
    """Register operators that read their input and write a tensor whose shape follows from concrete arguments."""

    def formula(call: OpCall) -> Work | None:
        x = call.tensor(0)
        shape = shape_of(call, x) if x is not None else None
        out = output(call) or (like(x, shape) if x is not None and shape is not None else None)
        return None if x is None or out is None else tally(0.0, [x], [out])

    register(*names, per_element=0.0)(formula)


def _padded(call: OpCall, x: TensorArg) -> Shape | None:
    """Pairs of added elements at 1, from the last dimension on; negative ones crop."""
    pad = call.ints(1)
    if not pad or len(pad) % 2 or len(pad) > 2 * len(x.shape):
        return None
    shape = list(x.shape)
    for i in range(len(pad) // 2):
        shape[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    return tuple(shape) if all(n >= 0 for n in shape) else None


_PADS = tuple(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3))
_moved(_padded, "constant_pad_nd", "_pad_circular", *_PADS)


@register(*(f"{name}_backward" for name in _PADS))
def _padded_backward(call: OpCall) -> Work | None:
    """One addition per element of the gradient; of the input only the shape is needed."""
    grad, x = call.tensor(0), call.tensor(1)
    return None if grad is None or x is None else tally(grad.numel, [grad], call.results() or [like(x)])


def _repeated(call: OpCall, x: TensorArg) -> Shape | None:
    times = call.ints(1)
    if times is None or len(times) < len(x.shape):
        return None
    own = (1,) * (len(times) - len(x.shape)) + x.shape
    return tuple(n * k for n, k in zip(own, times, strict=True))


_moved(_repeated, "repeat")


def _sized(call: OpCall, x: TensorArg) -> Shape | None:
    size = call.ints(1)
    if size is None:
        return None
    given = (1,) * (len(size) - len(x.shape)) + x.shape
    return tuple(m if n < 0 else n for n, m in zip(size, given, strict=True)) if len(given) == len(size) else None


_moved(_sized, "expand_copy")


def _narrowed(call: OpCall, x: TensorArg) -> Shape | None:
    """Dimension at 1, start at 2, then a length (``narrow_copy``) or an end and a step (``slice_copy``)."""
    dim, start, last = call.value(1), call.value(2), call.value(3)
    if not isinstance(dim, int) or not isinstance(last, int) or not -len(x.shape) <= dim < len(x.shape):
        return None
    dim %= len(x.shape)
    if short_name(call) == "narrow_copy":
        count = last
    else:
        n, step = x.shape[dim], call.value(4)
        low, high = (max(0, min(n, v + n if v < 0 else v)) for v in (start if isinstance(start, int) else 0, last))
        count = -(-max(high - low, 0) // (step if isinstance(step, int) and step > 0 else 1))
    return (*x.shape[:dim], count, *x.shape[dim + 1 :])


def _register_slices() -> None:
    def formula(call: OpCall) -> Work | None:
        x = call.tensor(0)
        shape = _narrowed(call, x) if x is not None else None
        out = output(call) or (like(x, shape) if x is not None and shape is not None else None)
        return None if x is None or out is None else tally(0.0, [like(out, dtype=x.dtype)], [out])

    register("narrow_copy", "slice_copy", "select_copy", "unfold_copy", per_element=0.0)(formula)


_register_slices()


@register("select_scatter", "slice_scatter", "select_backward", "slice_backward", "diagonal_scatter", "unfold_backward",
          per_element=0.0)  # fmt: skip
def _placed(call: OpCall) -> Work | None:
    """Writes a whole tensor, part of which is given: reads that part, and of the rest what is kept (gradients: zeros)."""
    whole, part = call.tensor(0), call.tensor(1)
    if whole is None:
        return None
    if short_name(call).endswith("_backward"):
        size = call.ints(1)
        writes = call.results() or ([like(whole, size)] if size else [])
        return tally(0.0, [whole], writes) if writes else None
    if part is None:
        return None
    kept = max(whole.numel - part.numel, 0)
    return tally(0.0, [part, like(whole, (kept,))], call.results() or [like(whole)])
