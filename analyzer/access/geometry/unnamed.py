"""Matrix kernels whose names hold no tile: what their grid tells."""

from __future__ import annotations

import re
from itertools import product

from analyzer.access.geometry.launch import Space, Traced, ceil_div, ordered, plausible
from analyzer.access.geometry.named import MAX_TILE, READ
from analyzer.access.tiling import Geometry

_ROWWISE = re.compile(r"gemv|gemmSN|gemmk1|dot_kernel|reduce_1Block|bmm_small|small_gemm|small_bmm", re.IGNORECASE)
_TRITON = re.compile(r"triton_(?:tem|mm|tpl)|^_?(?:matmul|mm|gemm|bmm|addmm|linear)\w{0,40}$", re.IGNORECASE)
_SIDES = (256, 128, 64, 32, 16)


def unnamed_geometry(launch: Traced, space: Space) -> Geometry | None:
    """Return the geometry of vector products, tall and small ones, and Triton's templates; None for any other name."""
    text = launch.kernel[:READ]
    if _ROWWISE.search(text):
        return _rowwise(launch, space)
    if _TRITON.search(text):
        return _triton(launch, space)
    return None


def _rowwise(launch: Traced, space: Space) -> Geometry:
    """Cut the longer side evenly over the blocks; a block has the whole shorter side and runs over all of k.

    Approximation: layers of the grid that are not batches are taken for slices of k.
    """
    longer, shorter = max(space.m, space.n), min(space.m, space.n)
    layers = launch.grid[2] if launch.grid else 1
    slices = layers // space.batch if layers % space.batch == 0 else 1
    per_batch = max(1, launch.blocks // (space.batch * slices))
    share = min(MAX_TILE, max(1, ceil_div(longer, per_batch)))
    whole = min(MAX_TILE, shorter)
    tile_m, tile_n = (share, whole) if space.m >= space.n else (whole, share)
    counts = {"m": ceil_div(space.m, tile_m), "n": ceil_div(space.n, tile_n)}
    source = f"{longer} outputs over {per_batch} blocks, each over the whole depth" if launch.blocks else "no grid recorded"
    return Geometry(
        tile_m, tile_n, max(1, space.k), (ordered("m" if space.m >= space.n else "n", 0, counts),),
        "inferred" if launch.blocks else "assumed", source, "vector and tall products", split_k=max(1, slices),
    )  # fmt: skip


def _triton(launch: Traced, space: Space) -> Geometry:
    """Take the squarest large tile of powers of two that gives the number of blocks, in groups of 8 row tiles."""
    step = max(16, 64 // space.itemsize)
    sides = sorted(product(_SIDES, _SIDES), key=lambda tile: (abs(tile[0] - tile[1]), -tile[0] * tile[1]))
    for tile_m, tile_n in sides:
        counts = {"m": ceil_div(space.m, tile_m), "n": ceil_div(space.n, tile_n)}
        if launch.blocks == counts["m"] * counts["n"] * space.batch:
            why = f"tile {tile_m}x{tile_n} explains {launch.blocks} blocks, as others may; Triton groups 8 row tiles"
            break
    else:
        tile_m, tile_n, why = 128, 128, "no tile in the name, none that explains the grid; Triton groups 8 row tiles"
        counts = {"m": ceil_div(space.m, tile_m), "n": ceil_div(space.n, tile_n)}
    rasters = plausible(counts, (("m", 8), ("n", 0), ("m", 0)))
    return Geometry(tile_m, tile_n, step, rasters, "assumed", why, "Triton template")
