"""Gives what torch.compile generated its operators and modules.

Compiled code runs in regions that the trace shows. The operators and generated kernels of a region, in their order, are the
calls of one of the graphs in ``compiled.json.gz``; the two are aligned, and each call says which operators of the model, and
of which module, it does. Where the trace has shapes of a library's operators, they must be those of the graph; otherwise the
graph was compiled for another input and is refused. Of several graphs that fit equally well, what all of them say is adopted.
Without the file the names of generated kernels tell the operators.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import count, counted
from analyzer.schema.compiled import CompiledCall, CompiledGraph, Part
from analyzer.schema.operators import OpCall
from analyzer.trace.fitting import Choice, Fitting, Told, choose, key
from analyzer.trace.fused import fused_kind, fused_operators
from analyzer.trace.kinds import JOINT, composed_kind, is_no_operator, operator_kind
from analyzer.trace.kineto import Trace
from analyzer.trace.link import GRAPH, Linked
from analyzer.trace.scopes import spans_of, stretch_of
from analyzer.trace.spans import Int64, Spans

_GRAPH_CALL = "## Call CompiledFxGraph"
_REGION = "Torch-Compiled Region"


@dataclass(frozen=True, slots=True, eq=False)
class Adopted:
    """What compiled code was found to do.

    ``launches``: the table LAUNCHES with ``op`` and ``module`` of what a compiler made. ``calls``: by the row of the operator,
    its call with the operators in it. ``matched_pct``: the share of the graphs' calls that the trace shows, NaN without any.
    ``notes`` say what could not be told.
    """

    launches: pd.DataFrame
    calls: dict[int, OpCall] = field(default_factory=dict)
    matched_pct: float = float("nan")
    notes: tuple[str, ...] = ()


def adopt_compiled(trace: Trace, linked: Linked, graphs: tuple[CompiledGraph, ...] = ()) -> Adopted:
    """Return the launches of ``linked`` with the operators and modules of compiled code.

    A generated kernel gets the operators in it, joined by ``+`` (``fused_name``). Where the calls of ``graphs`` can be matched
    with what ran, all launches of a call get its module too. What is not matched stays as it was.

    Approximation: a generated kernel with operators of several modules counts whole for the module of its main operator, the
    last of those that give it its kind.
    """
    names = trace.ops["name"].astype(object).tolist()
    if not graphs:
        return Adopted(_renamed(linked.launches, names, {}))
    told = Told(trace.ops)
    found = _match(trace, linked, names, graphs, told)
    known: dict[int, OpCall] = {}
    same: dict[tuple[int, OpCall | None], OpCall | None] = {}  # one call of a graph is one object, however often it runs
    for row, call in found.calls.items():
        own = told.of(row)
        if (id(call), own) not in same:
            same[id(call), own] = _call_of(names[row], call, own)
        exact = same[id(call), own]
        if exact is not None:
            known[row] = exact
    launches = _placed(linked, found.calls, found.modules)
    return Adopted(_renamed(launches, names, known), known, found.matched_pct, found.notes)


def fused_name(name: str, call: OpCall | None = None) -> str:
    """Return the operators in an operator of the trace joined by ``+``, in the order of their data, views left out.

    Each stands there once. They are those of ``call.parts``, else those in the name of a generated kernel
    (``aten::add+aten::gelu``), which is empty where its name tells none, as it is for a compiled region, which is no operator;
    any other ``name`` is returned as it is.
    """
    if call is not None and call.parts:
        return JOINT.join(_doing([part.name for part in call.parts]))
    if fused_kind(name) is None:
        return "" if is_no_operator(name) else name
    return JOINT.join(_doing([_full(op) for op in fused_operators(name)]))


def _full(op: str) -> str:
    return f"prims::{op}" if op == "convert_element_type" else f"aten::{op}"


def _doing(names: list[str]) -> list[str]:
    """Return the distinct operators that are no views; the views where there is nothing else."""
    distinct = list(dict.fromkeys(names))
    return [name for name in distinct if operator_kind(name) != "view"] or distinct


def _renamed(launches: pd.DataFrame, names: list[str], calls: dict[int, OpCall]) -> pd.DataFrame:
    generated = {name: shown for name in set(names) if (shown := fused_name(name)) != name}
    if not generated and not calls:
        return launches
    told = {row: fused_name(names[row], call) for row, call in calls.items()}
    index = launches["op_index"].tolist()
    ops = [told.get(i, generated.get(names[i], op)) if i >= 0 else op for i, op in zip(index, launches["op"], strict=True)]
    return launches.assign(op=np.array(ops, object))


@dataclass(frozen=True, slots=True)
class _Match:
    calls: dict[int, CompiledCall]
    modules: dict[int, str]
    matched_pct: float
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Tally:
    """What the matched regions show of their graphs; ``disputed`` are graphs that fit equally well and say different things."""

    shown: int = 0
    wanted: int = 0
    beyond: int = 0
    disputed: set[int] = field(default_factory=set)


def _match(trace: Trace, linked: Linked, names: list[str], graphs: tuple[CompiledGraph, ...], told: Told) -> _Match:
    """Return the call that each operator in a region is and its module, by row of the operator."""
    keys = np.array([key(name) for name in names], object)
    regions = _regions(trace, linked, names)
    fitted = Fitting([[key(call.kernel) for call in graph.calls] for graph in graphs])
    steps = stretch_of(linked.steps, np.array([int(linked.ops.start[rows[0]]) for rows in regions], np.int64)).tolist()
    sequences = [tuple(keys[rows]) for rows in regions]
    chosen = choose(regions, sequences, steps, fitted, graphs, told)
    calls: dict[int, CompiledCall] = {}
    modules: dict[int, str] = {}
    known: dict[tuple[int, ...], tuple[CompiledCall | None, str, bool]] = {}
    tally = _Tally()
    for each, sequence in zip(chosen, sequences, strict=True):
        if not each.graphs:
            continue
        paired = [dict(zip(*(side.tolist() for side in fitted.pairs(sequence, graph)), strict=True)) for graph in each.graphs]
        tally.shown, tally.wanted = tally.shown + len(paired[0]), tally.wanted + len(graphs[each.graphs[0]].calls)
        for place, row in enumerate(each.rows.tolist()):
            places = [pairs.get(place) for pairs in paired]
            if all(at is None for at in places):
                tally.beyond += fused_kind(sequence[place]) is not None
                continue
            theirs = [None if at is None else graphs[graph].calls[at] for graph, at in zip(each.graphs, places, strict=True)]
            ids = tuple(map(id, theirs))
            if ids not in known:
                known[ids] = _common(theirs)
            call, module, whole = known[ids]
            tally.disputed |= set() if whole else set(each.graphs)
            if call is not None:
                calls[row], modules[row] = call, module
    # kernels of a CUDA graph have no operators here, so nothing that a replay leaves out is missing
    notes = _doubts(chosen, tally)
    if not linked.launches["link"].eq(GRAPH).any():
        notes = [*_notes(chosen, tally), *notes]
    if fitted.exhausted:
        notes.append("the trace is too long to match all of its compiled code with compiled.json.gz")
    return _Match(calls, modules, 100 * tally.shown / tally.wanted if tally.wanted else float("nan"), tuple(notes))


def _common(calls: list[CompiledCall | None]) -> tuple[CompiledCall | None, str, bool]:
    """Return what calls of several graphs have in common: the call, its module, and whether that is all of each."""
    here = [call for call in calls if call is not None]
    first, modules = here[0], {_module_of(call) for call in here}
    module = modules.pop() if len(modules) == 1 else ""
    if len(here) == len(calls) and all(call == first for call in here):
        return first, module, True
    if len(here) < len(calls) or len({(c.fused, tuple(part.call.name for part in c.parts)) for c in here}) > 1:
        return None, "", False
    parts = [
        mine[0] if all(part == mine[0] for part in mine) else Part(_same([part.call for part in mine]))
        for mine in zip(*(call.parts for call in here), strict=True)
    ]
    whole = first.call if all(call.call == first.call for call in here) else None
    return CompiledCall(first.kernel, first.fused, tuple(parts), whole), module, False


def _same(calls: list[OpCall]) -> OpCall:
    """Return the call that all are; one without arguments where they have different ones."""
    return calls[0] if all(call == calls[0] for call in calls) else OpCall(calls[0].name, ())


def _doubts(chosen: list[Choice], tally: _Tally) -> list[str]:
    """Return what was refused or could not be checked, and what the trace shows beyond its graphs."""
    notes = []
    refused = sum(each.refused for each in chosen)
    if refused:
        notes.append(
            f"{counted(refused, 'call', 'calls')} of compiled code ran with other shapes than those in compiled.json.gz, which "
            "was refused there: the kernels have the operators in their names and no module of their own"
        )
    if tally.disputed:
        notes.append(
            f"{counted(len(tally.disputed), 'graph', 'graphs')} in compiled.json.gz have the same kernels, nothing tells which "
            "ran: only what all of them say was adopted"
        )
    adopted = {graph for each in chosen for graph in each.graphs}
    unchecked = adopted - {graph for each in chosen if each.checked for graph in each.graphs}
    if unchecked:
        notes.append(
            f"the shapes of {counted(len(unchecked), 'graph', 'graphs')} in compiled.json.gz were not checked: the trace has "
            "none of library operators in that code"
        )
    if tally.beyond:
        verb = "is" if tally.beyond == 1 else "are"
        notes.append(f"{counted(tally.beyond, 'kernel', 'kernels')} of compiled code {verb} not in compiled.json.gz")
    return notes


def _notes(chosen: list[Choice], tally: _Tally) -> list[str]:
    """Return what of compiled code was not found, and what was run in more places than one module can be named for."""
    notes = []
    missed = sum(not each.graphs and not each.refused for each in chosen)
    if not tally.wanted and missed == len(chosen):
        notes.append("nothing in the trace is a call of what compiled.json.gz describes")
    elif missed:
        notes.append(
            f"{counted(missed, 'call', 'calls')} of compiled code ran another graph than those in compiled.json.gz: the "
            "kernels there have the operators in their names and no module of their own"
        )
    if tally.shown < tally.wanted:
        lost = f"{count(tally.wanted - tally.shown)} of {count(tally.wanted)}"
        notes.append(f"{lost} kernels that compiled code calls are not in the trace")
    runs = Counter((each.graphs, each.step) for each in chosen if len(each.graphs) == 1)
    often = {graphs for (graphs, step), n in runs.items() if step >= 0 and n > 1}
    if often:
        notes.append(
            f"{counted(len(often), 'graph', 'graphs')} of torch.compile ran more than once in a step: the modules of its "
            "kernels are those that it was first compiled for"
        )
    return notes


def _regions(trace: Trace, linked: Linked, names: list[str]) -> list[Int64]:
    """Return the rows of what each compiled region calls, in order; regions in the order of their start.

    The region of a graph is what Inductor calls one; where the trace shows none, what Dynamo calls one; else a profiler step.
    """
    ops = linked.ops
    spans = _spans(trace, linked, names)
    if not len(spans.start) or not names:
        return []
    inside = spans.innermost(ops.start, ops.thread)
    nothing = np.array([is_no_operator(name) for name in names], bool)
    parent = ops.parent
    nested = (parent >= 0) & ~nothing[parent] & (inside[parent] == inside)
    rows = np.flatnonzero((inside >= 0) & ~nothing & ~nested)
    rows = rows[np.lexsort((-ops.end[rows], ops.start[rows], inside[rows]))]
    parts = np.split(rows, np.flatnonzero(np.diff(inside[rows])) + 1)
    return sorted((part for part in parts if len(part)), key=lambda part: int(ops.start[part[0]]))


def _spans(trace: Trace, linked: Linked, names: list[str]) -> Spans:
    notes, ops = trace.annotations, linked.ops
    for prefix in (_GRAPH_CALL, _REGION):
        noted = notes[notes["name"].astype(str).str.startswith(prefix)]
        mine = np.array([name.startswith(prefix) for name in names], bool)
        if len(noted) or mine.any():
            own = spans_of(noted)
            pairs = ((own.start, ops.start), (own.end, ops.end), (own.thread, ops.thread))
            return Spans(*(np.concatenate([a, b[mine]]) for a, b in pairs))
    threads = np.unique(ops.thread)
    start, end = (np.array([step[at] for step in linked.steps], np.int64) for at in (1, 2))
    return Spans(np.tile(start, len(threads)), np.tile(end, len(threads)), np.repeat(threads, len(start)))


def _call_of(name: str, call: CompiledCall, told: OpCall | None) -> OpCall | None:
    """Return what an operator of the trace does, None where the trace says it as well.

    A library's operator that is one of the model's own has the arguments of that, provided that the trace has the same shapes.
    """
    parts = tuple(part.call for part in call.parts)
    if not parts:
        return None
    if not call.fused and len(parts) == 1 and key(parts[0].name) == key(name):
        shapes = [t.shape for t in parts[0].tensors()]
        same = told is None or [t.shape for t in told.tensors()][: len(shapes)] == shapes
        return replace(parts[0], name=name) if same and shapes else None
    whole = call.call or OpCall(name, ())
    return OpCall(name, whole.inputs, whole.outputs, parts=parts)


def _module_of(call: CompiledCall) -> str:
    """Return the module of the main operator: the last of those with the kernel's kind, else the last that does anything."""
    kind = composed_kind(part.call.name for part in call.parts)
    known = [part for part in call.parts if part.module]
    own = [part for part in known if operator_kind(part.call.name) == kind]
    doing = [part for part in known if operator_kind(part.call.name) != "view"]
    return (own or doing or known)[-1].module if known else ""


def _placed(linked: Linked, calls: dict[int, CompiledCall], modules: dict[int, str]) -> pd.DataFrame:
    """Return the launches below the operators in ``calls`` with their modules."""
    launches, ops = linked.launches, linked.ops
    owner = np.full(len(ops.start), -1, np.int64)
    owner[list(calls)] = list(calls)
    for i in ops.order.tolist():  # parents first
        if owner[i] < 0 and ops.parent[i] >= 0:
            owner[i] = owner[ops.parent[i]]
    index = launches["op_index"].to_numpy(np.int64)
    mine: npt.NDArray[np.int64] = np.where(index >= 0, owner[index], -1) if len(owner) else np.full(len(index), -1, np.int64)
    module = [modules.get(i, "") or old for i, old in zip(mine.tolist(), launches["module"], strict=True)]
    return launches.assign(module=np.array(module, object))
