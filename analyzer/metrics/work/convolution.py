"""Convolutions, forward."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall
from analyzer.trace.arguments.convolution import LAYOUTS, convolution


@register(*LAYOUTS)
def _convolution(call: OpCall) -> Work | None:
    """2 * out[N,Co,H',W'] * Ci/groups * kh * kw; weight [Co, Ci/groups, kh, kw].

    Transposed, the weight is [Ci, Co/groups, kh, kw] and the FLOP are 2 * in[N,Ci,H,W] * Co/groups * kh * kw.
    Biases and activations fused into the operator are not counted, as in torch's counter; a tensor that is added is read.
    """
    found = convolution(call)
    if found is None:
        return None
    flop = 2.0 * (found.image if found.transposed else found.out).numel * math.prod(found.weight.shape[1:])
    return tally(flop, [found.image, found.weight, *found.others], [found.out])
