"""Memory of each device over the trace: the allocator's curve, its peak, and which modules and operators hold it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Window
from analyzer.trace.kinds import operator_kind
from analyzer.trace.kineto import Trace
from analyzer.trace.link import Linked
from analyzer.trace.scopes import Stretch, stretch_of
from analyzer.trace.spans import Int64

CPU = 0
_SORTS = {CPU: "CPU", 1: "GPU", 6: "GPU", 12: "XPU", 13: "MPS"}
"""PyTorch's numbers of the sorts of device (c10/core/DeviceType.h): 1 is CUDA, 6 is HIP."""

MAX_DEVICES = 64
"""Devices with a profile, those with the most events: no trace of one process has more."""

NO_ADDRESSES = "the trace has no addresses of blocks (they came in 2022), so a freed block cannot be told from one still held"
HOLDERS = ("module", "op", "bytes", "blocks")
_DEPTH = 64


@dataclass(frozen=True, slots=True, eq=False)
class _Device:
    """The events of one device in order of time, what was allocated after each, and which of them is the peak.

    ``inside`` lists the events in the window.
    """

    sort: int
    number: int
    rows: pd.DataFrame
    level: npt.NDArray[np.float64]
    has_totals: bool
    inside: Int64
    peak: int

    @property
    def name(self) -> str:
        if self.sort == CPU:
            return _SORTS[CPU]
        return f"{_SORTS.get(self.sort, f'device of type {self.sort}, number')} {self.number}"

    @property
    def has_addresses(self) -> bool:
        return not bool((self.rows["address"] == -1).any())


def memory_profiles(trace: Trace, linked: Linked, window: Window) -> tuple[MemoryProfile, ...]:
    """Return what the allocators of each device held during ``window``, GPUs first; nothing without ``[memory]`` events.

    A device without events in the window has no profile. Of more than MAX_DEVICES, those with the most events have one.

    Approximation: a block counts for the operator and module that ran when it was allocated, whoever keeps it later.
    """
    if trace.memory_events.empty:
        return ()
    ordered = trace.memory_events.sort_values("time_ns", kind="stable", ignore_index=True)
    groups: list[Any] = list(ordered.groupby(["device_type", "device"]))
    groups.sort(key=lambda item: -len(item[1]))
    groups = sorted(groups[:MAX_DEVICES], key=lambda item: (item[0][0] == CPU, item[0]))
    devices = [found for key, rows in groups if (found := _find(key, rows, window))]
    held = [_held(device) for device in devices]
    named = _named(pd.concat(held), trace, linked) if any(map(len, held)) else pd.DataFrame(columns=list(HOLDERS))
    return tuple(_profile(device, linked.steps, named.reindex(rows.index)) for device, rows in zip(devices, held, strict=True))


def _find(key: tuple[int, int], rows: pd.DataFrame, window: Window) -> _Device | None:
    time, totals = rows["time_ns"].to_numpy(np.int64), rows["allocated_bytes"].to_numpy(np.float64)
    has_totals = not bool(np.isnan(totals).any())
    level = totals if has_totals else np.cumsum(rows["bytes"].to_numpy(np.float64))
    chosen = np.zeros(len(time), bool)
    for start, end in window.stretches or ((window.start_ns, window.end_ns),):
        chosen |= (time >= start) & (time <= end)
    inside = np.flatnonzero(chosen)
    if not len(inside):
        return None
    return _Device(int(key[0]), int(key[1]), rows, level, has_totals, inside, int(inside[np.argmax(level[inside])]))


def _held(device: _Device) -> pd.DataFrame:
    """Return the allocations up to the peak whose block has not been freed until then; none without addresses."""
    if not device.has_addresses:
        return device.rows.iloc[:0]
    last = device.rows.iloc[: device.peak + 1].drop_duplicates("address", keep="last")
    return last[last["bytes"] > 0]


def _named(blocks: pd.DataFrame, trace: Trace, linked: Linked) -> pd.DataFrame:
    """Return module, operator and size of each block, by what ran on its thread when it was allocated."""
    time, thread = blocks["time_ns"].to_numpy(np.int64), blocks["thread"].to_numpy(np.int64)
    op = linked.ops.innermost(time, thread)
    modules = linked.scopes.modules(time, thread, op)
    names = trace.ops["name"].cat
    if len(names.categories):
        op = _worker(op, np.array([operator_kind(name) == "view" for name in names.categories])[names.codes], linked.ops.parent)
    texts = np.array([*names.categories, ""], object)
    code = np.where(op >= 0, names.codes.to_numpy()[op], -1) if len(names.categories) else np.full(len(op), -1)
    return pd.DataFrame({"module": modules, "op": texts[code], "bytes": blocks["bytes"]}, index=blocks.index)


def _worker(op: Int64, makes_room: npt.NDArray[np.bool_], parent: Int64) -> Int64:
    """Return the innermost operator around each block that does more than make room (``empty``) or look at tensors.

    The innermost of all where there is none.
    """
    found = op
    for _ in range(_DEPTH):
        idle = (found >= 0) & makes_room[found]
        if not idle.any():
            break
        found = np.where(idle, parent[found], found)
    return np.where((found >= 0) & ~makes_room[found], found, op)


def _profile(device: _Device, steps: tuple[Stretch, ...], held: pd.DataFrame) -> MemoryProfile:
    rows, level, peak = device.rows, device.level, device.peak
    time = rows["time_ns"].to_numpy(np.int64)
    grouped = held.groupby(["module", "op"], sort=False)["bytes"].agg(["sum", "size"]).reset_index()
    grouped = grouped.set_axis(list(HOLDERS), axis=1).sort_values("bytes", ascending=False, kind="stable", ignore_index=True)
    total = float(grouped["bytes"].sum())
    # the CPU's allocator keeps no reserve, and traces say 0
    reserved = rows["reserved_bytes"].to_numpy(np.float64) if device.sort != CPU else np.full(len(rows), np.nan)
    curve = pd.DataFrame({"time_ns": time, "allocated_bytes": level, "reserved_bytes": reserved})
    return MemoryProfile(
        device=device.name,
        curve=curve.iloc[device.inside].reset_index(drop=True),
        # the CPU's total counts from when a profiler was first turned on, and knows nothing of what was there before
        is_absolute=device.has_totals and device.sort != CPU,
        peak_ns=int(time[peak]),
        peak_bytes=float(level[peak]),
        at_peak=grouped,
        before_bytes=max(float(level[peak]) - total, 0.0) if device.has_totals and total else 0.0,
        transient_bytes=_transient(device, time, steps),
        reason="" if device.has_addresses else NO_ADDRESSES,
    )


def _transient(device: _Device, time: Int64, steps: tuple[Stretch, ...]) -> float:
    """Return the peak minus the lowest level before it in its step, in the window where no step holds it."""
    step = int(stretch_of(steps, time[[device.peak]])[0])
    start = steps[step][1] if step >= 0 else int(time[device.inside[0]])
    ahead = np.flatnonzero(time[: device.peak + 1] >= start)
    first = ahead[0]
    entered = device.level[first] - device.rows["bytes"].to_numpy(np.float64)[first]
    return float(device.level[device.peak] - min(float(device.level[ahead].min()), float(entered)))
