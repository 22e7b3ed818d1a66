"""From a problem and its geometry to the stream of its accesses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyzer.access.closed import read_bytes
from analyzer.access.problem import Attention, Convolution, Product, Window
from analyzer.access.streams import emit
from analyzer.access.streams.order import MOST_TURNS, TooLargeError, sides, starts, turns
from analyzer.access.streams.stream import LINE_BYTES, Int32, Int64, Operand, Stream, descriptors, placed
from analyzer.access.tiling import Geometry, Raster

MAX_ACCESSES = 800_000
"""Above this a stream is written in larger granules: matrices give the same curve from 128 bytes to a whole tile."""
MATRIX_ROWS = 16
"""Rows of a granule of a matrix that is not too large."""
MOST_ACCESSES = 12_000_000
"""A stream that cannot be cut and is larger still is not written down; no layer of a real model is."""
KEPT_BYTES = 600_000_000
"""Of a problem too large to be written down at all, at least so much is: several times the largest L2."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an emitter needs: operands, blocks, steps of each, shape of a step.

    ``rows`` and ``width`` (bytes) are those of a granule. ``scale``: how many times the plan stands for the kernel.
    """

    emitter: Callable[..., int]
    operands: tuple[Operand, ...]
    tiles: Int64
    steps: Int32
    shape: tuple[Any, ...]
    slots: int
    rows: int
    width: int = LINE_BYTES
    persistent: bool = False
    scale: float = 1.0


def fill(plan: Plan) -> Stream:
    """Return the stream of ``plan``.

    Raises:
        TooLargeError: it would have more than MOST_TURNS turns or MOST_ACCESSES accesses.
    """
    if plan.steps.sum(dtype=np.int64) > MOST_TURNS:
        raise TooLargeError
    order = turns(plan.steps, plan.slots)
    operands = placed(*(cut(operand, plan.rows, plan.width) for operand in plan.operands))
    table = descriptors(operands)
    count = plan.emitter(empty(0), order, plan.tiles, table, plan.shape)
    if count > MOST_ACCESSES:
        raise TooLargeError
    out = empty(count)
    plan.emitter(out, order, plan.tiles, table, plan.shape)
    sizes = np.concatenate([operand.sizes() for operand in operands])
    side = sides(len(plan.steps), plan.slots, persistent=plan.persistent)
    granule, moved, block, write = out
    return Stream(operands, granule, moved, block, write, sizes, side, plan.rows * plan.width, plan.scale)


def empty(count: int) -> tuple[Any, ...]:
    """Return the arrays that an emitter fills: granule, moved, block, write."""
    return tuple(np.empty(count, dtype) for dtype in (np.int32, np.int32, np.int32, np.uint8))


def cut(operand: Operand, rows: int, width: int) -> Operand:
    """Return the operand in granules of about ``rows`` * ``width`` bytes: narrow matrices take more rows for one."""
    own = min(operand.columns * operand.itemsize, operand.granule_width, width)
    return replace(operand, granule_rows=max(rows * width // own, 1), granule_width=min(operand.granule_width, width))


@dataclass(frozen=True, slots=True)
class Grain:
    """How far a granule may grow: from ``rows`` to ``most_rows``, to ``most_width`` bytes; ``first`` names what grows first."""

    rows: int
    most_rows: int
    most_width: int
    first: str = "rows"


def _grain(moved: float, most: int, grain: Grain) -> tuple[int, int]:
    """Return rows and width of a granule so that ``moved`` bytes stay below ``most`` accesses, as far as the tile goes.

    Granules of images grow in channels first: several pixels in one would fetch bytes that nobody asked for.
    """
    rows, width = grain.rows, LINE_BYTES
    for what in (grain.first, "width" if grain.first == "rows" else "rows"):
        while moved / (rows * width) > most:
            if what == "rows" and 2 * rows <= grain.most_rows:
                rows *= 2
            elif what == "width" and 2 * width <= grain.most_width:
                width *= 2
            else:
                break
    return rows, width


def _part(count: int, moved: float, most: int, largest: int, least: float) -> int:
    """Return how many of ``count`` like parts to write down: all, unless even granules of ``largest`` bytes are too many.

    ``moved``: bytes that all move; ``least``: parts that have to stay.
    Approximation: of a very large kernel a part that overflows any cache stands for the rest.
    """
    if moved / largest <= 2 * most:
        return count
    return min(count, max(math.ceil(least), math.ceil(count * 2 * most * largest / moved), 1))


def product(problem: Product, geometry: Geometry, raster: Raster, slots: int, most: int) -> Plan:
    """Return the plan of a product. Blocks of a cluster load what they share once, so a cluster counts as one large block."""
    whole = problem.m
    columns, written = math.ceil(problem.n / geometry.tile_n), problem.n * problem.out_itemsize
    moved = float(problem.batch) * problem.m * (problem.k * columns * problem.itemsize + written)
    # one sweep over the rows repeats itself; several do only where the rows overflow the cache
    each = geometry.tile_m * (problem.k * problem.itemsize + written)
    least = KEPT_BYTES / each if columns > 1 else _WAVES * slots
    largest = min(geometry.tile_m, geometry.tile_n) * LINE_BYTES
    panels = _part(math.ceil(whole / geometry.tile_m), moved, most, largest, least)
    problem = replace(problem, m=min(panels * geometry.tile_m, whole))
    tall, wide = geometry.tile_m * geometry.cluster[0], geometry.tile_n * geometry.cluster[1]
    rows, columns = math.ceil(problem.m / tall), math.ceil(problem.n / wide)
    slots = max(slots // math.prod(geometry.cluster), 1)
    batches, scale = _periods(problem.batch, rows * columns, slots, raster)
    found = starts({"m": rows, "n": columns, "b": batches}, raster)
    tiles = np.stack([found["b"], found["m"] * tall, found["n"] * wide], axis=1)
    operands = (
        Operand("A", batches, problem.m, problem.k, problem.itemsize),
        Operand("B", batches, problem.n, problem.k, problem.itemsize),
        Operand("C", batches, problem.m, problem.n, problem.out_itemsize, granule_width=wide * problem.out_itemsize),
    )
    moved = batches * problem.k * problem.itemsize * (problem.m * columns + problem.n * rows)
    moved += batches * problem.m * problem.n * problem.out_itemsize
    grain, width = _grain(moved, most, Grain(MATRIX_ROWS, _power(min(tall, wide)), _power(problem.k * problem.itemsize)))
    deep = max(geometry.tile_k, width // problem.itemsize)
    steps = math.ceil(problem.k / deep)
    shape = (tall, wide, deep, steps, False)
    return Plan(
        emit.product, operands, tiles, _same(len(tiles), steps), shape, slots, grain, width, geometry.persistent,
        scale * whole / problem.m,
    )  # fmt: skip


def attention(problem: Attention, geometry: Geometry, raster: Raster, slots: int, most: int) -> Plan:
    """Return the plan of fused attention; a causal mask ends a block at its diagonal."""
    queries, keys = geometry.tile_m, geometry.tile_n
    rows = math.ceil(problem.queries / queries)
    if raster.axes[0] == "q":  # heads one after the other, so a few waves of them stand for all
        group = problem.heads if raster.axes[1] == "h" else 1
        wanted = math.ceil(_WAVES * slots / max(rows * group, 1))
        batch = min(problem.batch, max(wanted, 1))
    else:
        each = problem.heads * problem.keys * (problem.width + problem.value_width) * problem.itemsize
        batch = _part(problem.batch, float(problem.batch) * rows * each, most, keys * LINE_BYTES, KEPT_BYTES / each)
    scale, heads = problem.batch / batch, batch * problem.heads
    found = starts({"q": rows, "h": problem.heads, "b": batch}, raster)
    first = found["q"] * queries
    matrix = found["b"] * problem.heads + found["h"]
    theirs = found["b"] * problem.kv_heads + found["h"] * problem.kv_heads // problem.heads
    reach = np.full(len(first), problem.keys, np.int64)
    if problem.causal:
        reach = np.minimum(first + queries + max(problem.keys - problem.queries, 0), problem.keys)
    steps = -(-reach // keys)
    tiles = np.stack([matrix, theirs, first, steps], axis=1)
    kv = batch * problem.kv_heads
    operands = (
        Operand("Q", heads, problem.queries, problem.width, problem.itemsize),
        Operand("K", kv, problem.keys, problem.width, problem.itemsize),
        Operand("V", kv, problem.keys, problem.value_width, problem.itemsize),
        Operand("O", heads, problem.queries, problem.value_width, problem.itemsize),
    )
    moved = float(steps.sum()) * keys * (problem.width + problem.value_width) * problem.itemsize
    grain, width = _grain(moved, most, Grain(MATRIX_ROWS, _power(min(queries, keys)), LINE_BYTES))
    step = steps.astype(np.int32)
    return Plan(emit.attention, operands, tiles, step, (queries, keys), slots, grain, width, geometry.persistent, scale)


def convolution(problem: Convolution, geometry: Geometry, raster: Raster, slots: int, most: int) -> Plan:
    """Return the plan of an implicit-GEMM convolution.

    Approximation: images are taken as channels-last, as implicit-GEMM kernels have them.
    """
    (p, q), (r, s) = problem.out, problem.kernel
    each = problem.groups * problem.channels * problem.height * problem.width * problem.itemsize
    sweeps = math.ceil(problem.filters / geometry.tile_n)
    taken = problem.groups * problem.channels * p * q * problem.itemsize
    moved = float(taken) * problem.images * r * s * sweeps
    # granules of many pixels fetch some that nobody asks for: never where a stride leaves pixels out
    apart = max(problem.stride) > 1
    most_rows = 1 if apart else MATRIX_ROWS if most >= MAX_ACCESSES else _power(geometry.tile_m)
    # one sweep over the images repeats itself; several do only where the images overflow the cache
    least = KEPT_BYTES / each if sweeps > 1 else _WAVES * slots * geometry.tile_m / (p * q)
    images = _part(problem.images, moved, most, most_rows * min(_power(problem.channels * problem.itemsize), 1024), least)
    scale, problem = problem.images / images, replace(problem, images=images)
    pixels = problem.images * p * q
    rows, columns = math.ceil(pixels / geometry.tile_m), math.ceil(problem.filters / geometry.tile_n)
    found = starts({"m": rows, "n": columns, "b": problem.groups}, raster)
    tiles = np.stack([found["b"], found["m"] * geometry.tile_m, found["n"] * geometry.tile_n], axis=1)
    e = problem.itemsize
    operands = (
        Operand("image", problem.images * problem.groups, problem.height * problem.width, problem.channels, e),
        Operand("weight", problem.groups, problem.filters, r * s * problem.channels, e),
        Operand("output", problem.groups, pixels, problem.filters, e, granule_width=geometry.tile_n * e),
    )
    moved = problem.groups * problem.channels * r * s * e * (pixels * columns + problem.filters * rows)
    grain, width = _grain(moved, most, Grain(1, most_rows, _power(problem.channels * e), "width"))
    deep = max(geometry.tile_k, width // e)
    steps = r * s * math.ceil(problem.channels / deep)
    shape = (
        geometry.tile_m, geometry.tile_n, deep, problem.groups, problem.height, problem.width, p, q, r, s,
        *problem.stride, *problem.padding, *problem.dilation,
    )  # fmt: skip
    return Plan(
        emit.convolution, operands, tiles, _same(len(tiles), steps), shape, slots, grain, width, geometry.persistent, scale
    )


def window(problem: Window, geometry: Geometry, slots: int, most: int) -> Plan:
    """Return the plan of a kernel that treats planes by themselves.

    Approximation: L1 serves all re-use inside a block of a depthwise convolution or a pool, and none between blocks.
    """
    (p, q), (r, s) = problem.out, problem.kernel
    outputs = geometry.tile_m * geometry.tile_n
    row = problem.width * problem.itemsize
    moved = read_bytes(problem, geometry)
    # planes have nothing in common: a few waves of blocks stand for all, three accesses to a block at least
    enough = max(most // 3, _WAVES * slots) * outputs // max(p * q, 1)
    planes = min(problem.planes, max(enough, 1))
    scale, problem = problem.planes / planes, replace(problem, planes=planes)
    if problem.planes * p * q // outputs > MOST_TURNS:
        raise TooLargeError
    firsts = np.arange(0, problem.planes * p * q, outputs, dtype=np.int64)
    operands: tuple[Operand, ...] = (
        Operand("image", 1, problem.planes * problem.height, problem.width, problem.itemsize),
        Operand("output", 1, problem.planes * p, q, problem.itemsize + problem.index_bytes),
    )
    if problem.weight_bytes:
        channels = max(problem.weight_bytes // (r * s * problem.itemsize), 1)
        operands += (Operand("weight", 1, channels, r * s, problem.itemsize),)
    shape = (
        outputs, problem.height, problem.width, p, q, r, s, *problem.stride, *problem.padding, *problem.dilation,
        problem.planes,
    )  # fmt: skip
    grain, width = _grain(moved / scale, most, Grain(1, _power(problem.height), _power(row), "width"))
    return Plan(emit.window, operands, firsts, _same(len(firsts), 1), shape, slots, grain, width, scale=scale)


def _power(value: int) -> int:
    """Return the largest power of two that is not above ``value``."""
    return 1 << max(value.bit_length() - 1, 0)


_WAVES = 6
"""Waves of blocks that stand for all of a kernel whose batches follow one another."""


def _periods(batch: int, blocks: int, slots: int, raster: Raster) -> tuple[int, float]:
    """Return how many batches to simulate, and how many times they stand for all."""
    if raster.axes[-1] != "b":
        return batch, 1.0
    few = min(batch, max(math.ceil(_WAVES * slots / blocks), 1))
    return few, batch / few


def _same(blocks: int, steps: int) -> Int32:
    return np.full(blocks, steps, np.int32)


def plan_of(
    problem: Product | Attention | Convolution | Window,
    geometry: Geometry,
    raster: Raster,
    slots: int,
    most: int = MAX_ACCESSES,
) -> Plan:
    """Return the plan of ``problem`` in the order ``raster`` on ``slots`` resident blocks, with about ``most`` accesses."""
    if isinstance(problem, Product):
        return product(problem, geometry, raster, slots, most)
    if isinstance(problem, Attention):
        return attention(problem, geometry, raster, slots, most)
    if isinstance(problem, Convolution):
        return convolution(problem, geometry, raster, slots, most)
    return window(problem, geometry, slots, most)
