"""Kernels that a compiler made of several operators: Triton and C++ code of Inductor, named after what was fused."""

from __future__ import annotations

import math
from itertools import permutations

from analyzer.metrics.work.registry import PER_ELEMENT, Work, register_where, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.fused import fused_kind, fused_operators

_BIAS = ("convolution", "addmm", "baddbmm", "bmm", "mm", "conv2d", "linear")
"""Outside a template only the bias of these is added; the product is another kernel."""

_TRAINING = {"_native_batch_norm_legit_functional": 5.0, "_native_batch_norm_legit": 5.0, "native_batch_norm": 5.0,
             "layer_norm": 5.0, "group_norm": 5.0, "rms_norm": 4.0, "softmax": 4.0, "log_softmax": 4.0}  # fmt: skip


@register_where(lambda name: bool(fused_operators(name)))
def _fused(call: OpCall) -> Work | None:
    """FLOP of the operators in the name, each once per element of the largest tensor; every tensor is read or written once.

    Approximation: the trace does not tell inputs from outputs; a tensor that is both counts once. Operators on
    smaller tensors than the largest are counted as if they were on that one. Templates: 2 * M * N * K.
    """
    sort, tensors = fused_kind(call.name), call.tensors()
    operators = fused_operators(call.name)
    if sort is None or not tensors or not operators:
        return None
    if sort == "template":
        flop = _product(tensors)
        return None if flop is None else tally(flop, tensors, [])
    per_element = sum(_TRAINING.get(op, 1.0 if op in _BIAS else PER_ELEMENT.get(op, 0.0)) for op in operators)
    return tally(per_element * max(t.numel for t in tensors), tensors, [])


def _product(tensors: list[TensorArg]) -> float | None:
    """Return 2 * B * M * N * K if exactly three matrices are there, of [M,K], [K,N] and [M,N] with one batch B; else None."""
    matrices = [t.shape for t in tensors if len(t.shape) >= 2]
    if len(matrices) != 3 or len({shape[:-2] for shape in matrices}) != 1:
        return None
    batch = math.prod(matrices[0][:-2])
    for a, b, c in permutations(tuple(shape[-2:]) for shape in matrices):
        if a[1] == b[0] and c == (a[0], b[1]):
            square = math.prod(math.prod(shape[-2:]) for shape in matrices)
            return 2.0 * batch * math.isqrt(square)
    return None
