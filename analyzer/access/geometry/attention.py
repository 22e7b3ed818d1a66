"""The tiles and the order of fused attention: queries per block, keys per step, and what moves fastest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from analyzer.access.geometry.launch import Traced, Triple, ceil_div
from analyzer.access.geometry.named import MAX_TILE, READ
from analyzer.access.problem import Attention
from analyzer.access.tiling import Confidence, Geometry, Raster

KEYS_ASSUMED = 64


@dataclass(frozen=True, slots=True)
class Family:
    """Kernels of one origin. ``tile``: its groups are queries and keys, or there are none and the grid has to tell."""

    name: str
    tile: re.Pattern[str]
    habit: str
    why: str
    resident: bool = False


_FLASH_2 = "FlashAttention-2's grid is (query tiles, batch, heads)"
_FLASH_3 = "FlashAttention-3's scheduler walks the query tiles of one head first"
FAMILIES = (
    Family("FlashAttention-2", re.compile(r"Flash_fwd_kernel_traits<\d{1,4}, ?(\d{1,4}), ?(\d{1,4}),"), "qbh", _FLASH_2),
    Family("FlashAttention-2", re.compile(r"Flash_fwd_kernel_traitsILi\d{1,4}ELi(\d{1,4})ELi(\d{1,4})E"), "qbh", _FLASH_2),
    Family(
        "FlashAttention-3",
        re.compile(
            r"FlashAttnFwdSm\d{2,3}.{0,300}?tuple<(?:cute::)?C<(\d{1,4})>, ?(?:cute::)?C<(\d{1,4})>, ?(?:cute::)?C<\d{2,4}>"
        ),
        "qhb", _FLASH_3, resident=True,
    ),
    Family(
        "FlashInfer", re.compile(r"AttentionKernelTraits<\w{1,5}, ?\d{1,4}, ?\d{1,4}, ?(\d{1,4}), ?(\d{1,4}),"),
        "qhb", "its scheduler walks the query tiles of one head first", resident=True,
    ),
    Family(
        "memory-efficient attention", re.compile(r"fmha_cutlassF_[a-z0-9]{1,8}_(?:not)?aligned_(\d{1,4})x(\d{1,4})"),
        "qhb", "CUTLASS's fused attention has the grid (query tiles, heads, batch)",
    ),
    Family(
        "cuDNN attention", re.compile(r"sdpa_\w{1,80}?_(\d{1,4})x(\d{1,4})x\d{1,4}_\d"),
        "qhb", "cuDNN's engines start the query tiles of one head first", resident=True,
    ),
    Family(
        "TensorRT-LLM attention", re.compile(r"fmhaSm\d{2,3}\w{1,120}?Q(\d{1,4})Kv(\d{1,4})"),
        "qhb", "its scheduler walks the query tiles of one head first", resident=True,
    ),
    Family(
        "Composable Kernel attention", re.compile(r"fmha_fwd_d\d{1,4}_\w{1,80}?_b(\d{1,4})x(\d{1,4})x"),
        "qhb", "its grid has query tiles in front", resident=True,
    ),
    Family("Triton attention", re.compile(r"^_?(?:attn_fwd|attention_fwd|flash_attn|_fwd_kernel|fwd_kernel)()()"), "qhb",
           "Triton's attention kernels mostly have query tiles in front"),
    Family("attention", re.compile(r"(?:flash|fmha|attn|attention|sdpa)()()", re.IGNORECASE), "qhb",
           "most attention kernels start query tiles fastest"),
)  # fmt: skip
"""The families in the order in which a name is tried; the last one takes any name that speaks of attention."""


def attention_geometry(launch: Traced, problem: Attention) -> Geometry | str:
    """Return the geometry of a forward attention kernel, or why there is none.

    ``exact``: tile from the name, and one order explains the grid. ``inferred``: one of both is from the family or from the
    grid. ``assumed``: neither name nor grid tells the tile.
    """
    if min(problem.batch, problem.heads, problem.queries, problem.keys) < 1:
        return "empty problem"
    text = launch.kernel[:READ]
    for family in FAMILIES:
        if hit := family.tile.search(text):
            break
    else:
        return "not an attention kernel that is known"
    queries, keys = hit[1], hit[2]
    if queries and keys:
        tile_q, tile_k = int(queries), int(keys)
        if not (1 <= tile_q <= MAX_TILE and 1 <= tile_k <= MAX_TILE):
            return "tile in the name out of range"
        return _from_name(family, (tile_q, tile_k), launch, problem)
    return _from_grid(family, launch, problem)


def _from_name(family: Family, tile: tuple[int, int], launch: Traced, problem: Attention) -> Geometry:
    if launch.grid is None:
        return _geometry(family, tile, problem, family.habit, "inferred", f"tile from the name; no grid recorded; {family.why}")
    size = "x".join(map(str, launch.grid))
    for counts in _counts(tile[0], problem):
        orders = list(dict.fromkeys(_reduced(axes, counts) for axes in _explaining(counts, launch.grid)))
        habit = _reduced(family.habit, counts)
        if len(orders) == 1:
            return _geometry(family, tile, problem, orders[0], "exact", f"tile from the name; grid {size} gives the order")
        if orders:
            chosen = habit if habit in orders else orders[0]
            return _geometry(family, tile, problem, chosen, "inferred", f"tile from the name; grid {size} fits; {family.why}")
    tiles = ceil_div(problem.queries, tile[0]) * problem.heads * problem.batch
    if family.resident and launch.resident(tiles):
        why = f"tile from the name; {launch.blocks} resident blocks take {tiles} tiles; {family.why}"
        return _geometry(family, tile, problem, family.habit, "inferred", why, persistent=True)
    why = f"tile from the name, but it does not explain grid {size}; {family.why}"
    return _geometry(family, tile, problem, family.habit, "assumed", why)


def _from_grid(family: Family, launch: Traced, problem: Attention) -> Geometry:
    """Take the least power of two of queries that gives the grid; keys per step do not show in it and do not change bytes."""
    size = "x".join(map(str, launch.grid)) if launch.grid else ""
    for tile_q in (16, 32, 64, 128, 256) if launch.grid else ():
        for counts in _counts(tile_q, problem):
            orders = [_reduced(axes, counts) for axes in _explaining(counts, launch.grid or (0, 0, 0))]
            if orders:
                chosen = _reduced(family.habit, counts)
                chosen = chosen if chosen in orders else orders[0]
                why = f"queries per tile from grid {size}; {KEYS_ASSUMED} keys per step assumed"
                return _geometry(family, (tile_q, KEYS_ASSUMED), problem, chosen, "inferred", why)
    why = f"no tile in the name, none that explains the grid; {family.why}"
    return _geometry(family, (128, KEYS_ASSUMED), problem, family.habit, "assumed", why)


def _counts(tile_q: int, problem: Attention) -> Iterator[dict[str, int]]:
    """Yield blocks per axis; the second way packs all query heads that share keys into one tile."""
    yield {"q": ceil_div(problem.queries, tile_q), "h": problem.heads, "b": problem.batch}
    if 0 < problem.kv_heads != problem.heads:
        packed = problem.queries * (problem.heads // problem.kv_heads)
        yield {"q": ceil_div(packed, tile_q), "h": problem.kv_heads, "b": problem.batch}


def _explaining(counts: dict[str, int], grid: Triple) -> Iterator[str]:
    """Yield the orders under which the three counts fill the grid, one per axis or merged."""
    for axes in permutations("qhb"):
        first, second, third = (counts[axis] for axis in axes)
        if grid in ((first, second, third), (first, second * third, 1), (first * second, third, 1)):
            yield "".join(axes)
    if grid == (counts["q"] * counts["h"] * counts["b"], 1, 1):
        yield "qhb"


def _reduced(axes: str, counts: dict[str, int]) -> str:
    """Return the order with axes of one block at its end, so that orders which start the same tiles are equal."""
    moving = [axis for axis in axes if counts[axis] > 1]
    return "".join(moving) + "".join(axis for axis in "qhb" if axis not in moving)


def _geometry(
    family: Family, tile: tuple[int, int], problem: Attention, axes: str, confidence: Confidence, source: str,
    *, persistent: bool = False,
) -> Geometry:  # fmt: skip
    step = max(1, problem.width)
    return Geometry(tile[0], tile[1], step, (Raster(axes),), confidence, source, family.name, persistent=persistent)
