"""The page of a comparison: it says what the comparison holds, leaves out what is not there, and stays small."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.analysis import digests
from analyzer.format import size
from analyzer.insight.comparison import compare_runs
from analyzer.report.comparison import write_comparison
from analyzer.report.comparison.page import page
from analyzer.report.marks.comparison_names import run_titles
from analyzer.report.render import MAX_PAGE_BYTES
from analyzer.schema.comparison import Comparison, Gain, MatchedOperator, Normalised
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Caveat, Reason
from tests.report.comparisons import known, made_up, missing, moved, pairs
from tests.report.hostile import FORBIDDEN, TEXTS, write_hostile_run
from tests.report.markup import Page, read
from tests.report.synthetic import Fake
from tests.report.test_page import check_page


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return pairs(tmp_path_factory.mktemp("pairs"))


def written(comparison: Comparison, directory: Path) -> tuple[str, Page]:
    """Write a comparison, check what holds for every page, and return it as text and read."""
    directory.mkdir(exist_ok=True)
    write_comparison(comparison, directory, ("analyzer", "task=compare", "runs=traces/*"))
    html = (directory / "index.html").read_text()
    check_page(html)
    return html, read(html)


def column(found: Page, table: str, head: str) -> list[str]:
    rows = found.tables[table]
    start, place = next((n, i) for n, row in enumerate(rows) for i, cell in enumerate(row) if cell.text.startswith(head))
    return [row[place].text.strip() for row in rows[start + 1 :]]


def test_the_page_says_what_the_comparison_holds(both: Comparison, tmp_path: Path) -> None:
    html, found = written(both, tmp_path / "out")
    assert found.headline == both.headline
    assert "How did the gap move?" in found.headings
    assert column(found, "gap-table", "ratio") == [f"{move.ratio.value:.2f}" for move in both.moves]
    assert [row[0].text for row in found.tables["hardware-table"][1:]] == ["A100 SXM4 80GB (Ampere)", "H100 SXM5 80GB (Hopper)"]
    gains = {
        (row[0].text.partition("how it came about")[0], row[1].text): row[4].value
        for row in found.tables["gains-table"]
        if row[4].value is not None
    }
    for gain in both.gains:
        if gain.speedup.value is not None and gain.role == "total" and gain.run == 2:
            assert gains["whole batch", "ViT-B/16 on H100 SXM5 80GB"] == pytest.approx(gain.speedup.value)
    data = json.loads(re.search(r'<script type="application/json" id="summary">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert data["headline"] == both.headline
    assert "analyzer task=compare &#39;runs=traces/*&#39;" in html
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"index.html", "summary.json", "matched.csv", "gains.csv"}


def test_every_numeric_column_has_a_meaning_and_an_evidence(both: Comparison, tmp_path: Path) -> None:
    _, found = written(both, tmp_path / "out")
    explained = {row[0].text for row in found.tables["glossary"][1:]}
    assert {"ratio", "speed-up", "DRAM", "ridge", "FLOP per byte", "ViT", "CNN", "time", "busy", "launches"} <= explained


def test_links_of_the_masthead_lead_to_sections(both: Comparison, tmp_path: Path) -> None:
    html, _ = written(both, tmp_path / "out")
    ids = set(re.findall(r'<section id="([^"]+)" class="part"', html))
    assert {"comparable", "moves", "time", "gains", "rooflines", "hardware", "operators", "method"} <= ids
    for target in (*(r.target for r in both.reasons), *(c.target for c in both.caveats)):
        assert not target or target in ids, target
    lost = replace(both, reasons=(Reason("somewhere", "nowhere"),), caveats=(Caveat("note", "elsewhere", "nowhere"),))
    assert 'href="#nowhere"' not in page(lost, {})


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    vit, cnn = made_up(tmp_path / "runs", Fake(device="cpu"), Fake(device="cpu", family="cnn", latency_ms=9.0))
    found = compare_runs((vit, cnn))
    html, shown = written(found, tmp_path / "out")
    assert "How large is the gap?" in shown.headings
    assert not {"hardware-table", "normalised-table", "changes-kind", "telemetry-table"} & set(shown.tables)
    assert "What changed?" not in shown.headings
    alone = compare_runs((vit, replace(vit, family="")))
    assert "No gap to follow: the runs hold no ViT and CNN both." in page(alone, {})
    assert "How long does one batch take?" in read(page(alone, {})).headings
    assert "warning" not in re.findall(r'class="alert (\w+)"', html)


def test_mismatches_are_explained_where_they_stand(tmp_path: Path) -> None:
    vit, cnn = made_up(tmp_path / "runs", Fake(), Fake(family="cnn"))
    other = replace(cnn, batch_size=8)
    found = compare_runs((vit, other))
    warned = [fact for fact in found.facts if fact.warning]
    assert warned
    _, shown = written(replace(found, reasons=()), tmp_path / "out")
    facts = column(shown, "facts-table", "fact")
    for fact in warned:
        assert [f"{fact.fact}{fact.warning}"] == [text for text in facts if text.startswith(fact.fact)]
    assert shown.text.count(warned[0].warning) == 1  # below the fact, and not once more among the caveats
    assert f"because this fact differs: {warned[0].fact}" in shown.text
    many = compare_runs((vit, other, vit, other, cnn))
    html = page(many, {})
    assert re.findall(r'class="alert (\w+)"', html) == ["warning"]
    assert len(read(html).tables["facts-table"]) == 6


def test_a_fact_that_the_reasons_name_is_no_caveat_too(tmp_path: Path) -> None:
    vit, cnn = made_up(tmp_path, Fake(), Fake(family="cnn"))
    found = compare_runs((vit, replace(cnn, batch_size=8)))
    (fact,) = (fact for fact in found.facts if fact.warning)
    said = replace(found, reasons=(Reason(f"{fact.fact} differs: {fact.warning}", "comparable"),))
    assert "because this fact differs" not in page(said, {})


def test_the_lead_says_which_facts_are_not_known(tmp_path: Path) -> None:
    vit, cnn = made_up(tmp_path, Fake(), Fake(family="cnn"))
    bare = replace(cnn, facts=None, batch_size=None)
    found = compare_runs((vit, bare))
    calm = replace(found, facts=tuple(replace(fact, warning="") for fact in found.facts))
    text = read(page(calm, {})).text
    assert "None of the known ones makes the times harder to compare." in text
    assert "Not every run tells its batch size and version of torch." in text
    cpu = compare_runs(made_up(tmp_path / "cpu", Fake(device="cpu"), Fake(device="cpu", family="cnn")))
    assert "power cap" not in read(page(cpu, {})).text.partition("Can these be compared?")[2].partition("How ")[0]


def test_times_of_batches_and_of_whole_traces_stand_apart(tmp_path: Path) -> None:
    vit, cnn = made_up(tmp_path / "runs", Fake(), Fake(family="cnn"))
    whole = replace(cnn, facts=None, latency=None, batches=None, batch_size=None)
    each, rate = Quantity(0.16875, "ms", Evidence.DERIVED), Quantity(5925.9, "images/s", Evidence.DERIVED)
    found = replace(compare_runs((vit, whole)), image_times=(each, missing()), image_rates=(rate, missing()))
    _, shown = written(found, tmp_path / "out")
    assert column(shown, "times-table", "per image") == ["0.169"]
    assert column(shown, "times-table", "images/s") == ["5\u202f930"]
    assert column(shown, "times-table", "run") == ["ViT-B/16 on H100 SXM5 80GBinference, batch 32"]
    assert column(shown, "times-table", "peak memory") == [size(vit.peak_memory.value)]
    assert len(column(shown, "whole-table", "whole trace")) == 1
    assert "ms per image" not in shown.text.partition("Can these")[0]  # one batch size is known alone


def test_batches_of_different_sizes_are_shown_per_image(tmp_path: Path) -> None:
    (vit,) = made_up(tmp_path, Fake())
    each = tuple(Quantity(value, "ms", Evidence.DERIVED) for value in (0.169, 0.675))
    found = compare_runs((vit, replace(vit, batch_size=8)))
    text = read(page(replace(found, image_times=each, image_rates=each), {})).text
    assert "Time of one image" in text
    assert "0.675 ms per image" in text.partition("Can these")[0]
    assert "Left is faster." in text
    unknown = read(page(replace(found, image_times=(missing(),) * 2, image_rates=(missing(),) * 2), {})).text
    assert "Time of one batch" in unknown
    assert "which is not faster here" in unknown


def test_repeats_on_one_device_are_no_move(tmp_path: Path) -> None:
    vit, cnn = made_up(tmp_path, Fake(), Fake(family="cnn", latency_ms=3.7))
    found = compare_runs((vit, cnn, vit, cnn))
    shown = read(page(found, {}))
    assert "How large is the gap?" in shown.headings
    assert "(2 repeats under the same conditions)" in shown.text
    titles = run_titles(found)
    assert column(shown, "gap-table", "run of the ViT") == [titles[0], titles[2]]
    assert column(shown, "gap-table", "run of the CNN") == [titles[1], titles[3]]


def test_with_more_than_four_devices_tables_come_first(both: Comparison) -> None:
    def order(comparison: Comparison) -> bool:
        html = page(comparison, {})
        return html.index('id="shares-table"' if len(comparison.runs) > 4 else 'id="time-table"') < html.index('id="fig-time"')

    runs = [
        replace(both.runs[0], label=f"m{i}", hardware=replace(both.runs[0].hardware, key=f"k{i}", name=f"GPU {i}"))
        for i in range(5)
    ]
    assert order(compare_runs(runs))
    assert not order(both)


def test_the_clocks_say_what_they_hold(tmp_path: Path) -> None:
    """5 ms at 1500 MHz are 7.5 million cycles; at 1200 MHz of the other run they would take 6.25 ms."""
    vit, other = made_up(tmp_path, Fake(), Fake())
    found = compare_runs((vit, other))

    def row(run: int, ms: float, mhz: float) -> Normalised:
        energy = Quantity(1.6, "J", Evidence.DERIVED)
        cycles = Quantity(ms * mhz / 1e3, "Mcycles", Evidence.DERIVED)
        return Normalised(run, known(ms, "ms"), known(mhz, "MHz"), cycles, known(300, "W"), energy)

    gain = Gain("total", 1, 0, "time", Quantity(2.0, "x", Evidence.DERIVED))
    made = replace(found, normalised=(row(0, 10.0, 1200), row(1, 5.0, 1500)), gains=(gain,))
    shown = read(page(made, {}))
    assert "Clock, power and energy" in shown.headings
    assert column(shown, "normalised-table", "time ratio") == ["–", "0.500"]
    assert column(shown, "normalised-table", "cycle ratio") == ["–", "0.625"]
    assert column(shown, "normalised-table", "time at its clock") == ["–", "6.25"]
    assert column(shown, "normalised-table", "energy per image") == ["0.0500", "0.0500"]
    alone = read(page(replace(made, gains=()), {}))
    assert "cycle ratio" not in [cell.text for cell in alone.tables["normalised-table"][0]]
    assert "two products do not do the same in a cycle" in alone.text


def test_caches_behind_l2_are_told(tmp_path: Path) -> None:
    (vit,) = made_up(tmp_path, Fake())
    found = compare_runs((vit, moved(vit, "mi300x", 1.0)))
    note = "gain: element types differ"
    gains = tuple(replace(g, note=note) for g in found.gains)
    shown = read(page(replace(found, gains=gains), {}))
    assert column(shown, "hardware-table", "Infinity Cache") == ["n/a", "256"]
    assert "What misses L2 can still hit an Infinity Cache" in shown.text
    assert "Gain: element types differ." in shown.text
    assert "Infinity Cache" not in read(page(compare_runs((vit, vit)), {})).text


def test_two_runs_of_one_model(tmp_path: Path) -> None:
    first, second = made_up(tmp_path / "runs", Fake(), Fake())
    found = compare_runs((first, second))
    assert found.changes
    states = [("slower", known(40, spread=5)), ("faster", known(-30, spread=5)), ("unclear", known(5, spread=50))]
    operators = [c for c in found.changes if c.by == "operator"][:3]
    made = [replace(c, state=s, delta_us=d) for c, (s, d) in zip(operators, states, strict=True)]
    html, shown = written(replace(found, changes=tuple(made)), tmp_path / "out")
    assert column(shown, "changes-operator", "change") == ["slower", "faster", "cannot tell"]
    assert column(shown, "changes-operator", "difference") == ["+0.040", "−0.030", "+0.005"]
    assert "The largest clear changes, by operator" in html
    assert html.count("<svg viewBox") == 5
    calm = replace(found, changes=tuple(replace(c, state="same", delta_us=known(0.1, spread=0.2)) for c in made))
    assert "No kind, module or operator changed clearly" in page(calm, {})


def test_the_same_comparison_gives_the_same_page(both: Comparison) -> None:
    assert page(both, {}) == page(both, {})


def test_a_hundred_runs(both: Comparison, tmp_path: Path) -> None:
    runs = [replace(both.runs[i % 4], name=f"run {i}", label=f"model {i}") for i in range(100)]
    _, found = written(compare_runs(runs), tmp_path / "out")
    assert len(found.tables["times-table"]) == 101
    assert len(found.tables["facts-table"]) == 101
    assert "Drawn are the runs with the least and the most busy time; 88 others are in the table." in found.text


def test_ten_thousand_operators(both: Comparison, tmp_path: Path) -> None:
    long = "k" * 100_000
    many = tuple(
        MatchedOperator("matmul", f"aten::op_{i}", "x" * 500, "layer." * 300, (float(i), None, float(i + 1), None), ((long,) * 8,) * 4)
        for i in range(5_000)
    ) + tuple(
        MatchedOperator("matmul", f"aten::own_{i}", "x" * 500, "layer." * 300, (None, float(i), None, None), ((), (long,) * 8, (), ()))
        for i in range(5_000)
    )  # fmt: skip
    html = page(replace(both, matched=many), {})
    check_page(html)
    assert len(html.encode()) < MAX_PAGE_BYTES
    assert "4\u202f800 operators more: matched.csv has all." in html
    assert "4\u202f880 operators more: matched.csv has all." in html
    assert "k" * 200 not in html


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_texts(text: str, tmp_path: Path) -> None:
    runs = [write_hostile_run(tmp_path / str(i), Fake(family=family), text) for i, family in enumerate(("vit", "cnn", "vit"))]
    found = compare_runs(tuple(digests(runs)))
    hostile = replace(
        found, headline=text, reason=text, reasons=(Reason(text, "moves"),), caveats=(Caveat("note", text, "moves"),), not_measured=(text,),
        matched=tuple(replace(m, kind=text, module=text, dtype=text, shapes=text) for m in found.matched[:5]),
    )  # fmt: skip
    written(found, tmp_path / "out")
    html = page(hostile, {})
    check_page(html)
    assert not FORBIDDEN & set(html)
    assert "<img" not in html
    assert "<script>window" not in html
    same = replace(compare_runs(tuple(digests(runs[::2]))), headline=text)
    check_page(page(same, {}))


def test_the_public_traces(public_traces: Path, tmp_path: Path) -> None:
    names = ("tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer")
    found = compare_runs(tuple(digests(public_traces / f"{name}.json.gz" for name in names)))
    html, shown = written(found, tmp_path / "out")
    assert [row[0].text for row in shown.tables["hardware-table"][1:]] == ["H100 SXM5 80GB (Hopper)", "MI300X (CDNA3)"]
    assert "none of them certain" in html
    assert len(html.encode()) < 700_000
