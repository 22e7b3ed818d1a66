"""From metrics to quantities: factors, preferences, what is missing, and what a reader must be told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer.metrics.counters as spine
from analyzer.hardware.lookup import sheet_of
from analyzer.metrics.counters import NO_KERNELS, add_counters
from analyzer.metrics.counters.derive import derive
from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.metrics.limits import Limits
from analyzer.schema.counters import COUNTED, CounterView
from analyzer.schema.run import DeviceFacts
from analyzer.trace.counters import CounterFile
from tests.metrics.counter_metrics import METRICS, counter_file, matched

H100 = Limits(DeviceFacts(type="cuda", name="H100", vendor="NVIDIA", compute_capability="9.0"), sheet_of("h100_sxm5_80gb"), "")


def quantities(capability: str = "9.0", **metrics: Any) -> dict[str, float]:
    """Return what METRICS with changes make; None takes a metric out."""
    known = {name: value for name, value in (METRICS | metrics).items() if value is not None}
    return derive(pd.DataFrame([known]), capability).values.iloc[0].to_dict()


def launches(*microseconds: float) -> pd.DataFrame:
    rows = [
        {"category": "kernel", "dur_ns": round(us * 1000), "kernel": "k", "grid": "1,1,1", "block": "32,1,1"}
        for us in microseconds
    ]
    return pd.DataFrame([{"category": "memcpy", "dur_ns": 5000, "kernel": "Memcpy", "grid": "", "block": ""}, *rows])


def added(
    monkeypatch: pytest.MonkeyPatch, file: CounterFile, table: pd.DataFrame, **joined: Any
) -> tuple[pd.DataFrame, CounterView]:
    monkeypatch.setattr(spine, "join", lambda file, launches: matched(file, launches, **joined))
    out, view = add_counters(table, file, H100)
    assert view is not None
    return out, view


def test_metrics_become_quantities_in_their_units() -> None:
    assert quantities() == pytest.approx(
        {
            "bytes_dram_counter": 1e6, "bytes_dram_read_counter": 7e5, "bytes_dram_write_counter": 3e5,
            "bytes_l2_fill_counter": 64_000, "bytes_l2_sm_counter": 24_000, "bytes_sm_l2_counter": 16_000, "l2_hit_pct": 75,
            "l1_hit_pct": 25, "occupancy_achieved_pct": 40, "occupancy_ncu_pct": 50, "tensor_active_pct": 70,
            "flop_tensor_counter": 5e8, "counter_us": 100, "counter_clock_mhz": 1500,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("capability", "changes", "quantity", "value"),
    [
        ("9.0", {"dram__bytes.sum": None}, "bytes_dram_counter", 1e6),
        ("9.0", {"dram__bytes.sum": None, "dram__bytes_read.sum": None, "dram__sectors.sum": 10.0}, "bytes_dram_counter", 320),
        ("9.0", {"dram__bytes_read.sum": None, "dram__sectors_read.sum": 10.0}, "bytes_dram_read_counter", 320),
        ("12.0", {"dram__bytes_read.sum": None, "dram__bytes_op_read.sum": 12.0}, "bytes_dram_read_counter", 12),
        ("8.9", {"sm__pipe_tensor_cycles_active_v2.avg.pct_of_peak_sustained_active": 33.0}, "tensor_active_pct", 33),
        ("7.0", {"l1tex__m_xbar2l1tex_read_bytes.sum": None}, "bytes_l2_sm_counter", 28_800),
        ("9.0", {"l1tex__m_xbar2l1tex_read_bytes.sum": None}, "bytes_l2_sm_counter", np.nan),  # the halves of its L2 read each other
        ("", {"l1tex__m_xbar2l1tex_read_bytes.sum": None}, "bytes_l2_sm_counter", np.nan),
        ("9.0", {"l1tex__m_xbar2l1tex_read_bytes.sum": None, "lts__t_sectors_srcunit_tex_op_read.sum": 10.0}, "bytes_l2_sm_counter", 320),
        ("9.0", {"lts__t_sectors_srcunit_tex_op_write.sum": 10.0}, "bytes_sm_l2_counter", 320),
        ("9.0", {"lts__t_sectors.sum": None, "lts__t_sectors_lookup_miss.sum": 9000.0}, "l2_hit_pct", 25),
        ("9.0", {"lts__t_sectors.sum": None, "lts__t_sector_hit_rate.pct": 61.0}, "l2_hit_pct", 61),
        ("9.0", {"lts__t_sectors.sum": 0.0, "lts__t_sectors_lookup_hit.sum": 0.0}, "l2_hit_pct", np.nan),
        ("9.0", {"l1tex__t_sectors.sum": None, "l1tex__t_sector_hit_rate.pct": 12.0}, "l1_hit_pct", 12),
        ("9.0", {"sm__ops_path_tensor_src_tf32_dst_fp32.sum": 1e8}, "flop_tensor_counter", 6e8),
        ("9.0", {"dram__bytes_read.sum": np.inf}, "bytes_dram_read_counter", np.nan),
    ],
)  # fmt: skip
def test_names_of_other_files_and_chips(capability: str, changes: dict[str, Any], quantity: str, value: float) -> None:
    assert quantities(capability, **changes)[quantity] == pytest.approx(value, nan_ok=True)


def test_each_row_takes_the_best_name_that_it_has() -> None:
    rows = pd.DataFrame({"dram__bytes_read.sum": [5.0, np.nan], "dram__sectors_read.sum": [1.0, 1.0]})
    assert derive(rows, "9.0").values["bytes_dram_read_counter"].tolist() == [5, 32]


@given(
    st.lists(st.dictionaries(st.sampled_from(sorted(METRICS)), st.one_of(st.none(), st.floats()), max_size=9), max_size=5),
    st.sampled_from(["7.0", "8.7", "9.0", "12.0", "99.9", ""]),
)
def test_whatever_a_file_holds_a_quantity_is_a_finite_number_or_none(rows: list[dict[str, Any]], capability: str) -> None:
    frame = pd.DataFrame(rows, columns=sorted(METRICS), dtype=np.float64)
    with np.errstate(over="ignore"):
        values = derive(frame, capability).values
    assert list(values.columns) == COUNTED.names
    assert len(values) == len(rows)
    assert not np.isinf(values.to_numpy(np.float64)).any()
    assert not (values["l2_hit_pct"] > 100).any()


def test_without_a_file_all_columns_are_there_and_empty() -> None:
    out, view = add_counters(launches(10.0), None, H100)
    assert view is None
    assert out[[*COUNTED.names, RUN_BYTES]].isna().all(axis=None)
    assert out.drop(columns=[*COUNTED.names, RUN_BYTES]).equals(launches(10.0))


def test_matched_launches_get_their_quantities_and_others_none(monkeypatch: pytest.MonkeyPatch) -> None:
    out, view = added(monkeypatch, counter_file({}, {"dram__bytes.sum": 3e6}), launches(100.0, 100.0, 50.0))
    assert out["bytes_dram_counter"].tolist() == pytest.approx([np.nan, 1e6, 3e6, np.nan], nan_ok=True)
    assert out[RUN_BYTES].equals(out["bytes_dram_counter"].rename(RUN_BYTES))
    assert (view.source, view.kind, view.tool, view.mode) == ("counters.csv", "ncu", "Nsight Compute 2025.3.1", "warm")
    assert (view.rows, view.used, view.matched_pct, view.matching, view.refused) == (2, 2, 100, "name, grid and block", "")
    assert view.missing == ()


def test_the_table_has_means_per_launch_also_of_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # two processes counted the same two launches, each its own metrics; hits and lookups come from different ones
    one = [{"kernel": "a", "lts__t_sectors_lookup_hit.sum": np.nan, "dram__bytes.sum": size} for size in (1e6, 3e6)]
    two = [{"kernel": "a", "process": "2", "lts__t_sectors.sum": np.nan, "dram__bytes.sum": np.nan} for _ in range(2)]
    short = {"kernel": "b", "gpu__time_duration.sum": 1000.0}
    out, view = added(monkeypatch, counter_file(short, *one, *two), launches(1.0), refused="40 % of the kernel time matched")
    assert out[[*COUNTED.names, RUN_BYTES]].isna().all(axis=None)
    assert view.refused == "40 % of the kernel time matched"
    assert view.table.columns.tolist() == ["kernel", "grid", "block", "op", "calls", *COUNTED.names]
    assert view.table["kernel"].tolist() == ["a", "b"]  # longest first
    assert view.table["calls"].tolist() == [2, 1]
    assert view.table["bytes_dram_counter"].tolist() == pytest.approx([2e6, 1e6])
    assert view.table["l2_hit_pct"].tolist() == pytest.approx([75, 75])


def test_a_trace_without_kernels_keeps_the_table() -> None:
    nothing = pd.DataFrame({"category": ["operator"], "dur_ns": [5]})
    out, view = add_counters(nothing, counter_file({}), H100)
    assert view is not None
    assert (view.refused, view.used, len(view.table)) == (NO_KERNELS, 0, 1)
    assert out["bytes_dram_counter"].isna().all()


def test_a_file_that_could_not_be_read_says_so_and_nothing_else() -> None:
    file = CounterFile(
        "counters.csv",
        "import",
        counter_file({}).rows.iloc[:0][["id", "process", "device", "kernel", "grid", "block", "op"]],
        (),
        refused="no table",
    )
    _, view = add_counters(launches(1.0), file, H100)
    assert view is not None
    assert (view.refused, view.missing, view.notes, len(view.table)) == ("no table", (), (), 0)


def test_impossible_figures_are_left_out_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    file = counter_file({"dram__bytes_read.sum": -1.0, "sm__warps_active.avg.pct_of_peak_sustained_active": 130.0})
    _, view = added(monkeypatch, file, launches(1.0))
    assert view.table[["bytes_dram_read_counter", "occupancy_achieved_pct"]].isna().all(axis=None)
    assert "2 figures of counted kernels cannot be true and were left out." in view.notes


def notes(monkeypatch: pytest.MonkeyPatch, *rows: dict[str, Any], times: tuple[float, ...] = (100.0,), **file: Any) -> str:
    return " | ".join(added(monkeypatch, counter_file(*rows, **file), launches(*times))[1].notes)


def test_more_hits_than_lookups_are_cut_and_told_above_two_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    above = {"lts__t_sectors_lookup_hit.sum": 4200.0}
    said = notes(monkeypatch, above, {}, times=(100.0, 300.0))
    assert "1 launch (25 % of the counted time) had more L2 hits than lookups, up to 105 %" in said
    out, _ = added(monkeypatch, counter_file(above), launches(100.0))
    assert out["l2_hit_pct"].iloc[1] == 100
    assert "hits than" not in notes(monkeypatch, {"lts__t_sectors_lookup_hit.sum": 4040.0})


def test_tma_goes_past_the_l1_from_hopper_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # 750 misses of 32 bytes explain 24,000 bytes
    assert "TMA" in notes(monkeypatch, {})
    assert "got more" not in notes(monkeypatch, {})
    said = notes(monkeypatch, {"l1tex__m_xbar2l1tex_read_bytes.sum": 48_000.0}, {}, times=(100.0, 300.0))
    assert "1 launch (25 % of the counted time) got more bytes from the L2 than the misses of the L1 explain" in said
    assert "TMA" not in notes(monkeypatch, {"l1tex__m_xbar2l1tex_read_bytes.sum": 48_000.0}, capability="8.9")


def test_several_passes_spoil_what_depends_on_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "1 of 2 counted launches took up to 5 passes" in notes(monkeypatch, {"profiler__replayer_passes": 5.0}, {})
    operations = {name: np.nan for name in METRICS if name.startswith(("dram", "lts", "l1tex"))}
    assert "passes" not in notes(monkeypatch, operations | {"profiler__replayer_passes": 2.0}, {})


def test_reads_and_writes_that_do_not_make_the_total_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "add up to 0.800 x its total" in notes(monkeypatch, {"dram__bytes_read.sum": 5e5})
    assert "add up" not in notes(monkeypatch, {"dram__bytes_read.sum": 7.4e5})


def test_emptied_caches_keep_counted_bytes_out_of_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    out, view = added(monkeypatch, counter_file({}, mode="cold"), launches(100.0))
    assert out["bytes_dram_counter"].iloc[1] == 1e6
    assert out[RUN_BYTES].isna().all()
    assert any("keep the modelled bytes" in note for note in view.notes)
    assert "--cache-control none" in notes(monkeypatch, {}, mode="")


def test_what_was_counted_of_the_tensor_cores_and_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "counted for inputs of bf16;" in notes(monkeypatch, {})
    assert "3.00 x as long" in notes(monkeypatch, {"gpu__time_duration.sum": 300_000.0})
    assert "as long" not in notes(monkeypatch, {"gpu__time_duration.sum": 110_000.0})


def test_lists_of_another_capability_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no list of counters for compute capability 9.5, so that of 9.0 was used" in notes(
        monkeypatch, {}, capability="9.5"
    ).replace("There", "there")


def reason(file: CounterFile, words: str) -> str:
    view = add_counters(pd.DataFrame({"category": ["operator"], "dur_ns": [5]}), file, H100)[1]
    assert view is not None
    return dict(view.missing)[words]


def test_what_is_missing_says_why() -> None:
    no_dram = {name: None for name in METRICS if name.startswith("dram")}
    own = counter_file(no_dram)
    assert reason(own, "bytes through DRAM") == "dram__bytes.sum was asked for, and Nsight Compute gave no such column"
    assert "no counter of it belongs to the GPU" in reason(replace(own, capability="8.7"), "bytes through DRAM")
    theirs = counter_file(no_dram | {"sm__ops_path_tensor_src_bf16_dst_fp32.sum": None}, kind="import")
    assert reason(theirs, "bytes read from DRAM") == "the file has no column dram__bytes_read.sum"
    assert (
        reason(replace(theirs, capability="12.0"), "bytes read from DRAM") == "the file has no column dram__bytes_op_read.sum"
    )
    assert reason(theirs, "operations of the tensor cores").startswith("the file has no column sm__ops_path_tensor")
    untyped = replace(theirs, kind="ncu")
    assert "for this element type" in reason(untyped, "operations of the tensor cores")
    part = counter_file({"lts__t_sectors.sum": None})
    assert reason(part, "L2 hit rate") == "the figures in lts__t_sectors_lookup_hit.sum do not suffice for it"
