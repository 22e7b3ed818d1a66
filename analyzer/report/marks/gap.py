"""The steps of the waterfall: the parts of the gap, grouped by kind."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.insight.verdict import TERM_NAMES
from analyzer.schema.evidence import Evidence, combine
from analyzer.schema.results import Gap, GapPart

MAX_STEPS = 10
UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the waterfall, from ``start_us`` to ``end_us`` by way of its ``terms``."""

    label: str
    kind: str
    start_us: float
    terms: tuple[tuple[str, float], ...]
    evidence: Evidence

    @property
    def delta_us(self) -> float:
        """Return the sum of the terms."""
        return sum(delta for _, delta in self.terms)

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
    groups = [(kind, kind, kinds[kind]) for kind in order[:shown]]
    rest = [part for kind in order[shown:] for part in kinds[kind]]
    if rest:
        groups.append((f"{len(order) - shown} smaller kinds", "other", rest))
    groups.append((UNEXPLAINED, UNEXPLAINED, unexplained))
    out, at = [], gap.second_us
    for label, kind, parts in groups:
        level = combine(*(part.evidence for part in parts)) if parts else Evidence.MEASURED
        step = Step(label, kind, at, _terms(parts), level)
        out.append(step)
        at = step.end_us
    return tuple(out)


def _terms(parts: list[GapPart]) -> tuple[tuple[str, float], ...]:
    sums: dict[str, float] = {}
    for part in parts:
        sums[part.term] = sums.get(part.term, 0.0) + part.delta_us
    return tuple(sorted(sums.items(), key=lambda item: list(TERM_NAMES).index(item[0])))
