"""Numbers of the figures on memory: DRAM throughput by kind, bytes touched per launch, and the curve of the allocator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.counters import all_counted
from analyzer.metrics.attribution import counted
from analyzer.metrics.capacities import DRAM, LAST_CACHES
from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.metrics.limits import ATTAINABLE
from analyzer.report.marks.steady import thin
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis, LimitFact
from analyzer.trace.kinds import KINDS

Float64 = npt.NDArray[np.float64]
MAX_POINTS = 600
"""Points of a line before it is drawn as steps."""

MAX_CURVES = 4
MAX_STEPS = 40
MODELLED_SHARE = 0.5
"""A bar needs the access model for this share of the bytes of its kind."""

SMALLEST = 2.0**12
LARGEST = 2.0**32


@dataclass(frozen=True, slots=True)
class Throughput:
    """Compulsory bytes over time of one kind, in % of the bandwidth used for floors.

    ``pct`` is NaN where that exceeds 100, so that a cache must have served the bytes. ``low_pct`` and ``high_pct`` are those of
    the access model's DRAM bytes, at most 100, NaN where it has too few of them. ``cached_pct``: the share of the kind's time
    in launches that outran DRAM. ``share_pct``: of the run's time. ``known_pct``: the kind's time with a byte count.
    ``counted_pct``: DRAM bytes by hardware counters over the time of the launches that have them, NaN where too few have.
    """

    run: int
    kind: str
    share_pct: float
    known_pct: float
    gbps: float
    pct: float
    low_pct: float
    high_pct: float
    cached_pct: float
    counted_pct: float = np.nan

    @property
    def from_cache(self) -> bool:
        """Tell whether DRAM could not have delivered the bytes in the time."""
        return bool(np.isnan(self.pct))


@dataclass(frozen=True, slots=True)
class Throughputs:
    """All marks by kind in the fixed order; ``attainable`` is (run, % that a copy was published to reach)."""

    marks: tuple[Throughput, ...]
    attainable: tuple[tuple[int, float], ...]


def throughputs(analyses: tuple[Analysis, ...]) -> Throughputs:
    """Return the marks of every run whose bandwidth is known and whose kernels have a byte count."""
    marks: list[Throughput] = []
    attainable: list[tuple[int, float]] = []
    for run, a in enumerate(analyses):
        used = a.limits[0].figure.value
        if used is None:
            continue
        marks += _marks(a, run, used)
        copy = next((f.figure.value for f in a.limits if f.line == ATTAINABLE), None)
        if copy is not None and copy < used:
            attainable.append((run, 100 * copy / used))
    return Throughputs(tuple(sorted(marks, key=lambda m: (KINDS.index(m.kind), m.run))), tuple(attainable))


def _marks(a: Analysis, run: int, roof_gbps: float) -> list[Throughput]:
    rows = _working(a)
    known = counted(rows) & (rows["bytes_compulsory"] > 0) & (rows["dur_ns"] > 0)
    total = float(rows["dur_ns"].sum())
    whole = rows.groupby("kind")["dur_ns"].sum()
    out = []
    for kind, found in rows[known].groupby("kind"):
        time = float(found["dur_ns"].sum())
        size = found["bytes_compulsory"].to_numpy(np.float64)
        pct = 100 * float(size.sum()) / time / roof_gbps
        low, high = _band(found, size, 100 / time / roof_gbps)
        outran = float(found["dur_ns"][size / found["dur_ns"] > roof_gbps].sum())
        out.append(
            Throughput(
                run=run, kind=str(kind), share_pct=100 * float(whole[kind]) / total, known_pct=100 * time / float(whole[kind]),
                gbps=float(size.sum()) / time, pct=pct if pct <= 100 else np.nan, low_pct=low, high_pct=high,
                cached_pct=100 * outran / time, counted_pct=_counted(rows[rows["kind"] == kind], roof_gbps),
            )
        )  # fmt: skip
    return out


def _counted(rows: pd.DataFrame, roof_gbps: float) -> float:
    """Return counted DRAM bytes over time in % of ``roof_gbps``, NaN where they are not there for 95 % of the time."""
    if not all_counted(rows, RUN_BYTES):
        return np.nan
    there = rows[rows[RUN_BYTES].notna()]
    return 100 * float(there[RUN_BYTES].sum()) / float(there["dur_ns"].sum()) / roof_gbps


def _working(a: Analysis) -> pd.DataFrame:
    return a.launches[a.launches["category"].isin(("kernel", "operator"))]


def _band(rows: pd.DataFrame, size: Float64, scale: float) -> tuple[float, float]:
    """Return both ends of the model's DRAM bytes times ``scale``, at most 100; compulsory bytes where it has no figure."""
    low, high = (rows[f"bytes_dram_{end}"].to_numpy(np.float64) for end in ("low", "high"))
    there = ~np.isnan(low) & ~np.isnan(high)
    if float(size[there].sum()) < MODELLED_SHARE * float(size.sum()):
        return np.nan, np.nan
    ends = (float(np.where(there, end, size).sum()) * scale for end in (low, high))
    first, last = (min(end, 100.0) for end in ends)
    return first, last


@dataclass(frozen=True, slots=True, eq=False)
class Locality:
    """Bytes touched per launch, and the cumulative share of the run's time in launches with at most that many.

    ``known_pct`` is the time with a byte count, where the line ends. ``last`` is the last cache before DRAM; ``beyond_pct`` and
    ``within_pct`` are the time in launches that touch more and at most as much as it holds, NaN where it is not known.
    ``median_bytes``: half of the time with a byte count is in launches with at most that many.
    """

    run: int
    label: str
    size_bytes: Float64
    share_pct: Float64
    known_pct: float
    median_bytes: float
    last: LimitFact | None
    beyond_pct: float
    within_pct: float


@dataclass(frozen=True, slots=True)
class Level:
    """The capacity of one level of memory, and the runs on whose device it is that."""

    name: str
    size_bytes: float
    runs: tuple[int, ...]


def locality(a: Analysis, run: int) -> Locality | None:
    """Return the distribution of one run, None where no launch has a byte count."""
    rows = _working(a)
    total = float(rows["dur_ns"].sum())
    known = rows[counted(rows) & (rows["bytes_compulsory"] > 0)]
    if known.empty or total <= 0:
        return None
    sums = known.groupby("bytes_compulsory")["dur_ns"].sum().sort_index()
    size = sums.index.to_numpy(np.float64)
    share = 100 * np.cumsum(sums.to_numpy(np.float64)) / total
    last = next((f for f in a.limits if f.name in LAST_CACHES and f.figure.value is not None), None)
    # floats add up in any order but not to the same last digit, so the end of the line is the sum itself
    end = float(share[-1])
    within = float(share[size <= last.figure.value][-1:].sum()) if last and last.figure.value is not None else np.nan
    middle = float(size[np.searchsorted(share, end / 2)])
    return Locality(run, a.label, size, share, end, middle, last, end - within, within)


def thinned(found: Locality) -> tuple[Float64, Float64]:
    """Return the points to draw: for each of MAX_POINTS places of the axis the last step before it."""
    if len(found.size_bytes) <= MAX_POINTS:
        return found.size_bytes, found.share_pct
    places = np.geomspace(found.size_bytes[0], found.size_bytes[-1] * (1 + 1e-9), MAX_POINTS)
    at = np.unique(np.searchsorted(found.size_bytes, places, side="right") - 1)
    return found.size_bytes[at], found.share_pct[at]


def levels(analyses: tuple[Analysis, ...]) -> tuple[Level, ...]:
    """Return the levels of all devices, equal ones once, smallest first."""
    found: dict[tuple[str, float], list[int]] = {}
    for run, a in enumerate(analyses):
        for fact in a.limits:
            if fact.figure.unit == "bytes" and fact.figure.value is not None:
                found.setdefault((fact.name, fact.figure.value), []).append(run)
    return tuple(Level(name, size, tuple(runs)) for (name, size), runs in sorted(found.items(), key=lambda item: item[0][1]))


def short_level(name: str) -> str:
    """Return the name of a level for a line in a figure."""
    words = name.removesuffix(" capacity")
    return {LAST_CACHES[2]: "last-level cache", DRAM: "DRAM"}.get(name, words.split(" of ")[0])


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The allocator's curve of one device, thinned; times in ms since the window began.

    ``reserved`` is (ms, bytes), None where it is not recorded or so far above that the curve would be flat. ``steps`` are
    (start, end) in ms. ``span`` is (lowest, highest) of every event.
    """

    run: int
    label: str
    profile: MemoryProfile
    at_ms: Float64
    allocated_bytes: Float64
    reserved: tuple[Float64, Float64] | None
    steps: tuple[tuple[float, float], ...]
    peak_ms: float
    span: tuple[float, float]


def curves(analyses: tuple[Analysis, ...]) -> tuple[Curve, ...]:
    """Return the curves to draw: those of the GPUs of each run, of the CPU where it has no other; at most MAX_CURVES."""
    found = [(run, a, p) for run, a in enumerate(analyses) for p in _drawn(a)]
    per_run = max(MAX_CURVES // max(len({run for run, _, _ in found}), 1), 1)
    kept: list[Curve] = []
    for run, a, profile in found:
        if sum(curve.run == run for curve in kept) < per_run:
            kept.append(_curve(run, a, profile))
    return tuple(kept)


def _drawn(a: Analysis) -> list[MemoryProfile]:
    gpus = [p for p in a.memory if p.device != "CPU"]
    return sorted(gpus or list(a.memory), key=lambda p: -p.peak_bytes)


def _curve(run: int, a: Analysis, profile: MemoryProfile) -> Curve:
    start = a.window.start_ns
    at = (profile.curve["time_ns"].to_numpy(np.int64) - start) / 1e6
    level = profile.curve["allocated_bytes"].to_numpy(np.float64)
    shown = _keep(thin(level, MAX_POINTS - 1), int(np.argmax(level)))
    reserved = profile.curve["reserved_bytes"].to_numpy(np.float64)
    span = float(level.min()), float(level.max())
    has_room = bool(np.isfinite(reserved).all()) and 0 < float(reserved.max()) <= 2 * max(span[1], 1.0)
    kept = thin(reserved, MAX_POINTS) if has_room else None
    shaded = a.steps if len(a.steps) <= MAX_STEPS else a.steps[:0]
    return Curve(
        run=run, label=a.label, profile=profile, at_ms=at[shown], allocated_bytes=level[shown],
        reserved=(at[kept], reserved[kept]) if kept is not None else None,
        steps=tuple(((begin - start) / 1e6, (end - start) / 1e6) for _, begin, end in shaded),
        peak_ms=(profile.peak_ns - start) / 1e6, span=span,
    )  # fmt: skip


def _keep(shown: npt.NDArray[np.int64], peak: int) -> npt.NDArray[np.int64]:
    return np.unique(np.append(shown, peak))
