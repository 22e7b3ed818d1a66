"""FLOP and compulsory bytes of one operator call, from its arguments alone.

A multiply-add counts as 2 FLOP. Convolutions, matrix products and attention follow the published convention (biases and the
softmax inside fused attention are not counted). Elsewhere an element costs one FLOP for each arithmetic step, a
transcendental function counting as one and a comparison as none. Compulsory bytes: every distinct input element read once,
every output element written once, nothing in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.kinds import operator_kind


@dataclass(frozen=True, slots=True)
class Work:
    """FLOP and compulsory bytes. ``basis``: ``formula``, or ``generic`` where only inputs plus outputs were added up."""

    flop: float
    bytes: float
    basis: str = "formula"


Formula = Callable[[OpCall], Work | None]
_FORMULAS: dict[str, Formula] = {}


def _register(*names: str) -> Callable[[Formula], Formula]:
    def add(formula: Formula) -> Formula:
        for name in names:
            if f"aten::{name}" in _FORMULAS:
                raise ValueError(f"two formulas for aten::{name}")
            _FORMULAS[f"aten::{name}"] = formula
        return formula

    return add


def has_formula(op: str) -> bool:
    """Tell whether ``op`` has a formula that does work (views do not)."""
    return op in _FORMULAS


def work_of(call: OpCall) -> Work | None:
    """Return the work of ``call``; None where its shapes do not suffice.

    Views cost nothing. An operator without a formula gets a generic estimate, marked so.
    """
    formula = _FORMULAS.get(call.name)
    if formula is not None:
        return formula(call)
    if operator_kind(call.name) == "view":
        return Work(0.0, 0.0)
    inputs = call.tensors()
    return Work(0.0, _read(inputs) + _written(call, inputs[:1]), "generic") if inputs else None


def _read(tensors: list[TensorArg]) -> float:
    """Return the bytes of the distinct inputs; the same view given twice is read once."""
    distinct = {(t.storage, t.offset, t.shape) if t.storage is not None else (i,): t for i, t in enumerate(tensors)}
    return float(sum(t.footprint_bytes for t in distinct.values()))


def _written(call: OpCall, guess: list[TensorArg]) -> float:
    """Return the bytes of the outputs, of ``guess`` where they were not recorded."""
    return float(sum(t.numel * t.itemsize for t in (call.results() or guess)))


def _output(call: OpCall) -> TensorArg | None:
    results = call.results()
    return results[0] if results else None


# --- convolution ---------------------------------------------------------------------------------------------------

# positions of stride, padding, dilation, transposed (-1: never)
_CONV_LAYOUT = {
    "aten::convolution": (3, 4, 5, 6),
    "aten::_convolution": (3, 4, 5, 6),
    "aten::convolution_overrideable": (3, 4, 5, 6),
    "aten::conv2d": (3, 4, 5, -1),
    "aten::mkldnn_convolution": (4, 3, 5, -1),
    "aten::cudnn_convolution": (3, 2, 4, -1),
    "aten::cudnn_convolution_relu": (3, 4, 5, -1),
    "aten::miopen_convolution": (4, 3, 5, -1),
    "aten::miopen_depthwise_convolution": (4, 3, 5, -1),
    "aten::_conv_depthwise2d": (4, 5, 6, -1),
    "aten::conv_depthwise3d": (4, 5, 6, -1),
    "aten::thnn_conv2d": (4, 5, -1, -1),
    "aten::_slow_conv2d_forward": (4, 5, -1, -1),
    "aten::slow_conv_dilated2d": (4, 5, 6, -1),
}


@_register(*(name.removeprefix("aten::") for name in _CONV_LAYOUT))
def _convolution(call: OpCall) -> Work | None:
    """2 * out[N,Co,H',W'] * Ci/groups * kh * kw; weight [Co, Ci/groups, kh, kw] (transposed: 2 * in * Co/groups * kh * kw)."""
    image, weight = call.tensor(0), call.tensor(1)
    if image is None or weight is None or len(weight.shape) < 3:
        return None
    transposed_at = _CONV_LAYOUT[call.name][3]
    transposed = transposed_at >= 0 and call.value(transposed_at) is True
    out = _output(call) or (None if transposed else _conv_output(call, image, weight))
    if out is None:
        return None
    per_output = math.prod(weight.shape[1:])
    flop = 2.0 * (image.numel if transposed else out.numel) * per_output
    return Work(flop, _read(call.tensors()) + out.numel * out.itemsize)


def _conv_output(call: OpCall, image: TensorArg, weight: TensorArg) -> TensorArg | None:
    stride_at, padding_at, dilation_at, _ = _CONV_LAYOUT[call.name]
    stride, padding = call.ints(stride_at), call.ints(padding_at)
    dilation = call.ints(dilation_at) if dilation_at >= 0 else (1,)
    if not stride or padding is None or not dilation:
        return None
    space = len(weight.shape) - 2
    sides = []
    for i in range(space):
        s, p, d = (v[i] if i < len(v) else v[-1] for v in (stride, padding or (0,), dilation))
        sides.append((image.shape[-space + i] + 2 * p - d * (weight.shape[2 + i] - 1) - 1) // max(s, 1) + 1)
    return TensorArg((*image.shape[: -space - 1], weight.shape[0], *sides), image.dtype)


# --- matrix products -------------------------------------------------------------------------------------------------


@_register("addmm", "mm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "mkldnn_linear", "_addmm_activation", "addmv", "mv")
def _matmul(call: OpCall) -> Work | None:
    """2 * M * N * K per batch, from the last two tensors that are multiplied."""
    a, b = _factors(call)
    if a is None or b is None or not a.shape or not b.shape:
        return None
    transposed_weight = call.name in ("aten::linear", "aten::mkldnn_linear")
    columns = b.shape[0] if transposed_weight else (b.shape[-1] if len(b.shape) > 1 else 1)
    batch = math.prod(b.shape[:-2]) if len(b.shape) > len(a.shape) else 1
    out_numel = batch * a.numel // max(a.shape[-1], 1) * columns
    out_bytes = _written(call, [TensorArg((out_numel,), a.dtype)])
    return Work(2.0 * out_numel * a.shape[-1], _read(call.tensors()) + out_bytes)


def _factors(call: OpCall) -> tuple[TensorArg | None, TensorArg | None]:
    first = 1 if call.name.rsplit("::", 1)[1] in ("addmm", "baddbmm", "addbmm", "_addmm_activation", "addmv") else 0
    return call.tensor(first), call.tensor(first + 1)


# --- attention ---------------------------------------------------------------------------------------------------------


@_register(
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable",
    "_flash_attention_forward", "_efficient_attention_forward", "_cudnn_attention_forward", "scaled_dot_product_attention",
)  # fmt: skip
def _fused_attention(call: OpCall) -> Work | None:
    """2 * B*H*N_q*N_k * (D_qk + D_v); q[B,H,N,D], or q[B,N,H,D] for the inner kernels. Reads q, k, v and writes the output.

    Approximation: causal masks are not subtracted.
    """
    q, k, v = call.tensor(0), call.tensor(1), call.tensor(2)
    if q is None or k is None or v is None or not 3 <= len(q.shape) == len(k.shape) == len(v.shape) <= 4:
        return None
    inner = call.name in ("aten::_flash_attention_forward", "aten::_efficient_attention_forward")
    if inner and len(q.shape) == 3:
        return None  # packed sequences: their lengths are not in the shapes
    rows = 1 if inner else len(q.shape) - 2
    pairs = math.prod(q.shape[:-1]) * k.shape[rows]
    out = TensorArg((*q.shape[:-1], v.shape[-1]), q.dtype)
    masks = [t for t in call.tensors()[3:] if len(t.shape) >= 2]
    return Work(2.0 * pairs * (q.shape[-1] + v.shape[-1]), _read([q, k, v, *masks]) + out.numel * out.itemsize)


@_register("_native_multi_head_attention")
def _native_attention(call: OpCall) -> Work | None:
    """The projections in and out and both products: 2BN*D*3D + 4B*N*N*D + 2BN*D*D, input [B,N,D]."""
    x, w_in, b_in, w_out, b_out = (call.tensor(i) for i in (0, 5, 6, 7, 8))
    if x is None or len(x.shape) != 3:
        return None
    b, n, d = x.shape
    tensors = [t for t in (x, w_in, b_in, w_out, b_out) if t is not None]
    return Work(8.0 * b * n * d * d + 4.0 * b * n * n * d, _read(tensors) + x.numel * x.itemsize)


# --- normalisation, softmax, pooling, reductions ---------------------------------------------------------------------


def _per_input(flop_per_element: float, *names: str) -> None:
    """Register operators whose cost follows the elements of their first input, and whose first output has its shape."""

    def formula(call: OpCall) -> Work | None:
        x = call.tensor(0)
        if x is None:
            return None
        out = (call.results() or [x])[0]
        side = call.results()[1:]
        written = out.numel * out.itemsize + sum(t.numel * t.itemsize for t in side)
        return Work(flop_per_element * x.numel, _read(call.tensors()) + written)

    _register(*names)(formula)


# one pass for the sum and the sum of squares (3), one multiply-add to normalise and scale (2)
_per_input(5.0, "native_layer_norm", "native_group_norm", "_fused_rms_norm")
# subtract, exponential, sum, scale
_per_input(4.0, "_softmax", "_log_softmax", "_safe_softmax")


@_register("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit",
           "_native_batch_norm_legit_no_training", "batch_norm_inference")  # fmt: skip
def _batch_norm(call: OpCall) -> Work | None:
    """One multiply-add per element with constant statistics, three FLOP more where they are computed (training, position 5)."""
    x = call.tensor(0)
    if x is None:
        return None
    training = call.value(5) is True and "no_training" not in call.name
    out = (call.results() or [x])[0]
    return Work((5.0 if training else 2.0) * x.numel, _read(call.tensors()) + out.numel * out.itemsize)


@_register("max_pool2d_with_indices", "avg_pool2d", "max_pool2d", "mkldnn_max_pool2d")
def _pooling(call: OpCall) -> Work | None:
    """One addition per element of each window, none for a maximum; kernel size at 1, stride at 2, padding at 3."""
    x, kernel = call.tensor(0), call.ints(1)
    if x is None or not kernel or len(x.shape) < 3:
        return None
    k = (kernel[0], kernel[-1])
    stride = call.ints(2) or k
    s, p = (stride[0], stride[-1]), call.ints(3) or (0, 0)
    sides = [(x.shape[-2 + i] + 2 * p[min(i, len(p) - 1)] - k[i]) // max(s[i], 1) + 1 for i in (0, 1)]
    out = _output(call) or TensorArg((*x.shape[:-2], *sides), x.dtype)
    flop = 0 if "max" in call.name else out.numel * k[0] * k[1]
    return Work(float(flop), _read([x]) + _written(call, [out]))


_SELECTIONS = frozenset(("max", "min", "amax", "amin", "argmax", "argmin", "all", "any", "count_nonzero"))


@_register("sum", "mean", "max", "min", "amax", "amin", "var", "std", "std_mean", "var_mean", "prod", "argmax", "argmin",
           "_adaptive_avg_pool2d", "norm", "linalg_vector_norm", "all", "any", "logsumexp", "cumsum",
           "count_nonzero")  # fmt: skip
def _reduction(call: OpCall) -> Work | None:
    """One FLOP per input element, three for a variance, none for a maximum; writes what is left of the input."""
    x = call.tensor(0)
    if x is None:
        return None
    short = call.name.removeprefix("aten::")
    per = 3.0 if short.startswith(("var", "std")) else 0.0 if short in _SELECTIONS else 1.0
    return Work(per * x.numel, _read(call.tensors()) + _written(call, []))


@_register(
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_nearest2d",
    "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa",
)
def _upsample(call: OpCall) -> Work | None:
    """Two multiply-adds per tap: 4 taps bilinear, 16 bicubic, none nearest; output size at position 1."""
    x, size = call.tensor(0), call.ints(1)
    if x is None or len(x.shape) != 4:
        return None
    out = _output(call) or (TensorArg((*x.shape[:2], *size), x.dtype) if size and len(size) == 2 else None)
    if out is None:
        return None
    taps = 0 if "nearest" in call.name else 16 if "bicubic" in call.name else 4
    return Work(2.0 * taps * out.numel, _read([x]) + out.numel * out.itemsize)


# --- pointwise ---------------------------------------------------------------------------------------------------------


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
        out = _output(call) or _broadcast(inputs)
        if out is None:
            return None
        return Work(flop_per_element * out.numel, _read(inputs) + out.numel * out.itemsize)

    _register(*names, *(f"{name}_" for name in names))(formula)


_pointwise(1.0, "add", "sub", "rsub", "mul", "div", "pow", "sqrt", "rsqrt", "exp", "log", "abs", "neg", "sigmoid", "tanh",
           "gelu", "silu", "hardswish", "hardsigmoid", "leaky_relu", "elu", "softplus", "mish", "sin", "cos", "erf",
           "reciprocal", "floor_divide", "square", "round", "floor", "ceil", "prelu")  # fmt: skip
_pointwise(2.0, "addcmul", "addcdiv", "lerp")
_pointwise(0.0, "relu", "hardtanh", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "threshold", "eq", "ne", "lt",
           "le", "gt", "ge", "where", "masked_fill", "bitwise_not", "bitwise_and", "bitwise_or", "logical_not", "logical_and",
           "logical_or", "isnan", "native_dropout")  # fmt: skip


@_register("fill_", "zero_", "arange", "linspace", "fill", "normal_", "uniform_", "bernoulli_")
def _fill(call: OpCall) -> Work | None:
    """Writes its output, reads nothing."""
    inputs = call.tensors()
    return Work(0.0, _written(call, inputs[:1])) if inputs or call.results() else None


# --- layout --------------------------------------------------------------------------------------------------------------


@_register("copy_")
def _copy(call: OpCall) -> Work | None:
    """Reads the source (position 1), writes all of the destination (position 0)."""
    to, source = call.tensor(0), call.tensor(1)
    return None if to is None or source is None else Work(0.0, _read([source]) + to.numel * to.itemsize)


@_register("cat", "_cat", "stack")
def _concatenate(call: OpCall) -> Work | None:
    """Reads every part once and writes as much."""
    parts = call.tensors()
    if not parts:
        return None
    written = _written(call, parts)
    if any(part.dtype == "unknown" for part in parts):
        return Work(0.0, 2.0 * written, "generic")  # the element size of a list is not in the trace
    return Work(0.0, _read(parts) + written)


@_register("clone", "contiguous", "roll", "flip", "_to_copy", "_reshape_copy", "reflection_pad2d", "replication_pad2d",
           "pixel_shuffle", "im2col", "constant_pad_nd", "mkldnn_reorder_conv2d_weight")  # fmt: skip
def _rearrange(call: OpCall) -> Work | None:
    """Reads the input and writes the output."""
    x = call.tensor(0)
    return None if x is None else Work(0.0, _read([x]) + _written(call, [x]))


@_register("index", "index_select", "gather", "embedding")
def _gather(call: OpCall) -> Work | None:
    """Reads what it writes, and the indices; a table that is larger than the output is not read whole."""
    out = _output(call)
    inputs = call.tensors()
    if out is None or not inputs:
        return None
    indices = sum(t.footprint_bytes for t in inputs[1:] if t.dtype.startswith(("int", "bool", "uint")))
    return Work(0.0, 2.0 * out.numel * out.itemsize + indices)
