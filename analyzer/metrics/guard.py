"""Finds figures that no device can have: the work, the element type or the time of a launch is then wrong."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analyzer.format import digits
from analyzer.metrics.attribution import IMPOSSIBLE, counted
from analyzer.metrics.limits import Limits
from analyzer.schema.results import Impossible
from analyzer.schema.run import NVIDIA
from analyzer.schema.tables import records

_GROUP = ["kernel", "op", "shapes", "dtype", "kind", "unit", "number_format", "saving", "basis"]
_DEPENDENT_LAUNCH = 9
"""From this compute capability on a kernel may begin before the one it depends on has ended (programmatic dependent launch)."""
_CEILING_MARGIN = 1.01


def check_rates(launches: pd.DataFrame, limits: Limits) -> tuple[pd.DataFrame, tuple[Impossible, ...]]:
    """Return ``launches`` without the work of impossible groups, and what was found.

    A group is a kernel with its operator, shapes and type. It is impossible where its FLOP exceed the datasheet's peak at
    boost clock, or its bytes what DRAM, a full L2 and the way from L2 to the multiprocessors could have delivered in its time,
    the resolution of the clock included. What exceeds the quoted peak alone is explained and keeps its figures. A CPU has no
    datasheet, so nothing is physically impossible there.
    """
    gpu = launches[counted(launches) & launches["category"].eq("kernel")]
    if limits.sheet is None or gpu.empty:
        return launches, ()
    resolution_us = clock_resolution_ns(launches) / 1e3
    grouped = gpu.assign(calls=1, time_us=gpu["dur_ns"] / 1e3).groupby(_GROUP, dropna=False, sort=False)
    sums = grouped[["calls", "time_us", "flop", "bytes_compulsory"]].sum().reset_index()
    total = float(launches["dur_ns"].sum()) / 1e3
    found: list[Impossible] = []
    wrong = []
    for row in records(sums):
        time_us = row.time_us + row.calls * resolution_us
        said = [s for s in (_compute(row, time_us, limits), _memory(row, time_us, limits)) if s]
        for what, explanation in said:
            shown = Impossible(what, str(row.kernel), _subject(row), explanation, 100 * row.time_us / total if total else 0.0)
            found.append(shown)
        if any(not explanation for _, explanation in said):
            wrong.append(tuple(getattr(row, name) for name in _GROUP))
    if wrong:
        keys = pd.MultiIndex.from_frame(launches[_GROUP])
        bad = keys.isin(wrong) & counted(launches).to_numpy()
        launches = launches.assign(
            basis=launches["basis"].mask(bad, "none"),
            unmodelled=launches["unmodelled"].mask(bad, IMPOSSIBLE),
            **{name: launches[name].mask(bad) for name in ("flop", "bytes_compulsory", "bytes_high")},
        )
    return launches, tuple(sorted(found, key=lambda f: (bool(f.explanation), -f.share_pct)))


def clock_resolution_ns(launches: pd.DataFrame) -> int:
    """Return the step of the device's clock in this trace: 1,000 ns where all times are whole microseconds, else 1 ns."""
    whole = (launches["dur_ns"] % 1000 == 0) & (launches["start_ns"] % 1000 == 0)
    return 1000 if len(launches) and whole.all() else 1


def _subject(row: object) -> str:
    op, shapes = str(getattr(row, "op", "")), str(getattr(row, "shapes", ""))
    return f"{op} ({shapes})" if shapes else op


def _compute(row: object, time_us: float, limits: Limits) -> tuple[str, str] | None:
    flop, saving = float(row.flop), float(row.saving)  # type: ignore[attr-defined]
    unit, dtype = str(row.unit), str(row.number_format)  # type: ignore[attr-defined]
    peak = limits.spec_peak(unit, dtype)  # type: ignore[arg-type]
    boosted = limits.physical_peak(unit, dtype)  # type: ignore[arg-type]
    rate = flop / time_us / 1e6
    if peak is None or boosted is None or rate <= peak.value:
        return None
    what = f"{digits(rate)} TFLOP/s where the {dtype} {unit} peak is {digits(peak.value)}"
    if rate <= boosted.value:
        return what, "the datasheet quotes its peak below the boost clock, at which this is possible"
    if math.isinf(saving):
        return what, "an FFT convolution needs fewer multiplications than the formula counts"
    if rate <= boosted.value * saving and saving > 1:
        return what, f"a Winograd convolution needs up to {saving:g} times fewer multiplications than the formula counts"
    return what, ""


def _memory(row: object, time_us: float, limits: Limits) -> tuple[str, str] | None:
    calls, size = float(row.calls), float(row.bytes_compulsory)  # type: ignore[attr-defined]
    dram, cache, to_sm = limits.dram_spec, limits.cache_bytes, limits.cache_to_sm
    rate = size / time_us / 1e3
    if dram is None or rate <= dram.value:
        return None
    if to_sm is not None and rate > to_sm.value:
        return f"{digits(rate)} GB/s where the L2 can deliver {digits(to_sm.value)} and DRAM {digits(dram.value)}", ""
    what = f"{digits(rate)} GB/s where DRAM delivers {digits(dram.value)}"
    if cache is not None and (size - calls * cache) / time_us / 1e3 > dram.value:
        return f"{what}, which a full L2 does not account for", ""
    return what, "its tensors fit the L2 in whole or in part, so they need not have come from DRAM"


def check_overlap(launches: pd.DataFrame, limits: Limits) -> tuple[Impossible, ...]:
    """Return kernels of one stream that overlap by more than the clock's resolution, the worst one named.

    Kernels of a CUDA graph may run side by side whatever stream the trace names, so they are left out. From compute capability
    9.0 on programmatic dependent launch lets neighbours overlap; there it is explained.
    """
    kernels = launches[launches["category"].eq("kernel") & launches["graph_id"].le(0) & launches["link"].ne("graph")]
    if kernels.empty:
        return ()
    ordered = kernels.sort_values(["device", "stream", "start_ns"], kind="stable")
    end = ordered["start_ns"] + ordered["dur_ns"]
    queue = [ordered["device"], ordered["stream"]]
    before = end.groupby(queue).cummax().groupby(queue).shift()
    overlap = np.minimum(before, end) - ordered["start_ns"]
    # two roundings, one of either event
    late = overlap > 2 * clock_resolution_ns(launches)
    if not late.any():
        return ()
    worst = ordered.loc[overlap.idxmax()]
    count = int(late.sum())
    major = int((limits.device.compute_capability or "0").split(".")[0])
    explained = limits.device.vendor == NVIDIA and major >= _DEPENDENT_LAUNCH
    what = (
        f"{count} {'kernel begins' if count == 1 else 'kernels begin'} before the one before on the same stream has ended, "
        f"by {digits(float(overlap.max()) / 1e3)} us at most"
    )
    why = (
        "this device allows it (programmatic dependent launch); each moment is shared by the kernels in it" if explained else ""
    )
    share = 100.0 * float(overlap[late].sum()) / float(launches["dur_ns"].sum())
    return (Impossible(what, str(worst["kernel"]), str(worst["op"]), why, share),)


def check_ceilings(limits: Limits) -> tuple[Impossible, ...]:
    """Return measured ceilings above the datasheet, with the explanation that a calibrated figure owes."""
    found = []
    dram = limits.dram_spec
    for ceiling in limits.ceilings:
        if ceiling.name == "copy" and dram is not None and ceiling.value > _CEILING_MARGIN * dram.value:
            what = f"copy measured at {digits(ceiling.value)} GB/s where the datasheet has {digits(dram.value)}"
            found.append(Impossible(what, "calibration", ceiling.size, "", 0.0))
        peak = limits.physical_peak("matrix", ceiling.dtype) or limits.physical_peak("vector", ceiling.dtype)
        if ceiling.name == "matmul" and ceiling.dtype != "float32" and peak and ceiling.value > _CEILING_MARGIN * peak.value:
            what = f"matrix product measured at {digits(ceiling.value)} TFLOP/s where boost clock allows {digits(peak.value)}"
            found.append(Impossible(what, "calibration", ceiling.size, "", 0.0))
    return tuple(found)
