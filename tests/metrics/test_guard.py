"""Figures that no device can have become cards, and those that can although they look so become notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze
from analyzer.schema.results import Analysis
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
    assert "boost clock" in note.explanation
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
