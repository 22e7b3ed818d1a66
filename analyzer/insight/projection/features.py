"""Classes of operators that are calibrated, and what the efficiency of a call depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LINEAR, BMM, CONVOLUTION, POINTWISE, NORMALISATION, SOFTMAX = (
    "linear", "bmm", "convolution", "pointwise", "normalisation", "softmax",
)  # fmt: skip
PRODUCTS = (LINEAR, BMM, CONVOLUTION)
CLASSES = (*PRODUCTS, POINTWISE, NORMALISATION, SOFTMAX)

SIZES = ("batch", "rows", "columns", "depth", "flop", "bytes")
"""Columns of a table of calls. A product is ``batch`` times (rows x depth) by (depth x columns); a convolution has images times
output pixels as rows, output channels as columns and input channels times kernel size as depth. Other classes: ``rows`` of
``columns`` elements, the dimension that is normalised (pointwise: 1); one FLOP per element, as bytes are what counts."""

_TILES = (128.0, 64.0)


@dataclass(frozen=True, slots=True)
class Device:
    """What a projection needs to know of a GPU: peaks of a datasheet, its power limit and its L2."""

    key: str
    name: str
    chip: str
    fp32_tflops: float
    dram_gbps: float
    power_w: float
    l2_bytes: float
    source: str = ""

    @property
    def watts_per_tflop(self) -> float:
        """Return the power limit over the float32 peak: what is left for a clock near the peak's."""
        return self.power_w / self.fp32_tflops


def roofline_us(calls: Floats, device: Device) -> tuple[Floats, Floats]:
    """Return FLOP / peak and bytes / bandwidth of each of ``calls`` (columns SIZES) in microseconds."""
    return calls[:, 4] / device.fp32_tflops / 1e6, calls[:, 5] / device.dram_gbps / 1e3


LAUNCH_US = 3.0
"""What starting and ending a kernel takes on any GPU; that part of a time is not scaled."""


def launch_us(time_us: Floats) -> Floats:
    """Return the part of each time that is not scaled: LAUNCH_US, at most half of it."""
    return np.minimum(LAUNCH_US, time_us / 2)


def compute_share(calls: Floats, device: Device) -> Floats:
    """Return how far each call is on the compute side of the ridge, from 0 to 1."""
    compute, memory = roofline_us(calls, device)
    share: Floats = compute / (compute + memory)
    return share


def features(kind: str, calls: Floats, device: Device) -> Floats:
    """Return what the logarithm of the efficiency of each call is linear in, a row per call.

    Products: the place against the ridge, the logarithms of rows, columns and depth with squares and products, and what tiles
    of 128 and 64 waste at the edges. Other classes: rows and columns, and bytes against the L2.
    """
    logs = np.log2(np.maximum(calls[:, 1:4], 1.0))
    one = np.ones(len(calls))
    if kind not in PRODUCTS:
        in_cache = np.clip(np.log2(calls[:, 5] / device.l2_bytes), -2.0, 1.0)
        size = np.log2(np.maximum(calls[:, 5], 1.0))
        return np.stack([one, in_cache, size, logs[:, 1], logs[:, 1] ** 2], axis=1)
    compute, memory = roofline_us(calls, device)
    ridge = np.clip(np.log(compute / memory), -4.0, 5.0)
    both = np.log1p(np.exp(-np.abs(ridge)))
    m, n, k = logs.T
    edges = [np.log(np.ceil(calls[:, i] / tile) * tile / calls[:, i]) for i in (1, 2) for tile in _TILES]
    columns = [one, both, np.maximum(ridge, 0.0), np.minimum(ridge, 0.0), m, n, k, m * m, n * n, k * k, m * n, m * k, n * k]
    return np.stack([*columns, *edges], axis=1)


def device_feature(calls: Floats, device: Device, power: tuple[float, float]) -> Floats:
    """Return what tells GPUs apart: the logarithm of watts per TFLOP within ``power``, as far as arithmetic limits the call."""
    found: Floats = float(np.clip(np.log(device.watts_per_tflop), *power)) * compute_share(calls, device)
    return found[:, None]
