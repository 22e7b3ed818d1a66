"""Section "findings": what could be changed in each run and what it may save, and what looks wrong and is not."""

from __future__ import annotations

import inspect
import re

from analyzer.format import counted, milliseconds, percent, quantity
from analyzer.insight.rules import RULES
from analyzer.report.blocks import Block, Card, Cards, Cell, Folded, Head, Notice, Prose, Row, SavingBar, Section, Table
from analyzer.report.finding_entries import saving_pct_of_step
from analyzer.report.text import clean
from analyzer.schema.findings import Finding
from analyzer.schema.results import Analysis, Study, run_names

LEAD = (
    "A saving is an estimate with a low and a high end, modelled from the figures of its card. The solid part of a bar is the "
    "low end, the hatched part reaches to the high end, and the whole bar is the time of a step, or of the whole trace where "
    "it names none. Each estimate is bounded by the time of what it changes. Estimates overlap, so do not add them."
)
MINOR_PCT = 1.0
"""Savings that reach no further than this share of the step are folded where there are larger ones."""
MINOR = "Savings that stay below one per cent"
NOTES = "Looks wrong and is not, or cannot be made faster from here"


def section(study: Study) -> Section:
    """Return a card for each finding, opportunities first by what they may save; without any, which rules looked."""
    blocks: list[Block] = []
    major, minor = _opportunities(study)
    notes = tuple(_card(f, study) for f in study.findings if f.level == "note")
    runs = "this run" if len(study.analyses) == 1 else f"these {counted(len(study.analyses), 'run', 'runs')}"
    if major:
        blocks += [Prose(LEAD), Cards("opportunities", "", major)]
        blocks += [Cards("minor", MINOR, minor, folded=True)] if minor else []
    else:
        rules = counted(len(RULES), "rule", "rules")
        blocks.append(
            Notice(f"None of {rules} found anything in {runs} that may save time. What they looked for stands below.")
        )
    if notes:
        blocks.append(Cards("notes", NOTES, notes, folded=bool(major)))
    blocks.append(Folded("What was looked for", (_rules(study),)))
    return Section("findings", "What could be changed?", "Findings", tuple(blocks))


def _opportunities(study: Study) -> tuple[tuple[Card, ...], tuple[Card, ...]]:
    """Return the cards of opportunities, and apart from them the minor ones; only minor ones count as the first kind."""
    found = [f for f in study.findings if f.level == "opportunity"]
    small = [(saving_pct_of_step(f) or (0.0, 0.0))[1] < MINOR_PCT for f in found]
    cards = [_card(f, study) for f in found]
    if all(small):
        return tuple(cards), ()
    return (
        tuple(card for card, is_small in zip(cards, small, strict=True) if not is_small),
        tuple(card for card, is_small in zip(cards, small, strict=True) if is_small),
    )


def _card(finding: Finding, study: Study) -> Card:
    place, label = _run(finding, study.analyses)
    return Card(
        title=clean(finding.title, 160),
        run=label if len(study.analyses) > 1 else "",
        place=place,
        claim=clean(finding.claim, 1600),
        facts=tuple((clean(f.name, 120), quantity(f.figure), f.figure.evidence) for f in finding.facts),
        saving=_bar(finding, study.analyses[place]),
        effort=finding.effort,
        disproof=clean(finding.disproof, 900),
        target=finding.target,
    )


def _run(finding: Finding, analyses: tuple[Analysis, ...]) -> tuple[int, str]:
    """Return number and label of the run that a finding is about."""
    place = run_names(analyses).index(finding.run)
    return place, clean(analyses[place].label, 60)


def _bar(finding: Finding, a: Analysis) -> SavingBar | None:
    """Return the saving in words, and its ends as shares of a step."""
    found, shares = finding.saving, saving_pct_of_step(finding)
    if found is None or shares is None or found.low is None or found.high is None:
        return None
    whole = "a step" if a.window.batches else "the whole trace"
    low, high = shares
    return SavingBar(
        _span(found.low, milliseconds(found.low), milliseconds(found.high)),
        f"{_span(low, percent(low), percent(high))} of the {milliseconds(finding.step_us)} of {whole}",
        min(low, 100.0),
        min(high, 100.0),
        found.evidence,
    )


def _span(low: float, low_text: str, high_text: str) -> str:
    if low <= 0:
        return f"0 to {high_text}" if high_text.startswith("<") else f"0 to ≈ {high_text}"
    return f"≈ {high_text}" if low_text == high_text else f"≈ {low_text} to {high_text}"


def _rules(study: Study) -> Table:
    found: dict[str, list[str]] = {}
    for finding in study.findings:
        found.setdefault(finding.rule, []).append(_run(finding, study.analyses)[1])
    rows = tuple(
        Row(
            (
                Cell(rule.__name__),
                Cell(_looks_for(inspect.getdoc(rule) or "")),
                Cell(", ".join(found.get(rule.__name__, ())) or "–"),
            )
        )
        for rule in RULES
    )
    note = "A rule stays silent where a trace lacks what it needs, so – may also mean that it could not tell."
    heads = (Head("rule"), Head("looks for"), Head("found in"))
    return Table("rules-table", "Every rule by its name in summary.json, with what it looks for", heads, rows, note=note)


def _looks_for(doc: str) -> str:
    """Return the first sentence of a rule's docstring without the words that say that it is returned."""
    first = re.split(r"(?<=[.:])\s", " ".join(doc.split()), maxsplit=1)[0].rstrip(".:")
    return re.sub(r"^Return (that )?", "", first)
