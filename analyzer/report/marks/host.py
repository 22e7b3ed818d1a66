"""Numbers of the section on operators and modules: the branches of a tree that a page shows, and steps in parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.schema.profile import STEP_PARTS
from analyzer.schema.results import Analysis

Float64 = npt.NDArray[np.float64]

MIN_SHARE = 0.001
"""Smaller nodes are taken together, in host and in device time both."""

OPEN_ROWS, MORE_ROWS = 24, 10
"""Rows that a tree shows before anyone opens a node; where it has so many roots, MORE_ROWS below them."""

MAX_BARS = 60
"""Bars of all runs of a page, each one step or the mean of several neighbours."""


@dataclass(slots=True)
class Branch:
    """One node of a tree: its row in the table of the tree, what of it is shown below, and whether it is open.

    ``rest`` are the rows of direct children that are not shown for themselves, all longest first.
    """

    row: int
    children: list[Branch] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)
    open: bool = False


@dataclass(frozen=True, slots=True)
class Forest:
    """What a page shows of a tree: its roots, the roots that are not shown for themselves, and how many rows of how many."""

    roots: list[Branch]
    rest: list[int]
    shown: int
    total: int


def forest(tree: pd.DataFrame, limit: int, open_rows: int = OPEN_ROWS) -> Forest:
    """Return the ``limit`` largest nodes of ``tree`` (TREE_COLUMNS, pre-order) that have MIN_SHARE of the time or more.

    The largest nodes are open as long as no more than ``open_rows`` rows, or MORE_ROWS beside the roots, are then in view.
    """
    size = shares(tree)
    order = np.argsort(-size, kind="stable")  # no node is larger than the one above it, which stands before it
    chosen = np.zeros(len(tree), bool)
    chosen[order[:limit]] = True
    chosen &= size >= MIN_SHARE
    roots: list[Branch] = []
    rest: list[int] = []
    above: list[Branch | None] = []
    found: dict[int, Branch] = {}
    for row, depth in enumerate(tree["depth"].tolist()):
        del above[depth:]
        up = above[-1] if above else None
        branch = Branch(row) if chosen[row] else None
        above.append(branch)
        if branch is not None:
            found[row] = branch
            (up.children if up else roots).append(branch)
        elif depth == 0:
            rest.append(row)
        elif up is not None:
            up.rest.append(row)
    visible = len(roots) + bool(rest)
    _open(roots, found, order.tolist(), visible, max(open_rows, visible + MORE_ROWS))
    return Forest(roots, rest, len(found), len(tree))


def _open(roots: list[Branch], found: dict[int, Branch], order: list[int], visible: int, limit: int) -> None:
    """Open branches, the largest first, while no more than ``limit`` rows are in view."""
    in_view = {branch.row for branch in roots}
    for row in order:
        branch = found.get(row)
        if branch is None or row not in in_view or not branch.children:
            continue
        more = len(branch.children) + bool(branch.rest)
        if visible + more > limit:
            return
        branch.open = True
        visible += more
        in_view |= {child.row for child in branch.children}


def shares(tree: pd.DataFrame) -> Float64:
    """Return the share of each node: the larger of that of the device time and that of the host time of all roots."""
    roots = tree["depth"] == 0
    out = np.zeros(len(tree))
    for column in ("device_total_us", "host_total_us"):
        value = np.nan_to_num(tree[column].to_numpy(np.float64))
        whole = value[roots.to_numpy()].sum()
        out = np.maximum(out, value / whole if whole > 0 else 0.0)
    return out


@dataclass(frozen=True, slots=True)
class StepBar:
    """One step, or the mean of several: its name, how many it stands for, and its parts in microseconds (name, time)."""

    name: str
    steps: int
    parts: tuple[tuple[str, float], ...]

    @property
    def total_us(self) -> float:
        """Return the length of the step."""
        return sum(value for _, value in self.parts)


@dataclass(frozen=True, slots=True)
class StepBars:
    """The steps of one run. ``each``: how many neighbours a bar is the mean of (the last one may stand for fewer)."""

    label: str
    run: int
    bars: tuple[StepBar, ...]
    mean: StepBar
    each: int


def step_bars(analysis: Analysis, run: int, limit: int = MAX_BARS) -> StepBars | None:
    """Return the steps of a run in at most ``limit`` bars; parts that the trace knows nothing of are left out."""
    if analysis.host is None or analysis.host.steps.empty:
        return None
    steps = analysis.host.steps
    names = steps["step"].tolist()
    known = [part for part in STEP_PARTS if not steps[f"{part}_us"].isna().all()]
    values = {part: steps[f"{part}_us"].to_numpy(np.float64) for part in known}
    each = -(-len(names) // limit)
    bars = []
    for first in range(0, len(names), each):
        last = min(first + each, len(names))
        name = names[first] if last - first == 1 else f"{names[first]} to {names[last - 1]}"
        bars.append(StepBar(name, last - first, tuple((p, float(values[p][first:last].mean())) for p in known)))
    mean = StepBar("mean", len(names), tuple((part, float(values[part].mean())) for part in known))
    return StepBars(analysis.label, run, tuple(bars), mean, each)
