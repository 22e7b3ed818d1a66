"""Rules on how data reaches the device: each fires once with known figures, and stays silent once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from analyzer.analysis import analyze
from analyzer.insight.rules import find
from analyzer.insight.rules.feeding import data_loading, pageable_copies
from analyzer.schema.results import Analysis
from tests import traces
from tests.insight.test_rules_state import check, gpu_trace


def copying(folder: Path, name: str) -> Analysis:
    """Analyse a copy of 1 MB in 100 us, 40 us of it beside a kernel."""
    copy = {
        "ph": "X", "cat": "gpu_memcpy", "name": name, "pid": 0, "tid": 9, "ts": 100, "dur": 100,
        "args": {"device": 0, "stream": 9, "correlation": 12, "bytes": 1_000_000},
    }  # fmt: skip
    return gpu_trace(folder, traces.launch(15, 11), traces.launch(20, 12), copy, traces.kernel("k", 160, 200, 11))


def test_pageable_copies(tmp_path: Path) -> None:
    a = copying(tmp_path, "Memcpy HtoD (Pageable -> Device)")
    found = check(pageable_copies(a), "pageable_copies", time_of=60, share=6, bytes=1e6, rate=10, copies=1)
    assert found.saving is not None
    assert (found.saving.low, found.saving.high) == (0, 60)
    assert pageable_copies(copying(tmp_path, "Memcpy HtoD (Pinned -> Device)")) is None
    assert "only once" not in found.claim


def test_pageable_copies_in_a_long_idle_time(tmp_path: Path) -> None:
    # 0.06 % of a step, but 60 of the 260 us in which the GPU has work
    a = copying(tmp_path, "Memcpy HtoD (Pageable -> Device)")
    long = replace(a, totals=replace(a.totals, wall_us=1e5, idle_us=1e5 - 260))
    found = check(pageable_copies(long), "pageable_copies", share_of_the_time=0.06, with_work=100 * 60 / 260)
    assert "23 %" in found.title
    whole = check(pageable_copies(replace(long, window=replace(a.window, batches=None))), "pageable_copies")
    assert "costs later steps nothing" in whole.claim
    busy = replace(long, totals=replace(long.totals, busy_us=5e4))
    assert pageable_copies(busy) is None


def test_data_loading(tmp_path: Path) -> None:
    a = copying(tmp_path, "Memcpy HtoD (Pinned -> Device)")
    waiting: Any = SimpleNamespace(steps=pd.DataFrame({"step": [1], "dataloader_us": [300.0]}))
    assert data_loading(replace(a, host=waiting)) is None  # no idle time of the GPU is for a loader
    assert a.totals.idle is not None
    a = replace(a, totals=replace(a.totals, idle=replace(a.totals.idle, loader_us=290.0)))
    found = check(data_loading(replace(a, host=waiting)), "data_loading", time_in=300, share=30)
    assert found.saving is not None
    assert found.saving.high == 290
    assert found.target == "host"
    quick: Any = SimpleNamespace(steps=pd.DataFrame({"step": [1], "dataloader_us": [30.0]}))
    assert data_loading(replace(a, host=quick)) is None
    assert data_loading(replace(a, host=None)) is None


def test_loading_before_the_first_kernel_is_start_up(tmp_path: Path) -> None:
    load = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
    events = [
        traces.op("aten::empty", 0, 1), traces.op("aten::empty", 2449, 1), traces.note(load, 0, 1000), traces.launch(1100, 11), traces.kernel("k", 1110, 100, 11),
        traces.note(load, 1300, 400), traces.launch(1800, 12), traces.kernel("k", 1810, 100, 12), traces.note(load, 1950, 500),
    ]  # fmt: skip
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    # idle between the kernels: 1210 to 1810, of which 590 us until the launch
    found = check(data_loading(a), "data_loading", time_in=1900, before_the_first=1110, after_the_last=540)
    assert found.saving is not None
    assert (found.saving.low, found.saving.high) == (0, pytest.approx(590))
    steps = analyze(traces.write(tmp_path / "s.json", traces.document([traces.note("ProfilerStep#1", 0, 2450), *events])))
    whole = check(data_loading(steps), "data_loading", time_in=1900)
    assert whole.saving is not None
    assert whole.saving.high == pytest.approx(1900)
    assert "before its first kernel" not in whole.claim


def test_hostile_names_of_copies(tmp_path: Path) -> None:
    a = copying(tmp_path, "HtoD" * 25_000)
    assert pageable_copies(a) is None
    assert pageable_copies(copying(tmp_path, "x" * 300 + "Memcpy HtoD (Pageable -> Device)")) is None


def test_a_trace_without_any_length_has_nothing_to_save(tmp_path: Path) -> None:
    events = [traces.op("aten::add", 5.0, 0.0), traces.note("enumerate(DataLoader)#x.__next__", 5.0, 0.0)]
    analysis = analyze(traces.write(tmp_path / "moment.json", traces.document(events, gpu=False)))
    assert analysis.totals.wall_us == 0
    assert find(analysis) == ()
