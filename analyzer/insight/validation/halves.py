"""Kernels in two halves, one to fit parameters on and one to score them: nothing that was measured has a say in it."""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.insight.validation.items import Item
from analyzer.schema.validation import FIT, SCORE


def halves(items: Iterable[Item]) -> dict[str, str]:
    """Return FIT or SCORE for the key of every distinct kernel, so that all quantities and modes of a kernel share one half.

    Within a GPU kernels are sorted by class, then by the hash that is their key, and go to FIT and SCORE in turns: the halves
    of every class, and of every GPU, differ by one kernel at most.
    """
    kernels = sorted({(item.gpu, item.family, item.key) for item in items})
    found: dict[str, str] = {}
    place: dict[str, int] = {}
    for gpu, _, key in kernels:
        turn = place.get(gpu, 0)
        found[key] = FIT if turn % 2 == 0 else SCORE
        place[gpu] = turn + 1
    return found
