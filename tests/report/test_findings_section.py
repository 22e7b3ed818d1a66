"""Section "findings": every number in a card's text is a figure of summary.json, texts of traces stay texts, nothing is added."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analyzer import format as fmt
from analyzer.insight.rules import RULES
from analyzer.report.blocks import Cards, Notice, Prose, SavingBar, Section
from analyzer.report.finding_entries import finding_entry
from analyzer.report.render import page, summary
from analyzer.report.sections import findings
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.results import Study
from tests.report.markup import read
from tests.report.test_page import HOSTILE

M, MOD = Evidence.MEASURED, Evidence.MODELLED
NUMBER = re.compile(r"(?<![A-Za-z_\d.])\d")


class _Articles(HTMLParser):
    """The text of each article."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self.inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "article"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def cards_of(html: str) -> list[str]:
    """Return the text of every card of a page, no-break spaces as spaces."""
    found = _Articles()
    found.feed(html)
    return [re.sub(r"\s+", " ", text.replace("\u202f", "\0")).replace("\0", "\u202f") for text in found.texts]


def told(figure: dict[str, Any]) -> str:
    return fmt.quantity(Quantity(figure["value"], figure["unit"], Evidence(figure["evidence"])))


def renderings(entry: dict[str, Any]) -> list[str]:
    """Return everything that a card may write of an entry of summary.json."""
    out = [told(fact) for fact in entry["facts"]]
    if entry["saving"]:
        out += [fmt.milliseconds(entry["saving"][end]) for end in ("low", "high")]
        out += [fmt.percent(entry["saving_pct_of_step"][end]) for end in ("low", "high")]
        out += [fmt.milliseconds(entry["step_us"]), "0 to"]
    return sorted(out, key=len, reverse=True)


def finding(study: Study, **changes: Any) -> Finding:
    facts = (Fact("time", Quantity(120.0, "us", M)), Fact("share", Quantity(2.5, "%", MOD)))
    base = Finding(
        "made_up", study.analyses[0].run.name, "A title", "It takes 120 µs, ≈ 2.5 %.", facts,
        Quantity(30.0, "us", MOD, 20.0, 40.0), 1000.0, "a setting", "A run that takes 120 µs.", "roofline",
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize("name", ["gpu", "cpu", "single"])
def test_every_number_of_a_card_is_a_figure_of_the_summary(reports: dict[str, Path], name: str) -> None:
    told_of = json.loads((reports[name] / "summary.json").read_text())
    entries, labels = told_of["findings"], {run["name"]: run["label"] for run in told_of["runs"]}
    cards = cards_of((reports[name] / "index.html").read_text())
    assert len(cards) == len(entries) > 0
    for entry in entries:
        parts = [entry[key] for key in ("title", "claim", "disproof")] + [labels[entry["run"]]] * (len(labels) > 1)
        (card,) = (card for card in cards if all(part in card for part in parts))
        for fact in entry["facts"]:
            assert told(fact) in card
        rest = re.sub("“.*?”", "", card)
        for label in ("ViT-B/16", "ConvNeXt-B"):
            rest = rest.replace(label, "")
        for text in renderings(entry):
            rest = rest.replace(text, "")
        assert not NUMBER.search(rest), rest


def test_entries_of_the_summary(gpu_pair: Study) -> None:
    study = replace(gpu_pair, findings=(finding(gpu_pair),))
    (entry,) = summary(study)["findings"]
    assert entry["saving_pct_of_step"] == {"low": pytest.approx(2.0), "high": pytest.approx(4.0)}
    assert entry["run"] in [run["name"] for run in summary(study)["runs"]]
    assert entry["facts"][1] == {"name": "share", "value": 2.5, "unit": "%", "evidence": "modelled"}
    assert set(entry) == {
        "rule", "run", "level", "title", "claim", "facts", "saving", "saving_pct_of_step", "step_us", "effort", "disproof", "target",
    }  # fmt: skip
    note = finding_entry(finding(gpu_pair, level="note", saving=None))
    assert note["saving"] is note["saving_pct_of_step"] is None


def test_opportunities_first_and_notes_apart(gpu_pair: Study) -> None:
    first, note = finding(gpu_pair), finding(gpu_pair, level="note", saving=None, title="A note")
    other = finding(gpu_pair, run=gpu_pair.analyses[1].run.name)
    section = findings.section(replace(gpu_pair, findings=(first, other, note)))
    lead, cards, notes = section.blocks[:3]
    assert isinstance(lead, Prose)
    assert "do not add them" in lead.text
    assert isinstance(cards, Cards)
    assert isinstance(notes, Cards)
    assert [(card.run, card.place) for card in cards.items] == [(a.label, i) for i, a in enumerate(gpu_pair.analyses)]
    assert cards.items[0].saving == SavingBar(
        "≈ 20.0 µs to 40.0 µs", "≈ 2.0 % to 4.0 % of the 1.00 ms of a step", 2.0, 4.0, MOD
    )
    assert (notes.folded, [card.title for card in notes.items]) == (True, ["A note"])
    assert notes.items[0].saving is None


def test_minor_savings_are_folded_behind_larger_ones(gpu_single: Study) -> None:
    minor = finding(gpu_single, saving=Quantity(4.0, "us", MOD, 0.0, 9.0), title="Minor")
    section = findings.section(replace(gpu_single, findings=(finding(gpu_single), minor)))
    shown = [block for block in section.blocks if isinstance(block, Cards)]
    assert [([card.title for card in block.items], block.folded) for block in shown] == [
        (["A title"], False),
        (["Minor"], True),
    ]
    alone = findings.section(replace(gpu_single, findings=(minor,))).blocks[1]
    assert isinstance(alone, Cards)
    assert not alone.folded


def test_a_saving_from_nothing(gpu_single: Study) -> None:
    none = finding(gpu_single, saving=Quantity(5.0, "us", MOD, 0.0, 10.0))
    cards = findings.section(replace(gpu_single, findings=(none,))).blocks[1]
    assert isinstance(cards, Cards)
    assert cards.items[0].run == ""
    assert cards.items[0].saving is not None
    assert cards.items[0].saving.text == "0 to ≈ 10.0 µs"


def test_without_findings_the_rules_are_named(gpu_single: Study) -> None:
    section: Section = findings.section(replace(gpu_single, findings=()))
    notice = section.blocks[0]
    assert isinstance(notice, Notice)
    assert f"None of {len(RULES)} rules" in notice.text
    html = page(replace(gpu_single, findings=()))
    rows = read(html).tables["rules-table"][1:]
    assert [row[0].text for row in rows if row] == [rule.__name__ for rule in RULES]
    assert all(row[1].text for row in rows if row)
    assert not cards_of(html)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_stay_texts(gpu_single: Study, name: str) -> None:
    facts = (Fact(name, Quantity(1.0, "us", M)),)
    bad = finding(gpu_single, title=name, claim=f"“{name}”", disproof=name, facts=facts, target="nowhere")
    html = page(replace(gpu_single, findings=(bad,)))
    found = read(html)
    assert len(found.scripts) == 2
    assert not found.handlers
    assert "#nowhere" not in found.references
    assert "\u202e" not in html
    assert len(cards_of(html)[0]) < 6000
