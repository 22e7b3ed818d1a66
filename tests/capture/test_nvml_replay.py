"""NVML and GPM through recordings of calls, one scenario per file. They are hand-written; nothing here ran on a GPU."""

from __future__ import annotations

import ctypes
import io
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pynvml
import pytest

from analyzer.capture import gpm, nvml, nvml_errors, processes, telemetry
from analyzer.capture.nvml import NvmlReader
from analyzer.capture.sampler import ProcessReader, open_nvml, sample_until, summary
from analyzer.schema.run import SourceFacts
from analyzer.schema.tables import SAMPLES
from tests.capture.replay import RECORDINGS, SCENARIOS, RefusedError, Replay

GPM = set(gpm.METRICS.values())
NVML = set(SAMPLES.names[SAMPLES.names.index("sm_clock_mhz") :]) - GPM
HINT = nvml_errors.PROFILING_HINT
OLD = "the driver is too old for this query"
MIG = "not supported with MIG (the GPU is divided into instances)"
MIG_NOTE = "MIG: the GPU is divided into instances; not all is given for one, and what is given may be of all"
FALLBACK = "power_average_w: from nvmlDeviceGetPowerUsage; on some devices that is instantaneous"

# scenario: NVML there and why not, GPM there and why not, the columns that some sample has
EXPECTED: dict[str, tuple[tuple[bool, str], tuple[bool, str], set[str]]] = {
    "hopper_gpm": ((True, ""), (True, ""), NVML | GPM),
    "ampere": ((True, ""), (False, "the device has no GPM (Hopper and newer have it)"), NVML),
    "mig": (
        (True, f"{MIG_NOTE}; clock_event_reasons, energy_j, gpu_util_pct, memory_clock_mhz, pcie_rx_kbps, pcie_tx_kbps, power, "
               f"power_average_w, sm_clock_mhz, temperature_c: {MIG}"),
        (False, "the GPU is divided into MIG instances, and GPM is read of whole GPUs only"),
        {"gpu_memory_bytes"},
    ),
    "permission_denied": (
        (True, "energy_j, pcie_rx_kbps, pcie_tx_kbps: no permission"),
        (False, f"no permission; {HINT}"),
        NVML - {"energy_j", "pcie_rx_kbps", "pcie_tx_kbps"},
    ),
    "gpm_root_only": ((True, ""), (False, f"no permission; {HINT}"), NVML),
    "lost_mid_run": (
        (True, "the device is lost: it fell off the bus or cannot be reached; no NVML samples from there on; "
               "shutdown: the device is lost: it fell off the bus or cannot be reached"),
        (True, "the device is lost: it fell off the bus or cannot be reached; no GPM from there on"),
        NVML | GPM,
    ),
    "no_driver": (
        (False, "no NVIDIA driver library (libnvidia-ml) here"),
        (False, "NVML is not available"),
        set(),
    ),
    "driver_too_old": ((True, f"power: {OLD}; {FALLBACK}"), (False, OLD), NVML - {"power_instant_w"}),
    "blackwell": (
        (True, "temperature_c: timed out, in some readings"),
        (True, "gpm_fp16_pct: not supported by this device; gpm_tensor_pct: no number in some readings; "
               "some readings: timed out"),
        NVML | GPM - {"gpm_tensor_pct", "gpm_fp16_pct"},
    ),
    "driver_restarted": (
        (True, "NVML is not initialised; the driver may have been restarted; no NVML samples from there on; "
               "shutdown: NVML is not initialised; the driver may have been restarted"),
        (True, "NVML is not initialised; the driver may have been restarted; no GPM from there on; "
               "freeing the buffers: NVML is not initialised; the driver may have been restarted"),
        NVML | GPM,
    ),
    "several_without_uuid": (
        (False, "PyTorch does not tell the UUID of the device, and there are 8 GPUs to choose from"),
        (False, "NVML is not available"),
        set(),
    ),
    "single_without_uuid": ((True, ""), (False, "the device has no GPM (Hopper and newer have it)"), NVML),
}  # fmt: skip
HANGS = "hangs"
GONE = {"lost_mid_run": 360, "driver_restarted": 240}


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.ms = 0

    def seconds(self) -> float:
        return self.ms / 1e3

    def ns(self) -> int:
        return self.ms * 1_000_000

    def advance(self, _: float) -> bool:
        self.ms += 120
        return self.ms >= 600


def sampled_in_process(name: str) -> tuple[Replay, list[dict[str, float]], dict[str, Any]]:
    """Return the replay, the rows and the last line of a sampler that takes a sample every 120 ms until 600 ms."""
    clock = Clock()
    replay = Replay(name, clock.seconds, lambda _: None)
    reader = NvmlReader(replay, replay.uuid, clock.ns)
    reader.open()
    out, process = io.StringIO(), ProcessReader(os.getpid())
    count = sample_until(clock.advance, 0.0, process, reader, out)
    reader.close()
    return replay, [json.loads(line) for line in out.getvalue().splitlines()], summary(process, reader, "", count)


def facts(pair: tuple[bool, str]) -> dict[str, Any]:
    return {"available": pair[0], "reason": pair[1]}


def test_every_scenario_is_expected_and_says_where_it_is_from() -> None:
    assert {*EXPECTED, HANGS} == set(SCENARIOS)
    for path in RECORDINGS.glob("*.json"):
        document = json.loads(path.read_text())
        assert "Not recorded on hardware" in document["origin"]
        times = [entry["at_ms"] for entry in document["calls"]]
        assert times == sorted(times)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_scenario_in_this_process(name: str) -> None:
    replay, rows, last = sampled_in_process(name)
    of_nvml, of_gpm, columns = EXPECTED[name]
    assert last == {"samples": 6, "psutil": facts((True, "")), "nvml": facts(of_nvml), "gpm": facts(of_gpm)}
    assert {column for row in rows for column in row} & (NVML | GPM) == columns
    assert all("rss_bytes" in row for row in rows)
    if name not in GONE:
        assert replay.held == {}
        assert replay.initialised == 0


def test_hopper_row_by_row() -> None:
    _, rows, _ = sampled_in_process("hopper_gpm")
    assert not GPM & set(rows[0])  # one sample is no interval
    assert [row["gpm_dram_pct"] for row in rows[1:]] == [28.75, 31.5, 31.75, 31.25, 31.25]
    second = {name: rows[1][name] for name in (*GPM, "power_average_w", "energy_j", "temperature_c", "gpu_memory_bytes")}
    assert second == {
        "gpm_sm_util_pct": 88.5, "gpm_sm_occupancy_pct": 31.25, "gpm_tensor_pct": 46.5, "gpm_dram_pct": 28.75,
        "gpm_fp32_pct": 6.5, "gpm_fp16_pct": 2.25, "power_average_w": 512.0, "energy_j": 9063.6, "temperature_c": 47.0,
        "gpu_memory_bytes": 3 * 2**30,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "gone_ms"), GONE.items())
def test_what_was_read_before_the_device_went_stays(name: str, gone_ms: int) -> None:
    _, rows, _ = sampled_in_process(name)
    before = gone_ms // 120
    assert all(row["sm_clock_mhz"] == 1980 for row in rows[:before])
    assert not any((NVML | GPM) & set(row) for row in rows[before:])
    assert len(rows) == 6


def test_a_reading_that_fails_in_passing_is_left_out_and_the_next_one_spans_from_the_last_sample() -> None:
    _, rows, _ = sampled_in_process("blackwell")
    assert ["gpm_sm_util_pct" in row for row in rows] == [False, True, False, True, True, True]
    assert ["temperature_c" in row for row in rows] == [True, True, False, True, True, True]


@pytest.mark.parametrize("name", ["hopper_gpm", "ampere", "mig", "permission_denied", "lost_mid_run", "no_driver"])
def test_a_scenario_through_the_sampler_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MODULE", "tests.capture.replayed_sampler")
    monkeypatch.setenv("REPLAY", name)
    with telemetry.sampled(tmp_path, 0.12, True, Replay(name).uuid) as found:
        wait_for_rows(tmp_path, 6)
    of_nvml, of_gpm, columns = EXPECTED[name]
    assert found.facts is not None
    assert found.facts.psutil == SourceFacts(available=True)
    assert found.facts.nvml == SourceFacts(available=of_nvml[0], reason=of_nvml[1])
    assert found.facts.gpm == SourceFacts(available=of_gpm[0], reason=of_gpm[1])
    frame = found.frame()
    assert {column for column in NVML | GPM if frame[column].notna().any()} == columns
    assert frame["rss_bytes"].notna().all()


def wait_for_rows(directory: Path, count: int) -> None:
    path = directory / "samples.raw.jsonl"
    while not path.exists() or path.read_text().count("\n") < count:
        time.sleep(0.02)


def test_a_call_that_never_returns_costs_the_end_of_the_samples_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "MODULE", "tests.capture.replayed_sampler")
    monkeypatch.setattr(processes.stop, "__defaults__", (0.2,))
    monkeypatch.setenv("REPLAY", HANGS)
    with telemetry.sampled(tmp_path, 0.12, True, Replay(HANGS).uuid) as found:
        wait_for_rows(tmp_path, 2)
        time.sleep(0.5)
    assert found.facts is not None
    assert found.facts.nvml.reason == "the sampler ended with status -9 and was killed"
    assert found.facts.samples == len(found.frame()) >= 2
    assert found.frame()["sm_clock_mhz"].iloc[0] == 1980


def test_the_replay_refuses_what_is_not_recorded() -> None:
    replay = Replay("hopper_gpm")
    with pytest.raises(pynvml.NVMLError) as early:
        replay.nvmlDeviceGetHandleByUUID(replay.uuid)
    assert early.value.value == pynvml.NVML_ERROR_UNINITIALIZED
    replay.nvmlInit()
    device = replay.nvmlDeviceGetHandleByUUID(replay.uuid)
    for call, args in (
        ("nvmlDeviceGetHandleByUUID", ("GPU-another",)),
        ("nvmlDeviceGetFanSpeed", (device,)),
        ("nvmlDeviceGetClockInfo", (device, 0)),
        ("nvmlGpmSampleGet", (device, ctypes.cast(8, pynvml.c_nvmlGpmSample_t))),
    ):
        with pytest.raises(RefusedError):
            getattr(replay, call)(*args)


def test_the_replay_refuses_gpm_samples_that_are_too_close(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    replay = Replay("hopper_gpm", clock.seconds)
    reader = NvmlReader(replay, replay.uuid, clock.ns)
    reader.open()
    monkeypatch.setattr(gpm, "PERIOD_NS", 0)
    reader.sample()
    clock.ms = 99
    with pytest.raises(RefusedError, match=r"99\.0 ms apart"):
        reader.sample()


def test_the_time_that_a_gpm_sample_takes_is_not_part_of_the_100_ms() -> None:
    clock = Clock()
    replay = Replay("hopper_gpm", clock.seconds)
    reader = NvmlReader(replay, replay.uuid, clock.ns)
    reader.open()
    taken = replay._after_nvmlGpmSampleGet

    def slow(entry: dict[str, Any], device: Any, sample: Any) -> Any:
        clock.ms += 70
        return taken(entry, device, sample)

    replay._after_nvmlGpmSampleGet = slow  # type: ignore[method-assign]
    assert reader.gpm.sample() == {}  # asked at 0, taken at 70
    clock.ms = 150
    assert reader.gpm.sample() == {}  # 150 ms after it was asked for, 80 ms after it was taken
    clock.ms = 170
    assert reader.gpm.sample()["gpm_dram_pct"] == 31.5  # taken at 240


def test_every_return_code_of_nvml_has_words_of_its_own() -> None:
    codes = {getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML_ERROR_")}
    assert len(codes) == 31
    found = {code: nvml_errors.of_code(code) for code in codes}
    assert len({failure.words for failure in found.values()}) == len(codes)
    assert not any(failure.words.startswith("NVML error ") for failure in found.values())
    assert nvml_errors.of_code(4711).words == "NVML error 4711, which is newer than this list"
    gone = {code for code, failure in found.items() if failure.outlook is nvml_errors.Outlook.GONE}
    assert gone == {1, 8, 9, 12, 15, 16, 18, 28}
    passing = {code for code, failure in found.items() if failure.outlook is nvml_errors.Outlook.PASSING}
    assert passing == {10, 11, 19, 20, 21, 23, 27, 29, 999}
    assert found[pynvml.NVML_ERROR_TIMEOUT].words == "timed out"
    assert found[pynvml.NVML_ERROR_FREQ_NOT_SUPPORTED].words == "the frequency is not supported"


@pytest.mark.parametrize("code", sorted({getattr(pynvml, n) for n in dir(pynvml) if n.startswith("NVML_ERROR_")}))
@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc",
                                  "nvmlGpmSampleGet", "nvmlGpmMetricsGet", "nvmlDeviceGetClockInfo", "nvmlGpmSampleFree",
                                  "nvmlShutdown", "nvmlDeviceGetFieldValues", "nvmlDeviceIsMigDeviceHandle"])  # fmt: skip
def test_no_code_of_any_call_ends_the_sampler(code: int, call: str) -> None:
    clock = Clock()
    replay = Replay("hopper_gpm", clock.seconds)

    def fail(*_: object) -> None:
        raise pynvml.NVMLError(code)

    setattr(replay, call, fail)
    replay.nvmlDeviceGetPowerUsage = lambda _: 500_000  # where the fields are refused for good
    reader = NvmlReader(replay, replay.uuid, clock.ns)
    there = reader.open()
    out = io.StringIO()
    assert sample_until(clock.advance, 0.0, ProcessReader(os.getpid()), reader, out) == 6
    reader.close()
    said = summary(ProcessReader(os.getpid()), reader, "", 6)
    words = nvml_errors.of_code(code).words
    if call in ("nvmlInit", "nvmlDeviceGetHandleByUUID"):
        assert not there
        assert words in said["nvml"]["reason"]
    elif call.startswith("nvmlGpm") and call != "nvmlGpmSampleFree":
        assert not said["gpm"]["available"]
        assert words in said["gpm"]["reason"]
        gone = nvml_errors.of_code(code).outlook is nvml_errors.Outlook.GONE and call.endswith("Get")
        assert ("sm_clock_mhz" in json.loads(out.getvalue().splitlines()[-1])) is not gone
    elif call != "nvmlDeviceIsMigDeviceHandle":
        assert words in said["nvml"]["reason"] + said["gpm"]["reason"]


def test_a_package_that_does_not_fit_the_driver_is_survived() -> None:
    clock = Clock()
    replay = Replay("hopper_gpm", clock.seconds)
    for name, error in (("nvmlGpmQueryDeviceSupport", AttributeError("gone")), ("nvmlDeviceGetMemoryInfo", OSError("broken"))):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        setattr(replay, name, fail)
    reader = NvmlReader(replay, replay.uuid, clock.ns)
    assert reader.open()
    assert reader.gpm.reason == "the installed nvidia-ml-py does not know this query"
    assert "sm_clock_mhz" in reader.sample()
    assert reader.summary() == "gpu_memory_bytes: OSError in nvidia-ml-py"


def test_gpm_without_a_number_is_not_there() -> None:
    clock = Clock()
    replay = Replay("hopper_gpm", clock.seconds)
    reader = NvmlReader(replay, replay.uuid, clock.ns)
    reader.open()
    real = replay._after_nvmlGpmMetricsGet

    def empty(entry: dict[str, Any], query: Any) -> Any:
        query = real(entry, query)
        for metric in query.metrics[: query.numMetrics]:
            metric.value = math.nan
        return query

    replay._after_nvmlGpmMetricsGet = empty  # type: ignore[method-assign]
    reader.sample()
    clock.advance(0)
    assert not GPM & set(reader.sample())
    assert not reader.gpm.available
    assert reader.gpm.reason.startswith("no reading gave a number; gpm_dram_pct: no number in some readings")


def test_a_recording_of_one_sample_has_no_gpm() -> None:
    replay = Replay("hopper_gpm", lambda: 0.0)
    reader = NvmlReader(replay, replay.uuid, lambda: 0)
    reader.open()
    reader.sample()
    reader.close()
    assert (reader.gpm.available, reader.gpm.reason) == (False, gpm.TOO_SHORT)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hopper_gpm", ""),
        *((name, EXPECTED[name][1][1]) for name in ("ampere", "mig", "permission_denied", "gpm_root_only")),
        ("no_driver", EXPECTED["no_driver"][0][1]),
    ],
)
def test_gpm_is_tried_before_the_model_is_looped(name: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    replay = Replay(name, clock.seconds)
    monkeypatch.setattr(nvml, "load", lambda: replay)
    monkeypatch.setattr(gpm.GpmReader.__init__, "__defaults__", (clock.ns,))
    monkeypatch.setattr(nvml.NvmlReader.__init__, "__defaults__", (clock.ns,))
    assert nvml.gpm_failure(replay.uuid, clock.advance) == why
    assert replay.held == {}
    assert replay.initialised == 0


def test_without_the_package_there_is_a_reason() -> None:
    def missing() -> Any:
        raise ImportError

    assert open_nvml(True, "GPU-1", missing) == (None, "nvidia-ml-py is not installed: pip install nvidia-ml-py")
