"""Whole training steps of the models of conf/: every operator has a formula, with and without recorded outputs."""

from __future__ import annotations

import pytest

from analyzer.metrics.work import work_of
from analyzer.schema.operators import OpCall
from analyzer.trace.kinds import operator_kind
from tests.metrics.test_model_flop import EVERY
from tests.metrics.test_work_oracle import recorded


@pytest.mark.parametrize("name", EVERY)
def test_every_operator_of_a_training_step_has_a_formula(name: str) -> None:
    import torch
    from torch.nn import functional as F  # noqa: N812

    from analyzer.capture.workload import load_timm

    with torch.device("meta"):
        model = load_timm().create_model(name).train()
        images = torch.empty(2, *model.default_cfg["input_size"])
        labels = torch.empty(2, dtype=torch.long)

    def step() -> None:
        out = model(images)
        (F.cross_entropy(out, labels, label_smoothing=0.1) if out.ndim == 2 else out.mean()).backward()

    calls = recorded(step)
    assert any(call.name.endswith("backward") for call in calls)
    for call in calls:
        exact, guessed = work_of(call), work_of(OpCall(call.name, call.inputs))
        assert exact is not None, call
        assert exact.basis == "formula", call
        assert exact.flop == 0 or operator_kind(call.name) != "view", call
        assert guessed is not None, call
        if guessed.bytes_high is None:
            assert (guessed.flop, guessed.bytes) == (exact.flop, exact.bytes), call
        else:
            assert guessed.bytes <= exact.bytes <= guessed.bytes_high, call
