"""Which launches do the work of an operator, so that its FLOP and bytes are counted once."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.metrics.work import Work, has_formula, work_of
from analyzer.schema.operators import OpCall
from analyzer.trace.kinds import operator_kind
from analyzer.trace.spans import Int64, Spans

MODELLED = ("formula", "helper", "view")

_DELEGATES = ("aten::scaled_dot_product_attention",)
"""Operators that hand their work to others with formulas of their own: the math path of attention runs products and a softmax
with materialised scores, whose bytes are what a reader wants to see."""


def add_work(launches: pd.DataFrame, calls: list[OpCall | None], ops: Spans, names: list[str]) -> pd.DataFrame:
    """Return ``launches`` with ``flop``, ``bytes_compulsory``, ``basis``, ``shapes`` and ``dtype``.

    Approximation: several launches that do the work of one operator share it in proportion to their durations.

    The work of an operator belongs to the launches below it that have its kind (all of them where none has); the others
    (layout changes, bias copies) are ``helper`` launches: the formula covers what they are for, so they have no floor of
    their own. ``basis`` is ``formula``, ``helper``, ``view``, ``generic`` or ``none``.
    """
    owner = _owners(names, ops)[launches["op_index"].to_numpy(np.int64)] if len(names) else _nobody(launches)
    owner = np.where(launches["op_index"].to_numpy(np.int64) >= 0, owner, -1)
    known: dict[int, Work | None] = {}  # operators with the same arguments share their call
    work = {}
    for i in np.unique(owner[owner >= 0]).tolist():
        call = calls[i]
        if id(call) not in known:
            known[id(call)] = work_of(call) if call is not None else None
        work[i] = known[id(call)]
    share, basis = _shares(launches, owner, work, names)
    flop = [w.flop if i >= 0 and (w := work[int(i)]) else np.nan for i in owner]
    size = [w.bytes if i >= 0 and (w := work[int(i)]) else np.nan for i in owner]
    described = _describe_all([calls[i] if i >= 0 else None for i in owner.tolist()])
    return launches.assign(
        flop=np.array(flop, np.float64) * share,
        bytes_compulsory=np.array(size, np.float64) * share,
        basis=basis,
        shapes=[shapes for shapes, _ in described],
        dtype=[dtype for _, dtype in described],
    )


def counted(launches: pd.DataFrame) -> pd.Series[bool]:
    """Tell which launches carry FLOP and bytes that sums may use: those of a formula, not estimates and not helpers."""
    return launches["basis"] == "formula"


def _nobody(launches: pd.DataFrame) -> Int64:
    return np.full(len(launches), -1, dtype=np.int64)


def _owners(names: list[str], ops: Spans) -> Int64:
    """Return for each operator the outermost enclosing operator that has a formula, else the operator itself."""
    known = {name: has_formula(name) and name not in _DELEGATES for name in set(names)}
    owner = np.arange(len(names), dtype=np.int64)
    owned = [known[name] for name in names]
    for i in ops.order.tolist():  # parents first, so each has its answer when its children ask
        parent = int(ops.parent[i])
        if parent >= 0 and owned[parent]:
            owner[i], owned[i] = owner[parent], True
    return owner


def _shares(
    launches: pd.DataFrame, owner: Int64, work: dict[int, Work | None], names: list[str]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[str]]:
    duration = launches["dur_ns"].to_numpy(np.float64)
    kinds = launches["kind"].to_numpy(object)
    share = np.zeros(len(launches))
    basis = ["none"] * len(launches)
    if launches.empty:
        return share, basis
    order = np.argsort(owner, kind="stable")
    indices, first = np.unique(owner[order], return_index=True)
    for index, mine in zip(indices.tolist(), np.split(order, first[1:]), strict=True):
        found = work.get(index)
        if index < 0 or found is None:
            continue
        wanted = operator_kind(names[index])
        same = [i for i in mine if kinds[i] == wanted or (wanted == "convolution" and kinds[i] == "depthwise")]
        same = same or [i for i in mine if kinds[i] == "attention"]
        main = np.array(same or list(mine), dtype=np.int64)
        total = duration[main].sum()
        share[main] = duration[main] / total if total > 0 else 1.0 / len(main)
        for i in mine:
            basis[i] = "helper"
        label = "view" if wanted == "view" else found.basis
        for i in main:
            basis[i] = label
    return share, basis


def _describe_all(calls: list[OpCall | None]) -> list[tuple[str, str]]:
    known = {id(call): call for call in calls}
    described = {key: _describe(call) for key, call in known.items()}
    return [described[id(call)] for call in calls]


def _describe(call: OpCall | None) -> tuple[str, str]:
    """Return the input shapes as text, ``1x197x768 768x2304``, and the element type of the operator."""
    if call is None:
        return "", ""
    tensors = call.tensors()
    shapes = " ".join("x".join(map(str, t.shape)) or "scalar" for t in tensors[:8])
    dtype = next((t.dtype for t in tensors if t.dtype != "unknown"), "")
    return shapes + (" ..." if len(tensors) > 8 else ""), dtype
