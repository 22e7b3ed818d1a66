"""Elementwise operators: tables of names, and one formula over them."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import broadcast, floating, like, output, promoted, short_name, with_numbers

Type = Callable[[list[TensorArg]], str]


def elementwise(
    flop: float,
    positions: tuple[int, ...],
    dtype: Type | str,
    *names: str,
    inplace: bool = True,
    optional: tuple[int, ...] = (),
) -> None:
    """Register elementwise operators that read the tensors at ``positions`` and write one tensor of their broadcast shape.

    A tensor behind the operands is the ``out`` argument. ``dtype`` gives the type of the output from the operands. With
    ``inplace`` the names with an underscore are registered too: they write their first operand. Operands at ``optional`` may
    be left out; without a word on one of the others there is no work, since the broadcast shape hangs on it.
    """
    needed = tuple(i for i in positions if i not in optional)

    def formula(call: OpCall) -> Work | None:
        if call.lacks(*needed):
            return None
        operands = [t for i in positions if (t := call.tensor(i)) is not None]
        numbers: list[object] = [call.value(i) for i in positions]
        out = output(call) or _target(call, positions) or _result(operands, numbers, dtype)
        return None if out is None or not operands else tally(flop * out.numel, operands, [out])

    register(*names, per_element=flop)(formula)
    if inplace:
        register(*(f"{name}_" for name in names), per_element=flop)(formula)


def _target(call: OpCall, positions: tuple[int, ...]) -> TensorArg | None:
    """Return the tensor that an in-place operator or one with ``out`` writes, None for others."""
    name = short_name(call)
    if name.endswith("_"):
        return call.tensor(0)
    beyond = [t for i in range(max(positions) + 1, len(call.inputs)) if (t := call.tensor(i)) is not None]
    return beyond[-1] if beyond else None


def _result(operands: list[TensorArg], numbers: list[object], dtype: Type | str) -> TensorArg | None:
    shape = broadcast([t.shape for t in operands])
    if shape is None or not operands:
        return None
    if isinstance(dtype, str):
        return TensorArg(shape, dtype)
    found = dtype(operands)
    return TensorArg(shape, with_numbers(found, numbers) if dtype is promoted else found)


def _real(operands: list[TensorArg]) -> str:
    return floating(promoted(operands))


def _first(operands: list[TensorArg]) -> str:
    return operands[0].dtype


_ONE, _TWO, _THREE = (0,), (0, 1), (0, 1, 2)

# one arithmetic step, or one transcendental function; activations count as one
elementwise(1.0, _ONE, _first, "abs", "neg", "negative", "gelu", "silu", "hardswish", "hardsigmoid", "leaky_relu", "elu",
            "celu", "selu", "mish", "rrelu", "frac", "positive")  # fmt: skip
elementwise(1.0, _ONE, _real, "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sigmoid", "tanh",
            "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv",
            "reciprocal", "logit", "sinc", "lgamma", "digamma", "i0", "deg2rad", "rad2deg")  # fmt: skip
elementwise(1.0, _ONE, _real, "softplus", inplace=False)
elementwise(1.0, _ONE, _first, "square")
elementwise(1.0, _TWO, promoted, "add", "sub", "subtract", "rsub", "mul", "multiply", "pow", "float_power", "fmod", "remainder",
            "floor_divide", "_add_relu", "ldexp", "hypot")  # fmt: skip
elementwise(1.0, _TWO, _real, "div", "divide", "true_divide", "atan2", "xlogy", "logaddexp", "logaddexp2", "copysign")
elementwise(1.0, _TWO, _first, "prelu", "_prelu_kernel", inplace=False)
elementwise(1.0, (0, 1), _first, "_masked_scale", inplace=False)
elementwise(2.0, _THREE, promoted, "addcmul", "addcdiv")
elementwise(3.0, _THREE, promoted, "lerp")

# comparison, selection and bits
elementwise(0.0, _ONE, _first, "relu", "relu6", "hardtanh", "threshold", "hardshrink", "softshrink", "sign", "sgn", "round",
            "floor", "ceil", "trunc", "fix", "nan_to_num", "bitwise_not")  # fmt: skip
elementwise(0.0, _ONE, "bool", "isnan", "isinf", "isfinite", "isneginf", "isposinf", "signbit", "logical_not", inplace=False)
elementwise(0.0, _ONE, _first, "logical_not_", inplace=False)
elementwise(0.0, _THREE, promoted, "clamp", "clip", optional=(1, 2))
elementwise(0.0, _TWO, promoted, "clamp_min", "clamp_max", "maximum", "minimum", "fmax", "fmin", "bitwise_and", "bitwise_or",
            "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "__and__", "__or__", "__xor__", "__lshift__",
            "__rshift__", inplace=False)  # fmt: skip
elementwise(0.0, _TWO, promoted, "clamp_min_", "clamp_max_", "bitwise_and_", "bitwise_or_", "bitwise_xor_", inplace=False)
elementwise(0.0, _TWO, promoted, "__iand__", "__ior__", "__ixor__", inplace=False)
elementwise(0.0, _TWO, "bool", "eq", "ne", "lt", "le", "gt", "ge", "not_equal", "greater", "greater_equal", "less",
            "less_equal", "logical_and", "logical_or", "logical_xor", "isclose")  # fmt: skip
elementwise(0.0, _THREE, _first, "masked_fill")
elementwise(0.0, _TWO, _first, "heaviside")


@register("where", per_element=0.0)
def _where(call: OpCall) -> Work | None:
    """No FLOP; reads the condition and both branches, writes the broadcast shape. With one argument it is ``nonzero``."""
    condition, a, b = (call.tensor(i) for i in range(3))
    if condition is None or call.lacks(1, 2):
        return None
    if len(call.inputs) == 1:
        listed = call.results()
        return tally(0.0, [condition], listed) if listed else None
    branches = [t for t in (a, b) if t is not None]
    shape = broadcast([t.shape for t in (condition, *branches)])
    out = output(call) or call.tensor(3)
    if out is None:
        if shape is None or not branches:
            return None
        out = TensorArg(shape, promoted(branches))
    return tally(0.0, [condition, *branches], [out])


@register("glu", per_element=2.0)
def _glu(call: OpCall) -> Work | None:
    """Two FLOP per output element, a sigmoid and a product; the dimension at 1 is halved."""
    x, dim = call.tensor(0), call.value(1)
    if x is None or not x.shape:
        return None
    axis = dim if isinstance(dim, int) and -len(x.shape) <= dim < len(x.shape) else None
    half = None if axis is None else tuple(n // 2 if i == axis % len(x.shape) else n for i, n in enumerate(x.shape))
    out = output(call) or like(x, half if half is not None else (x.numel // 2,))
    return tally(2.0 * out.numel, [x], [out])


@register("log_sigmoid_forward", per_element=3.0)
def _log_sigmoid(call: OpCall) -> Work | None:
    """Three FLOP per element: min(x, 0) - log1p(exp(-|x|)). The buffer that a CPU keeps for the gradient does not count."""
    x = call.tensor(0)
    return None if x is None else tally(3.0 * x.numel, [x], call.results()[:1] or [like(x)])


@register("native_dropout", "_fused_dropout", per_element=1.0)
def _dropout(call: OpCall) -> Work | None:
    """One multiplication per element; writes the output and the mask, one byte each."""
    x = call.tensor(0)
    return None if x is None else tally(x.numel, [x], call.results() or [like(x), like(x, dtype="bool")])
