"""torch-tb-profiler: parse the trace, then the tables of its overview, operator and kernel views."""

from __future__ import annotations

import json
import sys

from torch_tb_profiler.profiler.data import RunProfileData
from torch_tb_profiler.profiler.run_generator import RunGenerator

data = RunProfileData.parse("worker", None, sys.argv[1], None)
generator = RunGenerator("worker", None, data)
generator._generate_overview()
generator._generate_op_table(data.op_list_groupby_name)
generator._generate_kernel_table()
stats = data.kernel_stat
print(json.dumps({"kernels": int(stats["count"].sum()), "kernel_us": float(stats["sum"].sum())}))
