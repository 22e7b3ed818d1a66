"""The names of counters that are asked for: valid on their chip, one pass each, and enough for every quantity or told to lack."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from analyzer.hardware import counters
from analyzer.schema.counters import COUNTED
from tests.conftest import ROOT

CAPABILITIES = ["7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0"]
ANCHORS = ("gpu__time_duration.sum", "sm__cycles_elapsed.avg.per_second")


def shared(name: str) -> Path:
    path = ROOT.parent / "shared" / "data" / name
    if not path.is_file():
        pytest.skip("the enumerated metrics lie in ../shared, which is not here")
    return path


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_groups_are_those_that_were_enumerated_as_single_passes(capability: str) -> None:
    tiers = json.loads(shared("ncu_metric_sets.json").read_text())["tiers"]
    assert [list(group) for group in counters.groups(capability)] == tiers[capability]["lean"]["single_pass_groups"]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float8"])
def test_every_metric_is_valid_on_its_chip_with_the_passes_told(capability: str, dtype: str) -> None:
    rows = list(csv.DictReader(shared("ncu_metric_availability.csv").open()))
    (column,) = (name for name in rows[0] if f"_cc{capability}_" in name)
    passes = {row["metric"]: row[column] for row in rows}
    other = ("sm__cycles_elapsed.avg.per_second",)  # not in the table of passes, but in the groups
    for group in counters.groups(capability, dtype):
        taken = {name: passes[name] for name in group if name not in other}
        assert all(taken.values()), taken
        assert max(int(n) for n in taken.values()) == counters.passes(capability, group)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_group_repeats_the_anchors_and_no_other_metric_twice(capability: str) -> None:
    found = counters.groups(capability, "float16")
    assert all(group[:2] == ANCHORS for group in found)
    others = [name for group in found for name in group[2:]]
    assert len(others) == len(set(others))
    assert not set(others) & set(counters.launch_metrics())


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_quantity_comes_from_what_is_asked_for_or_is_told_to_lack(capability: str) -> None:
    asked = {name for group in counters.groups(capability, "float16") for name in group} | set(counters.launch_metrics())
    known = counters.metric_set(capability)
    assert known is not None
    for quantity in COUNTED.names:
        usable = [c for c in counters.names_of(quantity) if not (c.not_split and known.split_l2)]
        made = any(set(c.sum) | set(c.over) <= asked if c.sum else set(c.any) & asked for c in usable)
        assert made == (quantity not in counters.lacking(capability, "float16")), quantity


def test_names_that_changed_with_the_generations() -> None:
    def asked(capability: str) -> set[str]:
        return {name for group in counters.groups(capability) for name in group}

    assert "dram__bytes_op_read.sum" in asked("12.0")
    assert "dram__bytes_read.sum" not in asked("12.0")
    assert "sm__pipe_tensor_cycles_active_v2.avg.pct_of_peak_sustained_active" in asked("8.9")
    assert not any(name.startswith("dram__") for name in asked("8.7"))
    assert "l1tex__m_xbar2l1tex_read_bytes.sum" not in asked("7.0")
    assert set(counters.lacking("8.7")) == {"bytes_dram_counter", "bytes_dram_read_counter", "bytes_dram_write_counter"}


@pytest.mark.parametrize(
    ("capability", "dtype", "metric"),
    [
        ("7.0", "float16", "sm__ops_path_tensor_src_fp16_dst_fp32.sum"),
        ("7.5", "fp16", "sm__ops_path_tensor_src_fp16_bf16_tf32_dst_fp32.sum"),
        ("8.0", "bfloat16", "sm__ops_path_tensor_src_bf16_dst_fp32.sum"),
        ("8.0", "float32", "sm__ops_path_tensor_src_tf32_dst_fp32.sum"),
        ("9.0", "float16", "sm__ops_path_tensor_src_fp16.sum"),
        ("9.0", "float8", "sm__ops_path_tensor_src_fp8.sum"),
        ("10.0", "float8", "sm__ops_path_tensor_src_fp4_fp6_fp8_dst_fp32.sum"),
        ("12.0", "float8", "sm__ops_path_tensor_src_fp8_dst_fp32.sum"),
    ],
)
def test_the_last_group_counts_the_operations_of_the_element_type(capability: str, dtype: str, metric: str) -> None:
    *lean, last = counters.groups(capability, dtype)
    assert last == (*ANCHORS, metric)
    assert tuple(lean) == counters.groups(capability)


def test_an_element_type_without_a_counter_has_no_group_and_a_reason() -> None:
    assert counters.groups("7.0", "bfloat16") == counters.groups("7.0")
    assert "bfloat16" in counters.lacking("7.0", "bfloat16")["flop_tensor_counter"]
    assert counters.groups("8.0", "float64") == counters.groups("8.0")


def test_two_passes_are_told() -> None:
    last = counters.groups("9.0", "float16")[-1]
    assert counters.passes("9.0", last) == 2
    assert [counters.passes("9.0", group) for group in counters.groups("9.0")] == [1, 1]


@pytest.mark.parametrize(
    ("capability", "found"),
    [("9.0", "9.0"), ("10.3", "10.0"), ("12.1", "12.0"), ("8.8", "8.7"), ("7.2", "7.0"), ("11.0", None), ("6.1", None), ("", None),
     ("9", None), ("9.0a", None)],
)  # fmt: skip
def test_an_unlisted_capability_takes_the_nearest_lower_one_of_its_major(capability: str, found: str | None) -> None:
    assert counters.listed(capability) == found
    assert counters.groups(capability) == (counters.groups(found) if found else ())
    assert (set(counters.lacking(capability)) == set(COUNTED.names)) == (found is None)


@pytest.mark.parametrize(
    "change",
    [{"unknown": 1}, {"anchors": "x"}, {"quantities": {}}, {"capabilities": {"9": {}}}],
)
def test_the_data_is_read_strictly(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    import msgspec
    import yaml

    real = yaml.load
    monkeypatch.setattr(counters.yaml, "load", lambda *given, **named: real(*given, **named) | change)
    counters._document.cache_clear()
    try:
        with pytest.raises(msgspec.ValidationError):
            counters.groups("9.0")
    finally:
        counters._document.cache_clear()
