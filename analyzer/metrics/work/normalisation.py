"""Norms and softmax."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, read_bytes, register
from analyzer.schema.operators import OpCall


def _per_input(flop_per_element: float, *names: str) -> None:
    """Register operators whose cost follows the elements of their first input, and whose first output has its shape."""

    def formula(call: OpCall) -> Work | None:
        x = call.tensor(0)
        if x is None:
            return None
        out = (call.results() or [x])[0]
        side = call.results()[1:]
        written = out.numel * out.itemsize + sum(t.numel * t.itemsize for t in side)
        return Work(flop_per_element * x.numel, read_bytes(call.tensors()) + written)

    register(*names)(formula)


# one pass for the sum and the sum of squares (3), one multiply-add to normalise and scale (2)
_per_input(5.0, "native_layer_norm", "native_group_norm", "_fused_rms_norm")
# subtract, exponential, sum, scale
_per_input(4.0, "_softmax", "_log_softmax", "_safe_softmax")


@register("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit",
           "_native_batch_norm_legit_no_training", "batch_norm_inference")  # fmt: skip
def _batch_norm(call: OpCall) -> Work | None:
    """One multiply-add per element with constant statistics, three FLOP more where they are computed (training, position 5)."""
    x = call.tensor(0)
    if x is None:
        return None
    training = call.value(5) is True and "no_training" not in call.name
    out = (call.results() or [x])[0]
    return Work((5.0 if training else 2.0) * x.numel, read_bytes(call.tensors()) + out.numel * out.itemsize)
