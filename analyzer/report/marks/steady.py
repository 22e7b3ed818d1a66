"""Iterations and telemetry thinned to what a figure can show, keeping the extremes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.telemetry import HELD_DOWN
from analyzer.schema.results import Analysis

Float64 = npt.NDArray[np.float64]
MAX_POINTS = 600
HELD_DOWN_MASK = sum(HELD_DOWN)


def thin(values: Float64, limit: int) -> npt.NDArray[np.int64]:
    """Return the positions of at most ``limit`` values, in order: the lowest and the highest of each stretch."""
    if len(values) <= limit:
        return np.arange(len(values), dtype=np.int64)
    kept: set[int] = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), max(limit // 2 - 1, 1)):
        kept |= {int(part[np.argmin(values[part])]), int(part[np.argmax(values[part])])}
    return np.array(sorted(kept), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Iterations:
    """The untraced iterations of one run, every process after the other; ``shown`` are the positions drawn."""

    label: str
    run: int
    latency_ms: Float64
    process: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int64]
    median_ms: float
    low_ms: float
    high_ms: float


def iterations(analysis: Analysis, run: int, limit: int) -> Iterations | None:
    """Return the timed iterations of a run, None where there are none."""
    found = analysis.timings[analysis.timings["pass"] == "untraced"]
    if found.empty or analysis.latency is None:
        return None
    found = found.sort_values(["repeat", "iteration"], kind="stable")
    values = found["latency_ms"].to_numpy(np.float64)
    median = analysis.latency.median_ms
    return Iterations(
        label=analysis.label,
        run=run,
        latency_ms=values,
        process=found["repeat"].to_numpy(np.int64),
        shown=thin(values, limit),
        median_ms=float(median.value),
        low_ms=float(median.low),
        high_ms=float(median.high),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel; ``x`` in seconds since the first sample. ``range`` is (lowest, median, highest) of every sample."""

    name: str
    x: Float64
    y: Float64
    range: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time. ``cap`` is a limit to be drawn, such as the power cap."""

    name: str
    unit: str
    lines: tuple[Line, ...]
    cap: float | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The panels of one run with the spans (in s) in which clocks were held down and in which the timed pass ran.

    ``held`` is None where the device does not tell.
    """

    label: str
    run: int
    panels: tuple[Panel, ...]
    held: tuple[tuple[float, float], ...] | None
    timed: tuple[float, float] | None
    samples: int
    seconds: float


_GPU = (
    ("SM clock", "MHz", (("", "sm_clock_mhz", 1.0),)),
    ("Power", "W", (("", "power_instant_w", 1.0),)),
    ("Temperature", "°C", (("", "temperature_c", 1.0),)),
    ("GPU memory", "MiB", (("", "gpu_memory_bytes", 2.0**20),)),
    ("GPM", "%", (("SM occupancy", "gpm_sm_occupancy_pct", 1.0), ("tensor pipes", "gpm_tensor_pct", 1.0),
                  ("DRAM bandwidth", "gpm_dram_pct", 1.0))),
)  # fmt: skip
_CPU = (
    ("CPU", "%", (("", "cpu_pct", 1.0),)),
    ("Clock", "MHz", (("", "cpu_mhz", 1.0),)),
    ("Resident", "MiB", (("", "rss_bytes", 2.0**20),)),
)


def telemetry(analysis: Analysis, run: int, limit: int = MAX_POINTS) -> Telemetry | None:
    """Return the panels that have data, None where no sample was taken."""
    samples = analysis.samples
    if samples.empty:
        return None
    start = int(samples["time_ns"].iloc[0])
    seconds = (samples["time_ns"].to_numpy(np.int64) - start) / 1e9
    panels = []
    for name, unit, columns in _GPU if analysis.device.type == "cuda" else _CPU:
        chosen = [(n, _or_average(samples, c), scale) for n, c, scale in columns]
        lines = tuple(_line(n, seconds, samples[c], scale, limit) for n, c, scale in chosen if samples[c].notna().any())
        if lines:
            panels.append(Panel(name, unit, lines, analysis.device.power_limit_w if name == "Power" else None))
    if not panels:
        return None
    passes = analysis.run.facts.passes if analysis.run.facts else ()
    timed = next(
        (((p.start_unix_ns - start) / 1e9, (p.end_unix_ns - start) / 1e9) for p in passes if p.name == "untraced"), None
    )
    reasons = samples["clock_event_reasons"]
    held = _held(seconds, reasons) if reasons.notna().any() else None
    return Telemetry(analysis.label, run, tuple(panels), held, timed, len(samples), float(seconds[-1]))


def _or_average(samples: pd.DataFrame, column: str) -> str:
    return "power_average_w" if column == "power_instant_w" and samples[column].isna().all() else column


def _line(name: str, seconds: Float64, values: pd.Series[float], scale: float, limit: int) -> Line:
    """A missing sample breaks nothing: it is left out, and the line joins its neighbours only over what was measured."""
    known = values.notna().to_numpy()
    y = np.asarray(values.to_numpy(np.float64)[known] / scale, dtype=np.float64)
    shown = thin(y, limit)
    return Line(name, seconds[known][shown], y[shown], (float(y.min()), float(np.median(y)), float(y.max())))


def _held(seconds: Float64, reasons: pd.Series[float]) -> tuple[tuple[float, float], ...]:
    """Return the spans of consecutive samples in which something held the clocks down, each up to the next sample."""
    down = (reasons.fillna(0).astype("int64").to_numpy() & HELD_DOWN_MASK) > 0
    spans: list[tuple[float, float]] = []
    for i in np.flatnonzero(down):
        end = seconds[i + 1] if i + 1 < len(seconds) else seconds[i]
        if spans and spans[-1][1] >= seconds[i]:
            spans[-1] = (spans[-1][0], float(end))
        else:
            spans.append((float(seconds[i]), float(end)))
    return tuple(spans)
