"""Starts the processes of a capture so that they find this package, and ends them whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 5.0


def start(module: str, errors: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Start ``python -m module`` with a pipe to its stdin, which it must watch: closed means that it has to end.

    It stands in a session of its own, so that Ctrl-C reaches only us.
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
        start_new_session=True,
    )


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
