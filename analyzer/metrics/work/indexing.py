"""Operators that read or write at given places."""

from __future__ import annotations

import math
from itertools import combinations

from analyzer.metrics.work.registry import Work, band, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import Shape, broadcast, like, output, short_name


def _gathered(x: TensorArg, indices: list[TensorArg], out: TensorArg) -> Work:
    """Return the work of reading what ``out`` takes, but no table more than once, and the indices; and of writing ``out``.

    Approximation: indices are taken to be distinct until the whole table has been read.
    """
    table = like(x, (min(out.numel, x.footprint_bytes // max(x.itemsize, 1)),))
    return tally(0.0, [table, *indices], [out])


@register("index_select", per_element=0.0)
def _index_select(call: OpCall) -> Work | None:
    """Reads the chosen slices and the indices; dimension at 1, indices [n] at 2."""
    x, dim, index = call.tensor(0), call.value(1), call.tensor(2)
    if x is None or index is None:
        return None
    out = output(call)
    if out is None:
        if not isinstance(dim, int) or not -len(x.shape) <= dim < len(x.shape):
            return None
        axis = dim % len(x.shape)
        out = like(x, (*x.shape[:axis], index.numel, *x.shape[axis + 1 :]))
    return _gathered(x, [index], out)


@register("gather", "take", "take_along_dim", per_element=0.0)
def _gather(call: OpCall) -> Work | None:
    """One element per index; the output has the shape of the indices."""
    x, index = call.tensor(0), call.tensor(1) or call.tensor(2)
    if x is None or index is None:
        return None
    if short_name(call) == "take_along_dim" and output(call) is None:
        return None
    return _gathered(x, [index], output(call) or like(x, index.shape))


@register("embedding", per_element=0.0)
def _embedding(call: OpCall) -> Work | None:
    """One row of the table [V, D] per index."""
    table, index = call.tensor(0), call.tensor(1)
    if table is None or index is None or len(table.shape) != 2:
        return None
    return _gathered(table, [index], output(call) or like(table, (*index.shape, table.shape[1])))


@register("embedding_dense_backward")
def _embedding_backward(call: OpCall) -> Work | None:
    """One addition per element of the gradient; writes the table's gradient [V, D] whole, V at 2."""
    grad, index, rows = call.tensor(0), call.tensor(1), call.value(2)
    if grad is None or index is None or not grad.shape:
        return None
    out = output(call) or (like(grad, (rows, grad.shape[-1])) if isinstance(rows, int) else None)
    return None if out is None else tally(grad.numel, [grad, index], [out])


def _is_mask(index: TensorArg) -> bool:
    return index.dtype in ("bool", "uint8")


def _index_tensors(call: OpCall) -> list[TensorArg]:
    """Return the tensors of the list at 1. Kineto shows an index that is left out as a tensor of rank 0 and unknown type."""
    given = call.inputs[1] if len(call.inputs) > 1 else ()
    found = OpCall("", (given,)).tensors()
    return [t for t in found if t.shape or t.dtype != "unknown"]


_MAX_RANK = 12
"""More dimensions have too many choices of indexed ones to go through; no real tensor has as many."""


def _counts(x: TensorArg, indices: list[TensorArg]) -> tuple[int, int] | None:
    """Return the least and the most elements that ``x[indices]`` has; which dimensions are indexed need not be known."""
    if any(_is_mask(index) for index in indices):
        most = x.numel
        if len(indices) > 1:
            return None
        return 0, most
    shape = broadcast([index.shape for index in indices])
    if shape is None or not len(indices) <= len(x.shape) <= _MAX_RANK:
        return None
    rest = [math.prod(kept) for kept in combinations(x.shape, len(x.shape) - len(indices))]
    return math.prod(shape) * min(rest), math.prod(shape) * max(rest)


@register("index", "_unsafe_index", per_element=0.0)
def _index(call: OpCall) -> Work | None:
    """Reads the chosen elements and the indices. A mask leaves open how many those are: from none to all of the source.

    So does a list of indices that was not recorded, or one that does not say which dimensions it indexes.
    """
    x = call.tensor(0)
    if x is None:
        return None
    indices = _index_tensors(call)
    out = output(call)
    if out is not None:
        return _gathered(x, indices, out)
    listed = tally(0.0, indices, [])
    counts = _counts(x, indices) if indices else (0, x.numel)
    if counts is None:
        return None
    low, high = (_gathered(x, [], like(x, (count,))).bytes for count in counts)
    found = band(0.0, listed.bytes + low, listed.bytes + high)
    return Work(found.flop, found.bytes, listed.basis, found.bytes_high)


@register("index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put", "_index_put_impl")
def _index_put(call: OpCall) -> Work | None:
    """Reads the values (2) and the indices and writes as many elements; accumulating (3) reads them first, one addition each.

    Out of place the whole of the input is read and written too. A mask and one value leave open how many elements are written.
    """
    x, values = call.tensor(0), call.tensor(2)
    if x is None or values is None:
        return None
    indices = _index_tensors(call)
    if not indices:
        return None
    adding = call.value(3) is True
    counts = (values.numel, values.numel) if any(map(_is_mask, indices)) and values.numel > 1 else _counts(x, indices)
    if counts is None:
        return None
    whole = [] if short_name(call).endswith("_") else [x]
    base = tally(0.0, [*whole, values, *indices], whole)
    low, high = (base.bytes + count * x.itemsize * (2 if adding else 1) * (not whole) for count in counts)
    return Work(float(counts[0] if adding else 0.0), low, base.basis, high if high > low else None)


@register("index_add", "index_add_", "index_copy", "index_copy_", "index_fill", "index_fill_", "index_reduce", "index_reduce_",
          "scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_")  # fmt: skip
def _scatter(call: OpCall) -> Work | None:
    """Reads indices (2) and source (3), writes the places they name; sums read those first and cost one FLOP each.

    Out of place the whole of the input is read and written instead. Approximation: indices are taken to be distinct.
    """
    x, dim, index, source = call.tensor(0), call.value(1), call.tensor(2), call.tensor(3)
    if x is None or index is None:
        return None
    name = short_name(call)
    adding = "add" in name or "reduce" in name
    touched = _touched(x, dim, index, source, name)
    if touched is None:
        return None
    given = None if name.startswith("index_fill") else source
    flop = float(touched) if adding else 0.0
    if not name.endswith("_"):
        return tally(flop, [x, index, given], [like(x)])
    places = like(x, (touched,))
    return tally(flop, [places if adding else None, index, given], [places])


def _touched(x: TensorArg, dim: object, index: TensorArg, source: TensorArg | None, name: str) -> int | None:
    """Return how many elements are written: one per index in scatter, a slice per index in the others."""
    if name.startswith("scatter"):
        return index.numel
    if source is not None and not name.startswith("index_fill"):
        return source.numel
    if not isinstance(dim, int) or isinstance(dim, bool) or not -len(x.shape) <= dim < len(x.shape):
        return None
    return x.numel // max(x.shape[dim], 1) * index.numel


@register("masked_select", "nonzero", "nonzero_static", "argwhere")
def _selected(call: OpCall) -> Work | None:
    """Reads the input (and mask); values decide how much is written, from nothing to all; coordinates are int64."""
    x, mask = call.tensor(0), call.tensor(1)
    if x is None:
        return None
    masked = short_name(call) == "masked_select"
    if masked and mask is None:
        return None
    results = call.results()
    shape: Shape | None = broadcast([t.shape for t in (x, mask) if t is not None])
    if masked and mask is not None and shape is not None:
        if results:
            return _gathered(x, [mask], results[0])
        most = like(x, shape)
        return band(0.0, mask.footprint_bytes, mask.footprint_bytes + _gathered(x, [], most).bytes)
    if results:
        return tally(0.0, [x], results)
    low = float(x.footprint_bytes)
    return band(0.0, low, low + 8.0 * x.numel * max(len(x.shape), 1))


@register("masked_scatter", "masked_scatter_")
def _masked_scatter(call: OpCall) -> Work | None:
    """Reads the mask, and as much of the source as it has true elements: none to all; in place it writes as much."""
    x, mask, source = (call.tensor(i) for i in range(3))
    if x is None or mask is None or source is None:
        return None
    whole = [] if short_name(call).endswith("_") else [x]
    low = tally(0.0, [mask, *whole], whole).bytes
    most = min(source.numel, x.numel)
    return band(0.0, low, low + most * source.itemsize + (0 if whole else most * x.itemsize))
