"""The kernels of analysed runs that have counters, each beside the parts of its prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzer.hardware.capability import sm_limits
from analyzer.insight.validation.families import UNMODELLED, UNTOLD, WARM, WARM_AS_COLD, family_of
from analyzer.insight.validation.items import SMALL_OUTPUT, Item, Parameters, output_is_small
from analyzer.insight.validation.published import LeftOut
from analyzer.metrics.counters.traps import WORDS
from analyzer.schema.access import CacheFacts
from analyzer.schema.results import Analysis

NO_GEOMETRY = "no access model of these kernels"
NO_CACHE = "no model of the cache of this GPU, or the launch is too large for it"
NOT_SPLIT = "the work model does not tell what is read from what is written"
NO_OCCUPANCY = "the trace lacks registers or launch shape, or the GPU's limits are not known"
NOT_COUNTED = "not among the counters of this run"
NO_WORK = "no work model of these kernels"
IMPLIED = (
    "implied by tensor-pipe use, clock and duration of the counter pass: an upper end, since the pipe is not always full while "
    "it is active"
)

_KEYS = [
    "kernel", "grid", "block", "op", "shapes", "dtype", "access_pattern", "access_orders", "geometry_confidence", "unit",
    "number_format", "unmodelled",
]  # fmt: skip
_COUNTERS = {
    "l2_sm_bytes": "bytes_l2_sm_counter", "sm_l2_bytes": "bytes_sm_l2_counter", "dram_read_bytes": "bytes_dram_read_counter",
    "dram_write_bytes": "bytes_dram_write_counter", "dram_bytes": "bytes_dram_counter",
    "occupancy_theoretical_pct": "occupancy_ncu_pct", "occupancy_pct": "occupancy_achieved_pct", "flop": "flop_tensor_counter",
}  # fmt: skip
"""The counted column that each quantity is held against."""
_DRAM = ("dram_read_bytes", "dram_write_bytes", "dram_bytes")
_MEANS = [
    *_COUNTERS.values(), "bytes_l2_sm", "bytes_l2_read", "bytes_dram_low", "bytes_dram_read", "bytes_dram_read_low",
    "bytes_dram_read_high", "occupancy_theoretical_pct", "occupancy_pct", "flop", "tensor_active_pct", "counter_us",
    "counter_clock_mhz", "before", "found",
]  # fmt: skip


def run_items(a: Analysis, name: str) -> tuple[list[Item], list[LeftOut]]:
    """Return each counted quantity of each distinct kernel of ``a``, and what has no prediction; ``name`` is that of the run.

    Kernels are one where name, grid, block, operator, shapes and element type agree; their figures are means per launch.
    """
    view = a.counters
    if view is None or view.refused:
        return [], []
    cache = a.access.own if a.access else None
    rows = _prepared(a.launches, cache)
    counted = rows[[*_COUNTERS.values(), "tensor_active_pct"]].notna().any(axis=1)
    total = float(rows["dur_ns"].sum()) or math.nan
    items: list[Item] = []
    left: list[LeftOut] = []
    columns = ["n", "time_ns", *_MEANS]
    for key, figures in _groups(rows[counted]):
        kernel = _Kernel(a, name, dict(zip(_KEYS, key, strict=True)), dict(zip(columns, figures, strict=True)), cache, total)
        for one in kernel.all():
            if isinstance(one, Item):
                items.append(one)
            else:
                left.append(one)
    told = dict(view.missing)
    for quantity, column in _COUNTERS.items():
        if not rows[column].notna().any():
            left.append(LeftOut("", quantity, told.get(WORDS[column]) or NOT_COUNTED, 0))
    return items, left


def _prepared(launches: pd.DataFrame, cache: CacheFacts | None) -> pd.DataFrame:
    """Return the kernels with ``before``, what the kernel before wrote, and ``found``, what of that this one may find in L2."""
    rows = launches[launches["category"].eq("kernel")].sort_values("start_ns", kind="stable")
    written = (rows["bytes_l2_sm"] - rows["bytes_l2_read"]).fillna(0.0).to_numpy(np.float64)
    before = np.concatenate([[0.0], written[:-1]]) if len(written) else written
    capacity = float(cache.capacity_bytes) if cache else 0.0
    found = np.minimum(np.minimum(before, capacity), rows["bytes_dram_read_low"].fillna(0.0).to_numpy(np.float64))
    return rows.assign(before=before, found=found)


def _groups(rows: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    if not len(rows):
        return
    told = rows.assign(**{key: rows[key].astype(object).where(rows[key].notna(), "") for key in _KEYS})
    grouped = told.groupby(_KEYS, sort=False, observed=True)
    table = pd.concat([grouped.size(), grouped["dur_ns"].sum(), grouped[_MEANS].mean()], axis=1)
    for key, *figures in table.itertuples(name=None):
        yield key, tuple(figures)


@dataclass(frozen=True, slots=True, eq=False)
class _Kernel:
    """One distinct kernel of a run: ``is_`` what tells it apart, ``has`` its means per launch; ``total`` kernel time in ns."""

    a: Analysis
    run: str
    is_: dict[str, Any]
    has: dict[str, float]
    cache: CacheFacts | None
    total: float

    @property
    def family(self) -> str:
        """Return its class."""
        told = self.is_
        return family_of(told["access_pattern"], float(told["access_orders"] or 1), told["geometry_confidence"])

    @property
    def written(self) -> float:
        """Return the modelled bytes of its output."""
        return self.has["bytes_l2_sm"] - self.has["bytes_l2_read"]

    @property
    def shipped(self) -> Parameters:
        """Return the parameters of the model of its GPU's cache."""
        cache = self.cache
        return Parameters(cache.read_overhead, cache.retained_bytes[1]) if cache else Parameters(1.0, 0.0)

    def all(self) -> Iterator[Item | LeftOut]:
        """Yield every quantity that was counted, with its prediction or the reason why there is none."""
        for quantity in _COUNTERS:
            measured = self.has[_COUNTERS[quantity]]
            if not math.isfinite(measured):
                if quantity == "flop":
                    yield from self._implied()
                continue
            made = {"flop": self._flop}.get(quantity, self._occupancy if quantity.startswith("occupancy") else self._bytes)
            yield from made(quantity, measured)

    def _bytes(self, quantity: str, measured: float) -> Iterator[Item | LeftOut]:
        why = self._no_bytes(quantity)
        if why:
            yield LeftOut(self.family, quantity, why)
        elif quantity not in _DRAM:
            size = self.has["bytes_l2_read"] if quantity == "l2_sm_bytes" else self.written
            yield self._item(quantity, measured, fixed=(size, size, size))
        else:
            yield from self._dram(quantity, measured)

    def _no_bytes(self, quantity: str) -> str:
        if self.family == UNMODELLED or not math.isfinite(self.has["bytes_l2_sm"]):
            return self.is_["unmodelled"] or NO_GEOMETRY
        if quantity in _DRAM and not math.isfinite(self.has["bytes_dram_read"]):
            return NO_CACHE
        # the bytes of such a pass come from a sum over its operands
        guessed = self.is_["geometry_confidence"] == "assumed" and self.written == 0
        return NOT_SPLIT if guessed and quantity != "dram_bytes" else ""

    def _dram(self, quantity: str, measured: float) -> Iterator[Item]:
        names = ("bytes_dram_read", "bytes_dram_read_low", "bytes_dram_read_high")
        overhead = self.shipped.read_overhead or 1.0
        point, low, high = (self.has[name] / overhead for name in names)
        written_low = self.has["bytes_dram_low"] - self.has["bytes_dram_read_low"]
        retained = self.shipped.retained_bytes
        # several launches of one operator share its bytes, and so what the cache may hold back of them
        part = min((self.written - written_low) / retained, 1.0) if retained > 0 and written_low > 0 else 1.0
        small = quantity == "dram_write_bytes" and output_is_small(self.written / (part or 1.0), self.shipped)
        parts: dict[str, Any] = {
            "missed": (point, low, high), "written": self.written, "part": part or 1.0,
            "unscored": SMALL_OUTPUT if small else "",
        }  # fmt: skip
        mode = (self.a.counters.mode if self.a.counters else "") or UNTOLD
        if mode == WARM:
            yield self._item(quantity, measured, mode=WARM, found=self.has["found"], before=self.has["before"], **parts)
            mode = WARM_AS_COLD
        yield self._item(quantity, measured, mode=mode, **parts)

    def _occupancy(self, quantity: str, measured: float) -> Iterator[Item | LeftOut]:
        value = self.has[quantity]
        if not math.isfinite(value):
            yield LeftOut(self.family, quantity, NO_OCCUPANCY)
        else:
            yield self._item(quantity, measured, fixed=(value, value, value))

    def _flop(self, quantity: str, measured: float, unscored: str = "") -> Iterator[Item | LeftOut]:
        if self.is_["unit"] != "matrix":  # counters say 0 there, which is no prediction of anybody's
            return
        value = self.has["flop"]
        if math.isfinite(value) and value > 0:
            yield self._item(quantity, measured, fixed=(value, value, value), unscored=unscored)
        else:
            yield LeftOut(self.family, quantity, self.is_["unmodelled"] or NO_WORK)

    def _implied(self) -> Iterator[Item | LeftOut]:
        """Yield the FLOP that the use of the tensor pipe implies, where clock and duration of the same pass are known.

        Approximation: a tensor pipe that is active does its full dense rate, and every multiprocessor is active all the time.
        """
        limits, sms = sm_limits(self.a.device.compute_capability), self.a.device.sm_count
        rate = {"float16": 1.0, "bfloat16": 1.0, "tfloat32": 0.5}.get(self.is_["number_format"], 0.0)
        per_clock = (limits.tensor_flop_per_clock or 0) if limits else 0
        cycles = self.has["counter_us"] * self.has["counter_clock_mhz"]
        value = self.has["tensor_active_pct"] / 100 * cycles * per_clock * rate * (sms or 0)
        if self.is_["unit"] == "matrix" and math.isfinite(value) and value > 0:
            yield from self._flop("flop", value, IMPLIED)

    def _item(self, quantity: str, measured: float, *, mode: str = "", **parts: Any) -> Item:
        told = self.a.counters.mode if self.a.counters else ""
        problem = "\x1f".join(str(self.is_[key]) for key in _KEYS[1:])
        return Item(
            run=self.run, gpu=self.cache.name if self.cache else self.a.device.name,
            family=self.family, kernel=self.is_["kernel"], op=self.is_["op"], shapes=self.is_["shapes"], problem=problem,
            mode=mode or told or UNTOLD, quantity=quantity, measured=measured, shipped=self.shipped, calls=float(self.has["n"]),
            share_pct=100 * self.has["time_ns"] / self.total, **parts,
        )  # fmt: skip
