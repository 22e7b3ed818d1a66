"""Units: the kernels of a run, or the layers of a model known by its shapes, as the access model takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analyzer.access.describe import describe
from analyzer.access.geometry import assumed_geometry
from analyzer.access.kernel import Launch
from analyzer.access.problem import Attention, Described, Pass, Product
from analyzer.schema.operators import OpCall
from analyzer.trace.scopes import module_pattern

ROLES = {
    "attention_fused": "attention", "attention_materialised": "attention", "scores": "attention",
    "conv3x3": "convolution", "conv": "convolution", "depthwise": "depthwise", "norm": "normalisation",
    "linear": "dense math", "conv1x1": "dense math", "patch_embed": "dense math",
    "product_backward": "dense math",
}  # fmt: skip
"""What a pattern is for; all others are ``other``. A convolution whose windows do not overlap is a linear layer of pixels."""

_RESIDENT = {"depthwise": 6, "pooling": 6}
"""Blocks on a multiprocessor where no trace tells: small blocks fill it, blocks of matrix products stand alone."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One kernel, or one layer. ``calls`` and ``time_us`` are sums; ``rate_tflops`` is the peak of its arithmetic.

    ``role`` differs from that of the pattern where a unit is part of something larger: the softmax between two products.
    """

    described: Described
    launch: Launch
    module: str
    kernel: str = ""
    calls: float = 1.0
    time_us: float = 0.0
    rate_tflops: float = math.nan
    role: str = ""

    @property
    def pattern(self) -> str:
        """The name of its access pattern."""
        return self.described.pattern


def role_of(unit: Unit) -> str:
    """Return the role of a unit."""
    return unit.role or ROLES.get(unit.pattern, "other")


def resident_of(pattern: str) -> int:
    """Return how many blocks to take as resident where registers and shared memory are not known."""
    return _RESIDENT.get(pattern, 1)


def units_of(layers: Sequence[tuple[OpCall, str]], images: int) -> tuple[list[Unit], int]:
    """Return the units of a model known by its shapes, in order, and how many operators with work were left out."""
    units, left = [], 0
    for call, module in layers:
        described = describe(call)
        if described is None:
            left += bool(call.tensors()) and bool(call.results()) and not _is_view(call)
            continue
        geometry = assumed_geometry(described.problem, described.dtype)
        launch = Launch(described.problem, geometry, resident_of(described.pattern), images)
        units.append(Unit(described, launch, module_pattern(module)))
    return units, left


def _is_view(call: OpCall) -> bool:
    """Tell whether the first result lies in the storage of the first input."""
    inputs, results = call.tensors(), call.results()
    return inputs[0].storage is not None and inputs[0].storage == results[0].storage


@dataclass(frozen=True, slots=True)
class Mixing:
    """One attention of a model, however it was run: ``problem``, the number of the unit where it begins, and of its units."""

    problem: Attention
    first: int
    count: int


def attentions(units: Sequence[Unit]) -> list[Mixing]:
    """Return every attention among ``units``, fused or as product, softmax, product over the same scores."""
    found = []
    for i, unit in enumerate(units):
        problem = unit.launch.problem
        if isinstance(problem, Attention) and not unit.launch.materialised:
            found.append(Mixing(problem, i, 1))
        elif isinstance(problem, Product) and unit.pattern == "scores" and (chain := _chain(units, i)):
            found.append(chain)
    return found


_BETWEEN = 24
"""Kernels that may stand between the two products of an attention: scaling, bias, mask, all of a safe softmax, dropout."""


def _chain(units: Sequence[Unit], first: int) -> Mixing | None:
    """Return the attention that begins with the product Q K^T at ``first``; None where no softmax and PV follow."""
    scores = units[first].launch.problem
    if not isinstance(scores, Product):
        return None
    softmax = False
    for i in range(first + 1, min(first + 2 + _BETWEEN, len(units))):
        problem = units[i].launch.problem
        softmax |= units[i].pattern == "softmax" and problem.write_bytes == scores.write_bytes
        if isinstance(problem, Product):
            fits = (problem.batch, problem.m, problem.k) == (scores.batch, scores.m, scores.n)
            if not (softmax and fits):
                return None
            sizes = (scores.batch, 1, 1, scores.m, scores.n, scores.k, problem.n, scores.itemsize)
            return Mixing(Attention(*sizes), first, i - first + 1)
    return None


def in_roles(units: Sequence[Unit]) -> list[Unit]:
    """Return the units with the role of attention on whatever stands between its products."""
    out = list(units)
    for mixing in attentions(units):
        for i in range(mixing.first, mixing.first + mixing.count):
            out[i] = replace(out[i], role="attention")
    return out


def variant(unit: Unit, problem: Attention, *, materialised: bool) -> Unit:
    """Return the attention at ``unit`` in the other way: fused, or with its scores written out."""
    name = "attention_materialised" if materialised else "attention_fused"
    described = replace(unit.described, pattern=name, problem=problem)
    geometry = unit.launch.geometry
    if not (isinstance(unit.launch.problem, Attention) and geometry.tile_m):
        geometry = assumed_geometry(problem, described.dtype)
    geometry = replace(geometry, confidence="assumed")
    if materialised:  # the mask is a pass of its own there
        problem = replace(problem, extra_bytes=0)
    launch = replace(unit.launch, problem=problem, geometry=geometry, materialised=materialised)
    return replace(unit, described=described, launch=launch, kernel="", time_us=0.0, role="attention")


def fallback(pattern: str, read_bytes: float, shapes: str, dtype: str) -> Described:
    """Return one pass over bytes that the work model knows, where the arguments do not tell inputs from outputs."""
    return Described(pattern, Pass(int(read_bytes), 0), shapes, dtype)
