"""What one number each can say of a kernel's locality."""

from __future__ import annotations

import math

import numpy as np

from analyzer.access.problem import Attention, Convolution, Problem, Product, Window
from analyzer.access.reuse import Reuse
from analyzer.access.streams.stream import Stream
from analyzer.access.tiling import Geometry
from analyzer.schema.access import Locality

NOT_KNOWN = math.nan


def locality(problem: Problem, geometry: Geometry, stream: Stream, reuse: Reuse, l2_read: float, images: int) -> Locality:
    """Return the descriptors of one launch; those of a block are of the one that moves most.

    ``l2_read``: bytes read from L2; ``images``: the batch of the model, 0 where it is not known.
    """
    footprint, span, entropy = _block(stream)
    operands = problem.read_bytes + problem.write_bytes
    return Locality(
        footprint_bytes=footprint,
        dependency=dependency(problem, geometry, images),
        byte_share=footprint / operands if operands else NOT_KNOWN,
        reuse_factor=l2_read / problem.read_bytes if problem.read_bytes else NOT_KNOWN,
        distance_median_bytes=reuse.quantile(0.5),
        distance_p90_bytes=reuse.quantile(0.9),
        span_ratio=span,
        stride_entropy=entropy,
    )


def _block(stream: Stream) -> tuple[float, float, float]:
    """Return footprint, span ratio and stride entropy of the block that moves most, which is one without an edge.

    Footprint: distinct bytes touched, reads and writes. Span: the range of addresses read over that of its operands, weighted
    by bytes. Entropy: -sum p log2 p over the steps between addresses that follow each other in one operand.
    """
    mine = stream.block == np.int32(np.argmax(np.bincount(stream.block, stream.moved)))
    granule, moved, write = stream.granule[mine].astype(np.int64), stream.moved[mine], stream.write[mine]
    distinct, where = np.unique(granule, return_inverse=True)
    footprint = float(np.minimum(stream.sizes[distinct], np.bincount(where, moved)).sum())
    ends = np.cumsum([operand.count for operand in stream.operands])
    owner = np.searchsorted(ends, granule, side="right")
    steps, spans, weights = [], [], []
    for i, operand in enumerate(stream.operands):
        own = granule[(owner == i) & (write == 0)]
        if not len(own):
            continue
        spans.append((own.max() - own.min() + 1) / operand.count)
        weights.append(float(moved[(owner == i) & (write == 0)].sum()))
        steps.append(np.diff(own))
    if not spans:
        return footprint, NOT_KNOWN, NOT_KNOWN
    _, counts = np.unique(np.concatenate(steps), return_counts=True)
    share = counts / counts.sum() if counts.sum() else np.ones(1)
    return footprint, float(np.average(spans, weights=weights)), float(abs((share * np.log2(share)).sum()))


def dependency(problem: Problem, geometry: Geometry, images: int) -> float:
    """Return the share of the image or sequence that one output tile reads, NaN where the pattern has no such thing."""
    if isinstance(problem, Attention):
        blocks = math.ceil(problem.queries / geometry.tile_m)
        reach = (blocks + 1) / (2 * blocks) if problem.causal else 1.0
        # several windows of one image stand in the batch, so a window sees only its share of the image
        return reach * (images / problem.batch if 0 < images < problem.batch else 1.0)
    if isinstance(problem, Product):
        return _of_product(problem, geometry, images)
    if isinstance(problem, Convolution):
        return _rows(geometry.tile_m, problem)
    if isinstance(problem, Window):
        return _rows(geometry.tile_m * geometry.tile_n, problem)
    return NOT_KNOWN


def _of_product(problem: Product, geometry: Geometry, images: int) -> float:
    if problem.batch == 1:
        return min(geometry.tile_m / (problem.m / images if images else problem.m), 1.0)
    if problem.k == problem.m != problem.n:  # P V: every output sums over all keys
        return 1.0
    return min((geometry.tile_m + geometry.tile_n) / (problem.m + problem.n), 1.0)


def _rows(outputs: int, problem: Convolution | Window) -> float:
    """Return the share of the image rows under the window of ``outputs`` outputs in a row-major order."""
    rows, columns = problem.out
    down = min(outputs / max(columns, 1), rows)
    needed = down * problem.stride[0] + (problem.kernel[0] - 1) * problem.dilation[0]
    return min(needed / problem.height, 1.0)
