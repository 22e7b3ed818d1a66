"""Sweeps from the command line: results that are no times, resuming, locks, and what lies on disk."""

from __future__ import annotations

import csv
import getpass
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from analyzer.cli import multirun
from tests.sweep_models import ABORT, KILLED, OUT_OF_MEMORY, UNSUPPORTED

QUICK = ("iterations=10", "repeats=1", "traced_steps=3", "warmup_max_s=1", "calibrate=off", "device=cpu", "threads=1")
MODEL = ("vit.factory=sweep_models:tiny", "cnn=none")
GRID = f"image_size=32,{OUT_OF_MEMORY},{ABORT},{KILLED},{UNSUPPORTED}"
DEADLINE_S = 300


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "COLUMNS": "400"}


def start(*overrides: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "analyzer", "-m", *MODEL, *QUICK, *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def sweep(*overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    process = start(*overrides, cwd=cwd)
    out, err = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def records(cwd: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the records by image size and batch size."""
    found = [json.loads(path.read_bytes()) for path in (cwd / "traces" / "points").glob("*.json")]
    return {(r["setting"]["image_size"], r["setting"]["batch_size"]): r for r in found}


def run_directories(cwd: Path) -> list[Path]:
    return sorted(path.parent for path in (cwd / "traces").glob("*/run.json"))


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep in which one point runs out of memory, two crash and one is refused."""
    cwd = tmp_path_factory.mktemp("injected")
    return cwd, sweep(GRID, cwd=cwd)


def test_a_point_that_fails_leaves_the_others_and_is_a_result(
    injected: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    cwd, done = injected
    assert done.returncode == 1, done.stderr  # two points crashed
    found = records(cwd)
    status = {size: record["status"] for (size, _), record in found.items()}
    assert status == {
        32: "measured", OUT_OF_MEMORY: "out_of_memory", ABORT: "failed", KILLED: "failed", UNSUPPORTED: "unsupported",
    }  # fmt: skip
    assert found[32, 1]["run"] == run_directories(cwd)[0].name
    assert found[ABORT, 1]["reason"] == "the process ended with signal 6"
    assert found[KILLED, 1]["reason"].startswith("the process was killed")
    assert "out of memory" in found[OUT_OF_MEMORY, 1]["reason"]
    assert "5 points, 0 known, 5 to measure" in done.stderr
    for number, size in enumerate(sorted(status), start=1):
        assert f"point {number} of 5, tiny, batch 1, {size} px, float32: " in done.stderr
    assert "2 of 5 jobs failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((cwd / "traces").glob(".*"))  # what the crashed ones left is gone


def test_the_report_of_a_sweep_names_every_point(injected: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    cwd, done = injected
    report = min((cwd / "reports").iterdir())  # of the first command
    assert f"reports/{report.name}/index.html" in done.stdout
    with (report / "points.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 5
    page = (report / "index.html").read_text()
    assert "the process ended with signal 6" in page


def test_the_directory_of_a_sweep_holds_its_jobs_and_no_place_or_person(
    injected: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    cwd, _ = injected
    directory = min((cwd / "traces" / "sweeps").iterdir())
    assert {path.name for path in directory.iterdir()} == {"manifest.json", "jobs"}
    manifest = json.loads((directory / "manifest.json").read_bytes())
    assert manifest["name"] == directory.name
    sizes = (32, OUT_OF_MEMORY, ABORT, KILLED, UNSUPPORTED)
    assert [[o for o in job if o.startswith("image_size")] for job in manifest["jobs"]] == [[f"image_size={n}"] for n in sizes]
    keys = [json.loads((directory / "jobs" / f"{n}.json").read_bytes())["keys"] for n in range(5)]
    assert sorted(key for found in keys for key in found) == sorted(record["key"] for record in records(cwd).values())
    written = [*directory.rglob("*.json"), *(cwd / "traces" / "points").iterdir()]
    for text in (path.read_text() for path in written):
        assert str(cwd) not in text
        assert str(Path.home()) not in text or str(Path.home()) == "/"
        assert socket.gethostname() not in text
        assert f"/{getpass.getuser()}/" not in text


def test_the_same_command_again_tries_only_crashed_points(injected: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    cwd, _ = injected
    before = records(cwd)
    plan = sweep(GRID, "dry_run=true", "json=true", cwd=cwd)
    assert plan.returncode == 0, plan.stderr
    document = json.loads(plan.stdout)
    assert [point["known"] for point in document["points"]] == [True, True, False, False, True]
    assert document["estimated_s"] == pytest.approx(2 * before[32, 1]["seconds"])
    assert records(cwd) == before
    assert len(list((cwd / "traces" / "sweeps").iterdir())) == 1

    again = sweep(GRID, "json=true", "out=again", cwd=cwd)
    assert again.returncode == 1, again.stderr
    after = records(cwd)
    changed = {size for (size, _), record in after.items() if record != before[size, 1]}
    assert changed == {ABORT, KILLED}
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert [line["points"][0]["status"] for line in lines[:5]] == [after[n, 1]["status"] for n in (32, 48, 56, 64, 72)]
    assert len(lines) == 6  # the last one is the report's
    assert (cwd / "again" / "index.html").is_file()


def test_a_damaged_record_and_a_removed_run_are_measured_again(
    injected: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    cwd, _ = injected
    damaged, run = (records(cwd)[size, 1] for size in (OUT_OF_MEMORY, 32))
    path = cwd / "traces" / "points" / f"{damaged['key']}.json"
    path.write_text(path.read_text()[:100])
    done = sweep(f"image_size={OUT_OF_MEMORY}", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "is damaged" in done.stderr
    assert "it is measured again" in done.stderr
    assert records(cwd)[OUT_OF_MEMORY, 1]["status"] == "out_of_memory"
    (cwd / "traces" / run["run"] / "run.json").unlink()
    plan = sweep("image_size=32", "dry_run=true", cwd=cwd)
    assert "1 points, 0 known, 1 to measure" in plan.stdout


def wait_for(process: subprocess.Popen[str], directory: Path, pattern: str, count: int) -> None:
    until = time.monotonic() + DEADLINE_S
    while len(list(directory.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_sweep_that_is_interrupted_or_killed_redoes_no_finished_point(tmp_path: Path) -> None:
    grid = f"image_size={OUT_OF_MEMORY},32,{UNSUPPORTED}"  # two that settle fast
    first = start(grid, cwd=tmp_path)
    wait_for(first, tmp_path / "traces", ".tiny-cpu-b1-32-*.part", 1)  # the second point has begun
    first.send_signal(signal.SIGINT)
    _, told = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 1
    assert "interrupted during: point 2 of 3, tiny, batch 1, 32 px, float32" in told
    assert "1 of 3 points are done; the same command goes on from there: analyzer -m" in told
    assert not list((tmp_path / "traces").glob(".*"))  # the unfinished run directory is gone

    second = start(grid, cwd=tmp_path)
    wait_for(second, tmp_path / "traces", "points/*.json", 2)
    os.killpg(second.pid, signal.SIGKILL)
    second.communicate()
    before = records(tmp_path)
    assert len(before) == 2

    last = sweep(grid, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert "3 points, 2 known, 1 to measure" in last.stderr
    after = records(tmp_path)
    assert {size: after[size, 1] for size in (OUT_OF_MEMORY, 32)} == {size: before[size, 1] for size in (OUT_OF_MEMORY, 32)}
    assert after[UNSUPPORTED, 1]["status"] == "unsupported"
    assert [path.name for path in run_directories(tmp_path)] == [after[32, 1]["run"]]


def spans(directory: Path) -> list[tuple[int, int]]:
    passes = json.loads((directory / "run.json").read_bytes())["passes"]
    return [(one["start_unix_ns"], one["end_unix_ns"]) for one in passes]


def test_two_sweeps_at_once_measure_one_point_at_a_time_and_a_common_point_once(tmp_path: Path) -> None:
    both = [start("image_size=32", f"batch_size={sizes}", cwd=tmp_path) for sizes in ("1,2", "2,1")]
    ends = [process.communicate(timeout=DEADLINE_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert set(records(tmp_path)) == {(32, 1), (32, 2)}
    runs = run_directories(tmp_path)
    assert len(runs) == 2
    whole = sorted((min(a for a, _ in spans(run)), max(b for _, b in spans(run))) for run in runs)
    assert whole[0][1] <= whole[1][0]
    assert sum(err.count("waiting") for _, err in ends) >= 1
    assert len(list((tmp_path / "traces" / "sweeps").iterdir())) == 2


def test_options_are_dimensions_and_models_that_repeat_are_one_point(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analyzer", "-m", "dry_run=true", "json=true", "vit=vit_tiny_patch16_224"]
    command += ["cnn=resnet18", "+vit.options.patch_size=8,16", "attention=auto,math", "image_size=64"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    settings = [point["setting"] for point in json.loads(done.stdout)["points"]]
    found = [(s["model"], s["options"].get("patch_size"), s["attention"]) for s in settings]
    vit = [("vit_tiny_patch16_224", size, attention) for size in (8, 16) for attention in ("auto", "math")]
    assert sorted(found, key=str) == sorted([*vit, ("resnet18", None, "auto")], key=str)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("image_size=32", "out=a,b"), "out= must be one for the whole sweep"),
        (("bach_size=3,4",), "no setting called 'bach_size'"),
        (("experiment=smoke,matched_flop",), "experiment= takes one name"),
        (("batch_size=1,2", "hydra/launcher=submitit_local", "task=gate"), "sends jobs to other processes"),
        (("dtype=foo",), "unknown dtype foo"),
    ],
)
def test_a_sweep_that_cannot_be_meant_ends_before_it_begins(overrides: tuple[str, ...], told: str, tmp_path: Path) -> None:
    if "submitit" in str(overrides) and importlib.util.find_spec("submitit") is None:
        pytest.skip("hydra-submitit-launcher is not installed")
    done = sweep(*overrides, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_counts_what_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "traces" / "points").mkdir(parents=True)
    done = sweep("device=cpu,cuda:77", "image_size=32,0", "dry_run=true", "json=true", cwd=tmp_path)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert len(document["points"]) == 1
    assert sorted(problem["job"] for problem in document["problems"]) == [1, 2, 3]
    assert "cannot run: no device cuda:77" in done.stderr


def test_an_error_that_nobody_foresaw_ends_the_sweep(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def breaks(_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(multirun, "_begin", breaks)
    with pytest.raises(SystemExit) as caught:  # Hydra would make a warning of anything else and go on
        multirun.SweepCallback().on_multirun_start(None)
    assert caught.value.code == 1
    assert "RecursionError: maximum recursion depth exceeded" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["smoke", "vit_cnn_speed"])
def test_an_experiment_is_a_sweep_without_dash_m(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analyzer", f"experiment={name}", "dry_run=true", "json=true", "device=cpu"]
    done = subprocess.run([*command, "image_size=224,512"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    settings = [point["setting"] for point in json.loads(done.stdout)["points"]]
    assert {setting["image_size"] for setting in settings} == {224, 512}
    # the published grid: 2 sizes, 3 batches, 4 precisions, for 3 CNNs and 2 ViTs under 3 implementations of attention
    expected = {"smoke": 8, "vit_cnn_speed": 2 * 3 * 4 * (3 + 2 * 3)}
    assert len(settings) == expected[name]


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("matched_flop", "vit_small_patch16_224,convnext_tiny"),
        ("matched_params", "vit_base_patch16_224,convnext_base"),
    ],
)
def test_a_matched_pair_is_measured_at_the_same_sizes_and_batches(name: str, models: str) -> None:
    conf = Path(__file__).parent.parent / "conf"
    text = (conf / "experiment" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_")
    parameters = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    assert parameters == {"model": models, "image_size": "224,384,512", "batch_size": "1,8,32"}
    assert all(any((conf / family / f"{model}.yaml").is_file() for family in ("vit", "cnn")) for model in models.split(","))


@pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="hydra-submitit-launcher is not installed: pip install 'analyzer[slurm]'",
)
def test_jobs_sent_to_other_processes_make_the_same_table(tmp_path: Path) -> None:
    grid = (f"image_size=32,{OUT_OF_MEMORY},{UNSUPPORTED}",)
    sent = sweep(*grid, "hydra/launcher=submitit_local", "out=sent", cwd=tmp_path)
    assert sent.returncode == 0, sent.stderr
    assert "3 jobs submitted with LocalLauncher" in sent.stderr
    here = sweep(*grid, "out=here", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    assert "3 points, 3 known, 0 to measure" in here.stderr  # the keys are the same

    def table(name: str) -> list[tuple[str, ...]]:
        with (tmp_path / name / "points.csv").open(newline="") as file:
            return sorted((row["model"], row["batch_size"], row["image_size"], row["status"]) for row in csv.DictReader(file))

    assert table("sent") == table("here")
    assert len(table("sent")) == 3
    directory = min((tmp_path / "traces" / "sweeps").iterdir())
    assert {path.name for path in directory.iterdir()} == {"manifest.json", "jobs", ".submitit"}
    assert len(run_directories(tmp_path)) == 1
