"""What surrounds a launch on the host: its module, its profiler step, and the stretches of the trace that a user selects."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.errors import TraceError
from analyzer.schema.settings import Selection
from analyzer.trace.frames import MODULE_FRAME
from analyzer.trace.kineto import Trace
from analyzer.trace.spans import Int64, Spans

MODULE_SCOPE = "module::"
SOURCES = ("module scope", "nn.Module frame", "annotation")
"""What tells of modules: our own scopes, else frames of the Python stack, else whatever annotations the user made."""

STEP_SCOPE = "ProfilerStep#"
LOADER_SCOPE = "enumerate(DataLoader)"
_NOT_A_MODULE = ("ProfilerStep#", "PyTorch Profiler", "Optimizer.", LOADER_SCOPE, "nccl:", "## Call CompiledFxGraph")
_MAX_PATH = 1000
_NAMES_SHOWN, _NAME_SHOWN = 8, 80
_OVERLAP = 8

Stretch = tuple[str, int, int]
"""A named part of the trace: (name, start_ns, end_ns)."""


def spans_of(frame: pd.DataFrame) -> Spans:
    """Return the rows of a table of spans as Spans."""
    return Spans(*(frame[column].to_numpy(np.int64) for column in ("start_ns", "end_ns", "thread")))


def module_pattern(name: str) -> str:
    """Return the module's name with its numbers as ``*``: ``blocks.3.attn.qkv`` is one of ``blocks.*.attn.qkv``."""
    return re.sub(r"(?<![A-Za-z])\d+", "*", name)


@dataclass(frozen=True, slots=True)
class Scopes:
    """Module scopes of a trace, asked by (time, thread).

    ``names`` are the scopes' own names, ``source`` what they are (SOURCES); ``paths`` what stands for them in tables.
    ``forward`` holds for each operator the one whose gradient it computes, -1 without; it is empty where there is no backward.
    """

    paths: list[str]
    spans: Spans
    ops: Spans
    forward: Int64
    names: pd.Series[str]
    source: str

    def rows(self, time: Int64, thread: Int64, op: Int64) -> Int64:
        """Return the row of the scope of launches made at ``time`` by operators ``op``, -1 without.

        A backward operator has that of its forward one.
        """
        found = self.spans.innermost(time, thread)
        if len(self.forward) and len(self.paths):
            source = np.where(op >= 0, self.forward[op], -1)
            back = np.flatnonzero((found < 0) & (source >= 0))
            found[back] = self.spans.innermost(self.ops.start[source[back]], self.ops.thread[source[back]])
        return found

    def modules(self, time: Int64, thread: Int64, op: Int64) -> list[str]:
        """Return the module of the same launches, nothing without."""
        return self.paths_of(self.rows(time, thread, op))

    def paths_of(self, rows: Int64) -> list[str]:
        """Return the paths of the scopes in ``rows``, nothing for -1."""
        return [self.paths[i] if i >= 0 else "" for i in rows.tolist()]


def read_scopes(trace: Trace, ops: Spans) -> Scopes:
    """Return the modules of a trace: from our scopes, else from nn.Module frames, else from user annotations."""
    notes = trace.annotations
    names = notes["name"].astype(str)
    ours = notes[names.str.startswith(MODULE_SCOPE)].reset_index(drop=True)
    if len(ours):
        spans, own, source = spans_of(ours), ours["name"], SOURCES[0]
        paths = [name[len(MODULE_SCOPE) :] for name in own]
    elif len(trace.frames):
        spans, own, source = spans_of(trace.frames), trace.frames["name"], SOURCES[1]
        paths = _frame_paths(own.tolist(), spans)
    else:
        others = notes[~names.str.startswith(_NOT_A_MODULE)].reset_index(drop=True)
        spans, own, source = spans_of(others), others["name"], SOURCES[2]
        paths = own.tolist()
    return Scopes(paths, spans, ops, _forward_ops(trace.ops, ops), own, source)


def _frame_paths(names: list[str], spans: Spans) -> list[str]:
    """Return the path of each nn.Module frame: its own and its parents' ``Class_index`` joined by dots."""
    paths = [name.removeprefix(MODULE_FRAME) for name in names]
    for i in spans.order.tolist():  # parents first
        parent = int(spans.parent[i])
        if parent >= 0:
            joined = f"{paths[parent]}.{paths[i]}"
            # modules do not nest that deep; a file that says so would grow without bound
            paths[i] = joined if len(joined) <= _MAX_PATH else paths[parent]
    return paths


def _forward_ops(frame: pd.DataFrame, ops: Spans) -> Int64:
    """Return for each operator the forward operator that it, or an operator around it, is the backward of; -1 without.

    Autograd gives both the same sequence number. Of several forward operators with one number the last made the graph's node;
    where several threads used the number, each has its own graph and none is chosen.
    """
    sequence, thread = frame["sequence"].to_numpy(np.int64), frame["forward_thread"].to_numpy(np.int64)
    backward = (sequence >= 0) & (thread > 0)
    if not backward.any():
        return np.array([], np.int64)
    ahead = np.flatnonzero((sequence >= 0) & ~backward)
    ahead = ahead[np.argsort(ops.start[ahead], kind="stable")]
    node = pd.Series(ahead, index=sequence[ahead])
    threads = pd.Series(ops.thread[ahead]).groupby(sequence[ahead]).nunique()
    node = node[~node.index.duplicated(keep="last") & node.index.isin(threads.index[threads == 1])]
    forward = np.full(len(frame), -1, np.int64)
    forward[backward] = pd.Series(sequence[backward]).map(node).fillna(-1).to_numpy(np.int64)
    for i in ops.order.tolist():  # parents first
        if forward[i] < 0 and ops.parent[i] >= 0:
            forward[i] = forward[ops.parent[i]]
    return forward


def read_loading(trace: Trace) -> tuple[Int64, Int64]:
    """Return (start_ns, end_ns) of the stretches in which the host waited for a data loader."""
    found = trace.annotations[trace.annotations["name"].astype(str).str.startswith(LOADER_SCOPE)]
    return found["start_ns"].to_numpy(np.int64), found["end_ns"].to_numpy(np.int64)


def read_steps(trace: Trace) -> tuple[Stretch, ...]:
    """Return the profiler's steps in order."""
    notes = trace.annotations
    whole: dict[str, Stretch] = {}
    for name, start, end in _stretches(notes[notes["name"].astype(str).str.startswith(STEP_SCOPE)]):
        first = whole.get(name, (name, start, end))  # several threads may name the same step
        whole[name] = (name, first[1], max(first[2], end))
    return tuple(whole.values())


def select_stretches(trace: Trace, selection: Selection) -> tuple[Stretch, ...]:
    """Return the stretches that ``selection`` names: profiler steps, or all occurrences of a user annotation.

    Raises:
        TraceError: the trace has none of that name; the hint lists what it has.
    """
    if selection.annotation is not None:
        return _annotated(trace, selection.annotation)
    steps = {int(match[1]): step for step in read_steps(trace) if (match := re.search(r"#(\d{1,18})", step[0]))}
    wanted = [steps[number] for number in selection.steps or () if number in steps]
    missing = [str(number) for number in selection.steps or () if number not in steps]
    if missing:
        have = (
            f"it has {min(steps)} to {max(steps)}"
            if steps
            else "it names no profiler steps; annotation=NAME selects by annotation"
        )
        raise TraceError(f"{trace.path} has no profiler step {', '.join(missing[:_NAMES_SHOWN])}", have)
    return tuple(sorted(wanted, key=lambda step: step[1]))


def _annotated(trace: Trace, name: str) -> tuple[Stretch, ...]:
    notes = trace.annotations
    found = _stretches(notes[notes["name"].astype(str) == name])
    if not found:
        counts = notes["name"].astype(str).value_counts()
        shown = (
            ", ".join(repr(name[:_NAME_SHOWN] + "…" * (len(name) > _NAME_SHOWN)) for name in counts.index[:_NAMES_SHOWN])
            or "none"
        )
        raise TraceError(
            f"{trace.path} has no user annotation {name!r}", f"it has {shown}{' ...' if len(counts) > _NAMES_SHOWN else ''}"
        )
    apart: list[Stretch] = []
    for stretch in found:  # one inside or across another, on whatever thread, makes one stretch with it
        if apart and stretch[1] < apart[-1][2]:
            apart[-1] = (name, apart[-1][1], max(apart[-1][2], stretch[2]))
        else:
            apart.append(stretch)
    return tuple(apart)


def _stretches(notes: pd.DataFrame) -> tuple[Stretch, ...]:
    ordered = notes.sort_values("start_ns", kind="stable")
    return tuple(zip(ordered["name"].astype(str), ordered["start_ns"].tolist(), ordered["end_ns"].tolist(), strict=True))


def stretch_of(stretches: tuple[Stretch, ...], time: Int64) -> Int64:
    """Return for each moment the number of the stretch that holds it, -1 for none; the later of two that touch."""
    starts = np.array([start for _, start, _ in stretches], np.int64)
    ends = np.array([end for _, _, end in stretches], np.int64)
    if not len(starts):
        return np.full(len(time), -1, np.int64)
    at = np.searchsorted(starts, time, side="right") - 1
    for _ in range(_OVERLAP):  # steps seldom overlap, but one may be inside another
        outside = (at >= 0) & (time > ends[np.maximum(at, 0)])
        if not outside.any():
            break
        at = np.where(outside, at - 1, at)
    return np.where((at >= 0) & (time <= ends[np.maximum(at, 0)]), at, -1)
