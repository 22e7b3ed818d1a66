"""HolisticTraceAnalysis's whole report: all its standard breakdowns of one trace, without figures, written as CSV files."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"

import pandas as pd
from hta.trace_analysis import TraceAnalysis

ALL = 1_000_000


def walk_tables(result: Any, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tables in what an analysis returned: a table, a tuple of them or one per rank."""
    if isinstance(result, pd.DataFrame):
        yield name, result
    elif isinstance(result, (tuple, list, dict)):
        parts = result.items() if isinstance(result, dict) else enumerate(result)
        for key, part in parts:
            yield from walk_tables(part, f"{name}_{key}")


def main(trace: str) -> None:
    """Write the report of ``trace`` into a folder that goes away, and print the answer."""
    analysis = TraceAnalysis(trace_files={0: trace}, trace_dir=".", include_last_profiler_step=True)
    breakdowns: dict[str, Callable[[], Any]] = {
        "temporal": lambda: analysis.get_temporal_breakdown(visualize=False),
        "idle_time": lambda: analysis.get_idle_time_breakdown(visualize=False),
        "kernels": lambda: analysis.get_gpu_kernel_breakdown(visualize=False, num_kernels=ALL),
        "overlap": lambda: analysis.get_comm_comp_overlap(visualize=False),
        "queue_length": analysis.get_queue_length_summary,
        "memory_bandwidth": analysis.get_memory_bw_summary,
        "launches": lambda: analysis.get_cuda_kernel_launch_stats(visualize=False),
    }
    kernel_us = 0.0
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name, compute in breakdowns.items():
            try:
                tables = dict(walk_tables(compute(), name))
            except Exception as error:  # noqa: BLE001  (one broken breakdown does not spoil the others)
                failed.append(f"{name}: {type(error).__name__}: {error}"[:200])
                continue
            for part, table in tables.items():
                table.to_csv(Path(folder) / f"{part}.csv")
            if name == "kernels":
                rows = tables["kernels_1"]
                kernel_us = float(rows.loc[rows["kernel_type"] != "MEMORY", "sum (us)"].sum())
    symbols = analysis.t.symbol_table.get_sym_id_map()
    categories = [symbols[name] for name in ("kernel", "Kernel") if name in symbols]
    kernels = int(analysis.t.get_trace(0)["cat"].isin(categories).sum())
    print(json.dumps({"kernels": kernels, "kernel_us": kernel_us, "failed": failed}))


main(sys.argv[1])
