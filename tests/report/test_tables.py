"""Every table of the page: the evidence of its numbers, what its columns mean, what filters and sorting go by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.blocks import Cell, Head, Prose, Row, Section, Table, number, tables_of
from analyzer.report.render import shorten
from analyzer.report.sections import build
from analyzer.report.sections.glossary import glossary, meaning
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Study

STUDIES = ["gpu_pair", "cpu_pair", "gpu_single"]
DOUBT = {e: i for i, e in enumerate((Evidence.MEASURED, Evidence.DERIVED, Evidence.SPEC, Evidence.MODELLED))}


@pytest.fixture(params=STUDIES)
def sections(request: pytest.FixtureRequest) -> tuple[Section, ...]:
    return build(request.getfixturevalue(request.param))


def columns(sections: tuple[Section, ...]) -> Iterator[tuple[str, Head, list[Cell], Table]]:
    for section in sections:
        for table in tables_of(section.blocks):
            for place, head in enumerate(table.heads):
                yield f"{table.id}: {head.text}", head, [row.cells[place] for row in table.rows], table


def test_every_row_has_a_cell_for_each_column(sections: tuple[Section, ...]) -> None:
    for section in sections:
        for table in tables_of(section.blocks):
            assert {len(row.cells) for row in table.rows} <= {len(table.heads)}, table.id


def test_every_numeric_column_has_its_evidence(sections: tuple[Section, ...]) -> None:
    """A column says its evidence in its head; where its rows differ, each row has a badge."""
    lacking = [
        name
        for name, head, _, table in columns(sections)
        if head.numeric and head.evidence is None and not all(any(c.badge for c in row.cells) for row in table.rows)
    ]
    assert not lacking


def test_no_cell_is_surer_in_its_head_than_in_itself(sections: tuple[Section, ...]) -> None:
    for name, head, cells, _ in columns(sections):
        if head.numeric and head.evidence is not None:
            found = {cell.evidence for cell in cells if cell.evidence in DOUBT}
            assert all(DOUBT[level] <= DOUBT[head.evidence] for level in found), (name, found)


def test_every_number_can_be_sorted(sections: tuple[Section, ...]) -> None:
    for name, head, cells, _ in columns(sections):
        if head.numeric:
            bare = [c.text for c in cells if c.value is None and any(sign.isdigit() for sign in c.text)]
            assert not bare, name


def test_every_numeric_column_stands_in_the_glossary(sections: tuple[Section, ...]) -> None:
    told = {(row.cells[0].text, row.cells[3].text) for row in glossary(sections).rows}
    on_page = next(t for t in tables_of(sections[-1].blocks) if t.id == "glossary")
    assert {(row.cells[0].text, row.cells[3].text) for row in on_page.rows} <= told
    for name, head, _, _ in columns(sections):
        if head.numeric:
            assert head.meaning, name
            assert (head.text, meaning(head)) in {(row.cells[0].text, row.cells[3].text) for row in on_page.rows}, name


def test_words_are_explained_too(sections: tuple[Section, ...]) -> None:
    tables = (c for c in columns(sections) if not c[3].id.startswith("glossary"))
    assert not [name for name, head, _, _ in tables if not meaning(head)]


def test_real_traces_have_no_other_columns(public_traces: Path) -> None:
    names = ("tracelens_h100_vit_nsfw_infer.json.gz", "kineto_v100_resnet50_train_nw0.json.gz")
    found = build(compare(*(analyze(public_traces / name) for name in names)))
    test_every_numeric_column_has_its_evidence(found)
    test_no_cell_is_surer_in_its_head_than_in_itself(found)
    test_every_number_can_be_sorted(found)
    test_every_numeric_column_stands_in_the_glossary(found)
    test_words_are_explained_too(found)


def table(rows: tuple[Row, ...], *heads: Head, open_rows: int = 0) -> Table:
    return Table("t", "caption", heads, rows, open_rows=open_rows)


def test_more_than_six_rows_make_a_table_interactive() -> None:
    rows = tuple(Row((Cell(str(i)),)) for i in range(7))
    assert not table(rows[:6], Head("x")).interactive
    assert not table((*rows[:6], Row((Cell("sum"),), total=True)), Head("x")).interactive
    assert table(rows, Head("x")).interactive
    assert table(rows[:1], Head("x"), open_rows=20).interactive


def test_runs_and_kinds_come_from_the_rows_or_their_cells() -> None:
    rows = (
        Row((Cell("ViT"), Cell("gelu", chip="elementwise"))),
        Row((Cell("CNN"), Cell("conv", chip="convolution"))),
        Row((Cell("CNN"), Cell("x")), run="said", kind="copy"),
        Row((Cell("sum"), Cell("")), total=True),
    )
    found = table(rows, Head("run"), Head("operator"))
    assert [(run, kind) for _, run, kind in found.labels][:3] == [
        ("ViT", "elementwise"),
        ("CNN", "convolution"),
        ("said", "copy"),
    ]
    assert (found.runs, found.kinds) == (3, 3)


def test_the_glossary_joins_alike_columns() -> None:
    head = Head("time", "ms", True, Evidence.MEASURED, "how long")
    one = Section("a", "A?", "A", (table((), head), Prose("text")))
    two = Section(
        "b", "B?", "B", (table((), head, Head("time", "ms", True, Evidence.MEASURED, "something else"), Head("run")),)
    )
    rows = glossary((one, two)).rows
    assert [(row.cells[0].text, row.cells[3].text, row.cells[4].text) for row in rows][:2] == [
        ("time", "how long", "A, B"),
        ("time", "something else", "B"),
    ]
    assert rows[2].cells[0].text == "run"


def test_shortened_tables_say_what_is_gone() -> None:
    rows = tuple(Row((Cell(str(i)), number(i, 0))) for i in range(10))
    total = Row((Cell("sum"), number(45, 0)), total=True)
    full = Table("t", "caption", (Head("x"), Head("y", "", True)), (*rows, total), note="A note.")
    (short,) = tables_of(shorten(Section("a", "A?", "A", (full,)), 4).blocks)
    assert short.rows == (*rows[:4], total)
    assert short.note == "A note. 6 more rows are left out here to keep the page small."
    assert shorten(Section("a", "A?", "A", (full,)), 10).blocks == (full,)


def test_shortening_keeps_figures_and_glossary(gpu_pair: Study) -> None:
    before = build(gpu_pair)
    after = tuple(shorten(section, 2) for section in before)
    assert [len(s.blocks) for s in before] == [len(s.blocks) for s in after]
    old, new = (
        {t.id: sum(not row.total for row in t.rows) for s in found for t in tables_of(s.blocks)} for found in (before, after)
    )
    assert old.keys() == new.keys()
    assert old["glossary"] == new["glossary"]
    assert max(n for name, n in new.items() if not name.startswith("glossary")) == 2
