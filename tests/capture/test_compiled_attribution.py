"""Compiled and eager runs of a tiny ViT and a tiny CNN, from the model to the page: whose time is whose."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest

from analyzer.analysis import analyze, compare
from analyzer.capture import session
from analyzer.examination import examine
from analyzer.progress import Reporter
from analyzer.schema.results import Analysis
from analyzer.schema.settings import CaptureSettings, ModelChoice

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")

MODELS = """
from timm.models.vision_transformer import VisionTransformer
from torch import nn

def vit():
    return VisionTransformer(img_size=64, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes=10)

def cnn():
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, 1, 1, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The run directories by model and ``compile``."""
    place = tmp_path_factory.mktemp("compiled")
    (place / "attributed_models.py").write_text(MODELS)
    small = CaptureSettings(
        device="cpu", image_size=64, iterations=2, traced_steps=3, repeats=1, warmup_max_s=0.2, warmup_min_iterations=1,
        threads=1, sample_period_s=0.05, calibrate="off", out_root=place / "traces",
    )  # fmt: skip
    out = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for family in ("vit", "cnn"):
            choice = ModelChoice(family, f"tiny {family}", f"tiny {family}", f"attributed_models:{family}")
            for mode in ("off", "default"):
                settings = dataclasses.replace(small, compile=mode)
                out[family, mode] = session.capture(choice, settings, Reporter(quiet=True))
    sys.modules.pop("attributed_models", None)
    return out


@pytest.fixture(scope="module")
def analyses(runs: dict[tuple[str, str], Path]) -> dict[tuple[str, str], Analysis]:
    return {key: analyze(path) for key, path in runs.items()}


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_nearly_all_of_the_time_of_compiled_code_has_operator_and_module(
    analyses: dict[tuple[str, str], Analysis], family: str
) -> None:
    found = analyses[family, "default"].attribution
    assert found is not None
    assert found.operators_pct >= 95
    assert found.modules_pct >= 95
    assert found.matched_pct == 100
    assert found.fused_pct > 0
    assert found.graphs == 1
    assert found.notes == ()


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_compiled_code_does_the_arithmetic_of_the_model(analyses: dict[tuple[str, str], Analysis], family: str) -> None:
    eager, compiled = analyses[family, "off"].totals, analyses[family, "default"].totals
    assert compiled.flop == pytest.approx(eager.flop, rel=0.01)
    assert compiled.modelled_pct == pytest.approx(100)
    assert compiled.classified_pct == pytest.approx(100)


def test_fused_kernels_of_the_vit_are_those_of_its_layers(analyses: dict[tuple[str, str], Analysis]) -> None:
    rows = analyses["vit", "default"].launches
    gelu = rows[rows["op"] == "aten::gelu"]
    assert set(gelu["module"]) == {"blocks.0.mlp.act", "blocks.1.mlp.act"}
    norms = rows[rows["op"].str.contains("aten::add+aten::native_layer_norm", regex=False)]
    # the first norm comes after the position is added; each block has two, and the last one stands behind the blocks
    assert set(norms["module"]) == {"blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2", "norm"}
    assert set(norms["kind"]) == {"normalisation"}
    assert (norms["bytes_apart"] > norms["bytes_compulsory"]).all()
    assert (norms["parts"] >= 2).all()
    products = rows[rows["kind"] == "matmul"]
    assert {"blocks.0.attn.qkv", "blocks.1.mlp.fc2", "head"} <= set(products["module"])
    assert not rows["op"].str.startswith("Torch-Compiled").any()


def test_fused_kernels_of_the_cnn_are_those_of_its_layers(analyses: dict[tuple[str, str], Analysis]) -> None:
    rows = analyses["cnn", "default"].launches
    fused = rows[rows["op"].str.contains("_native_batch_norm_legit_no_training", regex=False)]
    assert set(fused["module"]) == {"1", "5"}
    assert (fused["parts"] >= 2).all()
    assert set(rows.loc[rows["kind"] == "convolution", "module"]) == {"0", "4"}


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_the_doctor_says_the_same_of_modules(runs: dict[tuple[str, str], Path], family: str) -> None:
    found = {c.key: c for c in examine(runs[family, "default"]).capabilities}["modules"]
    assert found.status == "yes"
    assert "compiled.json.gz" in found.detail


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_a_compiled_run_stands_beside_an_eager_one(analyses: dict[tuple[str, str], Analysis], family: str) -> None:
    study = compare(analyses[family, "off"], analyses[family, "default"])
    assert study.gap is not None
    assert sum(part.delta_us for part in study.gap.parts) == pytest.approx(study.gap.total_us)
