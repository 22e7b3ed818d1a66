"""This analyzer's whole report, by its command: page, summary and tables."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "report"
    command = [sys.executable, "-m", "analyzer", "task=report", f"runs={sys.argv[1]}", f"out={out}"]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)
    run = json.loads((out / "summary.json").read_text(encoding="utf-8"))["runs"][0]


def read_value(figure: float | dict[str, float]) -> float:
    """Return the number of a figure of the summary."""
    return figure["value"] if isinstance(figure, dict) else figure


print(json.dumps({"kernels": int(read_value(run["kernel_count"])), "kernel_us": read_value(run["kernel_time_us"])}))
