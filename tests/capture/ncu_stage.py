"""Sets the stage for counter passes: the stand-in of ncu on PATH, a job for it, and what it saw."""

from __future__ import annotations

import csv
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from analyzer.capture.ncu import locate, provider
from analyzer.schema.settings import ModelChoice

HERE = Path(__file__).parent
ANCHORS = ("gpu__time_duration.sum", "sm__cycles_elapsed.avg.per_second")
GROUPS = (
    (*ANCHORS, "dram__bytes.sum", "lts__t_sectors.sum"),
    (*ANCHORS, "l1tex__m_xbar2l1tex_read_bytes.sum"),
    (*ANCHORS, "sm__ops_path_tensor_src_bf16_dst_fp32.sum"),
)
TINY = ModelChoice("cnn", "", "Tiny", factory="tiny:tiny")
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "batch_size": 1,
    "image_size": 8,
    "dtype": "float32",
    "threads": 1,
    "warmup_max_s": 0.1,
    "calibrate": "off",
    "counters": "none",
}


@dataclass
class Stage:
    """A directory of programs on PATH, and a directory of a run."""

    root: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def run(self) -> Path:
        found = self.root / "run"
        found.mkdir(exist_ok=True)
        return found

    def play(self, scenario: str = "ok", **more: Any) -> None:
        given = {"scenario": scenario, "log": str(self.root / "calls.jsonl"), **more}
        self.monkeypatch.setenv("FAKE_NCU", json.dumps(given))

    def calls(self) -> list[dict[str, Any]]:
        path = self.root / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def processes(self) -> list[int]:
        """Return every process that the stand-in was or started."""
        return [call[name] for call in self.calls() for name in ("pid", "child") if name in call]

    def prepared(self, groups: tuple[tuple[str, ...], ...] = GROUPS[:2]) -> provider.Prepared:
        tool = locate.Tool(self.root / "bin" / "ncu", (2025, 3, 1))
        return provider.Prepared("9.0", tool, groups)

    def job(self, choice: ModelChoice = TINY, limit_s: float = 120.0) -> provider.Job:
        return provider.Job(choice, SETTINGS, self.run, limit_s)

    def count(self, prepared: provider.Prepared | None = None, job: provider.Job | None = None) -> provider.Counted:
        return provider.count(prepared or self.prepared(), job or self.job(), lambda: None)


def install(directory: Path) -> Path:
    """Put the stand-in into ``directory`` under the name of the real one."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "ncu"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(HERE / "fake_ncu.py"))} "$@"\n')
    path.chmod(0o755)
    return path


def set_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    programs = install(root / "bin").parent
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    stage = Stage(root, monkeypatch)
    stage.play()
    return stage


def alive(pids: list[int]) -> list[int]:
    """Return those of ``pids`` that still run; one that waits to be collected does not."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until(holds: Callable[[], bool], patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rows(path: Path) -> list[dict[str, str]]:
    """Return the lines of a table below its header."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def nothing_is_left(stage: Stage) -> None:
    """Neither a file of a failed pass nor a process of it."""
    assert [entry.name for entry in stage.run.iterdir()] == []
    wait_until(lambda: not alive(stage.processes()))  # a kill takes a moment
