from __future__ import annotations

import pytest
from fake_nvml import FakeNvml

from analyzer.capture.nvml import NvmlReader
from analyzer.schema.tables import SAMPLES

SECOND = 1_000_000_000
UUID = "1234-5678"


def at(reader: NvmlReader, now_ns: int) -> dict[str, float]:
    """Take a sample when the monotonic clock says ``now_ns``."""
    reader.gpm._clock = lambda: now_ns
    return reader.sample()


def opened(fake: FakeNvml) -> NvmlReader:
    reader = NvmlReader(fake, UUID)
    assert reader.open()
    return reader


def test_hopper_fills_every_gpu_column_and_frees_all() -> None:
    fake = FakeNvml()
    reader = opened(fake)
    assert reader.gpm.available
    assert not [column for column in at(reader, 0) if column.startswith("gpm")]  # one sample is no interval
    row = at(reader, SECOND)
    gpu = set(SAMPLES.names[7:])
    assert gpu - set(row) == {"gpm_fp16_pct"}  # that one is NaN
    assert row["gpm_dram_pct"] == 100
    assert row["power_average_w"] == 185
    assert row["power_instant_w"] == 186
    assert row["energy_j"] == 5
    assert row["clock_event_reasons"] == 4
    reader.close()
    assert fake.allocated == 0
    assert fake.initialised == 0
    assert reader.summary() == ""
    assert fake.uuids == [f"GPU-{UUID}"]


def test_gpm_is_never_asked_within_100_ms() -> None:
    fake = FakeNvml()
    reader = opened(fake)
    for tick in range(0, 500_000_000, 30_000_000):
        at(reader, tick)
    assert fake.calls.count("nvmlGpmSampleGet") == 5


def test_ampere_has_no_gpm_and_says_so() -> None:
    reader = opened(FakeNvml(gpm=False))
    row = at(reader, 0) | at(reader, SECOND)
    assert not [column for column in row if column.startswith("gpm")]
    assert row["gpu_util_pct"] == 97
    assert not reader.gpm.available
    assert "Hopper" in reader.gpm.reason


def test_gpm_without_permission_leaves_the_rest() -> None:
    fake = FakeNvml(failures={"nvmlGpmMetricsGet": 4})
    reader = opened(fake)
    at(reader, 0)
    row = at(reader, SECOND)
    assert row["sm_clock_mhz"] == 1410
    assert not reader.gpm.available
    assert reader.gpm.reason.startswith("no permission; the driver may keep performance monitoring")
    assert "--cap-add=SYS_ADMIN" in reader.gpm.reason
    reader.close()
    assert fake.allocated == 0


def test_an_unsupported_quantity_is_asked_once() -> None:
    fake = FakeNvml(failures={"nvmlDeviceGetTotalEnergyConsumption": 3})
    reader = opened(fake)
    assert "energy_j" not in at(reader, 0) | at(reader, SECOND)
    assert fake.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 1
    assert reader.summary() == "energy_j: not supported by this device"


def test_a_passing_failure_is_asked_again() -> None:
    fake = FakeNvml(failures={"nvmlDeviceGetTemperature": 999})
    reader = opened(fake)
    at(reader, 0)
    fake.failures.clear()
    assert at(reader, SECOND)["temperature_c"] == 55


def test_old_drivers_names() -> None:
    fake = FakeNvml(failures={"nvmlDeviceGetCurrentClocksEventReasons": 13, "fields": 3})
    row = at(opened(fake), 0)
    assert row["clock_event_reasons"] == 8
    assert row["power_average_w"] == 300
    assert "power_instant_w" not in row


@pytest.mark.parametrize("function", ["nvmlDeviceGetClockInfo", "nvmlGpmSampleGet", "nvmlDeviceGetFieldValues"])
def test_a_lost_device_ends_nvml(function: str) -> None:
    fake = FakeNvml(failures={function: (15, 3)})
    reader = opened(fake)
    for second in range(4):
        at(reader, second * SECOND)
    assert at(reader, 5 * SECOND) == {}
    assert "lost" in reader.summary()
    reader.close()
    assert fake.allocated == 0
    assert fake.initialised == 0


@pytest.mark.parametrize(("code", "words"), [(12, "no NVIDIA driver library"), (9, "not loaded"), (4, "permission")])
def test_no_nvml(code: int, words: str) -> None:
    reader = NvmlReader(FakeNvml(failures={"nvmlInit": code}), UUID)
    assert not reader.open()
    assert words in reader.summary()
    assert at(reader, 0) == {}
    reader.close()


def test_an_unknown_uuid_is_unavailable_not_another_device() -> None:
    fake = FakeNvml(failures={"nvmlDeviceGetHandleByUUID": 6})
    reader = NvmlReader(fake, UUID)
    assert not reader.open()
    assert fake.uuids == [f"GPU-{UUID}", f"MIG-{UUID}"]
    assert "not found" in reader.summary()
    assert fake.initialised == 0
