"""Counters that the analyzer adds: rates that follow from the launches, the allocator's memory, and telemetry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.telemetry import HELD_DOWN
from analyzer.report.perfetto.events import Text, Track, Tracks, figure
from analyzer.report.perfetto.tracks import Stretches, stretches
from analyzer.schema.results import Analysis

RATES = (
    ("DRAM traffic at least (0: idle or not known)", "GB/s", "dram_gbps"),
    ("arithmetic (0: idle or not known)", "TFLOP/s", "tflops"),
)
MEMORY = "memory of the allocator"
MEMORY_CHANGES = "memory of the allocator, from 0 when the recording began"
TELEMETRY = "telemetry"
SAMPLES = (
    ("power", "W", "power_instant_w", 1.0), ("power, average", "W", "power_average_w", 1.0),
    ("SM clock", "MHz", "sm_clock_mhz", 1.0), ("memory clock", "MHz", "memory_clock_mhz", 1.0),
    ("GPU temperature", "°C", "temperature_c", 1.0), ("GPU memory in use", "MiB", "gpu_memory_bytes", 2.0**20),
    ("GPU busy", "%", "gpu_util_pct", 1.0), ("PCIe from the GPU", "KB/s", "pcie_tx_kbps", 1.0),
    ("PCIe to the GPU", "KB/s", "pcie_rx_kbps", 1.0), ("GPM: multiprocessors busy", "%", "gpm_sm_util_pct", 1.0),
    ("GPM: warps resident", "%", "gpm_sm_occupancy_pct", 1.0), ("GPM: tensor pipes", "%", "gpm_tensor_pct", 1.0),
    ("GPM: DRAM bandwidth", "%", "gpm_dram_pct", 1.0), ("GPM: FP32 pipes", "%", "gpm_fp32_pct", 1.0),
    ("GPM: FP16 pipes", "%", "gpm_fp16_pct", 1.0), ("CPU of the run (100 % is one core)", "%", "cpu_pct", 1.0),
    ("CPU clock", "MHz", "cpu_mhz", 1.0), ("resident memory of the run", "MiB", "rss_bytes", 2.0**20),
)  # fmt: skip
"""Telemetry that becomes a counter: its name, unit, column of samples.csv, and what a value is divided by."""

HELD = "clocks held down"
_NEAR_NS = 5 * 10**9
"""A sample further than this from the trace says nothing about it, and would stretch the time axis."""

_FAR = 1 << 62


def rate_counters(a: Analysis, tracks: Tracks, launches: pd.DataFrame) -> Iterator[Text]:
    """Yield DRAM traffic and arithmetic of each device over time: the sum of the rates of what runs.

    The traffic is compulsory bytes over time (counted DRAM bytes where there are some), so it is a lower bound; it is left out
    where the bytes must have come from a cache. ``launches`` as of ``findings.describe``.
    """
    for found in stretches(a):
        for name, unit, column in RATES:
            values = np.nan_to_num(launches[column].to_numpy(np.float64)[found.rows], posinf=0.0, neginf=0.0)
            if values.any():
                track = tracks.process(found.device)
                for time, value in zip(*_sweep(found, values), strict=True):
                    yield track.counter(name, time, {unit: value})


def _sweep(found: Stretches, values: npt.NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """Return the moments at which the sum of ``values`` over the running stretches changes, and the sum from then on."""
    there = np.flatnonzero((values != 0) & (found.end_ns > found.start_ns))
    time = np.concatenate([found.start_ns[there], found.end_ns[there]])
    change = np.concatenate([values[there], -values[there]])
    running = np.concatenate([np.ones(len(there), np.int64), -np.ones(len(there), np.int64)])
    moments, place = np.unique(time, return_inverse=True)
    level = np.cumsum(np.bincount(place, change, len(moments)))
    # sums of doubles do not come back to 0 by themselves
    level[np.cumsum(np.bincount(place, running, len(moments))) < 0.5] = 0.0
    return moments.tolist(), np.round(np.maximum(level, 0.0), 3).tolist()


def memory_counters(a: Analysis, tracks: Tracks) -> Iterator[Text]:
    """Yield what the allocator of each device had handed out and reserved, in MiB, where the trace has its events."""
    for profile in a.memory:
        name = MEMORY if profile.is_absolute else MEMORY_CHANGES
        track = tracks.process(profile.device)
        times = profile.curve["time_ns"].tolist()
        held, reserved = ((profile.curve[c] / 2.0**20).tolist() for c in ("allocated_bytes", "reserved_bytes"))
        for time, one, other in zip(times, held, reserved, strict=True):
            yield track.counter(name, time, {"allocated, MiB": figure(one), "reserved, MiB": figure(other)})


def telemetry_counters(a: Analysis, tracks: Tracks) -> Iterator[Text]:
    """Yield the telemetry of the traced window with one sample on either side, on the trace's clock."""
    rows = samples_of(a)
    if rows.empty:
        return
    times = (rows["time_ns"] - a.base_unix_ns).tolist()
    track = tracks.process(TELEMETRY)
    for name, unit, column, scale in SAMPLES:
        for time, value in zip(times, rows[column].tolist(), strict=True):
            shown = figure(value / scale)
            if shown is not None:
                yield track.counter(name, time, {unit: shown})
    yield from _held_counters(rows, times, track)


def _held_counters(rows: pd.DataFrame, times: list[int], track: Track) -> Iterator[Text]:
    """Yield whether something held the clocks down (1) or not (0): each reason that occurs, or all in one where none does."""
    bits = rows["clock_event_reasons"]
    known = bits.dropna().astype("int64")
    occurring = {reason: bit for bit, reason in HELD_DOWN.items() if (known & bit).any()} or {"any reason": sum(HELD_DOWN)}
    for time, value in zip(times, bits.tolist(), strict=True):
        if figure(value) is not None:
            yield track.counter(HELD, time, {reason: int(bool(int(value) & bit)) for reason, bit in occurring.items()})


def samples_of(a: Analysis) -> pd.DataFrame:
    """Return the samples that lie in the trace, and the last before and the first after it; empty where none is near it."""
    if a.samples.empty or not 0 <= a.base_unix_ns < _FAR or not len(a.launches):
        return a.samples.iloc[:0]
    start, end = window(a)
    rows = a.samples.sort_values("time_ns", kind="stable")
    time = rows["time_ns"].to_numpy(np.int64)
    first = max(int(np.searchsorted(time, start + a.base_unix_ns, "left")) - 1, 0)
    last = int(np.searchsorted(time, end + a.base_unix_ns, "right")) + 1
    near = (time >= start + a.base_unix_ns - _NEAR_NS) & (time <= end + a.base_unix_ns + _NEAR_NS)
    near[:first] = near[last:] = False
    return rows[near]


def window(a: Analysis) -> tuple[int, int]:
    """Return the start and end of what was analysed, from the first launch or step to the last, in ns of the trace's clock."""
    starts, ends = [a.window.start_ns], [a.window.end_ns]
    if len(a.launches):
        rows = a.launches
        starts.append(int(rows["start_ns"].min()))
        ends.append(int((rows["start_ns"] + rows["dur_ns"]).max()))
    return min(starts), max(ends)
