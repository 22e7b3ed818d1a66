"""Operators of a graph that move nothing: another look at the same memory, or a value taken out of a tuple."""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch
from torch import fx

_VIEWS = frozenset({"reshape", "_unsafe_view", "_reshape_alias", "lift_fresh_copy"})
"""Not marked as views by their schemas, but no kernels of their own in compiled code."""


def is_view(node: fx.Node) -> bool:
    """Tell whether a node moves nothing."""
    target: Any = node.target
    if target is getitem:
        return True
    if node.op != "call_function":
        return False
    return bool(getattr(target, "is_view", False)) or getattr(target, "_opname", "") in _VIEWS


def is_constant(node: fx.Node) -> bool:
    """Tell whether a node is a single number that is known beforehand."""
    value: Any = node.meta.get("val")
    return not node.all_input_nodes and isinstance(value, torch.Tensor) and value.numel() <= 1


def base(node: fx.Node) -> fx.Node:
    """Return the node whose memory a view looks at; the node itself where it is no view."""
    while is_view(node) and node.all_input_nodes:
        above = node.all_input_nodes[0]
        if node.target is getitem and not is_view(above):
            return node  # one of the results of an operator has memory of its own
        node = above
    return node
