"""Findings on the state of the device: clocks held down by power or heat, clocks and times that do not keep still."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analyzer.insight.rules.selection import shown
from analyzer.insight.rules.statement import fact, saving, step_us, steps_of
from analyzer.insight.telemetry import timed_samples
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.results import Analysis

POWER_BITS = 0x4 | 0x80
"""NVML clock event reasons: software power cap, external power brake."""
HEAT_BITS = 0x20 | 0x40
"""NVML clock event reasons: software and hardware thermal slowdown."""
HELD_PCT = 5.0
"""Fewer samples than one in twenty with clocks held down do not move a median."""
LIMIT_PCT = 99.0
"""A power limit below this share of the default was set by somebody; drivers round to whole watts."""
CLOCK_RANGE_PCT = 5.0
"""Clocks that differ more than this make runs differ by as much: a comparison needs them locked."""
SPREAD_PCT = 10.0
"""As in the caveats: above this spread of the middle half, single iterations say little."""
DRIFT_PCT = 5.0
"""A shift from the first to the last third above this is no noise of a median of many."""
MIN_SAMPLES = 10
MIN_PER_THIRD = 4

_M, _D = Evidence.MEASURED, Evidence.DERIVED


def _held(a: Analysis, bits: int) -> tuple[pd.DataFrame, float]:
    """Return the timed samples in which one of ``bits`` held the clocks down, and their share in %."""
    known = timed_samples(a)
    known = known[known["clock_event_reasons"].notna()]
    held = known[known["clock_event_reasons"].astype("int64").to_numpy() & bits != 0]
    return held, 100 * len(held) / len(known) if len(known) else 0.0


def _lost(a: Analysis, held: pd.DataFrame, share_pct: float) -> tuple[tuple[Fact, ...], float]:
    """Return the clocks as facts, and the most that higher ones could save per step in µs: 0 where they are not known."""
    low = float(held["sm_clock_mhz"].median()) if len(held) else math.nan
    high = a.device.clock_mhz or float(a.samples["sm_clock_mhz"].max())
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        return (), 0.0
    facts = (
        fact("SM clock while held down, median", low, "MHz", _M),
        fact("highest SM clock", high, "MHz", _M),
    )
    return facts, share_pct / 100 * a.totals.busy_us / steps_of(a) * (1 - low / high)


def power_cap(a: Analysis) -> Finding | None:
    """Return that power held the clocks down in the timed pass, or that the limit is set below the card's default.

    The saving lies between nothing (work that memory limits does not follow the SM clock) and the busy time in these samples
    times 1 - held clock / highest clock.
    """
    limit, default = a.device.power_limit_w or 0.0, a.device.power_default_w or 0.0
    lowered = 0 < limit < LIMIT_PCT / 100 * default
    held, share_pct = _held(a, POWER_BITS)
    if share_pct < HELD_PCT and not lowered:
        return None
    facts: tuple[Fact, ...] = ()
    claims = []
    if share_pct >= HELD_PCT:
        share = fact("timed samples with clocks held down by power", share_pct, "%", _M)
        clocks, high_us = _lost(a, held, share_pct)
        facts, text = (share, *clocks), f"Power held the clocks down in {shown(share)} of the samples of the timed pass"
        claims.append(text + (f", at {shown(clocks[0])} (median) of at most {shown(clocks[1])}." if clocks else "."))
    else:
        high_us = 0.0
        claims.append("No sample shows that power held the clocks down." if len(timed_samples(a)) else "")
    if lowered:
        cap = (
            fact("power limit", limit, "W", _M),
            fact("default limit", default, "W", _M),
            fact("limit against default", 100 * limit / default, "%", _D),
        )
        facts += cap
        claims.append(f"The power limit is set to {shown(cap[0])}, {shown(cap[2])} of the card's default of {shown(cap[1])}.")
    matters = share_pct >= HELD_PCT
    return Finding(
        "power_cap",
        a.run.name,
        "Power holds the clocks down" if matters else "The power limit is below the card's default",
        " ".join(text for text in claims if text),
        facts,
        saving(a, 0.0, high_us, a.totals.busy_us / steps_of(a)) if matters else None,
        step_us(a),
        "a setting" if lowered else "a larger change",
        "A run at the default limit"
        + (", or on a cooler or less loaded card," if matters else "")
        + " that takes as long as this one.",
        "steady",
        "opportunity" if matters else "note",
    )


def thermal_throttle(a: Analysis) -> Finding | None:
    """Return that heat held the clocks down in the timed pass.

    The saving lies between nothing and the busy time in these samples times 1 - held clock / highest clock.
    """
    held, share_pct = _held(a, HEAT_BITS)
    if share_pct < HELD_PCT:
        return None
    share = fact("timed samples with clocks held down by heat", share_pct, "%", _M)
    clocks, high_us = _lost(a, held, share_pct)
    warmest = float(held["temperature_c"].max())
    heat = (fact("highest temperature", warmest, "°C", _M),) if math.isfinite(warmest) else ()
    text = f"Heat held the clocks down in {shown(share)} of the samples of the timed pass"
    text += f", at {shown(clocks[0])} (median) of at most {shown(clocks[1])}" if clocks else ""
    text += f"; the GPU reached {shown(heat[0])}." if heat else "."
    return Finding(
        "thermal_throttle",
        a.run.name,
        "Heat holds the clocks down",
        f"{text} Better cooling, or a pause before the run, would let them rise.",
        (share, *clocks, *heat),
        saving(a, 0.0, high_us, a.totals.busy_us / steps_of(a)),
        step_us(a),
        "a larger change",
        "A run on the cooled-down card, with no such sample, that takes as long as this one.",
        "steady",
    )


def unstable_clocks(a: Analysis) -> Finding | None:
    """Return that the SM clock varied in the timed pass: 95th minus 5th percentile, against the median."""
    clocks = timed_samples(a)["sm_clock_mhz"].dropna().to_numpy(np.float64)
    if a.device.type != "cuda" or len(clocks) < MIN_SAMPLES:
        return None
    low, middle, high = (float(value) for value in np.percentile(clocks, (5, 50, 95)))
    if middle <= 0 or 100 * (high - low) <= CLOCK_RANGE_PCT * middle:
        return None
    facts = (
        fact("SM clock, low end of the samples", low, "MHz", _M),
        fact("SM clock, median", middle, "MHz", _M),
        fact("SM clock, high end of the samples", high, "MHz", _M),
        fact("range against the median", 100 * (high - low) / middle, "%", _D),
        fact("samples", len(clocks), "count", _M),
    )
    return Finding(
        "unstable_clocks",
        a.run.name,
        "The clock of the GPU varied during the timed pass",
        f"Leaving out the lowest and highest twentieth of {shown(facts[4])} samples, the SM clock lay between "
        f"{shown(facts[0])} and {shown(facts[2])}, a range of {shown(facts[3])} of its median of {shown(facts[1])}. Times of "
        "kernels vary with it; locked clocks make runs comparable, but not faster.",
        facts,
        None,
        step_us(a),
        "none",
        "A run with locked clocks whose iterations spread as widely as now.",
        "steady",
        "note",
    )


def unsteady_latency(a: Analysis) -> Finding | None:
    """Return that the untraced iterations spread widely, or drift from the first to the last third of each process.

    Spread: interquartile range against the median. Drift: median of all last thirds against that of all first thirds.
    """
    found = a.latency
    if found is None:
        return None
    long = [np.asarray(run, np.float64) for run in found.samples if len(run) >= 3 * MIN_PER_THIRD]
    first, last = (np.median(np.concatenate(part)) if part else math.nan for part in _thirds(long))
    drift = 100 * float(last / first - 1)
    drifts = math.isfinite(drift) and abs(drift) > DRIFT_PCT
    spreads = found.spread_pct > SPREAD_PCT
    if not (spreads or drifts):
        return None
    number = fact("untraced iterations", found.n, "count", _M)
    middle = fact("median", float(found.median_ms.value), "ms", _M)
    spread = fact("spread of the middle half against the median", found.spread_pct, "%", _D)
    facts: tuple[Fact, ...] = (number, middle, spread)
    text = (
        f"The middle half of {shown(number)} untraced iterations spreads over {shown(spread)} of the median of {shown(middle)}."
    )
    if drifts:
        ends = (
            fact("median of the first thirds", float(first), "ms", _M),
            fact("median of the last thirds", float(last), "ms", _M),
            fact("drift", abs(drift), "%", _D),
        )
        facts += ends
        way = "longer" if drift > 0 else "shorter"
        text += f" They got {way} on the way: {shown(ends[0])} in the first third, {shown(ends[1])} in the last, a drift of "
        text += f"{shown(ends[2])}."
    return Finding(
        "unsteady_latency",
        a.run.name,
        "The latency is not steady",
        f"{text} Other processes, changing clocks or too short a warm-up do that. "
        + ("The median depends on when it was taken" if drifts else "A single iteration says little")
        + "; compare medians of several processes, with their intervals.",
        facts,
        None,
        step_us(a),
        "none",
        f"A repeat on an otherwise idle machine that {'drifts' if drifts else 'spreads'} as much.",
        "steady",
        "note",
    )


def _thirds(
    runs: list[np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> tuple[list[np.ndarray[tuple[int], np.dtype[np.float64]]], ...]:
    return [run[: len(run) // 3] for run in runs], [run[-(len(run) // 3) :] for run in runs]
