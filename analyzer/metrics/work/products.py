"""Matrix products and their relatives."""

from __future__ import annotations

from analyzer.metrics.work.einsum import contraction
from analyzer.metrics.work.registry import Work, output, register, short_name, tally
from analyzer.metrics.work.shapes import Shape, concrete_dtype, like, multiplied
from analyzer.schema.operators import OpCall, TensorArg

_FACTORS = {
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot", "vdot", "_int_mm"), (0, 1)),
    **dict.fromkeys(("addmm", "baddbmm", "_addmm_activation", "addmv"), (1, 2)),
    **{f"{name}_": (1, 2) for name in ("addmm", "baddbmm", "addmv")},
}


@register(*_FACTORS)
def _product(call: OpCall) -> Work | None:
    """2 * M * N * K per batch; what is added (a bias, at its own size) is read and not counted."""
    name = short_name(call)
    first, second = _FACTORS[name]
    a, b = call.tensor(first), call.tensor(second)
    shape = None if a is None or b is None else multiplied(a.shape, b.shape)
    if a is None or b is None or shape is None:
        return None
    added = call.tensor(0) if first else None
    return _work(a, b, shape, [added], output(call) or like(a, shape, "int32" if name == "_int_mm" else None))


def _work(a: TensorArg, b: TensorArg, shape: Shape, added: list[TensorArg | None], out: TensorArg) -> Work:
    return tally(2.0 * like(a, shape).numel * a.shape[-1], [*added, a, b], [out])


@register("addbmm", "addbmm_")
def _summed_product(call: OpCall) -> Work | None:
    """2 * B * M * N * K, summed over the batch: the output is [M, N]."""
    added, a, b = call.tensor(0), call.tensor(1), call.tensor(2)
    shape = None if a is None or b is None else multiplied(a.shape, b.shape)
    if a is None or b is None or shape is None or len(shape) != 3:
        return None
    return _work(a, b, shape, [added], output(call) or like(a, shape[1:]))


@register("linear", "mkldnn_linear", "mkl::_mkl_linear", "mkldnn::_linear_pointwise")
def _linear(call: OpCall) -> Work | None:
    """2 * rows * out * in; weight [out, in] (or [in]). A packed weight is read in place of the original one."""
    x, weight = call.tensor(0), call.tensor(1)
    read = weight
    extra = [call.tensor(2)]
    third = call.tensor(2)
    if call.name == "mkl::_mkl_linear":
        weight, extra = third, [call.tensor(3)]
    elif call.name == "mkldnn::_linear_pointwise" and third is not None and len(third.shape) == 2:
        read, weight, extra = third, third, [call.tensor(1), call.tensor(3)]  # .binary: the summand stands before the weight
    if x is None or weight is None or not weight.shape or not x.shape or x.shape[-1] != weight.shape[-1]:
        return None
    shape = (*x.shape[:-1], *weight.shape[:-1])
    out = output(call) or like(x, shape)
    return tally(2.0 * like(x, shape).numel * x.shape[-1], [x, read, *extra], [out])


@register("linear_backward", "mkldnn_linear_backward")
def _linear_backward(call: OpCall) -> Work | None:
    """2 * rows * out * in for each of the input's and the weight's gradient; output_mask at 3."""
    x, grad, weight = call.tensor(0), call.tensor(1), call.tensor(2)
    mask = call.inputs[3] if len(call.inputs) > 3 else None
    if x is None or grad is None or weight is None or not isinstance(mask, tuple) or len(mask) != 3:
        return None
    if len(weight.shape) != 2:
        return None
    writes = [
        like(x) if mask[0] else None,
        like(weight) if mask[1] else None,
        like(weight, weight.shape[:1]) if mask[2] else None,
    ]
    reads = [grad, weight if mask[0] else None, x if mask[1] else None]
    half = 2.0 * grad.numel * weight.shape[-1]
    return tally(half * (bool(mask[0]) + bool(mask[1])), reads, call.results() or writes)


@register("_scaled_mm")
def _scaled(call: OpCall) -> Work | None:
    """2 * M * N * K; reads the scales, and writes elements of the type at 6 (that of the factors where none is given)."""
    a, b = call.tensor(0), call.tensor(1)
    shape = None if a is None or b is None else multiplied(a.shape, b.shape)
    if a is None or b is None or shape is None:
        return None
    out = output(call) or like(a, shape, concrete_dtype(call, 6))
    return tally(2.0 * like(a, shape).numel * a.shape[-1], call.tensors(), [out])


@register("outer", "ger")
def _outer(call: OpCall) -> Work | None:
    """One multiplication per element of [M, N]."""
    a, b = call.tensor(0), call.tensor(1)
    if a is None or b is None or len(a.shape) != 1 or len(b.shape) != 1:
        return None
    out = output(call) or like(a, a.shape + b.shape)
    return tally(out.numel, [a, b], [out])


@register("einsum")
def _einsum(call: OpCall) -> Work | None:
    """2 * product of all sizes where two operands share a summed index, else one step per element; equation at 0."""
    equation = call.value(0)
    tensors = call.tensors()
    found = contraction(equation, [t.shape for t in tensors]) if isinstance(equation, str) else None
    if found is None:
        return None
    flop, shape = found
    return tally(flop, tensors, [output(call) or like(tensors[0], shape)])
