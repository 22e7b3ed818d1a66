"""Section "gap": where the difference between two runs comes from."""

from __future__ import annotations

import math

from analyzer.format import milliseconds, percent, signed
from analyzer.insight.verdict import TERM_NAMES
from analyzer.report.blocks import Block, Cell, Figure, Head, Prose, Row, Section, Table, badge, difference, number
from analyzer.report.figures.gap import is_zoomed, per, waterfall
from analyzer.report.marks.gap import steps
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Gap, Study

HOW = (
    "Start at the top with the second run's time, follow the steps down, and arrive at the first run's time. A step to the "
    "right is time that the first run takes more, one to the left time that it takes less. Whiskers are 95 % intervals."
)


def section(study: Study) -> Section | None:
    """Return the section, None unless exactly two runs are compared."""
    gap = study.gap
    if gap is None:
        return None
    first, second = clean(gap.first, 60), clean(gap.second, 60)
    found = steps(gap)
    untraced = "untraced" in gap.basis
    intervals = tuple(_interval(a) if untraced else None for a in study.analyses)
    title = f"{first} minus {second}: {signed(gap.total_us)}"
    how = HOW + (
        " The axis does not start at zero, because the steps would be too small to see." if is_zoomed(gap, found) else ""
    )
    lead = (
        f"{first} takes {milliseconds(gap.first_us)}, {second} {milliseconds(gap.second_us)} ({gap.basis}); the difference is "
        f"{signed(gap.total_us)}. Unexplained: {signed(gap.unexplained_us)}."
    )
    blocks: list[Block] = [
        Prose(lead, Evidence.MEASURED),
        Figure("fig1", title, how, waterfall(gap, found, intervals, title), _table(gap), table_open=True),
    ]
    if untraced:
        blocks.append(
            Prose(
                "The parts come from the traced steps, the totals from untraced ones. What tracing added is a part of its own "
                "(untraced minus traced time) and counts as unexplained: nobody can say which kind it fell on."
            )
        )
    blocks.append(
        Prose(
            "A floor is the time that the FLOP and compulsory bytes of a kind would take at the limits of the device (section "
            "Method). A floor that is higher in one run is more work; time above the floor is work done less close to the "
            "limits. It names where the time is, not why."
        )
    )
    return Section("gap", "Where does the gap come from?", "Gap", tuple(blocks))


def _interval(a: Analysis) -> tuple[float, float] | None:
    median = a.latency.median_ms if a.latency else None
    return (median.low * 1e3, median.high * 1e3) if median and median.low is not None and median.high is not None else None


def _table(gap: Gap) -> Table:
    total = gap.total_us
    rows = []
    for part in gap.parts:
        share = 100 * part.delta_us / total if total else math.nan
        level = part.evidence
        rows.append(
            Row(
                (
                    Cell(part.kind, chip=part.kind),
                    Cell(TERM_NAMES[part.term]),
                    number(part.first_us / 1e3, 3, level),
                    number(part.second_us / 1e3, 3, level),
                    difference(part.delta_us / 1e3, 3, level),
                    Cell(percent(share), share if math.isfinite(share) else None),
                    badge(level) if part.explained else Cell(f"{level.value}, unexplained", evidence=level, badge=True),
                )
            )
        )
    rows.append(
        Row(
            (
                Cell("sum"),
                Cell("the gap"),
                number(gap.first_us / 1e3, 3),
                number(gap.second_us / 1e3, 3),
                difference(total / 1e3, 3),
                Cell(percent(100.0) if total else percent(math.nan), 100.0 if total else None),
                badge(Evidence.MEASURED),
            ),
            total=True,
        )
    )
    heads = (
        Head("kind"),
        Head("part"),
        Head(clean(gap.first, 40), "ms", True),
        Head(clean(gap.second, 40), "ms", True),
        Head("difference", "ms", True),
        Head("share of gap", "%", True),
        Head("evidence"),
    )
    return Table("gap-table", f"Parts of the gap, {per(gap)}; they add up to it", heads, tuple(rows))
