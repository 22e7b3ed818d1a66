"""Runs a command line of ncu under a time limit, and leaves no process of it behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from analyzer.capture import processes

_KEEPER = "analyzer.capture.ncu.keeper"
_GRACE_S = 5.0
_SAID_LINES = 200
_LONGEST_LINE = 2000
_TAIL_BYTES = 1 << 16
_MARKS = (b"==ERROR==", b"==WARNING==")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit ``status``, below 0 for a signal, None where it is not known.

    ``timed_out``: it was ended at the limit. ``error``: why it could not be started.
    """

    status: int | None = None
    timed_out: bool = False
    error: str = ""


def run(command: Sequence[str], out: Path, err: Path, limit_s: float) -> Ended:
    """Run ``command`` for ``limit_s`` seconds at most, its output in ``out`` and, appended, ``err``; return how it ended.

    Whatever happens to it or to us, Ctrl-C and SIGKILL too, its process group ends with it.
    """
    answer = err.with_suffix(".status")
    answer.unlink(missing_ok=True)
    request = {"command": list(command), "out": str(out), "err": str(err), "status": str(answer)}
    timed_out = False
    process = processes.start(_KEEPER)
    try:
        processes.send(process, request)
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        try:
            processes.stop(process, _GRACE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it led the group: should it have been killed itself
    if timed_out:
        return Ended(timed_out=True)
    try:
        found = json.loads(answer.read_bytes())
    except (OSError, ValueError):
        return Ended()
    return Ended(status=found.get("status"), error=str(found.get("error", "")))


def said(*paths: Path) -> str:
    """Return what ncu itself said in ``paths``, its errors and warnings, and the end of all output after them."""
    lines: list[bytes] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                lines += _marked(file)
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines += file.read().splitlines()[-_SAID_LINES:]
        except OSError:
            continue
    return b"\n".join(lines).decode(errors="replace")


def _marked(file: BinaryIO) -> list[bytes]:
    found: list[bytes] = []
    for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
        if line.startswith(_MARKS):
            found.append(line.rstrip())
            if len(found) == _SAID_LINES:
                break
    return found
