"""GPUs to project onto, and what the calibration knows of them and of the source."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.errors import ConfigError
from analyzer.hardware.lookup import nearest, sheets
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.projection.calibration import Calibration
from analyzer.insight.projection.features import CLASSES, Device
from analyzer.schema.projection import Target
from analyzer.schema.run import AMD

EXAMPLE = "onto=[a100_sxm4_80gb,b200]"


def find_targets(keys: Sequence[str], own: GpuSheet | None = None) -> tuple[GpuSheet, ...]:
    """Return the sheets of the GPUs called ``keys``: one device of each. ``own`` is called as its file.

    Raises:
        ConfigError: none was given, or there is no GPU of that name.
    """
    if not keys:
        raise ConfigError("onto= is missing", f"say which GPUs to project onto: {EXAMPLE}")
    known = sheets() | ({own.key: own} if own is not None else {})
    for key in keys:
        if key not in known:
            raise ConfigError(f"no GPU called {key!r} in the database", f"nearest: {', '.join(nearest(key, list(known)))}")
    return tuple(known[key].share() for key in dict.fromkeys(keys))


def device_of(sheet: GpuSheet | None) -> Device | None:
    """Return what the calibration needs of a GPU, None where its sheet does not give it, and for GPUs that are not NVIDIA's."""
    if sheet is None or sheet.vendor == AMD:
        return None
    figures = (sheet.vector_tflops.get("float32"), sheet.dram_gbps, sheet.power_w, sheet.l2_mib)
    if not all(figures):
        return None
    tflops, gbps, power, l2 = (float(figure or 0.0) for figure in figures)
    return Device(sheet.key, sheet.name, sheet.chip, tflops, gbps, power, l2 * 2**20, sheet.title)


def describe(sheet: GpuSheet, calibration: Calibration) -> Target:
    """Return a target with what its intervals rest on."""
    return Target(sheet.key, sheet.name, sheet.vendor, standing(device_of(sheet), calibration))


def standing(device: Device | None, calibration: Calibration) -> str:
    """Return in words what is known of the efficiencies of a GPU."""
    if device is None:
        return "no calibration: not an NVIDIA GPU, or its sheet lacks a figure"
    own = [kind for kind in CLASSES if kind in calibration.fits and device.key in calibration.fits[kind].own]
    if own:
        return f"calibrated in float32 for {', '.join(own)}"
    like = {calibration.like(kind, device) for kind in calibration.fits} - {""}
    if like:
        names = ", ".join(sorted(calibration.devices[key].name for key in like))
        return f"not calibrated; efficiencies of {names} (same chip), interval of a GPU that was held out"
    return "not calibrated; efficiencies from all calibrated GPUs by watts per TFLOP, interval of a GPU that was held out"
