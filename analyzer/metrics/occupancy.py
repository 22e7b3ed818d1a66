"""Occupancy from launch geometry: how many blocks fit on a multiprocessor, what stops them, how full the last wave is.

The calculator follows NVIDIA's ``cuda_occupancy.h``. Kineto calls the same header with the 48 KiB default limit on shared
memory, so it writes 0 for every kernel above it; ``mode="kineto"`` reproduces that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analyzer.hardware.capability import SmLimits, sm_limits
from analyzer.schema.run import AMD, NVIDIA, DeviceFacts

WARP = 32


@dataclass(frozen=True, slots=True)
class Residency:
    """What fits on one multiprocessor. ``limit`` names the scarcest resource."""

    blocks: int
    warps: int
    occupancy_pct: float
    limit: str


def _up(value: int, unit: int) -> int:
    return math.ceil(value / unit) * unit


def residency(
    limits: SmLimits, threads: int, registers: int, shared_bytes: int, mode: Literal["true", "kineto"] = "true"
) -> Residency:
    """Return the resident blocks per multiprocessor for a block of ``threads`` threads.

    ``registers`` per thread; ``shared_bytes`` per block, static and dynamic. Source: ``cuda_occupancy.h``.
    Approximation: the driver is taken to give shared memory the largest carve-out, so this is an upper bound.
    """
    warps = math.ceil(threads / WARP)
    by = {"warps": limits.max_warps_per_sm // warps, "blocks": limits.max_blocks_per_sm}
    if registers > 0:
        per_warp = _up(registers * WARP, limits.register_unit)
        if per_warp * _up(warps, limits.sub_partitions) > limits.registers_per_block:
            by["registers"] = 0
        else:
            per_part = limits.registers_per_sm // limits.sub_partitions // per_warp
            by["registers"] = per_part * limits.sub_partitions // warps
    optin = (limits.shared_default_kib if mode == "kineto" else limits.shared_optin_kib) * 1024
    if shared_bytes > 0:
        shared = _up(shared_bytes + limits.shared_reserved_bytes, limits.shared_unit_bytes)
        too_much = shared > _up(optin + limits.shared_reserved_bytes, limits.shared_unit_bytes)
        by["shared memory"] = 0 if too_much else limits.shared_per_sm_kib * 1024 // shared
    limit = min(by, key=lambda name: by[name])
    blocks = by[limit]
    return Residency(blocks, blocks * warps, 100.0 * blocks * warps / limits.max_warps_per_sm, limit)


def missing_occupancy(device: DeviceFacts) -> str:
    """Return why the occupancy of kernels on ``device`` is not known, where none is."""
    if device.type == "cpu":
        return "a CPU has no multiprocessors"
    if device.vendor == AMD:
        return (
            "AMD traces carry neither registers nor LDS use of a kernel, and its wavefronts of 64 follow other limits; "
            "rocprofv3 counters would tell"
        )
    if sm_limits(device.compute_capability) is None:
        return f"the limits of compute capability {device.compute_capability or '(not in the trace)'} are not known"
    return "no kernel of the trace has registers, shared memory and a launch shape that fit this device"


OCCUPANCY_COLUMNS = (
    "occupancy_theoretical_pct", "occupancy_pct", "occupancy_limit", "waves", "tail_efficiency_pct", "blocks_per_sm",
    "resident_blocks",
)  # fmt: skip


def add_occupancy(launches: pd.DataFrame, device: DeviceFacts) -> pd.DataFrame:
    """Return ``launches`` with the columns OCCUPANCY_COLUMNS; empty where registers or geometry are not in the trace.

    ``occupancy_pct`` caps the resident blocks by the grid, min(resident, grid / multiprocessors), as Kineto does;
    ``blocks_per_sm`` is grid / multiprocessors, known on AMD too; ``resident_blocks`` is how many fit on a multiprocessor.
    """
    columns: dict[str, list[float | str]] = {name: [] for name in OCCUPANCY_COLUMNS}
    limits = sm_limits(device.compute_capability) if device.vendor == NVIDIA else None
    cache: dict[tuple[str, str, float, float], tuple[float | str, ...]] = {}
    keys = zip(launches["grid"], launches["block"], launches["registers"], launches["shared_bytes"], strict=True)
    for key in keys:
        if key not in cache:
            cache[key] = _launch_occupancy(key, limits, device.sm_count)
        for name, value in zip(OCCUPANCY_COLUMNS, cache[key], strict=True):
            columns[name].append(value)
    return launches.assign(**columns)


def _launch_occupancy(
    key: tuple[str, str, float, float], limits: SmLimits | None, sm_count: int | None
) -> tuple[float | str, ...]:
    grid, block, registers, shared = key
    sides = [int(side) for side in grid.split(",")] if grid else [0]
    blocks = math.prod(sides) if min(sides) > 0 else 0
    per_sm = blocks / sm_count if sm_count and blocks > 0 else np.nan
    unknown = (np.nan, np.nan, "", np.nan, np.nan, per_sm, np.nan)
    if limits is None or not sm_count or blocks <= 0 or not block or math.isnan(registers):
        return unknown
    threads = math.prod(map(int, block.split(",")))
    if not 0 < threads <= 1024:
        return unknown
    fit = residency(limits, threads, int(registers), 0 if math.isnan(shared) else int(shared))
    if fit.blocks == 0:
        return unknown
    launched = min(fit.blocks, blocks / sm_count)
    waves = blocks / (fit.blocks * sm_count)
    occupancy = min(100.0 * launched * threads / limits.max_threads_per_sm, 100.0)
    return fit.occupancy_pct, occupancy, fit.limit, waves, 100.0 * waves / math.ceil(waves), per_sm, fit.blocks
