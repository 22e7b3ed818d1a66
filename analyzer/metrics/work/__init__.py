"""FLOP and compulsory bytes of one operator call: one function per family of operators, found by the operator's name."""

from __future__ import annotations

import math

from analyzer.metrics.work import (
    attention,
    attention_backward,
    convolution,
    convolution_backward,
    detection,
    fills,
    fused,
    indexing,
    losses,
    movement,
    normalisation,
    normalisation_backward,
    optimizer,
    ordering,
    pointwise,
    pointwise_backward,
    pooling,
    products,
    reductions,
    resizing,
    serving,
    softmax,
)
from analyzer.metrics.work.parts import bytes_apart as _bytes_apart
from analyzer.metrics.work.parts import parts_work
from analyzer.metrics.work.registry import ImpossibleSizeError, Work, formula_of, read_bytes, written_bytes
from analyzer.schema.operators import OpCall
from analyzer.trace.kinds import operator_kind

__all__ = ["FAMILIES", "Work", "bytes_apart", "has_formula", "work_of"]

FAMILIES = (
    attention,
    attention_backward,
    convolution,
    convolution_backward,
    detection,
    fills,
    fused,
    indexing,
    losses,
    movement,
    normalisation,
    normalisation_backward,
    optimizer,
    ordering,
    pointwise,
    pointwise_backward,
    pooling,
    products,
    reductions,
    resizing,
    serving,
    softmax,
)
"""The modules whose import registers the formulas."""


def has_formula(op: str) -> bool:
    """Tell whether ``op`` has a formula that does work (views do not)."""
    return formula_of(op) is not None


def bytes_apart(call: OpCall) -> float:
    """Return the bytes that the operators which a compiler put into ``call`` would move each on its own.

    NaN where one of them does not tell. Those of a call of one operator are its compulsory bytes.
    """
    if call.parts:
        return _bytes_apart(call, work_of)
    work = work_of(call)
    return work.bytes if work is not None else math.nan


def work_of(call: OpCall) -> Work | None:
    """Return the work of ``call``; None where its shapes do not suffice (or no machine holds them).

    Views cost nothing. An operator without a formula gets a generic estimate, marked so. A call that a compiler put together
    of others does the arithmetic of all of them and moves only what goes in and comes out.
    """
    try:
        found = _work_of(call)
    except (OverflowError, ImpossibleSizeError):  # of a damaged trace
        return None
    if found is None or found.flop < 0 or not math.isfinite(found.flop + (found.bytes_high or found.bytes)):
        return None
    return found


def _work_of(call: OpCall) -> Work | None:
    if call.parts:
        return parts_work(call, work_of)
    formula = formula_of(call.name)
    if formula is not None:
        return formula(call)
    if operator_kind(call.name) == "view":
        return Work(0.0, 0.0)
    inputs = call.tensors()
    return Work(0.0, read_bytes(inputs) + written_bytes(call, inputs[:1]), "generic") if inputs else None
