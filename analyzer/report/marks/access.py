"""What the figures of section "access" show: representative patterns, their miss-ratio curves, lines over image sizes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.format import size
from analyzer.schema.access import KNEE_RATIO, AccessResult, CacheFacts, Curve, PatternAccess, SizePoint

REPRESENTED = ("conv3x3", "depthwise", "linear", "attention_fused", "attention_materialised")
NAMES = {
    "conv3x3": "3x3 convolution", "conv1x1": "1x1 convolution", "conv": "convolution", "depthwise": "depthwise convolution",
    "linear": "linear layer", "patch_embed": "patch embedding", "attention_fused": "fused attention",
    "attention_materialised": "attention, scores written", "scores": "product of activations",
    "product_backward": "product (backward)",
}  # fmt: skip
"""Patterns in words; the others are words already."""
KINDS = {
    "conv3x3": "convolution", "conv1x1": "convolution", "conv": "convolution", "patch_embed": "convolution",
    "depthwise": "depthwise", "linear": "matmul", "scores": "matmul", "product_backward": "matmul",
    "attention_fused": "attention", "attention_materialised": "attention", "norm": "normalisation",
    "softmax": "normalisation", "pointwise": "pointwise", "pooling": "pooling", "layout": "layout",
}  # fmt: skip
"""The kind whose colour a pattern has, so that the same work has the same colour all over the page."""
SMALLEST, LARGEST = 64 * 1024, 2**30
MAX_POINTS = 160
VARIANTS = {"fused": "fused attention", "materialised": "scores written"}


def name(pattern: str) -> str:
    """Return a pattern in words."""
    return NAMES.get(pattern, pattern.replace("_", " "))


def short_size(value: float) -> str:
    """Return bytes as text without decimals that are zero: ``64 KiB``."""
    return re.sub(r"\.0+(?= )", "", size(value))


def representatives(results: tuple[AccessResult, ...]) -> tuple[PatternAccess, ...]:
    """Return one case for each of five patterns: that with most time, without times that with most bytes.

    A case without a curve, or one that did not run, stands in only where there is no other. What is worked out for more devices
    comes first, because tables compare devices.
    """
    found = []
    for pattern in REPRESENTED:
        cases = [p for result in results for p in result.patterns if p.pattern == pattern]
        if cases:
            found.append(max(cases, key=_weight))
    return tuple(found)


def _weight(p: PatternAccess) -> tuple[bool, bool, int, float, float]:
    return p.curve is not None, p.in_parts or not p.hypothetical, len(p.traffic), p.time_us, p.calls * p.compulsory_bytes


def devices(results: tuple[AccessResult, ...]) -> tuple[CacheFacts, ...]:
    """Return the devices of all results, each once; the first run's own comes first."""
    return tuple({device.key: device for result in results for device in result.devices}.values())


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One miss-ratio curve. ``ratio``: DRAM reads over compulsory reads at each capacity; ``knee``: (capacity, ratio)."""

    pattern: str
    label: str
    capacity_bytes: Any
    ratio: Any
    knee: tuple[float, float] | None


def lines(cases: tuple[PatternAccess, ...]) -> tuple[Line, ...]:
    """Return the curves of the cases that have one, within the axis of the figure."""
    out = []
    for p in cases:
        if p.curve is None or not p.curve.cold_bytes:
            continue
        least = p.curve.cold_bytes
        capacity, reads = _points(p.curve, least)
        inside = capacity[(capacity > SMALLEST) & (capacity < LARGEST)]
        kept = inside[np.unique(np.linspace(0, len(inside) - 1, min(MAX_POINTS, len(inside))).astype(int))]
        knee = p.curve.knee_bytes
        seen = SMALLEST <= knee <= LARGEST
        shown = np.unique(np.concatenate(([SMALLEST, LARGEST], kept, [knee] if seen else [])))
        ratio = _reads(capacity, reads, shown) / least
        at = (knee, float(ratio[np.searchsorted(shown, knee)])) if seen else None
        out.append(Line(p.pattern, name(p.pattern), shown, ratio, at))
    return tuple(out)


def _points(curve: Curve, least: float) -> tuple[Any, Any]:
    """Return capacities and reads of a curve with its knee, which lies between two capacities, as a point of its own."""
    capacity, reads = np.asarray(curve.capacity_bytes, float), np.asarray(curve.read_bytes, float)
    knee = curve.knee_bytes
    if not capacity[0] < knee < capacity[-1]:
        return capacity, reads
    at = min(float(_reads(capacity, reads, np.array([knee]))[0]), KNEE_RATIO * least)
    place = int(np.searchsorted(capacity, knee))
    return np.insert(capacity, place, knee), np.insert(reads, place, at)


def _reads(capacity: Any, reads: Any, wanted: Any) -> Any:
    """Return DRAM reads at capacities in between, straight in the logarithm of the capacity as the figure draws them."""
    return np.interp(np.log2(np.maximum(wanted, 1.0)), np.log2(np.maximum(capacity, 1.0)), reads)


def amplification(p: PatternAccess, capacity_bytes: float) -> float:
    """Return DRAM reads over compulsory reads in an LRU cache of ``capacity_bytes``; NaN without a curve."""
    if p.curve is None or not p.curve.cold_bytes:
        return math.nan
    least = p.curve.cold_bytes
    return float(_reads(*_points(p.curve, least), np.array([capacity_bytes]))[0]) / least


def traffic_ratio(p: PatternAccess, device: str) -> tuple[float, float]:
    """Return DRAM bytes over compulsory bytes (low, high) of one launch; NaN where the device is not modelled.

    What the cache still holds of the output when the launch ends is written later all the same, so all of it counts.
    """
    found = p.traffic.get(device)
    if found is None or not p.compulsory_bytes:
        return math.nan, math.nan
    low, high = found.read[0] + found.write[1], found.read[1] + found.write[1]
    return low / p.compulsory_bytes, high / p.compulsory_bytes


@dataclass(frozen=True, slots=True)
class Growth:
    """One model with one kind of attention over image sizes, smallest first. ``run``: which model, for its colour."""

    run: int
    model: str
    attention: str
    label: str
    points: tuple[SizePoint, ...]


def growth(results: tuple[AccessResult, ...]) -> tuple[Growth, ...]:
    """Return a line per model and kind of attention, on the first device that every model with sizes has."""
    known = [{point.device for point in result.sizes} for result in results if result.sizes]
    device = next((d.key for d in devices(results) if known and all(d.key in keys for keys in known)), None)
    out = []
    for run, result in enumerate(results):
        points = [point for point in result.sizes if point.device == device]
        both = list(dict.fromkeys(point.attention for point in points))
        # runs of one model that differ in attention: each stands for what it ran, else every line is there twice
        kinds = [result.attention] if result.attention in both and _other_attention(result, results) else both
        for kind in kinds:
            own = tuple(sorted((p for p in points if p.attention == kind), key=lambda p: p.image_size))
            label = f"{result.model}, {VARIANTS.get(kind, kind)}" if len(both) > 1 else result.model
            out.append(Growth(run, result.model, kind, label, own))
    return tuple(out)


def _other_attention(result: AccessResult, results: tuple[AccessResult, ...]) -> bool:
    """Tell whether another run is of the same model, by its work at every image size, and ran its attention in another way."""
    work = {(point.image_size, point.attention, point.flop) for point in result.sizes}
    others = [r for r in results if {(point.image_size, point.attention, point.flop) for point in r.sizes} == work]
    return {r.attention for r in others} == {"fused", "materialised"}
