"""Tells which graph of ``compiled.json.gz`` a region of compiled code ran: by its kernels, and by the shapes in the trace."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.schema.compiled import CompiledCall, CompiledGraph
from analyzer.schema.operators import OpCall
from analyzer.trace.calls import parse_call
from analyzer.trace.counters.alignment import align
from analyzer.trace.fused import fused_kind
from analyzer.trace.spans import Int64

_PREFIX = re.compile(r"^graph_\d+_(?=cpp_)")
_LEAST_FIT = 0.5
"""A region that shows fewer of a graph's calls did not run that graph."""
_MAX_CELLS = 2_000_000_000
"""Pairs of places that the alignments of one trace may look at together; more would take minutes."""
_FUSED_WEIGHT = 8
"""What a generated kernel counts against a library's operator in an alignment: its name is seldom that of another one."""


def key(name: str) -> str:
    """Return the name by which a trace and ``compiled.json.gz`` call the same kernel: no number of the graph, no overload."""
    name = _PREFIX.sub("", name[:2000])
    return name.split(".", 1)[0] if "::" in name else name


class Told:
    """The calls that a trace itself describes, by the row of the operator."""

    def __init__(self, ops: pd.DataFrame) -> None:
        self._columns = [ops[column].tolist() for column in ("name", "dims", "types", "strides", "concrete")]

    def of(self, row: int) -> OpCall | None:
        """Return the call of an operator, None where the trace has no shapes of it."""
        return parse_call(*(str(column[row]) for column in self._columns))


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What a region ran. ``rows`` are its operators, ``step`` its profiler step (-1: outside of all).

    ``graphs``: the numbers of the graphs that fit best, several where nothing tells which of them it was, none where no graph
    fits. ``refused``: some fitted by their kernels, and the shapes in the trace contradict all of them. ``checked``: the trace
    has shapes, and those of the graphs are the same.
    """

    rows: Int64
    step: int
    graphs: tuple[int, ...] = ()
    refused: bool = False
    checked: bool = False


def choose(
    regions: list[Int64],
    keys: list[tuple[str, ...]],
    steps: list[int],
    fitted: Fitting,
    graphs: tuple[CompiledGraph, ...],
    told: Told,
) -> list[Choice]:
    """Return which graphs each region may have run.

    Graphs with the same kernels are told apart by shapes. Those that have the same shapes too take turns, in the order in which
    they were compiled, which is that of their first calls; where a step has no whole number of turns, nothing tells.
    """
    fits: list[tuple[tuple[int, ...], bool, bool]] = []
    for rows, sequence in zip(regions, keys, strict=True):
        best = fitted.best(sequence)
        verdict = {i: _compare_all(rows, fitted.pairs(sequence, i), graphs[i], told) for i in best}
        left = tuple(i for i in best if verdict[i] is not False)
        fits.append((left, bool(best) and not left, bool(left) and all(verdict[i] for i in left)))
    times = Counter((step, left) for step, (left, _, _) in zip(steps, fits, strict=True))
    turns: Counter[tuple[int, tuple[int, ...]]] = Counter()
    out = []
    for rows, step, (left, refused, checked) in zip(regions, steps, fits, strict=True):
        at = turns[step, left]
        turns[step, left] += 1
        takes_turns = len(left) > 1 and times[step, left] % len(left) == 0
        out.append(Choice(rows, step, (left[at % len(left)],) if takes_turns else left, refused, checked))
    return out


def _compare_all(rows: Int64, pairs: tuple[Int64, Int64], graph: CompiledGraph, told: Told) -> bool | None:
    """Tell whether a region has the shapes of a graph; None where the trace has none to compare."""
    same: bool | None = None
    for place, column in zip(*(side.tolist() for side in pairs), strict=True):
        call = graph.calls[column]
        verdict = None if call.fused else compare_shapes(told.of(int(rows[place])), call)
        if verdict is False:
            return False
        same = same or verdict
    return same


Shape = tuple[int, ...]


def compare_shapes(told: OpCall | None, call: CompiledCall) -> bool | None:
    """Tell whether the trace has a library's operator with the shapes in ``call``; None where that cannot be told.

    Tensors are compared one by one. A compiler may hand over a view of what the model names, so a tensor with as many elements
    contradicts nothing, nor does one that is expanded to the shape of the result. Where the library's operator is another one
    than the model's, its weights may be packed, and only its first tensor is looked at, against all tensors of the call.
    """
    if told is None or not call.parts:
        return None
    mine = [t.shape for t in told.tensors()]
    known = [part.call for part in call.parts] + ([call.call] if call.call is not None else [])
    inputs = [[t.shape for t in each.tensors()] for each in known]
    results = [t.shape for each in known for t in each.results()]
    if len(call.parts) > 1 or key(call.parts[0].call.name) != key(call.kernel):
        everything = [shape for shapes in inputs for shape in shapes] + results
        return _compare_one(mine[0], everything, []) if mine and everything else None
    verdicts = [
        _compare_one(shape, [shapes[i] for shapes in inputs if i < len(shapes)], results)
        for i, shape in enumerate(mine[: len(inputs[0])])
    ]
    return False if False in verdicts else True if True in verdicts else None


def _compare_one(mine: Shape, theirs: list[Shape], results: list[Shape]) -> bool | None:
    if not mine or not theirs:  # numbers become tensors without dimensions on some ways and not on others
        return None
    if mine in theirs:
        return True
    elements = int(np.prod(mine, dtype=object))
    return None if mine in results or elements in {int(np.prod(shape, dtype=object)) for shape in theirs} else False


class Fitting:
    """Which graphs, given by the names of their calls, fit a sequence of names best. Equal sequences are looked at once."""

    def __init__(self, names: list[list[str]]) -> None:
        self._number = {name: i for i, name in enumerate(dict.fromkeys(name for each in names for name in each))}
        self._graphs = [np.array([self._number[name] for name in each], np.int64) for each in names]
        generated = [fused_kind(name) is not None for name in self._number]
        self._weight = np.append(np.where(generated, _FUSED_WEIGHT, 1), 1).astype(np.int64)
        self._known: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._pairs: dict[tuple[tuple[str, ...], int], tuple[Int64, Int64]] = {}
        self._left = _MAX_CELLS
        self.exhausted = False

    def best(self, sequence: tuple[str, ...]) -> tuple[int, ...]:
        """Return the numbers of the graphs that fit equally well, none where no graph does."""
        if sequence not in self._known:
            self._known[sequence] = self._find(sequence)
        return self._known[sequence]

    def pairs(self, sequence: tuple[str, ...], graph: int) -> tuple[Int64, Int64]:
        """Return (place in ``sequence``, number of the call) of what is the same in a sequence and a graph."""
        if (sequence, graph) not in self._pairs:
            mine, theirs = self._numbers(sequence), self._graphs[graph]
            cells = 0 if np.array_equal(mine, theirs) else len(mine) * len(theirs)
            self._left -= cells
            if self._left < 0:
                self.exhausted = True
                return np.empty(0, np.int64), np.empty(0, np.int64)
            self._pairs[sequence, graph] = align(mine, theirs, self._weight)
        return self._pairs[sequence, graph]

    def _numbers(self, sequence: tuple[str, ...]) -> Int64:
        return np.array([self._number.get(name, len(self._number)) for name in sequence], np.int64)

    def _find(self, sequence: tuple[str, ...]) -> tuple[int, ...]:
        """Look at the graphs with the most names in common first: no alignment can match more than that."""
        mine = Counter(self._numbers(sequence).tolist())
        most = [self._fit(sum((mine & Counter(graph.tolist())).values()), i, sequence) for i, graph in enumerate(self._graphs)]
        fits: dict[int, float] = {}
        for graph in sorted(range(len(most)), key=lambda i: -most[i]):
            if most[graph] <= 0 or most[graph] < max(fits.values(), default=0.0):
                break
            fits[graph] = self._fit(len(self.pairs(sequence, graph)[0]), graph, sequence)
        top = max(fits.values(), default=0.0)
        return tuple(sorted(graph for graph, fit in fits.items() if fit == top > 0))

    def _fit(self, matched: int, graph: int, sequence: tuple[str, ...]) -> float:
        """Return which share of both is the same (Dice's coefficient), 0 where less than half of the graph is there."""
        size = len(self._graphs[graph])
        return 2 * matched / (size + len(sequence)) if matched and matched >= _LEAST_FIT * size else 0.0
