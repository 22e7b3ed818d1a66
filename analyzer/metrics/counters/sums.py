"""Counters of groups of launches: a row of ``kernels.csv``, an operator, a module, the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.metrics.limits import Limits
from analyzer.schema.counters import REFUSED_BELOW_PCT

RUN_BYTES = "bytes_dram_run"
"""A column beside COUNTED: counted DRAM bytes that hold for the traced run. Empty where the caches were emptied before each
kernel while it was counted, as then other bytes were moved than in the trace."""

SUMMED = (
    "bytes_dram_counter", "bytes_dram_read_counter", "bytes_dram_write_counter", "bytes_l2_fill_counter",
    "bytes_l2_sm_counter", "bytes_sm_l2_counter", "flop_tensor_counter", RUN_BYTES,
)  # fmt: skip
WEIGHTED = ("l2_hit_pct", "l1_hit_pct", "occupancy_achieved_pct", "tensor_active_pct")


def sum_counters(launches: pd.DataFrame, code: npt.NDArray[np.integer[Any]], count: int) -> pd.DataFrame:
    """Return the counters of ``count`` groups; ``code`` is the group of each launch.

    Bytes and operations are sums over the calls, percentages are weighted by time. A group is empty where its counted launches
    have less than 95 % of its time; what is not counted of another is taken to be like the rest, in proportion to time.
    """
    time = launches["dur_ns"].to_numpy(np.float64)
    whole = np.bincount(code, time, count)
    out = {}
    for name in (*SUMMED, *WEIGHTED):
        values = launches[name].to_numpy(np.float64) if name in launches else np.full(len(launches), np.nan)
        there = ~np.isnan(values)
        mine = np.bincount(code[there], time[there], count)
        enough = (whole > 0) & (100 * mine >= REFUSED_BELOW_PCT * whole)
        weights = values[there] * time[there] if name in WEIGHTED else values[there]
        total = np.bincount(code[there], weights, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = total / mine if name in WEIGHTED else total * (whole / mine)
        out[name] = np.where(enough, found, np.nan)
    return pd.DataFrame(out)


def counted_excess_us(launches: pd.DataFrame, limits: Limits) -> npt.NDArray[np.float64]:
    """Return what the counted bytes add to the floor of each launch in µs, 0 or more; NaN where they were not counted.

    Both are needed, those through DRAM and, on a device whose L2 bandwidth is published, those from L2.
    The least time is the longest of arithmetic, counted DRAM bytes at the bandwidth used for floors and, where its bandwidth
    is published, bytes counted between L2 and multiprocessors. Columns read: RUN_BYTES, ``bytes_l2_sm_counter,
    bytes_sm_l2_counter, floor_compute_us, floor_us``.
    Approximation: where several launches do the work of one operator, each has a share of its floor by time, and its own
    counted bytes; what one moves more than its share is not set off against another.
    """
    dram = memory_us(launches, limits)
    if np.isnan(dram).all():
        return dram
    least = np.fmax(dram, launches["floor_compute_us"].to_numpy(np.float64))
    through_l2 = limits.sheet.l2_attainable_gbps if limits.sheet else None
    unknown = np.isnan(dram)
    if through_l2:
        # what L2 costs is not known from DRAM alone: there the modelled band stays
        read, written = (launches[name].to_numpy(np.float64) for name in ("bytes_l2_sm_counter", "bytes_sm_l2_counter"))
        unknown |= np.isnan(read)
        least = np.fmax(least, (read + np.nan_to_num(written)) / through_l2 / 1e3)
    found: npt.NDArray[np.float64] = np.maximum(least - launches["floor_us"].to_numpy(np.float64), 0.0)
    return np.where(unknown, np.nan, found)


def memory_us(rows: pd.DataFrame, limits: Limits) -> npt.NDArray[np.float64]:
    """Return the time in µs that the counted DRAM bytes of ``rows`` take at the bandwidth used for floors; NaN without."""
    if limits.bandwidth is None or RUN_BYTES not in rows:
        return np.full(len(rows), np.nan)
    size = rows[RUN_BYTES].to_numpy(np.float64)
    found: npt.NDArray[np.float64] = size / limits.bandwidth.value / 1e3
    return found
