"""Gradients of elementwise operators: the derivative counts as one function, its product with the gradient as one step."""

from __future__ import annotations

from analyzer.metrics.work.pointwise import elementwise
from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like


def _first(operands: list[TensorArg]) -> str:
    return operands[0].dtype


elementwise(2.0, (0, 1), _first, "gelu_backward", "silu_backward", "mish_backward", "hardswish_backward", "softplus_backward",
            "logit_backward", inplace=False)  # fmt: skip
elementwise(3.0, (0, 1), _first, "sigmoid_backward", "tanh_backward", inplace=False)  # dy * y * (1 - y), dy * (1 - y * y)
elementwise(3.0, (0, 1), _first, "log_sigmoid_backward", inplace=False)
elementwise(1.0, (0, 1), _first, "hardsigmoid_backward", "leaky_relu_backward", "rrelu_with_noise_backward", inplace=False)
elementwise(2.0, (0, 5), _first, "elu_backward", inplace=False)
elementwise(0.0, (0, 1), _first, "threshold_backward", "hardtanh_backward", "hardshrink_backward", "softshrink_backward",
            inplace=False)  # fmt: skip
elementwise(2.0, (0, 1), _first, "native_dropout_backward", inplace=False)  # mask and scale


@register("glu_backward", per_element=5.0)
def _glu(call: OpCall) -> Work | None:
    """Per output element of the forward: the sigmoid, dy * s, and dy * s * (1 - s) * a; writes the gradient of both halves."""
    grad, x = call.tensor(0), call.tensor(1)
    return None if grad is None or x is None else tally(5.0 * grad.numel, [grad, x], call.results() or [like(x)])


@register("_prelu_kernel_backward", "prelu_backward", per_element=2.0)
def _prelu(call: OpCall) -> Work | None:
    """Two products per element, one for the input's gradient and one for the weight's (summed by another operator)."""
    grad, x, weight = call.tensor(0), call.tensor(1), call.tensor(2)
    if grad is None or x is None:
        return None
    return tally(2.0 * x.numel, [grad, x, weight], call.results() or [like(x), like(x)])
