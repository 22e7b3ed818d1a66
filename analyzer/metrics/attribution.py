"""Which launches do the work of an operator, so that its FLOP and bytes are counted once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.metrics.arithmetic import MATRIX_KINDS
from analyzer.metrics.work import Work, bytes_apart, has_formula, work_of
from analyzer.schema.operators import OpCall
from analyzer.trace.fused import fused_kind
from analyzer.trace.kinds import JOINT, is_autograd, is_no_operator, operator_kind
from analyzer.trace.link import ALIGNED, GRAPH
from analyzer.trace.regions import fused_name
from analyzer.trace.shapes import shapes_text
from analyzer.trace.spans import Int64, Spans

MODELLED = ("formula", "helper", "view")

_DELEGATES = frozenset(
    ("aten::scaled_dot_product_attention", "aten::cudnn_convolution_backward", "aten::cudnn_convolution_transpose_backward")
)
"""Operators that hand their work to others with formulas of their own: the math path of attention runs products and a softmax
with materialised scores, whose bytes are what a reader wants to see; a backward convolution its two halves."""

IN_A_GRAPH = "replayed from a CUDA graph, without operators"
NO_OPERATOR = "launched outside every operator"
IN_PART = (
    "a CUDA graph replayed other kernels of its operator than the trace without graphs, or kernels of another or unknown size, "
    "or that trace has no shapes"
)
NO_SHAPES = "no shapes in the trace"
NO_FORMULA = "no formula for this operator"
HIDDEN_CODE = "the time of compiled code, of which the trace shows no kernels"
NO_PARTS = "an operator in this kernel has no formula, or what the kernel reads and writes was not recorded"
NO_ARGUMENTS = "an argument or a shape is not in the trace"
IMPOSSIBLE = "its figures exceed what the device can do"
NO_ELEMENT_TYPE = "the element type of its list is not in the trace"


def add_work(launches: pd.DataFrame, calls: list[OpCall | None], ops: Spans, names: list[str]) -> pd.DataFrame:
    """Return ``launches`` with their work: FLOP and bytes, whose operator it is and what it rests on.

    Columns added: ``owner`` (the operator that has the work, -1 without) and its name ``owner_op``; ``is_backward`` (autograd
    called its operator); ``flop, bytes_compulsory, bytes_high, basis, unmodelled, shapes, dtype``; ``parts``, how many
    operators of the model are in it (0 where none is known), and ``bytes_apart``, the bytes that these would move each on its
    own (of a kernel of one operator its compulsory bytes). A compiler repeats an operator in each kernel that needs its result,
    so ``bytes_apart`` summed over launches counts it several times: the sum is not what the eager model moves.

    Approximation: several launches that do the work of one operator share it in proportion to their durations.

    The work of an operator belongs to the launches below it that have its kind (all of them where none has); the others
    (layout changes, bias copies) are ``helper`` launches: the formula covers what they are for, so they have no floor of
    their own. ``basis`` is ``formula``, ``helper``, ``view``, ``generic`` or ``none``; ``unmodelled`` says why of the last two.
    ``bytes_high`` differs from ``bytes_compulsory`` where shapes leave open how much is moved.
    """
    index = launches["op_index"].to_numpy(np.int64)
    work = _Works(calls)
    owner = _owners(names, ops, work, np.unique(index[index >= 0]))[index] if len(names) else _nobody(launches)
    owner = np.where(index >= 0, owner, -1)
    works = {i: work.of(i) for i in np.unique(owner[owner >= 0]).tolist()}
    share, basis = _shares(launches, owner, works, names)
    found = [works[i] if i >= 0 else None for i in owner.tolist()]
    described = _describe_all([calls[i] if i >= 0 else None for i in owner.tolist()])
    reasons = {i: _reason(calls[i], w, names[i]) for i, w in works.items()}
    apart = {i: _apart(calls[i], w) for i, w in works.items()}
    shown = _shown(names, calls, list(works))
    parts = {i: _count_parts(name, calls[i]) for i, name in shown.items()}
    outside = np.where(launches["link"].eq(GRAPH), IN_A_GRAPH, NO_OPERATOR)
    lacking = {i for i in owner[launches["link"].eq(ALIGNED).to_numpy(bool)].tolist() if i >= 0 and calls[i] is None}
    reasons |= dict.fromkeys(lacking, IN_PART)
    return launches.assign(
        owner=owner,
        owner_op=np.array([shown.get(i, op) for i, op in zip(owner.tolist(), launches["op"], strict=True)], object),
        is_backward=_called_by_autograd(index, ops, names),
        flop=np.array([w.flop if w else np.nan for w in found], np.float64) * share,
        bytes_compulsory=np.array([w.bytes if w else np.nan for w in found], np.float64) * share,
        bytes_high=np.array([_high(w) for w in found], np.float64) * share,
        basis=basis,
        unmodelled=[
            "" if b in MODELLED else reasons[i] if i >= 0 else str(out)
            for b, i, out in zip(basis, owner.tolist(), outside, strict=True)
        ],
        shapes=[shapes for shapes, _ in described],
        dtype=[dtype for _, dtype in described],
        parts=[parts.get(i, 0) for i in owner.tolist()],
        bytes_apart=np.array([apart.get(i, np.nan) for i in owner.tolist()], np.float64) * share,
    )


def _apart(call: OpCall | None, work: Work | None) -> float:
    if call is not None and call.parts:
        return bytes_apart(call)
    # in the name of a generated kernel stand its operators, but not what each of them would read and write
    return np.nan if work is None or (call is not None and fused_kind(call.name)) else work.bytes


def _shown(names: list[str], calls: list[OpCall | None], rows: list[int]) -> dict[int, str]:
    """Return by row the operators that each of the trace stands for, joined."""
    plain = {name: fused_name(name) for name in {names[i] for i in rows}}
    return {i: fused_name(names[i], call) if (call := calls[i]) and call.parts else plain[names[i]] for i in rows}


def _count_parts(shown: str, call: OpCall | None) -> int:
    """Return the number of operators in one of the trace, views not counted where there is anything else."""
    if call is not None and call.parts:
        return sum(operator_kind(part.name) != "view" for part in call.parts) or 1
    return len(shown.split(JOINT)) if shown else 0


def _called_by_autograd(index: Int64, ops: Spans, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which of the operators at ``index`` lie inside one of autograd's brackets, which stand around a backward pass."""
    bracket = {name for name in set(names) if is_autograd(name)}
    out = np.zeros(len(index), bool)
    if not bracket:
        return out
    autograd = np.array([name in bracket for name in names], bool)
    level = index.copy()
    while (level >= 0).any():
        known = level >= 0
        out[known] |= autograd[level[known]]
        level[known] = ops.parent[level[known]]
    return out


def _high(work: Work | None) -> float:
    if work is None:
        return np.nan
    return work.bytes if work.bytes_high is None else work.bytes_high


def _reason(call: OpCall | None, work: Work | None, name: str) -> str:
    """Return why the launches of an operator have no model; empty where they have one."""
    if work is not None and work.basis == "formula":
        return ""
    if is_no_operator(name):
        return HIDDEN_CODE
    if call is None:
        return NO_SHAPES
    if call.parts:
        return NO_PARTS
    if not has_formula(name):
        return NO_FORMULA if call.tensors() else NO_SHAPES
    return NO_ELEMENT_TYPE if work is not None else NO_ARGUMENTS


class _Works:
    """The work of each operator, computed once for all that have the same arguments."""

    def __init__(self, calls: list[OpCall | None]) -> None:
        self._calls = calls
        self._known: dict[int, Work | None] = {}
        self.composed = frozenset(i for i, call in enumerate(calls) if call is not None and call.parts)
        """Operators that a compiler put together of others: they have the work of these, whatever their names."""

    def of(self, i: int) -> Work | None:
        call = self._calls[i]
        if id(call) not in self._known:
            self._known[id(call)] = work_of(call) if call is not None else None
        return self._known[id(call)]


def counted(launches: pd.DataFrame) -> pd.Series[bool]:
    """Tell which launches carry FLOP and bytes that sums may use: those of a formula, not estimates and not helpers."""
    return launches["basis"] == "formula"


def _nobody(launches: pd.DataFrame) -> Int64:
    return np.full(len(launches), -1, dtype=np.int64)


def _owners(names: list[str], ops: Spans, work: _Works, launching: Int64) -> Int64:
    """Return for each operator the outermost enclosing one that has a formula and the arguments for it, else itself.

    Only operators around ``launching`` ones, which launch something themselves, are asked for their work. One that calls itself
    again leaves the work to that call: autocast casts the arguments in the outer one, and the inner one computes with them.
    """
    known = {name: has_formula(name) and name not in _DELEGATES for name in set(names)}
    composed = work.composed
    around = np.zeros(len(names), bool)
    level = launching
    while len(level):
        level = level[~around[level]]
        around[level] = True
        level = np.unique(ops.parent[level])
        level = level[level >= 0]
    outer = {int(ops.parent[i]) for i in _repeated(names, ops, around) if known[names[i]] and work.of(i) is not None}
    owner = np.arange(len(names), dtype=np.int64)
    owned = [False] * len(names)
    for i in ops.order[around[ops.order]].tolist():  # parents first, so each has its answer when its children ask
        parent = int(ops.parent[i])
        if parent >= 0 and owned[parent]:
            owner[i], owned[i] = owner[parent], True
        elif known[names[i]] or i in composed:
            owned[i] = i not in outer and work.of(i) is not None
    return owner


def _repeated(names: list[str], ops: Spans, around: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    """Return those of the operators ``around`` that an operator of the same name calls directly."""
    codes = pd.factorize(np.array(names, object))[0]
    again = around & (ops.parent >= 0)
    again[again] = codes[ops.parent[again]] == codes[again]
    return np.flatnonzero(again).tolist()


def _shares(
    launches: pd.DataFrame, owner: Int64, work: dict[int, Work | None], names: list[str]
) -> tuple[npt.NDArray[np.float64], list[str]]:
    duration = launches["dur_ns"].to_numpy(np.float64)
    kinds = launches["kind"].to_numpy(object)
    share = np.zeros(len(launches))
    basis = ["none"] * len(launches)
    if launches.empty:
        return share, basis
    order = np.argsort(owner, kind="stable")
    indices, first = np.unique(owner[order], return_index=True)
    rows, ends = order.tolist(), [*first.tolist()[1:], len(order)]
    for index, start, end in zip(indices.tolist(), first.tolist(), ends, strict=True):
        found = work.get(index)
        if index < 0 or found is None:
            continue
        mine, wanted = rows[start:end], operator_kind(names[index])
        main = _main(mine, kinds, wanted)
        for i in mine:
            basis[i] = "helper"
        label = "view" if wanted == "view" and not found.bytes else found.basis
        for i in main:
            basis[i] = label
        if len(main) == 1:  # as with most operators: no arrays for one number
            share[main[0]] = 1.0
        elif main:
            total = duration[main].sum()
            share[main] = duration[main] / total if total > 0 else 1.0 / len(main)
    return share, basis


def _main(mine: list[int], kinds: npt.NDArray[np.object_], wanted: str | None) -> list[int]:
    """Return which launches of an operator of the kind ``wanted`` do its work."""
    same = [i for i in mine if kinds[i] == wanted or (wanted == "convolution" and kinds[i] == "depthwise")]
    same = same or [i for i in mine if kinds[i] == "attention"]
    # what only looks at tensors does no work, and what only rearranges does not do the arithmetic of a product, even where
    # it is all that the trace has of one
    idle = ("view", "layout", "transfer") if wanted in MATRIX_KINDS else ("view",) if wanted != "view" else ()
    return same or [i for i in mine if kinds[i] not in idle]


def _describe_all(calls: list[OpCall | None]) -> list[tuple[str, str]]:
    known = {id(call): call for call in calls}
    described = {key: shapes_text(call) if call is not None else ("", "") for key, call in known.items()}
    return [described[id(call)] for call in calls]
