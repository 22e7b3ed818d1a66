"""The figures of one run as TensorBoard's scalars have them: a tag, a meaning, and a figure with unit and evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analyzer.report.memory_files import peak_memory
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis

MAIN = (
    "latency/median_ms", "throughput/images_per_s", "time/wall_ms", "time/kernel_ms", "time/idle_pct", "time/launches",
    "rate/tflops", "rate/gbps", "occupancy/mean_pct", "memory/peak_mb", "known/operators_pct",
)  # fmt: skip
"""Tags that compare runs in one table."""

_M, _D, _MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
_NO_LATENCY = "a bare trace has no untraced iterations; record a run with `analyzer`"
_NO_WORK = "no operator with a work model; record with record_shapes=True"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a run; ``tag`` is its name in TensorBoard, with the unit as its suffix."""

    tag: str
    meaning: str
    figure: Quantity


def figures(a: Analysis) -> tuple[Figure, ...]:
    """Return the figures of ``a``; times and work are per batch where the trace names its steps, else of the whole trace."""
    return (*_speed(a), *_time(a), *_work(a), *_device(a), *_known(a), *_kinds(a))


def basis(a: Analysis) -> str:
    """Return what times and work are given per."""
    return "per batch" if a.window.batches else "over the whole trace"


def _speed(a: Analysis) -> Iterator[Figure]:
    latency = a.latency.median_ms if a.latency else Quantity.missing("ms", _NO_LATENCY)
    traced = a.latency.traced_ms if a.latency else Quantity.missing("ms", _NO_LATENCY)
    yield Figure("latency/median_ms", "latency of a batch without the profiler, median", latency)
    yield Figure("latency/traced_ms", "latency of a batch under the profiler", traced)
    yield Figure("throughput/images_per_s", "images per second: batch size over median latency", _throughput(a))


def _throughput(a: Analysis) -> Quantity:
    facts, median = a.run.facts, a.latency.median_ms if a.latency else None
    if facts is None or median is None or not median.value:
        return Quantity.missing("images/s", _NO_LATENCY)
    images = 1000.0 * facts.settings.batch_size
    low, high = (images / end if end else None for end in (median.high, median.low))
    return Quantity(images / median.value, "images/s", _D, low=low, high=high)


def _time(a: Analysis) -> Iterator[Figure]:
    t, what, batches = a.totals, basis(a), a.window.batches or 1
    gpu = a.device.type == "cuda"
    ran = "kernels" if gpu else "operators"
    yield Figure("time/wall_ms", f"elapsed time in the trace, {what}", _figure(t.wall_us / 1e3 / batches, "ms", _M))
    meaning = f"sum of the durations of {ran}{'' if gpu else ', each without those inside it'}, {what}"
    yield Figure("time/kernel_ms", meaning, _figure(t.kernel_time_us / 1e3 / batches, "ms", _M))
    if gpu:
        yield Figure(
            "time/copy_ms", f"sum of the durations of copies and fills, {what}", _figure(t.copy_us / 1e3 / batches, "ms", _M)
        )
    busy = f"time with at least one {'kernel, copy or fill' if gpu else 'operator'} running, {what}"
    yield Figure("time/busy_ms", busy, _figure(t.busy_us / 1e3 / batches, "ms", _M))
    yield Figure("time/idle_ms", f"time with none running, {what}", _figure(t.idle_us / 1e3 / batches, "ms", _M))
    idle = (
        "idle share of the elapsed time; tracing slows the host, so it is too high" if gpu else "idle share of the elapsed time"
    )
    yield Figure("time/idle_pct", idle, _figure(t.idle_pct, "%", _D))
    yield Figure("time/launches", f"{ran} that ran, {what}", _figure(t.kernel_count / batches, "", _M))


def _work(a: Analysis) -> Iterator[Figure]:
    t, what, batches = a.totals, basis(a), a.window.batches or 1
    yield Figure(
        "work/gflop", f"arithmetic of the operators, a multiply-add is 2, {what}", _some(t.flop / 1e9 / batches, "GFLOP")
    )
    meaning = f"bytes that the operators must move at least (1 MB = 1e6 bytes), {what}"
    high = t.bytes_high / 1e6 / batches if t.bytes_high > t.bytes_compulsory else None
    yield Figure("work/compulsory_mb", meaning, _some(t.bytes_compulsory / 1e6 / batches, "MB", high))
    rows = a.rooflines.model.to_dict("records")
    model = rows[0] if rows else {}
    for tag, column, unit, told in (
        ("rate/tflops", "tflops", "TFLOP/s", "arithmetic over the time of the operators that have a work model"),
        (
            "rate/gbps",
            "gbps",
            "GB/s",
            "compulsory bytes over the same time; what memory delivers is more where data moves twice",
        ),
        ("rate/flop_per_byte", "flop_per_byte", "FLOP/byte", "arithmetic intensity: arithmetic over compulsory bytes"),
    ):
        yield Figure(tag, told, _some(float(model.get(column, 0.0)), unit))


def _device(a: Analysis) -> Iterator[Figure]:
    t = a.totals
    if a.device.type == "cuda":
        told = "resident warps over the most that fit, from registers, shared memory, block size and grid"
        yield Figure("occupancy/mean_pct", told, t.occupancy_pct)
        kineto = "the same as Kineto writes it: 0 for every kernel with more than 48 KiB of shared memory"
        yield Figure("occupancy/kineto_pct", kineto, t.occupancy_kineto_pct)
    peak = peak_memory(a)
    if peak.value is not None:
        peak = Quantity(peak.value / 1e6, "MB", peak.evidence, source=peak.source)
    yield Figure("memory/peak_mb", "peak memory (1 MB = 1e6 bytes)", peak)


def _known(a: Analysis) -> Iterator[Figure]:
    t = a.totals
    yield Figure("known/classified_pct", "share of the time whose kind is known", _figure(t.classified_pct, "%", _D))
    yield Figure("known/modelled_pct", "share of the time with a model of its work", _figure(t.modelled_pct, "%", _D))
    told = a.attribution
    operators = told.operators_pct if told else t.linked_pct
    yield Figure("known/operators_pct", "share of the time whose operator is known", _figure(operators, "%", _D))
    if told:
        yield Figure("known/modules_pct", "share of the time whose module is known", _figure(told.modules_pct, "%", _D))


def _kinds(a: Analysis) -> Iterator[Figure]:
    total = float(a.kinds["time_us"].sum()) if len(a.kinds) else 0.0
    for kind, time_us in zip(a.kinds["kind"], a.kinds["time_us"], strict=True):
        share = 100 * float(time_us) / total if total else math.nan
        yield Figure(f"kinds/{kind}_pct", f"share of the busy time in {kind}", _figure(share, "%", _D))


def _figure(value: float, unit: str, evidence: Evidence) -> Quantity:
    return Quantity(value, unit, evidence) if math.isfinite(value) else Quantity.missing(unit, "not in this trace")


def _some(value: float, unit: str, high: float | None = None) -> Quantity:
    """Return modelled work; none at all means that no shapes were recorded, not that nothing was computed."""
    if not value or not math.isfinite(value):
        return Quantity.missing(unit, _NO_WORK)
    return Quantity(value, unit, _MOD, low=None if high is None else value, high=high)
