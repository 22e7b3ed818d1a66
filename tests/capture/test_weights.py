"""State dicts: tensors are read, code is not, and what does not fit is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from analyzer.capture import meta, session
from analyzer.capture.weights import put_weights
from analyzer.capture.workload import build
from analyzer.errors import ConfigError
from analyzer.schema.settings import CaptureSettings, ModelChoice


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "saved.pt"


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    ],
)
@pytest.mark.parametrize("old_format", [False, True])
def test_tensors_are_taken_over(wrap: object, old_format: bool, file: Path) -> None:
    source, target = net(), net()
    torch.save(wrap(source.state_dict()), file, _use_new_zipfile_serialization=not old_format)  # type: ignore[operator]
    put_weights(target, str(file), "net")
    assert all(torch.equal(source.state_dict()[key], value) for key, value in target.state_dict().items())


def test_safetensors(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    source, target = net(), net()
    save_file(source.state_dict(), tmp_path / "saved.safetensors")
    put_weights(target, str(tmp_path / "saved.safetensors"), "net")
    assert torch.equal(source[0].weight, target[0].weight)


def test_a_timm_model_with_weights_is_checked_without_data(file: Path, small: CaptureSettings) -> None:
    choice = ModelChoice("cnn", "resnet18", "ResNet-18", weights=str(file))
    source = build(ModelChoice("cnn", "resnet18", "ResNet-18"), 1, 64).model
    torch.save(source.state_dict(), file)
    plan = session.plan(choice, small)
    assert plan["weights"] == "saved.pt"
    assert str(file) not in str(plan)
    assert torch.equal(build(choice, 1, 64).model.conv1.weight, source.conv1.weight)
    state = source.state_dict()
    state["fc.weight"] = torch.ones(10, 512)
    torch.save(state, file)
    with pytest.raises(ConfigError, match=r"fc.weight is \[10, 512\] in the file, \[1000, 512\] in the model"):
        meta.inspect(choice, 1, 64, "float32")


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("force", ["0", "1"])
def test_a_pickle_that_needs_code_is_refused(file: Path, force: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", force)
    torch.save({"weight": torch.ones(1), "extra": Code()}, file)
    with pytest.raises(ConfigError, match=r"saved.pt holds more than tensors \(it needs .*mkdir\)") as caught:
        put_weights(net(), str(file), "net")
    assert "state_dict()" in caught.value.hint
    assert not (file.parent / "ran").exists()


def test_a_whole_module_is_refused(file: Path) -> None:
    torch.save(net(), file)
    with pytest.raises(ConfigError, match="holds more than tensors"):
        put_weights(net(), str(file), "net")


def test_a_torchscript_archive_is_refused(file: Path) -> None:
    torch.jit.script(net()).save(str(file))
    with pytest.raises(ConfigError, match="TorchScript archive"):
        put_weights(net(), str(file), "net")


def test_keys_that_do_not_fit_are_named(file: Path) -> None:
    state = net().state_dict()
    del state["0.weight"], state["0.bias"]
    state |= {"\x1b[31mred": torch.ones(1), "long" * 100: torch.ones(1)}
    torch.save(state, file)
    with pytest.raises(
        ConfigError, match=r"2 missing \(0\.weight, 0\.bias\) and 2 unknown \(\?\[31mred, long.*\.\.\.\)"
    ) as caught:
        put_weights(net(), str(file), "net")
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_damaged_file(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"saved\.pt") as caught:
        put_weights(net(), str(file), "net")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("value", [torch.ones(3), [torch.ones(3)], {"a": 1}, 7])
def test_what_is_no_state_dict(value: object, file: Path) -> None:
    torch.save(value, file)
    with pytest.raises(ConfigError, match="not a state dict"):
        put_weights(net(), str(file), "net")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(ConfigError, match="is not a file that is there") as caught:
            put_weights(net(), str(path), "net")
        assert str(tmp_path.parent) not in caught.value.message


@pytest.mark.parametrize("prefix", ["_orig_mod.module.", "module._orig_mod.", "module.module.", "model.", "model._orig_mod."])
def test_what_training_puts_before_every_name_is_left_out(prefix: str, file: Path) -> None:
    source, model = net(), net()
    torch.save({"state_dict": {f"{prefix}{key}": value for key, value in source.state_dict().items()}}, file)
    put_weights(model, str(file), "net")
    assert torch.equal(model[0].weight, source[0].weight)


def test_a_model_keeps_names_that_look_like_a_wrapper(file: Path) -> None:
    source, model = nn.ModuleDict({"module": net()}), nn.ModuleDict({"module": net()})
    torch.save(source.state_dict(), file)
    put_weights(model, str(file), "net")
    assert torch.equal(model["module"][0].weight, source["module"][0].weight)


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (lambda weight: weight.to("meta"), r"0\.weight without data"),
        (lambda weight: weight.to(torch.complex64), r"0\.weight in complex numbers"),
    ],
)
def test_weights_without_real_numbers(weight: Callable[[torch.Tensor], torch.Tensor], says: str, file: Path) -> None:
    state = net().state_dict()
    torch.save(state | {"0.weight": weight(state["0.weight"])}, file)
    with pytest.raises(ConfigError, match=says):
        put_weights(net(), str(file), "net")


def test_hints_on_files(file: Path) -> None:
    torch.save({"net": net().state_dict(), "epoch": 3}, file)
    with pytest.raises(ConfigError, match="with the keys net, epoch, not a state dict"):
        put_weights(net(), str(file), "net")
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        put_weights(net(), str(file), "net")
    assert "cut off: copy it again" in caught.value.hint
