"""What the name of a matrix kernel tells about its tile, family by family.

Names come from the trace and may be anything: only their first part is read, by expressions without nested repetition, and
numbers outside what hardware allows are not taken for a tile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

READ = 4096
MAX_TILE = 4096

Axis = Literal["m", "n"]


@dataclass(frozen=True, slots=True)
class Habit:
    """How a family uses its tile: the axis that the name's first number cuts, and the axis that starts fastest.

    ``fastest`` is None where the family does not tell. ``swizzled``: CUTLASS 2.x, columns in panels of up to 8. ``quads``:
    the grid's x counts tiles of a 2x2 or 2x1 group. ``orders``: what to assume where the grid is flat, as (axis, panel).
    """

    first: Axis
    fastest: Axis | None
    why: str
    swizzled: bool = False
    quads: bool = False
    threads: bool = False
    orders: tuple[tuple[str, int], ...] = (("n", 0), ("m", 0), ("n", 8))


CUBLAS = Habit("n", "n", "cuBLAS is column-major and starts tiles of output features fastest")
CUBLAS_PASCAL = Habit("n", None, "cuBLAS is column-major; groups of two row tiles", quads=True)
CUTLASS = Habit("n", "n", "cuBLAS is column-major; CUTLASS 2.x starts column tiles in panels", swizzled=True)
CUTLASS_CONV = Habit("m", "n", "CUTLASS tiles pixels by filters and starts filter tiles in panels", swizzled=True)
XMMA = Habit("m", "m", "xmma tiles rows by columns and starts row tiles fastest")
XMMA_CONV = Habit("m", "n", "xmma tiles pixels by filters and starts filter tiles fastest")
CUDNN = Habit("m", "m", "cuDNN tiles pixels by filters and starts pixel tiles fastest")
CUTLASS_3 = Habit("n", None, "cuBLAS is column-major; the walk is set at run time")
NVJET = Habit("n", None, "cuBLAS is column-major; the walk is not public", orders=(("n", 0), ("m", 0), ("n", 8), ("m", 8)))
TENSILE = Habit("n", None, "Tensile is column-major; its work-group mapping is set at run time", threads=True)
MIOPEN = Habit("m", None, "MIOpen tiles pixels by filters; the walk is not in the name", threads=True)


@dataclass(frozen=True, slots=True)
class Named:
    """A tile as it is written in a name: ``first`` x ``second``, which the habit or the grid turns into rows and columns.

    ``panel`` where the name tells it; ``most_slices``: as many slices of k as a flat grid may hide; ``resident``: the family
    has blocks that take tile after tile.
    """

    family: str
    first: int
    second: int
    step: int
    habit: Habit
    stages: int = 0
    cluster: tuple[int, int] = (1, 1)
    most_slices: int = 1
    panel: int = 0
    resident: bool = False


_NVJET = re.compile(r"nvjet_(?:[a-z0-9]{1,8}_){1,4}?(\d{1,4})x(\d{1,4})_(\d{1,4})x(\d{1,3})_(\d{1,2})x(\d{1,2})_")
_SPLIT = re.compile(r"splitk|_GSU(?:A|[2-9]|1\d)", re.IGNORECASE)
_MOST_SLICES = 64
_CUTLASS_3 = re.compile(r"cutlass3x_[a-z0-9_]{1,160}?_(\d{1,4})x(\d{1,4})x(\d{1,4})_(\d{1,2})x(\d{1,2})x\d")
_CUTE = re.compile(r"tuple<(?:cute::)?C<(\d{1,4})>, ?(?:cute::)?C<(\d{1,4})>, ?(?:cute::)?C<(\d{1,4})> ?>")
_CUTE_STAGES = re.compile(r"WarpSpecialized\w{0,40}<(\d{1,2})")
_CUTLASS_2 = re.compile(
    r"cutlass(?:_\d{2,3})?_(?:wmma_)?(?:tensorop|simt)_[a-z0-9_]{0,80}?_(\d{1,4})x(\d{1,4})_(\d{1,4})x(\d{1,2})_"
)
_XMMA = re.compile(r"xmma_[a-z0-9_]{1,160}?tilesize(\d{1,4})x(\d{1,4})x(\d{1,4})(?:_|$)", re.IGNORECASE)
_XMMA_CLUSTER = re.compile(r"_cgasize(\d{1,2})x(\d{1,2})", re.IGNORECASE)
_XMMA_STAGES = re.compile(r"_stage(\d{1,2})")
_CUDNN = re.compile(r"(?:[sdhi]|[hs]\d{3,5})cudnn_(?:[a-z0-9]{2,8}_)?(\d{1,4})x(\d{1,4})_")
_CONVOLVE = re.compile(r"convolve_sgemm<float, ?(?:float, ?|int, ?)?\d{2,4}, ?(\d{1,2}), ?(\d{1,2}), ?(\d{1,2}),")
_CUBLAS = re.compile(r"(?:^|[ _])[sdhi]\d{0,6}gemm_(?:[a-z0-9]{2,8}_)?(\d{1,4})x(\d{1,4})(?:x(\d{1,4}))?_")
_STAGES = re.compile(r"_stages_(\d{1,4})x(\d{1,2})")
_TENSILE = re.compile(r"^Cijk_\w{1,400}?_MT(\d{1,4})x(\d{1,4})x(\d{1,4})(?:_|$)")
_TENSILE_PANEL = re.compile(r"_WGM(\d{1,3})(?:_|$)")
_MIOPEN = re.compile(r"igemm_fwd_\w{1,80}?_bt(\d{1,4})x(\d{1,4})x(\d{1,4})_")


def named_tile(kernel: str) -> Named | None:
    """Return what the name tells, or None where it holds no tile of a family that is known."""
    text = kernel[:READ]
    for decode in FAMILIES:
        found = decode(text)
        if found is not None and all(1 <= side <= MAX_TILE for side in (found.first, found.second, found.step)):
            return found
    return None


def _nvjet(text: str) -> Named | None:
    if not (hit := _NVJET.search(text)):
        return None
    first, second, step, stages, along, across = map(int, hit.groups())
    cluster = (max(1, along), max(1, across))
    return Named("nvjet", first, second, step, NVJET, stages, cluster, _slices(text), resident=True)


def _cutlass_3(text: str) -> Named | None:
    if hit := _CUTLASS_3.search(text):
        first, second, step, along, across = map(int, hit.groups())
        return Named("CUTLASS 3", first, second, step, CUTLASS_3, 0, (max(1, along), max(1, across)), resident=True)
    if "cutlass" not in text or "gemm" not in text.lower():
        return None
    # The first tuple of the main loop is the cluster, the second the tile.
    tuples = [tuple(map(int, found.groups())) for found in _CUTE.finditer(text)][:2]
    if len(tuples) < 2:
        return None
    stages = _CUTE_STAGES.search(text)
    (along, across, _), (first, second, step) = tuples
    cluster = (max(1, along), max(1, across))
    return Named("CUTLASS 3", first, second, step, CUTLASS_3, int(stages[1]) if stages else 0, cluster, resident=True)


def _cutlass_2(text: str) -> Named | None:
    if not (hit := _CUTLASS_2.search(text)):
        return None
    first, second, step, stages = map(int, hit.groups())
    if "fprop" in text:
        return Named("CUTLASS 2 convolution", first, second, step, CUTLASS_CONV, stages)
    return Named("CUTLASS 2", first, second, step, CUTLASS, stages)


def _xmma(text: str) -> Named | None:
    if not (hit := _XMMA.search(text)):
        return None
    first, second, step = map(int, hit.groups())
    cluster, stages = _XMMA_CLUSTER.search(text), _XMMA_STAGES.search(text)
    convolution = "fprop" in text
    return Named(
        "xmma convolution" if convolution else "xmma", first, second, step, XMMA_CONV if convolution else XMMA,
        int(stages[1]) if stages else 0, (max(1, int(cluster[1])), max(1, int(cluster[2]))) if cluster else (1, 1),
        resident="warpgroup" in text or cluster is not None,
    )  # fmt: skip


def _cudnn(text: str) -> Named | None:
    if not (hit := _CUDNN.search(text)):
        return None
    # The step is not in the name: 8 elements on CUDA cores, 32 on tensor cores.
    return Named("cuDNN implicit GEMM", int(hit[1]), int(hit[2]), 8 if "scudnn" in text else 32, CUDNN)


def _convolve(text: str) -> Named | None:
    if not (hit := _CONVOLVE.search(text)) or max(map(int, hit.groups())) > 12:
        return None
    pixels, filters, step = (1 << int(number) for number in hit.groups())
    return Named("cuDNN convolve_sgemm", pixels, filters, step, CUDNN)


def _cublas(text: str) -> Named | None:
    if not (hit := _CUBLAS.search(text)):
        return None
    stages = _STAGES.search(text)
    # Without the step in the name: 8 on CUDA cores, 32 on tensor cores, whose names count their instruction's shape.
    step = int(hit[3] or (stages[1] if stages else 32 if re.search(r"[sh]\d{3,5}gemm", hit[0]) else 8))
    quads = hit[3] is not None
    family = "cuBLAS (Pascal)" if quads else "cuBLAS"
    return Named(family, int(hit[1]), int(hit[2]), step, CUBLAS_PASCAL if quads else CUBLAS, int(stages[2]) if stages else 0)


def _tensile(text: str) -> Named | None:
    if not (hit := _TENSILE.search(text)):
        return None
    panel = _TENSILE_PANEL.search(text)
    return Named(
        "Tensile", int(hit[1]), int(hit[2]), int(hit[3]), TENSILE, most_slices=_slices(text),
        panel=int(panel[1]) if panel else 0, resident=True,
    )  # fmt: skip


def _slices(text: str) -> int:
    """Return how many slices of k may hide in a flat grid: one, unless the name says that there may be more."""
    return _MOST_SLICES if _SPLIT.search(text) else 1


def _miopen(text: str) -> Named | None:
    hit = _MIOPEN.search(text)
    return Named("MIOpen implicit GEMM", int(hit[1]), int(hit[2]), int(hit[3]), MIOPEN) if hit else None


FAMILIES: tuple[Callable[[str], Named | None], ...] = (
    _nvjet, _cutlass_2, _cutlass_3, _xmma, _convolve, _cudnn, _cublas, _tensile, _miopen,
)  # fmt: skip
"""The families in the order in which a name is tried."""
