"""Events of a trace: typed decoding of what is used, and the same by hand for text that is damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from analyzer.trace.damage import Damage

EXACT_US = float(1 << 43)
"""Below it a double tells nanoseconds apart (its spacing is under 0.001 us); above, a fractional time is read as decimal
text."""


class Event(msgspec.Struct, gc=False):
    """One entry of ``traceEvents``; ``args`` stay text until the event turns out to be wanted."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    ts: int | float | Decimal | None = None
    dur: int | float | Decimal | None = None
    pid: int | str = 0
    tid: int | str = 0
    args: msgspec.Raw = msgspec.Raw(b"{}")
    id: msgspec.Raw = msgspec.Raw(b"")


class _Floating(Event, gc=False):
    ts: int | float | None = None
    dur: int | float | None = None


class _Decimal(Event, gc=False):
    ts: Decimal | None = None
    dur: Decimal | None = None


MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_FAST = msgspec.json.Decoder(list[_Floating])
_EXACT = msgspec.json.Decoder(list[_Decimal], strict=False)
_LAX = msgspec.json.Decoder(list[_Floating], strict=False)
_ONE = msgspec.json.Decoder(_Decimal, strict=False)

_CONTROL = bytes(range(32))
_SPACES = bytes.maketrans(_CONTROL, b" " * 32)
_NOT_JSON = re.compile(rb"N/A|-?nan\b|-?inf\b|-?NaN\b|-?Infinity\b|\bNone\b")
# whole strings and what can begin none of these words, so that the words are found outside of strings alone
_SOUND_OR_NOT_JSON = re.compile(rb'((?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^"NniI-]++)++)|' + _NOT_JSON.pattern, re.DOTALL)
_ESCAPE = re.compile(rb'(\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))|\\')


def decode_events(text: bytes, *, exact: bool = False) -> list[Event] | None:
    """Return the events of ``text``, a JSON list; None where it is no such text.

    ``exact``: times are decimals, for files in which a double would round nanoseconds. Numbers may be written as text.
    """
    try:
        return (_EXACT if exact else _FAST).decode(text)  # type: ignore[return-value]
    except msgspec.ValidationError:
        if exact:
            return None
    except MALFORMED:
        return None
    try:
        return _LAX.decode(text)  # type: ignore[return-value]
    except MALFORMED:
        return None


def repair(text: bytes) -> tuple[bytes, int]:
    """Return ``text`` with what JSON does not allow replaced, and in how many places.

    Broken UTF-8, control characters, values such as N/A and NaN, and bad escapes.
    """
    places = 0
    try:
        text.decode()
    except UnicodeDecodeError:
        text = text.decode("utf-8", "replace").encode()
        places += 1
    spaced = text.translate(_SPACES)
    if b"\\" in spaced or _NOT_JSON.search(spaced):
        spaced, replaced = _replace_tokens(spaced)
        places += replaced
    return spaced, max(places, 1)


def _replace_tokens(text: bytes) -> tuple[bytes, int]:
    count = 0

    def escape(match: re.Match[bytes]) -> bytes:
        nonlocal count
        count += match.group(1) is None
        return match.group(1) or b"\\\\"

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal count
        sound = match.group(1)
        if sound is None:
            count += 1
            return b"null"
        return _ESCAPE.sub(escape, sound) if b"\\" in sound else sound

    return _SOUND_OR_NOT_JSON.sub(replace, text), count


def decode_one(text: bytes, damage: Damage) -> Event | None:
    """Return the one event of ``text``, its values converted as far as they can be; None where it is no event."""
    try:
        return _ONE.decode(text)
    except MALFORMED:
        pass
    if not text.startswith(b"{"):
        return None
    try:
        repaired, places = repair(text)
        found = json.loads(repaired, strict=False)
    except (ValueError, RecursionError, OverflowError):
        return None
    if not isinstance(found, dict):
        return None
    damage.add("repaired", places)
    return _convert(found)


def _convert(found: dict[str, Any]) -> Event:
    args = found.get("args")
    return Event(
        ph=_text(found.get("ph")),
        cat=_text(found.get("cat")),
        name=_text(found.get("name")),
        ts=_number(found.get("ts")),
        dur=_number(found.get("dur")),
        pid=_label(found.get("pid")),
        tid=_label(found.get("tid")),
        args=msgspec.Raw(json.dumps(args).encode()) if isinstance(args, dict) else msgspec.Raw(b"{}"),
        id=msgspec.Raw(json.dumps(found["id"]).encode()) if isinstance(found.get("id"), int | str) else msgspec.Raw(b""),
    )


def _text(value: Any) -> str:
    # a lone surrogate cannot be written to any file
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _label(value: Any) -> int | str:
    return value if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


class Decoding(NamedTuple):
    """How the text of events becomes events: ``many`` as ``decode_events``, ``one`` as ``decode_one``.

    Both are None for text that is no whole list of events, or no event.
    """

    many: Callable[..., list[Any] | None]
    one: Callable[[bytes, Damage], Any]


TYPED = Decoding(decode_events, decode_one)
