"""Finds counted figures that no device can have: they stand on an error card and nowhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import digits
from analyzer.metrics.counters.derive import impossible
from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.metrics.counters.traps import WORDS
from analyzer.metrics.guard import clock_resolution_ns
from analyzer.metrics.kernels import KEY
from analyzer.metrics.limits import Limits
from analyzer.schema.counters import COUNTED
from analyzer.schema.results import Impossible

Mask = npt.NDArray[np.bool_]

MARGIN = 1.05
"""Counted bytes over traced time may exceed the peak of DRAM by this much: they come from two runs."""
OCCUPANCY_POINTS = 2.0
TWO_RUNS = "bytes and time come from two runs, which need not agree to the percent"

_DRAM = ("bytes_dram_counter", "bytes_dram_read_counter", "bytes_dram_write_counter", RUN_BYTES)


def check_counters(launches: pd.DataFrame, limits: Limits) -> tuple[pd.DataFrame, tuple[Impossible, ...]]:
    """Return ``launches`` without counted figures that cannot be true, and what was found: the worst kernel of each kind.

    Impossible are negative figures, shares above 100 %, an achieved occupancy more than 2 points above what registers, shared
    memory and block size allow, and DRAM bytes over the time of the trace above 1.05 x the datasheet's bandwidth; up to that
    it is a note, as bytes and time come from two runs. Columns read: COUNTED, RUN_BYTES, ``dur_ns, occupancy_theoretical_pct``
    and KEY.
    """
    if not launches[list(COUNTED.names)].notna().any(axis=None):
        return launches, ()
    found: list[Impossible] = []
    for name in COUNTED.names:
        bad = impossible(launches, name)
        if bad.any():
            found.append(_worst(launches, bad, name))
            lost = _DRAM if name in _DRAM else (name,)
            launches = launches.assign(**{column: launches[column].mask(bad) for column in lost})
    for check in (_occupancy, _bandwidth):
        launches, said = check(launches, limits)
        found += said
    return launches, tuple(found)


def _worst(launches: pd.DataFrame, bad: Mask, name: str) -> Impossible:
    values = launches[name].to_numpy(np.float64)
    at = int(np.argmax(np.where(bad, np.abs(values), -1.0)))
    unit = next(column.unit for column in COUNTED.columns if column.name == name)
    return _card(launches, bad, at, f"{WORDS[name]}: {digits(float(values[at]))} {unit} counted, which cannot be", "")


def _card(launches: pd.DataFrame, bad: Mask, at: int, what: str, explanation: str) -> Impossible:
    row, others = launches.iloc[at], int(bad.sum()) - 1
    more = f" ({others} more {'launch' if others == 1 else 'launches'} alike)" if others else ""
    time = launches["dur_ns"].to_numpy(np.float64)
    share = 100 * float(time[bad].sum() / time.sum()) if time.sum() > 0 else 0.0
    subject = f"{row['op']} ({row['shapes']})" if row["shapes"] else str(row["op"])
    return Impossible(what + more, str(row["kernel"]), subject, explanation, share)


def _occupancy(launches: pd.DataFrame, limits: Limits) -> tuple[pd.DataFrame, list[Impossible]]:
    achieved, theirs, ours = (
        launches[name].to_numpy(np.float64)
        for name in ("occupancy_achieved_pct", "occupancy_ncu_pct", "occupancy_theoretical_pct")
    )
    allowed = np.where(np.isfinite(theirs), theirs, ours)
    bad = achieved > allowed + OCCUPANCY_POINTS
    if not bad.any():
        return launches, []
    at = int(np.argmax(np.where(bad, achieved - allowed, -1.0)))
    what = f"achieved occupancy {digits(float(achieved[at]))} % where {digits(float(allowed[at]))} % is possible"
    column = launches["occupancy_achieved_pct"].mask(bad)
    return launches.assign(occupancy_achieved_pct=column), [_card(launches, bad, at, what, "")]


def _bandwidth(launches: pd.DataFrame, limits: Limits) -> tuple[pd.DataFrame, list[Impossible]]:
    """Check the bytes of each row of ``kernels.csv`` against its time, the resolution of the clock included."""
    dram = limits.dram_spec
    size = launches[RUN_BYTES].to_numpy(np.float64)
    there = np.isfinite(size)
    if dram is None or not there.any():
        return launches, []
    slack = launches["dur_ns"].to_numpy(np.float64) + clock_resolution_ns(launches)
    code = launches.groupby(KEY, dropna=False, sort=False).ngroup().to_numpy()
    moved, time = (np.bincount(code[there], values[there], code.max() + 1) for values in (size, slack))
    rate = np.divide(moved, time, out=np.zeros_like(moved), where=time > 0)[code]  # bytes per ns are GB/s
    wrong, near = there & (rate > MARGIN * dram.value), there & (rate > dram.value) & (rate <= MARGIN * dram.value)
    found = []
    for chosen, why in ((wrong, ""), (near, TWO_RUNS)):
        if chosen.any():
            at = int(np.argmax(np.where(chosen, rate, -1.0)))
            what = f"{digits(float(rate[at]))} GB/s counted through DRAM, which delivers {digits(dram.value)}"
            found.append(_card(launches, chosen, at, what, why))
    return launches.assign(**{name: launches[name].mask(wrong) for name in _DRAM}), found
