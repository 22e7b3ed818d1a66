"""Reuse: exact LRU stack distances of a stream, and from them its miss-ratio curve. All caches here are fully associative.

Source: Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970; the tree over last
uses is that of Bennett and Kruskal, IBM J. Res. Dev. 19(4), 1975.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analyzer.access.compiled import compiled
from analyzer.access.streams.stream import Stream
from analyzer.schema.access import KNEE_RATIO

COLD = -1
"""The distance of a first access."""


@compiled
def stack_distances(granule: Any, count: int) -> Any:
    """Return for each access the number of other granules touched since the last one to its own, COLD for the first.

    ``count``: how many granules there are. Positions of last uses stand in a Fenwick tree, renumbered whenever they run out, so
    that memory grows with the granules and not with the accesses.
    """
    room = 2 * count + 2
    tree = np.zeros(room + 1, np.int32)
    last = np.full(count, -1, np.int32)
    owner = np.full(room, -1, np.int32)
    out = np.empty(len(granule), np.int32)
    now, alive = 0, 0
    for i in range(len(granule)):
        g = granule[i]
        if now == room:
            now = _renumber(tree, last, owner)
        at = last[g]
        if at < 0:
            out[i] = COLD
            alive += 1
        else:
            before, j = 0, at + 1
            while j > 0:
                before += tree[j]
                j -= j & -j
            out[i] = alive - before
            owner[at] = -1
            j = at + 1
            while j <= room:
                tree[j] -= 1
                j += j & -j
        last[g] = now
        owner[now] = g
        j = now + 1
        while j <= room:
            tree[j] += 1
            j += j & -j
        now += 1
    return out


@compiled
def _renumber(tree: Any, last: Any, owner: Any) -> int:
    """Close the gaps between last uses; return the next free position."""
    now = 0
    for at in range(len(owner)):
        g = owner[at]
        owner[at] = -1
        if g >= 0:
            owner[now] = g
            last[g] = now
            now += 1
    tree[:] = 0
    for at in range(now):
        tree[at + 1] = 1
    for j in range(1, len(tree)):
        above = j + (j & -j)
        if above < len(tree):
            tree[above] += tree[j]
    return now


@dataclass(frozen=True, slots=True, eq=False)
class Reuse:
    """What stack distances say of a stream.

    ``distance_bytes`` [bins] rising, ``missed_bytes`` [bins] DRAM reads of a cache of that capacity, ``moved_bytes`` [bins]
    bytes moved by accesses of that distance (cold ones are not in it), ``cold_bytes`` the reads that no cache avoids.
    """

    distance_bytes: npt.NDArray[np.float64]
    missed_bytes: npt.NDArray[np.float64]
    moved_bytes: npt.NDArray[np.float64]
    cold_bytes: float

    def misses(self, capacity_bytes: float) -> float:
        """Return the DRAM reads of a cache of ``capacity_bytes``."""
        at = int(np.searchsorted(self.distance_bytes, capacity_bytes, side="right")) - 1
        return float(self.missed_bytes[max(at, 0)])

    @property
    def knee_bytes(self) -> float:
        """Return the smallest capacity with at most KNEE_RATIO times the compulsory reads."""
        return float(self.distance_bytes[int(np.argmax(self.missed_bytes <= KNEE_RATIO * self.cold_bytes))])

    def quantile(self, share: float) -> float:
        """Return the reuse distance in bytes below which ``share`` of the re-used bytes lie, NaN without reuse."""
        total = float(self.moved_bytes.sum())
        if total <= 0:
            return float("nan")
        return float(self.distance_bytes[int(np.searchsorted(np.cumsum(self.moved_bytes), share * total))])


def reuse_of(stream: Stream, sampling: float = 1.0) -> Reuse:
    """Return the reuse of ``stream``, scaled to the whole kernel.

    ``sampling`` < 1 looks at that share of the granules, chosen by a hash (SHARDS, FAST'15), with distances scaled up. Against
    the exact curve that is within 2 % of the bytes away from a knee, and up to a quarter off on one, at a tenth.
    """
    granule, moved, write = stream.granule, stream.moved, stream.write
    if sampling < 1:
        kept = _hashed(granule) < sampling * 2**32
        granule, moved, write = granule[kept], moved[kept], write[kept]
        numbers, places = np.unique(granule, return_inverse=True)
        granule, sizes = places.astype(np.int32), stream.sizes[numbers]
    else:
        sizes = stream.sizes
    distance = stack_distances(granule, len(sizes)) if len(granule) else np.empty(0, np.int32)
    return _curve(distance, granule, moved, write, sizes, stream.granule_bytes / sampling, stream.scale / sampling)


def _curve(distance: Any, granule: Any, moved: Any, write: Any, sizes: Any, unit: float, scale: float) -> Reuse:
    reads = write == 0
    again = distance >= 0
    fetched = sizes[granule].astype(np.float64)
    cold = float(fetched[reads & ~again].sum())
    bins = int(distance.max(initial=0)) + 2
    # a cache of d + 1 granules holds what d others came in between
    missed = np.bincount(distance[reads & again] + 1, fetched[reads & again], bins)
    moves = np.bincount(distance[again & reads] + 1, moved[again & reads], bins)
    above = missed[::-1].cumsum()[::-1]
    left = np.append(above[1:], 0.0)  # with a capacity of d + 1, accesses of distance d hit
    sizes = np.arange(bins, dtype=np.float64) * unit
    return Reuse(sizes, np.float64(scale) * (cold + left), np.float64(scale) * moves, cold * scale)


def _hashed(granule: Any) -> Any:
    return (granule.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(17)) & np.uint64(0xFFFFFFFF)
