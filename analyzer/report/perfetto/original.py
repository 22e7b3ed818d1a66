"""The events of a trace as they stand in the file, piece by piece: numbers keep their digits, and what nobody should read goes.

What the Trace Event format does not allow is mended where that changes no figure, else left out. The same events are left out
that ``analyzer.trace`` leaves out, so that the copy has the totals of the original.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path

import msgspec

from analyzer.report.perfetto.events import is_ours
from analyzer.report.text import clean, without_homes
from analyzer.trace.columns import MAX_DURATION_US, MAX_TIME_US, table_of
from analyzer.trace.damage import Damage
from analyzer.trace.document import Document
from analyzer.trace.events import MALFORMED, Decoding, repair
from analyzer.trace.frames import frames_of, trim
from analyzer.trace.source import read_blocks

RawEvent = dict[str, bytes]
"""An event with its values as JSON text."""

HEADER = (
    "schemaVersion", "deviceProperties", "computeProperties", "cupti_version", "cuda_runtime_version", "cuda_driver_version",
    "hip_runtime_version", "hip_driver_version", "roctracer_version", "trace_id", "displayTimeUnit", "baseTimeNanoseconds",
    "record_shapes", "with_stack", "with_modules", "with_flops", "profile_memory", "distributedInfo",
)  # fmt: skip
"""What is kept beside the events: nothing that names a host, a user or a path. Of ``distributedInfo`` the numbers alone."""

PHASES = frozenset(b'"%c"' % phase for phase in b"BEXiICbnestfPNODMVvRcSTpF")
METADATA = frozenset(
    b'"%b"' % name for name in (b"process_name", b"process_labels", b"process_sort_index", b"thread_name", b"thread_sort_index")
)
_KEYS = (
    "ph", "cat", "name", "ts", "dur", "pid", "tid", "args", "id", "id2", "s", "bp", "bind_id", "flow_in", "flow_out", "cname",
)  # fmt: skip
"""What an event may have. The format knows more keys, which no profiler of PyTorch writes."""

_ADDED = frozenset((b'"B"', b'"E"', b'"C"', b'"M"'))
"""The phases of what the analyzer adds."""

_SCOPES = frozenset((b'"g"', b'"p"', b'"t"'))
_NEEDS_ID = frozenset((b'"s"', b'"t"', b'"f"', b'"b"', b'"n"', b'"e"'))
_LABEL = re.compile(r"(?:CPU|GPU|rank)(?: \d{1,6})?")
_PRIVATE = frozenset(("host", "hostname", "host_name", "user", "username", "user_name", "cwd", "master_addr"))
_SUSPECT = re.compile(
    rb"[/\\](?:home|users|root)|~|\\\\|\\/|\"(?:host_?name|host|user_?name|user|cwd|master_addr)\"", re.IGNORECASE
)
_STACK = b'"Call stack"'
_NUMBERS = frozenset(("rank", "world_size"))
_QUOTE, _BRACE, _MINUS = b'"{-'
_TYPES = (("cat", _QUOTE), ("s", _QUOTE), ("bp", _QUOTE), ("args", _BRACE))
_LONGEST_US = math.nextafter(MAX_DURATION_US, math.inf)
_MAX_DEPTH, _NAME = 20, 200
_ZERO, _NO_TEXT, _NO_VALUE = b"0", b'""', b"null"
_DIGITS = frozenset(b"-0123456789")
_IDS = ("id", "id2")
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_PREFIX = {key: b'"%b":' % key.encode() for key in _KEYS}

_events = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def text_of(event: RawEvent) -> bytes:
    """Return an event as JSON."""
    return b"{%b}" % b",".join([_PREFIX[key] + value for key, value in event.items()])


@dataclass(slots=True)
class Copy:
    """A trace read for a copy.

    ``left_out`` counts the events that cannot be read or that the format does not allow; ``header`` is there when all pieces
    were read.
    """

    path: Path
    max_expansion: float
    left_out: int = 0
    header: dict[str, bytes] = field(default_factory=dict)

    def pieces(self) -> Iterator[list[RawEvent]]:
        """Yield the events of the trace, some thousands at a time, in their order.

        Raises:
            TraceError: the file cannot be read or is no trace.
        """
        damage = Damage()
        blocks = read_blocks(self.path, damage, self.max_expansion)
        document = Document(self.path, blocks, frozenset(HEADER), damage, decoding=Decoding(_many, _one))
        for _, events in document.pieces():
            found: list[RawEvent] = events  # type: ignore[assignment]
            whole = [event for event in found if mend(event)]
            self.left_out += len(found) - len(whole)
            # what an earlier run of this task has added is not of the trace
            yield [event for event in whole if not _is_added(event)]
        self.left_out += damage.counts["lost"]
        self.header = {key: value for key in HEADER if (value := _top(key, document.values.get(key)))}


def _many(text: bytes, *, exact: bool = False) -> list[RawEvent] | None:
    """Return the events of ``text``, a JSON list; None where it is no such text. Numbers stay text, so they are ``exact``."""
    try:
        text.decode()  # the decoder does not look into texts that it only passes on
        return [{key: bytes(raw) for key, raw in event.items() if key in _KEYS} for event in _events(text)]
    except MALFORMED:
        return None


def _one(text: bytes, damage: Damage) -> RawEvent | None:
    """Return the one event of ``text``, repaired where it has to be; None where it is no event."""
    found = _many(b"[%b]" % text)
    if found is None and text.startswith(b"{"):
        repaired, places = repair(text)
        found = _many(b"[%b]" % repaired) or _by_hand(repaired)
        damage.add("repaired", places if found else 0)
    return found[0] if found and len(found) == 1 else None


def _by_hand(text: bytes) -> list[RawEvent] | None:
    """Return the event of text that a strict decoder refuses, as halves of characters; these become question marks."""
    try:
        plain = json.dumps([json.loads(text, strict=False)], ensure_ascii=False)
    except (ValueError, RecursionError, OverflowError):
        return None
    return _many(plain.encode("utf-8", "replace"))


def _top(key: str, raw: bytes | None) -> bytes | None:
    """Return a value of the header that may be kept, None for one that may not or that is not whole."""
    try:
        value = bytes(_object(b'{"v":%b}' % (raw or b""))["v"])
        value.decode()
        if key == "distributedInfo":
            kept = {name: inner for name, inner in fields_of(value).items() if name in _NUMBERS and _is_number(inner)}
            return join(kept)
        if key == "displayTimeUnit" and value not in (b'"ms"', b'"ns"'):
            return None
        return cleaned(value)
    except MALFORMED:
        return None


def _is_added(event: RawEvent) -> bool:
    return event["ph"] in _ADDED and is_ours(event["pid"])


def mend(event: RawEvent) -> bool:
    """Make ``event`` one that the format allows and that names nobody; tell whether that is possible."""
    phase = event.get("ph", b"")
    if phase not in PHASES or not _mend_times(event, phase):
        return False
    _mend_fields(event)
    if phase in _NEEDS_ID and "id" not in event and "id2" not in event:
        return False
    try:
        if phase == b'"C"':
            return _is_counter(event)
        if phase == b'"M"':
            return _mend_metadata(event)
        _mend_texts(event, table(event["cat"]) if phase == b'"X"' and "cat" in event else "")
    except MALFORMED:
        return False
    return True


def _mend_fields(event: RawEvent) -> None:
    """Give ``event`` the fields that every one has, and take away those of another type."""
    for key in ("pid", "tid"):
        raw = event.setdefault(key, _ZERO)
        if raw[0] != _QUOTE and not raw.lstrip(b"-").isdigit():
            event[key] = _NO_TEXT
    if event.setdefault("name", _NO_TEXT)[0] != _QUOTE:
        event["name"] = _NO_TEXT
    for key, start in _TYPES:
        if key in event and event[key][0] != start:
            del event[key]
    for key in _IDS:
        if key in event and not _is_id(event[key]):
            del event[key]
    if "s" in event and event["s"] not in _SCOPES:
        del event["s"]


def _is_counter(event: RawEvent) -> bool:
    """Tell whether a counter has numbers and nothing else."""
    series = fields_of(event.get("args", b"{}"))
    return bool(series) and all(map(_is_number, series.values()))


def _mend_times(event: RawEvent, phase: bytes) -> bool:
    """Make the times of ``event`` numbers; tell whether it has those that it needs."""
    ts = _time(event.get("ts"), MAX_TIME_US)
    if ts is None:
        event.pop("ts", None)
        return phase == b'"M"'
    event["ts"] = ts
    if phase != b'"X"':
        return True
    # missing and negative durations count as 0 everywhere; one that is too long is damage
    given = event.get("dur", _NO_VALUE)
    dur = _time(given, _LONGEST_US)
    if dur is None and _is_damaged(given):
        return False
    event["dur"] = _ZERO if dur is None or dur[0] == _MINUS else dur
    return True


def _time(raw: bytes | None, limit: float) -> bytes | None:
    """Return a time as a number, which may be written as text; None where it is none that a clock gives."""
    if raw is None:
        return None
    if raw[0] == _QUOTE:
        raw = raw[1:-1].strip()
        if not _NUMBER.fullmatch(raw):
            return None
    return raw if raw[0] in _DIGITS and abs(float(raw)) < limit else None


def _is_damaged(raw: bytes) -> bool:
    """Tell whether what is no duration is a number all the same: too long, or not finite. Words and nothing are none."""
    try:
        Decimal(raw.strip(b'" ').decode())
    except (InvalidOperation, UnicodeDecodeError):
        return False
    return True


def _mend_metadata(event: RawEvent) -> bool:
    """Clean the names of a process or thread; tell whether they may stay."""
    if event["name"] not in METADATA or "args" not in event:
        return False
    args = fields_of(event["args"])
    kept: dict[str, bytes] = {}
    for key in ("name", "labels"):
        if key in args and args[key][0] == _QUOTE:
            text = clean(_string(args[key]), _NAME)
            if key == "labels" and not _LABEL.fullmatch(text):
                return False
            kept[key] = _encode(text)
    if "sort_index" in args and _is_number(args["sort_index"]):
        kept["sort_index"] = args["sort_index"]
    event["args"] = join(kept)
    return bool(kept)


def _mend_texts(event: RawEvent, table: str) -> None:
    """Take paths of people, and what names a host or a user, out of the texts of an event; names of kernels stay exact."""
    if table == "frame":
        event["name"] = _trimmed(event["name"])
    elif table != "device" and _SUSPECT.search(event["name"]):
        event["name"] = cleaned(event["name"])
    args = event.get("args")
    if args is not None and _STACK in args:
        fields = fields_of(args)
        stack = fields.get("Call stack", b"")
        if stack[:1] == b'"':
            fields["Call stack"] = _encode(";".join(frames_of(_string(stack))))
        args = event["args"] = join(fields)
    if args is not None and _SUSPECT.search(args):
        event["args"] = cleaned(args)


@lru_cache(maxsize=1024)
def table(category: bytes, name: str = "") -> str:
    """Return the table that complete events of a category, given as JSON, belong to; empty for none."""
    return table_of(_string(category), name) if len(category) < 100 else ""


@lru_cache(maxsize=1 << 14)
def _trimmed(raw: bytes) -> bytes:
    return _encode(trim(_string(raw)))


def cleaned(raw: bytes, depth: int = 0) -> bytes:
    """Return a JSON value without home folders in its texts and without keys that name a host or a user."""
    if raw[0] == _QUOTE:
        text = _string(raw)
        plain = without_homes(text)
        return raw if plain == text else _encode(plain)
    if raw[0] not in b"{[":
        return raw
    if depth > _MAX_DEPTH:
        return _NO_VALUE
    if raw[0] == _BRACE:
        fields = fields_of(raw)
        return join({key: cleaned(inner, depth + 1) for key, inner in fields.items() if key.casefold() not in _PRIVATE})
    return b"[%b]" % b",".join([cleaned(bytes(inner), depth + 1) for inner in _list(raw)])


def fields_of(raw: bytes) -> dict[str, bytes]:
    """Return the values of a JSON object as text."""
    return {key: bytes(inner) for key, inner in _object(raw).items()}


def join(fields: dict[str, bytes]) -> bytes:
    """Return a JSON object of values that are text already."""
    return b"{%b}" % b",".join([_encode(key) + b":" + inner for key, inner in fields.items()])


def _is_number(raw: bytes) -> bool:
    return raw[0] in _DIGITS


def _is_id(raw: bytes) -> bool:
    return raw[0] in b'"{' or raw.lstrip(b"-").isdigit()
