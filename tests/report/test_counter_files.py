"""What the files beside the page say of counters."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from analyzer.report.files import COUNTED_COLUMNS, summary, write_files
from analyzer.schema.results import Study
from tests.report.counted import counted_study


def test_the_summary_tells_where_counters_came_from(gpu_pair: Study) -> None:
    assert [run["counters"] for run in summary(gpu_pair)["runs"]] == [None, None]
    study = counted_study(
        gpu_pair, source="a\u202eb\x00.csv", missing=(("L1 hit rate", "the file has no column <b>"),), notes=("one", "two")
    )
    found = summary(study)["runs"][0]["counters"]
    assert found == {
        "source": "ab.csv", "kind": "ncu", "tool": "Nsight Compute 2025.3.1", "mode": "warm", "rows": 72, "used": 72,
        "matched_pct": 100.0, "matching": "name, grid and block", "refused": "",
        "missing": [{"quantity": "L1 hit rate", "why": "the file has no column <b>"}], "notes": ["one", "two"],
    }  # fmt: skip


def test_csv_files_have_the_counters(gpu_pair: Study, tmp_path: Path) -> None:
    write_files(counted_study(gpu_pair), tmp_path)
    kernels, operators, counted = (pd.read_csv(tmp_path / name) for name in ("kernels.csv", "operators.csv", "counted.csv"))
    assert list(counted) == list(COUNTED_COLUMNS)
    assert counted[["bytes_dram_counter", "bytes_dram_read_counter", "bytes_dram_write_counter"]].notna().all(axis=None)
    sides = counted["bytes_dram_read_counter"] + counted["bytes_dram_write_counter"]
    pd.testing.assert_series_equal(sides, counted["bytes_dram_counter"], check_names=False)
    shared = ["run", "kernel", "op", "shapes", "grid", "calls", "time_us", "bytes_dram_counter", "bytes_dram_low", "flop"]
    own = kernels[kernels["bytes_dram_counter"].notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(counted[shared], own[shared])
    expected = kernels["bytes_dram_counter"] / kernels["time_us"] / 1e3
    pd.testing.assert_series_equal(kernels["dram_gbps"], expected, check_names=False)
    assert operators["bytes_dram_counter"].sum() == kernels["bytes_dram_counter"].sum()
    text = json.loads((tmp_path / "summary.json").read_text())
    assert text["runs"][0]["roofline"]["bytes_dram_counter"] > 0


def test_refused_counters_fill_no_column(gpu_pair: Study, tmp_path: Path) -> None:
    write_files(counted_study(gpu_pair, refused="40 % matched"), tmp_path)
    kernels = pd.read_csv(tmp_path / "kernels.csv")
    assert pd.read_csv(tmp_path / "counted.csv").empty
    assert kernels[["bytes_dram_counter", "l2_hit_pct", "occupancy_achieved_pct", "tensor_active_pct"]].isna().all(axis=None)
    text = json.loads((tmp_path / "summary.json").read_text())
    assert text["runs"][0]["counters"]["refused"] == "40 % matched"
