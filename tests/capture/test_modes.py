"""Layout, attention, precision and torch.compile: what a run with them records, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from analyzer.analysis import analyze
from analyzer.capture import latency, modes, processes, profiler, repeats, running, session
from analyzer.capture.latency import Clock, Timings, warm_up
from analyzer.capture.presets import Resolved, resolve
from analyzer.errors import DeviceError, OutOfMemoryError, UnsupportedError
from analyzer.progress import Reporter
from analyzer.schema.run import Run, RunSettings
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir


def _facts(run: Run) -> tuple[RunSettings, str | None, tuple[str, ...]]:
    assert run.facts is not None
    return run.facts.settings, run.facts.model.attention_backend, run.facts.warnings


def _capture(choice: ModelChoice, settings: CaptureSettings, **changes: Any) -> Run:
    return rundir.open_run(session.capture(choice, dataclasses.replace(settings, **changes), Reporter(quiet=True)))


def _operators(run: Run) -> list[dict[str, Any]]:
    assert run.ops is not None
    found: list[dict[str, Any]] = json.loads(gzip.decompress(run.ops.read_bytes()))["ops"]
    return found


def test_channels_last_is_the_layout_of_weights_and_input(cnn: ModelChoice, small: CaptureSettings) -> None:
    run = _capture(cnn, small, layout="channels_last")
    assert _facts(run)[0].memory_format == "channels_last"
    assert run.name.startswith("resnet18-cpu-b1-64-float32-nhwc-2")
    first = next(op for op in _operators(run) if op["name"] == "aten::conv2d")
    image, weight = first["inputs"][:2]
    assert image["stride"] == [64 * 64 * 3, 1, 64 * 3, 3]
    assert weight["shape"] == [64, 3, 7, 7]
    assert weight["stride"] == [7 * 7 * 3, 1, 7 * 3, 3]


def test_a_layout_that_a_model_does_not_have(small: CaptureSettings) -> None:
    settings = resolve(dataclasses.replace(small, layout="channels_last"))
    with pytest.raises(UnsupportedError, match="the model cannot be laid out as channels_last"):
        modes.place(nn.Conv3d(1, 2, 3), settings)
    assert modes.place(nn.Conv2d(3, 4, 3), settings).weight.stride() == (27, 1, 9, 3)


@pytest.mark.parametrize(("asked", "ran"), [("flash", "flash_attention_for_cpu"), ("math", "attention_math")])
def test_the_attention_asked_for_is_what_runs(asked: str, ran: str, vit: ModelChoice, small: CaptureSettings) -> None:
    run = _capture(vit, small, attention=asked)
    settings, backend, warnings = _facts(run)
    assert (settings.attention, settings.compile, settings.execution) == (asked, "off", "eager")
    assert backend == ran
    assert not warnings
    assert f"-float32-{asked}-2" in run.name
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.math_sdp_enabled()


def test_attention_means_nothing_to_a_cnn(cnn: ModelChoice, small: CaptureSettings) -> None:
    settings, backend, warnings = _facts(_capture(cnn, small, attention="flash"))
    assert (settings.attention, backend, warnings) == (None, None, ())


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")

MODELS = """
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, biased):
        super().__init__()
        self.biased = biased
        self.proj = nn.Conv2d(3, 8, 16, 16)
    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)[:, None]
        if not self.biased:
            return (x @ x.transpose(-2, -1)).softmax(-1) @ x
        return nn.functional.scaled_dot_product_attention(x, x, x[..., :4].contiguous())

class Uncompiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
    def forward(self, x):
        if not torch.compiler.is_compiling() and x.device.type != "meta":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.conv(x).relu()

def fits_compiled(): return Uncompiled()
def in_tf32():
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"
    return nn.Conv2d(3, 8, 3)
def by_hand(): return Attention(False)
def uneven(): return Attention(True)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"attention_models_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return name


def test_attention_written_by_hand_is_told(models: str, small: CaptureSettings) -> None:
    run = _capture(ModelChoice("vit", "own", "own", f"{models}:by_hand"), small, attention="flash")
    _, backend, warnings = _facts(run)
    assert backend is None
    assert warnings == ("attention=flash had no effect: the model calls no scaled_dot_product_attention",)


def test_attention_that_cannot_run_is_unsupported(models: str, small: CaptureSettings) -> None:
    own = ModelChoice("vit", "own", "own", f"{models}:uneven")
    assert _facts(_capture(own, small))[1] == "attention_math"
    with pytest.raises(UnsupportedError, match="the asked-for attention implementation cannot run"):
        _capture(own, small, attention="flash")


def _precisions() -> dict[str, str]:
    return modes._each_precision()


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    """Whatever a test sets of the precision of float32, this process has as before afterwards."""
    kept = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, _precisions()
    yield
    torch.set_float32_matmul_precision(kept[0])
    torch.backends.cudnn.allow_tf32 = kept[1]
    for path, value in kept[2].items():
        modes._node(path).fp32_precision = value


GPU = torch.device("cuda:0")


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize("before", [None, ("highest", False), ("medium", True), ("high", False)])
@pytest.mark.parametrize(("dtype", "inside"), [("tf32", ("high", True)), ("float32", ("highest", False))])
def test_a_precision_holds_inside_and_nothing_stays(
    dtype: str, inside: tuple[str, bool], before: tuple[str, bool] | None, small: CaptureSettings
) -> None:
    if before is not None:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
    kept = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, _precisions()
    with modes.precision(dataclasses.replace(resolve(small), dtype=dtype)):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == inside
        assert (modes.matmul_precision(GPU), modes.convolution_tf32()) == inside
        assert modes.matmul_precision(torch.device("cpu")) == inside[0]
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, _precisions()) == kept
    with modes.precision(dataclasses.replace(resolve(small), dtype="bfloat16")):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, _precisions()) == kept


needs_nodes = pytest.mark.skipif(not modes._each_precision(), reason="torch has no fp32_precision before 2.9")


@needs_nodes
@pytest.mark.usefixtures("_as_it_was")
def test_the_newer_setting_of_a_program_is_read_kept_and_overruled(small: CaptureSettings) -> None:
    torch.backends.fp32_precision = "tf32"
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="precision"):
        torch.get_float32_matmul_precision()
    assert (modes.matmul_precision(GPU), modes.convolution_tf32()) == ("high", True)
    kept = _precisions()
    with modes.precision(resolve(small)):
        assert (modes.matmul_precision(GPU), modes.convolution_tf32()) == ("highest", False)
    assert _precisions() == kept


def test_a_torch_before_the_newer_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "_PRECISIONS", ("nowhere",))
    assert modes.matmul_precision(GPU) == torch.get_float32_matmul_precision()
    assert modes.convolution_tf32() == torch.backends.cudnn.allow_tf32

    def refuse() -> str:
        raise RuntimeError("mixed use of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    assert modes.matmul_precision(GPU) is None


@needs_nodes
@pytest.mark.usefixtures("_as_it_was")
def test_a_model_that_sets_the_newer_precision_loses_no_measurement(models: str, small: CaptureSettings) -> None:
    """Everything that reads the precision does so while it contradicts the older setting."""
    run = _capture(ModelChoice("cnn", "own", "own", f"{models}:in_tf32"), small, dtype="float32")
    settings, _, warnings = _facts(run)
    assert settings.matmul_precision == "high"
    assert warnings == ("dtype=float32 forbids TF32, and the model allows it again",)


def test_a_tf32_run_says_what_was_allowed(
    cnn: ModelChoice, small: CaptureSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everything but the device: a CPU refuses tf32, so the resolved settings are handed in."""
    resolved = dataclasses.replace(resolve(small), dtype="tf32")
    one = session._Session(cnn, small, resolved, Reporter(quiet=True), tmp_path)
    with running.prepared(cnn, resolved) as ready:
        assert {p.dtype for p in ready.model.parameters()} == {torch.float32}
        found = one._settings_facts(ready)
    assert (found.dtype, found.matmul_precision) == ("tf32", "high")


@needs_compiler
def test_a_compiled_run_is_whole(small: CaptureSettings, vit: ModelChoice) -> None:
    small_vit = dataclasses.replace(vit, options={"depth": 1})
    run = _capture(small_vit, small, compile="default", attention="math", repeats=2)
    settings, backend, warnings = _facts(run)
    assert (settings.compile, settings.execution) == ("default", "torch.compile (default)")
    assert backend is None  # the trace names none: math is spelled out as products
    assert "-float32-math-default-2" in run.name
    assert not any("compile" in text for text in warnings)
    assert run.facts is not None
    assert run.facts.warmup.note.startswith(f"compiled in {modes.SETTLING_CALLS} calls before it")
    timings = rundir.read_timings(run)
    # the calls that compile are timed as none of the passes
    warm = timings[(timings["pass"] == "warmup") & (timings["repeat"] == 0)]
    assert len(warm) == run.facts.warmup.iterations
    assert set(timings["repeat"]) == {0, 1}
    events = json.loads(gzip.decompress(run.trace.read_bytes()))["traceEvents"]
    assert any(str(event["name"]).startswith("Torch-Compiled Region") for event in events)
    assert not any(str(event["name"]).startswith("module::") for event in events)
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" not in {event["name"] for event in events}
    assert "/tmp" not in json.dumps(events)
    assert (run.ops, run.ungraphed) == (None, None)
    assert run.compiled is not None
    assert "operands" not in {one.name for one in run.facts.passes}
    study = analyze(run.trace.parent)
    assert not any("other operators" in text or "ops.json.gz" in text for text in study.warnings)
    assert not study.launches["op"].isin(("TorchDynamo Cache Lookup", "Pregraph bytecode")).any()


@needs_compiler
def test_a_model_that_fits_compiled_alone_is_measured(models: str, small: CaptureSettings) -> None:
    own = ModelChoice("cnn", "own", "own", f"{models}:fits_compiled")
    assert _facts(_capture(own, small, compile="default"))[0].compile == "default"
    with pytest.raises(OutOfMemoryError):
        _capture(own, small)


@needs_compiler
def test_compiled_attention_is_not_taken_from_an_earlier_run(small: CaptureSettings, vit: ModelChoice) -> None:
    """torch keys its cache of compiled code without the implementation of attention."""
    small_vit = dataclasses.replace(vit, options={"depth": 1})
    found = [_facts(_capture(small_vit, small, compile="default", attention=a))[1] for a in ("flash", "math", "flash")]
    assert found == ["flash_attention_for_cpu", None, "flash_attention_for_cpu"]


def test_calls_that_compile_are_no_iterations(small: CaptureSettings) -> None:
    settings: Resolved = dataclasses.replace(resolve(small), compile="default", warmup_max_s=0.0)
    calls, timings = [], Timings()
    facts = warm_up(lambda: calls.append(1), Clock(settings.device), settings, timings)
    assert len(calls) == modes.SETTLING_CALLS + facts.iterations
    assert len(timings.rows) == facts.iterations == 1
    compiling, _, unsteady = facts.note.partition("; ")
    assert compiling.startswith("compiled in 3 calls before it, ")
    assert unsteady.startswith("only 1 iterations")


def test_a_repeat_that_was_killed_for_want_of_memory() -> None:
    assert type(repeats._died(1, -9, b"", 1)) is OutOfMemoryError
    other = repeats._died(1, -9, b"", 0)
    assert type(other) is DeviceError
    assert other.message == "repeat 1: the process was killed, probably for want of memory"
    assert repeats._died(1, 1, b"x\nlast", 1).message == "repeat 1 ended with status 1: last"


def test_the_kernel_counts_what_it_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tmp_path / "vmstat"
    monkeypatch.setattr(processes, "_KERNEL_COUNTS", counts)
    assert processes.memory_kills() == 0
    counts.write_text("drop_slab 4\noom_kill 17\nballoon_inflate 3\n")
    assert processes.memory_kills() == 17


def test_the_plan_shows_the_modes(vit: ModelChoice, cnn: ModelChoice, small: CaptureSettings) -> None:
    asked = dataclasses.replace(small, layout="channels_last", attention="math", compile="reduce-overhead")
    plan = session.plan(vit, asked)
    assert (plan["layout"], plan["attention"], plan["compile"]) == ("channels_last", "math", "reduce-overhead")
    assert "float32-nhwc-math-reduce-overhead-<time>" in str(plan["directory"])
    assert session.plan(cnn, asked)["attention"] is None
    assert ("operands" in str(plan["passes"]), "ops.json.gz" in str(plan["files"])) == (False, False)
    assert "float32-nhwc-reduce-overhead-<time>" in str(session.plan(cnn, asked)["directory"])


def _events(*calls: str) -> dict[str, Any]:
    kernels = [{"cat": "cpu_op", "name": "aten::mm"}, {"cat": "kernel", "name": "cudaGraphLaunch of somebody"}]
    return {"traceEvents": kernels + [{"cat": "cuda_runtime", "name": name} for name in calls]}


@pytest.mark.parametrize(
    ("calls", "graphs"),
    [
        (("cudaLaunchKernel", "cudaGraphLaunch"), True),
        (("hipGraphLaunch",), True),
        (("cudaLaunchKernel",), False),
        ((), None),
    ],
)
def test_graphs_in_a_trace(calls: tuple[str, ...], graphs: bool | None, tmp_path: Path) -> None:
    recorded = SimpleNamespace(export_chrome_trace=lambda path: Path(path).write_text(json.dumps(_events(*calls))))
    written = profiler.write_trace(recorded, tmp_path / "t.json.gz")  # type: ignore[arg-type]
    assert (written.graphs, written.operators, written.events) == (graphs, {"aten::mm"}, 2 + len(calls))


@pytest.mark.parametrize(
    ("mode", "graphs", "peak", "kind", "warned"),
    [
        ("off", False, 5, "CUDA allocator peak", False),
        ("default", False, 5, "CUDA allocator peak", False),
        ("reduce-overhead", True, 9, "CUDA allocator peak, reserved by CUDA graphs", False),
        ("max-autotune", True, 9, "CUDA allocator peak, reserved by CUDA graphs", False),
        ("max-autotune", False, 5, "CUDA allocator peak", True),
        ("reduce-overhead", None, 9, "CUDA allocator peak, reserved by CUDA graphs", False),
    ],
)
def test_peak_memory_of_cuda_graphs(
    mode: str, graphs: bool | None, peak: int, kind: str, warned: bool, vit: ModelChoice, small: CaptureSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What a graph holds is allocated while it is recorded and merely reserved while it is replayed."""
    emptied: list[None] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 9)
    settings = dataclasses.replace(resolve(CaptureSettings(device="cpu")), device=GPU, compile=mode)
    asked = modes.asks_for_graphs(settings)
    assert latency.reset_peak(GPU, replays=asked)
    one = session._Session(vit, small, settings, Reporter(quiet=True), small.out_root)
    of_graphs = latency.peak_of_graphs(GPU) if asked else None
    found = one._peak(profiler.Written(1, frozenset(), graphs), latency.peak_memory(GPU, True), of_graphs)
    assert (found.peak_bytes, found.kind, len(emptied)) == (peak, kind, int(asked))
    assert [f"compile={mode} asks for CUDA graphs" in text for text in one.warnings] == [True] * warned
    assert not modes.asks_for_graphs(dataclasses.replace(settings, device=torch.device("cpu")))
