"""Tracks that the analyzer adds for each device: its steps, modules and kinds over the device's own time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzer.report.perfetto.events import Text, Track, Tracks
from analyzer.report.text import clean
from analyzer.schema.results import Analysis
from analyzer.trace.spans import Int64

MAX_DEVICES = 64
MAX_DEPTH = 16
"""Levels of modules that have slices of their own; what is below belongs to the last one."""

STEPS, MODULES, KINDS = "steps", "modules", "kinds"
_NAME = 160
HOST = "CPU"


@dataclass(frozen=True, slots=True)
class Stretches:
    """When the launches of one device really ran, in order: ``rows`` of the launches, each with a start and an end."""

    device: str
    start_ns: Int64
    end_ns: Int64
    rows: Int64


def device_name(number: int) -> str:
    """Return what a device of that number is called on a track: -1 is the host of a CPU run."""
    return f"GPU {number}" if number >= 0 else HOST


def stretches(a: Analysis) -> Iterator[Stretches]:
    """Yield the stretches of each device that ran something, those with most first (MAX_DEVICES at most)."""
    start, end, row = (np.asarray(part, np.int64) for part in a.segments)
    if not len(row):
        return
    devices = a.launches["device"].to_numpy(np.int64)[row]
    numbers, sizes = np.unique(devices, return_counts=True)
    for number in sorted(numbers[np.argsort(-sizes, kind="stable")][:MAX_DEVICES].tolist()):
        mine = np.flatnonzero(devices == number)
        mine = mine[np.argsort(start[mine], kind="stable")]
        yield Stretches(device_name(number), start[mine], end[mine], row[mine])


def device_slices(a: Analysis, tracks: Tracks, launches: pd.DataFrame) -> Iterator[Text]:
    """Yield the slices of steps, modules and kinds of every device. ``launches`` as of ``findings.describe``.

    Slices of a track never overlap but where one holds the other, which the format demands: where kernels of several streams
    overlap, a slice ends where the next one starts. A module's slice holds the idle time between its own launches; in its
    arguments stand how many there are and how long they run.
    """
    steps = launches["step"].to_numpy(np.int64)
    modules = launches["module"].to_numpy(object)
    names = [clean(name, _NAME) for name, _, _ in a.steps]
    paths = _paths(launches["module"])
    for found in stretches(a):
        mine = steps[found.rows].tolist()
        own = modules[found.rows].tolist()
        # a track without a slice would be an empty line with a name
        if any(step >= 0 for step in mine):
            yield from _nested(tracks.track(found.device, STEPS), found, ([names[step]] if step >= 0 else [] for step in mine))
        if any(own):
            # the same module in two steps has two slices
            placed = ([(s, name) for name in paths[path]] for s, path in zip(mine, own, strict=True))
            yield from _nested(tracks.track(found.device, MODULES), found, placed)
        yield from _kinds(tracks.track(found.device, KINDS), found, launches)


def _paths(modules: pd.Series[str]) -> dict[str, list[str]]:
    """Return the names of the slices of each module, outermost first: every module that holds it, by its path."""
    out = {}
    for path in modules.unique().tolist():
        parts = path.split(".", MAX_DEPTH - 1) if path else []
        out[path] = [clean(".".join(parts[: i + 1]), _NAME) for i in range(len(parts))]
    return out


@dataclass(slots=True)
class _Open:
    """A slice that has begun: its ``part`` of a path, until when it lasts so far, its launches and how long they run."""

    part: Any
    end: int = 0
    launches: int = 0
    busy_ns: int = 0

    @property
    def name(self) -> str:
        return str(self.part[1] if isinstance(self.part, tuple) else self.part)


def _nested(track: Track, found: Stretches, paths: Iterable[list[Any]]) -> Iterator[Text]:
    """Yield nested slices: consecutive launches with the same outer parts of ``paths`` share those slices.

    A part is a name, or a pair of what must not change within a slice and its name.
    """
    pending: list[_Open] = []
    last = -1
    for start, end, row, path in zip(found.start_ns.tolist(), found.end_ns.tolist(), found.rows.tolist(), paths, strict=True):
        if end <= start:
            continue
        same = 0
        while same < min(len(pending), len(path)) and pending[same].part == path[same]:
            same += 1
        yield from _close(track, pending[same:], start)
        del pending[same:]
        for part in path[same:]:
            pending.append(_Open(part))
            yield track.begin(pending[-1].name, start)
        for slice_ in pending:
            slice_.end = max(slice_.end, end)
            slice_.launches += row != last  # an operator of a CPU run pauses for those inside it
            slice_.busy_ns += end - start
        last = row
    yield from _close(track, pending, None)


def _close(track: Track, pending: list[_Open], at: int | None) -> Iterator[Text]:
    """Yield the ends of slices, the inner first; none lasts longer than ``at``, where the next one begins."""
    for slice_ in reversed(pending):
        end = slice_.end if at is None else min(slice_.end, at)
        yield track.end(slice_.name, end, {"launches": slice_.launches, "launches_us": slice_.busy_ns / 1e3})


def _kinds(track: Track, found: Stretches, launches: pd.DataFrame) -> Iterator[Text]:
    """Yield a slice per stretch, called by the kind of its launch, so that a viewer colours it by kind."""
    kinds, bounds = (launches[name].to_numpy(object)[found.rows].tolist() for name in ("kind", "bound"))
    start, end = found.start_ns, np.minimum(found.end_ns, np.append(found.start_ns[1:], found.end_ns[-1:]))
    for kind, bound, begin, stop in zip(kinds, bounds, start.tolist(), end.tolist(), strict=True):
        if stop > begin:
            yield track.begin(kind, begin, {"bound": bound} if bound else None)
            yield track.end(kind, stop)
