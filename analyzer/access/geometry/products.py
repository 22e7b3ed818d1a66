"""The tiles and the order of products and convolutions, from the kernel's name, its grid and the problem's sizes."""

from __future__ import annotations

from analyzer.access.geometry.launch import Space, Traced, ordered, plausible
from analyzer.access.geometry.match import Fit, counted, fit_grid, shaped
from analyzer.access.geometry.named import Named
from analyzer.access.tiling import Confidence, Geometry, Raster


def named_geometry(named: Named, space: Space, launch: Traced) -> Geometry:
    """Return the geometry of a kernel whose name holds its tile.

    ``exact``: one order explains the grid. ``inferred``: the family's own among several that do, or the tile alone.
    ``assumed``: the grid cannot follow from this tile, so the launch may be a part of the problem or another algorithm.
    """
    launch = launch.in_blocks() if named.habit.threads else launch
    fit = fit_grid(named, space, launch.grid) if launch.grid else None
    if fit is None:
        return _unfitted(named, space, launch)
    if len(fit.rasters) == 1:
        why = f"tile from the name; {_says(launch)} gives the order"
        return _geometry(named, fit, fit.rasters, "exact" if fit.usual else "inferred", why)
    if fit.habitual is not None:
        why = f"tile from the name; {_says(launch)} fits {len(fit.rasters)} orders; {named.habit.why}"
        return _geometry(named, fit, (fit.habitual,), "inferred", why)
    if fit.rasters:
        why = f"tile from the name; {_says(launch)} fits {len(fit.rasters)} orders"
        return _geometry(named, fit, fit.rasters, "inferred", why)
    why = f"tile from the name; {_says(launch)} is flat: as many blocks as tiles; {named.habit.why}"
    return _geometry(named, fit, _flat_orders(named, fit.counts), "inferred", why)


def _unfitted(named: Named, space: Space, launch: Traced) -> Geometry:
    counts = counted(named, space, named.habit.first)
    fit = Fit(named.habit.first, (), None, 1, counts)
    rasters = _flat_orders(named, counts)
    if launch.grid is None:
        return _geometry(named, fit, rasters, "inferred", f"tile from the name; no grid recorded; {named.habit.why}")
    tiles = counts["m"] * counts["n"] * space.batch
    if named.resident and launch.resident(tiles):
        why = f"tile from the name; {launch.blocks} resident blocks take {tiles} tiles in an order that the grid does not tell"
        return _geometry(named, fit, rasters, "inferred", why, persistent=True)
    if tiles < launch.blocks <= 1.5 * tiles:
        why = (
            f"tile from the name; {_says(launch)} has {launch.blocks} blocks for {tiles} tiles, some idle, and hides the order"
        )
        return _geometry(named, fit, rasters, "inferred", why)
    why = f"tile from the name, but {tiles} tiles do not explain {_says(launch)}"
    return _geometry(named, fit, rasters, "assumed", why)


def _flat_orders(named: Named, counts: dict[str, int]) -> tuple[Raster, ...]:
    if named.panel:
        # Tensile's work-group mapping: row tiles move fastest inside panels.
        return (ordered("m", named.panel, counts),)
    return plausible(counts, named.habit.orders)


def _says(launch: Traced) -> str:
    return "grid " + "x".join(map(str, launch.grid or ()))


def _geometry(
    named: Named, fit: Fit, rasters: tuple[Raster, ...], confidence: Confidence, source: str, *, persistent: bool = False
) -> Geometry:
    tile_m, tile_n = shaped(named, fit.first)
    along, across = named.cluster
    return Geometry(
        tile_m, tile_n, named.step, rasters, confidence, source, named.family, named.stages,
        (across, along) if fit.first == "n" else (along, across), max(1, fit.split_k), persistent,
    )  # fmt: skip
