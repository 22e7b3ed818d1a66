"""Streams: orders, turns of blocks, granules, and a convolution against pixels counted one by one."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.access.caches import cache_of, simulated
from analyzer.access.l2 import run
from analyzer.access.problem import Attention, Convolution, Problem, Product, Window
from analyzer.access.reuse import reuse_of
from analyzer.access.streams import build
from analyzer.access.streams.build import KEPT_BYTES, cut, fill, plan_of
from analyzer.access.streams.chain import materialised_stream
from analyzer.access.streams.emit import interleave
from analyzer.access.streams.order import TooLargeError, sides, starts
from analyzer.access.streams.stream import Operand, Stream, joined, placed
from analyzer.access.tiling import Geometry, Raster
from analyzer.hardware.lookup import sheets
from tests.access.test_reuse import made

ORDER = Raster("mnb")


def tiled(m: int, n: int, k: int, raster: Raster = ORDER, *, persistent: bool = False) -> Geometry:
    return Geometry(m, n, k, (raster,), "exact", "", persistent=persistent)


def streamed(problem: Problem, geometry: Geometry, slots: int = 6, most: int = 800_000) -> Stream:
    return fill(plan_of(problem, geometry, geometry.rasters[0], slots, most))  # type: ignore[arg-type]


SMALL: dict[str, tuple[Problem, Geometry]] = {
    "product": (Product(3, 100, 70, 50, 4, 2), tiled(24, 40, 16)),
    "clusters": (Product(1, 300, 500, 130, 2, 2), Geometry(64, 64, 32, (Raster("nmb", 2),), "exact", "", cluster=(2, 1))),
    "attention": (Attention(2, 6, 2, 200, 333, 64, 40, 2, True), tiled(64, 128, 64, Raster("qhb"))),
    "heads fastest": (Attention(2, 6, 6, 200, 100, 64, 64, 2), tiled(64, 32, 64, Raster("bhq"))),
    "convolution": (Convolution(2, 2, 24, 40, 13, 11, (3, 5), (2, 1), (1, 2), (1, 2), 2), tiled(32, 16, 8)),
    "pointwise": (Convolution(2, 1, 96, 40, 9, 9, (1, 1), (2, 2), (0, 0), (1, 1), 2), tiled(32, 32, 32)),
    "depthwise": (Window(48, 17, 13, (7, 7), (2, 2), (3, 3), (1, 1), 2, 24 * 49 * 2), tiled(100, 1, 1)),
    "pooling": (Window(48, 17, 13, (3, 3), (2, 2), (1, 1), (1, 1), 4, 0, 0, 8), tiled(64, 1, 1)),
}


@pytest.fixture(params=[*SMALL, "materialised"])
def stream(request: pytest.FixtureRequest) -> Stream:
    if request.param == "materialised":
        return materialised_stream(Attention(2, 3, 3, 100, 77, 64, 64, 2), tiled(32, 32, 64, Raster("qhb")), 5)
    return streamed(*SMALL[request.param])


def test_every_access_lies_inside(stream: Stream) -> None:
    count = sum(operand.count for operand in stream.operands)
    assert len(stream.sizes) == count
    assert len(stream.granule) == len(stream.moved) == len(stream.block) == len(stream.write) > 0
    assert 0 <= stream.granule.min() <= stream.granule.max() < count
    assert 0 <= stream.block.min() <= stream.block.max() < len(stream.side)
    assert set(np.unique(stream.block)) == set(range(len(stream.side)))
    assert set(np.unique(stream.write)) == {0, 1}
    assert set(np.unique(stream.side)) <= {0, 1}
    assert (stream.moved > 0).all()
    assert (stream.moved <= stream.sizes[stream.granule]).all()
    assert (stream.sizes > 0).all()


def test_operands_fill_the_address_space_once(stream: Stream) -> None:
    base = 0
    for operand in stream.operands:
        assert operand.base == base
        sizes = stream.sizes[base : base + operand.count]
        assert sizes.sum(dtype=np.int64) == operand.bytes
        base += operand.count


def test_what_is_written_is_only_output(stream: Stream) -> None:
    ends = np.cumsum([operand.count for operand in stream.operands])
    owners = np.searchsorted(ends, stream.granule[stream.write == 1], side="right")
    names = {stream.operands[i].name for i in np.unique(owners)}
    assert names <= {"C", "O", "output", "scores", "softmax"}


def test_the_same_twice_is_the_same(stream: Stream) -> None:
    for name, case in SMALL.items():
        again, once = streamed(*case), streamed(*case)
        for field in ("granule", "moved", "block", "write", "sizes", "side"):
            assert (getattr(again, field) == getattr(once, field)).all(), (name, field)


@given(
    st.permutations("mnb").map("".join),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    st.sampled_from([0, 1, 2, 3, 4, 8, 16]),
)
def test_every_order_starts_every_tile_once(axes: str, counts: tuple[int, int, int], panel: int) -> None:
    found = starts(dict(zip("mnb", counts, strict=True)), Raster(axes, panel))
    tiles = list(zip(*(found[axis].tolist() for axis in "mnb"), strict=True))
    assert len(tiles) == math.prod(counts)
    assert set(tiles) == set(itertools.product(*map(range, counts)))


def started(raster: Raster, rows: int = 4, columns: int = 6) -> list[tuple[int, int]]:
    found = starts({"m": rows, "n": columns, "b": 1}, raster)
    return list(zip(found["m"].tolist(), found["n"].tolist(), strict=True))


def test_plain_orders_by_hand() -> None:
    assert started(Raster("mnb"), 2, 3) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert started(Raster("nmb"), 2, 3) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_swizzled_orders_by_hand() -> None:
    # four rows of six tiles, two columns at a time
    assert started(Raster("nmb", 2)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1),
        (0, 2), (0, 3), (1, 2), (1, 3), (2, 2), (2, 3), (3, 2), (3, 3),
        (0, 4), (0, 5), (1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5),
    ]  # fmt: skip
    # four columns, then the two that are left
    assert started(Raster("nmb", 4)) == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3),
        (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (3, 2), (3, 3),
        (0, 4), (0, 5), (1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (5, 7), (1, 9), (9, 1), (3, 16)])
@pytest.mark.parametrize("log", [1, 2, 3])
def test_panels_are_the_swizzle_of_cutlass(rows: int, columns: int, log: int) -> None:
    """Grid (rows * 2^s, ceil(columns / 2^s)), x fastest: row x >> s, column (y << s) + x mod 2^s; what lies outside ends."""
    wide = 1 << log
    grid = itertools.product(range(math.ceil(columns / wide)), range(rows * wide))
    expected = [(x >> log, (y << log) + x % wide) for y, x in grid]
    assert started(Raster("nmb", wide), rows, columns) == [(m, n) for m, n in expected if n < columns]


@settings(deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 5))
def test_every_block_takes_all_its_steps_in_order(steps: list[int], slots: int, seed: int) -> None:
    block, step = interleave(np.array(steps, np.int32), slots, seed)
    assert len(block) == sum(steps)
    taken: dict[int, list[int]] = {i: [] for i in range(len(steps))}
    running: set[int] = set()
    first: list[int] = []
    for b, s in zip(block.tolist(), step.tolist(), strict=True):
        if not taken[b]:
            first.append(b)
            running.add(b)
        taken[b].append(s)
        assert len(running) <= slots
        if len(taken[b]) == steps[b]:
            running.remove(b)
    assert all(taken[i] == list(range(steps[i])) for i in taken)
    # who runs at once draws lots, but who comes first is never more than a wave late
    assert all(abs(b - i) < slots for i, b in enumerate(first))


def test_blocks_side_by_side_advance_together() -> None:
    block, step = interleave(np.full(12, 5, np.int32), 4, 1)
    for turn in range(15):
        now = slice(4 * turn, 4 * turn + 4)
        assert set(step[now].tolist()) == {turn % 5}
        assert set(block[now].tolist()) == set(range(turn // 5 * 4, turn // 5 * 4 + 4))
    assert any(block[4 * t : 4 * t + 4].tolist() != block[:4].tolist() for t in range(1, 5)), "the order is drawn anew"


def test_a_single_place_runs_one_block_after_the_other() -> None:
    block, step = interleave(np.array([2, 3, 1], np.int32), 1, 0)
    assert (block.tolist(), step.tolist()) == ([0, 0, 1, 1, 1, 2], [0, 1, 0, 1, 2, 0])


def test_persistent_blocks_stay_where_they_are() -> None:
    fixed = sides(100, 8, persistent=True)
    assert all((fixed[i::8] == fixed[i]).all() for i in range(8))
    drawn = sides(4000, 8)
    assert 0.45 < drawn.mean() < 0.55
    assert not (drawn[::8] == drawn[0]).all()


BYTES_PER_ELEMENT = 2


def counted(problem: Convolution, geometry: Geometry) -> Counter[tuple[int, int, int, int]]:
    """Elements of the image that each block reads, by (block, image and group, pixel, channel), by the definition alone."""
    (p, q), (r, s) = problem.out, problem.kernel
    pixels = problem.images * p * q
    out: Counter[tuple[int, int, int, int]] = Counter()
    rows, columns = math.ceil(pixels / geometry.tile_m), math.ceil(problem.filters / geometry.tile_n)
    number = 0
    for group in range(problem.groups):
        for _ in range(columns):
            for row in range(rows):
                for at in range(row * geometry.tile_m, min((row + 1) * geometry.tile_m, pixels)):
                    image, y, x = at // (p * q), at // q % p, at % q
                    for i, j in itertools.product(range(r), range(s)):
                        down = y * problem.stride[0] - problem.padding[0] + i * problem.dilation[0]
                        over = x * problem.stride[1] - problem.padding[1] + j * problem.dilation[1]
                        if 0 <= down < problem.height and 0 <= over < problem.width:
                            for c in range(problem.channels):
                                out[number, image * problem.groups + group, down * problem.width + over, c] += 1
                number += 1
    return out


@pytest.mark.parametrize(
    "problem",
    [
        Convolution(2, 1, 3, 5, 5, 4, (3, 3), (1, 1), (1, 1), (1, 1), BYTES_PER_ELEMENT),
        Convolution(1, 2, 70, 5, 6, 7, (3, 2), (2, 1), (1, 0), (1, 2), BYTES_PER_ELEMENT),
        Convolution(2, 1, 8, 3, 9, 9, (1, 1), (2, 2), (0, 0), (1, 1), BYTES_PER_ELEMENT),
        Convolution(1, 1, 4, 3, 3, 3, (3, 3), (3, 3), (3, 3), (1, 1), BYTES_PER_ELEMENT),
        Convolution(1, 1, 2, 2, 11, 8, (2, 5), (1, 3), (0, 4), (2, 2), BYTES_PER_ELEMENT),
    ],
)
@pytest.mark.parametrize("tile", [(6, 2), (16, 8)])
def test_a_convolution_reads_the_pixels_under_its_taps(problem: Convolution, tile: tuple[int, int]) -> None:
    geometry = tiled(*tile, 16)
    stream = streamed(problem, geometry, 3)
    image = stream.operands[0]
    assert image.line_columns == 64
    assert image.granule_rows == max(64 // problem.channels, 1), "one pixel, or as many as fill a line"
    expected: Counter[tuple[int, int]] = Counter()
    for (block, matrix, pixel, channel), times in counted(problem, geometry).items():
        granule = (matrix * image.row_granules + pixel // image.granule_rows) * image.column_granules + channel // 64
        expected[block, granule] += times * BYTES_PER_ELEMENT
    mine = (stream.granule < image.count) & (stream.write == 0)
    found: Counter[tuple[int, int]] = Counter()
    for block, granule, moved in zip(
        stream.block[mine].tolist(), stream.granule[mine].tolist(), stream.moved[mine].tolist(), strict=True
    ):
        found[block, granule] += moved
    assert found == expected


def test_a_product_by_hand() -> None:
    """Two row tiles, one column tile, two steps of 64 elements; one place, so one block after the other."""
    stream = streamed(Product(1, 32, 16, 128, 2, 8), tiled(16, 16, 64), 1)
    # granules: A rows 0-15 are 0 1, rows 16-31 are 2 3; B is 4 5; C is 6 7
    assert [o.count for o in stream.operands] == [4, 2, 2]
    assert stream.granule.tolist() == [0, 4, 1, 5, 6, 2, 4, 3, 5, 7]
    assert stream.write.tolist() == [0, 0, 0, 0, 1] * 2
    assert stream.block.tolist() == [0] * 5 + [1] * 5
    assert stream.moved.tolist() == [2048] * 10


def test_attention_by_hand() -> None:
    """One head, two query tiles, a causal mask: the first sees one piece of the keys, the second both."""
    stream = streamed(Attention(1, 1, 1, 32, 32, 64, 64, 2, True), tiled(16, 16, 64, Raster("qhb")), 1)
    # granules of 16 rows: Q 0 1, K 2 3, V 4 5, O 6 7
    assert stream.granule.tolist() == [0, 2, 4, 6, 1, 2, 4, 3, 5, 7]
    assert stream.write.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_grouped_queries_share_their_keys() -> None:
    stream = streamed(Attention(1, 4, 2, 16, 16, 64, 64, 2), tiled(16, 16, 64, Raster("qhb")), 1)
    keys = stream.operands[1]
    seen = [g - keys.base for g in stream.granule.tolist() if keys.base <= g < keys.base + keys.count]
    assert seen == [0, 0, 1, 1]


def test_a_granule_at_the_edge_is_smaller() -> None:
    operand = cut(Operand("x", 2, 20, 70, 2), 16, 128)
    assert (operand.row_granules, operand.column_granules, operand.count) == (2, 2, 8)
    assert operand.sizes().tolist() == [16 * 128, 16 * 12, 4 * 128, 4 * 12] * 2


def test_narrow_matrices_take_more_rows_for_a_granule() -> None:
    assert cut(Operand("x", 1, 1000, 8, 2), 16, 128).granule_rows == 128
    assert cut(Operand("x", 1, 1000, 64, 2), 16, 128).granule_rows == 16


LARGE: dict[str, tuple[Problem, Geometry]] = {
    "product": (Product(1, 6304, 3072, 768, 2, 2), tiled(128, 128, 64)),
    "batches": (Product(96, 512, 512, 64, 2, 2), tiled(128, 128, 64, Raster("nmb"))),
    "attention": (Attention(8, 12, 12, 1025, 1025, 64, 64, 2), tiled(128, 128, 64, Raster("bhq"))),
    "conv3x3": (Convolution(16, 1, 128, 128, 28, 28, (3, 3), (1, 1), (1, 1), (1, 1), 2), tiled(128, 128, 64)),
    "conv1x1": (Convolution(16, 1, 256, 512, 28, 28, (1, 1), (2, 2), (0, 0), (1, 1), 2), tiled(128, 128, 64)),
    "depthwise": (Window(16 * 256, 28, 28, (7, 7), (1, 1), (3, 3), (1, 1), 2, 256 * 49 * 2), tiled(256, 1, 1)),
}


@pytest.mark.parametrize("name", LARGE)
def test_coarse_granules_move_the_same_bytes(name: str) -> None:
    problem, geometry = LARGE[name]
    fine = streamed(problem, geometry, 132)
    coarse = streamed(problem, geometry, 132, len(fine.granule) // 4)
    assert len(coarse.granule) < len(fine.granule) / 1.3
    assert coarse.read_bytes == pytest.approx(fine.read_bytes, rel=1e-9)
    assert coarse.write_bytes == pytest.approx(fine.write_bytes, rel=1e-9)
    for key in ("v100_sxm2_16gb", "h100_sxm5_80gb"):
        facts = cache_of(sheets()[key])
        assert not isinstance(facts, str)
        read = [run(stream, simulated(facts), "lru").read for stream in (fine, coarse)]
        print(f"\n{name} {key}: {read[0] / 1e6:.1f} MB of {len(fine.granule)}, {read[1] / 1e6:.1f} MB of {len(coarse.granule)}")
        assert read[1] == pytest.approx(read[0], rel=0.15)


def test_a_kernel_too_large_is_written_down_in_part() -> None:
    problem = Product(1, 400_000, 4096, 4096, 2, 2)
    geometry = tiled(128, 128, 64, Raster("nmb"))
    stream = streamed(problem, geometry, 132, 20_000)
    assert stream.scale > 1
    assert len(stream.granule) < 1_000_000
    assert sum(o.bytes for o in stream.operands) >= KEPT_BYTES
    assert stream.write_bytes == pytest.approx(problem.write_bytes, rel=1e-9)


def test_what_would_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, geometry = Product(1, 128, 128, 128, 2, 2), tiled(64, 64, 64)
    assert len(streamed(problem, geometry).granule) > 0
    monkeypatch.setattr(build, "MOST_TURNS", 7)
    with pytest.raises(TooLargeError):
        streamed(problem, geometry)


def test_a_chain_is_three_kernels_over_one_address_space() -> None:
    problem = Attention(2, 3, 3, 128, 128, 64, 64, 2)
    stream = materialised_stream(problem, tiled(64, 64, 64, Raster("qhb")), 5)
    scores = problem.score_bytes
    assert stream.write_bytes == 2 * scores + problem.write_bytes
    # QK^T reads Q and K once per tile of the other side, softmax reads scores, PV reads weights once (64 wide) and V twice
    assert stream.read_bytes == 2 * 2 * 6 * 128 * 64 * 2 + scores + scores + 2 * 6 * 128 * 64 * 2
    assert reuse_of(stream).cold_bytes == problem.read_bytes


def test_joined_streams_keep_their_blocks_apart() -> None:
    one, two = made([0, 1]), made([1, 0, 1])
    both = joined(one, two)
    assert both.granule.tolist() == [0, 1, 1, 0, 1]
    assert both.block.tolist() == [0, 1, 2, 3, 4]
    assert len(both.side) == 5


def test_operands_lie_one_behind_the_other() -> None:
    a, b = placed(cut(Operand("a", 1, 32, 64, 2), 16, 128), cut(Operand("b", 1, 16, 64, 2), 16, 128))
    assert (a.base, b.base) == (0, a.count)
