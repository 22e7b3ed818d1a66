"""The steps of the waterfalls: the parts of the gap, taken together by kind or by cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.insight.causes import CAUSES
from analyzer.insight.ledger import WAITING
from analyzer.schema.evidence import Evidence, combine
from analyzer.schema.ledger import TERMS
from analyzer.schema.results import Gap, GapPart

MAX_STEPS = 10
UNEXPLAINED = "unexplained"
SORTS = ("work", "named", "unnamed", "unexplained")
"""How a part is drawn: floor of the work, time with a cause, time above the floor without one, unexplained."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of a waterfall, from ``start_us`` to ``end_us`` by way of its ``parts``, each (sort, difference).

    ``key`` is its kind or its term; ``ends_us`` are the ends of its difference where it is a band.
    """

    label: str
    key: str
    start_us: float
    parts: tuple[tuple[str, float], ...]
    evidence: Evidence
    ends_us: tuple[float, float] | None = None

    @property
    def delta_us(self) -> float:
        """Return the sum of the parts."""
        return sum(delta for _, delta in self.parts)

    @property
    def end_us(self) -> float:
        """Return where the next step starts."""
        return self.start_us + self.delta_us


def steps(gap: Gap) -> tuple[Step, ...]:
    """Return the steps from the second run's time to the first's: explained kinds by size, the unexplained part last."""
    kinds: dict[str, list[GapPart]] = {}
    for part in gap.parts:
        kinds.setdefault(part.kind if part.explained else UNEXPLAINED, []).append(part)
    unexplained = kinds.pop(UNEXPLAINED, [])
    order = sorted(kinds, key=lambda kind: -abs(sum(part.delta_us for part in kinds[kind])))
    shown = len(order) if len(order) <= MAX_STEPS else MAX_STEPS - 1
    groups = [(kind_label(kind), kind, kinds[kind]) for kind in order[:shown]]
    rest = [part for kind in order[shown:] for part in kinds[kind]]
    if rest:
        groups.append((f"{len(order) - shown} smaller kinds", "other", rest))
    return _chain(gap, [*groups, (UNEXPLAINED, UNEXPLAINED, unexplained)])


def kind_label(kind: str) -> str:
    """Return a kind as a reader knows it."""
    return "idle or between" if kind == WAITING else kind


def causes(gap: Gap) -> tuple[Step, ...]:
    """Return the steps by cause: named ones by size, then time above the floor without a cause, the unexplained part last."""
    terms: dict[str, list[GapPart]] = {}
    for part in gap.parts:
        terms.setdefault(part.term, []).append(part)
    size = {term: abs(sum(part.delta_us for part in parts)) for term, parts in terms.items()}
    order = sorted(terms, key=lambda term: (max(SORTS.index(sort_of(terms[term][0])), 1), -size[term], TERMS.index(term)))
    return _chain(gap, [(CAUSES[term], term, terms[term]) for term in order])


def _chain(gap: Gap, groups: Sequence[tuple[str, str, list[GapPart]]]) -> tuple[Step, ...]:
    out, at = [], gap.second_us
    for label, key, parts in groups:
        level = combine(*(part.evidence for part in parts)) if parts else Evidence.MEASURED
        step = Step(label, key, at, _sorted(parts), level, _ends(parts))
        out.append(step)
        at = step.end_us
    return tuple(out)


def sort_of(part: GapPart) -> str:
    """Return how a part is drawn, one of SORTS."""
    if not part.explained:
        return "unexplained"
    if not part.named:
        return "unnamed"
    return "work" if part.term == "work" else "named"


def _sorted(parts: Sequence[GapPart]) -> tuple[tuple[str, float], ...]:
    sums: dict[str, float] = {}
    for part in parts:
        sums[sort_of(part)] = sums.get(sort_of(part), 0.0) + part.delta_us
    return tuple((sort, sums[sort]) for sort in SORTS if sort in sums)


def _ends(parts: Sequence[GapPart]) -> tuple[float, float] | None:
    """Return the ends of the sum of ``parts`` of one term, None where it is no band."""
    if len({part.term for part in parts}) != 1:
        return None
    low, high = sum(part.low_us for part in parts), sum(part.high_us for part in parts)
    return (low, high) if high > low else None
