"""Stack distances and the curves made of them: against cases worked out by hand, and against the definition."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.access.problem import Product
from analyzer.access.reuse import COLD, Reuse, reuse_of, stack_distances
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.stream import Operand, Stream
from analyzer.access.tiling import Geometry, Raster

UNIT = 2048


def made(
    granules: Sequence[int],
    *,
    writes: Sequence[int] = (),
    sizes: Sequence[int] = (),
    moved: Sequence[int] = (),
    sides: Sequence[int] = (),
    unit: int = UNIT,
    scale: float = 1.0,
) -> Stream:
    """A stream of accesses one by one, each of a block of its own; whole granules are read unless told."""
    n, count = len(granules), max(granules, default=0) + 1
    size = np.array(sizes or [unit] * count, np.int32)
    return Stream(
        (Operand("x", 1, len(size) * 16, 64, 2, 16, 128),),
        np.array(granules, np.int32),
        np.array(moved, np.int32) if len(moved) else size[list(granules)].astype(np.int32),
        np.arange(n, dtype=np.int32),
        np.array(writes or [0] * n, np.uint8),
        size,
        np.array(sides if len(sides) else [0] * n, np.uint8),
        unit,
        scale,
    )


def distances(granules: Sequence[int]) -> list[int]:
    return stack_distances(np.array(granules, np.int32), max(granules) + 1).tolist()


def by_definition(granules: Sequence[int]) -> list[int]:
    """The number of distinct others since the last access to the same, counted one by one."""
    out = []
    for i, g in enumerate(granules):
        before = [j for j in range(i) if granules[j] == g]
        out.append(len(set(granules[before[-1] + 1 : i])) if before else COLD)
    return out


A, B, C, D, E = range(5)


@pytest.mark.parametrize(
    ("granules", "expected"),
    [
        ([A, B, C, A, B, B, C, A, D, A], [-1, -1, -1, 2, 2, 0, 2, 2, -1, 1]),
        ([A, A, A, A], [-1, 0, 0, 0]),
        ([A, B, C, D, E], [-1] * 5),
        # there, back, there again: the turning points are re-used at once
        (
            [*range(8), *range(7, -1, -1), *range(8)],
            [-1] * 8 + [0, 1, 2, 3, 4, 5, 6, 7] + [0, 1, 2, 3, 4, 5, 6, 7],
        ),
        # round and round: everything else lies in between
        ([*range(6)] * 5, [-1] * 6 + [5] * 24),
        # a line of its own between the passes of another: B C do not count twice
        ([A, B, C, B, C, B, C, A], [-1, -1, -1, 1, 1, 1, 1, 2]),
    ],
)
def test_distances_worked_out_by_hand(granules: list[int], expected: list[int]) -> None:
    assert distances(granules) == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=120))
def test_distances_agree_with_the_definition(granules: list[int]) -> None:
    # positions are renumbered every 2 * count + 2 accesses: with ten granules five times in the longest of these
    assert distances(granules) == by_definition(granules)


def test_a_long_stream_is_renumbered_often_and_stays_exact() -> None:
    granules = np.random.default_rng(3).integers(0, 25, 1500).tolist()
    assert len(granules) > 20 * (2 * 25 + 2)
    assert distances(granules) == by_definition(granules)


def test_granules_that_are_never_touched_do_not_count() -> None:
    assert stack_distances(np.array([7, 3, 7], np.int32), 1000).tolist() == [-1, -1, 1]


def test_full_reuse_needs_one_granule() -> None:
    reuse = reuse_of(made([0] * 40))
    assert reuse.cold_bytes == UNIT
    assert [reuse.misses(c) for c in (0, UNIT - 1, UNIT, 2 * UNIT)] == [40 * UNIT, 40 * UNIT, UNIT, UNIT]
    assert reuse.knee_bytes == UNIT


def test_no_reuse_misses_in_every_cache() -> None:
    reuse = reuse_of(made(range(40)))
    assert {reuse.misses(c) for c in (0, UNIT, 40 * UNIT, 1 << 40)} == {40 * UNIT}
    assert reuse.cold_bytes == 40 * UNIT
    assert math.isnan(reuse.quantile(0.5))


def test_a_working_set_fits_exactly_or_not_at_all() -> None:
    reuse = reuse_of(made([*range(10)] * 4))
    assert reuse.misses(10 * UNIT) == 10 * UNIT
    assert reuse.misses(10 * UNIT - 1) == 40 * UNIT
    assert reuse.misses(9 * UNIT) == 40 * UNIT
    assert reuse.knee_bytes == 10 * UNIT


def test_a_miss_fetches_the_granule_and_a_hit_moves_what_was_asked_for() -> None:
    # two granules of 2048 and 512 bytes; the second read of each asks for less
    reuse = reuse_of(made([0, 1, 0, 1], sizes=[2048, 512], moved=[2048, 512, 100, 50]))
    assert reuse.cold_bytes == 2560
    assert reuse.misses(UNIT) == 2 * 2560
    assert reuse.misses(2 * UNIT) == 2560
    assert reuse.moved_bytes.sum() == 150


def test_writes_do_not_count_as_reads_but_keep_what_they_wrote_near() -> None:
    written = reuse_of(made([0, 1, 2, 0, 1, 2], writes=[1] * 6))
    assert (written.cold_bytes, written.misses(0)) == (0, 0)
    then_read = reuse_of(made([0, 1, 2, 0, 1, 2], writes=[1, 1, 1, 0, 0, 0]))
    assert then_read.cold_bytes == 0  # a cache of three granules reads nothing from DRAM
    assert (then_read.misses(2 * UNIT), then_read.misses(3 * UNIT)) == (3 * UNIT, 0)
    # a write in between pushes out what a cache of one granule held
    between = reuse_of(made([0, 1, 0], writes=[0, 1, 0]))
    assert (between.misses(UNIT), between.misses(2 * UNIT)) == (2 * UNIT, UNIT)


def test_quantiles_are_weighted_by_bytes() -> None:
    # granule 0 is re-used at distance 0 (three times 100 bytes), granule 1 at distance 1 (once 2048)
    reuse = reuse_of(made([0, 0, 0, 0, 1, 0, 1], moved=[2048, 100, 100, 100, 2048, 100, 2048]))
    assert reuse.quantile(0.1) == UNIT
    assert reuse.quantile(0.5) == 2 * UNIT
    assert reuse.quantile(1.0) == 2 * UNIT
    assert reuse.quantile(0.0) <= UNIT


def test_a_part_that_stands_for_the_whole_is_scaled() -> None:
    one, three = reuse_of(made([0, 1, 0])), reuse_of(made([0, 1, 0], scale=3.0))
    assert three.cold_bytes == 3 * one.cold_bytes
    assert three.misses(UNIT) == 3 * one.misses(UNIT)
    assert three.knee_bytes == one.knee_bytes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=90), st.integers(0, 15))
def test_the_curve_is_that_of_a_cache_and_falls(accesses: list[tuple[int, int]], room: int) -> None:
    granules, writes = [a for a, _ in accesses], [w for _, w in accesses]
    sizes = [100 + 7 * g for g in range(max(granules) + 1)]
    reuse = reuse_of(made(granules, writes=writes, sizes=sizes))
    assert (np.diff(reuse.missed_bytes) <= 0).all()
    assert (np.diff(reuse.distance_bytes) > 0).all()
    assert reuse.missed_bytes[-1] == reuse.cold_bytes
    assert reuse.misses(room * UNIT) == missed_by_lists(granules, writes, sizes, room)


def missed_by_lists(granules: Sequence[int], writes: Sequence[int], sizes: Sequence[int], room: int) -> int:
    """DRAM reads of a cache of ``room`` granules: a list with the least recently used first."""
    held: list[int] = []
    missed = 0
    for g, write in zip(granules, writes, strict=True):
        if g in held:
            held.remove(g)
        elif not write:
            missed += sizes[g]
        held.append(g)
        if len(held) > room:
            held.pop(0)
    return missed


def test_an_empty_stream_has_no_reuse() -> None:
    reuse = reuse_of(made([]))
    assert (reuse.cold_bytes, reuse.misses(1e9)) == (0, 0)


GEMM = Product(1, 4096, 4096, 1024, 2, 2)
TILES = Geometry(128, 128, 64, (Raster("mnb"),), "exact", "")


@pytest.fixture(scope="module")
def gemm() -> tuple[Stream, Reuse]:
    stream = fill(plan_of(GEMM, TILES, TILES.rasters[0], 132))
    return stream, reuse_of(stream)


def test_what_no_cache_avoids_is_every_operand_once(gemm: tuple[Stream, Reuse]) -> None:
    stream, reuse = gemm
    assert reuse.cold_bytes == GEMM.read_bytes
    assert reuse.misses(1 << 40) == GEMM.read_bytes
    # without a cache every access fetches, and here no granule is ever touched in part
    assert reuse.misses(0) == stream.read_bytes


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_sampling_stays_within_its_error(gemm: tuple[Stream, Reuse], rate: float) -> None:
    stream, exact = gemm
    sampled = reuse_of(stream, sampling=rate)
    sizes = np.geomspace(64 * 1024, 256 * 2**20, 49)
    here, there = (np.array([reuse.misses(size) for size in sizes]) for reuse in (exact, sampled))
    # a knee is where the curve falls: there a shift of the distances by a little is an error of the bytes by a lot
    around = np.array([exact.misses(size / 1.3) / exact.misses(size * 1.3) for size in sizes])
    on_knee = around > 1.02
    error = np.abs(there / here - 1)
    print(f"\nsampling {rate}: {100 * error[~on_knee].max():.2f} % away from knees, {100 * error[on_knee].max():.2f} % on them")
    assert on_knee.any()
    assert (~on_knee).sum() > 10
    assert error[~on_knee].max() <= 0.02
    # on a knee the curve is right at a capacity that is off by a twentieth and a granule of those left
    for size, found in zip(sizes, there, strict=True):
        off = 0.05 * size + stream.granule_bytes / rate
        assert 0.98 * exact.misses(size + off) <= found <= 1.02 * exact.misses(size - off)
    assert sampled.cold_bytes == pytest.approx(exact.cold_bytes, rel=0.02)
