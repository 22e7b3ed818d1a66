"""Tensors and arguments in the form of ``ops.json.gz``, from the graph that a compiler works on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx


@dataclass(frozen=True, slots=True)
class Tensor:
    """Form and place of a tensor. ``stride`` and ``offset`` in elements, ``itemsize`` in bytes."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    offset: int
    itemsize: int

    def row(self, storage: int | None) -> dict[str, Any]:
        """Return the tensor as ``ops.json.gz`` has it, in memory number ``storage`` where that is known."""
        return {
            "shape": list(self.shape),
            "stride": list(self.stride),
            "dtype": self.dtype,
            **({} if storage is None else {"storage": storage}),
            "offset": self.offset,
            "itemsize": self.itemsize,
        }


Describe = Callable[[Any], dict[str, Any] | None]
"""What turns a tensor of some sort (a node of a graph, a recorded one) into its row; None for what is no tensor."""


def described(value: Any) -> Tensor | None:
    """Return the form of a tensor, None for what is none or has a size that is not known."""
    if not isinstance(value, torch.Tensor):
        return None
    try:
        return Tensor(
            tuple(int(n) for n in value.shape),
            tuple(int(n) for n in value.stride()),
            str(value.dtype).removeprefix("torch."),
            int(value.storage_offset()),
            value.dtype.itemsize,
        )
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None


def arguments(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any], row: Describe) -> list[dict[str, Any]]:
    """Return the arguments of a call in the order of the operator's schema, those left out with their default."""
    schema = getattr(operator, "_schema", None)
    if schema is None:
        return [argument(value, row) for value in (*args, *kwargs.values())]
    found = []
    for position, declared in enumerate(schema.arguments):
        given = args[position] if position < len(args) else kwargs.get(declared.name, declared.default_value)
        found.append(argument(given, row))
    return found


def argument(value: Any, row: Describe) -> dict[str, Any]:
    """Return one argument in the form of ``ops.json.gz``."""
    tensor = row(value)
    if tensor is not None:
        return tensor
    if isinstance(value, list | tuple):
        members = [row(member) for member in value]
        if any(member is not None for member in members):
            return {"tensors": [member for member in members if member is not None]}
    return {"value": _plain(value)}


def _plain(value: Any) -> Any:
    """Return a value that JSON has; None for what is neither a number, a text nor a list."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, int | float | torch.SymInt | torch.SymFloat):
        return _number(value)
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return None


def _number(value: Any) -> int | float | None:
    number = int(value) if isinstance(value, int | torch.SymInt) else float(value)
    return number if math.isfinite(number) else None


def outputs(value: Any, row: Describe) -> list[dict[str, Any]]:
    """Return the results of an operator: one tensor, or several in a tuple or list."""
    return [argument(one, row) for one in (value if isinstance(value, list | tuple) else [value])]


def results(node: fx.Node) -> list[Any]:
    """Return the nodes that hold the results of ``node``: itself, or those that take one each out of its tuple.

    In place of a result that nobody takes stands its value.
    """
    value = node.meta.get("val")
    if not isinstance(value, list | tuple):
        return [node]
    taken = {user.args[1]: user for user in node.users if len(user.args) == 2}
    return [taken.get(position, one) for position, one in enumerate(value)]
