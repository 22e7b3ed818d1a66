"""The bytes of a trace file, unpacked (gzip, zstd) in bounded memory and ahead of the reader."""

from __future__ import annotations

import contextlib
import stat
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from analyzer.errors import TraceError
from analyzer.trace.damage import Damage

BLOCK_BYTES = 4 << 20
BLOCKS_AHEAD = 3
MAX_EXPANSION = 100
"""How many times its own size a packed file may unpack to. Real traces reach 35; deflate allows 1030 and zstd far more."""

_ALWAYS_ALLOWED_BYTES = 64 << 20
TRACE_HINT = "give a file written by torch.profiler's export_chrome_trace or tensorboard_trace_handler"
_AGAIN = "copy it again, or record again"
_ZSTD_BYTES = 2048
_GZIP_BYTES = 1 << 16
"""What is read of a gzip file at a time: the rest of it is copied at the end of each member, and members may be empty."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def read_blocks(path: Path, damage: Damage, max_expansion: float = MAX_EXPANSION) -> Iterator[bytes]:
    """Yield the unpacked bytes of ``path``, at most BLOCK_BYTES at a time; a thread unpacks the next block meanwhile.

    A packed file that is cut off or altered ends early, and ``damage`` tells so.

    Raises:
        TraceError: the file cannot be read, nothing of it can be unpacked, or it unpacks to more than ``max_expansion`` times
            its size (64 MiB are always allowed).
    """
    file, size = _open(path)
    with file, ThreadPoolExecutor(1) as pool:
        blocks = _unpack(path, file, damage, max(_ALWAYS_ALLOWED_BYTES, int(max_expansion * size)), max_expansion)
        ahead = deque(pool.submit(next, blocks, None) for _ in range(BLOCKS_AHEAD))
        while (block := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(next, blocks, None))
            yield block


def _open(path: Path) -> tuple[BinaryIO, int]:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise TraceError(f"{path} is a directory, not a trace", TRACE_HINT)
        if not stat.S_ISREG(found.st_mode):
            # opening a FIFO would wait for a writer that may never come
            raise TraceError(f"{path} is no regular file", "save the trace to a file first")
        return path.open("rb"), found.st_size
    except (OSError, ValueError) as error:
        raise TraceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", TRACE_HINT) from error


def _unpack(path: Path, file: BinaryIO, damage: Damage, limit: int, times: float) -> Iterator[bytes]:
    try:
        start = file.read(8)
        file.seek(0)
        found = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)
        if found:
            raise TraceError(f"{path} is {found}: only JSON, gzip and zstd are read", "unpack it first")
        if start.startswith(_GZIP):
            blocks = _gunzip(path, file, damage)
        elif start.startswith(_ZSTD):
            blocks = _unzstd(path, file, damage)
        else:
            yield from iter(lambda: file.read(BLOCK_BYTES), b"")
            return
        total = 0
        for block in blocks:
            total += len(block)
            if total > limit:
                raise TraceError(
                    f"{path} unpacks to more than {limit >> 20} MiB, over {times:g} times its size",
                    f"if you trust the file, raise the limit: max_expansion={10 * times:g}",
                )
            yield block
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}", TRACE_HINT) from error


def _gunzip(path: Path, file: BinaryIO, damage: Damage) -> Iterator[bytes]:
    """Yield what the members of a gzip file unpack to; the checksum of each is verified by zlib."""
    decoder = zlib.decompressobj(31)
    whole = given = False
    while packed := file.read(min(_GZIP_BYTES, BLOCK_BYTES)):
        while packed:
            before = decoder.copy()
            try:
                block = decoder.decompress(packed, BLOCK_BYTES)
            except zlib.error as error:
                last = _unpack_before_fault(before, packed)
                if last:
                    yield last
                _report_end(path, given or bool(last), damage, f"the gzip file is damaged ({str(error).rsplit(': ', 1)[-1]})")
                return
            if block:
                given = True
                yield block
            packed, whole = decoder.unconsumed_tail, decoder.eof
            if whole:
                packed = decoder.unused_data.lstrip(b"\0")
                decoder = zlib.decompressobj(31)
    if not whole:
        _report_end(path, given, damage, "the gzip file is cut off")


def _unpack_before_fault(decoder: zlib._Decompress, packed: bytes) -> bytes:
    """Return what ``packed`` unpacks to up to its fault.

    Found byte by byte, since a call that fails gives nothing of what it has unpacked until then.
    """
    blocks, size = [], 0
    with contextlib.suppress(zlib.error):
        for i in range(len(packed)):
            if size < 2 * BLOCK_BYTES:
                blocks.append(decoder.decompress(packed[i : i + 1]))
                size += len(blocks[-1])
    return b"".join(blocks)


def _unzstd(path: Path, file: BinaryIO, damage: Damage) -> Iterator[bytes]:
    """Yield what the frames of a zstd file unpack to."""
    import zstandard

    maker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    decoder = maker.decompressobj()
    whole = given = False
    # a call unpacks all that it is given, at most 128 KiB from 4 bytes, so it is given little
    while packed := file.read(_ZSTD_BYTES):
        while packed:
            try:
                block = decoder.decompress(packed)
            except zstandard.ZstdError as error:
                _report_end(path, given, damage, f"the zstd file is damaged ({error})")
                return
            if block:
                given = True
                yield block
            packed, whole = decoder.unused_data, decoder.eof
            if whole:
                decoder = maker.decompressobj()
    if not whole:
        _report_end(path, given, damage, "the zstd file is cut off")


def _report_end(path: Path, given: bool, damage: Damage, what: str) -> None:
    if not given:
        raise TraceError(f"{path}: {what}, and nothing of it can be read", _AGAIN)
    damage.cut_off(what)
