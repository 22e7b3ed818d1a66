"""Cuts the launches of a trace into what is aligned at once: steps, and passes where there are none, with their replays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.trace.link import GRAPH
from analyzer.trace.spans import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """Rows of one replay in the order of their execution; ``graph`` is what tells its graph from others.

    ``branched``: it ran on several streams and its nodes are not known, so the order is only that of the starts.
    """

    rows: Int64
    graph: object
    branched: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What is aligned with the reference at once: ``rows`` of the trace in order, and the ``replays`` among them."""

    rows: Int64
    replays: list[Replay]


def launched(launches: pd.DataFrame) -> Int64:
    """Return when each row was launched, where that is not known when it started."""
    at, start = (launches[column].to_numpy(np.int64) for column in ("launch_ns", "start_ns"))
    return np.where(at >= 0, at, start)


def passes_of(launches: pd.DataFrame, key: Int64) -> list[Pass]:
    """Return the steps with replays; of what lies outside of steps, or where there are none, the passes.

    ``key``: of each row of ``launches``, equal for kernels that are; it tells graphs apart where the trace does not.
    """
    device, step = (launches[column].to_numpy(np.int64) for column in ("device", "step"))
    replays = _replays(launches, key)
    owner = np.full(len(launches), -1, np.int64)
    for number, replay in enumerate(replays):
        owner[replay.rows] = number
    at = launched(launches)
    for replay in replays:  # one launch, whatever the clock of its kernels says
        at[replay.rows] = at[replay.rows].min()
    out: list[Pass] = []
    order = np.lexsort((at, step, device))
    cut = np.flatnonzero((np.diff(device[order]) != 0) | (np.diff(step[order]) != 0)) + 1
    for rows in np.split(order, cut):
        units = list(_units(rows, owner, replays))
        stepped = bool(len(rows)) and step[rows[0]] >= 0
        out += (_join(part) for part in ([units] if stepped else _repeated(units)))
    return [each for each in out if each.replays]


_Unit = Replay | Int64


def _units(rows: Int64, owner: Int64, replays: list[Replay]) -> Iterator[_Unit]:
    """Yield what was launched together, in order: replays, and stretches of rows between them."""
    mine = owner[rows]
    first = np.flatnonzero((mine >= 0) & ~pd.Series(mine).duplicated().to_numpy())
    done = 0
    for place in first.tolist():
        between = rows[done:place]
        yield between[owner[between] < 0]
        yield replays[int(mine[place])]
        done = place + 1
    rest = rows[done:]
    yield rest[owner[rest] < 0]


def _repeated(units: list[_Unit]) -> Iterator[list[_Unit]]:
    """Yield passes: one begins with each replay of a graph that the one before has already."""
    current: list[_Unit] = []
    seen: set[object] = set()
    for unit in units:
        if isinstance(unit, Replay):
            if unit.graph in seen:
                yield current
                current, seen = [], set()
            seen.add(unit.graph)
        if seen:
            current.append(unit)
    yield current


def _join(units: list[_Unit]) -> Pass:
    rows = [unit.rows if isinstance(unit, Replay) else unit for unit in units]
    replays = [unit for unit in units if isinstance(unit, Replay)]
    return Pass(np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64), replays)


def _replays(launches: pd.DataFrame, key: Int64) -> list[Replay]:
    """Return the rows of each launch of a graph, by node where all nodes are known, else by start."""
    rows = np.flatnonzero(launches["link"].eq(GRAPH).to_numpy(bool))
    if not len(rows):
        return []
    columns = ("graph_node", "graph_id", "start_ns", "correlation", "stream")
    node, graph, start, correlation, stream = (launches[column].to_numpy(np.int64) for column in columns)
    # a launch has one correlation id; without one, the graph is all that tells which rows belong together
    told = launches.iloc[rows][["device", "step", "correlation", "launch_ns"]].assign(
        graph=np.where(correlation[rows] > 0, 0, graph[rows])
    )
    number = told.groupby(list(told), sort=False).ngroup().to_numpy(np.int64)
    out = []
    for mine in np.split(rows[np.argsort(number, kind="stable")], np.cumsum(np.bincount(number))[:-1]):
        by_node = bool((node[mine] >= 0).all()) and len(np.unique(node[mine])) == len(mine)
        ordered = mine[np.argsort((node if by_node else start)[mine], kind="stable")]
        known = int(graph[ordered].max())
        branched = not by_node and len(np.unique(stream[mine])) > 1
        out.append(Replay(ordered, known if known > 0 else key[ordered].tobytes(), branched))
    return out
