"""Tile shape and tile order of a kernel, from its name, grid and problem; or what to assume without a name."""

from __future__ import annotations

import re
from dataclasses import replace

from analyzer.access.geometry.assumed import assumed_geometry, pass_geometry
from analyzer.access.geometry.attention import attention_geometry
from analyzer.access.geometry.launch import Traced, Triple, space_of
from analyzer.access.geometry.named import READ, named_tile
from analyzer.access.geometry.products import named_geometry
from analyzer.access.geometry.refusals import refusal
from analyzer.access.geometry.unnamed import unnamed_geometry
from analyzer.access.geometry.windows import window_geometry
from analyzer.access.problem import Attention, Convolution, Pass, Problem, Product, Window
from analyzer.access.tiling import Geometry

__all__ = ["assumed_geometry", "geometry_of"]

_MATRIX = re.compile(r"gemm|gemv|matmul|conv|fprop|cutlass|xmma|_mm|bmm", re.IGNORECASE)


def geometry_of(
    kernel: str, grid: Triple | None, block: Triple | None, problem: Problem, multiprocessors: int | None
) -> Geometry | str:
    """Return how a kernel cuts and orders its problem, or a clause that says why it is not modelled.

    ``grid`` and ``block`` as Kineto records them; ``multiprocessors`` of the device tells persistent kernels. Any text may be
    the name: it comes from the trace. A name that speaks of a product but holds no tile gets the assumed tile, and says so.
    """
    if isinstance(problem, Pass):
        return pass_geometry()
    launch = Traced(kernel, _positive(grid), _positive(block), multiprocessors)
    if reason := refusal(kernel, launch.grid, problem):
        return reason
    if isinstance(problem, Window):
        return window_geometry(launch, problem)
    if isinstance(problem, Attention):
        return attention_geometry(launch, problem)
    return _matrix_geometry(launch, problem)


def _matrix_geometry(launch: Traced, problem: Product | Convolution) -> Geometry | str:
    space = space_of(problem)
    if min(space.batch, space.m, space.n, space.k) < 1:
        return "empty problem"
    if named := named_tile(launch.kernel):
        return named_geometry(named, space, launch)
    if found := unnamed_geometry(launch, space):
        return found
    if _MATRIX.search(launch.kernel[:READ]):
        assumed = assumed_geometry(problem, f"{8 * problem.itemsize}-bit numbers")
        return replace(assumed, source="no tile in the kernel's name; the usual one assumed")
    return "name of no known family"


def _positive(sizes: Triple | None) -> Triple | None:
    return sizes if sizes is not None and len(sizes) == 3 and min(sizes) >= 1 else None
