"""TraceLens's whole report, by its command, as CSV files. The checkout is on PYTHONPATH."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from TraceLens.Reporting.generate_perf_report_pytorch import main

with tempfile.TemporaryDirectory() as folder:
    # The names of its console script and options; the kernel summary is the sheet with the time per kernel.
    program = "TraceLens_generate_perf_report_pytorch"
    sys.argv = [program, "--profile_json_path", sys.argv[1], "--output_csvs_dir", folder, "--enable_kernel_summary"]
    main()
    # Which sheets there are depends on the trace and none holds every kernel, so there is no answer to compare.
    print(json.dumps({"sheets": len(list(Path(folder).glob("*.csv")))}))
