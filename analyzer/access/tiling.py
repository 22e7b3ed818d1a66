"""How a kernel cuts its problem into thread blocks, and in which order they start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Confidence = Literal["exact", "inferred", "assumed"]
"""``exact``: name and grid agree on tile and order. ``inferred``: the tile is known, the order follows from the kernel's source
or from its family. ``assumed``: neither the name nor the grid tells; several plausible ones are used."""


@dataclass(frozen=True, slots=True)
class Raster:
    """The order in which tiles start. ``axes`` has the fastest first.

    Of products and convolutions: ``m`` (row tiles), ``n`` (column tiles), ``b`` (batch, group or split). Of attention: ``q``
    (query tiles), ``h`` (heads), ``b`` (batch). ``panel`` > 0: the fastest axis moves inside panels of that many tiles, then
    the second axis, then the next panel; so CUTLASS's swizzle of 2^s is ``Raster("nmb", 2**s)``.
    """

    axes: str
    panel: int = 0

    @property
    def words(self) -> str:
        """The order in words."""
        names = {"m": "row tiles", "n": "column tiles", "b": "batch", "q": "query tiles", "h": "heads"}
        fastest = names[self.axes[0]]
        return f"{fastest} fastest, in panels of {self.panel}" if self.panel else f"{fastest} fastest"


@dataclass(frozen=True, slots=True)
class Geometry:
    """Tile [tile_m, tile_n] of the output, in steps of ``tile_k`` elements.

    Of attention: ``tile_m`` queries against ``tile_n`` keys per step. ``tile_m`` always counts rows of the row-major output
    (tokens, pixels), ``tile_n`` its columns (output features). ``cluster`` (rows, columns) of blocks share what they load by
    multicast. ``rasters`` are all orders that cannot be told apart. ``source`` says in words where each fact is from.
    """

    tile_m: int
    tile_n: int
    tile_k: int
    rasters: tuple[Raster, ...]
    confidence: Confidence
    source: str
    family: str = ""
    stages: int = 0
    cluster: tuple[int, int] = (1, 1)
    split_k: int = 1
    persistent: bool = False
