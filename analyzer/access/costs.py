"""What access patterns cost: time floors with the traffic that the model finds, beside those with compulsory bytes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyzer.access.kernel import kernel_access
from analyzer.access.problem import Attention, Product
from analyzer.access.scaling import materialised
from analyzer.access.units import Unit, attentions, role_of, variant
from analyzer.schema.access import CacheFacts, Cost, Traffic

if TYPE_CHECKING:
    from analyzer.access.result import Rates, Subject

FUSED, MATERIALISED, NONE = "fused", "materialised", ""


def floor_us(flop: float, size: float, rate_tflops: float, gbps: float) -> float:
    """Return max(FLOP / peak, bytes / bandwidth) in microseconds; an unknown peak leaves the bytes alone."""
    arithmetic = flop / rate_tflops / 1e6 if rate_tflops and math.isfinite(rate_tflops) else 0.0
    return max(arithmetic, size / gbps / 1e3)


def least_us(unit: Unit, moved: float, rate_tflops: float, device: CacheFacts, l2_bytes: float = 0.0) -> float:
    """Return the least time of one launch in microseconds that moves ``moved`` bytes through DRAM and ``l2_bytes`` through L2.

    The longest of arithmetic, DRAM and, where its bandwidth is published, L2. Attention with written scores is three kernels
    one after the other, each with its share of the bytes; arithmetic of one does not hide the bytes of another.
    """
    gbps, l2 = device.dram_gbps or math.inf, l2_bytes / device.l2_gbps / 1e3 if device.l2_gbps else 0.0
    problem = unit.launch.problem
    if not (unit.launch.materialised and isinstance(problem, Attention)):
        return max(floor_us(problem.flop, moved, rate_tflops, gbps), l2)
    parts = [part.problem for part in materialised(problem)]
    whole = sum(part.read_bytes + part.write_bytes for part in parts)
    shares = [(part.read_bytes + part.write_bytes) / whole for part in parts]
    return sum(
        max(floor_us(part.flop if isinstance(part, Product) else 0.0, moved * share, rate_tflops, gbps), l2 * share)
        for part, share in zip(parts, shares, strict=True)
    )


def excess_us(
    unit: Unit, traffic: Traffic, l2_bytes: float, rate_tflops: float, device: CacheFacts
) -> tuple[float, float] | None:
    """Return what the order of accesses adds to the least time of one launch in microseconds (low, high), 0 or more.

    ``l2_bytes``: between L2 and multiprocessors. None where the bandwidth of DRAM is not known.
    """
    if not device.dram_gbps:
        return None
    problem = unit.launch.problem
    size = float(problem.read_bytes + problem.write_bytes)
    floor = floor_us(problem.flop, size, rate_tflops, device.dram_gbps)
    low, high = (least_us(unit, moved, rate_tflops, device, l2_bytes) for moved in through_dram(traffic))
    return max(low - floor, 0.0), max(high - floor, 0.0)


def through_dram(traffic: Traffic) -> tuple[float, float]:
    """Return the bytes (low, high) that a launch moves through DRAM.

    What a cache keeps of the output at the end is written later all the same, so only reads can exceed or save.
    """
    return traffic.read[0] + traffic.write[1], traffic.read[1] + traffic.write[1]


def costs_of(subject: Subject, units: Sequence[Unit], rates: Rates) -> tuple[Cost, ...]:
    """Return the costs by role on the subject's own devices, those of attention as it ran and as it did not."""
    return tuple(cost for device in subject.devices if device.dram_gbps for cost in _on(device, subject, units, rates))


def _on(device: CacheFacts, subject: Subject, units: Sequence[Unit], rates: Rates) -> list[Cost]:
    by_role: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    mixings = attentions(units)
    inside = {i for m in mixings for i in range(m.first, m.first + m.count)}
    for i, unit in enumerate(units):
        if i not in inside:
            by_role[role_of(unit), NONE].append(unit)
    for mixing in mixings:
        unit = units[mixing.first]
        fused = unit if mixing.count == 1 else variant(unit, mixing.problem, materialised=False)
        by_role["attention", FUSED].append(fused)
        by_role["attention", MATERIALISED].append(variant(unit, mixing.problem, materialised=True))
    return [
        found
        for (role, way), mine in by_role.items()
        if (found := _cost(device, subject, mine, rates, (role, way))) is not None
    ]


def _cost(device: CacheFacts, subject: Subject, units: Sequence[Unit], rates: Rates, name: tuple[str, str]) -> Cost | None:
    floor = low = high = through_l2 = compulsory = 0.0
    moved = [0.0, 0.0]
    for unit in units:
        found = kernel_access(unit.launch, subject.devices, subject.multiprocessors)
        traffic = found.traffic.get(device.key)
        if traffic is None or not device.dram_gbps:
            return None
        calls, problem, rate = unit.calls, unit.launch.problem, rates(device, unit)
        size = float(problem.read_bytes + problem.write_bytes)
        through = through_dram(traffic)
        l2 = sum(found.l2_sm_bytes)
        floor += calls * floor_us(problem.flop, size, rate, device.dram_gbps)
        low, high = (
            total + calls * least_us(unit, bytes_, rate, device, l2) for total, bytes_ in zip((low, high), through, strict=True)
        )
        through_l2 += calls * (least_us(unit, through[1], rate, device, l2) - least_us(unit, through[1], rate, device))
        compulsory += calls * size
        moved = [total + calls * bytes_ for total, bytes_ in zip(moved, through, strict=True)]
    if not compulsory:
        return None
    return Cost(
        model=subject.model,
        device=device.key,
        role=name[0],
        attention=name[1],
        floor_us=floor,
        excess_us=(max(low - floor, 0.0), max(high - floor, 0.0)),
        l2_excess_us=through_l2 if device.l2_gbps else math.nan,
        bytes_ratio=(moved[0] / compulsory, moved[1] / compulsory),
    )
