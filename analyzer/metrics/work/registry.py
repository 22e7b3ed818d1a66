"""The registry of work formulas: FLOP and compulsory bytes of one operator call, from its arguments alone.

A multiply-add counts as 2 FLOP. Convolutions, matrix products and attention follow the published convention (biases and the
softmax inside fused attention are not counted). Elsewhere an element costs one FLOP for each arithmetic step, a
transcendental function counting as one and a comparison as none. Compulsory bytes: every distinct input element read once,
every output element written once, nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analyzer.schema.operators import OpCall, TensorArg


@dataclass(frozen=True, slots=True)
class Work:
    """FLOP and compulsory bytes of a call.

    ``basis``: ``formula``, or ``generic`` where only inputs plus outputs were added up. ``bytes_high`` is set where the shapes
    leave open how much is moved (the true elements of a mask, say): the truth lies between ``bytes`` and it.
    """

    flop: float
    bytes: float
    basis: str = "formula"
    bytes_high: float | None = None


class ImpossibleSizeError(ValueError):
    """Arguments that no operator accepts: the output would have a negative size."""


Formula = Callable[[OpCall], Work | None]
_FORMULAS: dict[str, Formula] = {}
_BY_TEST: list[tuple[Callable[[str], bool], Formula]] = []
PER_ELEMENT: dict[str, float] = {}
"""FLOP per element of operators without namespace, where a formula is that simple; kernels that fuse operators add these up."""


def register(*names: str, per_element: float | None = None) -> Callable[[Formula], Formula]:
    """Return a decorator that registers a formula; a name without a namespace is one of ``aten``.

    ``per_element``: the FLOP per element, for kernels into which a compiler fuses the operator.

    Raises:
        ValueError: an operator has a formula already.
    """

    def add(formula: Formula) -> Formula:
        for name in names:
            full = name if "::" in name else f"aten::{name}"
            if full in _FORMULAS:
                raise ValueError(f"two formulas for {full}")
            _FORMULAS[full] = formula
            if per_element is not None:
                PER_ELEMENT[full.split("::", 1)[1]] = per_element
        return formula

    return add


def register_where(fits: Callable[[str], bool]) -> Callable[[Formula], Formula]:
    """Return a decorator that registers a formula for all operators without one of their own whose names ``fits`` accepts."""

    def add(formula: Formula) -> Formula:
        _BY_TEST.append((fits, formula))
        return formula

    return add


def formula_of(op: str) -> Formula | None:
    """Return the formula of ``op``, None where it has none (views have none either)."""
    return _FORMULAS.get(op) or next((formula for fits, formula in _BY_TEST if fits(op)), None)


def tally(flop: float, reads: Sequence[TensorArg | None], writes: Sequence[TensorArg | None]) -> Work:
    """Return the work of reading ``reads`` and writing ``writes`` once each; what is None is left out.

    The basis is ``generic`` where the element type of one is unknown (lists in a Kineto trace): its size is assumed.

    Raises:
        ImpossibleSizeError: a size is negative.
    """
    ins, outs = [t for t in reads if t is not None], [t for t in writes if t is not None]
    if any(n < 0 for t in (*ins, *outs) for n in t.shape):
        raise ImpossibleSizeError
    unknown = any(t.dtype == "unknown" for t in (*ins, *outs))
    size = read_bytes(ins) + sum(t.numel * t.itemsize for t in outs)
    return Work(float(flop), float(size), "generic" if unknown else "formula")


def band(flop: float, low: float, high: float) -> Work:
    """Return a work whose bytes depend on values, or on arguments that were not recorded: they lie in [low, high]."""
    return Work(float(flop), float(low), "formula", float(high) if high > low else None)


def read_bytes(tensors: list[TensorArg]) -> float:
    """Return the bytes of the distinct inputs; the same view given twice is read once."""
    distinct = {(t.storage, t.offset, t.shape) if t.storage is not None else (i,): t for i, t in enumerate(tensors)}
    return float(sum(t.footprint_bytes for t in distinct.values()))


def written_bytes(call: OpCall, guess: list[TensorArg]) -> float:
    """Return the bytes of the outputs, of ``guess`` where they were not recorded."""
    return float(sum(t.numel * t.itemsize for t in (call.results() or guess)))
