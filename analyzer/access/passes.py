"""Operators that go once over their operands: normalisation, softmax, pointwise work, changes of layout."""

from __future__ import annotations

from analyzer.access.problem import Pass
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import broadcast, concrete_dtype, like, promoted, short_name

_PATTERNS = {"normalisation": "norm", "pointwise": "pointwise", "layout": "layout", "pooling": "pooling"}

# what keeps the size of its first tensor, so that its output need not be recorded
_REARRANGED = frozenset((
    "clone", "roll", "flip", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "rot90",
    "_reshape_copy", "permute_copy", "transpose_copy", "view_copy", "t_copy",
))  # fmt: skip
_COMPARED = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "isnan",
                       "isinf", "isfinite"))  # fmt: skip
_CREATED = frozenset(("fill", "zero", "zeros", "ones", "full", "arange", "linspace", "eye", "zeros_like", "ones_like",
                      "full_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_full"))  # fmt: skip
_THREE = frozenset(("addcmul", "addcdiv", "lerp", "where", "clamp", "clip", "masked_fill"))
_OTHER_SIZE = frozenset(("glu", "complex", "polar"))
_TAKEN = frozenset(("index", "_unsafe_index", "index_select", "gather", "embedding", "take"))
_FREE = _COMPARED | _CREATED | frozenset((
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "clip", "where", "masked_fill", "maximum", "minimum",
    "threshold", "floor", "ceil", "round", "sign", "bitwise_and", "bitwise_or", "bitwise_not", "nan_to_num",
))  # fmt: skip
"""Comparison and selection, which are no arithmetic."""


def pass_of(call: OpCall, kind: str) -> tuple[str, Pass] | None:
    """Return the pass of an operator of ``kind``; None where its outputs were not recorded and do not follow from its inputs.

    ``fixed_bytes`` are the weights of a normalisation. All of a pass is fixed where it standardises weights: a batch norm that
    computes statistics over a batch of one, [1, filters, inputs].
    """
    name = short_name(call).removesuffix("_")
    if kind == "indexing" and call.name.endswith("_"):
        return None  # how much of its first tensor it writes is not in the shapes
    reads, writes = _reads(call, name, kind), _writes(call, name, kind)
    if not writes or any(t.dtype == "unknown" for t in (*reads, *writes)):
        return None
    pattern = "softmax" if "softmax" in name else _PATTERNS.get(kind, "other")
    read = _distinct_bytes(reads)
    fixed = _distinct_bytes(reads[1:]) if pattern == "norm" else 0
    trains = "batch_norm" in name and call.value(5) is True
    if trains and len(reads[0].shape) == 3 and reads[0].shape[0] == 1:
        fixed = read
    flop = (_flop_per_element(name, pattern) + 3.0 * trains) * writes[0].numel
    return pattern, Pass(read, sum(t.numel * t.itemsize for t in writes), flop, fixed)


def _distinct_bytes(tensors: list[TensorArg]) -> int:
    """Return the bytes of ``tensors``; the same view given twice counts once."""
    distinct = {(t.storage, t.offset, t.shape) if t.storage is not None else (i,): t for i, t in enumerate(tensors)}
    return sum(t.footprint_bytes for t in distinct.values())


def _reads(call: OpCall, name: str, kind: str) -> list[TensorArg]:
    tensors = call.tensors()
    if kind == "pointwise" and name not in _CREATED:
        return _operands(call, name)
    if name == "copy":
        return tensors[1:2] if call.name.endswith("_") else tensors[:1]
    if name in _CREATED:
        return tensors[1:2] if name in ("fill", "full_like", "new_full") else []
    if name in _TAKEN and tensors and call.results():  # no more of the table than is taken from it
        table = tensors[0]
        taken = min(call.results()[0].numel, table.footprint_bytes // max(table.itemsize, 1))
        return [like(table, (taken,)), *tensors[1:]]
    return tensors


def _writes(call: OpCall, name: str, kind: str) -> list[TensorArg]:
    """Return what is written, empty where that is not known."""
    results, x = call.results(), call.tensor(0)
    if results or not call.name.startswith("aten::"):
        return results
    if name in ("cat", "_cat", "stack", "_stack"):
        parts = call.tensors()
        return [like(t, dtype=promoted(parts)) for t in parts]
    if x is None:
        return []
    if kind == "pointwise" and not call.name.endswith("_"):
        return _elementwise(call, name)
    return _as_first(call, x, name, kind)


def _as_first(call: OpCall, x: TensorArg, name: str, kind: str) -> list[TensorArg]:
    """Return the output of an operator that keeps the size of its first tensor."""
    if name == "_to_copy":
        dtype = concrete_dtype(call, 1)
        return [like(x, dtype=dtype)] if dtype is not None else []
    if call.name.endswith("_") or name in _REARRANGED or "softmax" in name:
        return [x if call.name.endswith("_") else like(x)]
    size = call.ints(1)
    if name.startswith("upsample") and size and len(size) == len(x.shape) - 2:
        return [like(x, (*x.shape[:2], *size))]
    return [like(x), *_statistics(call, x, name)] if kind == "normalisation" else []


def _statistics(call: OpCall, x: TensorArg, name: str) -> list[TensorArg]:
    """Return means and inverse deviations of a layer norm, float32 one per row; those of other norms are few."""
    normalised = call.ints(1)
    if not normalised or ("layer_norm" not in name and "rms_norm" not in name):
        return []
    rows = x.shape[: len(x.shape) - len(normalised)]
    return [like(x, rows, "float32")] * (1 if "rms" in name else 2)


def _operands(call: OpCall, name: str) -> list[TensorArg]:
    """Return the operands of an elementwise operator; a tensor behind them is the ``out`` argument."""
    return [t for i in range(3 if name in _THREE else 2) if (t := call.tensor(i)) is not None]


def _elementwise(call: OpCall, name: str) -> list[TensorArg]:
    """Return the ``out`` argument, else the output of one or two operands of floating type; others need a recorded one."""
    operands = _operands(call, name)
    beyond = call.tensors()[len(operands) :]
    if beyond or name in _THREE or name in _OTHER_SIZE:
        return beyond[-1:]
    shape, dtype = broadcast([t.shape for t in operands]), promoted(operands)
    if shape is None or "float" not in dtype:
        return []
    return [like(operands[0], shape, "bool" if name in _COMPARED else dtype)]


def _flop_per_element(name: str, pattern: str) -> float:
    """Return the arithmetic steps per element of the output, functions counting as one."""
    if pattern == "softmax":
        return 4.0
    if pattern == "norm":
        return 2.0 if "batch_norm" in name else 4.0 if "rms" in name else 5.0
    return 1.0 if pattern == "pointwise" and name not in _FREE else 0.0
