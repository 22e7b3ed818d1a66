"""A Kineto trace as a template: its text, with holes where another copy of it needs other times and ids."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GAP_US = 1000
EVENTS_PER_BLOCK = 500

# Ids that refer to one another share a family, and with it the distance between two copies.
FAMILIES = {
    "ts": "time",
    "external ts": "time",
    "correlation": "correlation",
    "id": "correlation",
    "wait_on_cuda_event_record_corr_id": "correlation",
    "External id": "external",
    "external id": "external",
    "Ev Idx": "event",
    "Record function id": "record function",
    "Sequence number": "sequence",
    "Python id": "python",
    "Python parent id": "python",
    "graph id": "graph",
    "graph node id": "graph node",
    "wait_on_cuda_event_id": "cuda event",
}
STEP = "ProfilerStep#"
# Zero means "none" in these; elsewhere it is the first id. A negative id means "none" everywhere.
ZERO_IS_NONE = frozenset({"correlation", "external", "record function", "graph", "graph node", "cuda event"})
# A quote before a colon ends a key, never a value. The hole of a time is its whole microseconds: copies lie whole ones apart.
KEYS = "|".join(re.escape(key) for key in FAMILIES)
HOLE = re.compile(rf'"({KEYS})"\s*:\s*(-?\d+)(?!\d*(?:\.\d+)?[eE])|"name"\s*:\s*"{STEP}(\d+)')
FLOW_PHASES = frozenset("stf")
SPACE = re.compile(r"\s*")
SEPARATOR = re.compile(r"[\s,:]*")
DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Block:
    """A run of events: text with ``%d`` holes and, for each hole, its value in the source and what each copy adds to it."""

    text: str
    values: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A trace to be written any number of times: ``head`` and ``tail`` are what stands around the events.

    ``once`` holds the metadata events (names of processes and threads), written with the first copy alone; ``lead`` is the
    white space before an event; ``events`` counts one copy's.
    """

    head: str
    lead: str
    once: tuple[str, ...]
    blocks: tuple[Block, ...]
    tail: str
    events: int


@dataclass(slots=True)
class _Cut:
    """One event's text with holes; a hole is (value, family)."""

    text: str
    holes: list[tuple[int, str]]


def read_template(path: Path) -> Template:
    """Return the template of the trace at ``path``.

    Raises:
        ValueError: The file is no Kineto trace, or one of its times cannot be shifted in place.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()
    start = end = _find_events(text)
    lead = SPACE.match(text, start)[0]  # type: ignore[index]
    once, cuts = [], []
    first_us, last_us = float("inf"), float("-inf")
    for begin, end, event in _walk_events(text, start):
        if event.get("ph") == "M":
            once.append(text[begin:end])
            continue
        cuts.append(_cut_holes(text[begin:end], event))
        if event.get("ts"):
            first_us = min(first_us, event["ts"])
            last_us = max(last_us, event["ts"] + event.get("dur", 0))
    if not cuts:
        raise ValueError(f"{path.name}: no events to replicate")
    strides = _measure_strides(cuts) | {"time": int(last_us - first_us) + GAP_US}
    groups = (cuts[i : i + EVENTS_PER_BLOCK] for i in range(0, len(cuts), EVENTS_PER_BLOCK))
    blocks = tuple(_join_cuts(group, lead, strides) for group in groups)
    return Template(text[:start], lead, tuple(once), blocks, text[end:], len(cuts))


def _find_events(text: str) -> int:
    """Return the position just after the bracket that opens the list of events."""
    position = SPACE.match(text, 0).end()  # type: ignore[union-attr]
    if text[position] == "[":
        return position + 1
    position += 1
    while (position := SEPARATOR.match(text, position).end()) < len(text) and text[position] == '"':  # type: ignore[union-attr]
        key, position = DECODER.raw_decode(text, position)
        position = SEPARATOR.match(text, position).end()  # type: ignore[union-attr]
        if key == "traceEvents":
            return position + 1
        _, position = DECODER.raw_decode(text, position)
    raise ValueError("no traceEvents in the file")


def _walk_events(text: str, position: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield where each event begins and ends, and the event."""
    while text[position := SEPARATOR.match(text, position).end()] != "]":  # type: ignore[union-attr]
        event, end = DECODER.raw_decode(text, position)
        yield position, end, event
        position = end


def _cut_holes(text: str, event: dict[str, Any]) -> _Cut:
    parts: list[str] = []
    holes: list[tuple[int, str]] = []
    done = 0
    for match in HOLE.finditer(text):
        key = match[1]
        family = FAMILIES[key] if key else "step"
        value = int(match[2] or match[3])
        if value < 0 or (value == 0 and family in ZERO_IS_NONE) or (key == "id" and event.get("ph") not in FLOW_PHASES):
            continue
        begin, end = match.span(2 if key else 3)
        parts += [text[done:begin].replace("%", "%%"), "%d"]
        holes.append((value, family))
        done = end
    if event.get("ts") and not any(family == "time" for _, family in holes):
        raise ValueError(f"cannot shift the time {event['ts']!r}")
    parts.append(text[done:].replace("%", "%%"))
    return _Cut("".join(parts), holes)


def _measure_strides(cuts: list[_Cut]) -> dict[str, int]:
    """Return for each family of ids the width of the range it covers: the least distance at which copies cannot collide."""
    ranges: dict[str, tuple[int, int]] = {}
    for cut in cuts:
        for value, family in cut.holes:
            low, high = ranges.get(family, (value, value))
            ranges[family] = (min(low, value), max(high, value))
    return {family: high - low + 1 for family, (low, high) in ranges.items()}


def _join_cuts(cuts: list[_Cut], lead: str, strides: dict[str, int]) -> Block:
    holes = [hole for cut in cuts for hole in cut.holes]
    text = f",{lead}".join(cut.text for cut in cuts)
    return Block(text, tuple(value for value, _ in holes), tuple(strides[family] for _, family in holes))
