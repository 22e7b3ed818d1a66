from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
import yaml
from torch._inductor.exc import InvalidCxxCompiler

from analyzer.capture import meta, running, session
from analyzer.capture.arguments import Arguments
from analyzer.capture.failures import explain
from analyzer.capture.scopes import followed, module_scopes
from analyzer.errors import AnalyzerError, ConfigError, DeviceError, OutOfMemoryError, UnsupportedError
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice

CONF = Path(__file__).parents[2] / "conf"
PARAMETERS = {
    "vit_base_patch16_224": 86_567_656,
    "resnet50": 25_557_032,
    "convnext_tiny": 28_589_128,
    "swin_tiny_patch4_window7_224": 28_288_354,
}


def choice(name: str, **options: object) -> ModelChoice:
    return ModelChoice("cnn", name, name, options=options)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameters(name: str, count: int) -> None:
    assert meta.parameters(choice(name), 224) == count


@pytest.mark.parametrize("path", sorted(CONF.glob("vit/*.yaml")) + sorted(CONF.glob("cnn/*.yaml")), ids=lambda p: p.stem)
def test_every_model_in_conf_takes_224_px(path: Path) -> None:
    entry = yaml.safe_load(path.read_text())
    assert set(entry) == {"name", "label", "factory", "options", "weights"}
    if path.stem == "none":
        assert entry["name"] is None
        return
    assert entry["name"] == path.stem
    assert meta.record_ops(ModelChoice(path.parent.name, **entry), 1, 224, "float32")


def test_meta_ops_of_a_vit(vit: ModelChoice) -> None:
    ops = meta.record_ops(vit, 2, 64, "bf16")
    names = [op["name"] for op in ops]
    assert names.count("aten::scaled_dot_product_attention") == 12
    assert names.count("aten::addmm") == 12 * 4 + 1
    assert "aten::bmm" not in names
    attention = ops[names.index("aten::scaled_dot_product_attention")]
    query, key, value = attention["inputs"][:3]
    assert query["shape"] == [2, 3, 17, 64]
    assert query["storage"] == key["storage"] == value["storage"]  # views of the one qkv product
    assert attention["outputs"][0]["shape"] == [2, 3, 17, 64]
    assert attention["outputs"][0]["dtype"] == "bfloat16"
    assert attention["outputs"][0]["storage"] != query["storage"]
    convolution = ops[names.index("aten::convolution")]
    assert convolution["outputs"][0]["shape"] == [2, 192, 4, 4]
    assert convolution["inputs"][3] == {"value": [16, 16]}


def test_meta_ops_name_the_module_that_ran_them(vit: ModelChoice) -> None:
    ops = meta.record_ops(vit, 1, 64, "float32")
    modules = {(op["name"], op["module"]) for op in ops}
    assert ("aten::scaled_dot_product_attention", "blocks.0.attn") in modules
    assert ("aten::addmm", "blocks.11.mlp.fc1") in modules
    assert ("aten::convolution", "patch_embed.proj") in modules
    assert ("aten::cat", "VisionTransformer") in modules  # the class token: the root has its class name
    assert all(op["module"] for op in ops)


class _Fails(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError


class _Catches(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.ReLU(), _Fails())
        self.last = torch.nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with contextlib.suppress(ArithmeticError):
            self.inner(x)
        return self.last(x) * 2


def test_a_module_that_raises_is_left_too() -> None:
    recorder, model, x = meta._Recorder(), _Catches(), torch.empty(2, 3, device="meta")
    with followed(model, recorder), recorder:
        model(x)
    assert [(op["name"], op["module"]) for op in recorder.ops] == [
        ("aten::relu", "inner.0"), ("aten::gelu", "last"), ("aten::mul", "_Catches"),
    ]  # fmt: skip
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_meta_ops_hold_tensor_lists(cnn: ModelChoice) -> None:
    swin = choice("swin_tiny_patch4_window7_224")
    assert any("tensors" in a for op in meta.record_ops(swin, 1, 64, "float32") for a in op["inputs"])


BAD = [
    (choice("vit_bas_patch16_224"), 224, "no model named", "vit_base_patch16_224"),
    (choice(""), 224, "no model named", ""),
    (choice("hf-hub:timm/resnet18"), 224, "no model named", ""),
    (choice("vit_base_patch16_224"), 225, "not a multiple", "image_size=224"),
    (choice("convnext_tiny"), 8, "cannot take this input", "image_size"),
    (choice("resnet18", foo=1), 64, "does not take these options", "options"),
    (choice("resnet18", pretrained=True), 64, "pretrained", "remove"),
]


@pytest.mark.parametrize(("wrong", "size", "says", "hint"), BAD)
def test_a_choice_that_cannot_be_met(
    wrong: ModelChoice, size: int, says: str, hint: str, tmp_path: Path, reporter: Reporter
) -> None:
    settings = CaptureSettings(device="cpu", image_size=size, out_root=tmp_path / "traces")
    for run in (lambda: session.plan(wrong, settings), lambda: session.capture(wrong, settings, reporter)):
        with pytest.raises(ConfigError, match=says) as caught:
            run()
        assert "\n" not in caught.value.message
        assert hint in caught.value.hint
    assert not (tmp_path / "traces").exists()


FACTORIES = """
import torch
from torch import nn

class Odd(nn.Module):
    def forward(self, x):
        raise KeyError("no such thing")

class Reads(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.twice = nn.Sequential(self.conv)
    def forward(self, x):
        y = self.twice(x)
        if y.sum().item() > 1e30:
            return y
        return self.conv(x) + y

def good(width=4): return Reads(width)
def odd(): return Odd()
def number(): return 7
def fails(): raise ValueError("broken\\nin two lines")
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_models_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("odd", "KeyError"),
        ("number", "returned int, not a torch.nn.Module"),
        ("fails", "raised ValueError: broken"),
        ("absent", "no function absent"),
    ],
)
def test_a_factory_that_fails(function: str, says: str, factories: str, small: CaptureSettings, reporter: Reporter) -> None:
    own = ModelChoice("vit", "own", "own", f"{factories}:{function}")
    with pytest.raises(AnalyzerError, match=says) as caught:
        session.capture(own, small, reporter)
    assert "\n" not in caught.value.message
    assert not small.out_root.exists()


@pytest.mark.parametrize("path", ["nowhere.models:f", "nowhere", ":f", "os:getcwd:x"])
def test_a_factory_that_is_not_there(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        meta.inspect(ModelChoice("vit", "own", "own", path), 1, 64, "float32")
    assert "package.module:function" in caught.value.hint


def test_a_factory_that_reads_values_runs_unchecked(factories: str, small: CaptureSettings) -> None:
    own = ModelChoice("cnn", "own", "own", f"{factories}:good", {"width": 8})
    assert meta.inspect(own, 1, 64, "float32").reason
    found = session.plan(own, small)
    assert found["parameters"] == 3 * 8 * 9 + 8
    assert any("not checked" in note for note in found["notes"])  # type: ignore[attr-defined]


def test_more_memory_than_there_is_is_refused_beforehand(
    cnn: ModelChoice, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CaptureSettings(device="cpu", batch_size=10_000_000, out_root=tmp_path / "traces")
    with pytest.raises(OutOfMemoryError, match="out of memory") as caught:
        session.capture(cnn, settings, reporter)
    assert "smaller batch_size" in caught.value.hint
    assert not (tmp_path / "traces").exists()


def test_real_allocator_error_is_explained(
    cnn: ModelChoice, tmp_path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_host_memory", lambda: 1 << 62)
    monkeypatch.setattr(running, "make_input", lambda *_: Arguments((torch.empty(1 << 58),)))
    settings = CaptureSettings(device="cpu", image_size=64, calibrate="off", out_root=tmp_path / "traces")
    with pytest.raises(OutOfMemoryError, match="out of memory") as caught:
        session.capture(cnn, settings, reporter)
    assert "smaller batch_size" in caught.value.hint
    assert list((tmp_path / "traces").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (MemoryError(), OutOfMemoryError, "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), OutOfMemoryError, "out of memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory: you tried"), OutOfMemoryError, "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), OutOfMemoryError, "out of memory"),
        (RuntimeError("\"conv\" not implemented for 'Half'"), UnsupportedError, "cannot run in float16"),
        (RuntimeError("No available kernel.  Aborting execution."), UnsupportedError, "attention implementation"),
        (InvalidCxxCompiler(), UnsupportedError, "torch.compile failed on cuda:0: InvalidCxxCompiler"),
        (RuntimeError("CUDA error: an illegal memory access"), DeviceError, "failed"),
        (ValueError("a\nb"), ConfigError, "ValueError: a"),
    ],
)
def test_what_torch_raises(error: Exception, kind: type[AnalyzerError], says: str) -> None:
    found = explain(error, "m", "cuda:0", "float16")
    assert type(found) is kind
    assert says in found.message
    assert "\n" not in found.message
    assert found.hint


class _Inner(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() < 0:
            raise ValueError("negative")
        return x


class _Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = _Inner(), _Inner()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with contextlib.suppress(ValueError):
            self.a(-x)
        return self.b(self.b(x))


def test_scopes_balance_when_forward_raises() -> None:
    model = _Outer()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        with module_scopes(model) as scopes:
            model(torch.ones(1))
            assert scopes.depth == 0
            with pytest.raises(ValueError, match="negative"):
                model(-torch.ones(1))  # now b raises, through the root
            assert scopes.depth == 0
        model(torch.ones(1))
    names = [event.key for event in profiled.events() if event.key.startswith("module::")]
    assert names.count("module::_Outer") == 2
    assert names.count("module::a") == 2
    assert names.count("module::b") == 3
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_scopes_close_on_an_interrupt() -> None:
    class Stops(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    model = torch.nn.Sequential(Stops())
    with pytest.raises(KeyboardInterrupt), module_scopes(model) as scopes:
        model(torch.ones(1))
    assert scopes.depth == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
