"""The pass that loops the model for GPM, and whole captures whose sampler meets every failure of NVML. No GPU is needed."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

from analyzer.capture import looping, processes, session, telemetry
from analyzer.progress import Reporter
from analyzer.schema.run import SourceFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir
from tests.capture.replay import Replay
from tests.capture.test_nvml_replay import EXPECTED, HANGS

CPU = torch.device("cpu")


def test_the_model_is_looped_on_a_gpu_with_gpm_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def failure(uuid: str | None) -> str:
        asked.append(uuid)
        return "the device has no GPM"

    monkeypatch.setattr(looping, "gpm_failure", failure)
    gpu = torch.device("cuda", 0)
    assert looping.refusal(CPU, None, "auto") == "the model runs on the CPU"
    assert looping.refusal(gpu, "GPU-1", "none").startswith("counters=none")
    assert asked == []
    assert looping.refusal(gpu, "GPU-1", "auto") == "the device has no GPM"
    assert asked == ["GPU-1"]


def test_a_driver_that_hangs_does_not_hang_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(looping, "gpm_failure", lambda uuid: str(over.wait(30)))
    monkeypatch.setattr(looping, "_PATIENCE_S", 0.2)
    assert looping.refusal(torch.device("cuda", 0), "GPU-1", "auto") == "NVML did not answer within 0.2 s"
    over.set()


def test_a_loop_runs_once_at_least_and_counts_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 2.0, 3.5])
    monkeypatch.setattr(looping.time, "monotonic", lambda: next(now))
    steps: list[int] = []
    assert looping.loop(lambda: steps.append(1), CPU, 0.12) == 3
    assert len(steps) == 3
    late = iter([0.0, 99.0])
    monkeypatch.setattr(looping.time, "monotonic", lambda: next(late))
    assert looping.loop(lambda: None, CPU, 0.12) == 1
    slow = iter([0.0, 3.5, 9.9, 10.0])  # a sampler that reads every two seconds needs ten
    monkeypatch.setattr(looping.time, "monotonic", lambda: next(slow))
    assert looping.loop(lambda: None, CPU, 2.0) == 3


def test_on_a_gpu_no_more_batches_are_queued_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    issued, finished = [0], [0]
    most = 0

    class Event:
        def record(self, _: object) -> None:
            self.batch = issued[0]

        def synchronize(self) -> None:
            finished[0] = self.batch

    def step() -> None:
        nonlocal most
        issued[0] += 1
        most = max(most, issued[0] - finished[0])

    ended: list[object] = []
    now = iter([0.0, *[1.0] * 40, 3.0])
    monkeypatch.setattr(looping.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "synchronize", ended.append)
    gpu = torch.device("cuda", 0)
    assert looping.loop(step, gpu, 0.12) == 41
    assert most == looping.QUEUED + 1
    assert ended == [gpu]


def test_a_capture_with_gpm_has_the_pass_and_its_readings(
    small: CaptureSettings, vit: ModelChoice, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path with GPM played back: a model on the CPU that the session takes for one on a GPU with GPM."""
    replayed(monkeypatch, "hopper_gpm")
    monkeypatch.setattr(looping, "refusal", lambda *_: "")
    monkeypatch.setattr(looping, "LOOP_S", 1.0)
    run = rundir.open_run(session.capture(vit, dataclasses.replace(small, sample_period_s=0.12), reporter))
    assert run.facts is not None
    assert run.facts.telemetry is not None
    assert run.facts.telemetry.gpm == SourceFacts(available=True)
    assert run.facts.telemetry.looped == SourceFacts(available=True)
    names = [p.name for p in run.facts.passes]
    assert names.index("untraced") + 1 == names.index("looped") == names.index("traced") - 1
    found = run.facts.passes[names.index("looped")]
    assert found.steps >= 1
    samples = rundir.read_samples(run)
    inside = samples["time_ns"].between(found.start_unix_ns, found.end_unix_ns)
    assert samples.loc[inside, "gpm_dram_pct"].notna().any()
    assert set(rundir.read_timings(run)["pass"]) == {"warmup", "untraced", "traced"}


@pytest.mark.parametrize("name", [*(n for n in EXPECTED if n != "hopper_gpm"), HANGS])
def test_no_failure_of_nvml_costs_a_run_anything_else(
    name: str, small: CaptureSettings, vit: ModelChoice, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed(monkeypatch, name)
    monkeypatch.setattr(processes.stop, "__defaults__", (2.0,))
    path = session.capture(vit, small, reporter)
    run = rundir.open_run(path)
    files = {rundir.RUN_FILE, rundir.TRACE_FILE, rundir.OPS_FILE, rundir.TIMINGS_FILE, rundir.SAMPLES_FILE}
    assert {entry.name for entry in path.iterdir()} == files
    assert run.facts is not None
    assert run.facts.telemetry is not None
    told = run.facts.telemetry
    assert told.looped == SourceFacts(available=False, reason="the model runs on the CPU")
    assert [p.name for p in run.facts.passes] == ["calibrate", "build", "warmup", "untraced", "traced", "operands"]
    assert (rundir.read_timings(run)["latency_ms"] > 0).all()
    samples = rundir.read_samples(run)
    assert len(samples) == told.samples
    if name == HANGS:
        return
    assert told.psutil == SourceFacts(available=True)
    assert told.nvml.available is EXPECTED[name][0][0]
    if not told.nvml.available:
        assert told.nvml.reason == EXPECTED[name][0][1]
    assert samples["rss_bytes"].notna().all()


def replayed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have sessions start a sampler that reads the recording ``name``, as if the model ran on a GPU."""
    monkeypatch.setattr(telemetry, "MODULE", "tests.capture.replayed_sampler")
    monkeypatch.setenv("REPLAY", name)
    uuid = Replay(name).uuid
    monkeypatch.setattr(session._Session, "_gpu", lambda _: (True, uuid))
