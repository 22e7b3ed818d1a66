"""Which orders of tiles explain a launch grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from analyzer.access.geometry.launch import Space, Triple, ceil_div, distinct, ordered
from analyzer.access.geometry.named import Axis, Named
from analyzer.access.tiling import Raster

SWIZZLES = {2: 2, 4: 3, 8: 6, 16: 12}
"""Panel of a swizzled grid, and the least number of tiles for which CUTLASS 2.x chooses it (its ``get_log_tile``)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Every order under which the tile fills the grid; its first number cuts axis ``first``. ``habitual``: the family's own.

    ``rasters`` is empty where the number of blocks agrees but the grid is flat and hides the order. ``usual``: not a swizzle
    that the family is not known for.
    """

    first: Axis
    rasters: tuple[Raster, ...]
    habitual: Raster | None
    split_k: int
    counts: dict[str, int]
    usual: bool = True


def shaped(named: Named, first: Axis) -> tuple[int, int]:
    """Return (tile_m, tile_n) where the name's first number cuts axis ``first``."""
    return (named.second, named.first) if first == "n" else (named.first, named.second)


def counted(named: Named, space: Space, first: Axis, rows: int | None = None) -> dict[str, int]:
    """Return the number of row and column tiles; of ``rows`` rows instead of the problem's where given."""
    tile_m, tile_n = shaped(named, first)
    return {"m": ceil_div(rows or space.m, tile_m), "n": ceil_div(space.n, tile_n)}


def fit_grid(named: Named, space: Space, grid: Triple) -> Fit | None:
    """Return how the grid follows from the tile, or None.

    The family's own assignment of the two numbers is tried before the other one, plain and swizzled grids of the family
    before swizzles that it is not known for, and a flat grid last.
    """
    own: Axis = named.habit.first
    assignments: tuple[Axis, Axis] = (own, "m" if own == "n" else "n")
    if named.habit.quads:
        return _quads(named, space, grid, own)
    # A flat grid is no sign of a swizzle that the family is not known for.
    for swizzled in (named.habit.swizzled, grid[1] > 1):
        for first in assignments:
            if found := _axes(named, space, grid, first, swizzled):
                return found if swizzled == named.habit.swizzled else replace(found, usual=False)
    for first in assignments:
        if found := _flat(named, space, grid, first):
            return found
    return None


def _axes(named: Named, space: Space, grid: Triple, first: Axis, swizzled: bool) -> Fit | None:
    for rows, batches, split in space.views(grid[2]):
        tiles = counted(named, space, first, rows)
        cut = batches != space.batch
        found = distinct(
            _whole(ordered(axis, panel, tiles), tiles, cut) for axis, panel in _explaining(tiles, grid, swizzled, named.cluster)
        )
        if found:
            habit = _habitual(named, tiles)
            own = None if habit is None else _whole(habit, tiles, cut)
            whole = {"m": tiles["m"] * (batches // space.batch), "n": tiles["n"]}
            return Fit(first, found, own if own in found else None, split, whole)
    return None


def _explaining(tiles: dict[str, int], grid: Triple, swizzled: bool, cluster: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """Yield (fastest axis, panel) that give the grid's x and y. A grid may be padded to whole clusters."""
    for axis, other in (("m", "n"), ("n", "m")):
        for wide, high in {(1, 1), cluster, cluster[::-1]}:
            if grid[:2] == (_up(tiles[axis], wide), _up(tiles[other], high)):
                yield axis, 0
        for panel, least in SWIZZLES.items() if swizzled else ():
            if tiles[axis] >= least and grid[:2] == (tiles[other] * panel, ceil_div(tiles[axis], panel)):
                yield axis, panel


def _up(value: int, unit: int) -> int:
    return ceil_div(value, unit) * unit


def _whole(raster: Raster, tiles: dict[str, int], cut: bool) -> Raster:
    """Return the order over all rows where the grid's layers hold a part of the rows each: they follow one another."""
    return Raster("mnb", tiles["m"]) if cut and raster.axes[0] == "m" and not raster.panel else raster


def _habitual(named: Named, tiles: dict[str, int]) -> Raster | None:
    if named.habit.fastest is None:
        return None
    if not named.habit.swizzled:
        return ordered(named.habit.fastest, 0, tiles)
    chosen = max((panel for panel, least in SWIZZLES.items() if panel <= 8 and tiles["n"] >= least), default=1)
    return ordered("n", chosen, tiles)


def _quads(named: Named, space: Space, grid: Triple, first: Axis) -> Fit | None:
    """Fit cuBLAS's kernels for Pascal: x counts the tiles of a group (rows, columns), y groups of columns, z groups of rows.

    Groups have two rows of tiles, or all of them where their number is odd.
    Approximation: the order inside a group of several rows and columns is taken for rows fastest.
    """
    tiles = counted(named, space, first)
    for group_m in (1, 2, 4, tiles["m"]):
        for group_n in (1, 2, 4):
            layers = (group_m * group_n, ceil_div(tiles["n"], group_n), ceil_div(tiles["m"], group_m) * space.batch)
            if grid == layers:
                raster = ordered("m", group_m, tiles)
                return Fit(first, (raster,), raster, 1, tiles)
    return None


def _flat(named: Named, space: Space, grid: Triple, first: Axis) -> Fit | None:
    """Fit the number of blocks alone: all tiles in a row, perhaps of whole clusters, perhaps with k split over layers."""
    tiles = counted(named, space, first)
    along, across = named.cluster if first == "m" else named.cluster[::-1]
    whole = _up(tiles["m"], along) * _up(tiles["n"], across)
    blocks = grid[0] * grid[1] * grid[2]
    for total in (tiles["m"] * tiles["n"] * space.batch, whole * space.batch):
        # A whole number of slices above one shows only where the name or a layer of the grid says that k is split.
        split = blocks // total
        if blocks % total == 0 and split <= max(grid[2], named.most_slices):
            single = min(tiles.values()) == 1
            return Fit(first, (ordered("n", 0, tiles),) if single else (), None, split, tiles)
    return None
