"""Operators that only move or write data: fills, copies, layout changes, indexing."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, output, read_bytes, register, written_bytes
from analyzer.schema.operators import OpCall


@register("fill_", "zero_", "arange", "linspace", "fill", "normal_", "uniform_", "bernoulli_")
def _fill(call: OpCall) -> Work | None:
    """Writes its output, reads nothing."""
    inputs = call.tensors()
    return Work(0.0, written_bytes(call, inputs[:1])) if inputs or call.results() else None


@register("copy_")
def _copy(call: OpCall) -> Work | None:
    """Reads the source (position 1), writes all of the destination (position 0)."""
    to, source = call.tensor(0), call.tensor(1)
    return None if to is None or source is None else Work(0.0, read_bytes([source]) + to.numel * to.itemsize)


@register("cat", "_cat", "stack")
def _concatenate(call: OpCall) -> Work | None:
    """Reads every part once and writes as much."""
    parts = call.tensors()
    if not parts:
        return None
    written = written_bytes(call, parts)
    if any(part.dtype == "unknown" for part in parts):
        return Work(0.0, 2.0 * written, "generic")  # the element size of a list is not in the trace
    return Work(0.0, read_bytes(parts) + written)


@register("clone", "contiguous", "roll", "flip", "_to_copy", "_reshape_copy", "reflection_pad2d", "replication_pad2d",
           "pixel_shuffle", "im2col", "constant_pad_nd", "mkldnn_reorder_conv2d_weight")  # fmt: skip
def _rearrange(call: OpCall) -> Work | None:
    """Reads the input and writes the output."""
    x = call.tensor(0)
    return None if x is None else Work(0.0, read_bytes([x]) + written_bytes(call, [x]))


@register("index", "index_select", "gather", "embedding")
def _gather(call: OpCall) -> Work | None:
    """Reads what it writes, and the indices; a table that is larger than the output is not read whole."""
    out = output(call)
    inputs = call.tensors()
    if out is None or not inputs:
        return None
    indices = sum(t.footprint_bytes for t in inputs[1:] if t.dtype.startswith(("int", "bool", "uint")))
    return Work(0.0, 2.0 * out.numel * out.itemsize + indices)
