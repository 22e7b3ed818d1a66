"""Which hardware counters a run has, what it lacks and how to get that: words that page and terminal have in common."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analyzer.format import count, percent
from analyzer.insight.reproduction import recording_command
from analyzer.schema.counters import COUNTED, REFUSED_BELOW_PCT
from analyzer.schema.results import Analysis
from analyzer.schema.run import AMD, RunFacts

COUNTABLE = {
    "bytes_dram_counter": "DRAM bytes",
    "l2_hit_pct": "cache hits",
    "occupancy_achieved_pct": "achieved occupancy",
    "tensor_active_pct": "tensor-pipe use",
}
"""What a report would have from counters: a column of COUNTED for each, and its name in a sentence."""
FOREIGN = "count the same program under Nsight Compute and lay the file beside the trace"
"""How somebody gets counters for a trace that this program did not record."""
METRICS = (
    "gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum", "lts__t_sector_hit_rate.pct",
    "l1tex__t_sector_hit_rate.pct", "l1tex__m_xbar2l1tex_read_bytes.sum", "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
)  # fmt: skip
"""Metrics of ``ncu`` (by the documentation of Nsight Compute) that are enough for a report."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a run has no counters (a clause), and how to get them (a clause or empty).

    ``command`` records the run again with counters, where it is a run of this program. ``foreign``: its kernels have to be
    counted in a program that is not this one (``counter_support.counting`` has the commands).
    """

    why: str
    how: str = ""
    command: str = ""
    foreign: bool = False


def has_counters(a: Analysis) -> bool:
    """Tell whether counters were merged into the launches of ``a``."""
    return a.counters is not None and not a.counters.refused


def counted_pct(a: Analysis, column: str) -> float:
    """Return the share of the kernel time in launches that have ``column`` (of COUNTED) in %, 0 without kernels or counters."""
    if not has_counters(a):
        return 0.0
    rows = a.launches[a.launches["category"].eq("kernel")]
    time = rows["dur_ns"].to_numpy(np.float64)
    if column not in rows or not time.sum() > 0:
        return 0.0
    return 100 * float(time[rows[column].notna().to_numpy()].sum()) / float(time.sum())


def is_counted(a: Analysis, column: str) -> bool:
    """Tell whether ``column`` (of COUNTED) is there for so much of the kernel time that it stands for the run."""
    return counted_pct(a, column) >= REFUSED_BELOW_PCT


def all_counted(rows: pd.DataFrame, column: str) -> bool:
    """Tell whether launches with so much of the time of ``rows`` have ``column`` that these stand for all of them."""
    if column not in rows:
        return False
    time = rows["dur_ns"].to_numpy(np.float64)
    return float(time[rows[column].notna().to_numpy()].sum()) >= REFUSED_BELOW_PCT / 100 * float(time.sum()) > 0


def mean_by_time(rows: pd.DataFrame, column: str) -> float:
    """Return the mean of ``column`` over the launches that have it, weighted by their time; NaN where none has."""
    known = rows[rows[column].notna()] if column in rows else rows.head(0)
    time = known["dur_ns"].to_numpy(np.float64)
    return float((known[column].to_numpy(np.float64) * time).sum() / time.sum()) if time.sum() > 0 else float("nan")


def lacking(a: Analysis) -> tuple[str, ...]:
    """Return what counters would tell and do not tell of ``a``, in words; on a CPU there are no multiprocessors to speak of."""
    known = COUNTABLE if a.device.type == "cuda" else dict(list(COUNTABLE.items())[:2])
    return tuple(words for column, words in known.items() if not is_counted(a, column))


def absence(a: Analysis) -> Absence:
    """Return why ``a`` has no counters and what would give them.

    Nothing of the trace is in it but what the reader of counters says of a file that does not match; clean it before showing.
    """
    facts, view = a.run.facts, a.counters
    if a.device.type != "cuda":
        return Absence("counters of processors are not read")
    if view is not None and view.refused:
        return replace(_again(a), why=f"the counters of {view.source} are refused: {view.refused.rstrip('.')}")
    if a.device.vendor == AMD:
        return Absence("counters of AMD GPUs come from rocprofv3, which is not supported yet")
    if facts is None:
        return Absence("the trace holds none, and no counters.csv lies beside it", FOREIGN, foreign=True)
    return _not_recorded(facts)


def _not_recorded(facts: RunFacts) -> Absence:
    told, command = facts.counters, _with_counters(facts)
    if told is None:
        return Absence("none were read when the run was recorded", "record it again with them", command)
    if told.available:
        return Absence("run.json names counters, and the directory has none that fit", "record the run again", command)
    reason = told.reason.rstrip(".") or "they were not read"
    return Absence(reason, told.hint.rstrip(".") or "record the run again with them", command)


def _again(a: Analysis) -> Absence:
    if a.run.facts is not None and a.device.vendor != AMD:
        return Absence("", "record the run again with counters", _with_counters(a.run.facts))
    return Absence("", f"{FOREIGN}, at the same settings and with the same software", foreign=True)


def _with_counters(facts: RunFacts) -> str:
    words = [word for word in recording_command(facts) if not word.lstrip("+").startswith("counters=")]
    return shlex.join((*words, "counters=ncu"))


def counters_missing(analyses: tuple[Analysis, ...]) -> tuple[str, ...]:
    """Return a line per kind of gap: which counted figures which runs lack, why, and how to get them."""
    found: dict[str, list[str]] = {}
    for a in analyses:
        words = lacking(a)
        if words:
            found.setdefault(_line(a, words), []).append(a.label)
    if len(found) == 1 and len(next(iter(found.values()))) == len(analyses):
        return tuple(found)
    return tuple(f"{' and '.join(dict.fromkeys(labels))}: {line}" for line, labels in found.items())


def _line(a: Analysis, words: tuple[str, ...]) -> str:
    what = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    if has_counters(a) and a.counters is not None:
        reasons = [f"{quantity}, {reason}" for quantity, reason in a.counters.missing]
        return f"{what}: not in the counters of this run" + (f" ({'; '.join(reasons[:3])})" if reasons else "")
    gone = absence(a)
    bytes_are = "" if is_counted(a, "bytes_dram_counter") else "; bytes here are modelled"
    how = f"; {gone.how}" if gone.how and a.run.facts is not None else ""
    how += "; the report's section Counters has the command" if gone.command or gone.foreign else ""
    why = refusal(a) or gone.why
    return f"{what}: they need hardware counters{bytes_are}. {why[:1].upper()}{why[1:]}{how}"


def refusal(a: Analysis) -> str:
    """Return that and why the counters of ``a`` are not used, without the kernels that do not match; empty where they are."""
    view = a.counters
    return f"the counters of {view.source} are refused: {view.refused.partition(';')[0]}" if view and view.refused else ""


def counted_launches(a: Analysis) -> tuple[int, int]:
    """Return how many kernels of ``a`` have counters, and how many there are."""
    rows = a.launches[a.launches["category"].eq("kernel")]
    columns = [name for name in COUNTED.names if name in rows]
    return int(rows[columns].notna().any(axis=1).sum()), len(rows)


def counter_line(a: Analysis) -> str:
    """Return the counters in one line: ``312 of 312 kernels, 99.8 % of the kernel time (Nsight Compute 2025.3.1)``."""
    view = a.counters
    if view is None:
        return "none"
    mine, all_of_them = counted_launches(a)
    tool = f" ({view.tool})" if view.tool else ""
    return f"{count(mine)} of {count(all_of_them)} kernels, {percent_of_time(view.matched_pct)} of the kernel time{tool}"


def percent_of_time(value: float) -> str:
    """Return a match rate; one just below 100 never reads as 100."""
    return f"{value:.1f} %" if 99 <= value < 99.95 else "99.9 %" if 99.95 <= value < 100 else percent(value)
