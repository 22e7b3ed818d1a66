"""The lines of a file that may hold counters: plain or packed with gzip, in UTF-8 or UTF-16, in bounded memory."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from analyzer.errors import TraceError

EXPORT_HINT = "give what `ncu --import FILE.ncu-rep --csv --page raw` prints"
MAX_FILE_BYTES = 1 << 30
"""Unpacked. A line of the raw page is a few kilobytes, so this is some 100,000 launches with every section."""

MAX_LINE_CHARS = 1 << 20
_GZIP = b"\x1f\x8b"
_OTHERS = (
    (b"NVR\0", "a report of Nsight Compute", "export it: ncu --import FILE.ncu-rep --csv --page raw > counters.csv"),
    (b"SQLite format 3\0", "an SQLite export of Nsight Systems, which counts nothing per kernel", EXPORT_HINT),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"PAR1", "a Parquet file", EXPORT_HINT),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first, or pack it with gzip"),
)
_REPORTS = {
    ".ncu-rep": "export it: ncu --import FILE.ncu-rep --csv --page raw > counters.csv",
    ".nsys-rep": f"Nsight Systems counts nothing per kernel; {EXPORT_HINT}",
    ".qdrep": f"Nsight Systems counts nothing per kernel; {EXPORT_HINT}",
}


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of ``path`` without their ends.

    Raises:
        TraceError: it cannot be read, is too large or damaged, or is another kind of file.
    """
    try:
        with _open(path) as file:
            yield from _lines(path, file)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        damaged = isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile))
        said = "the gzip file is damaged or cut off" if damaged else getattr(error, "strerror", None) or str(error)
        raise TraceError(f"cannot read {path}: {said}", EXPORT_HINT) from error


def _open(path: Path) -> BinaryIO:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait for a writer that may never come
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise TraceError(f"{path} is {what}, not a file of counters", EXPORT_HINT)
    if found.st_size > MAX_FILE_BYTES:
        raise TraceError(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB", "count fewer metrics or fewer launches")
    if hint := _REPORTS.get(path.suffix.lower()):
        raise TraceError(f"{path} is a report, not a table of counters", hint)
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return cast("BinaryIO", gzip.open(path)) if packed else path.open("rb")


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    start = file.read(64)
    file.seek(0)
    for magic, what, hint in _OTHERS:
        if start.startswith(magic):
            raise TraceError(f"{path} is {what}, not a table of counters", hint)
    wide = start.startswith((b"\xff\xfe", b"\xfe\xff"))  # what PowerShell writes behind ">"
    text = io.TextIOWrapper(file, encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline=None)
    left = MAX_FILE_BYTES
    while line := text.readline(MAX_LINE_CHARS + 1):
        left -= len(line)
        if len(line) > MAX_LINE_CHARS:
            raise TraceError(f"{path} has a line of more than {MAX_LINE_CHARS >> 20} MiB", EXPORT_HINT)
        if left < 0:
            raise TraceError(f"{path} unpacks to more than {MAX_FILE_BYTES >> 30} GiB", "count fewer metrics or fewer launches")
        if "\0" in line:
            raise TraceError(f"{path} holds bytes that are no text", f"save it as UTF-8, or {EXPORT_HINT}")
        yield line.rstrip("\r\n")
