"""Read many generated hostile inputs: ``python -m fuzz.generate 10000``. Inputs that fail are kept in ``fuzz/failures``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz.examine import examine
from fuzz.inputs import make, seeds

LIMIT_S = 5
LIMIT_BYTES = 1 << 30
ANALYSE_EVERY = 10
FAILURES = Path(__file__).resolve().parent / "failures"

Answer = tuple[int, str, float, int, str]
"""Number of the input, how it ended, seconds, peak bytes of the process, what went wrong."""


@dataclass
class Tally:
    """What has come of the inputs so far."""

    ends: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, number: int, end: str, seconds: float, peak: int, why: str) -> None:
        """Count one answer."""
        self.ends[end] += 1
        self.slowest = max(self.slowest, (seconds, number))
        self.largest = max(self.largest, (peak, number))
        if peak > LIMIT_BYTES:
            why = why or f"{peak >> 20} MiB"
        if why:
            self.failed[number] = why
            print(f"input {number}: {why}", flush=True)


def main() -> int:
    """Return 0 when no input failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    tally = Tally()
    began = time.monotonic()
    numbers = range(given.first, given.first + given.count)
    shares = [numbers[i :: given.processes] for i in range(given.processes)]
    workers = [_Share(given.seed, share) for share in shares]
    for answer in _collect(workers):
        tally.add(*answer)
    for number in tally.failed:
        FAILURES.mkdir(exist_ok=True)
        found = make(given.seed, number, seeds())
        (FAILURES / f"{given.seed}-{number}{found.suffix}").write_bytes(found.data)
    ends = ", ".join(f"{tally.ends[end]} {end}" for end in ("sound", "warnings", "error"))
    took = time.monotonic() - began
    print(f"{sum(tally.ends.values())} inputs of seed {given.seed} in {took:.0f} s: {ends}; {len(tally.failed)} failed")
    print(f"slowest {tally.slowest[0]:.2f} s (input {tally.slowest[1]})")
    print(f"most memory {tally.largest[0] >> 20} MiB (input {tally.largest[1]})")
    return int(bool(tally.failed))


class _Share:
    """The inputs of one process, which is replaced when it dies."""

    def __init__(self, seed: int, numbers: range) -> None:
        self._seed, self._left = seed, list(numbers)
        self._begin()

    def _begin(self) -> None:
        self.answers, there = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(self._seed, self._left, there), daemon=True
        )
        self._process.start()
        there.close()

    def read(self) -> Answer | None:
        """Return the next answer; None where there is no more to come."""
        try:
            answer: Answer = self.answers.recv()
        except EOFError:
            self._process.join()
            if not self._left:
                return None
            number, code = self._left.pop(0), self._process.exitcode
            self._begin()
            why = f"over {LIMIT_S} s" if code == -signal.SIGALRM else f"process ended with {code}"
            return number, "failed", float(LIMIT_S), 0, why
        self._left.remove(answer[0])
        return answer


def _collect(shares: list[_Share]) -> Iterator[Answer]:
    open_shares = list(shares)
    while open_shares:
        ready = multiprocessing.connection.wait([share.answers for share in open_shares])
        for share in [s for s in open_shares if s.answers in ready]:
            answer = share.read()
            if answer is None:
                open_shares.remove(share)
            else:
                yield answer


def _work(seed: int, numbers: list[int], answers: Connection) -> None:
    """Examine inputs one after the other.

    One that takes too long ends the process: the alarm has no handler, so that no C code can hold it up.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    corpus = seeds()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        for number in numbers:
            found = make(seed, number, corpus)
            path = Path(place) / f"input{found.suffix}"
            path.write_bytes(found.data)
            _forget_peak()
            began, why, end = time.monotonic(), "", "failed"
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
            try:
                end = examine(path, found.plain, found.piece_bytes, analyse=number % ANALYSE_EVERY == 0)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
                last = traceback.extract_tb(error.__traceback__)[-1]
                why = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {str(error)[:200]}"
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.send((number, end, time.monotonic() - began, _peak_bytes(), why))
            path.unlink()


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then the peak is that of the process so far


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    sys.exit(main())
