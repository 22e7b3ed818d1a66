"""What a model sets for the whole process ends with it, and what was asked for is set again or told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from analyzer.capture import modes, session
from analyzer.capture.presets import resolve
from analyzer.capture.process_state import taken, unchanged
from analyzer.capture.running import prepared
from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice, Settings
from analyzer.tasks.profiling import profile
from analyzer.trace import rundir

MODELS = """
import os
import torch
from torch import nn

torch.backends.cudnn.deterministic = True

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
    def forward(self, x): return self.layer(x.mean((2, 3)))

class Fails(Net):
    calls = 0
    def forward(self, x):
        if not x.is_meta: raise ValueError("no")
        return super().forward(x)

class Stubborn(Net):
    def forward(self, x):
        torch.set_num_threads(2)
        return super().forward(x)

def sets():
    torch.set_num_threads(2)
    torch.backends.cudnn.benchmark = True
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    os.chdir("/")
    return Net()
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"setting_models_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return name


def _own(path: str) -> ModelChoice:
    return ModelChoice("cnn", "own", "own", path)


def test_nothing_a_factory_sets_outlasts_its_model(models: str, small: CaptureSettings, tmp_path: Path) -> None:
    before, precision = taken(), torch.get_float32_matmul_precision()
    free = dataclasses.replace(small, threads=None, out_root=Path("traces"))
    assert before["cudnn.deterministic"] is False
    session.plan(_own(f"{models}:sets"), free)
    assert (taken(), torch.get_float32_matmul_precision(), Path.cwd()) == (before, precision, tmp_path)
    with prepared(_own(f"{models}:sets"), resolve(free)):
        found = taken()
        assert (found["threads"], found["cudnn.benchmark"], found["deterministic"]) == (2, True, (True, False))
        assert torch.get_float32_matmul_precision() == "medium"
        assert Path.cwd() == tmp_path
    assert (taken(), torch.get_float32_matmul_precision()) == (before, precision)
    with prepared(_own(f"{models}:Net"), resolve(free)):
        found = taken()
        assert (found["threads"], found["cudnn.benchmark"]) == (before["threads"], False)
        # its module was imported long before, and each of its models meets what that set
        assert found["cudnn.deterministic"] is True
    path = session.capture(_own(f"{models}:sets"), free, Reporter(quiet=True))
    assert (tmp_path / path / rundir.RUN_FILE).is_file()


def test_what_was_asked_for_is_set_again(models: str, small: CaptureSettings) -> None:
    with prepared(_own(f"{models}:sets"), dataclasses.replace(resolve(small), cudnn_benchmark=False)):
        assert torch.get_num_threads() == small.threads
        assert torch.backends.cudnn.benchmark is False


def test_what_was_not_met_is_told(models: str, small: CaptureSettings) -> None:
    facts = rundir.open_run(session.capture(_own(f"{models}:Stubborn"), small, Reporter(quiet=True))).facts
    assert facts is not None
    assert "threads=1 was asked for, and the model set it to 2" in facts.warnings
    had = dataclasses.replace(resolve(small), cudnn_benchmark=True)
    assert modes.unmet(had, facts.settings) == ["threads=1 was asked for, and the model set it to 2"]


def test_the_directory_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    with unchanged():
        monkeypatch.chdir(tmp_path)
    assert Path.cwd() == here


def test_a_failure_names_what_was_recorded_before(models: str, small: CaptureSettings, tmp_path: Path) -> None:
    settings = Settings(
        task="profile",
        models=(_own(f"{models}:Net"), _own(f"{models}:Fails")),
        capture=dataclasses.replace(small, counters="none"),
        reports=tmp_path / "reports",
    )
    with pytest.raises(Exception, match="no") as caught:
        profile(settings, Reporter(quiet=True))
    (run,) = small.out_root.iterdir()
    hint = getattr(caught.value, "hint", "")
    assert f"recorded before that: {run.name}; analyzer task=report runs=[{run}] reports on them" in hint
    with pytest.raises(ConfigError) as alone:
        profile(dataclasses.replace(settings, models=(_own(f"{models}:Absent"),)), Reporter(quiet=True))
    assert "recorded before" not in alone.value.hint


def test_what_a_cpu_does_not_tell_apart_runs_once(models: str, small: CaptureSettings) -> None:
    without, searching = (dataclasses.replace(small, counters="none", cudnn_benchmark=value) for value in (False, True))
    settings = Settings(task="profile", models=(_own(f"{models}:Net"),), capture=without, variants=(searching,), dry_run=True)
    document = profile(settings, Reporter(quiet=True)).document
    assert len(document["plan"]) == 1
    compiled = dataclasses.replace(searching, compile="default")
    document = profile(dataclasses.replace(settings, variants=(searching, compiled)), Reporter(quiet=True)).document
    assert [plan["compile"] for plan in document["plan"]] == ["off", "default"]
