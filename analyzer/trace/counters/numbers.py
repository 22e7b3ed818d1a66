"""Numbers as Nsight Compute prints them: thousands separators, the notation of other countries, and units with prefixes."""

from __future__ import annotations

import math
import re

_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_TIMES_NS = {
    "nsecond": 1.0, "ns": 1.0, "usecond": 1e3, "us": 1e3, "msecond": 1e6, "ms": 1e6, "second": 1e9, "sec": 1e9, "s": 1e9,
    "nanosecond": 1.0, "microsecond": 1e3, "millisecond": 1e6,
}  # fmt: skip
_SCALED = frozenset({
    "b", "byte", "hz", "inst", "instruction", "sector", "cycle", "request", "wavefront", "thread", "warp", "block", "register",
    "op", "pixel", "quad", "packet", "tag", "query", "flop", "access", "transaction",
})  # fmt: skip
"""What the prefixes stand before. Kbyte is 1000 bytes, as Nsight Compute has it."""

_SPACES = str.maketrans("", "", "\u00a0\u202f\u2009'\u2019 ")
_SWAP = str.maketrans(".,", ",.")
_NUMBER = re.compile(r"[-+]?(?:[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?|\d*\.?\d+|\d+\.)(?:[eE][-+]?\d{1,3})?", re.ASCII)
_PROOF = re.compile(r",\d{3}[.,]|^[-+]?0?\.\d|^[-+]?\d{4,}\.|\.(?:\d{0,2}|\d{4,})(?:[eE]|$)", re.ASCII)
"""What only a point between whole and fraction can mean, in a text that is a number: groups before it, or not three digits
behind it."""

_OPEN = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_ABSENT = frozenset(("", "n/a", "nan", "-nan", "inf", "-inf", "null", "none", "-", "no data"))
_MAX_CHARS = 64
MAX_VALUE = 1e24
"""No counter is larger: a GPU would count for thousands of years."""


def unit_scale(unit: str) -> float | None:
    """Return what a value in ``unit`` is multiplied with to be in base units; None for a prefix before an unknown word.

    Base units are bytes, ns, Hz, and single instructions, sectors or cycles; rates are per second. Units without a prefix, such
    as ``%`` or ``inst/cycle``, are base units themselves.
    """
    above, _, below = unit.strip().partition("/")
    scale = _TIMES_NS.get(above, 0.0) or _prefix(above)
    if scale is None or not below:
        return scale
    time_ns = _TIMES_NS.get(below)
    if time_ns:
        return scale * 1e9 / time_ns
    divisor = _prefix(below)
    return None if divisor is None else scale / divisor


def _prefix(word: str) -> float | None:
    low = word.lower()
    if low in _SCALED or low.removesuffix("s") in _SCALED:
        return 1.0
    rest = low[1:]
    if word[:1] in _PREFIXES and (rest in _SCALED or rest.removesuffix("s") in _SCALED):
        return _PREFIXES[word[0]]
    return None if re.match(r"[KMGTP][a-z]", word) else 1.0


class NotationError(ValueError):
    """Some numbers of a file have a decimal comma and others a decimal point, or it cannot be told which they have."""


class CommaError(ValueError):
    """The numbers of a file have a decimal comma: it has to be read again so."""


class Digits:
    """Reads the numbers of one file in one notation, and watches for numbers that prove the other.

    ``comma``: the comma stands between whole and fraction, points between thousands. Without, it is the other way round, as
    ncu prints in the locale C.
    """

    def __init__(self, *, comma: bool = False) -> None:
        self.comma = comma
        self._proven = self._open = False

    def read(self, cell: str, *, whole: bool = False) -> float:
        """Return the number in ``cell``, NaN where it has none. ``whole``: it counts something, so it has no fraction.

        Raises:
            CommaError: the number proves the notation with a comma, and nothing has proven the other before.
            NotationError: it proves the other notation than one before it.
        """
        text = cell.strip()
        if text.isascii() and text.isdigit() and len(text) < _MAX_CHARS:
            return float(text)
        text = text.removeprefix("(!)").partition("(")[0].translate(_SPACES)  # "(!) nan"; "12 (5; 7)": instances follow
        if text.lower() in _ABSENT or len(text) > _MAX_CHARS:
            return math.nan
        return self._value(text, whole)

    def _value(self, text: str, whole: bool) -> float:
        mine, other = (text.translate(_SWAP), text) if self.comma else (text, text.translate(_SWAP))
        valid = _NUMBER.fullmatch(mine) is not None
        if _proves(other):
            if self.comma or self._proven:
                raise NotationError
            raise CommaError
        if not valid:
            return math.nan
        self._proven = self._proven or _proves(mine)
        self._open = self._open or (whole and "." in mine and _OPEN.fullmatch(mine) is not None)
        value = float(mine.replace(",", ""))
        return value if abs(value) <= MAX_VALUE else math.nan

    def check(self) -> None:
        """Look back at the whole file.

        Raises:
            NotationError: something that is counted has a fraction of three digits, and nothing says that these are no
                thousands.
        """
        if self._open and not self._proven:
            raise NotationError


def _proves(text: str) -> bool:
    return ("." in text or "," in text) and _PROOF.search(text) is not None and _NUMBER.fullmatch(text) is not None
