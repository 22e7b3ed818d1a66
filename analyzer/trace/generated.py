"""Kernels that a compiler generated and that were launched without an operator of their own: their names say what they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analyzer.schema.tables import OPERATORS
from analyzer.trace.fused import fused_kind
from analyzer.trace.kinds import is_no_operator
from analyzer.trace.kineto import Trace
from analyzer.trace.launching import find_launches
from analyzer.trace.scopes import spans_of


def with_generated(trace: Trace) -> Trace:
    """Return ``trace`` with an operator around each launch call of a generated kernel that has none, called as the kernel.

    Inductor's Python code writes an operator ``triton_poi_fused_add_0`` around each launch of that kernel; its C++ code and
    ahead-of-time compiled models write none. Kernels of a CUDA graph, whose one launch is that of the whole graph, get none.
    """
    events = trace.device_events
    generated = np.array([fused_kind(name) is not None for name in events["name"].cat.categories], bool)
    if not generated.any():
        return trace
    chosen = generated[events["name"].cat.codes.to_numpy()] & events["category"].eq("kernel").to_numpy(bool)
    rows = events[chosen].reset_index(drop=True)
    launching = find_launches(replace(trace, device_events=rows))
    alone = (launching.call >= 0) & ~launching.graph
    rows, calls = rows[alone], trace.calls.iloc[launching.call[alone]]
    around = spans_of(trace.ops).innermost(calls["start_ns"].to_numpy(np.int64), calls["thread"].to_numpy(np.int64))
    names = trace.ops["name"].cat
    none = np.append([is_no_operator(name) for name in names.categories], True).astype(bool)
    bare = none[np.where(around >= 0, names.codes.to_numpy()[around], len(none) - 1) if len(trace.ops) else around]
    calls = calls[bare]
    if calls.empty:
        return trace
    added = pd.DataFrame(
        {
            "name": rows["name"].astype(object).to_numpy()[bare],
            **{column: calls[column].to_numpy() for column in ("start_ns", "end_ns", "thread")},
            **dict.fromkeys(("external_id", "sequence", "forward_thread"), -1),
            **dict.fromkeys(("dims", "types", "strides", "concrete", "stack"), ""),
        }
    )
    ops = pd.concat([trace.ops, added], ignore_index=True)  # texts of both, so no longer categorical
    texts = [column.name for column in OPERATORS.columns if column.dtype == "text"]
    ops = ops.astype(dict.fromkeys(texts, "category"))[[column.name for column in OPERATORS.columns]]
    return replace(trace, ops=OPERATORS.check(ops))
