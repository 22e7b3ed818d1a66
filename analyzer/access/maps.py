"""Access maps: which addresses a few thread blocks of each pattern touch, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from analyzer.access.problem import Attention, Convolution, Pass, Problem, Product, Window
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.chain import materialised_stream
from analyzer.access.streams.stream import Stream
from analyzer.access.units import Unit
from analyzer.schema.access import AccessMap

BLOCKS = 6
"""Thread blocks of a map, two at a time, so that one sees what neighbours share."""
_AT_ONCE = 2
_NAMES = {"A": "input", "B": "weight", "C": "output"}
_ROWS = 256


def maps_of(units: Sequence[Unit]) -> tuple[AccessMap, ...]:
    """Return a map of each of ``units``: the real layer with one image, and its first thread blocks."""
    return tuple(found for unit in units if (found := _map(unit)))


def _map(unit: Unit) -> AccessMap | None:
    problem = small(unit.launch.problem)
    if isinstance(problem, Pass):
        return None
    geometry = unit.launch.geometry
    if unit.launch.materialised and isinstance(problem, Attention):
        stream = materialised_stream(problem, geometry, _AT_ONCE)
        kept = np.flatnonzero(np.isin(stream.block, _of_each_stage(stream)))
    else:
        stream = fill(plan_of(problem, geometry, geometry.rasters[0], _AT_ONCE))
        kept = np.flatnonzero(stream.block < BLOCKS)
    ends = np.cumsum([operand.bytes for operand in stream.operands])
    return AccessMap(
        pattern=unit.pattern,
        title=unit.described.shapes,
        operands=tuple(_NAMES.get(operand.name, operand.name) for operand in stream.operands),
        extents=tuple((int(end) - o.bytes, o.bytes) for end, o in zip(ends, stream.operands, strict=True)),
        time=np.arange(len(kept)) / max(len(kept), 1),
        address_bytes=_addresses(stream)[stream.granule[kept]],
        operand=_owners(stream, kept),
        block=stream.block[kept],
    )


def _of_each_stage(stream: Stream) -> npt.NDArray[np.int64]:
    """Return the first blocks of each of the kernels that make up a chain: those that write scores, weights and the output."""
    bounds = np.cumsum([0] + [operand.count for operand in stream.operands])
    first = []
    for i in range(len(stream.operands)):
        mine = (stream.granule >= bounds[i]) & (stream.granule < bounds[i + 1]) & (stream.write == 1)
        if mine.any():
            first.append(np.unique(stream.block[mine])[: BLOCKS // 2])
    return np.concatenate(first).astype(np.int64)


def small(problem: Problem) -> Problem:
    """Return the problem with one image, or one head, and of a linear layer its first rows."""
    if isinstance(problem, Product):
        return replace(problem, batch=1, m=min(problem.m, _ROWS), extra_bytes=0)
    if isinstance(problem, Convolution):
        return replace(problem, images=1, groups=1, extra_bytes=0)
    if isinstance(problem, Window):
        return replace(problem, planes=min(problem.planes, 8))
    if isinstance(problem, Attention):
        return replace(problem, batch=1, heads=1, kv_heads=1, extra_bytes=0)
    return problem


def _addresses(stream: Stream) -> npt.NDArray[np.int64]:
    """Return where each granule begins, the operands one behind the other."""
    sizes = stream.sizes.astype(np.int64)
    return np.cumsum(sizes) - sizes


def _owners(stream: Stream, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    ends = np.cumsum([operand.count for operand in stream.operands])
    return np.searchsorted(ends, stream.granule[kept], side="right")
