"""Section "gap": where the difference between two runs comes from, in parts that add up to it."""

from __future__ import annotations

from analyzer.format import fixed, milliseconds, percent, signed
from analyzer.insight.causes import CAUSES
from analyzer.insight.ledger import UNTRACED
from analyzer.report.blocks import Block, Figure, Folded, Notice, Prose, Section
from analyzer.report.figures.gap import is_zoomed, waterfall
from analyzer.report.marks.gap import Step, causes, steps
from analyzer.report.sections.ledger_tables import (
    cause_listing,
    cause_table,
    kind_table,
    normalised_tables,
    parts_table,
    per,
    role_table,
)
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.ledger import Ledger
from analyzer.schema.results import Gap, Study

HOW = (
    "Start at the top with the second run's time, follow the steps down, and arrive at the first run's time. A step to the "
    "right is time that the first run takes more, one to the left time that it takes less."
)
HOW_KINDS = (
    " What is unexplained stands in one bar at the end; the table has it within its kind, too."
    " Within a kind the floor of its work stands above, time above the floor with a cause in the middle, time without one "
    "below. "
    "Whiskers at both ends are 95 % intervals of the totals."
)
HOW_CAUSES = (
    " The same gap by what it is due to. A filled bar has the colour of the run that it costs more. Whiskers are the ends of a "
    "part that is a band of the model, or follows the interval of the untraced time."
)


def section(study: Study) -> Section | None:
    """Return the section, None unless exactly two runs are compared."""
    gap = study.gap
    if gap is None:
        return None
    blocks: list[Block] = [Prose(_lead(gap), Evidence.MODELLED)]
    blocks += [_by_kind(gap), _by_cause(gap), *_lacking(gap), _reconciled(gap)]
    blocks.append(cause_listing({part.term for part in gap.parts}))
    blocks.append(Folded("Every part: kind by cause", (parts_table(gap),)))
    blocks += _other_question(gap)
    blocks.append(Folded("The same per image and per GFLOP", normalised_tables(gap)))
    return Section("gap", "Where does the gap come from?", "Gap", tuple(blocks))


def _lead(gap: Gap) -> str:
    first, second = clean(gap.first, 60), clean(gap.second, 60)
    ends = f" (95 %: {signed(gap.interval_us[0])} to {signed(gap.interval_us[1])})" if gap.interval_us else ""
    share = f" ({percent(100 * gap.open_us / abs(gap.total_us))} of the gap)" if gap.is_clear else ""
    return (
        f"{first} takes {milliseconds(gap.first_us)}, {second} {milliseconds(gap.second_us)} ({gap.basis}); the difference is "
        f"{signed(gap.total_us)}{ends}. Parts whose cause is not established are {milliseconds(gap.open_us)} in size"
        f"{share}: each counted without its sign, so that they cannot cancel, time above the floor by role."
    )


def _by_kind(gap: Gap) -> Figure:
    found = steps(gap)
    title = f"{clean(gap.first, 60)} minus {clean(gap.second, 60)} by kind: {signed(gap.total_us)}"
    drawing = waterfall("fig1", gap, found, _intervals(gap), title, per(gap))
    return Figure("fig1", title, HOW + HOW_KINDS + _cut(gap, found), drawing, kind_table(gap), table_open=True)


def _by_cause(gap: Gap) -> Figure:
    found = causes(gap)
    title = f"{clean(gap.first, 60)} minus {clean(gap.second, 60)} by cause: {signed(gap.total_us)}"
    drawing = waterfall("fig1b", gap, found, _intervals(gap), title, per(gap))
    return Figure("fig1b", title, HOW + HOW_CAUSES + _cut(gap, found), drawing, cause_table(gap), table_open=True)


def _cut(gap: Gap, found: tuple[Step, ...]) -> str:
    return " The axis does not start at zero, because the steps would be too small to see." if is_zoomed(gap, found) else ""


def _intervals(gap: Gap) -> tuple[tuple[float, float] | None, ...]:
    return tuple(
        (ledger.low_us, ledger.high_us) if ledger.low_us is not None and ledger.high_us is not None else None
        for ledger in (gap.one, gap.two)
    )


def _reconciled(gap: Gap) -> Prose:
    """Return how the traced steps became the time that the ledger is stated for."""
    if gap.basis != UNTRACED:
        text = (
            "These are traced times, with the profiler's own cost in them: there is no untraced latency to state the ledger "
            "for. "
            "Where kernels overlap, a moment in which several run gives each of them an equal share."
        )
        return Prose(text)
    said = " ".join(_scaled(ledger) for ledger in (gap.one, gap.two))
    text = (
        "The totals are untraced medians, the parts come from traced steps. Kernels (on a CPU: operators) keep the time that "
        "they "
        "took while traced; the time between them is scaled, and what that cannot account for is the part "
        f"“{CAUSES['tracing']}”, which counts as unexplained. {said}"
    )
    return Prose(text, Evidence.DERIVED)


def _lacking(gap: Gap) -> list[Block]:
    """Return which causes cannot be told of one run, and are therefore part of the time without a cause in both."""
    out: list[Block] = []
    for ledger, other in ((gap.one, gap.two), (gap.two, gap.one)):
        terms = [CAUSES[term] for term in ledger.lacking if term not in other.lacking]
        if terms:
            label = clean(ledger.label, 60)
            text = f"Of {label} it cannot be told: {', '.join(terms)}. In the comparison that time has no cause in either run."
            out.append(Notice(text))
    return out


def _scaled(ledger: Ledger) -> str:
    scaling = ledger.scaling
    label = clean(ledger.label, 60)
    return (
        f"{label}: {milliseconds(scaling.traced_us)} traced, {milliseconds(ledger.total_us)} untraced; time without a kernel "
        f"times {fixed(scaling.waiting, 2)}, and {signed(scaling.rest_us)} unexplained."
    )


def _other_question(gap: Gap) -> list[Block]:
    """Return the decomposition by roles, with the question that it answers beside the one above."""
    if not gap.roles:
        return []
    text = (
        "Two questions, two answers. The figures above ask: how much time does each model spend on each cause? A cause may be "
        "large in both and cancel, and a model with more work also has more time above its floor. The table below asks: of the "
        "difference in each role, how much is a higher floor of the work, how much is more bytes for the same floor, and how "
        "much "
        "is a lower rate? It weighs relative changes (LMDI), so its floor and rate may differ from those above, even in sign. "
        "The floor is time at the limits of the device that each run had: where devices or element types differ, it differs "
        "for "
        "the same work too. Neither question can say why a rate is low."
    )
    return [Prose(text), Folded("By functional role: work, traffic and rate", (role_table(gap),))]
