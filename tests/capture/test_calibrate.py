from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from analyzer.capture import calibrate, ceilings
from analyzer.capture.environment import device_facts
from analyzer.capture.latency import spread_pct
from analyzer.capture.presets import Resolved, resolve
from analyzer.schema.run import Ceiling, DeviceFacts
from analyzer.schema.settings import CaptureSettings

FACTS = DeviceFacts(type="cpu", name="test", l3_bytes=1 << 20)
VERSIONS = {"torch": "x"}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Resolved:
    monkeypatch.setattr(calibrate, "_CPU_COPY_S", 0.05)
    monkeypatch.setattr(calibrate, "_CPU_MATMUL_S", 0.1)
    monkeypatch.setattr(calibrate, "_CPU_TARGET_S", 0.005)
    return resolve(CaptureSettings(device="cpu"))


def test_measures_then_takes_the_cache(settings: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    first = calibrate.calibrate(settings, FACTS, VERSIONS)
    assert first.origin == "measured"
    assert not first.warnings
    assert [(c.name, c.unit) for c in first.found] == [("copy", "GB/s"), ("matmul", "TFLOP/s")]
    for ceiling in first.found:
        assert 0 < ceiling.low <= ceiling.value <= ceiling.high
        assert ceiling.n >= 3
        assert ceiling.size
    monkeypatch.setattr(calibrate, "copy_ceiling", lambda *_: pytest.fail("the cache was not used"))
    again = calibrate.calibrate(settings, FACTS, VERSIONS)
    assert again.origin == "cache"
    assert again.found == first.found
    assert [path.name for path in ceilings.cache_path().parent.iterdir()] == ["ceilings.json"]


def test_force_and_off(settings: Resolved) -> None:
    stored = (Ceiling(name="copy", unit="GB/s", dtype="float32", value=1, low=1, high=1, n=1),)
    key = calibrate.cache_key(settings, FACTS, VERSIONS)
    assert ceilings.store(ceilings.cache_path(), key, stored) == ""
    assert calibrate.calibrate(settings, FACTS, VERSIONS).found == stored
    forced = calibrate.calibrate(dataclasses.replace(settings, calibrate="force"), FACTS, VERSIONS)
    assert len(forced.found) == 2
    assert calibrate.calibrate(dataclasses.replace(settings, calibrate="off"), FACTS, VERSIONS).found == ()


def test_the_key_tells_devices_and_settings_apart(settings: Resolved) -> None:
    key = calibrate.cache_key
    keys = {
        key(settings, FACTS, VERSIONS),
        key(dataclasses.replace(settings, dtype="bfloat16"), FACTS, VERSIONS),
        key(settings, device_facts(torch.device("cpu")), VERSIONS),
        key(settings, FACTS, {"torch": "y"}),
        key(settings, FACTS, {"torch": "x", "driver": "1"}),
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format_version": 1, "entries": {"k": 5}}', '{"format_version": 99, "entries": {}}']
)
def test_a_damaged_cache_is_ignored_with_a_warning(text: str, settings: Resolved) -> None:
    path = ceilings.cache_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = calibrate.calibrate(settings, FACTS, VERSIONS)
    assert found.origin == "measured"
    assert "ignored" in found.warnings[0]
    assert calibrate.calibrate(settings, FACTS, VERSIONS).origin == "cache"  # it is whole again


def test_a_cache_that_cannot_be_written(settings: Resolved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = calibrate.calibrate(settings, FACTS, VERSIONS)
    assert len(found.found) == 2
    assert any("could not be kept" in warning for warning in found.warnings)


def test_a_failed_measurement_is_left_out_and_not_kept(settings: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Ceiling:
        raise RuntimeError("not enough memory: you tried to allocate")

    fail.__name__ = "copy_ceiling"
    monkeypatch.setattr(calibrate, "copy_ceiling", fail)
    found = calibrate.calibrate(settings, FACTS, VERSIONS)
    assert [c.name for c in found.found] == ["matmul"]
    assert found.warnings == ("ceiling copy not measured: not enough memory",)
    assert not ceilings.cache_path().exists()


def test_copy_says_when_memory_limits_it(settings: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate.psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 30))
    found = calibrate.copy_ceiling(settings, facts_with_l3(1 << 40))
    assert found.size.startswith("128 MiB per buffer, limited by free memory")


def facts_with_l3(l3_bytes: int) -> DeviceFacts:
    return DeviceFacts(type="cpu", name="test", l3_bytes=l3_bytes)


def test_spread() -> None:
    assert spread_pct([10.0] * 5) == 0
    assert spread_pct([10, 10, 10, 10, 100]) == 0  # one hiccup
    assert spread_pct([8, 9, 10, 11, 12]) == pytest.approx(20)


def test_ceilings_are_those_of_the_threads_that_the_model_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def measured(*_: object) -> Ceiling:
        seen.append(torch.get_num_threads())
        return Ceiling(name="copy", unit="GB/s", dtype="float32", value=1.0, low=1.0, high=1.0, n=3)

    monkeypatch.setattr(calibrate, "copy_ceiling", measured)
    monkeypatch.setattr(calibrate, "matmul_ceiling", measured)
    before = torch.get_num_threads()
    other = before + 1
    settings = resolve(CaptureSettings(device="cpu", threads=other, dtype="float32"))
    calibrate.calibrate(settings, FACTS, VERSIONS)
    assert seen == [other, other]
    assert torch.get_num_threads() == before
