"""Section "access": its figures and tables show the numbers of the access model, with and without a trace."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from analyzer.insight.locality import claim
from analyzer.report.blocks import Figure, Folded, Listing, Prose, Section, Table
from analyzer.report.figures.curves import spread
from analyzer.report.marks.access import (
    KINDS,
    MAX_POINTS,
    amplification,
    growth,
    lines,
    name,
    representatives,
    short_size,
    traffic_ratio,
)
from analyzer.report.marks.access_map import MAX_MAPS, panels, reading
from analyzer.report.marks.access_map import MAX_POINTS as MAX_MAP_POINTS
from analyzer.report.render import _render
from analyzer.report.sections.access import section
from analyzer.report.sections.access_tables import KERNEL_HEADS, LOCALITY_HEADS, MAX_ROWS
from analyzer.schema.access import AccessResult, Curve
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Study
from analyzer.trace.kinds import KINDS as ALL_KINDS
from tests.report.access_results import DEVICES, MAPS, MIB, cnn, shapes_alone, vit, windows, written
from tests.report.markup import Page, read
from tests.report.test_page import HOSTILE, check_page

PAIR = (vit(), cnn())


def made(*results: AccessResult) -> Section:
    found = section(results)
    assert found is not None
    return found


def table(found: Section, table_id: str) -> Table:
    tables = [b for b in found.blocks if isinstance(b, Table)]
    tables += [b.table for b in found.blocks if isinstance(b, Figure) and b.table]
    tables += [inner for b in found.blocks if isinstance(b, Folded) for inner in b.blocks]
    return next(t for t in tables if t.id == table_id)


def rendered(study: Study, *results: AccessResult) -> tuple[str, Page]:
    html = _render(study, (made(*results),), {})
    return html, read(html)


def test_page_is_whole_and_small(gpu_pair: Study) -> None:
    html, found = rendered(gpu_pair, *PAIR)
    check_page(html)
    assert found.headings[-2:] == ["Why do attention and convolution touch memory differently?", "Keys"]
    assert re.findall(r'<figure id="([^"]+)"', html) == ["fig5", "fig6", "fig7"]
    assert claim(PAIR).sentence in re.sub("\u00a0", " ", found.text)
    assert rendered(gpu_pair, *PAIR)[0] == html


def test_the_claim_comes_first_and_carries_its_evidence(gpu_pair: Study) -> None:
    first = made(*PAIR).blocks[0]
    assert isinstance(first, Prose)
    assert (first.text, first.evidence) == (claim(PAIR).sentence, Evidence.MODELLED)
    assert gpu_pair.gap is not None
    with_gap = section(PAIR, gpu_pair.gap)
    assert with_gap is not None
    why = next(b for b in with_gap.blocks if isinstance(b, Listing))
    assert [term for term, _ in why.items] == [
        "ViT-B/16's fused attention", "ConvNeXt-B's convolutions", "L2 to multiprocessors", "Linear layers",
        "Against the measured gap",
    ]  # fmt: skip


def test_representatives_take_most_time_or_most_bytes() -> None:
    found = representatives(PAIR)
    assert [p.pattern for p in found] == ["conv3x3", "depthwise", "linear", "attention_fused", "attention_materialised"]
    assert next(p for p in found if p.pattern == "linear").module == "blocks.*.mlp.fc1"
    untimed = representatives(tuple(shapes_alone(r) for r in PAIR))
    linear = [p for p in PAIR[0].patterns if p.pattern == "linear"]
    assert next(p for p in untimed if p.pattern == "linear").module == max(linear, key=lambda p: p.compulsory_bytes).module
    bare = replace(PAIR[0], patterns=tuple(replace(p, curve=None) for p in PAIR[0].patterns))
    assert [line.pattern for line in lines(representatives((bare,)))] == []
    assert [p.pattern for p in representatives((bare,))] == ["linear", "attention_fused", "attention_materialised"]


def test_curve_table_has_the_numbers_of_the_curves() -> None:
    rows = table(made(*PAIR), "curve-table").rows
    for row, p in zip(rows, representatives(PAIR), strict=True):
        assert p.curve is not None
        assert row.cells[2].value == pytest.approx(p.curve.knee_bytes / MIB)
        for cell, device in zip(row.cells[3:], DEVICES, strict=True):
            at = np.interp(np.log2(device.capacity_bytes), np.log2(p.curve.capacity_bytes), p.curve.read_bytes)
            assert cell.value == pytest.approx(float(at) / p.curve.read_bytes.min(), abs=0.06)
    v100 = next(i for i, d in enumerate(DEVICES) if d.key == "v100_sxm2_16gb") + 3
    assert (rows[2].cells[v100].value or 0) > 10


def test_drawn_curves_stay_within_axis_and_budget() -> None:
    for line in lines(representatives(PAIR)):
        assert len(line.capacity_bytes) <= MAX_POINTS + 3
        assert (np.diff(line.capacity_bytes) > 0).all()
        assert line.ratio[-1] == pytest.approx(1, abs=0.01)
        assert line.knee is not None
        assert line.knee[1] <= 1.1 + 1e-9


def test_a_knee_between_two_capacities_is_a_point_of_its_own() -> None:
    """A steep curve sampled coarsely would pass its knee far above it."""
    steep = Curve(np.array([1.0, 2.0, 4.0]) * MIB, np.array([100.0, 100.0, 10.0]), 2.5 * MIB, 10.0)
    p = replace(PAIR[0].patterns[0], curve=steep)
    assert amplification(p, 2.5 * MIB) == pytest.approx(1.1)
    assert 1 <= amplification(p, 3 * MIB) <= 1.1
    (line,) = lines((p,))
    assert line.knee == (2.5 * MIB, pytest.approx(1.1))


def test_written_scores_count_against_what_a_large_cache_reads() -> None:
    """The sum of the operands of three kernels is no lower bound of what they read together."""
    whole = next(p for p in PAIR[0].patterns if p.pattern == "attention_materialised")
    steps = Curve(np.array([1.0, 64.0, 128.0]) * MIB, np.array([120e6, 120e6, 29e6]), 100.0 * MIB, 29e6)
    assert amplification(replace(whole, curve=steps), 64 * MIB) == pytest.approx(120 / 29)
    assert amplification(replace(whole, curve=steps), 128 * MIB) == pytest.approx(1)


def test_amplification_without_a_curve_is_not_known() -> None:
    p = replace(PAIR[0].patterns[0], curve=None)
    assert math.isnan(amplification(p, 1e6))
    assert all(math.isnan(v) for v in traffic_ratio(p, "nobody's"))


def test_traffic_table_has_both_ends_and_the_standing_of_each_model() -> None:
    found = table(made(*PAIR), "traffic-table")
    for row, p in zip(found.rows, representatives(PAIR), strict=True):
        for cell, device in zip(row.cells[1:], DEVICES, strict=True):
            reads, written_back = p.traffic[device.key].read, p.traffic[device.key].write[1]
            low, high = reads[0] + written_back, reads[1] + written_back
            assert low >= p.compulsory_bytes
            assert cell.value == pytest.approx(high / p.compulsory_bytes)
            assert f"{low / p.compulsory_bytes:.2f}" in cell.text
            assert cell.evidence is Evidence.MODELLED
    for device in DEVICES:
        assert f"{device.name} {device.status} ({device.source})" in found.note


def test_locality_and_kernel_tables_have_the_descriptors() -> None:
    found = made(*PAIR)
    row = table(found, "locality-table").rows[-2]
    attention = representatives(PAIR)[-2].locality
    assert [c.value for c in row.cells[1:5]] == pytest.approx(
        [attention.footprint_bytes / 1024, 100.0, 100 * attention.byte_share, attention.reuse_factor]
    )
    kernels = table(found, "access-kernel-table")
    assert len(kernels.rows) == sum(not p.hypothetical for r in PAIR for p in r.patterns)
    times = [row.cells[4].value or 0 for row in kernels.rows]
    assert times == sorted(times, reverse=True)
    assert kernels.open_rows == 15
    for head in (*LOCALITY_HEADS[1:], *KERNEL_HEADS[3:]):
        assert head.meaning, head.text
    for text in (row.text for b in found.blocks if isinstance(b, Table) for r in b.rows for row in r.cells):
        assert "hit rate" not in text


def test_what_did_not_run_is_said_to_be_a_comparison() -> None:
    found = made(*PAIR)
    figure = next(b for b in found.blocks if isinstance(b, Figure))
    assert figure.caption.endswith("For comparison, and not run in this form: attention, scores written.")
    assert table(found, "locality-table").rows[-1].cells[0].remark == "ViT-B/16, not run in this form"
    assert not any("attention, scores written" in row.kind for row in table(found, "access-kernel-table").rows)


def test_nothing_read_again_has_no_distance() -> None:
    p = next(p for p in PAIR[1].patterns if p.pattern == "depthwise")
    again = replace(p, locality=replace(p.locality, distance_median_bytes=math.nan, distance_p90_bytes=math.nan))
    cells = table(made(replace(PAIR[1], patterns=(again,))), "locality-table").rows[0].cells
    assert [c.text for c in cells[5:7]] == ["n/a", "n/a"]


def test_shapes_alone_have_the_same_section_without_times() -> None:
    found = made(*(shapes_alone(r) for r in PAIR))
    assert [type(b) for b in found.blocks] == [type(b) for b in made(*PAIR).blocks]
    heads = [head.text for head in table(found, "access-kernel-table").heads]
    assert "time" not in heads
    assert "time" in [head.text for head in table(made(*PAIR), "access-kernel-table").heads]
    rows = table(found, "access-kernel-table").rows
    totals = [(row.cells[3].value or 0) * (row.cells[5].value or 0) for row in rows]
    assert totals == sorted(totals, reverse=True)


def test_left_out_is_told_with_its_reason() -> None:
    found = table(made(*PAIR), "access-left-out-table")
    assert [row.cells[0].text for row in found.rows] == ["splitKreduce_kernel", "aten::_foreach"]
    assert [row.cells[3].value for row in found.rows] == [1.1, 0.8]
    assert not any(b.title.startswith("What has no") for b in made(cnn()).blocks if isinstance(b, Folded))


def test_sizes_are_drawn_for_each_kind_of_attention() -> None:
    found = growth(PAIR)
    assert [(line.run, line.attention) for line in found] == [(0, "fused"), (0, "materialised"), (1, "fused")]
    assert found[2].label == "ConvNeXt-B"
    assert [p.image_size for p in found[0].points] == sorted(p.image_size for p in found[0].points)
    rows = table(made(*PAIR), "size-table").rows
    assert len(rows) == sum(len(line.points) for line in found)
    point = found[0].points[0]
    assert rows[0].cells[3].value == pytest.approx(point.compulsory_bytes / 1e6)
    assert rows[0].cells[6].value == pytest.approx(point.flop / point.dram_bytes[0])


def test_runs_of_one_model_with_other_attention_are_drawn_as_they_ran() -> None:
    one, two = replace(vit(), model="flash", attention="fused"), replace(vit(), model="math", attention="materialised")
    assert [line.label for line in growth((one, two))] == ["flash, fused attention", "math, scores written"]
    assert len(growth((one, one))) == 4


def test_parts_that_are_missing_leave_no_hole(gpu_pair: Study) -> None:
    bare = replace(vit(), devices=(), maps=(), sizes=(), costs=())
    bare = replace(bare, patterns=tuple(replace(p, curve=None, traffic={}) for p in bare.patterns))
    html, found = rendered(gpu_pair, bare)
    check_page(html)
    assert "<figure" not in html
    assert "no device here has a cache model" in found.text
    assert section(()) is None
    assert section((replace(vit(), patterns=()),)) is None


def test_five_maps_stay_within_the_budget(gpu_pair: Study) -> None:
    many = tuple(
        replace(MAPS["attention_fused"], pattern=f"p{i}", title=f"map {i}", operands=("input", "weight", "output"))
        for i in range(7)
    )
    shown = panels((vit(maps=many),))
    assert len(shown) == MAX_MAPS
    assert sum(len(panel.time) for panel in shown) <= MAX_MAP_POINTS
    html, _ = rendered(gpu_pair, written(maps=many), *(cnn(model=f"CNN {i}") for i in range(2)))
    check_page(html)


def test_maps_say_what_blocks_touch_and_share() -> None:
    (attention,) = panels((vit(),))
    assert [round(o.touched_pct) for o in attention.operands] == [12, 100, 100]
    assert [round(o.shared_pct) for o in attention.operands] == [0, 100, 100]
    assert reading(attention) == (
        "One block touches all of K and V and 12 % of Q. Of that, the block before touched all of K and V and none of Q."
    )
    convolution, _ = panels((cnn(),))
    assert convolution.operands[0].shared_pct == pytest.approx(50)
    assert "Of that, the block before touched all of weight and 50 % of input." in reading(convolution)
    alone = panels((vit(maps=(windows("linear", "one block", 1, [(0, 0, 8)]),)),))[0]
    assert reading(alone) == "One block touches all of Q."
    assert alone.operands[0].size_bytes == 8 * 1024
    single = panels((vit(maps=(windows("linear", "one address", 2, [(0, 8, 8), (0, 0, 1)]),)),))[0]
    assert single.operands[1].size_bytes == 1024
    assert reading(single).startswith("One block touches all of K and 50 % of Q.")


def test_maps_keep_one_whole_block_and_their_range() -> None:
    for panel in panels(PAIR):
        assert panel.chosen.any()
        assert not panel.chosen.all()
        assert panel.position.min() >= 0
        assert panel.position.max() <= 1
        assert set(panel.operand.tolist()) <= set(range(len(panel.operands)))


def test_labels_are_spread_without_crossing() -> None:
    placed = spread([0.1, 0.11, 0.12, 3.0], 0.2, (0.1, 3.2))
    assert placed == sorted(placed)
    assert min(b - a for a, b in pairwise(placed)) >= 0.2 - 1e-6
    assert placed[0] >= 0.1


def test_every_pattern_has_the_colour_of_a_kind() -> None:
    assert set(KINDS.values()) <= set(ALL_KINDS)
    assert name("softmax") == "softmax"
    assert short_size(64 * 1024) == "64 KiB"
    assert short_size(0.5 * MIB) == "512 KiB"


def test_long_lists_are_cut_and_say_so() -> None:
    many = replace(cnn(), patterns=cnn().patterns * 60)
    found = table(made(many), "access-kernel-table")
    assert len(found.rows) == MAX_ROWS
    assert f"{MAX_ROWS} of 300" in found.caption


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(gpu_pair: Study, text: str) -> None:
    p = vit().patterns[2]
    bad = replace(p, module=text, shapes=text, kernel=text, formula=text, tiles=text, confidence=text)
    maps = (replace(MAPS["attention_fused"], title=text, operands=(text, text, "V")),)
    device = replace(DEVICES[0], name=text, source=text, status=text)
    hostile = vit(model=text, patterns=(bad,), maps=maps, devices=(device,), left_out=((text, text, 1.0),))
    html, found = rendered(gpu_pair, hostile)
    check_page(html)
    assert [attrs.get("src") for attrs, _ in found.scripts] == [None, None]
