"""The rows of ``kernels.csv``: launches grouped by kernel, operator, shape and launch shape."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.metrics.attribution import counted
from analyzer.metrics.counters.sums import memory_us, sum_counters
from analyzer.metrics.limits import Limits
from analyzer.metrics.memory import name_bounds
from analyzer.metrics.roofline import SUMS, add_rates, outrank
from analyzer.schema.evidence import Evidence
from analyzer.trace.scopes import module_pattern

KEY = ["kernel", "kind", "role", "op", "shapes", "dtype", "grid", "block", "registers", "shared_bytes"]

COLUMNS = (
    "run", "kernel", "kind", "role", "op", "module", "shapes", "dtype", "calls", "time_us", "share_pct", "mean_us", "grid",
    "block", "registers", "shared_bytes", "occupancy_theoretical_pct", "occupancy_pct", "occupancy_kineto_pct",
    "occupancy_limit", "waves", "tail_efficiency_pct", "flop", "bytes_compulsory", "bytes_l2_sm", "bytes_dram_low",
    "bytes_dram_high", "bytes_dram_counter", "reuse_factor", "footprint_bytes", "reuse_distance_median_bytes",
    "geometry_confidence", "l2_hit_pct", "occupancy_achieved_pct", "tensor_active_pct", "dram_gbps", "dram_pct_of_peak",
    "tflops", "flop_per_byte", "bound", "evidence",
)  # fmt: skip
"""The columns of kernels.csv, in order; those that need the access model or counters are empty until they are there."""

EXTRA = (
    "floor_us", "basis", "unmodelled", "from_cache", "unit", "number_format", "unit_assumed", "saving", "peak_pct",
    "bytes_high", "dram_counted", "bytes_l2_read", "bytes_dram_read_counter", "bytes_dram_write_counter",
    "bytes_l2_fill_counter", "bytes_l2_sm_counter", "bytes_sm_l2_counter", "l1_hit_pct", "flop_tensor_counter",
)  # fmt: skip
"""Further columns, for the page and for counted.csv."""

_FIRST = (
    "basis", "unmodelled", "blocks_per_sm", "unit", "number_format", "unit_assumed", "saving", "occupancy_theoretical_pct",
    "occupancy_pct", "occupancy_kineto_pct", "occupancy_limit", "waves", "tail_efficiency_pct",
)  # fmt: skip
"""What all launches of a row have in common."""


MOVED = ("bytes_l2_sm", "bytes_l2_read", "bytes_dram_low", "bytes_dram_high")
LOCALITY = ("reuse_factor", "footprint_bytes", "reuse_distance_median_bytes", "geometry_confidence")
"""What the access model adds to launches, handed over as columns: sums, and what all launches of a row have in common."""


def group_kernels(launches: pd.DataFrame, run: str, limits: Limits) -> pd.DataFrame:
    """Return the rows of ``kernels.csv``, longest first, with the columns of EXTRA beside them.

    ``flop`` and ``bytes_*`` are totals over the calls.
    ``dram_gbps`` is counted bytes over time where they were counted (``dram_counted``). Else it is compulsory bytes over time,
    so it is modelled and a lower bound of the real throughput.
    """
    rows = launches[launches["category"].isin(("kernel", "operator"))]
    time = rows["dur_ns"] / 1e3
    frame = rows.assign(calls=1, time_us=time)
    for column in ("flop", "bytes_compulsory", "bytes_high"):
        frame[column] = frame[column].where(counted(rows))
    grouped = frame.groupby(KEY, dropna=False, sort=False)
    parts = [
        grouped[[*SUMS, *MOVED]].sum(min_count=1),
        grouped[["calls", "time_us"]].sum(),
        grouped[[*_FIRST, *LOCALITY]].first(),
    ]
    number = grouped.ngroup().to_numpy()
    sums = sum_counters(rows, number, len(parts[0]))
    several = grouped["module"].nunique().to_numpy() > 1
    module = grouped["module"].first()
    if several.any():  # a pattern takes Python, and most rows have one module
        mixed = several[number]
        patterns = frame["module"][mixed].groupby(number[mixed]).agg(_module_pattern)
        module.iloc[patterns.index.to_numpy()] = patterns.to_numpy()
    summed = pd.concat([*parts, module], axis=1).reset_index()
    out = _rates(summed.assign(run=run), sums, limits)
    out = out.sort_values("time_us", ascending=False, kind="stable", ignore_index=True)
    for column in COLUMNS:
        if column not in out:
            out[column] = np.nan
    return out[[*COLUMNS, *EXTRA]]


def _module_pattern(modules: pd.Series[str]) -> str:
    """Return the pattern of the modules of a group of launches: ``blocks.*.attn.qkv``."""
    patterns = sorted({module_pattern(name) for name in set(modules)})
    return ", ".join(patterns[:3]) + (f" and {len(patterns) - 3} more" if len(patterns) > 3 else "")


def _rates(frame: pd.DataFrame, sums: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    total = frame["time_us"].sum()
    bounds = name_bounds(frame.assign(counted_memory_us=memory_us(sums, limits)), on_gpu=limits.device.type == "cuda")
    out = outrank(add_rates(frame.assign(bound=bounds), limits), sums, frame["time_us"], limits)
    modelled = (out["basis"] == "formula") | out["bytes_l2_sm"].notna()
    return out.assign(
        share_pct=100 * out["time_us"] / total if total > 0 else 0.0,
        mean_us=out["time_us"] / out["calls"],
        # more than memory can deliver by formula: the bytes came from a cache, so this is no DRAM throughput
        dram_gbps=out["gbps"].where(~out["from_cache"]),
        evidence=np.where(modelled, Evidence.MODELLED.value, Evidence.MEASURED.value),
    )
