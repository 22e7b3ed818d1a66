"""What a run would take on other GPUs: each call projected, with its interval and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analyzer.hardware.lookup import look_up
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.projection.calibration import Calibration
from analyzer.insight.projection.calls import Call, calls_of, family
from analyzer.insight.projection.features import Device
from analyzer.insight.projection.ratios import Side, arithmetic_on, notes_on, on_target, peak, ratio, rooflines, same, side_of
from analyzer.insight.projection.scores import ENOUGH_PCT, score_of
from analyzer.insight.projection.targets import describe
from analyzer.insight.projection.totals import total_of
from analyzer.metrics.attribution import MODELLED
from analyzer.schema.projection import ESTIMATED, FLOOR, KEPT, REFUSED, VALIDATED, Group, Projected, RunProjection
from analyzer.schema.results import Analysis

NAN = math.nan
COPIES = ("transfer",)
SAME = "the GPU of the run itself"
ON_CPU = "a CPU's times say nothing of a GPU: only the least time that the datasheet allows"
NO_KERNELS = "the trace has no GPU kernels"


def project(a: Analysis, sheets: Sequence[GpuSheet], calibration: Calibration, own: GpuSheet | None = None) -> RunProjection:
    """Return what ``a`` would take on the GPUs of ``sheets``. ``own``: the user's sheet, as it was given to ``analyze``.

    Approximation: copies and kernels without a work model take as long as on the source.
    """
    on_cpu = a.device.type == "cpu"
    found = None if on_cpu else look_up(a.device, own).sheet
    source = side_of(found) if found is not None else None
    targets = [side_of(sheet) for sheet in sheets]
    calls = calls_of(a)
    groups = tuple(_group(call, source, targets, calibration, on_cpu=on_cpu) for call in calls)
    batches = a.window.batches or 1
    waiting = 0.0 if on_cpu else a.totals.idle_us / batches
    reason = (NO_KERNELS if _speaks_of_gpu(a) else ON_CPU) if on_cpu else ""
    totals = tuple(
        total_of(
            describe(side.sheet, calibration), groups, place, waiting, reason=reason, same=same(source, side),
            arithmetic=arithmetic_on(calls, source, side), notes=notes_on(calls, source, side),
        )
        for place, side in enumerate(targets)
    )  # fmt: skip
    return RunProjection(
        name=a.run.name,
        label=a.label,
        source=source.sheet.name if source else a.device.name,
        on_cpu=on_cpu,
        per_batch=bool(a.window.batches),
        kernel_us=sum(call.time_us for call in calls),
        waiting_us=waiting,
        groups=groups,
        totals=totals,
    )


def _speaks_of_gpu(a: Analysis) -> bool:
    """Tell whether a bare trace without GPU kernels was recorded where a GPU's runtime was."""
    return a.run.facts is None and bool(a.trace_versions)


def _group(call: Call, source: Side | None, targets: Sequence[Side], calibration: Calibration, *, on_cpu: bool) -> Group:
    name, sizes = family(call)
    # what was calibrated are float32 kernels on vector lanes; the same operator in another format is another kernel
    usable = not on_cpu and name in calibration.fits and call.dtype == "float32"
    usable = usable and (call.unit, call.number_format) == ("vector", "float32")
    figures = tuple(_projected(call, name if usable else "", sizes, (source, target), calibration) for target in targets)
    unit = f"{call.number_format}, {call.unit} units" if call.unit != "core" else call.number_format
    return Group(
        family=name if usable else "", role=call.role, kind=call.kind, op=call.op, shapes=call.shapes, dtype=call.dtype,
        arithmetic=unit, module=call.module, kernel=call.kernel, calls=call.calls, source_us=call.time_us, on=figures,
    )  # fmt: skip


def _projected(
    call: Call, name: str, sizes: tuple[float, ...], sides: tuple[Side | None, Side], calibration: Calibration
) -> Projected:
    """Return one call on one target."""
    source, target = sides
    kept = SAME if same(source, target) else _why_kept(call)
    if kept:
        return Projected(KEPT, kept, call.time_us, call.time_us, call.time_us, NAN)
    unit, number, note = on_target(call, target)
    if call.flop > 0 and peak(target, unit, number) is None:
        return Projected(REFUSED, f"the database has no {number} {unit} peak of {target.sheet.name}", NAN, NAN, NAN, NAN)
    floor = max(rooflines(call, target, unit, number)) * call.calls
    if call.unit == "core" or source is None:
        why = ON_CPU if call.unit == "core" else "no datasheet for the GPU of the run, so no ratio"
        return Projected(FLOOR, why, NAN, NAN, NAN, floor)
    if not name:
        return ratio(call, source, target, floor, _why_unvalidated(call, source, target) + note)
    return _calibrated(call, name, sizes, (source, target), calibration, floor)


def _calibrated(
    call: Call, name: str, sizes: tuple[float, ...], sides: tuple[Side, Side], calibration: Calibration, floor: float
) -> Projected:
    """Return one call of a calibrated class; a ratio where the calibration does not reach it."""
    source, target = sides
    table, time = np.array([sizes]), np.array([call.one_us])
    if source.device is None or target.device is None:
        why = _vendors(source, target) or "a sheet lacks a figure that the calibration needs"
        return ratio(call, source, target, floor, why)
    if not calibration.fits[name].inside(table)[0]:
        return ratio(call, source, target, floor, f"{name} in float32, but outside the calibrated sizes")
    found = calibration.project(name, table, time, source.device, target.device)
    low, mid, high = (float(part[0]) * call.calls for part in (found.low_us, found.time_us, found.high_us))
    shortest = min(call.one_us, float(found.time_us[0]))
    if doubt := _doubt(calibration, name, (source.device, target.device), found.scheme, shortest):
        pass
    elif calibration.unusual(name, table, time, source.device)[0]:
        doubt = f"it took unusually long or short on {source.sheet.name} for a call of its sizes"
    lent = "".join(_lent(calibration, name, side.device) for side in sides if side.device is not None)
    status, why = (ESTIMATED, doubt) if doubt else (VALIDATED, found.scheme)
    return Projected(status, f"{name} in float32, {why}{lent}", mid, low, high, floor, found.scheme)


def _doubt(calibration: Calibration, name: str, devices: tuple[Device, Device], scheme: str, shortest_us: float) -> str:
    """Return which condition of a validated class two GPUs and the shorter of the two times of a call do not meet."""
    unknown = [device.name for device in devices if not calibration.like(name, device)]
    if unknown:
        return f"GPU not calibrated in this class: {' and '.join(unknown)}"
    held = score_of(scheme, name)
    if held is None or held.coverage_pct < ENOUGH_PCT:
        inside = "an unknown share" if held is None else f"only {held.coverage_pct:.0f} %"
        return f"{scheme}: intervals held {inside} of the held-out times, {ENOUGH_PCT:.0f} % are asked for"
    least = calibration.fits[name].least_us
    return f"shorter than any calibrated call ({least:.0f} µs) on one of the two GPUs" if shortest_us < least else ""


def _lent(calibration: Calibration, name: str, device: Device) -> str:
    """Return whose efficiencies serve a GPU that has none of its own."""
    like = calibration.like(name, device)
    return (
        f"; {device.name} with the efficiencies of {calibration.devices[like].name} (same chip)"
        if like not in ("", device.key)
        else ""
    )


def _why_kept(call: Call) -> str:
    if call.kind in COPIES:
        return "a copy: its way and its speed are not known"
    if call.basis == "view":
        return "moves nothing"
    return "" if call.basis in MODELLED and call.bytes >= 0 else call.unmodelled or "no work model"


def _why_unvalidated(call: Call, source: Side, target: Side) -> str:
    if vendors := _vendors(source, target):
        return vendors
    if call.unit == "matrix":
        return f"matrix units ({call.number_format}): no public latencies per kernel to calibrate with"
    if call.dtype not in ("float32", ""):
        return f"stored as {call.dtype}; only float32 was calibrated"
    what = "a backward operator" if call.is_backward else "this operator or shape"
    return f"{what} was not calibrated"


def _vendors(source: Side, target: Side) -> str:
    one, two = source.sheet.vendor, target.sheet.vendor
    return f"{one} onto {two}: no calibration across vendors" if one != two else ""
