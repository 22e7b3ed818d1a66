"""Links by flow arrows, for traces whose kernels or calls carry no correlation id."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import pandas as pd

from analyzer.trace.columns import Columns, nanoseconds
from analyzer.trace.events import MALFORMED, Event

_FIRST_ID = 1 << 62
"""Ids given here begin where no profiler's ids end, so that they are nobody else's."""

Place = tuple[int, int]
"""Thread and time, in nanoseconds."""


def fill_correlations(
    pieces: Iterable[list[Event]], columns: Columns, device_events: pd.DataFrame, calls: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with a correlation id for each device event without one whose arrow leads to a call.

    An arrow begins at the start of its call (``ph`` s) and ends at the start of its kernel (``ph`` f); both ends carry the
    same ``id``, which need not be a correlation id. Arrows from forward to backward operators are others.
    """
    begins, ends = _arrows(pieces, columns)
    call_at = {place: row for row, place in enumerate(zip(calls["thread"], calls["start_ns"], strict=True))}
    kernel_ids, call_ids = (table["correlation"].to_numpy(np.int64).copy() for table in (device_events, calls))
    places = list(zip(device_events["thread"], device_events["start_ns"], strict=True))
    for row in np.flatnonzero(kernel_ids <= 0).tolist():
        arrow = ends.get(places[row])
        call = call_at.get(begins[arrow]) if arrow in begins else None
        if call is not None:
            call_ids[call] = call_ids[call] if call_ids[call] > 0 else _FIRST_ID + call
            kernel_ids[row] = call_ids[call]
    return device_events.assign(correlation=kernel_ids), calls.assign(correlation=call_ids)


def _arrows(pieces: Iterable[list[Event]], columns: Columns) -> tuple[dict[int | None, Place], dict[Place, int]]:
    """Return where each arrow begins, and which arrow ends at a place."""
    begins: dict[int | None, Place] = {}
    ends: dict[Place, int] = {}
    for events in pieces:
        arrows = [
            (event, number)
            for event in events
            if event.ph in ("s", "f") and "fwd" not in event.cat and (number := _number(event.id)) is not None
        ]
        times, bad = nanoseconds([event.ts for event, _ in arrows])
        for (event, number), time, wrong in zip(arrows, times.tolist(), bad.tolist(), strict=True):
            if not wrong and event.ph == "s":
                begins[number] = columns.thread(event), time
            elif not wrong:
                ends[columns.thread(event), time] = number
    return begins, ends


def _number(raw: msgspec.Raw) -> int | None:
    try:
        return msgspec.json.decode(raw, type=int, strict=False) if raw else None
    except MALFORMED:
        return None
