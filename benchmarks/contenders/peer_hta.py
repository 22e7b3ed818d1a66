"""HolisticTraceAnalysis: load and parse the trace, then its kernel breakdown.

Two defaults that lose time from the answer are off: rounding to whole microseconds and leaving out the last profiler step
(neither changes how long it takes). Every kernel keeps its row: past a number of rows it would sum the rest as "others".
"""

from __future__ import annotations

import json
import os
import sys

os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"

from hta.trace_analysis import TraceAnalysis

ALL = 1_000_000

analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir=".", include_last_profiler_step=True)
_, table = analysis.get_gpu_kernel_breakdown(visualize=False, num_kernels=ALL)
kernel_us = float(table.loc[table["kernel_type"] != "MEMORY", "sum (us)"].sum())
# The breakdown has no counts: they come from the events it read.
symbols = analysis.t.symbol_table.get_sym_id_map()
categories = [symbols[name] for name in ("kernel", "Kernel") if name in symbols]
kernels = int(analysis.t.get_trace(0)["cat"].isin(categories).sum())
print(json.dumps({"kernels": kernels, "kernel_us": kernel_us}))
