"""Operators that write constants, sequences or random numbers."""

from __future__ import annotations

import math

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import concrete_dtype, like, output, short_name

_IN_PLACE = ("fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_", "geometric_", "cauchy_",
             "log_normal_", "trunc_normal_")  # fmt: skip


@register(*_IN_PLACE, "fill", "zero", "ones_like", "zeros_like", "full_like", "rand_like", "randn_like", "randint_like",
          "normal_functional", "new_zeros", "new_ones", "new_full", per_element=0.0)  # fmt: skip
def _fill(call: OpCall) -> Work | None:
    """Writes its output, reads nothing but a value or probability given as a tensor."""
    x, value = call.tensor(0), call.tensor(1)
    if x is None:
        return None
    name = short_name(call)
    out = output(call)
    if out is None and name.endswith("_like"):
        at = {"full_like": 2, "randint_like": 2}.get(name, 1)
        out = like(x, dtype=concrete_dtype(call, at))
    elif out is None and name.startswith("new_"):
        size, dtype = call.ints(1), concrete_dtype(call, 3 if name == "new_full" else 2)
        out = like(x, size, dtype) if size is not None else None
    else:
        out = out or like(x)
    return None if out is None else tally(0.0, [value], [out])


@register("bernoulli", "normal", "poisson", "multinomial")
def _drawn(call: OpCall) -> Work | None:
    """Reads the parameters that are tensors, writes numbers of their shape (``multinomial`` only where recorded)."""
    parameters = [t for i in (0, 1) if (t := call.tensor(i)) is not None]
    results = call.results()
    if not results and (not parameters or short_name(call) == "multinomial"):
        return None
    return tally(0.0, parameters, results or [like(max(parameters, key=lambda t: t.numel))])


# where the element type stands, and the type without one
_SIZED = {"full": (2, None), "ones": (1, "float32"), "zeros": (1, "float32"), "rand": (1, "float32"), "randn": (1, "float32"),
          "randperm": (1, "int64")}  # fmt: skip


@register(*_SIZED, "arange", "range", "linspace", "logspace", "eye", "tril_indices", "triu_indices", "scalar_tensor", "randint",
          "hann_window", "hamming_window", per_element=0.0)  # fmt: skip
def _created(call: OpCall) -> Work | None:
    """Writes its output: the recorded one, the ``out`` argument, or a tensor of the size at 0 and of a given type."""
    out = output(call) or next(iter(call.tensors()[-1:]), None)
    name = short_name(call)
    if out is None and name in _SIZED:
        at, default = _SIZED[name]
        size, dtype = call.ints(0), concrete_dtype(call, at) or default or _type_of(call.value(1))
        out = TensorArg(size, dtype) if size is not None and dtype and len(call.inputs) > at else None
    elif out is None and name in ("arange", "eye", "linspace"):
        out = _sequence(call, name)
    return None if out is None else tally(0.0, [], [out])


def _type_of(value: object) -> str | None:
    """Return the element type of a tensor filled with a Python number."""
    return {bool: "bool", int: "int64", float: "float32"}.get(type(value))


def _sequence(call: OpCall, name: str) -> TensorArg | None:
    """Return what ``arange([start, ]end[, step])``, ``linspace(a, b, n)`` or ``eye(n[, m])`` make; four options follow."""
    options = 4
    numbers = [call.value(i) for i in range(len(call.inputs) - options)]
    if not numbers or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers):
        return None
    values = [v for v in numbers if isinstance(v, int | float)]
    dtype = concrete_dtype(call, len(values))
    if name == "eye":
        rows, columns = int(values[0]), int(values[-1])
        return TensorArg((rows, columns), dtype or "float32")
    if name == "linspace":
        return TensorArg((int(values[-1]),), dtype or "float32")
    start, end = (0, values[0]) if len(values) == 1 else (values[0], values[1])
    step = values[2] if len(values) > 2 else 1
    if not step:
        return None
    default = "int64" if all(isinstance(v, int) for v in values) else "float32"
    return TensorArg((max(math.ceil((end - start) / step), 0),), dtype or default)
