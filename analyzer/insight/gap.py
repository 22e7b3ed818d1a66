"""The gap between two runs, in parts that add up to it.

Layered excess: each kind's time is its floor (work at the device's limits) plus the time above that floor; the gap is the
difference of floors, of times above them, and of idle time. What has no work model, and what tracing itself added, is the
unexplained part: a sum of its own, not whatever is left. Tracing is the difference of two measurements, the untraced median and
the traced wall time; idle is measured as gaps; so the parts add up only because kinds and idle time fill the wall.
"""

from __future__ import annotations

from analyzer.schema.evidence import Evidence, combine
from analyzer.schema.results import Analysis, Gap, GapPart
from analyzer.schema.tables import records
from analyzer.trace.kinds import KINDS

TERMS = ("floor", "above", "time")


def explain(a: Analysis, b: Analysis) -> Gap:
    """Return the gap ``a`` - ``b`` per batch in parts.

    Stated for untraced medians where both runs have them; otherwise for the traced window per step, or for the whole window
    where the number of steps is not known.
    """
    untraced = a.latency is not None and b.latency is not None
    per_batch = untraced or comparable(a, b)
    first, second = _Parts(a, untraced, per_batch), _Parts(b, untraced, per_batch)
    parts = []
    for kind in KINDS:
        for term in TERMS:
            parts += _part(kind, term, first, second, explained=True)
    parts += _part("idle", "idle", first, second, explained=True)
    for kind in KINDS:
        parts += _part(kind, "no_model", first, second, explained=False)
    parts += _part("tracing", "tracing", first, second, explained=False)
    whole = "traced time per step" if per_batch else "whole traces: they do not both divide into steps"
    basis = "untraced median per batch" if untraced else whole
    return Gap(a.label, b.label, first.total_us, second.total_us, basis, tuple(parts))


def comparable(a: Analysis, b: Analysis) -> bool:
    """Tell whether the times of both runs can be stated for one batch."""
    return bool(a.window.batches and b.window.batches)


class _Parts:
    """The parts of one run in microseconds per batch, by (kind, term)."""

    def __init__(self, run: Analysis, untraced: bool, per_batch: bool) -> None:
        steps = (run.window.batches if per_batch else None) or 1
        wall_us = run.totals.wall_us / steps
        self.total_us = run.latency.median_ms.value * 1e3 if untraced else wall_us
        self.values: dict[tuple[str, str], float] = {("idle", "idle"): run.totals.idle_us / steps}
        # the terms of the kinds are modelled as soon as a floor divides the measured time
        self.evidence: dict[tuple[str, str], Evidence] = {("idle", "idle"): Evidence.MEASURED}
        for row in records(run.kinds):
            kind = str(row.kind)
            for term, value, level in (
                ("floor", row.floor_us, Evidence.MODELLED),
                ("above", row.modelled_us - row.floor_us, Evidence.MODELLED),
                ("time", row.no_floor_us, Evidence.MEASURED),
                ("no_model", row.no_model_us, Evidence.MEASURED),
            ):
                self.values[kind, term] = value / steps
                self.evidence[kind, term] = level
        if untraced:
            self.values["tracing", "tracing"] = self.total_us - wall_us
            self.evidence["tracing", "tracing"] = Evidence.MEASURED


def _part(kind: str, term: str, a: _Parts, b: _Parts, *, explained: bool) -> list[GapPart]:
    key = (kind, term)
    first, second = a.values.get(key, 0.0), b.values.get(key, 0.0)
    if first == 0.0 and second == 0.0:
        return []
    levels = [parts.evidence[key] for parts in (a, b) if key in parts.evidence]
    return [GapPart(kind, term, first, second, combine(*levels), explained)]
