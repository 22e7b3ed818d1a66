"""Tiny models on one thread: two shared cores, so nothing here asserts a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def vit() -> ModelChoice:
    return ModelChoice("vit", "vit_tiny_patch16_224", "ViT-Ti/16")


@pytest.fixture
def cnn() -> ModelChoice:
    return ModelChoice("cnn", "resnet18", "ResNet-18")


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(quiet=True)


@pytest.fixture
def small(tmp_path: Path) -> CaptureSettings:
    """The smallest capture that has every pass."""
    return CaptureSettings(
        device="cpu",
        image_size=64,
        iterations=2,
        traced_steps=3,
        repeats=1,
        warmup_max_s=0.2,
        warmup_min_iterations=1,
        threads=1,
        sample_period_s=0.05,
        calibrate="off",
        out_root=tmp_path / "traces",
    )
