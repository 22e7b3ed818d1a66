"""Projection onto other GPUs: the arithmetic by hand, and a calibration whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.format import percent
from analyzer.hardware.lookup import sheet_of
from analyzer.insight.projection.calibration import (
    BOTH_NEW,
    KNOWN,
    NEW_SOURCE,
    NEW_TARGET,
    SCHEMES,
    Calibration,
    dump,
    parse,
    shipped,
    stretch,
)
from analyzer.insight.projection.calls import family
from analyzer.insight.projection.features import CLASSES, SIZES, Device, compute_share, device_feature, features, roofline_us
from analyzer.insight.projection.fit import Samples, calibrate, solve
from analyzer.insight.projection.scores import HELD_OUT, NO_TWINS, RATIOS, row, score_of, scores
from analyzer.insight.projection.targets import device_of
from analyzer.insight.projection.totals import total_of
from analyzer.insight.projection.words import article, class_line, headline, meanings, span, whole
from analyzer.schema.projection import (
    ESTIMATED,
    FLOOR,
    KEPT,
    RATIO,
    REFUSED,
    VALIDATED,
    Group,
    Projected,
    RunProjection,
    Target,
    Total,
)
from tests.insight.projection_calls import call

TARGET = Target("b200", "B200", "NVIDIA", "")
CARD = Device("card", "Card", "X1", 10.0, 500.0, 200.0, 4 * 2**20)


def device(number: int, tflops: float, gbps: float, watts: float) -> Device:
    return Device(f"gpu{number}", f"GPU {number}", f"chip{number}", tflops, gbps, watts, 8 * 2**20)


def products(random: np.random.Generator, count: int) -> np.ndarray:
    m, n, k = (2.0 ** random.uniform(9, 13, count) for _ in range(3))
    return np.stack([np.ones(count), m, n, k, 2 * m * n * k, 4 * (m * n + m * k + n * k)], axis=1)


GPUS = [
    device(i, *figures)
    for i, figures in enumerate([(10, 700, 200), (14, 900, 250), (20, 1500, 300), (8, 300, 120), (60, 3000, 700)])
]


def made_up(noise: float, seed: int = 1) -> dict[str, dict[str, Samples]]:
    """Latencies of products on GPUs that reach known shares of their peaks, times a random factor."""
    random = np.random.default_rng(seed)
    calls = products(random, 400)
    out = {}
    for place, gpu in enumerate(GPUS):
        share = 0.5 + 0.08 * place
        time = 3 + np.maximum(*roofline_us(calls, gpu)) / share * np.exp(random.normal(0, noise, len(calls)))
        out[gpu.key] = Samples(np.arange(len(calls)), calls, time)
    return {"linear": out}


# --- the parts --------------------------------------------------------------------------------------------------------------


def test_the_roofline_by_hand() -> None:
    calls = np.array([[1, 1000, 1000, 1000, 2e9, 12e6]], float)
    compute, memory = roofline_us(calls, CARD)
    assert compute[0] == pytest.approx(2e9 / 10e12 * 1e6) == pytest.approx(200.0)
    assert memory[0] == pytest.approx(12e6 / 500e9 * 1e6) == pytest.approx(24.0)
    assert compute_share(calls, CARD)[0] == pytest.approx(200 / 224)


def test_edges_of_tiles_and_power_are_features() -> None:
    calls = np.array([[1, 129, 128, 512, 2.0 * 129 * 128 * 512, 1e6]], float)
    found = features("linear", calls, CARD)
    assert found.shape == (1, 17)
    assert found[0, 13:] == pytest.approx([math.log(256 / 129), math.log(192 / 129), 0, 0])
    share = compute_share(calls, CARD)[0]
    assert device_feature(calls, CARD, (2.0, 4.0))[0, 0] == pytest.approx(math.log(20) * share)
    assert device_feature(calls, CARD, (2.0, 2.5))[0, 0] == pytest.approx(2.5 * share)


def test_only_less_power_than_all_others_stretches_the_interval() -> None:
    assert stretch(CARD, (math.log(20), 4.0)) == 1.0
    assert stretch(CARD, (math.log(10), math.log(12))) == 1.0
    assert stretch(CARD, (math.log(40), 4.0)) == pytest.approx(1 + 1.5 * math.log(2))


def test_a_fit_of_least_deviations_ignores_outliers() -> None:
    x = np.linspace(0, 1, 200)
    rows = np.stack([np.ones(200), x, np.full(200, 7.0)], axis=1)
    values = 1 + 2 * x
    values[::10] += 50
    found = solve(rows, values, np.ones(200))
    assert found[:2] == pytest.approx([1, 2], abs=0.1)
    assert found[2] == 0  # a column that never changes tells nothing


# --- a calibration whose truth is known ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact() -> Calibration:
    return calibrate(made_up(0.0), {gpu.key: gpu for gpu in GPUS})


@pytest.mark.parametrize("source", range(5))
def test_known_efficiencies_are_found(exact: Calibration, source: int) -> None:
    measured = made_up(0.0)["linear"]
    for target in set(range(5)) - {source}:
        one, two = measured[f"gpu{source}"], measured[f"gpu{target}"]
        found = exact.project("linear", one.calls, one.time_us, GPUS[source], GPUS[target])
        assert found.scheme == KNOWN
        assert np.quantile(np.abs(np.log(found.time_us / two.time_us)), 0.9) < 0.05


def test_intervals_hold_what_was_not_seen() -> None:
    """Half of the calls of made-up GPUs with 20 % noise, projected by a calibration on the other half."""
    measured = made_up(0.2)["linear"]
    half = np.arange(400) % 2 == 0
    found = calibrate({"linear": {k: s.part(half) for k, s in measured.items()}}, {gpu.key: gpu for gpu in GPUS})
    inside = []
    for s in GPUS:
        for d in GPUS:
            if s is not d:
                one, two = (measured[gpu.key].part(~half) for gpu in (s, d))
                guess = found.project("linear", one.calls, one.time_us, s, d)
                inside.append((guess.low_us <= two.time_us) & (two.time_us <= guess.high_us))
    assert 0.82 < np.mean(inside) < 0.95


def test_a_gpu_that_was_not_calibrated_has_a_wider_interval_and_says_so(exact: Calibration) -> None:
    calls, time = products(np.random.default_rng(3), 5), np.full(5, 5000.0)
    new = replace(CARD, key="new")
    assert exact.project("linear", calls, time, GPUS[0], new).scheme == NEW_TARGET
    assert exact.project("linear", calls, time, new, GPUS[0]).scheme == NEW_SOURCE
    assert exact.project("linear", calls, time, new, replace(CARD, key="newer")).scheme == BOTH_NEW
    known, guessed = (exact.project("linear", calls, time, GPUS[0], gpu) for gpu in (GPUS[1], new))
    assert (guessed.high_us / guessed.low_us > known.high_us / known.low_us).all()


def test_a_gpu_with_the_same_chip_lends_its_efficiencies(exact: Calibration) -> None:
    twin = replace(GPUS[2], key="twin")
    assert exact.like("linear", twin) == "gpu2"
    assert exact.like("linear", replace(twin, chip="other")) == ""
    calls = products(np.random.default_rng(3), 5)
    same, lent = (
        exact.project("linear", calls, 3 + np.maximum(*roofline_us(calls, GPUS[0])) / 0.5, GPUS[0], gpu)
        for gpu in (GPUS[2], twin)
    )
    assert lent.time_us == pytest.approx(same.time_us, rel=0.1)
    assert lent.scheme == NEW_TARGET


def test_nothing_of_a_held_out_gpu_reaches_the_calibration() -> None:
    """The calibration without a GPU is the same whatever that GPU measured."""
    found = []
    for factor in (1.0, 5.0):
        measured = made_up(0.1)["linear"]
        changed = measured["gpu4"]
        measured["gpu4"] = Samples(changed.shape, changed.calls, changed.time_us * factor)
        kept = {"linear": {k: s for k, s in measured.items() if k != "gpu4"}}
        found.append(json.dumps(dump(calibrate(kept, {gpu.key: gpu for gpu in GPUS}))))
    assert found[0] == found[1]


# --- the one that is shipped --------------------------------------------------------------------------------------------------


def test_the_shipped_calibration_is_whole() -> None:
    found = shipped()
    assert set(found.fits) == set(CLASSES)
    assert len(found.devices) == 8
    assert dump(parse(dump(found))) == dump(found)
    assert "MIT" in found.source["latencies"]
    for fit in found.fits.values():
        assert set(fit.rules) == set(SCHEMES)
        assert all(0 <= rule.own <= 1 and 0 <= rule.general <= 1 and 0.1 < rule.factor < 5 for rule in fit.rules.values())
        assert set(fit.own) <= set(found.devices)
        assert set(fit.usual) == set(fit.own)
        assert all(low < 0 < high for low, high in fit.usual.values())
    recalled = {device.key for device in found.devices.values() if "memory" in device.source}
    assert recalled == {"p4", "p100_pcie_16gb", "v100_pcie_32gb"}


def test_the_shipped_table_meets_what_is_asked_for() -> None:
    whole = {s.held_out: s for s in scores() if s.title == "all"}
    assert set(whole) == {*HELD_OUT, RATIOS}
    for held in HELD_OUT[:2]:
        assert whole[held].coverage_pct >= 85
        assert whole[held].half_pct <= 35
    assert {s.title for s in scores()} == {*CLASSES, "all", NO_TWINS}
    known, new = (score_of(scheme, "linear") for scheme in (KNOWN, NEW_TARGET))
    assert known is not None
    assert new is not None
    assert known.p90_pct < new.p90_pct
    assert score_of("", "transfer") is None
    alone, ratios = row(HELD_OUT[1], NO_TWINS), row(RATIOS)
    assert alone is not None
    assert ratios is not None
    assert alone.n < whole[HELD_OUT[1]].n
    assert ratios.n == whole[HELD_OUT[1]].n
    assert percent(ratios.median_pct) in meanings()[RATIO]


@given(
    st.sampled_from(CLASSES), st.floats(6, 13), st.floats(6, 13), st.floats(6, 13), st.floats(5, 1e6),
    st.sampled_from(["v100_sxm2_16gb", "a100_sxm4_80gb", "h100_sxm5_80gb", "b200", "rtx_4090", "t4", "l4"]),
)  # fmt: skip
def test_every_projection_is_a_time_inside_its_interval(kind: str, m: float, n: float, k: float, time: float, key: str) -> None:
    m, n, k = (2.0**x for x in (m, n, k))
    calls = np.array([[1.0, m, n, k, 2 * m * n * k, 4 * (m * n + m * k + n * k)]])
    source, target = (device_of(sheet_of(name)) for name in ("a100_pcie_40gb", key))
    assert source is not None
    assert target is not None
    found = shipped().project(kind, calls, np.array([time]), source, target)
    assert 0 < found.low_us[0] < found.time_us[0] < found.high_us[0] < math.inf


# --- which calls belong to a class ---------------------------------------------------------------------------------------------


def test_products_are_told_by_their_operands() -> None:
    assert family(call()) == ("linear", (1.0, 788.0, 3072.0, 768.0, 2.0 * 788 * 768 * 3072, 1e6))
    mm = call(op="aten::addmm", shapes="3072 788x768 768x3072")
    assert family(mm)[1][:4] == (1.0, 788.0, 3072.0, 768.0)
    bmm = call(op="aten::bmm", shapes="48x197x64 48x64x197", flop=2.0 * 48 * 197 * 197 * 64)
    assert family(bmm) == ("bmm", (48.0, 197.0, 197.0, 64.0, 2.0 * 48 * 197 * 197 * 64, 1e6))
    assert family(call(flop=12345.0)) == ("", ())
    assert family(call(is_backward=True)) == ("", ())
    assert family(call(bytes=math.nan)) == ("", ())


def test_only_the_convolutions_that_were_measured_are_a_class() -> None:
    flop = 2.0 * 32 * 14 * 14 * 256 * 256 * 9
    three = call(kind="convolution", op="aten::cudnn_convolution", shapes="32x256x14x14 256x256x3x3", flop=flop)
    assert family(three) == ("convolution", (1.0, 32.0 * 196, 256.0, 2304.0, flop, 1e6))
    assert family(replace(three, flop=flop / 4))[0] == ""  # stride 2
    assert family(replace(three, shapes="32x256x14x14 256x256x1x1", flop=flop / 9))[0] == ""
    assert family(replace(three, shapes="32x256x14x14 256x1x3x3", flop=flop / 256))[0] == ""


def test_vectors_are_told_by_operator_and_kernel() -> None:
    gelu = call(kind="pointwise", op="aten::gelu", shapes="4x197x3072", kernel="vectorized_elementwise_kernel<4>", flop=9.0)
    assert family(gelu) == ("pointwise", (1.0, 4.0 * 197 * 3072, 1.0, 1.0, 4.0 * 197 * 3072, 1e6))
    assert family(replace(gelu, kernel="elementwise_kernel<128, 2>"))[0] == ""
    assert family(replace(gelu, op="aten::where"))[0] == ""
    norm = call(kind="normalisation", op="aten::native_layer_norm", shapes="4x197x768 768 768")
    assert family(norm)[1][:3] == (1.0, 788.0, 768.0)
    assert family(replace(norm, op="aten::cudnn_batch_norm"))[0] == ""
    assert family(call(kind="reduction", op="aten::_softmax", shapes="4x12x197x197"))[0] == "softmax"


@given(st.text(max_size=60))
def test_no_text_of_shapes_breaks_it(text: str) -> None:
    for kind, op in (("matmul", "aten::mm"), ("convolution", "aten::conv2d"), ("pointwise", "aten::add")):
        name, sizes = family(call(kind=kind, op=op, shapes=text))
        assert bool(name) == bool(sizes)
        assert not sizes or len(sizes) == len(SIZES)


# --- sums and words --------------------------------------------------------------------------------------------------------------


def group(title: str, source: float, on: Projected) -> Group:
    return Group(title, "role", title, "op", "", "float32", "", "", "kernel", 1.0, source, (on,))


def test_intervals_add_up_linearly_within_a_class_and_as_squares_across() -> None:
    groups = (
        group("linear", 10, Projected(VALIDATED, "", 20, 18, 23, 5)),
        group("linear", 30, Projected(VALIDATED, "", 40, 39, 41, 5)),
        group("softmax", 10, Projected(VALIDATED, "", 10, 6, 13, 2)),
        group("pooling", 4, Projected(RATIO, "", 5, math.nan, math.nan, 4)),
        group("transfer", 5, Projected(KEPT, "", 5, 5, 5, math.nan)),
    )
    found = total_of(TARGET, groups, 0, 7.0)
    assert found.time_us == 20 + 40 + 10 + 5 + 5
    assert found.low_us == pytest.approx(80 - math.hypot(3, 4))
    assert found.high_us == pytest.approx(80 + math.hypot(4, 3))
    assert (found.floor_us, found.kept_us) == (16, 5)
    assert found.validated_pct == pytest.approx(100 * 70 / 75)
    assert found.least_us == found.low_us
    assert found.most_us == found.high_us + 7
    assert [c.title for c in found.classes] == ["linear", "softmax", "pooling", "copies and kernels without a work model"]


def test_no_interval_where_less_than_nine_tenths_are_validated() -> None:
    groups = (
        group("linear", 10, Projected(VALIDATED, "", 85, 80, 90, 5)),
        group("bmm", 10, Projected(ESTIMATED, "", 15, 10, 20, 5)),
    )
    found = total_of(TARGET, groups, 0, 0.0)
    assert (found.time_us, found.validated_pct) == (100, 85)
    assert math.isnan(found.low_us)
    assert math.isnan(found.high_us)


def test_a_range_with_waiting() -> None:
    """From the longer of kernels and waiting, to waiting and the kernels of the slower GPU."""
    ends = {}
    for time in (20.0, 100.0):
        on = Projected(RATIO, "", time, math.nan, math.nan, 1)
        found = total_of(TARGET, (group("linear", 40, on),), 0, 30.0)
        ends[time] = (found.least_us, found.most_us)
    assert ends == {20.0: (30, 70), 100.0: (100, 130)}


@pytest.mark.parametrize("status", [FLOOR, REFUSED])
def test_no_total_where_a_part_has_no_time(status: str) -> None:
    nothing = Projected(status, "no peak in bfloat16", math.nan, math.nan, math.nan, math.nan)
    copy = Projected(KEPT, "a copy", 10, 10, 10, math.nan)
    found = total_of(TARGET, (group("linear", 30, nothing), group("copy", 10, copy)), 0, 0.0)
    assert math.isnan(found.time_us)
    assert found.reason == "75 % of the time cannot be projected: no peak in bfloat16"
    assert total_of(TARGET, (), 0, 1.0).reason == "the run has no kernels"
    small = (group("linear", 0.5, nothing), group("bmm", 99.5, Projected(RATIO, "", 50, math.nan, math.nan, 9)))
    found = total_of(TARGET, small, 0, 0.0)
    assert (found.reason, found.time_us) == ("", 50)
    assert found.notes == ("Left out of the total: linear, 0.5 % of the kernel time; no peak in bfloat16.",)


def test_no_total_where_much_is_as_on_the_source() -> None:
    def made(kept: float) -> Total:
        groups = (
            group("linear", 100 - kept, Projected(RATIO, "", 50, math.nan, math.nan, 9)),
            group("copy", kept / 2, Projected(KEPT, "a copy", 1, 1, 1, math.nan)),
            group("other", kept / 2, Projected(KEPT, "no shapes in the trace", 1, 1, 1, math.nan)),
        )
        return total_of(TARGET, groups, 0, 0.0)

    assert made(10).reason == ""
    assert made(12).reason.startswith("12 % of the time cannot be projected: a copy; no shapes in the trace")
    assert "record_shapes=True" in made(12).reason


def test_a_class_with_several_reasons_says_which_is_most_of_it() -> None:
    groups = tuple(group("bmm", us, Projected(RATIO, why, us, math.nan, math.nan, 1)) for us, why in ((1, "a"), (9, "b")))
    (found,) = total_of(TARGET, groups, 0, 0.0).classes
    assert found.why == "mostly: b"


def run_of(total: Total, source: float, waiting: float = 0.0) -> RunProjection:
    return RunProjection("x", "x", "V100", False, True, source, waiting, (), (total,))


def test_the_headline_has_an_interval_only_where_it_is_validated() -> None:
    sure = total_of(TARGET, (group("linear", 30e3, Projected(VALIDATED, "", 10e3, 8e3, 13e3, 1)),), 0, 5e3)
    text = headline(run_of(sure, 30e3), sure)
    assert "about 10.0 ms (8.00 to 13.0 ms), against 30.0 ms on V100: a speed-up of 3.00. 100 %" in text
    loose = total_of(TARGET, (group("linear", 30e3, Projected(RATIO, "", 60e3, math.nan, math.nan, 1)),), 0, 5e3)
    text = headline(run_of(loose, 30e3), loose)
    assert "about 60.0 ms, error unknown, against 30.0 ms on V100: 2.00 x as long. None of it is validated." in text
    assert "(" not in text
    assert whole(run_of(loose, 30e3, 5e3), loose).endswith("to its kernels and that waiting, 65.0 ms.")
    own = total_of(TARGET, (group("linear", 30e3, Projected(KEPT, "", 30e3, 30e3, 30e3, math.nan)),), 0, 0.0, same=True)
    assert headline(run_of(own, 30e3), own) == "B200 is the GPU of the run: its kernels took 30.0 ms for one batch of x."


def test_words() -> None:
    assert [article(n) for n in ("A100", "H100 NVL", "L4", "RTX 4090", "MI300X", "B200", "T4", "V100", "P4", "GH200 96GB")] == [
        "an A100", "an H100 NVL", "an L4", "an RTX 4090", "an MI300X", "a B200", "a T4", "a V100", "a P4", "a GH200 96GB",
    ]  # fmt: skip
    assert span(10100, 15200) == "10.1 to 15.2 ms"
    assert span(900, 2e6) == "0.000900 to 2.00 s"
    on = Projected(VALIDATED, f"linear in float32, {KNOWN}", 20, 18, 23, 5, KNOWN)
    line = class_line(total_of(TARGET, (group("linear", 10, on),), 0, 0.0).classes[0])
    assert line.startswith("linear: validated, error p90")
    assert "inside the interval on held-out data" in line
    assert line.endswith("10.0 µs -> 20.0 µs (18.0 to 23.0 µs)")
