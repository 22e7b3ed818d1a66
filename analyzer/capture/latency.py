"""Warm-up and untraced latency: one batch after another, each timed and synchronised, every one kept."""

from __future__ import annotations

import re
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from analyzer.capture.modes import SETTLING_CALLS
from analyzer.capture.presets import Resolved
from analyzer.schema.run import MemoryFacts, WarmupFacts

Step = Callable[[], object]
_MAX_ITERATIONS = 5000


@dataclass
class Timings:
    """Rows of the table TIMINGS of one process (``repeat``)."""

    repeat: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, iteration: int, start_unix_ns: int, latency_ms: float) -> None:
        """Append one iteration of the pass ``name``."""
        self.rows.append(
            {
                "pass": name,
                "repeat": self.repeat,
                "iteration": iteration,
                "start_unix_ns": start_unix_ns,
                "latency_ms": round(latency_ms, 6),
            }
        )


class Clock:
    """Times one call: CUDA events on a GPU, ``time.perf_counter_ns`` on a CPU; both wait for the result."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: tuple[Any, Any] | None = None
        if device.type == "cuda":
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))

    def time(self, step: Step) -> tuple[int, float]:
        """Run ``step``; return its start (Unix ns) and its time in ms."""
        start_unix_ns = time.time_ns()
        if self._events is None:
            started = time.perf_counter_ns()
            step()
            return start_unix_ns, (time.perf_counter_ns() - started) / 1e6
        first, last = self._events
        stream = torch.cuda.current_stream(self._device)
        first.record(stream)
        step()
        last.record(stream)
        last.synchronize()
        return start_unix_ns, float(first.elapsed_time(last))


def spread_pct(latencies: list[float]) -> float:
    """Return the interquartile range over the median in %: one hiccup of a shared machine does not count."""
    low, middle, high = statistics.quantiles(latencies, n=4, method="inclusive")
    return 100.0 * (high - low) / middle if middle else 0.0


def warm_up(
    step: Step, clock: Clock, settings: Resolved, timings: Timings, then: Callable[[], Step] | None = None
) -> WarmupFacts:
    """Run ``step`` until its latency is steady, or ``warmup_max_s`` have passed; never fails for unsteadiness.

    Steady: the interquartile range of the last iterations (``warmup_min_iterations``, at least 5) is below
    ``steady_pct`` of their median. A compiled model is called a few times before; those calls compile and count for nothing
    here but for the note, which says how long they took. ``then`` returns the step to go on with after those.
    """
    compiling = let_compile(step, clock) if settings.compile != "off" else ""
    step = then() if then is not None else step
    found = settle(step, clock, settings, timings)
    return msgspec.structs.replace(found, note="; ".join(note for note in (compiling, found.note) if note))


def let_compile(step: Step, clock: Clock) -> str:
    """Call ``step`` until it is compiled and runs as it will from then on; return a note on how long that took."""
    seconds = sum(clock.time(step)[1] for _ in range(SETTLING_CALLS)) / 1e3
    return f"compiled in {SETTLING_CALLS} calls before it, {seconds:.1f} s"


def settle(step: Step, clock: Clock, settings: Resolved, timings: Timings) -> WarmupFacts:
    """Run ``step`` as ``warm_up`` does, once nothing is left to compile."""
    window = max(5, settings.warmup_min_iterations)
    latencies: list[float] = []
    started = time.monotonic()
    spread = 0.0
    while len(latencies) < _MAX_ITERATIONS:
        start, latency = clock.time(step)
        timings.add("warmup", len(latencies), start, latency)
        latencies.append(latency)
        elapsed = time.monotonic() - started
        if len(latencies) >= window:
            spread = spread_pct(latencies[-window:])
            if spread < settings.steady_pct and elapsed >= settings.warmup_min_s:
                return WarmupFacts(iterations=len(latencies), steady=True, spread_pct=spread)
        if elapsed >= settings.warmup_max_s:
            break
    if len(latencies) < window:
        spread = spread_pct(latencies) if len(latencies) > 1 else 0.0
        note = f"only {len(latencies)} iterations in {settings.warmup_max_s:g} s; {window} are needed to judge"
    else:
        note = f"the last {window} iterations still spread by {spread:.0f} % (limit {settings.steady_pct:g} %)"
    return WarmupFacts(iterations=len(latencies), steady=False, spread_pct=spread, note=note)


def measure(step: Step, clock: Clock, settings: Resolved, timings: Timings, advance: Callable[[], None]) -> None:
    """Time ``iterations`` calls, and on until ``measure_min_s`` have passed; calls ``advance`` after each."""
    started = time.monotonic()
    for iteration in range(max(settings.iterations, _MAX_ITERATIONS)):
        if iteration >= settings.iterations and time.monotonic() - started >= settings.measure_min_s:
            return
        start, latency = clock.time(step)
        timings.add("untraced", iteration, start, latency)
        advance()


def reset_peak(device: torch.device, *, replays: bool = False) -> bool:
    """Start counting peak memory anew; return False where the system cannot (then the peak is since the start).

    ``replays``: the steps may replay a CUDA graph, so memory that the allocator merely keeps can be given back before.
    """
    if device.type == "cuda":
        if replays:
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: sets VmHWM back to the present RSS
    except OSError:
        return False
    return True


def peak_of_graphs(device: torch.device) -> MemoryFacts:
    """Return the peak since ``reset_peak`` of steps that replay a CUDA graph.

    That allocates nothing: the tensors lie in memory that the graph holds, which counts as reserved alone.
    """
    return MemoryFacts(peak_bytes=torch.cuda.max_memory_reserved(device), kind="CUDA allocator peak, reserved by CUDA graphs")


def peak_memory(device: torch.device, was_reset: bool) -> MemoryFacts:
    """Return the peak since ``reset_peak`` and what was counted."""
    if device.type == "cuda":
        return MemoryFacts(peak_bytes=torch.cuda.max_memory_allocated(device), kind="CUDA allocator peak")
    if was_reset:
        match = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if match:
            return MemoryFacts(peak_bytes=int(match[1]) * 1024, kind="whole process with libraries, peak RSS of the pass")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return MemoryFacts(peak_bytes=peak, kind="whole process with libraries, peak RSS since its start")
