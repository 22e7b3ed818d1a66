"""Kernels of analysed runs with counters, and files of counters without a trace, as what a validation compares."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis import analyze
from analyzer.hardware.lookup import sheets
from analyzer.insight.validation import validate_analyses
from analyzer.insight.validation.alone import NO_COUNTER, NO_LAUNCH, NO_SIZES, NO_SMS, counted_table, file_items
from analyzer.insight.validation.families import COLD, ELEMENTWISE, FUSED, GEMM_OPEN, UNTOLD, WARM, WARM_AS_COLD
from analyzer.insight.validation.runs import IMPLIED, run_items
from analyzer.schema.results import Analysis
from analyzer.schema.validation import Prediction, Validation
from analyzer.trace.counters import CounterFile
from tests.report.counted import counted
from tests.report.synthetic import Fake, write_run


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyze(write_run(tmp_path_factory.mktemp("validation"), Fake()))


def of(v: Validation, quantity: str, mode: str = WARM) -> list[Prediction]:
    return [p for p in v.predictions if (p.quantity, p.mode) == (quantity, mode)]


def test_predictions_are_the_columns_of_the_launches(vit: Analysis) -> None:
    v = validate_analyses([counted(vit, mode="cold")])
    rows = vit.launches[vit.launches["category"] == "kernel"]
    for kernel, own in rows.groupby("kernel"):
        first = own.iloc[0]
        mine = {p.quantity: p for p in v.predictions if p.kernel == kernel}
        assert {p.calls for p in mine.values()} == {len(own)}
        assert mine["occupancy_pct"].point == pytest.approx(first["occupancy_pct"])
        assert mine["occupancy_theoretical_pct"].error_pct == pytest.approx(0)
        assert sum({p.share_pct for p in mine.values()}) == pytest.approx(100 * own["dur_ns"].sum() / rows["dur_ns"].sum())
        if math.isnan(first["bytes_dram_low"]):
            continue
        assert mine["l2_sm_bytes"].point == pytest.approx(first["bytes_l2_read"])
        assert mine["l2_sm_bytes"].error_pct == pytest.approx(100 * (1 / 1.02 - 1))
        assert mine["dram_bytes"].low == pytest.approx(first["bytes_dram_low"])
        assert mine["dram_bytes"].high == pytest.approx(first["bytes_dram_high"])
        assert mine["dram_read_bytes"].point == pytest.approx(first["bytes_dram_read"])
        assert mine["dram_bytes"].inside  # the middle of the band was counted


def test_a_kernel_of_every_step_is_one(vit: Analysis) -> None:
    v = validate_analyses([counted(vit)])
    assert len(of(v, "occupancy_pct")) == vit.launches.loc[vit.launches["category"] == "kernel", "kernel"].nunique()


def test_warm_counts_stand_against_a_warm_and_a_cold_figure(vit: Analysis) -> None:
    v = validate_analyses([counted(vit)])
    warm, cold = of(v, "dram_read_bytes"), of(v, "dram_read_bytes", WARM_AS_COLD)
    assert {p.key for p in warm} == {p.key for p in cold} != set()
    for mine, other in zip(warm, cold, strict=True):
        assert mine.measured == other.measured
        assert mine.half == other.half
        assert mine.point <= other.point
        assert mine.low <= other.low
        assert mine.high == pytest.approx(other.high)
    assert any(mine.point < other.point for mine, other in zip(warm, cold, strict=True))  # each follows one that wrote
    assert of(v, "occupancy_pct", WARM_AS_COLD) == []
    by_hand = [p for p in validate_analyses([counted(vit, mode="cold")]).predictions if p.quantity == "dram_read_bytes"]
    assert {p.key: p.point for p in by_hand} == pytest.approx({p.key: p.point for p in cold})


def test_what_a_warm_kernel_finds_is_what_the_one_before_wrote(vit: Analysis) -> None:
    rows = vit.launches[vit.launches["category"] == "kernel"].sort_values("start_ns")
    written = (rows["bytes_l2_sm"] - rows["bytes_l2_read"]).fillna(0)
    found = np.minimum(written.shift(fill_value=0.0), rows["bytes_dram_read_low"])
    norm = rows["kernel"].str.contains("layer_norm")
    expected = (rows["bytes_dram_read"] - found)[norm].mean()
    (one,) = [p for p in of(validate_analyses([counted(vit)]), "dram_read_bytes") if "layer_norm" in p.kernel]
    assert one.point == pytest.approx(expected)


def test_a_file_that_does_not_tell_about_caches_is_taken_as_cold(vit: Analysis) -> None:
    v = validate_analyses([counted(vit, mode="")])
    assert {p.mode for p in v.predictions} == {UNTOLD}
    cold = {p.key: p.point for p in validate_analyses([counted(vit, mode="cold")]).predictions if p.quantity == "dram_bytes"}
    assert {p.key: p.point for p in of(v, "dram_bytes", UNTOLD)} == cold


def test_flop_are_those_of_kernels_on_matrix_units(vit: Analysis) -> None:
    found = of(validate_analyses([counted(vit)]), "flop")
    matrix = vit.launches[vit.launches["unit"].eq("matrix") & vit.launches["flop"].gt(0)]
    assert {p.kernel for p in found} == set(matrix["kernel"])
    assert all(p.scored and p.error_pct == pytest.approx(0) for p in found)


def test_flop_that_the_tensor_pipe_implies_are_shown_and_not_scored(vit: Analysis) -> None:
    v = validate_analyses([counted(vit, without=("flop_tensor_counter",))])
    (one, *_) = found = of(v, "flop")
    assert {(p.scored, p.why) for p in found} == {(False, IMPLIED)}
    own = vit.launches[vit.launches["kernel"] == one.kernel]
    cycles = (1.1 * own["dur_ns"].mean() / 1e3) * 1755.0
    assert one.measured == pytest.approx(0.55 * cycles * 4096 * 132, rel=1e-6)  # dense bfloat16 of an H100 multiprocessor
    assert all(s.quantity != "flop" for s in v.scores)


def test_kernels_without_a_model_are_left_out_of_bytes_only(vit: Analysis, tmp_path: Path) -> None:
    cnn = counted(analyze(write_run(tmp_path, Fake(family="cnn"))), mode="cold")
    v = validate_analyses([cnn])
    mystery = [p for p in v.predictions if p.kernel == "mystery_kernel"]
    assert {p.quantity for p in mystery} == {"occupancy_pct", "occupancy_theoretical_pct"}
    assert any(family == "not modelled" and quantity == "dram_bytes" and n >= 1 for family, quantity, _, n in v.left_out)


def test_what_was_not_counted_is_told_with_the_reason(vit: Analysis) -> None:
    a = counted(vit, without=("occupancy_achieved_pct",), missing=(("achieved occupancy", "no such column"),))
    _, left = run_items(a, "run")
    assert [(one.why, one.kernels) for one in left if one.quantity == "occupancy_pct"] == [("no such column", 0)]


def test_runs_without_counters_or_with_refused_ones_give_nothing(vit: Analysis) -> None:
    v = validate_analyses([vit, counted(vit, refused="only 3 % match")])
    assert v.predictions == ()
    assert len(v.left_out) == 2
    assert any("only 3 % match" in why for _, _, why, _ in v.left_out)


def test_two_runs_of_the_same_kernels_are_one_set_of_figures(vit: Analysis) -> None:
    one, two = counted(vit, mode="cold"), counted(vit, mode="cold", factor=2.0)
    v = validate_analyses([one, two])
    alone = validate_analyses([one])
    assert len(v.predictions) == len(alone.predictions)
    mean = {p.key: 1.5 * p.measured for p in alone.predictions if p.quantity == "dram_bytes"}
    assert {p.key: p.measured for p in v.predictions if p.quantity == "dram_bytes"} == pytest.approx(mean)


def test_no_cache_model_leaves_occupancy(vit: Analysis) -> None:
    a = counted(vit)
    assert a.access is not None
    bare = replace(a, access=replace(a.access, own=None))
    rows = bare.launches.assign(bytes_dram_read=np.nan, bytes_dram_low=np.nan, bytes_dram_read_low=np.nan)
    v = validate_analyses([replace(bare, launches=rows)])
    assert {p.quantity for p in v.predictions} == {
        "l2_sm_bytes", "sm_l2_bytes", "occupancy_pct", "occupancy_theoretical_pct", "flop",
    }  # fmt: skip
    assert v.parameters == ()


def file(**columns: object) -> CounterFile:
    """A file of one attention kernel that two processes counted: 66 blocks of 128 threads, 64 registers, 48 KiB."""
    rows = pd.DataFrame(
        {
            "id": [0, 1, 0], "process": ["1", "1", "2"], "device": ["0"] * 3, "kernel": ["flash_fwd_kernel"] * 3,
            "grid": ["66,1,1"] * 3, "block": ["128,1,1"] * 3, "op": [""] * 3,
            "launch__registers_per_thread": [64.0] * 3,
            "launch__shared_mem_per_block_static": [16384.0] * 3, "launch__shared_mem_per_block_dynamic": [32768.0] * 3,
            "sm__maximum_warps_per_active_cycle_pct": [25.0, 25.0, np.nan],
            "sm__warps_active.avg.pct_of_peak_sustained_active": [np.nan, np.nan, 6.0],
            "dram__bytes.sum": [3e6, 5e6, np.nan],
        }
    )  # fmt: skip
    rows = rows.assign(**columns).drop(columns=[name for name, value in columns.items() if value is None])
    metrics = tuple(name for name in rows if name not in ("id", "process", "device", "kernel", "grid", "block", "op"))
    return CounterFile("counters.csv", "import", rows, metrics, capability="9.0", mode="cold")


def test_a_file_alone_is_held_against_its_own_launch_geometry() -> None:
    """An H100 holds 228 KiB / 49 KiB = 4 such blocks: 16 of 64 warps; of 66 blocks each of 132 SMs has half a one."""
    items, left = file_items(file(launch__sm_count=132.0))
    assert {(one.quantity, one.measured, one.fixed[0]) for one in items} == {
        ("occupancy_theoretical_pct", 25.0, 25.0),
        ("occupancy_pct", 6.0, 3.125),
    }
    assert {(one.family, one.mode, one.calls) for one in items} == {(FUSED, COLD, 2.0)}
    assert {(one.quantity, one.why) for one in left} == {("dram_bytes", NO_SIZES)}


def test_the_multiprocessors_come_from_the_file_or_from_the_sheet() -> None:
    items, left = file_items(file())
    assert [one.quantity for one in items] == ["occupancy_theoretical_pct"]
    assert ("occupancy_pct", NO_SMS) in {(one.quantity, one.why) for one in left}
    items, _ = file_items(file(), sheets()["h100_sxm5_80gb"])
    assert [one.quantity for one in items] == ["occupancy_theoretical_pct", "occupancy_pct"]
    assert items[0].gpu == "H100 SXM5 80GB"


@pytest.mark.parametrize(
    ("columns", "why"),
    [({"launch__registers_per_thread": None}, NO_LAUNCH), ({"grid": ""}, NO_LAUNCH), ({"block": "100000,1,1"}, NO_LAUNCH)],
)
def test_a_file_that_lacks_the_launch_says_so(columns: dict[str, object], why: str) -> None:
    items, left = file_items(file(launch__sm_count=132.0, **columns))
    assert items == []
    assert why in {one.why for one in left}


def test_a_file_without_the_counters_of_occupancy_says_so() -> None:
    gone = {"sm__maximum_warps_per_active_cycle_pct": None, "sm__warps_active.avg.pct_of_peak_sustained_active": None}
    items, left = file_items(file(launch__sm_count=132.0, **gone))
    assert items == []
    assert {(one.quantity, one.why) for one in left if "occupancy" in one.quantity} == {
        ("occupancy_pct", NO_COUNTER), ("occupancy_theoretical_pct", NO_COUNTER),
    }  # fmt: skip


def test_what_a_file_counted_is_put_together_from_its_processes() -> None:
    (row,) = counted_table(file()).to_dict("records")
    assert row["calls"] == 2
    assert row["bytes_dram_counter"] == 4e6
    assert row["occupancy_achieved_pct"] == 6.0
    assert row["shared_bytes"] == 49152


def test_kernels_of_a_file_have_a_class_by_their_names() -> None:
    names = ["flash_fwd_kernel", "sm90_xmma_gemm_bf16", "void at::native::vectorized_layer_norm_kernel<float>"]
    items, _ = file_items(file(kernel=names, launch__sm_count=132.0, process="1"))
    assert {one.kernel: one.family for one in items} == dict(zip(names[:2], (FUSED, GEMM_OPEN), strict=True)) | {
        names[2]: ELEMENTWISE
    }
