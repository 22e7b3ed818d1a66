"""From a trace file to columns: the part of reading that needs no pandas, here or in another process meanwhile."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import TraceError
from analyzer.trace.columns import Columns, InexactTimesError
from analyzer.trace.damage import Damage
from analyzer.trace.document import Document
from analyzer.trace.events import Event
from analyzer.trace.source import MAX_EXPANSION, read_blocks
from analyzer.trace.worker import Worker, WorkerError, answering, python, receive, second_core, send

_WANTED = frozenset(
    (
        "deviceProperties", "computeProperties", "baseTimeNanoseconds", "hip_runtime_version", "roctracer_version",
        "distributedInfo", "cuda_runtime_version", "cuda_driver_version",
    )
)  # fmt: skip
_WORTH_BYTES = 1 << 20
_SHARED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What was read of a file: columns of its events, raw text of top-level ``values``, and what was damaged."""

    columns: Columns
    values: dict[str, bytes]
    damage: Damage


def read_contents(path: Path, max_expansion: float = MAX_EXPANSION) -> Contents:
    """Return the contents of the trace at ``path``; a second process decodes its share of a long one.

    Raises:
        TraceError: the file cannot be read, is no trace, or unpacks to more than allowed.
    """
    try:
        try:
            with Worker() as worker:
                return _read(path, max_expansion, worker)
        except WorkerError:
            return _read(path, max_expansion)
    except InexactTimesError:
        return _read(path, max_expansion, exact=True)


def _read(path: Path, max_expansion: float, worker: Worker | None = None, *, exact: bool = False) -> Contents:
    damage = Damage()
    columns = Columns(damage)
    take = worker.take if worker else None
    document = Document(path, read_blocks(path, damage, max_expansion), _WANTED, damage, exact=exact, take=take)
    for number, events in document.pieces():
        columns.add(events, number)
    if worker:
        worker.finish(columns)
    return Contents(columns, document.values, damage)


def read_again(path: Path, max_expansion: float) -> Iterator[list[Event]]:
    """Yield the events of a file whose columns are at hand, for what is seldom wanted of them."""
    damage = Damage()
    document = Document(path, read_blocks(path, damage, max_expansion), _WANTED, damage, exact=True)
    return (events for _, events in document.pieces())


class Ahead:
    """A file that another process reads, while this one is busy with something else."""

    def __init__(self, path: Path, max_expansion: float, process: subprocess.Popen[bytes]) -> None:
        self.path, self._max_expansion, self._process = path, max_expansion, process

    def contents(self) -> Contents:
        """Return what ``read_contents`` would; it is called where the other process came to grief.

        Raises:
            TraceError: as ``read_contents``.
        """
        found = receive(self._process.stdout)
        return found if isinstance(found, Contents) else read_contents(self.path, self._max_expansion)


@contextmanager
def reading_ahead(path: Path, max_expansion: float = MAX_EXPANSION) -> Iterator[Ahead | None]:
    """Yield the file at ``path`` as another process begins to read it; None where that does not pay.

    It does not for a short file, for one so long that both processes had better share it, and without a second core.
    """
    try:
        size = path.stat().st_size if path.is_file() else 0
    except OSError:
        size = 0
    if not _WORTH_BYTES <= size <= _SHARED_BYTES or not second_core():
        yield None
        return
    with python(f"from {__name__} import main; main()", str(path), str(max_expansion)) as process:
        yield Ahead(path, max_expansion, process) if process else None


def main() -> None:
    """Read the file that the command line names and write its contents to standard output; nothing where it cannot be read."""
    path, max_expansion = sys.argv[1:3]
    # an error is met again by the first process, which tells it
    with answering() as answer, contextlib.suppress(TraceError):
        send(read_contents(Path(path), float(max_expansion)), answer)
