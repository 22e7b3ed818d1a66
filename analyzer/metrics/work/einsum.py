"""Reads the equation of an einsum: how much arithmetic it takes, and the shape that comes out."""

from __future__ import annotations

import math

from analyzer.trace.shapes import Shape, broadcast

_ELLIPSIS = "..."


def contraction(equation: str, shapes: list[Shape]) -> tuple[float, Shape] | None:
    """Return FLOP and output shape of ``equation`` for one or two operands; None for more, or where they do not fit.

    Two operands: 2 * (product of all sizes) if an index is summed, else one multiplication per element. torch sums indices
    that only one operand has before it multiplies; those sums cost one FLOP per element. One operand: one addition per element
    if an index is summed, else none.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes) or len(shapes) not in (1, 2):
        return None
    sizes: dict[str, int] = {}
    batches: list[Shape] = []
    for term, shape in zip(terms, shapes, strict=True):
        batch = _read(term, shape, sizes)
        if batch is None:
            return None
        batches.append(batch)
    batch = broadcast(batches)
    if batch is None:
        return None
    kept = right if arrow else _implied(left)
    names = kept.replace(_ELLIPSIS, "")
    if any(name not in sizes for name in names):
        return None
    at = kept.find(_ELLIPSIS)
    before = names if at < 0 else kept[:at]
    out = (*(sizes[n] for n in before), *(batch if at >= 0 else ()), *(sizes[n] for n in names[len(before) :]))
    return _flop(terms, shapes, sizes, batch, names), out


def _read(term: str, shape: Shape, sizes: dict[str, int]) -> Shape | None:
    """Enter the sizes of one operand, and return the dimensions behind its ellipsis."""
    names = term.replace(_ELLIPSIS, "")
    extra = len(shape) - len(names)
    if extra < 0 or (_ELLIPSIS not in term and extra) or not all(n.isalpha() for n in names):
        return None
    at = term.find(_ELLIPSIS) if _ELLIPSIS in term else len(names)
    for name, size in zip(names, shape[:at] + shape[at + extra :], strict=True):
        if sizes.get(name, 1) != 1 and size not in (1, sizes[name]):
            return None
        sizes[name] = max(size, sizes.get(name, 1)) if size else 0
    return shape[at : at + extra]


def _implied(left: str) -> str:
    """Return the output that an equation without an arrow means: the ellipsis, then the indices that occur once, in order."""
    letters = left.replace(_ELLIPSIS, "").replace(",", "")
    once = "".join(sorted(n for n in set(letters) if letters.count(n) == 1))
    return (_ELLIPSIS if _ELLIPSIS in left else "") + once


def _flop(terms: list[str], shapes: list[Shape], sizes: dict[str, int], batch: Shape, kept: str) -> float:
    sets = [set(term.replace(_ELLIPSIS, "")) for term in terms]
    if len(sets) == 1:
        return float(math.prod(shapes[0])) if sets[0] - set(kept) else 0.0
    alone = [own - other - set(kept) for own, other in (sets, sets[::-1])]
    first = sum(math.prod(shape) for shape, summed in zip(shapes, alone, strict=True) if summed)
    rest = (sets[0] | sets[1]) - alone[0] - alone[1]
    volume = math.prod(sizes[n] for n in rest) * math.prod(batch)
    return float(first + (2.0 if (sets[0] & sets[1]) - set(kept) else 1.0) * volume)
