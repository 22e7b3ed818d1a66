"""TraceLens: trace -> tree -> table of kernels with their operators -> time per kernel. The checkout is on PYTHONPATH."""

from __future__ import annotations

import json
import sys

from TraceLens.TreePerf import TreePerfAnalyzer

kernels = TreePerfAnalyzer.from_file(sys.argv[1]).get_df_kernels()
table = kernels.groupby("Kernel name")["Kernel duration (µs)"].agg(["count", "sum"])
print(json.dumps({"kernels": int(table["count"].sum()), "kernel_us": float(table["sum"].sum())}))
