from __future__ import annotations

import dataclasses
import getpass
import gzip
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_processes import children

from analyzer.capture import calibrate, latency, operands, profiler, repeats, session
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir


def load(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def steps_of(trace: dict[str, Any]) -> list[list[str]]:
    """Names of the operators of each traced step in order of start, callers first."""
    events = [e for e in trace["traceEvents"] if e.get("ph") == "X"]
    marks = sorted((e for e in events if e["name"].startswith("ProfilerStep#")), key=lambda e: e["ts"])
    ops = sorted((e for e in events if e.get("cat") == "cpu_op"), key=lambda e: (e["ts"], -e["dur"]))
    return [[op["name"] for op in ops if m["ts"] <= op["ts"] < m["ts"] + m["dur"]] for m in marks]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("recorded")
    settings = CaptureSettings(
        repeats=1,
        traced_steps=3,
        device="cpu",
        image_size=64,
        iterations=2,
        warmup_max_s=0.2,
        threads=1,
        sample_period_s=0.05,
        calibrate="off",
        out_root=root,
    )
    choices = (
        ModelChoice("vit", "vit_tiny_patch16_224", "ViT-Ti/16"),
        ModelChoice("cnn", "resnet18", "ResNet-18"),
    )
    return {choice.family: session.capture(choice, settings, Reporter(quiet=True)) for choice in choices}


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_a_run_directory_comes_back(family: str, recorded: dict[str, Path]) -> None:
    path = recorded[family]
    files = {rundir.RUN_FILE, rundir.TRACE_FILE, rundir.OPS_FILE, rundir.TIMINGS_FILE, rundir.SAMPLES_FILE}
    assert {entry.name for entry in path.iterdir()} == files
    run = rundir.open_run(path)
    assert run.facts is not None
    assert run.facts.model.family == family
    assert run.facts.model.input_shape == (1, 3, 64, 64)
    assert run.facts.settings.iterations == 2
    assert run.facts.settings.threads == 1
    assert run.facts.memory is not None
    assert run.facts.memory.peak_bytes > 1 << 24
    assert "RSS" in run.facts.memory.kind
    assert run.facts.telemetry is not None
    assert run.facts.telemetry.samples == len(rundir.read_samples(run)) > 0
    assert [p.name for p in run.facts.passes] == ["calibrate", "build", "warmup", "untraced", "traced", "operands"]
    timings = rundir.read_timings(run)
    counts = timings["pass"].value_counts()
    assert counts["untraced"] == 2
    assert counts["traced"] == 3
    assert counts["warmup"] == run.facts.warmup.iterations
    assert (timings["latency_ms"] > 0).all()
    assert path.name.startswith(f"{run.facts.model.name}-cpu-b1-64-float32-")
    backend = "flash_attention_for_cpu" if family == "vit" else None
    assert run.facts.model.attention_backend == backend


@pytest.mark.parametrize("family", ["vit", "cnn"])
def test_operators_stand_in_the_order_of_every_traced_step(family: str, recorded: dict[str, Path]) -> None:
    ops = [op["name"] for op in load(recorded[family] / rundir.OPS_FILE)["ops"]]
    steps = steps_of(load(recorded[family] / rundir.TRACE_FILE))
    assert len(steps) == 3
    for step in steps:
        assert step == ops


@pytest.mark.parametrize(("family", "name"), [("vit", "aten::addmm"), ("cnn", "aten::convolution")])
def test_operators_have_inputs_and_outputs(family: str, name: str, recorded: dict[str, Path]) -> None:
    found = [op for op in load(recorded[family] / rundir.OPS_FILE)["ops"] if op["name"] == name]
    assert found
    for op in found:
        (output,) = op["outputs"]
        assert output["shape"]
        assert output["dtype"] == "float32"
        assert output["itemsize"] == 4
        assert {"stride", "storage", "offset"} <= set(output)
        assert output["storage"] not in {a.get("storage") for a in op["inputs"]}


def test_module_scopes_and_shapes_are_in_the_trace(recorded: dict[str, Path]) -> None:
    events = load(recorded["vit"] / rundir.TRACE_FILE)["traceEvents"]
    names = {e["name"] for e in events if e.get("cat") == "user_annotation"}
    assert {"module::blocks.0.attn.qkv", "module::VisionTransformer"} <= names
    assert any("Input Dims" in e.get("args", {}) for e in events)
    memory = [e["args"] for e in events if e["name"] == "[memory]"]
    assert memory
    assert all({"Bytes", "Addr", "Total Allocated"} <= set(args) for args in memory)


def test_nothing_names_a_person_or_a_host(recorded: dict[str, Path]) -> None:
    for path in [file for folder in recorded.values() for file in folder.iterdir()]:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        for word in (str(Path.home()), str(Path.cwd()), str(path.parent), "/tmp/", f'"{socket.gethostname()}"'):
            if word != "/":
                assert word not in text, f"{word} in {path.name}"
        assert f'"{getpass.getuser()}"' not in text
        assert "host_name" not in text
    trace = load(recorded["vit"] / rundir.TRACE_FILE)
    assert "baseTimeNanoseconds" in trace
    assert "traceName" not in trace


def test_strip_drops_what_it_does_not_know() -> None:
    trace = {"host_name": "h", "distributedInfo": {"hosts": ["h"]}, "traceName": "/home/x", "traceEvents": [], "new": 1}
    assert profiler.strip(trace) == {"traceEvents": []}


def test_strip_trims_the_paths_of_generated_kernels() -> None:
    args = {"kernel_file": "/tmp/torchinductor_someone/ab/cabc.py", "kernel_backend": "triton", "stream": 7}
    event = {"cat": "cpu_op", "name": "triton_poi_fused_add_0", "args": args}
    kept = profiler.strip({"traceEvents": [event]})["traceEvents"]
    assert kept[0]["args"] == {"kernel_file": "cabc.py", "kernel_backend": "triton", "stream": 7}


def test_repeats_are_fresh_processes(cnn: ModelChoice, small: CaptureSettings, reporter: Reporter) -> None:
    run = rundir.open_run(session.capture(cnn, dataclasses.replace(small, repeats=2), reporter))
    timings = rundir.read_timings(run)
    again = timings[timings["repeat"] == 1]
    assert set(again["pass"]) == {"warmup", "untraced"}
    assert (again["pass"] == "untraced").sum() == 2
    assert set(timings["repeat"]) == {0, 1}


def test_a_repeat_that_fails_is_reported(cnn: ModelChoice, small: CaptureSettings, tmp_path: Path) -> None:
    from analyzer.capture.presets import resolve
    from analyzer.errors import AnalyzerError

    wrong = dataclasses.replace(cnn, name="resnet19")
    with pytest.raises(AnalyzerError, match="repeat 1: timm has no model"):
        repeats.run_repeat(wrong, small, resolve(small), 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_plan_writes_nothing(vit: ModelChoice, small: CaptureSettings) -> None:
    found = session.plan(vit, small)
    assert found["parameters"] == 5_717_416 - (197 - 17) * 192  # fewer positions at 64 px
    assert found["batch_size"] == 1
    assert not small.out_root.exists()
    json.dumps(found)


def _interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


PLACES: list[tuple[Any, str]] = [
    (calibrate, "calibrate"),
    (latency, "warm_up"),
    (latency, "measure"),
    (profiler, "write_trace"),
    (operands, "record_step"),
    (operands, "convert"),
    (session, "run_repeat"),
    (rundir, "write_facts"),
]


@pytest.mark.parametrize(("module", "name"), PLACES, ids=lambda value: getattr(value, "__name__", value))
def test_an_interrupt_leaves_nothing(
    module: Any,
    name: str,
    cnn: ModelChoice,
    small: CaptureSettings,
    reporter: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, name, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.capture(cnn, dataclasses.replace(small, repeats=2), reporter)
    assert list(small.out_root.iterdir()) == []
    assert not children()


def test_an_interrupt_inside_a_traced_step(
    cnn: ModelChoice, small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    add: Callable[..., None] = latency.Timings.add

    def stop(self: latency.Timings, name: str, *rest: Any) -> None:
        if name == "traced":
            raise KeyboardInterrupt
        add(self, name, *rest)

    monkeypatch.setattr(latency.Timings, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        session.capture(cnn, small, reporter)
    monkeypatch.undo()
    assert list(small.out_root.iterdir()) == []
    assert session.capture(cnn, small, reporter).is_dir()  # the profiler is usable again


def test_an_interrupt_during_a_repeat_ends_its_process(
    cnn: ModelChoice, small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    wait = subprocess.Popen.wait
    asked: list[Any] = []

    def interrupted(self: Any, timeout: float | None = None) -> int:
        if timeout is None and "analyzer.capture.worker" in self.args and not asked:
            asked.append(self)
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.capture(cnn, dataclasses.replace(small, repeats=2), reporter)
    assert asked
    assert list(small.out_root.iterdir()) == []
    assert not children()
