"""The order in which thread blocks start and take turns."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from analyzer.access.streams import emit
from analyzer.access.streams.stream import Flags, Int32, Int64
from analyzer.access.tiling import Raster

SEED = 20260722
"""Every stream is drawn anew from this, so that figures repeat."""


MOST_TURNS = 20_000_000


class TooLargeError(ValueError):
    """The stream would not fit into memory."""


def starts(counts: Mapping[str, int], raster: Raster) -> dict[str, Int64]:
    """Return the index on each axis of every block, in the order in which blocks start.

    ``counts`` is the number of tiles by axis; ``raster.axes`` names the same axes, fastest first.

    Raises:
        TooLargeError: there are more than MOST_TURNS blocks.
    """
    blocks = math.prod(counts[axis] for axis in raster.axes)
    if blocks > MOST_TURNS:
        raise TooLargeError
    number = np.arange(blocks, dtype=np.int64)
    found: dict[str, Int64] = {}
    fast, second = raster.axes[0], raster.axes[1]
    if raster.panel and raster.panel < counts[fast]:
        plane = counts[fast] * counts[second]
        outer, inner = np.divmod(number, plane)
        # all panels are as wide but the last, so where it begins tells how wide a block's own is
        panel, within = np.divmod(inner, raster.panel * counts[second])
        width = np.minimum(raster.panel, counts[fast] - panel * raster.panel)
        found[second], offset = np.divmod(within, width)
        found[fast] = panel * raster.panel + offset
        rest = outer
    else:
        rest, found[fast] = np.divmod(number, counts[fast])
        rest, found[second] = np.divmod(rest, counts[second])
    for axis in raster.axes[2:]:
        rest, found[axis] = np.divmod(rest, counts[axis])
    return found


def turns(steps: Int32, slots: int) -> tuple[Int32, Int32]:
    """Return (block, step) of each turn of blocks with ``steps`` steps on ``slots`` places.

    Approximation: resident blocks advance one step at a time side by side, in an order drawn anew for every step.
    """
    block, step = emit.interleave(steps, max(slots, 1), SEED)
    return block, step


def sides(blocks: int, slots: int, *, persistent: bool = False) -> Flags:
    """Return which half of the cache is next to each block.

    Approximation: a block goes to whichever multiprocessor is free first, which is taken as random; a fixed place for each
    would read a quarter too little. Persistent blocks take every ``slots``-th tile and stay where they are.
    """
    random = np.random.default_rng(SEED)
    if persistent:
        fixed = random.integers(0, 2, max(slots, 1), dtype=np.uint8)
        return fixed[np.arange(blocks) % len(fixed)]
    return random.integers(0, 2, blocks, dtype=np.uint8)
