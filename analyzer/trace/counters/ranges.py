"""Counters in old traces: until 2026 ``torch.profiler`` could write an event ``cuda_profiler_range`` per kernel.

An event lasts as long as CUPTI needed to replay the kernel, so its duration is no kernel time and is never used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analyzer.schema.tables import COUNTER_RANGES
from analyzer.trace.scopes import spans_of

if TYPE_CHECKING:
    from analyzer.trace.kineto import Trace

_LAUNCH_CALL = re.compile(r"(?:cudaLaunch(?:Cooperative)?Kernel|cuLaunch(?:Cooperative)?Kernel)\w*", re.ASCII)


def read_ranges(trace: Trace) -> pd.DataFrame | None:
    """Return the counter ranges as counted launches, in their order, values as they are; None without.

    The profiler that wrote them traced no kernels. Where there are as many ranges as calls that launch a kernel, the n-th range
    is the n-th launch (so does Holistic Trace Analysis), and ``op`` is the operator around that call.
    """
    ranges = trace.counter_ranges
    metrics = [column for column in ranges.columns if column not in COUNTER_RANGES.names]
    if not len(ranges) or not metrics:
        return None
    ordered = ranges.iloc[np.argsort(ranges["start_ns"].to_numpy(), kind="stable")].reset_index(drop=True)
    empty = np.full(len(ordered), "", object)
    rows = pd.DataFrame(
        {
            "id": np.arange(len(ordered), dtype=np.int64),
            **dict.fromkeys(("process", "device"), empty),
            "kernel": ordered["name"].astype(object),
            **dict.fromkeys(("grid", "block"), empty),
            "op": _operators(trace, len(ordered)),
        }
    )
    return pd.concat([rows, ordered[metrics].astype("float64")], axis=1)


def _operators(trace: Trace, count: int) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Return the operator of each of ``count`` launches, nothing where launches and ranges are not one to one."""
    calls = trace.calls
    names = calls["name"].astype(object)
    launches = calls[[_LAUNCH_CALL.fullmatch(name) is not None for name in names]]
    if len(launches) != count:
        return np.full(count, "", object)
    launches = launches.iloc[np.argsort(launches["start_ns"].to_numpy(), kind="stable")]
    at, thread = launches["start_ns"].to_numpy(np.int64), launches["thread"].to_numpy(np.int64)
    around = spans_of(trace.ops).innermost(at, thread)
    ops = np.append(trace.ops["name"].astype(object).to_numpy(object), "")
    return ops[around]  # -1, none around, is the last entry
