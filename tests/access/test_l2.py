"""The last-level cache: against cases worked out by hand, and against a slow model of dictionaries and lists."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.access.l2 import Cache, Moved, Policy, run, run_cache
from analyzer.access.problem import Attention, Product
from analyzer.access.reuse import reuse_of
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.stream import Stream
from analyzer.access.tiling import Geometry, Raster
from tests.access.test_reuse import UNIT, made, missed_by_lists

MASK = (1 << 64) - 1


def mixed(granule: int, salt: int) -> int:
    """The finaliser of splitmix64, its upper 31 bits."""
    x = (2 * granule + salt + 0x9E3779B97F4A7C15) & MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return (x ^ (x >> 31)) >> 33


@dataclass
class SlowCache:
    """The cache as the words of the model have it: every set of a half is a dictionary from granule to dirty, oldest first."""

    sets: int
    ways: int
    parts: int
    sizes: list[int]
    halves: list[list[OrderedDict[int, bool]]] = field(init=False)
    read: int = 0
    fabric: int = 0
    evicted: int = 0

    def __post_init__(self) -> None:
        self.halves = [[OrderedDict() for _ in range(self.sets)] for _ in range(self.parts)]

    def access(self, granule: int, near: int, write: bool) -> None:
        group = granule // self.parts
        home = (granule + mixed(group, 0)) % self.parts
        number = (group + mixed(group // self.sets, 1)) % self.sets
        if near != home:
            held = self.halves[near][number]
            if granule in held:
                held.move_to_end(granule)
                if not write:
                    return
            else:
                self._put(held, granule)
                if not write:
                    self.fabric += self.sizes[granule]
        held = self.halves[home][number]
        if granule in held:
            held.move_to_end(granule)
        else:
            self._put(held, granule)
            if not write:
                self.read += self.sizes[granule]
        if write:
            held[granule] = True

    def _put(self, held: OrderedDict[int, bool], granule: int) -> None:
        if len(held) == self.ways:
            gone, dirty = held.popitem(last=False)
            self.evicted += self.sizes[gone] if dirty else 0
        held[granule] = False

    @property
    def dirty(self) -> int:
        return sum(self.sizes[g] for half in self.halves for held in half for g, dirty in held.items() if dirty)


def slow(stream: Stream, cache: Cache) -> Moved:
    per_part = cache.capacity_bytes // cache.partitions // stream.granule_bytes
    ways = min(cache.ways, max(per_part, 1))
    model = SlowCache(max(per_part // ways, 1), ways, cache.partitions, stream.sizes.tolist())
    for g, block, write in zip(stream.granule.tolist(), stream.block.tolist(), stream.write.tolist(), strict=True):
        model.access(g, int(stream.side[block]) % cache.partitions, bool(write))
    return Moved(float(model.read), float(model.fabric), float(model.evicted), float(model.dirty))


def whole(granules: int, parts: int = 1) -> Cache:
    """One set of ``granules`` ways in each half: no neighbour shares a set with another."""
    return Cache(granules * parts * UNIT, granules, parts)


POLICIES: tuple[Policy, ...] = ("lru", "nru")


def test_a_working_set_fits_exactly_or_not_at_all() -> None:
    stream = made([*range(12)] * 5)
    assert run(stream, whole(12), "lru") == Moved(12 * UNIT, 0.0, 0.0, 0.0)
    assert run(stream, whole(11), "lru").read == 60 * UNIT


def test_one_reference_bit_keeps_a_part_of_what_does_not_fit() -> None:
    stream = made([*range(13)] * 40)
    read = run(stream, whole(12), "nru").read
    assert 13 * UNIT < read < 13 * 40 * UNIT
    assert run(stream, whole(13), "nru").read == 13 * UNIT


def test_an_access_that_hits_is_recent_again() -> None:
    # 0 is used again, so 1 makes room for 2
    assert run(made([0, 1, 0, 2, 0, 1]), whole(2), "lru").read == 4 * UNIT


@pytest.mark.parametrize("policy", POLICIES)
def test_a_warm_cache_reads_what_it_could_not_keep(policy: Policy) -> None:
    def passes(count: int, room: int) -> float:
        return run(made([*range(12)] * count), whole(room), policy).read

    assert passes(1, 12) == passes(5, 12) == 12 * UNIT
    if policy == "lru":
        assert passes(5, 11) - passes(4, 11) == 12 * UNIT


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("granules", [4, 40, 400])
def test_every_byte_written_once_is_written_back_or_still_there(policy: Policy, parts: int, granules: int) -> None:
    n = 300
    sides = np.random.default_rng(1).integers(0, 2, n).tolist()
    moved = run(made(range(n), writes=[1] * n, sides=sides), Cache(granules * UNIT, 4, parts), policy)
    assert moved.evicted + moved.dirty == n * UNIT
    assert (moved.read, moved.fabric) == (0, 0)
    if granules < n:
        assert moved.evicted > 0
        assert moved.dirty <= granules * UNIT


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_written_again_is_written_back_once(parts: int) -> None:
    moved = run(made([0, 1, 0, 1, 0, 1], writes=[1] * 6), whole(4, parts), "lru")
    assert (moved.evicted, moved.dirty) == (0, 2 * UNIT)


def test_reads_push_out_what_was_written() -> None:
    n = 64
    moved = run(made([*range(n), *range(n, 3 * n)], writes=[1] * n + [0] * (2 * n)), whole(n), "lru")
    assert moved == Moved(2 * n * UNIT, 0.0, n * UNIT, 0.0)


def test_a_read_after_a_write_finds_it() -> None:
    assert run(made([0, 1, 0, 1], writes=[1, 1, 0, 0]), whole(2), "lru").read == 0


def halves(passes: int, n: int) -> Stream:
    """A set of ``n`` granules that both halves read in each pass."""
    return made(np.repeat(np.tile(np.arange(n), passes), 2).tolist(), sides=[0, 1] * (n * passes))


def test_what_both_halves_read_takes_up_room_in_both() -> None:
    # each half holds 16 granules: all 16 as copies or as homes, but never 17
    assert run(halves(4, 16), whole(16, 2), "lru").read == 16 * UNIT
    assert run(halves(4, 16), whole(16, 2), "lru").fabric == 16 * UNIT  # each granule is far for one of the halves, once
    more = run(halves(4, 17), whole(16, 2), "lru")
    assert more.read + more.fabric > 2 * 17 * UNIT


def test_what_one_half_reads_has_its_copies_there_and_its_home_where_it_belongs() -> None:
    n = 16
    stream = made([*range(n)] * 4, sides=[0] * (4 * n))
    moved = run(stream, whole(n, 2), "lru")
    assert moved.read == n * UNIT
    assert moved.fabric == n // 2 * UNIT  # neighbours have different homes, so every other granule is far
    assert run(made([*range(n)] * 4), whole(n), "lru").fabric == 0


def test_only_reads_cross_the_fabric() -> None:
    n = 32
    sides = np.random.default_rng(2).integers(0, 2, n).tolist()
    assert run(made(range(n), writes=[1] * n, sides=sides), whole(n, 2), "lru").fabric == 0
    assert run(made(range(n), sides=sides), whole(n, 2), "lru").fabric > 0


def bend(parts: int) -> float:
    """The largest share of the capacity that a cyclically read set may take while it is read from DRAM once."""
    cache, passes = Cache(8 << 20, 16, parts), 6
    held = 0.0
    for share in np.arange(0.4, 1.2, 0.02):
        n = int(share * cache.capacity_bytes / UNIT)
        granules = np.tile(np.arange(n), passes).tolist()
        sides = np.random.default_rng(0).integers(0, 2, n * passes).tolist()
        first = len(granules) - n
        last = (
            run(made(granules, sides=sides), cache, "lru").read
            - run(made(granules[:first], sides=sides[:first]), cache, "lru").read
        )
        if last / (n * UNIT) < 0.3:
            held = float(share)
    return held


def test_two_halves_hold_between_half_and_all_of_what_one_cache_does() -> None:
    one, two = bend(1), bend(2)
    assert 0.85 <= one <= 1.02
    assert 0.6 <= two <= 0.76
    assert two < one


def test_a_set_that_is_full_evicts_though_others_are_empty() -> None:
    cache = Cache(64 * UNIT, 4, 1)
    # neighbours go to different sets, so a run as long as the cache fits, whatever the ways
    assert run(made([*range(64)] * 3), cache, "lru").read == 64 * UNIT
    # every 16th granule: 16 of them in a cache of 64, but not in sets of their own
    every = [16 * i for i in range(16)]
    assert run(made(every * 3), cache, "lru").read >= 16 * UNIT


@settings(max_examples=120, deadline=None)
@given(
    accesses=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=160),
    room=st.sampled_from([2, 4, 6, 8, 12, 16, 24, 32]),
    ways=st.sampled_from([1, 2, 4]),
    parts=st.sampled_from([1, 2]),
)
def test_the_slow_model_agrees(accesses: list[tuple[int, int, int]], room: int, ways: int, parts: int) -> None:
    granules = [g for g, _, _ in accesses]
    sizes = [64 + 8 * (g % 9) for g in range(max(granules) + 1)]
    stream = made(granules, writes=[w == 0 for _, _, w in accesses], sides=[s for _, s, _ in accesses], sizes=sizes)
    cache = Cache(room // (ways * parts) * ways * parts * UNIT or ways * parts * UNIT, ways, parts)
    assert run(stream, cache, "lru") == slow(stream, cache)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=120), st.integers(1, 24))
def test_one_set_of_many_ways_is_the_fully_associative_cache(accesses: list[tuple[int, int]], room: int) -> None:
    granules, writes = [g for g, _ in accesses], [w for _, w in accesses]
    stream = made(granules, writes=writes)
    assert run(stream, whole(room), "lru").read == missed_by_lists(granules, writes, [UNIT] * (max(granules) + 1), room)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=120),
    st.integers(1, 24),
    st.sampled_from([1, 2]),
)
def test_one_reference_bit_conserves_bytes_too(accesses: list[tuple[int, int, int]], room: int, parts: int) -> None:
    granules, sides, writes = ([a[i] for a in accesses] for i in range(3))
    moved = run(made(granules, writes=writes, sides=sides), whole(room, parts), "nru")
    read = {g for i, g in enumerate(granules) if not writes[i]}
    first = {g for i, g in enumerate(granules) if not writes[i] and g not in granules[:i]}
    assert len(first) * UNIT <= moved.read <= (len(granules) - sum(writes)) * UNIT
    written = {g for i, g in enumerate(granules) if writes[i]}
    assert len(written) * UNIT <= moved.evicted + moved.dirty <= sum(writes) * UNIT
    assert moved.fabric <= sum(1 for w in writes if not w) * UNIT
    assert moved.read == 0 or read


def test_a_cache_larger_than_everything_reads_what_no_cache_avoids() -> None:
    problem, geometry = Product(2, 256, 384, 128, 2, 2), Geometry(64, 64, 32, (Raster("mnb"),), "exact", "")
    stream = fill(plan_of(problem, geometry, geometry.rasters[0], 8))
    for policy in POLICIES:
        for parts in (1, 2):
            moved = run(stream, Cache(1 << 30, 16, parts), policy)
            assert moved.read == reuse_of(stream).cold_bytes == problem.read_bytes
            assert moved.evicted == 0
            assert moved.dirty == problem.write_bytes


def test_hashed_sets_of_sixteen_ways_stay_close_to_full_associativity_away_from_the_bend() -> None:
    problem = Attention(4, 8, 8, 512, 512, 64, 64, 2)
    geometry = Geometry(128, 128, 64, (Raster("bhq"),), "exact", "")
    stream = fill(plan_of(problem, geometry, geometry.rasters[0], 16))
    reuse = reuse_of(stream)
    for size in (reuse.knee_bytes / 2, reuse.knee_bytes * 2):
        found = run(stream, Cache(int(size), 16, 1), "lru").read
        assert found == pytest.approx(reuse.misses(size), rel=0.05)


def test_the_stream_is_scaled_after_the_cache() -> None:
    one, two = (run(made([0, 1, 0, 2], writes=[0, 1, 0, 0], scale=s), whole(2), "lru") for s in (1.0, 2.5))
    assert (two.read, two.dirty + two.evicted) == (2.5 * one.read, 2.5 * (one.dirty + one.evicted))


def test_a_cache_smaller_than_a_granule_holds_one() -> None:
    assert run(made([0, 0, 1, 0]), Cache(64, 16, 1), "lru").read == 3 * UNIT


def test_the_compiled_loop_takes_what_it_is_given() -> None:
    stream = made([0, 1, 0, 1])
    accesses = (stream.granule, stream.block, stream.write)
    assert run_cache(accesses, stream.sizes, stream.side, (1, 2, 1, True)) == (2 * UNIT, 0, 0, 0)
