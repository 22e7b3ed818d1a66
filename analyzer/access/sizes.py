"""A whole model at other image sizes: its layers scaled, each on an empty cache, and the bound with a warm one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analyzer.access.costs import FUSED, MATERIALISED, least_us
from analyzer.access.kernel import coarse_traffic, work_out
from analyzer.access.problem import Attention
from analyzer.access.scaling import scaled_layers
from analyzer.access.units import Unit, attentions, variant
from analyzer.schema.access import CacheFacts, SizePoint, Traffic

if TYPE_CHECKING:
    from analyzer.access.result import Rates, Subject

SIZES = (128, 224, 384, 512, 768, 1024)
"""Image sizes in pixels, beside the run's own."""
MOST_UNITS = 5_000
"""A pass of more kernels is no single image's."""


@dataclass(frozen=True, slots=True)
class _Sum:
    flop: float = 0.0
    compulsory: float = 0.0
    low: float = 0.0
    high: float = 0.0
    warm: float = 0.0
    floor: float = 0.0
    by_memory: float = 0.0


def sizes_of(subject: Subject, units: Sequence[Unit], rates: Rates) -> tuple[SizePoint, ...]:
    """Return points over SIZES on the subject's own devices, with attention fused and, where there is one, materialised."""
    if not subject.image_size or not subject.images or not 0 < len(units) <= MOST_UNITS:
        return ()
    ways = {FUSED: _in_way(units, materialised=False)}
    if attentions(units):
        ways[MATERIALISED] = _in_way(units, materialised=True)
    sizes = sorted({*SIZES, subject.image_size})
    plans = {
        (way, size): _scaled(those, size / subject.image_size, subject.images) for way, those in ways.items() for size in sizes
    }
    jobs = {(unit.launch, subject.devices, subject.multiprocessors) for plan in plans.values() for unit in plan}
    work_out(jobs, coarse_traffic)
    return tuple(
        _point(subject, device, size, way, scaled, rates)
        for device in subject.devices
        if device.dram_gbps
        for (way, size), scaled in plans.items()
    )


def _in_way(units: Sequence[Unit], *, materialised: bool) -> list[Unit]:
    """Return the units of a model with every attention fused, or every one materialised, as one unit each."""
    out: list[Unit | None] = list(units)
    for mixing in attentions(units):
        for i in range(mixing.first, mixing.first + mixing.count):
            out[i] = None
        out[mixing.first] = variant(units[mixing.first], mixing.problem, materialised=materialised)
    return [unit for unit in out if unit is not None]


def _scaled(units: Sequence[Unit], factor: float, images: int) -> list[Unit]:
    problems = scaled_layers([unit.launch.problem for unit in units], factor, images)
    return [replace(unit, launch=replace(unit.launch, problem=problem)) for unit, problem in zip(units, problems, strict=True)]


def _point(subject: Subject, device: CacheFacts, size: int, way: str, units: Sequence[Unit], rates: Rates) -> SizePoint:
    total = _Sum()
    before = 0.0
    for unit in units:
        total, before = _add(total, unit, before, subject, device, rates)
    per_image = subject.images
    return SizePoint(
        model=subject.model,
        device=device.key,
        image_size=size,
        attention=way,
        flop=total.flop / per_image,
        compulsory_bytes=total.compulsory / per_image,
        dram_bytes=(total.low / per_image, total.high / per_image),
        warm_bytes=total.warm / per_image,
        floor_us=total.floor / per_image,
        memory_share=total.by_memory / total.floor if total.floor else 0.0,
    )


def _add(total: _Sum, unit: Unit, before: float, subject: Subject, device: CacheFacts, rates: Rates) -> tuple[_Sum, float]:
    """Return ``total`` with ``unit`` added, and what it wrote. ``before``: what the unit before it wrote.

    Approximation: with a warm cache a kernel finds what the one before it wrote, as far as the cache holds it, and no more.
    """
    problem, calls = unit.launch.problem, unit.calls
    found_on = coarse_traffic(unit.launch, subject.devices, subject.multiprocessors)
    traffic = found_on.get(device.key) or Traffic((problem.read_bytes,) * 2, (problem.write_bytes,) * 2)
    compulsory = float(problem.read_bytes + problem.write_bytes)
    if unit.launch.materialised and isinstance(problem, Attention):
        compulsory += 4.0 * problem.score_bytes
    high = traffic.total[1]
    saved = min(before, float(device.capacity_bytes), traffic.read[0])
    rate = rates(device, unit)
    floor, by_arithmetic = least_us(unit, high, rate, device), least_us(unit, 0.0, rate, device)
    found = _Sum(
        total.flop + calls * problem.flop,
        total.compulsory + calls * compulsory,
        total.low + calls * traffic.total[0],
        total.high + calls * high,
        total.warm + calls * max(traffic.total[0] - saved, 0.0),
        total.floor + calls * floor,
        total.by_memory + calls * (floor if floor > by_arithmetic else 0.0),
    )
    return found, float(problem.write_bytes)
