"""The two command lines of a counter pass: count, and print what was counted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from analyzer.capture.ncu.locate import Tool

REPORT_SUFFIX = ".ncu-rep"
CACHE_CONTROL = "none"
"""Caches are left as the kernel before left them; ncu would flush them before each kernel."""

_PROGRAM = "analyzer.capture.counted"
_CONFIG_FILES_FROM = (2022, 1, 0)
"""Releases that are told to leave config.ncu-cfg alone (recalled; the manual of 2025 has the option, that of 2019 has not)."""


def count(tool: Tool, metrics: Sequence[str], report: Path, request: Path) -> list[str]:
    """Return the command that counts ``metrics`` of one step of the model of ``request`` and writes ``report``.

    Nothing but the program's own start and stop bounds what is counted. Clocks are left alone: this machine may be shared, and
    the times of the trace are those of its own clocks. In one pass kernel replay neither saves nor restores memory.
    """
    return [
        str(tool.path),
        *_without_config(tool),
        "--target-processes", "all",
        "--profile-from-start", "off",
        "--replay-mode", "kernel",
        "--cache-control", CACHE_CONTROL,
        "--clock-control", "none",
        "--metrics", ",".join(metrics),
        "-f",
        "-o", str(report).removesuffix(REPORT_SUFFIX).replace("%", "%%"),  # ncu expands %h, %p and others
        # -P as for every process of ours: a file of the user's that is named like a module we import stays out
        sys.executable, "-P", "-m", _PROGRAM, str(request),
    ]  # fmt: skip


def print_page(tool: Tool, report: Path) -> list[str]:
    """Return the command that prints the raw page of ``report``: a row per kernel launch, a column per metric, base units."""
    return [
        str(tool.path),
        *_without_config(tool),
        "--import", str(report),
        "--csv",
        "--page", "raw",
        "--print-units", "base",
        "--print-kernel-base", "demangled",
    ]  # fmt: skip


def _without_config(tool: Tool) -> list[str]:
    """Return the option that keeps a config.ncu-cfg, of the user or of this directory, from adding options such as ``-c 1``."""
    return ["--config-file", "off"] if tool.version >= _CONFIG_FILES_FROM else []
