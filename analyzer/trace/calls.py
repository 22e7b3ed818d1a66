"""Operator arguments: from the JSON text of a Kineto event, or exactly, from the operator trace of our own runs."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from analyzer.errors import TraceError
from analyzer.schema.operators import Arg, OpCall, TensorArg, Value

OPS_FORMAT_VERSION = 1
_MAX_OPS_BYTES = 1 << 30
_MAX_DIM = 1 << 40

_DTYPES = {
    "float": "float32", "double": "float64", "c10::Half": "float16", "c10::BFloat16": "bfloat16", "int": "int32",
    "long int": "int64", "long": "int64", "short int": "int16", "short": "int16", "signed char": "int8",
    "unsigned char": "uint8", "bool": "bool", "c10::Float8_e4m3fn": "float8_e4m3fn", "c10::Float8_e5m2": "float8_e5m2",
    "c10::Float8_e4m3fnuz": "float8_e4m3fnuz", "c10::Float8_e5m2fnuz": "float8_e5m2fnuz", "unsigned short": "uint16",
    "unsigned int": "uint32", "unsigned long": "uint64",
    "c10::complex<float>": "complex64", "c10::complex<double>": "complex128",
}  # fmt: skip


@lru_cache(maxsize=65536)
def parse_call(name: str, dims: str, types: str, strides: str, concrete: str) -> OpCall | None:
    """Return the call that Kineto's argument lists describe; None where the trace has no shapes."""
    if not dims:
        return None
    try:
        shapes, kinds = json.loads(dims), json.loads(types) if types else []
        steps, values = json.loads(strides) if strides else [], json.loads(concrete) if concrete else []
    except (ValueError, RecursionError):
        return None
    if not isinstance(shapes, list):
        return None
    kinds, steps, values = (x if isinstance(x, list) else [] for x in (kinds, steps, values))
    inputs = tuple(_arg(i, shapes, kinds, steps, values) for i in range(len(shapes)))
    untold = tuple(i for i, arg in enumerate(inputs) if arg is None and i < len(kinds) and kinds[i] == "" and shapes[i] == [])
    return OpCall(name, inputs, untold=untold)


def _arg(i: int, shapes: list[Any], kinds: list[Any], strides: list[Any], values: list[Any]) -> Arg:
    kind = kinds[i] if i < len(kinds) and isinstance(kinds[i], str) else ""
    shape = shapes[i]
    stride = strides[i] if i < len(strides) else None
    if kind == "TensorList" or (isinstance(shape, list) and shape and isinstance(shape[0], list)):
        # the element type of a list is not in the trace; the work model takes it from the operator's other tensors
        return tuple(TensorArg(tuple(s), "unknown") for s in shape if _is_ints(s)) if isinstance(shape, list) else ()
    if kind in _DTYPES and _is_ints(shape):
        steps = tuple(stride) if isinstance(stride, list) and _is_ints(stride) and len(stride) == len(shape) else None
        return TensorArg(tuple(shape), _DTYPES[kind], steps)
    return _value(values[i]) if i < len(values) else None


# Python's words, and the bare point behind a whole number: "[True, False]", "1."
_WORDS = re.compile(r"\b(?:True|False|None)\b|(?<=\d)\.(?!\d)")
_JSON = {"True": "true", "False": "false", "None": "null", ".": ".0"}


def _is_ints(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < _MAX_DIM for v in value)


def _value(text: Any) -> Value:
    """Return what a concrete input says: ``"[16, 16]"``, ``"False"``, ``"1e-05"`` or nothing."""
    if not isinstance(text, str) or not text or len(text) > 4096:
        return None
    for written in (text, _WORDS.sub(lambda word: _JSON[word[0]], text)):
        with contextlib.suppress(ValueError, RecursionError):
            return _tuples(json.loads(written))
    return text


def _tuples(found: Any) -> Value:
    if isinstance(found, list):
        return tuple(_tuples(v) for v in found)
    return found if isinstance(found, bool | int | float | str) else None


def read_calls(path: Path) -> list[OpCall]:
    """Return the operator calls of one step from ``ops.json.gz``, in order of their start.

    Raises:
        TraceError: the file is damaged or written by a newer version.
    """
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(_MAX_OPS_BYTES)
        document = msgspec.json.decode(data)
        if document["format_version"] > OPS_FORMAT_VERSION:
            raise TraceError(f"{path} has format {document['format_version']}", "update the analyzer")
        return calls_of(document["ops"])
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, KeyError, TypeError, RecursionError) as error:
        raise TraceError(f"{path} is damaged: {error}", "record the run again, or delete the file") from error


def calls_of(records: list[dict[str, Any]]) -> list[OpCall]:
    """Return recorded operators as calls, in their order; what else a record tells (the module that ran it) is left out."""
    return [exact_call(record) for record in records]


def exact_call(op: dict[str, Any]) -> OpCall:
    """Return one entry of ``ops.json.gz`` (or of a recorded meta forward) as a call."""
    return OpCall(op["name"], tuple(map(_exact_arg, op["inputs"])), tuple(map(_exact_arg, op["outputs"])))


def _exact_arg(arg: dict[str, Any]) -> Arg:
    if "tensors" in arg:
        return tuple(_exact_tensor(t) for t in arg["tensors"])
    return _tuples(arg.get("value")) if "shape" not in arg else _exact_tensor(arg)


def _exact_tensor(arg: dict[str, Any]) -> TensorArg:
    return TensorArg(tuple(arg["shape"]), arg["dtype"], tuple(arg["stride"]), arg.get("storage"), arg.get("offset", 0))


def match_exact(ops: pd.DataFrame, calls: list[OpCall], steps: tuple[tuple[str, int, int], ...]) -> list[OpCall | None]:
    """Return for each operator of the trace its exact call, None where the step does not follow the recorded order.

    The operator trace is one extra step of the same model: the k-th operator of a step is the k-th call, provided that
    all names agree. A step that took another path (an algorithm chosen anew, say) keeps its Kineto arguments.
    """
    out: list[OpCall | None] = [None] * len(ops)
    names = [call.name for call in calls]
    start = ops["start_ns"].to_numpy(np.int64)
    order = np.lexsort((-ops["end_ns"].to_numpy(np.int64), start))
    for _, begin, end in steps:
        mine = [int(i) for i in order if begin <= start[i] <= end]
        if [ops["name"].iat[i] for i in mine] == names:
            for i, call in zip(mine, calls, strict=True):
                out[i] = call
    return out
