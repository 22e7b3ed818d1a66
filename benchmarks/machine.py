"""What the measurements ran on: processor, memory and versions. No name of the machine and no path of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

OWN_DISTRIBUTIONS = ("msgspec", "numpy", "pandas")
PEER_DISTRIBUTIONS = ("HolisticTraceAnalysis", "torch-tb-profiler", "numpy", "pandas")
ASK_VERSIONS = """
import importlib.metadata, json, platform, sys
versions = {"Python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""


def describe_machine() -> dict[str, str | int | float]:
    """Return processor, cores that may be used, memory in GiB and operating system."""
    return {
        "cpu": _read_cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
    }


def _read_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def ask_versions(interpreter: str, distributions: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of ``distributions`` under ``interpreter``: those that are there, none if it is not."""
    command = [interpreter, "-c", ASK_VERSIONS, *distributions]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        versions = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {str(name): str(version) for name, version in versions.items()}


def own_versions() -> dict[str, str]:
    """Return the versions that this analyzer runs with."""
    return ask_versions(sys.executable, OWN_DISTRIBUTIONS)


def describe_checkout(folder: Path) -> str:
    """Return the commit of a checkout, or ``unknown``."""
    try:
        command = ["git", "-C", str(folder), "rev-parse", "--short=8", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
