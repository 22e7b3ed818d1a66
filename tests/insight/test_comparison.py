"""Comparisons of digests made by hand: every ratio is worked out on paper."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.insight.comparison import compare_runs
from analyzer.insight.comparison.sentences import is_clear
from analyzer.report.comparison_files import FILES, is_comparison, write_comparison_files
from analyzer.schema.comparison import Comparison, FactRow
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity
from tests.insight.hand_made import A100, CNN, CPU, H100, MI300X, VIT, made, renamed, run_facts, samples, scaled


def _fact(found: Comparison, name: str) -> FactRow:
    return next(row for row in found.facts if row.fact == name)


def _pair(device: object = H100, vit_ms: float = 1.1, cnn_ms: float = 1.0, tag: str = "") -> tuple[Digest, Digest]:
    vit = made(f"vit{tag}", VIT, device=device, batch_ms=vit_ms)  # type: ignore[arg-type]
    facts = run_facts("cnn", "ResNet-50", device)  # type: ignore[arg-type]
    return vit, made(f"cnn{tag}", CNN, device=device, batch_ms=cnn_ms, facts=facts)  # type: ignore[arg-type]


def test_a_run_against_itself_changes_nothing() -> None:
    run = made()
    found = compare_runs([run, run])
    assert found.names == ("a", "a-2")
    assert found.matched_pct == (100.0, 100.0)
    assert all(row.time_us[0] == row.time_us[1] for row in found.matched)
    assert {gain.speedup.value for gain in found.gains} == {1.0}
    assert {gain.basis for gain in found.gains} == {"time"}
    assert found.changes
    assert {change.state for change in found.changes} == {"same"}
    assert {change.delta_us.value for change in found.changes} == {0.0}
    assert not any(row.differs for row in found.facts)
    assert "no change that counts" in found.headline


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(ConfigError, match="at least two runs"):
        compare_runs([made()])
    with pytest.raises(ConfigError, match="no run number 2"):
        compare_runs([made(), made()], baseline=2)


PERMUTED = [*_pair(), *_pair(A100, 2.0, 1.5, "2")]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(4)))
def test_a_permutation_of_runs_permutes_the_result(order: list[int]) -> None:
    runs = PERMUTED
    plain = compare_runs(runs, 0)
    moved = compare_runs([runs[n] for n in order], order.index(0))
    assert [moved.names[order.index(n)] for n in range(4)] == list(plain.names)
    for row, other in zip(plain.matched, moved.matched, strict=True):
        assert (row.op, row.shapes, row.module) == (other.op, other.shapes, other.module)
        assert [other.time_us[order.index(n)] for n in range(4)] == list(row.time_us)
    for fact, other_fact in zip(plain.facts, moved.facts, strict=True):
        assert [other_fact.values[order.index(n)] for n in range(4)] == list(fact.values)
    gained = {(g.role, plain.names[g.run]): g.speedup for g in plain.gains}
    assert {(g.role, moved.names[g.run]): g.speedup for g in moved.gains} == gained
    assert {moved.names[m.vit]: m.ratio for m in moved.moves} == {plain.names[m.vit]: m.ratio for m in plain.moves}


def test_the_gap_moves_from_one_device_to_another() -> None:
    found = compare_runs([*_pair(A100, 2.92, 2.0, "a"), *_pair(H100, 1.55, 1.42, "h")])
    assert [(m.device, round(m.ratio.value or 0, 2)) for m in found.moves] == [
        ("A100 SXM4 80GB", 1.46),
        ("H100 SXM5 80GB", 1.09),
    ]
    assert all(m.ratio.low is not None and m.ratio.low <= (m.ratio.value or 0) for m in found.moves)
    assert found.headline.startswith("Moving from A100 SXM4 80GB to H100 SXM5 80GB: ViT-B/16 takes 0.53x as long")
    assert "ResNet-50 takes 0.71x as long" in found.headline
    assert found.headline.endswith("the gap falls from 1.46x to 1.09x")


def test_noise_wider_than_the_move_is_no_move() -> None:
    wide = [
        replace_timings(run, ms)
        for run, ms in zip((*_pair(A100, tag="a"), *_pair(H100, tag="h")), (1.1, 1.0, 1.15, 1.0), strict=True)
    ]
    found = compare_runs(wide)
    assert "the gap does not clearly change" in found.headline
    assert "ViT-B/16 does not clearly change" in found.headline


def replace_timings(run: Digest, ms: float) -> Digest:
    return made(
        run.name, VIT if run.family == "vit" else CNN, device=run.device, facts=run.facts, timings=samples(ms, between=0.3)
    )  # fmt: skip


@pytest.mark.parametrize(
    "setting", [{"dtype": "float16"}, {"batch_size": 8}, {"image_size": 384}, {"matmul_precision": "high"}]
)
def test_runs_under_other_settings_are_no_pair(setting: dict[str, Any]) -> None:
    vit, _ = _pair()
    other = made("cnn", CNN, facts=run_facts("cnn", "ResNet-50", **setting), dtype=str(setting.get("dtype", "bfloat16")))
    assert compare_runs([vit, other]).moves == ()


def test_a_pair_under_two_settings_says_which() -> None:
    runs = list(_pair())
    for family, label, ops in (("vit", "ViT-B/16", VIT), ("cnn", "ResNet-50", CNN)):
        runs.append(made(f"{family}8", ops, facts=run_facts(family, label, batch_size=8)))
    found = compare_runs(runs)
    assert [m.conditions for m in found.moves] == ["batch 32", "batch 8"]
    assert found.headline.startswith("On H100 SXM5 80GB, from batch 32 to batch 8: ViT-B/16 takes")
    assert "takes 4.00x as long per image" in found.headline  # the same time for a quarter of the images


def test_of_several_pairs_that_of_the_baseline_speaks_and_each_says_what_differs_in_it() -> None:
    compiled: tuple[dict[str, Any], ...] = ({"execution": "eager"}, {"execution": "torch.compile (default)"})
    sizes: tuple[dict[str, Any], ...] = ({}, {"image_size": 512})
    runs = []
    for name, vit, cnn, changes in (("s", "ViT-S/16", "ResNet-50", compiled), ("b", "ViT-B/16", "ConvNeXt-B", sizes)):
        for number, change in enumerate(changes):
            for label, family, ops in ((vit, "vit", VIT), (cnn, "cnn", CNN)):
                facts = run_facts(family, label, **change)
                runs.append(made(f"{name}{family}{number}", ops, facts=facts, timings=samples(2.0 if ops is VIT else 1.0)))
    baseline = next(n for n, run in enumerate(runs) if run.label == "ConvNeXt-B")
    found = compare_runs(runs, baseline)
    said = {(found.runs[m.vit].label, found.runs[m.cnn].label, m.conditions) for m in found.moves}
    assert {each for each in said if each[:2] == ("ViT-S/16", "ResNet-50")} == {
        ("ViT-S/16", "ResNet-50", "eager"), ("ViT-S/16", "ResNet-50", "torch.compile (default)"),
    }  # fmt: skip
    assert {each for each in said if each[:2] == ("ViT-B/16", "ConvNeXt-B")} == {
        ("ViT-B/16", "ConvNeXt-B", "224 px"), ("ViT-B/16", "ConvNeXt-B", "512 px"),
    }  # fmt: skip
    assert found.headline == (
        "On H100 SXM5 80GB, from 224 px to 512 px, ViT-B/16 against ConvNeXt-B: the gap does not clearly change (2.00x and 2.00x)"
    )


@pytest.mark.parametrize(
    ("vit_ms", "words"),
    [
        ((1.0, 1.5), "from no clear difference (1.00x) to 1.50x"),
        ((1.5, 1.0), "from 1.50x to no clear difference (1.00x)"),
        ((0.7, 1.5), "the longer one changes: the ratio goes from 0.70x to 1.50x"),
    ],
)
def test_a_gap_that_one_place_cannot_tell_is_said_so(vit_ms: tuple[float, float], words: str) -> None:
    found = compare_runs([*_pair(A100, vit_ms[0], 1.0, "a"), *_pair(H100, vit_ms[1], 1.0, "h")])
    assert found.headline.endswith(words)


def test_bare_traces_have_no_family_and_no_pair() -> None:
    found = compare_runs([made("a", VIT, bare=True), made("b", CNN, bare=True)])
    assert found.moves == ()
    assert found.changes == ()
    assert found.headline == (
        "2 runs on 1 device (H100 SXM5 80GB): they are not known to do the same work"
    )  # fmt: skip


def test_gains_are_ratios_of_times_for_the_same_work_and_of_rates_for_other_work() -> None:
    base, twice = made("a", VIT, device=A100, batch_ms=2.0), made("b", scaled(VIT, 0.5), device=H100, batch_ms=1.0)
    found = {gain.role: gain for gain in compare_runs([base, twice]).gains}
    assert {gain.basis for gain in found.values()} == {"time"}
    assert found["total"].speedup.value == pytest.approx(2.0, rel=1e-3)
    assert found["all kernels"].speedup.value == pytest.approx(2.0)
    assert found["dense math"].speedup.value == pytest.approx(2.0)
    assert found["dense math"].speedup.evidence is Evidence.DERIVED
    low, high = found["dense math"].speedup.low, found["dense math"].speedup.high
    assert low is not None
    assert high is not None
    assert 1.9 < low < 2.0 < high < 2.1

    # the hand-made work is proportional to time, so a ViT of another length has the same rates
    other = made("c", CNN, device=H100, facts=run_facts("vit", "ViT-X"))
    rates = {gain.role: gain for gain in compare_runs([base, other]).gains}
    whole = rates["total"].speedup  # 1000 µs of work in 2 ms, then 800 µs of work in 1.1 ms
    assert whole.value == pytest.approx(800 / 1.1 / (1000 / 2.0), rel=1e-3)
    assert whole.low is not None
    assert whole.high is not None
    assert whole.low < (whole.value or 0) < whole.high
    assert "times of whole batches: ratio of the medians" in whole.source
    assert rates["dense math"].basis == "FLOP/s"
    assert rates["dense math"].speedup.value == pytest.approx(1.0)
    assert rates["dense math"].speedup.evidence is Evidence.MODELLED
    assert rates["normalisation"].basis == "bytes/s"
    assert rates["token or spatial mixing"].speedup.value is None
    assert "nothing of this role ran" in rates["token or spatial mixing"].speedup.source


def test_offers_are_ratios_of_datasheets_and_name_both_element_types() -> None:
    base = made("a", device=A100)
    found = {offer.name: offer.ratio for offer in compare_runs([base, made("b", device=H100)]).offers}
    assert found["DRAM bandwidth"].value == pytest.approx(3350 / 2039, rel=0.01)
    assert found["matrix peak, bfloat16"].value == pytest.approx(989 / 312)
    assert found["multiprocessors"].value == pytest.approx(132 / 108)
    assert {ratio.evidence for ratio in found.values()} == {Evidence.SPEC}
    mixed = compare_runs([base, made("b", device=H100, dtype="tf32")]).offers
    ratio = next(offer.ratio for offer in mixed if offer.name == "matrix peak, tfloat32 against bfloat16")
    assert ratio.value == pytest.approx(494.5 / 312)
    plain = compare_runs([base, made("b", device=H100, dtype="float32")]).offers
    missing = next(offer.ratio for offer in plain if offer.name.startswith("matrix peak, float32 against"))
    assert missing.value is None
    assert "vector units" in missing.source
    cpu = compare_runs([base, made("b", device=CPU)]).offers
    assert {offer.ratio.value for offer in cpu} == {None}


def test_facts_warn_where_times_are_hard_to_compare_and_only_there() -> None:
    other = made("b", facts=run_facts(batch_size=8, dtype="float32", matmul_precision="high"), dtype="float32", device=A100)
    base = made("a", facts=run_facts(matmul_precision="highest"))
    found = compare_runs([base, other, made("c", bare=True, steps=None)])
    assert _fact(found, "batch size").values == ("32", "8", "unknown")
    warned = {row.fact for row in found.facts if row.warning}
    assert warned == {"batch size", "element type", "TF32 in matrix products", "times cover", "timed"}
    assert not _fact(found, "torch").differs  # the bare trace does not tell, which is no difference
    assert _fact(found, "torch").values == ("2.13.0", "2.13.0", "unknown")
    assert _fact(found, "datasheet").differs
    assert _fact(found, "datasheet").warning == ""
    assert {c.text.split(":")[0] for c in found.caveats if c.target == "comparable"} >= {f"{fact} differs" for fact in warned}


def test_a_backward_operator_makes_a_trace_one_of_training() -> None:
    backward = (*CNN, ("convolution", "aten::cudnn_convolution_backward", "32x64x112x112 32x3x224x224", "conv1", 500.0))
    found = compare_runs([made("a", CNN, bare=True), made("b", backward, bare=True)])
    assert _fact(found, "training or inference").values == ("inference", "training")
    assert _fact(found, "training or inference").warning


def test_a_power_cap_warns() -> None:
    capped = type(H100)(type="cuda", name=H100.name, vendor="NVIDIA", sm_count=132, power_limit_w=350, power_default_w=700)
    free = type(H100)(type="cuda", name=H100.name, vendor="NVIDIA", sm_count=132, power_limit_w=700, power_default_w=700)
    row = _fact(compare_runs([made("a", device=free), made("b", device=capped)]), "power cap (share of the default)")
    assert row.values == ("100 %", "50 %")
    assert row.warning


def test_the_clock_normalised_view_is_time_times_clock() -> None:
    found = compare_runs([made("a", batch_ms=2.0, clock_mhz=1500.0), made("b", batch_ms=1.0, clock_mhz=1800.0), made("c")])
    assert [round(row.mega_cycles.value or 0, 6) for row in found.normalised] == [3.0, 1.8]
    assert [row.run for row in found.normalised] == [0, 1]
    assert found.normalised[0].energy_j.value == 0.55
    assert any(line.startswith("clock- and power-normalised time of 1 run: no telemetry") for line in found.not_measured)


def test_names_and_places_are_unique() -> None:
    runs = [made("a"), made("a-2"), made("a"), made("b", facts=run_facts(batch_size=8))]
    found = compare_runs(runs)
    assert found.names == ("a", "a-2", "a-3", "b")
    assert len(set(found.places)) == 4
    head = "ViT-B/16 on H100 SXM5 80GB"
    assert found.places == (
        f"{head}, batch 32, run 1",
        f"{head}, batch 32, run 2",
        f"{head}, batch 32, run 3",
        f"{head}, batch 8",
    )


def test_one_model_on_several_devices() -> None:
    runs = [made("a", device=A100, batch_ms=3.0), made("h", device=H100, batch_ms=1.5), made("m", device=MI300X, batch_ms=1.2)]
    found = compare_runs(runs)
    assert found.headline.startswith("ViT-B/16, a batch: takes 0.40x as long")
    assert "takes 0.50x as long" in found.headline
    assert found.headline.endswith("each against ViT-B/16 on A100 SXM4 80GB; 3 runs")


@pytest.mark.parametrize(
    ("low", "high", "clear"), [(0.5, 0.7, True), (0.9, 1.1, False), (None, None, None), (0.985, 0.995, False)]
)
def test_a_ratio_is_clear_only_away_from_one(low: float | None, high: float | None, clear: bool | None) -> None:
    value = 0.99 if low is None or high is None else (low + high) / 2
    assert is_clear(Quantity(value, "x", Evidence.DERIVED, low, high)) is clear


def test_the_files_hold_every_row(tmp_path: Path) -> None:
    found = compare_runs([made("a"), made("b", scaled(VIT, 1.5, "matmul"), batch_ms=1.4)])
    summary = write_comparison_files(found, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES)
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == summary
    assert summary["headline"] == found.headline
    assert summary["baseline"] == "a"
    lines = {name: len((tmp_path / name).read_text("utf-8").splitlines()) - 1 for name in FILES if name.endswith(".csv")}
    assert lines == {
        "facts.csv": 2 * len(found.facts),
        "gains.csv": len(found.gains) + len(found.offers),
        "matched.csv": sum(time is not None for row in found.matched for time in row.time_us),
        "changes.csv": len(found.changes),
    }
    assert is_comparison([*FILES, "index.html"])
    assert not is_comparison([*FILES, "thesis.docx"])
    assert not is_comparison(["index.html", "summary.json"])


HOSTILE = "<script>alert(1)</script>\u202e{0.__class__}" + "x" * 100_000


def test_hostile_names_reach_no_template_and_cost_no_time() -> None:
    runs = [renamed(made(HOSTILE, bare=True), op=lambda op: HOSTILE + op, module=lambda m: "1" * 9000 + m) for _ in range(2)]
    found = compare_runs(runs)
    assert found.matched_pct == (100.0, 100.0)
    assert HOSTILE in found.headline


def test_three_hundred_runs() -> None:
    devices, timings = (H100, A100, MI300X), samples(1.1, repeats=1)
    runs = [
        made(
            f"{label}-{batch}-{device.name}-{n}",
            ops,
            device=device,
            timings=timings,
            facts=run_facts(family, label, device, batch_size=batch),
        )
        for n in range(10)
        for batch, device, (family, label, ops) in itertools.product(
            (1, 2, 4, 8, 32), devices, (("vit", "ViT-B/16", VIT), ("cnn", "ResNet-50", CNN))
        )
    ]
    found = compare_runs(runs, 7)
    assert len(found.times) == 300
    assert len(set(found.names)) == len(set(found.places)) == 300
    assert len(found.moves) == 150
    assert found.operators_left_out == 0
    assert len({gain.run for gain in found.gains}) == 298  # all but the baseline and the first run of the other model
    assert len(found.headline) < 500


def test_texts_that_no_file_can_hold_are_cleaned(tmp_path: Path) -> None:
    odd = "a\ud83d\u202e\x00b"
    facts = run_facts(label=odd, dtype=odd)
    runs = [
        renamed(made(odd, facts=facts, dtype=odd), **dict.fromkeys(("op", "shapes", "module", "dtype"), lambda _: odd))
        for _ in "ab"
    ]
    write_comparison_files(compare_runs(runs), tmp_path)
    for name in FILES:
        text = (tmp_path / name).read_text("utf-8")
        assert not {"\ud83d", "\u202e", "\x00"} & set(text)
