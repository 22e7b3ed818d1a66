"""The telemetry process: ``python -m analyzer.capture.sampler`` samples its parent and one GPU. Imports no torch.

It reads one JSON line of settings from stdin, writes one JSON line per sample to the file named there, and ends, with a
last line that says what it could read, as soon as stdin closes or its parent is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil

from analyzer.capture.nvml import NO_PACKAGE, NvmlReader, load


class ProcessReader:
    """Reads one process by psutil; ``alive`` turns False when it is gone."""

    def __init__(self, pid: int) -> None:
        self.alive = True
        self.reason = ""
        self._primed = False
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.Error as error:
            self._process, self.reason = None, f"{type(error).__name__}"

    def sample(self) -> dict[str, float]:
        """Return the columns that could be read."""
        if self._process is None:
            return {}
        row: dict[str, float] = {}
        try:
            with self._process.oneshot():
                cpu = self._process.cpu_percent(None)
                switches = self._process.num_ctx_switches()
                row["rss_bytes"] = float(self._process.memory_info().rss)
            row["voluntary_switches"] = float(switches.voluntary)
            row["involuntary_switches"] = float(switches.involuntary)
            if self._primed:  # the first call has no interval to speak of
                row["cpu_pct"] = float(cpu)
            self._primed = True
            self._frequency(row)
        except psutil.NoSuchProcess:
            self.alive = False
        except (psutil.Error, OSError) as error:
            self.reason = type(error).__name__
        return row

    @staticmethod
    def _frequency(row: dict[str, float]) -> None:
        try:
            frequency = psutil.cpu_freq()
        except (OSError, NotImplementedError, RuntimeError):
            return
        if frequency is not None and frequency.current:
            row["cpu_mhz"] = float(frequency.current)


def sample_until(
    wait: Callable[[float], bool], period_s: float, process: ProcessReader, nvml: NvmlReader | None, out: IO[str]
) -> int:
    """Write a sample each ``period_s`` until ``wait(seconds)`` returns True, then a last one; return their number."""
    count = 0
    over = False
    due = time.monotonic()
    while True:
        row: dict[str, Any] = {"time_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}
        row |= process.sample()
        if not process.alive:
            return count
        if nvml is not None:
            row |= nvml.sample()
        out.write(json.dumps(row) + "\n")
        out.flush()
        count += 1
        if over:
            return count
        due = max(due + period_s, time.monotonic())  # a slow read delays the next sample; it does not pile up
        over = wait(due - time.monotonic())


def summary(process: ProcessReader, nvml: NvmlReader | None, no_nvml: str, count: int) -> dict[str, Any]:
    """Return the last line: what was there, and why the rest was not."""
    return {
        "samples": count,
        "psutil": {"available": process.reason == "", "reason": process.reason},
        "nvml": {"available": nvml is not None and nvml.available, "reason": nvml.summary() if nvml else no_nvml},
        "gpm": {
            "available": nvml is not None and nvml.gpm.available,
            "reason": nvml.gpm.reason if nvml is not None and nvml.available else no_nvml or "NVML is not available",
        },
    }


def open_nvml(wanted: bool, uuid: str | None, found: Callable[[], Any] = load) -> tuple[NvmlReader | None, str]:
    """Return the reader of the device and why there is none; ``wanted`` is False for a run on the CPU.

    ``found`` returns the module ``pynvml``, or raises ImportError.
    """
    try:
        api = found()
    except ImportError:
        return None, NO_PACKAGE
    reader = NvmlReader(api, uuid)
    if wanted:
        reader.open()
        return reader, ""
    failure = reader.probe()
    return None, f"the model runs on the CPU ({failure})" if failure else "the model runs on the CPU"


def main(found: Callable[[], Any] = load) -> None:
    """Run the process; ``found`` is where NVML comes from."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our stdin
    settings = json.loads(sys.stdin.readline())
    parent = int(settings["pid"])

    def wait(seconds: float) -> bool:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], max(0.0, seconds))
        return bool(ready) or os.getppid() != parent  # nothing is ever sent: readable means closed

    process = ProcessReader(parent)
    nvml, no_nvml = open_nvml(bool(settings["nvml"]), settings["uuid"], found)
    with Path(settings["path"]).open("w") as out:
        count = sample_until(wait, float(settings["period_s"]), process, nvml, out)
        if nvml is not None:
            nvml.close()
        out.write(json.dumps({"summary": summary(process, nvml, no_nvml, count)}) + "\n")


if __name__ == "__main__":
    main()
