"""Traces of replayed CUDA graphs and of the same code without graphs, written by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.schema.operators import OpCall
from analyzer.trace.calls import parse_call
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import link
from analyzer.trace.replay import Described, Operators, adopt_replay
from tests import traces

STEP_US = 10_000


@dataclass(frozen=True)
class K:
    """One kernel: its name, duration in µs, operator, module, rows of the operator's input, grid; ``node`` in its graph."""

    name: str
    dur: float = 10.0
    op: str = "aten::relu"
    module: str = ""
    rows: int = 64
    grid: tuple[int, ...] | None = (132, 1, 1)
    node: int | None = None


def reference(kernels: list[K], at: float = 0.0) -> list[dict[str, Any]]:
    """Return one step that launches each of ``kernels`` from an operator of its own, in a module scope where it has one."""
    events = [traces.note("ProfilerStep#9", at, STEP_US)]
    for i, k in enumerate(kernels):
        start, correlation = at + 10 + 20 * i, 1 + i
        if k.module:
            events.append(traces.note(f"module::{k.module}", start - 2, 18))
        events.append(traces.op(k.op, start, 12, dims=[[k.rows, 64]]))
        events.append(traces.launch(start + 2, correlation))
        events.append(_kernel(k, at + 5000 + 20 * i, correlation))
    return events


def _kernel(k: K, start: float, correlation: int, **more: Any) -> dict[str, Any]:
    event = traces.kernel(k.name, start, k.dur, correlation, **more)
    if k.grid is None:
        del event["args"]["grid"]
    else:
        event["args"]["grid"] = list(k.grid)
    if k.node is not None:
        event["args"]["graph node id"] = k.node
    return event


def replays(*steps: list[list[K]], stepped: bool = True, graph_ids: bool = False) -> list[dict[str, Any]]:
    """Return a trace of ``steps``, each a list of graphs that are launched one after the other, each a list of kernels."""
    events: list[dict[str, Any]] = []
    correlation = 1000
    for number, graphs in enumerate(steps):
        at = number * STEP_US
        if stepped:
            events.append(traces.note(f"ProfilerStep#{number}", at, STEP_US))
        start = at + 1000.0
        for graph, kernels in enumerate(graphs):
            correlation += 1
            events.append(traces.launch(at + 10 + 5 * graph, correlation, name="cudaGraphLaunch"))
            for k in kernels:
                more = {"graph id": 50 + graph} if graph_ids else {}
                events.append(_kernel(k, start, correlation, **more))
                start += k.dur + 1
    return events


def read(tmp_path: Path, events: list[dict[str, Any]], name: str = "t.json") -> Trace:
    """Return the trace of ``events``."""
    return read_trace(traces.write(tmp_path / name, traces.document(events)))


def described(trace: Trace) -> Described:
    """Return its launches and operators."""
    ops, columns = trace.ops, ("name", "dims", "types", "strides", "concrete")
    calls: list[OpCall | None] = [parse_call(*map(str, row)) for row in ops[list(columns)].itertuples(index=False)]
    linked = link(trace)
    return Described(linked.launches, Operators(ops["name"].astype(str).tolist(), linked.ops, calls))


def adopted(tmp_path: Path, graphed: list[dict[str, Any]], without: list[dict[str, Any]]) -> tuple[Described, tuple[str, ...]]:
    """Return what the first trace has from the second, and the notes."""
    return adopt_replay(described(read(tmp_path, graphed)), described(read(tmp_path, without, "u.json")))


def told(found: Described, column: str = "module") -> list[str]:
    """Return a column of the launches in the order of their start."""
    rows: pd.Series[str] = found.launches.sort_values("start_ns", kind="stable")[column]
    return [str(value) for value in rows]
