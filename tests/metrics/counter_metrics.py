"""Counter files and their match made by hand: a row per launch of the metrics that Nsight Compute has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analyzer.trace.counters import CounterFile, Joined

METRICS = {
    "gpu__time_duration.sum": 100_000.0,
    "sm__cycles_elapsed.avg.per_second": 1.5e9,
    "dram__bytes.sum": 1e6,
    "dram__bytes_read.sum": 7e5,
    "dram__bytes_write.sum": 3e5,
    "sm__warps_active.avg.pct_of_peak_sustained_active": 40.0,
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": 70.0,
    "l1tex__t_sectors.sum": 1000.0,
    "l1tex__t_sectors_lookup_hit.sum": 250.0,
    "lts__t_sectors.sum": 4000.0,
    "lts__t_sectors_lookup_hit.sum": 3000.0,
    "lts__t_sectors_op_read.sum": 900.0,
    "lts__t_sectors_op_write.sum": 500.0,
    "lts__d_sectors_fill_device.sum": 2000.0,
    "l1tex__m_xbar2l1tex_read_bytes.sum": 24_000.0,
    "sm__ops_path_tensor_src_bf16_dst_fp32.sum": 5e8,
    "sm__maximum_warps_per_active_cycle_pct": 50.0,
    "profiler__replayer_passes": 1.0,
}
"""What one launch has, in base units; nobody measured it."""


def counter_file(*launches: dict[str, Any], **changes: Any) -> CounterFile:
    """Return a file with a row per given launch: METRICS and what is given, a value of None taking a metric out."""
    rows = []
    for i, given in enumerate(launches):
        known = {"id": i, "process": "1", "device": "0", "kernel": "k", "grid": "132,1,1", "block": "256,1,1", "op": ""}
        rows.append(known | METRICS | given)
    names = tuple(name for name in dict.fromkeys(key for row in rows for key in row) if "__" in name)
    kept = tuple(name for name in names if any(row.get(name) is not None for row in rows))
    frame = pd.DataFrame(rows).drop(columns=[name for name in names if name not in kept])
    frame[list(kept)] = frame[list(kept)].astype(np.float64)
    found = CounterFile("counters.csv", "ncu", frame, kept, "Nsight Compute 2025.3.1", "warm", "9.0")
    return replace(found, **changes)


def matched(file: CounterFile, launches: pd.DataFrame, **changes: Any) -> Joined:
    """Return the match of the n-th row of ``file`` to the n-th kernel of ``launches``; more rows or kernels have no partner."""
    values = pd.DataFrame(np.nan, index=launches.index, columns=list(file.metrics))
    kernels = launches.index[launches["category"] == "kernel"][: len(file.rows)]
    values.loc[kernels, list(file.metrics)] = file.rows[list(file.metrics)].to_numpy()[: len(kernels)]
    return replace(Joined(values, len(kernels), 100.0, "name, grid and block"), **changes)
