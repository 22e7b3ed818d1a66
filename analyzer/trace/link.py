"""Kernel -> launch -> operator -> module -> step. On a CPU run the operators themselves stand where kernels stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.schema.tables import LAUNCHES
from analyzer.trace.kinds import is_wrapper
from analyzer.trace.kineto import Trace
from analyzer.trace.spans import Int64, Spans

MODULE_SCOPE = "module::"
STEP_SCOPE = "ProfilerStep#"


@dataclass(frozen=True, slots=True)
class Linked:
    """The launches of a trace, each with its operator, module and step.

    ``launches`` is the table LAUNCHES. ``segments`` holds (start_ns, end_ns, row) of the stretches in which a launch
    really runs: its interval on a GPU, its innermost stretches on a CPU. ``steps`` are (name, start_ns, end_ns).
    ``ops`` tells which operator encloses which. ``wrapper_ns`` is the own time of operators that only call others (CPU runs).
    """

    launches: pd.DataFrame
    segments: tuple[Int64, Int64, Int64]
    steps: tuple[tuple[str, int, int], ...]
    ops: Spans
    wrapper_ns: int
    first_ns: int
    last_ns: int


def link(trace: Trace) -> Linked:
    """Return the launches of ``trace`` with what they belong to."""
    ops = _spans(trace.ops)
    scopes = _Scopes(trace)
    if trace.device.type == "cpu":
        return _link_operators(trace, ops, scopes)
    return _link_kernels(trace, ops, scopes)


def _spans(frame: pd.DataFrame) -> Spans:
    return Spans(*(frame[column].to_numpy(np.int64) for column in ("start_ns", "end_ns", "thread")))


class _Scopes:
    """Module scopes and profiler steps of a trace, asked by (time, thread)."""

    def __init__(self, trace: Trace) -> None:
        notes = trace.annotations
        names = notes["name"].astype(str)
        ours = notes[names.str.startswith(MODULE_SCOPE)].reset_index(drop=True)
        self._modules = _spans(ours if len(ours) else trace.frames)
        self._paths = _scope_paths(ours) if len(ours) else _frame_paths(trace.frames, self._modules)
        steps = notes[names.str.startswith(STEP_SCOPE)].drop_duplicates("name").sort_values("start_ns")
        self.steps = tuple(zip(steps["name"], steps["start_ns"].astype(int), steps["end_ns"].astype(int), strict=True))

    def modules(self, time: Int64, thread: Int64) -> list[str]:
        found = self._modules.innermost(time, thread)
        return [self._paths[i] if i >= 0 else "" for i in found]

    def step_of(self, time: Int64) -> Int64:
        out = np.full(len(time), -1, dtype=np.int64)
        for number, (_, start, end) in enumerate(self.steps):
            out[(time >= start) & (time <= end)] = number
        return out


def _scope_paths(notes: pd.DataFrame) -> list[str]:
    return [name[len(MODULE_SCOPE) :] for name in notes["name"]]


def _frame_paths(frames: pd.DataFrame, spans: Spans) -> list[str]:
    """Return the path of each nn.Module frame: its own and its parents' ``Class_index`` joined by dots."""
    own = [name.removeprefix("nn.Module: ") for name in frames["name"]]
    paths: list[str] = [""] * len(own)
    for i in np.argsort(frames["start_ns"].to_numpy(), kind="stable"):
        parent = spans.parent[i]
        paths[i] = f"{paths[parent]}.{own[i]}" if parent >= 0 and paths[parent] else own[i]
    return paths


def _link_kernels(trace: Trace, ops: Spans, scopes: _Scopes) -> Linked:
    events = trace.device_events.sort_values("start_ns", kind="stable", ignore_index=True)
    call = _launch_calls(events, trace.calls)
    linked = call >= 0
    time = np.where(linked, trace.calls["start_ns"].to_numpy(np.int64)[call] if len(trace.calls) else 0, 0)
    thread = np.where(linked, trace.calls["thread"].to_numpy(np.int64)[call] if len(trace.calls) else -1, -1)
    op = np.where(linked, ops.innermost(time, thread), -1)
    op = _by_external_id(events, trace.ops, op)
    names = trace.ops["name"].to_numpy(object)
    launches = events.assign(
        index=np.arange(len(events)),
        dur_ns=events["end_ns"] - events["start_ns"],
        kernel=events["name"],
        op_index=op,
        op=[names[i] if i >= 0 else "" for i in op],
        module=scopes.modules(time, thread),
        step=scopes.step_of(np.where(linked, time, events["start_ns"])),
    ).drop(columns=["name", "external_id"])
    rows = np.arange(len(events), dtype=np.int64)
    bounds = [*events["start_ns"], *trace.ops["start_ns"], *trace.calls["start_ns"]]
    ends = [*events["end_ns"], *trace.ops["end_ns"], *trace.calls["end_ns"]]
    return Linked(
        launches=LAUNCHES.check(launches),
        segments=(events["start_ns"].to_numpy(np.int64), events["end_ns"].to_numpy(np.int64), rows),
        steps=scopes.steps,
        ops=ops,
        wrapper_ns=0,
        first_ns=int(min(bounds, default=0)),
        last_ns=int(max(ends, default=0)),
    )


def _launch_calls(events: pd.DataFrame, calls: pd.DataFrame) -> Int64:
    """Return for each device event the row of the runtime or driver call with its correlation id, -1 without."""
    known = calls[calls["correlation"] > 0].drop_duplicates("correlation", keep="first")
    position = pd.Series(known.index.to_numpy(np.int64), index=known["correlation"].to_numpy(np.int64))
    found = events["correlation"].map(position)
    return np.asarray(found.fillna(-1), dtype=np.int64)


def _by_external_id(events: pd.DataFrame, ops: pd.DataFrame, op: Int64) -> Int64:
    """Fill the operators that containment did not find from the ids that the profiler wrote."""
    known = ops[ops["external_id"] > 0].drop_duplicates("external_id", keep="last")
    position = pd.Series(known.index.to_numpy(np.int64), index=known["external_id"].to_numpy(np.int64))
    by_id = events["external_id"].map(position).fillna(-1).to_numpy(np.int64)
    return np.asarray(np.where(op >= 0, op, by_id), dtype=np.int64)


def _link_operators(trace: Trace, ops: Spans, scopes: _Scopes) -> Linked:
    """Take each operator that does work itself as a launch; wrappers that only call others are none."""
    frame = trace.ops
    start, end, owner = ops.segments()
    own = np.zeros(len(frame), dtype=np.int64)
    np.add.at(own, owner, end - start)
    nested = ops.has_children()
    wrapper = np.array([bool(nested[i]) and is_wrapper(name) for i, name in enumerate(frame["name"])], dtype=bool)
    kept = np.flatnonzero(~wrapper)
    kept = kept[np.argsort(ops.start[kept], kind="stable")]
    row_of = np.full(len(frame), -1, dtype=np.int64)
    row_of[kept] = np.arange(len(kept))
    count = len(kept)
    blank, nan = [""] * count, np.full(count, np.nan)
    launches = pd.DataFrame(
        {
            "index": np.arange(count),
            "start_ns": ops.start[kept],
            "dur_ns": own[kept],
            "device": np.full(count, -1),
            "stream": ops.thread[kept],
            "correlation": np.full(count, -1),
            "category": ["operator"] * count,
            "kernel": frame["name"].to_numpy(object)[kept],
            "op_index": kept,
            "op": frame["name"].to_numpy(object)[kept],
            "module": scopes.modules(ops.start[kept], ops.thread[kept]),
            "step": scopes.step_of(ops.start[kept]),
            "grid": blank,
            "block": blank,
            "registers": nan,
            "shared_bytes": nan,
            "occupancy_kineto_pct": nan,
            "copy_bytes": nan,
        }
    )
    inside = row_of[owner] >= 0
    return Linked(
        launches=LAUNCHES.check(launches),
        segments=(start[inside], end[inside], row_of[owner][inside]),
        steps=scopes.steps,
        ops=ops,
        wrapper_ns=int(own[wrapper].sum()),
        first_ns=int(ops.start.min(initial=0)) if len(frame) == 0 else int(ops.start.min()),
        last_ns=int(ops.end.max(initial=0)),
    )
