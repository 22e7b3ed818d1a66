"""Questions to a process that may die: one JSON line on its stdin, the answer in a file, the error as an error.

``ask`` is the side that asks and imports no torch; ``serve`` is the side that answers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from analyzer.capture import processes
from analyzer.errors import AnalyzerError

_GRACE_S = 10.0
_OUTPUT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``value``, None after an error or without an answer.

    ``error`` is the name of the error's class (``OSError`` for an error of files or devices under an AnalyzerError), empty
    when the process gave no answer; then ``status`` is its exit status, below 0 for a signal, and ``last_line`` what it
    printed last.
    """

    value: Any
    error: str = ""
    message: str = ""
    hint: str = ""
    status: int = 0
    last_line: str = ""


class InterruptedAfterAnswerError(KeyboardInterrupt):
    """Ctrl-C came, but the process had its answer ready: what it measured need not be lost."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__()


def ask(module: str, request: dict[str, Any], keep: Sequence[int] = ()) -> Answer:
    """Run ``python -m module``, hand it ``request``, return its answer; it inherits the descriptors ``keep``.

    On Ctrl-C the process gets 10 s to tidy up.

    Raises:
        InterruptedAfterAnswerError: Ctrl-C came while an answer other than an error was ready.
    """
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="analyzer-") as scratch:
        path = Path(scratch) / "answer.json"
        with (Path(scratch) / "stderr").open("w+b") as output:
            process = processes.start(module, output.fileno(), keep)
            try:
                processes.send(process, request | {"path": str(path)})
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
            finally:
                processes.stop(process, _GRACE_S)
            answer = _read(path, process.returncode, output)
    if not interrupted:
        return answer
    if answer.value is not None:
        raise InterruptedAfterAnswerError(answer)
    raise KeyboardInterrupt


def _read(path: Path, status: int, output: Any) -> Answer:
    try:
        answer = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return Answer(None, status=status, last_line=_last_line(output))
    if "error" in answer:
        return Answer(None, answer["error"], answer["message"], answer["hint"])
    return Answer(answer["value"])


def _last_line(output: Any) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_BYTES))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return str(lines[-1]).strip()[:200] if lines else ""


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer the one request on stdin with what ``answer`` returns, or with the AnalyzerError that it raises."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")
    try:
        found: dict[str, Any] = {"value": msgspec.to_builtins(answer(request))}
    except AnalyzerError as error:
        kind = OSError if isinstance(error.__cause__, OSError) else type(error)
        found = {"error": kind.__name__, "message": error.message, "hint": error.hint}
    path = Path(request["path"])
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(path)


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)  # the unfinished run directory is removed on the way out
    time.sleep(_GRACE_S / 2)
    os._exit(1)
