"""From the launches of a run to calls of operators, alike ones together, with the sizes that the calibration asks for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.insight.projection.features import BMM, CONVOLUTION, LINEAR, NORMALISATION, POINTWISE, SOFTMAX
from analyzer.schema.results import Analysis
from analyzer.schema.tables import records
from analyzer.trace.fused import fused_kind

KERNEL_LETTERS = 2000
_KEY = [
    "kind", "role", "op", "shapes", "dtype", "unit", "number_format", "basis", "unmodelled", "is_backward", "module", "kernel",
]  # fmt: skip
_PLAIN = frozenset((
    "add", "sub", "mul", "div", "pow", "relu", "gelu", "tanh", "sigmoid", "silu", "clamp_min", "neg", "abs", "sqrt", "rsqrt",
    "reciprocal", "square",
))  # fmt: skip
"""Pointwise operators of one pass over vectors; add, mul, div, pow, relu, gelu and tanh were measured."""
_SAME_WORK = 0.02


@dataclass(frozen=True, slots=True)
class Call:
    """Alike calls of one operator: what they are and what one of them takes and does. ``calls`` and ``time_us`` per batch."""

    kind: str
    role: str
    op: str
    shapes: str
    dtype: str
    unit: str
    number_format: str
    basis: str
    unmodelled: str
    is_backward: bool
    module: str
    kernel: str
    calls: float
    time_us: float
    flop: float
    bytes: float
    saving: float

    @property
    def one_us(self) -> float:
        """Return the time of one call."""
        return self.time_us / self.calls


def calls_of(a: Analysis) -> list[Call]:
    """Return the calls of ``a``, longest first. Kernels that one operator launched for its work are one call together."""
    rows = a.launches
    batches = a.window.batches or 1
    mine = rows["basis"].isin(("formula", "helper")) & rows["owner"].ge(0)
    number = np.where(mine, rows["owner"].to_numpy(np.int64), -1 - np.arange(len(rows)))
    table = rows.assign(op=rows["owner_op"], number=number, flop=rows["flop"].fillna(0.0), known=rows["bytes_compulsory"])
    table["kernel"] = table["kernel"].astype(str).str.slice(0, KERNEL_LETTERS)
    first = table.sort_values(["flop", "known"], ascending=False, kind="stable").groupby("number", sort=False)
    sums = table.groupby("number", sort=False)
    whole = (
        first[[*_KEY, "saving"]]
        .first()
        .join(
            pd.DataFrame(
                {"time_us": sums["exclusive_us"].sum(), "flop": sums["flop"].sum(), "bytes": sums["known"].sum(min_count=1)}
            )
        )
    )
    grouped = whole.groupby(_KEY, sort=False, observed=True, dropna=False)
    found = grouped.agg(
        calls=("time_us", "size"), time_us=("time_us", "sum"), flop=("flop", "mean"), bytes=("bytes", "mean"),
        saving=("saving", "max"),
    ).reset_index()  # fmt: skip
    found = found[found["time_us"] > 0].sort_values("time_us", ascending=False, kind="stable")
    found["calls"] /= batches
    found["time_us"] /= batches
    return [Call(**row._asdict()) for row in records(found)]


def family(call: Call) -> tuple[str, tuple[float, ...]]:
    """Return the calibrated class of a call and its sizes (columns ``features.SIZES``), or an empty name.

    Only forward operators of the shapes that were measured: products of two matrices, 3 x 3 convolutions with stride 1, plain
    pointwise kernels, layer norm and softmax over the last dimension.
    """
    operands = _operands(call.shapes)
    name = call.op.rpartition("::")[2].strip("_")
    if fused_kind(call.kernel) is not None or call.is_backward or call.basis != "formula" or not operands or not call.bytes > 0:
        return "", ()
    if call.kind == "matmul":
        return _product(call, operands)
    if call.kind == "convolution" and "conv" in name:
        return _convolution(call, operands)
    if call.kind == "pointwise" and name in _PLAIN and "vectorized_elementwise" in call.kernel:
        return POINTWISE, _vector(call, operands)
    if call.kind == "normalisation" and "layer_norm" in name:
        return NORMALISATION, _vector(call, operands)
    return (SOFTMAX, _vector(call, operands)) if name == "softmax" else ("", ())


def _operands(shapes: str) -> list[tuple[int, ...]]:
    found = [tuple(int(n) for n in text.split("x")) for text in shapes.split() if re.fullmatch(r"\d{1,9}(x\d{1,9}){0,7}", text)]
    return [operand for operand in found if all(operand)]


def _product(call: Call, operands: list[tuple[int, ...]]) -> tuple[str, tuple[float, ...]]:
    matrices = [operand for operand in operands if len(operand) > 1][:3]
    for place, left in enumerate(matrices[:-1]):
        right = matrices[place + 1]
        depth = left[-1]
        if depth not in right[-2:]:
            continue
        if len(right) == 2:
            sizes: tuple[float, ...] = (1.0, math.prod(left[:-1]), math.prod(right) / depth, depth)
        else:
            sizes = (math.prod(left[:-2]), left[-2], right[-1] if right[-2] == depth else right[-2], depth)
        if abs(2 * math.prod(sizes) / call.flop - 1) <= _SAME_WORK if call.flop else False:
            return (LINEAR if len(right) == 2 else BMM), (*map(float, sizes), call.flop, call.bytes)
    return "", ()


def _convolution(call: Call, operands: list[tuple[int, ...]]) -> tuple[str, tuple[float, ...]]:
    images = next((operand for operand in operands if len(operand) == 4), None)
    weight = next((operand for operand in operands[1:] if len(operand) == 4), None)
    if images is None or weight is None or weight[2:] != (3, 3) or weight[1] != images[1]:
        return "", ()
    depth = float(math.prod(weight[1:]))
    rows = call.flop / 2 / weight[0] / depth
    if abs(rows / (images[0] * images[2] * images[3]) - 1) > _SAME_WORK:  # a stride, or no padding
        return "", ()
    return CONVOLUTION, (1.0, rows, float(weight[0]), depth, call.flop, call.bytes)


def _vector(call: Call, operands: list[tuple[int, ...]]) -> tuple[float, ...]:
    largest = max(operands, key=math.prod)
    count, columns = float(math.prod(largest)), 1.0 if call.kind == POINTWISE else float(largest[-1])
    return 1.0, count / columns, columns, 1.0, count, call.bytes
