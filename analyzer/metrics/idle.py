"""What a GPU waits for while nothing runs on it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.metrics.timing import Stretches, intersect, length_ns, merge, subtract
from analyzer.schema.results import Idle
from analyzer.trace.launching import has_launch


def split_idle(idle: Stretches, launches: pd.DataFrame, syncs: Stretches, loading: Stretches) -> Idle:
    """Return the parts of the ``idle`` stretches of a GPU; they add up to its idle time.

    An idle stretch ends when the next kernel, copy or fill starts. Until the call that launched it began, the device waited
    for the host: inside a call that waits for the device (``syncs``) that is synchronisation, while it waited for a data loader
    (``loading``) that is loading, otherwise the host was not there
    in time. From the call until the start it is the launch's own latency; the whole stretch is, where the call came before it.
    After the last launch nothing is asked of the device any more, which counts as waiting for the host.
    """
    start, end = idle
    begins = launches["start_ns"].to_numpy(np.int64)
    order = np.argsort(begins, kind="stable")
    position = np.searchsorted(begins[order], end, side="left")
    follows = position < len(order)
    next_row = order[position[follows]]
    launched, unknown = end.copy(), np.zeros(len(end), bool)
    launched[follows] = launches["launch_ns"].to_numpy(np.int64)[next_row]
    unknown[follows] = ~has_launch(launches)[next_row]
    # without a next launch the host is waited for until the end
    asked = np.where(follows, np.clip(launched, start, end), end)
    host = start[~unknown], asked[~unknown]
    waiting = length_ns(host)
    asleep = merge(*host)
    synchronising = length_ns(intersect(asleep, merge(*syncs)))
    loads = length_ns(intersect(subtract(asleep, merge(*syncs)), merge(*loading)))
    return Idle(
        host_us=(waiting - synchronising - loads) / 1e3,
        loader_us=loads / 1e3,
        sync_us=synchronising / 1e3,
        launch_us=length_ns((asked[~unknown], end[~unknown])) / 1e3,
        unknown_us=length_ns((start[unknown], end[unknown])) / 1e3,
    )
