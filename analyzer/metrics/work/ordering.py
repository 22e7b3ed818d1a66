"""Sorting, searching, counting and repeating: comparisons are no FLOP."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, band, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like, output, short_name


@register("sort", "argsort", "msort")
def _sort(call: OpCall) -> Work | None:
    """Reads the input once, writes values and int64 indices (indices alone for ``argsort``).

    Approximation: one pass; a sort that does not fit on chip reads and writes several times.
    """
    x = call.tensor(0)
    if x is None:
        return None
    indices = like(x, dtype="int64")
    writes = {"argsort": [indices], "msort": [like(x)]}.get(short_name(call), [like(x), indices])
    return tally(0.0, [x], call.results() or writes)


@register("topk", "kthvalue", "mode")
def _largest(call: OpCall) -> Work | None:
    """Reads the input, writes k values and int64 indices per row; k at 1, the dimension at 2 (last where not recorded)."""
    x, k, dim = call.tensor(0), call.value(1), call.value(2)
    if x is None:
        return None
    results = call.results()
    outs = call.tensors()[1:]
    if results or len(outs) == 2:
        return tally(0.0, [x], results or outs)
    if short_name(call) != "topk" or not isinstance(k, int) or not x.shape:
        return None
    axis = dim % len(x.shape) if isinstance(dim, int) and -len(x.shape) <= dim < len(x.shape) else None
    if axis is None:
        return None
    values = like(x, (*x.shape[:axis], k, *x.shape[axis + 1 :]))
    return tally(0.0, [x], [values, like(values, dtype="int64")])


@register("searchsorted", "bucketize")
def _search(call: OpCall) -> Work | None:
    """Reads the sorted values and the queries, writes an index per query: int64, int32 where asked for at 2."""
    first, second = call.tensor(0), call.tensor(1)
    queries = first if short_name(call) == "bucketize" else second
    out = output(call)
    if out is None and queries is not None:
        out = like(queries, dtype="int32" if call.value(2) is True else "int64")
    return None if out is None else tally(0.0, [first, second], [out])


@register("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive")
def _unique(call: OpCall) -> Work | None:
    """Reads the input; values decide how many are distinct, one to all. Inverse and counts where recorded."""
    x = call.tensor(0)
    if x is None:
        return None
    if call.results():
        return tally(0.0, [x], call.results())
    low = float(x.footprint_bytes)
    return band(0.0, low + (x.itemsize if x.numel else 0), low + x.numel * (x.itemsize + 16))


@register("bincount", "histc", "histogram")
def _counted(call: OpCall) -> Work | None:
    """One addition per element; the bins are written where they were recorded or can be told (``histc``: at 1)."""
    x, bins = call.tensor(0), call.value(1)
    if x is None:
        return None
    guess = [like(x, (bins,))] if short_name(call) == "histc" and isinstance(bins, int) else []
    writes = call.results() or guess
    return tally(x.numel, [x, call.tensor(1)], writes) if writes else None


@register("repeat_interleave")
def _repeat_interleave(call: OpCall) -> Work | None:
    """Reads the input once and writes it repeatedly; ``repeats`` given as a tensor need the size at 3 (or 1)."""
    x, repeats = call.tensor(0), call.tensor(1)
    if x is None:
        return None
    out = output(call)
    if out is not None:
        return tally(0.0, [x, repeats], [out])
    if repeats is None and len(call.inputs) <= 2:  # (repeats, output_size): makes the indices
        size = call.value(1)
        return tally(0.0, [x], [like(x, (size,), "int64")]) if isinstance(size, int) else None
    times, dim = call.value(1), call.value(2)
    if isinstance(times, int):
        return tally(0.0, [x], [like(x, (x.numel * times,))])
    return _along(call, x, repeats, dim)


def _along(call: OpCall, x: TensorArg, repeats: TensorArg | None, dim: object) -> Work | None:
    size = call.value(3)
    if repeats is None or not isinstance(size, int) or not isinstance(dim, int) or not -len(x.shape) <= dim < len(x.shape):
        return None
    rows = x.numel // max(x.shape[dim], 1)
    return tally(0.0, [x, repeats], [like(x, (rows * size,))])


@register("one_hot")
def _one_hot(call: OpCall) -> Work | None:
    """Writes int64[..., classes]; classes at 1 (-1: the largest value decides, so only where recorded)."""
    x, classes = call.tensor(0), call.value(1)
    if x is None:
        return None
    known = isinstance(classes, int) and classes >= 0
    out = output(call) or (like(x, (*x.shape, classes), "int64") if known and isinstance(classes, int) else None)
    return None if out is None else tally(0.0, [x], [out])
