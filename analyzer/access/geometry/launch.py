"""What was launched, and the problem behind it as rows, columns and depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analyzer.access.problem import Convolution, Product
from analyzer.access.tiling import Raster

Triple = tuple[int, int, int]

MAX_GRID_Z = 65535


@dataclass(frozen=True, slots=True)
class Traced:
    """A kernel's name with its grid and block, each None where they were not recorded."""

    kernel: str
    grid: Triple | None
    block: Triple | None
    multiprocessors: int | None

    @property
    def threads(self) -> int:
        """Threads per block; 256 where the block was not recorded."""
        return self.block[0] * self.block[1] * self.block[2] if self.block else 256

    @property
    def blocks(self) -> int:
        """Blocks of the grid; 0 where it was not recorded."""
        return self.grid[0] * self.grid[1] * self.grid[2] if self.grid else 0

    def resident(self, tiles: int) -> bool:
        """Tell whether a grid smaller than its tiles is one that stays on the chip and takes tile after tile.

        At most two such blocks share a multiprocessor; a larger grid that lacks tiles is a part of the problem.
        """
        return 0 < self.blocks < tiles and self.blocks <= 2 * (self.multiprocessors or 256)

    def in_blocks(self) -> Traced:
        """Return the launch with its grid in blocks, of one that counts threads, as HIP modules are launched."""
        if self.grid is None or self.block is None or any(g % b for g, b in zip(self.grid, self.block, strict=True)):
            return self
        x, y, z = (g // b for g, b in zip(self.grid, self.block, strict=True))
        return Traced(self.kernel, (x, y, z), self.block, self.multiprocessors)


@dataclass(frozen=True, slots=True)
class Space:
    """The output of a product as ``batch`` matrices of m rows and n columns, each a sum over k."""

    batch: int
    m: int
    n: int
    k: int
    itemsize: int

    def views(self, depth: int) -> Iterator[tuple[int, int, int]]:
        """Yield (rows, batches, splits) that explain ``depth`` layers of a grid: batches, splits of k, or rows cut up."""
        if self.batch == depth:
            yield self.m, self.batch, 1
        elif depth % self.batch == 0:
            yield self.m, self.batch, depth // self.batch
        elif depth == MAX_GRID_Z < self.batch:
            yield self.m, self.batch, 1
        rows = self.batch * self.m
        if self.batch == 1 and depth > 1 and rows % depth == 0:
            yield rows // depth, depth, 1


def space_of(problem: Product | Convolution) -> Space:
    """Return rows, columns and depth; of a convolution the rows are pixels of all images, the columns filters."""
    if isinstance(problem, Product):
        return Space(problem.batch, problem.m, problem.n, problem.k, problem.itemsize)
    p, q = problem.out
    depth = problem.channels * problem.kernel[0] * problem.kernel[1]
    return Space(problem.groups, problem.images * p * q, problem.filters, depth, problem.itemsize)


def ceil_div(value: int, unit: int) -> int:
    """Return value / unit, rounded up."""
    return -(-value // unit)


def ordered(fastest: str, panel: int, tiles: dict[str, int]) -> Raster:
    """Return the order in which ``fastest`` ("m" or "n") moves in panels, written the shortest way.

    Orders that start the same tiles at the same time are equal afterwards, so a set of them counts what is truly open.
    """
    other = "n" if fastest == "m" else "m"
    if tiles["m"] == 1 or tiles["n"] == 1:
        return Raster("nmb")
    if panel == 1:
        return Raster(other + fastest + "b")
    return Raster(fastest + other + "b", 0 if panel >= tiles[fastest] else panel)


def distinct(rasters: Iterator[Raster]) -> tuple[Raster, ...]:
    """Return the rasters without repetition, in their order."""
    return tuple(dict.fromkeys(rasters))


def plausible(
    tiles: dict[str, int], orders: tuple[tuple[str, int], ...] = (("n", 0), ("m", 0), ("n", 8))
) -> tuple[Raster, ...]:
    """Return the orders to assume where nothing tells: columns fastest, rows fastest, columns in panels of 8."""
    return distinct(ordered(axis, panel, tiles) for axis, panel in orders)
