"""What Inductor knows of a kernel when it writes the call of it, read before Inductor forgets it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import getitem
from typing import Any

from torch import fx

from analyzer.capture.compiled.paths import ModulePaths
from analyzer.capture.compiled.tensors import Tensor, described


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory that a kernel reads or writes.

    ``node`` is the node of the graph whose value lies in it, None where Inductor does not tell. ``exact``: the value is just
    that; else it was made on the way to the node: a part of a sum, or an operand that was laid out anew. ``moved``: nothing but
    an elementwise loop writes it.
    """

    name: str
    tensor: Tensor | None
    node: fx.Node | None = None
    exact: bool = False
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel. ``node`` is what a call of a library's operator does, None for generated code."""

    kernel: str
    fused: bool
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    node: fx.Node | None = None


@dataclass(slots=True)
class Lowered:
    """One graph for which Inductor writes code, with the calls told so far.

    ``order``: the place of each node; ``above``: the nodes whose values it takes; ``given``: inputs and constants by name.
    """

    graph: fx.Graph
    paths: ModulePaths
    calls: list[Call] = field(default_factory=list)
    order: dict[fx.Node, int] = field(init=False)
    above: dict[fx.Node, list[fx.Node]] = field(init=False)
    given: dict[str, fx.Node] = field(init=False)

    def __post_init__(self) -> None:
        self.order = {node: position for position, node in enumerate(self.graph.nodes)}
        self.above = {node: node.all_input_nodes for node in self.order}
        before = [node for node in self.order if node.op in ("placeholder", "get_attr")]
        self.given = {name: node for node in before for name in (str(node.target), node.name)}


def generated_call(name: str, schedule: Iterable[Any], of: Lowered, lowering: Any) -> Call:
    """Return the call of a generated kernel that does what the scheduler's nodes in ``schedule`` ask for."""
    nodes = list(_scheduled(schedule))
    mine = {node.get_name() for node in nodes}
    written = {buffer.get_name(): buffer for node in nodes for buffer in node.get_outputs()}
    kept = {name: buffer for name, buffer in written.items() if _outlives(name, buffer, mine, lowering)}
    writes = [_written(name, buffer.node, of, lowering) for name, buffer in (kept or written).items()]
    inside = {*written, *_whole(writes, lowering)}
    reads = dict.fromkeys(d.name for node in nodes for d in node.read_writes.reads if type(d).__name__ != "WeakDep")
    return Call(name, True, tuple(_buffer(read, None, of, lowering) for read in reads if read not in inside), tuple(writes))


def _written(name: str, ir: Any, of: Lowered, lowering: Any) -> Buffer:
    """Return a buffer that a kernel writes; one that is a piece of another, as of a concatenation, goes by the name of that."""
    found = _buffer(name, ir, of, lowering)
    view: Any = getattr(getattr(ir, "layout", None), "view", None)
    return replace(found, name=view.get_name()) if hasattr(view, "get_name") else found


def _whole(writes: list[Buffer], lowering: Any) -> set[str]:
    """Return the names of what the pieces written make up altogether."""
    elements: Counter[str] = Counter()
    for piece in writes:
        elements[piece.name] += math.prod(piece.tensor.shape) if piece.tensor else 0
    owners = {name: _layout(lowering.try_get_buffer(name)) for name in elements}
    return {name for name, owner in owners.items() if owner is not None and elements[name] == math.prod(owner.shape)}


def _scheduled(schedule: Iterable[Any]) -> Iterable[Any]:
    """Return the nodes of a schedule: its marks, of where a reduction begins and ends, left out, and fused nodes opened."""
    for node in schedule:
        inner = list(node.get_nodes()) if hasattr(node, "get_nodes") else []
        if inner and inner != [node]:
            yield from _scheduled(inner)
        elif getattr(node, "node", None) is not None and hasattr(node, "read_writes"):
            yield node


def _outlives(name: str, buffer: Any, mine: set[str], lowering: Any) -> bool:
    """Tell whether something reads a buffer behind the kernel: what nobody else reads is never written."""
    if name in lowering.removed_buffers:
        return False
    readers = {inner for user in buffer.users for inner in _names(user.node)}
    return not readers <= mine


def _names(node: Any) -> set[str]:
    inner = node.get_nodes() if hasattr(node, "get_nodes") else [node]
    return {one.get_name() for one in inner}


def library_call(name: str, kernel: Any, of: Lowered, lowering: Any) -> Call:
    """Return the call of an operator of a library, ``kernel``: Inductor's own node for it."""
    node, _ = _stands_for(kernel, of)
    reads = [value for value in _flat((kernel.inputs, kernel.constant_args, kernel.kwargs)) if hasattr(value, "get_name")]
    return Call(
        _operator(name, kernel),
        False,
        tuple(_buffer(read.get_name(), read, of, lowering) for read in reads),
        tuple(_buffer(out.get_name(), out, of, lowering) for out in kernel.get_outputs()),
        node,
    )


def _flat(values: Any) -> Iterable[Any]:
    if isinstance(values, list | tuple):
        for value in values:
            yield from _flat(value)
    elif isinstance(values, dict):
        yield from _flat(list(values.values()))
    else:
        yield values


_OURS = {"bias_addmm": "addmm", "mm_out": "mm"}
"""Functions of Inductor's own that call an operator: the operator."""


def _operator(name: str, kernel: Any) -> str:
    """Return the name by which a trace has the operator that ``name``, a piece of the code that Inductor writes, calls."""
    parts = name.split(".")
    if name.startswith("torch.ops.") and len(parts) >= 4:
        return f"{parts[2]}::{parts[3]}"
    if parts[0] in ("extern_kernels", "aten", "torch") and len(parts) > 1:
        return f"aten::{_OURS.get(parts[1], parts[1])}"
    told: Any = getattr(kernel, "op_overload", None)
    return str(told.name()).split(".")[0] if hasattr(told, "name") else name


def _buffer(name: str, ir: Any, of: Lowered, lowering: Any) -> Buffer:
    """Return the buffer of that name; ``ir`` is a view of it where the kernel has one."""
    if name in of.given:
        given = of.given[name]
        return Buffer(name, _layout(ir) or described(given.meta.get("val")), given, True)
    whole = lowering.try_get_buffer(name)
    node, exact = _stands_for(ir if whole is None else whole, of)
    moved = type(getattr(whole, "data", None)).__name__ == "Pointwise"
    return Buffer(name, _layout(ir) or _layout(whole), node, exact, moved)


def _stands_for(ir: Any, of: Lowered) -> tuple[fx.Node | None, bool]:
    """Return the node whose value Inductor's ``ir`` is, or on the way to which it was made: the last of those it came from."""
    exact = getattr(ir, "origin_node", None)
    if exact in of.order:
        return exact, True
    origins = [node for node in getattr(ir, "origins", ()) if node in of.order]
    last = max(origins, key=of.order.__getitem__, default=None)
    indices = getattr(ir, "indices", None)  # one of the results of an operator
    if last is not None and indices:
        for user in last.users:
            if user.target is getitem and user.args[1] == indices[-1][1]:
                return user, True
    return last, False


def _layout(ir: Any) -> Tensor | None:
    """Return the memory of a buffer or of a view of one; None where Inductor leaves its form open."""
    try:
        layout = ir.get_layout()
        return Tensor(
            tuple(int(n) for n in layout.size),
            tuple(int(n) for n in layout.stride),
            str(layout.dtype).removeprefix("torch."),
            int(layout.offset),
            layout.dtype.itemsize,
        )
    except (AttributeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return None
