"""The last look before anything leaves the machine: no name of the host or the user, no home, no path, no environment."""

from __future__ import annotations

import getpass
import gzip
import io
import json
import os
import re
import socket
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_COMMON = frozenset((
    "root", "user", "users", "admin", "administrator", "ubuntu", "debian", "runner", "nobody", "guest", "app", "python",
    "torch", "cuda", "model", "models", "test", "tests", "localhost", "localhost.localdomain", "host", "build", "docker",
    "jovyan", "vscode", "nvidia", "gpu", "linux", "(none)",
))  # fmt: skip
"""Names that identify nobody and are words of what is recorded too: such a user is looked for as the end of a home alone."""
_SECRET = re.compile(
    r"TOKEN|SECRET|PASS|CREDENTIAL|API_?KEY|PRIVATE|^USER$|^LOGNAME$|^HOSTNAME$|^HOST$|^MAIL$|SSH_|PROXY", re.IGNORECASE
)
_GZIP = b"\x1f\x8b"
_OTHER_PACKERS = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c")
"""How zip, bzip2, xz, zstd and 7z begin."""
_ESCAPES = ((b"\\/", b"/"), (b"\\n", b"\n"), (b"\\t", b"\t"), (b"\\r", b"\n"))
"""Of JSON: a name after one of them would seem to have a letter before it."""
_MOST_BYTES = 1 << 30
_DEPTH = 3


class UnreadableError(Exception):
    """A file that cannot be looked through, so that nothing can be said of it."""


@dataclass(frozen=True, slots=True)
class Names:
    """What may not stand in any file: what it is, its bytes in lower case, and the pattern by which it stands alone."""

    patterns: tuple[tuple[str, bytes, re.Pattern[bytes]], ...]

    def found(self, data: bytes) -> list[str]:
        """Return what stands in ``data``, also escaped and inside gzip, in words and without the name itself.

        Raises:
            UnreadableError: it is packed and damaged, in another way than gzip, or unpacks to more than 1 GiB.
        """
        seen: dict[str, None] = {}
        for text in _layers(data):
            plain = text
            for escape, sign in _ESCAPES:
                plain = plain.replace(escape, sign)
            lower = plain.lower()  # a plain search is fast, and hardly any text holds a name
            seen.update((what, None) for what, name, pattern in self.patterns if name in lower and pattern.search(lower))
        return list(seen)

    def without(self, known: bytes) -> Names:
        """Return the names that do not stand in ``known``, which everybody may read: those would tell nothing of anybody.

        A host called h100, or ``device=cuda`` in the environment (make puts the words of its command line there), would
        otherwise keep every run here.
        """
        lower = known.lower()
        return Names(tuple(each for each in self.patterns if not each[2].search(lower)))


def names_here(
    host: str | None = None,
    user: str | None = None,
    home: str | None = None,
    environment: Mapping[str, str] | None = None,
    places: tuple[str, ...] = (),
) -> Names:
    """Return the names of this machine, or those given. ``places`` are folders whose paths may not stand anywhere."""
    host = socket.gethostname() if host is None else host
    home = str(Path.home()) if home is None else home
    outer = os.environ if environment is None else environment
    wanted: list[tuple[str, str, bool]] = []
    for name in dict.fromkeys((host, host.partition(".")[0])):
        wanted.append(("the name of the host", name, True))
    wanted.append(("the name of the user", _user() if user is None else user, True))
    wanted += [("a home folder", place, False) for place in dict.fromkeys((home, os.path.realpath(home)))]
    wanted += [("a path of this machine", place, False) for place in places]
    for key, value in outer.items():
        if len(value) >= 6 and _SECRET.search(key) and value.lower() not in _COMMON:
            wanted.append((f"the value of the environment variable {key}", value, True))
        if len(value) >= 4 and len(key) >= 3:
            wanted.append((f"the environment variable {key}", f"{key}={value}", True))
    patterns = []
    for what, text, is_word in wanted:
        # a single-letter or common name says nothing of anybody, and / is no home
        if len(text) < 2 or (is_word and text.lower() in _COMMON) or text.count("/") == len(text):
            continue
        # of variables there are many, and each spelling takes its time
        found = _patterns(text)[: 2 if what.startswith("the environment variable") else None]
        patterns += [(what, name, pattern) for name, pattern in found]
    return Names(tuple(patterns))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _patterns(text: str) -> list[tuple[bytes, re.Pattern[bytes]]]:
    """Return the spellings of ``text`` in lower case, each with the pattern by which it stands alone.

    As it is, as JSON and as an address on the net escape it, and in UTF-16: without the last byte, so in either order of bytes.
    """
    raw = text.encode("utf-8", "surrogateescape").lower()
    spellings = (raw, json.dumps(text)[1:-1].encode().lower(), quote(raw).lower().encode(), quote(raw, "").lower().encode())
    head, tail = _edges(text)
    found = [(spelling, re.compile(head + re.escape(spelling) + tail)) for spelling in dict.fromkeys(spellings)]
    wide = text.lower().encode("utf-16-le", "surrogatepass")[:-1].lower()  # what is searched is in lower case byte by byte
    return [*found, (wide, re.compile(re.escape(wide)))]


def _edges(text: str) -> tuple[bytes, bytes]:
    """Return what may not stand before and after ``text``, so that it is no part of something else.

    Of a path with several folders nothing but a longer name behind it, of one with a single folder nothing before it
    either. A name may hang together with others by ``_`` and ``-`` (``torchinductor_NAME``), unless it is very short.
    """
    if "/" in text:
        return (rb"(?<![\w.-])" if text.count("/") == 1 else b""), rb"(?![\w-])"
    if len(text) < 4:
        return rb"(?<![\w-])", rb"(?![\w-])"
    return rb"(?<![a-z0-9])", rb"(?![a-z0-9])"


def _layers(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield ``data`` if it is plain, what it unpacks to if it is gzip (and so on)."""
    if data.startswith(_OTHER_PACKERS):
        raise UnreadableError("it is packed in a way that is not looked into")
    if not data.startswith(_GZIP):
        yield data
        return
    if depth == _DEPTH:
        raise UnreadableError("it is packed too often")
    try:
        with gzip.open(io.BytesIO(data)) as file:
            inner = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError("it is packed and damaged") from error
    if len(inner) > _MOST_BYTES:
        raise UnreadableError("it unpacks to more than 1 GiB")
    yield from _layers(inner, depth + 1)
