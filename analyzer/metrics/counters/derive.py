"""From metrics as Nsight Compute names them to the quantities of COUNTED, in their units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.hardware.counters import Candidate, metric_set, names_of
from analyzer.schema.counters import COUNTED

Floats = npt.NDArray[np.float64]

HIT_TOLERANCE_PCT = 102.0
"""L2 hits over lookups may exceed 100 %, as they come from two passes; what is above this is told."""
PERCENT_TOLERANCE = 0.5
"""A share may be this far above 100 % by rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """``values``: a row per row of the metrics, the columns of COUNTED. ``used``: the metrics that made each quantity.

    ``l2_hits``: the L2 hit rate before it was cut at 100 %.
    """

    values: pd.DataFrame
    used: dict[str, tuple[Candidate, ...]]
    l2_hits: Floats


def derive(metrics: pd.DataFrame, capability: str) -> Derived:
    """Return the quantities of COUNTED for each row of ``metrics``, whose columns are metrics in base units, NaN without.

    The first candidate of ``hardware/ncu_metrics.yaml`` that a row has the metrics of makes its quantity. ``capability`` tells
    which candidates hold; of an unknown one only those that hold everywhere are used.

    The hit rate of the L2 is cut at 100 %: hits and lookups are read in different passes on every chip (NVPW's schedule).
    """
    known = metric_set(capability)
    split = known is None or known.split_l2
    columns, used = {}, {}
    for quantity in COUNTED.names:
        columns[quantity], used[quantity] = _quantity(metrics, names_of(quantity), split=split)
    hits = columns["l2_hit_pct"]
    columns["l2_hit_pct"] = np.minimum(hits, 100.0)
    return Derived(pd.DataFrame(columns, index=metrics.index), used, hits)


def impossible(values: pd.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    """Tell which figures of a column of COUNTED nothing can have: negative ones, and shares of more than 100 %."""
    found = values[name].to_numpy(np.float64)
    above = found > 100 + PERCENT_TOLERANCE if name.endswith("_pct") else np.zeros(len(found), bool)
    return (found < 0) | above


def _quantity(metrics: pd.DataFrame, candidates: tuple[Candidate, ...], *, split: bool) -> tuple[Floats, tuple[Candidate, ...]]:
    """Return a quantity per row, and the candidates that filled at least one."""
    out, used = np.full(len(metrics), np.nan), []
    for candidate in candidates:
        if split and candidate.not_split:
            continue
        found = np.where(np.isnan(out), _value(metrics, candidate), np.nan)
        if np.isfinite(found).any():
            used.append(candidate)
            out = np.where(np.isnan(out), found, out)
    return out, tuple(used)


def _value(metrics: pd.DataFrame, candidate: Candidate) -> Floats:
    """Return what a candidate gives per row; NaN where one of its metrics is missing, or a divisor is 0."""
    if candidate.any:
        there = [name for name in candidate.any if name in metrics]
        total = metrics[there].sum(axis=1, min_count=1).to_numpy(np.float64)
    else:
        total = _sum(metrics, candidate.sum)
    if candidate.over:
        over = _sum(metrics, candidate.over)
        total = np.divide(total, over, out=np.full(len(total), np.nan), where=over > 0)
    found: Floats = total * candidate.times
    return np.where(np.isfinite(found), found, np.nan)


def _sum(metrics: pd.DataFrame, names: tuple[str, ...]) -> Floats:
    total = np.zeros(len(metrics))
    for name in names:
        if name not in metrics:
            return np.full(len(metrics), np.nan)
        total = total + metrics[name].to_numpy(np.float64)
    return total
