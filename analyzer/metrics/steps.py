"""What each profiler step is made of, each moment counted once."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.metrics.timing import Stretches, intersect, merge, subtract
from analyzer.schema.profile import STEP_PARTS
from analyzer.schema.results import Window
from analyzer.trace.kineto import Trace
from analyzer.trace.link import Linked
from analyzer.trace.spans import Int64

_DEVICE = ("kernel", "memcpy", "memset")


def break_down(trace: Trace, linked: Linked, window: Window) -> tuple[pd.DataFrame, int]:
    """Return the parts of each step, columns of ``HostView.steps``, and the nanoseconds between steps.

    A step lasts from its start until the later of its end and the end of what was launched in it, but no longer than until the
    next one begins; so a kernel that still runs then counts for the next one. Without steps the window is the only one. Time
    of a selected stretch in which only work from elsewhere ran is left out, as everywhere. Host parts are those of any
    thread. Parts that the trace has no event of at all are NaN.
    """
    names, begin, end = _bounds(linked, window)
    pieces = window.stretches or ((window.start_ns, window.end_ns),)
    covered: Stretches = (np.array([s for s, _ in pieces], np.int64), np.array([e for _, e in pieces], np.int64))
    found = _parts(trace, linked)
    wall = _within(covered, begin, end)
    out: dict[str, object] = {"step": names}
    rest, left = covered, wall.copy()
    for part in _order(on_gpu=trace.device.type != "cpu"):
        spans = found[part]
        if spans is None:
            out[f"{part}_us"] = np.full(len(wall), np.nan)
            continue
        length = _within(intersect(rest, spans), begin, end)
        rest, left = subtract(rest, spans), left - length
        out[f"{part}_us"] = length / 1e3
    out[f"{STEP_PARTS[-1]}_us"] = left / 1e3
    between = int(_within(covered, end[:-1], begin[1:]).sum()) if len(wall) > 1 else 0
    return pd.DataFrame(out), between


def _order(*, on_gpu: bool) -> tuple[str, ...]:
    """Return the parts but the last, in the order in which they count: on a CPU operators are the work and come first."""
    parts = STEP_PARTS[:-1]
    return parts if on_gpu else ("host", *(part for part in parts if part != "host"))


def _bounds(linked: Linked, window: Window) -> tuple[list[str], Int64, Int64]:
    """Return name, start and end of each step."""
    if not linked.steps:
        return ["window"], np.array([window.start_ns], np.int64), np.array([window.end_ns], np.int64)
    begin = np.array([start for _, start, _ in linked.steps], np.int64)
    end = np.array([stop for _, _, stop in linked.steps], np.int64)
    _, stop, row = linked.segments
    step = linked.launches["step"].to_numpy(np.int64)[row]
    np.maximum.at(end, step[step >= 0], stop[step >= 0])
    end[:-1] = np.minimum(end[:-1], begin[1:])
    return [name for name, _, _ in linked.steps], begin, end


def _parts(trace: Trace, linked: Linked) -> dict[str, Stretches | None]:
    """Return when each part but the last happens, None where the trace has no such events."""
    start, end, row = linked.segments
    category = linked.launches["category"].to_numpy(object)[row]
    on_gpu = trace.device.type != "cpu"
    found: dict[str, Stretches | None] = {
        name: merge(start[category == name], end[category == name]) if on_gpu else None for name in _DEVICE
    }
    found["runtime"] = _spans(trace.calls) if on_gpu and len(trace.calls) else None
    found["dataloader"] = merge(*linked.loading) if len(linked.loading[0]) else None
    found["host"] = _spans(trace.ops[linked.ops.parent < 0]) if len(trace.ops) else None
    return found


def _spans(table: pd.DataFrame) -> Stretches:
    return merge(table["start_ns"].to_numpy(np.int64), table["end_ns"].to_numpy(np.int64))


def _within(stretches: Stretches, begin: Int64, end: Int64) -> Int64:
    """Return how much of ``stretches`` lies between each ``begin`` and ``end``."""
    start, stop = stretches
    if not len(start):
        return np.zeros(len(begin), np.int64)
    before = np.concatenate(([0], np.cumsum(stop - start)))

    def until(time: Int64) -> Int64:
        count = np.searchsorted(start, time, side="right")
        last = np.maximum(count - 1, 0)
        return np.asarray(before[count] - np.where(count > 0, np.maximum(stop[last] - time, 0), 0), np.int64)

    length: Int64 = until(np.maximum(end, begin)) - until(begin)
    return length
