"""The last-level cache of a GPU: sets found by a hash, one part or two halves that each keep their own copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analyzer.access.compiled import compiled, inlined
from analyzer.access.streams.stream import Stream

Policy = Literal["lru", "nru"]
"""Least recently used and not recently used: the two ends between which hardware is taken to lie."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache: capacity in bytes, ways of a set, halves."""

    capacity_bytes: int
    ways: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes of a stream: DRAM reads, reads across the fabric between halves, dirty evicted, dirty left."""

    read: float
    fabric: float
    evicted: float
    dirty: float


@compiled
def _hash(granule: int, salt: int) -> Any:
    """Return 31 well-mixed bits (the finaliser of splitmix64)."""
    x = np.uint64(granule) * np.uint64(2) + np.uint64(salt) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((x ^ (x >> np.uint64(31))) >> np.uint64(33))


@inlined
def _look_up(state: Any, place: int, granule: int, now: int, rule: Any) -> int:
    """Return where ``granule`` lies in the set that begins at ``place`` and mark it used, -1 where it does not."""
    tags, ages, _ = state
    ways, recent = rule
    for at in range(place, place + ways):
        if tags[at] == granule:
            ages[at] = now if recent else 1
            return at
    return -1


@inlined
def _oldest(state: Any, place: int, ways: int) -> int:
    """Return the place to replace: an empty one, else the least recently used."""
    tags, ages, _ = state
    oldest = place
    for at in range(place, place + ways):
        if tags[at] < 0:
            return at
        if ages[at] < ages[oldest]:
            oldest = at
    return oldest


@inlined
def _unreferenced(state: Any, place: int, ways: int, draw: int) -> int:
    """Return the place to replace: the first without a reference bit from a random one on, empty ones having none.

    Where all were used since the last time, all lose their bit.
    """
    _, ages, _ = state
    start = draw % ways
    for i in range(ways):
        at = place + (start + i) % ways
        if ages[at] == 0:
            return at
    ages[place : place + ways] = 0
    return place + start


@inlined
def _install(state: Any, place: int, granule: int, now: int, rule: Any) -> Any:
    """Put ``granule`` into the set at ``place``; return the granule that has to be written back for it, -1 without."""
    tags, ages, dirty = state
    ways, recent = rule
    at = _oldest(state, place, ways) if recent else _unreferenced(state, place, ways, _hash(now, 2))
    gone = tags[at] if dirty[at] else -1
    tags[at], ages[at], dirty[at] = granule, now if recent else 1, 0
    return gone


@inlined
def _access(state: Any, places: Any, granule: int, now: int, write: bool, rule: Any) -> Any:
    """Do one access; return what it was missing in (0 nothing, 1 the near half, 2 DRAM, 3 both) and both that are written back.

    ``places``: where the set begins in the near and in the home half; ``rule``: ways, whether least recently used. Copies in a
    half that is not their home are never dirty, but may push out others that are.
    """
    near, home = places
    missed, lost = 0, -1
    if near != home:
        if _look_up(state, near, granule, now, rule) < 0:
            lost = _install(state, near, granule, now, rule)
            missed = 1
        elif not write:
            return 0, -1, -1
    gone = -1
    if _look_up(state, home, granule, now, rule) < 0:
        gone = _install(state, home, granule, now, rule)
        missed += 2
    if write:
        state[2][_look_up(state, home, granule, now, rule)] = 1
    return missed, gone, lost


@compiled
def _places(count: int, sets: int, parts: int) -> Any:
    """Return the home half and the set of each granule: neighbours go apart, as the hashes of hardware see to."""
    home, within = np.empty(count, np.int32), np.empty(count, np.int32)
    for g in range(count):
        group = g // parts
        home[g] = (g + _hash(group, 0)) % parts
        within[g] = (group + _hash(group // sets, 1)) % sets
    return home, within


@compiled
def run_cache(stream: Any, sizes: Any, side: Any, shape: Any) -> Any:
    """Return (DRAM reads, fabric reads, dirty bytes evicted, dirty bytes left).

    ``stream``: (granule, block, write); ``shape``: sets of a part, ways, parts, whether least recently used. A multiprocessor
    asks the half next to it, which on a miss asks the home half of the address, which on a miss asks DRAM; both keep a copy, of
    reads and of writes. The home half writes back.

    Approximation: sets of 16 ways found by a hash; replacement lies between least recently used and one reference bit.
    """
    granules, blocks, writes = stream
    sets, ways, parts, recent = shape
    room = parts * sets * ways
    home, within = _places(len(sizes), sets, parts)
    state = (np.full(room, -1, np.int32), np.zeros(room, np.int32), np.zeros(room, np.uint8))
    read, fabric, evicted, now = 0, 0, 0, 0
    for i in range(len(granules)):
        g, now = granules[i], now + 1
        near, here = side[blocks[i]] % parts, within[g]
        where = ((near * sets + here) * ways, (home[g] * sets + here) * ways)
        missed, gone, lost = _access(state, where, g, now, writes[i] != 0, (ways, recent))
        if gone >= 0:
            evicted += sizes[gone]
        if lost >= 0:
            evicted += sizes[lost]
        if not writes[i]:
            read += sizes[g] * (missed // 2)
            fabric += sizes[g] * (missed % 2)
    return read, fabric, evicted, _dirty(state, sizes)


@compiled
def _dirty(state: Any, sizes: Any) -> int:
    """Return the bytes that still have to be written back."""
    tags, _, dirty = state
    left = 0
    for at in range(len(tags)):
        if dirty[at]:
            left += sizes[tags[at]]
    return left


def run(stream: Stream, cache: Cache, policy: Policy) -> Moved:
    """Return the bytes that ``stream`` moves through ``cache``, which is empty at first."""
    per_part = cache.capacity_bytes / cache.partitions / stream.granule_bytes
    ways = int(min(cache.ways, max(per_part, 1)))
    sets = max(round(per_part / ways), 1)
    accesses = (stream.granule, stream.block, stream.write)
    found = run_cache(accesses, stream.sizes, stream.side, (sets, ways, cache.partitions, policy == "lru"))
    return Moved(*(float(value) * stream.scale for value in found))
