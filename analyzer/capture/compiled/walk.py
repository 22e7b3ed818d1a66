"""Which nodes of a graph a kernel computes: those between what it reads and what it writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import fx

from analyzer.capture.compiled.lowered import Buffer, Call, Lowered
from analyzer.capture.compiled.tensors import described
from analyzer.capture.compiled.views import is_view


@dataclass(frozen=True, slots=True)
class Work:
    """What a kernel does: ``nodes`` in the order of the graph, ``biases`` (node and added tensor), and mere copies."""

    nodes: tuple[fx.Node, ...]
    biases: tuple[tuple[fx.Node, fx.Node], ...] = ()
    copies: tuple[tuple[Buffer, Buffer], ...] = ()


class Elsewhere:
    """Which nodes are done by calls of a library, and which have their result written by which kernel."""

    def __init__(self, lowered: Lowered) -> None:
        self.library = {call.node: call for call in lowered.calls if call.node is not None}
        self._exact: dict[fx.Node, set[int]] = {}
        for position, call in enumerate(lowered.calls):
            for buffer in call.writes:
                if buffer.exact and buffer.node is not None:
                    self._exact.setdefault(buffer.node, set()).add(position)

    def does(self, buffer: Buffer, position: int) -> bool:
        """Tell whether not the kernel at ``position`` computes the node of ``buffer``, which it only copied an operand for."""
        if buffer.node is None or buffer.node in self.library:
            return True
        return buffer.moved and not buffer.exact and not self._exact.get(buffer.node, set()) <= {position}


def work_of(call: Call, position: int, lowered: Lowered, elsewhere: Elsewhere) -> Work:
    """Return what a generated kernel computes.

    Inductor's own list of where a kernel comes from also holds what other kernels did before. A node is computed by this one if
    it follows from what the kernel reads and lies on the way to what it writes; it may be computed by several kernels, each for
    itself.

    Approximation: where torch.compile splits a reduction into two kernels, each of them counts as the whole reduction.
    """
    reads = {buffer.node: buffer for buffer in call.reads if buffer.node is not None}
    possible = _possible(lowered, set(reads), set(elsewhere.library))
    found: set[fx.Node] = set()
    biases: list[tuple[fx.Node, fx.Node]] = []
    copies: list[tuple[Buffer, Buffer]] = []
    for buffer in call.writes:
        if buffer.node is None:
            continue
        done = elsewhere.does(buffer, position)
        starts = [buffer.node] if not done and buffer.node in possible else []
        if not starts and not done and buffer.node in reads:
            found.add(buffer.node)  # the last stage of a reduction reads what the first made for the same node
            continue
        starts = starts or [n for n in lowered.above[buffer.node] if n in possible and n not in reads]
        if done and (read := _operand_read(buffer, starts, reads, lowered)) is not None:
            copies.append((read, buffer))  # as the weights of a convolution whose input the kernel computes
            continue
        mine = _between(starts, set(reads), lowered)
        added = _biases(mine | {buffer.node}, reads, elsewhere, lowered)
        found |= mine
        biases += [one for one in added if one not in biases]
        if not added and all(is_view(node) for node in mine):
            copies += _copied(call, buffer, lowered)
    return Work(tuple(sorted(found, key=lowered.order.__getitem__)), tuple(biases), tuple(copies))


def _operand_read(buffer: Buffer, made: Iterable[fx.Node], reads: dict[fx.Node, Buffer], lowered: Lowered) -> Buffer | None:
    """Return the operand of the operator behind ``buffer`` that lies in it as it was read, beside operands ``made`` here.

    None where sizes do not tell which operand it is, or where nothing is made here.
    """
    if buffer.exact or buffer.node is None or buffer.tensor is None:
        return None
    sizes = sorted(buffer.tensor.shape)
    made = [node for node in made if not is_view(node)]
    if not made or any(_sizes(node) == sizes for node in made):
        return None
    for operand in lowered.above[buffer.node]:
        node = operand
        while node not in reads and is_view(node) and lowered.above[node]:
            node = lowered.above[node][0]
        read = reads.get(node)
        if read is not None and read.tensor is not None and sorted(read.tensor.shape) == sizes:
            return read
    return None


def _sizes(node: fx.Node) -> list[int] | None:
    found = described(node.meta.get("val"))
    return sorted(found.shape) if found is not None else None


def _possible(lowered: Lowered, reads: set[fx.Node], library: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes that follow from ``reads`` alone, without an operator of a library."""
    found: set[fx.Node] = set()
    for node in lowered.order:
        if node.op == "call_function" and node not in library and all(n in reads or n in found for n in lowered.above[node]):
            found.add(node)
    return found


def _between(starts: Iterable[fx.Node], reads: set[fx.Node], lowered: Lowered) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [n for n in lowered.above[node] if n not in reads]
    return found


def _biases(
    nodes: set[fx.Node], reads: dict[fx.Node, Buffer], elsewhere: Elsewhere, lowered: Lowered
) -> list[tuple[fx.Node, fx.Node]]:
    """Return the operators of a library whose bias the kernel adds: on a GPU Inductor calls a convolution without it."""
    found = []
    used = {above for node in nodes if node not in elsewhere.library for above in lowered.above[node]}
    for node in {above for one in nodes for above in (one, *lowered.above[one])}:
        if node not in elsewhere.library or node not in reads:
            continue
        given = {buffer.node for buffer in elsewhere.library[node].reads}
        missing = [n for n in lowered.above[node] if n in reads and n not in given and n not in used]
        found += [(node, one) for one in missing]
    return found


def _copied(call: Call, buffer: Buffer, lowered: Lowered) -> list[tuple[Buffer, Buffer]]:
    """Return what was copied into ``buffer``: the input that has its sizes, else the nearest, of which it is a piece."""
    if buffer.tensor is None or buffer.node is None:
        return []
    above = {buffer.node, *lowered.above[buffer.node]}
    fits = [read for read in call.reads if read.tensor is not None and sorted(read.tensor.shape) == sorted(buffer.tensor.shape)]
    near = [read for read in fits if read.node in above] or fits
    if not near and call.reads:
        whole = next((read for read in call.reads if read.node in above), call.reads[0])
        near = [replace(whole, tensor=buffer.tensor)]
    return [(near[0], buffer)] if near else []
