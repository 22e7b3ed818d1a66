"""``task=doctor`` on a machine: what it says of hardware counters, case by case, and its trial on one kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analyzer.capture import doctor, probe
from analyzer.capture.doctor import Check, Look, counter_check
from analyzer.capture.ncu.locate import Tool, find
from analyzer.capture.nvml import NvmlReader
from analyzer.capture.nvml_errors import PROFILING_HINT
from analyzer.capture.permission import Obstacle, explain, not_found
from analyzer.capture.probe import Trial
from analyzer.capture.surroundings import Surroundings
from analyzer.hardware import counters
from analyzer.progress import Reporter
from analyzer.schema.run import DeviceFacts
from analyzer.schema.settings import CaptureSettings, Settings
from analyzer.tasks.doctor import _check
from analyzer.tasks.doctor import doctor as run_doctor
from tests.capture.ncu_stage import Stage, install
from tests.capture.test_permission import ADMIN_ONLY, CONTAINER, OPEN, SAID, machine

CUDA = torch.device("cuda:0")
NCU = Tool(Path("/usr/local/cuda/bin/ncu"), (2025, 3, 1))
NOTHING_FOUND = not_found(["PATH", "/usr/local/cuda/bin"])


def facts(capability: str | None) -> DeviceFacts:
    return DeviceFacts(type="cuda", name="NVIDIA X", vendor="nvidia", compute_capability=capability)


def reads(tool: Tool, capability: str, device: str) -> Trial:
    assert device == "cuda:0"
    return Trial(frozenset(name for group in counters.groups(capability) for name in group))


def look(there: Surroundings, trial: Callable[[Tool, str, str], Trial] = reads, tool: Tool | Obstacle = NCU) -> Look:
    return Look(lambda capability: tool, trial, there)


def forbidden(*_: object) -> Trial:
    raise AssertionError("nothing may be tried here")


def lines(*checks: Check) -> list[str]:
    return [line for check in checks for line in _check(check)]


def test_what_can_be_read_is_listed_with_its_passes(tmp_path: Path) -> None:
    found = counter_check(CUDA, facts("9.0"), look(machine(tmp_path, OPEN)))
    assert found.available
    assert not found.hint
    assert found.detail == (
        "DRAM bytes, bytes from L2, L2 hits, L1 hits, achieved occupancy, tensor-pipe use: readable in 2 passes of the model "
        "(Nsight Compute 2025.3.1, tried on one kernel)"
    )


def test_what_the_chip_has_not_is_named_with_the_reason(tmp_path: Path) -> None:
    found = counter_check(CUDA, facts("8.7"), look(machine(tmp_path, OPEN)))
    assert found.available
    assert not found.detail.startswith("DRAM")
    assert "; not on this chip: DRAM bytes (" in found.detail


def test_readable_is_only_what_came_back(tmp_path: Path) -> None:
    partly = Trial(
        frozenset(("dram__bytes.sum",)), None, frozenset(("lts__t_sectors.sum", "launch__grid_size")), "a group failed"
    )
    found = counter_check(CUDA, facts("9.0"), look(machine(tmp_path, OPEN), lambda *_: partly))
    assert found.available
    assert found.detail == (
        "DRAM bytes: readable in 2 passes of the model (Nsight Compute 2025.3.1, tried on one kernel); did not come back: bytes "
        "from L2, L2 hits, L1 hits, achieved occupancy, tensor-pipe use (a group failed); this ncu does not know "
        "lts__t_sectors.sum"
    )


def test_a_chip_that_was_not_checked_is_said_to_be(tmp_path: Path) -> None:
    found = counter_check(CUDA, facts("10.3"), look(machine(tmp_path, OPEN)))
    assert found.available
    assert "names are those of compute capability 10.0, not checked for 10.3" in found.detail


def test_mig_is_told_beside_what_can_be_read(tmp_path: Path) -> None:
    split = machine(tmp_path, OPEN, {"proc/driver/nvidia/capabilities/gpu0/mig/gi1/access": ""})
    assert "with MIG" in counter_check(CUDA, facts("9.0"), look(split)).detail


@pytest.mark.parametrize("capability", ["6.1", None])
def test_a_gpu_that_ncu_does_not_count_on(tmp_path: Path, capability: str | None) -> None:
    found = counter_check(CUDA, facts(capability), look(machine(tmp_path, OPEN), forbidden))
    assert not found.available
    assert "7.0" in found.detail


def test_without_permission_nothing_is_tried(tmp_path: Path) -> None:
    found = counter_check(CUDA, facts("9.0"), look(machine(tmp_path, ADMIN_ONLY), forbidden))
    assert lines(found) == [
        "no   hardware counters (Nsight Compute): the driver allows counters to administrators only (RmProfilingAdminOnly: 1)",
        "  enable: echo 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' | sudo tee /etc/modprobe.d/nvidia-profiling.conf",
        "          sudo update-initramfs -u",
        "          sudo reboot",
        "          (a reload of the module does as well, while nothing uses the GPU)",
        "          (this lets every user of this computer watch the load that others put on the GPU)",
        "          (without it: run the analyzer as root)",
    ]


def test_a_container_is_told_its_flag(tmp_path: Path) -> None:
    found = counter_check(CUDA, facts("9.0"), look(machine(tmp_path, ADMIN_ONLY, CONTAINER, driver="570.86.10"), forbidden))
    assert lines(found)[1:3] == [
        "  enable: docker run --cap-add=PERFMON ...",
        "          (it allows performance counters, of the host's programs too, and nothing else)",
    ]


def test_all_that_is_in_the_way_is_told_at_once(tmp_path: Path) -> None:
    found = counter_check(CUDA, facts("9.0"), look(machine(tmp_path, ADMIN_ONLY), forbidden, NOTHING_FOUND))
    assert "administrators only" in found.detail
    assert "was not found in PATH, /usr/local/cuda/bin" in found.detail
    assert found.hint.endswith(NOTHING_FOUND.hint)


@pytest.mark.parametrize("name", sorted(SAID))
def test_what_ncu_says_in_the_trial_is_what_is_told(tmp_path: Path, name: str) -> None:
    there = machine(tmp_path, OPEN)
    said = explain(SAID[name], there)
    assert said is not None
    found = counter_check(CUDA, facts("9.0"), look(there, lambda *_: Trial(obstacle=said)))
    assert (found.available, found.detail, found.hint) == (False, said.reason, said.hint)


def test_a_machine_without_a_gpu(tmp_path: Path) -> None:
    cpu = DeviceFacts(type="cpu", name="a CPU")
    without = counter_check(torch.device("cpu"), cpu, look(machine(tmp_path / "a", driver=""), forbidden, NOTHING_FOUND))
    assert without.detail.startswith("no NVIDIA driver is loaded; ncu (Nsight Compute) was not found")
    no_torch = counter_check(torch.device("cpu"), cpu, look(machine(tmp_path / "b", OPEN), forbidden))
    if not torch.cuda.is_available():
        assert (no_torch.available, no_torch.detail) == (False, "PyTorch sees no CUDA device here")


def test_gpm_names_what_permits_it(tmp_path: Path) -> None:
    class Gpm:
        available = False
        reason = f"no permission; {PROFILING_HINT}"

        def sample(self) -> dict[str, float]:
            return {}

    class Reader:
        gpm, failure = Gpm(), ""

        def open(self) -> bool:
            return True

        def close(self) -> None:
            self.gpm.reason = "closed"

    clocks, gpm = doctor._nvml_checks(Reader(), machine(tmp_path, ADMIN_ONLY))  # type: ignore[arg-type]
    assert clocks.available
    assert (gpm.available, gpm.detail) == (False, "no permission")
    assert gpm.hint.startswith("echo 'options nvidia")


def test_without_nvml_gpm_has_the_same_reason(tmp_path: Path) -> None:
    class Absent:
        def nvmlInit(self) -> None:  # noqa: N802 - the name of NVML
            raise RuntimeError

    clocks, gpm = doctor._nvml_checks(NvmlReader(Absent(), None), machine(tmp_path))
    assert not clocks.available
    assert gpm.detail == clocks.detail


def test_without_the_package_of_nvml_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ModuleNotFoundError
    monkeypatch.setattr(doctor, "counter_check", lambda *_: Check("counters", False, "not looked at"))
    found = run_doctor(Settings(task="doctor", models=(), capture=CaptureSettings(device="cpu")), Reporter(quiet=True))
    names = [check["name"] for check in found.document["checks"]]
    assert names[0] == "device"
    assert names[-1] == "counters"
    lacking = [check for check in found.document["checks"] if check["name"].startswith(("NVML", "GPM"))]
    assert len(lacking) == 2
    for check in lacking:
        assert (check["available"], check["detail"]) == (False, "nvidia-ml-py is not installed: pip install nvidia-ml-py")
    assert found.lines.count("  enable: pip install nvidia-ml-py") == 2


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return Stage(tmp_path, monkeypatch)


GROUPS = counters.groups("9.0")
OWN = {name for group in GROUPS for name in group} - set(counters.anchors())


def trial(stage: Stage, limit_s: float = 120.0) -> Trial:
    tool = find("9.0")
    assert isinstance(tool, Tool)
    return probe.probe(tool, "9.0", "cpu", limit_s)


def counting(stage: Stage) -> list[list[str]]:
    return [c["arguments"] for c in stage.calls() if "--metrics" in c.get("arguments", ())]


def test_the_trial_counts_one_kernel_for_each_group_with_the_command_of_a_pass(stage: Stage) -> None:
    stage.play("ok")
    found = trial(stage)
    assert found.obstacle is None
    assert (found.unknown, found.remark) == (frozenset(), "")
    assert found.read >= OWN
    asked = [line[line.index("--metrics") + 1].split(",") for line in counting(stage)]
    launch = [name for name in counters.launch_metrics() if name != "profiler__replayer_passes"]
    assert asked == [[*group, *launch] for group in GROUPS]  # what a run asks for
    for line in counting(stage):
        assert line[line.index("--clock-control") + 1] == "none"
        assert line[line.index("--cache-control") + 1] == "none"
    assert len(stage.calls()) == 3 * len(GROUPS)  # counted, the program in it, printed


def test_a_trial_is_for_the_groups_that_it_is_given(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROGRAM", "")
    stage.play("ok")
    tool = find("9.0")
    assert isinstance(tool, Tool)
    group = (*counters.anchors(), "sm__ops_path_tensor_src_bf16_dst_fp32.sum")
    assert probe.probe(tool, "9.0", "cpu", groups=[group]).read >= set(group)
    assert len(counting(stage)) == 1


def test_names_that_ncu_refuses_are_known_after_the_trial(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROGRAM", "")
    drop = [GROUPS[0][-1], "launch__grid_size"]
    stage.play("unknown", drop=drop)
    found = trial(stage)
    assert found.obstacle is None
    assert found.unknown - set(counters.launch_metrics()) == set(drop[:1])
    assert set(drop) <= found.unknown
    assert found.read >= OWN - set(drop)
    assert not found.read & set(drop)
    assert len(counting(stage)) == len(GROUPS) + 2  # what one group taught, the others know


def test_a_group_that_gives_nothing_leaves_the_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROGRAM", "")
    stage.play("absent", group=1)
    found = trial(stage)
    assert found.obstacle is None
    assert found.read >= set(GROUPS[1])
    assert found.remark.startswith("ncu gave no ")


@pytest.mark.parametrize(
    ("scenario", "reason", "tries"),
    [
        ("denied", "administrators only (ERR_NVGPUCTRPERM)", 1),
        ("disk_full", "the disk is full", 1),
        ("empty", "saw no kernel", 1),
        ("import_fails", "it is of a newer version", 2),
        ("garbage", "and no report", 2),
        ("killed", "signal 9 and no report", 2),
        ("strange", "The moon is in the way", 2),
        ("absent", "ncu gave no ", len(GROUPS)),
    ],
)
def test_a_trial_that_fails_says_why(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, scenario: str, reason: str, tries: int
) -> None:
    monkeypatch.setattr(probe, "_PROGRAM", "")  # what runs does not matter here
    stage.play(scenario)
    found = trial(stage)
    assert found.obstacle is not None
    assert reason in found.obstacle.reason
    assert len(counting(stage)) == tries
    if scenario == "disk_full":
        assert found.obstacle.hint == "set TMPDIR= to a directory with room"


def test_a_trial_that_hangs_is_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROGRAM", "")
    stage.play("hangs")
    found = trial(stage, 3.0)
    assert found.obstacle is not None
    assert found.obstacle.reason == "ncu did not end within the time for a trial on one kernel"
    assert "end what else uses ncu" in found.obstacle.hint
    assert len(counting(stage)) == 1  # one limit for all


def test_the_document_has_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("device", True, "cpu"), Check("counters", False, "why not", "do this; (for that)")]
    monkeypatch.setattr(doctor, "examine", lambda settings: checks)
    found = run_doctor(Settings(task="doctor", models=(), capture=CaptureSettings()), Reporter(quiet=True))
    assert found.document == {
        "checks": [
            {"name": "device", "available": True, "detail": "cpu", "hint": None},
            {"name": "counters", "available": False, "detail": "why not", "hint": "do this; (for that)"},
        ]
    }
    assert found.not_measured == ("counters: why not",)
    assert found.lines == ["yes  device: cpu", "no   counters: why not", "  enable: do this", "          (for that)"]
