"""Closed forms: the bytes that a kernel moves between the last-level cache and its multiprocessors.

They hold where L1 keeps nothing across steps (cp.async and TMA go past it). Ancestor: DeLTA (Lym et al., ISPASS'19).
Streams are the independent check: a test holds each form against the accesses written down one by one.
"""

from __future__ import annotations

import math
from itertools import pairwise

from analyzer.access.problem import Attention, Convolution, Pass, Problem, Product, Window
from analyzer.access.tiling import Geometry

MOST_PIECES = 200_000
"""Blocks of a plane that are added up one by one."""


def read_bytes(problem: Problem, geometry: Geometry) -> float:
    """Return the bytes read from the last-level cache by one launch.

    Approximation: L1 keeps nothing from one step of a product, convolution or attention to the next.
    """
    if isinstance(problem, Product):
        return _product(problem, geometry) + problem.extra_bytes
    if isinstance(problem, Attention):
        # a mask that all heads share is read by each of them
        mask = problem.batch * problem.heads * problem.queries * problem.keys * problem.itemsize if problem.extra_bytes else 0
        return _attention(problem, geometry) + mask
    if isinstance(problem, Convolution):
        return _convolution(problem, geometry) + problem.extra_bytes
    if isinstance(problem, Window):
        return _window(problem, geometry) + problem.extra_bytes
    return float(problem.read_bytes)


def _product(p: Product, g: Geometry) -> float:
    """E B [M K ceil(N/bn) / c_n + N K ceil(M/bm) / c_m], c being the blocks of a cluster that load together."""
    rows, columns = math.ceil(p.m / (g.tile_m * g.cluster[0])), math.ceil(p.n / (g.tile_n * g.cluster[1]))
    return float(p.itemsize * p.batch * p.k * (p.m * columns + p.n * rows))


def _attention(p: Attention, g: Geometry) -> float:
    """E B H [N_q D + (D + D_v) * keys read], each block of queries reading all keys, or those up to its diagonal."""
    blocks = math.ceil(p.queries / g.tile_m)
    if p.causal:
        lead = max(p.keys - p.queries, 0)
        reach = (min((i + 1) * g.tile_m + lead, p.keys) for i in range(blocks))
        keys = sum(min(math.ceil(end / g.tile_n) * g.tile_n, p.keys) for end in reach)
    else:
        keys = blocks * p.keys
    return float(p.itemsize * p.batch * p.heads * (p.queries * p.width + keys * (p.width + p.value_width)))


def _convolution(p: Convolution, g: Geometry) -> float:
    """E G [C ceil(K/bn) * sum over taps of the outputs whose tap lies inside + R S C K ceil(N P Q/bm)]."""
    (rows_out, columns_out), (r, s) = p.out, p.kernel
    inside = [
        [_inside(count, stride, tap * dilation - pad, side) for tap in range(taps)]
        for count, taps, stride, dilation, pad, side in (
            (rows_out, r, p.stride[0], p.dilation[0], p.padding[0], p.height),
            (columns_out, s, p.stride[1], p.dilation[1], p.padding[1], p.width),
        )
    ]
    valid = p.images * sum(inside[0]) * sum(inside[1])
    image = p.channels * math.ceil(p.filters / g.tile_n) * valid
    weight = r * s * p.channels * p.filters * math.ceil(p.images * rows_out * columns_out / g.tile_m)
    return float(p.itemsize * p.groups * (image + weight))


def _inside(count: int, stride: int, shift: int, side: int) -> int:
    """Return how many of 0 .. count - 1 have 0 <= i * stride + shift < side."""
    first, last = max(-(shift // stride), 0), min((side - 1 - shift) // stride, count - 1)
    return max(last - first + 1, 0)


def _window(p: Window, g: Geometry) -> float:
    """E * sum over blocks of the input rows that its outputs need, halo included; L1 serves the taps inside a block.

    Blocks take outputs in linear order. Those of one plane repeat with the period at which blocks and planes meet again, so
    only that many are added up.
    """
    (rows, columns), (r, s) = p.out, p.kernel
    outputs, plane = g.tile_m * g.tile_n, rows * columns
    period = min(math.lcm(outputs, plane) // plane, p.planes)
    if plane * period > MOST_PIECES * outputs:  # of a plane that large the edges do not count
        period, plane = 1, outputs * MOST_PIECES
    total = 0
    for at, end in _pieces(outputs, plane, period):
        y0, y1, x0, x1 = at // columns, (end - 1) // columns, at % columns, (end - 1) % columns
        if y1 > y0:
            x0, x1 = 0, columns - 1
        top, low = max(y0 * p.stride[0] - p.padding[0], 0), y1 * p.stride[0] - p.padding[0] + (r - 1) * p.dilation[0]
        left, right = max(x0 * p.stride[1] - p.padding[1], 0), x1 * p.stride[1] - p.padding[1] + (s - 1) * p.dilation[1]
        height, width = min(low, p.height - 1) - top + 1, min(right, p.width - 1) - left + 1
        total += max(height, 0) * max(width, 0) * p.itemsize + (r * s * p.itemsize if p.weight_bytes else 0)
    return total * p.planes / period * (rows * columns / plane)


def _pieces(outputs: int, plane: int, planes: int) -> list[tuple[int, int]]:
    """Return the stretches (first, last + 1) of one plane that blocks of ``outputs`` have, over several planes."""
    cuts = sorted({*range(0, plane * planes, outputs), *range(0, plane * planes + 1, plane)})
    return [(a % plane, a % plane + b - a) for a, b in pairwise(cuts)]


def formula(problem: Problem, geometry: Geometry) -> str:
    """Return the form with this launch's numbers, as text."""
    g = geometry
    if isinstance(problem, Product):
        p = problem
        rows, columns = math.ceil(p.m / (g.tile_m * g.cluster[0])), math.ceil(p.n / (g.tile_n * g.cluster[1]))
        batch = f"{p.batch} x " if p.batch > 1 else ""
        return f"{batch}{p.itemsize} B x (M {p.m} x K {p.k} x {columns} column tiles + N {p.n} x K {p.k} x {rows} row tiles)"
    if isinstance(problem, Attention):
        p2 = problem
        blocks = math.ceil(p2.queries / g.tile_m)
        half = ", the keys up to the diagonal" if p2.causal else ""
        return (
            f"{p2.itemsize} B x {p2.batch * p2.heads} heads x (queries {p2.queries} x {p2.width} + {blocks} query tiles x "
            f"keys {p2.keys} x {p2.width + p2.value_width}{half})"
        )
    if isinstance(problem, Convolution):
        p3 = problem
        (rows_out, columns_out), (r, s) = p3.out, p3.kernel
        pixels = p3.images * rows_out * columns_out
        return (
            f"{p3.itemsize} B x (pixels {pixels} x {r * s} taps x C {p3.channels} x {math.ceil(p3.filters / g.tile_n)} "
            f"filter tiles + {r * s} taps x C {p3.channels} x filters {p3.filters} x {math.ceil(pixels / g.tile_m)} pixel "
            "tiles)"
        )
    if isinstance(problem, Window):
        p4 = problem
        return (
            f"{p4.itemsize} B x {p4.planes} planes x the rows that {g.tile_m * g.tile_n} outputs of {p4.out[0]} x {p4.out[1]} "
            f"need under a {p4.kernel[0]} x {p4.kernel[1]} window"
        )
    return f"{problem.read_bytes + problem.write_bytes} B read or written once" if isinstance(problem, Pass) else ""
