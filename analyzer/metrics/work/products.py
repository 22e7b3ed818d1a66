"""Matrix products."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, read_bytes, register, written_bytes
from analyzer.schema.operators import OpCall, TensorArg


@register("addmm", "mm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "mkldnn_linear", "_addmm_activation", "addmv", "mv")
def _matmul(call: OpCall) -> Work | None:
    """2 * M * N * K per batch, from the last two tensors that are multiplied."""
    a, b = _factors(call)
    if a is None or b is None or not a.shape or not b.shape:
        return None
    transposed_weight = call.name in ("aten::linear", "aten::mkldnn_linear")
    columns = b.shape[0] if transposed_weight else (b.shape[-1] if len(b.shape) > 1 else 1)
    batch = math.prod(b.shape[:-2]) if len(b.shape) > len(a.shape) else 1
    out_numel = batch * a.numel // max(a.shape[-1], 1) * columns
    out_bytes = written_bytes(call, [TensorArg((out_numel,), a.dtype)])
    return Work(2.0 * out_numel * a.shape[-1], read_bytes(call.tensors()) + out_bytes)


def _factors(call: OpCall) -> tuple[TensorArg | None, TensorArg | None]:
    first = 1 if call.name.rsplit("::", 1)[1] in ("addmm", "baddbmm", "addbmm", "_addmm_activation", "addmv") else 0
    return call.tensor(first), call.tensor(first + 1)
