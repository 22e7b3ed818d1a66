"""What section "counters" shows: by kind, operator or module what was counted, and what the models say of the same launches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.counters import has_counters
from analyzer.metrics.attribution import counted
from analyzer.schema.counters import COUNTED
from analyzer.schema.results import Analysis
from analyzer.trace.kinds import KINDS
from analyzer.trace.scopes import module_pattern

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
DRAM_ENDS, L2_ENDS = ("bytes_dram_low", "bytes_dram_high"), ("bytes_l2_read", "bytes_l2_read")
TENSOR_SEEN_PCT = 0.5
"""A tensor pipe below this is idle but for rounding."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Bytes per step (of the whole trace where it names no steps) of the launches that are both counted and modelled.

    ``low`` and ``high`` are the model's, equal where it has a single value. ``rest``: counted bytes of the other launches,
    those without a model or with work that another launch accounts for. NaN where there are none.
    """

    measured: float
    low: float
    high: float
    rest: float

    @property
    def known(self) -> bool:
        """Tell whether there is anything to compare."""
        return math.isfinite(self.measured) and math.isfinite(self.low)

    @property
    def whole(self) -> float:
        """Return all that was counted."""
        parts = [value for value in (self.measured, self.rest) if math.isfinite(value)]
        return sum(parts) if parts else math.nan


@dataclass(frozen=True, slots=True)
class Group:
    """One kind, operator or module of a run. Shares are of the run's kernel time, ``counted_pct`` of the group's own.

    ``compulsory_bytes`` are those of the launches that ``dram`` compares.
    Percentages are means weighted by time over the launches that have them; ``peak_pct`` is FLOP over time in % of the matrix
    peak, over launches on matrix units with a count of tensor activity.
    """

    run: int
    name: str
    kind: str
    time_us: float
    share_pct: float
    counted_pct: float
    compulsory_bytes: float
    dram: Compared
    l2: Compared
    l2_hit_pct: float
    l1_hit_pct: float
    theoretical_pct: float
    allowed_pct: float
    achieved_pct: float
    tensor_pct: float
    peak_pct: float


def by_kind(analyses: tuple[Analysis, ...]) -> tuple[Group, ...]:
    """Return a group per kind and run that has counters, kinds in their fixed order."""
    found = [g for run, a in enumerate(analyses) if has_counters(a) for g in _grouped(a, run, _kernels(a)["kind"])]
    return tuple(sorted(found, key=lambda g: (KINDS.index(g.kind) if g.kind in KINDS else len(KINDS), g.run)))


def by_operator(a: Analysis, run: int) -> tuple[Group, ...]:
    """Return a group per operator that has the work, longest first; those without one together."""
    rows = _kernels(a)
    return _grouped(a, run, rows["owner_op"].where(rows["owner_op"].ne(""), "no operator"))


def by_module(a: Analysis, run: int) -> tuple[Group, ...]:
    """Return a group per pattern of module paths, longest first; empty where the trace names no modules."""
    rows = _kernels(a)
    if not rows["module"].ne("").any():
        return ()
    patterns = {name: module_pattern(name) for name in rows["module"].unique()}
    return _grouped(a, run, rows["module"].map(patterns).where(rows["module"].ne(""), "no module"))


def whole(a: Analysis, run: int) -> Group:
    """Return all kernels of ``a`` as one group."""
    rows = _kernels(a)
    return _group(a, run, "all", rows, float(rows["dur_ns"].sum()))


def _kernels(a: Analysis) -> pd.DataFrame:
    return a.launches[a.launches["category"].eq("kernel")]


def _grouped(a: Analysis, run: int, names: pd.Series[str]) -> tuple[Group, ...]:
    rows = _kernels(a)
    total = float(rows["dur_ns"].sum())
    made = [_group(a, run, str(name), found, total) for name, found in rows.groupby(names, sort=False)]
    return tuple(sorted(made, key=lambda g: -g.time_us))


def _group(a: Analysis, run: int, name: str, rows: pd.DataFrame, total_ns: float) -> Group:
    steps = a.window.batches or 1
    time = rows["dur_ns"].to_numpy(np.float64)
    columns = [column for column in COUNTED.names if column in rows]
    there = rows[columns].notna().any(axis=1).to_numpy()
    kinds = rows.groupby("kind", sort=False)["dur_ns"].sum()
    dram = _compared(rows, "bytes_dram_counter", DRAM_ENDS, steps)
    pipes = rows["unit"].eq("matrix") & rows["tensor_active_pct"].notna() & rows["floor_compute_us"].gt(0)
    on_matrix = rows[pipes]
    spent = float(on_matrix["dur_ns"].sum()) / 1e3
    return Group(
        run=run,
        name=name,
        kind=str(kinds.idxmax()) if len(kinds) else "",
        time_us=float(time.sum()) / 1e3 / steps,
        share_pct=100 * float(time.sum()) / total_ns if total_ns > 0 else math.nan,
        counted_pct=100 * float(time[there].sum()) / float(time.sum()) if time.sum() > 0 else math.nan,
        compulsory_bytes=_compulsory(rows, steps),
        dram=dram,
        l2=_compared(rows, "bytes_l2_sm_counter", L2_ENDS, steps),
        l2_hit_pct=_mean(rows, "l2_hit_pct"),
        l1_hit_pct=_mean(rows, "l1_hit_pct"),
        theoretical_pct=_mean(rows, "occupancy_theoretical_pct"),
        allowed_pct=_mean(rows, "occupancy_pct"),
        achieved_pct=_mean(rows, "occupancy_achieved_pct"),
        tensor_pct=_mean(rows, "tensor_active_pct"),
        peak_pct=100 * float(on_matrix["floor_compute_us"].sum()) / spent if spent > 0 else math.nan,
    )


def _modelled(rows: pd.DataFrame, ends: tuple[str, str]) -> Bools:
    known = counted(rows) & rows["bytes_compulsory"].notna()
    for end in ends:
        known &= rows[end].notna()
    return known.to_numpy(bool)


def _compared(rows: pd.DataFrame, column: str, ends: tuple[str, str], steps: int) -> Compared:
    values = rows[column].to_numpy(np.float64)
    there, told = ~np.isnan(values), _modelled(rows, ends)
    both = there & told
    low, high = (_sum(rows[end].to_numpy(np.float64)[both], steps) for end in ends)
    return Compared(_sum(values[both], steps), low, high, _sum(values[there & ~told], steps))


def _compulsory(rows: pd.DataFrame, steps: int) -> float:
    """Return the compulsory bytes of the launches that have both a DRAM count and a model."""
    both = rows["bytes_dram_counter"].notna().to_numpy(bool) & _modelled(rows, DRAM_ENDS)
    return _sum(rows["bytes_compulsory"].to_numpy(np.float64)[both], steps)


def _sum(values: Floats, steps: int) -> float:
    return float(values.sum()) / steps if len(values) else math.nan


def _mean(rows: pd.DataFrame, column: str) -> float:
    """Return the mean weighted by time over the launches that have ``column``, NaN where none has."""
    values, time = rows[column].to_numpy(np.float64), rows["dur_ns"].to_numpy(np.float64)
    there = ~np.isnan(values) & (time > 0)
    return float((values[there] * time[there]).sum() / time[there].sum()) if there.any() else math.nan
