"""Calls merged by their path of names into a tree, with the time of each node alone and with what it called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.schema.profile import TREE_COLUMNS
from analyzer.trace.scopes import Stretch, module_pattern, stretch_of
from analyzer.trace.spans import Int64, Spans

Bool = npt.NDArray[np.bool_]

SEPARATOR = " > "
MAX_ROWS = 20_000
"""Rows of one tree; smaller nodes count for the node around them."""

OTHER = "(other calls)"
_MAX_DEPTH, _MAX_NODES = 48, 200_000
_MAX_NAME, _MAX_PATH = 200, 2000


@dataclass(frozen=True, slots=True)
class Merged:
    """Spans merged by their path of labels.

    ``node`` of each span, -1 for those outside; ``apart`` tells which spans have a node of their own path, while the others,
    too deep or too many, are part of that of the span around them. ``parent`` (-1 for a root) and ``label`` of each node;
    parents come before children. Label -1 stands for OTHER.
    """

    node: Int64
    apart: Bool
    parent: Int64
    label: Int64

    def calls(self) -> Int64:
        """Return how many spans each node stands for."""
        return np.bincount(self.node[self.apart], minlength=len(self.parent)).astype(np.int64)

    def sums(self, values: Int64) -> Int64:
        """Return the sum of ``values``, one per span, for each node."""
        inside = self.node >= 0
        out = np.zeros(len(self.parent), np.int64)
        np.add.at(out, self.node[inside], values[inside])
        return out


def within(spans: Spans, stretches: tuple[Stretch, ...] | None) -> Bool:
    """Tell which spans start within ``stretches`` or in a span that does; all where nothing is selected (None)."""
    if stretches is None:
        return np.ones(len(spans.start), bool)
    inside = (stretch_of(stretches, spans.start) >= 0).tolist()
    parent = spans.parent.tolist()
    for i in spans.order.tolist():  # parents first
        if not inside[i] and parent[i] >= 0:
            inside[i] = inside[parent[i]]
    return np.array(inside, bool)


def own_ns(spans: Spans, inside: Bool) -> Int64:
    """Return the time of each span without the spans directly in it, 0 for those outside.

    Approximation: a call that ends after the one around it on its thread, as rounding makes it, counts as ending with it.
    """
    end = spans.end.copy()
    has = spans.parent >= 0
    if (end[has] > end[spans.parent[has]]).any():
        ends, parent = end.tolist(), spans.parent.tolist()
        for i in spans.order.tolist():
            if parent[i] >= 0 and ends[i] > ends[parent[i]]:
                ends[i] = ends[parent[i]]
        end = np.array(ends, np.int64)
    length = np.where(inside, np.maximum(end - spans.start, 0), 0)
    own = length.copy()
    np.subtract.at(own, spans.parent[has & inside], length[has & inside])
    return np.where(inside, own, 0)


def merge_paths(spans: Spans, label: Int64, inside: Bool) -> Merged:
    """Return the spans that are ``inside`` merged by the path of their labels."""
    labels, parent, chosen = label.tolist(), spans.parent.tolist(), inside.tolist()
    width = int(label.max(initial=0)) + 2
    node, apart = [-1] * len(labels), [False] * len(labels)
    known: dict[int, int] = {}
    parents: list[int] = []
    own: list[int] = []
    depths: list[int] = []
    for i in spans.order.tolist():
        if not chosen[i]:
            continue
        up = node[parent[i]] if parent[i] >= 0 else -1
        key = (up + 1) * width + labels[i] + 1
        found = known.get(key, -1)
        if found < 0 and up >= 0 and (depths[up] >= _MAX_DEPTH or len(parents) >= _MAX_NODES):
            node[i] = up
            continue
        apart[i] = True
        if found < 0:
            other = len(parents) >= _MAX_NODES
            key = 0 if other else key  # of no label: the one root for what is too much
            found = known.setdefault(key, len(parents))
            if found == len(parents):
                parents.append(up)
                own.append(-1 if other else labels[i])
                depths.append(depths[up] + 1 if up >= 0 else 0)
        node[i] = found
    return Merged(np.array(node, np.int64), np.array(apart, bool), np.array(parents, np.int64), np.array(own, np.int64))


def tree_of(merged: Merged, names: Sequence[str], own: Int64, device: Int64 | None) -> tuple[pd.DataFrame, int]:
    """Return a tree with TREE_COLUMNS and how many nodes were too small for a row of their own.

    Args:
        merged: its nodes.
        names: what its labels stand for.
        own: time of each span alone.
        device: time of the kernels launched in each node alone, None where there is no device.
    """
    host_self, calls = merged.sums(own), merged.calls()
    device_self = np.zeros(len(host_self), np.int64) if device is None else device
    size = np.maximum(_shares(_totals(merged.parent, host_self)), _shares(_totals(merged.parent, device_self)))
    kept = np.zeros(len(size), bool)
    kept[np.argsort(-size, kind="stable")[:MAX_ROWS]] = True  # no node is larger than its parent, which stands before it
    parent, label, dropped = merged.parent, merged.label, int((~kept).sum())
    if dropped:
        parent, label, kept, (host_self, device_self, calls) = _fold(parent, label, kept, (host_self, device_self, calls))
    short = [_shown(name) for name in names]
    rows = assemble(
        parent,
        [short[k] if k >= 0 else OTHER for k in label.tolist()],
        calls,
        host_self,
        None if device is None else device_self,
    )
    return rows, dropped


def _shown(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _fold(
    parent: Int64, label: Int64, kept: Bool, values: tuple[Int64, Int64, Int64]
) -> tuple[Int64, Int64, Bool, tuple[Int64, Int64, Int64]]:
    """Return the nodes that are kept; times of the others count for the node around them, or for one root of their own."""
    host, device, calls = (v.copy() for v in values)
    other = len(parent)
    up = np.append(np.where((parent < 0) & ~kept, other, parent), -1)
    host, device, calls = (np.append(v, 0) for v in (host, device, calls))
    for i in np.flatnonzero(~kept)[::-1].tolist():  # children first
        host[up[i]] += host[i]
        device[up[i]] += device[i]
        calls[up[i]] += calls[i] if up[i] == other else 0
    chosen = np.append(kept, calls[other] > 0)
    place = np.cumsum(chosen) - 1
    ahead = up[chosen]
    new = np.where(ahead >= 0, place[ahead], -1)
    return new, np.append(label, -1)[chosen], chosen, (host[chosen], device[chosen], calls[chosen])


def assemble(parent: Int64, names: Sequence[str], calls: Int64, host_self: Int64, device_self: Int64 | None) -> pd.DataFrame:
    """Return nodes as a table with TREE_COLUMNS: in pre-order, children longest first. Times are given in nanoseconds.

    The total of a node is its own time and the totals of its children, so the totals of the roots add up to all own time.
    """
    host = _totals(parent, host_self)
    device = _totals(parent, device_self) if device_self is not None else np.zeros(len(host), np.int64)
    children: dict[int, list[int]] = {}
    parents = parent.tolist()
    for i in np.lexsort((np.arange(len(host)), -host, -device)).tolist():
        children.setdefault(parents[i], []).append(i)
    order: list[int] = []
    depth: list[int] = [0] * len(parents)
    stack = children.get(-1, [])[::-1]
    while stack:
        i = stack.pop()
        order.append(i)
        depth[i] = depth[parents[i]] + 1 if parents[i] >= 0 else 0
        stack.extend(reversed(children.get(i, [])))
    rows = np.array(order, np.int64)
    unknown = np.full(len(rows), np.nan)
    frame = pd.DataFrame(
        {
            "path": _paths(order, parents, names),
            "name": [names[i] for i in order],
            "depth": [depth[i] for i in order],
            "calls": calls[rows],
            "host_self_us": host_self[rows] / 1e3,
            "host_total_us": host[rows] / 1e3,
            "device_self_us": unknown if device_self is None else device_self[rows] / 1e3,
            "device_total_us": unknown if device_self is None else device[rows] / 1e3,
        }
    )
    return frame[list(TREE_COLUMNS)]


def merge_numbered(tree: pd.DataFrame) -> pd.DataFrame:
    """Return ``tree`` with siblings that differ in their numbers alone taken together: ``blocks.*`` for ``blocks.0`` to 11."""
    known: dict[tuple[int, str], int] = {}
    parents: list[int] = []
    names: list[str] = []
    node: list[int] = []
    above: list[int] = []
    for name, depth in zip(tree["name"].tolist(), tree["depth"].tolist(), strict=True):
        del above[depth:]
        key = (above[-1] if above else -1, module_pattern(name))
        found = known.setdefault(key, len(parents))
        if found == len(parents):
            parents.append(key[0])
            names.append(key[1])
        node.append(found)
        above.append(found)

    def summed(column: str) -> Int64:
        scale = 1 if column == "calls" else 1e3
        out = np.zeros(len(parents), np.int64)
        np.add.at(out, np.array(node, np.int64), np.rint(tree[column].to_numpy(np.float64) * scale).astype(np.int64))
        return out

    device = None if tree["device_self_us"].isna().any() else summed("device_self_us")
    return assemble(np.array(parents, np.int64), names, summed("calls"), summed("host_self_us"), device)


def _totals(parent: Int64, own: Int64) -> Int64:
    """Return for each node its own value and all values below it."""
    total, parents = own.tolist(), parent.tolist()
    for i in range(len(total) - 1, -1, -1):  # children first
        if parents[i] >= 0:
            total[parents[i]] += total[i]
    return np.array(total, np.int64)


def _shares(total: Int64) -> npt.NDArray[np.float64]:
    return total / max(int(total.max(initial=0)), 1)


def _paths(order: list[int], parents: list[int], names: Sequence[str]) -> list[str]:
    """Return a text per node that no other has: the names on the way to it, those in front left out where it is too long."""
    path: dict[int, str] = {}
    seen: dict[str, int] = {}
    out: list[str] = []
    for i in order:
        whole = f"{path[parents[i]]}{SEPARATOR}{names[i]}" if parents[i] >= 0 else names[i]
        whole = whole if len(whole) <= _MAX_PATH else f"…{whole[-_MAX_PATH:]}"
        count = seen[whole] = seen.get(whole, 0) + 1
        path[i] = whole
        out.append(whole if count == 1 else f"{whole} ({count})")
    return out
