"""What can be measured on this machine, and what is in the way of the rest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from analyzer.capture import nvml
from analyzer.capture.environment import available_devices, device_facts, device_uuid, resolve_device, versions
from analyzer.format import size
from analyzer.schema.settings import CaptureSettings

_DRIVER_PARAMETERS = Path("/proc/driver/nvidia/params")


@dataclass(frozen=True, slots=True)
class Check:
    """One capability: whether it is there, and the facts or the reason."""

    name: str
    available: bool
    detail: str


def examine(settings: CaptureSettings) -> list[Check]:
    """Return what can be measured here, most basic first.

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
    return [*found, *_nvml_checks(device_uuid(device) if device.type == "cuda" else None), _counters()]


def _nvml_checks(uuid: str | None) -> list[Check]:
    reader = nvml.NvmlReader(nvml.load(), uuid)
    opened = reader.open()
    clocks = Check("NVML: clocks, power, temperature, energy", opened, reader.failure or "readable")
    gpm = Check("GPM: DRAM, tensor and multiprocessor activity", reader.gpm.available, reader.gpm.reason or "readable")
    if opened:
        reader.close()
        return [clocks, gpm]
    return [clocks, Check(gpm.name, False, reader.failure)]


def _counters() -> Check:
    name = "hardware counters (Nsight Compute)"
    if shutil.which("ncu") is None:
        return Check(name, False, "ncu is not on PATH; it comes with the CUDA toolkit")
    try:
        restricted = "RmProfilingAdminOnly: 1" in _DRIVER_PARAMETERS.read_text(encoding="utf-8")
    except OSError:
        return Check(name, False, "ncu is there, but no NVIDIA driver is loaded")
    if restricted:
        return Check(name, False, "the driver allows counters to administrators only: NVreg_RestrictProfilingToAdminUsers=0")
    return Check(name, True, "ncu is on PATH and the driver allows counters")
