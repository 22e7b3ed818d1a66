"""Ratios of datasheet figures: what stands in where nothing was calibrated, and what has to be said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.projection.calls import Call
from analyzer.insight.projection.features import LAUNCH_US, Device
from analyzer.insight.projection.targets import device_of
from analyzer.metrics.limits import Limits
from analyzer.schema.projection import KEPT, RATIO, Projected
from analyzer.schema.run import AMD, DeviceFacts

NEAR = 0.25
"""The share of its roofline that a kernel has to reach on the source before a ratio of limits says anything of it."""
NEITHER = f"limited by neither peak nor bandwidth (under {100 * NEAR:.0f} % of its roofline): may not get faster"
NO_TF32 = "in float32 without TF32"
ON_VECTORS = "in float32 on vector units"
_ON_MATRIX = ("tfloat32", "float32")


@dataclass(frozen=True, slots=True)
class Side:
    """A GPU: its limits by datasheet, and what the calibration needs of it, None where that cannot be used."""

    sheet: GpuSheet
    limits: Limits
    device: Device | None


def side_of(sheet: GpuSheet) -> Side:
    """Return a GPU as source or target of a projection."""
    facts = DeviceFacts(type="cuda", name=sheet.name, vendor=sheet.vendor)
    return Side(sheet, Limits(facts, sheet, ""), device_of(sheet))


def same(source: Side | None, target: Side) -> bool:
    """Tell whether the target is the GPU of the run."""
    return source is not None and source.sheet.key == target.sheet.key


def peak(side: Side, unit: str, number: str) -> float | None:
    """Return the peak of a unit ("matrix" or another) in a number format in TFLOP/s, None where the sheet lacks it."""
    roof = side.limits.spec_peak("matrix" if unit == "matrix" else "vector", number)
    return roof.value if roof else None


def on_target(call: Call, target: Side) -> tuple[str, str, str]:
    """Return the unit and number format that a call computes with on the target, and a remark where they are others.

    They are those of the source. TF32, and float32 on the matrix units of AMD's GPUs, go to vector float32 where the target
    has no such units; a CPU's calls to matrix units where they take the format.
    """
    unit, number = call.unit, call.number_format
    if unit == "core":
        return ("matrix" if number != "float32" and peak(target, "matrix", number) else "vector"), number, ""
    if unit == "matrix" and number in _ON_MATRIX and peak(target, unit, number) is None:
        shown = "TF32" if number == "tfloat32" else "float32 on matrix units"
        return "vector", "float32", f"; {shown} there, float32 on vector units on {target.sheet.name}, which lacks it"
    return unit, number, ""


def rooflines(call: Call, side: Side, unit: str, number: str) -> tuple[float, float]:
    """Return FLOP / peak and bytes / bandwidth of one call in microseconds; NaN where the sheet lacks the bandwidth.

    A convolution counts with the multiplications of the algorithm that ran on the source: fewer where that was Winograd's.
    """
    found, roof = peak(side, unit, number), side.limits.dram_spec
    flop = call.flop / max(call.saving, 1.0)
    return flop / found / 1e6 if found else 0.0, call.bytes / roof.value / 1e3 if roof else math.nan


def ratio(call: Call, source: Side, target: Side, floor: float, why: str) -> Projected:
    """Return the time by the ratio of rooflines; ``floor`` is that of all calls in microseconds.

    Approximation: the target reaches the same share of its limit as the source does, which nothing confirms. A kernel that
    reaches under a quarter of its roofline on the source is limited by neither figure: it keeps its time.
    """
    unit, number, _ = on_target(call, target)
    here, there = rooflines(call, source, call.unit, call.number_format), rooflines(call, target, unit, number)
    limit = max(here)
    if not limit > 0 or not max(there) > 0:
        why = "no ratio: a sheet lacks a figure, or its work model counts neither FLOP nor bytes"
        return Projected(KEPT, why, call.time_us, call.time_us, call.time_us, math.nan)
    start = min(LAUNCH_US, call.one_us / 2)
    moving = call.one_us - start
    by_peaks, by_bandwidths = (
        (start + moving * b / a) * call.calls if a > 0 else math.nan for a, b in zip(here, there, strict=True)
    )
    time = (start + moving * max(there) / limit) * call.calls
    if limit < NEAR * call.one_us:
        why = NEITHER
        time = call.time_us
    return Projected(RATIO, why, max(time, floor), math.nan, math.nan, floor, "", by_peaks, by_bandwidths)


def _plain(calls: Sequence[Call]) -> dict[str, float]:
    """Return the time of float32 products on vector units or a CPU, by kind."""
    found: dict[str, float] = {}
    for call in calls:
        fits = call.unit in ("vector", "core") and call.number_format == "float32"
        if fits and call.kind in ("matmul", "convolution", "attention") and call.flop > 0:
            found[call.kind] = found.get(call.kind, 0.0) + call.time_us
    return found


def _gains_tf32(source: Side | None, target: Side) -> bool:
    """Tell whether only the target has TF32: on a source that has it, the program chose not to use it."""
    lacks = source is None or peak(source, "matrix", "tfloat32") is None
    return lacks and target.sheet.vendor != AMD and peak(target, "matrix", "tfloat32") is not None


def arithmetic_on(calls: Sequence[Call], source: Side | None, target: Side) -> str:
    """Return what the figures hold for, where the target would by default compute otherwise; else an empty text."""
    plain = _plain(calls)
    if any(call.unit == "core" for call in calls):
        return ON_VECTORS if plain else ""
    return NO_TF32 if "convolution" in plain and _gains_tf32(source, target) and not same(source, target) else ""


def notes_on(calls: Sequence[Call], source: Side | None, target: Side) -> tuple[str, ...]:
    """Return what has to be known of one target."""
    return () if same(source, target) else tuple(_notes(calls, source, target))


def _notes(calls: Sequence[Call], source: Side | None, target: Side) -> Iterator[str]:
    name, total = target.sheet.name, sum(call.time_us for call in calls) or 1.0
    plain = sum(_plain(calls).values())
    if plain and _gains_tf32(source, target):
        yield (
            f"{100 * plain / total:.0f} % of the kernel time are float32 products on vector units. Where a target has TF32, "
            "PyTorch runs float32 convolutions with it on tensor cores by default, and matrix products where the program "
            "allows it. This projection keeps them on vector units."
        )
    mapped = sum(call.time_us for call in calls if call.unit != "core" and call.flop > 0 and on_target(call, target)[2])
    if mapped and source is not None:
        yield (
            f"{100 * mapped / total:.0f} % of the kernel time are float32 products on matrix units. The database has no "
            f"such peak of {name}: they are put on its vector units."
        )
    if any(call.saving > 1 for call in calls if call.kind == "convolution" and call.flop > 0):
        yield (
            "Floors of convolutions are for the algorithm of the source (Winograd or FFT for some of them); another algorithm "
            "has another floor."
        )
    if source is not None and source.sheet.vendor != target.sheet.vendor:
        yield f"{source.sheet.vendor} onto {target.sheet.vendor}: nothing was calibrated across vendors."
