"""The calls of one compiled graph as ``compiled.json.gz`` has them."""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Any

from torch import fx

from analyzer.capture.compiled.lowered import Buffer, Call, Lowered
from analyzer.capture.compiled.sources import NODE, SOURCE, Source
from analyzer.capture.compiled.tensors import arguments, described, outputs, results
from analyzer.capture.compiled.views import base, is_constant, is_view
from analyzer.capture.compiled.walk import Elsewhere, work_of

_CAT = "aten::cat"


class _Storages:
    """Numbers for the memory of one graph: the same for a buffer and for every node that looks at it."""

    def __init__(self, lowered: Lowered) -> None:
        self._numbers: dict[Any, int] = {}
        self._buffers = {
            buffer.node: buffer.name
            for call in lowered.calls
            for buffer in (*call.writes, *call.reads)
            if buffer.exact and buffer.node is not None
        }
        self._marked = {node.meta[NODE]: node for node in lowered.order if NODE in node.meta}

    def buffer(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def node(self, node: fx.Node) -> int:
        if node in self._buffers:
            return self.buffer(self._buffers[node])
        lowest = base(node)
        key = self._buffers.get(lowest)
        return self.buffer(key) if key is not None else self._numbers.setdefault(lowest, len(self._numbers) + 1)

    def row(self, value: Any) -> dict[str, Any] | None:
        """Return the row of a node's value, or of a value that has no node."""
        if not isinstance(value, fx.Node):
            tensor = described(value)
            return None if tensor is None else tensor.row(None)
        tensor = described(value.meta.get("val"))
        return None if tensor is None else tensor.row(self.node(value))

    def translated(self, rows: Iterable[dict[str, Any]], near: list[fx.Node]) -> list[dict[str, Any]]:
        """Return arguments noted while an operator was taken apart, with the numbers of this graph.

        A pass may have put another node in the place of one that was noted: then it is the one of ``near`` with that shape.
        """
        left = list(near)
        return [self._translated(row, left) for row in rows]

    def _translated(self, row: dict[str, Any], near: list[fx.Node]) -> dict[str, Any]:
        if "tensors" in row:
            return {"tensors": [self._translated(one, near) for one in row["tensors"]]}
        if "shape" not in row:
            return row
        node = self._marked.get(row.get("storage"))
        if node is None:
            node = next((one for one in near if (self.row(one) or {}).get("shape") == row["shape"]), None)
        if node in near:
            near.remove(node)
        kept = {key: value for key, value in row.items() if key != "storage"}
        return kept if node is None else kept | {"storage": self.node(node)}


class _Graph:
    """Turns the calls of one graph into rows."""

    def __init__(self, lowered: Lowered, sources: list[Source]) -> None:
        self._lowered, self._sources = lowered, sources
        self._storages = _Storages(lowered)
        self._elsewhere = Elsewhere(lowered)
        self._members: dict[int, set[fx.Node]] = {}
        for node in lowered.order:
            if SOURCE in node.meta and not is_view(node):
                self._members.setdefault(node.meta[SOURCE], set()).add(node)

    def rows(self) -> list[dict[str, Any]]:
        return [self._row(call, position) for position, call in enumerate(self._lowered.calls)]

    def _row(self, call: Call, position: int) -> dict[str, Any]:
        return {
            "kernel": call.kernel,
            "fused": call.fused,
            "parts": self._fused(call, position) if call.fused else [self._single(call.node)] if call.node is not None else [],
            "reads": self._buffers(call.reads),
            "writes": self._buffers(call.writes) or self._values(call.node),
        }

    def _buffers(self, buffers: Iterable[Buffer]) -> list[dict[str, Any]]:
        return [one.tensor.row(self._storages.buffer(one.name)) for one in buffers if one.tensor is not None]

    def _values(self, node: fx.Node | None) -> list[dict[str, Any]]:
        """Return the results of an operator whose buffers Inductor leaves open, as those of several results."""
        found = [] if node is None else [self._storages.row(one) for one in results(node)]
        return [row for row in found if row is not None]

    def _fused(self, call: Call, position: int) -> list[dict[str, Any]]:
        work = work_of(call, position, self._lowered, self._elsewhere)
        order = self._lowered.order
        nodes = {node for node in work.nodes if not is_view(node) and not is_constant(node)}
        whole = {number for number in self._numbers(nodes) if self._members[number] <= nodes}
        found = [(order[node], self._bias(node, added)) for node, added in work.biases]
        for number in whole:
            mine = sorted(self._members[number] & nodes, key=order.__getitem__)
            found.append((order[mine[-1]], self._whole(number, mine)))
        found += [(order[node], self._single(node)) for node in nodes if node.meta.get(SOURCE) not in whole]
        found += [(order.get(into.node, 0), self._copy(read, into)) for read, into in work.copies if into.node is not None]
        if not found:
            found = [(order[node], self._single(node)) for node in work.nodes if node.target is not getitem]
        return [row for _, row in sorted(found, key=lambda one: one[0])]

    def _numbers(self, nodes: Iterable[fx.Node]) -> set[int]:
        return {node.meta[SOURCE] for node in nodes if SOURCE in node.meta}

    def _whole(self, number: int, nodes: list[fx.Node]) -> dict[str, Any]:
        source = self._sources[number]
        mine = {node for node in self._lowered.order if node.meta.get(SOURCE) == number}
        given = [above for node in mine for above in node.all_input_nodes if above not in mine]
        inputs = self._storages.translated(source.inputs, list(dict.fromkeys(given)))
        taken = [node for node in nodes if any(user not in mine for user in node.users)]
        made = self._storages.translated(source.outputs, taken)
        return {"name": source.name, "inputs": inputs, "outputs": made, "module": self._module(nodes[-1])}

    def _single(self, node: fx.Node) -> dict[str, Any]:
        return {
            "name": operator_name(node),
            "inputs": arguments(node.target, node.args, node.kwargs, self._storages.row),
            "outputs": outputs(results(node), self._storages.row),
            "module": self._module(node),
        }

    def _bias(self, node: fx.Node, added: fx.Node) -> dict[str, Any]:
        row = self._storages.row
        inputs = [*outputs([node, added], row), {"value": 1}]
        return {"name": "aten::add", "inputs": inputs, "outputs": outputs([node], row), "module": self._module(node)}

    def _copy(self, read: Buffer, into: Buffer) -> dict[str, Any]:
        """Return a mere copy: a piece of a concatenation, or an operand laid out anew, which the model did not ask for."""
        source, made = self._buffers([read]), self._buffers([into])
        module = self._module(into.node) if into.node is not None else ""
        if into.node is not None and operator_name(into.node) == _CAT:
            return {"name": _CAT, "inputs": [{"tensors": source}, {"value": 0}], "outputs": made, "module": module}
        return {"name": "aten::clone", "inputs": [*source, {"value": None}], "outputs": made, "module": module}

    def _module(self, node: fx.Node) -> str:
        """Return the path of the module that called a node, or the nearest above it: a pass may have put the node there."""
        waiting, seen = [node], {node}
        while waiting:
            one = waiting.pop(0)
            found = self._lowered.paths.of(one) if one.op == "call_function" else None
            if found is not None:
                return found
            waiting += [above for above in one.all_input_nodes if above not in seen]
            seen.update(one.all_input_nodes)
        return ""


def operator_name(node: fx.Node) -> str:
    """Return the name by which a trace has the operator of a node."""
    target: Any = node.target
    named = getattr(target, "name", None)
    return str(named()).split(".")[0] if callable(named) else str(getattr(target, "__name__", target))


def rows(lowered: Lowered, sources: list[Source]) -> list[dict[str, Any]]:
    """Return the calls of a graph in order, in the form of ``compiled.json.gz``."""
    return _Graph(lowered, sources).rows()
