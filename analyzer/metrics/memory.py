"""Floors: what a launch had to take at least, by arithmetic and by memory, and what limits it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.metrics.attribution import MODELLED
from analyzer.metrics.limits import Limits

NAMED_BOUND_SHARE = 1 / 3
"""A floor below this share of the time does not name the bound: something else limits the launch."""
LATENCY_US = 5.0
"""A GPU kernel shorter than this is limited by starting and ending, where neither floor names its bound."""

BOUNDS = ("compute", "DRAM", "L2", "cache", "latency", "neither")
"""What may limit a launch. ``L2`` (``cache`` on a CPU): DRAM alone could not have been so fast."""


def add_floors(launches: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Return ``launches`` with ``floor_compute_us``, ``floor_memory_us`` and ``floor_us``, the larger of the two.

    FLOP / peak of the unit and number format in use, and compulsory bytes / DRAM bandwidth, in microseconds. What a Winograd
    kernel saves is taken off its FLOP; an FFT convolution has no compute floor. Columns read: ``flop, bytes_compulsory, basis,
    kind, unit, number_format, saving`` (of ``arithmetic.add_arithmetic``). Empty where the work or the limits are not known.
    Approximation: where bytes lie between two figures, the lower one makes the floor.
    """
    bandwidth = limits.bandwidth
    peaks: dict[tuple[str, str, bool], float] = {}
    columns = launches["unit"], launches["number_format"], launches["product"]
    rate = np.empty(len(launches))
    for i, key in enumerate(zip(*columns, strict=True)):
        if key not in peaks:
            roof = limits.peak(key[0], key[1], product=key[2])
            peaks[key] = roof.value if roof else np.nan
        rate[i] = peaks[key]
    known = launches["basis"].isin(MODELLED).to_numpy()
    flop = launches["flop"].to_numpy(np.float64) / launches["saving"].to_numpy(np.float64)
    by_compute = np.where(known, flop / rate / 1e6, np.nan)
    by_compute = np.where(known & (flop == 0), 0.0, by_compute)  # moving data alone needs no peak
    size = launches["bytes_compulsory"].to_numpy(np.float64)
    by_memory = np.where(known, size / bandwidth.value / 1e3, np.nan) if bandwidth else np.full(len(launches), np.nan)
    return launches.assign(floor_compute_us=by_compute, floor_memory_us=by_memory, floor_us=np.maximum(by_compute, by_memory))


def name_bounds(rows: pd.DataFrame, *, on_gpu: bool) -> npt.NDArray[np.object_]:
    """Return what limits each row, one of BOUNDS; empty where it has no floor.

    The higher floor names the limit if it is a third of the time at least. A memory floor above the time means that the bytes
    came from a cache. Below a third, a GPU kernel that is short or has fewer blocks than the GPU multiprocessors is limited by
    latency. Columns read: ``floor_compute_us, floor_memory_us, floor_us, time_us, calls, blocks_per_sm``, and where DRAM bytes
    were counted ``counted_memory_us``: it then stands for the memory floor, and ``L2`` names a limit only where the bytes of
    the formula would be near and those counted are not.
    """
    names = ("floor_compute_us", "floor_memory_us", "floor_us", "time_us", "calls", "blocks_per_sm")
    compute, memory, floor, time, calls, blocks = (rows[name].to_numpy(np.float64) for name in names)
    near = floor >= NAMED_BOUND_SHARE * time
    small = (time < LATENCY_US * calls) | (blocks < 1)
    cache = "L2" if on_gpu else "cache"
    dram = rows["counted_memory_us"].to_numpy(np.float64) if "counted_memory_us" in rows else np.full(len(rows), np.nan)
    told = ~np.isnan(dram)
    counted = told & (np.maximum(compute, dram) >= NAMED_BOUND_SHARE * time)
    named = np.select(
        [
            ~(floor > 0), counted & (compute >= dram), counted, told & near & (memory > compute),
            near & (compute >= memory), near & (memory > time), near, on_gpu & small,
        ],
        ["", "compute", "DRAM", cache, "compute", cache, "DRAM", "latency"],
        "neither",
    )  # fmt: skip
    return named.astype(object)
