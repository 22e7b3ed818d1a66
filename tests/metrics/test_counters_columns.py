"""Counted bytes outrank modelled ones in kernels.csv, rooflines and ledger, and stay out of them where they cannot be true."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analyzer.analysis
import analyzer.metrics.counters as spine
from analyzer.analysis import analyze
from analyzer.hardware.lookup import sheet_of
from analyzer.insight.ledger import own_ledger
from analyzer.metrics.counters.check import TWO_RUNS, check_counters
from analyzer.metrics.counters.sums import RUN_BYTES, sum_counters
from analyzer.metrics.guard import check_ceilings
from analyzer.metrics.ledger import missing_terms, split_launches, sum_terms
from analyzer.metrics.limits import Limits
from analyzer.metrics.memory import name_bounds
from analyzer.schema.counters import COUNTED
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis
from analyzer.schema.run import DeviceFacts
from tests import traces
from tests.metrics.counter_metrics import counter_file, matched
from tests.metrics.test_ledger import launch

SHEET = sheet_of("h100_sxm5_80gb")
H100 = Limits(DeviceFacts(type="cuda", name="H100", vendor="NVIDIA", compute_capability="9.0"), SHEET, "")
GBPS = 3350.0
NAN = math.nan


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *counters: dict[str, Any], **file: Any) -> Analysis:
    """Analyse three kernels on an H100: a copy of 64 MiB twice, 100 us each, and a product of 50 us; the n-th has counters[n]."""
    events: list[dict[str, Any]] = []
    add, mm = [[4096, 4096], [4096, 4096]], [[2048, 2048], [2048, 2048]]
    for i, (name, kernel, dims, us) in enumerate(
        (("aten::add", "vectorized_elementwise_kernel", add, 100.0),) * 2 + (("aten::mm", "nvjet_hsh_128x256", mm, 50.0),), 1
    ):
        at = 200.0 * i
        events += [
            traces.op(name, at, 4, dims=dims, types=["c10::BFloat16"] * 2),
            traces.launch(at + 1, i),
            traces.kernel(kernel, at + 5.001, us, i),
        ]
    path = traces.write(tmp_path / "t.json", traces.document(events, deviceProperties=[traces.H100]))
    if counters:
        made = counter_file(*counters, **file)
        monkeypatch.setattr(analyzer.analysis, "counter_file", lambda *given: made)
        monkeypatch.setattr(spine, "join", matched)
    return analyze(path)


def dram(size: float) -> dict[str, Any]:
    return {"dram__bytes.sum": size, "dram__bytes_read.sum": 0.75 * size, "dram__bytes_write.sum": 0.25 * size}


def row(a: Analysis, op: str) -> dict[str, Any]:
    (found,) = a.kernels[a.kernels["op"] == op].to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_a_row_has_sums_over_its_calls_and_shares_by_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    occupancy = "sm__warps_active.avg.pct_of_peak_sustained_active"
    a = run(monkeypatch, tmp_path, dram(2e8) | {occupancy: 10.0}, dram(1e8) | {occupancy: 20.0}, dram(1e7))
    add = row(a, "aten::add")
    assert add["bytes_dram_counter"] == pytest.approx(3e8)
    assert add["bytes_dram_read_counter"] == pytest.approx(2.25e8)
    assert add["bytes_dram_write_counter"] == pytest.approx(0.75e8)
    assert add["occupancy_achieved_pct"] == pytest.approx(15)
    assert add["bytes_l2_sm_counter"] == pytest.approx(48_000)
    assert add["flop_tensor_counter"] == pytest.approx(1e9)
    assert add["l2_hit_pct"] == pytest.approx(75)
    assert add["l1_hit_pct"] == pytest.approx(25)
    assert add["tensor_active_pct"] == pytest.approx(70)
    # 3e8 bytes in 200 us are 1,500 GB/s; the model's are 3 x 32 MiB in 100 us
    assert add["dram_gbps"] == pytest.approx(1500)
    assert add["dram_counted"]
    assert add["bytes_compulsory"] == 2 * 3 * 2 * 4096**2
    (operator,) = a.rooflines.operators[a.rooflines.operators["name"] == "aten::add"].to_dict("records")
    assert operator["gbps"] == pytest.approx(1500)
    assert operator["bytes_dram_counter"] == pytest.approx(3e8)
    (model,) = a.rooflines.model.to_dict("records")
    assert model["gbps"] == pytest.approx(3.1e8 / 250e3)
    assert a.counters is not None


def test_without_counters_the_model_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add = row(run(monkeypatch, tmp_path), "aten::add")
    assert add["dram_gbps"] == pytest.approx(3 * 2 * 4096**2 / 100e3)
    assert not add["dram_counted"]
    assert math.isnan(add["bytes_dram_counter"])


def test_a_row_that_is_counted_for_half_of_its_time_stays_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = run(monkeypatch, tmp_path, dram(2e8))
    add = row(a, "aten::add")
    assert math.isnan(add["bytes_dram_counter"])
    assert math.isnan(add["l2_hit_pct"])
    assert add["dram_gbps"] == pytest.approx(3 * 2 * 4096**2 / 100e3)


def test_what_few_launches_lack_is_taken_to_be_like_the_rest() -> None:
    times = [97, 3, 50]
    table = pd.DataFrame({"dur_ns": times, "bytes_dram_counter": [970.0, NAN, NAN], "l2_hit_pct": [40.0, NAN, 10.0]})
    sums = sum_counters(table, np.array([0, 0, 1]), 3)
    assert sums["bytes_dram_counter"].tolist() == pytest.approx([1000, NAN, NAN], nan_ok=True)
    assert sums["l2_hit_pct"].tolist() == pytest.approx([40, 10, NAN], nan_ok=True)
    exact = sum_counters(table.assign(bytes_dram_counter=[0.1, 0.2, 0.3]), np.array([0, 0, 1]), 2)
    assert exact["bytes_dram_counter"].tolist() == [0.1 + 0.2, 0.3]
    at_95 = pd.DataFrame({"dur_ns": [95, 5], "bytes_dram_counter": [95.0, NAN]})
    assert sum_counters(at_95, np.array([0, 0]), 1)["bytes_dram_counter"].tolist() == pytest.approx([100])
    below = at_95.assign(dur_ns=[94, 6])
    assert sum_counters(below, np.array([0, 0]), 1)["bytes_dram_counter"].isna().all()


def bound(compute: float, memory: float, counted: float, time: float = 100.0) -> str:
    known = {"floor_compute_us": compute, "floor_memory_us": memory, "floor_us": np.fmax(compute, memory), "time_us": time}
    (found,) = name_bounds(
        pd.DataFrame([known | {"calls": 1, "blocks_per_sm": 2.0, "counted_memory_us": counted}]), on_gpu=True
    )
    return str(found)


@pytest.mark.parametrize(
    ("compute", "memory", "counted", "expected"),
    [
        (10.0, 120.0, 80.0, "DRAM"),  # the bytes of the formula cannot have come from DRAM, but most of the time's worth did
        (10.0, 90.0, 20.0, "L2"),  # DRAM moved less than the time's worth
        (10.0, 20.0, 80.0, "DRAM"),  # DRAM moved more than the formula counts
        (50.0, 20.0, 40.0, "compute"), (50.0, 90.0, 10.0, "compute"), (10.0, 20.0, 20.0, "neither"), (NAN, NAN, 80.0, ""),
        (10.0, 120.0, NAN, "L2"), (10.0, 90.0, NAN, "DRAM"),
    ],
)  # fmt: skip
def test_counted_bytes_name_the_bound(compute: float, memory: float, counted: float, expected: str) -> None:
    assert bound(compute, memory, counted) == expected


def test_counted_bytes_tell_dram_from_l2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = run(monkeypatch, tmp_path, dram(2.5e8), dram(2.5e8), dram(1e6))
    assert row(a, "aten::add")["bound"] == "DRAM"
    (few,) = run(monkeypatch, tmp_path, dram(1e5), dram(1e5), dram(1e6)).rooflines.operators.query("name == 'aten::add'")[
        "bound"
    ]
    assert few in ("L2", "neither")


def counted_launch(**given: Any) -> dict[str, Any]:
    """A launch of 100 us with a floor of 40 us, whose modelled bytes add 4 to 8 us."""
    known = launch(excess_low_us=4.0, excess_high_us=8.0, bytes_l2_sm_counter=1.0, bytes_sm_l2_counter=NAN)
    return known | {RUN_BYTES: NAN} | given


def test_counted_bytes_make_locality_a_figure() -> None:
    moved = 55 * GBPS * 1e3  # 55 us through DRAM, where the floor is 40
    table = pd.DataFrame([counted_launch(**{RUN_BYTES: moved}), counted_launch()])
    split = split_launches(table, H100)
    for part in (split.low, split.value, split.high):
        assert part["locality"][0] == pytest.approx(15)
    assert (split.low["locality"][1], split.high["locality"][1]) == (4, 8)
    assert split.value["residual"][0] == pytest.approx(45)
    assert split.counted.tolist() == [True, False]
    assert sum(value.sum() for value in split.value.values()) == pytest.approx(200)


def test_what_l2_costs_is_not_known_from_dram_alone() -> None:
    table = pd.DataFrame([counted_launch(**{RUN_BYTES: 55 * GBPS * 1e3}, bytes_l2_sm_counter=NAN)])
    split = split_launches(table, H100)
    assert (split.low["locality"][0], split.high["locality"][0]) == (4, 8)
    assert split.counted.tolist() == [False]


@pytest.mark.parametrize(("us", "expected"), [(30.0, 0.0), (40.0, 0.0), (150.0, 60.0)])
def test_counted_locality_is_neither_negative_nor_more_than_the_time(us: float, expected: float) -> None:
    split = split_launches(pd.DataFrame([counted_launch(**{RUN_BYTES: us * GBPS * 1e3})]), H100)
    assert split.value["locality"][0] == pytest.approx(expected)
    assert split.value["residual"][0] == pytest.approx(60 - expected)


def test_bytes_between_l2_and_multiprocessors_count_where_their_bandwidth_is_known() -> None:
    assert SHEET is not None
    known = replace(
        H100, sheet=replace(SHEET, figures={k: v for k, v in SHEET.figures.items() if k != "l2_bandwidth_attainable"})
    )
    l2 = 5000.0
    assert SHEET.figures
    figure = replace(next(iter(SHEET.figures.values())), value=l2, unit="GB/s")
    assert known.sheet is not None
    with_l2 = replace(known, sheet=replace(known.sheet, figures={**known.sheet.figures, "l2_bandwidth_attainable": figure}))
    table = pd.DataFrame(
        [counted_launch(**{RUN_BYTES: 1e6}, bytes_l2_sm_counter=60 * l2 * 1e3, bytes_sm_l2_counter=5 * l2 * 1e3)]
    )
    assert split_launches(table, known).value["locality"][0] == 0
    assert split_launches(table, with_l2).value["locality"][0] == pytest.approx(25)


def test_locality_is_derived_where_all_of_it_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = pd.DataFrame([counted_launch(**{RUN_BYTES: 55 * GBPS * 1e3})] * 2)
    (found,) = sum_terms(whole, H100).query("term == 'locality'").to_dict("records")
    assert found["counted"]
    assert found["us"] == found["low_us"] == found["high_us"] == pytest.approx(30)
    part = pd.concat([whole, pd.DataFrame([counted_launch()])], ignore_index=True)
    assert not sum_terms(part, H100).query("term == 'locality'")["counted"].any()
    assert not sum_terms(whole, H100).query("term != 'locality'")["counted"].any()
    bare = pd.DataFrame([counted_launch(excess_low_us=NAN, excess_high_us=NAN)])
    assert "locality" in missing_terms(bare, H100)
    assert "locality" not in missing_terms(bare.assign(**{RUN_BYTES: 1.0}), H100)
    a = run(monkeypatch, tmp_path, dram(2.5e8), dram(2.5e8), dram(1e6))
    levels = {entry.evidence for entry in own_ledger(a).entries if entry.term == "locality" and entry.kind == "pointwise"}
    assert levels == {Evidence.DERIVED}


def test_bytes_that_dram_cannot_have_moved_become_an_error_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = run(monkeypatch, tmp_path, dram(4e8), dram(4e8), dram(1e7))  # 4,000 GB/s
    (card,) = a.impossible
    assert card.explanation == ""
    assert "GB/s counted through DRAM" in card.what
    assert "(1 more launch alike)" in card.what
    assert card.share_pct == pytest.approx(80)
    add = row(a, "aten::add")
    assert math.isnan(add["bytes_dram_counter"])
    assert add["l2_hit_pct"] == pytest.approx(75)
    assert row(a, "aten::mm")["bytes_dram_counter"] == 1e7


def test_a_small_excess_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = run(monkeypatch, tmp_path, dram(1.03 * GBPS * 1e5), dram(1.03 * GBPS * 1e5), dram(1e7))
    (card,) = a.impossible
    assert card.explanation == TWO_RUNS
    assert row(a, "aten::add")["dram_gbps"] == pytest.approx(1.03 * GBPS)


def test_bytes_of_emptied_caches_are_held_against_no_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = run(monkeypatch, tmp_path, dram(4e8), dram(4e8), dram(1e7), mode="cold")
    assert a.impossible == ()
    add = row(a, "aten::add")
    assert add["bytes_dram_counter"] == pytest.approx(8e8)
    assert not add["dram_counted"]
    assert add["dram_gbps"] == pytest.approx(3 * 2 * 4096**2 / 100e3)


@pytest.mark.parametrize(
    ("metrics", "lost", "words"),
    [
        ({"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active": 140.0}, "tensor_active_pct", "140 % counted"),
        (
            {"sm__warps_active.avg.pct_of_peak_sustained_active": 52.5},
            "occupancy_achieved_pct",
            "52.5 % where 50.0 % is possible",
        ),
        ({"lts__d_sectors_fill_device.sum": -1.0}, "bytes_l2_fill_counter", "\u221232.0 bytes counted"),
        ({"l1tex__t_sectors_lookup_hit.sum": 2000.0}, "l1_hit_pct", "200 % counted"),
    ],
)
def test_figures_that_nothing_can_have_are_lost_with_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metrics: dict[str, Any], lost: str, words: str
) -> None:
    a = run(monkeypatch, tmp_path, dram(1e8), dram(1e8), dram(1e7) | metrics)
    (card,) = a.impossible
    assert words in card.what
    assert card.kernel == "nvjet_hsh_128x256"
    kernels = a.launches[a.launches["category"] == "kernel"]
    assert kernels[lost].isna().tolist() == [False, False, True]
    others = [name for name in COUNTED.names if name != lost]
    assert kernels[others].notna().all(axis=None)


def test_two_points_above_the_possible_occupancy_are_rounding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    metric = "sm__warps_active.avg.pct_of_peak_sustained_active"
    a = run(monkeypatch, tmp_path, *[dram(1e7) | {metric: 51.9}] * 3)
    assert a.impossible == ()
    assert check_ceilings(H100) == ()


def test_launches_without_counters_pass_unseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = run(monkeypatch, tmp_path).launches
    out, found = check_counters(plain, H100)
    assert found == ()
    assert out is plain
