"""Fills in what a trace leaves out of an operator's arguments and a neighbouring operator tells.

Kineto records the inputs of an operator, never its outputs; traces before torch 1.13 have no strides or kernel sizes either,
and no version has the element type of a list. The operator that takes the result next has its shape and type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from analyzer.schema.operators import Arg, OpCall, TensorArg
from analyzer.trace.kinds import operator_kind
from analyzer.trace.spans import Spans

_SLIDING = re.compile(r"conv|pool[123]d")
"""Operators whose output hangs on a kernel size and a stride, which old traces do not have."""
_REACH = 40
"""Operators after the one in question that are asked; in real models the next one or two take its result."""

Wanted = Callable[[TensorArg], bool]


def complete_calls(calls: list[OpCall | None], ops: Spans, launches: pd.DataFrame) -> list[OpCall | None]:
    """Return ``calls`` with outputs and element types added where an enclosing or a later operator, or a kernel, shows them.

    Approximation: the first later operator of the thread with an input of a fitting shape is taken to use the result. Calls
    whose outputs were recorded, and those whose arguments suffice, stay as they are. ``launches`` has ``op_index`` and
    ``kernel``.
    """
    lacks = {key: _lack(call) for key, call in {id(c): c for c in calls if c is not None}.items()}
    incomplete = {key: lack for key, lack in lacks.items() if lack}
    if not incomplete:
        return calls
    out = list(calls)
    order = ops.order.tolist()  # by thread and start
    place = {i: at for at, i in enumerate(order)}
    element = _copied_types(launches)
    for i, call in enumerate(calls):
        if call is None or id(call) not in incomplete:
            continue
        lack = incomplete[id(call)]
        if lack == "gradient":
            out[i] = _from_parent(call, ops, calls, i)
            continue
        result = _result_of(call, lack)
        if result is None:
            continue
        fits, finish = result
        later = (order[at] for at in range(place[i] + 1, min(place[i] + 1 + _REACH, len(order))))
        users = (calls[j] for j in later if ops.thread[j] == ops.thread[i] and ops.start[j] >= ops.end[i])
        found = next((t for user in users if user for t in user.tensors() if t.dtype != "unknown" and fits(t)), None)
        if found is None and lack == "list" and i in element:
            found = TensorArg((), element[i])
        out[i] = finish(found) if found is not None else call
    return out


def _lack(call: OpCall) -> str:
    """Return what ``call`` lacks: its ``output``, the element type of a ``list``, a ``gradient``'s shape; empty if nothing."""
    if call.outputs is not None:
        return ""
    short = call.name.rpartition("::")[2]
    if short.endswith(("convolution_backward_input", "convolution_backward_weight", "transpose_backward_input",
                       "transpose_backward_weight")):  # fmt: skip
        return "gradient" if call.ints(0) is None else ""
    if short in ("cat", "_cat", "concat", "stack"):
        return "list" if any(t.dtype == "unknown" for t in call.tensors()) else ""
    if "backward" in short or not any(call.tensors()):
        return ""
    if _SLIDING.search(short):
        known = any(isinstance(arg, tuple) and arg and all(isinstance(v, int) for v in arg) for arg in call.inputs)
        return "" if known else "output"
    return ""


def _from_parent(call: OpCall, ops: Spans, calls: list[OpCall | None], i: int) -> OpCall:
    """Return half a backward convolution with its output: the image or the weight that the whole one was given."""
    parent = calls[int(ops.parent[i])] if ops.parent[i] >= 0 else None
    if parent is None or not parent.name.endswith("_backward"):
        return call
    image, weight = parent.tensor(0), parent.tensor(2)
    found = image if call.name.endswith("_input") else weight
    return replace(call, outputs=(found,)) if found is not None else call


def _result_of(call: OpCall, lack: str) -> tuple[Wanted, Callable[[TensorArg], OpCall]] | None:
    """Return how to know the result of ``call`` when it is seen, and the call made complete with it."""
    if lack == "list":
        return _joined(call)
    image, weight = call.tensor(0), call.tensor(1)
    if image is None or len(image.shape) < 3:
        return None
    space = (len(weight.shape) if weight is not None else len(image.shape)) - 2
    if space < 1 or len(image.shape) < space + 1:
        return None
    channels = weight.shape[0] if weight is not None and operator_kind(call.name) != "pooling" else image.shape[-space - 1]
    lead = (*image.shape[: -space - 1], channels)

    def fits(t: TensorArg) -> bool:
        sides = t.shape[len(lead) :]
        return (
            len(t.shape) == len(image.shape)
            and t.shape[: len(lead)] == lead
            and all(1 <= n <= m + 2 * _PADDING for n, m in zip(sides, image.shape[-space:], strict=True))
        )

    return fits, lambda t: replace(call, outputs=(TensorArg(t.shape, t.dtype),))


_PADDING = 8
"""How far an output may stick out over its input on either side: more padding than any common layer has."""


def _joined(call: OpCall) -> tuple[Wanted, Callable[[TensorArg], OpCall]] | None:
    parts = call.inputs[0] if call.inputs and isinstance(call.inputs[0], tuple) else ()
    tensors = [p for p in parts if isinstance(p, TensorArg)]
    shape = _joined_shape(call, [t.shape for t in tensors if t.shape != (0,)])
    if shape is None:
        return None

    def finish(t: TensorArg) -> OpCall:
        typed: tuple[Arg, ...] = tuple(replace(p, dtype=t.dtype) if isinstance(p, TensorArg) else p for p in tensors)
        return replace(call, inputs=(typed, *call.inputs[1:]), outputs=(TensorArg(shape, t.dtype),))  # type: ignore[arg-type]

    # a view may come between: what counts is the element type, and the number of elements tells the result from others
    count = math.prod(shape)
    return (lambda t: t.numel == count), finish


_COPIED = re.compile(r"CatArrayBatchedCopy\w*<(?:[\w: ()]*::)?(?:OpaqueType<(\d+)u?>|(\w+))")
_C_TYPES = {"bool": "bool", "float": "float32", "double": "float64", "Half": "float16", "BFloat16": "bfloat16", "long": "int64",
            "int": "int32", "short": "int16", "char": "int8"}  # fmt: skip


def _copied_types(launches: pd.DataFrame) -> dict[int, str]:
    """Return the element type (its size at least) that the kernel of a concatenation was compiled for, by operator."""
    names = {name: match for name in launches["kernel"].unique() if (match := _COPIED.search(name[:2000]))}
    rows = launches[launches["kernel"].isin(names) & launches["op_index"].ge(0)]
    out = {}
    for op, name in zip(rows["op_index"].tolist(), rows["kernel"], strict=True):
        size, word = names[name].groups()
        dtype = f"{size}-byte" if size else _C_TYPES.get(word, "")
        if dtype:
            out[op] = dtype
    return out


def _joined_shape(call: OpCall, shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the shape of a concatenation or a stack, None where the axis was not recorded or the parts do not fit."""
    axis = call.value(1) if len(call.inputs) > 1 else 0
    if not shapes or not isinstance(axis, int) or isinstance(axis, bool):
        return None
    first = shapes[0]
    if call.name.endswith("stack"):
        at = axis if axis >= 0 else axis + len(first) + 1
        same = all(s == first for s in shapes) and 0 <= at <= len(first)
        return (*first[:at], len(shapes), *first[at:]) if same else None
    at = axis if axis >= 0 else axis + len(first)
    if not 0 <= at < len(first) or any(len(s) != len(first) for s in shapes):
        return None
    if any(s[:at] != first[:at] or s[at + 1 :] != first[at + 1 :] for s in shapes):
        return None
    return (*first[:at], sum(s[at] for s in shapes), *first[at + 1 :])
