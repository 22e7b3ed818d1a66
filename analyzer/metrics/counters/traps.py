"""What a reader must know of counters: what is missing and why, and where a figure does not mean what its name says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import digits, percent
from analyzer.hardware.counters import groups, lacking, listed, metric_set, names_of
from analyzer.metrics.counters.belief import PASSES
from analyzer.metrics.counters.derive import HIT_TOLERANCE_PCT, Derived
from analyzer.trace.counters import CounterFile

WORDS = {
    "bytes_dram_counter": "bytes through DRAM",
    "bytes_dram_read_counter": "bytes read from DRAM",
    "bytes_dram_write_counter": "bytes written to DRAM",
    "bytes_l2_fill_counter": "bytes filled into the L2",
    "bytes_l2_sm_counter": "bytes from the L2 to the multiprocessors",
    "bytes_sm_l2_counter": "bytes written to the L2",
    "l2_hit_pct": "L2 hit rate",
    "l1_hit_pct": "L1 hit rate",
    "occupancy_achieved_pct": "achieved occupancy",
    "occupancy_ncu_pct": "theoretical occupancy as Nsight Compute has it",
    "tensor_active_pct": "cycles with the tensor pipe active",
    "flop_tensor_counter": "operations of the tensor cores",
    "counter_us": "duration while counting",
    "counter_clock_mhz": "clock while counting",
}
"""Quantities of COUNTED in words."""

_CHECKS = ("counter_us", "counter_clock_mhz")
"""Quantities that only check the others; nobody misses them."""

_CACHED = ("dram__", "lts__", "l1tex__")
_OPERATIONS = "sm__ops_path_tensor_src_"
_SECTOR_BYTES = 32
_EXPLAINED = 1.1
"""L2 delivers more than the misses of L1 explain where it delivers this many times as much."""
_DRAM_TOLERANCE = 0.05
_USUAL_RATIO = (0.8, 1.25)

COLD = (
    "The caches were emptied before each kernel while it was counted, so DRAM moved more than in the traced run. Throughput, "
    "bound and ledger keep the modelled bytes."
)
UNTOLD = (
    "The file does not tell whether the caches were emptied before each kernel. Nsight Compute does so unless it is told "
    "--cache-control none; DRAM then moves more than in the traced run."
)
TMA = (
    "The L1 hit rate covers what went through the L1. From compute capability 9.0 on kernels may load through the TMA, which "
    "goes past the L1."
)


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Metrics of launches or kernels (``noun``), what was derived of them (same rows), and how much each row weighs."""

    metrics: pd.DataFrame
    derived: Derived
    weight: npt.NDArray[np.float64]
    noun: tuple[str, str] = ("launch", "launches")


def missing(file: CounterFile, values: pd.DataFrame, capability: str) -> tuple[tuple[str, str], ...]:
    """Return (quantity in words, why) of the quantities that no row of ``values`` has."""
    known = metric_set(capability)
    lacks = lacking(capability) if known else {}
    tensor = (counter.metric for counter in known.tensor.values()) if known else ()
    asked = {name for group in groups(capability) for name in group}.union(tensor)
    out = []
    for quantity, words in WORDS.items():
        if quantity not in _CHECKS and not values[quantity].notna().any():
            out.append((words, lacks.get(quantity) or _why(file, quantity, asked)))
    return tuple(out)


def _why(file: CounterFile, quantity: str, asked: set[str]) -> str:
    named = [(*c.sum, *c.any, *c.over) for c in names_of(quantity)]
    here = [name for names in named for name in names if name in file.metrics]
    if here:
        return f"the figures in {here[0]} do not suffice for it"
    fitting = next((name for names in named for name in names if name in asked), None)
    if file.kind != "ncu":
        return f"the file has no column {fitting or named[0][0]}"
    if fitting and quantity != "flop_tensor_counter":  # which of those was asked for depends on the element type
        return f"{fitting} was asked for, and Nsight Compute gave no such column"
    return "it is not among the counters that were asked for on this GPU and for this element type"


def notes(file: CounterFile, counted: Counted, capability: str) -> tuple[str, ...]:
    """Return what is to be known of the figures, one sentence or two each."""
    found = [
        _mode(file),
        _other_capability(capability),
        *dict.fromkeys(c.note for used in counted.derived.used.values() for c in used if c.note),
        _operations(file),
        _hits(counted),
        _sides(counted),
        *_tma(counted, capability),
        _passes(file),
    ]
    return tuple(f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in found if text)


def ratio_note(counter_us: npt.NDArray[np.float64], trace_us: npt.NDArray[np.float64]) -> str:
    """Return what is odd about the time that kernels took while they were counted, empty where nothing is."""
    there = np.isfinite(counter_us) & (trace_us > 0)
    if not there.any():
        return ""
    ratio = float(counter_us[there].sum() / trace_us[there].sum())
    if _USUAL_RATIO[0] <= ratio <= _USUAL_RATIO[1]:
        return ""
    return (
        f"While they were counted, the kernels took {digits(ratio)} x as long as in the trace: another clock, emptied caches "
        "or another load. All times here come from the trace."
    )


def _mode(file: CounterFile) -> str:
    return {"cold": COLD, "": UNTOLD}.get(file.mode, "")


def _other_capability(capability: str) -> str:
    found = listed(capability)
    if found in (None, capability):
        return ""
    return f"there is no list of counters for compute capability {capability}, so that of {found} was used"


def _operations(file: CounterFile) -> str:
    types = [name.removeprefix(_OPERATIONS).split("_dst_")[0].split(".")[0] for name in file.metrics if _is_count(name)]
    if not types:
        return ""
    listed_types = ", ".join(dict.fromkeys(part for found in types for part in found.split("_")))
    return f"Operations of the tensor cores were counted for inputs of {listed_types}; those of other inputs are not in it."


def _is_count(name: str) -> bool:
    return any(name in candidate.any for candidate in names_of("flop_tensor_counter"))


def _hits(counted: Counted) -> str:
    hits = counted.derived.l2_hits
    above = hits > HIT_TOLERANCE_PCT
    if not above.any():
        return ""
    return (
        f"{_which(above, counted)} had more L2 hits than lookups, up to {digits(float(hits[above].max()))} %: the "
        "two are read in different passes. They stand as 100 %."
    )


def _sides(counted: Counted) -> str:
    values = counted.derived.values
    total, read, write = (values[f"bytes_dram_{which}counter"].to_numpy(np.float64) for which in ("", "read_", "write_"))
    there = np.isfinite(total) & np.isfinite(read) & np.isfinite(write)
    whole, parts = float(total[there].sum()), float((read + write)[there].sum())
    if not whole or abs(parts - whole) <= _DRAM_TOLERANCE * whole:
        return ""
    return f"Reads and writes of DRAM add up to {digits(parts / whole)} x its total; the total is used."


def _tma(counted: Counted, capability: str) -> tuple[str, ...]:
    known, metrics = metric_set(capability), counted.metrics
    if known is None or not known.tma or not counted.derived.values["l1_hit_pct"].notna().any():
        return ()
    names = ("l1tex__t_sectors.sum", "l1tex__t_sectors_lookup_hit.sum")
    if not all(name in metrics for name in names):
        return (TMA,)
    looked_up, hit = (metrics[name].to_numpy(np.float64) for name in names)
    delivered = counted.derived.values["bytes_l2_sm_counter"].to_numpy(np.float64)
    past = delivered > _EXPLAINED * _SECTOR_BYTES * (looked_up - hit)
    if not past.any():
        return (TMA,)
    return (f"{TMA} {_which(past, counted)} got more bytes from the L2 than the misses of the L1 explain.",)


def _passes(file: CounterFile) -> str:
    if PASSES not in file.rows:
        return ""
    passes = file.rows[PASSES].to_numpy(np.float64)
    cached = [name for name in file.metrics if name.startswith(_CACHED)]
    repeated = (passes > 1) & file.rows[cached].notna().any(axis=1).to_numpy(bool)
    if not repeated.any():
        return ""
    return (
        f"{int(repeated.sum())} of {len(passes)} counted launches took up to {int(np.nanmax(passes[repeated]))} passes. Nsight "
        "Compute repeats a kernel for each and restores memory between them, so their bytes and hit rates are not those of a "
        "kernel that runs once."
    )


def _which(chosen: npt.NDArray[np.bool_], counted: Counted) -> str:
    total = float(counted.weight.sum())
    share = 100 * float(counted.weight[chosen].sum()) / total if total else 0.0
    number = int(chosen.sum())
    return f"{number} {counted.noun[number != 1]} ({percent(share)} of the counted time)"
