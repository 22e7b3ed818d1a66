"""The cache of measured ceilings: one JSON file for all devices, written atomically, ignored when damaged."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from analyzer.schema.run import Ceiling

_FORMAT_VERSION = 1


class _Cache(msgspec.Struct, frozen=True):
    format_version: int
    entries: dict[str, tuple[Ceiling, ...]]


def cache_path() -> Path:
    """Return where the cache lies: ``$XDG_CACHE_HOME`` or ``~/.cache``, then ``analyzer/ceilings.json``."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if root and Path(root).is_absolute() else Path("~/.cache").expanduser()
    return base / "analyzer" / "ceilings.json"


def load(path: Path) -> tuple[dict[str, tuple[Ceiling, ...]], str]:
    """Return the entries of the cache and a warning; none and a warning when the file is damaged."""
    try:
        cache = msgspec.json.decode(path.read_bytes(), type=_Cache)
    except FileNotFoundError:
        return {}, ""
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}, "the cache of ceilings is damaged and was ignored"
    if cache.format_version != _FORMAT_VERSION:
        return {}, "the cache of ceilings is of another version and was ignored"
    return dict(cache.entries), ""


def store(path: Path, key: str, found: tuple[Ceiling, ...]) -> str:
    """Add ``found`` under ``key``; return a warning when the cache cannot be written."""
    entries, _ = load(path)
    entries[key] = found
    text = msgspec.json.format(msgspec.json.encode(_Cache(_FORMAT_VERSION, entries)), indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".ceilings.")
    except OSError as error:
        return f"the measured ceilings could not be kept: {error.strerror}"
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(text)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        return f"the measured ceilings could not be kept: {error.strerror}"
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return ""
