"""The roofline's tables, the cards of figures that cannot be true, and the reasons for time without a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analyzer.report.blocks import Alert, Folded, Table
from analyzer.report.render import page, write_report
from analyzer.report.sections import rates
from analyzer.report.sections.rates import MAX_ITEMS, alerts, model_table, module_table, operator_table, unmodelled
from analyzer.schema.results import Impossible, Study
from tests.report import markup

EVIL = "<script>alert(1)</script>"


def with_cards(study: Study, *cards: Impossible) -> Study:
    first, *rest = study.analyses
    return replace(study, analyses=(replace(first, impossible=cards), *rest))


def test_operator_rows_say_what_operators_csv_says(gpu_pair: Study, reports: dict[str, Path]) -> None:
    table = operator_table(gpu_pair)
    assert isinstance(table, Table)
    written = pd.read_csv(reports["gpu"] / "operators.csv")
    assert list(written.columns[:3]) == ["run", "operator", "kind"]
    assert len(written) == sum(len(a.rooflines.operators) for a in gpu_pair.analyses)
    steps = gpu_pair.analyses[0].window.batches
    top = written.loc[written["time_us"].idxmax()]
    assert table.rows[0].cells[2].value == pytest.approx(top["time_us"] / 1e3 / steps)
    shown = {cell.text for row in table.rows for cell in row.cells[:1]}
    assert {"addmm", "gelu"} <= shown


def test_each_run_as_a_whole(gpu_pair: Study) -> None:
    table = model_table(gpu_pair)
    assert isinstance(table, Table)
    for row, a in zip(table.rows, gpu_pair.analyses, strict=True):
        modelled_us = a.totals.kernel_time_us * a.totals.modelled_pct / 100
        assert row.cells[3].value == pytest.approx(a.rooflines.model["flop"].iloc[0] / modelled_us / 1e6)
        assert row.cells[2].value == pytest.approx(100)


def test_shares_of_a_peak_never_exceed_it(gpu_pair: Study, cpu_pair: Study) -> None:
    for study in (gpu_pair,):
        for a in study.analyses:
            for frame in (a.kernels, a.rooflines.operators, a.rooflines.model):
                assert not (frame["peak_pct"] > 100).any()
                assert not (frame["dram_pct_of_peak"] > 100).any()
    assert operator_table(cpu_pair) is not None


def test_modules_appear_where_the_trace_names_them(gpu_pair: Study) -> None:
    assert all((a.launches["module"] == "").all() for a in gpu_pair.analyses)
    assert module_table(gpu_pair) is None


def test_what_has_no_model_says_why(gpu_pair: Study) -> None:
    found = unmodelled(gpu_pair)
    assert isinstance(found, Folded)
    (row,) = found.blocks[0].rows
    assert row.cells[0].text == "made_up_operator"
    assert row.cells[-1].text == "no formula for this operator"
    cnn = gpu_pair.analyses[1]
    assert row.cells[4].value == pytest.approx(100 - cnn.totals.modelled_pct)
    assert unmodelled(replace(gpu_pair, analyses=gpu_pair.analyses[:1])) is None


def test_errors_come_before_notes_and_are_escaped(gpu_pair: Study) -> None:
    error = Impossible("9,999 TFLOP/s where 989 is the peak", EVIL, EVIL, "", 3.0)
    study = with_cards(gpu_pair, Impossible("1,000 GB/s", "k", "op", "it fits the L2", 1.0), error)
    found = alerts(study)
    assert [card.level for card in found if isinstance(card, Alert)] == ["error", "note"]
    html = page(study)
    assert EVIL not in html
    assert "9,999\u00a0TFLOP/s" in markup.read(html).text


def test_the_page_and_the_summary_name_every_card(gpu_pair: Study, tmp_path: Path) -> None:
    cards = tuple(Impossible(f"{i} TFLOP/s", f"kernel{i}", "op", "", 1.0) for i in range(MAX_ITEMS + 5))
    study = with_cards(gpu_pair, *cards)
    (card,) = (a for a in alerts(study) if isinstance(a, Alert) and a.level == "error")
    assert len(card.items) == MAX_ITEMS + 1
    assert "and 5 more" in card.items[-1][1]
    write_report(study, tmp_path)
    listed = json.loads((tmp_path / "summary.json").read_text())["runs"][0]["impossible"]
    assert [c["kernel"] for c in listed] == [c.kernel for c in cards]
    assert {c["level"] for c in listed} == {"error"}


def test_notes_with_one_reason_are_one_line(gpu_pair: Study) -> None:
    cards = tuple(Impossible(f"{i} TFLOP/s", f"kernel{i}", "op", "Winograd", float(i)) for i in range(1, 6))
    (note,) = (a for a in alerts(with_cards(gpu_pair, *cards)) if isinstance(a, Alert))
    ((about, text),) = note.items
    assert "kernel5" in about
    assert "4 more" in about
    assert text == "5 TFLOP/s: Winograd"


def test_a_summary_keeps_the_band_of_bytes(gpu_single: Study, tmp_path: Path) -> None:
    (first,) = gpu_single.analyses
    totals = replace(first.totals, bytes_high=2 * first.totals.bytes_compulsory)
    write_report(replace(gpu_single, analyses=(replace(first, totals=totals),)), tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())["runs"][0]["bytes_compulsory"]
    assert (found["low"], found["high"]) == (found["value"], 2 * found["value"])


def test_every_rate_says_what_it_is_of() -> None:
    assert all(head.meaning and (head.evidence or head.text == "limit") for head in rates.HEADS)
