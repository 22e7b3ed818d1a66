"""The child processes that capture started."""

from __future__ import annotations

import psutil


def children() -> list[psutil.Process]:
    """Return them; a browser of other tests may share this process."""
    found = psutil.Process().children(recursive=True)
    return [child for child in found if any("analyzer.capture" in part for part in child.cmdline())]
