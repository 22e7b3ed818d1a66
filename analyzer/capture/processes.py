"""Starts the processes of a capture so that they find this package, and ends them whatever happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 5.0
_KILLED = -9
_KERNEL_COUNTS = Path("/proc/vmstat")
_PROC = Path("/proc")
_CLOCK_STEP_S = 30.0
"""How far a time of creation may be off after a step of the clock; a number is not used again so soon."""


def start(module: str, errors: int = subprocess.DEVNULL, keep: Sequence[int] = ()) -> subprocess.Popen[str]:
    """Start ``python -m module`` with a pipe to its stdin, which it must watch: closed means that it has to end.

    It stands in a session of its own, so that Ctrl-C reaches only us. It inherits the file descriptors ``keep``.
    """
    found = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *([found] if found else [])])}
    return subprocess.Popen(
        # -P: a file in the user's directory that is named like a module we import stays out
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
        env=environment,
        pass_fds=keep,
        start_new_session=True,
    )


def send(process: subprocess.Popen[str], request: Mapping[str, object]) -> None:
    """Write ``request`` as one line of JSON to a process that ``start`` started; one that died gives no answer later."""
    if process.stdin is None:
        raise AssertionError("the process is started with a pipe")
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()  # left open: the process ends when it closes
    except OSError:
        return  # it is gone; its missing answer says so


def stop(process: subprocess.Popen[str], grace_s: float = _GRACE_S) -> bool:
    """Close the stdin of ``process``, wait ``grace_s`` at most, then kill it; return whether it ended by itself."""
    try:
        if process.stdin is not None:
            process.stdin.close()
    except OSError:
        pass  # it is gone already
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    finally:
        if process.poll() is None:  # interrupted while waiting
            process.kill()
            process.wait()
    return True


def birth(pid: int) -> float:
    """Return a number that tells the process ``pid`` from an earlier or later one of the same number.

    Under Linux it is the start in ticks since the machine booted (proc(5), field 22 of ``/proc/PID/stat``), which no step of
    the clock changes; elsewhere the time of creation in seconds.

    Raises:
        psutil.Error: there is no such process, or it is not for us to look at.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()  # the name may hold blanks and brackets
        return -float(fields[19])
    except (OSError, ValueError, IndexError):
        import psutil

        return psutil.Process(pid).create_time()


def lives(pid: int, born: float) -> bool:
    """Tell whether the process ``pid`` whose ``birth`` was ``born`` is there."""
    import psutil  # not above: the command line loads this module for every task, and a report needs no psutil

    try:
        return abs(birth(pid) - born) <= (0.0 if born < 0 else _CLOCK_STEP_S)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True  # it is there, and not for us to look at


def memory_kills() -> int:
    """Return how many processes the kernel has ended for want of memory since it started, 0 where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", _KERNEL_COUNTS.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def killing(status: int, kills: int) -> tuple[bool, str]:
    """Return whether a process that ended with ``status`` was ended for want of memory, and what to say; "" if not killed.

    ``kills``: by how much ``memory_kills`` rose while it ran. A kill for another reason looks the same but for that.
    """
    if status != _KILLED:
        return False, ""
    if kills > 0:
        return True, "the system ended the process for want of memory"
    return False, "the process was killed, probably for want of memory"
