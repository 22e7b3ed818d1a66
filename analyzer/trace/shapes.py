"""Names, shapes and element types of outputs: as recorded, or worked out from the arguments as torch does."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.schema.operators import OpCall, TensorArg

Shape = tuple[int, ...]

_CODES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 9: "complex64",
    10: "complex128", 11: "bool", 15: "bfloat16", 23: "float8_e5m2", 24: "float8_e4m3fn",
}  # fmt: skip
"""c10::ScalarType, which is how Kineto writes down an element type among the concrete arguments."""

_RANKS = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
          "complex128")  # fmt: skip


def short_name(call: OpCall) -> str:
    """Return the name of the operator without its namespace."""
    return call.name.rsplit("::", 1)[-1]


def output(call: OpCall) -> TensorArg | None:
    """Return the first output, None where it was not recorded."""
    results = call.results()
    return results[0] if results else None


def shapes_text(call: OpCall) -> tuple[str, str]:
    """Return the input shapes as text, ``1x197x768 768x2304``, and the element type of the operator."""
    tensors = call.tensors()
    shapes = " ".join("x".join(map(str, t.shape)) or "scalar" for t in tensors[:8])
    dtype = next((t.dtype for t in tensors if t.dtype != "unknown"), "")
    return shapes + (" ..." if len(tensors) > 8 else ""), dtype


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """Return the shape to which all of ``shapes`` broadcast, None where they do not."""
    if not shapes:
        return None
    rank = max(len(shape) for shape in shapes)
    sides = []
    for i in range(rank):
        found = {shape[len(shape) - rank + i] for shape in shapes if i >= rank - len(shape)} - {1}
        if len(found) > 1:
            return None
        sides.append(found.pop() if found else 1)
    return tuple(sides)


def _category(dtype: str) -> int:
    return 3 if dtype.startswith("complex") else 2 if "float" in dtype else 0 if dtype == "bool" else 1


def promoted(tensors: Sequence[TensorArg]) -> str:
    """Return the element type that torch computes with: tensors of rank 0 count only where their category is higher.

    Approximation: a double of rank 0 next to integers is taken for a Python number, which makes float32.
    """
    if any(t.dtype not in _RANKS for t in tensors):
        return "unknown" if any(t.dtype == "unknown" for t in tensors) else tensors[0].dtype
    full = [t.dtype for t in tensors if t.shape]
    scalars = [t.dtype for t in tensors if not t.shape]
    if not full or not scalars:
        return _highest(full or scalars)
    dtype, scalar = _highest(full), _highest(scalars)
    if _category(scalar) <= _category(dtype):
        return dtype
    return "float32" if scalar == "float64" else scalar


def _highest(dtypes: list[str]) -> str:
    if {"float16", "bfloat16"} <= set(dtypes):
        dtypes = [*dtypes, "float32"]
    if "uint8" in dtypes and "int8" in dtypes:
        dtypes = [*dtypes, "int16"]
    return max(dtypes, key=_RANKS.index)


def with_numbers(dtype: str, numbers: Sequence[object]) -> str:
    """Return the type after Python numbers joined in: a float turns integers into float32, an integer bool into int64."""
    kinds = {type(number) for number in numbers}
    if float in kinds and _category(dtype) < 2:
        return "float32"
    return "int64" if int in kinds and dtype == "bool" else dtype


def floating(dtype: str) -> str:
    """Return the type of a real-valued function of ``dtype``: integers become float32."""
    return "float32" if dtype.startswith(("int", "uint", "bool")) else dtype


def concrete_dtype(call: OpCall, position: int) -> str | None:
    """Return the element type given at ``position``, None where there is none or it was not recorded."""
    value = call.value(position)
    if isinstance(value, int) and not isinstance(value, bool):
        return _CODES.get(value)
    return value if isinstance(value, str) and value in _CODES.values() else None


def spread(values: Shape, rank: int) -> Shape | None:
    """Return ``values`` for ``rank`` dimensions: one value counts for all of them."""
    if len(values) == 1:
        return values * rank
    return values if len(values) == rank else None


def convolved(sides: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape | None:
    """Return floor((n + 2p - d(k-1) - 1) / s) + 1 for each side."""
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // max(s, 1) + 1
        for n, k, s, p, d in zip(sides, kernel, stride, padding, dilation, strict=True)
    )
    return out if all(n >= 0 for n in out) else None


def transposed(sides: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, extra: Shape) -> Shape | None:
    """Return (n - 1)s - 2p + d(k-1) + 1 + output_padding for each side."""
    out = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, k, s, p, d, e in zip(sides, kernel, stride, padding, dilation, extra, strict=True)
    )
    return out if all(n >= 0 for n in out) else None


def pooled(sides: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, ceil: bool) -> Shape | None:
    """Return the sides after pooling; with ``ceil`` a last window is kept if it begins inside the image or its left padding."""
    if not ceil:
        return convolved(sides, kernel, stride, padding, dilation)
    out = []
    for n, k, s, p, d in zip(sides, kernel, stride, padding, dilation, strict=True):
        count = -((-(n + 2 * p - d * (k - 1) - 1)) // max(s, 1)) + 1
        out.append(count - 1 if (count - 1) * s >= n + p else count)
    return tuple(out) if all(n >= 0 for n in out) else None


def reduced(shape: Shape, dims: Shape, keep: bool) -> Shape | None:
    """Return ``shape`` without ``dims`` (all where empty), which stay as ones if ``keep``; None where one does not exist."""
    rank = len(shape)
    gone = {d % rank for d in dims if -rank <= d < rank} if rank else set()
    if rank and len(gone) < len(set(dims)):
        return None
    gone = gone or set(range(rank))
    return tuple(1 if i in gone else n for i, n in enumerate(shape) if keep or i not in gone)


def multiplied(a: Shape, b: Shape) -> Shape | None:
    """Return the shape of ``matmul``: vectors lose their dimension, what stands before the last two broadcasts."""
    if not a or not b:
        return None
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        return None
    batch = broadcast([a[:-2], b[:-2]])
    if batch is None:
        return None
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def like(tensor: TensorArg, shape: Shape | None = None, dtype: str | None = None) -> TensorArg:
    """Return a dense tensor as ``tensor``, with another shape or element type."""
    return TensorArg(tensor.shape if shape is None else shape, dtype or tensor.dtype)
