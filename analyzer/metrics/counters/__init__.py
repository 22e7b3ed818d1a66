"""Counters of launches: from metrics as the hardware names them to quantities, with the traps of each generation."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analyzer.metrics.counters.belief import PASSES, believed
from analyzer.metrics.counters.derive import Derived, Floats, derive, impossible
from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.metrics.counters.traps import Counted, missing, notes, ratio_note
from analyzer.metrics.limits import Limits
from analyzer.schema.counters import COUNTED, CounterView
from analyzer.trace.counters import CounterFile, Joined, join

NO_KERNELS = "the trace has no GPU kernels that counters could belong to"
_KEY = ["kernel", "grid", "block", "op"]


def add_counters(launches: pd.DataFrame, file: CounterFile | None, limits: Limits) -> tuple[pd.DataFrame, CounterView | None]:
    """Return ``launches`` with the columns of COUNTED and RUN_BYTES, and where they came from; all NaN and None without a file.

    A file that cannot be matched leaves the columns NaN; its own figures stand in the table of the view all the same.
    Columns read: those of ``trace.counters.join``.
    """
    empty = dict.fromkeys((*COUNTED.names, RUN_BYTES), np.nan)
    if file is None:
        return launches.assign(**empty), None
    capability = _capability(file, limits)
    joined = believed(_joined(file, launches), file, launches, limits)
    means = _means(file)
    per_kernel = derive(means, capability)
    table, left_out = _table(means, per_kernel)
    counted = Counted(means, per_kernel, _weights(means, per_kernel), ("kernel", "kernels"))
    if joined.refused:
        out = launches.assign(**empty)
    else:
        derived = derive(joined.values, capability)
        time = launches["dur_ns"].to_numpy(np.float64)
        matched = joined.values.notna().any(axis=1).to_numpy(bool)
        counted = Counted(joined.values, derived, np.where(matched, time, 0.0))
        # ncu empties the caches unless told otherwise, so a file that does not tell is no ground for rates of this run
        run_bytes = derived.values["bytes_dram_counter"] if file.mode == "warm" else np.nan
        if PASSES in joined.values:  # repeated in between, so the caches were not those of the run
            run_bytes = pd.Series(run_bytes, index=launches.index).where(~(joined.values[PASSES] > 1))
        out = launches.assign(**{name: derived.values[name] for name in COUNTED.names}, **{RUN_BYTES: run_bytes})
    slower = ratio_note(out["counter_us"].to_numpy(np.float64), launches["dur_ns"].to_numpy(np.float64) / 1e3)
    known = () if file.refused else notes(file, counted, capability)
    told = (*file.notes, *joined.notes, *known, slower, left_out)
    view = CounterView(
        source=file.name,
        kind=file.kind,
        tool=file.tool,
        mode=file.mode,
        rows=len(file.rows),
        used=joined.used,
        matched_pct=joined.matched_pct,
        matching=joined.matching,
        table=table,
        refused=joined.refused,
        missing=() if file.refused else missing(file, per_kernel.values, capability),
        notes=tuple(dict.fromkeys(text for text in told if text)),
    )
    return out, view


def _capability(file: CounterFile, limits: Limits) -> str:
    """Return the compute capability: as the file has it, else that of the traced device; empty where neither tells."""
    for text in (file.capability, limits.device.compute_capability or ""):
        if re.fullmatch(r"\d{1,3}\.\d{1,3}", text):
            return text
    return ""


def _joined(file: CounterFile, launches: pd.DataFrame) -> Joined:
    refused = file.refused or ("" if launches["category"].eq("kernel").any() else NO_KERNELS)
    if not refused:
        return join(file, launches)
    values = pd.DataFrame(np.nan, index=launches.index, columns=list(file.metrics))
    return Joined(values, 0, 0.0, "", refused)


def _means(file: CounterFile) -> pd.DataFrame:
    """Return the mean of each metric by kernel, grid, block and operator, longest-counted first, with ``calls``.

    Rows of several processes that count the same launches are taken together: ``calls`` is the most that one process has.
    """
    rows = file.rows
    grouped = rows.groupby(_KEY, sort=False, dropna=False)
    calls = rows.groupby([*_KEY, "process"], sort=False, dropna=False).size().groupby(_KEY, sort=False, dropna=False).max()
    means = grouped[list(file.metrics)].mean()
    return means.assign(calls=calls.reindex(means.index).to_numpy()).reset_index()


def _table(means: pd.DataFrame, derived: Derived) -> tuple[pd.DataFrame, str]:
    """Return the table of a view, and what was left out of it because it cannot be; the longest counted kernels first."""
    values, lost = derived.values, 0
    for name in COUNTED.names:
        bad = impossible(values, name)
        lost += int(bad.sum())
        values = values.assign(**{name: values[name].mask(bad)})
    out = pd.concat([means[[*_KEY, "calls"]], values], axis=1)
    order = (out["counter_us"] * out["calls"]).fillna(0.0).sort_values(ascending=False, kind="stable").index
    text = f"{lost} {'figure' if lost == 1 else 'figures'} of counted kernels cannot be true and were left out." if lost else ""
    return out.loc[order].reset_index(drop=True), text


def _weights(means: pd.DataFrame, derived: Derived) -> Floats:
    """Return the counted time of each row, or its calls where no duration was counted."""
    time = derived.values["counter_us"].to_numpy(np.float64)
    calls = means["calls"].to_numpy(np.float64)
    return calls * np.nan_to_num(time) if np.isfinite(time).any() else calls
