"""What the figures of a comparison show, as numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from msgspec import structs

from analyzer.insight.comparison import compare_runs
from analyzer.report.marks.comparison import (
    MAX_STACKS,
    by_image,
    dots,
    drawn_changes,
    drawn_stacks,
    gain_base,
    gain_panels,
    held_clock,
    on_one_axis,
    one_size,
    one_work,
    roof_panels,
    roofs,
    run_time,
    run_times,
    slopes,
    stack,
)
from analyzer.report.marks.comparison_names import (
    UNDATED,
    architecture_of,
    chart_lines,
    device_name,
    order_words,
    release_year,
    run_titles,
    work_words,
)
from analyzer.report.marks.time import IDLE, Stack
from analyzer.schema.comparison import Change, Comparison, Gain, Normalised, Offer
from analyzer.schema.digest import Digest, Hardware
from analyzer.schema.evidence import Evidence, Quantity
from tests.report.comparisons import known, made_up, pairs
from tests.report.synthetic import Fake


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Digest:
    return made_up(tmp_path_factory.mktemp("one"), Fake())[0]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return pairs(tmp_path_factory.mktemp("pairs"))


def test_names_are_unique(vit: Digest) -> None:
    assert run_titles(compare_runs((vit, replace(vit, label="other")))) == (
        "ViT-B/16 on H100 SXM5 80GB",
        "other on H100 SXM5 80GB",
    )
    both = compare_runs((vit, vit))
    assert run_titles(both) == both.places
    assert len(set(both.places)) == 2


def test_long_labels_do_not_push_the_device_out_of_a_name(vit: Digest) -> None:
    long = replace(vit, label="w" * 100_000)
    titles = run_titles(compare_runs((long, long)))
    assert len(set(titles)) == 2
    assert all("on H100 SXM5 80GB" in title and len(title) < 130 for title in titles)
    same = replace(compare_runs((long, vit)), places=("x", "x"))
    assert run_titles(same) == ("x on H100 SXM5 80GB, run 1", "x on H100 SXM5 80GB, run 2")


def test_the_time_of_a_run_says_how_it_came_about(vit: Digest) -> None:
    timed = run_time(vit, 0)
    assert (timed.basis, timed.per_batch, timed.untraced) == ("untraced median, n = 120", True, True)
    assert timed.figure == vit.latency.median_ms
    traced = run_time(replace(vit, latency=None, batches=4), 0)
    assert (traced.basis, traced.per_batch, traced.untraced) == ("traced, per step", True, False)
    assert traced.figure.value == pytest.approx(vit.totals.wall_us / 4000)
    whole = run_time(replace(vit, latency=None, batches=None), 0)
    assert (whole.basis, whole.per_batch) == ("traced, whole trace", False)
    assert whole.figure.value == pytest.approx(vit.totals.wall_us / 1000)


def test_a_stack_holds_the_busy_time_and_idle_last(vit: Digest) -> None:
    found = stack(vit, 3)
    assert found.run == 3
    assert found.parts[-1] == (IDLE, vit.totals.idle_us / (vit.batches or 1))
    assert found.busy_us == pytest.approx(vit.totals.busy_us / (vit.batches or 1))
    assert [kind for kind, _ in found.parts] == ["attention", "matmul", "normalisation", "pointwise", "transfer", IDLE]


def test_of_many_stacks_the_extremes_are_drawn() -> None:
    many = tuple(Stack(str(i), i, (("matmul", float(i)), (IDLE, 1.0)), 1) for i in range(30))
    drawn = drawn_stacks(many)
    assert [s.run for s in drawn] == [1, 2, 3, 4, 5, 6, 24, 25, 26, 27, 28, 29]  # run 0 did nothing
    assert len(drawn) == MAX_STACKS
    assert drawn_stacks(many[:4]) == many[1:4]


def test_whole_traces_do_not_stand_beside_batches() -> None:
    batch, whole = (Stack("", i, (("matmul", 1.0),), steps) for i, steps in enumerate((2, None)))
    assert on_one_axis((batch, whole)) == (batch,)
    assert on_one_axis((whole,)) == (whole,)


def test_devices_come_in_the_order_of_their_years(both: Comparison) -> None:
    backwards = replace(both, moves=both.moves[::-1])
    for comparison in (both, backwards):
        (slope,) = slopes(comparison)
        assert [move.device for move in slope.moves] == ["A100 SXM4 80GB", "H100 SXM5 80GB"]
        assert (slope.vit, slope.cnn, slope.settings) == ("ViT-B/16", "ConvNeXt-B", "bfloat16, batch 32, 224 px")


def gain(run: int, baseline: int, role: str = "dense math", value: float | None = 2.0) -> Gain:
    figure = Quantity.missing("x", "made up") if value is None else Quantity(value, "x", Evidence.DERIVED)
    return Gain(role, run, baseline, "time", figure)


def test_every_run_is_drawn_over_its_own_baseline(both: Comparison) -> None:
    """Runs 0 and 1 are the ViT and the CNN on the A100, 2 and 3 those on the H100."""
    offers = (Offer("DRAM bandwidth", 2, 0, known(1.6, "x")), Offer("DRAM bandwidth", 3, 1, known(1.7, "x")),
              Offer("DRAM bandwidth", 3, 0, known(9.0, "x")))  # fmt: skip
    gains = (gain(2, 0), gain(2, 0, "total", 1.5), gain(3, 1, value=3.0), gain(1, 0, "total", None))
    found = replace(both, gains=gains, offers=offers)
    vit, cnn = gain_panels(found)
    assert (vit.run, vit.baseline, [g.role for g in vit.gains]) == (2, 0, ["dense math", "total"])
    assert (cnn.run, cnn.baseline) == (3, 1)
    assert dict(vit.offers) == {"DRAM bandwidth": 1.6}
    assert dict(cnn.offers) == {"DRAM bandwidth": 1.7}
    assert [gain_base(found, run) for run in range(4)] == [None, None, 0, 1]


def test_one_panel_stands_for_repeats_and_many_are_cut(vit: Digest) -> None:
    found = compare_runs((vit, vit, vit, replace(vit, dtype="float16")))
    gains = tuple(gain(run, 0, value=1.0 + run) for run in (1, 2, 3))
    assert [panel.run for panel in gain_panels(replace(found, gains=gains))] == [1, 3]
    many = compare_runs([replace(vit, label=f"model {i}") for i in range(9)])
    drawn = gain_panels(replace(many, gains=tuple(gain(run, 0, value=float(run)) for run in range(1, 9))))
    assert [panel.run for panel in drawn] == [1, 2, 7, 8]


def test_gains_of_the_model_stand_beside_offers(both: Comparison) -> None:
    panel = next(panel for panel in gain_panels(both) if panel.run == 2)
    assert dict(panel.offers) == pytest.approx(
        {
            "DRAM bandwidth": 3350 / 2039,
            "matrix peak, bfloat16": 989 / 312,
            "vector peak, float32": 67 / 19.5,
            "L2 capacity": 50 / 40,
        }
    )
    assert panel.gains[-1].role == "total"
    assert panel.gains[-1].speedup.value == pytest.approx(2.0)
    assert panel.gains[0].speedup.value >= panel.gains[1].speedup.value  # type: ignore[operator]


def test_between_runs_on_one_device_there_is_no_offer(vit: Digest) -> None:
    (panel,) = gain_panels(compare_runs((vit, vit)))
    assert panel.offers == ()
    assert all(gain.speedup.value == pytest.approx(1.0) for gain in panel.gains)


def test_times_per_image_are_drawn_where_batches_differ(vit: Digest) -> None:
    """32 images in 5.4 ms are 0.16875 ms each; 8 images in the same time are 0.675 ms each."""
    found = compare_runs((vit, replace(vit, batch_size=8)))
    each = (Quantity(5.4 / 32, "ms", Evidence.DERIVED), Quantity(5.4 / 8, "ms", Evidence.DERIVED))
    rates = (Quantity(32 / 5.4e-3, "images/s", Evidence.DERIVED), Quantity(8 / 5.4e-3, "images/s", Evidence.DERIVED))
    found = replace(found, image_times=each, image_rates=rates)
    shown = dots(run_times(found))
    drawn = by_image(found, shown)
    assert drawn is not None
    assert [t.figure.value for t in drawn] == pytest.approx([0.16875, 0.675])
    assert shown[1].rate.value == pytest.approx(1481.48, rel=1e-4)
    unknown = replace(found, runs=(vit, replace(vit, batch_size=None)), image_times=(each[0], Quantity.missing("ms", "")))
    assert by_image(unknown, dots(run_times(unknown))) is None
    same = replace(found, runs=(vit, vit))
    assert by_image(same, dots(run_times(same))) is None


def test_training_and_batch_sizes_are_named_where_they_differ(vit: Digest) -> None:
    groups = vit.groups.assign(op="aten::linear_backward")
    training = replace(vit, facts=None, groups=groups, label="trained")
    found = compare_runs((training, replace(vit, batch_size=4)))
    assert work_words(training) == "training, batch 32"
    assert chart_lines(found)[0] == ("trained", "H100 SXM5 80GB · training, batch 32")
    assert chart_lines(found)[1] == ("ViT-B/16", "H100 SXM5 80GB · inference, batch 4")
    assert not one_work(found, run_times(found))
    assert not one_size(found, run_times(found))
    alike = compare_runs((vit, replace(vit, label="other")))
    assert chart_lines(alike)[0] == ("ViT-B/16", "H100 SXM5 80GB")
    assert one_work(alike, run_times(alike))


def bare(vit: Digest, name: str, vendor: str, capability: str) -> Digest:
    """Return a run on a device without a datasheet."""
    device = structs.replace(vit.device, name=name, vendor=vendor, compute_capability=capability)
    return replace(vit, device=device, hardware=Hardware("", name, vendor, "", {}, "no sheet"))


@pytest.mark.parametrize(
    ("vendor", "capability", "year"),
    [
        ("NVIDIA", "7.0", 2017), ("NVIDIA", "7.5", 2018), ("NVIDIA", "8.6", 2020), ("NVIDIA", "8.9", 2022),
        ("NVIDIA", "10.0", 2024), ("NVIDIA", "99.0", UNDATED), ("AMD", "9.0", UNDATED),
    ],
)  # fmt: skip
def test_without_a_datasheet_the_compute_capability_tells_the_year(
    vit: Digest, vendor: str, capability: str, year: int
) -> None:
    assert release_year(bare(vit, "Some GPU", vendor, capability)) == year


def test_devices_without_a_year_are_named(vit: Digest) -> None:
    old, odd = bare(vit, "Some GPU", "NVIDIA", "7.0"), bare(vit, "Odd GPU", "AMD", "9.0")
    assert sorted((odd, vit, old), key=release_year) == [old, vit, odd]
    assert architecture_of(old) == "Volta"
    assert order_words((odd, vit, odd)).endswith("those without a known year come last: Odd GPU")
    assert "without" not in order_words((vit, old))
    assert (device_name(vit), device_name(odd)) == ("H100 SXM5 80GB", "Odd GPU")


def test_marks_of_the_roofline(vit: Digest) -> None:
    (panel,) = roof_panels(compare_runs((vit, replace(vit, kinds=vit.kinds.assign(flop=math.nan)))))
    marks = {mark.kind: mark for mark in panel.marks}
    matmul = vit.kinds[vit.kinds["kind"] == "matmul"].iloc[0]
    assert marks["matmul"].flop_per_byte == pytest.approx(matmul["flop"] / matmul["bytes_compulsory"])
    assert marks["matmul"].tflops == pytest.approx(matmul["flop"] / matmul["modelled_us"] / 1e6)
    assert marks["matmul"].share_pct == pytest.approx(100 * matmul["time_us"] / vit.kinds["time_us"].sum())
    assert panel.left_out_pct + sum(mark.share_pct for mark in panel.marks) == pytest.approx(100)
    assert {roof.name: roof.figure.value for roof in panel.roofs} == {
        "DRAM": 3350,
        "matrix bfloat16": 989,
        "vector float32": 67,
    }


@pytest.mark.parametrize(
    ("dtype", "allowed", "peak"),
    [("float32", "high", 494.5), ("tf32", "high", 494.5), ("float32", "highest", None), ("float16", "highest", 989)],
)
def test_the_matrix_limit_is_that_of_the_type_that_products_run_in(
    vit: Digest, dtype: str, allowed: str, peak: float | None
) -> None:
    facts = structs.replace(vit.facts, settings=structs.replace(vit.facts.settings, matmul_precision=allowed))
    found = {roof.name: roof.figure.value for roof in roofs(replace(vit, dtype=dtype, facts=facts))}
    product = "float16" if dtype == "float16" else "tfloat32"
    assert found.get(f"matrix {product}") == peak
    assert {"DRAM", "vector float32"} <= set(found)


def test_marks_are_joined_across_devices_only(both: Comparison, vit: Digest) -> None:
    found = replace(both, gains=(gain(2, 0),))
    panels = {panel.run: panel for panel in roof_panels(found)}
    assert (panels[0].joined, panels[3].joined) == ((), ())
    assert panels[2].base == 0
    marks = {mark.kind: mark for mark in panels[0].marks}
    assert {now.kind for _, now in panels[2].joined} == {mark.kind for mark in panels[2].marks}
    for before, now in panels[2].joined:
        assert before == marks[now.kind]
        assert now.flop_per_byte == pytest.approx(before.flop_per_byte)
        assert now.tflops == pytest.approx(2 * before.tflops)
    assert all(not panel.joined for panel in roof_panels(compare_runs((vit, vit))))


def test_cycles_are_held_against_the_same_product_and_model_only(both: Comparison, vit: Digest) -> None:
    clock = known(1500, "MHz")
    rows = {run: Normalised(run, known(5, "ms"), clock, clock, clock, clock) for run in range(4)}
    assert held_clock(replace(both, gains=(gain(2, 0),)), rows[2], rows) is None
    same = replace(compare_runs((vit, vit)), gains=(gain(1, 0),))
    assert held_clock(same, rows[1], rows) == rows[0]
    assert held_clock(same, rows[0], rows) is None
    other = replace(same, runs=(replace(vit, label="other"), vit))
    assert held_clock(other, rows[1], rows) is None


def change(by: str, delta: Quantity, state: str, name: str = "x") -> Change:
    return Change(by, name, "matmul", 10.0, 10.0 + (delta.value or 0.0), delta, state)  # type: ignore[arg-type]


def test_clear_changes_are_drawn_by_operator_first() -> None:
    slower, faster = change("operator", known(5, spread=1), "slower"), change("operator", known(-9, spread=1), "faster")
    noise, module = change("operator", known(20, spread=30), "unclear"), change("module", known(99, spread=1), "slower")
    assert drawn_changes((slower, noise, faster, module)) == ("operator", (faster, slower))
    assert drawn_changes((noise, module)) == ("module", (module,))
    assert drawn_changes((noise,)) == ("", ())
    assert drawn_changes(()) == ("", ())


def test_without_any_interval_the_largest_differences_are_drawn() -> None:
    small, large = (change("operator", Quantity(v, "us", Evidence.DERIVED), "unclear") for v in (3.0, -7.0))
    gone = change("operator", Quantity(-5.0, "us", Evidence.DERIVED), "removed")
    assert drawn_changes((small, large, gone)) == ("operator", (large, gone, small))
