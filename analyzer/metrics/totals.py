"""Sums over a window: wall, busy and idle time, kinds, shares of what is classified and modelled."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.metrics.attribution import MODELLED, counted
from analyzer.metrics.idle import split_idle
from analyzer.metrics.occupancy import missing_occupancy
from analyzer.metrics.timing import Stretches, exclusive_ns, length_ns, merge, subtract, union_ns
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Totals, Window
from analyzer.schema.run import DeviceFacts
from analyzer.trace.kinds import KINDS, NOT_CLASSIFIED
from analyzer.trace.link import Linked

OUTSIDE_SHARE = 0.01
"""More work than this outside the profiler's steps, and a time per step would be false."""


def choose_window(linked: Linked) -> Window:
    """Return the stretch that the figures cover: all profiler steps with the launches they caused, else the whole trace.

    Work outside the steps is part of the trace and of its totals, so nothing is then divided by the number of steps.
    """
    if linked.foreign is not None:
        return _selected_window(linked, linked.foreign)
    launches = linked.launches
    count = len(linked.steps)
    ends = linked.segments[1]
    first = int(launches["start_ns"].min()) if len(launches) else linked.first_ns
    last = int(ends.max()) if len(ends) else linked.last_ns
    starts, stops = [s for _, s, _ in linked.steps], [e for _, _, e in linked.steps]
    whole = min(linked.first_ns, first, *starts), max(linked.last_ns, last, *stops)
    if not count:
        return Window(*whole, "the whole trace, first to last event: it names no profiler steps", None)
    names = f"{count} profiler steps, {linked.steps[0][0]} to {linked.steps[-1][0]}" if count > 1 else linked.steps[0][0]
    outside = launches.loc[launches["step"] < 0, "dur_ns"].sum()
    if outside > OUTSIDE_SHARE * launches["dur_ns"].sum():
        return Window(*whole, f"the whole trace, first to last event: part of its work lies outside {names}", count)
    return Window(min(first, *starts), max(last, *stops), f"{names}, with everything launched there", count, count)


def _selected_window(linked: Linked, foreign: Stretches) -> Window:
    """Return the selected stretches, each until the last of what was launched in it has ended.

    Time in which only work from elsewhere ran is left out: it is neither busy nor idle time of the selection.
    """
    launches = linked.launches
    segment_start, segment_end, row = linked.segments
    step = launches["step"].to_numpy(np.int64)[row]
    begin = np.array([start for _, start, _ in linked.steps], np.int64)
    end = np.array([stop for _, _, stop in linked.steps], np.int64)
    np.minimum.at(begin, step, segment_start)
    np.maximum.at(end, step, segment_end)
    own = merge(segment_start, segment_end)
    covered = subtract(merge(begin, end), subtract(merge(*foreign), own))
    stretches = tuple(zip(covered[0].tolist(), covered[1].tolist(), strict=True))
    source = f"as asked: {linked.selected}, with everything launched there and without the time in which only other work ran"
    # an annotation may be any part of a step, so nothing may be said per step or beside the latency of a batch
    count = len(linked.steps) if linked.by_step else None
    return Window(int(begin.min()), int(end.max()), source, count, count, stretches)


def add_exclusive(launches: pd.DataFrame, linked: Linked) -> pd.DataFrame:
    """Return ``launches`` with ``exclusive_us``: overlapping launches share each moment equally."""
    return launches.assign(exclusive_us=exclusive_ns(*linked.segments, len(launches)) / 1e3)


def sum_kinds(launches: pd.DataFrame) -> pd.DataFrame:
    """Return one row per kind with any time, in the fixed order of KINDS.

    Columns: ``kind, time_us`` (exclusive), ``calls, flop, bytes_compulsory, floor_us, modelled_us``; sums over the window.
    ``modelled_us`` is the time of launches that have a floor.
    """
    floored = launches["basis"].isin(MODELLED) & launches["floor_us"].notna()
    time = launches["exclusive_us"]
    frame = pd.DataFrame(
        {
            "kind": launches["kind"],
            "time_us": time,
            "calls": 1,
            "flop": launches["flop"].where(counted(launches)),
            "bytes_compulsory": launches["bytes_compulsory"].where(counted(launches)),
            "floor_us": launches["floor_us"].where(floored, 0.0),
            "modelled_us": time.where(floored, 0.0),
        }
    )
    summed = frame.groupby("kind", sort=False).sum(numeric_only=True).reset_index()
    summed["order"] = [KINDS.index(kind) for kind in summed["kind"]]
    return summed.sort_values("order").drop(columns="order").reset_index(drop=True)


def sum_totals(launches: pd.DataFrame, linked: Linked, window: Window, device: DeviceFacts) -> Totals:
    """Return the sums over ``window`` of a run on ``device``."""
    start, end, row = linked.segments
    covered = window.stretches or ((window.start_ns, window.end_ns),)
    stretches = np.array([s for s, _ in covered], np.int64), np.array([e for _, e in covered], np.int64)
    idle = subtract(stretches, merge(start, end))
    on_gpu = not launches["category"].eq("operator").any()
    computing = launches["category"].eq("kernel").to_numpy()[row]
    kernels = launches[launches["category"].isin(("kernel", "operator"))]
    time = kernels["dur_ns"].to_numpy(np.float64) / 1e3
    total = float(time.sum())
    exclusive = launches["exclusive_us"].to_numpy(np.float64)
    classified = ~launches["kind"].isin(NOT_CLASSIFIED).to_numpy()
    modelled = kernels["basis"].isin(MODELLED).to_numpy()
    copies = launches["category"].isin(("memcpy", "memset"))
    work = launches[counted(launches)]
    return Totals(
        wall_us=length_ns(stretches) / 1e3,
        kernel_time_us=total,
        kernel_count=len(kernels),
        copy_us=float(launches.loc[copies, "dur_ns"].sum() / 1e3),
        busy_us=union_ns(start, end) / 1e3,
        idle_us=length_ns(idle) / 1e3,
        dispatch_us=linked.wrapper_ns / 1e3,
        classified_pct=_share(exclusive, classified),
        modelled_pct=_share(time, modelled),
        linked_pct=_share(time, (kernels["op_index"] >= 0).to_numpy()),
        flop=float(work["flop"].sum()),
        bytes_compulsory=float(work["bytes_compulsory"].sum()),
        bytes_high=float(work["bytes_high"].sum()),
        occupancy_pct=_weighted(kernels, "occupancy_pct", Evidence.DERIVED, device),
        occupancy_kineto_pct=_weighted(kernels, "occupancy_kineto_pct", Evidence.MEASURED, device),
        copy_only_us=(union_ns(start, end) - union_ns(start[computing], end[computing])) / 1e3 if on_gpu else 0.0,
        idle=split_idle(idle, launches, linked.syncs, linked.loading) if on_gpu else None,
    )


def _share(time: np.ndarray[tuple[int], np.dtype[np.float64]], chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(100.0 * time[chosen].sum() / time.sum()) if time.sum() > 0 else 0.0


def _weighted(kernels: pd.DataFrame, column: str, evidence: Evidence, device: DeviceFacts) -> Quantity:
    known = kernels[column].notna()
    weight = kernels.loc[known, "dur_ns"].to_numpy(np.float64)
    if not known.any() or weight.sum() <= 0:
        return Quantity.missing("%", missing_occupancy(device))
    value = float(np.average(kernels.loc[known, column].to_numpy(np.float64), weights=weight))
    return Quantity(value, "%", evidence, source="mean over kernels, weighted by time")
