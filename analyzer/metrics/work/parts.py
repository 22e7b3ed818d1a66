"""Kernels of which it is known exactly which operators a compiler put into them: the work of those operators."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import PER_ELEMENT, Formula, Work, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.kinds import operator_kind


def parts_work(call: OpCall, work_of: Formula) -> Work | None:
    """Return the FLOP of all operators in ``call``, and the bytes that the kernel as a whole reads and writes.

    What one operator hands to the next inside the kernel is not moved. None where an operator with arithmetic has no work
    (``work_of``), or where nothing tells what the kernel reads and writes.

    Approximation: an operator that a compiler made while it took others apart, and for which there is no formula, counts one
    FLOP per element that it writes where it computes, and none where it only moves or converts.
    """
    flops = [_flop(part, work_of) for part in call.parts]
    ends = _ends(call)
    if ends is None or any(flop is None for flop in flops):
        return None
    return tally(sum(flop for flop in flops if flop is not None), *ends)


def bytes_apart(call: OpCall, work_of: Formula) -> float:
    """Return the bytes that the operators in ``call`` would move each on its own, NaN where one of them does not tell."""
    found = [work_of(part) for part in call.parts]
    return float(sum(work.bytes for work in found if work is not None)) if all(found) else math.nan


def _flop(part: OpCall, work_of: Formula) -> float | None:
    work = work_of(part)
    if work is not None and work.basis == "formula":
        return work.flop
    kind, short = operator_kind(part.name), part.name.rpartition("::")[2]
    if kind in ("layout", "indexing", "view") or short == "convert_element_type":
        return 0.0
    if kind not in ("pointwise", None) or not (part.results() or part.tensors()):
        return None
    size = sum(t.numel for t in part.results()) or max(t.numel for t in part.tensors())
    return PER_ELEMENT.get(short, 1.0) * size


def _ends(call: OpCall) -> tuple[list[TensorArg], list[TensorArg]] | None:
    """Return what the kernel reads and writes, from its parts where it was not recorded; None where these do not tell.

    Inside parts the same storage is the same tensor: what one of them wrote before is not read from memory, and what another
    one reads later is not known to be written there, so it counts as not written.
    """
    if call.tensors() or call.results():
        return call.tensors(), call.results()
    reads: list[TensorArg] = []
    writes: dict[int | None, tuple[TensorArg, int]] = {}
    later = [{t.storage for t in part.tensors()} for part in call.parts]
    for i, part in enumerate(call.parts):
        for t in (*part.tensors(), *part.results()):
            if t.storage is None:
                return None
        reads += [t for t in part.tensors() if t.storage not in writes]
        writes |= {t.storage: (t, i) for t in part.results()}
    kept = [t for t, i in writes.values() if not any(t.storage in seen for seen in later[i + 1 :])]
    return (reads, kept) if reads or kept else None
