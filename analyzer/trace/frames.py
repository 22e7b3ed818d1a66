"""Call stacks: which Python frames are kept, and their file names without what tells of a person or a machine."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from analyzer.trace.events import MALFORMED, Event

MODULE_FRAME = "nn.Module: "
MIN_FRAME_US = 5.0
"""A shorter frame cannot hold the launch of a kernel, which takes longer under the profiler."""

MAX_FRAMES = 500_000
"""Frames kept of one file, in each process that reads it; those beyond are left out and counted."""

MAX_STACK_BYTES = 24 << 20
"""Memory for the different frames and call stacks of a file, in each process that reads it."""

NO_STACK = ""
SEPARATOR = "\n"
_MAX_FRAME, _MAX_DEPTH = 240, 48
_PASSED = "torch/nn/modules/module.py("
"""Frames of the machinery that calls a module: two or three around each forward, and they say nothing."""

_OTHERS = ("<built-in", MODULE_FRAME)

_LINE = re.compile(r"\(\d{1,9}\)(?=: |$)")
_LIBRARIES = (re.compile(r".*/(?:site|dist)-packages/", re.DOTALL), re.compile(r".*/lib/python\d[\w.]*/", re.DOTALL))
_OUTSIDE = re.compile(r"[/~]|[^/]*[:@][^/]*/")
"""How a path begins that is not below the folder where Python started: with a root, a home, a drive or a host."""

_HOST = re.compile(r"[^/:@]+@[^/:]*:|[A-Za-z]:(?=\w)")

_HOMES = re.compile(r"(?:home\d*|homes|users|root)", re.IGNORECASE)
_SOURCE = re.compile(r"\.(?:py\w?|so|pyd|ipynb)$")
_OF_USER = re.compile(r"(torchinductor|pytest-of)[_-][^/]*")


def stack_frames(events: list[Event]) -> list[Event]:
    """Return the frames of the Python stack that are kept for call stacks.

    Those of nn.Module are kept apart. Built-in functions, frames too short to hold a launch and the machinery that calls a
    module are not kept; what they called counts for the frame around them.
    """
    # one loop over all frames of a file, of which there are more than of anything else
    long = [event for event in events if event.dur is not None and event.dur >= MIN_FRAME_US]
    return [event for event in long if not event.name.startswith(_OTHERS) and _PASSED not in event.name]


@lru_cache(maxsize=1 << 15)
def trim(frame: str) -> str:
    """Return a frame, ``path(line): function``, with its path trimmed, without home, user name and absolute path.

    What is behind ``site-packages/`` or ``dist-packages/`` stays, else what is behind the library folder of Python. Of any
    other absolute path, also one of Windows, of a share or of another host, the file name alone stays: each folder before it
    may be named after a person (``/scratch/lab/someone/run.py``). Paths that are relative already stay, unless they lead
    upwards or through a folder of homes.
    """
    text = frame.replace("\\", "/").replace("\n", " ")
    lines = [found.start() for found in _LINE.finditer(text)]
    end = lines[-1] if lines else len(text)  # the last one: folders may have brackets and numbers too
    if "/" in text[end:]:  # so even the last is in a folder
        end = len(text)
    kept = _trim_path(text[:end]) + text[end:]
    return kept if len(kept) <= _MAX_FRAME else f"{kept[: _MAX_FRAME - 1]}…"


def _trim_path(path: str) -> str:
    for library in _LIBRARIES:
        found = library.match(path)
        if found:
            path = path[found.end() :]
            break
    if "/" not in path:
        host = _HOST.match(path)
        return path[host.end() :] if host else path
    folders = path.split("/")
    parts = [part for part in folders if part not in ("", ".", "..")]
    homes = [i for i, part in enumerate(parts[:-1]) if _HOMES.fullmatch(part)]
    if homes and homes[-1] == len(parts) - 2 and not _SOURCE.search(parts[-1]):
        return "…"  # a home itself
    outside = homes or ".." in folders or _OUTSIDE.match(path)
    return _OF_USER.sub(r"\1", "/".join(parts[-1:] if outside else parts))


@lru_cache(maxsize=1 << 13)
def trim_stack(raw: bytes) -> str:
    """Return a ``Call stack`` argument, JSON text with the innermost frame first, as trimmed frames joined by SEPARATOR."""
    try:
        text = msgspec.json.decode(raw, type=str)
    except MALFORMED:
        return NO_STACK
    return SEPARATOR.join(frames_of(text))


def frames_of(text: str) -> list[str]:
    """Return the frames of a call stack as torch writes it, innermost first and separated by semicolons, each trimmed."""
    whole = text[: _MAX_DEPTH * 8 * _MAX_FRAME]
    parts = whole.split(";")[: None if whole == text else -1]  # the last one may have been cut within its path
    frames: list[str] = []
    begun = ""
    for part in parts:  # one without a line ends within a path: its semicolon is that of a folder
        begun += part
        if _LINE.search(part):
            frames.append(begun.strip())
            begun = ""
        elif begun:
            begun += ";"
    frames += [begun.strip("; ")] if begun.strip("; ") else []
    return [trim(frame) for frame in frames[:_MAX_DEPTH] if _PASSED not in frame]
