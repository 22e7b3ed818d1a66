"""Attention with materialised scores: QK^T, softmax and PV as three kernels over one address space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analyzer.access.problem import Attention
from analyzer.access.streams import emit
from analyzer.access.streams.build import MATRIX_ROWS, MAX_ACCESSES, cut, empty
from analyzer.access.streams.order import sides, starts, turns
from analyzer.access.streams.stream import LINE_BYTES, Operand, Stream, descriptors, joined, placed
from analyzer.access.tiling import Geometry, Raster

SCORES_KEPT = 800_000_000
"""Bytes of scores to simulate where there are more: several times the largest L2, so that no cache holds them."""

_ORDER = Raster("nmb")
_ROWS_OF_SOFTMAX = 4


def materialised_stream(problem: Attention, geometry: Geometry, slots: int, most: int = MAX_ACCESSES) -> Stream:
    """Return the stream of the three kernels, the tiles of ``geometry`` serving both products.

    Heads are independent, so of many only so many are simulated that their scores overflow any cache.
    """
    heads = problem.batch * problem.heads
    one = problem.queries * problem.keys * problem.itemsize
    few = min(heads, max(math.ceil(SCORES_KEPT / one), 1))
    rows = MATRIX_ROWS
    while 5 * few * one / (rows * LINE_BYTES) > most and 2 * rows <= geometry.tile_m:
        rows *= 2
    q, k, s, p, v, o = placed(*(cut(operand, rows, LINE_BYTES) for operand in _operands(problem, few)))
    sizes = np.concatenate([operand.sizes() for operand in (q, k, s, p, v, o)])
    whole = (q, k, s, p, v, o)
    tall, wide = geometry.tile_m, geometry.tile_n
    scores = _product((q, k, s), (tall, wide, LINE_BYTES // problem.itemsize), slots)
    softmax = _sweep((s, p), slots)
    values = _product((p, v, o), (tall, wide, LINE_BYTES // problem.itemsize), slots, transposed=True)
    return joined(
        *(
            Stream(whole, granule, moved, block, write, sizes, side, rows * LINE_BYTES, heads / few)
            for (granule, moved, block, write), side in (scores, softmax, values)
        )
    )


def _operands(problem: Attention, heads: int) -> tuple[Operand, ...]:
    e, n, m = problem.itemsize, problem.queries, problem.keys
    return (
        Operand("Q", heads, n, problem.width, e),
        Operand("K", heads, m, problem.width, e),
        Operand("scores", heads, n, m, e),
        Operand("softmax", heads, n, m, e),
        # the emitter walks B by columns of C: V is stored as [keys, width] and read along its rows
        Operand("V", heads, m, problem.value_width, e),
        Operand("O", heads, n, problem.value_width, e),
    )


def _product(used: tuple[Operand, ...], tile: tuple[int, int, int], slots: int, *, transposed: bool = False) -> tuple[Any, Any]:
    a, _, c = used
    tall, wide, deep = tile
    found = starts({"m": math.ceil(a.rows / tall), "n": math.ceil(c.columns / wide), "b": a.batch}, _ORDER)
    tiles = np.stack([found["b"], found["m"] * tall, found["n"] * wide], axis=1)
    steps = math.ceil(a.columns / deep)
    order = turns(np.full(len(tiles), steps, np.int32), slots)
    return _emitted(emit.product, order, tiles, used, (tall, wide, deep, steps, transposed), len(tiles), slots)


def _sweep(used: tuple[Operand, ...], slots: int) -> tuple[Any, Any]:
    s = used[0]
    rows = max(_ROWS_OF_SOFTMAX, s.granule_rows)
    batch, row = np.divmod(np.arange(s.batch * math.ceil(s.rows / rows), dtype=np.int64), math.ceil(s.rows / rows))
    tiles = np.stack([batch, row * rows], axis=1)
    order = turns(np.ones(len(tiles), np.int32), slots)
    return _emitted(emit.sweep, order, tiles, used, (rows,), len(tiles), slots)


def _emitted(
    emitter: Any, order: Any, tiles: Any, used: tuple[Operand, ...], shape: tuple[int, ...], blocks: int, slots: int
) -> tuple[Any, Any]:
    table = descriptors(used)
    out = empty(emitter(empty(0), order, tiles, table, shape))
    emitter(out, order, tiles, table, shape)
    return out, sides(blocks, slots)
