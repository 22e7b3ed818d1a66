"""Closed forms against the accesses written down one by one, and both against what the operands hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analyzer.access import closed
from analyzer.access.problem import Attention, Convolution, Pass, Problem, Product, Window
from analyzer.access.reuse import reuse_of
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.stream import Stream
from analyzer.access.tiling import Geometry, Raster

MATRIX_ORDERS = [Raster(axes, panel) for axes in ("mnb", "nmb", "bmn", "nbm") for panel in (0, 2, 3)]
ATTENTION_ORDERS = [Raster(axes) for axes in ("qhb", "bhq", "hbq", "qbh", "hqb")]
CHECKED = settings(max_examples=60, deadline=None)


def tiled(m: int, n: int, k: int, raster: Raster, cluster: tuple[int, int] = (1, 1)) -> Geometry:
    return Geometry(m, n, k, (raster,), "exact", "", cluster=cluster)


def streamed(problem: Problem, geometry: Geometry, slots: int = 5) -> Stream:
    assert not isinstance(problem, Pass)
    return fill(plan_of(problem, geometry, geometry.rasters[0], slots))


def agree(problem: Problem, geometry: Geometry, slots: int = 5) -> Stream:
    """Hold bytes read, bytes written and compulsory reads of the stream against forms and problem."""
    stream = streamed(problem, geometry, slots)
    assert stream.read_bytes == pytest.approx(closed.read_bytes(problem, geometry), rel=1e-12)
    assert stream.write_bytes == pytest.approx(problem.write_bytes, rel=1e-12)
    return stream


sizes = st.integers(1, 150)
steps = st.sampled_from([8, 16, 32, 64, 256])


@CHECKED
@given(
    st.tuples(st.integers(1, 6), sizes, sizes, sizes),
    st.tuples(st.sampled_from([16, 24, 64]), st.sampled_from([8, 40, 128]), steps),
    st.sampled_from(MATRIX_ORDERS),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 40),
)
def test_products(
    problem: tuple[int, int, int, int],
    tile: tuple[int, int, int],
    raster: Raster,
    cluster: tuple[int, int],
    item: int,
    slots: int,
) -> None:
    product = Product(*problem, item, 4)
    stream = agree(product, tiled(*tile, raster, cluster), slots)
    assert reuse_of(stream).cold_bytes == pytest.approx(product.read_bytes, rel=1e-12)


@CHECKED
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 200), st.integers(1, 200)),
    st.sampled_from([(8, 8), (32, 64), (64, 24), (128, 128)]),
    st.tuples(st.sampled_from([16, 40, 64, 128]), st.sampled_from([16, 72, 128])),
    st.sampled_from(ATTENTION_ORDERS),
    st.booleans(),
    st.integers(1, 40),
)
def test_attention(
    sizes: tuple[int, int, int, int, int],
    tile: tuple[int, int],
    widths: tuple[int, int],
    raster: Raster,
    causal: bool,
    slots: int,
) -> None:
    batch, kv_heads, group, queries, keys = sizes
    problem = Attention(batch, kv_heads * group, kv_heads, queries, keys, *widths, 2, causal)
    stream = agree(problem, tiled(*tile, 64, raster), slots)
    cold = reuse_of(stream).cold_bytes
    if causal and keys > queries * 2:  # no query looks past its own diagonal, but the last one sees every key
        assert cold <= problem.read_bytes
    assert cold == pytest.approx(problem.read_bytes, rel=1e-12)


def test_the_causal_form_by_hand() -> None:
    # 4 blocks of 64 queries against 256 keys in steps of 128: keys seen 128, 128, 256, 256 (whole steps)
    problem = Attention(2, 3, 3, 256, 256, 64, 64, 2, True)
    expected = 2 * 2 * 3 * (256 * 64 + (128 + 128 + 256 + 256) * 128)
    assert closed.read_bytes(problem, tiled(64, 128, 64, Raster("qhb"))) == expected


def test_grouped_queries_read_as_much_as_others() -> None:
    many, few = (Attention(2, 8, kv, 256, 256, 64, 64, 2) for kv in (8, 2))
    geometry = tiled(128, 64, 64, Raster("qhb"))
    assert closed.read_bytes(many, geometry) == closed.read_bytes(few, geometry)
    assert few.read_bytes < many.read_bytes


@CHECKED
@given(
    st.tuples(
        st.integers(1, 3), st.integers(1, 2), st.integers(1, 70), st.integers(1, 40), st.integers(1, 19), st.integers(1, 19)
    ),
    st.sampled_from([(1, 1), (3, 3), (7, 7), (2, 3), (1, 5)]),
    st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 1)]),
    st.sampled_from([(0, 0), (1, 1), (3, 3), (0, 2)]),
    st.sampled_from([(1, 1), (2, 2), (1, 3)]),
    st.sampled_from([(8, 8), (64, 32), (50, 24)]),
    st.sampled_from([8, 32, 64]),
    st.sampled_from([Raster("mnb"), Raster("nmb"), Raster("nmb", 2), Raster("bnm")]),
)
def test_convolutions(
    sizes: tuple[int, int, int, int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    tile: tuple[int, int],
    deep: int,
    raster: Raster,
) -> None:
    images, groups, channels, filters, height, width = sizes
    problem = Convolution(images, groups, channels, filters, height, width, kernel, stride, padding, dilation, 2)
    assume(min(problem.out) >= 1)
    stream = agree(problem, tiled(*tile, deep, raster))
    cold = reuse_of(stream).cold_bytes
    assert cold <= problem.read_bytes
    if stride == dilation == (1, 1):  # else some pixels may lie under no tap, and nobody reads those
        assert cold == problem.read_bytes


def test_a_strided_pointwise_convolution_reads_the_pixels_it_needs() -> None:
    problem = Convolution(2, 1, 64, 32, 8, 8, (1, 1), (2, 2), (0, 0), (1, 1), 2)
    stream = agree(problem, tiled(16, 32, 32, Raster("mnb")))
    assert reuse_of(stream).cold_bytes == 2 * 16 * 64 * 2 + 32 * 64 * 2


@pytest.mark.parametrize(
    ("problem", "geometry"),
    [
        (Product(1, 6304, 3072, 768, 2, 2), tiled(128, 128, 64, Raster("nmb", 8))),
        (Product(1, 1000, 1000, 333, 4, 4), tiled(128, 256, 32, Raster("mnb"), (2, 1))),
        (Product(384, 197, 197, 64, 2, 2), tiled(128, 64, 64, Raster("nmb"))),
        (Convolution(4, 1, 64, 64, 56, 56, (3, 3), (1, 1), (1, 1), (1, 1), 2), tiled(128, 64, 32, Raster("mnb"))),
        (Convolution(2, 1, 3, 64, 224, 224, (7, 7), (2, 2), (3, 3), (1, 1), 2), tiled(128, 64, 64, Raster("nmb"))),
        (Convolution(4, 32, 4, 4, 28, 28, (3, 3), (2, 2), (1, 1), (1, 1), 2), tiled(64, 16, 32, Raster("mnb"))),
        (Attention(32, 12, 12, 197, 197, 64, 64, 2), tiled(128, 128, 64, Raster("qhb"))),
        (Attention(4, 32, 8, 777, 777, 128, 128, 2, True), tiled(128, 64, 64, Raster("bhq"))),
    ],
)  # fmt: skip
def test_layers_of_real_size(problem: Problem, geometry: Geometry) -> None:
    agree(problem, geometry, 132)


WINDOW = st.tuples(st.integers(1, 20), st.integers(1, 20))


@CHECKED
@given(
    WINDOW,
    st.sampled_from([(1, 1), (3, 3), (7, 7), (2, 3)]),
    st.sampled_from([(1, 1), (2, 2), (3, 1)]),
    st.sampled_from([(0, 0), (1, 1), (3, 3)]),
    st.sampled_from([(1, 1), (2, 2)]),
    st.sampled_from([1, 7, 64, 100, 256]),
    st.booleans(),
    st.integers(1, 5),
)
def test_windows_over_whole_periods(
    sides: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    outputs: int,
    weighted: bool,
    periods: int,
) -> None:
    """Blocks and planes meet again after some planes; the form adds up that many, so over whole periods it is exact."""
    one = Window(1, *sides, kernel, stride, padding, dilation, 2, 2 * math.prod(kernel) * weighted)
    assume(min(one.out) >= 1)
    plane = math.prod(one.out)
    problem = replace(one, planes=math.lcm(outputs, plane) // plane * periods)
    assume(problem.planes <= 300)
    stream = agree(problem, tiled(outputs, 1, 1, Raster("mnb")))
    if stride == dilation == (1, 1):
        assert reuse_of(stream).cold_bytes == problem.read_bytes


@pytest.mark.parametrize(
    ("problem", "outputs"),
    [
        (Window(32 * 128, 56, 56, (7, 7), (1, 1), (3, 3), (1, 1), 2, 128 * 49 * 2), 256),
        (Window(8 * 512, 14, 14, (7, 7), (1, 1), (3, 3), (1, 1), 2, 512 * 49 * 2), 256),
        (Window(32 * 1024, 7, 7, (7, 7), (1, 1), (3, 3), (1, 1), 2, 1024 * 49 * 2), 256),
        (Window(8 * 96, 112, 112, (3, 3), (2, 2), (1, 1), (1, 1), 2, 96 * 9 * 2), 256),
        (Window(8 * 64, 112, 112, (3, 3), (2, 2), (1, 1), (1, 1), 4), 256),
        (Window(32 * 1000, 7, 7, (7, 7), (7, 7), (0, 0), (1, 1), 2, flop_per_tap=1), 100),
        (Window(1001, 33, 29, (5, 5), (2, 2), (2, 2), (1, 1), 4, index_bytes=8), 100),
    ],
)
def test_windows_of_real_size_stay_within_half_a_percent(problem: Window, outputs: int) -> None:
    """A last period that is not whole counts as a part of a whole one."""
    geometry = tiled(outputs, 1, 1, Raster("mnb"))
    stream = streamed(problem, geometry, 132 * 6)
    assert stream.read_bytes == pytest.approx(closed.read_bytes(problem, geometry), rel=0.005)
    assert stream.write_bytes == problem.write_bytes


def test_what_is_read_beside_the_operands_counts_once() -> None:
    for problem, geometry in (
        (Product(1, 64, 64, 64, 2, 2), tiled(32, 32, 32, Raster("mnb"))),
        (Convolution(1, 1, 8, 8, 6, 6, (3, 3), (1, 1), (1, 1), (1, 1), 2), tiled(32, 32, 32, Raster("mnb"))),
    ):
        more = replace(problem, extra_bytes=1000)
        assert closed.read_bytes(more, geometry) == closed.read_bytes(problem, geometry) + 1000
        assert more.read_bytes == problem.read_bytes + 1000


def test_every_head_reads_the_mask_that_all_share() -> None:
    """DRAM sees the mask once, L2 once for each batch and head."""
    problem, geometry = Attention(5, 2, 2, 64, 48, 64, 64, 2), tiled(32, 32, 32, Raster("qhb"))
    masked = replace(problem, extra_bytes=64 * 48 * 2)
    assert closed.read_bytes(masked, geometry) == closed.read_bytes(problem, geometry) + 5 * 2 * 64 * 48 * 2
    assert masked.read_bytes == problem.read_bytes + 64 * 48 * 2


def test_a_pass_reads_every_byte_once() -> None:
    assert closed.read_bytes(Pass(123, 45), tiled(0, 0, 0, Raster("mnb"))) == 123


def test_the_forms_by_hand() -> None:
    # 2 B x (300 x 64 x 2 column tiles + 200 x 64 x 3 row tiles)
    assert closed.read_bytes(Product(1, 300, 200, 64, 2, 2), tiled(128, 128, 32, Raster("mnb"))) == 2 * 64 * (300 * 2 + 200 * 3)
    # clusters of two row tiles load the columns' operand once for both
    assert closed.read_bytes(Product(1, 300, 200, 64, 2, 2), tiled(128, 128, 32, Raster("mnb"), (2, 1))) == 2 * 64 * (
        300 * 2 + 200 * 2
    )
    # 4 x 4 outputs under 3 x 3 taps with padding 1: 3 + 4 + 3 rows lie inside for the three taps, so 10 x 10 of 12 x 12
    one = Convolution(1, 1, 8, 16, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2)
    assert closed.read_bytes(one, tiled(16, 16, 8, Raster("mnb"))) == 2 * (8 * 100 + 9 * 8 * 16)
    # two rows of a 4 x 4 plane per block: 3 rows of input each, of 4
    pool = Window(1, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2)
    assert closed.read_bytes(pool, tiled(8, 1, 1, Raster("mnb"))) == 2 * 2 * 3 * 4


@pytest.mark.parametrize("problem", [
    Product(2, 64, 32, 16, 2, 2), Attention(1, 2, 2, 64, 48, 64, 64, 2, True),
    Convolution(1, 1, 8, 16, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2), Window(3, 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    Pass(10, 10),
])  # fmt: skip
def test_every_form_can_be_written_out(problem: Problem) -> None:
    assert " B " in closed.formula(problem, tiled(16, 16, 16, Raster("mnb")))
