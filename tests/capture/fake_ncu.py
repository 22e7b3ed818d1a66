"""Stands for ``ncu`` in tests: refuses arguments that the real one would, runs the program, writes a report, prints it as CSV.

Written after the Nsight Compute CLI manual and public logs; what it counts is made up. ``FAKE_NCU`` holds JSON:

- ``log``: a file that gets a line per call: arguments, process ids, environment.
- ``version``, ``chips``: what ``--version`` and ``--list-chips`` answer.
- ``scenario``: ok, drops, unknown, absent, denied, killed, killed_program, hangs, disk_full, torn_down, import_fails,
  import_dies, garbage, cut, empty, strange. ``group``: the scenario is played for this group only, from 1 on; the others go well.
- ``drop``: names that it does not know: left out without a word (drops), or named in an error, the first of
  them (unknown). ``passes``: what profiler__replayer_passes says. ``kernels``: launches counted.
- ``stub``: the program is not run, and the answer that it would give is written.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

WITH_VALUE = {
    "--target-processes": {"all", "application-only"},
    "--profile-from-start": {"on", "off", "yes", "no"},
    "--replay-mode": {"kernel", "application", "range", "app-range"},
    "--cache-control": {"all", "none"},
    "--clock-control": {"base", "none", "reset"},
    "--metrics": None,
    "-o": None,
    "--config-file": {"on", "off", "yes", "no"},
    "--import": None,
    "--page": {"details", "raw", "source", "session"},
    "--print-units": {"auto", "base"},
    "--print-kernel-base": {"function", "demangled", "mangled"},
}
UNASKED = ("launch__registers_per_thread", "launch__block_size", "profiler__replayer_passes")
"""Columns of the raw page that need not be asked for; the real page has every launch__ metric."""
FLAGS = {"-f", "--csv", "--version", "--list-chips"}
CONFIG: dict[str, Any] = json.loads(os.environ.get("FAKE_NCU", "{}"))
IDENTITY = ["ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size"]


def fail(*lines: str, status: int = 1) -> NoReturn:
    for line in lines:
        print(f"==ERROR== {line}")
    sys.stdout.flush()
    sys.exit(status)


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        name = rest.pop(0)
        if name in FLAGS:
            options[name] = ""
            continue
        if name not in WITH_VALUE:
            fail(f"unrecognised option '{name}'. Use --help for further details.")
        if not rest:
            fail(f"the required argument for option '{name}' is missing")
        value = rest.pop(0)
        if (allowed := WITH_VALUE[name]) is not None and value not in allowed:
            fail(f"the argument ('{value}') for option '{name}' is invalid")
        options[name] = value
    return options, rest


def log(**entry: object) -> None:
    if path := CONFIG.get("log"):
        with Path(path).open("a") as file:
            file.write(json.dumps(entry) + "\n")


def scenario(report: Path) -> str:
    only = CONFIG.get("group")
    number = int(re.search(r"group-(\d+)", report.name)[1])  # type: ignore[index]
    return CONFIG.get("scenario", "ok") if only in (None, number) else "ok"


def run_program(program: list[str]) -> int:
    """Run it as ncu does, with its own stdin and output."""
    if CONFIG.get("stub"):
        request = json.loads(Path(program[-1]).read_text())
        Path(request["path"]).write_text(json.dumps({"warmup": 10}))
        return 0
    process = subprocess.Popen(program)
    log(child=process.pid)
    print(f"==PROF== Connected to process {process.pid} ({sys.executable})", flush=True)
    if scenario_now == "killed":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    if scenario_now == "killed_program":
        process.kill()
    if scenario_now == "hangs":
        time.sleep(600)
    status = process.wait()
    print(f"==PROF== Disconnected from process {process.pid}", flush=True)
    if status:
        print(f"==ERROR== The application returned an error code ({abs(status)}).", flush=True)
    return status


def checked(options: dict[str, str], program: list[str]) -> Path:
    for needed in ("-o", "--metrics"):
        if needed not in options:
            fail(f"{needed} is missing")
    if not program:
        fail("No application to profile")
    if re.search(r"%[^%]", options["-o"].replace("%%", "")):
        fail("a macro in the name of the report")
    report = Path(options["-o"].replace("%%", "%") + ".ncu-rep")
    if report.exists() and "-f" not in options:
        fail("The file exists already, use -f to overwrite it")
    return report


def count(options: dict[str, str], program: list[str]) -> int:
    report = checked(options, program)
    if scenario_now == "denied":
        run_program(program)
        fail(
            "ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the target "
            "device 0. For instructions on enabling permissions and to get more information see "
            "https://developer.nvidia.com/ERR_NVGPUCTRPERM"
        )
    if scenario_now == "strange":
        fail(f"The moon is in the way of {Path.home()}/moon.txt")
    status = run_program(program)
    for name in options["--metrics"].split(","):
        if scenario_now == "unknown" and name in CONFIG.get("drop", ()):
            base = name.partition(".")[0]
            fail(
                f"Failed to find metric regex:^{base}\\.(sum|min|max|avg|pct|ratio|max_rate)$",
                "An error was reported by the driver",
            )
    if scenario_now == "torn_down":
        print("==ERROR== The application returned an error code (11).")
    elif status:
        print("==WARNING== No kernels were profiled.")
        return 1
    if scenario_now == "disk_full":
        report.write_text("half of")
        fail("Failed to write report file: No space left on device")
    if scenario_now == "empty":
        print("==WARNING== No kernels were profiled.")
        return 0
    report.write_text(json.dumps({"metrics": options["--metrics"].split(","), "pid": os.getpid()}))
    print(f"==PROF== Report: {report}", flush=True)
    return int(scenario_now == "torn_down")


def value(metric: str, launch: int) -> str:
    if metric == "profiler__replayer_passes":
        return str(CONFIG.get("passes", 1))
    place = {
        "launch__grid_dim_x": launch + 1,
        "launch__grid_size": launch + 1,
        "launch__block_dim_x": 128,
        "launch__block_size": 128,
    }
    if metric in place or "_dim_" in metric:
        return str(place.get(metric, 1))
    if metric.startswith("gpu__time_duration"):
        return f"{1000 * (launch + 1):,}"
    return f"{(launch + 1) * (100 + len(metric)):,}"


def unit(metric: str) -> str:
    return {"gpu__time_duration.sum": "ns", "dram__bytes.sum": "byte"}.get(metric, "")


def print_report(options: dict[str, str]) -> int:
    if options.get("--page") != "raw" or "--csv" not in options:
        fail("this stand-in prints the raw page as CSV only")
    report = Path(options["--import"])
    if not report.is_file():
        fail(f"Failed to open report file {report}")
    if scenario_now == "import_fails":
        fail(f"Failed to load report file {report}: it is of a newer version")
    if scenario_now == "import_dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if scenario_now == "garbage":
        sys.stdout.buffer.write(bytes(range(256)) * 50)
        return 0
    found = json.loads(report.read_text())
    drop = set(CONFIG.get("drop", ())) if scenario_now == "drops" else set()
    if scenario_now == "absent":
        drop = {name for name in found["metrics"] if "__" in name and not name.startswith(("launch__", "profiler__"))}
    metrics = [name for name in dict.fromkeys((*found["metrics"], *UNASKED)) if name not in drop]
    header = [*IDENTITY, "Device", "CC", *metrics]
    out = csv.writer(sys.stdout, quoting=csv.QUOTE_ALL, lineterminator="\n")
    print("==PROF== a line before the table")
    out.writerow(header)
    out.writerow([""] * (len(IDENTITY) + 2) + [unit(name) for name in metrics])
    for launch in range(CONFIG.get("kernels", 4)):
        kernel = f"void at::native::kernel_{launch % 2}<float, (int)4>(T1, T2 *)"
        place = [launch, found["pid"], "python3.11", "a-host-name", kernel, 1, 7, "(128, 1, 1)", f"({launch + 1}, 1, 1)"]
        out.writerow([*place, 0, "9.0", *(value(name, launch) for name in metrics)])
    if scenario_now == "cut":
        sys.stdout.write('"99","1","python3')
    return 0


if __name__ == "__main__":
    given, app = parse(sys.argv[1:])
    if "--version" in given:
        print("NVIDIA (R) Nsight Compute Command Line Profiler\nCopyright (c) 2018-2025 NVIDIA Corporation")
        print(f"Version {CONFIG.get('version', '2025.3.1.0')} (build 36398880) (public-release)")
        sys.exit(0)
    if "--list-chips" in given:
        print(CONFIG.get("chips", "ad102, ad103, ga100, ga102, ga10b, gb100, gb202, gh100, tu102"))
        sys.exit(0)
    scenario_now = scenario(Path(given.get("-o", given.get("--import", "group-0"))))
    log(arguments=sys.argv[1:], pid=os.getpid(), group=os.getpgid(0), locale=os.environ.get("LC_ALL"))
    sys.exit(print_report(given) if "--import" in given else count(given, app))
