"""``model=``: one model alone, by the name of its file."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from analyzer.cli.failures import config_dir
from analyzer.cli.reading import read_settings
from analyzer.errors import ConfigError
from analyzer.schema.settings import ModelChoice

CHOICES = {"vit": "vit_base_patch16_224", "cnn": "convnext_base", "task": "profile"}


def models(*overrides: str) -> tuple[ModelChoice, ...]:
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        return read_settings(compose("config", overrides=list(overrides)), CHOICES).models


@pytest.mark.parametrize(
    ("name", "family", "label"), [("resnet18", "cnn", "ResNet-18"), ("vit_tiny_patch16_224", "vit", "ViT-Ti/16")]
)
def test_one_model_of_either_family(name: str, family: str, label: str) -> None:
    assert models(f"model={name}") == (ModelChoice(family, name, label),)


def test_it_wins_over_the_groups() -> None:
    assert models("model=resnet18", "vit.name=beit_base_patch16_224", "cnn.name=resnet50")[0].name == "resnet18"


@pytest.mark.parametrize("typed", ["vit=resnet50", "cnn=none", "vit.name=x", "cnn.factory=a:b", "cnn@cnn=none"])
def test_a_model_that_is_typed_beside_it_is_refused(typed: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        config = compose("config", overrides=["model=resnet18"])
        with pytest.raises(ConfigError, match="both say what runs") as caught:
            read_settings(config, CHOICES, overrides=["model=resnet18", typed])
        assert "model=null" in caught.value.hint
        assert read_settings(config, CHOICES, overrides=["model=resnet18", "+vit.options.patch_size=8"])
        assert read_settings(compose("config"), CHOICES, overrides=[typed])


def test_a_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(ConfigError, match=r"compile must be one of .*, not true"):
        models("compile=true")


def test_options_of_its_family_reach_it() -> None:
    given = ("+vit.options.patch_size=32", "+cnn.options.in_chans=4")
    assert models("model=vit_tiny_patch16_224", *given)[0].options == {"patch_size": 32}
    assert models("model=resnet18", *given)[0].options == {"in_chans": 4}


@pytest.mark.parametrize("wrong", ["convnext_bas", "none", "../cnn/resnet18", "Resnet18"])
def test_an_unknown_name_gets_the_nearest(wrong: str) -> None:
    with pytest.raises(ConfigError, match="no model called") as caught:
        models(f"model={wrong}")
    assert caught.value.hint.startswith("nearest: ")
    if wrong == "convnext_bas":
        assert caught.value.hint.startswith("nearest: convnext_base")


def test_a_list_is_no_name() -> None:
    with pytest.raises(ConfigError, match="model must be text"):
        models("model=[resnet18,resnet50]")
