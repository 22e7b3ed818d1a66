"""The finding about attention that writes its scores to memory where a fused kernel would keep them on chip."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.insight.rules.selection import (
    NEGLIGIBLE_PCT,
    bandwidth_gbps,
    count_fact,
    dims_of,
    kernel_saving,
    kernels,
    numel,
    per,
    per_step_us,
    same_work,
    share_fact,
    share_pct,
    shown,
    time_fact,
    waiting_note,
    worker,
)
from analyzer.insight.rules.statement import fact, step_us, steps_of
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Finding
from analyzer.schema.operators import ITEMSIZE
from analyzer.schema.results import Analysis

_PRODUCT = re.compile(r"^aten::(bmm|baddbmm|matmul)$")
_SOFTMAX = re.compile(r"^aten::(_safe_softmax|_?softmax)$")
BETWEEN = 24
"""Launches that may stand between the two products of one attention: scaling, bias, mask, dropout, copies."""


@dataclass(frozen=True, slots=True)
class Written:
    """One attention with written scores: its launches, the bytes of its scores, and what a fused one needs at least.

    ``fused_bytes`` are those of queries, keys, values and outputs; ``floor_compute_us`` the arithmetic of both products.
    """

    rows: tuple[int, ...]
    score_bytes: int
    fused_bytes: int
    floor_compute_us: float


def materialised_attention(a: Analysis) -> Finding | None:
    """Return that attention runs as two products with a softmax between them, its scores written out and read again.

    Found by shapes: a batched product, a softmax over as many elements as it has results, and the product of those with the
    values. The saving is at most the time of all launches from the first product to the second less the floor of fused
    attention. At least it is what the access model says the written scores cost beyond fused attention; 0 where that is silent.
    Approximation: without the access model, fused attention takes the arithmetic of both products or one pass over queries,
    keys, values and outputs, whichever is longer.
    """
    rows = kernels(a)
    found = _find(rows)
    if not found:
        return None
    mine = rows.loc[sorted({i for chain in found for i in chain.rows})]
    if share_pct(a, mine) < NEGLIGIBLE_PCT:
        return None
    low, fused_us = _modelled(a, found)
    time, share = time_fact(a, mine, "time of this attention"), share_fact(a, mine)
    count = count_fact(a, len(found), "attentions")
    scores = fact("scores written", sum(c.score_bytes for c in found) / steps_of(a), "bytes", Evidence.DERIVED)
    fused = fact("floor of fused attention", fused_us, "us", Evidence.MODELLED)
    note, more = waiting_note(a)
    return Finding(
        rule="materialised_attention",
        run=a.run.name,
        title=f"Attention writes its scores to memory: {shown(share)} of the time of all {worker(a)}",
        claim=(
            f"{shown(count)} attentions {per(a)} run as a product, a softmax and a product, and take {shown(time)}. They write "
            f"{shown(scores)} of scores and read them again. Fused attention keeps the scores on chip and needs at least "
            f"{shown(fused)}. torch.nn.functional.scaled_dot_product_attention picks a fused one where one fits. None fits "
            f"where the model returns or changes the scores.{note}"
        ),
        facts=(time, share, count, scores, fused, *more),
        saving=kernel_saving(a, low, per_step_us(a, mine) - fused_us, per_step_us(a, mine)),
        step_us=step_us(a),
        effort="a small change",
        disproof=(
            f"Run {same_work(a)} with torch.nn.functional.scaled_dot_product_attention and see that no softmax is left in its "
            "trace. If the attention takes as long as before, its scores were not what took the time."
        ),
        target="access",
    )


def _modelled(a: Analysis, found: list[Written]) -> tuple[float, float]:
    """Return the least that the scores cost and the floor of fused attention, both in µs per step."""
    known = a.access.costs if a.access is not None and a.access.devices else ()
    device = a.access.devices[0].key if a.access is not None and a.access.devices else ""
    ways = {cost.attention: cost for cost in known if cost.role == "attention" and cost.device == device}
    if a.access is not None and a.access.attention == "materialised" and "fused" in ways and "materialised" in ways:
        fused, written = ways["fused"], ways["materialised"]
        least = (written.floor_us + written.excess_us[0]) - (fused.floor_us + fused.excess_us[1])
        return max(least, 0.0), fused.floor_us + fused.excess_us[0]
    gbps = bandwidth_gbps(a)
    floors = (max(c.floor_compute_us, c.fused_bytes / gbps / 1e3 if gbps else 0.0) for c in found)
    return 0.0, sum(floors) / steps_of(a)


def _find(rows: pd.DataFrame) -> list[Written]:
    """Return every attention with written scores among ``rows``; each stands on one stream of one device."""
    wanted = {name for name in rows["op"].unique() if _SOFTMAX.match(name)}
    if not wanted:
        return []
    out = []
    order = rows[rows["kind"] != "view"].sort_values(["device", "stream", "start_ns"], kind="stable")
    keys = order[["device", "stream"]].to_numpy()
    ops = order["op"].tolist()
    shapes = order["shapes"].tolist()
    last = -1
    for at in np.flatnonzero(order["op"].isin(wanted).to_numpy()).tolist():
        first = _seek(ops, at, -1, last)
        end = _seek(ops, at, 1, len(ops))
        if first is None or end is None or (keys[first] != keys[end]).any():
            continue
        sizes = _sizes(shapes[first], shapes[at], shapes[end])
        if sizes is not None:
            out.append(_written(order.iloc[first : end + 1], *sizes))
            last = end
    return out


def _seek(ops: list[str], at: int, step: int, limit: int) -> int | None:
    """Return the next product from ``at`` in the direction of ``step``, within reach and before ``limit``."""
    for i in range(at + step, at + step * (BETWEEN + 1), step):
        if i == limit or not 0 <= i < len(ops):
            return None
        if _PRODUCT.match(ops[i]):
            return i
    return None


def _sizes(first: str, softmax: str, second: str) -> tuple[int, int] | None:
    """Return the elements of the scores, and of queries, keys, values and outputs; None where the shapes do not fit."""
    one, middle, two = dims_of(first)[-2:], dims_of(softmax)[:1], dims_of(second)[-2:]
    if len(one) < 2 or not middle or len(two) < 2 or min(len(shape) for shape in (*one, *two)) < 3:
        return None
    q, k = one
    weights, v = two
    scores = numel(q[:-1]) * k[-1]
    if q[-1] != k[-2] or not (scores == numel(middle[0]) == numel(weights)) or weights[-1] != v[-2]:
        return None
    return scores, numel(q) + numel(k) + numel(v) + numel(weights[:-1]) * v[-1]


def _written(chain: pd.DataFrame, scores: int, around: int) -> Written:
    products = chain["op"].str.match(_PRODUCT).to_numpy(bool)
    itemsize = ITEMSIZE.get(str(chain["dtype"].iloc[0]), 4)
    floors = np.nan_to_num(chain["floor_compute_us"].to_numpy(np.float64)[products])
    return Written(tuple(chain.index.tolist()), scores * itemsize, around * itemsize, float(floors.sum()))
