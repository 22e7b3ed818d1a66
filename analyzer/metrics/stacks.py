"""Time by call stack: which lines of Python the operators and kernels come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.metrics.trees import Bool, Merged, merge_paths
from analyzer.trace.frames import NO_STACK, SEPARATOR
from analyzer.trace.kineto import Trace
from analyzer.trace.link import Linked
from analyzer.trace.scopes import spans_of
from analyzer.trace.spans import Int64, Spans

MAX_STACKS = 200
COLUMNS = ("stack", "calls", "host_us", "device_us")
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Stacks:
    """Time by call stack, longest first: the columns of ``HostView.stacks``.

    ``dropped`` counts the stacks beyond the longest MAX_STACKS. ``without_us`` is the time of which no stack is known, and
    ``whole_us`` all of it: kernel time on a GPU, else host time in operators.
    """

    table: pd.DataFrame
    dropped: int
    without_us: float
    whole_us: float


def by_stack(trace: Trace, linked: Linked, launches: pd.DataFrame, inside: Bool, own: Int64) -> Stacks | None:
    """Return the time by call stack, None where the trace has no stacks.

    An operator has the stack that the trace wrote to it, or to the operator around it, unless a function of Python began in
    between; else it has that of the functions of Python that ran when it began.

    Args:
        trace: with stacks in its operators, with frames of the Python stack, or with both: TorchScript writes stacks to its own
            operators only.
        linked: its operators.
        launches: the launches that count.
        inside: which operators count.
        own: time of each operator alone.
    """
    stack, ops = trace.ops["stack"], linked.ops
    told = (stack != NO_STACK).to_numpy(bool)
    if not told.any() and not len(trace.stack_frames):
        return None
    frames = spans_of(trace.stack_frames)
    names = trace.stack_frames["name"].cat
    merged = merge_paths(frames, np.asarray(names.codes, np.int64), np.ones(len(frames.start), bool))
    spelled = _Spelled(merged, list(names.categories), list(stack.cat.categories))
    text = np.where(told, spelled.numbers()[stack.cat.codes.to_numpy(np.int64)], -1) if len(told) else np.empty(0, np.int64)
    giver = _nearest(ops, told)

    def stack_at(giver: Int64, time: Int64, thread: Int64) -> Int64:
        """Return the stack at moments in operators that have theirs from ``giver``, -1 in those that have it from none."""
        row = frames.innermost(time, thread)
        found = np.append(merged.node, -1)[row]
        began, since = np.append(frames.start, _NEVER)[row], np.append(ops.start, _NEVER)[giver]
        return np.where((giver >= 0) & ((row < 0) | (began <= since)), np.append(text, -1)[giver], found)

    found = stack_at(giver, ops.start, ops.thread)
    around = _of_launches(launches, giver)
    launched = stack_at(around, launches["launch_ns"].to_numpy(np.int64), launches["launch_thread"].to_numpy(np.int64))
    launched = np.where(launched >= 0, launched, _of_launches(launches, found))
    return _sum(ops, found, launched, launches, inside, own, spelled)


class _Spelled:
    """Stacks by their number, spelled when asked for: first those of merged frames, then ``texts`` that equal none of them."""

    def __init__(self, merged: Merged, names: list[str], texts: list[str]) -> None:
        self._parent, self._label, self._names, self._texts = merged.parent, merged.label, names, texts

    def numbers(self) -> Int64:
        """Return the number of each text."""
        first = len(self._parent)
        if not first:
            return np.arange(len(self._texts), dtype=np.int64)
        labels = {name: label for label, name in enumerate(self._names)}
        nodes = {key: node for node, key in enumerate(zip(self._parent.tolist(), self._label.tolist(), strict=True))}
        out = []
        for number, text in enumerate(self._texts):
            node: int | None = -1
            for name in reversed(text.split(SEPARATOR)):
                node = None if node is None else nodes.get((node, labels.get(name, len(labels))))
            out.append(first + number if node is None else node)
        return np.array(out, np.int64)

    def __getitem__(self, number: int) -> str:
        if number >= len(self._parent):
            return self._texts[number - len(self._parent)]
        out, node = [], number
        while node >= 0:
            label = int(self._label[node])
            out.append(self._names[label] if label >= 0 else "(frames beyond the limit)")
            node = int(self._parent[node])
        return SEPARATOR.join(out)

    def __len__(self) -> int:
        return len(self._parent) + len(self._texts)


def _nearest(ops: Spans, chosen: Bool) -> Int64:
    """Return for each operator itself where it is ``chosen``, else the nearest around it that is, -1 without."""
    found, parent = np.where(chosen, np.arange(len(chosen)), -1).tolist(), ops.parent.tolist()
    if chosen.any():
        for i in ops.order.tolist():  # parents first
            if found[i] < 0 and parent[i] >= 0:
                found[i] = found[parent[i]]
    return np.array(found, np.int64)


def _of_launches(launches: pd.DataFrame, stack: Int64) -> Int64:
    op = launches["op_index"].to_numpy(np.int64)
    return np.where(op >= 0, stack[op], -1) if len(stack) else np.full(len(op), -1, np.int64)


def _sum(
    ops: Spans, stack: Int64, launched: Int64, launches: pd.DataFrame, inside: Bool, own: Int64, texts: _Spelled
) -> Stacks:
    """Return the time by stack. A call is an operator that no operator with the same stack encloses directly."""
    around = np.where(ops.parent >= 0, stack[ops.parent], -1) if len(stack) else stack
    known = inside & (stack >= 0)
    kernel = launches["category"].eq("kernel").to_numpy(bool)
    on_gpu = not launches["category"].eq("operator").any()
    host, device, calls = (np.zeros(len(texts), np.int64) for _ in range(3))
    np.add.at(host, stack[known], own[known])
    np.add.at(calls, stack[known & (stack != around)], 1)
    time = np.where(kernel, launches["dur_ns"].to_numpy(np.int64), 0)
    np.add.at(device, launched[kernel & (launched >= 0)], time[kernel & (launched >= 0)])
    rows = np.flatnonzero((calls > 0) | (device > 0))
    rows = rows[np.lexsort((rows, -host[rows], -device[rows]))]
    whole, told = (int(time.sum()), int(device.sum())) if on_gpu else (int(own.sum()), int(host.sum()))
    kept = rows[:MAX_STACKS]
    table = pd.DataFrame(
        {
            "stack": [texts[int(i)] for i in kept],
            "calls": calls[kept],
            "host_us": host[kept] / 1e3,
            "device_us": device[kept] / 1e3 if on_gpu else np.full(len(kept), np.nan),
        },
        columns=list(COLUMNS),
    )
    return Stacks(table, len(rows) - len(kept), (whole - told) / 1e3, whole / 1e3)
