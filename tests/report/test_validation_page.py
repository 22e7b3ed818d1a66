"""The page, the files and the blocks of a validation: every number of a table comes from the objects, nothing is hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.insight.validation import validation_of
from analyzer.insight.validation.families import COLD, ELEMENTWISE, FUSED, GEMM, GEMM_OPEN, WARM, WARM_AS_COLD
from analyzer.insight.validation.items import Item, Parameters
from analyzer.insight.validation.published import LeftOut
from analyzer.insight.validation.words import figures
from analyzer.report.blocks import Figure, Folded, Notice, Table, tables_of
from analyzer.report.figures.validation import STYLES, scatter
from analyzer.report.validation.blocks import validation_blocks
from analyzer.report.validation.files import FILES, PREDICTION_COLUMNS, SCORE_COLUMNS, summary, write_files
from analyzer.report.validation.marks import TITLES, families_of, panels
from analyzer.report.validation.page import write_validation
from analyzer.report.validation.tables import class_table, kernel_table
from analyzer.schema.validation import FITTED, QUANTITIES, Validation
from analyzer.trace.counters import CounterFile

HOSTILE = "</script><script>alert(1)</script>\"'&<b>\u202e" + "x" * 100_000


def made(**other: object) -> Validation:
    """Two classes, three quantities, one kernel fitted on, one that is next to nothing, one that is not scored."""
    known = Item(
        run="run", gpu="RTX 4090", family=GEMM, kernel="void gemm<128>(float*)", op="aten::mm", shapes="4x4",
        problem="", mode=COLD, quantity="dram_read_bytes", measured=110e6, missed=(100e6, 90e6, 120e6), written=300e6,
        shipped=Parameters(1.0, 10e6), calls=3.0, share_pct=5.0,
    )  # fmt: skip
    items = [
        *(replace(known, problem=str(i), measured=(95 + i) * 1e6, **other) for i in range(8)),  # type: ignore[arg-type]
        *(replace(known, problem=str(i), family=FUSED, quantity="dram_write_bytes", measured=290e6) for i in range(8)),
        replace(known, problem="a", family=GEMM_OPEN, measured=0.5e6),
        replace(known, problem="b", family=ELEMENTWISE, status=FITTED),
        replace(known, problem="c", quantity="occupancy_pct", measured=50.0, fixed=(60.0, 60.0, 60.0)),
        replace(known, problem="d", quantity="dram_write_bytes", unscored="the output is small"),
        replace(known, problem="e", mode=WARM, found=30e6),
        replace(known, problem="e", mode=WARM_AS_COLD),
    ]
    return validation_of(
        items, [LeftOut(FUSED, "flop", "no work model of these kernels")], (("run", "a file"),), ("analyzer", "x")
    )


class Ids(HTMLParser):
    """Collects ids, scripts and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.scripts = 0
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_every_quantity_has_a_short_name_and_every_class_a_mark() -> None:
    from analyzer.insight.validation.families import FAMILIES

    assert set(TITLES) == set(QUANTITIES)
    assert set(STYLES) == set(FAMILIES)
    assert len({shape for _, shape in STYLES.values()}) == len(FAMILIES)


def test_panels_hold_every_figure_once() -> None:
    v = made()
    found = {panel.quantity: panel for panel in panels(v)}
    assert list(found) == [q for q in QUANTITIES if q in found]
    reads = found["dram_read_bytes"]
    assert len(reads.marks) == 8 + 1 + 1 + 1  # warm counts stand once
    assert reads.unit == "MB"
    assert reads.marks[0].family == ELEMENTWISE
    assert [mark.fitted for mark in reads.marks] == [True, *[False] * 10]
    gemm = next(mark for mark in reads.marks if mark.measured == 95.0)
    assert (gemm.predicted, gemm.low, gemm.high, gemm.scored) == (100.0, 90.0, 120.0, True)
    assert (found["occupancy_pct"].logarithmic, found["occupancy_pct"].low, found["occupancy_pct"].high) == (False, 0.0, 105.0)
    assert families_of(tuple(found.values())) == (ELEMENTWISE, GEMM, GEMM_OPEN, FUSED)


def test_the_scatter_names_its_panels() -> None:
    svg = scatter(panels(made()), "Predicted against measured")
    for text in (
        "read from DRAM",
        "written to DRAM",
        "occupancy",
        "measured, MB",
        "predicted, %",
        "hollow: helped to fit the model",
    ):
        assert text in svg


def test_the_table_of_classes_has_the_numbers_of_the_scores() -> None:
    v = made()
    shipped = [s for s in v.scores if (s.parameters, s.half) == ("shipped", "all")]
    table = class_table(v)
    assert len(table.rows) == len(shipped)
    for row, score in zip(table.rows, shipped, strict=True):
        values = [cell.value for cell in row.cells]
        inside = score.inside_pct if score.bands else None
        assert values[3:9] == [score.n, score.median_pct, score.p90_pct, score.worst_pct, score.bias_pct, inside]
        assert row.cells[1].text == score.family


def test_the_table_of_kernels_has_absolute_errors_next_to_nothing() -> None:
    v = made()
    rows = kernel_table(v).rows
    assert len(rows) == len(v.predictions)
    (small,) = [row for row in rows if row.cells[5].value == 0.5e6]
    assert small.cells[9].text == "+99.5 MB"
    assert small.cells[10].text == "no"
    (other,) = [row for row in rows if row.cells[1].text == "occupancy"]
    assert other.cells[9].text == "+20.0"
    assert other.cells[6].text == "≈ 60.0 %"


def test_blocks_for_a_report() -> None:
    blocks = validation_blocks(made())
    assert sum(isinstance(block, Figure) for block in blocks) == 1
    ids = [table.id for table in tables_of(blocks)]
    assert len(ids) == len(set(ids))
    assert {"validation-classes", "validation-kernels", "validation-parameters", "validation-left-out"} <= set(ids)
    assert any(isinstance(block, Folded) for block in blocks)


def test_blocks_without_a_figure_say_so_in_one_line() -> None:
    (notice,) = validation_blocks(validation_of([], [LeftOut("", "", "run: no counters", 0)]))
    assert isinstance(notice, Notice)
    assert "No figure was counted" in notice.text
    assert "run: no counters" in notice.text


def test_files(tmp_path: Path) -> None:
    v = made()
    found = write_files(v, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert json.loads((tmp_path / "summary.json").read_text()) == found
    assert found["figures"] == figures(v)
    assert found["left_out"][-1]["quantity"] == "flop"
    assert found["not_compared"] == ["FLOP of the tensor cores: no work model of these kernels"]
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert tuple(predictions.columns) == PREDICTION_COLUMNS
    assert np.allclose(predictions["predicted"], [p.point for p in v.predictions])
    assert predictions["refitted"].isna().any()
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert len(scores) == len(v.scores)
    assert np.allclose(scores["median_pct"], [s.median_pct for s in v.scores])


def test_the_page(tmp_path: Path) -> None:
    v = made()
    write_validation(v, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", *FILES}
    page = Ids((tmp_path / "index.html").read_text())
    assert len(page.ids) == len(set(page.ids))
    text = " ".join("".join(page.text).split())
    for words in ("How far off are the models?", "Do the parameters hold on other kernels?", "What could not be compared?"):
        assert words in text
    assert summary(v)["headline"] in text.replace("\xa0", " ")


def test_a_page_on_nothing(tmp_path: Path) -> None:
    write_validation(validation_of([]), tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "No figure was counted that the models predict." in text
    assert "<svg" not in text.partition("<main")[2].partition("fig-validation")[2]


def test_names_of_kernels_and_runs_do_no_harm(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "quiet", tmp_path / "loud"
    for directory, other in (
        (quiet, {}),
        (loud, {"kernel": HOSTILE, "op": HOSTILE, "shapes": HOSTILE, "run": HOSTILE, "gpu": HOSTILE}),
    ):
        directory.mkdir()
        write_validation(made(**other), directory)
    text = (loud / "index.html").read_text()
    assert Ids(text).scripts == Ids((quiet / "index.html").read_text()).scripts
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert len(text) < 600_000
    for name in FILES:
        assert "\u202e" not in (loud / name).read_text()


@pytest.mark.parametrize("name", ["counters.csv", HOSTILE[:200]])
def test_counters_without_a_trace_show_what_was_counted(tmp_path: Path, name: str) -> None:
    rows = pd.DataFrame(
        {
            "id": [0, 1], "process": ["1", "1"], "device": ["0", "0"], "kernel": ["gemm", "gemm"], "grid": ["8,1,1"] * 2,
            "block": ["128,1,1"] * 2, "op": ["", ""], "dram__bytes.sum": [3e6, 5e6],
        }
    )  # fmt: skip
    file = CounterFile(name, "import", rows, ("dram__bytes.sum",), capability="9.0")
    write_validation(validation_of([]), tmp_path, (file,))
    text = (tmp_path / "index.html").read_text()
    assert "What was counted without a trace?" in text
    assert "4.00 MB" in text.replace("\xa0", " ")  # the mean of both launches


def test_tables_are_tables() -> None:
    assert all(isinstance(table, Table) for table in tables_of(validation_blocks(made())))
