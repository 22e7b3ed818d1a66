"""Tables of section "gap": the ledger by kind, by cause, part by part, by role, per image and per GFLOP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from analyzer.format import percent
from analyzer.insight.causes import CAUSES, MEANINGS
from analyzer.insight.gap import normalised
from analyzer.insight.ledger import ALONE, PER_STEP, TRACING, UNTRACED, WAITING
from analyzer.report.blocks import Cell, Head, Listing, Row, Table, badge, difference, missing, number
from analyzer.report.marks.gap import SORTS, Step, causes, kind_label, sort_of
from analyzer.report.text import run_label
from analyzer.schema.evidence import Evidence, combine
from analyzer.schema.ledger import TERMS, Ledger
from analyzer.schema.results import Gap, GapPart

MEASURED, DERIVED, MODELLED = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
SHARE = Head(
    "share of gap",
    "%",
    True,
    DERIVED,
    "of the difference between the two runs; parts of either sign add up to 100 %; n/a where the interval of the difference "
    "holds 0",
)
PARTS = "a part of the gap: time of the first run minus time of the second"


def per(gap: Gap) -> str:
    """Return what the times of a gap are given for."""
    return {UNTRACED: "per batch", PER_STEP: "per step"}.get(gap.basis, "in the whole trace")


def _names(gap: Gap) -> tuple[str, str]:
    return run_label(gap.first, 28), run_label(gap.second, 28)


def _share(gap: Gap, delta_us: float) -> Cell:
    value = 100 * delta_us / gap.total_us if gap.is_clear else math.nan
    return Cell(percent(value), value, DERIVED) if math.isfinite(value) else missing()


def _total(gap: Gap, *between: Cell) -> Row:
    ends = (number(gap.first_us / 1e3, 3), number(gap.second_us / 1e3, 3), difference(gap.total_us / 1e3, 3))
    return Row((Cell("the gap"), *ends, _share(gap, gap.total_us), *between), total=True)


def _level(parts: Sequence[GapPart]) -> Evidence:
    return combine(*(part.evidence for part in parts)) if parts else MEASURED


def _time_level(parts: Sequence[GapPart], name: str) -> Evidence:
    """Return how the time of a kind or role is known: it was measured, though a model divides it; waiting is scaled."""
    return _level(parts) if name in (WAITING, TRACING) else MEASURED


def kind_table(gap: Gap) -> Table:
    """Return the gap by kind, the difference of each split by whether it has a cause."""
    groups: dict[str, list[GapPart]] = {}
    for part in gap.parts:
        groups.setdefault(part.kind, []).append(part)
    size = {kind: abs(sum(part.delta_us for part in parts)) for kind, parts in groups.items()}
    rows = []
    for kind in sorted(groups, key=lambda kind: (kind == TRACING, -size[kind])):
        parts = groups[kind]
        sums = {sort: [p for p in parts if sort_of(p) == sort] for sort in SORTS}
        level = _time_level(parts, kind)
        rows.append(
            Row(
                (
                    Cell(kind_label(kind), chip=kind),
                    number(sum(p.first_us for p in parts) / 1e3, 3, level),
                    number(sum(p.second_us for p in parts) / 1e3, 3, level),
                    difference(sum(p.delta_us for p in parts) / 1e3, 3, level),
                    _share(gap, sum(p.delta_us for p in parts)),
                    *(_sum(found) for found in sums.values()),
                )
            )
        )
    rows.append(_total(gap, *(_sum([p for p in gap.parts if sort_of(p) == sort]) for sort in SORTS)))
    first, second = _names(gap)
    level = combine(*(_time_level(parts, kind) for kind, parts in groups.items()))
    heads = (
        Head("kind"),
        Head(first, "ms", True, level, "time of the first run"),
        Head(second, "ms", True, level, "time of the second run"),
        Head("difference", "ms", True, level, PARTS),
        SHARE,
        Head("floor of work", "ms", True, MODELLED, "of the difference: the floor of the work"),
        Head("named causes", "ms", True, MODELLED, "of the difference: time above the floor that has a cause, and waiting"),
        Head("no cause named", "ms", True, MODELLED, "of the difference: time above the floor without a cause"),
        Head("unexplained", "ms", True, DERIVED, "of the difference: no work model, or added by tracing"),
    )
    return Table(
        "kind-table", f"The gap by kind, {per(gap)}; the last four columns add up to the difference", heads, tuple(rows)
    )


def _sum(parts: list[GapPart]) -> Cell:
    return difference(sum(p.delta_us for p in parts) / 1e3, 3, _level(parts)) if parts else Cell("–")


def cause_table(gap: Gap) -> Table:
    """Return the gap by cause, with the ends of what is a band."""
    by_term: dict[str, list[GapPart]] = {}
    for part in gap.parts:
        by_term.setdefault(part.term, []).append(part)
    rows = [_cause_row(gap, step, by_term[step.key]) for step in causes(gap)]
    low, high = gap.interval_us or (math.nan, math.nan)
    ends = (_end(low, MEASURED), _end(high, MEASURED)) if gap.interval_us else (Cell("–"), Cell("–"))
    rows.append(_total(gap, *ends, badge(MEASURED)))
    first, second = _names(gap)
    heads = (
        Head("cause"),
        Head(first, "ms", True, MODELLED, "time of the first run due to this cause"),
        Head(second, "ms", True, MODELLED, "time of the second run due to this cause"),
        Head("difference", "ms", True, MODELLED, PARTS),
        SHARE,
        Head("low", "ms", True, MODELLED, "lower end of the difference, where it is a band or has an interval"),
        Head("high", "ms", True, MODELLED, "upper end of the difference"),
        Head("evidence"),
    )
    return Table("cause-table", f"The gap by cause, {per(gap)}; the differences add up to it", heads, tuple(rows), note=BANDS)


def cause_listing(terms: set[str]) -> Listing:
    """Return what each of ``terms`` means."""
    return Listing("What the causes mean", tuple((CAUSES[t], MEANINGS[t]) for t in TERMS if t in terms), folded=True)


def run_table(ledgers: Sequence[Ledger]) -> Table:
    """Return the time of each run by cause, for runs that are not compared."""
    sums: list[dict[str, float]] = []
    for ledger in ledgers:
        mine: dict[str, float] = {}
        for entry in ledger.entries:
            mine[entry.term] = mine.get(entry.term, 0.0) + entry.us
        sums.append(mine)
    rows = []
    for term in (term for term in TERMS if any(mine.get(term) for mine in sums)):
        cells = [Cell(CAUSES[term])]
        for ledger, mine in zip(ledgers, sums, strict=True):
            us = mine.get(term, 0.0)
            share = 100 * us / ledger.total_us if ledger.total_us > 0 else math.nan
            level = next((e.evidence for e in ledger.entries if e.term == term), MEASURED)
            cells += [number(us / 1e3, 3, level), number(share, 1, level)]
        rows.append(Row(tuple(cells)))
    total = [Cell("sum")]
    for ledger in ledgers:
        total += [number(ledger.total_us / 1e3, 3), number(100.0 if ledger.total_us > 0 else math.nan, 1)]
    rows.append(Row(tuple(total), total=True))
    heads = [Head("cause", meaning="what a part of the time is due to; the parts add up to it")]
    for ledger in ledgers:
        unit = "ms in the trace" if ledger.basis == ALONE else "ms per step"
        heads += [
            Head(run_label(ledger.label, 28), unit, True, MODELLED, "time due to this cause"),
            Head("share", "%", True, MODELLED, "of the time of this run"),
        ]
    what = " and ".join(dict.fromkeys(ledger.basis for ledger in ledgers))
    return Table("run-cause-table", f"What the time is due to ({what})", tuple(heads), tuple(rows))


BANDS = (
    "What one part is at its high end another lacks, so the ends do not add up. The row of the gap has the 95 % interval of "
    "the "
    "difference of the untraced medians, where there is one."
)


def _cause_row(gap: Gap, step: Step, parts: list[GapPart]) -> Row:
    level = _level(parts)
    ends = step.ends_us
    word = {True: level.value, False: f"{level.value}, unexplained"}[parts[0].explained]
    word = f"{level.value}, no cause" if parts[0].explained and not parts[0].named else word
    return Row(
        (
            Cell(step.label),
            number(sum(p.first_us for p in parts) / 1e3, 3, level),
            number(sum(p.second_us for p in parts) / 1e3, 3, level),
            difference(step.delta_us / 1e3, 3, level),
            _share(gap, step.delta_us),
            *((_end(ends[0], level), _end(ends[1], level)) if ends else (Cell("–"), Cell("–"))),
            Cell(word, evidence=level, badge=True),
        )
    )


def _end(us: float, level: Evidence) -> Cell:
    return difference(us / 1e3, 3, level)


def parts_table(gap: Gap) -> Table:
    """Return every part of the ledger; they add up to the gap."""
    rows = []
    for part in gap.parts:
        level = part.evidence
        word = level.value if part.named else f"{level.value}, {'no cause' if part.explained else 'unexplained'}"
        rows.append(
            Row(
                (
                    Cell(kind_label(part.kind), chip=part.kind),
                    Cell(part.role),
                    Cell(CAUSES[part.term]),
                    number(part.first_us / 1e3, 3, level),
                    number(part.second_us / 1e3, 3, level),
                    difference(part.delta_us / 1e3, 3, level),
                    _share(gap, part.delta_us),
                    Cell(word, evidence=level, badge=True),
                ),
                kind=part.kind,
            )
        )
    first, second = _names(gap)
    ends = (number(gap.first_us / 1e3, 3), number(gap.second_us / 1e3, 3), difference(gap.total_us / 1e3, 3))
    total = (Cell("sum"), Cell(""), Cell("the gap"), *ends, _share(gap, gap.total_us), badge(MEASURED))
    rows.append(Row(total, total=True))
    heads = (
        Head("kind"),
        Head("role", meaning="what the kind is for, so that different models can be compared"),
        Head("cause"),
        Head(first, "ms", True, MODELLED, "time of the first run"),
        Head(second, "ms", True, MODELLED, "time of the second run"),
        Head("difference", "ms", True, MODELLED, PARTS),
        SHARE,
        Head("evidence"),
    )
    return Table("gap-table", f"Parts of the gap, {per(gap)}; they add up to it", heads, tuple(rows))


def role_table(gap: Gap) -> Table:
    """Return the gap by functional role: what work, traffic and rate contribute (LMDI)."""
    rows = []
    for role in gap.roles:
        level = _time_level([p for p in gap.parts if p.role == role.role], role.role)
        times = (number(role.first_us / 1e3, 3, level), number(role.second_us / 1e3, 3, level))
        delta = difference((role.first_us - role.second_us) / 1e3, 3, level)
        effects = (_effect(us) for us in (role.work_us, role.traffic_us, role.rate_us, role.other_us))
        rows.append(Row((Cell(role.role), *times, delta, *effects)))
    sums = (sum(getattr(r, name) for r in gap.roles) for name in ("work_us", "traffic_us", "rate_us", "other_us"))
    ends = (number(gap.first_us / 1e3, 3), number(gap.second_us / 1e3, 3), difference(gap.total_us / 1e3, 3))
    rows.append(Row((Cell("the gap"), *ends, *(_effect(us) for us in sums)), total=True))
    level = combine(*(_time_level([p for p in gap.parts if p.role == role.role], role.role) for role in gap.roles))
    first, second = _names(gap)
    heads = (
        Head("role", meaning="what kinds are for: dense math, mixing of tokens or places, normalisation and so on"),
        Head(first, "ms", True, level, "time of the first run"),
        Head(second, "ms", True, level, "time of the second run"),
        Head("difference", "ms", True, level, PARTS),
        Head(
            "floor of work",
            "ms",
            True,
            MODELLED,
            "contribution of the floor at the limits of each run's device; all, if one lacks the role",
        ),
        Head("traffic", "ms", True, MODELLED, "contribution of the floor with the bytes that really move over that floor"),
        Head("rate", "ms", True, MODELLED, "contribution of the time over the floor with these bytes"),
        Head("other", "ms", True, MODELLED, "what has no such factors: waiting, copies, no work model, tracing"),
    )
    caption = f"The gap by role, {per(gap)}: what would differ if only work, only traffic or only the rate differed"
    return Table("role-table", caption, heads, tuple(rows))


def _effect(us: float) -> Cell:
    return difference(us / 1e3, 3, MODELLED) if us else Cell("–")


def normalised_tables(gap: Gap) -> tuple[Table, ...]:
    """Return the gap by cause per image and per GFLOP of each run, where both runs tell how many there are."""
    by: tuple[Literal["image", "GFLOP"], ...] = ("image", "GFLOP")
    found = [(name, normalised(gap, name)) for name in by]
    return tuple(_normalised(one, name, f"µs per {name}") if one else _not_known(name) for name, one in found)


def _not_known(by: str) -> Table:
    what = "its images per step" if by == "image" else "the work of 90 % of its kernel time"
    head = (Head("run"), Head("reason"))
    row = Row((Cell("either"), Cell(f"not available: at least one of the runs does not tell {what}")))
    return Table(f"per-{by.lower()}-table", f"Per {by}", head, (row,))


def _normalised(gap: Gap, by: str, unit: str) -> Table:
    size = {"image": "images", "GFLOP": "flop"}[by]
    per_run = [getattr(ledger, size) for ledger in (gap.one, gap.two)]
    rows = []
    for step in causes(gap):
        parts = [part for part in gap.parts if part.term == step.key]
        level = combine(_level(parts), DERIVED)
        times = (number(sum(getattr(part, name) for part in parts), 3, level) for name in ("first_us", "second_us"))
        rows.append(Row((Cell(step.label), *times, difference(step.delta_us, 3, level), _share(gap, step.delta_us))))
    total = (number(gap.first_us, 3, DERIVED), number(gap.second_us, 3, DERIVED), difference(gap.total_us, 3, DERIVED))
    rows.append(Row((Cell("the difference"), *total, _share(gap, gap.total_us)), total=True))
    first, second = _names(gap)
    heads = (
        Head("cause"),
        Head(first, unit, True, MODELLED, f"time of the first run per {by}"),
        Head(second, unit, True, MODELLED, f"time of the second run per {by}"),
        Head("difference", unit, True, MODELLED, PARTS),
        SHARE,
    )
    shown = " and ".join(f"{value:g}" if by == "image" else f"{value / 1e9:.1f} GFLOP" for value in per_run)
    what = f"{'images' if by == 'image' else 'work'} {per(gap)}"
    return Table(
        f"per-{by.lower()}-table", f"Per {by} ({what}: {shown}); the parts add up to the difference", heads, tuple(rows)
    )
