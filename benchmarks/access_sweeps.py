"""Holds the L2 of the access model against bandwidth sweeps of a cyclically re-read working set, and published capacities."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analyzer.access.caches import cache_of, simulated
from analyzer.access.kernel import POLICIES
from analyzer.access.l2 import Policy, run
from analyzer.access.streams.stream import Operand, Stream
from analyzer.hardware.lookup import sheet_of
from analyzer.schema.access import CacheFacts
from analyzer.schema.validation import HELD_OUT

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNTERS, SWEEPS = "counters_public.csv", "l2_sweeps.csv"

SHEETS = {
    "RTX 4090": "rtx_4090", "H100 SXM": "h100_sxm5_80gb", "A100 SXM4 40GB": "a100_sxm4_40gb", "B200": "b200",
    "A100 80GB": "a100_sxm4_80gb", "H100 PCIe": "h100_pcie", "H200": "h200_sxm", "L40": "l40s",
}  # fmt: skip
"""Sheets of the GPUs measured. No sheet is of an L40: the L40S has the same chip and the same 96 MiB."""

KNEE_SHARE = 0.95
GRANULE = 2048
SWEEP_PASSES = 5


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
    found = cache_of(sheet_of(SHEETS[gpu]))
    if isinstance(found, str):
        raise TypeError(f"{gpu}: {found}")
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of the data."""
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
    rows = read_rows(data / SWEEPS)
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
    for row in read_rows(data / COUNTERS):
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


def is_one_step(knee: Knee, policy: Policy = "lru") -> bool:
    """Tell whether the modelled bend is at most one step of the sweep's grid from the measured one."""
    return abs(knee.steps[policy]) <= 1
