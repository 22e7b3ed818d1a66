"""The blocks on GPM of section "counters". The runs are made up; no GPU was there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.blocks import Figure, Notice, tables_of
from analyzer.report.sections.activity import activity_blocks
from analyzer.schema.results import Analysis
from analyzer.schema.run import SourceFacts
from tests.insight.test_activity import THREE, looped
from tests.report.synthetic import Fake, write_run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, Analysis]:
    root = tmp_path_factory.mktemp("activity")
    return analyze(write_run(root, Fake())), analyze(write_run(root, Fake(family="cnn")))


def test_figure_and_table_hold_the_same_numbers(pair: tuple[Analysis, Analysis]) -> None:
    blocks = activity_blocks(compare(looped(pair[0], THREE), looped(pair[1], THREE, 300)))
    (figure,) = (block for block in blocks if isinstance(block, Figure))
    (table,) = tables_of(blocks)
    assert figure.table is table
    assert len(table.rows) == 12
    values = {(row.cells[0].text, row.run): row.cells[2] for row in table.rows}
    assert values["DRAM bandwidth", "ViT-B/16"].text == "44.0"
    assert values["DRAM bandwidth", "ViT-B/16"].remark == "40 % to 48 %"
    band = next(row.cells[3].text for row in table.rows if (row.cells[0].text, row.run) == ("DRAM bandwidth", "ViT-B/16"))
    assert band.startswith("≈")
    assert " to " in band
    assert {row.cells[-1].text for row in table.rows} <= {"–", "as expected", "not as expected"}
    for head in table.heads:
        assert not head.numeric or (head.meaning and (head.evidence or head.text == "from the trace"))
    assert not any(isinstance(block, Notice) for block in blocks)


def test_one_line_with_the_reason_where_there_is_no_gpm(pair: tuple[Analysis, Analysis]) -> None:
    gone = SourceFacts(available=False, reason="<script>no GPM</script>\u202e.")
    blocks = activity_blocks(compare(*(looped(a, THREE, 0, looped=gone, gpm=gone) for a in pair)))
    (notice,) = blocks
    assert isinstance(notice, Notice)
    assert notice.text.startswith("ViT-B/16 and ConvNeXt-B: no activity by GPM: ")
    assert "\u202e" not in notice.text


def test_one_run_with_gpm_and_a_bare_trace(pair: tuple[Analysis, Analysis]) -> None:
    bare = replace(pair[1], run=msgspec.structs.replace(pair[1].run, facts=None))
    blocks = activity_blocks(compare(looped(pair[0], THREE), bare))
    assert [type(block).__name__ for block in blocks] == ["Prose", "Figure", "Listing", "Notice"]
    assert blocks[-1].text.endswith("no activity by GPM: a bare trace has no telemetry.")  # type: ignore[union-attr]


def test_runs_on_a_cpu_have_nothing_to_say(tmp_path: Path) -> None:
    assert activity_blocks(compare(analyze(write_run(tmp_path, Fake(device="cpu"))))) == []
