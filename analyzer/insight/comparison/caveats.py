"""What a reader must know before trusting a comparison, and what was not measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from analyzer.format import counted, percent
from analyzer.insight.caveats import SPREAD_PCT
from analyzer.insight.comparison.basis import has_shapes, is_untraced
from analyzer.insight.comparison.facts import POWER_CAP, UNKNOWN
from analyzer.insight.comparison.sentences import FACTS, OPERATORS
from analyzer.schema.comparison import FactRow
from analyzer.schema.digest import Digest
from analyzer.schema.results import Caveat

_NAMED = 3
"""Runs that a caveat names; more of them are counted."""
_WANTED = ("batch size", "image size", "element type", "torch", POWER_CAP)
"""Facts without which nobody can say whether times may be compared."""


def find_caveats(
    runs: Sequence[Digest], names: Sequence[str], facts: Sequence[FactRow], matched_pct: Sequence[float]
) -> tuple[Caveat, ...]:
    """Return what is off: facts that differ, facts that are not known, unsteady times, and the warnings of the runs."""
    out = [Caveat("warning", f"{row.fact} differs: {row.warning}", FACTS) for row in facts if row.warning]
    unknown = [row.fact for row in facts if row.fact in _WANTED and UNKNOWN in row.values]
    unknown += [fact for fact in _WANTED if fact not in {row.fact for row in facts}]
    if unknown:
        out.append(Caveat("note", f"not recorded in every run, so unknown there: {', '.join(unknown)}", FACTS))
    said: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for run, name, share in zip(runs, names, matched_pct, strict=True):
        for level, text, target in _of_run(run, share):
            said[level, text, target].append(name)
    for (level, text, target), whose in said.items():
        more = f" and {len(whose) - _NAMED} more" if len(whose) > _NAMED else ""
        out.append(Caveat(level, f"{', '.join(whose[:_NAMED])}{more}: {text}", target))
    return tuple(out)


def of_baseline(places: Sequence[str], chosen: int) -> tuple[Caveat, ...]:
    """Return a note where the baseline is not the first run and nobody named it."""
    if not chosen:
        return ()
    text = f"the baseline is {places[chosen]}, the first run whose trace has shapes and steps; baseline= names another"
    return (Caveat("note", text, FACTS),)


def _of_run(run: Digest, share: float) -> list[tuple[str, str, str]]:
    out = []
    if run.latency is not None and run.latency.spread_pct > SPREAD_PCT:
        text = f"the middle half of the iterations spreads over more than {percent(SPREAD_PCT)} of the median"
        out.append(("warning", text, FACTS))
    if not is_untraced(run):
        out.append(("note", "times are from the trace, so they hold the profiler's own cost and have no interval", FACTS))
    if run.telemetry is not None and run.telemetry.throttled:
        text = f"clocks were held down during the timed pass ({', '.join(run.telemetry.throttled)}), so its times are longer"
        out.append(("warning", text, FACTS))
    if run.totals.kernel_count and not has_shapes(run):
        text = "no shapes in the trace, so its operators can hardly be matched; record with record_shapes=True"
        out.append(("warning", text, OPERATORS))
    elif math.isnan(share):
        out.append(("warning", "no kernel ran, so nothing can be matched", OPERATORS))
    return out + [("warning", text, "method") for text in run.warnings]


def not_measured(runs: Sequence[Digest], names: Sequence[str]) -> tuple[str, ...]:
    """Return what was not measured and how to get it."""
    out = []
    bare = [name for run, name in zip(runs, names, strict=True) if not is_untraced(run)]
    if bare:
        which = f"{', '.join(bare[:_NAMED])}{' and others' if len(bare) > _NAMED else ''}"
        out.append(
            f"untraced times of {counted(len(bare), 'run', 'runs')} ({which}): record with `analyzer` on that device; it times "
            "batches without the profiler"
        )
    return tuple(out)
