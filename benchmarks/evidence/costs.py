"""What measuring costs: ``python -m benchmarks.evidence.costs sampler|profiler out=evidence key=value...``.

``sampler`` runs one model in blocks with and without the telemetry process, in the order on, off, off, on, and compares the
median latencies of neighbours. ``profiler`` runs nothing: it takes the traced and untraced latencies of the runs there are.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.evidence.record import RUN_WORDS, choice_of, settings_of, write_result
from benchmarks.evidence.words import WordError, read_words

WORDS = {"out": "evidence", "device": "auto", **RUN_WORDS, "pairs": "6", "block_s": "1.0"}
_LEVEL = 0.95
_START_S = 5.0


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower and upper end of an interval of the median, and its coverage.

    Order statistics: of n independent values the k-th smallest and largest hold the median with probability
    1 - 2 * sum(binomial(n, i), i < k) / 2**n, whatever the distribution (David and Nagaraja, Order Statistics, 7.1). The
    largest k with at least 95 % is taken; with fewer than six values that is none, and the ends are the least and the most.
    """
    ordered, count = sorted(values), len(values)
    best, coverage = 1, 1 - 2 / 2**count
    for rank in range(2, count // 2 + 1):
        outside = sum(math.comb(count, each) for each in range(rank)) / 2**count
        if 1 - 2 * outside < _LEVEL:
            break
        best, coverage = rank, 1 - 2 * outside
    return ordered[best - 1], ordered[-best], coverage


def compared(on: Sequence[float], off: Sequence[float]) -> dict[str, Any]:
    """Return the ratio of each pair, its median and the interval of that."""
    ratios = [with_it / without for with_it, without in zip(on, off, strict=True)]
    low, high, coverage = median_interval(ratios)
    return {
        "ratio": statistics.median(ratios), "low": low, "high": high, "coverage_pct": 100 * coverage, "n": len(ratios),
        "on_ms": list(on), "off_ms": list(off),
    }  # fmt: skip


def in_turns(block: Callable[[bool], float], pairs: int) -> tuple[list[float], list[float]]:
    """Return what ``block`` gives with and without, ``pairs`` times each: on, off, off, on, so that a drift hits both alike."""
    on: list[float] = []
    off: list[float] = []
    for number in range(pairs):
        for with_it in (True, False) if number % 2 == 0 else (False, True):
            (on if with_it else off).append(block(with_it))
    return on, off


def sampler(values: dict[str, str], out: Path) -> int:
    """Write ``results/sampler-cost.json``."""
    from analyzer.capture.latency import Clock, Timings, warm_up
    from analyzer.capture.presets import resolve
    from analyzer.capture.running import prepared

    choice, settings = choice_of(values), settings_of(values, out / "making")
    resolved, block_s = resolve(settings, choice.family), float(values["block_s"])
    with tempfile.TemporaryDirectory() as scratch, prepared(choice, resolved) as ready:
        clock = Clock(resolved.device)
        warm_up(ready.step, clock, resolved, Timings())

        def block(with_it: bool) -> float:
            with ExitStack() as stack:
                _telemetry(stack, Path(scratch), resolved, with_it=with_it)
                return statistics.median(_latencies(lambda: clock.time(ready.step)[1], block_s))

        on, off = in_turns(block, int(values["pairs"]))
    keys = ("model", "image_size", "batch_size", "dtype", "attention")
    about = {key: values[key] for key in keys} | {"period_s": resolved.sample_period_s, "block_s": block_s}
    content = {"settings": about, **compared(on, off), "what": "median latency of a block with telemetry over one without"}
    write_result("sampler-cost", values["device"], content, out)
    print(f"ratio {content['ratio']:.4f} ({content['low']:.4f} to {content['high']:.4f}, n={content['n']})")
    return 0


def _telemetry(stack: ExitStack, scratch: Path, resolved: Any, *, with_it: bool) -> None:
    """Start the telemetry of a run and wait until it samples; without it wait about as long, so that the device cools alike."""
    from analyzer.capture.environment import device_uuid
    from analyzer.capture.telemetry import sampled

    if not with_it:
        time.sleep(0.8)
        return
    stack.enter_context(
        sampled(scratch, resolved.sample_period_s, resolved.device.type == "cuda", device_uuid(resolved.device))
    )
    ends, samples = time.monotonic() + _START_S, scratch / "samples.raw.jsonl"
    while time.monotonic() < ends and not (samples.is_file() and samples.stat().st_size):
        time.sleep(0.05)


def _latencies(time_one: Callable[[], float], seconds: float) -> list[float]:
    ends, found = time.monotonic() + seconds, [time_one()]
    while time.monotonic() < ends or len(found) < 5:
        found.append(time_one())
    return found


def profiler(values: dict[str, str], out: Path) -> int:
    """Write ``results/profiler-cost.json`` from the runs that are there."""
    found = {path.parent.name: of_timings(path) for path in sorted((out / "runs").glob("*/timings.csv"))}
    rows = {name: row for name, row in found.items() if row}
    if not rows:
        print("no run has traced and untraced latencies")
        return 1
    what = "traced steps over the untraced median of the same process; low and high are the least and the most of n steps"
    write_result("profiler-cost", values["device"], {"what": what, "runs": rows}, out)
    return 0


def of_timings(path: Path) -> dict[str, Any]:
    """Return the cost of the profiler by one file of timings: traced latencies over the untraced median; empty without both."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["repeat"] == "0"]
    untraced = [float(row["latency_ms"]) for row in rows if row["pass"] == "untraced"]
    traced = [float(row["latency_ms"]) for row in rows if row["pass"] == "traced"]
    if not untraced or not traced:
        return {}
    base = statistics.median(untraced)
    ratios = [ms / base for ms in traced]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "n": len(traced), "untraced_ms": base}


COSTS: dict[str, Callable[[dict[str, str], Path], int]] = {"sampler": sampler, "profiler": profiler}
"""What can be asked for."""


def main(given: list[str]) -> int:
    """Measure what ``given`` names; return the exit code."""
    from analyzer.errors import AnalyzerError

    try:
        if not given or given[0] not in COSTS:
            raise WordError(f"name one first: {', '.join(COSTS)}")
        values = read_words(given[1:], WORDS)
        return COSTS[given[0]](values, Path(values["out"]).absolute())
    except (AnalyzerError, WordError) as error:
        print(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
