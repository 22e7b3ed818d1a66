"""Runs one step as a process group of its own, under a limit, and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 1 << 14
_ESCALATION = ((signal.SIGINT, 0.5), (signal.SIGTERM, 0.2), (signal.SIGKILL, 0.3))
"""What a step gets at its limit, and for which share of the grace it then may go on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended: its exit ``status`` (below 0: the signal), its seconds, the last line that it printed.

    ``stuck``: it did not even end by SIGKILL, as a process that waits inside a driver.
    """

    status: int
    seconds: float
    timed_out: bool
    last_line: str
    stuck: bool = False


def _libc_prctl() -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return found


_prctl = _libc_prctl() if sys.platform == "linux" else None


def _end_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(
    command: Sequence[str],
    log: Path,
    limit_s: float,
    grace_s: float = 8.0,
    environment: Mapping[str, str] | None = None,
    began: Callable[[int], None] | None = None,
) -> Ended:
    """Run ``command`` for ``limit_s`` seconds, then end it within ``grace_s``, ever harder; its output goes to ``log``.

    ``began`` is told the process number. A kill of this process kills the command too (on Linux). What we are interrupted by
    is raised once the command has ended. One that outlives SIGKILL is not waited for: the time belongs to the others.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  this process has one thread
        )
    timed_out = False
    try:
        if began is not None:
            began(process.pid)
        process.wait(max(0.0, limit_s))
    except subprocess.TimeoutExpired:
        timed_out = True
        _end(process, grace_s)
    except BaseException:
        _end(process, grace_s)
        raise
    finally:
        _signal(process.pid, signal.SIGKILL)  # what it left in its group
    status = process.poll()
    ended = -signal.SIGKILL if status is None else status
    return Ended(ended, time.monotonic() - start, timed_out, last_line(log), stuck=status is None)


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    for number, share in _ESCALATION:
        _signal(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s * share)
            return


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_group(group: int) -> None:
    """Kill a process group that an earlier call left."""
    _signal(group, signal.SIGKILL)


def last_line(log: Path) -> str:
    """Return the last line of ``log`` that says anything."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
