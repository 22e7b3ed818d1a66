"""The header of what ``ncu --csv`` prints: which column is what, in either form, whatever their order."""

from __future__ import annotations

import re
from dataclasses import dataclass

_METRIC = re.compile(r"[a-z][a-z0-9_]{0,100}__[A-Za-z0-9_.:]{1,200}", re.ASCII)
_UNIT_BEHIND = re.compile(r"(\S.*?)\s*\[([^\]]{0,40})\]")
_ROLES = {
    "id": "id",
    "process id": "process",
    "process": "process",
    "kernel name": "kernel",
    "demangled name": "kernel",
    "function name": "kernel",
    "device": "device",
    "device name": "device",
    "cc": "capability",
    "block size": "block",
    "grid size": "grid",
    "metric name": "metric",
    "metric unit": "unit",
    "metric value": "value",
}
MAX_METRICS = 4096

LABELS = {
    "Duration": "gpu__time_duration.sum",
    "Achieved Occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "Theoretical Occupancy": "sm__maximum_warps_per_active_cycle_pct",
    "L2 Hit Rate": "lts__t_sector_hit_rate.pct",
    "L1/TEX Hit Rate": "l1tex__t_sector_hit_rate.pct",
    "Registers Per Thread": "launch__registers_per_thread",
    "Static Shared Memory Per Block": "launch__shared_mem_per_block_static",
    "Dynamic Shared Memory Per Block": "launch__shared_mem_per_block_dynamic",
    "Driver Shared Memory Per Block": "launch__shared_mem_per_block_driver",
    "Waves Per SM": "launch__waves_per_multiprocessor",
    "Block Limit SM": "launch__occupancy_limit_blocks",
    "Block Limit Registers": "launch__occupancy_limit_registers",
    "Block Limit Shared Mem": "launch__occupancy_limit_shared_mem",
    "Block Limit Warps": "launch__occupancy_limit_warps",
}
"""What the page of details calls a metric, where both mean the same. From the section files of Nsight Compute 2020 to 2025."""


@dataclass(frozen=True, slots=True)
class Header:
    """Where what stands in a line.

    ``columns``: the position of ``id``, ``process``, ``kernel``, ``device``, ``capability``, ``grid``, ``block`` and, in the
    long form (a line per metric), ``metric``, ``unit`` and ``value``; those that there are. ``metrics``: (position, name,
    unit, None if the header does not tell it) of the wide form. ``width``: how many fields a line has.
    """

    columns: dict[str, int]
    metrics: tuple[tuple[int, str, str | None], ...]
    width: int

    @property
    def is_long(self) -> bool:
        """Tell whether each line holds one metric."""
        return "metric" in self.columns and "value" in self.columns


def read_header(fields: list[str]) -> Header | None:
    """Return what the fields of a line name, None where the line is no header."""
    columns: dict[str, int] = {}
    metrics: dict[str, tuple[int, str, str | None]] = {}
    for at, field in enumerate(fields):
        name, unit = field.strip(), None
        if found := _UNIT_BEHIND.fullmatch(name):
            name, unit = found[1], found[2]
        if role := _ROLES.get(name.lower()):
            if role != "kernel" or role not in columns or name.lower() != "function name":
                columns[role] = at
        elif metric_name(name) and len(metrics) < MAX_METRICS:
            metrics.setdefault(name, (at, name, unit))
    return Header(columns, tuple(metrics.values()), len(fields)) if "kernel" in columns else None


def metric_name(text: str) -> str:
    """Return the metric that a header or a page of details means by ``text``, nothing where it means none.

    Properties of the device (``device__...``) are the same on every line, and none.
    """
    if text in LABELS:
        return LABELS[text]
    return text if _METRIC.fullmatch(text) and not text.startswith("device__") else ""
