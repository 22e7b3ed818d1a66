"""Points of made-up sweeps: times that are known by hand, and records of points without a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.insight.crossover.figures import images_per_second
from analyzer.insight.crossover.result import Crossover, crossover
from analyzer.metrics.timing import MIN_ITERATIONS
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.run import DeviceFacts
from analyzer.schema.sweep import Point, PointFigures, PointRecord, PointSetting, Sweep

GPU = DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", memory_bytes=80 << 30, sm_count=132)
VERSIONS = {"torch": "2.13.0", "analyzer": "0.1.0"}
LABELS = {"vit": "ViT-Ti/16", "cnn": "ResNet-18"}


def setting(family: str = "vit", batch: int = 1, size: int = 224, **changes: Any) -> PointSetting:
    label = changes.pop("label", LABELS[family])
    defaults: dict[str, Any] = {"model": label.lower(), "family": family, "label": label, "dtype": "float32"}
    return PointSetting(batch_size=batch, image_size=size, **(defaults | changes))


def record(made: PointSetting, status: str = "measured", device: DeviceFacts = GPU, **changes: Any) -> PointRecord:
    key = hashlib.sha256(f"{made} {device}".encode("utf-8", "replace")).hexdigest()[:32]
    run = {"run": f"run-{key[:8]}"} if status == "measured" else {}
    fields: dict[str, Any] = {"format_version": 1, "key": key, "versions": VERSIONS, "created_utc": "2026-01-01T00:00:00+00:00"}
    return PointRecord(setting=made, device=device, status=status, **(fields | run | changes))


def timed(made: PointSetting, times_ms: Any, device: DeviceFacts = GPU, **changes: Any) -> Point:
    """Return a measured point; ``times_ms`` are the times of one process, or a list of those of several."""
    groups = [list(map(float, times_ms))] if np.isscalar(times_ms[0]) else [list(map(float, g)) for g in times_ms]
    every = np.concatenate(groups)
    value = float(np.median(every))
    spread = (float(np.percentile(every, 5)), float(np.percentile(every, 95))) if len(every) >= MIN_ITERATIONS else (None, None)
    latency = Quantity(value, "ms", Evidence.MEASURED, *spread)
    missing = Quantity.missing("images/J", "no NVML")
    fields: dict[str, Any] = {
        "peak_bytes": Quantity(1e9 + 1e6 * made.batch_size * made.image_size, "bytes", Evidence.MEASURED, source="allocator"),
        "flop": Quantity(1e4 * made.image_size**2 * (2 if made.family == "vit" else 1), "FLOP", Evidence.MODELLED),
        "bytes_compulsory": Quantity(1e3 * made.image_size**2, "bytes", Evidence.MODELLED),
        "images_per_j": missing,
        "images_per_price": Quantity.missing("", "no price"),
        "tokens": (made.image_size // 16) ** 2 + 1 if made.family == "vit" else None,
        "attention_ran": "flash_attention" if made.family == "vit" else None,
        "parameters": 5_700_000 if made.family == "vit" else 11_700_000,
    }
    record_changes = {key: changes.pop(key) for key in ("created_utc", "versions", "key", "run") if key in changes}
    figures = PointFigures(
        latency_ms=latency,
        images_per_s=images_per_second(latency, made.batch_size),
        samples=tuple(map(tuple, groups)),
        **(fields | changes),
    )
    return Point(record(made, device=device, **record_changes), figures)


def around(median_ms: float, spread: float = 0.001, n: int = 21) -> list[float]:
    """Return ``n`` times spread evenly about ``median_ms``, which is their median."""
    return [median_ms * (1 + spread * (2 * i / (n - 1) - 1)) for i in range(n)]


@dataclass
class Lines:
    """Two straight lines in log-log: ``first_ms * (size / 64) ** slope``; they cross where they are equal."""

    first: tuple[float, float] = (1.0, 2.0)
    second: tuple[float, float] = (2.0, 1.0)
    sizes: tuple[int, ...] = (64, 96, 128, 160, 224)
    batches: tuple[int, ...] = (1,)
    spread: float = 0.001
    extra: list[Point] = field(default_factory=list)

    def sweep(self) -> Sweep:
        points = [
            timed(setting(family, batch, size), around(batch * base * (size / 64) ** slope, self.spread))
            for family, (base, slope) in (("vit", self.first), ("cnn", self.second))
            for batch in self.batches
            for size in self.sizes
        ]
        return Sweep("lines", (*points, *self.extra))

    def found(self) -> Crossover:
        return crossover(self.sweep())


def rich() -> Crossover:
    """Return a sweep with everything in it: settings, batches, points without a time, energy, a price, a second device."""
    points: list[Point] = []
    other = DeviceFacts(type="cuda", name="NVIDIA A100-SXM4-80GB", vendor="NVIDIA", memory_bytes=80 << 30, sm_count=108)
    for device, slow in ((GPU, 1.0), (other, 1.7)):
        for batch in (1, 8, 32):
            for size in (128, 224, 384, 512, 1024):
                for dtype, factor in (("float32", 2.0), ("bfloat16", 1.0)):
                    for attention, gain in (("flash", 1.0), ("math", 1.3)):
                        made = setting("vit", batch, size, dtype=dtype, attention=attention)
                        if batch == 32 and size == 1024:
                            why = "CUDA out of memory. Tried to allocate 24.00 GiB"
                            points.append(Point(record(made, "out_of_memory", device, reason=why, hint="batch_size=16")))
                        elif attention == "flash" and dtype == "float32":
                            points.append(Point(record(made, "unsupported", device, reason="flash attention takes no float32")))
                        else:
                            median = slow * factor * gain * 0.2 * (size / 128) ** 2.4 * batch**0.8
                            energy = Quantity(40 / median, "images/J", Evidence.DERIVED, source="energy counter")
                            price = Quantity(1e6 * batch / median, "images", Evidence.DERIVED)
                            points.append(
                                timed(made, around(median, 0.02), device, images_per_j=energy, images_per_price=price)
                            )
                    made = setting("cnn", batch, size, dtype=dtype)
                    median = slow * factor * 0.5 * (size / 128) ** 1.6 * batch**0.8
                    energy = Quantity(55 / median, "images/J", Evidence.DERIVED, source="energy counter")
                    points.append(timed(made, around(median, 0.02), device, images_per_j=energy))
    points.append(Point(record(setting("cnn", 64, 224), "failed", reason="the process was killed by signal 9")))
    points.append(Point(record(setting("cnn", 16, 224)), None, "the run directory is gone"))
    return crossover(Sweep("rich", tuple(points), ("image_size=2048 batch_size=1 model=vit",), 2.5))
