"""Tables that pass between the stages: their columns, units and evidence, and the check at each border."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyzer.schema.evidence import Evidence

_KINDS = {"int": "iu", "float": "fiu", "bool": "b"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``dtype`` is int, float, bool or text; ``meaning`` feeds the glossary and ``docs/files.md``."""

    name: str
    dtype: str
    unit: str
    evidence: Evidence
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table."""

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Return the column names in order."""
        return [column.name for column in self.columns]

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return ``frame`` with the declared columns in their order; extra columns stay behind them.

        Raises:
            TypeError: a column is missing or of another type; that is a fault of ours, not of the user.
        """
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise TypeError(f"table {self.name}: columns missing: {', '.join(missing)}")
        for column in self.columns:
            wanted = _KINDS.get(column.dtype)
            if wanted and len(frame) and frame[column.name].dtype.kind not in wanted:
                raise TypeError(f"table {self.name}: {column.name} is {frame[column.name].dtype}, not {column.dtype}")
        return frame[self.names + [name for name in frame.columns if name not in self.names]]

    def empty(self) -> pd.DataFrame:
        """Return the table without rows."""
        types = {"int": "int64", "float": "float64", "bool": "bool", "text": "object"}
        return pd.DataFrame({c.name: pd.Series(dtype=types[c.dtype]) for c in self.columns})


def records(frame: pd.DataFrame, *columns: str) -> Iterator[Any]:
    """Return the rows of ``frame`` as named tuples, of ``columns`` alone where given. Cells are untyped, as pandas has them."""
    return iter((frame[list(columns)] if columns else frame).itertuples(index=False))


_M, _D, _MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED

TIMINGS = Table(
    "timings",
    (
        Column("pass", "text", "", _M, "warmup, untraced or traced"),
        Column("repeat", "int", "", _M, "process that measured it; 0 is the process that also recorded the trace"),
        Column("iteration", "int", "", _M, "number of the iteration within its pass and process"),
        Column("start_unix_ns", "int", "ns", _M, "start, Unix time"),
        Column("latency_ms", "float", "ms", _M, "time of one batch, synchronised"),
    ),
)

SAMPLES = Table(
    "samples",
    (
        Column("time_ns", "int", "ns", _M, "Unix time of the sample"),
        Column("monotonic_ns", "int", "ns", _M, "monotonic clock of the sample"),
        Column("cpu_pct", "float", "%", _M, "processor time of the run, 100 % = one core"),
        Column("cpu_mhz", "float", "MHz", _M, "mean frequency of the cores"),
        Column("rss_bytes", "float", "bytes", _M, "resident memory of the run"),
        Column("voluntary_switches", "float", "", _M, "voluntary context switches since the start"),
        Column("involuntary_switches", "float", "", _M, "involuntary context switches since the start"),
        Column("sm_clock_mhz", "float", "MHz", _M, "multiprocessor clock"),
        Column("memory_clock_mhz", "float", "MHz", _M, "memory clock"),
        Column("clock_event_reasons", "float", "", _M, "NVML bit mask of what holds the clocks down"),
        Column("power_average_w", "float", "W", _M, "board power, the driver's average"),
        Column("power_instant_w", "float", "W", _M, "board power, instantaneous"),
        Column("energy_j", "float", "J", _M, "energy counter of the board"),
        Column("temperature_c", "float", "°C", _M, "GPU temperature"),
        Column("gpu_memory_bytes", "float", "bytes", _M, "device memory in use, all processes"),
        Column("gpu_util_pct", "float", "%", _M, "share of time with at least one kernel running (not occupancy)"),
        Column("memory_util_pct", "float", "%", _M, "share of time with memory traffic (not bandwidth)"),
        Column("pcie_tx_kbps", "float", "KB/s", _M, "PCIe, from the device"),
        Column("pcie_rx_kbps", "float", "KB/s", _M, "PCIe, to the device"),
        Column("gpm_sm_util_pct", "float", "%", _M, "GPM: multiprocessors busy"),
        Column("gpm_sm_occupancy_pct", "float", "%", _M, "GPM: warps resident against the maximum"),
        Column("gpm_tensor_pct", "float", "%", _M, "GPM: tensor pipes active"),
        Column("gpm_dram_pct", "float", "%", _M, "GPM: DRAM bandwidth in use against its peak"),
        Column("gpm_fp32_pct", "float", "%", _M, "GPM: FP32 pipes active"),
        Column("gpm_fp16_pct", "float", "%", _M, "GPM: FP16 pipes active"),
    ),
)

_SPAN = (
    Column("name", "text", "", _M, "name exactly as in the trace"),
    Column("start_ns", "int", "ns", _M, "start, relative to the trace's clock base"),
    Column("end_ns", "int", "ns", _M, "end"),
    Column("thread", "int", "", _M, "number of the thread (process and thread id), or of the device's stream"),
)

_SHAPE = (
    Column("grid", "text", "", _M, "x,y,z"),
    Column("block", "text", "", _M, "x,y,z"),
    Column("registers", "float", "", _M, "registers per thread"),
    Column("shared_bytes", "float", "bytes", _M, "shared memory per block, static and dynamic"),
    Column("occupancy_kineto_pct", "float", "%", _M, "Kineto's own figure; 0 for every kernel above 48 KiB"),
    Column("copy_bytes", "float", "bytes", _M, "bytes of a memcpy or memset"),
)

# of stack_frames the name is trimmed, see analyzer.trace.frames.trim
SPANS = Table("spans", _SPAN)

DEVICE_EVENTS = Table(
    "device_events",
    (
        *_SPAN,
        Column("category", "text", "", _M, "kernel, memcpy or memset"),
        Column("device", "int", "", _M, "device number"),
        Column("stream", "int", "", _M, "stream"),
        Column("correlation", "int", "", _M, "correlation id of the launch; -1 without"),
        Column("external_id", "int", "", _M, "External id that the profiler wrote; -1 without"),
        Column("graph_id", "int", "", _M, "CUDA graph that launched it; -1 without (Kineto before 2026 has none)"),
        Column("graph_node", "int", "", _M, "node in that graph; -1 without"),
        *_SHAPE,
    ),
)

OPERATORS = Table(
    "operators",
    (
        *_SPAN,
        Column("external_id", "int", "", _M, "External id; -1 without"),
        Column("sequence", "int", "", _M, "sequence number that forward and backward share; -1 without"),
        Column("forward_thread", "int", "", _M, "Fwd thread id of a backward operator; 0 or -1 in the forward"),
        Column("dims", "text", "", _M, "Input Dims, as JSON"),
        Column("types", "text", "", _M, "Input type, as JSON"),
        Column("strides", "text", "", _M, "Input Strides, as JSON"),
        Column("concrete", "text", "", _M, "Concrete Inputs, as JSON"),
        Column("stack", "text", "", _M, "call stack where the trace wrote one to it, innermost first, paths trimmed"),
    ),
)

CALLS = Table("calls", (*_SPAN, Column("correlation", "int", "", _M, "correlation id that a launch shares with its kernel")))

COUNTER_RANGES = Table("counter_ranges", _SPAN)

MEMORY_EVENTS = Table(
    "memory_events",
    (
        Column("time_ns", "int", "ns", _M, "when a block was allocated or freed, relative to the trace's clock base"),
        Column("thread", "int", "", _M, "number of the thread that did it"),
        Column("device_type", "int", "", _M, "PyTorch's number of the sort of device: 0 CPU, 1 CUDA, 6 HIP; -1 without"),
        Column("device", "int", "", _M, "device number; -1 without, as on a CPU"),
        Column("bytes", "int", "bytes", _M, "size of the block, negative where it was freed"),
        Column("address", "int", "", _M, "address of the block; -1 without (traces before 2022)"),
        Column("allocated_bytes", "float", "bytes", _M, "what the allocator had handed out afterwards; empty without"),
        Column("reserved_bytes", "float", "bytes", _M, "what the allocator had taken from the device; empty without"),
    ),
)

LAUNCHES = Table(
    "launches",
    (
        Column("index", "int", "", _M, "number of the launch in order of start"),
        Column("start_ns", "int", "ns", _M, "start, relative to the trace's clock base"),
        Column("dur_ns", "int", "ns", _M, "duration; on a CPU run the operator's own time without its children"),
        Column("device", "int", "", _M, "device number; -1 on a CPU run"),
        Column("stream", "int", "", _M, "CUDA stream; thread on a CPU run"),
        Column("correlation", "int", "", _M, "correlation id of the launch; -1 without"),
        Column("graph_id", "int", "", _M, "CUDA graph that launched it; -1 without"),
        Column("graph_node", "int", "", _M, "node in that graph; -1 without"),
        Column("category", "text", "", _M, "kernel, operator, memcpy or memset"),
        Column("kernel", "text", "", _M, "name exactly as in the trace"),
        Column("op_index", "int", "", _D, "row of the operator that launched it; -1 when not linked"),
        Column("op", "text", "", _D, "innermost operator"),
        Column("launch", "text", "", _M, "call of the runtime or driver that launched it; empty when not linked"),
        Column("launch_ns", "int", "ns", _M, "start of that call; -1 when not linked; the operator's own start on a CPU run"),
        Column("link", "text", "", _D, "how it is attributed: operator, external id, graph, aligned, call or none"),
        Column("module", "text", "", _D, "module path from our scopes, or the trace's nn.Module frames"),
        Column("step", "int", "", _D, "number of the traced step; -1 outside"),
        *_SHAPE,
    ),
)
