"""Whether counters that fit a trace by names and shapes can be of it at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analyzer.format import digits
from analyzer.metrics.limits import Limits
from analyzer.trace.counters import CounterFile, Joined
from analyzer.trace.counters.join import DURATION

PASSES = "profiler__replayer_passes"
MOST_SLOWER = 5.0
"""How many times longer, or shorter, the same kernels may take while they are counted: emptied caches, other clocks."""


def believed(joined: Joined, file: CounterFile, launches: pd.DataFrame, limits: Limits) -> Joined:
    """Return ``joined``, refused where the counters cannot be of this trace although names and shapes fit."""
    if joined.refused:
        return joined
    own = limits.device.compute_capability or ""
    why = ""
    if file.capability and own and file.capability != own:
        why = f"they were counted on compute capability {file.capability}, and the trace is of {own}"
    elif not joined.values.notna().any(axis=None):
        why = "no cell of theirs holds a figure"
    elif DURATION in joined.values:
        counted_ns, traced_ns = joined.values[DURATION].to_numpy(np.float64), launches["dur_ns"].to_numpy(np.float64)
        both = np.isfinite(counted_ns) & (traced_ns > 0)
        ratio = float(counted_ns[both].sum() / traced_ns[both].sum()) if both.any() else 1.0
        if not 1 / MOST_SLOWER <= ratio <= MOST_SLOWER:
            why = (
                f"the kernels took {digits(ratio)} x as long while they were counted: another size of the problem, or "
                "durations in another unit (--print-units base)"
            )
    if not why:
        return joined
    return replace(joined, values=joined.values * np.nan, used=0, refused=why)
