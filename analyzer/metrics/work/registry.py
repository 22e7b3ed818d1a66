"""The registry of work formulas: FLOP and compulsory bytes of one operator call, from its arguments alone.

A multiply-add counts as 2 FLOP. Convolutions, matrix products and attention follow the published convention (biases and the
softmax inside fused attention are not counted). Elsewhere an element costs one FLOP for each arithmetic step, a
transcendental function counting as one and a comparison as none. Compulsory bytes: every distinct input element read once,
every output element written once, nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable
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


Formula = Callable[[OpCall], Work | None]
_FORMULAS: dict[str, Formula] = {}


def register(*names: str) -> Callable[[Formula], Formula]:
    """Return a decorator that registers a formula; a name without a namespace is one of ``aten``.

    Raises:
        ValueError: an operator has a formula already.
    """

    def add(formula: Formula) -> Formula:
        for name in names:
            full = name if "::" in name else f"aten::{name}"
            if full in _FORMULAS:
                raise ValueError(f"two formulas for {full}")
            _FORMULAS[full] = formula
        return formula

    return add


def formula_of(op: str) -> Formula | None:
    """Return the formula of ``op``, None where it has none (views have none either)."""
    return _FORMULAS.get(op)


def read_bytes(tensors: list[TensorArg]) -> float:
    """Return the bytes of the distinct inputs; the same view given twice is read once."""
    distinct = {(t.storage, t.offset, t.shape) if t.storage is not None else (i,): t for i, t in enumerate(tensors)}
    return float(sum(t.footprint_bytes for t in distinct.values()))


def written_bytes(call: OpCall, guess: list[TensorArg]) -> float:
    """Return the bytes of the outputs, of ``guess`` where they were not recorded."""
    return float(sum(t.numel * t.itemsize for t in (call.results() or guess)))


def output(call: OpCall) -> TensorArg | None:
    """Return the first output, None where it was not recorded."""
    results = call.results()
    return results[0] if results else None
