"""Traces that torch records here and now: what each operator of a real step is given, against figures worked out apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze
from analyzer.metrics.work import has_formula
from analyzer.metrics.work.registry import _FORMULAS
from analyzer.schema.results import Analysis
from analyzer.trace.kinds import operator_kind


def record(tmp_path: Path, step: Callable[[], Any]) -> Analysis:
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        step()
    path = tmp_path / "trace.json"
    found.export_chrome_trace(str(path))
    return analyze(path)


def flop_of(step: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def test_a_training_step_has_a_model_and_torchs_flop(tmp_path: Path) -> None:
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, stride=2),
        nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.LayerNorm(512), nn.Linear(512, 10),
    )  # fmt: skip
    images, labels = torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))

    def step() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()

    a = record(tmp_path, step)
    assert a.totals.modelled_pct > 99
    assert a.totals.classified_pct > 99
    products = a.rooflines.operators[a.rooflines.operators["kind"].isin(("matmul", "convolution"))]
    assert products["flop"].sum() == flop_of(step)


def test_a_copy_into_another_layout_moves_its_bytes(tmp_path: Path) -> None:
    import torch

    x = torch.randn(8, 64, 32, 32)
    size = x.numel() * 4
    for step in (
        lambda: x.contiguous(memory_format=torch.channels_last),
        lambda: x.permute(0, 2, 3, 1).contiguous(),
        lambda: x.to(memory_format=torch.channels_last),
    ):
        a = record(tmp_path, step)
        assert a.totals.bytes_compulsory == 2 * size
        working = a.launches[a.launches["bytes_compulsory"] > 0]
        assert set(working["op"]) == {"aten::copy_"}
        assert set(working["basis"]) == {"formula"}


def test_no_operator_with_a_formula_is_a_view() -> None:
    assert [name for name in _FORMULAS if operator_kind(name) == "view"] == []
    assert has_formula("aten::clone")
    assert not has_formula("aten::contiguous")


def test_what_grows_is_not_taken_for_what_follows(tmp_path: Path) -> None:
    """Resizing twofold, then something that works on the small size again: the resized one has 128 x 128."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    x, weight = torch.randn(1, 8, 64, 64), torch.randn(8, 8, 1, 1)

    def step() -> None:
        F.relu(F.conv2d(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False), weight, stride=2))

    a = record(tmp_path, step)
    (row,) = a.rooflines.operators[a.rooflines.operators["name"].str.startswith("aten::upsample")].to_dict("records")
    assert row["flop"] == 2 * 4 * 8 * 128 * 128
    grid = torch.rand(1, 128, 128, 2)
    sampled = record(tmp_path, lambda: F.relu(F.avg_pool2d(F.grid_sample(x, grid, align_corners=False), 2)))
    found = sampled.rooflines.operators.set_index("name")["bytes_compulsory"]
    least = 4 * 8 * 128 * 128
    assert found[[name for name in found.index if "grid_sampler" in name]].sum() >= least


@pytest.mark.parametrize("name", ["transposed", "bilinear", "nearest"])
def test_a_backend_that_does_it_all_by_itself_is_no_dispatch(tmp_path: Path, name: str) -> None:
    import torch
    from torch.nn import functional as F  # noqa: N812

    x, weight = torch.randn(2, 16, 64, 64), torch.randn(16, 16, 3, 3)

    def step() -> None:
        if name == "transposed":
            F.conv_transpose2d(x, weight)
        else:
            F.interpolate(x.transpose(2, 3), size=(128, 128), mode=name)

    a = record(tmp_path, step)
    working = a.launches[a.launches["bytes_compulsory"] > 10_000]
    assert set(working["kind"]) == {"convolution" if name == "transposed" else "pooling"}
    assert working["dur_ns"].sum() > 0.5 * a.launches["dur_ns"].sum()
    if name == "transposed":
        assert a.totals.flop == flop_of(step)
