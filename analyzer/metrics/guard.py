"""Finds figures that no device can have: the work, the element type or the time of a launch is then wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import digits
from analyzer.metrics.arithmetic import MATRIX_KINDS
from analyzer.metrics.attribution import IMPOSSIBLE, counted
from analyzer.metrics.kernels import KEY
from analyzer.metrics.limits import Limits
from analyzer.schema.results import Impossible
from analyzer.schema.run import NVIDIA
from analyzer.trace.link import is_replayed

_GROUP = [*KEY, "unit", "number_format", "unit_assumed", "saving", "basis"]
_DEPENDENT_LAUNCH = 9
"""From this compute capability on a kernel may begin before the one it depends on has ended (programmatic dependent launch)."""
_CEILING_MARGIN = 1.01


def check_rates(launches: pd.DataFrame, limits: Limits) -> tuple[pd.DataFrame, tuple[Impossible, ...]]:
    """Return ``launches`` without the work of impossible groups, and what was found.

    A group is a row of ``kernels.csv`` or a part of one. It is impossible where its FLOP exceed the datasheet's peak at the
    highest clock, or its bytes what DRAM, a full L2 at its start and at its end, and the way from L2 to the multiprocessors
    could have delivered in its time, the resolution of the clock included. What exceeds the quoted peak alone is explained and
    keeps its figures; a product whose unit was assumed is taken for one of the tensor cores where only they can be so fast. A
    CPU has no datasheet, so nothing is physically impossible there.
    """
    if limits.sheet is None or not (counted(launches) & launches["category"].eq("kernel")).any():
        return launches, ()
    groups = _groups(launches)
    moved, found = _reassign(launches, groups, limits)
    if found:
        launches, groups = moved, _groups(moved)
    wrong = []
    for row in groups:
        said = [s for s in (_compute(row, limits), _memory(row, limits)) if s]
        found += [_card(row, what, why) for what, why in said]
        if any(not explanation for _, explanation in said):
            wrong.append(tuple(row[name] for name in _GROUP))
    if wrong:
        bad = _rows(launches, wrong)
        launches = launches.assign(
            basis=launches["basis"].mask(bad, "none"),
            unmodelled=launches["unmodelled"].mask(bad, IMPOSSIBLE),
            **{name: launches[name].mask(bad) for name in ("flop", "bytes_compulsory", "bytes_high")},
        )
    return launches, tuple(sorted(found, key=lambda f: (bool(f.explanation), -f.share_pct)))


def _groups(launches: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the groups of kernels with work of their own; ``slack_us`` is their time with the resolution of the clock."""
    kernels = launches[counted(launches) & launches["category"].eq("kernel")]
    grouped = kernels.assign(calls=1, time_us=kernels["dur_ns"] / 1e3).groupby(_GROUP, dropna=False, sort=False)
    sums = grouped[["calls", "time_us", "flop", "bytes_compulsory"]].sum().reset_index()
    total = float(launches["dur_ns"].sum()) / 1e3
    sums["slack_us"] = sums["time_us"] + sums["calls"] * clock_resolution_ns(launches) / 1e3
    sums["share_pct"] = 100 * sums["time_us"] / total if total else 0.0
    return [{str(key): value for key, value in row.items()} for row in sums.to_dict("records")]


def _rows(launches: pd.DataFrame, groups: list[tuple[Any, ...]]) -> npt.NDArray[np.bool_]:
    chosen = pd.DataFrame(groups, columns=_GROUP).assign(chosen=True).astype(launches[_GROUP].dtypes.to_dict())
    merged = launches[_GROUP].merge(chosen, on=_GROUP, how="left")
    return merged["chosen"].eq(True).to_numpy()


def _card(row: dict[str, Any], what: str, explanation: str) -> Impossible:
    subject = f"{row['op']} ({row['shapes']})" if row["shapes"] else str(row["op"])
    return Impossible(what, str(row["kernel"]), subject, explanation, float(row["share_pct"]))


def _reassign(launches: pd.DataFrame, groups: list[dict[str, Any]], limits: Limits) -> tuple[pd.DataFrame, list[Impossible]]:
    """Take float32 products of unknown unit for TF32 where they are too fast for anything else."""
    vector, matrix = limits.physical_peak("vector", "float32"), limits.physical_peak("matrix", "tfloat32")
    if vector is None or matrix is None:
        return launches, []
    fast = [
        (row, rate)
        for row in groups
        if row["unit_assumed"] and row["unit"] == "vector" and row["number_format"] == "float32"
        and vector.value < (rate := row["flop"] / row["saving"] / row["slack_us"] / 1e6) <= matrix.value
    ]  # fmt: skip
    if not fast:
        return launches, []
    why = "its name does not tell what it computes on; only the tensor cores are so fast, so it counts as TF32"
    found = [
        _card(r, f"{digits(rate)} TFLOP/s where the float32 vector peak is {digits(vector.value)}", why) for r, rate in fast
    ]
    chosen = _rows(launches, [tuple(row[name] for name in _GROUP) for row, _ in fast])
    moved = {"unit": "matrix", "number_format": "tfloat32"}
    return launches.assign(**{name: launches[name].mask(chosen, value) for name, value in moved.items()}), found


def clock_resolution_ns(launches: pd.DataFrame) -> int:
    """Return the step of the device's clock in this trace: 1,000 ns where all times are whole microseconds, else 1 ns."""
    whole = (launches["dur_ns"] % 1000 == 0) & (launches["start_ns"] % 1000 == 0)
    return 1000 if len(launches) and whole.all() else 1


def _compute(row: dict[str, Any], limits: Limits) -> tuple[str, str] | None:
    unit, dtype, saving = row["unit"], row["number_format"], float(row["saving"])
    peak, highest = limits.spec_peak(unit, dtype), limits.physical_peak(unit, dtype)
    rate = row["flop"] / row["slack_us"] / 1e6
    if peak is None or highest is None or rate <= peak.value:
        return None
    what = f"{digits(rate)} TFLOP/s where the {dtype} {unit} peak is {digits(peak.value)}"
    if rate <= highest.value:
        return what, "the datasheet quotes its peak below the highest clock, at which this is possible"
    if math.isinf(saving):
        return what, "an FFT convolution needs fewer multiplications than the formula counts"
    if rate <= highest.value * saving and saving > 1:
        return what, f"a Winograd convolution needs up to {saving:g} times fewer multiplications than the formula counts"
    return what, ""


def _memory(row: dict[str, Any], limits: Limits) -> tuple[str, str] | None:
    calls, size = float(row["calls"]), float(row["bytes_compulsory"])
    dram, cache, to_sm = limits.dram_spec, limits.cache_bytes, limits.cache_to_sm
    rate = size / row["slack_us"] / 1e3
    if dram is None or rate <= dram.value:
        return None
    if to_sm is not None and rate > to_sm.value:
        return f"{digits(rate)} GB/s where the L2 can deliver {digits(to_sm.value)} and DRAM {digits(dram.value)}", ""
    what = f"{digits(rate)} GB/s where DRAM delivers {digits(dram.value)}"
    # what it reads may have been there before, and what it writes may stay there
    if cache is not None and (size - 2 * calls * cache) / row["slack_us"] / 1e3 > dram.value:
        return f"{what}, which a full L2 does not account for", ""
    return what, "its tensors fit the L2 in whole or in part, so they need not have come from DRAM"


def check_shares(kernels: pd.DataFrame, limits: Limits) -> tuple[Impossible, ...]:
    """Return the rows of ``kernels.csv`` that beat a measured ceiling, with the reason; nothing where none was measured.

    Columns read: ``kernel, kind, op, shapes, share_pct, peak_pct, unit, number_format``.
    """
    found = []
    for row in kernels[kernels["peak_pct"] > 100].to_dict("records"):
        peak = limits.peak(row["unit"], row["number_format"], product=row["kind"] in MATRIX_KINDS)
        if peak is None or not peak.measured:
            continue
        what = f"{digits(float(row['peak_pct']))} % of the measured {digits(peak.value)} TFLOP/s"
        found.append(_card({str(key): value for key, value in row.items()}, what, BEATEN_CEILING))
    return tuple(found)


BEATEN_CEILING = (
    "the ceiling is that of a large square product in torch: another library or shape does better, or it was measured in a "
    "busier moment (calibrate=force measures it again)"
)


def check_overlap(launches: pd.DataFrame, limits: Limits) -> tuple[Impossible, ...]:
    """Return kernels of one stream that overlap by more than the resolution of the clock, the worst one named.

    Kernels of a CUDA graph may run side by side whatever stream the trace names, so they are left out. From compute capability
    9.0 on programmatic dependent launch lets neighbours overlap; there it is explained.
    """
    kernels = launches[launches["category"].eq("kernel") & launches["graph_id"].le(0) & ~is_replayed(launches)]
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
            what = f"matrix product measured at {digits(ceiling.value)} TFLOP/s where the clock allows {digits(peak.value)}"
            found.append(Impossible(what, "calibration", ceiling.size, "", 0.0))
    return tuple(found)
