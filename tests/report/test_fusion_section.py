"""Section "fusion": its tables and sentences say what the comparison holds, and what is slower is said as plainly as what is not."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analyzer.analysis import compare
from analyzer.format import milliseconds
from analyzer.report.blocks import Block, Cell, Figure, Notice, Prose, Section, Table, tables_of
from analyzer.report.files import FILES
from analyzer.report.marks.fusion import MAX_MODULES, NO_MODULE, byte_pairs, module_pairs, operators_label
from analyzer.report.render import page, write_report
from analyzer.report.sections import build
from analyzer.report.sections.fusion import section
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.fusion import FUSION_COLUMNS, FusedGroup, Fusion, ModuleChange, Prediction
from analyzer.schema.results import Study
from analyzer.tasks.inputs import REPORT_FILES
from tests.report import compiled_pair, test_tables
from tests.report.test_page import check_page


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return compiled_pair.study(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def found(study: Study) -> Fusion:
    assert study.fusion is not None
    return study.fusion


def made(study: Study, **changes: object) -> Section:
    assert study.fusion is not None
    out = section(replace(study, fusion=replace(study.fusion, **changes)))  # type: ignore[arg-type]
    assert out is not None
    return out


def texts(found: Section, kind: type[Block] = Prose) -> str:
    return "\n".join(block.text for block in found.blocks if isinstance(block, kind) and isinstance(block, Prose | Notice))


def table(found: Section, table_id: str) -> Table:
    return next(t for t in tables_of(found.blocks) if t.id == table_id)


def column(found: Table, head: str) -> list[Cell]:
    place = [h.text for h in found.heads].index(head)
    return [row.cells[place] for row in found.rows]


def test_it_stands_only_where_an_eager_and_a_compiled_run_are_compared(study: Study, gpu_pair: Study) -> None:
    assert section(study) is not None
    assert section(gpu_pair) is None
    assert section(compare(study.analyses[0])) is None


def test_tables_hold_the_figures_of_the_comparison(study: Study, found: Fusion) -> None:
    whole = made(study)
    for table_id in ("fusion-sum", "fusion-modules", "fusion-groups"):
        for row in table(whole, table_id).rows:
            assert len(row.cells) == len(table(whole, table_id).heads)
    saved = [cell.value for cell in column(table(whole, "fusion-modules"), "saved")]
    assert saved == pytest.approx([change.delta_us / 1e3 for change in found.modules] + [0.066])
    parts = [
        column(table(whole, "fusion-modules"), name) for name in ("floor of work", "named causes", "no cause named", "no model")
    ]
    for i, value in enumerate(saved):
        assert sum(cells[i].value or 0.0 for cells in parts) == pytest.approx(value, abs=1e-9)
    rows = {row.cells[0].text: [cell.value for cell in row.cells[1:4]] for row in table(whole, "fusion-sum").rows}
    assert rows["all kernels"] == pytest.approx([0.390, 0.324, 0.066])
    kernels = [
        rows[name] for name in rows if "run alone" in name or name.startswith("operators that gen") or "one by one" in name
    ]
    assert len(kernels) == 4
    assert sum(row[2] or 0.0 for row in kernels) == pytest.approx(0.066)
    assert table(whole, "fusion-sum").rows[-1].cells[3].value == pytest.approx(found.total_us / 1e3)


def test_rows_of_groups_name_operators_modules_and_kernels(study: Study) -> None:
    first = table(made(study), "fusion-groups").rows[0].cells[0]
    assert first.text == "add + layer_norm"
    assert first.remark == "blocks.*.norm, blocks.*"
    assert dict(first.detail)["operators"] == "aten::add, aten::native_layer_norm"
    assert dict(first.detail)["kernels"] == "graph_0_cpp_fused_add_native_layer_norm_1"


def test_sentences_hold_the_figures_of_the_comparison(study: Study, found: Fusion) -> None:
    said = texts(made(study))
    assert re.search(r"a batch takes 1\.25x as long in the eager run as in the compiled run", said)
    assert f"{milliseconds(found.total_us)} of difference" in said
    assert (
        "calls 10 operators that do work per batch, and the compiled run 8: 6 that the compiler generated and 2 others" in said
    )
    assert "Of 5 module patterns, 3 take less kernel time in the compiled run (80.0 µs together" in said
    assert "2 take more (14.0 µs together, in “blocks.*.act” (10.0 µs), “extra” (4.00 µs))" in said
    assert "The kernels take 50.0 µs less than the same operators in the eager run." in said
    assert "slower" not in said


def test_a_compiled_run_that_takes_longer_is_said_in_the_same_words(tmp_path: Path) -> None:
    eager, compiled = compiled_pair.eager(), compiled_pair.compiled()
    compiled.ops = [(op, module, shapes, 3 * us) for op, module, shapes, us in compiled.ops]
    compiled.latency_ms = 1.2
    other = compiled_pair.study(tmp_path, eager, compiled)
    said = texts(made(other))
    assert re.search(r"a batch takes 2\.67x as long in the compiled run as in the eager run", said)
    assert "none takes less kernel time in the compiled run; 5 take more" in said
    assert "more than the same operators in the eager run" in said
    figure = next(b for b in made(other).blocks if isinstance(b, Figure) and b.id == "fig-fusion-modules")
    assert "more in the compiled run" in figure.title
    assert "longer" in figure.svg
    assert "saves" not in figure.svg


def test_what_is_not_clear_is_not_claimed(study: Study) -> None:
    near = Quantity(1.01, "x", Evidence.DERIVED, 0.97, 1.05)
    assert "the two do not clearly differ" in texts(made(study, ratio=near))
    few = Quantity(1.4, "x", Evidence.DERIVED)
    assert "too few iterations to tell" in texts(made(study, ratio=few))
    assert "Nothing was timed without the profiler" in texts(made(study, ratio=None))


def test_bytes_are_not_taken_for_time(study: Study, found: Fusion) -> None:
    said = texts(made(study))
    assert "at 30 GB/s" in said
    assert "Bytes and time need not agree" in said
    more = tuple(replace(g, bytes_whole=g.bytes_apart + 2**20) if g.is_fused else g for g in found.groups)
    said = texts(made(study, groups=more))
    assert "which is 1.00 MiB more" in said
    assert "1 group of kernels moves more than the eager operators" in said


def test_bytes_of_unequal_work_are_in_no_difference(study: Study, found: Fusion) -> None:
    fused = [g for g in found.groups if g.is_fused]
    lacking = tuple(replace(g, matched_pct=50.0, bytes_whole=2.0**20) if g is fused[0] else g for g in found.groups)
    whole = made(study, groups=lacking)
    assert len(byte_pairs(replace(found, groups=lacking))) == len(fused) - 1
    assert "what the eager run does not" in texts(whole, Notice)
    assert "1.00 MiB and" in texts(whole, Notice)
    cells = column(table(whole, "fusion-groups"), "operators in one kernel")
    assert cells[-1].text == "generated kernels with a counterpart"


def test_the_scaling_of_waiting_is_told(study: Study) -> None:
    assert "scaled" not in table(made(study, waiting=(1.0, 1.0)), "fusion-sum").note
    note = table(made(study, waiting=(0.0, 1.0)), "fusion-sum").note
    assert "comes from the scaling and is no cause" in note


def test_unknown_bytes_and_limits_leave_no_empty_columns(study: Study, found: Fusion) -> None:
    nothing = tuple(replace(g, bytes_apart=math.nan, bytes_whole=math.nan, saved_us=math.nan) for g in found.groups)
    whole = made(study, groups=nothing)
    assert "The bytes that fusing saves are not known" in texts(whole, Notice)
    assert not [b for b in whole.blocks if isinstance(b, Figure) and b.id == "fig-fusion-bytes"]
    untold = made(study, modules=tuple(replace(change, terms=()) for change in found.modules))
    assert [h.text for h in table(untold, "fusion-modules").heads] == ["module", "eager", "compiled", "saved", "shared"]
    assert "limits of the device are not known" in texts(untold, Notice)


def test_time_without_a_counterpart_is_said(study: Study) -> None:
    assert "no counterpart" not in texts(made(study), Notice)
    assert "20 % of the kernel time of the eager run has no counterpart" in texts(made(study, matched_eager_pct=80.0), Notice)
    assert "also differ in" in texts(made(study, cautions=("The runs also differ in threads (1 and 2).",)), Notice)


@pytest.mark.parametrize(
    ("delta", "words"), [(30.0, "within that estimate"), (70.0, "more than that"), (-4.0, "less than that")]
)
def test_a_prediction_stands_beside_what_was_measured(study: Study, delta: float, words: str) -> None:
    saving = Quantity(34.0, "us", Evidence.MODELLED, 8.0, 60.0)
    said = texts(made(study, prediction=Prediction("Chains", saving, 100.0, delta)))
    assert "expects ≈ 34.0 µs (8.00 µs to 60.0 µs) from fusing what takes 100 µs there" in said
    assert words in said
    assert ("take 4.00 µs longer" in said) == (delta < 0)


def test_figures_hold_every_module_in_rows_that_add_up(found: Fusion) -> None:
    many = tuple(ModuleChange(f"m{'x' * 100}{i}", 100.0 - i, 50.0, 0.0) for i in range(30))
    pairs = module_pairs(replace(found, modules=many))
    assert len(pairs) == MAX_MODULES
    assert pairs[-1].label == f"{30 - MAX_MODULES + 1} that differ less"
    assert sum(pair.delta for pair in pairs) == pytest.approx(sum(change.delta_us for change in many))
    assert all(len(pair.label) <= 40 for pair in pairs)
    assert module_pairs(replace(found, modules=(ModuleChange("", 1.0, 2.0, 0.0),)))[0].label == NO_MODULE


def test_figures_show_the_groups_that_differ_most(found: Fusion) -> None:
    (pair,) = byte_pairs(found)
    assert (pair.label, pair.below) == ("add + layer_norm", "blocks.*.norm, blocks.*")
    assert pair.delta == next(group for group in found.groups if group.is_fused).bytes_saved


def test_repeated_operators_are_counted() -> None:
    ops = ("aten::add", "aten::add", "aten::add", "aten::native_layer_norm")
    assert operators_label(FusedGroup("generated", ops, (), (), 1.0, 1.0, 1.0, 100.0)) == "3 add + layer_norm"


def test_hostile_names_stay_text(study: Study, found: Fusion) -> None:
    evil = "<script>alert(1)</script>\u202e" + "x" * 5000
    groups = tuple(replace(g, operators=(evil, evil), modules=(evil,), kernels=(evil,)) for g in found.groups)
    modules = tuple(replace(change, module=evil) for change in found.modules)
    text = page(replace(study, fusion=replace(found, groups=groups, modules=modules)))
    assert "<script>alert" not in text
    assert "\u202e" not in text


def test_files_hold_the_groups(study: Study, found: Fusion, gpu_pair: Study, tmp_path: Path) -> None:
    assert "fusion.csv" in FILES
    assert "fusion.csv" in REPORT_FILES
    write_report(study, tmp_path)
    rows = pd.read_csv(tmp_path / "fusion.csv")
    assert tuple(rows.columns) == FUSION_COLUMNS
    assert rows["eager_us"].sum() == pytest.approx(found.eager.kernel_us)
    assert rows["compiled_us"].sum() == pytest.approx(found.compiled.kernel_us)
    assert rows["operators"].iloc[0] == "aten::add+aten::native_layer_norm"
    entry = json.loads((tmp_path / "summary.json").read_text())["fusion"]
    assert sum(change["delta_us"] for change in entry["modules"]) == pytest.approx(entry["kernel_delta_us"])
    assert entry["kernel_delta_us"] + sum(rest["delta_us"] for rest in entry["rest"]) == pytest.approx(entry["total_us"])
    assert (entry["compiled"]["launches"], entry["compiled"]["generated"], entry["compiled"]["host_us"]) == (8, 6, None)
    other = tmp_path / "other"
    other.mkdir()
    write_report(gpu_pair, other)
    assert pd.read_csv(other / "fusion.csv").empty
    assert json.loads((other / "summary.json").read_text())["fusion"] is None


@pytest.mark.parametrize("gpu", [False, True])
def test_the_page_and_its_tables_keep_the_rules_of_all_pages(tmp_path: Path, gpu: bool) -> None:
    pair = compiled_pair.eager(), compiled_pair.compiled()
    whole = compiled_pair.study(tmp_path, *(map(compiled_pair.on_gpu, pair) if gpu else pair))
    sections = build(whole)
    assert [one.id for one in sections[:2]] == ["gap", "fusion"]
    test_tables.test_every_row_has_a_cell_for_each_column(sections)
    test_tables.test_every_numeric_column_has_its_evidence(sections)
    test_tables.test_no_cell_is_surer_in_its_head_than_in_itself(sections)
    test_tables.test_every_number_can_be_sorted(sections)
    test_tables.test_every_numeric_column_stands_in_the_glossary(sections)
    test_tables.test_words_are_explained_too(sections)
    check_page(page(whole))
    heads = [head.text for head in table(sections[1], "fusion-runs").heads]
    assert ("of it waiting for the host" if gpu else "of it dispatch") in heads
    assert ("launches 10 kernels per batch" if gpu else "calls 10 operators") in texts(sections[1])
