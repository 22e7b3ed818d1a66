"""What a comparison may not claim: other work, few processes, other models, and names that nobody can tell apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.insight.comparison import compare_runs
from analyzer.report.comparison_files import FILES, write_comparison_files
from analyzer.schema.comparison import Comparison, Offer
from analyzer.schema.digest import Digest
from analyzer.schema.run import DeviceFacts
from tests.insight.hand_made import A100, CNN, CPU, H100, MI300X, VIT, made, run_facts, samples, scaled

COPY = ("transfer", "aten::copy_", "32x3x224x224", "", 100.0)
LAYOUT = ("layout", "aten::contiguous", "32x197x768", "blocks.0", 50.0)


def _gains(found: Comparison, run: int) -> dict[str, tuple[int, float | None, str]]:
    return {g.role: (g.baseline, g.speedup.value, g.speedup.source) for g in found.gains if g.run == run}


def _cnn(name: str, device: DeviceFacts = H100) -> Digest:
    return made(name, CNN, facts=run_facts("cnn", "ResNet-50", device), device=device)


def _slow_first(ms: tuple[float, ...]) -> pd.DataFrame:
    """Return untraced timings of processes with these medians, 12 iterations each."""
    parts = [samples(each, repeats=1).assign(repeat=number) for number, each in enumerate(ms)]
    return pd.concat([part[part["pass"] == "untraced"] for part in parts] + [parts[0][parts[0]["pass"] == "traced"]])


def test_training_has_no_gain_over_inference() -> None:
    backward = (*CNN, ("convolution", "aten::cudnn_convolution_backward", "32x64x112x112 32x3x224x224", "conv1", 500.0))
    found = compare_runs([made("a", CNN, bare=True), made("b", backward, bare=True)])
    assert {g.speedup.value for g in found.gains} == {None}
    assert "other work: a is inference, b is training" in {g.speedup.source for g in found.gains}


def test_a_gain_between_element_types_says_so() -> None:
    base, other = made("a", dtype="float32"), made("b", dtype="bfloat16")
    (gain,) = [g for g in compare_runs([base, other]).gains if g.role == "dense math"]
    assert gain.note == "bfloat16 here against float32"
    assert gain.note in gain.speedup.source
    assert {g.note for g in compare_runs([base, base]).gains} == {""}


def test_copies_and_fills_are_in_no_role() -> None:
    found = compare_runs([made("a", (*VIT, COPY, LAYOUT)), made("b", (*scaled(VIT, 1.0), *scaled((COPY,), 0.01), LAYOUT))])
    assert _gains(found, 1)["data movement"][1] == pytest.approx(1.0)  # the copy alone is 100 times as fast
    gone = compare_runs([made("a", (*VIT, COPY)), made("b")])
    assert "data movement" not in _gains(gone, 1)
    (change,) = [c for c in gone.changes if c.by == "kind" and c.name == "transfer"]
    assert change.state == "removed"
    assert "copies and fills count with the operator that called them" in change.delta_us.source


def test_batches_of_other_sizes_are_held_against_each_other_per_image() -> None:
    found = compare_runs([made("a", batch_ms=2.0), made("b", facts=run_facts(batch_size=64), batch_ms=2.0)])
    assert "an image takes 0.50x as long with batch 64 as with batch 32" in found.headline
    assert "no change" not in found.headline
    states = {c.name: c.state for c in found.changes if c.by == "model"}
    assert states == {"time of one batch": "unclear", "time of one image": "faster", "kernel time": "unclear"}
    assert {c.state for c in found.changes if c.by in ("kind", "module")} == {"unclear"}
    assert [q.value for q in found.image_times] == pytest.approx([2.0 / 32, 2.0 / 64], rel=1e-3)
    assert [q.value for q in found.image_rates] == pytest.approx([16e3, 32e3], rel=1e-3)
    bare = compare_runs([made("a", bare=True), made("b", bare=True)])
    assert {q.value for q in bare.image_times} == {None}


def test_images_of_other_sizes_have_no_ratio() -> None:
    found = compare_runs([made("a"), made("b", facts=run_facts(image_size=384))])
    assert "batches hold other work, so their times are not held against each other" in found.headline


def test_three_processes_that_disagree_prove_nothing() -> None:
    slow, fast = _slow_first((1624.0, 1580.0, 241.0)), _slow_first((237.0, 210.0, 232.0))
    found = compare_runs([made("a", timings=slow), made("b", timings=fast)])
    (whole,) = [c for c in found.changes if c.name == "time of one batch"]
    assert whole.state == "unclear"
    assert "no clear change" in found.headline
    (total,) = [g.speedup for g in found.gains if g.role == "total"]
    # by hand: variance of the means of the logarithms 0.3978 + 0.0014, 2.014 degrees of freedom, for which t is 4.274
    logs = [np.log([1624.0, 1580.0, 241.0]), np.log([237.0, 210.0, 232.0])]
    half = 4.274 * np.sqrt(sum(each.var(ddof=1) / 3 for each in logs))
    assert total.value is not None
    assert total.low == pytest.approx(total.value * np.exp(-half), rel=1e-3)
    assert total.high == pytest.approx(total.value * np.exp(half), rel=1e-3)
    assert whole.delta_us.low is not None
    assert whole.delta_us.high is not None
    assert whole.delta_us.low < 0 < whole.delta_us.high


def test_the_whole_batch_and_its_ratio_say_the_same() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        first, second = (tuple(rng.uniform(0.9, 1.1, 3) * ms) for ms in (10.0, 11.0))
        found = compare_runs([made("a", timings=_slow_first(first)), made("b", timings=_slow_first(second))])
        (whole,) = [c.delta_us for c in found.changes if c.name == "time of one batch"]
        (total,) = [g.speedup for g in found.gains if g.role == "total"]
        assert None not in (whole.low, whole.high, total.low, total.high)
        covers = (whole.low or 0) <= 0 <= (whole.high or 0)
        assert covers == ((total.low or 0) <= 1 <= (total.high or 0))


def test_a_cnn_is_held_against_the_cnn_and_not_against_the_vit() -> None:
    runs = [made("v", device=A100), _cnn("c", device=A100), made("v2"), _cnn("c2"), _cnn("c3", device=MI300X)]
    found = compare_runs(runs)
    assert found.gain_bases == (None, None, 0, 1, 1)
    assert {(g.run, g.baseline) for g in found.gains} == {(2, 0), (3, 1), (4, 1)}
    assert {(o.run, o.baseline) for o in found.offers} == {(2, 0), (3, 1), (4, 1)}
    assert {g.basis for g in found.gains} == {"time"}


def test_another_model_of_the_family_is_held_against_the_baseline() -> None:
    small = [
        made(name, facts=run_facts("vit", "ViT-S/16", device), device=device) for name, device in (("s", A100), ("s2", H100))
    ]
    assert compare_runs([made("v", device=A100), *small]).gain_bases == (None, 0, 0)
    other = [replace(run, groups=run.groups.assign(shapes="8x8")) for run in small]  # other operators than those of the ViT-B
    assert compare_runs([made("v", device=A100), *other]).gain_bases == (None, 0, 1)


def test_a_run_of_another_family_has_nothing_to_be_held_against() -> None:
    found = compare_runs([made("v", device=A100), _cnn("c")])
    assert found.gain_bases == (None, None)
    (gain,) = found.gains
    assert (gain.role, gain.run, gain.baseline, gain.speedup.value) == ("total", 1, 0, None)
    assert gain.speedup.source.startswith("nothing to hold it against")
    assert found.offers == ()


def test_bare_runs_of_the_same_operators_are_a_model_of_their_own() -> None:
    blind = replace(made("blind", CNN, bare=True, steps=None), groups=made("x", CNN, bare=True).groups.assign(shapes=""))
    runs = [blind, made("cnn", CNN, bare=True), made("h", bare=True), made("m", device=MI300X, bare=True)]
    found = compare_runs(runs)
    assert found.baseline == 1
    assert found.better_baseline == 2
    assert any("the first run whose trace has shapes and steps" in c.text for c in found.caveats)
    assert found.gain_bases[3] == 2
    assert _gains(found, 3)["dense math"][:2] == (2, pytest.approx(1.0))
    assert "the others are not known to do the same work" in found.headline
    assert "rates" not in found.headline
    assert compare_runs(runs, 2).better_baseline is None
    assert compare_runs(runs, 0).baseline == 0


def _offer(found: Comparison, name: str) -> Offer:
    return next(o for o in found.offers if o.name.startswith(name))


def test_an_amd_sheet_without_a_peak_is_no_claim_about_the_chip() -> None:
    base = made("a", device=MI300X, dtype="float32")
    found = compare_runs([base, made("n", device=A100, dtype="float32")])
    assert _offer(found, "matrix peak").ratio.source.endswith("the sheet of MI300X has no matrix peak of float32")
    back = compare_runs([made("n", device=A100, dtype="float32"), base])
    assert _offer(back, "matrix peak").ratio.source.endswith("float32 products run on vector units")  # of the A100


def test_the_cache_behind_l2_is_named_beside_its_ratio() -> None:
    found = compare_runs([made("a"), made("b", device=MI300X)])
    assert (
        _offer(found, "L2 capacity").note == "MI300X has 256 MiB of Infinity Cache behind its L2, which this ratio leaves out"
    )
    assert {o.note for o in found.offers if o.name != "L2 capacity"} == {""}
    assert {o.note for o in compare_runs([made("a"), made("b", device=A100)]).offers} == {""}


def test_two_devices_are_no_condition_but_two_power_caps_of_one_are() -> None:
    def pair(device: DeviceFacts) -> list[Digest]:
        return [made("v", device=device), _cnn("c", device=device)]

    assert [m.conditions for m in compare_runs([*pair(A100), *pair(H100)]).moves] == ["", ""]
    capped = [
        DeviceFacts(type="cuda", name=H100.name, vendor="NVIDIA", compute_capability="9.0", sm_count=132, power_limit_w=watts)
        for watts in (350.0, 700.0)
    ]
    found = compare_runs([*pair(capped[0]), *pair(capped[1]), *pair(A100)])
    assert [m.conditions for m in found.moves] == ["power cap 350 W", "power cap 700 W", ""]


def test_repeats_are_no_move() -> None:
    found = compare_runs([made("v", batch_ms=2.0), _cnn("c"), made("v2", batch_ms=2.0), _cnn("c2")])
    assert not found.headline.startswith("Moving")
    assert found.headline.startswith("Two repeats on H100 SXM5 80GB: ViT-B/16 takes")
    assert found.headline.endswith("these do not clearly differ")


def test_a_headline_calls_runs_by_their_places() -> None:
    found = compare_runs([made("vit-20260101", batch_ms=2.0), made("vit-20260102", batch_ms=1.0)])
    assert "in run 2 as in run 1" in found.headline
    assert "2026" not in found.headline
    assert not any("2026" in c.text for c in found.caveats)


def test_clocks_that_were_held_down_are_a_caveat_and_a_fact() -> None:
    free, run = made("a", clock_mhz=1500.0), made("b", clock_mhz=1500.0)
    assert run.telemetry is not None
    held = replace(run, telemetry=replace(run.telemetry, throttled=("power cap",)))
    found = compare_runs([free, held])
    (row,) = [row for row in found.facts if row.fact == "clocks held down by"]
    assert row.values == ("nothing", "power cap")
    (caveat,) = [c for c in found.caveats if "clocks were held down" in c.text]
    assert caveat.level == "warning"
    assert caveat.text.startswith("ViT-B/16 on H100 SXM5 80GB, run 2")


def test_half_characters_in_any_column_reach_no_file(tmp_path: Path) -> None:
    odd = "a\ud83d"
    run = made("a", device=CPU)
    dirty = replace(run, kinds=run.kinds.assign(kind=odd, role=odd), groups=run.groups.assign(kind=odd, role=odd, dtype=odd))
    found = compare_runs([replace(dirty, dtype=odd, label=odd), replace(dirty, dtype=odd, label=odd)])
    write_comparison_files(found, tmp_path)
    assert all("\ud83d" not in (tmp_path / name).read_text("utf-8") for name in FILES)
