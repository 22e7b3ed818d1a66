"""A capture with a counter pass: the GPU is made believe, everything else is real."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from ncu_stage import GROUPS, TINY, Stage, alive, set_up

from analyzer.analysis import analyze
from analyzer.capture import counting, points, repeats, session
from analyzer.capture.answers import Answer
from analyzer.capture.identity import describe
from analyzer.capture.ncu import locate, provider, supervise
from analyzer.capture.permission import Obstacle
from analyzer.capture.presets import Resolved, resolve
from analyzer.capture.probe import Trial
from analyzer.errors import DeviceError, UnsupportedError
from analyzer.progress import Reporter
from analyzer.schema.run import DeviceFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir

LAUNCHES = 4


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    found = set_up(tmp_path, monkeypatch)
    found.play(kernels=LAUNCHES)

    def believe(asked: str, resolved: Resolved) -> provider.Prepared | None:
        return None if asked == "none" else found.prepared(GROUPS[:2])

    def reads(tool: locate.Tool, capability: str, device: str, groups: tuple[tuple[str, ...], ...]) -> Trial:
        return Trial(frozenset(name for group in groups for name in group))

    monkeypatch.setattr(provider, "prepare", believe)
    monkeypatch.setattr(provider, "probe", reads)  # the trial of its own tests is real
    return found


def settings(small: CaptureSettings, **changes: Any) -> CaptureSettings:
    return dataclasses.replace(small, image_size=8, **changes)


def record(given: CaptureSettings, reporter: Reporter) -> Path:
    """Record a run as the tasks do: capture, then count."""
    path = session.capture(TINY, given, reporter)
    counting.count([(path, TINY)], given, reporter)
    return path


def test_a_run_comes_out_with_its_counters(stage: Stage, small: CaptureSettings, reporter: Reporter) -> None:
    given = settings(small, repeats=2)
    planned: Any = session.plan(TINY, given)
    assert planned["passes"]["counters"].startswith("2 processes")
    assert rundir.COUNTERS_FILE in planned["files"]
    path = record(given, reporter)
    run = rundir.open_run(path)
    assert run.counters == path / rundir.COUNTERS_FILE
    assert run.facts is not None
    facts = run.facts.counters
    assert facts is not None
    assert facts.available
    assert facts.passes == 2
    assert facts.missing == ()
    assert [p.name for p in run.facts.passes][-2:] == ["repeats", "counters"]
    assert run.facts.passes[-1].steps == 2
    assert not [warning for warning in run.facts.warnings if warning.startswith("counters")]
    names = {entry.name for entry in path.iterdir()}
    assert names == set(planned["files"])
    assert [entry for entry in path.parent.iterdir() if entry != path] == []
    analysis = analyze(path)
    assert analysis.counters is not None  # a CPU has no kernels to match them with, and they are read all the same
    assert analysis.counters.rows == LAUNCHES * 2
    assert analysis.counters.kind == "ncu"
    assert "2025.3.1" in analysis.counters.tool
    assert analysis.counters.mode == "warm"
    assert analysis.counters.refused


def test_a_pass_that_fails_keeps_the_run(stage: Stage, small: CaptureSettings, reporter: Reporter) -> None:
    stage.play("denied", stub=True)
    path = record(settings(small), reporter)
    run = rundir.open_run(path)
    assert run.counters is None
    assert run.facts is not None
    assert run.facts.counters is not None
    assert not run.facts.counters.available
    assert "ERR_NVGPUCTRPERM" in run.facts.counters.reason
    assert run.facts.counters.hint
    assert [w for w in run.facts.warnings if w.startswith("counters: group 1 of 2 failed")]
    assert len(rundir.read_timings(run)) > 0
    assert run.facts.passes[-1].name == "counters"
    assert run.facts.passes[-1].steps == 0
    analyze(path)


def test_what_is_known_to_fail_is_recorded_without_a_pass(
    stage: Stage, small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstacle = Obstacle("ncu was not found", "install it")
    monkeypatch.setattr(provider, "prepare", lambda *_: provider.Prepared("9.0", obstacle=obstacle))
    planned: Any = session.plan(TINY, settings(small))
    assert "counters" not in planned["passes"]
    assert "no hardware counters: ncu was not found" in planned["notes"]
    run = rundir.open_run(record(settings(small), reporter))
    assert run.facts is not None
    assert run.facts.counters is not None
    assert (run.facts.counters.reason, run.facts.counters.hint) == ("ncu was not found", "install it")
    assert "counters" not in [p.name for p in run.facts.passes]


def test_counters_that_are_demanded_and_cannot_be_had_stop_before_anything_runs(
    small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(asked: str, resolved: Resolved) -> None:
        raise DeviceError("counters=ncu: ncu was not found", "install it")

    monkeypatch.setattr(provider, "prepare", refuse)
    for start in (lambda: session.plan(TINY, settings(small)), lambda: session.capture(TINY, settings(small), reporter)):
        with pytest.raises(DeviceError, match="ncu was not found"):
            start()
    assert not small.out_root.exists()


def test_ctrl_c_while_counting_keeps_the_run(
    stage: Stage, small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(small)
    path = session.capture(TINY, given, reporter)
    before = rundir.open_run(path)
    assert before.facts is not None
    assert before.facts.counters is not None
    assert (
        before.facts.counters.reason == "the pass that counts was not run, or did not come to its end"
    )  # should we be killed now

    def interrupted(*_: object) -> supervise.Ended:
        raise KeyboardInterrupt

    told: list[str] = []
    monkeypatch.setattr(supervise, "run", interrupted)
    monkeypatch.setattr(Reporter, "say", lambda _, text: told.append(text))
    with pytest.raises(KeyboardInterrupt):
        counting.count([(path, TINY)], given, reporter)
    assert told == [f"Tiny: interrupted while counting; the run is kept, without counters: {path}"]
    run = rundir.open_run(path)
    assert run.facts is not None
    assert run.facts.counters is not None
    assert (run.facts.counters.available, run.facts.counters.reason) == (False, "interrupted while counting")
    assert run.counters is None
    assert [entry.name for entry in path.iterdir() if entry.name.startswith(".")] == []
    analyze(path)
    assert alive(stage.processes()) == []


def test_a_fault_of_ours_while_counting_keeps_the_run(
    stage: Stage, small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> supervise.Ended:
        raise ValueError("a column of moons")

    monkeypatch.setattr(supervise, "run", broken)
    run = rundir.open_run(record(settings(small), reporter))
    assert run.facts is not None
    assert run.facts.counters is not None
    assert run.facts.counters.reason == "ValueError: a column of moons"
    assert len(rundir.read_timings(run)) > 0


def test_what_blocks_one_run_is_not_tried_for_the_next(stage: Stage, small: CaptureSettings, reporter: Reporter) -> None:
    stage.play("denied", stub=True)
    given = settings(small)
    paths = [session.capture(TINY, given, reporter) for _ in range(2)]
    counting.count([(path, TINY) for path in paths], given, reporter)
    assert len(stage.calls()) == 1
    facts = [rundir.read_facts(path / rundir.RUN_FILE).counters for path in paths]
    assert facts[0] == facts[1]
    assert facts[0] is not None
    assert "ERR_NVGPUCTRPERM" in facts[0].reason


def test_a_model_that_fails_does_not_block_the_next(stage: Stage, small: CaptureSettings, reporter: Reporter) -> None:
    given = settings(small)
    paths = [session.capture(TINY, given, reporter) for _ in range(2)]
    counting.count([(paths[0], ModelChoice("cnn", "", "Hungry", factory="tiny:hungry")), (paths[1], TINY)], given, reporter)
    first, second = (rundir.read_facts(path / rundir.RUN_FILE).counters for path in paths)
    assert first is not None
    assert second is not None
    assert (first.available, second.available) == (False, True)


def test_demanded_counters_are_tried_on_one_kernel_before_the_run(
    stage: Stage, small: CaptureSettings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def trial(tool: locate.Tool, capability: str, device: str, groups: tuple[tuple[str, ...], ...]) -> Trial:
        assert groups == GROUPS[:2]
        tried.append(capability)
        return Trial(obstacle=Obstacle("no permission", "ask for it"))

    monkeypatch.setattr(provider, "probe", trial)
    with pytest.raises(DeviceError, match="counters=ncu: no permission"):
        session.capture(TINY, settings(small, counters="ncu"), reporter)
    assert tried == ["9.0"]
    assert not small.out_root.exists()
    paths = [session.capture(TINY, settings(small), reporter) for _ in range(2)]
    counting.count([(path, TINY) for path in paths], settings(small), reporter)
    assert tried == ["9.0"]  # once in a process, before the first pass where counters are not demanded
    assert stage.calls() == []
    for path in paths:
        told = rundir.read_facts(path / rundir.RUN_FILE).counters
        assert told is not None
        assert (told.available, told.reason, told.hint) == (False, "no permission", "ask for it")


def test_neither_repeats_nor_the_counted_process_count_again(small: CaptureSettings) -> None:
    asked = settings(small, counters="ncu")
    given = repeats.fixed(asked, resolve(asked))
    assert given["counters"] == "none"
    assert given["repeats"] == 1


@pytest.mark.parametrize(("asked", "given"), [("auto", "none"), ("none", "none"), ("ncu", "ncu")])
def test_a_point_of_a_sweep_counts_only_when_told_to(
    asked: str, given: str, small: CaptureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = points.Identity(
        facts=DeviceFacts(type="cuda", name="A GPU"), lock="gpu-0", versions={}, batch_size=1, image_size=8, dtype="float32",
        threads=1, short_forms={"float32": "float32"},
    )  # fmt: skip
    plan = points.plan_point(TINY, settings(small, counters=asked), identity)
    plain = points.plan_point(TINY, settings(small), identity)
    assert (plan.key == plain.key) == (given == "none")
    requests: list[dict[str, Any]] = []

    def answer(module: str, request: dict[str, Any], keep: object) -> Answer:
        requests.append(request)
        return Answer(None, status=1)

    monkeypatch.setattr(points, "ask", answer)
    store = points.PointStore(small.out_root)
    store.lock(plan.key)
    points.measure(plan, store)
    assert requests[0]["settings"]["counters"] == given


def test_a_sweep_with_counters_stops_where_there_are_none(small: CaptureSettings) -> None:
    identity = describe("cpu")
    assert points.plan_point(TINY, settings(small), identity).key
    with pytest.raises(UnsupportedError, match="counters=ncu: it needs an NVIDIA GPU, and cpu is none"):
        points.plan_point(TINY, settings(small, counters="ncu"), identity)
    without = msgspec.structs.replace(identity, no_counters=("ncu was not found", "install it"))
    with pytest.raises(UnsupportedError, match="counters=ncu: ncu was not found") as raised:
        points.plan_point(TINY, settings(small, counters="ncu"), without)
    assert raised.value.hint == "install it"


@pytest.mark.gpu
def test_on_a_gpu_the_same_path_runs(small: CaptureSettings, reporter: Reporter) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    given = dataclasses.replace(small, device="cuda", image_size=64)
    prepared = provider.prepare("auto", resolve(given))
    assert prepared is not None
    if not prepared.ready:
        pytest.skip(f"no counters here: {prepared.obstacle}")
    path = record(given, reporter)
    facts = rundir.read_facts(path / rundir.RUN_FILE)
    print(facts.counters, facts.warnings)
    assert facts.counters is not None
    assert facts.counters.available, facts.counters.reason
    assert facts.counters.missing == ()
    found = analyze(path).counters
    assert found is not None
    assert found.matched_pct >= 95, found.refused
