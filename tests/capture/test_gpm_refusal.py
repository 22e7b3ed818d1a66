"""Whether the model is looped for GPM, asked of NVML as a run on a GPU asks, in whole captures with every recording."""

from __future__ import annotations

import dataclasses
import functools
import time

import pytest
import torch

from analyzer.capture import looping, nvml, processes, session
from analyzer.progress import Reporter
from analyzer.schema.run import RunFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir
from tests.capture.replay import Replay
from tests.capture.test_gpm_pass import replayed
from tests.capture.test_nvml_replay import EXPECTED, HANGS

READS_GPM = {"hopper_gpm", "blackwell", "lost_mid_run", "driver_restarted"}
"""Recordings whose first readings give numbers: what happens later meets the sampler inside the pass."""


def asked_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, name: str, late_s: float = 0.0) -> list[Replay]:
    """Let the session ask NVML of ``name`` in this process whether to loop; the model itself runs on the CPU.

    ``late_s``: how long the recording has gone on by then.
    """
    replayed(monkeypatch, name)
    asked: list[Replay] = []

    def load() -> Replay:
        asked.append(Replay(name))
        asked[-1]._began = time.monotonic() - late_s
        return asked[-1]

    real = looping.refusal
    monkeypatch.setattr(nvml, "load", load)
    monkeypatch.setattr(looping, "refusal", lambda device, *rest: real(torch.device("cuda", 0), *rest))
    monkeypatch.setattr(looping, "LOOP_S", 1.0)
    return asked


def facts_of(small: CaptureSettings, vit: ModelChoice, reporter: Reporter) -> tuple[RunFacts, rundir.Run]:
    run = rundir.open_run(session.capture(vit, dataclasses.replace(small, sample_period_s=0.12), reporter))
    assert run.facts is not None
    return run.facts, run


@pytest.mark.parametrize("name", EXPECTED)
def test_the_run_asks_nvml_and_survives_what_it_says(
    name: str, small: CaptureSettings, vit: ModelChoice, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_as_on_a_gpu(monkeypatch, name)
    facts, run = facts_of(small, vit, reporter)
    assert len(asked) == 1
    assert asked[0].calls[0] == "nvmlInit"
    if name != "driver_restarted":  # there the driver refuses to free them
        assert asked[0].held == {}  # nothing of the trial is left open beside the sampler
    assert facts.telemetry is not None
    assert facts.telemetry.looped is not None
    names = [p.name for p in facts.passes]
    assert facts.telemetry.looped.available is (name in READS_GPM)
    assert ("looped" in names) is (name in READS_GPM)
    if name not in READS_GPM:
        nvml_told, gpm_told, _ = EXPECTED[name]
        assert facts.telemetry.looped.reason == (gpm_told[1] if nvml_told[0] else nvml_told[1])
    assert (rundir.read_timings(run)["latency_ms"] > 0).all()
    assert {"traced", "operands"} <= set(names)
    assert rundir.read_samples(run)["rss_bytes"].notna().all()


def test_a_driver_that_hangs_costs_the_looped_pass_alone(
    small: CaptureSettings, vit: ModelChoice, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_as_on_a_gpu(monkeypatch, HANGS, late_s=10.0)
    monkeypatch.setattr(looping, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(processes.stop, "__defaults__", (2.0,))
    facts, run = facts_of(small, vit, reporter)
    assert facts.telemetry is not None
    assert facts.telemetry.looped is not None
    assert facts.telemetry.looped.reason == "NVML did not answer within 0.3 s"
    assert "looped" not in [p.name for p in facts.passes]
    assert (rundir.read_timings(run)["latency_ms"] > 0).all()


def test_a_device_that_is_lost_inside_the_pass_keeps_it_and_says_so(
    small: CaptureSettings, vit: ModelChoice, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial reads GPM well; the sampler, which began earlier, loses the device while the model is looped."""
    asked_as_on_a_gpu(monkeypatch, "lost_mid_run")
    monkeypatch.setattr(looping, "loop", functools.partial(_until_lost, looping.loop))
    facts, run = facts_of(small, vit, reporter)
    assert facts.telemetry is not None
    assert facts.telemetry.looped is not None
    assert facts.telemetry.looped.available
    assert "the device is lost" in facts.telemetry.gpm.reason
    assert "the device is lost" in facts.telemetry.nvml.reason
    looped = next(p for p in facts.passes if p.name == "looped")
    samples = rundir.read_samples(run)
    inside = samples[samples["time_ns"].between(looped.start_unix_ns, looped.end_unix_ns)]
    assert len(inside) >= 1
    assert inside["sm_clock_mhz"].isna().iloc[-1]  # no reading after the loss, and none made up
    assert inside["rss_bytes"].notna().all()


def _until_lost(loop: object, step: object, device: torch.device, period_s: float) -> int:
    assert callable(loop)
    return int(loop(step, device, max(period_s, 0.5)))  # 2.5 s at least: past the time at which the recording loses it
