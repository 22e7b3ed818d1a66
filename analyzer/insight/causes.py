"""The parts of a gap taken together, by kind and by cause, and what the causes are called."""

from __future__ import annotations

from collections import defaultdict

from analyzer.format import milliseconds
from analyzer.insight.ledger import TRACING, UNTRACED, WAITING
from analyzer.schema.ledger import TERMS
from analyzer.schema.results import Gap

CAUSES = {
    "work": "floor of the work",
    "vector": "vector units in place of matrix units",
    "locality": "bytes moved more than once",
    "copies": "layout changes and copies",
    "cached": "faster than DRAM allows, maybe from a cache",
    "tail": "partial waves",
    "clock": "clocks below that of the peak",
    "short": "start and end of short kernels",
    "residual": "time above the floor without a named cause",
    "no_floor": "time of work whose floor is not known",
    "host": "waiting for the host",
    "loader": "waiting for the data loader",
    "sync": "the host in a synchronising call",
    "launch": "launches on their way",
    "untold": "waiting that the trace does not explain",
    "dispatch": "operators that only call others",
    "between": "time between operators",
    "no_model": "kernels without a work model",
    "tracing": "untraced minus traced time",
}
"""What each term is called, in the order of ``TERMS``."""

MEANINGS = {
    "work": "the time of its FLOP and compulsory bytes at the limits of the device, on the fastest units for the element type",
    "vector": "what that floor is longer on the vector units that the kernel used, where the device has matrix units "
    "for its element type (float32: as TF32, with less precision)",
    "locality": "the floor with the bytes that the access model expects through DRAM and L2, minus that with each operand once",
    "copies": "all time of layout, copy and fill kernels",
    "cached": "less than the floor, as far as a cache of this size can have served the bytes; a wrong work model looks so too",
    "tail": "multiprocessors without a block while the last blocks run",
    "clock": "arithmetic at the sampled clock, where that is below the clock of the datasheet's peak",
    "short": "time above the floor of kernels (on a CPU: operators) under 5 µs",
    "residual": "what remains above the floor: the kernel is that much slower than the limits allow, and nothing here says why",
    "no_floor": "the limits of the device are not known, or the other run has no floors to compare with",
    "host": "nothing runs, because the host has not launched the next kernel yet",
    "loader": "nothing runs, because the host waits for the next batch",
    "sync": "nothing runs, because the host waits for the device before it launches more",
    "launch": "nothing runs, although the next kernel was launched already",
    "untold": "nothing runs, and the launch of the next kernel is not in the trace",
    "dispatch": "own time of operators that only call others",
    "between": "Python, and the profiler's own cost",
    "no_model": "their operator has no formula, no shapes, or is not known",
    "tracing": "of untraced minus traced time what scaling the time without a kernel cannot account for",
}
"""What each term means, in one sentence for the page."""


def by_kind(gap: Gap) -> list[tuple[str, dict[str, float]]]:
    """Return (kind, difference by term) of what is not unexplained, the kind with the largest difference first."""
    kinds: dict[str, dict[str, float]] = defaultdict(dict)
    for part in gap.parts:
        if part.explained:
            kinds[part.kind][part.term] = kinds[part.kind].get(part.term, 0.0) + part.delta_us
    return sorted(kinds.items(), key=lambda item: -abs(sum(item[1].values())))


def by_term(gap: Gap, *, named: bool = True) -> list[tuple[str, float]]:
    """Return (term, difference) over all kinds, largest first; ``named``: only terms that are a cause."""
    terms: dict[str, float] = {}
    for part in gap.parts:
        if part.named or not named:
            terms[part.term] = terms.get(part.term, 0.0) + part.delta_us
    return sorted(terms.items(), key=lambda item: (-abs(item[1]), TERMS.index(item[0])))


def contradictions(gap: Gap) -> tuple[str, ...]:
    """Return a sentence for each way in which the traces do not account for the difference of the untraced batches."""
    if gap.basis != UNTRACED or not gap.total_us:
        return ()
    kernels = sum(part.delta_us for part in gap.parts if part.kind not in (WAITING, TRACING))
    tracing = sum(part.delta_us for part in gap.parts if part.kind == TRACING)
    out = []
    if kernels * gap.total_us < 0:
        longer, other = (gap.first, gap.second) if kernels > 0 else (gap.second, gap.first)
        out.append(
            f"While traced, the kernels of {longer} take {milliseconds(abs(kernels))} longer; without the profiler, a batch of "
            f"{other} takes {milliseconds(abs(gap.total_us))} longer. So the times of kernels do not explain the difference."
        )
    if abs(tracing) > abs(gap.total_us):
        out.append(
            f"What the traces cannot account for ({CAUSES['tracing']}) is {milliseconds(abs(tracing))} of difference, more "
            f"than the {milliseconds(abs(gap.total_us))} between the batches. So times of kernels and modules may mislead."
        )
    return tuple(out)


def is_scaled_apart(gap: Gap) -> bool:
    """Tell whether the waiting of one run was left out and that of the other kept: their difference then is no cause."""
    return {gap.one.scaling.waiting, gap.two.scaling.waiting} == {0.0, 1.0}
