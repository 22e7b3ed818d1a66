"""Measures what the device can reach: copy bandwidth and matrix product rate, kept in a cache."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from analyzer.capture import ceilings
from analyzer.capture.environment import cpu_threads, device_uuid
from analyzer.capture.failures import first_line, is_out_of_memory
from analyzer.capture.latency import Clock
from analyzer.capture.modes import matmul_precision, precision
from analyzer.capture.presets import Resolved
from analyzer.errors import DeviceError
from analyzer.schema.run import Ceiling, DeviceFacts

_GIB = 1 << 30
_GPU_RUNS = 30
_CPU_COPY_S = 3.0
_CPU_MATMUL_S = 6.0
_CPU_TARGET_S = 0.3


GPU_S = 0.5
"""Seconds of warm-up, and of timing, on a GPU."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Ceilings with where they come from (``cache``, ``measured`` or ``off``) and warnings."""

    found: tuple[Ceiling, ...]
    origin: str
    warnings: tuple[str, ...] = ()


def calibrate(settings: Resolved, facts: DeviceFacts, versions: dict[str, str]) -> Calibration:
    """Return the ceilings of the device for the dtype: from the cache, or measured, as ``settings.calibrate`` says.

    A measurement that fails is left out with a warning; nothing else depends on it.
    """
    if settings.calibrate == "off":
        return Calibration((), "off")
    settings = dataclasses.replace(settings, autocast=False)  # products run in the dtype that autocast casts to
    with cpu_threads(settings.threads), precision(settings):  # the ceilings of as many threads as the model runs with
        return _calibrate(settings, facts, versions)


def _calibrate(settings: Resolved, facts: DeviceFacts, versions: dict[str, str]) -> Calibration:
    path = ceilings.cache_path()
    key = cache_key(settings, facts, versions)
    known, warning = ceilings.load(path)
    notes = [warning] if warning else []
    if settings.calibrate == "auto" and key in known:
        return Calibration(known[key], "cache", tuple(notes))
    found: list[Ceiling] = []
    complete = True
    for measure in (copy_ceiling, matmul_ceiling):
        try:
            found.append(measure(settings, facts))
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, getattr(torch, "AcceleratorError", ())) and not is_out_of_memory(error):
                raise DeviceError(
                    f"{settings.device} failed: {first_line(error)}", "the device needs a fresh process"
                ) from error
            complete = False
            why = "not enough memory" if is_out_of_memory(error) else first_line(error)
            notes.append(f"ceiling {measure.__name__.removesuffix('_ceiling')} not measured: {why}")
        _free(settings.device)
    if complete:  # what failed now may work the next time
        warning = ceilings.store(path, key, tuple(found))
        notes += [warning] if warning else []
    return Calibration(tuple(found), "measured", tuple(notes))


def cache_key(settings: Resolved, facts: DeviceFacts, versions: dict[str, str]) -> str:
    """Return what the ceilings depend on, as one text."""
    parts = [
        facts.name,
        device_uuid(settings.device) or "",
        versions.get("driver", ""),
        versions.get("torch", ""),
        settings.dtype,
        str(torch.get_num_threads()) if settings.device.type == "cpu" else "",
        (matmul_precision(settings.device) or "") if settings.tensor_dtype == "float32" else "",
        str(facts.power_limit_w or ""),
    ]
    return "|".join(parts)


def copy_ceiling(settings: Resolved, facts: DeviceFacts) -> Ceiling:
    """Return the bandwidth of ``dst.copy_(src)`` in GB/s, read and write counted; buffers far beyond the caches.

    Buffers have 8 times the last-level cache, on a GPU at least 1 GiB, and never more than an eighth of free memory.
    """
    device = settings.device
    on_gpu = device.type == "cuda"
    cache = (facts.l2_bytes if on_gpu else facts.l3_bytes or facts.l2_bytes) or 64 << 20
    wanted = max(8 * cache, _GIB if on_gpu else 256 << 20)
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
    size = max(1 << 20, min(wanted, free // 8)) // 4096 * 4096
    source = torch.full((size // 4,), 1.0, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    times = _repeat(lambda: target.copy_(source), device, _GPU_RUNS, _CPU_COPY_S)
    note = "" if size >= wanted // 4096 * 4096 else f", limited by free memory (8 x cache is {wanted / (1 << 20):.0f} MiB)"
    size_text = f"{size / (1 << 20):.0f} MiB per buffer{note}"
    return _ceiling("copy", "GB/s", "float32", 2 * size / 1e6, times, size_text)


def matmul_ceiling(settings: Resolved, facts: DeviceFacts) -> Ceiling:
    """Return the rate of a square matrix product of random data in TFLOP/s; the best median of a few sizes."""
    del facts
    device, dtype = settings.device, settings.torch_dtype
    on_gpu = device.type == "cuda"
    sides = [4096, 8192] if on_gpu else _cpu_sides(dtype)
    best: Ceiling | None = None
    for side in sides:
        a, b, out = _square(side, dtype, device), _square(side, dtype, device), _square(side, dtype, device)
        budget = _CPU_MATMUL_S / len(sides)
        times = _repeat(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device, _GPU_RUNS, budget)  # type: ignore[misc]
        precision = f", float32 precision {matmul_precision(device) or 'not told'}" if dtype is torch.float32 else ""
        found = _ceiling("matmul", "TFLOP/s", settings.tensor_dtype, 2 * side**3 / 1e9, times, f"{side}^3{precision}")
        best = found if best is None or found.value > best.value else best
        del a, b, out
    if best is None:
        raise RuntimeError("no size was tried")
    return best


def _cpu_sides(dtype: torch.dtype) -> list[int]:
    """Return two sizes, the larger of about ``_CPU_TARGET_S``: rates differ a hundredfold by dtype and processor."""
    side, clock = 256, Clock(torch.device("cpu"))
    while True:
        a = _square(side, dtype, torch.device("cpu"))
        torch.mm(a, a)
        # the fastest of three: another job on the machine must not make the sizes small
        elapsed = min(clock.time(lambda a=a: torch.mm(a, a))[1] for _ in range(3)) / 1e3  # type: ignore[misc]
        if elapsed > 0.02 or side >= 4096:
            break
        side *= 2
    target = round(side * (_CPU_TARGET_S / max(elapsed, 1e-6)) ** (1 / 3) / 256) * 256
    target = min(8192, max(256, target))
    return sorted({max(256, target // 512 * 256), target})


def _square(side: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.randn((side, side), device=device).to(dtype)


def _repeat(action: Callable[[], Any], device: torch.device, gpu_runs: int, cpu_s: float) -> list[float]:
    """Return the times of ``action`` in ms: on a GPU at least ``gpu_runs`` and GPU_S, else what fits ``cpu_s``, 3 to 30."""
    clock = Clock(device)
    on_gpu = device.type == "cuda"
    started = time.monotonic()
    warm = 0
    while warm < (3 if on_gpu else 1) or (on_gpu and time.monotonic() - started < GPU_S):
        clock.time(action)  # on a GPU until clocks and power have settled: a burst is faster than what lasts
        warm += 1
    if on_gpu:
        started = time.monotonic()
    times: list[float] = []
    while _goes_on(len(times), time.monotonic() - started, gpu_runs, cpu_s, on_gpu=on_gpu):
        times.append(clock.time(action)[1])
    return times


def _goes_on(done: int, elapsed_s: float, gpu_runs: int, cpu_s: float, *, on_gpu: bool) -> bool:
    if on_gpu:
        return done < gpu_runs or elapsed_s < GPU_S
    return done < gpu_runs and (done < 3 or elapsed_s < cpu_s)


def _ceiling(name: str, unit: str, dtype: str, work: float, times: list[float], size: str) -> Ceiling:
    """Return the ceiling for ``work`` per call, in units of ``unit`` times 1 ms."""
    deciles = statistics.quantiles(times, n=10, method="inclusive")
    return Ceiling(
        name=name,
        unit=unit,
        dtype=dtype,
        value=work / statistics.median(times),
        low=work / deciles[-1],
        high=work / deciles[0],
        n=len(times),
        size=size,
        measured_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
