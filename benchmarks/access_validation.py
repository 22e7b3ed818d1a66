"""Holds the access model against what others measured: hardware counters, and sweeps of a re-read working set.

Prints one table. Every figure of the model is that of strict recency (LRU), in the order of blocks that the row gives; the band
reaches to one reference bit (NRU), and over the plausible orders where a row gives none. No figure is chosen row by row.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from analyzer.access import closed
from analyzer.access.caches import cache_of, simulated
from analyzer.access.geometry import geometry_of
from analyzer.access.kernel import POLICIES, written_band
from analyzer.access.l2 import Moved, Policy, run
from analyzer.access.problem import Attention, Pass, Problem, Product
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.stream import Operand, Stream
from analyzer.access.tiling import Geometry, Raster
from analyzer.hardware.lookup import sheets
from analyzer.schema.access import CacheFacts

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNTERS, SWEEPS = "counters_public.csv", "l2_sweeps.csv"

SHEETS = {
    "RTX 4090": "rtx_4090", "H100 SXM": "h100_sxm5_80gb", "A100 SXM4 40GB": "a100_sxm4_40gb", "B200": "b200",
    "A100 80GB": "a100_sxm4_80gb", "H100 PCIe": "h100_pcie", "H200": "h200_sxm", "L40": "l40s",
}  # fmt: skip
"""Sheets of the GPUs measured. No sheet is of an L40: the L40S has the same chip and the same 96 MiB."""

FITTED, HELD_OUT, CHOSEN = "fitted", "held out", "chosen"
"""Whether a parameter was fitted on a row, or none, or the layout of the cache was chosen on it."""

WARM_PASSES = 4
RETAINED_TIMES = 4
"""DRAM writes are scored where the output is more than this many times what the cache may hold back."""
KNEE_SHARE = 0.95
GRANULE = 2048
SWEEP_PASSES = 5
_ORDERS = {"rows fastest": Raster("mnb"), "query tiles fastest": Raster("qhb"), "heads fastest": Raster("bhq")}
_OPEN = (Raster("nmb"), Raster("mnb"))
_PASSES = {"residual add": (2, 1), "layer norm": (1, 1), "gelu + auxiliary": (1, 2)}
"""Inputs read and outputs written."""


@dataclass(frozen=True, slots=True)
class Row:
    """One counter of one kernel, in bytes per launch, with the ``point`` and the ``band`` (low, high) of the model.

    ``kind``: elementwise, GEMM, attention, bmm. ``status``: FITTED, HELD_OUT. ``scored``: false where the model does not claim
    the figure.
    """

    gpu: str
    mode: str
    kernel: str
    kind: str
    counter: str
    measured: float
    point: float
    band: tuple[float, float]
    status: str
    scored: bool = True

    @property
    def error_pct(self) -> float:
        """Error of the point in %."""
        return 100 * (self.point / self.measured - 1)

    @property
    def inside(self) -> bool:
        """Tell whether the band holds the measured figure; one of a single value has to meet it within 1 %."""
        low, high = self.band
        return 0.99 * low <= self.measured <= 1.01 * high

    @property
    def band_error_pct(self) -> float:
        """Error of the end of the band that is nearest to the measured figure, 0 inside."""
        low, high = self.band
        nearest = min(max(self.measured, low), high)
        return 100 * (nearest / self.measured - 1)


@dataclass(frozen=True, slots=True)
class Knee:
    """The bend of one sweep: (last working set at full speed, the next one), in bytes; ``steps`` are those of the sweep's grid.

    ``miss_error`` is the mean absolute error of the miss ratio above the plateau, by policy.
    """

    gpu: str
    measured: tuple[float, float]
    modelled: dict[Policy, tuple[float, float]]
    steps: dict[Policy, int]
    miss_error: dict[Policy, float]


@dataclass(frozen=True, slots=True)
class Effective:
    """A published effective capacity, as a share of the nominal one, beside the modelled knees by policy."""

    gpu: str
    measured: float
    modelled: dict[Policy, float]


@lru_cache
def cache(gpu: str) -> CacheFacts:
    """Return the cache of a GPU by the name that the data have for it."""
    found = cache_of(sheets()[SHEETS[gpu]])
    if isinstance(found, str):
        raise TypeError(f"{gpu}: {found}")
    return found


def _whole(row: dict[str, str], *names: str) -> list[int]:
    return [int(row[name]) for name in names]


def problem_of(row: dict[str, str]) -> tuple[str, Problem]:
    """Return the kind of kernel and the problem of a row of counters; all of them have elements of two bytes."""
    if row["kernel"] in _PASSES:
        size = 2 * math.prod(_whole(row, "m", "n"))
        read, written = _PASSES[row["kernel"]]
        return "elementwise", Pass(read * size, written * size)
    if row["heads"]:
        batch, heads, kv_heads, queries, keys, width = _whole(row, "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim")
        return "attention", Attention(batch, heads, kv_heads, queries, keys, width, width, 2, row["causal"] == "1")
    m, n, k = _whole(row, "m", "n", "k")
    if row["batch"]:
        return "bmm", Product(int(row["batch"]), m, n, k, 2, 2)
    return "GEMM", Product(1, m, n, k, 2, 2)


def geometry_for(row: dict[str, str], problem: Problem) -> Geometry:
    """Return the geometry of a row: from the kernel's name where it has one, else its tile and its order."""
    named = geometry_of(row["kernel"], None, None, problem, cache(row["gpu"]).multiprocessors)
    tall, wide = (int(part) for part in re.findall(r"\d+", row["tile"])[:2])
    rasters = (_ORDERS[row["raster"]],) if row["raster"] else _OPEN
    if isinstance(problem, Product) and problem.batch > 1 and isinstance(named, Geometry):
        return replace(named, rasters=rasters)
    deep = 64 if isinstance(problem, Attention) else 32
    return Geometry(tall, wide, deep, rasters, "inferred", "", persistent="persistent" in row["description"])


@dataclass(frozen=True, slots=True)
class Modelled:
    """What the model says of one launch, in bytes: of each order (the row's first) the figures by policy.

    ``read`` and ``written``: between L2 and multiprocessors.
    """

    read: float
    written: float
    orders: tuple[dict[Policy, Moved], ...]


def modelled(problem: Problem, geometry: Geometry, device: CacheFacts, passes: int) -> Modelled:
    """Run the launch through the cache of ``device``, one block to a multiprocessor; of several ``passes`` the last counts.

    Every pass is a launch of its own, whose blocks go to whichever multiprocessors are free, as in the model of one launch.
    """
    read, written = closed.read_bytes(problem, geometry), float(problem.write_bytes)
    if isinstance(problem, Pass):
        moved = Moved(read, 0.0, 0.0, 0.0)
        return Modelled(read, written, (dict.fromkeys(POLICIES, moved),))
    streams = [fill(plan_of(problem, geometry, raster, device.multiprocessors)) for raster in geometry.rasters]
    orders = tuple({policy: _last(stream, device, policy, passes) for policy in POLICIES} for stream in streams)
    return Modelled(read, written, orders)


def _last(stream: Stream, device: CacheFacts, policy: Policy, passes: int) -> Moved:
    """Return what the last of ``passes`` over ``stream`` moves."""
    if passes == 1:
        return run(stream, simulated(device), policy)
    whole, before = (run(repeated(stream, count), simulated(device), policy) for count in (passes, passes - 1))
    return Moved(whole.read - before.read, whole.fabric - before.fabric, whole.evicted - before.evicted, whole.dirty)


def repeated(stream: Stream, passes: int) -> Stream:
    """Return ``stream`` over and over, each time with its blocks next to other halves of the cache."""
    blocks = len(stream.side)
    return replace(
        stream,
        granule=np.tile(stream.granule, passes),
        moved=np.tile(stream.moved, passes),
        block=np.concatenate([stream.block + np.int32(i * blocks) for i in range(passes)]),
        write=np.tile(stream.write, passes),
        side=np.concatenate([np.random.default_rng(i).integers(0, 2, blocks, dtype=np.uint8) for i in range(passes)]),
    )


def _figures(counter: str, found: Modelled, device: CacheFacts) -> tuple[float, tuple[float, float]]:
    """Return the point and the band of one counter."""
    low, high = written_band(found.written, device)
    if counter in ("l2_to_sm_read", "sm_to_l2_write"):
        size = found.read if counter == "l2_to_sm_read" else found.written
        return size, (size, size)
    if counter == "dram_write":
        return (low + high) / 2, (low, high)
    moved = [order[policy] for order in found.orders for policy in POLICIES]
    if counter == "l2_lookup_read":
        values = [found.read + one.fabric for one in moved]
    elif counter == "l2_miss_read":
        values = [one.read + one.fabric for one in moved]
    else:
        values = [one.read * device.read_overhead for one in moved]
    if counter == "dram_total":
        return values[0] + (low + high) / 2, (min(values) + low, max(values) + high)
    return values[0], (min(values), max(values))


def _status(row: dict[str, str], kind: str) -> str:
    """Return whether a parameter was fitted on a row.

    The 4090's read overhead and retained bytes were fitted on its elementwise rows, the H100's retained bytes on its totals.
    """
    fitted = kind == "elementwise" and row["counter"].startswith("dram")
    return FITTED if fitted or row["counter"] == "dram_total" else HELD_OUT


def counter_rows(data: Path = DATA) -> list[Row]:
    """Return every row of counters beside the model's figures."""
    out = []
    known: dict[tuple[str, Problem, Geometry], Modelled] = {}
    for row in _read(data / COUNTERS):
        if row["counter"] == "effective_l2":
            continue
        kind, problem = problem_of(row)
        geometry, device = geometry_for(row, problem) if kind != "elementwise" else _NO_TILE, cache(row["gpu"])
        key = (row["gpu"], problem, geometry)
        if key not in known:
            known[key] = modelled(problem, geometry, device, WARM_PASSES if row["mode"] == "warm loop" else 1)
        point, band = _figures(row["counter"], known[key], device)
        measured = float(row["bytes"]) / float(row["calls"])
        scored = row["counter"] != "dram_write" or problem.write_bytes > RETAINED_TIMES * device.retained_bytes[1]
        name = row["description"] if row["kernel"] == "gemm" else row["kernel"]
        status = _status(row, kind)
        out.append(Row(row["gpu"], row["mode"], name, kind, row["counter"], measured, point, band, status, scored))
    return out


_NO_TILE = Geometry(0, 0, 0, (), "inferred", "")


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cyclic(working_set: float, passes: int) -> Stream:
    """Return a working set read again and again, each granule in each pass by some multiprocessor."""
    count = int(working_set // GRANULE)
    side = np.random.default_rng(0).integers(0, 2, count * passes, dtype=np.uint8)
    granule = np.tile(np.arange(count, dtype=np.int32), passes)
    moved, sizes = np.full(count * passes, GRANULE, np.int32), np.full(count, GRANULE, np.int32)
    block = np.arange(count * passes, dtype=np.int32)
    operands = (Operand("x", 1, count * 16, 64, 2, 16, 128),)
    return Stream(operands, granule, moved, block, np.zeros(len(block), np.uint8), sizes, side, GRANULE)


def miss_ratio(working_set: float, device: CacheFacts, policy: Policy) -> float:
    """Return the share of the last pass over a cyclically read working set that comes from DRAM."""
    both = [run(cyclic(working_set, passes), simulated(device), policy).read for passes in (SWEEP_PASSES, SWEEP_PASSES - 1)]
    return (both[0] - both[1]) / (working_set // GRANULE * GRANULE)


def _bend(sets: npt.NDArray[np.float64], bandwidth: npt.NDArray[np.float64], plateau: float) -> int:
    """Return the number of the last working set with KNEE_SHARE of the plateau's bandwidth."""
    return int(np.flatnonzero(bandwidth[: len(sets)] >= KNEE_SHARE * plateau).max())


def knees(data: Path = DATA) -> list[Knee]:
    """Return the bend of every sweep beside those of the model.

    Bandwidth of the model: the plateau's, or DRAM's over the miss ratio where that is less, both bandwidths as measured.
    """
    rows = _read(data / SWEEPS)
    return [_knee(gpu, [row for row in rows if row["gpu"] == gpu]) for gpu in dict.fromkeys(row["gpu"] for row in rows)]


def _knee(gpu: str, rows: Sequence[dict[str, str]]) -> Knee:
    device = cache(gpu)
    size = float(device.capacity_bytes)
    sets = np.array([1024 * float(row["working_set_kib"]) for row in rows])
    speed = np.array([float(row["bandwidth_gbps"]) for row in rows])
    plateau = float(np.median(speed[(sets > 10e6) & (sets < 0.6 * size)]))
    dram = float(np.median(speed[(sets > 3 * size) & (sets < 8 * size)]))
    near = (sets > 0.4 * size) & (sets < 2 * size)
    sets, speed = sets[near], speed[near]
    at = _bend(sets, speed, plateau)
    missed = np.clip(dram / speed, 0, 1)
    steep = missed > 1.1 * dram / plateau
    found, steps, errors = {}, {}, {}
    for policy in POLICIES:
        ratio = np.array([miss_ratio(w, device, policy) for w in sets])
        mine = _bend(sets, np.minimum(plateau, dram / np.maximum(ratio, 1e-9)), plateau)
        found[policy] = (float(sets[mine]), float(sets[mine + 1]))
        steps[policy] = mine - at
        errors[policy] = float(np.abs(ratio - missed)[steep].mean())
    return Knee(gpu, (float(sets[at]), float(sets[at + 1])), found, steps, errors)


SHARE_STEP = 0.01
DRAM_SHARE = 0.34
"""Bandwidth of DRAM over that of L2, as in the sweep of the A100: those who published effective capacities give neither."""


def effective(data: Path = DATA) -> list[Effective]:
    """Return the published effective capacities beside the model's knees; GPUs without a sheet are left out."""
    out = []
    for row in _read(data / COUNTERS):
        if row["counter"] != "effective_l2" or row["gpu"] not in SHEETS:
            continue
        nominal = float(re.findall(r"nominal ([\d.]+)", row["source"])[0]) * 1e6
        device = cache(row["gpu"])
        shares = np.arange(0.5, 1.0, SHARE_STEP)
        bends = {}
        for policy in POLICIES:
            ratios = [miss_ratio(share * device.capacity_bytes, device, policy) for share in shares]
            slow = DRAM_SHARE / np.maximum(np.array(ratios), 1e-9) < KNEE_SHARE
            bends[policy] = float(shares[int(np.argmax(slow)) - 1])
        out.append(Effective(row["gpu"], float(row["bytes"]) / nominal, bends))
    return out


def percentile(values: Iterable[float], share: float) -> float:
    """Return the least value that ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def table(rows: Sequence[Row]) -> list[str]:
    """Return the counters as lines of text, MB per launch."""
    head = f"{'GPU':9}{'mode':10}{'kernel':41}{'counter':16}{'measured':>9}{'model':>9}{'low':>9}{'high':>9}{'error':>9}  "
    out = [head + f"{'status':9}in band"]
    for row in rows:
        figures = "".join(f"{value / 1e6:9.2f}" for value in (row.measured, row.point, *row.band))
        ok = "yes" if row.inside else f"no, {row.band_error_pct:+.1f} %"
        note = ok if row.scored else "not scored: output below 4 x retained"
        out.append(
            f"{row.gpu:9}{row.mode:10}{row.kernel[:40]:41}{row.counter:16}{figures}{row.error_pct:+8.1f}%  {row.status:9}{note}"
        )
    return out


def knee_table(found: Sequence[Knee]) -> list[str]:
    """Return the bends of the sweeps as lines of text, MB."""
    out = [f"{'GPU':11}{'measured':>17}{'LRU':>17}{'steps':>6}{'NRU':>17}{'steps':>6}  miss ratio off by (LRU, NRU)"]
    for knee in found:
        parts = [_interval(knee.measured)]
        for policy in POLICIES:
            parts += [_interval(knee.modelled[policy]), f"{knee.steps[policy]:+6d}"]
        out.append(f"{knee.gpu:11}" + "".join(parts) + "  " + ", ".join(f"{knee.miss_error[p]:.3f}" for p in POLICIES))
    return out


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0] / 1e6:.1f} -> {ends[1] / 1e6:.1f}".rjust(17)


def effective_table(found: Sequence[Effective]) -> list[str]:
    """Return the effective capacities as lines of text, in shares of the nominal one."""
    out = [f"{'GPU':16}{'measured':>9}{'LRU':>7}{'NRU':>7}{'error':>8}  status    in band"]
    for one in found:
        low, high = sorted(one.modelled.values())
        inside = "yes" if low - SHARE_STEP <= one.measured <= high + SHARE_STEP else "no"
        error = 100 * (one.modelled["lru"] / one.measured - 1)
        shares = "".join(f"{one.modelled[policy]:7.2f}" for policy in POLICIES)
        out.append(f"{one.gpu:16}{one.measured:9.2f}{shares}{error:+7.1f}%  {HELD_OUT:10}{inside}")
    return out


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the errors by class as lines of text."""
    out = []
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.scored:
            groups.setdefault((row.counter, row.kind, row.mode, row.status), []).append(row)
    for (counter, kind, mode, status), mine in groups.items():
        errors = [abs(row.error_pct) for row in mine]
        inside = sum(row.inside for row in mine)
        out.append(
            f"{counter:15} {kind:11} {mode:9} {status:8} n={len(mine)}  median {median(errors):6.2f} %  "
            f"worst {max(errors):6.2f} %  in band {inside}"
        )
    return out


def widths(rows: Iterable[Row]) -> list[float]:
    """Return high over low of every DRAM figure but writes; infinite where the low end is nothing."""
    dram = (row.band for row in rows if row.counter in ("dram_read", "dram_total"))
    return [high / low if low else math.inf if high else 1.0 for low, high in dram]


def is_one_step(knee: Knee, policy: Policy = "lru") -> bool:
    """Tell whether the modelled bend is at most one step of the sweep's grid from the measured one."""
    return abs(knee.steps[policy]) <= 1


def report(data: Path = DATA) -> str:
    """Return all tables."""
    rows = counter_rows(data)
    wide = sorted(widths(rows))
    parts = [
        ["Counters, MB per launch; model: LRU; band: LRU to NRU and, without a known order, both orders", "", *table(rows)],
        ["By class, errors of the point", "", *summary(rows)],
        [f"Width of the bands of DRAM reads and totals, high over low: median {median(wide):.2f}, widest {wide[-1]:.2f}"],
        ["Bend of a cyclically re-read working set, MB (layout and ways chosen on these; L40 against the L40S's sheet)", "",
         *knee_table(knees(data))],
        ["Effective capacity over nominal capacity, bandwidth of DRAM taken as 0.34 of L2's", "",
         *effective_table(effective(data))],
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access_validation", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"the folder with {COUNTERS} and {SWEEPS}")
    print(report(parser.parse_args(arguments).data))


if __name__ == "__main__":
    main()
