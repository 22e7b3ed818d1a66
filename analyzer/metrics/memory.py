"""Floors and rooflines: what a launch had to take at least, and what limits it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analyzer.hardware.spec import DeviceLimits
from analyzer.metrics.attribution import MODELLED
from analyzer.schema.tables import records

MATRIX_KINDS = ("matmul", "convolution", "attention")
NAMED_BOUND_SHARE = 1 / 3
"""A floor below this share of the time does not name the bound: something else limits the launch."""


def add_floors(launches: pd.DataFrame, limits: Callable[..., DeviceLimits]) -> pd.DataFrame:
    """Return ``launches`` with ``floor_compute_us``, ``floor_memory_us`` and ``floor_us``, the larger of the two.

    FLOP / peak and compulsory bytes / bandwidth, in microseconds, with the limits of the launch's element type. Depthwise
    convolutions, norms and pointwise operators are held against the vector peak where the datasheet has one, since they do
    not use matrix units.
    Approximation: where there is no vector peak, the matrix peak stands in for it, which makes their compute floor too low.
    Empty where the work or the limits are not known.
    """
    compute, memory = [], []
    for row in records(launches, "dtype", "kind", "flop", "bytes_compulsory", "basis"):
        found = limits(row.dtype or "float32", row.kind)
        peak = found.matrix if row.kind in MATRIX_KINDS else found.vector or found.matrix
        known = row.basis in MODELLED and peak is not None and found.bandwidth is not None
        compute.append(row.flop / peak.value / 1e6 if known and peak else np.nan)
        memory.append(row.bytes_compulsory / found.bandwidth.value / 1e3 if known and found.bandwidth else np.nan)
    by_compute, by_memory = np.array(compute, np.float64), np.array(memory, np.float64)
    return launches.assign(floor_compute_us=by_compute, floor_memory_us=by_memory, floor_us=np.maximum(by_compute, by_memory))


def name_bounds(kernels: pd.DataFrame) -> list[str]:
    """Return ``compute`` or ``memory``, whichever floor is higher; ``neither`` where it explains less than a third of the time.

    Columns read: ``floor_compute_us, floor_memory_us, floor_us, time_us``. Empty where there is no floor.
    """
    out = []
    for row in records(kernels, "floor_compute_us", "floor_memory_us", "floor_us", "time_us"):
        if not row.floor_us > 0:
            out.append("")
        elif row.floor_us < NAMED_BOUND_SHARE * row.time_us:
            out.append("neither")
        else:
            out.append("compute" if row.floor_compute_us >= row.floor_memory_us else "memory")
    return out
