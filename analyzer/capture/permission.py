"""Why hardware counters cannot be read, and the exact command that enables them: from what ncu printed, or the driver's state.

Nothing here has been tried on a GPU. The texts are those that public logs and documentation quote; each row of ``CASES`` names
its source. Nothing is run and nothing is changed: a hint is for a person to weigh, and says what it does where it opens
something. No hint changes clocks.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analyzer.capture.drivers import matching
from analyzer.capture.surroundings import Surroundings

HERE = Surroundings()

_LONGEST = 200_000
"""Characters of ncu's output that are looked at, from its end: the cause stands near the last lines."""


class Scope(enum.Enum):
    """What an obstacle meets: one group of counters, every group of this model, or every model on this machine."""

    GROUP = enum.auto()
    MODEL = enum.auto()
    MACHINE = enum.auto()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What is in the way of hardware counters.

    ``reason`` is one line. ``hint`` is steps parted by ``"; "``, commands as they are typed; what a reader must know of them
    stands in round brackets as a step of its own. ``scope`` says what else would meet it.
    """

    reason: str
    hint: str
    scope: Scope = Scope.MACHINE


def together(obstacles: Sequence[Obstacle]) -> Obstacle | None:
    """Return ``obstacles`` as one, in their order, so that all are seen at once; None where there is none."""
    if not obstacles:
        return None
    reason = "; ".join(found.reason for found in obstacles)
    return Obstacle(reason, "; ".join(found.hint for found in obstacles if found.hint), obstacles[0].scope)


@dataclass(frozen=True, slots=True)
class Case:
    """A text that ncu prints, and what it means. ``hint`` is fixed, or made for the machine. ``source`` quotes the text."""

    name: str
    pattern: str
    reason: str
    hint: str | Callable[[Surroundings], str]
    source: str
    scope: Scope = Scope.MACHINE


def enable(machine: Surroundings) -> str:
    """Return how an administrator lets this process read counters."""
    if machine.gvisor:
        return _NO_GVISOR
    if machine.wsl:
        return (
            "in Windows, as administrator: NVIDIA Control Panel > Desktop > Enable Developer Settings > Developer > Manage GPU "
            "Performance Counters > Allow access to the GPU performance counters to all users; wsl --shutdown; "
            "(this lets every program of this computer watch the load of the GPU)"
        )
    if machine.vgpu and not machine.administrators_only:  # else the virtual machine's own driver comes first
        return _VGPU
    if machine.container:
        return _enable_in_container(machine)
    if machine.jetson:
        return "run the analyzer as root; (on Jetson the driver has no setting for other users)"
    return _host_setting(machine)


def _host_setting(machine: Surroundings) -> str:
    line = f"options {machine.module} NVreg_RestrictProfilingToAdminUsers=0"
    return (
        f"echo '{line}' | sudo tee /etc/modprobe.d/nvidia-profiling.conf; {machine.boot_image}; sudo reboot; "
        "(a reload of the module does as well, while nothing uses the GPU); "
        "(this lets every user of this computer watch the load that others put on the GPU); "
        "(without it: run the analyzer as root)"
    )


def _enable_in_container(machine: Surroundings) -> str:
    name, means = (
        ("PERFMON", "allows performance counters, of the host's programs too, and nothing else")
        if machine.perfmon_counts
        else ("SYS_ADMIN", "gives the container most rights of the host's administrator")
    )
    flag = (
        f"in the pod's container: securityContext: {{capabilities: {{add: [{name}]}}}}"
        if machine.kubernetes
        else f"docker run --cap-add={name} ..."
    )
    return (
        f"{flag}; (it {means}); or on the host: NVreg_RestrictProfilingToAdminUsers=0 for the module nvidia; (that lets every "
        "user there watch the load of the GPU); (on a rented machine the provider alone can do either)"
    )


def _matching(machine: Surroundings) -> str:
    """Return which ncu suits the driver here: by the table, else the rule that finds it."""
    if (row := matching(machine.driver_major)) is None:
        return _MATCHING_RULE
    return f"install nsight-compute-{row.ncu}, that of CUDA {row.cuda}; (the driver here is {machine.driver_major})"


def _library(machine: Surroundings) -> str:
    if machine.gvisor:
        return _NO_GVISOR
    if machine.wsl:
        return f"{_matching(machine)}; (in WSL2 the driver is that of Windows, and none may be installed inside)"
    found = _matching(machine)
    return f"docker run -e NVIDIA_DRIVER_CAPABILITIES=compute,utility ...; {found}" if machine.container else found


def _stub(machine: Surroundings) -> str:
    return f"take .../stubs out of LD_LIBRARY_PATH; {_matching(machine)}"


def _unknown_error(machine: Surroundings) -> str:
    return _NO_GVISOR if machine.gvisor else f"{_matching(machine)}; (a sandbox, MPS or a green context also gives this error)"


_NO_GVISOR = "use a machine or container runtime without gVisor, such as runc; (no setting helps inside)"
_MATCHING_RULE = "install the ncu of the CUDA release that nvidia-smi shows at the top right"
_VGPU = (
    "in the hypervisor, for this virtual machine: set the vGPU plugin parameter enable_profiling=1 and restart it; (its users "
    "can then watch the load that other machines put on the same GPU)"
)
_FREE = (
    "dcgmi profile --pause; run again; dcgmi profile --resume; (meanwhile the monitoring of this machine has no profiling "
    "figures); or end the other profiler: nsys with --gpu-metrics-devices, another ncu, a job of somebody else"
)
_GUIDE = "docs.nvidia.com/nsight-compute/ProfilingGuide, FAQ"

CASES = (
    Case(
        "no space",
        r"No space left on device|ENOSPC",
        "the disk is full: ncu could not write its report",
        "make room, or write runs elsewhere: traces=DIR",
        "strerror(ENOSPC); what ncu writes lies in the run directory",
    ),
    Case(
        "permission",
        r"ERR_NVGPUCTRPERM|does not have permission to (?:access|profile)|INSUFFICIENT_PRIVILEGES",
        "the driver allows counters to administrators only (ERR_NVGPUCTRPERM)",
        enable,
        "developer.nvidia.com/ERR_NVGPUCTRPERM; deepseek-ai/DeepGEMM #46",
    ),
    Case(
        "taken",
        r"driver resource was unavailable|HARDWARE_BUSY|Already under profiling",
        "another program holds the counters of this machine, DCGM's monitoring as a rule",
        _FREE,
        f"{_GUIDE}; NVIDIA/DCGM #56 (the lock is one for all GPUs)",
    ),
    Case(
        "windows",
        r"not supported on device \d+ as it uses the Windows Subsystem for Linux",
        "this version of Windows or of its driver does not let WSL2 read counters",
        "update to Windows 11 and a driver from 525 on",
        "forums.developer.nvidia.com 260814",
    ),
    Case(
        "vgpu",
        r"[Pp]rofiling is not (?:supported|enabled|allowed)[^\n]*vGPU|vGPU[^\n]*(?:not support|no[t]? (?:enabled|allowed))",
        "the hypervisor does not allow counters to this virtual GPU",
        _VGPU,
        "docs.nvidia.com/vgpu, Enabling profilers for a vGPU; the wording of the message is assumed",
    ),
    Case(
        "chip",
        r"[Pp]rofiling is not supported on device|UnsupportedGpu|GPU is not supported",
        "this version of ncu does not know this GPU",
        "ncu --list-chips; (shows the chips that it knows: a newer GPU needs a newer ncu, Volta one of CUDA 13.0 or before, "
        "and for what came before Volta there is none)",
        "docs.nvidia.com/nsight-compute/ReleaseNotes; a log of a GTX 1080 Ti with ncu 2024.1",
    ),
    Case(
        "driver too old",
        r"Cuda driver is not compatible with Nsight Compute|Failed to load Nsight Compute CUDA modules",
        "the driver is older than this ncu needs",
        _matching,
        "meta-pytorch/tritonbench #632",
    ),
    Case(
        "stub",
        r"failed to connect to the CUDA driver|stub libcuda",
        "ncu found a stub of libcuda instead of the driver, or the driver is older than this ncu needs",
        _stub,
        "a log of ncu 2026.2.1 with driver 565.57",
    ),
    Case(
        "library",
        r"LibraryNotLoaded|compatible driver library",
        "ncu cannot load the driver library that counters need (LibraryNotLoaded)",
        _library,
        "logs of ncu in WSL2 and in gVisor",
    ),
    Case(
        "lock file",
        r"nsight-compute-lock|[Ff]ailed to (?:open|create|open/create) lock file|InterprocessLock",
        "the lock file that ncu shares between users belongs to somebody else",
        'mkdir -p "$HOME/ncu-tmp"; TMPDIR="$HOME/ncu-tmp" analyzer ...',
        _GUIDE,
    ),
    Case(
        "clocks",
        r"Cannot lock GPU clock frequencies",
        "ncu was told to lock the clocks of the GPU, and may not",
        "add --clock-control none to ncu: the analyzer's own passes have it",
        "a log of ncu on a MIG instance",
    ),
    Case(
        "mig",
        r"GPU units that are shared with other MIG instances|shared with other MIG",
        "MIG instances share some units, whose counters cannot be read: PCIe, and L2 and DRAM between compute instances",
        "nvidia-smi mig -lci; (lists the instances: one that fills its GPU instance can read its own L2 and DRAM)",
        "docs.nvidia.com/nsight-compute/ProfilingGuide, Multi-Instance GPU; docs.nvidia.com/cupti, Special configurations",
        Scope.GROUP,
    ),
    Case(
        "metric",
        r"Failed to find metric|[Uu]nknown metric|[Mm]etrics? .{1,80} (?:not found|does not exist)",
        "this ncu does not know a counter that was asked for",
        "ncu --query-metrics; (shows what it knows: other versions and chips use other names)",
        "logs of ncu 2025 with flop_count_sp and sm__active_cycles_sum",
        Scope.GROUP,
    ),
    Case(
        "option",
        r"unrecognised option|unrecognized option",
        "this ncu does not know an option: its version is too old",
        _matching,
        "logs of ncu with --attach and --output",
    ),
    Case(
        "memory",
        r"CUDA out of memory|OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation",
        "the memory of the GPU did not suffice for the model under ncu",
        "use a smaller batch_size=, or end what else runs on the GPU",
        "torch.cuda.OutOfMemoryError",
        Scope.MODEL,
    ),
    Case(
        "no device",
        r"no CUDA-capable device|CUDA_ERROR_NO_DEVICE|No devices were found",
        "ncu sees no CUDA device",
        "nvidia-smi; (shows whether the driver sees one); in a container: docker run --gpus all ...",
        "cudaErrorNoDevice",
    ),
    Case(
        "unknown error",
        r"Failed to prepare kernel for profiling|[Uu]nknown [Ee]rror on device",
        "ncu reached the GPU and the driver refused to count, without a reason",
        _unknown_error,
        "intel/llvm #17007; logs where the ncu was older than the driver or the GPU",
        Scope.GROUP,
    ),
    Case(
        "nothing",
        r"No kernels were profiled",
        "ncu saw no kernel to count",
        "with --profile-from-start off the program must launch kernels between torch.cuda.profiler.start() and stop(); "
        "--target-processes all covers its child processes",
        "ingonyama-zk/icicle #267; it follows most of the errors above, so it comes after them",
        Scope.MODEL,
    ),
    Case(
        "program",
        r"The application returned an error code",
        "the program that ncu started ended with an error of its own",
        "run it without ncu and see what it says",
        "logs of ncu whose program could not import torch",
        Scope.MODEL,
    ),
)
"""What ncu prints and what it means, the cause before what follows from it: the first row that is found speaks."""


def explain(text: str, machine: Surroundings = HERE) -> Obstacle | None:
    """Return what ``text``, the output of ncu, says is in the way; None where it says nothing that is known."""
    end = text[-_LONGEST:]
    for case in CASES:
        if re.search(case.pattern, end):
            return Obstacle(case.reason, case.hint if isinstance(case.hint, str) else case.hint(machine), case.scope)
    return None


def driver_state(machine: Surroundings = HERE) -> Obstacle | None:
    """Return what is in the way of counters as far as it can be known without ncu; None where nothing is known to be.

    Whether a virtual GPU or a MIG instance may count is known only to ncu: neither is an obstacle by itself.
    """
    if not machine.has_proc:
        return None
    if not machine.has_driver:
        hint = "docker run --gpus all ..." if machine.container else "install the NVIDIA driver"
        return Obstacle("no NVIDIA driver is loaded", f"(where the machine has an NVIDIA GPU); {hint}")
    if machine.gvisor:
        return Obstacle("this is gVisor, which does not pass on the calls that counters need", _NO_GVISOR)
    if machine.administrators_only and not machine.may_profile:
        who = "administrators of the host" if machine.container else "administrators"
        return Obstacle(f"the driver allows counters to {who} only (RmProfilingAdminOnly: 1)", enable(machine))
    return None


def not_found(searched: Sequence[str], machine: Surroundings = HERE) -> Obstacle:
    """Return that there is no ncu in any of the places ``searched``, and what installs the one that suits the driver here."""
    places = f" in {', '.join(searched)}" if searched else ""
    reason = f"ncu (Nsight Compute) was not found{places}"
    note = "(the CUDA toolkit has it too, it must be on PATH, and Ubuntu's own package is too old for recent GPUs)"
    if (row := matching(machine.driver_major)) is None:
        return Obstacle(
            reason,
            "conda install -c nvidia nsight-compute; (it must be no newer than the driver: that of the CUDA release which "
            f"nvidia-smi shows at the top right, conda's label cuda-VERSION); {note}",
        )
    return Obstacle(
        reason,
        f"conda install -c nvidia/label/cuda-{row.cuda} nsight-compute; or from NVIDIA's repository: sudo apt install "
        f"nsight-compute-{row.ncu}; (that release goes with the driver here, {machine.driver_major}); {note}",
    )
