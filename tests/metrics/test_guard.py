"""Figures that no device can have become cards, and those that can although they look so become notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze
from analyzer.metrics.guard import check_shares
from analyzer.metrics.kernels import group_kernels
from analyzer.metrics.limits import limits_of
from analyzer.metrics.memory import add_floors
from analyzer.schema.results import Analysis
from analyzer.schema.run import Ceiling
from tests import traces

MB = 1_000_000


def run(tmp_path: Path, *kernels: tuple[str, str, Any, float], **device: Any) -> Analysis:
    """Analyse kernels of (operator, name, input shapes, microseconds), one after the other, on an H100."""
    events: list[dict[str, Any]] = []
    at = 0.0
    for i, (op, name, dims, us) in enumerate(kernels, 1):
        types = ["c10::BFloat16"] * len(dims)
        events += [
            traces.op(op, at, 4, dims=dims, types=types),
            traces.launch(at + 1, i),
            traces.kernel(name, at + 5 + 0.001, us, i),
        ]
        at += us + 20
    properties = [traces.H100 | device]
    return analyze(traces.write(tmp_path / "t.json", traces.document(events, deviceProperties=properties)))


def gemm(n: int) -> list[list[int]]:
    return [[n, n], [n, n]]


def test_a_product_faster_than_the_peak_is_an_error_and_loses_its_figures(tmp_path: Path) -> None:
    """2 * 8192^3 = 1.1e12 FLOP in 1 ms are 1,100 TFLOP/s; at boost clock the H100 has 1,070."""
    a = run(
        tmp_path, ("aten::mm", "nvjet_hsh_128x256", gemm(8192), 1000.0), ("aten::mm", "nvjet_hsh_128x256", gemm(4096), 500.0)
    )
    (card,) = a.impossible
    assert card.explanation == ""
    assert "bfloat16 matrix peak" in card.what
    assert "8192x8192" in card.subject
    assert card.kernel == "nvjet_hsh_128x256"
    wrong = a.kernels[a.kernels["shapes"].str.startswith("8192")].iloc[0]
    assert wrong[["flop", "bytes_compulsory", "tflops", "dram_gbps"]].isna().all()
    assert "exceed what the device can do" in wrong["unmodelled"]
    right = a.kernels[a.kernels["shapes"].str.startswith("4096")].iloc[0]
    assert right["tflops"] == pytest.approx(2 * 4096**3 / 500e-6 / 1e12)
    assert a.totals.modelled_pct == pytest.approx(100 * 500 / 1500)
    assert a.totals.flop == 2 * 4096**3


def test_up_to_the_boost_clock_is_explained(tmp_path: Path) -> None:
    """1.1e12 FLOP in 1,070 us are 1,028 TFLOP/s, between 989 at the quoted clock and 1,070 at boost."""
    a = run(tmp_path, ("aten::mm", "nvjet_hsh_128x256", gemm(8192), 1070.0))
    (note,) = a.impossible
    assert "highest clock" in note.explanation
    assert a.kernels["tflops"].iloc[0] == pytest.approx(1028, abs=1)
    assert a.totals.modelled_pct == 100


def test_a_concatenation_at_254_terabytes_per_second_is_an_error(tmp_path: Path) -> None:
    a = run(tmp_path, ("aten::relu", "vectorized_elementwise_kernel", [[500 * MB]], 8.0))
    (card,) = a.impossible
    assert "the L2 can deliver" in card.what
    assert a.kernels["dram_gbps"].isna().all()


def test_a_working_set_in_the_l2_is_explained_and_a_larger_one_is_not(tmp_path: Path) -> None:
    # 5 M elements in bfloat16 are read and written: 20 MB in 4 us are 5,000 GB/s, and they fit the 52 MB L2
    small = run(tmp_path, ("aten::relu", "vectorized_elementwise_kernel", [[5 * MB]], 4.0))
    (note,) = small.impossible
    assert "fit the L2" in note.explanation
    assert small.kernels["bound"].tolist() == ["L2"]
    # 400 MB at 5,000 GB/s: at most 52 MB of it can have been in the L2
    large = run(tmp_path, ("aten::relu", "vectorized_elementwise_kernel", [[100 * MB]], 80.0))
    (card,) = large.impossible
    assert card.explanation == ""
    assert "full L2" in card.what


def test_a_device_without_a_sheet_is_not_judged(tmp_path: Path) -> None:
    a = run(tmp_path, ("aten::relu", "k", [[500 * MB]], 1.0), name="NVIDIA Future")
    assert a.impossible == ()


def test_whole_microseconds_get_the_benefit_of_their_rounding(tmp_path: Path) -> None:
    """3.4 GB/ms in 1 us: 3,400 GB/s above 3,350, but a clock of whole microseconds may have taken 1.9 us for 1."""
    events = [
        traces.op("aten::relu", 0, 4, dims=[[850_000]], types=["c10::BFloat16"]), traces.launch(1, 1),
        traces.kernel("vectorized_elementwise_kernel", 5, 1, 1),
    ]  # fmt: skip
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    assert a.impossible == ()
    events[2]["ts"] = 5.001
    a = analyze(traces.write(tmp_path / "u.json", traces.document(events)))
    assert len(a.impossible) == 1


def _overlapping(tmp_path: Path, major: int, overlap_us: float = 3.5, **more: Any) -> Analysis:
    events = [traces.op("aten::mm", 0, 10), traces.launch(1, 1), traces.launch(2, 2), traces.kernel("first", 20.001, 10, 1)]
    events.append(traces.kernel("second", 30.001 - overlap_us, 10, 2, **more))
    properties = [traces.H100 | {"computeMajor": major, "computeMinor": 0, "name": "some GPU"}]
    return analyze(traces.write(tmp_path / "t.json", traces.document(events, deviceProperties=properties)))


def test_kernels_of_one_stream_cannot_overlap_before_hopper(tmp_path: Path) -> None:
    (card,) = _overlapping(tmp_path, 8).impossible
    assert (card.kernel, card.explanation) == ("second", "")
    assert "1 kernel begins" in card.what
    assert "3.5" in card.what


def test_from_hopper_on_they_may(tmp_path: Path) -> None:
    (note,) = _overlapping(tmp_path, 9).impossible
    assert "programmatic dependent launch" in note.explanation


def test_other_streams_and_touching_kernels_do_not_overlap(tmp_path: Path) -> None:
    assert _overlapping(tmp_path, 8, stream=9).impossible == ()
    assert _overlapping(tmp_path, 8, overlap_us=0.0).impossible == ()


@pytest.mark.parametrize(("value", "what"), [(-5.0, "negative duration"), (None, "without a duration")])
def test_impossible_durations_name_the_kernel_and_the_file(tmp_path: Path, value: float | None, what: str) -> None:
    events = traces.gpu_step()
    broken = next(e for e in events if e.get("cat") == "kernel")
    if value is None:
        del broken["dur"]
    else:
        broken["dur"] = value
    a = analyze(traces.write(tmp_path / "bad.json", traces.document(events)))
    card = next(i for i in a.impossible if what in i.what)
    assert (card.kernel, card.subject, card.explanation) == (broken["name"], "bad.json", "")
    assert card.what.endswith(": 1")


CARD = {"name": "NVIDIA GeForce RTX 4090", "numSms": 128, "totalGlobalMem": 24 * 2**30, "computeMajor": 8, "computeMinor": 9}


def test_what_is_read_may_have_been_in_the_l2_and_what_is_written_may_stay_there(tmp_path: Path) -> None:
    """relu_ on 32x256x56x56 in half precision reads and writes 51 MB each; both fit the 72 MiB of an RTX 4090."""
    a = run(tmp_path, ("aten::relu_", "vectorized_elementwise_kernel", [[32, 256, 56, 56]], 22.8), **CARD)
    (note,) = a.impossible
    assert "fit the L2" in note.explanation
    assert a.totals.modelled_pct == 100


def test_a_card_may_run_above_its_advertised_boost(tmp_path: Path) -> None:
    """1.1e12 FLOP in 6.4 ms are 172 TFLOP/s; 165 at the 2,520 MHz on the box, 203 at the 3,105 MHz that the driver allows."""
    a = run(tmp_path, ("aten::mm", "ampere_bf16_s16816gemm_bf16_128x128", gemm(8192), 6400.0), **CARD)
    (note,) = a.impossible
    assert "highest clock" in note.explanation
    fast = run(tmp_path, ("aten::mm", "ampere_bf16_s16816gemm_bf16_128x128", gemm(8192), 5000.0), **CARD)
    assert fast.impossible[0].explanation == ""


def test_one_launch_shape_does_not_hide_another(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    for i, (us, grid) in enumerate([(400.0, [132, 1, 1]), (9000.0, [64, 1, 1]), (9000.0, [64, 1, 1])], 1):
        at = 20_000.0 * i
        events += [
            traces.op("aten::mm", at, 4, dims=gemm(8192), types=["c10::BFloat16"] * 2), traces.launch(at + 1, i),
            traces.kernel("nvjet_hsh_128x256", at + 5.001, us, i, grid=grid),
        ]  # fmt: skip
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    assert [card.explanation for card in a.impossible] == [""]
    assert not (a.kernels["peak_pct"] > 100).any()
    assert a.kernels["tflops"].notna().sum() == 1


def test_a_product_too_fast_for_the_lanes_counts_as_tf32(tmp_path: Path) -> None:
    """1.1e12 FLOP in 8 ms are 137 TFLOP/s: beyond the 67 of the H100's lanes, within the 495 of its tensor cores."""
    events = [
        traces.op("aten::mm", 0, 4, dims=gemm(8192), types=["float"] * 2), traces.launch(1, 1),
        traces.kernel("mystery_kernel", 5.001, 8000.0, 1),
    ]  # fmt: skip
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    (note,) = a.impossible
    assert "counts as TF32" in note.explanation
    row = a.kernels.iloc[0]
    assert (row["unit"], row["number_format"]) == ("matrix", "tfloat32")
    assert row["peak_pct"] == pytest.approx(100 * 137.4 / 494.5, rel=0.01)
    events[2]["name"] = "ampere_sgemm_128x64_tn"  # a name that tells leaves no way out
    assert analyze(traces.write(tmp_path / "u.json", traces.document(events))).impossible[0].explanation == ""


def test_beating_a_measured_ceiling_is_a_note(tmp_path: Path) -> None:
    a = run(tmp_path, ("aten::mm", "nvjet_hsh_128x256", gemm(8192), 1200.0))
    ceiling = Ceiling(name="matmul", unit="TFLOP/s", dtype="bfloat16", value=700, low=690, high=710, n=30)
    limits = replace(limits_of(a.run, a.device), ceilings=(ceiling,))
    kernels = group_kernels(add_floors(a.launches, limits), "r", limits)
    (note,) = check_shares(kernels, limits)
    assert kernels["peak_pct"].iloc[0] == pytest.approx(100 * 916 / 700, rel=0.01)
    assert "calibrate=force" in note.explanation
    assert check_shares(group_kernels(a.launches, "r", limits_of(a.run, a.device)), limits_of(a.run, a.device)) == ()


def test_several_models_of_gpu_are_told(tmp_path: Path) -> None:
    events = [traces.launch(1, 1), traces.launch(2, 2), traces.kernel("a", 10, 5, 1), traces.kernel("b", 20, 5, 2, device=1)]
    other = traces.H100 | {"id": 1, "name": "Tesla V100-SXM2-32GB"}
    same = traces.H100 | {"id": 1}
    for properties, told in (([traces.H100, other], True), ([traces.H100, same], False)):
        a = analyze(traces.write(tmp_path / "t.json", traces.document(events, deviceProperties=properties)))
        assert any("Tesla V100" in text for text in a.warnings) == told
