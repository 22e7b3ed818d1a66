"""Coverage-guided fuzzing of the trace reader for some seconds: ``python -m fuzz.reader 60``.

What it learns stays in ``fuzz/corpus``; an input that fails is kept in ``fuzz/failures``.

The first byte of an input chooses the size of a piece; the rest is the file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from random import Random
from typing import Any

import atheris

with atheris.instrument_imports(include=["analyzer.trace"]):
    from analyzer.trace import source, worker
    from fuzz.examine import examine
    from fuzz.generate import FAILURES
    from fuzz.inputs import PIECES, document, mutate, seeds

LIMITS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=16384")
RUNS = 1000
CORPUS = Path(__file__).resolve().parent / "corpus"
_ROUND = "--round"
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_CORPUS = seeds()
_PLACE = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


class _Inline(Executor):
    """Does at once what a thread would do later, so that one input takes one way."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Return what ``call`` gives, in a future."""
        done: Future[Any] = Future()
        try:
            done.set_result(call(*args, **named))
        except Exception as error:  # noqa: BLE001 - belongs to whoever asks for the result
            done.set_exception(error)
        return done


def read(data: bytes) -> None:
    """Read one input."""
    text = data[1:]
    path = Path(_PLACE.name) / "input.json"
    path.write_bytes(text)
    examine(path, None if text.startswith(_PACKED) else text, PIECES[data[0] % len(PIECES)] if data else PIECES[-1])


def change(data: bytes, max_size: int, seed: int) -> bytes:
    """Return another input: half of them as libFuzzer would have it, half with what is known of JSON."""
    random = Random(seed)
    if random.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    text = document(random) if random.random() < 0.02 else mutate(random, data[1:], _CORPUS)
    return (bytes([random.randrange(256)]) + text)[:max_size]


def main() -> int:
    """Fuzz in rounds until the time is over; return 0 when nothing was found.

    Each round is a process of its own, since atheris keeps up to half a megabyte of memory for every input.
    """
    if sys.argv[1:2] == [_ROUND]:
        for module in (source, worker):
            vars(module)["ThreadPoolExecutor"] = lambda *_: _Inline()
        atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[2:]], read, custom_mutator=change)
        atheris.Fuzz()
    ends = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 60)
    for directory in (CORPUS, FAILURES):
        directory.mkdir(exist_ok=True)
    for number, text in enumerate(_CORPUS):
        (CORPUS / f"seed-{number}").write_bytes(bytes([number]) + text)
    while (left := int(ends - time.monotonic())) > 0:
        command = [sys.executable, "-m", "fuzz.reader", _ROUND, str(CORPUS), f"-runs={RUNS}", f"-max_total_time={left}"]
        done = subprocess.run([*command, f"-artifact_prefix={FAILURES}/"], check=False, capture_output=True, text=True)
        print("\n".join(done.stderr.splitlines()[-1 if done.returncode == 0 else -40 :]), flush=True)
        if done.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
