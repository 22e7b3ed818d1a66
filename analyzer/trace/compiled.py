"""Reads ``compiled.json.gz``: which kernels torch.compile made of a model, and which operators and modules went into each."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from analyzer.errors import TraceError
from analyzer.schema.compiled import CompiledCall, CompiledGraph, Part
from analyzer.schema.operators import Arg, OpCall, TensorArg, Value

COMPILED_FORMAT_VERSION = 1
_MAX_BYTES = 1 << 28
"""Unpacked. The largest models of timm come to a few megabytes."""
_HINT = "record the run again, or delete the file: kernels then have the operators in their names, and no modules"

_Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_Size = Annotated[int, Meta(ge=0, lt=2**40)]


class _Tensor(msgspec.Struct, frozen=True):
    shape: list[_Size]
    dtype: str
    stride: list[_Whole] | None = None
    storage: _Whole | None = None
    offset: _Whole = 0


class _Argument(msgspec.Struct, frozen=True):
    """A tensor, a list of tensors or a value: whichever of the keys is there."""

    shape: list[_Size] | None = None
    dtype: str = "unknown"
    stride: list[_Whole] | None = None
    storage: _Whole | None = None
    offset: _Whole = 0
    tensors: list[_Tensor] | None = None
    value: Any = None


class _Part(msgspec.Struct, frozen=True):
    name: str
    inputs: list[_Argument] = []
    outputs: list[_Argument] = []
    module: str = ""


class _Call(msgspec.Struct, frozen=True):
    kernel: str
    fused: bool = False
    parts: list[_Part] = []
    reads: list[_Tensor] | None = None
    writes: list[_Tensor] | None = None


class _Graph(msgspec.Struct, frozen=True):
    calls: list[_Call] = []


class _Version(msgspec.Struct, frozen=True):
    format_version: int


class _File(msgspec.Struct, frozen=True):
    graphs: list[_Graph] = []


def read_compiled(path: Path) -> tuple[CompiledGraph, ...]:
    """Return the graphs in ``compiled.json.gz``, in the order in which torch compiled them.

    Raises:
        TraceError: the file is damaged, too large or written by a newer version.
    """
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise TraceError(f"{path} unpacks to more than {_MAX_BYTES >> 20} MiB", _HINT)
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > COMPILED_FORMAT_VERSION:
            raise TraceError(f"{path} has format {version}", "update the analyzer")
        found = msgspec.json.decode(data, type=_File)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{path} is damaged: {error}", _HINT) from error
    return tuple(CompiledGraph(tuple(map(_call, graph.calls))) for graph in found.graphs)


def _call(call: _Call) -> CompiledCall:
    parts = tuple(Part(OpCall(p.name, _arguments(p.inputs), _arguments(p.outputs)), p.module) for p in call.parts)
    if call.reads is None or call.writes is None:
        return CompiledCall(call.kernel, call.fused, parts)
    whole = OpCall(call.kernel, tuple(map(_tensor, call.reads)), tuple(map(_tensor, call.writes)))
    return CompiledCall(call.kernel, call.fused, parts, whole)


def _arguments(args: list[_Argument]) -> tuple[Arg, ...]:
    return tuple(map(_argument, args))


def _argument(arg: _Argument) -> Arg:
    if arg.tensors is not None:
        return tuple(map(_tensor, arg.tensors))
    return _value(arg.value) if arg.shape is None else _tensor(arg)


def _tensor(arg: _Tensor | _Argument) -> TensorArg:
    stride = tuple(arg.stride) if arg.stride is not None and len(arg.stride) == len(arg.shape or ()) else None
    return TensorArg(tuple(arg.shape or ()), arg.dtype, stride, arg.storage, arg.offset)


def _value(found: Any) -> Value:
    if isinstance(found, list):
        return tuple(map(_value, found))
    return found if isinstance(found, bool | int | float | str) else None
