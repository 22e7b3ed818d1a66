"""What the access model says of a kernel that is known by its sizes alone: as in the model of a report, and run in a loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analyzer.access import closed
from analyzer.access.caches import simulated
from analyzer.access.kernel import POLICIES
from analyzer.access.l2 import Moved, Policy, run
from analyzer.access.problem import Pass, Problem
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.stream import Stream
from analyzer.access.tiling import Geometry
from analyzer.insight.validation.items import Band
from analyzer.schema.access import CacheFacts

WARM_PASSES = 4
"""How often a kernel of a warm loop is run; the last pass counts."""


@dataclass(frozen=True, slots=True)
class Modelled:
    """What the model says of one launch, in bytes: of each order (the given one first) the figures by policy.

    ``read`` and ``written``: between L2 and multiprocessors.
    """

    read: float
    written: float
    orders: tuple[dict[Policy, Moved], ...]

    @property
    def missed(self) -> Band:
        """Return the bytes missed in L2 that DRAM has to give."""
        return _band([one.read for one in self._moved])

    @property
    def looked_up(self) -> Band:
        """Return the bytes looked up in L2, those that one half asks the other for included."""
        return _band([self.read + one.fabric for one in self._moved])

    @property
    def missed_in_halves(self) -> Band:
        """Return the bytes missed in either half of L2."""
        return _band([one.read + one.fabric for one in self._moved])

    @property
    def _moved(self) -> list[Moved]:
        return [order[policy] for order in self.orders for policy in POLICIES]


def _band(values: list[float]) -> Band:
    """Return strict recency in the first order as the point, and both ends over all policies and orders."""
    return values[0], min(values), max(values)


def modelled(problem: Problem, geometry: Geometry | None, device: CacheFacts, passes: int = 1) -> Modelled:
    """Run the launch through the cache of ``device``, one block to a multiprocessor; of several ``passes`` the last counts.

    Every pass is a launch of its own, whose blocks go to whichever multiprocessors are free, as in the model of one launch.
    ``geometry`` is None for one pass over the operands.

    Raises:
        TooLargeError: the launch is too large to be written down.
    """
    written = float(problem.write_bytes)
    if isinstance(problem, Pass) or geometry is None:
        read = float(problem.read_bytes)
        return Modelled(read, written, (dict.fromkeys(POLICIES, Moved(read, 0.0, 0.0, 0.0)),))
    read = closed.read_bytes(problem, geometry)
    streams = [fill(plan_of(problem, geometry, raster, device.multiprocessors)) for raster in geometry.rasters]
    orders = tuple({policy: _last(stream, device, policy, passes) for policy in POLICIES} for stream in streams)
    return Modelled(read, written, orders)


def _last(stream: Stream, device: CacheFacts, policy: Policy, passes: int) -> Moved:
    """Return what the last of ``passes`` over ``stream`` moves."""
    if passes == 1:
        return run(stream, simulated(device), policy)
    whole, before = (run(repeated(stream, count), simulated(device), policy) for count in (passes, passes - 1))
    return Moved(whole.read - before.read, whole.fabric - before.fabric, whole.evicted - before.evicted, whole.dirty)


def repeated(stream: Stream, passes: int) -> Stream:
    """Return ``stream`` over and over, each time with its blocks next to other halves of the cache."""
    blocks = len(stream.side)
    return replace(
        stream,
        granule=np.tile(stream.granule, passes),
        moved=np.tile(stream.moved, passes),
        block=np.concatenate([stream.block + np.int32(i * blocks) for i in range(passes)]),
        write=np.tile(stream.write, passes),
        side=np.concatenate([np.random.default_rng(i).integers(0, 2, blocks, dtype=np.uint8) for i in range(passes)]),
    )
