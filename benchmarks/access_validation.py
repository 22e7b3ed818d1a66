"""Holds the access model against what others measured: hardware counters, and sweeps of a re-read working set.

Prints one table. Every figure of the model is that of strict recency (LRU), in the order of blocks that the row gives; the band
reaches to one reference bit (NRU), and over the plausible orders where a row gives none. No figure is chosen row by row.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from analyzer.access import closed
from analyzer.access.caches import simulated
from analyzer.access.geometry import geometry_of
from analyzer.access.kernel import POLICIES, written_band
from analyzer.access.l2 import Moved, Policy, run
from analyzer.access.problem import Attention, Pass, Problem, Product
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.stream import Stream
from analyzer.access.tiling import Geometry, Raster
from analyzer.schema.access import CacheFacts
from benchmarks.access_sweeps import (
    COUNTERS,
    DATA,
    HELD_OUT,
    SWEEPS,
    cache,
    effective,
    effective_table,
    knee_table,
    knees,
    read_rows,
)

FITTED = "fitted"
"""Of a row on which a parameter was fitted; all others are HELD_OUT."""

WARM_PASSES = 4
RETAINED_TIMES = 4
"""DRAM writes are scored where the output is more than this many times what the cache may hold back."""
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
    for row in read_rows(data / COUNTERS):
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
