"""What keeps hardware counters from being read: every text of the table, and every state of a machine laid out in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.capture.drivers import MATCHES, matching
from analyzer.capture.permission import CASES, Obstacle, Scope, driver_state, enable, explain, not_found, together
from analyzer.capture.surroundings import Surroundings

SAID = {
    "no space": "OSError: [Errno 28] No space left on device",
    "permission": (
        "==PROF== Connected to process 5183\n"
        "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the target "
        "device 0. For instructions on enabling permissions see https://developer.nvidia.com/ERR_NVGPUCTRPERM\n"
        "==PROF== Disconnected from process 5183\n==ERROR== The application returned an error code (1).\n"
        "==WARNING== No kernels were profiled."
    ),
    "taken": (
        "==ERROR== An error was reported by the driver:\n==ERROR== Profiling failed because a driver resource was unavailable. "
        'Ensure that no other tool (like DCGM) is concurrently collecting profiling data.\n==ERROR== Failed to profile "k" in '
        "process 7\n==ERROR== The application returned an error code (9)."
    ),
    "windows": "==ERROR== Profiling is not supported on device 0 as it uses the Windows Subsystem for Linux (WSL).",
    "vgpu": "==ERROR== Profiling is not supported on this vGPU",
    "chip": (
        "==ERROR== Profiling is not supported on device 0. To find out supported GPUs refer --list-chips option.\n"
        "==WARNING== No kernels were profiled."
    ),
    "driver too old": (
        "==ERROR== An error was reported by the driver:\n==ERROR== Cuda driver is not compatible with Nsight Compute.\n"
        "==ERROR== The application returned an error code (11)."
    ),
    "stub": "==ERROR== Nsight Compute failed to connect to the CUDA driver (stub libcuda.so[.1] on path?).",
    "library": (
        "==ERROR== An error was reported by the counter measurement library:\n==ERROR== Failed to initialize the profiler: "
        "LibraryNotLoaded. Check that a compatible driver library is loaded.\n==ERROR== The application returned an error code (9)."
    ),
    "lock file": "==ERROR== Failed to open/create lock file /tmp/nsight-compute-lock. Please check that this process has access.",
    "clocks": "==ERROR== An error was reported by the driver\n==ERROR== Cannot lock GPU clock frequencies on MIG! Try locking ...",
    "mig": (
        "==WARNING== Unable to access the following 8 metrics: pcie__read_bytes.sum. If profiling on a MIG instance, it is not "
        "possible to collect metrics from GPU units that are shared with other MIG instances."
    ),
    "metric": "==ERROR== Failed to find metric regex:^sm__active_cycles_sum(\\.|$)",
    "option": "==ERROR== unrecognised option '--attach'. Use --help for further details.",
    "memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.\n==ERROR== The application returned an error "
    "code (1).",
    "no device": "RuntimeError: CUDA error: no CUDA-capable device is detected\n==ERROR== The application returned an error code (1).",
    "unknown error": (
        "==ERROR== Failed to prepare kernel for profiling\n==ERROR== Unknown Error on device 0.\n"
        "==ERROR== The application returned an error code (9).\n==WARNING== No kernels were profiled."
    ),
    "nothing": "==WARNING== No kernels were profiled.\n==WARNING== Profiling kernels launched by child processes requires ...",
    "program": "ModuleNotFoundError: No module named 'timm'\n==ERROR== The application returned an error code (1).",
}

FULL, NONE, DOCKER = "000001ffffffffff", "0000000000000000", "00000000a80425fb"
"""Capabilities of root on a host, of a user, and of root in a container of Docker's own making."""
ADMIN_ONLY = {"proc/driver/nvidia/params": "ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 1\n"}
OPEN = {"proc/driver/nvidia/params": "RmProfilingAdminOnly: 0\n"}
CONTAINER = {".dockerenv": ""}


def machine(
    root: Path, *files: dict[str, str], caps: str = NONE, driver: str = "550.90.07", release: str = "6.8.0", users: str = ""
) -> Surroundings:
    """Return a machine of these files; ``driver`` empty for none."""
    there = {
        "proc/self/status": f"Name:\tpython\nCapEff:\t{caps}\n",
        "proc/self/uid_map": users or "         0          0 4294967295\n",
        "proc/sys/kernel/osrelease": f"{release}\n",
        "proc/version": f"Linux version {release} (builder) #1 SMP\n",
        "etc/os-release": "ID=ubuntu\nID_LIKE=debian\n",
    }
    if driver:
        there["proc/driver/nvidia/version"] = (
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue May 28\nGCC version: 12\n"
        )
    for more in files:
        there |= more
    for name, text in there.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Surroundings(root)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_text_of_the_table_gets_its_own_words(tmp_path: Path, case: object) -> None:
    (row,) = [c for c in CASES if c is case]
    found = explain(f"==PROF== Connected to process 1\n{SAID[row.name]}\n", machine(tmp_path))
    assert found is not None
    assert found.reason == row.reason  # and not that of a row before it
    assert found.hint
    assert row.source


def test_the_table_and_its_texts_are_the_same_set() -> None:
    assert list(SAID) == [case.name for case in CASES]
    assert len({case.reason for case in CASES}) == len(CASES)


def test_other_words_are_not_explained() -> None:
    assert explain("") is None
    assert explain("==PROF== Connected to process 3\n50%....100% - 1 pass\n==PROF== Report: x.ncu-rep") is None


def test_the_end_of_a_long_output_is_what_counts(tmp_path: Path) -> None:
    assert explain("x" * 3_000_000 + SAID["permission"], machine(tmp_path)) is not None
    assert explain(SAID["permission"] + "x" * 3_000_000, machine(tmp_path)) is None


def test_no_hint_touches_clocks_or_opens_something_in_silence(tmp_path: Path) -> None:
    for case in CASES:
        found = explain(SAID[case.name], machine(tmp_path / case.name))
        assert found is not None
        assert not {"lgc", "--lock-gpu-clocks", "nvidia-smi -ac", "persistence"} & set(found.hint.replace("=", " ").split())
    for number, more in enumerate(({}, CONTAINER, {"proc/driver/nvidia/gpus/0/information": "Model: \t\t GRID T4-8C\n"})):
        hint = enable(machine(tmp_path / str(number), more))
        assert "watch the load" in hint or "rights" in hint


def test_bare_metal_names_the_commands_of_its_distribution(tmp_path: Path) -> None:
    debian = driver_state(machine(tmp_path / "a", ADMIN_ONLY))
    assert debian is not None
    assert "RmProfilingAdminOnly: 1" in debian.reason
    assert debian.hint.split("; ")[:3] == [
        "echo 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' | sudo tee /etc/modprobe.d/nvidia-profiling.conf",
        "sudo update-initramfs -u",
        "sudo reboot",
    ]
    fedora = driver_state(machine(tmp_path / "b", ADMIN_ONLY, {"etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'}))
    assert fedora is not None
    assert fedora.hint.split("; ")[1] == "sudo dracut --force"
    packaged = driver_state(machine(tmp_path / "c", ADMIN_ONLY, {"etc/nvidia/current/nvidia-modprobe.conf": ""}))
    assert packaged is not None
    assert "options nvidia-current NVreg" in packaged.hint


@pytest.mark.parametrize(
    ("caps", "driver", "users", "allowed"),
    [
        (NONE, "550.90.07", "", False),
        (FULL, "550.90.07", "", True),
        (DOCKER, "550.90.07", "", False),  # user 0 without CAP_SYS_ADMIN
        (f"{1 << 21:016x}", "550.90.07", "", True),
        (f"{1 << 38:016x}", "550.90.07", "", False),  # CAP_PERFMON counts from driver 565 on
        (f"{1 << 38:016x}", "570.86.10", "", True),
        (FULL, "570.86.10", "0 100000 65536\n", False),  # root of a user namespace alone
        (FULL, "570.86.10", "0 1000 1\n1 100000 65536\n", False),
        (FULL, "570.86.10", "strange\n", False),
        ("", "550.90.07", "", False),
    ],
)
def test_capabilities_of_the_host_are_what_counts(tmp_path: Path, caps: str, driver: str, users: str, allowed: bool) -> None:
    there = machine(tmp_path, ADMIN_ONLY, caps=caps, driver=driver, users=users)
    assert there.may_profile is allowed
    assert (driver_state(there) is None) is allowed


def test_an_open_driver_lets_everybody_count(tmp_path: Path) -> None:
    assert driver_state(machine(tmp_path / "a", OPEN)) is None
    assert driver_state(machine(tmp_path / "b")) is None  # it does not say: ncu will
    assert machine(tmp_path / "b").administrators_only is None


@pytest.mark.parametrize(
    ("files", "driver", "first"),
    [
        (CONTAINER, "550.90.07", "docker run --cap-add=SYS_ADMIN ..."),
        (CONTAINER, "570.86.10", "docker run --cap-add=PERFMON ..."),
        ({"run/.containerenv": ""}, "550.90.07", "docker run --cap-add=SYS_ADMIN ..."),
        ({"proc/self/cgroup": "0::/docker/4f2a\n"}, "550.90.07", "docker run --cap-add=SYS_ADMIN ..."),
        (
            {"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"},
            "550.90.07",
            "in the pod's container: securityContext: {capabilities: {add: [SYS_ADMIN]}}",
        ),
        (
            {**CONTAINER, "var/run/secrets/kubernetes.io/serviceaccount/token": ""},
            "570.86.10",
            "in the pod's container: securityContext: {capabilities: {add: [PERFMON]}}",
        ),
    ],
)
def test_a_container_gets_the_flag_that_starts_it(tmp_path: Path, files: dict[str, str], driver: str, first: str) -> None:
    there = machine(tmp_path, ADMIN_ONLY, files, caps=DOCKER, driver=driver)
    assert there.container
    found = driver_state(there)
    assert found is not None
    assert found.hint.split("; ")[0] == first
    assert "(it " in found.hint


def test_no_driver(tmp_path: Path) -> None:
    host = driver_state(machine(tmp_path / "a", driver=""))
    assert host == Obstacle("no NVIDIA driver is loaded", "(where the machine has an NVIDIA GPU); install the NVIDIA driver")
    inside = driver_state(machine(tmp_path / "b", CONTAINER, driver=""))
    assert inside is not None
    assert inside.hint == "(where the machine has an NVIDIA GPU); docker run --gpus all ..."


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("4.4.0", "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n"),
        ("4.19.0-gvisor", "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n"),
    ],
)
def test_gvisor_is_told_that_nothing_helps(tmp_path: Path, release: str, version: str) -> None:
    there = machine(tmp_path, CONTAINER, {"proc/version": version}, caps=FULL, release=release)
    found = driver_state(there)
    assert found is not None
    assert "gVisor" in found.reason
    for name in ("permission", "library", "unknown error"):
        said = explain(SAID[name], there)
        assert said is not None
        assert said.hint == found.hint
        assert "runc" in said.hint


def test_an_old_kernel_is_not_gvisor(tmp_path: Path) -> None:
    assert not machine(tmp_path, release="4.4.0-210-generic").gvisor


def test_windows_jetson_and_virtual_gpus_have_hints_of_their_own(tmp_path: Path) -> None:
    wsl = machine(tmp_path / "a", {"dev/dxg": ""}, driver="", release="5.15.153.1-microsoft-standard-WSL2")
    assert driver_state(wsl) is None  # only Windows knows
    jetson = machine(tmp_path / "b", {"etc/nv_tegra_release": "# R36"}, release="5.15.136-tegra")
    vgpu = machine(tmp_path / "c", {"proc/driver/nvidia/gpus/0000:00/information": "Model: \t\t NVIDIA A100-40C\nIRQ: 1\n"})
    said = [explain(SAID["permission"], there) for there in (wsl, jetson, vgpu)]
    hints = [found.hint for found in said if found is not None]
    assert [hint.partition(";")[0].partition(":")[0] for hint in hints] == [
        "in Windows, as administrator",
        "run the analyzer as root",
        "in the hypervisor, for this virtual machine",
    ]
    assert "wsl --shutdown" in hints[0]
    assert "enable_profiling=1" in hints[2]
    inner = machine(tmp_path / "e", ADMIN_ONLY, {"proc/driver/nvidia/gpus/0000:00/information": "Model: GRID T4-8C\n"})
    assert enable(inner).startswith("echo 'options nvidia")  # the setting of the virtual machine itself comes first
    whole = machine(tmp_path / "d", {"proc/driver/nvidia/gpus/0000:00/information": "Model: \t\t NVIDIA A100-SXM4-80GB\n"})
    assert (whole.gpus, whole.vgpu) == (("NVIDIA A100-SXM4-80GB",), False)


def test_mig_is_seen(tmp_path: Path) -> None:
    assert machine(tmp_path, {"proc/driver/nvidia/capabilities/gpu0/mig/gi1/access": "DeviceFileMinor: 12\n"}).mig
    assert not machine(tmp_path / "other").mig


def test_a_system_without_proc_is_left_to_ncu(tmp_path: Path) -> None:
    assert driver_state(Surroundings(tmp_path)) is None


@pytest.mark.parametrize(
    ("driver", "steps"),
    [
        ("570.86.10", ("conda install -c nvidia/label/cuda-12.8.1 nsight-compute", "sudo apt install nsight-compute-2025.1.1")),
        ("580.65.06", ("conda install -c nvidia/label/cuda-13.0.2 nsight-compute", "sudo apt install nsight-compute-2025.3.1")),
        (
            "565.57.01",
            ("conda install -c nvidia/label/cuda-12.6.3 nsight-compute", "nsight-compute-2024.3.2"),
        ),  # no row: the older
        ("999.1", ("conda install -c nvidia nsight-compute", "which nvidia-smi shows at the top right")),
        ("", ("conda install -c nvidia nsight-compute", "which nvidia-smi shows at the top right")),
    ],
)
def test_ncu_that_is_not_there_is_to_be_that_of_the_driver(tmp_path: Path, driver: str, steps: tuple[str, str]) -> None:
    found = not_found(["PATH", "/usr/local/cuda/bin"], machine(tmp_path, driver=driver))
    assert found.reason.endswith("was not found in PATH, /usr/local/cuda/bin")
    assert found.hint.split("; ")[0] == steps[0]
    assert steps[1] in found.hint
    said = explain(SAID["driver too old"], machine(tmp_path, driver=driver))
    assert said is not None
    release = steps[1].rpartition(" ")[2] if driver in ("570.86.10", "580.65.06") else ""
    assert release in said.hint


def test_the_drivers_of_the_table_are_in_order() -> None:
    assert [row.driver for row in MATCHES] == sorted({row.driver for row in MATCHES})
    assert [tuple(map(int, row.ncu.split("."))) for row in MATCHES] == sorted(
        tuple(map(int, r.ncu.split("."))) for r in MATCHES
    )
    assert matching(469) is None
    assert matching(0) is None


def test_obstacles_are_told_together_and_say_what_else_they_meet(tmp_path: Path) -> None:
    there = machine(tmp_path)
    assert together([]) is None
    assert together([Obstacle("a", "b"), Obstacle("c", ""), Obstacle("d", "e")]) == Obstacle("a; c; d", "b; e")
    scopes = {name: found.scope for name in SAID if (found := explain(SAID[name], there)) is not None}
    assert {name for name, scope in scopes.items() if scope is Scope.GROUP} == {"metric", "mig", "unknown error"}
    assert {name for name, scope in scopes.items() if scope is Scope.MODEL} == {"memory", "nothing", "program"}
