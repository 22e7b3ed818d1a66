"""torch-tb-profiler's whole report: everything its page asks for, of all views, written as the files it would be sent.

That is the profile the plugin generates when it loads a run and then, for each view, the answers its routes give, the memory
statistics, curve and events, the module view and the trace with the GPU counters added.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path

from torch_tb_profiler.profiler.data import RunProfileData
from torch_tb_profiler.profiler.run_generator import RunGenerator

TABLES = (
    "overview",
    "gpu_summary",
    "gpu_tooltip",
    "operation_pie_by_name",
    "operation_table_by_name",
    "operation_stack_by_name",
    "operation_pie_by_name_input",
    "operation_table_by_name_input",
    "operation_stack_by_name_input",
    "kernel_op_table",
    "kernel_pie",
    "kernel_table",
    "tc_pie",
)


def main(trace: Path) -> None:
    """Write the report of ``trace`` into a folder that goes away, and print the answer."""
    data = RunProfileData.parse("worker", None, str(trace), None)
    profile = RunGenerator("worker", None, data).generate_run_profile()
    views = {name: getattr(profile, name) for name in TABLES}
    if profile.memory_snapshot:
        views["memory"] = profile.get_memory_stats(memory_metric="KB")
        views["memory_curve"] = profile.get_memory_curve(time_metric="ms", memory_metric="MB")
        views["memory_events"] = profile.get_memory_events(time_metric="ms", memory_metric="KB")
    views["module"] = profile.get_module_view()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for name, view in views.items():
            (out / f"{name}.json").write_text(json.dumps(view), encoding="utf-8")
        raw = trace.read_bytes()
        text = gzip.decompress(raw) if trace.suffix == ".gz" else raw
        (out / "trace.json.gz").write_bytes(profile.append_gpu_metrics(text))
    stats = data.kernel_stat
    print(json.dumps({"kernels": int(stats["count"].sum()), "kernel_us": float(stats["sum"].sum())}))


main(Path(sys.argv[1]))
