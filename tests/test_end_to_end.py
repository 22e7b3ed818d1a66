"""From the command line to the page on this machine's CPU, with small models; interruptions and failures on the way."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.errors import TraceError
from analyzer.metrics.work import work_of
from analyzer.trace.calls import exact_call, read_calls
from analyzer.trace.rundir import open_run, read_facts

SMALL = [
    "vit=vit_tiny_patch16_224", "cnn=resnet18", "image_size=64", "iterations=10", "traced_steps=3", "threads=1",
    "warmup_max_s=5", "device=cpu", "repeats=1",
]  # fmt: skip


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One whole run: the directory it ran in and what it printed."""
    place = tmp_path_factory.mktemp("run")
    done = subprocess.run(
        [sys.executable, "-m", "analyzer", *SMALL, "out=report"],
        cwd=place, capture_output=True, text=True, timeout=300, check=False, env=environment(place / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return place, done.stdout


def _runs(place: Path) -> list[Path]:
    return sorted((place / "traces").iterdir(), key=lambda p: "vit" not in p.name)


def test_the_terminal_ends_with_the_verdict_of_the_page(finished: tuple[Path, str]) -> None:
    place, printed = finished
    lines = printed.strip().splitlines()
    summary = json.loads((place / "report" / "summary.json").read_text())
    assert lines[0] == summary["headline"]
    assert lines[1] == summary["reason"]
    assert lines[0] in (place / "report" / "index.html").read_text()
    assert lines[-1].startswith("Next: analyzer task=report runs=[traces/vit_tiny")


def test_run_directories_hold_what_the_docs_promise(finished: tuple[Path, str]) -> None:
    place, _ = finished
    assert len(_runs(place)) == 2
    for directory in _runs(place):
        names = {"run.json", "trace.pt.trace.json.gz", "ops.json.gz", "timings.csv", "samples.csv"}
        assert {p.name for p in directory.iterdir()} == names
        facts = read_facts(directory / "run.json")
        assert facts.device.type == "cpu"
        assert {c.name for c in facts.ceilings} == {"copy", "matmul"}
        assert facts.command == ("analyzer", *SMALL)
        timings = pd.read_csv(directory / "timings.csv")
        assert (timings["pass"] == "untraced").sum() >= 10
        assert (timings["pass"] == "traced").sum() == 3
        assert facts.telemetry is not None
        assert not facts.telemetry.nvml.available
        assert facts.telemetry.nvml.reason
    assert [p for p in place.rglob("*") if ".part" in p.name or ".hydra" in p.name or p.name.endswith(".log")] == []


def test_every_operator_has_a_kind_and_a_work_model(finished: tuple[Path, str]) -> None:
    place, _ = finished
    for directory in _runs(place):
        one = analyze(directory)
        assert one.totals.classified_pct >= 99
        assert one.totals.modelled_pct >= 99
        assert one.window.steps == 3
        assert one.kinds["time_us"].sum() + one.totals.idle_us == pytest.approx(one.totals.wall_us, rel=1e-3)
        assert not any("other operators" in w for w in one.warnings)


def test_flop_of_the_trace_equal_those_of_its_recorded_step(finished: tuple[Path, str]) -> None:
    """The launches of a step add up to the work of the model, counted without the trace on the meta device."""
    from analyzer.capture.meta import record_ops
    from analyzer.schema.settings import ModelChoice

    place, _ = finished
    for directory in _runs(place):
        one = analyze(directory)
        assert one.run.facts is not None
        name = one.run.facts.model.name
        calls = [exact_call(op) for op in record_ops(ModelChoice("vit", name, name), 1, 64, "float32")]
        meta = sum(w.flop for c in calls if (w := work_of(c)) is not None)
        assert one.totals.flop / 3 == pytest.approx(meta, rel=0.005)


def test_recorded_operators_have_outputs_and_modules(finished: tuple[Path, str]) -> None:
    place, _ = finished
    vit, cnn = _runs(place)
    addmm = next(c for c in read_calls(open_run(vit).ops or Path()) if c.name == "aten::addmm")
    assert [t.shape for t in addmm.results()] == [(17, 576)]
    modules = set(analyze(cnn).launches["module"])
    assert {"conv1", "layer1.0.conv1", "fc"} <= modules


def test_the_gap_adds_up(finished: tuple[Path, str]) -> None:
    place, _ = finished
    vit, cnn = _runs(place)
    found = compare(analyze(cnn), analyze(vit))
    assert found.gap is not None
    assert found.gap.first == "ViT-Ti/16"
    larger = max(found.gap.first_us, found.gap.second_us)
    a, b = (pd.read_csv(d / "timings.csv") for d in (vit, cnn))
    medians = [t.loc[t["pass"] == "untraced", "latency_ms"].median() * 1e3 for t in (a, b)]
    assert sum(p.delta_us for p in found.gap.parts) == pytest.approx(medians[0] - medians[1], abs=1e-9 * larger)


def test_nothing_names_this_machine_or_its_user(finished: tuple[Path, str]) -> None:
    import getpass
    import socket

    place, _ = finished
    secrets = [str(place), str(Path.home()) + "/", socket.gethostname(), f'"{getpass.getuser()}"']
    for file in [p for p in place.rglob("*") if p.is_file() and "cache" not in p.parts]:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode(errors="replace")
        assert not [s for s in secrets if len(s) > 3 and s in text], file.name


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("run.json", r'"value": [0-9.e+-]+', '"value": 0'), ("run.json", r'"batch_size": \d+', '"batch_size": -3'),
        ("run.json", r'"type": "cpu"', '"type": "tpu"'), ("run.json", r'"label": "[^"]+"', '"label": ""'),
        ("timings.csv", r"(?m)^(untraced,0,1,\d+),.*$", r"\1,"), ("timings.csv", r"(?m)^(untraced,0,1,\d+),.*$", r"\1,-5"),
        ("timings.csv", r"(?m)^(untraced,0,1,\d+),.*$", r"\1,inf"), ("timings.csv", r"latency_ms", "latency"),
        ("samples.csv", r"(?m)^(\d+,\d+),[0-9.]+", r"\1,inf"), ("samples.csv", r"(?m)^(\d+,\d+),[0-9.]+", r"\1,many"),
    ],
)  # fmt: skip
def test_a_damaged_run_directory_gets_one_line(
    finished: tuple[Path, str], tmp_path: Path, file: str, old: str, new: str
) -> None:
    place, _ = finished
    run = tmp_path / "run"
    shutil.copytree(_runs(place)[0], run)
    text = (run / file).read_text()
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    (run / file).write_text(changed)
    with pytest.raises(TraceError, match="damaged") as caught:
        analyze(run)
    assert "\n" not in caught.value.message


def test_missing_optional_files_are_told(finished: tuple[Path, str], tmp_path: Path) -> None:
    place, _ = finished
    run = tmp_path / "run"
    shutil.copytree(_runs(place)[0], run)
    for name in ("timings.csv", "ops.json.gz", "samples.csv"):
        (run / name).unlink()
    found = compare(analyze(run)).verdict
    assert any("timings.csv is missing" in line for line in found.not_measured)
    assert any("ops.json.gz is missing" in caveat.text for caveat in found.caveats)


def _failing(tmp_path: Path, source: str, *args: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "mine.py").write_text(source)
    small = [a for a in SMALL if not a.startswith(("vit=", "cnn="))]
    return subprocess.run(
        [sys.executable, "-m", "analyzer", "cnn=none", *small, *args],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env=environment(tmp_path / "cache"),
    )  # fmt: skip


MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.calls = 0
    def forward(self, x):
        self.calls += 1
        {body}
        return self.conv(x).mean((1, 2, 3))
def build():
    return Model()
"""


def _left(tmp_path: Path) -> list[str]:
    roots = [tmp_path / "traces", tmp_path / "reports"]
    return [str(p) for root in roots if root.is_dir() for p in root.rglob("*")]


@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        (
            "if self.calls > 4 and x.device.type != 'meta': raise torch.OutOfMemoryError('CUDA out of memory. Tried 9 GiB')",
            "out of memory",
            "batch_size",
        ),
        ("if x.device.type != 'meta': raise ValueError('no such\\nlayer')", "no such", ""),
    ],
)
def test_a_model_that_fails_gets_one_line(tmp_path: Path, body: str, says: str, hint: str) -> None:
    done = _failing(tmp_path, MODEL.format(body=body), "vit.factory=mine:build")
    lines = [line for line in done.stderr.splitlines() if line.startswith(("analyzer: ", "hint: "))]
    assert done.returncode == 1
    assert len(lines) == 2, done.stderr
    assert says in lines[0]
    assert hint in lines[1]
    assert "Traceback" not in done.stderr
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["vit.name=vit_bse_patch16_224"], "vit_bse_patch16_224"),
        (["vit=vit_tiny_patch16_224", "device=cuda:7"], "cuda:7"),
        (["vit=vit_tiny_patch16_224", "image_size=225"], "225"),
        (["vit=vit_tiny_patch16_224", "batch_size=100000000"], "memory"),
        (["vit=vit_tiny_patch16_224", "dtype=int3"], "int3"),
        (["vit.factory=nowhere:build"], "nowhere"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(tmp_path: Path, args: list[str], says: str) -> None:
    done = _failing(tmp_path, "", *args)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("analyzer: ")
    assert says in lines[0]
    assert lines[1].startswith("hint: ")
    assert _left(tmp_path) == []


@pytest.mark.parametrize("stage", ["check", "calibrate", "build", "warmup", "untraced", "traced", "write trace"])
def test_ctrl_c_after_any_stage_leaves_nothing(tmp_path: Path, stage: str) -> None:
    """SIGINT to the whole process group, as a terminal sends it, once ``stage`` has ended and the next one runs."""
    (tmp_path / "mine.py").write_text(MODEL.format(body="import time; time.sleep(0.02)"))
    small = [a for a in SMALL if not a.startswith(("vit=", "cnn=", "iterations"))]
    process = subprocess.Popen(
        [sys.executable, "-m", "analyzer", "cnn=none", "vit.factory=mine:build", "iterations=100", *small],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=environment(tmp_path / "cache"),
    )  # fmt: skip
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if f": {stage}: " in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    seen += process.stderr.read()
    assert process.wait(timeout=60) == 1, seen
    assert "interrupted during" in seen
    assert "Traceback" not in seen
    assert _left(tmp_path) == []
    assert _children_of_group(process.pid) == []


def _children_of_group(group: int) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found
