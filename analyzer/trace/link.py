"""Kernel -> launch -> operator -> module -> step. On a CPU run the operators themselves stand where kernels stand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.schema.settings import Selection
from analyzer.schema.tables import LAUNCHES
from analyzer.trace.fused import fused_kind
from analyzer.trace.kinds import is_bracket, is_compiler, is_no_operator, is_wrapper, operator_kind
from analyzer.trace.kineto import Trace
from analyzer.trace.launching import find_launches, has_launch, synchronising_calls
from analyzer.trace.ranks import rank_of_threads
from analyzer.trace.scopes import Scopes, Stretch, read_loading, read_scopes, read_steps, select_stretches, spans_of, stretch_of
from analyzer.trace.spans import Int64, Spans

AGREEMENT = 0.98
"""External ids are used where they name the same operator as containment in this share of the cases that tell."""

Segments = tuple[Int64, Int64, Int64]
GRAPH, ALIGNED = "graph", "aligned"
LINKS = ("operator", "external id", GRAPH, "call", "none", ALIGNED)
"""How a launch is attributed: to the operator around its launch call, to the one with its External id, to the launch of a
whole graph, to a call outside any operator, or not at all; replayed by a graph, to the operator of the same kernel in a trace
without graphs (``analyzer.trace.replay``)."""


@dataclass(frozen=True, slots=True)
class Linked:
    """The launches of a trace, each with its operator, module and step.

    ``launches`` is the table LAUNCHES. ``segments`` holds (start_ns, end_ns, row) of the stretches in which a launch really
    runs: its interval on a GPU, its innermost stretches on a CPU. ``steps`` are (name, start_ns, end_ns); with a selection
    they are what was selected (``by_step``: profiler steps), and ``foreign`` holds (start_ns, end_ns) of what ran outside of
    it. ``syncs`` and ``loading`` are (start_ns, end_ns) of calls
    that wait for the device and of waiting for a data loader. ``ops`` tells which operator encloses which.
    ``wrapper_ns`` is the own time of operators that only call others (CPU runs). ``launches`` also has ``scope``, the row of
    its module in ``scopes``, and ``launch_thread``, the thread that launched it; -1 without.
    """

    launches: pd.DataFrame
    segments: Segments
    steps: tuple[Stretch, ...]
    ops: Spans
    wrapper_ns: int
    first_ns: int
    last_ns: int
    syncs: tuple[Int64, Int64]
    loading: tuple[Int64, Int64]
    scopes: Scopes
    selected: str = ""
    by_step: bool = True
    foreign: tuple[Int64, Int64] | None = None


def is_replayed(launches: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell which rows of LAUNCHES a graph replayed, whether their operator is known or not."""
    return launches["link"].isin((GRAPH, ALIGNED)).to_numpy(bool)


def as_launched(launches: pd.DataFrame) -> pd.DataFrame:
    """Return ``launches`` by what the host did: replayed kernels belong to the launch of their graph and to no operator.

    ``op_index`` then points into the operators of the trace alone.
    """
    return launches.assign(op_index=launches["op_index"].where(launches["link"] != ALIGNED, -1))


def link(
    trace: Trace,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    *,
    shows_generated: bool = False,
) -> Linked:
    """Return the launches of ``trace``, or of the part of it that ``selection`` names, with what they belong to.

    ``shows_generated``: the trace is known to show the kernels that a compiler generated, even where none is in it. A CPU trace
    with one of them shows them anyway.

    Raises:
        TraceError: the trace has no such part.
    """
    ops = spans_of(trace.ops)
    scopes = read_scopes(trace, ops)
    steps = read_steps(trace)
    linked = (
        _link_operators(trace, ops, scopes, steps, shows_generated)
        if trace.device.type == "cpu"
        else _link_kernels(trace, ops, scopes, steps)
    )
    return _select(linked, trace, selection) if selection.is_part else linked


def _link_kernels(trace: Trace, ops: Spans, scopes: Scopes, steps: tuple[Stretch, ...]) -> Linked:
    order = np.argsort(trace.device_events["start_ns"].to_numpy(), kind="stable")
    events = trace.device_events.iloc[order].reset_index(drop=True)
    launching = find_launches(replace(trace, device_events=events))
    call, has_call = launching.call, launching.call >= 0
    start_ns = events["start_ns"].to_numpy(np.int64)
    at, thread = (_taken(trace.calls[column], call) for column in ("start_ns", "thread"))
    op = np.where(has_call & ~launching.graph, ops.innermost(at, np.where(has_call, thread, -1)), -1)
    by_id = np.where(launching.graph, -1, _by_external_id(trace, events, op))
    op, by_id = _operators_alone(trace.ops, op), _operators_alone(trace.ops, by_id)
    link = np.select([launching.graph, op >= 0, by_id >= 0, has_call], [2, 0, 1, 3], 4)
    op = np.where(op >= 0, op, by_id)
    # where only the operator is known, its own start and thread say in which module and step it was
    lone = (op >= 0) & ~has_call
    at, thread = (
        np.where(lone, ops.start[op] if len(ops.start) else 0, at),
        np.where(lone, _taken(trace.ops["thread"], op), thread),
    )
    placed = has_call | lone
    launches = pd.DataFrame(
        {
            "index": np.arange(len(events)),
            "start_ns": start_ns,
            "dur_ns": events["end_ns"] - events["start_ns"],
            "kernel": _texts(events["name"]),
            "op_index": op,
            "op": _named(trace.ops["name"], op),
            "launch": _named(trace.calls["name"], call),
            "launch_ns": np.where(has_call, at, -1),
            "link": np.array(LINKS, object)[link],
            **_place(scopes, at, np.where(placed, thread, -1), op),
            "step": stretch_of(steps, np.where(placed, at, start_ns)),
            **{column: _texts(events[column]) for column in ("category", "grid", "block")},
            **{column: events[column] for column in _KEPT},
        }
    )
    rows = np.arange(len(events), dtype=np.int64)
    end_ns = events["end_ns"].to_numpy(np.int64)
    bounds = [(table["start_ns"], table["end_ns"]) for table in (events, trace.ops, trace.calls) if len(table)]
    return Linked(
        launches=LAUNCHES.check(launches),
        segments=(start_ns, end_ns, rows),
        steps=steps,
        ops=ops,
        wrapper_ns=0,
        first_ns=min((int(start.min()) for start, _ in bounds), default=0),
        last_ns=max((int(end.max()) for _, end in bounds), default=0),
        syncs=synchronising_calls(trace.calls),
        loading=read_loading(trace),
        scopes=scopes,
    )


_KEPT = (
    "device", "stream", "correlation", "graph_id", "graph_node", "registers", "shared_bytes", "occupancy_kineto_pct",
    "copy_bytes",
)  # fmt: skip


def _place(scopes: Scopes, at: Int64, thread: Int64, op: Int64) -> dict[str, object]:
    """Return the columns that say where on the host a launch was made."""
    scope = scopes.rows(at, thread, op)
    return {"module": scopes.paths_of(scope), "scope": scope, "launch_thread": thread}


def _taken(column: pd.Series[int], rows: Int64) -> Int64:
    """Return the values of ``column`` in ``rows``, 0 for row -1."""
    values = column.to_numpy(np.int64)
    return np.where(rows >= 0, values[rows], 0) if len(values) else np.zeros(len(rows), np.int64)


def _texts(column: pd.Series[str]) -> npt.NDArray[np.object_]:
    """Return a categorical column as plain text, each distinct one kept once."""
    return column.cat.categories.to_numpy(object)[column.cat.codes.to_numpy()]


def _named(names: pd.Series[str], rows: Int64) -> npt.NDArray[np.object_]:
    """Return the name in each of ``rows``, nothing for row -1."""
    codes = np.where(rows >= 0, names.cat.codes.to_numpy()[rows], -1) if len(names) else np.full(len(rows), -1)
    return np.array([*names.cat.categories, ""], object)[codes]


def _operators_alone(ops: pd.DataFrame, rows: Int64) -> Int64:
    """Return ``rows`` with -1 in place of what is no operator: a compiled region, a call of the runtime."""
    names = ops["name"].cat
    nothing = np.array([is_no_operator(name) for name in names.categories], bool)
    return np.where((rows >= 0) & nothing[names.codes.to_numpy()[rows]], -1, rows) if nothing.any() else rows


def _by_external_id(trace: Trace, events: pd.DataFrame, contained: Int64) -> Int64:
    """Return the operator whose External id each event has, -1 without.

    Older traces number operators and launches apart, so that an id names an operator that has nothing to do with the kernel.
    The ids are therefore believed only where they agree with containment (``contained``) on nearly all events that have both.
    """
    ranks, ops = rank_of_threads(trace), trace.ops
    known = pd.DataFrame({"id": ops["external_id"], "rank": ranks[ops["thread"]], "op": np.arange(len(ops))})
    known = known[known["id"] > 0].drop_duplicates(["id", "rank"], keep="last")
    asked = pd.DataFrame({"id": events["external_id"], "rank": ranks[events["thread"]]})
    op = np.asarray(asked.merge(known, on=["id", "rank"], how="left")["op"].fillna(-1), np.int64)
    begun = _taken(ops["start_ns"], op) <= events["start_ns"].to_numpy(np.int64)
    op = np.where(begun, op, -1)
    both = (op >= 0) & (contained >= 0)
    agree = both & (op == contained)
    return op if agree.sum() >= AGREEMENT * both.sum() else np.full(len(op), -1, np.int64)


def _link_operators(trace: Trace, ops: Spans, scopes: Scopes, steps: tuple[Stretch, ...], shows_generated: bool) -> Linked:
    """Take each operator that does work itself as a launch; wrappers that only call others are none."""
    frame = trace.ops
    start, end, owner = ops.segments()
    own = np.zeros(len(frame), dtype=np.int64)
    np.add.at(own, owner, end - start)
    wrapper = _wrappers(frame, ops, shows_generated)
    kept = np.flatnonzero(~wrapper)
    kept = kept[np.argsort(ops.start[kept], kind="stable")]
    row_of = np.full(len(frame), -1, dtype=np.int64)
    row_of[kept] = np.arange(len(kept))
    count = len(kept)
    names = _texts(frame["name"])[kept]
    launches = pd.DataFrame(
        {
            "index": np.arange(count),
            "start_ns": ops.start[kept],
            "dur_ns": own[kept],
            "stream": ops.thread[kept],
            "category": ["operator"] * count,
            "kernel": names,
            "op_index": kept,
            "op": names,
            "launch_ns": ops.start[kept],
            "link": [LINKS[0]] * count,
            **_place(scopes, ops.start[kept], ops.thread[kept], kept),
            "step": stretch_of(steps, ops.start[kept]),
            **{column: [""] * count for column in ("launch", "grid", "block")},
            **{column: np.full(count, -1) for column in ("device", "correlation", "graph_id", "graph_node")},
            **{
                column: np.full(count, np.nan) for column in ("registers", "shared_bytes", "occupancy_kineto_pct", "copy_bytes")
            },
        }
    )
    inside = row_of[owner] >= 0
    return Linked(
        launches=LAUNCHES.check(launches),
        segments=(start[inside], end[inside], row_of[owner][inside]),
        steps=steps,
        ops=ops,
        wrapper_ns=int(own[wrapper].sum()),
        first_ns=int(ops.start.min()) if len(frame) else 0,
        last_ns=int(ops.end.max()) if len(frame) else 0,
        syncs=synchronising_calls(trace.calls),
        loading=read_loading(trace),
        scopes=scopes,
    )


_FAMILIES = (("attention", "matmul", "moe", "convolution", "depthwise"), ("pooling", "reduction"))
"""Kinds that call one another for the same work: attention is made of products, a pool over everything is a mean."""


def _wrappers(frame: pd.DataFrame, ops: Spans, shows_generated: bool) -> npt.NDArray[np.bool_]:
    """Tell which operators only call others.

    One that works is none unless it encloses an operator of its own sort: with nothing but views and scratch below it, a
    backend does all of the work by itself. What torch.compile writes around compiled code is a wrapper where the kernels that
    it generated stand in the trace; where they do not, its own time is theirs.
    """
    names = frame["name"].cat
    if not len(names.categories):
        return np.zeros(len(frame), bool)
    codes = names.codes.to_numpy()
    shown = shows_generated or any(fused_kind(name) is not None for name in names.categories)
    bracket = np.array([is_bracket(name) or (shown and is_compiler(name)) for name in names.categories], bool)[codes]
    caller = np.array([is_wrapper(name) for name in names.categories], bool)[codes]
    family = np.array([_family(name) for name in names.categories], object)[codes]
    calls_work = ops.has_children() & (family == "")
    for sort in set(family[caller]) - {""}:
        calls_work |= (family == sort) & ops.enclose(family == sort)
    return np.asarray(bracket | (caller & calls_work), bool)


def _family(name: str) -> str:
    """Return the kind of an operator, the first of its family; empty where it does no work of its own."""
    kind = operator_kind(name)
    if kind in (None, "view"):
        return ""
    return next((family[0] for family in _FAMILIES if kind in family), str(kind))


def _select(linked: Linked, trace: Trace, selection: Selection) -> Linked:
    """Return what was launched inside the selected stretches; what ran outside of them is kept as ``foreign`` time."""
    stretches = select_stretches(trace, selection)
    launches = linked.launches
    moment = np.where(has_launch(launches), launches["launch_ns"], launches["start_ns"])
    number = stretch_of(stretches, moment)
    kept = np.flatnonzero(number >= 0)
    row_of = np.full(len(launches), -1, np.int64)
    row_of[kept] = np.arange(len(kept))
    start, end, owner = linked.segments
    inside = row_of[owner] >= 0
    total = len(linked.steps)
    what = (
        f"annotation {selection.annotation!r}, {len(stretches)} occurrence{'s' * (len(stretches) > 1)}"
        if selection.annotation is not None
        else _told(stretches, total)
    )
    return replace(
        linked,
        launches=launches.iloc[kept].assign(step=number[kept], index=np.arange(len(kept))).reset_index(drop=True),
        segments=(start[inside], end[inside], row_of[owner[inside]]),
        steps=stretches,
        selected=what,
        by_step=selection.annotation is None,
        foreign=(start[~inside], end[~inside]),
        wrapper_ns=0 if not linked.wrapper_ns else _wrapper_ns(linked, stretches),
    )


def _told(stretches: tuple[Stretch, ...], total: int) -> str:
    names = stretches[0][0] if len(stretches) == 1 else f"{stretches[0][0]} to {stretches[-1][0]}"
    return f"{len(stretches)} of {total} profiler steps, {names}"


def _wrapper_ns(linked: Linked, stretches: tuple[Stretch, ...]) -> int:
    """Return the own time of wrappers, the operators of a CPU run that are no launch, inside the selected stretches."""
    start, end, owner = linked.ops.segments()
    wrapper = ~np.isin(owner, linked.launches["op_index"].to_numpy(np.int64))
    chosen = wrapper & (stretch_of(stretches, linked.ops.start[owner]) >= 0)
    return int((end - start)[chosen].sum())
