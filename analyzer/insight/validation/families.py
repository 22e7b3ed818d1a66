"""Classes of kernels as the accuracy targets of the access model name them, and those targets."""

from __future__ import annotations

import math

ELEMENTWISE = "elementwise, norm, softmax, copy"
GEMM = "GEMM, known order of tiles"
GEMM_OPEN = "GEMM, unknown order of tiles"
FUSED = "fused attention"
MATERIALISED = "materialised attention"
CONVOLUTION = "convolution"
WINDOWED = "depthwise, pooling"
UNMODELLED = "not modelled"
EVERY = "all classes"
FAMILIES = (ELEMENTWISE, GEMM, GEMM_OPEN, FUSED, MATERIALISED, CONVOLUTION, WINDOWED, UNMODELLED)
"""In the order of the tables."""

MEANINGS = {
    ELEMENTWISE: "kernels that read and write every element once, in any order",
    GEMM: "matrix products whose order of tiles follows from the kernel's name and grid",
    GEMM_OPEN: "matrix products of which several orders of tiles are plausible; their prediction is a band",
    FUSED: "attention in one kernel, which never writes the scores",
    MATERIALISED: "the two products of an attention that writes its scores to memory",
    CONVOLUTION: "convolutions as implicit matrix products",
    WINDOWED: "depthwise convolutions and pooling",
    UNMODELLED: "kernels without an access model: Winograd, FFT, sums split over blocks, unknown names",
}

COLD, LOOP, WARM, WARM_AS_COLD, UNTOLD = "cold", "warm loop", "warm", "warm, cold figure", "caches not told"
MODES = (COLD, LOOP, WARM, WARM_AS_COLD, UNTOLD)
MODE_MEANINGS = {
    COLD: "the counter tool emptied the caches before each kernel; this is the case that the model is made for",
    LOOP: "the same kernel ran again and again; the model runs it four times and takes the last",
    WARM: "caches as the kernel before left them; the model takes it that what that kernel wrote is found, as far as it fits",
    WARM_AS_COLD: "the same counts held against the figure for an empty cache, which is an upper end",
    UNTOLD: "the file does not say; the figure is that of an empty cache, which is what the tool does unless told otherwise",
}

_NONE = math.nan
_L2 = {
    ELEMENTWISE: 3.0, GEMM: 3.0, GEMM_OPEN: 3.0, FUSED: 3.0, MATERIALISED: 5.0, CONVOLUTION: 5.0, WINDOWED: 15.0,
}  # fmt: skip
_DRAM_COLD = {
    ELEMENTWISE: (8.0, 15.0), GEMM: (12.0, 35.0), FUSED: (10.0, 25.0), MATERIALISED: (8.0, 15.0), CONVOLUTION: (15.0, 40.0),
    WINDOWED: (15.0, 40.0), EVERY: (15.0, 40.0),
}  # fmt: skip
_DRAM_WARM = {
    ELEMENTWISE: 20.0, GEMM: 20.0, FUSED: 15.0, MATERIALISED: 15.0, CONVOLUTION: 25.0, WINDOWED: 25.0, EVERY: 20.0,
}  # fmt: skip
_WRITES = 25.0
INSIDE_TARGET = 85.0
"""Percent of the bands of products with an unknown order that have to hold the counted figure."""
READS = ("dram_read_bytes", "dram_bytes")


def target(family: str, quantity: str, mode: str) -> tuple[float, float] | None:
    """Return (median, 90th percentile) of the absolute error in % that the access model aims at, None without a target.

    NaN stands for an end that is left open. Totals of reads and writes of cold kernels count with their reads.
    """
    if quantity == "l2_sm_bytes" and family in _L2:
        return _L2[family], _NONE
    if quantity == "dram_write_bytes" and family not in (GEMM_OPEN, UNMODELLED):
        return _WRITES, _NONE
    if quantity in READS and mode == COLD:
        return _DRAM_COLD.get(family)
    if quantity == "dram_bytes" and mode == WARM and family in _DRAM_WARM:
        return _DRAM_WARM[family], _NONE
    return None


def inside_target(family: str, quantity: str, mode: str) -> float | None:
    """Return the share of bands in % that has to hold the counted figure, None without a target."""
    return INSIDE_TARGET if family == GEMM_OPEN and quantity in READS and mode in (COLD, LOOP) else None


_OF_PATTERN = {
    "linear": GEMM, "product_backward": GEMM, "conv3x3": CONVOLUTION, "conv1x1": CONVOLUTION, "conv": CONVOLUTION,
    "patch_embed": CONVOLUTION, "depthwise": WINDOWED, "pooling": WINDOWED, "attention_fused": FUSED, "scores": MATERIALISED,
    "norm": ELEMENTWISE, "softmax": ELEMENTWISE, "pointwise": ELEMENTWISE, "layout": ELEMENTWISE, "other": ELEMENTWISE,
}  # fmt: skip


def family_of(pattern: str, orders: float, confidence: str) -> str:
    """Return the class of a kernel from its access pattern, its plausible orders of tiles and what is known of its geometry."""
    found = _OF_PATTERN.get(pattern, UNMODELLED)
    return GEMM_OPEN if found == GEMM and (orders > 1 or confidence == "assumed") else found
