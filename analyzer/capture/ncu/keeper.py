"""Runs one command and ends it whole: ``python -m analyzer.capture.ncu.keeper``.

It reads one JSON line from stdin (``command``, ``out``, ``err``, ``status``), runs the command with its output in those files,
and writes ``{"status": n}`` or ``{"error": text}`` to the file ``status``. It leads a process group of its own, which nothing
of the command outlives: not its end, and not the closing of stdin, which says that the parent is gone or has enough of it. So
its own exit status is always that of a kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

_ENVIRONMENT = {
    "LC_ALL": "C",  # ncu prints numbers as the locale has them
    "NV_COMPUTE_PROFILER_DISABLE_STOCK_FILE_DEPLOYMENT": "1",  # it would copy its section files into the user's home
}


def main() -> None:
    """Run the process."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    found = _run(request)
    path = Path(request["status"])
    part = path.with_suffix(".part")
    with contextlib.suppress(OSError):  # a full disk: the missing file says so
        part.write_text(json.dumps(found))
        part.replace(path)
    _end()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    try:
        with Path(request["out"]).open("ab") as out, Path(request["err"]).open("ab") as err:
            process = subprocess.Popen(
                request["command"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=os.environ | _ENVIRONMENT,
            )
            return {"status": process.wait()}
    except OSError as error:
        return {"error": error.strerror or type(error).__name__}


def _end_with_parent() -> None:
    sys.stdin.read()
    _end()


def _end() -> None:
    """End everything that the command started, and this process."""
    for child in psutil.Process().children(recursive=True):  # one may lead a group of its own
        with contextlib.suppress(psutil.Error):
            child.kill()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
