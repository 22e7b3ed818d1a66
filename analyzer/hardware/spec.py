"""GPU datasheets, looked up by the device string of a trace. Datasheet and measured figures are never mixed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from analyzer.schema.run import Ceiling, DeviceFacts

_ALIASES = (
    # device strings seen in traces that no datasheet row spells exactly so
    (r"^Tesla V100-.*-32GB$", "v100_sxm2_32gb"),
    (r"^Tesla V100-.*-16GB$", "v100_sxm2_16gb"),
    (r"^NVIDIA A100-PG509-200$", "a100_sxm4_40gb"),
    (r"^GeForce RTX 2080 Ti$", "rtx_2080_ti"),
    (r"^AMD Instinct MI300X", "mi300x"),
    (r"^AMD Instinct MI250X", "mi250x"),
)


@dataclass(frozen=True, slots=True)
class GpuSheet:
    """One GPU's datasheet: dense peaks in TFLOP/s by dtype (multiply-add = 2), GB/s (1e9), L2 in MiB, power in W."""

    key: str
    name: str
    vendor: str
    architecture: str
    sm_count: int | None
    dram_gb: float | None
    dram_gbps: float | None
    l2_mib: float | None
    power_w: float | None
    peak_tflops: dict[str, float]
    device_names: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class SmLimits:
    """Limits of one multiprocessor, see ``compute_capability.yaml``."""

    architecture: str
    max_warps_per_sm: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    registers_per_sm: int
    registers_per_block: int
    register_unit: int
    sub_partitions: int
    shared_per_sm_kib: int
    shared_default_kib: int
    shared_optin_kib: int
    shared_unit_bytes: int
    shared_reserved_bytes: int


@lru_cache(maxsize=1)
def sheets() -> dict[str, GpuSheet]:
    """Return every GPU of the database by its key."""
    folder = resources.files("analyzer.hardware") / "gpus"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            key = file.name.removesuffix(".yaml")
            found[key] = _sheet(key, _load(file.read_text(encoding="utf-8")))
    return found


def _load(text: str) -> Any:
    # libyaml is ten times as fast; wheels carry it, a build from source may not
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _sheet(key: str, data: dict[str, Any]) -> GpuSheet:
    return GpuSheet(
        key=key,
        name=data["name"],
        vendor=data["vendor"],
        architecture=data["architecture"],
        sm_count=data.get("sm_count"),
        dram_gb=data.get("dram_gb"),
        dram_gbps=data.get("dram_gbps"),
        l2_mib=data.get("l2_mib"),
        power_w=data.get("power_w"),
        peak_tflops={name: float(value) for name, value in data["peak_tflops"].items()},
        device_names=tuple(data.get("device_names", ())),
        source=data["source"],
    )


def find_sheet(device: DeviceFacts) -> GpuSheet | None:
    """Return the datasheet of the device that a trace or a run names, None where there is none.

    The multiprocessor count has the last word: a device with another count is another product.
    """
    key = next((key for key, sheet in sheets().items() if device.name in sheet.device_names), None)
    if key is None:
        key = next((key for pattern, key in _ALIASES if re.search(pattern, device.name)), None)
    sheet = sheets().get(key) if key else None
    if sheet and device.sm_count and sheet.sm_count and device.sm_count != sheet.sm_count:
        return None
    return sheet


@lru_cache(maxsize=1)
def _limits() -> dict[str, SmLimits]:
    text = (resources.files("analyzer.hardware") / "compute_capability.yaml").read_text(encoding="utf-8")
    return {key: SmLimits(**values) for key, values in _load(text).items()}


def sm_limits(compute_capability: str | None) -> SmLimits | None:
    """Return the limits of a compute capability; an unlisted minor version takes the nearest lower one of its major."""
    if not compute_capability:
        return None
    known = _limits()
    if compute_capability in known:
        return known[compute_capability]
    major, _, minor = compute_capability.partition(".")
    same = [key for key in known if key.split(".")[0] == major and int(key.split(".")[1]) <= int(minor or 0)]
    return known[max(same, key=lambda key: int(key.split(".")[1]))] if same else None


@dataclass(frozen=True, slots=True)
class Roof:
    """A limit used in floors and rooflines: ``unit`` is GB/s or TFLOP/s, ``measured`` tells calibration from datasheet."""

    value: float
    unit: str
    measured: bool
    source: str


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """The limits of a device for one dtype: those used for floors, and the datasheet's beside them where both exist."""

    name: str
    sheet: GpuSheet | None
    bandwidth: Roof | None
    matrix: Roof | None
    vector: Roof | None
    dram_spec: Roof | None
    matrix_spec: Roof | None
    l2_bytes: int | None
    reason: str = ""


def device_limits(
    device: DeviceFacts, dtype: str, ceilings: tuple[Ceiling, ...], spec_dtype: str | None = None
) -> DeviceLimits:
    """Return the limits of ``device`` for ``dtype``: measured ones where the run calibrated, else the datasheet's.

    ``spec_dtype`` names the datasheet's column where it is another one: float32 products that may run as TF32.
    """
    sheet = find_sheet(device) if device.type == "cuda" else None
    dram_spec = _spec_roof(sheet, sheet.dram_gbps if sheet else None, "GB/s")
    matrix_spec = _spec_roof(sheet, sheet.peak_tflops.get(spec_dtype or dtype) if sheet else None, "TFLOP/s")
    vector = _spec_roof(sheet, sheet.peak_tflops.get("float32") if sheet else None, "TFLOP/s")
    bandwidth = _measured(ceilings, "copy", None) or dram_spec
    matrix = _measured(ceilings, "matmul", dtype) or matrix_spec
    reason = ""
    if bandwidth is None or matrix is None:
        reason = (
            "this run was not calibrated; record it with calibrate=auto"
            if device.type == "cpu"
            else f"no datasheet for '{device.name}' and dtype {dtype}, and the run was not calibrated"
        )
    l2 = device.l2_bytes if device.type == "cuda" else None
    if l2 is None and sheet and sheet.l2_mib:
        l2 = int(sheet.l2_mib * 2**20)
    return DeviceLimits(device.name, sheet, bandwidth, matrix, vector, dram_spec, matrix_spec, l2, reason)


def _spec_roof(sheet: GpuSheet | None, value: float | None, unit: str) -> Roof | None:
    return Roof(float(value), unit, measured=False, source=f"datasheet of {sheet.name}") if sheet and value else None


def _measured(ceilings: tuple[Ceiling, ...], name: str, dtype: str | None) -> Roof | None:
    found = next((c for c in ceilings if c.name == name and (dtype is None or c.dtype == dtype)), None)
    return (
        Roof(found.value, found.unit, measured=True, source=f"{name} measured on this device, {found.size}") if found else None
    )
