"""What surrounds the points of a sweep: its directory, why jobs failed, locks, progress, answers of processes that may die."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from analyzer.capture import points, processes
from analyzer.capture.answers import Answer, InterruptedAfterAnswerError, ask
from analyzer.capture.locks import held
from analyzer.capture.points import PointStore, _judged, plan_point
from analyzer.errors import ConfigError
from analyzer.insight.crossover.reading import read_points
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, Selection, Settings
from analyzer.schema.sweep import JobFile
from analyzer.tasks import sweep
from analyzer.tasks.sweep import Progress, duration
from analyzer.tasks.watch import Watch
from tests.test_sweep_points import IDENTITY, VIT, record


def test_the_directory_of_a_sweep_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep, "_write", full)
    with pytest.raises(ConfigError, match="No space left"):
        sweep.new_sweep(tmp_path, "one", [["a=1"]], [["ViT-Ti/16"]], None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"runs": ("x",)}, "takes no runs="), ({"gpu_spec": Path("x")}, "takes no gpu_spec="), ({"onto": ("b200",)}, "no onto="),
        ({"baseline": ("x",)}, "no baseline="), ({"selection": Selection(steps=(1,))}, "no steps="), ({"models": ()}, "nothing to run"),
    ],
)  # fmt: skip
def test_settings_that_a_sweep_would_ignore_are_refused(given: dict[str, Any], match: str) -> None:
    settings = Settings(task="profile", models=(VIT,), capture=CaptureSettings())
    sweep.check(settings)
    with pytest.raises(ConfigError, match=match):
        sweep.check(dataclasses.replace(settings, **given))


def test_a_report_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    settings = Settings(task="profile", models=(VIT,), capture=CaptureSettings(), out=tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        sweep.check_report(settings)
    (tmp_path / "mine" / "thesis.tex").unlink()
    sweep.check_report(settings)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(ConfigError, match="is a file"):
        sweep.check_report(dataclasses.replace(settings, out=None, reports=Path(__file__)))


def test_why_jobs_failed(tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    store.lock(plan.key)
    store.write(record(plan, status="failed", reason="it fell over"))
    directory = sweep.new_sweep(tmp_path / "sweeps", "one", [["a=1"]] * 4, [["ViT-Ti/16"]] * 4, None)
    sweep.write_job(directory, 0, JobFile(keys=[plan.key]))
    sweep.write_job(directory, 1, JobFile(error="no such device"))
    sweep.write_job(directory, 2, JobFile(keys=["0" * 32]))
    found = [sweep._failure(directory / "jobs" / f"{number}.json", store) for number in range(4)]
    assert found == [
        ("failed: it fell over", True), ("no such device", False), ("a point has no record", True),
        ("it ended without a result", True),
    ]  # fmt: skip
    missing = read_points([directory]).missing
    assert missing == ("a=1: no such device", "a=1", "a=1")


def test_jobs_that_have_ended_are_counted_once(tmp_path: Path) -> None:
    plan, store = plan_point(VIT, CaptureSettings(), IDENTITY), PointStore(tmp_path)
    store.lock(plan.key)
    directory = sweep.new_sweep(tmp_path / "sweeps", "one", [["a=1"]] * 3, [["ViT-Ti/16"]] * 3, None)
    watch = Watch(directory, store, True, Reporter(quiet=True))
    sweep.write_job(directory, 0, JobFile(keys=[plan.key]))
    assert watch.look(3, "2026") == 0  # no record yet
    store.write(record(plan, status="failed", created_utc="2025"))
    assert watch.look(3, "2026") == 0  # it is tried again
    store.write(record(plan, status="failed", created_utc="2027"))
    sweep.write_job(directory, 2, JobFile(error="no such device"))
    assert [watch.look(3, "2026"), watch.look(3, "2026")] == [2, 0]


def test_models_that_are_missing_count_one_by_one(tmp_path: Path) -> None:
    models = [["ViT-Ti/16", "ResNet-18"]] * 2
    directory = sweep.new_sweep(tmp_path / "sweeps", "one", [["a=1"], ["a=2"]], models, None)
    sweep.write_job(directory, 0, JobFile(keys=["0" * 32, "1" * 32]))
    expected = ("a=1 (ViT-Ti/16)", "a=1 (ResNet-18)", "a=2 (ViT-Ti/16)", "a=2 (ResNet-18)")
    assert read_points([directory, directory]).missing == expected


@pytest.mark.parametrize(
    ("answer", "memory_kills", "status"),
    [
        (Answer("run"), 0, "measured"),
        (Answer(None, "OutOfMemoryError", "out of memory"), 0, "out_of_memory"),
        (Answer(None, "UnsupportedError", "no such kernel"), 0, "unsupported"),
        (Answer(None, "ConfigError", "the factory raised"), 0, "failed"),
        (Answer(None, "DeviceError", "the device failed"), 0, "failed"),
        (Answer(None, "OSError", "disk full"), 0, "failed"),
        (Answer(None, status=-9), 0, "failed"),
        (Answer(None, status=-9), 1, "out_of_memory"),
        (Answer(None, status=1, last_line="Error: x"), 1, "failed"),
    ],
)
def test_what_comes_of_a_point(answer: Answer, memory_kills: int, status: str) -> None:
    found, reason, _ = _judged(answer, memory_kills)
    assert found == status
    assert bool(reason) == (status != "measured")


def test_a_lock_is_held_until_the_end_and_its_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with held(path, lambda: pytest.fail("nobody else has it")) as kept:
        assert len(kept) == 1
        other = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), held(path, lambda: None):
        raise ZeroDivisionError
    assert path.exists()  # a child may hold it still


def test_progress_counts_what_is_left() -> None:
    progress = Progress(["a", "b", "c", "d"], {"b", "c", "d"})
    assert progress.done == 1
    assert progress.time_left() == ""  # nothing measured yet
    progress.settle("b", 30.0)
    assert progress.time_left() == ", about 60 s left"
    progress.settle("c", None)  # another process measured it
    assert progress.time_left() == ", about 30 s left"
    progress.settle("d", 30.0)
    assert progress.time_left() == ""
    assert progress.done == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (100, "2 min"), (5340, "89 min"), (5400, "1 h 30 min"), (36000, "10 h 0 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


ANSWERS = """
import json, pathlib, sys
request = json.loads(sys.stdin.readline())
if request["answers"]:
    pathlib.Path(request["path"]).write_text(json.dumps({"value": "run-x"}))
pathlib.Path(request["ready"]).touch()
sys.stdin.read()
"""


@pytest.mark.parametrize(("answers", "raised"), [(True, InterruptedAfterAnswerError), (False, KeyboardInterrupt)])
def test_an_answer_that_is_ready_survives_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool, raised: type[BaseException]
) -> None:
    def start(_module: str, errors: int, _keep: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", ANSWERS], stdin=subprocess.PIPE, stderr=errors, text=True)

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(processes, "start", start)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        ask("any", {"answers": answers, "ready": str(tmp_path / "ready")})
    assert type(caught.value) is raised
    assert not answers or caught.value.answer == Answer("run-x")  # type: ignore[attr-defined]


def test_a_point_that_was_whole_when_the_interruption_came_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Answer:
        raise InterruptedAfterAnswerError(Answer("run-x"))

    monkeypatch.setattr(points, "ask", interrupted)
    store, plan = PointStore(tmp_path), plan_point(VIT, CaptureSettings(out_root=tmp_path), IDENTITY)
    store.lock(plan.key).parent.mkdir(exist_ok=True)  # as the lock of the point leaves it
    with pytest.raises(KeyboardInterrupt):
        points.measure(plan, store)
    record = store.read(plan.key)
    assert record is not None
    assert (record.status, record.run) == ("measured", "run-x")
