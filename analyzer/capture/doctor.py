"""What can be measured on this machine, and what is in the way of the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from analyzer.capture import nvml
from analyzer.capture.environment import available_devices, device_facts, device_uuid, resolve_device, versions
from analyzer.capture.ncu import locate
from analyzer.capture.nvml_errors import PROFILING_HINT
from analyzer.capture.permission import HERE, Obstacle, driver_state, enable, together
from analyzer.capture.probe import Trial, probe
from analyzer.capture.surroundings import Surroundings
from analyzer.format import counted, size
from analyzer.hardware import counters
from analyzer.insight.counter_support import WANTED, has_quantity
from analyzer.schema.run import DeviceFacts
from analyzer.schema.settings import CaptureSettings

_CLOCKS = "NVML: clocks, power, temperature, energy"
_COUNTERS = "hardware counters (Nsight Compute)"
_GPM = "GPM: DRAM, tensor and multiprocessor activity"
_GPM_PAUSE_S = 0.12
"""Two samples of GPM are at least 100 ms apart."""

_NO_GPU_FOR_TORCH = Obstacle("PyTorch sees no CUDA device here", "install a PyTorch with CUDA: pytorch.org")
_AMD = Obstacle("Nsight Compute is for NVIDIA GPUs; those of AMD count with rocprofv3, which is not supported yet", "")


@dataclass(frozen=True, slots=True)
class Check:
    """One capability: whether it is there, and the facts or the reason. ``hint``: steps that enable it, parted by ``"; "``."""

    name: str
    available: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How the doctor looks at what only a machine with a GPU has; replaced in tests."""

    find: Callable[[str], locate.Tool | Obstacle] = locate.find
    trial: Callable[[locate.Tool, str, str], Trial] = probe
    machine: Surroundings = HERE


def examine(settings: CaptureSettings) -> list[Check]:
    """Return what can be measured here, most basic first. Where counters may be had, one small kernel is counted to see it.

    Raises:
        DeviceError: ``settings.device`` names a device that is not there.
    """
    device = resolve_device(settings.device)
    facts = device_facts(device)
    memory = f", {size(facts.memory_bytes)}" if facts.memory_bytes else ""
    found = [
        Check("device", True, f"{device}: {facts.name}{memory}; here: {', '.join(available_devices())}"),
        Check("latency, traces, modules, exact operands", True, ", ".join(f"{k} {v}" for k, v in versions().items())),
        Check("CPU and memory telemetry", True, "psutil"),
    ]
    look = Look()
    found += _nvml_checks(_reader(device), look.machine)
    return [*found, counter_check(device, facts, look)]


def _reader(device: torch.device) -> nvml.NvmlReader | None:
    """Return the reader of ``device``, None without the package that it needs."""
    try:
        api = nvml.load()
    except ImportError:
        return None
    return nvml.NvmlReader(api, device_uuid(device) if device.type == "cuda" else None)


def _nvml_checks(reader: nvml.NvmlReader | None, machine: Surroundings) -> list[Check]:
    """Return what NVML tells, and GPM after a reading of two samples; without a ``reader``, what installs the package."""
    if reader is None:
        return [Check(name, False, nvml.NO_PACKAGE, nvml.INSTALL) for name in (_CLOCKS, _GPM)]
    opened = reader.open()
    clocks = Check(_CLOCKS, opened, reader.failure or "readable")
    if not opened:
        return [clocks, Check(_GPM, False, reader.failure)]
    for pause in (0.0, _GPM_PAUSE_S):
        time.sleep(pause)
        reader.gpm.sample()
    reason, forbidden, _ = reader.gpm.reason.partition(f"; {PROFILING_HINT}")
    gpm = Check(_GPM, reader.gpm.available, reason or "readable", enable(machine) if forbidden else "")
    reader.close()
    return [clocks, gpm]


def counter_check(device: torch.device, facts: DeviceFacts, look: Look) -> Check:
    """Return whether the counters of ``device`` can be read, which ones, and what enables them where they cannot."""
    capability = facts.compute_capability or ""
    if torch.version.hip is not None:
        return _blocked([_AMD])
    if device.type == "cuda" and not counters.groups(capability):
        why = Obstacle(f"no counters are known for compute capability {capability}: ncu counts from 7.0 on", "")
        return _blocked([why])
    tool, state = look.find(capability), driver_state(look.machine)
    obstacles = [found for found in (state, tool) if isinstance(found, Obstacle)]
    if device.type != "cuda" and state is None:
        if torch.cuda.is_available():
            return Check(_COUNTERS, False, f"counters of processors are not read, and device= chose {device}", "device=cuda")
        obstacles.insert(0, _NO_GPU_FOR_TORCH)
    if obstacles or isinstance(tool, Obstacle):
        return _blocked(obstacles)
    trial = look.trial(tool, capability, str(device))
    if trial.obstacle is not None:
        return _blocked([trial.obstacle])
    return Check(_COUNTERS, True, _readable(tool, capability, look.machine, trial))


def _blocked(obstacles: list[Obstacle]) -> Check:
    found = together(obstacles) or Obstacle("they cannot be read", "")
    return Check(_COUNTERS, False, found.reason, found.hint)


def _readable(tool: locate.Tool, capability: str, machine: Surroundings, trial: Trial) -> str:
    """Return which quantities came back in the trial, in how many passes a run has them, and which ones it has not."""
    absent = counters.lacking(capability)
    metrics = tuple(trial.read)
    tried = {quantity: has_quantity(quantity, metrics) for quantity in WANTED if quantity not in absent}
    there = ", ".join(WANTED[quantity] for quantity, came in tried.items() if came) or "some counters"
    passes = sum(counters.passes(capability, group) for group in counters.groups(capability))
    runs = counted(passes, "pass", "passes")
    parts = [f"{there}: readable in {runs} of the model (Nsight Compute {tool.version_text}, tried on one kernel)"]
    if silent := [WANTED[quantity] for quantity, came in tried.items() if not came]:
        parts.append(f"did not come back: {', '.join(silent)}{f' ({trial.remark})' if trial.remark else ''}")
    if unknown := sorted(trial.unknown - set(counters.launch_metrics())):  # those come unasked as well
        parts.append(f"this ncu does not know {', '.join(unknown)}")
    missing = [f"{words} ({absent[quantity]})" for quantity, words in WANTED.items() if quantity in absent]
    parts += [f"not on this chip: {', '.join(missing)}"] if missing else []
    if counters.listed(capability) != capability:
        parts.append(f"names are those of compute capability {counters.listed(capability)}, not checked for {capability}")
    if machine.mig:
        parts.append("with MIG, units that instances share are not counted")
    return "; ".join(parts)
