"""Call stacks of our own runs: recorded when asked for, and without paths of this machine."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import json
from pathlib import Path

import torch

from analyzer.analysis import analyze
from analyzer.capture import session
from analyzer.capture.profiler import write_trace
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir
from analyzer.trace.frames import trim_stack


def test_stacks_are_recorded_when_asked_for(cnn: ModelChoice, small: CaptureSettings, reporter: Reporter) -> None:
    path = session.capture(cnn, dataclasses.replace(small, stacks=True), reporter)
    host = analyze(path).host
    assert host is not None
    assert "stacks" not in dict(host.silent)
    assert host.stacks["stack"].str.contains(r"timm/models/resnet\.py\(\d+\): forward").any()
    assert abs(host.stacks["host_us"].sum() / host.operators["host_self_us"].sum() - 1) < 0.05
    assert host.modules["name"].tolist()[0] == "ResNet"  # our own scopes name modules, not the frames
    text = gzip.decompress((path / rundir.TRACE_FILE).read_bytes()).decode()
    frames = [e["name"] for e in json.loads(text)["traceEvents"] if e.get("cat") == "python_function"]
    assert frames
    for word in (str(Path.cwd()), str(path.parent), "/tmp/", "site-packages"):
        assert not any(word in name for name in frames)
    assert not any(name.startswith("/") for name in frames)


def test_no_path_stays_in_a_recording_of_scripted_code(tmp_path: Path) -> None:
    """TorchScript writes the stack of its own frames to the operators that it runs."""
    folder = tmp_path / "home" / "alice"
    folder.mkdir(parents=True)
    (folder / "scripted.py").write_text(
        "import torch\n\n\n@torch.jit.script\ndef double(x: torch.Tensor):\n    return torch.relu(x) + x\n"
    )
    spec = importlib.util.spec_from_file_location("scripted", folder / "scripted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True, with_stack=True) as found:
        for _ in range(3):
            module.double(torch.ones(4))
    write_trace(found, tmp_path / "trace.json.gz")
    text = gzip.decompress((tmp_path / "trace.json.gz").read_bytes()).decode()
    assert '"Call stack":"scripted.py(6): double"' in text
    for word in ("alice", str(tmp_path), str(Path.cwd()), str(Path.home()) + "/", "site-packages"):
        assert word not in text
    stacks = {e["args"].get("Call stack") for e in json.loads(text)["traceEvents"] if e.get("name") == "aten::relu"}
    assert stacks == {"scripted.py(6): double"}
    assert trim_stack(b'"scripted.py(6): double"') == "scripted.py(6): double"  # read as it was written


def test_stacks_are_not_recorded_by_default() -> None:
    assert not CaptureSettings().stacks
