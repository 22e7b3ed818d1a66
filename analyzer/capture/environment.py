"""What is here: the device asked for, its facts, the versions of the software. Nothing that names a person or host."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from analyzer.capture import nvml
from analyzer.errors import DeviceError
from analyzer.schema.run import AMD, NVIDIA, DeviceFacts

_CACHE_ROOT = Path("/sys/devices/system/cpu/cpu0/cache")
_CPUINFO = Path("/proc/cpuinfo")
_CPU_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon", "0x41": "arm"}


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Run the block with ``count`` CPU threads in torch; None leaves them as they are."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def available_devices() -> list[str]:
    """Return the names that ``device=`` takes here, the best first."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{index}" for index in range(count)] + ["cpu"]


def resolve_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` is CUDA where there is one.

    Raises:
        DeviceError: there is no such device; the message names those there are.
    """
    here = available_devices()
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", str(name).strip().lower())
    if match is None:
        raise DeviceError(f"unknown device {name}; here: {', '.join(here)}", "use device=auto, cpu, cuda or cuda:N")
    text = match.group(0)
    if text == "auto":
        return torch.device(here[0])
    if text == "cpu":
        return torch.device("cpu")
    wanted = f"cuda:{int(match.group(1) or 0)}"
    if wanted not in here:
        why = "this torch is a CPU build" if torch.version.cuda is None and torch.version.hip is None else "not found"
        raise DeviceError(f"no device {text} ({why}); here: {', '.join(here)}", f"use device={here[0]} or device=auto")
    return torch.device(wanted)


def device_facts(device: torch.device) -> DeviceFacts:
    """Return what is known of ``device``; None where a fact cannot be had."""
    return _cuda_facts(device) if device.type == "cuda" else _cpu_facts()


def device_uuid(device: torch.device) -> str | None:
    """Return the UUID by which NVML knows a CUDA device, whatever CUDA_VISIBLE_DEVICES does to the numbers."""
    if device.type != "cuda":
        return None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else str(uuid)


def versions() -> dict[str, str]:
    """Return the versions of what takes part, by name; what is not there is left out."""
    found = {
        "analyzer": _distribution("analyzer") or "source tree",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": _distribution("timm"),
        "torchvision": _distribution("torchvision"),
        "numpy": _distribution("numpy"),
        "psutil": _distribution("psutil"),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        cudnn = torch.backends.cudnn.version()
        found["cudnn"] = str(cudnn) if cudnn else None
        found["driver"] = nvml.driver_version()
    return {name: value for name, value in found.items() if value}


def _distribution(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cuda_facts(device: torch.device) -> DeviceFacts:
    properties = torch.cuda.get_device_properties(device)

    def read(name: str, scale: float = 1) -> Any:
        value = getattr(properties, name, None)
        return value * scale if value and scale != 1 else value or None

    limits = nvml.power_limits(device_uuid(device))
    return DeviceFacts(
        type="cuda",
        name=properties.name,
        vendor=AMD if torch.version.hip else NVIDIA,
        index=device.index,
        compute_capability=f"{properties.major}.{properties.minor}",
        sm_count=read("multi_processor_count"),
        memory_bytes=read("total_memory"),
        l2_bytes=read("L2_cache_size"),
        clock_mhz=read("clock_rate", 1e-3),
        memory_clock_mhz=read("memory_clock_rate", 1e-3),
        memory_bus_bits=read("memory_bus_width"),
        power_limit_w=limits.get("limit"),
        power_default_w=limits.get("default"),
    )


def _cpu_facts() -> DeviceFacts:
    model, vendor = _cpu_model()
    caches = _caches()
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        frequency = None
    return DeviceFacts(
        type="cpu",
        name=model,
        vendor=vendor,
        memory_bytes=psutil.virtual_memory().total,
        l1_bytes=caches.get(1),
        l2_bytes=caches.get(2),
        l3_bytes=caches.get(3),
        clock_mhz=(frequency.max or frequency.current or None) if frequency else None,
        cores=psutil.cpu_count(logical=False),
        threads=psutil.cpu_count(logical=True),
    )


def _cpu_model() -> tuple[str, str | None]:
    try:
        text = _CPUINFO.read_text(errors="replace")
    except OSError:
        text = ""
    fields = dict(re.findall(r"^(model name|vendor_id|CPU implementer)\s*:\s*(.+?)\s*$", text, re.MULTILINE))
    vendor = fields.get("vendor_id") or fields.get("CPU implementer")
    return fields.get("model name") or platform.machine() or "CPU", _CPU_VENDORS.get(vendor or "")


def _caches() -> dict[int, int]:
    """Return the bytes of one data or unified cache per level, as the first core sees it."""
    sizes: dict[int, int] = {}
    for folder in sorted(_CACHE_ROOT.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            match = re.fullmatch(r"(\d+)([KMG]?)", size)
        except OSError:
            continue
        if match and kind != "Instruction":
            sizes[int(level)] = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    return sizes
