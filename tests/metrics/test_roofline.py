"""Floors, bounds and rates of launches, and what they add up to by operator and module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis import analyze
from analyzer.metrics.memory import LATENCY_US, name_bounds
from analyzer.metrics.roofline import GROUP_COLUMNS
from analyzer.schema.results import Analysis
from analyzer.trace.scopes import module_pattern
from tests import traces


def bound(compute: float, memory: float, time: float, *, on_gpu: bool = True, blocks: float = 2.0, calls: int = 1) -> str:
    row = {"floor_compute_us": compute, "floor_memory_us": memory, "floor_us": np.fmax(compute, memory), "time_us": time}
    (found,) = name_bounds(pd.DataFrame([row | {"calls": calls, "blocks_per_sm": blocks}]), on_gpu=on_gpu)
    return str(found)


@pytest.mark.parametrize(
    ("compute", "memory", "time", "expected"),
    [
        (40.0, 10.0, 100.0, "compute"), (10.0, 40.0, 100.0, "DRAM"), (10.0, 120.0, 100.0, "L2"), (10.0, 30.0, 100.0, "neither"),
        (100 / 3, 0.0, 100.0, "compute"), (0.0, 0.0, 100.0, ""), (np.nan, np.nan, 100.0, ""), (0.1, 0.2, 4.9, "latency"),
        (0.1, 0.2, 5.1, "neither"),
    ],
)  # fmt: skip
def test_the_higher_floor_names_the_bound(compute: float, memory: float, time: float, expected: str) -> None:
    assert bound(compute, memory, time) == expected


def test_latency_needs_a_gpu_and_a_short_or_small_kernel() -> None:
    assert bound(1, 2, 100, blocks=0.9) == "latency"
    assert bound(1, 2, 100, blocks=1.0) == "neither"
    assert bound(1, 2, 100, blocks=np.nan) == "neither"
    assert bound(1, 2, 3 * LATENCY_US, calls=4) == "latency"
    assert bound(0.1, 0.2, 1.0, on_gpu=False) == "neither"
    assert bound(10, 120, 100, on_gpu=False) == "cache"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("blocks.3.attn.qkv", "blocks.*.attn.qkv"), ("ViTLayer_11.Linear_2", "ViTLayer_*.Linear_*"), ("conv1", "conv1"), ("", "")],
)
def test_modules_that_differ_in_numbers_are_alike(name: str, pattern: str) -> None:
    assert module_pattern(name) == pattern


def convolution(tmp_path: Path) -> Analysis:
    """Two convolutions, each a layout kernel of 10 us and a product of 30 us, and an operator without a formula."""
    dims = [[8, 64, 28, 28], [64, 64, 3, 3], [], [], [], [], []]
    types = ["c10::BFloat16", "c10::BFloat16", "", "ScalarList", "ScalarList", "ScalarList", "Scalar"]
    concrete = ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "1"]
    events: list[dict[str, Any]] = []
    for i in range(2):
        at = 200.0 * i
        events += [
            traces.op("aten::conv2d", at, 60, dims=dims, types=types, concrete=concrete),
            traces.op("aten::cudnn_convolution", at + 5, 50),
            traces.launch(at + 10, 2 * i + 1), traces.launch(at + 20, 2 * i + 2),
            traces.kernel("void cudnn::ops::nchwToNhwcKernel<half>", at + 70.5, 10, 2 * i + 1),
            traces.kernel("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32", at + 90.5, 30, 2 * i + 2),
        ]  # fmt: skip
    events += [traces.op("my::op", 500, 20, dims=[[8]]), traces.launch(505, 9), traces.kernel("mystery", 550.5, 20, 9)]
    return analyze(traces.write(tmp_path / "t.json", traces.document(events)))


FLOP = 2 * 8 * 64 * 28 * 28 * 64 * 9


def test_an_operator_has_its_helpers_with_it(tmp_path: Path) -> None:
    a = convolution(tmp_path)
    rows = a.rooflines.operators.set_index("name")
    assert tuple(a.rooflines.operators.columns) == GROUP_COLUMNS
    conv = rows.loc["aten::conv2d"]
    assert (conv["calls"], conv["time_us"], conv["kind"]) == (4, 80, "convolution")
    assert conv["flop"] == 2 * FLOP
    # rates are of all of its time, the layout kernels included
    assert conv["tflops"] == pytest.approx(2 * FLOP / 80e-6 / 1e12)
    assert conv["peak_pct"] == pytest.approx(100 * 2 * FLOP / 989e12 / 80e-6)
    assert conv["share_pct"] == 80
    assert rows.loc["my::op"][["flop", "tflops", "floor_us"]].isna().all()
    assert rows.loc["my::op"]["modelled_pct"] == 0


def test_the_model_is_one_row_of_everything(tmp_path: Path) -> None:
    a = convolution(tmp_path)
    (row,) = a.rooflines.model.to_dict("records")
    assert (row["calls"], row["time_us"], row["modelled_pct"]) == (5, 100, 80)
    # the time without a model is in no rate
    assert row["tflops"] == pytest.approx(2 * FLOP / 80e-6 / 1e12)


def test_work_is_counted_once(tmp_path: Path) -> None:
    launches = convolution(tmp_path).launches
    assert launches.loc[launches["basis"] == "formula", "flop"].sum() == 2 * FLOP
    assert set(launches["basis"]) == {"formula", "helper", "generic"}
    helpers = launches[launches["basis"] == "helper"]
    assert (helpers["kind"] == "layout").all()


def test_a_product_of_which_only_the_layout_kernel_is_left_has_no_work(tmp_path: Path) -> None:
    events = [
        traces.op("aten::mm", 0, 40, dims=[[64, 64], [64, 64]]), traces.launch(10, 1),
        traces.kernel("nchwToNhwcKernel", 60.5, 10, 1),
    ]  # fmt: skip
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    assert a.totals.flop == 0
    assert a.launches["basis"].tolist() == ["helper"]


def test_no_launches_give_empty_tables(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document([traces.op("aten::mm", 0, 40)])))
    for frame in (a.rooflines.operators, a.rooflines.modules, a.rooflines.model):
        assert tuple(frame.columns) == GROUP_COLUMNS


def test_what_took_no_time_keeps_its_own_kind(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    for i, (op, name, us) in enumerate(
        [("aten::mm", "ampere_sgemm_128x64", 50.0), ("aten::relu", "elementwise", 0.0), ("aten::sum", "reduce_kernel", 0.0)], 1
    ):
        events += [traces.op(op, 100 * i, 9, dims=[[64, 64]] * 2), traces.launch(100 * i + 1, i)]
        events.append(traces.kernel(name, 100 * i + 20.5, us, i))
    rows = analyze(traces.write(tmp_path / "t.json", traces.document(events))).rooflines.operators.set_index("name")
    assert rows["kind"].to_dict() == {"aten::mm": "matmul", "aten::relu": "pointwise", "aten::sum": "reduction"}
