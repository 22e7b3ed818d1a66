"""Events of the Trace Event format as JSON text: slices of a track, counters, names of tracks.

The tracks of the analyzer are processes and threads of their own. A slice is a beginning and an end (B and E) and no complete
event (X): readers of PyTorch traces count complete events alone, and Perfetto turns microseconds into doubles, after which
complete events that touch may overlap by a nanosecond and are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from analyzer.report.text import clean

CATEGORY = "analyzer"
FIRST_PID = 2_000_000_000
"""Numbers of processes and threads from here on are the analyzer's. Linux gives none above 4,194,304, Kineto numbers GPUs from
0, and Perfetto reads 32 bits."""

LAST_PID = FIRST_PID + (1 << 20)
NAME_LIMIT = 160

Text = bytes
"""One event as JSON."""

_encode = msgspec.json.Encoder().encode


def microseconds(time_ns: int) -> msgspec.Raw:
    """Return a time in microseconds, to the nanosecond, as JSON has it."""
    whole, rest = divmod(abs(time_ns), 1000)
    text = f"{'-' if time_ns < 0 else ''}{whole}.{rest:03d}"
    return msgspec.Raw(text.encode())


def figure(value: float) -> float | None:
    """Return a number as it is written: whole ones without a fraction, others to 6 places; None where it is not known."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 1 << 53 else round(value, 6)


@dataclass(frozen=True, slots=True)
class Track:
    """A line of slices: the thread ``tid`` of the process ``pid``."""

    pid: int
    tid: int

    def begin(self, name: str, start_ns: int, args: dict[str, Any] | None = None) -> Text:
        """Return the beginning of a slice. Beginnings and ends of a track stand in the file in the order of their times."""
        event = {"ph": "B", "cat": CATEGORY, "name": name, "pid": self.pid, "tid": self.tid, "ts": microseconds(start_ns)}
        return _encode(event | ({"args": args} if args else {}))

    def end(self, name: str, end_ns: int, args: dict[str, Any] | None = None) -> Text:
        """Return the end of the slice ``name``, the last that began and has not ended, with what is known of it only now."""
        event = {"ph": "E", "cat": CATEGORY, "name": name, "pid": self.pid, "tid": self.tid, "ts": microseconds(end_ns)}
        return _encode(event | ({"args": args} if args else {}))

    def counter(self, name: str, time_ns: int, series: dict[str, float | None]) -> Text:
        """Return what the counter ``name`` of the process shows from ``time_ns`` on; series that are not known are left out."""
        args = {key: value for key, value in series.items() if value is not None}
        event = {"ph": "C", "name": name, "pid": self.pid, "tid": self.tid, "ts": microseconds(time_ns), "args": args}
        return _encode(event)


@dataclass(slots=True)
class Tracks:
    """Hands out the processes and tracks of the analyzer in the order in which they are asked for, each name once."""

    start_ns: int
    _processes: dict[str, int] = field(default_factory=dict)
    _tracks: dict[tuple[str, str], Track] = field(default_factory=dict)

    def track(self, process: str, name: str) -> Track:
        """Return the track ``name`` of ``process``."""
        pid = self.process(process).pid
        # no number is given twice: older versions of Perfetto name a thread by its number alone
        return self._tracks.setdefault((process, name), Track(pid, FIRST_PID + (1 << 16) + len(self._tracks)))

    def process(self, process: str) -> Track:
        """Return where the counters of ``process`` belong: a counter is one of the process and has no line of slices."""
        pid = self._processes.setdefault(process, FIRST_PID + len(self._processes))
        return Track(pid, pid)

    def names(self) -> Iterator[Text]:
        """Yield the events that name every process and track and put the analyzer's before all others."""
        for place, (process, pid) in enumerate(self._processes.items()):
            yield self._about(Track(pid, pid), "process_name", {"name": f"analyzer: {clean(process, NAME_LIMIT)}"})
            yield self._about(Track(pid, pid), "process_sort_index", {"sort_index": place - (1 << 16)})
        for place, ((_, name), track) in enumerate(self._tracks.items()):
            yield self._about(track, "thread_name", {"name": clean(name, NAME_LIMIT)})
            yield self._about(track, "thread_sort_index", {"sort_index": place})

    def _about(self, track: Track, name: str, args: dict[str, Any]) -> Text:
        event = {"ph": "M", "name": name, "pid": track.pid, "tid": track.tid, "ts": microseconds(self.start_ns), "args": args}
        return _encode(event)


def is_ours(pid: bytes) -> bool:
    """Tell whether ``pid``, a number as JSON text, is a process of the analyzer."""
    return pid.isdigit() and len(pid) < 19 and FIRST_PID <= int(pid) < LAST_PID
