"""The counter pass from end to end, the counters alone being made up."""

from __future__ import annotations

import errno
import getpass
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ncu_stage import GROUPS, HERE, Stage, alive, nothing_is_left, rows, set_up, wait_until

from analyzer.capture import counted, processes
from analyzer.capture.ncu import page, provider
from analyzer.hardware import counters
from analyzer.schema.settings import ModelChoice
from analyzer.trace.rundir import COUNTERS_FILE


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return set_up(tmp_path, monkeypatch)


def test_groups_are_counted_and_joined_to_one_file(stage: Stage) -> None:
    stage.play(kernels=3)
    seen: list[int] = []
    result = provider.count(stage.prepared(GROUPS), stage.job(), lambda: seen.append(1))
    assert result.warnings == []
    assert result.launches == 3
    assert len(seen) == 3
    facts = result.facts
    assert facts.available
    assert (facts.provider, facts.version, facts.passes, facts.cache_control) == ("ncu", "2025.3.1", 3, "none")
    assert facts.missing == ()
    assert set(facts.requested) == {n for group in GROUPS for n in group} | set(counters.launch_metrics()) - {page.PASSES}
    assert [entry.name for entry in stage.run.iterdir()] == [COUNTERS_FILE]
    units, *found = rows(stage.run / COUNTERS_FILE)
    assert units["ID"] == ""
    assert (units["gpu__time_duration.sum"], units["dram__bytes.sum"]) == ("ns", "byte")
    assert [row["Process ID"] for row in found] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    assert [row["ID"] for row in found] == ["0", "1", "2"] * 3
    # of the stand-in: (launch + 1) x (100 + length of the name), the duration 1,000 x (launch + 1)
    assert [row["dram__bytes.sum"] for row in found] == ["115", "230", "345"] + [""] * 6
    assert [row["l1tex__m_xbar2l1tex_read_bytes.sum"] for row in found] == [""] * 3 + ["134", "268", "402"] + [""] * 3
    assert [row["gpu__time_duration.sum"] for row in found] == ["1,000", "2,000", "3,000"] * 3
    assert found[1]["Kernel Name"] == "void at::native::kernel_1<float, (int)4>(T1, T2 *)"
    assert found[1]["Grid Size"] == "(2, 1, 1)"
    wait_until(lambda: not alive(stage.processes()))


def test_the_program_really_runs_and_every_call_is_as_documented(stage: Stage) -> None:
    stage.count(stage.prepared(GROUPS[:1]))
    started, ran, printed = stage.calls()
    assert ran["child"] > 0
    line = started["arguments"]
    asked = ",".join((*GROUPS[0], *(name for name in counters.launch_metrics() if name != page.PASSES)))
    assert line[:16] == [
        "--config-file", "off", "--target-processes", "all", "--profile-from-start", "off", "--replay-mode", "kernel", "--cache-control", "none",
        "--clock-control", "none", "--metrics", asked, "-f", "-o",
    ]  # fmt: skip
    assert line[17:-1] == [sys.executable, "-P", "-m", "analyzer.capture.counted"]
    assert printed["arguments"][4:] == ["--csv", "--page", "raw", "--print-units", "base", "--print-kernel-base", "demangled"]
    assert started["locale"] == printed["locale"] == "C"
    assert started["group"] != os.getpgid(0)


def test_a_directory_named_like_a_macro_of_ncu_is_no_macro(stage: Stage) -> None:
    stage.play(stub=True)
    odd = stage.root / "50%h of it"
    odd.mkdir()
    job = provider.Job(stage.job().choice, {}, odd)
    assert stage.count(stage.prepared(GROUPS[:1]), job).facts.available
    assert [entry.name for entry in odd.iterdir()] == [COUNTERS_FILE]


def test_nothing_touches_clocks_power_persistence_or_compute_mode(stage: Stage) -> None:
    stage.play(stub=True)
    stage.count(stage.prepared(GROUPS))
    lines = [call["arguments"] for call in stage.calls()]
    assert len(lines) == 6
    counting = [line for line in lines if "--import" not in line]
    assert len(counting) == 3
    for line in counting:
        assert line.count("--clock-control") == 1
        assert line[line.index("--clock-control") + 1] == "none"
    assert all(line[:2] == ["--config-file", "off"] for line in lines)  # what a user's file says of clocks does not count
    options = {word for line in lines for word in line if word.startswith("-")} - {"--clock-control"}
    for word in ("lock", "power", "persist", "mode", "-lgc", "-lmc", "-pm", "-pl"):
        assert not [option for option in options if word in option and option != "--replay-mode"], word
    source = (
        "".join(file.read_text() for file in Path(provider.__file__).parent.glob("*.py")) + Path(counted.__file__).read_text()
    )
    for call in (
        "SetGpuLockedClocks",
        "ApplicationsClocks",
        "PowerManagementLimit",
        "PersistenceMode",
        "ComputeMode",
        "nvidia-smi",
    ):
        assert call not in source


def test_no_person_host_process_or_path_is_in_the_file(stage: Stage) -> None:
    stage.count(stage.prepared(GROUPS[:1]))
    text = (stage.run / COUNTERS_FILE).read_text()
    header = text.splitlines()[0]
    assert "Process Name" not in header
    assert "Host Name" not in header
    for word in ("a-host-name", "python3", socket.gethostname(), str(Path.home()), str(stage.root), "/tmp/", sys.executable):
        assert word == "/" or word not in text
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", text)


def test_the_file_can_be_read(stage: Stage) -> None:
    from analyzer.trace.counters import read_counter_file

    stage.play(stub=True, kernels=5)
    stage.count(stage.prepared(GROUPS))
    found = read_counter_file(stage.run / COUNTERS_FILE)
    assert len(found.rows) == 15
    assert set(found.metrics) >= {name for group in GROUPS for name in group}
    assert found.rows["process"].nunique() == 3
    assert found.capability == "9.0"
    first = found.rows[found.rows["process"].astype(str) == "1"]
    assert list(first["dram__bytes.sum"]) == [115.0, 230.0, 345.0, 460.0, 575.0]
    assert list(first["grid"])[:2] == ["1,1,1", "2,1,1"]


@pytest.mark.parametrize(
    ("scenario", "reason", "hint"),
    [
        ("denied", "administrators only (ERR_NVGPUCTRPERM)", "NVreg_RestrictProfilingToAdminUsers=0"),
        ("disk_full", "the disk is full", "traces=DIR"),
        ("empty", "ncu saw no kernel to count", ""),
        ("import_fails", "Nsight Compute: Failed to load report file", ""),
        ("import_dies", "Nsight Compute ended with", ""),
        ("garbage", "no table of counters", "another release"),
        ("cut", "ncu printed", "another release"),
    ],
)
def test_a_failure_is_told_and_leaves_nothing(scenario: str, reason: str, hint: str, stage: Stage) -> None:
    stage.play(scenario, stub=True)
    result = stage.count()
    assert not result.facts.available
    assert reason in result.facts.reason
    assert hint in result.facts.hint
    assert result.facts.passes == 0
    assert result.facts.missing == result.facts.requested
    assert result.warnings[0].startswith(f"counters: group 1 of 2 failed: {result.facts.reason}")
    assert str(stage.root) not in result.facts.reason
    nothing_is_left(stage)


def test_an_error_that_nobody_knows_is_told_as_it_stands_without_paths(stage: Stage) -> None:
    stage.play("strange")
    result = stage.count()
    assert result.facts.reason.startswith("Nsight Compute: The moon is in the way of ")
    assert str(Path.home()) not in result.facts.reason or str(Path.home()) == "/"
    assert "moon.txt" not in result.facts.reason or "~" in result.facts.reason


def test_a_program_that_crashes_when_it_is_torn_down_has_been_counted(stage: Stage) -> None:
    stage.play("torn_down", stub=True)
    result = stage.count()
    assert result.facts.available
    assert result.warnings == []


def test_ncu_killed_midway_takes_its_program_with_it(stage: Stage) -> None:
    stage.play("killed")
    result = stage.count(job=stage.job(ModelChoice("cnn", "", "Endless", factory="tiny:endless")))
    assert not result.facts.available
    assert result.facts.reason == "Nsight Compute ended with signal 9 and no report"
    nothing_is_left(stage)


def test_a_program_killed_for_memory_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play("killed_program")
    kills = iter([5, 6])
    monkeypatch.setattr(processes, "memory_kills", lambda: next(kills))
    result = stage.count()
    assert result.facts.reason == "the system ended the counted process for want of memory"
    assert "batch_size" in result.facts.hint
    nothing_is_left(stage)


def test_a_program_out_of_memory_is_told(stage: Stage) -> None:
    result = stage.count(job=stage.job(ModelChoice("cnn", "", "Hungry", factory="tiny:hungry")))
    assert result.facts.reason == "the model failed under Nsight Compute: hungry: out of memory on cpu"
    assert "batch_size" in result.facts.hint
    nothing_is_left(stage)


def test_what_hangs_is_ended_at_the_limit(stage: Stage) -> None:
    stage.play("hangs")
    endless = ModelChoice("cnn", "", "Endless", factory="tiny:endless")
    result = stage.count(job=stage.job(endless, limit_s=4.0))
    assert result.facts.reason == "Nsight Compute took more than 4 s and was ended"
    assert len(stage.processes()) == 2
    nothing_is_left(stage)


def test_a_full_disk_of_our_own_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play(stub=True)

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        result = stage.count()
    assert not result.facts.available
    assert result.facts.reason == "files of the counter pass could not be written: No space left on device"
    nothing_is_left(stage)


def test_a_disk_that_is_full_for_the_result_leaves_no_half_of_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play(stub=True)

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        result = stage.count()
    assert not result.facts.available
    assert result.facts.reason == f"{COUNTERS_FILE} could not be written: No space left on device"
    assert result.warnings[0] == f"counters: {result.facts.reason}"
    assert result.facts.missing == result.facts.requested
    nothing_is_left(stage)


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import psutil
import pytest
from ncu_stage import Stage
from analyzer.schema.settings import ModelChoice
stage = Stage(Path({root!r}), None)
stage.count(job=stage.job(ModelChoice("cnn", "", "Endless", factory="tiny:endless")))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_neither_ctrl_c_nor_our_death_leaves_a_process(sent: signal.Signals, stage: Stage) -> None:
    stage.play("hangs")
    script = INTERRUPTED.format(here=str(HERE), root=str(stage.root))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: len(stage.processes()) == 2)
        started = stage.processes()
        assert alive(started) == started
        process.send_signal(sent)
        process.wait(30)
        wait_until(lambda: not alive(started))
    finally:
        process.kill()
        process.wait()
    if sent == signal.SIGINT:
        assert list(stage.run.iterdir()) == []


def test_the_program_knows_when_the_analyzer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getpid()
    born = processes.birth(mine)
    assert processes.lives(mine, born)
    assert not processes.lives(mine, born - 1.0)  # another process with the number of ours
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not processes.lives(gone.pid, born)
    with monkeypatch.context() as patched:  # a step of the clock moves what psutil says, and no ticks
        patched.setattr(psutil.Process, "create_time", lambda _: 0.0)
        assert processes.lives(mine, born)
    monkeypatch.setattr(processes, "_PROC", Path("/no/such/place"))
    created = psutil.Process(mine).create_time()
    assert processes.birth(mine) == created
    assert processes.lives(mine, created + 5.0)
    assert not processes.lives(mine, created - 60.0)
    assert not processes.lives(gone.pid, created)
