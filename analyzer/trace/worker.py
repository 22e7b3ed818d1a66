"""The second process that decodes a long trace, and the first one's end of it.

The first process offers pieces of the file; one that the worker is free to take goes there, and it decodes the others itself.
Both fill columns of their own, which are merged at the end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

from analyzer.trace.columns import Columns, InexactTimesError
from analyzer.trace.damage import Damage
from analyzer.trace.events import decode_events

START_BYTES = 12 << 20
"""Text that one process has read before it asks for help: less is done before a second one has started."""

_QUEUE = 2
_HEAD = struct.Struct("<qq")
_PIPE_BYTES = 1 << 20
_MAGIC = b"analyzer columns\n"


class WorkerError(Exception):
    """The worker is gone, or met a piece that is no list of events: the file has to be read again in one process."""


def second_core() -> bool:
    """Tell whether this process may use more than one core."""
    return len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) > 1


@contextmanager
def python(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """Yield another Python process, which has this package at hand and ends with the block; None where there can be none."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    if not sys.executable:
        yield None
        return
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pipesize=_PIPE_BYTES,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    except (OSError, ValueError):
        yield None
        return
    try:
        yield process
    finally:
        process.kill()
        with contextlib.suppress(OSError, ValueError):  # what the killed process has not read
            process.communicate()


@contextmanager
def answering() -> Iterator[BinaryIO]:
    """Yield where a second process answers the first one; nothing else that it prints gets there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends this one
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        yield answer


def send(what: object, answer: BinaryIO) -> None:
    """Write ``what`` for ``receive``."""
    answer.write(_MAGIC)
    pickle.dump(what, answer, pickle.HIGHEST_PROTOCOL)
    answer.flush()


def receive(answer: BinaryIO | IO[bytes] | None) -> object:
    """Return what our own second process has sent; None where it sent nothing, or something else spoke in its place."""
    if answer is None or answer.read(len(_MAGIC)) != _MAGIC:
        return None
    try:
        return pickle.load(answer)
    except Exception:  # noqa: BLE001  a pickle that is cut off fails in any way
        return None


class Worker:
    """The first process's end of the second one. Leaving the block ends it."""

    def __init__(self) -> None:
        self._offered = 0
        self._usable = second_core()
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._stack = ExitStack()
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        self._pool.shutdown()

    def take(self, text: memoryview, piece: int) -> bool:
        """Tell whether the worker has taken the piece of that number; ``text`` is its events with commas between them.

        Raises:
            WorkerError: the worker is gone.
        """
        self._offered += len(text)
        if not self._usable or self._offered < START_BYTES:
            return False
        if self._process is None:
            self._process = self._stack.enter_context(python(f"from {__name__} import main; main()"))
            self._usable = self._process is not None
            return False
        while self._writing and self._writing[0].done():
            self._writing.popleft().result()
        if len(self._writing) >= _QUEUE:
            return False
        self._writing.append(self._pool.submit(self._write, bytes(text), piece))
        return True

    def finish(self, columns: Columns) -> None:
        """Merge what the worker has decoded into ``columns``.

        Raises:
            WorkerError, InexactTimesError: a piece failed.
        """
        if self._process is None or self._process.stdout is None:
            return
        try:
            self._pool.submit(self._write, b"", 0).result()
            found = receive(self._process.stdout)
        except OSError as error:
            raise WorkerError from error
        if isinstance(found, InexactTimesError):
            raise found
        if not isinstance(found, Columns):
            raise WorkerError
        columns.merge(found)

    def _write(self, text: bytes, piece: int) -> None:
        if self._process is None or self._process.stdin is None:
            raise WorkerError
        try:
            self._process.stdin.write(_HEAD.pack(len(text), piece))
            self._process.stdin.write(text)
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError from error


def serve(given: BinaryIO, answer: BinaryIO) -> None:
    """Decode pieces until an empty one comes, then give back all columns, or the error that a piece met."""
    columns = Columns(Damage())
    failure: Exception | None = None
    while len(head := given.read(_HEAD.size)) == _HEAD.size:
        size, piece = _HEAD.unpack(head)
        if not size:
            send(failure or columns, answer)
            return
        text = b"[%b]" % given.read(size)
        failure = failure or _decode(columns, text, piece)


def _decode(columns: Columns, text: bytes, piece: int) -> Exception | None:
    events = decode_events(text)
    if events is None:
        return WorkerError()
    try:
        columns.add(events, piece)
    except InexactTimesError as error:
        return error
    return None


def main() -> None:
    """Run the second process."""
    with answering() as answer:
        serve(sys.stdin.buffer, answer)
