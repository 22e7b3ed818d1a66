"""One operator call: what went in and, where an operator trace is at hand, what came out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

ITEMSIZE = {
    "float64": 8, "float32": 4, "tfloat32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "1-byte": 1, "2-byte": 2, "4-byte": 4, "8-byte": 8, "16-byte": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorArg:
    """A tensor argument. ``stride`` in elements and ``storage`` (an identity within the step) where known."""

    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...] | None = None
    storage: int | None = None
    offset: int = 0

    @property
    def numel(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Return the size of an element in bytes; 4 for a type that is not known."""
        return ITEMSIZE.get(self.dtype, 4)

    @property
    def footprint_bytes(self) -> int:
        """Return the distinct bytes that the tensor covers: dimensions of stride 0 (``expand``) count once."""
        if self.stride is None or len(self.stride) != len(self.shape):
            return self.numel * self.itemsize
        return self.itemsize * math.prod(n for n, s in zip(self.shape, self.stride, strict=True) if s != 0)


Scalar = None | bool | int | float | str
Value = Scalar | tuple["Value", ...]
Arg = TensorArg | tuple[TensorArg, ...] | Value


@dataclass(frozen=True, slots=True)
class OpCall:
    """An operator call. ``outputs`` is None where only the inputs were recorded.

    ``untold`` are the positions of which the trace has neither type nor shape: an argument left out, or a tensor that the
    profiler could not describe (a nested one, say). ``parts`` are the operators that a compiler put into this one, each with
    the inputs and outputs that it would have by itself; empty for an operator of its own.
    """

    name: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...] | None = None
    untold: tuple[int, ...] = ()
    parts: tuple[OpCall, ...] = ()

    def tensor(self, position: int) -> TensorArg | None:
        """Return the tensor at ``position`` of the inputs, None where there is none."""
        arg = self.inputs[position] if position < len(self.inputs) else None
        return arg if isinstance(arg, TensorArg) else None

    def tensors(self) -> list[TensorArg]:
        """Return all input tensors, those inside lists too."""
        return list(_flatten(self.inputs))

    def results(self) -> list[TensorArg]:
        """Return all output tensors, empty where not recorded."""
        return list(_flatten(self.outputs or ()))

    def lacks(self, *positions: int) -> bool:
        """Tell whether the trace says nothing about an argument at one of ``positions`` that the operator cannot do without."""
        return not self.results() and any(i in self.untold for i in positions)

    def ints(self, position: int) -> tuple[int, ...] | None:
        """Return a list of integers at ``position``, None where it was not recorded."""
        arg = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(arg, int) and not isinstance(arg, bool):
            return (arg,)
        if isinstance(arg, tuple):
            found = tuple(v for v in arg if isinstance(v, int) and not isinstance(v, bool))
            return found if len(found) == len(arg) else None
        return None

    def value(self, position: int) -> Value | None:
        """Return a scalar at ``position``, None where it was not recorded."""
        arg = self.inputs[position] if position < len(self.inputs) else None
        return arg if isinstance(arg, bool | int | float | str) else None


def _flatten(args: tuple[Arg, ...]) -> Iterator[TensorArg]:
    for arg in args:
        if isinstance(arg, TensorArg):
            yield arg
        elif isinstance(arg, tuple):
            yield from _flatten(arg)
