"""Links by flow arrows, for traces whose kernels or calls carry no correlation id."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import pandas as pd

from analyzer.trace.columns import Columns, nanoseconds
from analyzer.trace.events import Event


def fill_correlations(
    pieces: Iterable[list[Event]], columns: Columns, device_events: pd.DataFrame, calls: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with the ids of the arrows that end at a device event without one and start at a call.

    An arrow begins in its call (``ph`` s) and ends at the start of its kernel (``ph`` f); both ends carry the same ``id``.
    """
    starts: dict[tuple[int, int], int] = {}
    ends: dict[tuple[int, int], int] = {}
    for events in pieces:
        arrows = [(event, number) for event in events if event.ph in ("s", "f") and (number := _number(event.id)) is not None]
        times, bad = nanoseconds([event.ts for event, _ in arrows])
        for (event, number), time, wrong in zip(arrows, times.tolist(), bad.tolist(), strict=True):
            if not wrong:
                (starts if event.ph == "s" else ends)[columns.thread(event), time] = number
    return _fill(device_events, ends), _fill(calls, starts)


def _fill(table: pd.DataFrame, ids: dict[tuple[int, int], int]) -> pd.DataFrame:
    known = table["correlation"].to_numpy(np.int64)
    at = zip(table["thread"].tolist(), table["start_ns"].tolist(), strict=True)
    found = np.array([ids.get(key, -1) for key in at], np.int64)
    return table.assign(correlation=np.where(known > 0, known, found))


def _number(raw: msgspec.Raw) -> int | None:
    try:
        return msgspec.json.decode(raw, type=int, strict=False) if raw else None
    except (msgspec.DecodeError, RecursionError, OverflowError):
        return None
