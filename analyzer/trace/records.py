"""Records of points and the files of a sweep, read as what strangers may have written: small regular files, nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from analyzer.errors import TraceError
from analyzer.schema.sweep import (
    KEY,
    MAX_MANIFEST_BYTES,
    MAX_NESTING,
    MAX_RECORD_BYTES,
    POINT_FORMAT_VERSION,
    JobFile,
    Manifest,
    PointRecord,
    depth,
)

T = TypeVar("T")
_HINT = "the file may be removed: the sweep that wrote it, repeated, writes it again"


def read_record(path: Path) -> PointRecord:
    """Return the record of a point in ``path``.

    Raises:
        TraceError: it cannot be read, is damaged or of a newer version, or is not the one that the file is named for.
        FileNotFoundError: there is none.
    """
    record = _read(path, PointRecord, MAX_RECORD_BYTES)
    if record.format_version > POINT_FORMAT_VERSION:
        raise TraceError(f"{_name(path)} was written by a newer version", "update the analyzer")
    if not KEY.fullmatch(record.key):
        raise TraceError(f"{_name(path)} is damaged: its key is none", _HINT)
    if depth(record.setting.options) > MAX_NESTING or depth(record.measurement) > MAX_NESTING:
        raise TraceError(f"{_name(path)} is damaged: its options are nested too deep", _HINT)
    return record


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a sweep in ``path``.

    Raises:
        TraceError: it cannot be read, is damaged or of a newer version.
        FileNotFoundError: there is none.
    """
    manifest = _read(path, Manifest, MAX_MANIFEST_BYTES)
    if manifest.format_version > POINT_FORMAT_VERSION:
        raise TraceError(f"{_name(path)} was written by a newer version", "update the analyzer")
    return manifest


def read_job(path: Path) -> JobFile:
    """Return what came of a job of a sweep, as ``path`` has it.

    Raises:
        TraceError: it cannot be read or is damaged.
        FileNotFoundError: there is none.
    """
    return _read(path, JobFile, MAX_RECORD_BYTES)


def _read(path: Path, kind: type[T], limit: int) -> T:
    try:
        return msgspec.json.decode(_bytes(path, limit), type=kind)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TraceError(f"{_name(path)} cannot be read: {error.strerror}", _HINT) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{_name(path)} is damaged: {str(error).splitlines()[0][:200]}", _HINT) from error


def _bytes(path: Path, limit: int) -> bytes:
    # a pipe would keep us waiting and a device would never end: what is opened is looked at, not what the path meant before
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise TraceError(f"{_name(path)} is damaged: it is no file", _HINT)
        text = file.read(limit + 1)
    if len(text) > limit:
        raise TraceError(f"{_name(path)} is damaged: it is too large", _HINT)
    return text


def _name(path: Path) -> str:
    return path.name[:40]
