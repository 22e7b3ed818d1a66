"""The section on memory says what the launches and the allocator's events say, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from msgspec import structs

from analyzer.analysis import analyze, compare
from analyzer.format import percent, size
from analyzer.metrics.capacities import DRAM, LAST_CACHES, capacity_facts
from analyzer.metrics.limits import Limits, limits_of
from analyzer.report.blocks import Figure, Notice, Prose, Section, Table, tables_of
from analyzer.report.files import summary
from analyzer.report.marks.memory import MAX_POINTS, Curve, curves, levels, locality, thinned, throughputs
from analyzer.report.memory_files import peak_memory
from analyzer.report.render import page
from analyzer.report.sections.masthead import masthead
from analyzer.report.sections.memory import COUNTERS, NO_COUNTERS, NO_EVENTS, section
from analyzer.report.sections.memory_tables import MAX_HOLDERS
from analyzer.schema.evidence import Evidence
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis, Study
from analyzer.schema.run import DeviceFacts
from tests import traces
from tests.report.conftest import make_study
from tests.report.synthetic import Fake
from tests.report.test_page import check_page

MIB = 2**20
HOSTILE = "</style><script>window.pwned=1</script>\u202e" + "k" * 5000


def profile(**changes: Any) -> MemoryProfile:
    curve = pd.DataFrame(
        {
            "time_ns": [0, 1_000_000, 2_000_000],
            "allocated_bytes": [100.0 * MIB, 116.0 * MIB, 104.0 * MIB],
            "reserved_bytes": [128.0 * MIB] * 3,
        }
    )
    holders = pd.DataFrame(
        [("blocks.1.mlp", "aten::addmm", 12 * MIB, 2), ("", "", 4 * MIB, 1)], columns=["module", "op", "bytes", "blocks"]
    )
    known = MemoryProfile("GPU 0", curve, True, 1_000_000, 116.0 * MIB, holders, 100.0 * MIB, 16.0 * MIB)
    return replace(known, **changes)


def with_memory(a: Analysis, *found: MemoryProfile) -> Analysis:
    window = replace(a.window, start_ns=0, end_ns=2_000_000)
    return replace(a, memory=found, window=window, steps=(("ProfilerStep#1", 0, 2_000_000),))


def texts(found: Section) -> str:
    return "\n".join(b.text for b in found.blocks if isinstance(b, Prose | Notice))


def figures(found: Section) -> dict[str, Figure]:
    return {b.id: b for b in found.blocks if isinstance(b, Figure)}


def tables(found: Section) -> dict[str, Table]:
    return {t.id: t for t in tables_of(found.blocks)}


def study_of(*analyses: Analysis) -> Study:
    return compare(*analyses)


def test_throughput_is_bytes_over_time_over_bandwidth(gpu_pair: Study) -> None:
    data = throughputs(gpu_pair.analyses)
    assert {mark.run for mark in data.marks} == {0, 1}
    for mark in data.marks:
        a = gpu_pair.analyses[mark.run]
        roof = next(f.figure.value for f in a.limits if f.name == "bandwidth used for floors")
        rows = a.launches[(a.launches["kind"] == mark.kind) & (a.launches["basis"] == "formula")]
        rows = rows[rows["bytes_compulsory"] > 0]
        gbps = rows["bytes_compulsory"].sum() / rows["dur_ns"].sum()
        assert roof is not None
        assert mark.gbps == pytest.approx(gbps)
        assert mark.from_cache == (gbps > roof)
        if not mark.from_cache:
            assert mark.pct == pytest.approx(100 * gbps / roof)
        assert not mark.pct > 100
        assert not mark.high_pct > 100
        assert not mark.low_pct > mark.high_pct
        kernels = a.launches[a.launches["category"] == "kernel"]
        share = 100 * kernels.loc[kernels["kind"] == mark.kind, "dur_ns"].sum() / kernels["dur_ns"].sum()
        assert mark.share_pct == pytest.approx(share)


def test_what_outruns_dram_is_said_to_come_from_a_cache(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    launches = a.launches.copy()
    wide = launches["kind"] == "normalisation"
    launches.loc[wide, "bytes_compulsory"] *= 1000
    found = throughputs((replace(a, launches=launches),))
    mark = next(mark for mark in found.marks if mark.kind == "normalisation")
    assert mark.from_cache
    assert mark.cached_pct == 100
    assert mark.high_pct <= 100 or np.isnan(mark.high_pct)
    table = tables(section(study_of(replace(a, launches=launches))))["memory-dram-table"]
    row = next(row for row in table.rows if row.cells[1].text == "normalisation")
    assert row.cells[5].text == "from a cache"
    assert row.cells[5].value is None


def test_locality_is_the_time_by_bytes(gpu_pair: Study) -> None:
    for run, a in enumerate(gpu_pair.analyses):
        found = locality(a, run)
        assert found is not None
        rows = a.launches[a.launches["category"] == "kernel"]
        known = rows[(rows["basis"] == "formula") & (rows["bytes_compulsory"] > 0)]
        total = rows["dur_ns"].sum()
        cache = next(f for f in a.limits if f.name == LAST_CACHES[0])
        assert cache.figure.value is not None
        beyond = 100 * known.loc[known["bytes_compulsory"] > cache.figure.value, "dur_ns"].sum() / total
        assert found.beyond_pct == pytest.approx(beyond)
        assert found.beyond_pct + found.within_pct == pytest.approx(found.known_pct)
        assert found.known_pct == pytest.approx(100 * known["dur_ns"].sum() / total)
        assert (np.diff(found.share_pct) >= 0).all()
        x, y = thinned(found)
        assert len(x) == len(y) <= MAX_POINTS
        said = texts(section(gpu_pair))
        assert (percent(beyond) if beyond else "None") + f" of the kernel time of {a.label} is spent" in said
        assert f"({size(cache.figure.value)})" in said


def test_a_line_of_many_sizes_is_thinned_and_keeps_its_end(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    rows = pd.concat([a.launches[a.launches["basis"] == "formula"]] * 400, ignore_index=True)
    rows["bytes_compulsory"] = np.geomspace(5e3, 3e9, len(rows))
    found = locality(replace(a, launches=rows), 0)
    assert found is not None
    assert len(found.size_bytes) > MAX_POINTS
    x, y = thinned(found)
    assert len(x) <= MAX_POINTS
    assert y[-1] == found.known_pct == pytest.approx(100)
    at = np.searchsorted(found.size_bytes, x)
    np.testing.assert_array_equal(found.share_pct[at], y)


def test_levels_are_those_of_the_devices(gpu_pair: Study) -> None:
    found = {level.name: level for level in levels(gpu_pair.analyses)}
    assert found[LAST_CACHES[0]].runs == (0, 1)
    assert found["L1 and shared memory of one multiprocessor"].size_bytes == 256 * 1024
    assert DRAM in found


def test_capacities_that_are_not_known_say_why() -> None:
    bare = Limits(DeviceFacts(type="cpu", name="CPU"), None, "not calibrated")
    facts = capacity_facts(bare)
    assert [fact.figure.value for fact in facts] == [None, None]
    assert all("record a run" in fact.figure.source for fact in facts)
    unknown = Limits(DeviceFacts(type="cuda", name="no such GPU"), None, "no datasheet")
    assert {fact.figure.source for fact in capacity_facts(unknown)} == {"no datasheet"}


def test_amd_has_a_cache_behind_its_l2(public_traces: Path) -> None:
    a = analyze(public_traces / "tracelens_mi300_vit_nsfw_infer.json.gz")
    facts = {f.name: f.figure.value for f in capacity_facts(limits_of(a.run, a.device))}
    assert facts[LAST_CACHES[1]] == 288 * MIB  # 32 MiB of L2, 256 MiB of Infinity Cache


def test_the_curve_of_each_run_is_drawn_with_its_peak(gpu_pair: Study) -> None:
    one, two = (with_memory(a, profile()) for a in gpu_pair.analyses)
    found = section(study_of(one, two))
    figure = figures(found)["fig-memory"]
    assert figure.svg.count("peak 116 MiB; largest: 12.0 MiB by addmm") == 2
    said = texts(found)
    for a in (one, two):
        assert f"{a.label}, GPU 0: at its peak the allocator has handed out 116 MiB, 16.0 MiB more than at" in said
    assert (
        "100 MiB was held since before the recording. Of what was allocated during the recording, addmm in blocks.1.mlp" in said
    )
    rows = tables(found)["memory-holders"].rows
    assert [row.cells[4].value for row in rows] == [100, 12, 4] * 2
    assert sum(row.cells[4].value or 0 for row in rows[:3]) == 116
    assert sum(row.cells[5].value or 0 for row in rows[:3]) == pytest.approx(100)
    assert [row.cells[2].text for row in rows[:3]] == ["held since before the recording", "blocks.1.mlp", "no module"]
    peak = tables(found)["memory-curve-table"].rows[0].cells
    assert [cell.value for cell in peak[3:]] == [3, 116, 100, 16, 128, 1]


def test_a_curve_of_changes_is_never_called_a_total(cpu_pair: Study) -> None:
    a = with_memory(cpu_pair.analyses[0], profile(device="CPU", is_absolute=False, before_bytes=0.0))
    found = section(study_of(a))
    assert "at its peak 116 MiB more is allocated than when the recording began" in texts(found)
    assert "handed out 116" not in texts(found)
    assert "weights that were there before are not in it" in figures(found)["fig-memory"].caption
    assert "peak +116 MiB" in figures(found)["fig-memory"].svg


def test_a_gpu_is_drawn_and_its_host_is_listed(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    a = with_memory(a, profile(), profile(device="CPU", is_absolute=False))
    assert [curve.profile.device for curve in curves((a,))] == ["GPU 0"]
    devices = [row.cells[1].text for row in tables(section(study_of(a)))["memory-curve-table"].rows]
    assert devices == ["GPU 0", "CPU (not drawn)"]


def test_without_addresses_the_reason_stands_where_the_holders_would(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    empty = profile(at_peak=profile().at_peak.iloc[:0], reason="the trace has no addresses")
    found = section(study_of(with_memory(a, empty)))
    assert "what holds memory at the peak is not known: the trace has no addresses." in texts(found)
    assert "memory-holders" not in tables(found)


def test_without_events_and_counters_one_line_each_says_so(gpu_pair: Study) -> None:
    found = section(gpu_pair)
    labels = " and ".join(a.label for a in gpu_pair.analyses)
    notices = [b.text for b in found.blocks if isinstance(b, Notice)]
    assert f"{labels}: {NO_EVENTS}" in notices
    assert COUNTERS.format(who=NO_COUNTERS) in notices
    assert "fig-memory" not in figures(found)


def test_a_trace_without_shapes_has_no_figure_and_says_why(tmp_path: Path) -> None:
    bare = [traces.launch(10, 1), traces.kernel("mystery", 20, 100, 1)]
    found = section(study_of(analyze(traces.write(tmp_path / "bare.json", traces.document(bare)))))
    assert not figures(found)
    assert "no kernel of this trace has a known number of bytes" in texts(found)


def test_a_long_curve_is_thinned_and_keeps_its_extremes(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    level = np.random.default_rng(7).integers(0, 10**9, 50_000).astype(np.float64)
    curve = pd.DataFrame({"time_ns": np.arange(50_000) * 40, "allocated_bytes": level, "reserved_bytes": np.nan})
    top = int(level.argmax())
    long = profile(curve=curve, peak_ns=top * 40, peak_bytes=float(level.max()))
    (found,) = curves((with_memory(a, long),))
    assert isinstance(found, Curve)
    assert len(found.at_ms) <= MAX_POINTS
    assert found.allocated_bytes.max() == level.max()
    assert found.allocated_bytes.min() == level.min()
    assert found.span == (level.min(), level.max())
    assert found.reserved is None
    svg = figures(section(study_of(with_memory(a, long))))["fig-memory"].svg
    assert len(svg) < 80_000


def test_many_holders_end_in_a_row_of_the_rest(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    many = pd.DataFrame([(f"m.{i}", "aten::add", 1000 - i, 1) for i in range(500)], columns=["module", "op", "bytes", "blocks"])
    rows = tables(section(study_of(with_memory(a, profile(at_peak=many, before_bytes=0.0)))))["memory-holders"].rows
    assert len(rows) == MAX_HOLDERS
    assert rows[-1].cells[2].text == f"{500 - MAX_HOLDERS + 1} smaller"
    held = sum(row.cells[4].value or 0 for row in rows)
    assert held == pytest.approx(sum(1000 - i for i in range(500)) / MIB)


def test_hostile_names_are_cut_and_cleaned(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    holders = pd.DataFrame([(HOSTILE, HOSTILE, 12 * MIB, 1)], columns=["module", "op", "bytes", "blocks"])
    study = study_of(replace(with_memory(a, profile(at_peak=holders, device=HOSTILE)), label=HOSTILE))
    html = page(study)
    check_page(html)
    assert "<script>window.pwned" not in html
    found = section(study)
    svg = figures(found)["fig-memory"].svg
    assert "<script" not in svg
    for text in (svg, texts(found), *(cell.text for t in tables(found).values() for row in t.rows for cell in row.cells)):
        assert "k" * 500 not in text
        assert "\u202e" not in text


def test_the_summary_has_one_entry_per_device(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    (entry,) = summary(study_of(with_memory(a, profile())))["runs"][0]["memory"]
    assert entry["device"] == "GPU 0"
    assert entry["is_absolute"] is True
    assert (entry["peak"]["value"], entry["peak"]["unit"], entry["peak"]["evidence"]) == (116 * MIB, "bytes", "measured")
    assert entry["transient_bytes"]["value"] == 16 * MIB
    assert entry["held_before"]["value"] == 100 * MIB
    assert entry["peak_at_us"] == 1000
    assert entry["holders"][0] == {"module": "blocks.1.mlp", "op": "aten::addmm", "bytes": 12 * MIB, "blocks": 2}
    assert summary(study_of(a))["runs"][0]["memory"] == []


def test_peak_memory_falls_back_to_the_allocators_totals(gpu_single: Study) -> None:
    """The untraced pass comes first; a bare trace has the largest total of a GPU; changes alone are no total."""
    a = gpu_single.analyses[0]
    assert a.run.facts is not None
    assert a.run.facts.memory is not None
    assert peak_memory(a).value == a.run.facts.memory.peak_bytes
    bare = replace(a, run=structs.replace(a.run, facts=None))
    one = profile(peak_bytes=5e6)
    other, host = replace(one, device="GPU 1", peak_bytes=7e6), replace(one, device="CPU", is_absolute=False, peak_bytes=9e9)
    found = peak_memory(replace(bare, memory=(one, host)))
    assert (found.value, found.evidence, found.source) == (5e6, Evidence.MEASURED, "handed out by the allocator, traced")
    found = peak_memory(replace(bare, memory=(one, other, host)))
    assert (found.value, found.source) == (7e6, "handed out by the allocator of GPU 1, the most of 2, traced")
    for memory, reason in (((), "no memory events"), ((replace(one, is_absolute=False), host), "no totals")):
        found = peak_memory(replace(bare, memory=memory))
        assert found.value is None
        assert reason in found.source
    study = replace(gpu_single, analyses=(replace(bare, memory=(one, host)),))
    tile = next(tile for tile in masthead(study, {}).tiles if tile.label == "Peak memory")
    assert (tile.readings[0].text, tile.readings[0].remark) == ("4.77 MiB", "handed out by the allocator, traced")


def test_six_runs_share_the_figures(tmp_path: Path) -> None:
    one = make_study(tmp_path, Fake()).analyses[0]
    six = tuple(with_memory(replace(one, label=f"run {i}"), profile()) for i in range(6))
    found = section(study_of(*six))
    assert len(figures(found)) == 3
    assert len({mark.run for mark in throughputs(six).marks}) == 6


@pytest.mark.parametrize(
    "name",
    ["tracelens_h100_vit_nsfw_infer", "kineto_v100_resnet50_train_nw0", "saf_a100_sam_amg_vith_fast", "hta_cpu_only_tiny"],
)
def test_public_traces_have_a_section_without_impossible_figures(public_traces: Path, name: str) -> None:
    a = analyze(public_traces / f"{name}.json.gz")
    found = section(study_of(a))
    for mark in throughputs((a,)).marks:
        assert mark.from_cache or 0 <= mark.pct <= 100
    assert ("fig-memory" in figures(found)) == bool(a.memory)
    assert not re.search(r"\bnan\b|\binf\b|None \(", texts(found))
