"""The gate on identical runs of two models that were recorded once, on a machine that others used too and on a quiet one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis import digests
from analyzer.insight.gate import gate_run, hold_against
from analyzer.schema.gate import GateRun
from benchmarks.gate_noise import DATA, MODELS, RECORDINGS, RUNS, SLOWED, recorded, slowed, state_of, steadiest

CASES = [(name, model) for name in RECORDINGS for model in MODELS]


@pytest.fixture(scope="module")
def recordings() -> dict[tuple[str, str], list[GateRun]]:
    return {(name, model): runs for name in RECORDINGS for model, runs in recorded(name).items()}


def test_the_recordings_are_small_and_whole(recordings: dict[tuple[str, str], list[GateRun]]) -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 300_000
    assert list(recordings) == CASES
    for (name, _), runs in recordings.items():
        assert len(runs) == RUNS[name]
        assert all([len(process) for process in run.samples] == [100] * 3 for run in runs)
        assert all(len(group.step_us) == 36 for run in runs for group in run.groups)


@pytest.mark.parametrize("case", CASES)
def test_identical_runs_raise_no_false_alarm(recordings: dict[tuple[str, str], list[GateRun]], case: tuple[str, str]) -> None:
    gates = {(old.name, new.name): hold_against([new], [old], 5.0) for old, new in permutations(recordings[case], 2)}
    assert len(gates) == {"busy": 380, "quiet": 132}[case[0]]
    assert [names for names, gate in gates.items() if gate.failed] == []
    assert [names for names, gate in gates.items() if gate.rows("improved")] == []


@pytest.mark.parametrize("case", CASES)
def test_pooled_runs_raise_no_false_alarm(recordings: dict[tuple[str, str], list[GateRun]], case: tuple[str, str]) -> None:
    runs = recordings[case]
    for old, new in (
        (runs[: len(runs) // 2], runs[len(runs) // 2 :]),
        (runs[::2], runs[1::2]),
        (runs[:3], runs[3:6]),
        (runs[:1], runs[1:]),
    ):
        assert not hold_against(new, old, 5.0).failed
        assert not hold_against(old, new, 5.0).failed


@pytest.mark.parametrize("model", MODELS)
def test_noise_wider_than_the_effect_cannot_be_told(recordings: dict[tuple[str, str], list[GateRun]], model: str) -> None:
    noisiest = steadiest(recordings["busy", model], 20)[-2:]
    kind = SLOWED[model]
    gate = hold_against([slowed(noisiest[0], kind, 10)], [noisiest[1]], 5.0)
    assert state_of(gate, kind) == "cannot tell"
    assert not gate.failed
    assert gate.not_told


@pytest.mark.parametrize("model", MODELS)
def test_a_tenth_more_time_of_one_class_is_caught_and_named(
    recordings: dict[tuple[str, str], list[GateRun]], model: str
) -> None:
    """Five runs a side, none on both, of the ten steadiest on the quiet machine: single runs there do not resolve a tenth."""
    steady, kind = steadiest(recordings["quiet", model], 10), SLOWED[model]
    for old, new in ((steady[::2], steady[1::2]), (steady[1::2], steady[::2])):
        gate = hold_against([slowed(run, kind, 10) for run in new], old, 5.0)
        assert gate.failed
        rows = {row.name: row for _, row in gate.rows("regression")}
        assert set(rows) - {"whole model"} == {kind}
        assert kind in gate.reason
        assert rows[kind].ratio.value == pytest.approx(1.1, abs=0.03)
        assert {"attention": "scaled_dot_product_attention", "convolution": "convolution"}[kind] == rows[kind].responsible[0].op
        assert rows[kind].responsible[0].modules
        assert hold_against(new, old, 5.0).rows("regression") == []


@pytest.mark.parametrize("kind", ["convolution", "normalisation", "pointwise"])
def test_ten_percent_in_one_class_of_a_steady_gpu_trace_is_caught_from_one_run_a_side(public_traces: Path, kind: str) -> None:
    """A V100 repeats its kernels within a percent, so one recorded trace a side is enough there."""
    (found,) = digests([public_traces / "kineto_v100_resnet50_train_nw0.json.gz"])
    slowed = found.groups["kind"] == kind
    steps = [tuple(1.1 * us for us in row) if hit else row for row, hit in zip(found.groups["step_us"], slowed, strict=True)]
    groups = found.groups.assign(
        time_us=found.groups["time_us"] * np.where(slowed, 1.1, 1.0), step_us=pd.Series(steps, dtype=object)
    )
    old, new = gate_run(found), gate_run(replace(found, groups=groups))
    assert not hold_against([old], [old], 5.0).failed
    result = hold_against([new], [old], 5.0)
    assert [row.name for _, row in result.rows("regression") if row.by == "kind"] == [kind]
    row = next(row for _, row in result.rows("regression") if row.name == kind)
    assert row.ratio.value == pytest.approx(1.1, rel=1e-6)
    assert row.responsible[0].new_us == pytest.approx(1.1 * row.responsible[0].old_us)
    assert kind in result.reason
    assert "kernel time alone" in " ".join([result.models[0].basis, result.headline, result.reason, *result.models[0].warnings])
