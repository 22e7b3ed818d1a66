"""Reductions and scans."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.metrics.work.pointwise import elementwise
from analyzer.metrics.work.registry import PER_ELEMENT, Work, band, formula_of, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import broadcast, concrete_dtype, like, promoted, reduced, short_name


@dataclass(frozen=True, slots=True)
class _Rule:
    """FLOP per element, and where the arguments stand. ``whole``: a call with this many arguments reduces everything.

    ``dtype``: of the output; ``like`` the input, ``sum`` (integers become int64), or a type. ``also``: of a second output.
    """

    flop: float
    dim: int = 1
    keep: int = 2
    type_at: int = -1
    whole: int = 1
    dtype: str = "like"
    also: str | None = None


_SUM = _Rule(1.0, type_at=3, whole=2, dtype="sum")
_VARIANCE = _Rule(3.0, keep=3, whole=2)
_EXTREME = _Rule(0.0, also="int64")
_NORM = _Rule(2.0, dim=2, keep=3, type_at=4, whole=2)
_RULES = {
    **dict.fromkeys(("sum", "nansum", "prod"), _SUM),
    "mean": _Rule(1.0, type_at=3, whole=2),
    "nanmean": _Rule(1.0, type_at=3, whole=0),
    **dict.fromkeys(("var", "std"), _VARIANCE),
    **dict.fromkeys(("var_mean", "std_mean"), _Rule(3.0, keep=3, whole=2, also="like")),
    **dict.fromkeys(("max", "min", "median", "nanmedian"), _EXTREME),
    **dict.fromkeys(("amax", "amin"), _Rule(0.0)),
    **dict.fromkeys(("aminmax", "_aminmax"), _Rule(0.0, also="like")),
    **dict.fromkeys(("argmax", "argmin"), _Rule(0.0, dtype="int64")),
    **dict.fromkeys(("all", "any"), _Rule(0.0, dtype="bool")),
    "count_nonzero": _Rule(0.0, keep=-1, dtype="int64", whole=1),
    "norm": _NORM,
    "linalg_vector_norm": _Rule(2.0, dim=2, keep=3, type_at=4, whole=0),
    "logsumexp": _Rule(3.0),
}


@register(*_RULES)
def _reduction(call: OpCall) -> Work | None:
    """One FLOP per input element, two for a norm, three for a variance or logsumexp, none for a maximum or a count.

    Where the dimensions were not recorded, the output lies between one element and the size of the input.
    """
    x, rule, name = call.tensor(0), _RULES[short_name(call)], short_name(call)
    if x is None:
        return None
    other = call.tensor(1)
    if name in ("max", "min") and other is not None and (len(call.inputs) == 2 or call.tensor(2)) and other.shape:
        pairwise = formula_of("aten::maximum")
        return pairwise(call) if pairwise else None
    flop = rule.flop * x.numel
    writes = call.results() or call.tensors()[1:] or _outputs(call, x, rule)
    if writes is not None:
        return tally(flop, [x], writes)
    least = _typed(call, x, rule).itemsize
    return band(flop, x.footprint_bytes + least, x.footprint_bytes + x.numel * (least + (8 if rule.also else 0)))


PER_ELEMENT.update({name: rule.flop for name, rule in _RULES.items()})


def _typed(call: OpCall, x: TensorArg, rule: _Rule) -> TensorArg:
    """Return a tensor of the output's element type."""
    short_form = rule.whole == 2 and len(call.inputs) == 2
    given = concrete_dtype(call, 1 if short_form and rule.type_at >= 0 else rule.type_at) if rule.type_at >= 0 else None
    if rule.dtype == "sum":
        return like(x, dtype=given or ("int64" if x.dtype.startswith(("int", "uint", "bool")) else None))
    return like(x, dtype=given or (None if rule.dtype == "like" else rule.dtype))


def _outputs(call: OpCall, x: TensorArg, rule: _Rule) -> list[TensorArg] | None:
    dims, keep = call.ints(rule.dim), call.value(rule.keep) if rule.keep >= 0 else False
    typed = _typed(call, x, rule)
    if len(call.inputs) <= rule.whole:
        also = [like(x, ())] if rule.also == "like" else []
        return [like(typed, ()), *also]
    if rule.keep >= len(call.inputs):
        keep = False
    if dims is None and not isinstance(keep, bool):
        return None
    if dims is None and (rule.dim >= len(call.inputs) or call.inputs[rule.dim] is not None):
        return None
    shape = reduced(x.shape, dims or (), keep is True)
    if shape is None:
        return None
    also = [] if rule.also is None else [like(x, shape, None if rule.also == "like" else rule.also)]
    return [like(typed, shape), *also]


@register("cumsum", "cumprod", "logcumsumexp", "_cumsum", "_cumprod")
def _scan(call: OpCall) -> Work | None:
    """One FLOP per element; writes as many, sums of integers as int64 (type at 2)."""
    x = call.tensor(0)
    if x is None:
        return None
    integral = x.dtype.startswith(("int", "uint", "bool"))
    dtype = concrete_dtype(call, 2) or ("int64" if integral else None)
    return tally(x.numel, [x], call.results() or call.tensors()[1:] or [like(x, dtype=dtype)])


elementwise(1.0, (0,), lambda tensors: tensors[0].dtype, "cumsum_", "cumprod_", inplace=False)


@register("cummax", "cummin")
def _extreme_scan(call: OpCall) -> Work | None:
    """No FLOP; writes values and int64 indices."""
    x = call.tensor(0)
    return None if x is None else tally(0.0, [x], call.results() or [like(x), like(x, dtype="int64")])


@register("dist", "_dist")
def _distance(call: OpCall) -> Work | None:
    """Three FLOP per element: difference, power, sum; writes one number."""
    a, b = call.tensor(0), call.tensor(1)
    shape = broadcast([a.shape, b.shape]) if a is not None and b is not None else None
    if a is None or b is None or shape is None:
        return None
    return tally(3.0 * like(a, shape).numel, [a, b], call.results() or [TensorArg((), promoted([a, b]))])


@register("cdist", "_cdist_forward", "_euclidean_dist")
def _distances(call: OpCall) -> Work | None:
    """Three FLOP per pair and coordinate: [..., P, D] and [..., R, D] make [..., P, R]."""
    a, b = call.tensor(0), call.tensor(1)
    if a is None or b is None or len(a.shape) < 2 or len(b.shape) < 2:
        return None
    batch = broadcast([a.shape[:-2], b.shape[:-2]])
    if batch is None:
        return None
    out = like(a, (*batch, a.shape[-2], b.shape[-2]))
    return tally(3.0 * out.numel * a.shape[-1], [a, b], call.results() or [out])
