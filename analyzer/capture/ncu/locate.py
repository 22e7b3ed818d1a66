"""Finds ``ncu`` and asks it for its version."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from analyzer.capture.ncu.releases import Version, unsuited, version_text
from analyzer.capture.permission import Obstacle, not_found

_CUDA = Path("/usr/local/cuda/bin")
_STANDALONE = Path("/opt/nvidia/nsight-compute")
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Tool:
    """An ``ncu`` that answers, and its version."""

    path: Path
    version: Version

    @property
    def version_text(self) -> str:
        """Return the version as ncu prints it, ``2025.3.1``."""
        return version_text(self.version)


def find(
    capability: str, environ: Mapping[str, str] = os.environ, cuda: Path = _CUDA, standalone: Path = _STANDALONE
) -> Tool | Obstacle:
    """Return the first ``ncu`` that suits ``capability``, else what is in the way: that of the first one found.

    Looked for on PATH, in ``$CUDA_HOME/bin``, in ``cuda`` and below ``standalone``, the newest first.
    """
    first: Obstacle | None = None
    for path in _candidates(environ, cuda, standalone):
        found = _asked(path, capability)
        if isinstance(found, Tool):
            return found
        first = first or found
    return first or not_found(["PATH", "$CUDA_HOME/bin", str(cuda), str(standalone)])


def _candidates(environ: Mapping[str, str], cuda: Path, standalone: Path) -> Iterator[Path]:
    places = [environ.get("PATH", os.defpath)]
    if home := environ.get("CUDA_HOME"):
        places.append(str(Path(home) / "bin"))
    places.append(str(cuda))
    with contextlib.suppress(OSError):  # not for us to read
        places += map(str, sorted(standalone.glob("*/"), key=_release, reverse=True))
    seen: set[Path] = set()
    for place in places:
        found = shutil.which("ncu", path=place)
        if found and (path := Path(found).resolve()) not in seen:
            seen.add(path)
            yield Path(found).absolute()  # as it is called: the program may look at its own name


def _release(directory: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", directory.name)))


def _asked(path: Path, capability: str) -> Tool | Obstacle:
    said = _says(path, "--version")
    match = re.search(r"\bVersion\s+(\d{4})\.(\d{1,3})(?:\.(\d{1,3}))?", said)
    if match is None:
        lines = said.strip().splitlines()
        what = f": {lines[-1].strip()[:200]}" if lines else ""
        return Obstacle(f"ncu is there and does not tell its version{what}", "run ncu --version and see what it says")
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    return unsuited(capability, version, _says(path, "--list-chips")) or Tool(path, version)


def _says(path: Path, option: str) -> str:
    """Return what ``ncu OPTION`` prints, empty where it cannot be run or does not come back."""
    try:
        process = subprocess.Popen(
            [str(path), option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,  # it may be a script that starts others: all of them end with it
        )
    except OSError:
        return ""
    try:
        return process.communicate(timeout=_PATIENCE_S)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        return ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
