"""Runs a command as a whole process, from exec to exit: wall time, peak memory of its process tree, answer."""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import psutil

SAMPLE_S = 0.02
# Reading the memory map of a large process takes time from it: sampling may cost this share of the time at most.
SAMPLE_SHARE = 0.2
MEMORY_CAP_BYTES = 18_000_000_000
TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution. ``answer`` is the JSON object on the last line of its output; ``stopped`` says why it was killed."""

    wall_s: float
    peak_bytes: int
    exit_code: int
    last_error: str = ""
    stopped: str = ""
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def failure(self) -> str:
        """Why the execution does not count, empty where it does."""
        if self.stopped:
            return self.stopped
        return f"exit code {self.exit_code}: {self.last_error}" if self.exit_code else ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of repeated measurements."""

    median: float
    low: float
    high: float
    n: int


def summarize(values: Sequence[float]) -> Spread:
    """Return the spread of ``values``, of which there is at least one."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


class _Watch(threading.Thread):
    """Samples the memory of a process and all its descendants; kills them over the cap or after the timeout.

    One process counts with its resident set. Several share pages, so each counts with its proportional set; where the kernel
    does not tell that, with its resident set, which counts shared pages more than once.
    """

    def __init__(self, root: int, cap_bytes: int, timeout_s: float) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(root)
        self._cap_bytes = cap_bytes
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self.done = threading.Event()
        self.peak_bytes = 0
        self.stopped = ""

    def run(self) -> None:
        pause = SAMPLE_S
        while not self.done.wait(pause):
            began = time.perf_counter()
            self.peak_bytes = max(self.peak_bytes, _measure_tree(self._root, self.peak_bytes))
            if self.peak_bytes > self._cap_bytes:
                self._kill(f"killed at {self.peak_bytes / 1e9:.1f} GB, over the cap of {self._cap_bytes / 1e9:.0f} GB")
            elif time.monotonic() > self._deadline:
                self._kill(f"killed after {self._timeout_s:.0f} s")
            pause = max(SAMPLE_S, (time.perf_counter() - began) / SAMPLE_SHARE)

    def _kill(self, reason: str) -> None:
        if not self.stopped and not self.done.is_set():
            self.stopped = reason
            os.killpg(self._root.pid, signal.SIGKILL)


def _measure_tree(root: psutil.Process, known_bytes: int) -> int:
    """Return the memory of ``root`` and its descendants, or something below ``known_bytes`` where it is no more than that."""
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    if len(processes) == 1:
        return max(_resident_bytes(root), _high_water_bytes(root.pid))
    # The proportional sets, dear to read, sum to the resident sets at most.
    resident_bytes = sum(_resident_bytes(process) for process in processes)
    return sum(_proportional_bytes(process) for process in processes) if resident_bytes > known_bytes else 0


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _proportional_bytes(process: psutil.Process) -> int:
    try:
        return int(getattr(process.memory_full_info(), "pss", 0)) or _resident_bytes(process)
    except psutil.Error:
        return _resident_bytes(process)


def _high_water_bytes(pid: int) -> int:
    """Return the kernel's own peak of a process since its exec: it misses nothing between two samples. Zero where unknown."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)
    except (OSError, ValueError):
        return 0


def execute(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    cap_bytes: int = MEMORY_CAP_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> Execution:
    """Run ``command`` to its end and return what it took."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, env=env, cwd=cwd, stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True
        )
        watch = _Watch(child.pid, cap_bytes, timeout_s)
        watch.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - began
        watch.done.set()
        watch.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        peak_bytes = max(watch.peak_bytes, _own_peak_bytes(usage))
        return Execution(wall_s, peak_bytes, child.returncode, _last_line(err), watch.stopped, _read_answer(_last_line(out)))


def _own_peak_bytes(usage: resource.struct_rusage) -> int:
    """Return the direct child's peak, zero where it may be ours: a new process begins with the peak of the one it came from."""
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * 1024 if usage.ru_maxrss > ours else 0


def _last_line(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
    lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _read_answer(line: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
