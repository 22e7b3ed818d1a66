"""The geometry to assume where only the problem's sizes are known."""

from __future__ import annotations

import math

from analyzer.access.geometry.launch import Space, ceil_div, plausible, space_of
from analyzer.access.problem import Attention, Pass, Problem, Product, Window
from analyzer.access.tiling import Geometry, Raster

NO_LIBRARY = "library not named in the trace"
STEP_BYTES = 128
"""A k-step of most tensor-core kernels: one line of 128 bytes, 64 elements of 16 bits, 32 of 32 bits."""

_CPU_BLOCK, _CPU_STEP = 64, 256
_WINDOW_OUTPUTS = 256


def assumed_geometry(problem: Problem, dtype: str, *, cpu: bool = False) -> Geometry:
    """Return the geometry that vendor libraries plausibly choose for these sizes, of confidence ``assumed``.

    Products: 128 x 128, smaller where the matrix is. Convolutions: 128 pixels by up to 128 filters. Attention: the tiles
    of FlashAttention-2's forward by head width. Windows: 256 outputs per block. On a CPU: blocks of 64 x 64 in steps of 256
    as oneDNN and MKL have them, and one row of a window's output.
    """
    if isinstance(problem, Pass):
        return pass_geometry()
    if isinstance(problem, Window):
        outputs = max(1, problem.out[1]) if cpu else _WINDOW_OUTPUTS
        taps = max(1, math.prod(problem.kernel))
        source = f"one row of the output; {NO_LIBRARY}" if cpu else f"{outputs} outputs per block; {NO_LIBRARY}"
        return Geometry(outputs, 1, taps, (Raster("mnb"),), "assumed", source, "window")
    if isinstance(problem, Attention):
        return _attention(problem, cpu)
    return _matrix(space_of(problem), dtype, cpu, "product" if isinstance(problem, Product) else "convolution")


def pass_geometry() -> Geometry:
    """Return the geometry of one pass over the operands: it has no tile, 0 x 0, and no order that matters."""
    return Geometry(0, 0, 0, (Raster("mnb"),), "inferred", "one pass over its operands", "pass")


def _matrix(space: Space, dtype: str, cpu: bool, family: str) -> Geometry:
    if cpu:
        tile_m, tile_n, step = _shrunk(space.m, _CPU_BLOCK), _shrunk(space.n, _CPU_BLOCK), _CPU_STEP
        source = f"blocks of a CPU library, {dtype}; {NO_LIBRARY}"
    else:
        tile_m, tile_n, step = _shrunk(space.m, 128), _shrunk(space.n, 128), STEP_BYTES // max(1, min(8, space.itemsize))
        source = f"the usual tile for {dtype}; {NO_LIBRARY}"
    counts = {"m": ceil_div(max(1, space.m), tile_m), "n": ceil_div(max(1, space.n), tile_n)}
    return Geometry(tile_m, tile_n, step, plausible(counts), "assumed", source, family)


def _attention(problem: Attention, cpu: bool) -> Geometry:
    width = max(1, problem.width)
    if cpu:
        # ATen's flash attention for CPUs splits queries by 32 for short, 64 for middling and 256 for long sequences.
        queries = 256 if problem.queries >= 768 else 64 if problem.queries >= 192 else 32
        return Geometry(queries, 512, width, (Raster("qhb"),), "assumed", f"ATen's blocks on a CPU; {NO_LIBRARY}", "attention")
    queries, keys = (128, 128) if width <= 64 else (128, 64) if width <= 128 else (64, 64)
    source = f"FlashAttention-2's tiles for heads of {width}; {NO_LIBRARY}"
    return Geometry(queries, keys, width, (Raster("qhb"),), "assumed", source, "attention")


def _shrunk(size: int, largest: int) -> int:
    """Return the power of two from 16 to ``largest`` that covers ``size``."""
    return min(largest, max(16, 1 << max(0, size - 1).bit_length()))
