"""The arguments of matrix products and linear layers."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import Shape, concrete_dtype, like, multiplied, output

# positions of the two factors; where the first is at 1, what is added stands at 0
_FACTORS = {
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot", "vdot", "_int_mm", "_scaled_mm"), (0, 1)),
    **dict.fromkeys(("addmm", "baddbmm", "_addmm_activation", "addmv", "addbmm"), (1, 2)),
    **{f"{name}_": (1, 2) for name in ("addmm", "baddbmm", "addmv", "addbmm")},
}
_LINEAR = ("linear", "mkldnn_linear", "mkl::_mkl_linear", "mkldnn::_linear_pointwise")
PRODUCTS = (*_FACTORS, *_LINEAR)
"""The operators that ``product`` reads."""


@dataclass(frozen=True, slots=True)
class ProductArguments:
    """A product of ``a`` [..., m, k] and ``b`` [..., k, n]; of a linear layer ``b`` is the weight [n, k] (or [k]).

    ``shape`` is that of the product, [..., m, n]; ``out`` differs where the product is summed over its batch. ``added``: bias,
    summand, scales. A packed weight stands for the original one.
    """

    a: TensorArg
    b: TensorArg
    is_linear: bool
    shape: Shape
    added: tuple[TensorArg, ...]
    out: TensorArg


def product(call: OpCall) -> ProductArguments | None:
    """Return the arguments of a matrix product; None for other operators, and where the shapes do not fit."""
    name = call.name.removeprefix("aten::")
    if name in _LINEAR:
        return _linear(call)
    if name not in _FACTORS:
        return None
    first, second = _FACTORS[name]
    a, b = call.tensor(first), call.tensor(second)
    shape = None if a is None or b is None else multiplied(a.shape, b.shape)
    if a is None or b is None or shape is None:
        return None
    added = [call.tensor(0)] if first else []
    out = output(call)
    if name.startswith("addbmm"):
        if len(shape) != 3:
            return None
        out = out or like(a, shape[1:])
    elif name == "_scaled_mm":
        added = list(OpCall(call.name, call.inputs[2:]).tensors())
        out = out or like(a, shape, concrete_dtype(call, 6))
    out = out or like(a, shape, "int32" if name == "_int_mm" else None)
    return ProductArguments(a, b, False, shape, _present(added), out)


def _linear(call: OpCall) -> ProductArguments | None:
    x, weight, third = (call.tensor(i) for i in range(3))
    read, added = weight, [third]
    if call.name == "mkl::_mkl_linear":
        weight, added = third, [call.tensor(3)]
    elif call.name == "mkldnn::_linear_pointwise" and third is not None and len(third.shape) == 2:
        read, weight, added = third, third, [call.tensor(1), call.tensor(3)]  # .binary: the summand stands before the weight
    if x is None or weight is None or not weight.shape or not x.shape or x.shape[-1] != weight.shape[-1]:
        return None
    shape = (*x.shape[:-1], *weight.shape[:-1])
    return ProductArguments(x, read or weight, True, shape, _present(added), output(call) or like(x, shape))


def _present(tensors: list[TensorArg | None]) -> tuple[TensorArg, ...]:
    return tuple(t for t in tensors if t is not None)
