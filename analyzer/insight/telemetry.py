"""What the telemetry of the timed pass comes to: clocks, power, temperature, energy of one batch."""

from __future__ import annotations

import pandas as pd

from analyzer.schema.digest import Telemetry
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis

_CPU = "a CPU run has no such telemetry"
_MIN_SAMPLES = 3

HELD_DOWN = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}
"""NVML clock event reasons that hold the clocks down, by their bit."""


def timed_samples(a: Analysis) -> pd.DataFrame:
    """Return the samples of telemetry that lie in the untraced pass, empty where there are none."""
    time = a.samples["time_ns"]
    inside = pd.Series(data=False, index=a.samples.index)
    for span in a.run.facts.passes if a.run.facts else ():
        if span.name == "untraced":
            inside |= time.between(span.start_unix_ns, span.end_unix_ns)
    return a.samples[inside]


def held_down(rows: pd.DataFrame) -> dict[str, float]:
    """Return what held the clocks down in samples ``rows``: each reason with its share of the samples, in percent."""
    bits = rows["clock_event_reasons"].dropna().astype("int64")
    shares = {name: float(100 * (bits & bit != 0).mean()) for bit, name in HELD_DOWN.items() if len(bits)}
    return {name: share for name, share in shares.items() if share > 0}


def telemetry(a: Analysis) -> Telemetry | None:
    """Return what the sampler saw during the untraced pass, None for a run without samples."""
    if a.run.facts is None or not len(a.samples):
        return None
    rows = timed_samples(a)
    power = rows["power_instant_w"].fillna(rows["power_average_w"])
    return Telemetry(
        sm_clock_mhz=_median(a, rows["sm_clock_mhz"], "MHz"),
        power_w=_median(a, power, "W"),
        temperature_c=_median(a, rows["temperature_c"], "°C"),
        energy_j=_energy(a, rows, power),
        throttled=tuple(held_down(rows)),
    )


def _median(a: Analysis, values: pd.Series[float], unit: str) -> Quantity:
    known = values.dropna()
    if not len(known):
        return Quantity.missing(unit, _reason(a))
    source = f"median of {len(known)} samples of the untraced pass"
    return Quantity(float(known.median()), unit, Evidence.MEASURED, source=source)


def _reason(a: Analysis) -> str:
    if a.device.type == "cpu":
        return _CPU
    recorded = a.run.facts.telemetry if a.run.facts else None
    reason = recorded.nvml.reason if recorded else ""
    return reason or "the untraced pass was too short for a sample; give iterations= a larger number"


def _energy(a: Analysis, rows: pd.DataFrame, power: pd.Series[float]) -> Quantity:
    """Return the energy of one batch in joules.

    The mean power between the first and the last sample of the untraced pass, from the board's energy counter where it has one
    and else from samples of its power, times the median time of a batch.
    """
    if a.latency is None or not a.latency.median_ms.value:
        return Quantity.missing("J", "no untraced time to multiply power with")
    batch_s = a.latency.median_ms.value / 1e3
    counter = rows[["time_ns", "energy_j"]].dropna()
    if len(counter) >= _MIN_SAMPLES:
        seconds = (counter["time_ns"].iloc[-1] - counter["time_ns"].iloc[0]) / 1e9
        joules = counter["energy_j"].iloc[-1] - counter["energy_j"].iloc[0]
        if seconds > 0 and joules > 0:
            source = "mean power by the board's energy counter times the untraced median"
            return Quantity(float(joules / seconds * batch_s), "J", Evidence.DERIVED, source=source)
    known = power.dropna()
    if len(known) < _MIN_SAMPLES:
        return Quantity.missing("J", _reason(a))
    source = f"mean of {len(known)} samples of power times the untraced median"
    return Quantity(float(known.mean() * batch_s), "J", Evidence.DERIVED, source=source)
