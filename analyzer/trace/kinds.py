"""Ordered rules that name what a kernel does, from its operator first and its own name second."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import pandas as pd

from analyzer.schema.operators import OpCall
from analyzer.trace.fused import fused_kind, fused_operators
from analyzer.trace.kind_rules import (
    BRACKET_PATTERN,
    CALL_PATTERN,
    COMPILER_PATTERN,
    KERNELS,
    OPERATORS,
    WRAPPER_PATTERN,
    WRAPPERS,
)
from analyzer.trace.spans import Spans

KINDS = (
    "attention", "matmul", "moe", "convolution", "depthwise", "normalisation", "pointwise", "pooling", "reduction", "indexing",
    "layout", "transfer", "view", "collective", "optimizer", "other", "unclassified",
)  # fmt: skip
"""All kinds in their fixed order, which is also the order and colour of every figure."""

ROLES = {
    "attention": "token or spatial mixing", "depthwise": "token or spatial mixing", "matmul": "dense math", "moe": "experts",
    "convolution": "dense math", "normalisation": "normalisation", "pointwise": "pointwise", "pooling": "pooling",
    "reduction": "other", "indexing": "data movement", "layout": "data movement", "transfer": "data movement",
    "view": "other", "collective": "communication", "optimizer": "training", "other": "other", "unclassified": "other",
}  # fmt: skip

_NAMES_KEPT = 1 << 20
"""Names whose kind is remembered. A smaller number than a trace has different names would be of no use at all: names are asked
for in turn, so that each would be forgotten before it comes again."""

JOINT = "+"
"""Stands between the names of operators that a compiler put into one kernel."""

NOT_CLASSIFIED = ("other", "unclassified")

_OPERATOR_RULES = tuple((re.compile(pattern), kind) for pattern, kind in OPERATORS)
_KERNEL_RULES = tuple((re.compile(pattern), kind) for pattern, kind in KERNELS)
_FUSED_ORDER = (
    "attention", "convolution", "depthwise", "matmul", "normalisation", "pooling", "reduction", "indexing", "layout",
)  # fmt: skip
"""What names a compiled kernel of several operators: the first of these."""
_PARTS_ORDER = ("moe", "optimizer", *_FUSED_ORDER[:-1], "pointwise", "layout", "collective")
_MOMENTS = frozenset(("var_mean", "native_layer_norm", "native_group_norm", "native_batch_norm"))
_REDUCING = frozenset(("pooling", "reduction"))
"""C++ code of Inductor holds reductions and what uses them in one kernel, so a reduction in its name is in the kernel too."""
_WRITES_WHOLE = ("aten::select_backward", "aten::slice_backward", "aten::unfold_backward")
"""The backwards of views that write a whole tensor around what they are given, so are no views themselves."""
_UNNAMED_TRITON = re.compile(r"^triton_?_(\d+d|\d+$)")
_ATTENTION_MODULE = re.compile(r"(^|[._])(attn|attention|selfattention|self_attn|mha|multihead\w*)($|[._\d])", re.IGNORECASE)


def is_bracket(op: str) -> bool:
    """Tell whether ``op`` is one of autograd's brackets around operators, which do nothing themselves even when empty."""
    return BRACKET_PATTERN.match(op) is not None


def is_compiler(op: str) -> bool:
    """Tell whether ``op`` is what torch.compile writes around compiled code, and no operator."""
    return COMPILER_PATTERN.match(op) is not None


def is_no_operator(op: str) -> bool:
    """Tell whether ``op`` stands among the operators of a trace and is none: a compiled region, or a call of the runtime."""
    return is_compiler(op) or CALL_PATTERN.match(op) is not None


def is_autograd(op: str) -> bool:
    """Tell whether ``op`` stands around operators of a backward pass, as every version of torch names it."""
    return WRAPPER_PATTERN.match(op) is not None and not op.startswith("Optimizer.")


def is_wrapper(op: str) -> bool:
    """Tell whether ``op`` only calls other operators, so that its own time is dispatch and not work."""
    return op in WRAPPERS or WRAPPER_PATTERN.match(op) is not None


@lru_cache(maxsize=_NAMES_KEPT)
def operator_kind(op: str) -> str | None:
    """Return the kind of an operator by its name, None where no rule fits; of several joined by JOINT the weightiest."""
    if fused_kind(op):
        return _compiled_kind(op)
    if JOINT in op:
        return composed_kind(op.split(JOINT))
    if WRAPPER_PATTERN.match(op):
        return None
    if op in _WRITES_WHOLE:
        return "indexing"
    namespace, _, short = op.rpartition("::")
    short = op if namespace.startswith(("nccl", "c10d", "symm_mem")) else short
    short = short.removesuffix("_backward")
    return next((kind for rule, kind in _OPERATOR_RULES if rule.search(short)), None)


@lru_cache(maxsize=_NAMES_KEPT)
def kernel_kind(kernel: str, *, shares: bool = False) -> str | None:
    """Return the kind of a GPU kernel by its own name, None where no rule fits.

    ``shares``: it uses shared memory. That alone tells the reductions from the pointwise kernels among Triton kernels whose
    names carry no operator (``triton__0d1d2d``): elements that do not meet need none.
    """
    if fused_kind(kernel):
        return _compiled_kind(kernel)
    if _UNNAMED_TRITON.match(kernel):
        return "reduction" if shares else "pointwise"
    name = kernel[:2000].lower()
    return next((kind for rule, kind in _KERNEL_RULES if rule.search(name)), None)


def _compiled_kind(name: str) -> str:
    """Return the kind of a kernel that Inductor made of several operators, from their names and the sort of its loop."""
    sort, inside = fused_kind(name), fused_operators(name)
    kinds = {operator_kind(f"aten::{op}") for op in inside}
    if sort == "foreach":
        return "optimizer"
    reduces = sort == "reduction" or (sort == "loops" and bool(kinds & _REDUCING or _MOMENTS & set(inside)))
    if reduces:
        if (sort == "reduction" and "normalisation" in kinds) or _MOMENTS & set(inside):
            return "normalisation"
        return "pooling" if "pooling" in kinds else "reduction"
    found = next((kind for kind in _FUSED_ORDER if kind in kinds), None)
    if sort == "template":
        return found or "matmul"
    # the norm or reduction itself is another kernel; this one only uses its result, as it does that of a product
    return found if found in ("pooling", "indexing") or (found == "layout" and "pointwise" not in kinds) else "pointwise"


def is_depthwise(call: OpCall) -> bool:
    """Tell whether a convolution has one input channel per group and more than one group."""
    backward = "backward" in call.name
    tensors = [t for t in call.tensors()[: 3 if backward else 2] if len(t.shape) >= 3]
    if call.name.endswith("_backward_weight"):  # the weight is what comes out
        tensors += call.results()[:1]
    if len(tensors) < 2:
        return False
    image, weight = tensors[0], tensors[-1]
    if len(weight.shape) < 4:
        return False
    return weight.shape[1] == 1 and weight.shape[0] > 1 and image.shape[-3] == weight.shape[0]


def classify(
    op: str, kernel: str, *, category: str, depthwise: bool, in_attention: bool, module: str, shares: bool = False
) -> str:
    """Return the kind of one launch.

    The operator decides; a kernel that only rearranges data for it (NCHW to NHWC before a convolution) counts as layout.
    ``depthwise``: the convolution has one group per channel. ``in_attention``: an operator of attention encloses it.
    A softmax or a batched product in a module named after attention belongs to attention with its scores materialised.
    ``shares``: the kernel uses shared memory.
    """
    if category in ("memcpy", "memset"):
        return "transfer"
    own = kernel_kind(kernel, shares=shares) if category == "kernel" else None
    by_op = operator_kind(op) if op else None
    if own == "layout" and by_op in ("convolution", "depthwise", "matmul", "attention", "normalisation"):
        return "layout"
    if by_op is None or (by_op == "view" and own):
        return own or "unclassified"
    if by_op == "convolution" and depthwise:
        return "depthwise"
    if by_op == "view":
        return by_op
    scores = re.search(r"softmax|::b(add)?bmm$|::bmm$", op) and _ATTENTION_MODULE.search(module)
    return "attention" if in_attention or scores else by_op


def classify_launches(launches: pd.DataFrame, calls: list[OpCall | None], ops: Spans, names: list[str]) -> pd.DataFrame:
    """Return ``launches`` with the columns ``kind`` and ``role``.

    ``calls``, ``ops`` and ``names`` describe the operators of the trace; ``launches.op_index`` points into them.
    """
    attention = enclosed_by(names, ops, lambda name: operator_kind(name) == "attention" or "_dot_product_" in name)
    index = launches["op_index"].tolist()
    launching = {id(call): call for i in set(index) if i >= 0 and (call := calls[i]) is not None}
    depthwise = {key: any(map(is_depthwise, call.parts or (call,))) for key, call in launching.items()}
    # the name that the trace has: the operators in a generated kernel alone do not tell its kind
    own = [names[i] if i >= 0 else op for i, op in zip(index, launches["op"], strict=True)]
    columns = (own, *(launches[name].tolist() for name in ("kernel", "category", "module")))
    deep = [i >= 0 and depthwise.get(id(calls[i]), False) for i in index]
    within = [i >= 0 and attention[i] for i in index]
    known: dict[tuple[Any, ...], str] = {}
    kinds = []
    for key in zip(*columns, deep, within, (launches["shared_bytes"] > 0).tolist(), strict=True):
        if key not in known:
            op, kernel, category, module, is_deep, inside, shares = key
            known[key] = classify(
                op, kernel, category=category, module=module, depthwise=is_deep, in_attention=inside, shares=shares
            )
        kinds.append(known[key])
    composed = {key: composed_kind(part.name for part in call.parts) for key, call in launching.items() if call.parts}
    if composed:
        kinds = [
            _with_parts(kind, composed.get(id(calls[i]))) if i >= 0 else kind for i, kind in zip(index, kinds, strict=True)
        ]
    return launches.assign(kind=kinds, role=[ROLES[kind] for kind in kinds])


def composed_kind(parts: Iterable[str]) -> str | None:
    """Return the kind of a kernel of which the operators are known: that of the weightiest, None where none has one.

    What a compiler put into one kernel need not be in its name as it is: a kernel that only prepares an image for a convolution
    is called after it, and a whole normalisation looks like the use of one.
    """
    found = {operator_kind(part) for part in parts}
    return next((kind for kind in _PARTS_ORDER if kind in found), None)


def _with_parts(kind: str, composed: str | None) -> str:
    """Return the kind of a launch whose operators are known; what its surroundings tell of it stays."""
    if composed is None or kind in ("attention", "transfer") or (kind, composed) == ("depthwise", "convolution"):
        return kind
    return composed


def enclosed_by(names: list[str], ops: Spans, wanted: Callable[[str], bool]) -> list[bool]:
    """Tell for each operator whether it, or one that encloses it, is ``wanted``."""
    known = {name: wanted(name) for name in set(names)}
    out = [known[name] for name in names]
    for i in ops.order.tolist():  # parents first, so each has its answer when its children ask
        parent = int(ops.parent[i])
        out[i] = out[i] or (parent >= 0 and out[parent])
    return out
