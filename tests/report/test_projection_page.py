"""The page on projections: what it shows is what the objects hold, and nothing that a trace holds can break it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analyzer.analysis import analyze
from analyzer.insight.projection.calibration import shipped
from analyzer.insight.projection.project import project
from analyzer.insight.projection.scores import scores
from analyzer.insight.projection.targets import describe, find_targets
from analyzer.insight.projection.words import headline
from analyzer.report.blocks import Table, tables_of
from analyzer.report.figures.projection import projected
from analyzer.report.projection.files import rows, summary
from analyzer.report.projection.page import _sections, write_projection
from analyzer.report.text import clean
from analyzer.schema.projection import ESTIMATED, KEPT, VALIDATED, Projection
from tests.report.synthetic import Fake, write_run

HOSTILE = "<script>alert(1)</script>\u202e\"'" + "x" * 100_000


def make(root: Path, *fakes: Fake, onto: tuple[str, ...] = ("b200", "t4")) -> Projection:
    sheets, calibration = find_targets(onto), shipped()
    runs = tuple(project(analyze(write_run(root / str(i), fake)), sheets, calibration) for i, fake in enumerate(fakes))
    return Projection(runs, tuple(describe(s, calibration) for s in sheets), scores(), tuple(calibration.source.items()))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Projection:
    return make(tmp_path_factory.mktemp("page"), Fake(), Fake(family="cnn", device="cpu"))


def test_times_of_groups_classes_and_totals_agree(found: Projection) -> None:
    run = found.runs[0]
    assert run.per_batch
    assert sum(g.source_us for g in run.groups) == pytest.approx(run.kernel_us)
    for place, total in enumerate(run.totals):
        assert sum(c.source_us for c in total.classes) == pytest.approx(run.kernel_us)
        times = [g.on[place].time_us for g in run.groups]
        if not total.reason:
            assert total.time_us == pytest.approx(sum(t for t in times if not math.isnan(t)))
        else:
            assert any(math.isnan(t) for t in times)


def test_the_page_is_whole_and_small(found: Projection, tmp_path: Path) -> None:
    write_projection(found, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert len(page.encode()) < 2_000_000
    assert page.count("<h1") == 1
    for run in found.runs:
        for total in run.totals:
            assert clean(headline(run, total)).split(":")[0].split("(")[0].strip()[:60] in page.replace("\u00a0", " ")
    assert "benchmarks.projection" in page
    assert "NeuSight" in page


def test_every_numeric_column_has_evidence_and_a_meaning(found: Projection) -> None:
    for section in _sections(found):
        for table in tables_of(section.blocks):
            for head in table.heads:
                if head.numeric:
                    assert head.meaning, (table.id, head.text)
                    assert head.evidence is not None or any(h.text == "evidence" for h in table.heads), (table.id, head.text)
            assert all(len(row.cells) == len(table.heads) for row in table.rows), table.id


def test_files_and_tables_say_the_same(found: Projection) -> None:
    entries = rows(found)
    assert len(entries) == sum(len(run.groups) * len(run.totals) for run in found.runs)
    told = summary(found)
    assert [r["source"] for r in told["runs"]] == [clean(run.source) for run in found.runs]
    assert [t["value"] for r in told["runs"] for t in (x["kernels"] for x in r["targets"])] == [
        None if total.reason else total.time_us for run in found.runs for total in run.totals
    ]
    tables = {t.id: t for s in _sections(found) for t in tables_of(s.blocks)}
    kernels = tables["projection-kernels"]
    assert isinstance(kernels, Table)
    kept = [entry for entry in entries if entry["status"] == KEPT]
    places = {(entry["run"], entry["target"]) for entry in kept}  # those that are not projected are one row for each
    assert len(kernels.rows) == len(entries) - len(kept) + len(places)
    for entry in entries:
        has_interval = entry["status"] in (VALIDATED, ESTIMATED)
        assert (entry["low_us"] is not None) == (entry["high_us"] is not None) == has_interval


def test_hostile_names_are_text(tmp_path: Path) -> None:
    names = [HOSTILE + str(i) for i in range(4)]
    projection = make(tmp_path, Fake(label=HOSTILE[:900], names=names), onto=("a100_sxm4_80gb",))
    write_projection(projection, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert len(page.encode()) < 2_000_000


def test_the_figure_is_one_drawing_for_both_themes(found: Projection) -> None:
    drawing = projected(found.runs, "Time")
    assert "var(--run-1)" in drawing
    assert "#0b" not in drawing
    assert len(drawing) < 150_000
    assert drawing == projected(found.runs, "Time")
