"""What GPM averaged while the model ran over and over, beside what the trace derives for the same seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analyzer.insight.counters import has_counters, is_counted, mean_by_time
from analyzer.metrics.attribution import counted
from analyzer.schema.evidence import Evidence, Quantity, combine
from analyzer.schema.results import Analysis
from analyzer.schema.run import PassFacts

Direction = Literal["below", "above", "either"]
M, D = Evidence.MEASURED, Evidence.DERIVED

PASS = "looped"
_DRAM_PEAK = "DRAM bandwidth, datasheet"
TOLERANCE = 3.0
"""Percentage points by which GPM may pass an expected bound unremarked: traced and looped batches differ by that much in clocks
and caches. A choice of ours; no measurement stands behind it."""

NO_PASS = "the run has no pass in which the model is looped"
BARE = "a bare trace has no telemetry"
NO_SAMPLES = "no reading of GPM lies whole inside the seconds in which the model was looped"
NO_BATCHES = "the trace names no steps, so its totals are of no known number of batches"
NO_TRACE = "the trace does not tell it: it counts no instructions"
NO_PEAK = "the peak of the device is not known"
NO_COUNTERS = "no hardware counters"


_NO_GBPS, _NO_PCT = Quantity.missing("GB/s", NO_PASS), Quantity.missing("%", NO_PASS)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of GPM in %, and its counterparts for the same seconds.

    ``gpm`` is the mean, its ends the lowest and highest reading. ``traced`` comes from the trace (a band where it has ends),
    ``counted`` from hardware counters of each kernel. ``expected``: on which side of ``traced`` GPM is expected to be, and
    ``why`` they differ at all.
    """

    name: str
    gpm: Quantity
    traced: Quantity
    counted: Quantity
    expected: Direction
    why: str

    @property
    def as_expected(self) -> bool | None:
        """Tell whether GPM is on the expected side of ``traced``, within TOLERANCE; None where nothing is to be compared."""
        if self.gpm.value is None or self.traced.value is None or self.expected == "either":
            return None
        low, high = self.traced.low, self.traced.high
        if self.expected == "below":
            return self.gpm.value <= (self.traced.value if high is None else high) + TOLERANCE
        return self.gpm.value >= (self.traced.value if low is None else low) - TOLERANCE


@dataclass(frozen=True, slots=True)
class Activity:
    """What one run did in the seconds of the pass ``looped``; ``reason`` says why there are no ``lines``, else it is empty.

    ``readings``: how many GPM averages lie whole inside the pass. ``dram_gbps``: GPM's share of the DRAM bandwidth times the
    datasheet's peak, its ends of the lowest and highest reading. ``compulsory_pct``: compulsory bytes per second over it.
    """

    label: str
    reason: str = ""
    seconds: float = math.nan
    batches: int = 0
    readings: int = 0
    dram_gbps: Quantity = _NO_GBPS
    compulsory_pct: Quantity = _NO_PCT
    lines: tuple[Line, ...] = ()

    @property
    def per_batch_ms(self) -> float:
        """Return the time of one batch in the pass in ms."""
        return 1e3 * self.seconds / self.batches if self.batches else math.nan


def activity(a: Analysis) -> Activity:
    """Return the activity of run ``a``, or why there is none."""
    found = next((p for p in a.run.facts.passes if p.name == PASS), None) if a.run.facts else None
    if found is None or found.steps < 1 or found.end_unix_ns <= found.start_unix_ns:
        return Activity(a.label, _reason(a))
    rows = readings(a.samples, found)
    if not len(rows):
        return Activity(a.label, _reason(a) or NO_SAMPLES)
    seconds = (found.end_unix_ns - found.start_unix_ns) / 1e9
    traced = _Traced(a, found.steps / seconds)
    lines = tuple(line for line in (make(rows, traced) for make in _LINES) if line is not None)
    gbps = _of_peak(_mean(rows, "gpm_dram_pct"), _limit(a, _DRAM_PEAK))
    return Activity(a.label, "", seconds, found.steps, len(rows), gbps, _compulsory(traced), lines)


def readings(samples: pd.DataFrame, found: PassFacts) -> pd.DataFrame:
    """Return the samples whose GPM figures average over time inside the pass ``found`` alone.

    A reading covers the time since the one before, and is taken somewhere between the stamp of its row and that of the next: so
    the row of the reading before must not be earlier than the pass, and the row after not later than its end.
    """
    columns = [name for name in samples.columns if name.startswith("gpm_")]
    ordered = samples.sort_values("time_ns", kind="stable", ignore_index=True)
    has = ordered[columns].notna().any(axis=1)
    time = ordered["time_ns"].astype("int64")
    before = time.where(has).ffill().shift(1)
    after = time.shift(-1)
    return ordered[has & (before >= found.start_unix_ns) & (after <= found.end_unix_ns)]


def _reason(a: Analysis) -> str:
    if a.run.facts is None:
        return BARE
    told = a.run.facts.telemetry
    if told is None:
        return "the run has no telemetry"
    if told.looped is not None and told.looped.reason:
        return told.looped.reason
    if not told.gpm.available and told.gpm.reason:
        return told.gpm.reason
    return "" if told.looped is not None and told.looped.available else NO_PASS


class _Traced:
    """The totals of the trace, per second at the rate at which the model was looped (``rate``: batches per second)."""

    def __init__(self, a: Analysis, rate: float) -> None:
        self.a, self.rate = a, rate
        self.batches = a.window.batches
        busy_us = a.totals.busy_us - a.totals.copy_only_us
        self.busy = rate * busy_us / 1e6 / self.batches if self.batches else math.nan

    def per_second(self, total: float) -> float:
        """Return what ``total`` of the trace comes to in each second of the pass."""
        return total * self.rate / self.batches if self.batches else math.nan

    def of_dram_peak(self, total_bytes: float) -> float:
        """Return ``total_bytes`` of the trace, per second, over the peak of the DRAM in %, NaN where that is not known."""
        peak = _limit(self.a, _DRAM_PEAK).value
        return 100 * self.per_second(total_bytes) / (peak * 1e9) if peak else math.nan


def _sm_active(rows: pd.DataFrame, t: _Traced) -> Line | None:
    traced = _percentage(100 * t.busy, D, "kernel time per batch times batches per second", t)
    why = (
        "GPM averages over all multiprocessors, the trace sees a kernel or none. A kernel with few blocks, or in its last "
        "wave, leaves multiprocessors empty; the trace counts them as busy, GPM does not."
    )
    return _line("SM active", rows, "gpm_sm_util_pct", traced, Quantity.missing("%", NO_COUNTERS), "below", why)


def _occupancy(rows: pd.DataFrame, t: _Traced) -> Line | None:
    mean = t.a.totals.occupancy_pct
    source = "what each launch allows, weighted by time, times the busy share"
    if mean.value is None:
        traced = Quantity.missing("%", mean.source or "no launch tells its occupancy")
    else:
        traced = _percentage(mean.value * t.busy, combine(D, mean.evidence), source, t)
    why = (
        "Idle time counts as 0 in both. The trace's figure is what a launch allows while it has blocks to give out; at its "
        "end, and where warps leave early, fewer are resident."
    )
    achieved = _counted_mean(t, "occupancy_achieved_pct")
    return _line("SM occupancy", rows, "gpm_sm_occupancy_pct", traced, achieved, "below", why)


def _tensor(rows: pd.DataFrame, t: _Traced) -> Line | None:
    why = (
        "GPM counts time in which the pipe works, at any fill. FLOP over the peak is full use alone, at the datasheet's clock "
        "and without the padding of tiles: a lower clock, padding and part-filled instructions raise GPM and not FLOP."
    )
    share, source = _matrix_share(t)
    traced = Quantity.missing("%", source) if math.isnan(share) else _percentage(100 * share, Evidence.MODELLED, source, t)
    active = _counted_mean(t, "tensor_active_pct")
    return _line("tensor pipe active", rows, "gpm_tensor_pct", traced, active, "above", why)


def _matrix_share(t: _Traced) -> tuple[float, str]:
    """Return the time that the matrix FLOP need at the datasheet's peaks, per second, and where that is from or why not."""
    launches = t.a.launches
    mine = launches[counted(launches) & launches["unit"].eq("matrix")]
    if not len(mine):
        return math.nan, "no kernel with a work model ran on matrix units"
    needed = 0.0
    for name, flop in mine.groupby("number_format", observed=True)["flop"].sum().items():
        peak = _limit(t.a, f"matrix peak, {name}, datasheet", f"matrix peak, {name}, used for floors")
        if peak.value is None:
            return math.nan, NO_PEAK
        needed += float(flop) / (peak.value * 1e12)
    return t.per_second(needed), "FLOP on matrix units per second over the dense peak of the datasheet"


def _dram(rows: pd.DataFrame, t: _Traced) -> Line | None:
    why = (
        "GPM sees all that crosses DRAM. The model starts each kernel with an empty L2, so less may cross where a kernel finds "
        "there what the one before left; kernels without a model add to what GPM sees."
    )
    low, high = (t.of_dram_peak(total) for total in _modelled_bytes(t.a))
    source = "modelled DRAM bytes per second over the datasheet's peak"
    traced = _percentage((low + high) / 2, Evidence.MODELLED, source, t, (low, high))
    counts = Quantity.missing("%", NO_COUNTERS)
    if has_counters(t.a) and is_counted(t.a, "bytes_dram_counter"):
        value = t.of_dram_peak(float(t.a.launches["bytes_dram_counter"].sum()))
        counts = _percentage(value, D, "DRAM bytes of counters, per second, over the datasheet's peak", t)
    return _line("DRAM bandwidth", rows, "gpm_dram_pct", traced, counts, "either", why)


def _modelled_bytes(a: Analysis) -> tuple[float, float]:
    """Return both ends of the DRAM bytes of the trace: by the access model, else compulsory, NaN where no launch has any."""
    rows = a.launches
    least = rows["bytes_compulsory"].where(counted(rows))
    low, high = (rows[name].fillna(least).sum(min_count=1) for name in ("bytes_dram_low", "bytes_dram_high"))
    return float(low), float(high)


def _compulsory(t: _Traced) -> Quantity:
    total = float(t.a.launches["bytes_compulsory"].where(counted(t.a.launches)).sum(min_count=1))
    source = "compulsory bytes per second over the datasheet's peak"
    return _percentage(t.of_dram_peak(total), Evidence.MODELLED, source, t)


def _pipe(name: str, column: str) -> Callable[[pd.DataFrame, _Traced], Line | None]:
    def make(rows: pd.DataFrame, t: _Traced) -> Line | None:
        why = "Share of time in which the pipe works outside the tensor cores. A trace counts no instructions."
        return _line(name, rows, column, Quantity.missing("%", NO_TRACE), Quantity.missing("%", NO_COUNTERS), "either", why)

    return make


_LINES: tuple[Callable[[pd.DataFrame, _Traced], Line | None], ...] = (
    _sm_active,
    _occupancy,
    _tensor,
    _dram,
    _pipe("FP32 pipe active", "gpm_fp32_pct"),
    _pipe("FP16 pipe active", "gpm_fp16_pct"),
)


def _line(
    name: str, rows: pd.DataFrame, column: str, traced: Quantity, counts: Quantity, expected: Direction, why: str
) -> Line | None:
    found = _mean(rows, column)
    return None if found.value is None else Line(name, found, traced, counts, expected, why)


def _mean(rows: pd.DataFrame, column: str) -> Quantity:
    """Return the mean of the readings; its ends are the lowest and the highest."""
    known = rows[column].dropna().to_numpy(np.float64) if column in rows else np.zeros(0)
    if not len(known):
        return Quantity.missing("%", "GPM gave no number for it")
    low, high = float(known.min()), float(known.max())
    return Quantity(float(known.mean()), "%", M, low, high, source=f"mean of {len(known)} readings of GPM")


def _percentage(value: float, level: Evidence, source: str, t: _Traced, ends: tuple[float, float] | None = None) -> Quantity:
    if not t.batches:
        return Quantity.missing("%", NO_BATCHES)
    if not math.isfinite(value):
        return Quantity.missing("%", "no launch has it, or the peak of the device is not known")
    low, high = ends or (None, None)
    return Quantity(value, "%", level, low, high, source)


def _counted_mean(t: _Traced, column: str) -> Quantity:
    """Return what counters say of each kernel, weighted by time, times the busy share: they count active cycles alone."""
    if not has_counters(t.a) or not is_counted(t.a, column):
        return Quantity.missing("%", NO_COUNTERS)
    kernels = t.a.launches[t.a.launches["category"].eq("kernel")]
    source = "counters of each kernel, weighted by time, times the busy share"
    return _percentage(mean_by_time(kernels, column) * t.busy, D, source, t)


def _of_peak(share: Quantity, peak: Quantity) -> Quantity:
    if share.value is None or peak.value is None:
        return Quantity.missing("GB/s", share.source if share.value is None else NO_PEAK)
    low, high = ((end or 0.0) / 100 * peak.value for end in (share.low, share.high))
    level = combine(share.evidence, peak.evidence)
    return Quantity(share.value / 100 * peak.value, "GB/s", level, low, high, source="GPM's share times the datasheet's peak")


def _limit(a: Analysis, *names: str) -> Quantity:
    """Return the first of the limits ``names`` that the datasheet gives, missing where it gives none."""
    for name in names:
        found = next((fact.figure for fact in a.limits if fact.name == name), None)
        if found is not None and found.value is not None and found.evidence is Evidence.SPEC:
            return found
    return Quantity.missing("", NO_PEAK)
