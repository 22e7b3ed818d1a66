"""Rates, shares of the peaks and bounds of anything that launches add up to: a kernel, an operator, a module, the model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.metrics.attribution import MODELLED, counted
from analyzer.metrics.counters.sums import RUN_BYTES, SUMMED, WEIGHTED, memory_us, sum_counters
from analyzer.metrics.limits import Limits
from analyzer.metrics.memory import name_bounds
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Rooflines
from analyzer.trace.scopes import module_pattern

GROUP_COLUMNS = (
    "name", "kind", "calls", "time_us", "share_pct", "modelled_pct", "flop", "bytes_compulsory", "bytes_compulsory_high",
    "tflops", "gbps", "flop_per_byte", "peak_pct", "dram_pct_of_peak", "floor_us", "floor_pct", "bound", "evidence",
    "bytes_dram_counter", "bytes_l2_sm_counter", "l2_hit_pct", "l1_hit_pct", "occupancy_achieved_pct", "tensor_active_pct",
    "flop_tensor_counter",
)  # fmt: skip
"""Columns of a roofline table. ``flop`` and ``bytes_*`` are totals; rates and shares are of the time that has a work model.
Where DRAM bytes were counted, ``gbps`` and ``dram_pct_of_peak`` are those over the whole time.
``kind`` and ``bound`` are those of most of the time; ``floor_pct`` is empty above 100 (a cache, a low ceiling)."""

SUMS = ("flop", "bytes_compulsory", "bytes_high", "floor_us", "floor_compute_us", "floor_memory_us")
"""What adds up over launches, and stays unknown where it is unknown for all of them."""


def add_rates(rows: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Return ``rows`` with ``gbps, dram_pct_of_peak, tflops, peak_pct, flop_per_byte, from_cache``.

    Columns read: ``time_us`` (of what has a model), ``flop, bytes_compulsory`` and the three floors, all sums. ``peak_pct`` is
    of the peaks of the units and number formats that really ran, weighted by work; what a Winograd kernel saves is taken off.
    ``dram_pct_of_peak`` is empty where the bytes must have come from a cache (``from_cache``).
    """
    time = rows["time_us"].where(rows["time_us"] > 0)
    gbps, tflops = rows["bytes_compulsory"] / time / 1e3, rows["flop"] / time / 1e6
    roof = limits.bandwidth.value if limits.bandwidth else np.nan
    from_cache = gbps > roof
    return rows.assign(
        gbps=gbps,
        dram_pct_of_peak=(100 * gbps / roof).where(~from_cache),
        from_cache=from_cache,
        tflops=tflops,
        peak_pct=(100 * rows["floor_compute_us"] / time).where(rows["flop"] > 0),
        flop_per_byte=rows["flop"] / rows["bytes_compulsory"].where(rows["bytes_compulsory"] > 0),
    )


def outrank(rates: pd.DataFrame, sums: pd.DataFrame, time_us: pd.Series[float], limits: Limits) -> pd.DataFrame:
    """Return ``rates`` (of ``add_rates``) with ``gbps`` and ``dram_pct_of_peak`` from counted DRAM bytes where there are some.

    ``sums``: the counters of the same rows; ``time_us``: their whole time. What came from DRAM is known there, so nothing is
    said to come from a cache. Columns added: ``dram_counted`` and the counters.
    """
    time = time_us.where(time_us > 0)
    gbps = sums[RUN_BYTES] / time / 1e3
    told = gbps.notna()
    roof = limits.bandwidth.value if limits.bandwidth else np.nan
    return rates.assign(
        gbps=gbps.where(told, rates["gbps"]),
        dram_pct_of_peak=(100 * gbps / roof).where(told, rates["dram_pct_of_peak"]),
        from_cache=rates["from_cache"] & ~told,
        dram_counted=told,
        **{name: sums[name] for name in (*SUMMED, *WEIGHTED) if name != RUN_BYTES},
    )


def rooflines(launches: pd.DataFrame, limits: Limits) -> Rooflines:
    """Return the roofline per operator, per module and of the whole model, each with GROUP_COLUMNS, longest first.

    A launch counts for the operator that has its work: the bias copy inside ``addmm`` for ``addmm``.
    """
    rows = launches[launches["category"].isin(("kernel", "operator"))]
    alone = rows.assign(time_us=rows["dur_ns"] / 1e3, calls=1, counted_memory_us=memory_us(rows, limits))
    rows = rows.assign(bound=name_bounds(alone, on_gpu=limits.device.type == "cuda"))
    patterns = {name: module_pattern(name) for name in rows["module"].unique()}
    return Rooflines(
        operators=_grouped(rows, rows["owner_op"], limits),
        modules=_grouped(rows, rows["module"].map(patterns), limits),
        model=_grouped(rows, pd.Series("model", index=rows.index), limits),
        unmodelled=_unmodelled(rows),
    )


def _unmodelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the time of ``rows`` without a work model by operator, kind and reason."""
    lacking = rows[rows["unmodelled"].ne("")]
    groups = lacking.groupby(["op", "kind", "unmodelled"], sort=False)["dur_ns"].agg(["size", "sum"]).reset_index()
    groups = groups.sort_values("sum", ascending=False, kind="stable", ignore_index=True)
    total = max(float(rows["dur_ns"].sum()), 1.0)
    out = groups.rename(columns={"unmodelled": "why", "size": "calls"})
    return out.assign(time_us=out["sum"] / 1e3, share_pct=100 * out["sum"] / total).drop(columns="sum")


def _grouped(rows: pd.DataFrame, names: pd.Series[str], limits: Limits) -> pd.DataFrame:
    if rows.empty:
        return pd.DataFrame(columns=list(GROUP_COLUMNS))
    code, unique = pd.factorize(names)
    count = len(unique)
    time = rows["dur_ns"].to_numpy(np.float64) / 1e3
    modelled = rows["basis"].isin(MODELLED).to_numpy()
    known = counted(rows).to_numpy()
    out = pd.DataFrame(
        {
            "name": unique,
            "calls": np.bincount(code, minlength=count),
            "whole_us": np.bincount(code, time, count),
            "time_us": np.bincount(code, np.where(modelled, time, 0.0), count),
        }
    )
    for column in SUMS:
        values = rows[column].to_numpy(np.float64)
        there = known & ~np.isnan(values)
        sums = np.bincount(code[there], values[there], count)
        out[column] = np.where(np.bincount(code[there], minlength=count) > 0, sums, np.nan)
    for column in ("kind", "bound"):  # of which most of its time is
        word, words = pd.factorize(rows[column])
        pair, size = code * len(words) + word, count * len(words)
        times = np.where(np.bincount(pair, minlength=size) > 0, np.bincount(pair, time, size), -1.0)
        out[column] = np.asarray(words, object)[times.reshape(count, len(words)).argmax(axis=1)]
    out = outrank(add_rates(out, limits), sum_counters(rows, code, count), out["whole_us"], limits)
    total = out["whole_us"].sum()
    out = out.assign(
        share_pct=100 * out["whole_us"] / total if total > 0 else 0.0,
        modelled_pct=100 * out["time_us"] / out["whole_us"].where(out["whole_us"] > 0),
        floor_pct=(100 * out["floor_us"] / out["time_us"].where(out["time_us"] > 0)).where(lambda share: share <= 100),
        bytes_compulsory_high=out["bytes_high"],
        evidence=np.where(out["flop"].notna(), Evidence.MODELLED.value, Evidence.MEASURED.value),
    )
    out = out.drop(columns="time_us").rename(columns={"whole_us": "time_us"})
    return out.sort_values("time_us", ascending=False, kind="stable", ignore_index=True)[list(GROUP_COLUMNS)]
