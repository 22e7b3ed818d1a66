"""This analyzer: trace -> linked table of launches -> time per kernel."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link

launches = link(read_trace(Path(sys.argv[1]))).launches
kernels = launches[launches["category"] == "kernel"]
table = kernels.groupby("kernel")["dur_ns"].agg(["count", "sum"])
print(json.dumps({"kernels": int(table["count"].sum()), "kernel_us": float(table["sum"].sum()) / 1e3}))
