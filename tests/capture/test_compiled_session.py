"""A capture of compiled code: what it writes, and the step without CUDA graphs, driven on a CPU by a stand-in."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from analyzer.analysis import analyze, compare
from analyzer.capture import modes, profiler, running, session
from analyzer.capture.compiled import ungraphed
from analyzer.capture.presets import Resolved, resolve
from analyzer.insight.fusion_pair import oriented
from analyzer.insight.rules.statement import compile_mode
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")

MODELS = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
    def forward(self, x): return self.layer(x.mean((2, 3)))

class Kept(Plain):
    @torch.compiler.disable
    def forward(self, x): return super().forward(x)

class Broken(Plain):
    def forward(self, x):
        return super().forward(x) if x.sum().item() < 1e9 else x

def small():
    return nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4), nn.GELU())
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelChoice:
    name = f"compiled_models_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return ModelChoice("cnn", "own", "own", f"{name}:small")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def _session(own: ModelChoice, small: CaptureSettings, **changes: Any) -> session._Session:
    settings = dataclasses.replace(resolve(small), **changes)
    small.out_root.mkdir(parents=True, exist_ok=True)
    return session._Session(own, small, settings, Reporter(quiet=True), small.out_root)


@needs_compiler
def test_every_kernel_of_a_compiled_run_is_in_its_trace(own: ModelChoice, small: CaptureSettings) -> None:
    path = session.capture(own, dataclasses.replace(small, compile="default"), Reporter(quiet=True))
    run = rundir.open_run(path)
    assert run.facts is not None
    assert run.facts.warnings == ()
    assert (run.compiled, run.ungraphed, run.ops) == (path / "compiled.json.gz", None, None)
    (graph,) = _read(path / "compiled.json.gz")["graphs"]
    kernels = [call["kernel"] for call in graph["calls"]]
    assert kernels == ["cpp_fused_convolution_0", "aten::convolution", "cpp_fused_relu_1", "aten::addmm", "cpp_fused_gelu_2"]
    modules = [[part["module"] for part in call["parts"]] for call in graph["calls"]]
    assert modules == [["0", "0"], ["0"], ["1"], ["3"], ["4"]]
    events = [event for event in _read(run.trace)["traceEvents"] if event.get("cat") == "cpu_op"]
    # torch counts the graphs of a process: which number this one has depends on what compiled before.
    names = [re.sub(r"^graph_\d+_", "", str(event["name"])) for event in sorted(events, key=lambda event: event["ts"])]
    assert [name for name in names if name in kernels] == kernels * small.traced_steps
    note = next(one.note for one in run.facts.passes if one.name == "traced")
    assert "compiled.json.gz names the modules of compiled code" in note


@needs_compiler
def test_one_step_without_graphs_is_traced(own: ModelChoice, small: CaptureSettings) -> None:
    one = _session(own, small, compile="reduce-overhead")
    with running.prepared(own, one.resolved) as ready:
        one._ungraphed(ready)
        assert one.warnings == []
    (done,) = one.passes
    assert (done.name, done.steps) == ("ungraphed", 1)
    assert "compiled again without CUDA graphs (mode default)" in done.note
    events = _read(small.out_root / "ungraphed.pt.trace.json.gz")["traceEvents"]
    steps = {str(event["name"]) for event in events if str(event["name"]).startswith("ProfilerStep")}
    assert len(steps) == 1
    assert any(str(event["name"]).startswith("graph_") and "cpp_fused_gelu" in str(event["name"]) for event in events)
    assert one.timings.rows == []


def test_without_that_step_a_run_goes_on(own: ModelChoice, small: CaptureSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _session(own, small, compile="max-autotune")

    def fail(ready: running.Ready, settings: Resolved, path: Path) -> None:
        path.write_bytes(b"half a trace")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    monkeypatch.setattr(ungraphed, "trace_step", fail)
    one._ungraphed(None)  # type: ignore[arg-type]
    assert one.passes == []
    assert not (small.out_root / "ungraphed.pt.trace.json.gz").exists()
    assert one.warnings == [
        "what the CUDA graphs replay has no operators: the run without them failed: OutOfMemoryError: CUDA out of memory. "
        "Tried to allocate 2.00 GiB"
    ]


class _Told:
    """A recorder that has noted something."""

    notes = ("a kernel could not be read",)

    def write(self, path: Path) -> int:
        return 3


@pytest.mark.parametrize(
    ("device", "mode", "graphs", "traced"),
    [
        ("cuda:0", "reduce-overhead", True, True),
        ("cuda:0", "max-autotune", True, True),
        ("cuda:0", "reduce-overhead", False, False),
        ("cuda:0", "reduce-overhead", None, False),
        ("cuda:0", "default", True, False),
        ("cpu", "reduce-overhead", True, False),
    ],
)
def test_only_where_cuda_graphs_ran_is_a_step_traced_without_them(
    device: str, mode: str, graphs: bool | None, traced: bool, own: ModelChoice, small: CaptureSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    one = _session(own, small, compile=mode, device=torch.device(device))
    asked: list[None] = []
    monkeypatch.setattr(one, "_ungraphed", lambda _: asked.append(None))
    one._compiled(_Told(), None, profiler.Written(1, frozenset(), graphs))  # type: ignore[arg-type]
    assert bool(asked) == traced
    assert one.warnings == ["what torch.compile made is not known in full: a kernel could not be read"]


@pytest.mark.parametrize(
    ("asked", "without"),
    [("reduce-overhead", "default"), ("max-autotune", "max-autotune-no-cudagraphs"), ("default", "default"), ("off", "off")],
)
def test_the_mode_that_makes_the_same_code_without_graphs(asked: str, without: str, small: CaptureSettings) -> None:
    assert modes.without_graphs(dataclasses.replace(resolve(small), compile=asked)) == without


def test_the_plan_lists_the_step_without_graphs(
    own: ModelChoice, small: CaptureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(small, compile="reduce-overhead")
    plan = session.plan(own, settings)
    assert "compiled.json.gz" in str(plan["files"])
    assert "ungraphed" not in str(plan["files"]) + str(plan["passes"])
    monkeypatch.setattr(modes, "asks_for_graphs", lambda _: True)
    plan = session.plan(own, settings)
    assert "ungraphed.pt.trace.json.gz" in str(plan["files"])
    assert "'ungraphed': '1, where CUDA graphs ran'" in str(plan["passes"])


@needs_compiler
def test_a_run_in_which_nothing_was_compiled_is_eager(own: ModelChoice, small: CaptureSettings) -> None:
    choice = dataclasses.replace(own, factory=str(own.factory).replace(":small", ":Kept"))
    asked = session.capture(choice, dataclasses.replace(small, compile="default", repeats=2), Reporter(quiet=True))
    plain = session.capture(choice, small, Reporter(quiet=True))
    run = rundir.open_run(asked)
    assert run.facts is not None
    told = "compile=default was asked for, and nothing was compiled: all of it ran eagerly"
    assert [text for text in run.facts.warnings if not text.startswith("repeat")] == [told]
    settings = run.facts.settings
    assert (settings.compile, settings.execution) == ("default", "eager (torch.compile compiled nothing)")
    assert run.ops is not None
    assert run.compiled is None
    analyses = compare(analyze(plain), analyze(asked)).analyses
    assert [compile_mode(a) for a in analyses] == ["off", "off"]
    assert [a.label for a in analyses] == ["own (eager)", "own (eager, nothing compiled)"]
    assert oriented(*analyses) is None


@needs_compiler
def test_graph_breaks_are_one_warning(own: ModelChoice, small: CaptureSettings, caplog: pytest.LogCaptureFixture) -> None:
    choice = dataclasses.replace(own, factory=str(own.factory).replace(":small", ":Broken"))
    path = session.capture(choice, dataclasses.replace(small, compile="default"), Reporter(quiet=True))
    facts = rundir.open_run(path).facts
    assert facts is not None
    (told,) = [text for text in facts.warnings if "graph break" in text and "compile=default" in text]
    assert told.startswith("compile=default: Dynamo counted ")
    assert facts.settings.execution == "torch.compile (default)"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
