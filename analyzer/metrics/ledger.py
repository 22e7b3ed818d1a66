"""The time of every launch in parts that add up to it: what it had to take, what the trace names as added, and the rest.

The parts are those of ``schema.ledger.KERNEL_TERMS``. What is above the floor is given to named causes one after the other, in
that order and each at most what is left, so that none is counted twice; what remains is ``residual``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.metrics.attribution import MODELLED
from analyzer.metrics.counters.sums import RUN_BYTES, counted_excess_us
from analyzer.metrics.limits import Limits, Roof
from analyzer.metrics.memory import LATENCY_US
from analyzer.schema.ledger import KERNEL_TERMS
from analyzer.schema.run import AMD, Run

Floats = npt.NDArray[np.float64]

MOVERS = ("layout", "transfer")
"""Kinds whose whole time is a term of its own: they compute nothing, and another layout might need none of them."""

TERM_COLUMNS = ("role", "kind", "term", "us", "low_us", "high_us")


_RESTS_ON = (("work", "floor_us"), ("locality", "excess_low_us"))
"""Terms and the column without which they are not known."""


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of every launch in µs, by term, and the ends of those that are bands.

    ``counted``: whose part ``locality`` comes from counted bytes.
    """

    value: dict[str, Floats]
    low: dict[str, Floats]
    high: dict[str, Floats]
    counted: npt.NDArray[np.bool_]


def sum_terms(launches: pd.DataFrame, limits: Limits, clock_mhz: float | None = None) -> pd.DataFrame:
    """Return the parts of ``launches`` by role, kind and term: TERM_COLUMNS, sums over the window in µs, and ``counted``.

    ``counted`` tells that all of a ``locality`` comes from counted bytes, so that it is a figure and no band.
    They add up to the exclusive time of all launches. ``clock_mhz``: the clock at which the kernels ran, where it was sampled.
    Columns read: ``role, kind, exclusive_us, dur_ns, basis, floor_us, floor_compute_us, floor_memory_us, flop, unit, dtype,
    product, excess_low_us, excess_high_us, blocks_per_sm, tail_efficiency_pct, category``, and counters where there are some.
    """
    split = split_launches(launches, limits, clock_mhz)
    parts = []
    for term in KERNEL_TERMS:
        value = split.value[term]
        frame = pd.DataFrame(
            {"role": launches["role"], "kind": launches["kind"], "term": term, "us": value,
             "low_us": split.low.get(term, value), "high_us": split.high.get(term, value),
             "counted": split.counted & (term == "locality")}
        )  # fmt: skip
        parts.append(frame[value != 0])
    every = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*TERM_COLUMNS, "counted"])
    grouped = every.groupby(["role", "kind", "term"], sort=False)
    sums = grouped[["us", "low_us", "high_us"]].sum().assign(counted=grouped["counted"].all())
    return sums.reset_index()[[*TERM_COLUMNS, "counted"]]


def missing_terms(launches: pd.DataFrame, limits: Limits, clock_mhz: float | None = None) -> tuple[str, ...]:
    """Return the terms that cannot be told of a run, so that they are unknown there and not zero.

    ``work``: no kernel has a floor. ``locality``: neither an access model of the device nor counted bytes. ``tail`` and
    ``clock``: a GPU run without grids, or without sampled clocks.
    """
    works = launches["category"].isin(("kernel", "operator"))
    known = {term: bool(launches.loc[works, column].notna().any()) for term, column in _RESTS_ON}
    if RUN_BYTES in launches:
        known["locality"] |= bool((~np.isnan(counted_excess_us(launches[works], limits))).any())
    if limits.device.type == "cuda":
        known |= {"tail": bool(launches["blocks_per_sm"].notna().any()), "clock": clock_mhz is not None}
    return tuple(term for term, told in known.items() if not told)


def split_launches(launches: pd.DataFrame, limits: Limits, clock_mhz: float | None = None) -> Split:
    """Return the parts of each launch; they add up to its ``exclusive_us``. Columns read: those of ``sum_terms``.

    A launch is split by its own duration. Where others run at the same time it has its share of each part, as of the time.
    """
    whole = _split_whole(launches, limits, clock_mhz)
    exclusive, time = launches["exclusive_us"].to_numpy(np.float64), launches["dur_ns"].to_numpy(np.float64) / 1e3
    share = np.divide(exclusive, time, out=np.zeros_like(time), where=time > 0)
    value, low, high = ({term: part * share for term, part in parts.items()} for parts in (whole.value, whole.low, whole.high))
    return Split(value, low, high, whole.counted)


def _split_whole(launches: pd.DataFrame, limits: Limits, clock_mhz: float | None) -> Split:
    """Return the parts of each launch; they add up to its duration."""
    time = launches["dur_ns"].to_numpy(np.float64) / 1e3
    floor = launches["floor_us"].to_numpy(np.float64)
    mover = launches["kind"].isin(MOVERS).to_numpy()
    modelled = launches["basis"].isin(MODELLED).to_numpy()
    floored = modelled & ~mover & np.isfinite(floor)
    low, middle, high, counted = _locality(launches, limits, time - floor)
    rest = np.where(floored, time - floor - middle, 0.0)
    cached = np.where(rest < 0, np.maximum(rest, -_from_cache(launches, limits, middle)), 0.0)
    above = np.maximum(rest, 0.0)
    short = np.where(_is_short(launches), above, 0.0)
    tail, tail_high = _tail(launches, time, above - short)
    clock = _slow_clock(launches, limits, clock_mhz, above - short - tail)
    work = _best_floors(launches, limits)
    value = {
        "work": np.where(floored, work, 0.0),
        "vector": np.where(floored, floor - work, 0.0),
        "locality": np.where(floored, middle, 0.0),
        "copies": np.where(mover, time, 0.0),
        "cached": cached,
        "short": short,
        "tail": tail,
        "clock": clock,
        "no_floor": np.where(modelled & ~mover & ~floored, time, 0.0),
        "no_model": np.where(~modelled & ~mover, time, 0.0),
    }
    value["residual"] = np.where(floored, rest - cached - short - tail - clock, 0.0)
    slower, faster = _ceiling_band(launches, limits)
    bands = {
        "work": (value["work"] * faster, value["work"] * slower),
        "locality": (np.where(floored, low, 0.0), np.where(floored, high, 0.0)),
        "tail": (tail, tail_high),
    }
    # what a part is at its high end, the residual lacks
    lacks = sum((high - value[term] for term, (_, high) in bands.items()), np.zeros(len(time)))
    gains = sum((value[term] - low for term, (low, _) in bands.items()), np.zeros(len(time)))
    lows = {term: low for term, (low, _) in bands.items()} | {"residual": value["residual"] - lacks}
    highs = {term: high for term, (_, high) in bands.items()} | {"residual": value["residual"] + gains}
    return Split(value, lows, highs, counted)


def _locality(launches: pd.DataFrame, limits: Limits, above: Floats) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Return low end, value and high end of what the bytes that moved add to the floor, and where they were counted.

    By the access model the value is the middle of the band, or less where the launch took no more than that ``above`` its
    floor. Counted bytes give one value, at most what the launch took above its floor.
    """
    low, high = (np.nan_to_num(launches[name].to_numpy(np.float64)) for name in ("excess_low_us", "excess_high_us"))
    room = np.nan_to_num(above)
    middle = np.clip((low + high) / 2, low, np.maximum(low, room))
    excess = counted_excess_us(launches, limits)
    counted = ~np.isnan(excess)
    excess = np.minimum(np.nan_to_num(excess), np.maximum(room, 0.0))
    low, middle, high = (np.where(counted, excess, modelled) for modelled in (low, middle, high))
    return low, middle, high, counted


def _ceiling_band(launches: pd.DataFrame, limits: Limits) -> tuple[Floats, Floats]:
    """Return how many times longer and shorter the floors are at the low and the high end of a measured ceiling."""
    compute, memory = (np.nan_to_num(launches[name].to_numpy(np.float64)) for name in ("floor_compute_us", "floor_memory_us"))
    code, roofs = _roofs(launches, limits)
    ends = []
    for end in ("low", "high"):
        arithmetic = np.array([_over(roof, end) for roof in roofs], np.float64)[code]
        ends.append(np.where(compute >= memory, arithmetic, _over(limits.bandwidth, end)))
    return ends[0], ends[1]


def _roofs(launches: pd.DataFrame, limits: Limits) -> tuple[npt.NDArray[np.intp], list[Roof | None]]:
    """Return for each launch the number of its peak, and the peaks; None where a unit has none."""
    keys = pd.MultiIndex.from_frame(launches[["unit", "number_format", "product"]])
    code, unique = pd.factorize(keys)
    return code, [limits.peak(unit, dtype, product=product) for unit, dtype, product in unique]


def _over(roof: Roof | None, end: str) -> float:
    """Return a limit over one end of its interval, 1 without one."""
    value = getattr(roof, end) if roof else None
    return roof.value / value if roof and value else 1.0


def _best_floors(launches: pd.DataFrame, limits: Limits) -> Floats:
    """Return the floor of each launch on the fastest units for its element type: matrix units where the device has them.

    Approximation: float32 counts as TF32 there (10 bits of mantissa), where the device has it.
    """
    floor = launches["floor_us"].to_numpy(np.float64)
    slow = (launches["unit"].eq("vector") & launches["product"] & (launches["flop"] > 0)).to_numpy(bool)
    peaks = {dtype: _matrix_peak(limits, dtype or "float32") for dtype in launches["dtype"][slow].unique()}
    rate = launches["dtype"].where(slow).map(peaks).to_numpy(np.float64)
    compute = launches["flop"].to_numpy(np.float64) / rate / 1e6
    memory = launches["floor_memory_us"].to_numpy(np.float64)
    better = np.fmin(floor, np.maximum(compute, np.nan_to_num(memory)))
    return np.where(np.isfinite(compute), better, floor)


def _matrix_peak(limits: Limits, dtype: str) -> float:
    """Return the peak in TFLOP/s of the matrix units for an element type, NaN where there are none."""
    if dtype == "float32" and limits.device.vendor != AMD:
        dtype = "tfloat32"
    roof = limits.peak("matrix", dtype)
    return roof.value if roof else float("nan")


def _from_cache(launches: pd.DataFrame, limits: Limits, locality: Floats) -> Floats:
    """Return the most that a cache can have saved each launch, in µs.

    Approximation: a cache that holds inputs from before can save as many bytes as it is large, and keep as many of the output;
    what arithmetic takes stays. Whether it did is not known.
    """
    compute = np.nan_to_num(launches["floor_compute_us"].to_numpy(np.float64))
    floor = np.nan_to_num(launches["floor_us"].to_numpy(np.float64)) + locality
    saved: Floats = np.maximum(floor - compute, 0.0)
    if limits.cache_bytes and limits.bandwidth:
        saved = np.minimum(saved, 2 * limits.cache_bytes / limits.bandwidth.value / 1e3)
    return saved


def _tail(launches: pd.DataFrame, time: Floats, above: Floats) -> tuple[Floats, Floats]:
    """Return the time lost to multiprocessors without a block, at least and at most, neither more than ``above`` the floor.

    At least: blocks share a multiprocessor's throughput, so B blocks on S multiprocessors take as long as ceil(B / S) on the
    fullest one. At most: a block takes as long alone as beside others, so whole waves of resident blocks count.
    Approximation: blocks of one launch take equally long.
    """
    per_sm = launches["blocks_per_sm"].to_numpy(np.float64)
    efficiency = launches["tail_efficiency_pct"].to_numpy(np.float64) / 100
    with np.errstate(invalid="ignore"):
        least = time * (1 - per_sm / np.ceil(per_sm))
        most = np.fmax(time * (1 - efficiency), least)
    least, most = (np.nan_to_num(np.where(per_sm > 0, share, 0.0)) for share in (least, most))
    return np.minimum(least, above), np.minimum(most, above)


def _slow_clock(launches: pd.DataFrame, limits: Limits, clock_mhz: float | None, left: Floats) -> Floats:
    """Return what arithmetic took longer because the clock was below that of the datasheet's peak, at most ``left``."""
    sheet = limits.sheet
    if clock_mhz is None or sheet is None:
        return np.zeros(len(launches))
    compute = np.nan_to_num(launches["floor_compute_us"].to_numpy(np.float64))
    bound = compute >= np.nan_to_num(launches["floor_memory_us"].to_numpy(np.float64))
    code, roofs = _roofs(launches, limits)
    # a peak that was measured on the device was measured at the clocks that it has
    quotable = np.array([not (roof and roof.measured) for roof in roofs], bool)[code]
    slower = np.zeros(len(launches))
    for unit, quoted in (("matrix", sheet.peak_clock_mhz), ("vector", sheet.boost_clock_mhz)):
        if quoted and quoted > clock_mhz:
            mine = launches["unit"].eq(unit).to_numpy() & quotable
            slower = np.where(mine & bound, compute * (quoted / clock_mhz - 1), slower)
    return np.clip(slower, 0.0, np.maximum(left, 0.0))


def _is_short(launches: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell which kernels (on a CPU: operators) are so short that starting and ending them takes most of their time."""
    works = launches["category"].isin(("kernel", "operator"))
    return (works & (launches["dur_ns"] < LATENCY_US * 1e3)).to_numpy(bool)


def kernel_clock(run: Run, samples: pd.DataFrame) -> float | None:
    """Return the median clock of the multiprocessors in MHz while ``run`` was traced, else while it was timed; None without."""
    for name in ("traced", "untraced"):
        spans = [(p.start_unix_ns, p.end_unix_ns) for p in (run.facts.passes if run.facts else ()) if p.name == name]
        inside = np.zeros(len(samples), bool)
        for start, end in spans:
            inside |= samples["time_ns"].between(start, end).to_numpy()
        clocks = samples["sm_clock_mhz"][inside].dropna()
        if len(clocks):
            return float(clocks.median())
    return None
