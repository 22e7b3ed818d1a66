"""A trace with what the analysis found written into it, for Perfetto: arguments of its events, and tracks of our own.

The file is the trace itself, event by event in its order, so that every reader of PyTorch traces reads the same from it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pandas as pd

from analyzer.hardware.sheet import GpuSheet
from analyzer.report.perfetto.counters import memory_counters, rate_counters, samples_of, telemetry_counters, window
from analyzer.report.perfetto.events import Text, Tracks
from analyzer.report.perfetto.findings import Findings, Matcher, annotate, describe
from analyzer.report.perfetto.original import Copy, text_of
from analyzer.report.perfetto.tracks import device_slices
from analyzer.schema.results import Analysis
from analyzer.schema.settings import Selection

SUFFIX = ".perfetto.json.gz"
MODULES, SHAPES, MEMORY, TELEMETRY = "modules", "operand shapes", "memory curve", "telemetry"
LIMITS = "floors and shares of peaks"
_ROWS = 4096
_LEVEL = 6


@dataclass(slots=True)
class Written:
    """What was written: ``events`` of the trace, ``annotated`` of them, events that were ``added``, and those ``left_out``.

    ``launches`` is how many events should be annotated. ``bytes`` is the size of the file. ``missing`` maps what is not in the
    file to the reason.
    """

    launches: int
    events: int = 0
    annotated: int = 0
    added: int = 0
    left_out: int = 0
    bytes: int = 0
    missing: dict[str, str] = field(default_factory=dict)


def write_annotated(
    a: Analysis,
    target: Path,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    sheet: GpuSheet | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write the trace of ``a`` with its findings to ``target``, in bounded memory; return what was written.

    ``selection`` and ``sheet`` are those that ``a`` was made with: the whole trace is written, the findings are of that part.
    ``advance`` is called with the number of launches that have been found since its last call.

    Raises:
        TraceError: the trace cannot be read.
    """
    launches = describe(a, sheet)
    copy = Copy(a.run.trace, selection.max_expansion)
    matcher = Matcher(launches, on_gpu=a.device.type == "cuda", rank=selection.rank)
    written = Written(len(launches), missing=_missing(a, launches))
    with target.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
        file.write(b'{"traceEvents":[\n')
        comma = b""
        for piece in _original(copy, Findings(a, launches), matcher, written, advance):
            file.write(comma + piece)
            comma = b",\n"
        for piece in _pieces(_added(a, launches), written):
            file.write(comma + piece)
            comma = b",\n"
        file.write(b"\n]")
        for key, value in copy.header.items():
            file.write(b',\n"%b":%b' % (key.encode(), value))
        file.write(b"}\n")
    written.left_out, written.annotated, written.bytes = copy.left_out, matcher.found, target.stat().st_size
    return written


def _original(
    copy: Copy, findings: Findings, matcher: Matcher, written: Written, advance: Callable[[int], None]
) -> Iterator[bytes]:
    """Yield the events of the trace, those of launches with their findings, some thousands at a time."""
    for events in copy.pieces():
        before = matcher.found
        for event in events:
            row = matcher.row(event)
            if row >= 0:
                annotate(event, findings.of(row))
        written.events += len(events)
        advance(matcher.found - before)
        if events:
            yield b",\n".join(map(text_of, events))


def _added(a: Analysis, launches: pd.DataFrame) -> Iterator[Text]:
    tracks = Tracks(window(a)[0])
    yield from device_slices(a, tracks, launches)
    yield from rate_counters(a, tracks, launches)
    yield from memory_counters(a, tracks)
    yield from telemetry_counters(a, tracks)
    yield from tracks.names()


def _pieces(events: Iterable[Text], written: Written) -> Iterator[bytes]:
    """Yield ``events`` some thousands at a time, so that no list of all of them is made."""
    rest = iter(events)
    for first in rest:
        piece = [first, *islice(rest, _ROWS - 1)]
        written.added += len(piece)
        yield b",\n".join(piece)


def _missing(a: Analysis, launches: pd.DataFrame) -> dict[str, str]:
    """Return what the file cannot have, each with the reason."""
    out = {}
    if not launches["module"].ne("").any():
        out[MODULES] = "the trace names no modules"
    if not launches["flop"].notna().any():
        out[SHAPES] = "no launch has a work model, so there is no FLOP, no bound and no share of a peak"
    elif not launches["floor_us"].notna().any():
        out[LIMITS] = "the limits of the device are not known (calibrate=auto)"
    if not a.memory:
        out[MEMORY] = "the trace has no memory events; record with profile_memory=True"
    if a.run.samples is None:
        out[TELEMETRY] = "a bare trace has none; a run that analyzer records has" if a.run.facts is None else "the run has none"
    elif samples_of(a).empty:
        out[TELEMETRY] = "no sample lies near the trace, or the trace does not tell its clock"
    return out


def is_ours(directory: Path) -> bool:
    """Tell whether ``directory`` holds nothing but annotated traces, so that it may be replaced."""
    return all(entry.is_file() and entry.name.endswith(SUFFIX) for entry in directory.iterdir())
