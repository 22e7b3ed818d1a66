"""Autocast, cuDNN's search and a batch that lies on the host: what they do to a step, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import json
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from analyzer.analysis import analyze
from analyzer.capture import calibrate, environment, modes, presets, session
from analyzer.capture.meta import Inspection
from analyzer.capture.points import Identity, plan_point
from analyzer.capture.presets import Resolved, resolve
from analyzer.errors import ConfigError, UnsupportedError
from analyzer.insight.reproduction import is_own, recording_command
from analyzer.progress import Reporter
from analyzer.schema.run import DeviceFacts, ModelFacts, RunFacts, RunSettings, WarmupFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir

CPU = CaptureSettings(device="cpu")


def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "resolve_device", lambda _: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


def test_autocast_keeps_float32_and_names_what_it_casts_to(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(dataclasses.replace(CPU, autocast=True))
    assert (found.dtype, found.tensor_dtype, found.torch_dtype) == ("bfloat16", "float32", torch.float32)
    assert resolve(dataclasses.replace(CPU, autocast=True, dtype="fp16")).dtype == "float16"
    _gpu(monkeypatch)
    assert resolve(CaptureSettings(autocast=True)).tensor_dtype == "float32"


@pytest.mark.parametrize("dtype", ["float32", "fp32", "tf32"])
def test_autocast_needs_something_to_cast_to(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpu(monkeypatch)
    with pytest.raises(ConfigError, match="leaves nothing to cast to") as caught:
        resolve(CaptureSettings(autocast=True, dtype=dtype))
    assert caught.value.hint == "use dtype=bfloat16 or dtype=float16, or autocast=false"


def test_what_a_cpu_cannot_do_or_need_not() -> None:
    with pytest.raises(UnsupportedError, match="a model on a CPU reads it where it lies"):
        resolve(dataclasses.replace(CPU, input="host"))
    found = resolve(dataclasses.replace(CPU, cudnn_benchmark=True))
    assert found.cudnn_benchmark is None
    assert found.notes == ("cudnn_benchmark=true means nothing on a CPU, which runs no cuDNN",)
    with pytest.raises(ConfigError, match="input=disk is unknown"):
        resolve(dataclasses.replace(CPU, input="disk"))


def test_every_step_casts_the_weights_anew() -> None:
    """Two steps cast twice as much as one: what people deploy enters the context for each batch."""
    settings = resolve(dataclasses.replace(CPU, autocast=True))
    model = nn.Linear(8, 8).requires_grad_(False)
    seen: list[torch.dtype] = []
    model.register_forward_hook(lambda _module, _given, out: seen.append(out.dtype))
    step = modes.feeding(modes.casting(model, settings), torch.zeros(2, 8), settings)
    counts = []
    for steps in (1, 2):
        with torch.inference_mode(), torch.profiler.profile() as profiler:
            for _ in range(steps):
                step()
        counts.append(sum(event.count for event in profiler.key_averages() if event.key == "aten::_to_copy"))
    assert counts == [3, 6]  # weight, bias and input of each step
    assert set(seen) == {torch.bfloat16}
    assert model.weight.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_without_autocast_a_step_is_the_model_itself() -> None:
    model = nn.Identity()
    assert modes.casting(model, resolve(CPU)) is model


class _Batch:
    """A batch that notes where it is copied to."""

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self.copies: list[tuple[Any, bool]] = []

    def pin_memory(self) -> _Batch:
        return _Batch(pinned=True)

    def to(self, device: torch.device, *, non_blocking: bool) -> tuple[str, _Batch]:
        self.copies.append((device, non_blocking))
        return "on the device", self


def test_a_batch_on_the_host_is_copied_in_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpu(monkeypatch)
    settings = resolve(CaptureSettings(input="host"))
    given: list[Any] = []
    step = modes.feeding(given.append, _Batch(), settings)
    assert given == []
    step()
    step()
    (where, batch), (_, again) = given
    assert (where, batch.pinned, again is batch) == ("on the device", True, True)
    assert batch.copies == [(torch.device("cuda:0"), True)] * 2


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("asked", [True, False, None])
def test_cudnns_search_holds_inside_and_nothing_stays(asked: bool | None, before: bool, small: CaptureSettings) -> None:
    kept = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before
    try:
        settings: Resolved = dataclasses.replace(resolve(small), cudnn_benchmark=asked)
        with modes.in_force(settings):
            assert torch.backends.cudnn.benchmark is (before if asked is None else asked)
        assert torch.backends.cudnn.benchmark is before
    finally:
        torch.backends.cudnn.benchmark = kept


def test_an_autocast_run_is_whole(small: CaptureSettings, vit: ModelChoice) -> None:
    choice = dataclasses.replace(vit, options={"depth": 1})
    settings = dataclasses.replace(small, autocast=True)
    run = rundir.open_run(session.capture(choice, settings, Reporter(quiet=True)))
    assert run.facts is not None
    assert (run.facts.settings.dtype, run.facts.settings.autocast, run.facts.settings.input) == ("bfloat16", True, "device")
    assert "-bfloat16-autocast-2" in run.name
    assert run.ops is not None
    recorded = json.loads(gzip.decompress(run.ops.read_bytes()))["ops"]
    products = [op["inputs"] for op in recorded if op["name"] == "aten::addmm"]
    assert products
    assert {tensor["dtype"] for inputs in products for tensor in inputs if "dtype" in tensor} == {"bfloat16"}
    found = analyze(run.trace.parent)
    launches = found.launches
    # a product computes in the dtype that was cast to, and the cast is a copy of its own
    assert set(launches.loc[launches["op"].eq("aten::addmm"), "dtype"]) == {"bfloat16"}
    casts = launches[launches["owner_op"].eq("aten::_to_copy") & launches["op"].eq("aten::copy_")]
    assert set(casts["kind"]) == {"layout"}
    assert casts["bytes_compulsory"].gt(0).all()
    assert not any("other operators" in text for text in found.warnings)


def test_ceilings_of_autocast_are_those_of_its_dtype(small: CaptureSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Resolved] = []

    def keep(settings: Resolved, *_: object) -> calibrate.Calibration:
        seen.append(settings)
        return calibrate.Calibration((), "cache")

    monkeypatch.setattr(calibrate, "_calibrate", keep)
    settings = resolve(dataclasses.replace(small, autocast=True, calibrate="auto"))
    calibrate.calibrate(settings, environment.device_facts(torch.device("cpu")), {})
    assert seen[0].tensor_dtype == "bfloat16"


def test_the_plan_and_the_name_show_them(cnn: ModelChoice, small: CaptureSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = session.plan(cnn, dataclasses.replace(small, autocast=True))
    assert (plan["autocast"], plan["input"], plan["dtype"]) == (True, "device", "bfloat16")
    _gpu(monkeypatch)
    resolved = resolve(dataclasses.replace(small, autocast=True, input="host", cudnn_benchmark=True))
    found = Inspection(parameters=1, shape=(32, 3, 64, 64), image_size=64)
    assert session._run_name(cnn, resolved, found, "T") == "resnet18-cuda-b32-64-bfloat16-autocast-host-cudnnbench-T"


def test_a_point_of_a_sweep_names_them_and_older_keys_stay() -> None:
    facts = DeviceFacts(type="cpu", name="A CPU")
    identity = Identity(
        facts=facts, lock="cpu", versions={"torch": "2.13.0"}, batch_size=1, image_size=224, dtype="float32", threads=2,
        short_forms={"bf16": "bfloat16", "fp32": "float32"},
    )  # fmt: skip
    choice = ModelChoice("cnn", "resnet18", "ResNet-18")
    cast = plan_point(choice, CaptureSettings(autocast=True), identity).setting
    assert (cast.dtype, cast.autocast) == ("bfloat16", True)
    on_cpu = plan_point(choice, CaptureSettings(cudnn_benchmark=True), identity)
    plain = plan_point(choice, CaptureSettings(), identity)
    assert on_cpu.key == plain.key  # a CPU runs no cuDNN
    # the key that a point without these settings had before there were any
    assert plain.key == "a7589719a56988384c705209fc0cfa22"


def test_the_command_of_a_run_without_one_names_them(vit: ModelChoice) -> None:
    facts = RunFacts(
        format_version=1,
        name="run",
        created_utc="2026-01-01T00:00:00+00:00",
        device=DeviceFacts(type="cuda", name="A GPU"),
        model=ModelFacts(name=vit.name, family="vit", label=vit.label, parameters=1, input_shape=(8, 3, 224, 224)),
        settings=RunSettings(
            batch_size=8, image_size=224, dtype="bfloat16", iterations=30, traced_steps=5, autocast=True, input="host",
            cudnn_benchmark=True,
        ),
        versions={},
        warmup=WarmupFacts(iterations=9, steady=True, spread_pct=1.0),
    )  # fmt: skip
    words = recording_command(facts)
    assert {"autocast=true", "input=host", "cudnn_benchmark=true", "dtype=bfloat16"} <= set(words)
    assert is_own(words)
    plain = msgspec.structs.replace(facts, settings=RunSettings(
        batch_size=8, image_size=224, dtype="bfloat16", iterations=30, traced_steps=5
    ))  # fmt: skip
    assert not any(word.startswith(("autocast=", "input=", "cudnn_benchmark=")) for word in recording_command(plain))
