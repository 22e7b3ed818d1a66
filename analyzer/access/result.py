"""From units to everything that the page says of access: patterns, maps, image sizes, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analyzer.access import closed
from analyzer.access.costs import FUSED, MATERIALISED, costs_of
from analyzer.access.kernel import KernelAccess, kernel_access, work_out
from analyzer.access.maps import maps_of
from analyzer.access.problem import Attention, Pass
from analyzer.access.sizes import sizes_of
from analyzer.access.tiling import Geometry
from analyzer.access.units import Unit, attentions, in_roles, variant
from analyzer.schema.access import AccessResult, CacheFacts, PatternAccess

SHOWN = ("conv3x3", "depthwise", "linear", "attention_fused", "attention_materialised")
"""Patterns that figures compare, and that are worked out for other devices too."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: ``model`` with ``images`` per batch at ``image_size`` pixels, times divided by ``batches``.

    ``devices``: those that all units are worked out for; the first is the run's own. ``others``: those for comparison.
    ``batches`` is 0 where it is not known. ``multiprocessors``: of the device whose order of blocks the curves show.
    """

    model: str
    images: int
    image_size: int
    devices: tuple[CacheFacts, ...]
    others: tuple[CacheFacts, ...] = ()
    multiprocessors: int = 1
    batches: float = 1.0

    @property
    def all_devices(self) -> tuple[CacheFacts, ...]:
        """Its own devices, then the others, each once."""
        own = {device.key for device in self.devices}
        return (*self.devices, *(device for device in self.others if device.key not in own))


Rates = Callable[[CacheFacts, Unit], float]
"""Returns the peak in TFLOP/s of a unit's arithmetic on a device, NaN where it is not known."""


def build(subject: Subject, sequence: Sequence[Unit], units: Sequence[Unit], rates: Rates) -> AccessResult:
    """Return what the access model says of a model.

    ``sequence``: the units of one pass in the order in which they run; ``units``: each distinct one, with its sums over all
    ``subject.batches``.
    """
    sequence = in_roles(sequence)
    others = _other_ways(sequence, subject.batches)
    parts = {variant(sequence[m.first], m.problem, materialised=True).launch for m in attentions(sequence) if m.count > 1}
    units = merged(units)
    rows = [*units, *others]
    # each is worked out once, side by side: compiled loops do not hold the interpreter
    work_out({(unit.launch, subject.devices, subject.multiprocessors) for unit in rows})
    shown = _representatives(rows, subject)
    work_out({(unit.launch, subject.all_devices, subject.multiprocessors) for unit in shown})
    patterns = []
    for i, unit in enumerate(rows):
        on = subject.all_devices if unit in shown else subject.devices
        patterns.append(_pattern(unit, subject, on, ran=i < len(units), in_parts=unit.launch in parts))
    return AccessResult(
        model=subject.model,
        batch_size=subject.images,
        image_size=subject.image_size,
        devices=subject.all_devices,
        patterns=tuple(sorted(patterns, key=lambda p: (-p.time_us, -p.compulsory_bytes * p.calls))),
        maps=maps_of(shown),
        sizes=sizes_of(subject, sequence, rates),
        costs=costs_of(subject, sequence, rates),
        attention=_way(sequence),
        own=subject.devices[0] if subject.devices else None,
    )


def _way(sequence: Sequence[Unit]) -> str:
    """Return how attention ran: ``fused``, ``materialised``, ``both``, or nothing where there is none."""
    ways = {FUSED if mixing.count == 1 else MATERIALISED for mixing in attentions(sequence)}
    return "both" if len(ways) > 1 else next(iter(ways), "")


def _other_ways(sequence: Sequence[Unit], batches: float) -> list[Unit]:
    """Return each attention as it did not run: with its scores written out, or fused; and one that ran in parts, as a whole."""
    found = []
    for mixing in attentions(sequence):
        unit = sequence[mixing.first]
        if mixing.count > 1:
            found.append(variant(unit, mixing.problem, materialised=False))
        found.append(variant(unit, mixing.problem, materialised=True))
    return merged([replace(unit, calls=unit.calls * batches) for unit in found])


def merged(units: Sequence[Unit]) -> list[Unit]:
    """Return one unit for all that are alike, with the sum of their calls and times."""
    found: dict[tuple[object, ...], Unit] = {}
    for unit in units:
        key = (unit.pattern, unit.module, unit.launch, unit.kernel)
        before = found.get(key)
        found[key] = replace(before, calls=before.calls + unit.calls, time_us=before.time_us + unit.time_us) if before else unit
    return list(found.values())


def _representatives(units: Sequence[Unit], subject: Subject) -> list[Unit]:
    """Return for each pattern of SHOWN the unit with most time, where no times are known with most bytes through L2."""
    found = []
    for pattern in SHOWN:
        mine = [unit for unit in units if unit.pattern == pattern]
        if mine:
            found.append(max(mine, key=lambda u: (u.time_us, u.calls * sum(_access(u, subject.devices, subject).l2_sm_bytes))))
    return found


def _access(unit: Unit, devices: tuple[CacheFacts, ...], subject: Subject) -> KernelAccess:
    return kernel_access(unit.launch, devices, subject.multiprocessors)


def _pattern(unit: Unit, subject: Subject, devices: tuple[CacheFacts, ...], *, ran: bool, in_parts: bool) -> PatternAccess:
    found = _access(unit, devices, subject)
    problem, geometry = unit.launch.problem, unit.launch.geometry
    read, write = float(problem.read_bytes), float(problem.write_bytes)
    if unit.launch.materialised and isinstance(problem, Attention):
        read, write = read + 2 * problem.score_bytes, write + 2 * problem.score_bytes
    return PatternAccess(
        pattern=unit.pattern,
        module=unit.module,
        shapes=unit.described.shapes,
        dtype=unit.described.dtype,
        calls=unit.calls / (subject.batches or 1),
        flop=problem.flop,
        read_bytes=read,
        write_bytes=write,
        l2_sm_bytes=found.l2_sm_bytes,
        traffic=found.traffic,
        locality=found.locality,
        curve=found.curve,
        confidence=geometry.confidence,
        tiles=_tiles(unit),
        order=" or ".join(raster.words for raster in geometry.rasters) if geometry.tile_m else "",
        formula=closed.formula(problem, geometry) if not unit.launch.materialised else _written_out(problem, geometry),
        model=subject.model,
        kernel=unit.kernel,
        time_us=unit.time_us / (subject.batches or 1),
        hypothetical=not ran,
        in_parts=in_parts,
    )


def _written_out(problem: object, geometry: Geometry) -> str:
    if not isinstance(problem, Attention):
        return ""
    heads = problem.batch * problem.heads
    scores = f"{problem.itemsize} B x {heads} heads x {problem.queries} x {problem.keys} scores"
    return f"4 x ({scores}), written and read twice, + Q, K, V and the output ({geometry.tile_m} x {geometry.tile_n} tiles)"


def _tiles(unit: Unit) -> str:
    geometry = unit.launch.geometry
    if isinstance(unit.launch.problem, Pass) or not geometry.tile_m:
        return geometry.source
    deep = f", {geometry.tile_k} deep" if geometry.tile_k > 1 else ""
    cluster = f", clusters of {geometry.cluster[0]} x {geometry.cluster[1]}" if math.prod(geometry.cluster) > 1 else ""
    resident = f", {unit.launch.resident} resident" if unit.launch.resident > 1 else ""
    return f"{geometry.tile_m} x {geometry.tile_n}{deep}{cluster}{resident}; {geometry.source}"
