from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import types

import pytest
import torch

from analyzer.capture import environment, torchvision_shim
from analyzer.capture.environment import device_facts, resolve_device, versions
from analyzer.capture.presets import dtype_name, resolve
from analyzer.errors import ConfigError, DeviceError, UnsupportedError
from analyzer.schema.settings import CaptureSettings
from tests.conftest import ROOT

CPU = CaptureSettings(device="cpu")


def test_cpu_presets() -> None:
    found = resolve(CPU)
    assert (found.batch_size, found.dtype, found.image_size, found.iterations) == (1, "float32", 224, 12)


def test_cuda_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    found = resolve(CaptureSettings())
    assert str(found.device) == "cuda:0"
    assert (found.batch_size, found.dtype, found.image_size) == (32, "bfloat16", 224)
    assert found.iterations >= 30
    assert str(resolve_device("cuda:1")) == "cuda:1"
    with pytest.raises(DeviceError, match=r"no device cuda:7 .*cuda:0, cuda:1, cpu"):
        resolve_device("cuda:7")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    turing = resolve(CaptureSettings())
    assert turing.dtype == "float16"
    assert turing.notes


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps", "gpu", "cuda:x", ""])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="here: cpu") as caught:
        resolve_device(name)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": -3},
        {"batch_size": 1.5},
        {"batch_size": True},
        {"batch_size": 1 << 40},
        {"image_size": 0},
        {"iterations": 0},
        {"traced_steps": 0},
        {"repeats": 0},
        {"threads": 0},
        {"warmup_min_iterations": 0},
        {"warmup_max_s": -1.0},
        {"warmup_max_s": math.nan},
        {"sample_period_s": 0.0},
        {"seed": -1},
        {"calibrate": "maybe"},
        {"dtype": "int8"},
        {"dtype": "tf33"},
        {"layout": "nhwc"},
        {"attention": "flash3"},
        {"compile": "on"},
    ],
)
def test_settings_that_cannot_be_meant(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(dataclasses.replace(CPU, **change))  # type: ignore[arg-type]
    assert "\n" not in caught.value.message
    assert caught.value.hint


def _gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def test_tf32_is_float32_tensors_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpu(monkeypatch, (8, 0))
    found = resolve(CaptureSettings(dtype="TF32"))
    assert (found.dtype, found.tensor_dtype, found.torch_dtype) == ("tf32", "float32", torch.float32)
    assert resolve(CaptureSettings(dtype="bf16")).tensor_dtype == "bfloat16"


def test_tf32_is_refused_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="needs an NVIDIA GPU, and cpu is none"):
        resolve(dataclasses.replace(CPU, dtype="tf32"))
    _gpu(monkeypatch, (7, 5))
    with pytest.raises(UnsupportedError, match=r"compute capability 8\.0, and cuda:0 has 7\.5"):
        resolve(CaptureSettings(dtype="tf32"))
    _gpu(monkeypatch, (9, 4))
    monkeypatch.setattr(torch.version, "hip", "6.2")
    with pytest.raises(UnsupportedError, match="AMD"):
        resolve(CaptureSettings(dtype="tf32"))


@pytest.mark.parametrize("attention", ["efficient", "cudnn"])
def test_attention_that_a_cpu_lacks(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = dataclasses.replace(CPU, attention=attention)
    with pytest.raises(UnsupportedError, match=f"attention={attention} does not exist on a CPU"):
        resolve(asked, "vit")
    assert resolve(asked, "cnn").attention == "auto"
    _gpu(monkeypatch, (9, 0))
    assert resolve(CaptureSettings(attention=attention), "vit").attention == attention


def test_dtype_names() -> None:
    for short, name in (("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32"), ("torch.float16", "float16")):
        assert dtype_name(short) == name


def test_facts_of_the_cpu() -> None:
    facts = device_facts(torch.device("cpu"))
    assert facts.type == "cpu"
    assert facts.name
    assert facts.memory_bytes
    assert environment.device_uuid(torch.device("cpu")) is None
    assert {"torch", "timm", "python", "analyzer"} <= set(versions())


class _Broken:
    """Finds torchvision and fails as one that was built for another torch does."""

    def __init__(self, message: str) -> None:
        self.message, self.asked = message, 0

    def __call__(self, name: str) -> types.ModuleType:
        self.asked += 1
        if self.asked == 1:
            sys.modules["torchvision"] = types.ModuleType("torchvision")
            raise RuntimeError(self.message)
        return types.ModuleType(name)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> _Broken:
    torchvision_shim.ensure_torchvision()  # the real one, which comes back afterwards
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torchvision"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    broken = _Broken("operator torchvision::nms does not exist")
    monkeypatch.setattr(torchvision_shim.importlib, "import_module", broken)
    monkeypatch.setattr(torchvision_shim, "_declare", lambda: None)
    return broken


def test_shim_acts_on_the_one_failure(broken: _Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert torchvision_shim.ensure_torchvision()
    assert broken.asked == 2


def test_shim_never_acts_on_a_cuda_torch(broken: _Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(RuntimeError, match="torchvision::nms"):
        torchvision_shim.ensure_torchvision()
    assert broken.asked == 1


def test_shim_leaves_other_failures_alone(broken: _Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    broken.message = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_shim.ensure_torchvision()


def test_torchvision_is_prepared_without_its_import() -> None:
    """In a process of its own: an import cannot be taken back."""
    code = (
        "import sys; from analyzer.capture import torchvision_shim as shim; shim.prepare_torchvision(); "
        "print('torchvision' in sys.modules); import torchvision.ops, timm; print(timm.is_model('resnet50'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_timm_loads_here() -> None:
    from analyzer.capture.workload import load_timm

    assert load_timm().is_model("resnet50")
    assert not torchvision_shim.ensure_torchvision()  # loaded by now
