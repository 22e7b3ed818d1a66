"""How far a projected time can be trusted: what makes it validated, estimated, a ratio or nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analyzer.errors import ConfigError
from analyzer.hardware.lookup import sheet_of
from analyzer.insight.projection.calibration import KNOWN, NEW_TARGET, shipped
from analyzer.insight.projection.calls import Call, family
from analyzer.insight.projection.features import roofline_us
from analyzer.insight.projection.project import _projected
from analyzer.insight.projection.ratios import NEITHER, NO_TF32, arithmetic_on, notes_on, on_target, side_of
from analyzer.insight.projection.scores import score_of
from analyzer.insight.projection.targets import device_of, find_targets, standing
from analyzer.schema.projection import ESTIMATED, RATIO, REFUSED, VALIDATED, Projected
from tests.insight.projection_calls import call


def status(one: Call, source: str, target: str) -> Projected:
    """One call through the shipped calibration, from one GPU of the database to another."""
    sides = side_of(sheet_of(source)), side_of(sheet_of(target))
    name, sizes = family(one)
    return _projected(one, name, sizes, sides, shipped())


def usual(source: str) -> Call:
    """A linear layer that takes what calls of its sizes take on ``source``."""
    made = call(shapes="6304x768 3072x768 3072", flop=2.0 * 6304 * 768 * 3072, bytes=4.0 * (6304 * 3840 + 768 * 3072 + 3072))
    device, (name, sizes) = device_of(sheet_of(source)), family(made)
    assert device is not None
    table, found = np.array([sizes]), shipped()
    expected = np.exp(found._level(name, table, device)[0])
    return replace(made, time_us=3 + float(np.maximum(*roofline_us(table, device))[0] / expected))


def test_validated_only_with_a_usual_time_on_calibrated_gpus() -> None:
    linear = usual("a100_pcie_40gb")
    good = status(linear, "a100_pcie_40gb", "h100_sxm5_80gb")
    assert (good.status, good.scheme) == (VALIDATED, KNOWN)
    assert good.low_us < good.time_us < good.high_us
    twin = status(linear, "a100_pcie_40gb", "a100_sxm4_80gb")
    assert (twin.status, twin.scheme) == (VALIDATED, NEW_TARGET)
    assert "same chip" in twin.why
    for slower in (0.2, 8.0):
        odd = status(replace(linear, time_us=linear.time_us * slower), "a100_pcie_40gb", "h100_sxm5_80gb")
        assert odd.status == ESTIMATED
        assert "unusually" in odd.why
        assert odd.low_us < odd.high_us
    new = status(linear, "a100_pcie_40gb", "b200")
    assert new.status == ESTIMATED
    assert "GPU not calibrated in this class: B200" in new.why
    short = status(replace(linear, time_us=1.0), "a100_pcie_40gb", "h100_sxm5_80gb")
    assert short.status == ESTIMATED
    assert "shorter than any calibrated call" in short.why


def test_a_class_of_which_too_few_were_inside_is_estimated() -> None:
    norm = call(kind="normalisation", op="aten::native_layer_norm", shapes="16384x1024 1024 1024", bytes=8.0 * 16384 * 1024)
    found = status(replace(norm, flop=1.0), "a100_pcie_40gb", "t4")
    row_of = score_of(KNOWN, "normalisation")
    assert row_of is not None
    assert row_of.coverage_pct < 85
    assert found.status == ESTIMATED
    assert "85 % are asked for" in found.why


def test_a_ratio_has_no_interval_and_its_two_ratios_apart() -> None:
    half = call(dtype="bfloat16", unit="matrix", number_format="bfloat16", flop=989.4e6 * 50, bytes=1e6, time_us=103.0)
    found = status(half, "h100_sxm5_80gb", "a100_sxm4_80gb")
    assert found.status == RATIO
    assert math.isnan(found.low_us)
    assert math.isnan(found.high_us)
    sheets = sheet_of("h100_sxm5_80gb"), sheet_of("a100_sxm4_80gb")
    peaks = [sheet.figures["matrix.bfloat16"].value for sheet in sheets]
    assert found.time_us == pytest.approx(3 + 100 * peaks[0] / peaks[1], rel=1e-3)
    assert found.by_peaks_us == pytest.approx(found.time_us)
    assert found.by_bandwidths_us < found.by_peaks_us


def test_a_kernel_that_nothing_limits_keeps_its_time() -> None:
    slow = call(dtype="bfloat16", unit="matrix", number_format="bfloat16", flop=1e6, bytes=1e5, time_us=500.0)
    found = status(slow, "h100_sxm5_80gb", "b200")
    assert (found.status, found.why, found.time_us) == (RATIO, NEITHER, 500.0)


def test_tf32_goes_to_vector_units_where_there_is_none() -> None:
    tf32 = call(unit="matrix", number_format="tfloat32", flop=1e10, bytes=1e6, time_us=40.0)
    found = status(tf32, "a100_sxm4_80gb", "t4")
    assert found.status == RATIO
    assert found.floor_us == pytest.approx(1e10 / sheet_of("t4").vector_tflops["float32"] / 1e6)
    assert on_target(tf32, side_of(sheet_of("h100_sxm5_80gb"))) == ("matrix", "tfloat32", "")
    amd = call(unit="matrix", number_format="float32", flop=1e10, bytes=1e6, time_us=200.0)
    assert on_target(amd, side_of(sheet_of("h100_sxm5_80gb")))[:2] == ("vector", "float32")
    refused = status(replace(tf32, number_format="bfloat16", dtype="bfloat16"), "a100_sxm4_80gb", "t4")
    assert (refused.status, refused.why) == (REFUSED, "the database has no bfloat16 matrix peak of T4")


def test_float32_that_would_be_tf32_by_default_is_said() -> None:
    conv = call(kind="convolution")
    v100, a100, t4, h100 = (side_of(sheet_of(k)) for k in ("v100_sxm2_32gb", "a100_sxm4_80gb", "t4", "h100_sxm5_80gb"))
    assert arithmetic_on([conv], v100, a100) == NO_TF32
    assert [arithmetic_on([conv], *pair) for pair in ((v100, t4), (a100, h100), (v100, v100))] == ["", "", ""]
    assert arithmetic_on([replace(conv, unit="core")], None, a100) == "in float32 on vector units"
    assert any("TF32" in note for note in notes_on([conv], v100, a100))
    assert notes_on([conv], a100, a100) == ()
    winograd = notes_on([replace(conv, saving=2.25)], v100, t4)
    assert any("Winograd" in note for note in winograd)


def test_what_is_known_of_a_gpu_is_said() -> None:
    found = shipped()
    texts = {key: standing(device_of(sheet_of(key)), found) for key in ("t4", "a100_sxm4_80gb", "b200", "mi300x")}
    assert texts["t4"].startswith("calibrated in float32 for linear, bmm, convolution")
    assert "A100 PCIe 40GB" in texts["a100_sxm4_80gb"]
    assert "same chip" in texts["a100_sxm4_80gb"]
    assert "watts per TFLOP" in texts["b200"]
    assert texts["mi300x"].startswith("no calibration")


def test_targets_are_named_or_nearest_ones_are() -> None:
    assert [sheet.key for sheet in find_targets(("b200", "a100_sxm4_80gb", "b200"))] == ["b200", "a100_sxm4_80gb"]
    with pytest.raises(ConfigError) as unknown:
        find_targets(("a100",))
    assert "a100_sxm4_80gb" in unknown.value.hint
    with pytest.raises(ConfigError) as missing:
        find_targets(())
    assert "onto=[" in missing.value.hint
