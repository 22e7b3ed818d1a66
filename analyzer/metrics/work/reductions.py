"""Reductions."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, read_bytes, register, written_bytes
from analyzer.schema.operators import OpCall

_SELECTIONS = frozenset(("max", "min", "amax", "amin", "argmax", "argmin", "all", "any", "count_nonzero"))


@register("sum", "mean", "max", "min", "amax", "amin", "var", "std", "std_mean", "var_mean", "prod", "argmax", "argmin",
           "_adaptive_avg_pool2d", "norm", "linalg_vector_norm", "all", "any", "logsumexp", "cumsum",
           "count_nonzero")  # fmt: skip
def _reduction(call: OpCall) -> Work | None:
    """One FLOP per input element, three for a variance, none for a maximum; writes what is left of the input."""
    x = call.tensor(0)
    if x is None:
        return None
    short = call.name.removeprefix("aten::")
    per = 3.0 if short.startswith(("var", "std")) else 0.0 if short in _SELECTIONS else 1.0
    return Work(per * x.numel, read_bytes(call.tensors()) + written_bytes(call, []))
