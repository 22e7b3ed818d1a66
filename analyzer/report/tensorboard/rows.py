"""What the tables of a trace know of its events, found again while the events pass by in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.trace.kineto import Trace
from analyzer.trace.launching import find_launches
from analyzer.trace.link import GRAPH, link
from analyzer.trace.spans import Int64

_STEP = "ProfilerStep#"
WAITING = ("enumerate(DataLoader)", "enumerate(DataPipe)", "Optimizer.")
"""Annotations that the plugin knows as operators only, as Kineto filed them in 2021."""


class Walk:
    """The rows of one table, taken one after the other; rows and events are both in the order of the file."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._start, self._end = frame["start_ns"].tolist(), frame["end_ns"].tolist()
        names = frame["name"].cat
        self._names, self._codes = names.categories.tolist(), names.codes.tolist()
        self._at = 0

    def take(self, start_ns: int, end_ns: int, name: str) -> int:
        """Return the next row and step over it if it is this event, else -1.

        A name that the reader left out for want of memory matches any.
        """
        at = self._at
        if at >= len(self._start) or self._start[at] != start_ns or self._end[at] != end_ns:
            return -1
        known = self._names[self._codes[at]]
        if known not in (name, ""):
            return -1
        self._at += 1
        return at


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The tables of a trace as walks, and for each row what the copy says of it.

    ``call_id`` and ``device_id``: number of the operator's row + 1, the ``External id`` of the copy; 0 without an operator.
    ``ends``: end of each operator, annotation and frame, no later than that of the span around it.
    """

    ops: Walk
    calls: Walk
    device: Walk
    notes: Walk
    frames: Walk
    call_id: list[int]
    call_correlation: list[int]
    device_id: list[int]
    device_correlation: list[int]
    device_category: list[str]
    device_number: list[int]
    device_stream: list[int]
    ends: tuple[list[int], list[int], list[int]]
    first_ns: int
    last_ns: int
    has_host: bool

    @classmethod
    def of(cls, trace: Trace) -> Rows:
        """Return the rows of ``trace``, linked."""
        tree = _tree(trace)
        call_id, device_id, call_of = _ids(trace, tree.shown_as)
        call_correlation, device_correlation = _correlations(trace, call_of)
        tables = (trace.ops, trace.calls, trace.device_events, trace.annotations, trace.frames)
        ops, calls, device, notes, frames = map(Walk, tables)
        return cls(
            ops=ops,
            calls=calls,
            device=device,
            notes=notes,
            frames=frames,
            call_id=call_id.tolist(),
            call_correlation=call_correlation.tolist(),
            device_id=device_id.tolist(),
            device_correlation=device_correlation.tolist(),
            device_category=trace.device_events["category"].astype(str).tolist(),
            device_number=trace.device_events["device"].tolist(),
            device_stream=trace.device_events["stream"].tolist(),
            ends=tree.ends,
            first_ns=min(_starts(trace), default=0),
            last_ns=max((int(table["end_ns"].max()) for table in tables if len(table)), default=0),
            has_host=bool(len(trace.ops) or trace.annotations["name"].astype(str).str.startswith(_STEP).any()),
        )

    def end_of(self, walk: Walk, row: int) -> int:
        """Return the end of a row of ``ops``, ``notes`` or ``frames`` in the copy."""
        return self.ends[(self.ops, self.notes, self.frames).index(walk)][row]


def _starts(trace: Trace) -> list[int]:
    """Return the first moment of each table that has any."""
    tables = (trace.ops, trace.calls, trace.device_events, trace.annotations, trace.frames, trace.stack_frames)
    found = [int(table["start_ns"].min()) for table in tables if len(table)]
    return found + ([int(trace.memory_events["time_ns"].min())] if len(trace.memory_events) else [])


def _ids(trace: Trace, shown_as: Int64) -> tuple[Int64, Int64, Int64]:
    """Return the id of each call and of each device event, and the row of the call that launched each device event.

    ``shown_as``: for each operator the one that takes its launches.
    """
    events, calls = trace.device_events, trace.calls
    if trace.device.type == "cpu" or not len(events):
        nothing = np.full(len(events), -1, np.int64)
        return np.zeros(len(calls), np.int64), nothing + 1, nothing
    linked = link(trace)
    order = np.argsort(events["start_ns"].to_numpy(), kind="stable")
    op = np.full(len(events), -1, np.int64)
    op[order] = linked.launches["op_index"].to_numpy(np.int64)
    graph = np.zeros(len(events), bool)
    graph[order] = (linked.launches["link"] == GRAPH).to_numpy()
    call = find_launches(trace).call
    inside = linked.ops.innermost(calls["start_ns"].to_numpy(np.int64), calls["thread"].to_numpy(np.int64))
    known = call >= 0
    inside[call[known]] = np.where(graph[known], -1, op[known])
    inside, op = (np.where(rows >= 0, shown_as[rows], -1) if len(shown_as) else rows for rows in (inside, op))
    device = op + 1
    device[known] = inside[call[known]] + 1
    return inside + 1, device, call


def _correlations(trace: Trace, call_of: Int64) -> tuple[Int64, Int64]:
    """Return the correlation ids: as in the trace where each call has its own, else the number of the call's row.

    The plugin knows one call per id, and files merged from several processes use ids twice.
    """
    calls = trace.calls["correlation"].to_numpy(np.int64)
    events = trace.device_events["correlation"].to_numpy(np.int64)
    told = calls[calls > 0]
    if len(np.unique(told)) == len(told):
        return calls, events
    return np.arange(1, len(calls) + 1), np.where(call_of >= 0, call_of + 1, len(calls) + 1 + np.arange(len(events)))


@dataclass(frozen=True, slots=True)
class _Tree:
    """How the plugin nests the spans of a trace.

    ``ends`` of operators, annotations and frames: a span that sticks out of the one around it, by rounding, ends with it, since
    the plugin would leave it out, with its kernels. ``shown_as``: for each operator the row of the one that the plugin shows
    in its place.
    """

    ends: tuple[list[int], list[int], list[int]]
    shown_as: Int64


def _tree(trace: Trace) -> _Tree:
    steps = trace.annotations["name"].astype(str).str.startswith((_STEP, *WAITING)).to_numpy(bool)
    tables = (trace.frames, trace.annotations[steps], trace.ops)
    start, end, thread = (
        np.concatenate([table[column].to_numpy(np.int64) for table in tables]) for column in ("start_ns", "end_ns", "thread")
    )
    ends, parents = _nest(start, end, thread)
    frames, stepped = len(trace.frames), int(steps.sum())
    notes = trace.annotations["end_ns"].to_numpy(np.int64).copy()
    notes[steps] = ends[frames : frames + stepped]
    first = frames + stepped
    return _Tree((ends[first:], notes.tolist(), ends[:frames]), _shown_as(trace.ops, parents, first))


def _nest(start: Int64, end: Int64, thread: Int64) -> tuple[list[int], Int64]:
    """Return the end of each span, no later than that of the span around it, and the row of that one, -1 without."""
    starts, ends, threads = start.tolist(), end.tolist(), thread.tolist()
    parents = np.full(len(starts), -1, np.int64)
    stack: list[int] = []
    for i in np.lexsort((-end, start, thread)).tolist():
        while stack and (threads[stack[-1]] != threads[i] or ends[stack[-1]] <= starts[i]):
            stack.pop()
        if stack:
            parents[i] = stack[-1]
            ends[i] = min(ends[i], ends[stack[-1]])
        stack.append(i)
    return ends, parents


def _shown_as(ops: pd.DataFrame, parents: Int64, first: int) -> Int64:
    """Return for each operator the one that the plugin shows in its place; operators begin at ``first`` of ``parents``.

    Of an operator whose only child has its own name the plugin keeps what the child launched and loses the rest.
    """
    children = np.bincount(parents[parents >= 0], minlength=len(parents))
    own = parents[first:]
    codes = ops["name"].cat.codes.to_numpy()
    rows = np.flatnonzero(own >= first)
    outer = own[rows] - first
    alone = (children[own[rows]] == 1) & (codes[rows] == codes[outer])
    shown = np.arange(len(ops))
    shown[outer[alone]] = rows[alone]
    while not np.array_equal(further := shown[shown], shown):
        shown = further
    return shown
