"""One kernel: from its problem and geometry to the bytes it moves on each device, and how local it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from analyzer.access import closed
from analyzer.access.caches import simulated
from analyzer.access.l2 import Policy, run
from analyzer.access.locality import NOT_KNOWN, locality
from analyzer.access.problem import Attention, Pass, Problem
from analyzer.access.reuse import Reuse, reuse_of
from analyzer.access.streams.build import MAX_ACCESSES, fill, plan_of
from analyzer.access.streams.chain import materialised_stream
from analyzer.access.streams.order import TooLargeError
from analyzer.access.streams.stream import Stream
from analyzer.access.tiling import Geometry
from analyzer.schema.access import CacheFacts, Curve, Locality, Traffic

POLICIES: tuple[Policy, ...] = ("lru", "nru")
"""The ends of the band: strict recency, and one reference bit with random choice."""

COARSE = 100_000
"""Accesses of a stream where sums over many kernels are wanted."""

CAPACITIES = tuple(int(2 ** (16 + i / 4)) for i in range(59))
"""Cache sizes of a miss-ratio curve: 64 KiB to 1.4 GiB, four to an octave."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelAccess:
    """What one launch moves. Bytes; ``traffic`` by key of the device."""

    l2_sm_bytes: tuple[float, float]
    traffic: dict[str, Traffic]
    locality: Locality
    curve: Curve | None


@dataclass(frozen=True, slots=True)
class Launch:
    """What decides the accesses of a kernel: problem, geometry, blocks resident on a multiprocessor, images of the batch.

    ``materialised``: an attention whose scores are written out, as QK^T, softmax and PV one after the other. ``accesses``: how
    finely to write down its stream.
    """

    problem: Problem
    geometry: Geometry
    resident: int = 1
    images: int = 0
    materialised: bool = False
    accesses: int = MAX_ACCESSES


Job = tuple[Launch, tuple[CacheFacts, ...], int]
"""A launch, the devices, and the multiprocessors of the one whose order counts."""


@lru_cache(maxsize=1 << 16)
def kernel_access(launch: Launch, devices: tuple[CacheFacts, ...], multiprocessors: int) -> KernelAccess:
    """Return what ``launch`` moves on each of ``devices``. Its curve and locality are of a device with ``multiprocessors``.

    Equal launches are worked out once. Where several orders are plausible, the bytes are a band over all of them, and curve and
    locality are those of the first. A launch too large to be written down has its bytes from L2 alone.
    """
    if isinstance(launch.problem, Pass):
        return _one_pass(launch.problem, devices)
    try:
        streams = _streams(launch, multiprocessors)
        traffic = _on_devices(launch, devices, multiprocessors, streams, POLICIES)
    except TooLargeError:
        moved = closed.read_bytes(launch.problem, launch.geometry), float(launch.problem.write_bytes)
        return KernelAccess(moved, {}, Locality(*(NOT_KNOWN,) * 8), None)
    reuse = reuse_of(streams[0])
    reads, writes = _moved(launch, streams[0])
    described = locality(launch.problem, launch.geometry, streams[0], reuse, reads, launch.images)
    if launch.materialised and isinstance(launch.problem, Attention):
        described = replace(described, **_of_chain(launch.problem, described, reads))
    return KernelAccess((reads, writes), traffic, described, curve_of(reuse))


@lru_cache(maxsize=1 << 16)
def coarse_traffic(launch: Launch, devices: tuple[CacheFacts, ...], multiprocessors: int) -> dict[str, Traffic]:
    """Return the traffic of ``launch`` in the first of its orders under strict recency, written down coarsely.

    For sums over many kernels: within 3 % of the fine figure where the L2 has tens of MiB, up to 1.4 times it for convolutions
    with much re-use on 6 MiB. Empty for a launch too large.
    """
    if isinstance(launch.problem, Pass):
        return _one_pass(launch.problem, devices).traffic
    few = replace(launch, accesses=COARSE, geometry=replace(launch.geometry, rasters=launch.geometry.rasters[:1]))
    try:
        return _on_devices(few, devices, multiprocessors, _streams(few, multiprocessors), POLICIES[:1])
    except TooLargeError:
        return {}


def _of_chain(problem: Attention, found: Locality, reads: float) -> dict[str, float]:
    """Return the shares of three kernels that hand scores to each other: scores count among what they read and write."""
    operands = problem.read_bytes + problem.write_bytes + 4 * problem.score_bytes
    return {
        "reuse_factor": reads / (problem.read_bytes + 2 * problem.score_bytes),
        "byte_share": found.footprint_bytes / operands,
    }


def work_out(jobs: Iterable[Job], work: Callable[[Launch, tuple[CacheFacts, ...], int], object] = kernel_access) -> None:
    """Work out launches on all processors; the results wait in the cache of ``work``."""
    ordered = sorted(jobs, key=lambda job: -job[0].problem.flop)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda job: work(*job), ordered))


def _streams(launch: Launch, multiprocessors: int) -> list[Stream]:
    problem, geometry = launch.problem, launch.geometry
    slots = max(launch.resident, 1) * multiprocessors
    if launch.materialised and isinstance(problem, Attention):
        return [materialised_stream(problem, geometry, slots, launch.accesses)]
    if isinstance(problem, Pass):
        return []
    return [fill(plan_of(problem, geometry, raster, slots, launch.accesses)) for raster in geometry.rasters]


def _on_devices(
    launch: Launch, devices: tuple[CacheFacts, ...], multiprocessors: int, streams: list[Stream], policies: Sequence[Policy]
) -> dict[str, Traffic]:
    """Return the traffic on each device; one with another number of multiprocessors has its own order of blocks."""
    found = {}
    for device in devices:
        own = streams if device.multiprocessors == multiprocessors else _streams(launch, device.multiprocessors)
        found[device.key] = _traffic(launch, device, own, policies)
    return found


def _moved(launch: Launch, stream: Stream) -> tuple[float, float]:
    """Return the bytes read from and written to the last-level cache."""
    if launch.materialised:
        return stream.read_bytes, stream.write_bytes
    return closed.read_bytes(launch.problem, launch.geometry), float(launch.problem.write_bytes)


def _traffic(launch: Launch, device: CacheFacts, streams: list[Stream], policies: Sequence[Policy]) -> Traffic:
    cache = simulated(device)
    found = [run(stream, cache, policy) for stream in streams for policy in policies]
    extra = 0.0 if launch.materialised else float(getattr(launch.problem, "extra_bytes", 0))
    # a granule that is fetched for a part of it alone cannot cost more than what was asked for
    asked = max(stream.read_bytes for stream in streams)
    reads = [(min(moved.read, asked) + extra) * device.read_overhead for moved in found]
    if launch.materialised:  # what the last kernel leaves in the cache is written once something else needs the room
        written = [moved.evicted + moved.dirty for moved in found]
        return Traffic((min(reads), max(reads)), (min(moved.evicted for moved in found), max(written)))
    return Traffic((min(reads), max(reads)), written_band(float(launch.problem.write_bytes), device), reads[0])


def written_band(size: float, device: CacheFacts) -> tuple[float, float]:
    """Return the DRAM writes of ``size`` bytes of output: all of them, less what the cache may still hold at the end.

    Approximation: DRAM writes fall short of the outputs by a constant, as counters show; a cache that wrote back on eviction
    alone would show half as many.
    """
    low, high = device.retained_bytes
    return max(size - high, 0.0), max(size - low, 0.0)


def _one_pass(problem: Pass, devices: Sequence[CacheFacts]) -> KernelAccess:
    """Return a pass over its operands: every byte once, whatever the order."""
    read, write = float(problem.read_bytes), float(problem.write_bytes)
    traffic = {d.key: Traffic((read * d.read_overhead,) * 2, written_band(write, d), read * d.read_overhead) for d in devices}
    none = NOT_KNOWN
    described = Locality(none, none, none, 1.0 if read else none, none, none, none, none)
    flat = Curve(np.array(CAPACITIES, np.float64), np.full(len(CAPACITIES), read), float(CAPACITIES[0]), read)
    return KernelAccess((read, write), traffic, described, flat if read else None)


def curve_of(reuse: Reuse) -> Curve:
    """Return the miss-ratio curve at CAPACITIES."""
    sizes = np.array(CAPACITIES, np.float64)
    missed = np.array([reuse.misses(size) for size in CAPACITIES])
    return Curve(sizes, missed, reuse.knee_bytes, reuse.cold_bytes)
