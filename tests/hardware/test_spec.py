"""The GPU database."""

from __future__ import annotations

import pytest

from analyzer.hardware.spec import device_limits, find_sheet, sheets, sm_limits
from analyzer.schema.run import Ceiling, DeviceFacts


def test_every_sheet_is_plausible() -> None:
    assert len(sheets()) == 29
    for sheet in sheets().values():
        assert sheet.source
        assert sheet.dram_gbps
        for dtype, peak in sheet.peak_tflops.items():
            ridge = peak * 1e3 / sheet.dram_gbps
            assert 5 < ridge < 1000, (sheet.key, dtype)


@pytest.mark.parametrize(
    ("name", "sms", "key"),
    [
        ("NVIDIA H100 80GB HBM3", 132, "h100_sxm5_80gb"),
        ("Tesla V100-DGXS-32GB", 80, "v100_sxm2_32gb"),
        ("NVIDIA A100-PG509-200", 108, "a100_sxm4_40gb"),
        ("NVIDIA A100-SXM4-40GB", 108, "a100_sxm4_40gb"),
        ("NVIDIA GeForce RTX 2080 Ti", 68, "rtx_2080_ti"),
        ("NVIDIA B200", 148, "b200"),
        ("AMD Instinct MI300X VF", 304, "mi300x"),
    ],
)
def test_device_strings_of_real_traces(name: str, sms: int, key: str) -> None:
    sheet = find_sheet(DeviceFacts(type="cuda", name=name, sm_count=sms))
    assert sheet is not None
    assert sheet.key == key


def test_another_multiprocessor_count_is_another_product() -> None:
    assert find_sheet(DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", sm_count=100)) is None
    assert find_sheet(DeviceFacts(type="cuda", name="NVIDIA Future", sm_count=100)) is None


def test_measured_and_spec_stay_apart() -> None:
    device = DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", sm_count=132)
    copy = Ceiling(name="copy", unit="GB/s", dtype="uint8", value=3000, low=2990, high=3010, n=30)
    limits = device_limits(device, "bfloat16", (copy,))
    assert limits.bandwidth is not None
    assert limits.dram_spec is not None
    assert (limits.bandwidth.value, limits.bandwidth.measured) == (3000, True)
    assert (limits.dram_spec.value, limits.dram_spec.measured) == (3350, False)
    assert limits.matrix is limits.matrix_spec
    assert limits.matrix is not None
    assert limits.matrix.value == 989


def test_an_uncalibrated_cpu_has_no_limits_and_says_so() -> None:
    limits = device_limits(DeviceFacts(type="cpu", name="CPU"), "float32", ())
    assert limits.bandwidth is None
    assert "calibrate" in limits.reason


def test_unlisted_capability_takes_the_nearest_lower_of_its_major() -> None:
    assert sm_limits("10.3") == sm_limits("10.0")
    assert sm_limits("99.0") is None
    assert sm_limits(None) is None
