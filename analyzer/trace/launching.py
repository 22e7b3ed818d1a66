"""Which call of the runtime or driver launched a kernel, and how that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.trace.kineto import Trace
from analyzer.trace.ranks import rank_of_threads
from analyzer.trace.spans import Int64

_GRAPH_LAUNCH = re.compile(r"graph_?launch", re.IGNORECASE)
_SYNCHRONISE = re.compile(r"synchronize|^(?:cuda|hip)Memcpy(?!.*Async)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Launching:
    """For each device event: the row of its launch ``call`` (-1 without), and whether a CUDA or HIP ``graph`` launched it.

    All kernels of a graph share the launch of the whole graph, so the operator around that call is not theirs.
    """

    call: Int64
    graph: npt.NDArray[np.bool_]


def find_launches(trace: Trace) -> Launching:
    """Return how the device events of ``trace`` were launched.

    By correlation id (Kineto fills it from the flow arrows where the event has none). An id that several calls carry, as in
    files merged from several processes, belongs to the call of the same rank that started last before the kernel did.
    """
    events, calls = trace.device_events, trace.calls
    known = calls[calls["correlation"] > 0]
    if known["correlation"].is_unique:
        position = pd.Series(known.index.to_numpy(np.int64), index=known["correlation"].to_numpy(np.int64))
        call = np.asarray(events["correlation"].map(position).fillna(-1), np.int64)
    else:
        call = _nearest(trace, known)
    launches_graph = _matches(calls["name"], _GRAPH_LAUNCH)
    of_graph = (events["graph_id"] > 0).to_numpy(bool)
    if len(calls):
        of_graph = of_graph | (launches_graph[call] & (call >= 0))
    return Launching(call, of_graph)


def _nearest(trace: Trace, calls: pd.DataFrame) -> Int64:
    """Return the call of each event where ids are not unique."""
    events = trace.device_events
    rank = rank_of_threads(trace)
    left = pd.DataFrame(
        {"id": events["correlation"], "rank": rank[events["thread"]], "at": events["start_ns"], "row": np.arange(len(events))}
    )
    right = pd.DataFrame(
        {"id": calls["correlation"], "rank": rank[calls["thread"]], "at": calls["start_ns"], "call": calls.index}
    )
    left, right = left.sort_values("at", kind="stable"), right.sort_values("at", kind="stable")
    found = np.full(len(events), -1, np.int64)
    for direction in ("forward", "backward"):  # the call before the kernel wins over one after it
        merged = pd.merge_asof(left, right, on="at", by=["id", "rank"], direction=direction)
        hit = merged["call"].notna().to_numpy()
        found[merged["row"].to_numpy()[hit]] = merged["call"].to_numpy()[hit].astype(np.int64)
    return found


def has_launch(launches: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell of which rows of LAUNCHES the launch call is known; operators of a CPU run are their own."""
    return ((launches["launch"] != "") | (launches["category"] == "operator")).to_numpy(bool)


def synchronising_calls(calls: pd.DataFrame) -> tuple[Int64, Int64]:
    """Return (start_ns, end_ns) of the calls in which the host waits for the device."""
    waits = _matches(calls["name"], _SYNCHRONISE)
    return calls["start_ns"].to_numpy(np.int64)[waits], calls["end_ns"].to_numpy(np.int64)[waits]


def _matches(names: pd.Series[str], pattern: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    """Tell which of ``names``, a categorical column, hold ``pattern``."""
    found = np.array([pattern.search(name) is not None for name in names.cat.categories], bool)
    return found[names.cat.codes.to_numpy()] if len(found) else np.zeros(len(names), bool)
