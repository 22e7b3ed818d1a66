"""What of a run has a course over time: latency of each iteration, kernel time of each step, telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from analyzer.schema.results import Analysis
from analyzer.schema.tables import SAMPLES, Column

_EARLIEST_S, _LATEST_S = 946_684_800.0, 4_102_444_800.0
"""From 2000 to 2100: other moments are those of a clock that counts from the start of the machine."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one tag: (step, Unix time in seconds, value)."""

    tag: str
    meaning: str
    unit: str
    points: tuple[tuple[int, float, float], ...]


def series(a: Analysis) -> tuple[Series, ...]:
    """Return what of ``a`` has more than one point; nothing of a bare trace but its steps."""
    return tuple(found for found in (*_latency(a), *_steps(a), *_telemetry(a)) if found.points)


def recorded_s(a: Analysis) -> float:
    """Return when the run was recorded in Unix seconds: as it says itself, by the clock of its trace, or by its file."""
    try:
        moments = [datetime.fromisoformat(a.run.facts.created_utc).timestamp()] if a.run.facts else []
    except (ValueError, OverflowError):
        moments = []
    moments.append((a.base_unix_ns + a.window.start_ns) / 1e9)
    return next((moment for moment in moments if _EARLIEST_S < moment < _LATEST_S), a.run.trace.stat().st_mtime)


def _latency(a: Analysis) -> Iterator[Series]:
    rows = a.timings[a.timings["pass"] == "untraced"].sort_values("start_unix_ns", kind="stable")
    points = zip(range(len(rows)), (rows["start_unix_ns"] / 1e9).tolist(), rows["latency_ms"].tolist(), strict=True)
    told = "latency of each iteration without the profiler, in the order in which they ran; step = number of the iteration"
    yield Series("latency/iterations_ms", told, "ms", tuple(points))


def _steps(a: Analysis) -> Iterator[Series]:
    rows = a.launches[a.launches["category"].isin(("kernel", "operator")) & (a.launches["step"] >= 0)]
    time_ms = rows.groupby("step")["dur_ns"].sum() / 1e6
    begin = recorded_s(a)
    first = min((start for _, start, _ in a.steps), default=0)
    points = [
        (number, begin + (start - first) / 1e9, float(time_ms.get(number, 0.0))) for number, (_, start, _) in enumerate(a.steps)
    ]
    what = "kernels" if a.device.type == "cuda" else "operators"
    yield Series(
        "time/step_kernel_ms", f"time of the {what} of each traced step; step = its number in the trace", "ms", tuple(points)
    )


def _telemetry(a: Analysis) -> Iterator[Series]:
    if not len(a.samples):
        return
    at_ns = a.samples["time_ns"].to_numpy(np.int64)
    steps, seconds = ((at_ns - at_ns.min()) // 1_000_000).tolist(), (at_ns / 1e9).tolist()
    for column in SAMPLES.columns:
        if column.dtype == "float":
            values = a.samples[column.name].to_numpy(np.float64)
            points = [p for p in zip(steps, seconds, values.tolist(), strict=True) if np.isfinite(p[2])]
            yield Series(f"telemetry/{column.name}", _meaning(column), column.unit, tuple(points))


def _meaning(column: Column) -> str:
    return f"{column.meaning}; step = milliseconds since the first sample"
