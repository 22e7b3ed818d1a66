"""Another process that reads a file ahead gives what this one would have read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from analyzer.errors import TraceError
from analyzer.trace import reading
from analyzer.trace.kineto import read_trace
from analyzer.trace.reading import Ahead, reading_ahead
from tests import traces


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short files be read ahead, on machines with one core as well."""
    monkeypatch.setattr(reading, "_WORTH_BYTES", 1)
    monkeypatch.setattr(reading, "second_core", lambda: True)


def _events(steps: int = 40) -> list[dict[str, Any]]:
    events = []
    for step in range(steps):
        for event in traces.gpu_step():
            args = {k: v + 100 * step if k in ("correlation", "External id") else v for k, v in event["args"].items()}
            events.append(event | {"ts": event["ts"] + 1000 * step, "tid": event["tid"] if step % 2 else 2, "args": args})
    return events


def _same(path: Path) -> None:
    here = read_trace(path)
    with reading_ahead(path) as ahead:
        assert isinstance(ahead, Ahead)
        there = read_trace(path, ahead=ahead)
    for name in ("device_events", "ops", "calls", "annotations", "frames"):
        pd.testing.assert_frame_equal(getattr(there, name), getattr(here, name))
    assert (there.device, there.warnings, there.event_count, there.processes) == (
        here.device,
        here.warnings,
        here.event_count,
        here.processes,
    )


def test_a_file_read_ahead_has_the_same_tables(tmp_path: Path) -> None:
    _same(traces.write(tmp_path / "t.json.gz", traces.document(_events())))


def test_a_damaged_file_read_ahead_has_the_same_warnings(tmp_path: Path) -> None:
    text = json.dumps(traces.document(_events())).replace('"dur": 150', '"dur": N/A', 1)
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(text.encode())[:-600])
    assert len(read_trace(path).warnings) >= 2
    _same(path)


def test_an_error_is_met_again_and_told(tmp_path: Path) -> None:
    path = traces.write(tmp_path / "t.json", {"traceEvents": 3})
    with reading_ahead(path) as ahead, pytest.raises(TraceError, match="no traceEvents"):
        read_trace(path, ahead=ahead)


def test_a_process_that_dies_costs_time_and_nothing_else(tmp_path: Path) -> None:
    path = traces.write(tmp_path / "t.json", traces.document(_events()))
    with reading_ahead(path) as ahead:
        assert ahead is not None
        ahead._process.kill()
        assert len(read_trace(path, ahead=ahead).kernels) == 80


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    path = traces.write(tmp_path / "t.json", traces.document(_events()))
    with reading_ahead(path) as ahead:
        assert ahead is not None
        pid = ahead._process.pid
    assert not psutil.pid_exists(pid)


def test_what_does_not_pay_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = traces.write(tmp_path / "t.json", traces.document(_events()))
    for wanted in (tmp_path / "missing.json", tmp_path):
        with reading_ahead(wanted) as ahead:
            assert ahead is None
    monkeypatch.setattr(reading, "second_core", lambda: False)
    with reading_ahead(path) as ahead:
        assert ahead is None
