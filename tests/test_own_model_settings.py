"""Models of one's own on the command line and in sweeps: labels, weights, and what tells one version from the next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from analyzer.capture.own_models import as_run, files_of
from analyzer.cli.failures import config_dir
from analyzer.cli.reading import read_settings
from analyzer.errors import ConfigError
from analyzer.format import input_size
from analyzer.schema.settings import ModelChoice
from analyzer.schema.sweep import PointSetting
from tests.report.synthetic import Fake, write_run


def models(*overrides: str, vit: str = "vit_base_patch16_224", cnn: str = "convnext_base") -> tuple[ModelChoice, ...]:
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        config = compose("config", overrides=[f"vit={vit}", f"cnn={cnn}", *overrides])
    return read_settings(config, {"vit": vit, "cnn": cnn}).models


def test_a_factory_stands_for_the_model_of_its_side() -> None:
    found = models("vit.factory=pkg.zoo:Zoo.make", "vit.weights=a/b.pt", "+vit.options.depth=3", cnn="none")
    assert found == (ModelChoice("vit", "Zoo.make", "Zoo.make", "pkg.zoo:Zoo.make", {"depth": 3}, "a/b.pt"),)
    assert [choice.label for choice in models("cnn.factory=zoo:make")] == ["ViT-B/16", "make"]


def test_a_label_that_was_given_stays() -> None:
    assert models("vit.factory=zoo:make", "vit.label=My ViT", cnn="none")[0].label == "My ViT"
    assert models("vit.name=beit_base_patch16_224", "vit.label=BEiT", cnn="none")[0].label == "BEiT"
    assert models("vit.name=beit_base_patch16_224", cnn="none")[0].label == "beit_base_patch16_224"


def test_two_functions_of_one_name_are_told_apart() -> None:
    assert [choice.label for choice in models("vit.factory=a.vit:make", "cnn.factory=b:make")] == ["a.vit.make", "b.make"]


@pytest.mark.parametrize("value", ["7", "''", "[a,b]"])
def test_weights_must_name_a_file(value: str) -> None:
    with pytest.raises(ConfigError, match=r"vit\.weights must name a file"):
        models(f"vit.weights={value}")


def test_weights_go_with_the_one_model() -> None:
    assert models("model=resnet18", "cnn.weights=state.pt")[0].weights == "state.pt"


def test_an_edited_model_and_other_weights_are_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = ModelChoice("vit", "make", "make", "mine:make", weights="state.pt")
    assert files_of(own) == {}
    (tmp_path / "mine.py").write_text("one")
    (tmp_path / "state.pt").write_bytes(b"1")
    first = files_of(own)
    assert set(first) == {"factory", "weights"}
    assert all(len(text) == 16 for text in first.values())
    (tmp_path / "mine.py").write_text("two")
    os.utime(tmp_path / "state.pt", ns=(1, 1))
    second = files_of(own)
    assert first["factory"] != second["factory"]
    assert first["weights"] != second["weights"]
    assert files_of(ModelChoice("vit", "x", "x", "../mine:make")) == {}


def test_a_point_has_the_batch_that_its_example_input_has(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake())
    setting = PointSetting(
        model="mine:make", family="vit", label="make", batch_size=1, image_size=10, dtype="float32", factory="mine:make"
    )
    found = as_run(setting, run.parent, run.name)
    assert (found.batch_size, found.image_size) != (1, 10)
    assert as_run(setting, run.parent, "gone") == setting
    assert as_run(setting, run.parent, None) == setting


@pytest.mark.parametrize(("pixels", "shape", "text"), [(224, (1, 3, 224, 224), "224 px"), (None, (3, 5, 8), "input 3×5×8")])
def test_an_input_that_is_no_image_shows_its_shape(pixels: int | None, shape: tuple[int, ...], text: str) -> None:
    assert input_size(pixels, shape) == text
