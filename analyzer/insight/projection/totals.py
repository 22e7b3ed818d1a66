"""Sums over the groups of a run on one target, with intervals where nearly all of it is validated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from analyzer.insight.projection.ratios import NEAR, NEITHER
from analyzer.insight.projection.scores import score_of
from analyzer.schema.projection import (
    ESTIMATED,
    FLOOR,
    KEPT,
    REFUSED,
    STATUSES,
    VALIDATED,
    ClassTotal,
    Group,
    Projected,
    Target,
    Total,
)

MOSTLY_PCT, SMALL_PCT, KEPT_PCT = 90.0, 1.0, 10.0
"""Shares in percent: from which validated part on a total has an interval; up to which a part without a time is left out; from
which kept part on there is no total."""
KEPT_TITLE = "copies and kernels without a work model"
SHAPES_MISSING = "no shapes in the trace"
MAX_REASONS = 3
_MISSING_HINT = "; record with shapes (record_shapes=True)"


def total_of(
    target: Target, groups: Sequence[Group], place: int, waiting_us: float, *, reason: str = "", same: bool = False,
    arithmetic: str = "", notes: tuple[str, ...] = (),
) -> Total:  # fmt: skip
    """Return the sums of ``groups`` on the target at ``place``. ``reason``: why there can be no total at all.

    Intervals of kernels of one class add up linearly, because their errors have causes in common. Classes add up as independent
    errors do, by the root of the sum of squares. What is not calibrated has no interval and adds nothing to one.

    Approximation: the whole takes at least as long as kernels or waiting alone, and at most as long as the waiting
    and the kernels of the slower of the two GPUs: a host that sets the pace does not get faster with the GPU.
    """
    found: dict[tuple[str, str], list[tuple[Group, Projected]]] = {}
    for group in groups:
        figure = group.on[place]
        found.setdefault((KEPT_TITLE if figure.status == KEPT else group.title, figure.status), []).append((group, figure))
    classes = [_class_total(title, status, members) for (title, status), members in found.items()]
    classes.sort(key=lambda c: (STATUSES.index(c.status), -c.source_us))
    kernels = sum(c.source_us for c in classes)
    left_out = [c for c in classes if c.status in (FLOOR, REFUSED)]
    if not reason and not same:
        kept_parts = _by_reason([(g.on[place].why, g.source_us) for g in groups if g.on[place].status == KEPT])
        reason = _why_no_total(left_out, kept_parts, kernels) if classes else "the run has no kernels"
    if not reason:
        notes = (*notes, *(_left_out(c, kernels) for c in left_out), *_neither(groups, place, kernels))
    timed = [c for c in classes if c not in left_out]
    time = sum(c.time_us for c in timed)
    projected = sum(c.time_us for c in timed if c.status != KEPT)
    validated = 100 * sum(c.time_us for c in timed if c.status == VALIDATED) / projected if projected else 0.0
    low, high = _ends(timed, time) if validated >= MOSTLY_PCT else (math.nan, math.nan)
    least, most = max(low if math.isfinite(low) else time, waiting_us), max(time, kernels, 0.0 if math.isnan(high) else high)
    floors = [c.floor_us for c in classes if math.isfinite(c.floor_us)]
    sums = (math.nan,) * 5 if reason else (time, low, high, least, most + waiting_us)
    kept = sum(c.source_us for c in classes if c.status == KEPT)
    return Total(
        target, tuple(classes), *sums, floor_us=sum(floors) if floors else math.nan, kept_us=kept,
        validated_pct=validated, reason=reason, same=same, arithmetic=arithmetic, notes=notes,
    )  # fmt: skip


def _class_total(title: str, status: str, members: Sequence[tuple[Group, Projected]]) -> ClassTotal:
    time, low, high = (sum(getattr(p, name) for _, p in members) for name in ("time_us", "low_us", "high_us"))
    floors = [p.floor_us for _, p in members if math.isfinite(p.floor_us)]
    whys = _by_reason([(p.why, g.source_us) for g, p in members])
    why = next(iter(whys))
    scheme = next(iter(_by_reason([(p.scheme, g.source_us) for g, p in members])))
    score = score_of(scheme, title) if status in (VALIDATED, ESTIMATED) else None
    return ClassTotal(
        title=title, status=status, why=f"mostly: {why}" if len(whys) > 1 else why,
        source_us=sum(g.source_us for g, _ in members),
        time_us=time, low_us=low, high_us=high, floor_us=sum(floors) if floors else math.nan,
        p90_pct=score.p90_pct if score else math.nan, coverage_pct=score.coverage_pct if score else math.nan,
    )  # fmt: skip


def _by_reason(texts: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Return the time of each text, the one with most first."""
    times: dict[str, float] = {}
    for text, time in texts:
        times[text] = times.get(text, 0.0) + time
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _why_no_total(left_out: Sequence[ClassTotal], kept: Mapping[str, float], kernels_us: float) -> str:
    for found, limit in ((_by_reason([(c.why, c.source_us) for c in left_out]), SMALL_PCT), (kept, KEPT_PCT)):
        share = 100 * sum(found.values()) / kernels_us if kernels_us else 0.0
        if share > limit:
            hint = _MISSING_HINT if any(SHAPES_MISSING in why for why in found) else ""
            return f"{share:.0f} % of the time cannot be projected: {'; '.join(list(found)[:MAX_REASONS])}{hint}"
    return ""


def _neither(groups: Sequence[Group], place: int, kernels_us: float) -> Iterator[str]:
    share = 100 * sum(g.source_us for g in groups if g.on[place].why == NEITHER) / kernels_us if kernels_us else 0.0
    if share > SMALL_PCT:
        yield (
            f"{share:.0f} % of the kernel time is of kernels that reach under {100 * NEAR:.0f} % of their roofline on the "
            "source: neither peak nor bandwidth limits them. They keep their time, or take the floor where that is longer."
        )


def _left_out(found: ClassTotal, kernels_us: float) -> str:
    return f"Left out of the total: {found.title}, {100 * found.source_us / kernels_us:.2g} % of the kernel time; {found.why}."


def _ends(classes: Sequence[ClassTotal], time: float) -> tuple[float, float]:
    """Return low and high of the sum."""
    found = []
    for name in ("low_us", "high_us"):
        off = [abs(getattr(c, name) - c.time_us) for c in classes if c.status in (VALIDATED, ESTIMATED)]
        found.append(math.hypot(*off))
    return max(time - found[0], 0.0), time + found[1]
