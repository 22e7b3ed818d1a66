"""Section "counters" and what counters change elsewhere: counted figures stand before modelled ones, and both stay visible."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from analyzer.analysis import analyze, compare
from analyzer.format import size
from analyzer.insight.caveats import find_caveats, not_measured
from analyzer.insight.counters import absence, counter_line
from analyzer.insight.reproduction import is_own
from analyzer.report.blocks import Block, Cell, Figure, Listing, Notice, Prose, Row, Section, Table, tables_of
from analyzer.report.marks.counters import by_kind, by_module, by_operator, whole
from analyzer.report.marks.memory import throughputs
from analyzer.report.render import page
from analyzer.report.sections import build, kernels, memory, occupancy
from analyzer.report.sections.counters import section
from analyzer.report.sections.masthead import masthead
from analyzer.schema.counters import COUNTED
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study
from analyzer.schema.run import CounterFacts
from tests import traces
from tests.report import test_tables
from tests.report.counted import counted, view
from tests.report.test_page import HOSTILE, check_page

MIB = 2.0**20
WHOLE = ("DRAM bytes", "cache hits", "achieved occupancy", "tensor-pipe use")


@pytest.fixture(scope="module")
def both(gpu_pair: Study) -> Study:
    first, second = gpu_pair.analyses
    return compare(counted(first), counted(second, factor=0.5))


def made(found: Study) -> Section:
    out = section(found)
    assert out is not None
    return out


def of(found: Section, kind: type[Block]) -> list[Block]:
    return [block for block in found.blocks if isinstance(block, kind)]


def notices(found: Section) -> list[str]:
    return [block.text for block in found.blocks if isinstance(block, Notice)]


def prose(found: Section) -> str:
    return "\n".join(block.text for block in found.blocks if isinstance(block, Prose))


def table(found: Section, table_id: str) -> Table:
    return next(t for t in tables_of(found.blocks) if t.id == table_id)


def cell(found: Table, row: Row, head: str) -> Cell:
    return row.cells[[h.text for h in found.heads].index(head)]


def without_counters(a: Analysis, facts: CounterFacts | None) -> Study:
    assert a.run.facts is not None
    return compare(replace(a, run=structs.replace(a.run, facts=structs.replace(a.run.facts, counters=facts))))


def test_sums_by_kind_are_those_of_the_launches(both: Study) -> None:
    found = by_kind(both.analyses)
    assert {g.run for g in found} == {0, 1}
    for group in found:
        a = both.analyses[group.run]
        rows = a.launches[(a.launches["category"] == "kernel") & (a.launches["kind"] == group.kind)]
        steps = a.window.batches
        assert steps == 3
        told = rows["bytes_dram_low"].notna() & rows["bytes_dram_high"].notna() & (rows["basis"] == "formula")
        if told.any():
            assert group.dram.measured == pytest.approx(rows.loc[told, "bytes_dram_counter"].sum() / steps)
            assert group.dram.low == pytest.approx(rows.loc[told, "bytes_dram_low"].sum() / steps)
            assert group.dram.high == pytest.approx(rows.loc[told, "bytes_dram_high"].sum() / steps)
            assert group.compulsory_bytes == pytest.approx(rows.loc[told, "bytes_compulsory"].sum() / steps)
            middle = (rows["bytes_dram_low"] + rows["bytes_dram_high"])[told].sum() / 2 / steps
            assert group.dram.measured == pytest.approx((1.0, 0.5)[group.run] * middle)
        else:
            assert not group.dram.known
        assert group.dram.whole == pytest.approx(rows["bytes_dram_counter"].sum() / steps)
        assert group.counted_pct == pytest.approx(100)
        time = rows["dur_ns"]
        assert group.achieved_pct == pytest.approx((rows["occupancy_achieved_pct"] * time).sum() / time.sum())


def test_kinds_operators_and_modules_add_up_to_the_run(gpu_single: Study) -> None:
    a = counted(gpu_single.analyses[0])
    rows = a.launches[a.launches["category"] == "kernel"]
    modules = rows["kernel"].map({name: f"blocks.{i}.part" for i, name in enumerate(rows["kernel"].unique())})
    launches = a.launches.assign(module=modules.reindex(a.launches.index).fillna(""))
    a = replace(a, launches=launches)
    everything = whole(a, 0)
    for found in (by_kind((a,)), by_operator(a, 0), by_module(a, 0)):
        assert sum(g.dram.whole for g in found) == pytest.approx(everything.dram.whole)
        assert sum(g.share_pct for g in found) == pytest.approx(100)
    assert {g.name for g in by_module(a, 0)} == {"blocks.*.part"}
    assert by_module(counted(gpu_single.analyses[0]), 0) == (), "no module in the trace, no table"


def test_launches_without_a_model_stand_apart(gpu_single: Study) -> None:
    a = counted(gpu_single.analyses[0])
    launches = a.launches.copy()
    some = launches.index[launches["kind"] == "matmul"][:3]
    launches.loc[some, ["bytes_dram_low", "bytes_dram_high"]] = np.nan
    group = next(g for g in by_kind((replace(a, launches=launches),)) if g.kind == "matmul")
    assert group.dram.rest == pytest.approx(launches.loc[some, "bytes_dram_counter"].sum() / 3)
    assert group.dram.whole == pytest.approx(launches.loc[launches["kind"] == "matmul", "bytes_dram_counter"].sum() / 3)


def test_the_section_shows_counted_beside_modelled(both: Study) -> None:
    found = made(both)
    assert found.heading == "What did the hardware count?"
    assert not [text for text in notices(found) if "No hardware counters" in text]
    kinds = table(found, "counters-kinds")
    for group, row in zip(by_kind(both.analyses), kinds.rows, strict=True):
        if not group.dram.known:
            continue
        assert cell(kinds, row, "DRAM counted").value == pytest.approx(group.dram.measured / MIB)
        assert cell(kinds, row, "DRAM counted").evidence is Evidence.MEASURED
        assert cell(kinds, row, "model, low").value == pytest.approx(group.dram.low / MIB)
        assert cell(kinds, row, "model, high").text.startswith("≈")
        ratio = cell(kinds, row, "over compulsory")
        assert ratio.value == pytest.approx(group.dram.measured / group.compulsory_bytes)
        assert row.run == both.analyses[group.run].label
    use = table(found, "counters-use")
    assert {cell(use, row, "L2 hits").text for row in use.rows} == {"60.0"}
    assert {cell(use, row, "tensor pipe active").text for row in use.rows} == {"55.0", "0.0"}
    assert any(isinstance(block, Figure) and block.id == "fig-counters" for block in found.blocks)
    sources = table(found, "counters-source-table")
    assert [cell(sources, row, "kernel time matched").text for row in sources.rows] == ["100.0", "100.0"]


def test_the_sentence_compares_the_sums(both: Study) -> None:
    text = prose(made(both))
    first, second = (whole(a, run) for run, a in enumerate(both.analyses))
    assert f"DRAM moved {size(first.dram.whole)} per step." in text
    assert f"{size(first.dram.low)} to {size(first.dram.high)} through DRAM" in text
    assert "what was counted is inside that band" in text
    below = f"{100 * (1 - second.dram.measured / second.dram.low):.0f} % less than its lower end"
    assert (second.dram.measured < second.dram.low) == (below in text)
    assert "with caches as the kernel before left them" in text


def test_tables_keep_the_rules_of_all_tables(both: Study) -> None:
    sections = build(both)
    for check in (
        test_tables.test_every_row_has_a_cell_for_each_column,
        test_tables.test_every_numeric_column_has_its_evidence,
        test_tables.test_no_cell_is_surer_in_its_head_than_in_itself,
        test_tables.test_every_number_can_be_sorted,
        test_tables.test_every_numeric_column_stands_in_the_glossary,
        test_tables.test_words_are_explained_too,
    ):
        check(sections)
    html = page(both)
    check_page(html)
    assert 'id="glossary-counted"' in html


def test_kernel_table_shows_the_counted_rate_and_keeps_the_model(both: Study) -> None:
    found = table(kernels.section(both), "kernel-table")
    assert next(h for h in found.heads if h.text == "memory").evidence is Evidence.MEASURED
    a = both.analyses[0]
    for row in found.rows:
        if row.run != a.label:
            continue
        mine = next(k for k in a.kernels.to_dict("records") if row.cells[0].detail[0][1].startswith(str(k["kernel"])[:200]))
        memory_rate = cell(found, row, "memory")
        assert memory_rate.value == pytest.approx(mine["bytes_dram_counter"] / mine["time_us"] / 1e3)
        assert memory_rate.evidence is Evidence.MEASURED
        assert cell(found, row, "achieved").value == pytest.approx(mine["occupancy_achieved_pct"])
        assert cell(found, row, "occupancy").value == pytest.approx(mine["occupancy_pct"])
        detail = dict(row.cells[0].detail)
        assert size(mine["bytes_dram_counter"]) in detail["DRAM bytes"]
        assert "access model ≈" in detail["DRAM bytes"]
        assert detail["L2 hits"] == "60.0 % counted"
    assert "none of them is a counter reading" not in found.note


def test_without_counters_the_kernel_table_has_no_column_for_them(gpu_single: Study) -> None:
    found = table(kernels.section(gpu_single), "kernel-table")
    assert "achieved" not in [h.text for h in found.heads]
    assert next(h for h in found.heads if h.text == "memory").evidence is Evidence.MODELLED
    assert "none of them is a counter reading" in found.note


def test_a_run_without_counters_beside_one_with_them_is_named(gpu_pair: Study) -> None:
    first, second = gpu_pair.analyses
    study = compare(counted(first), second)
    found = made(study)
    (text,) = [t for t in notices(found) if "No hardware counters" in t]
    assert text.startswith(f"No hardware counters of {second.label}: none were read when the run was recorded.")
    assert f"{second.label} has none" in "\n".join(notices(memory.section(study)))
    (line,) = [t for t in study.verdict.not_measured if "counters" in t]
    assert line.startswith(f"{second.label}: {', '.join(WHOLE[:3])} and {WHOLE[3]}: they need hardware counters")
    rows = table(found, "counters-kinds").rows
    assert {row.run for row in rows} == {first.label}
    heads = table(kernels.section(study), "kernel-table").heads
    assert next(h for h in heads if h.text == "memory").evidence is Evidence.MODELLED, "one run has only modelled rates"
    check_page(page(study))


def test_without_counters_there_is_one_notice_and_the_command(gpu_pair: Study) -> None:
    found = made(gpu_pair)
    (text,) = [t for t in notices(found) if "ounters" in t]
    assert text == (
        "No hardware counters: none were read when the run was recorded. Bytes are modelled; hit rates and achieved occupancy "
        "are missing. To get them, record it again with them."
    )
    (commands,) = [b for b in found.blocks if isinstance(b, Listing) and b.code]
    assert {command for _, command in commands.items} == {"analyzer batch_size=32 counters=ncu"}
    assert not list(tables_of(found.blocks))


def test_the_reason_and_the_hint_of_the_run_are_told(gpu_single: Study) -> None:
    facts = CounterFacts(available=False, reason="the driver allows counters to administrators only.", hint="see task=doctor")
    study = without_counters(gpu_single.analyses[0], facts)
    (text,) = [t for t in notices(made(study)) if "No hardware counters" in t]
    assert "No hardware counters: the driver allows counters to administrators only. " in text
    assert "To get them, see task=doctor." in text
    (line,) = [t for t in study.verdict.not_measured if "hardware counters" in t]
    assert "The driver allows counters to administrators only; see task=doctor" in line


def test_a_bare_trace_gets_the_commands_of_ncu(tmp_path: Path) -> None:
    for name, beside in (("plain.json.gz", "plain.counters.csv"), ("a;rm -rf x.json.gz", "counters.csv")):
        found = made(compare(analyze(traces.write(tmp_path / name, traces.document(traces.gpu_step())))))
        (commands,) = [b for b in found.blocks if isinstance(b, Listing) and b.code]
        text = commands.items[0][1]
        assert text.endswith(f"> {beside}")
        assert "ncu " in text
        assert "\n" in text, "a comment ends with its line"
        assert "rm -rf" not in text


def test_amd_says_that_it_is_not_supported_yet(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    amd = replace(a, device=structs.replace(a.device, vendor="AMD"))
    (text,) = [t for t in notices(made(replace(gpu_single, analyses=(amd,)))) if "ounters" in t]
    assert "rocprofv3, which is not supported yet" in text
    assert not [b for b in made(replace(gpu_single, analyses=(amd,))).blocks if isinstance(b, Listing)]


def test_a_cpu_has_no_section_and_one_clause(cpu_pair: Study) -> None:
    assert section(cpu_pair) is None
    assert "those of processors are not read" in "\n".join(notices(memory.section(cpu_pair)))
    (line,) = [t for t in cpu_pair.verdict.not_measured if "hardware counters" in t]
    assert line.startswith("DRAM bytes and cache hits: they need hardware counters; bytes here are modelled.")


def test_what_the_counters_lack_is_not_measured(gpu_single: Study) -> None:
    why = (("achieved occupancy", "the file has no column sm__warps_active"),)
    a = counted(gpu_single.analyses[0], without=("occupancy_achieved_pct",), missing=why)
    (line,) = [t for t in not_measured((a,)) if "counters" in t]
    assert line == (
        "achieved occupancy: not in the counters of this run (achieved occupancy, the file has no column sm__warps_active)"
    )
    found = made(compare(a))
    (gone,) = [b for b in found.blocks if isinstance(b, Listing) and b.title == "Not in these counters"]
    assert gone.items == why
    assert "not what was achieved" in prose(occupancy.section(compare(a)) or made(compare(a)))
    assert not [t for t in not_measured((counted(gpu_single.analyses[0]),)) if "counters" in t]


def test_refused_counters_are_a_warning_and_no_table(gpu_single: Study) -> None:
    reason = "the counters match 51.1 % of the kernel time, and 95 % are needed; kernel 1 of the trace is x"
    a = counted(gpu_single.analyses[0], refused=reason, matched_pct=51.1)
    study = compare(a)
    (warning,) = [c for c in study.verdict.caveats if c.target == "counters"]
    assert warning.level == "warning"
    assert warning.text.endswith("the counters of counters.csv are refused: the counters match 51.1 % of the kernel time, and 95 "
                                 "% are needed")  # fmt: skip
    found = made(study)
    (text,) = [t for t in notices(found) if "refused" in t]
    assert reason in text
    assert not list(tables_of(found.blocks))
    check_page(page(study))


def test_cold_counters_are_no_throughput_of_the_run(gpu_single: Study) -> None:
    warm, cold = (counted(gpu_single.analyses[0], mode=mode) for mode in ("warm", "cold"))
    assert any(math.isfinite(mark.counted_pct) for mark in throughputs((warm,)).marks)
    assert not any(math.isfinite(mark.counted_pct) for mark in throughputs((cold,)).marks)
    (warning,) = [c for c in find_caveats(cold) if c.target == "counters"]
    assert "caches emptied before each kernel" in warning.text
    assert not [c for c in find_caveats(warm) if c.target == "counters"]
    assert "with caches emptied before each kernel" in prose(made(compare(cold)))


def test_throughput_is_counted_bytes_over_time(both: Study) -> None:
    for mark in throughputs(both.analyses).marks:
        a = both.analyses[mark.run]
        rows = a.launches[(a.launches["category"] == "kernel") & (a.launches["kind"] == mark.kind)]
        roof = next(f.figure.value for f in a.limits if f.name == "bandwidth used for floors")
        assert roof is not None
        assert mark.counted_pct == pytest.approx(100 * rows["bytes_dram_counter"].sum() / rows["dur_ns"].sum() / roof)
    heads = [h.text for h in table(memory.section(both), "memory-dram-table").heads]
    assert heads[-1] == "counted"
    text = prose(memory.section(both))
    assert "60 % was there (mean weighted by time, counted)" in text


def test_occupancy_shows_what_was_achieved_where_it_was_counted(both: Study) -> None:
    found = occupancy.section(both)
    assert found is not None
    text = prose(found)
    assert "not what was achieved" not in text
    limits = table(found, "occupancy-limit-table")
    for a, shown in zip(both.analyses, masthead(both, {}).tiles[-1].readings, strict=True):
        rows = a.launches[a.launches["category"] == "kernel"]
        mean = (rows["occupancy_achieved_pct"] * rows["dur_ns"]).sum() / rows["dur_ns"].sum()
        assert f"Achieved, by hardware counters, is {mean:.1f} %" in text
        assert shown.evidence is Evidence.MEASURED
        assert shown.text == f"{mean:.0f} %"
        assert shown.remark.startswith("achieved, by hardware counters; the launches allow ")
        total = [row for row in limits.rows if row.run == a.label and row.marked]
        assert cell(limits, total[0], "achieved").value == pytest.approx(mean)


def test_one_line_says_how_much_is_counted(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    assert counter_line(counted(a)) == "72 of 72 kernels, 100 % of the kernel time (Nsight Compute 2025.3.1)"
    line = counter_line(counted(a, every=2, matched_pct=99.97, tool=""))
    assert line == "36 of 72 kernels, 99.9 % of the kernel time"


def test_sources_of_other_kinds(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    text = prose(made(compare(counted(a, kind="import", mode="", source="mine.csv"))))
    assert "They come from the file mine.csv; the source does not tell in which state caches were." in text
    text = prose(made(compare(counted(a, kind="ranges", tool="", source="trace"))))
    assert "They stand in the trace itself, as cuda_profiler_range events" in text
    facts = CounterFacts(available=True, version="2025.3.1", passes=3, cache_control="none")
    with_facts = counted(without_counters(a, facts).analyses[0])
    assert "They were read in 3 passes of their own after the recording" in prose(made(compare(with_facts)))


def test_hostile_texts_of_a_counter_file_stay_text(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    for text in HOSTILE:
        changes = {"source": text, "tool": text, "matching": text, "missing": (("L2 hits", text),), "notes": (text,)}
        for refused in ("", f"{text}; {text}"):
            html = page(compare(counted(a, refused=refused, **changes)))
            check_page(html)
            assert "<script>window.pwned" not in html
            assert "<img" not in html
            assert not set("\u202e\u200b\x00\x1b") & set(html)
            assert "k" * 2000 not in html


def test_a_run_without_kernels_has_its_notice(tmp_path: Path) -> None:
    events = [e for e in traces.gpu_step() if e.get("cat") != "kernel"]
    a = analyze(traces.write(tmp_path / "none.json", traces.document(events)))
    if a.device.type == "cuda":
        found = made(compare(replace(a, counters=view(refused="", used=0, matched_pct=0.0))))
        assert found.blocks
        check_page(page(compare(a)))


def test_counters_are_a_setting_that_a_recorded_command_may_have() -> None:
    assert is_own(("analyzer", "batch_size=32", "counters=ncu"))


def test_absence_of_a_refused_file_keeps_its_reason(gpu_single: Study) -> None:
    gone = absence(counted(gpu_single.analyses[0], refused="no match."))
    assert gone.why == "the counters of counters.csv are refused: no match"
    assert gone.command.endswith("counters=ncu")


def test_the_helper_fills_every_counted_column(gpu_single: Study) -> None:
    rows = counted(gpu_single.analyses[0]).launches
    assert set(COUNTED.names) <= set(rows.columns)
