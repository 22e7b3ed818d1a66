"""The child processes that capture started."""

from __future__ import annotations

import time

import psutil


def children() -> list[psutil.Process]:
    """Return them; a browser of other tests may share this process."""
    found = psutil.Process().children(recursive=True)
    return [child for child in found if any("analyzer.capture" in part for part in child.cmdline())]


def sole_child() -> psutil.Process:
    """Return the one that there is. Right after its start the system may not show its command line yet."""
    for _ in range(1000):
        found = children()
        if found:
            (child,) = found
            return child
        time.sleep(0.01)
    raise AssertionError("no child process")


def kill(child: psutil.Process) -> None:
    """Kill ``child`` and wait until it is dead, without taking its status from whoever started it."""
    child.kill()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
