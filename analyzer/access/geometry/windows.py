"""The tiles of depthwise convolutions and pooling: outputs per block, counted in their linear order."""

from __future__ import annotations

import math
import re

from analyzer.access.geometry.launch import Traced, ceil_div
from analyzer.access.geometry.named import MAX_TILE, READ
from analyzer.access.problem import Window
from analyzer.access.tiling import Confidence, Geometry, Raster

_WINDOW = re.compile(r"conv|pool|depthwise|dw|fprop|window|stencil|xmma|cudnn|reduce", re.IGNORECASE)
LINEAR = (Raster("mnb"),)


def window_geometry(launch: Traced, problem: Window) -> Geometry | str:
    """Return outputs per block of a window kernel, or why it is none.

    ``exact``: one output per thread explains the grid. ``inferred``: the outputs are spread evenly over the blocks.
    """
    if not _WINDOW.search(launch.kernel[:READ]):
        return "not the window's own kernel"
    outputs = max(1, problem.planes * math.prod(problem.out))
    threads = max(1, min(MAX_TILE, launch.threads))
    if not launch.blocks:
        return _geometry(problem, threads, "assumed", f"{threads} outputs per block assumed; no grid recorded")
    if ceil_div(outputs, threads) == launch.blocks:
        return _geometry(problem, threads, "exact", f"one output per thread explains {launch.blocks} blocks of {threads}")
    share = ceil_div(outputs, launch.blocks)
    if share <= threads:
        return _geometry(problem, share, "inferred", f"{outputs} outputs over {launch.blocks} blocks of {threads} threads")
    why = f"{launch.blocks} blocks of {threads} threads take {outputs} outputs in several turns, in linear order"
    return _geometry(problem, threads, "inferred", why, persistent=True)


def _geometry(problem: Window, outputs: int, confidence: Confidence, source: str, *, persistent: bool = False) -> Geometry:
    taps = max(1, math.prod(problem.kernel))
    return Geometry(outputs, 1, taps, LINEAR, confidence, source, "window", persistent=persistent)
