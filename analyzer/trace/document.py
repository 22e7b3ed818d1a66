"""A trace's JSON text, read in pieces: its events a few megabytes at a time, and the top-level values that are asked for.

A piece is cut where one event seems to end and another to begin. Whether that guess was right shows when the piece is decoded:
text that starts at an event is a whole list of events if and only if it ends at the end of one. Only where the guess fails is
the text searched for its real structure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analyzer.errors import TraceError
from analyzer.trace.damage import Damage
from analyzer.trace.events import TYPED, Decoding, Event, repair
from analyzer.trace.source import TRACE_HINT

PIECE_BYTES = 2 << 20
MAX_VALUE_BYTES = 64 << 20
"""Longest event, and longest value beside the events; more is no trace."""

MAX_RESCAN_BYTES = 64 << 20
RESCANS = 8
"""A broken file is searched for its sound events, text that was misread once more: MAX_RESCAN_BYTES and RESCANS times what was
read of the file may be searched, then the rest is given up."""

MAX_SLOW_EVENTS = 500_000
"""Events of one file that may be read one by one, or lost; a file that needs more is given up there."""

_LONG_EVENT_BYTES = 1 << 16
_PATIENCE_BYTES = 4 << 20
_SCAN_BYTES = 1 << 20
_FIRST_SCAN_BYTES = 1 << 12
Take = Callable[[memoryview, int], bool]
"""Offers a piece, events with commas between them that may be cut wrongly, and its number; tells whether somebody else decodes
it."""

_BLANK = b" \t\r\n"
_SKIP, _SKIP_COMMAS = re.compile(rb"[ \t\r\n]*"), re.compile(rb"[ \t\r\n,]*")
_EVENT_START = re.compile(rb'\{\s*"(?:ph|cat|name|pid|tid|ts|dur|args|id|bp|s)"\s*:')
_LIST_END = re.compile(rb'\]\s*(?:,\s*"|\}|$)')
# possessive, since backtracking would hold some 80 bytes for each byte of a long text
_KEY = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"\s*+:\s*+', re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb'[^,\]}\s"\[{]++(?=[,\]}\s])')


@dataclass(frozen=True, slots=True)
class _Structure:
    """Where the values of a list end.

    ``commas`` stand between them, ``last`` is behind the last whole object or list among them, ``end`` is that of the list,
    None if it is not in this text; the text was searched up to ``at``.
    """

    commas: npt.NDArray[np.int64]
    end: int | None
    last: int
    at: int


def _find_structure(text: bytes, start: int = 0, *, commas_too: bool = True) -> _Structure:
    """Return the structure of the list that ``text`` is in at ``start``, as offsets from there."""
    commas, found = [np.array([], np.int64)], _Structure(np.array([], np.int64), None, 0, 0)
    for found in _search(text, start, _SCAN_BYTES, commas_too=commas_too):
        commas.append(found.commas)
    return replace(found, commas=np.concatenate(commas))


def _search(text: bytes, start: int, size: int, *, commas_too: bool = True) -> Iterator[_Structure]:
    """Yield the structure of the list that ``text`` is in at ``start``, piece by piece, as offsets from there.

    The first piece is ``size`` long, each further one twice as long as the one before, up to a megabyte, since the search takes
    ten times the memory of its text.
    """
    end, last, depth, inside, at = None, 0, 0, False, start
    while at < len(text) and end is None:
        chunk = text[at : at + size]
        # an escape is not torn apart; chunks begin outside of one, so the backslashes at their end pair up from the left
        if len(chunk) > 1 and (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk = chunk[:-1]
        plain = np.frombuffer(chunk.replace(b"\\\\", b"__").replace(b'\\"', b"__"), np.uint8)
        outside = np.logical_xor.accumulate(plain == ord('"')) == inside
        opened = ((plain == ord("{")) | (plain == ord("["))) & outside
        closed = ((plain == ord("}")) | (plain == ord("]"))) & outside
        depths = np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int32) + depth
        beyond = int((depths < 0).argmax()) if depths.min() < 0 else None
        scope = slice(None, beyond)
        ends = np.flatnonzero(closed[scope] & (depths[scope] == 0))
        last = int(ends[-1]) + 1 + at - start if len(ends) else last
        end = None if beyond is None else beyond + at - start
        commas = np.flatnonzero((plain[scope] == ord(",")) & outside[scope] & (depths[scope] == 0)) if commas_too else ends[:0]
        commas += at - start
        depth, inside, at = int(depths[-1]), inside ^ bool((plain == ord('"')).sum() & 1), at + len(chunk)
        yield _Structure(commas, end, last, at - start)
        size = min(2 * size, _SCAN_BYTES)


class Document:
    """The JSON text of one trace, an object with ``traceEvents`` or a bare list of events.

    ``values`` holds the raw text of the top-level keys in ``wanted`` once ``pieces`` has been consumed. ``decoding`` says what
    its events become.
    """

    def __init__(
        self,
        path: Path,
        blocks: Iterator[bytes],
        wanted: frozenset[str],
        damage: Damage,
        *,
        exact: bool = False,
        take: Take | None = None,
        decoding: Decoding = TYPED,
    ) -> None:
        self.values: dict[str, bytes] = {}
        self._exact, self._take, self._decoding = exact, take, decoding
        self._number = 0
        self._path, self._blocks, self._wanted, self._damage = path, blocks, wanted, damage
        self._text, self._at, self._ended = b"", 0, False
        self._ahead: bytes | None = b""  # the next block, so that the last text is known to be the last
        self._read, self._rescanned, self._slow = 0, 0, 0

    def pieces(self) -> Iterator[tuple[int, list[Event]]]:
        """Yield the events, some thousands at a time, with the number of their piece; pieces that ``take`` took are left out.

        Raises:
            TraceError: the text is no JSON, or holds no list of events.
        """
        self._fill(1)
        self._text = self._text.removeprefix(b"\xef\xbb\xbf")
        start = self._next()
        if start == b"[":
            self._drop(1)
            yield from self._list()
        elif start == b"{":
            self._drop(1)
            yield from self._object()
        else:
            raise TraceError(f"{self._path} is {'no JSON file' if start else 'empty'}", TRACE_HINT)
        if self._next():
            self._damage.cut_off("the file goes on behind the end of its JSON text")

    def _object(self) -> Iterator[tuple[int, list[Event]]]:
        lists = 0
        while (start := self._next(commas=True)) != b"}":
            key = self._key() if start == b'"' else None
            if key == "traceEvents" and self._next() == b"[":
                self._drop(1)
                self._damage.add("lists", int(lists > 0))
                lists += 1
                yield from self._list()
                continue
            value = None if key is None else self._value()
            if key is None or value is None:
                if not lists:
                    raise TraceError(f"{self._path} is no whole JSON file: no list of events is found in it", TRACE_HINT)
                self._damage.cut_off("the file is cut off or damaged behind its events")
                self._text, self._at, self._ended = b"", 0, True
                return
            if key in self._wanted:
                self.values[key] = value
        self._drop(1)
        if not lists:
            raise TraceError(f"{self._path} is JSON but no PyTorch trace: it has no traceEvents", TRACE_HINT)

    def _list(self) -> Iterator[tuple[int, list[Event]]]:
        """Yield the events of a list that has just begun, up to and with its end."""
        while True:
            self._fill(PIECE_BYTES)
            if self._next(commas=True) == b"]":
                self._drop(1)
                return
            cut = self._guess_cut()
            self._number += 1
            if cut and self._take and not self._ended and self._take(memoryview(self._text)[self._at : cut], self._number):
                self._at = cut
                continue
            events = self._decoding.many(self._slice(cut), exact=self._exact) if cut else None
            if events is not None:
                self._at = cut
                yield self._number, events
                continue
            events, over = self._read_by_structure()
            yield self._number, events
            if over:
                return
            if self._slow > MAX_SLOW_EVENTS:
                self._give_up("the text is broken in very many places")
                return

    def _slice(self, cut: int) -> bytes:
        """Return the text at hand up to ``cut`` as a JSON list."""
        return b"".join((b"[", memoryview(self._text)[self._at : cut], b"]"))

    def _guess_cut(self) -> int:
        """Return where the last event but one seems to end, 0 where nothing looks like it."""
        at = len(self._text)
        for _ in range(64):
            at = self._text.rfind(b"}", self._at, at)
            if at < 0:
                return 0
            behind = self._text[at + 1 : at + 65].lstrip(_BLANK)
            if behind.startswith(b",") and behind[1:].lstrip(_BLANK).startswith(b"{"):
                return at + 1
        return 0

    def _read_by_structure(self) -> tuple[list[Event], bool]:
        """Return the events of the text at hand and whether their list ends in it; what is not whole yet stays."""
        self._drop(0)
        found = _find_structure(self._text)
        while found.end is None and not self._ended and not len(found.commas):
            if self._swallows_long(0):
                return self._salvage()
            if len(self._text) > MAX_VALUE_BYTES:
                self._give_up(f"an event is longer than {MAX_VALUE_BYTES >> 20} MiB or has no end")
                return [], True
            self._fill(min(2 * len(self._text), MAX_VALUE_BYTES + 1))
            found = _find_structure(self._text)
        cut = found.end if found.end is not None else found.last if self._ended else int(found.commas[-1])
        if _LIST_END.match(self._text, found.end) if found.end is not None else not self._swallows(cut):
            events = self._decoding.many(self._slice(cut), exact=self._exact)
            if events is None:
                repaired, places = repair(self._slice(cut))
                events = self._decoding.many(repaired, exact=self._exact)
                self._damage.add("repaired", places if events else 0)
            if events is not None:
                self._drop(cut)
                return events, self._close(found.end is not None)
        return self._salvage()

    def _swallows(self, start: int) -> bool:
        """Tell whether the text from ``start`` on, which ought to be a part of one event, holds the start of another one."""
        first = _EVENT_START.search(self._text, start)
        return first is not None and _EVENT_START.search(self._text, first.end()) is not None

    def _swallows_long(self, start: int) -> bool:
        """Tell the same of text so long that its end is not worth waiting for."""
        return len(self._text) - start > _PATIENCE_BYTES and self._swallows(start)

    def _close(self, ended: bool) -> bool:
        """Step over the end of the list, or note that there is none; tell whether there is nothing more to read."""
        if ended:
            self._drop(1)
            return True
        if self._ended:
            self._damage.cut_off("the file is cut off in its list of events")
            self._text = b""
            return True
        return False

    def _salvage(self) -> tuple[list[Event], bool]:
        """Return what can be read of text that is broken, event by event."""
        events: list[Event] = []
        base: int | None = 0
        while base is not None:
            base, done, over = self._read_segments(base, events)
            if self._rescanned > MAX_RESCAN_BYTES + RESCANS * self._read:
                self._give_up("the text is broken in very many places")
                return events, True
        self._drop(done)
        return events, self._close(over)

    def _give_up(self, why: str) -> None:
        self._damage.cut_off(f"{why}, and the rest of the file is given up")
        self._text, self._at, self._ended = b"", 0, True

    def _read_segments(self, base: int, events: list[Event]) -> tuple[int | None, int, bool]:
        """Add the events of the list that the text is in at ``base`` to ``events``.

        Return where to start again, or None, where the text begins that is not read yet, and whether the list ends there.
        """
        start, searched, end, looked = base, 0, None, 0
        for found in _search(self._text, base, _FIRST_SCAN_BYTES):
            self._rescanned += found.at - searched
            searched, end = found.at, found.end
            for comma in found.commas.tolist():
                restart = self._read_segment(start, base + comma, events)
                if restart is not None:
                    return restart, 0, False
                start = base + comma + 1
            if end is None and base + searched - start > _LONG_EVENT_BYTES:
                skipped = _SKIP.match(self._text, start)
                inner = skipped.end() + 1 if skipped else start
                again = _EVENT_START.search(self._text, max(inner, looked), base + searched)
                if again:
                    self._lose()
                    return again.start(), 0, False
                looked = base + searched - _FIRST_SCAN_BYTES
        if end is None and not self._ended and not self._swallows_long(start):
            return None, start, False  # what follows the last comma is not whole yet
        stop = len(self._text) if end is None else base + end
        restart = self._read_segment(start, stop, events)
        over = end is not None and _LIST_END.match(self._text, stop) is not None
        if restart is None and end is not None and not over:
            self._damage.add("lost")
            again = _EVENT_START.search(self._text, stop)
            return (again.start(), 0, False) if again else (None, len(self._text), False)
        return restart, stop, over

    def _read_segment(self, start: int, stop: int, events: list[Event]) -> int | None:
        """Add the event between two commas to ``events``; return where to start again if its structure is broken."""
        segment = self._text[start:stop].strip(_BLANK)
        if not segment:
            return None
        inner = self._text.index(segment, start) + 1
        # an event that holds the start of another one: its quotes or braces are broken, so all behind it is misread
        restart = _EVENT_START.search(self._text, inner, stop)
        repaired = self._damage.counts["repaired"]
        event = None if restart and len(segment) > _LONG_EVENT_BYTES else self._decoding.one(segment, self._damage)
        if event is None:
            self._lose()
            return restart.start() if restart else None
        self._slow += int(self._damage.counts["repaired"] > repaired)
        events.append(event)
        return None

    def _lose(self) -> None:
        self._damage.add("lost")
        self._slow += 1

    def _key(self) -> str | None:
        match = self._match(_KEY)
        if match is None:
            return None
        self._drop(match.end())
        return match.group(1).decode("utf-8", "replace")

    def _value(self) -> bytes | None:
        """Return the text of the next value and step over it; None where it is cut off or broken."""
        start = self._next()
        if start not in (b"{", b"["):
            match = self._match(_STRING if start == b'"' else _SCALAR)
            end = match.end() if match else 0
        else:
            end = self._end_of_container()
        if not end:
            return None
        value = self._text[:end]
        self._drop(end)
        return value

    def _end_of_container(self) -> int:
        self._drop(0)
        size = 1 << 14
        while True:
            self._fill(size)
            end = _find_structure(self._text, 1, commas_too=False).end
            if end is not None:
                return end + 2
            if len(self._text) > MAX_VALUE_BYTES or (self._ended and size >= len(self._text)):
                return 0
            size *= 2

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        self._drop(0)
        while True:
            match = pattern.match(self._text)
            if match and (match.end() < len(self._text) or self._ended):
                return match
            if self._ended or len(self._text) > MAX_VALUE_BYTES:
                return match
            self._fill(max(2 * len(self._text), 1 << 16))

    def _next(self, *, commas: bool = False) -> bytes:
        """Return the next byte that is not blank (nor a comma), nothing at the end; what is before it is dropped."""
        skipped = _SKIP_COMMAS if commas else _SKIP
        while True:
            match = skipped.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._fill(1)

    def _drop(self, count: int) -> None:
        """Step over ``count`` bytes and forget what is behind."""
        self._text, self._at = self._text[self._at + count :], 0

    def _fill(self, size: int) -> None:
        """Forget what is behind and read until at least ``size`` bytes are at hand, or the file ends."""
        blocks = [memoryview(self._text)[self._at :]]
        have = len(self._text) - self._at
        while have < size and not self._ended:
            block, self._ahead = self._ahead, next(self._blocks, None)
            self._ended = self._ahead is None
            if block is not None:
                blocks.append(memoryview(block))
                self._read += len(block)
                have += len(block)
        self._text, self._at = b"".join(blocks), 0
