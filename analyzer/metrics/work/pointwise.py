"""Elementwise operators."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, output, read_bytes, register
from analyzer.schema.operators import OpCall, TensorArg


def _broadcast(tensors: list[TensorArg]) -> TensorArg | None:
    if not tensors:
        return None
    rank = max(len(t.shape) for t in tensors)
    shape = [
        max((t.shape[len(t.shape) - rank + i] for t in tensors if i >= rank - len(t.shape)), default=1) for i in range(rank)
    ]
    return TensorArg(tuple(shape), tensors[0].dtype)


def _pointwise(flop_per_element: float, *names: str) -> None:
    """Register elementwise operators, plain and in place: the output has the broadcast shape of the inputs."""

    def formula(call: OpCall) -> Work | None:
        inputs = call.tensors()
        out = output(call) or _broadcast(inputs)
        if out is None:
            return None
        return Work(flop_per_element * out.numel, read_bytes(inputs) + out.numel * out.itemsize)

    register(*names, *(f"{name}_" for name in names))(formula)


_pointwise(1.0, "add", "sub", "rsub", "mul", "div", "pow", "sqrt", "rsqrt", "exp", "log", "abs", "neg", "sigmoid", "tanh",
           "gelu", "silu", "hardswish", "hardsigmoid", "leaky_relu", "elu", "softplus", "mish", "sin", "cos", "erf",
           "reciprocal", "floor_divide", "square", "round", "floor", "ceil", "prelu")  # fmt: skip
_pointwise(2.0, "addcmul", "addcdiv", "lerp")
_pointwise(0.0, "relu", "hardtanh", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "threshold", "eq", "ne", "lt",
           "le", "gt", "ge", "where", "masked_fill", "bitwise_not", "bitwise_and", "bitwise_or", "logical_not", "logical_and",
           "logical_or", "isnan", "native_dropout")  # fmt: skip
