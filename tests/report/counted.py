"""Analyses with hardware counters made up for the tests: modelled figures times a factor. Nobody measured any of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.metrics.kernels import group_kernels
from analyzer.metrics.limits import limits_of
from analyzer.metrics.roofline import rooflines
from analyzer.schema.counters import COUNTED, CounterView
from analyzer.schema.results import Analysis, Study


def view(**changes: Any) -> CounterView:
    """Return a view on counters of our own pass, three groups of 24 launches."""
    known = CounterView(
        source="counters.csv", kind="ncu", tool="Nsight Compute 2025.3.1", mode="warm", rows=72, used=72, matched_pct=100.0,
        matching="name, grid and block", table=pd.DataFrame(columns=["kernel", "grid", "block", "op", "calls", *COUNTED.names]),
    )  # fmt: skip
    return replace(known, **changes)


def counted(a: Analysis, *, factor: float = 1.0, without: Iterable[str] = (), every: int = 1, **changes: Any) -> Analysis:
    """Return ``a`` with counters on every ``every``-th kernel: DRAM bytes ``factor`` times the middle of the model's band.

    ``without`` names columns of COUNTED that stay empty; ``changes`` are those of the view.
    """
    rows = a.launches.copy()
    on = (rows["category"] == "kernel").to_numpy() & (np.arange(len(rows)) % every == 0)
    middle = (rows["bytes_dram_low"] + rows["bytes_dram_high"]) / 2
    dram = factor * middle.fillna(1_000_000.0)
    matrix = rows["unit"].eq("matrix") & rows["flop"].gt(0)
    made = {
        "bytes_dram_counter": dram, "bytes_dram_read_counter": 0.75 * dram, "bytes_dram_write_counter": 0.25 * dram,
        "bytes_l2_fill_counter": 0.75 * dram, "bytes_l2_sm_counter": 1.02 * rows["bytes_l2_read"], "bytes_sm_l2_counter": 0.25 * dram,
        "l2_hit_pct": 60.0, "l1_hit_pct": 12.5, "occupancy_achieved_pct": 0.9 * rows["occupancy_pct"],
        "occupancy_ncu_pct": rows["occupancy_theoretical_pct"], "tensor_active_pct": np.where(matrix, 55.0, 0.0),
        "flop_tensor_counter": rows["flop"].where(matrix, 0.0), "counter_us": 1.1 * rows["dur_ns"] / 1e3,
        "counter_clock_mhz": 1755.0,
    }  # fmt: skip
    for name in COUNTED.names:
        rows[name] = np.nan if name in without else pd.Series(made[name], index=rows.index, dtype=float).where(on)
    found = view(**changes)
    if found.refused:
        rows[list(COUNTED.names)] = np.nan
    rows[RUN_BYTES] = np.nan if found.mode == "cold" else rows["bytes_dram_counter"]
    limits = limits_of(a.run, a.device)
    kernels = group_kernels(rows, a.run.name, limits)
    return replace(a, launches=rows, kernels=kernels, rooflines=rooflines(rows, limits), counters=found)


def counted_study(study: Study, **changes: Any) -> Study:
    """Return ``study`` with counters in every run; the verdict and the findings stay those without."""
    return replace(study, analyses=tuple(counted(a, **changes) for a in study.analyses))
