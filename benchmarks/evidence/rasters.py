"""A tiled product in Triton whose order of tiles is an argument. Importing it needs Triton.

The kernel is the usual one of Triton's tutorials: with groups of one row the tiles run row after row, with more they run down
the rows of a group first, so that blocks that run together share more of both inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

TILE_M, TILE_N, TILE_K = 128, 128, 64


@triton.jit
def _product(a, b, c, m, n, k, group: tl.constexpr, tile_m: tl.constexpr, tile_n: tl.constexpr, tile_k: tl.constexpr):  # noqa: PLR0913, PLR0917
    number = tl.program_id(0)
    rows, columns = tl.cdiv(m, tile_m), tl.cdiv(n, tile_n)
    in_group = group * columns
    first = (number // in_group) * group
    high = min(rows - first, group)
    row = first + (number % in_group) % high
    column = (number % in_group) // high
    at_m = row * tile_m + tl.arange(0, tile_m)
    at_n = column * tile_n + tl.arange(0, tile_n)
    at_k = tl.arange(0, tile_k)
    # offsets are within 2**31 for the sizes that are run here
    of_a = a + at_m[:, None] * k + at_k[None, :]
    of_b = b + at_k[:, None] * n + at_n[None, :]
    total = tl.zeros((tile_m, tile_n), dtype=tl.float32)
    for _ in range(0, tl.cdiv(k, tile_k)):
        total = tl.dot(tl.load(of_a), tl.load(of_b), total)
        of_a += tile_k
        of_b += tile_k * n
    tl.store(c + at_m[:, None] * n + at_n[None, :], total.to(tl.bfloat16))


def product(a: Any, b: Any, c: Any, group: int) -> Callable[[], object]:
    """Return what launches ``c = a @ b`` once, tiles in groups of ``group`` rows; sizes are multiples of the tile."""
    (m, k), n = a.shape, b.shape[1]
    if m % TILE_M or n % TILE_N or k % TILE_K:
        raise ValueError("sizes are multiples of the tile")
    grid = ((m // TILE_M) * (n // TILE_N),)
    return lambda: _product[grid](a, b, c, m, n, k, group, TILE_M, TILE_N, TILE_K, num_warps=8, num_stages=3)
