"""Hardware counters of kernels: the columns that launches get from them, and what a report may say of where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analyzer.schema.evidence import Evidence
from analyzer.schema.tables import Column, Table

if TYPE_CHECKING:
    import pandas as pd

REFUSED_BELOW_PCT = 95.0
"""Counters that match less of the kernel time than this are not merged into a trace."""

_M = Evidence.MEASURED

COUNTED = Table(
    "counted",
    (
        Column("bytes_dram_counter", "float", "bytes", _M, "bytes that crossed DRAM, reads plus writes, as counted"),
        Column("bytes_dram_read_counter", "float", "bytes", _M, "bytes read from DRAM, as counted"),
        Column("bytes_dram_write_counter", "float", "bytes", _M, "bytes written to DRAM, as counted"),
        Column("bytes_l2_fill_counter", "float", "bytes", _M, "bytes filled into L2 from device memory, as counted"),
        Column("bytes_l2_sm_counter", "float", "bytes", _M, "bytes read from L2 by the multiprocessors, TMA included"),
        Column("bytes_sm_l2_counter", "float", "bytes", _M, "bytes written to L2, as counted"),
        Column("l2_hit_pct", "float", "%", _M, "sectors found in L2 over sectors looked up; hits and lookups of two passes"),
        Column("l1_hit_pct", "float", "%", _M, "sectors found in L1 over sectors looked up; TMA traffic is not in it"),
        Column("occupancy_achieved_pct", "float", "%", _M, "warps resident per active cycle against the maximum"),
        Column("occupancy_ncu_pct", "float", "%", _M, "theoretical occupancy as Nsight Compute has it"),
        Column("tensor_active_pct", "float", "%", _M, "cycles with the tensor pipe active, of the cycles that the SM was"),
        Column("flop_tensor_counter", "float", "FLOP", _M, "operations of the tensor cores, padding included"),
        Column("counter_us", "float", "us", _M, "duration while counters were read; no time of a report comes from it"),
        Column("counter_clock_mhz", "float", "MHz", _M, "multiprocessor clock while counters were read"),
    ),
)
"""What counters add to a launch, per launch. NaN where not counted. Launches that were not matched have none."""


@dataclass(frozen=True, slots=True, eq=False)
class CounterView:
    """Where the counters of a run came from and how far they could be used.

    ``kind``: ``ncu`` (a pass of our own), ``import`` (a file of somebody else) or ``ranges`` (events of an old trace).
    ``tool``: the program that counted, empty where the file does not tell. ``mode``: ``warm`` (caches as the kernel before left
    them), ``cold`` (flushed before each kernel), empty where nothing tells. ``rows`` counted launches, of which ``used`` were
    matched to one of the trace; ``matched_pct`` of the kernel time has counters. ``matching`` says in words how. ``refused``:
    why nothing was merged, empty where it was. ``missing``: (quantity, why) of what the file does not have. ``table``: a row
    per kernel, grid and block as counted: ``kernel, grid, block, op, calls`` and COUNTED, means per launch; ``op`` is empty
    where not known.
    """

    source: str
    kind: str
    tool: str
    mode: str
    rows: int
    used: int
    matched_pct: float
    matching: str
    table: pd.DataFrame
    refused: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())
