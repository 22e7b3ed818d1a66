"""Where the time goes: stacks of kinds, and the marks of one representative step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.metrics.timing import gaps, union_ns
from analyzer.schema.results import Analysis
from analyzer.trace.spans import Int64

IDLE = "idle"
MAX_MARKS = 600


@dataclass(frozen=True, slots=True)
class Stack:
    """The time of one run by kind, in microseconds per step where ``steps`` is known, else of the whole window."""

    label: str
    run: int
    parts: tuple[tuple[str, float], ...]
    steps: int | None

    @property
    def total_us(self) -> float:
        """Return busy and idle time together."""
        return sum(value for _, value in self.parts)

    @property
    def busy_us(self) -> float:
        """Return the sum over the kinds, idle left out."""
        return sum(value for kind, value in self.parts if kind != IDLE)


def idle_word(analysis: Analysis) -> str:
    """Return what idle means on this device."""
    return "idle" if analysis.device.type == "cuda" else "idle (between operators)"


def time_word(analysis: Analysis) -> str:
    """Return what the rows of ``kernels`` add up to on this device."""
    return "kernel time" if analysis.device.type == "cuda" else "operator time"


def stacks(analyses: tuple[Analysis, ...]) -> tuple[Stack, ...]:
    """Return the stack of each run; kinds keep the fixed order, idle comes last."""
    out = []
    for number, a in enumerate(analyses):
        steps = a.window.batches or 1
        parts = [(str(kind), float(us) / steps) for kind, us in zip(a.kinds["kind"], a.kinds["time_us"], strict=True)]
        out.append(Stack(a.label, number, (*parts, (IDLE, a.totals.idle_us / steps)), a.window.batches))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of the timeline: (start, length) in microseconds since the step began. ``joined_us``: gaps drawn closed.

    ``time_us`` is the true time: a kernel or operator runs; a copy or fill runs and no kernel; nothing runs.
    """

    name: str
    spans: tuple[tuple[float, float], ...]
    count: int
    joined_us: float
    time_us: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """One step of one run. ``step`` is its number, -1 for the whole window.

    ``other_us`` is the time in which only work outside the selection ran.
    """

    label: str
    run: int
    step: int
    length_us: float
    lanes: tuple[Lane, ...]
    launches: int
    gap_count: int
    mean_gap_us: float
    other_us: float = 0.0


def timeline(analysis: Analysis, run: int, max_marks: int) -> Timeline | None:
    """Return the marks of the step of median length, at most ``max_marks`` of them; None where nothing was launched.

    On a CPU run the marks are the operators' own times, so the gaps are what lies between operators.
    """
    launches = analysis.launches
    if launches.empty:
        return None
    step, begin, end = _representative(analysis)
    start, stop, row = (np.asarray(column, dtype=np.int64) for column in analysis.segments)
    inside = (stop > begin) & (start < end)
    start, stop, row = np.maximum(start[inside], begin), np.minimum(stop[inside], end), row[inside]
    copy = launches["category"].isin(("memcpy", "memset")).to_numpy()[row]
    # what ran outside a selection kept the device busy all the same
    others = [np.asarray(column, dtype=np.int64) for column in analysis.foreign]
    idle_start, idle_stop = gaps(np.concatenate((start, others[0])), np.concatenate((stop, others[1])), (begin, end))
    gpu = analysis.device.type == "cuda"
    found = [("compute" if gpu else "operators", start[~copy], stop[~copy])]
    if gpu:
        found.append(("copy and fill", start[copy], stop[copy]))
    found.append(("idle" if gpu else "between", idle_start, idle_stop))
    limits = _budget([len(s) for _, s, _ in found], max_marks)
    computing, busy = union_ns(start[~copy], stop[~copy]), union_ns(start, stop)
    idle = int((idle_stop - idle_start).sum())
    times = [computing, busy - computing, idle] if gpu else [busy, idle]
    lanes = tuple(
        _lane(name, (s - begin, e - begin), n, time / 1e3) for (name, s, e), n, time in zip(found, limits, times, strict=True)
    )
    lengths = (idle_stop - idle_start) / 1e3
    return Timeline(
        label=analysis.label,
        run=run,
        step=step,
        length_us=(end - begin) / 1e3,
        lanes=lanes,
        launches=len(np.unique(row[~copy])),
        gap_count=len(lengths),
        mean_gap_us=float(lengths.mean()) if len(lengths) else 0.0,
        other_us=max(end - begin - busy - idle, 0) / 1e3,
    )


def _representative(analysis: Analysis) -> tuple[int, int, int]:
    """Return (number, start, end) of the step of median length; the whole window where the work does not lie in steps.

    A step lasts until the next one begins, since a GPU may still work on it when its host has gone on; the last one until
    the window ends.
    """
    window = analysis.window
    if not analysis.steps or window.batches is None:
        return -1, window.start_ns, window.end_ns
    bounds = [*(start for _, start, _ in analysis.steps), window.end_ns]
    lengths = np.diff(np.array(bounds, dtype=np.int64))
    chosen = int(np.argsort(lengths, kind="stable")[len(lengths) // 2])
    return chosen, bounds[chosen], bounds[chosen + 1]


def _budget(wanted: list[int], total: int) -> list[int]:
    """Share ``total`` marks among lanes: what a short lane leaves over goes to the longer ones."""
    out = [0] * len(wanted)
    for place, lane in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        out[lane] = min(wanted[lane], total // (len(wanted) - place))
        total -= out[lane]
    return out


def _lane(name: str, spans_ns: tuple[Int64, Int64], limit: int, time_us: float) -> Lane:
    """Join neighbours until at most ``limit`` marks are left, those with the shortest gaps between them first."""
    start, stop = spans_ns
    if not len(start):
        return Lane(name, (), 0, 0.0, time_us)
    order = np.argsort(start, kind="stable")
    s, e = start[order], np.maximum.accumulate(stop[order])
    between = s[1:] - e[:-1]
    closed = np.sort(between)[len(between) - limit] if len(between) >= limit else 0
    cut = np.flatnonzero(between > closed)
    first, last = np.concatenate(([0], cut + 1)), np.concatenate((cut, [len(s) - 1]))
    spans = tuple((float(s[i]) / 1e3, float(e[j] - s[i]) / 1e3) for i, j in zip(first, last, strict=True))
    return Lane(name, spans, len(s), float(max(closed, 0)) / 1e3, time_us)
