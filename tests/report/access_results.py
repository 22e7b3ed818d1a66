"""Results of the access model made up for the tests, with numbers of the size that real layers have."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from analyzer.schema.access import (
    AccessMap,
    AccessResult,
    CacheFacts,
    Cost,
    Curve,
    Locality,
    PatternAccess,
    SizePoint,
    Traffic,
)

MIB = 1024**2

DEVICES = (
    CacheFacts("h100_sxm5_80gb", "H100 SXM5 80GB", 50 * MIB, 2, 132, (0.0, 14e6), 1.05, 3350.0, 5500.0, "calibrated",
               "L2 sweep of gpu-benches and six warm matrix products"),
    CacheFacts("v100_sxm2_16gb", "V100 SXM2 16GB", 6 * MIB, 1, 80, (0.0, 3e6), 1.0, 900.0, 2100.0, "assumed", "datasheet; no sweep"),
    CacheFacts("a100_sxm4_80gb", "A100 SXM4 80GB", 40 * MIB, 2, 108, (0.0, 10e6), 1.0, 2039.0, 4500.0, "calibrated", "L2 sweep of gpu-benches"),
    CacheFacts("h200_sxm", "H200 SXM", 60 * MIB, 2, 132, (0.0, 14e6), 1.05, 4800.0, 5500.0, "calibrated", "L2 sweep of gpu-benches"),
    CacheFacts("rtx_4090", "RTX 4090", 72 * MIB, 1, 128, (0.0, 11e6), 1.07, 1008.0, 5000.0, "scored", "six kernels of llm.c"),
    CacheFacts("b200", "B200", 126 * MIB, 2, 148, (0.0, 20e6), 1.0, 8000.0, 9000.0, "assumed", "two halves assumed; no sweep"),
)  # fmt: skip

# pattern, module, shapes, calls, GFLOP, reads, writes, L2 reads, knee (MB and MiB), footprint KiB, dependency, share, span, entropy
VIT = [
    ("linear", "blocks.*.mlp.fc1", "[6304,768] x [768,3072]", 12, 29.7, 14.4, 38.7, 468, 15, 384, 0.65, 0.036, 0.04, 0.2),
    ("linear", "blocks.*.mlp.fc2", "[6304,3072] x [3072,768]", 12, 29.7, 43.5, 9.7, 468, 46, 1536, 0.65, 0.035, 0.04, 0.2),
    ("attention_fused", "blocks.*.attn", "q,k,v[32,12,197,64]", 12, 3.8, 29.0, 9.7, 48, 1.3, 65, 1.0, 0.0023, 0.0023, 0.9),
    ("norm", "blocks.*.norm1", "[6304,768]", 25, 0.05, 9.7, 9.7, 9.7, 0.0, 6, 0.0002, 0.0002, 0.0002, 0.0),
    ("patch_embed", "patch_embed.proj", "[32,3,224,224] x [768,3,16,16]", 1, 7.4, 10.8, 9.6, 150, 4, 384, 0.02, 0.05, 0.05, 1.2),
]  # fmt: skip
CNN = [
    ("conv3x3", "layer*.conv2", "[32,64,56,56] x [64,64,3,3]", 3, 7.4, 12.9, 12.8, 171, 4.2, 102, 0.08, 0.008, 0.01, 1.9),
    ("conv3x3", "layer4.conv2", "[32,512,7,7] x [512,512,3,3]", 2, 7.4, 6.3, 1.6, 109, 2.6, 1296, 1.0, 0.21, 0.6, 2.2),
    ("conv1x1", "layer*.conv3", "[32,64,56,56] x [256,64,1,1]", 3, 3.3, 12.9, 51.4, 51, 41, 49, 0.04, 0.004, 0.004, 0.4),
    ("depthwise", "stages.*.conv_dw", "[32,128,56,56] x [128,1,7,7]", 3, 1.3, 25.7, 25.7, 46, 0.6, 26, 0.11, 0.001, 0.001, 1.4),
    ("pointwise", "layer*.relu", "[32,256,56,56]", 16, 0.03, 51.4, 51.4, 51.4, 0.0, 16, 0.0003, 0.0003, 0.0003, 0.0),
]  # fmt: skip
WRITTEN = (
    "attention_materialised",
    "blocks.*.attn",
    "q,k,v[32,12,1024,64]",
    12,
    103,
    1715,
    1665,
    1900,
    9,
    260,
    1.0,
    0.0005,
    0.002,
    0.8,
)


def curve(reads: float, l2_reads: float, knee_mib: float) -> Curve:
    """Return a curve that falls from what blocks read to what there is, most of it around the knee."""
    capacity = np.geomspace(64 * 1024, 2**30, 113)
    if l2_reads <= reads * 1.001:
        return Curve(capacity, np.full_like(capacity, reads), 0.0, reads)
    at = np.log2(capacity / (knee_mib * MIB))
    share = 1 / (1 + np.exp(4 * (at + 1.2)))
    found = reads + (l2_reads - reads) * share
    return Curve(capacity, found, float(capacity[np.argmax(found <= 1.1 * reads)]), reads)


def pattern(row: tuple[Any, ...], model: str, time_us: float = 0.0) -> PatternAccess:
    name, module, shapes, calls, gflop, reads, writes, l2, knee, footprint, dependency, share, span, entropy = row
    reads, writes, l2 = reads * 1e6, writes * 1e6, l2 * 1e6
    found = curve(reads, l2, knee)
    traffic = {}
    for device in DEVICES:
        sizes = (device.capacity_bytes, device.capacity_bytes / device.partitions)
        low, high = (float(np.interp(np.log2(size), np.log2(found.capacity_bytes), found.read_bytes)) for size in sizes)
        kept = device.retained_bytes
        traffic[device.key] = Traffic(
            (low * device.read_overhead, high * device.read_overhead), (max(writes - kept[1], 0.0), max(writes - kept[0], 0.0))
        )
    again = l2 > reads
    locality = Locality(
        footprint * 1024, dependency, share, l2 / reads, knee * MIB / 3 if again else math.nan, knee * MIB if again else math.nan,
        span, entropy,
    )  # fmt: skip
    return PatternAccess(
        name, module, shapes, "bfloat16", calls, gflop * 1e9, reads, writes, (l2, writes), traffic, locality, found,
        "inferred" if name == "linear" else "exact", "128 x 128 x 64", "row tiles first",
        f"e(MK + KN) = 2 ({shapes}) = {reads / 1e6:.1f} MB read", model, f"{name}_kernel_bf16", time_us,
    )  # fmt: skip


def windows(pattern_name: str, title: str, blocks: int, reads: list[tuple[int, int, int]]) -> AccessMap:
    """Return a map: per block and operand (start of the first block, step between blocks, length), 1 KiB per access."""
    time, address, operand, block = [], [], [], []
    base = [0]
    for start, step, length in reads:
        base.append(base[-1] + start + step * (blocks - 1) + length)
    clock = 0
    for b in range(blocks):
        for i in range(max(length for _, _, length in reads)):
            for index, (start, step, length) in enumerate(reads):
                if i < length:
                    time.append(clock)
                    address.append((base[index] + start + step * b + i) * 1024)
                    operand.append(index)
                    block.append(b)
                    clock += 1
    names = ("input", "weight", "output") if "conv" in pattern_name or pattern_name == "depthwise" else ("Q", "K", "V")
    extents = tuple((low * 1024, (high - low) * 1024) for low, high in pairwise(base))
    points = (np.array(time), np.array(address), np.array(operand), np.array(block))
    return AccessMap(pattern_name, title, names[: len(reads)], extents, *points)


MAPS = {
    "conv3x3": windows("conv3x3", "[1,64,56,56] x [64,64,3,3]", 16, [(0, 20, 40), (0, 0, 24)]),
    "depthwise": windows("depthwise", "[8,28,28], 7 x 7", 24, [(0, 30, 36), (0, 1, 2)]),
    "attention_fused": windows("attention_fused", "q,k,v[1,1,197,64]", 8, [(0, 16, 16), (0, 0, 64), (0, 0, 64)]),
}


def sizes(model: str, scale: float, *, attention: bool) -> tuple[SizePoint, ...]:
    out = []
    for px in (128, 192, 224, 256, 384, 512, 768, 1024):
        area = (px / 224) ** 2
        for variant in ("fused", "materialised") if attention else ("fused",):
            flop = (scale * 35.2e9 if attention else 8.2e9) * area * (1 + (0.1 * area if attention else 0))
            scores = 44e6 * area**2 if variant == "materialised" else 0.0
            base = (145e6 if attention else 163e6) * area + scores
            floor = max(flop / 989e6, base / 3.35e6)
            out.append(
                SizePoint(model, "h100_sxm5_80gb", px, variant, flop, base, (base * 1.02, base * (1.1 + 0.1 * area / (1 + area))),
                          base * 0.6, floor, 0.41 if attention and not scores else 0.9)
            )  # fmt: skip
    return tuple(out)


def cost(model: str, role: str, floor: float, low: float, high: float, attention: str = "fused", **more: Any) -> Cost:
    return Cost(model, more.pop("device", "h100_sxm5_80gb"), role, attention, floor, (low, high), more.pop("l2", 0.0),
                more.pop("ratio", (1.0, 1.05)))  # fmt: skip


def vit(**changes: Any) -> AccessResult:
    model = "ViT-B/16"
    patterns = tuple(pattern(row, model, 1200 - 200 * i) for i, row in enumerate(VIT))
    patterns += (replace(pattern(WRITTEN, model), hypothetical=True),)
    costs = (
        cost(model, "attention", 139.0, 0.0, 11.0, l2=40.0),
        cost(model, "attention", 139.0, 2281.0, 2321.0, "materialised", ratio=(12.0, 13.0)),
        cost(model, "dense math", 1500.0, 10.0, 300.0),
    )
    found = AccessResult(
        model, 32, 224, DEVICES, patterns, (("aten::_foreach", "no geometry", 0.8), ("splitKreduce_kernel", "split-K", 1.1)), 98.1,
        (MAPS["attention_fused"],), sizes(model, 1.0, attention=True), costs, own=DEVICES[0],
    )  # fmt: skip
    return replace(found, **changes)


def cnn(**changes: Any) -> AccessResult:
    model = "ConvNeXt-B"
    patterns = tuple(pattern(row, model, 900 - 150 * i) for i, row in enumerate(CNN))
    costs = (
        cost(model, "convolution", 900.0, 20.0, 35.0, l2=25.0, ratio=(1.02, 1.2)),
        cost(model, "depthwise", 400.0, 0.0, 15.0),
    )
    found = AccessResult(
        model,
        32,
        224,
        DEVICES,
        patterns,
        (),
        100.0,
        (MAPS["conv3x3"], MAPS["depthwise"]),
        sizes(model, 1.0, attention=False),
        costs,
        own=DEVICES[0],
    )
    return replace(found, **changes)


def written(**changes: Any) -> AccessResult:
    """Return a ViT whose run wrote its attention scores, in two products with a softmax between them."""
    found = vit()
    model = found.model
    ran = tuple(p for p in found.patterns if not p.pattern.startswith("attention"))
    halves = (pattern(("scores", *WRITTEN[1:]), model, 4000.0), pattern(("softmax", *WRITTEN[1:]), model, 2000.0))
    others = tuple(replace(p, hypothetical=True, time_us=0.0) for p in (pattern(WRITTEN, model), pattern(VIT[2], model)))
    return replace(found, patterns=(*halves, *ran, *others), **changes)


def shapes_alone(result: AccessResult) -> AccessResult:
    """Return ``result`` as it is without a trace."""
    return replace(result, patterns=tuple(replace(p, time_us=0.0) for p in result.patterns), modelled_pct=0.0)
