"""What the analysis knows of each launch, as the argument ``analyzer`` of its event, and which event is which launch."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from analyzer.hardware.sheet import GpuSheet
from analyzer.metrics.attribution import counted
from analyzer.metrics.counters.sums import memory_us
from analyzer.metrics.limits import limits_of
from analyzer.metrics.memory import name_bounds
from analyzer.metrics.roofline import add_rates, outrank
from analyzer.report.perfetto.original import RawEvent, fields_of, join, table
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis
from analyzer.trace.ranks import rank_of

KEY = "analyzer"
_KEY = b'"analyzer"'
TEXT_LIMIT = 200
HELPER = "it helps another launch of its operator, which has all of the work"
TEXTS = ("kind", "role", "module", "op", "shapes", "dtype", "bound", "occupancy_limit", "evidence")
FIGURES = (
    "own_us", "floor_us", "floor_pct", "peak_pct", "dram_pct_of_peak", "tflops", "dram_gbps", "flop", "bytes_compulsory",
    "bytes_dram_low", "bytes_dram_high", "bytes_dram_counter", "occupancy_pct", "occupancy_theoretical_pct",
    "occupancy_kineto_pct", "waves", "tail_efficiency_pct", "parts", "bytes_apart",
)  # fmt: skip
"""Figures of a launch, named as in kernels.csv. ``own_us`` is the time of an operator without those inside it (CPU runs);
``floor_us`` the least time that the limits of the device allow, ``floor_pct`` its share of the launch's time: the share of the
roofline. Beside them ``work_of`` names the operator that has the work and the shapes where that is one around ``op``, and
``step`` the step. What is not known is left out, and ``not_available`` says why."""

_PLACES = {"_us": 3, "_pct": 3}
_SAME_START = 4096
"""Launches with the same start that are looked at; no device starts so many in one nanosecond."""

_string = msgspec.json.Decoder(str).decode


def describe(a: Analysis, sheet: GpuSheet | None = None) -> pd.DataFrame:
    """Return the launches of ``a`` with bound, rates and shares of the peaks of each one alone: columns TEXTS and FIGURES.

    The same rules as for a row of kernels.csv, applied to a single launch; ``sheet`` is the user's own datasheet.
    """
    rows, limits = a.launches, limits_of(a.run, a.device, sheet)
    time = rows["dur_ns"] / 1e3
    known = counted(rows)
    alone = rows.assign(time_us=time, calls=1, counted_memory_us=memory_us(rows, limits))
    for column in ("flop", "bytes_compulsory", "floor_us", "floor_compute_us", "floor_memory_us"):
        alone[column] = alone[column].where(known)
    on_gpu = a.device.type == "cuda"
    rates = outrank(add_rates(alone, limits), rows, time, limits)
    floor_pct = 100 * rates["floor_us"] / time.where(time > 0)
    modelled = rows["basis"].eq("formula") | rows["bytes_l2_sm"].notna()
    found = rates.assign(
        bound=name_bounds(alone, on_gpu=on_gpu),
        own_us=np.nan if on_gpu else time,
        dram_gbps=rates["gbps"].where(~rates["from_cache"]),
        # above 100 the bytes came from a cache, or a measured ceiling is too low: no share of a limit
        floor_pct=floor_pct.where(floor_pct <= 100),
        evidence=np.where(modelled, Evidence.MODELLED.value, Evidence.MEASURED.value),
    )
    return found.reindex(columns=list(dict.fromkeys((*rows.columns, *TEXTS, *FIGURES))))


class Findings:
    """What is said of each launch, in the order of ``launches`` (of ``describe``)."""

    def __init__(self, a: Analysis, launches: pd.DataFrame) -> None:
        self._texts = {name: launches[name].fillna("").to_numpy(object) for name in TEXTS}
        self._figures = {name: _rounded(name, launches[name]) for name in FIGURES if launches[name].notna().any()}
        owner = launches["owner_op"]
        self._owners = owner.where(owner.ne(launches["op"]), "").to_numpy(object)
        self._why = launches["unmodelled"].where(launches["basis"].ne("helper"), HELPER).to_numpy(object)
        self._steps = launches["step"].to_numpy(np.int64)
        self._names = [clean(name, TEXT_LIMIT) for name, _, _ in a.steps]
        self._known: dict[str, str] = {}

    def of(self, row: int) -> bytes:
        """Return what is said of launch ``row`` as a JSON object."""
        told: dict[str, Any] = {}
        for name, texts in self._texts.items():
            if texts[row]:
                told[name] = self._clean(texts[row])
        if self._owners[row]:
            told["work_of"] = self._clean(self._owners[row])
        if 0 <= self._steps[row] < len(self._names):
            told["step"] = self._names[self._steps[row]]
        for name, values in self._figures.items():
            value = values[row]
            if not math.isnan(value):
                told[name] = int(value) if value.is_integer() and abs(value) < 1 << 53 else float(value)
        if self._why[row]:
            told["not_available"] = f"flop, bytes_compulsory, floor_us and shares of peaks: {self._clean(self._why[row])}"
        return msgspec.json.encode(told)

    def _clean(self, text: str) -> str:
        if text not in self._known:
            if len(self._known) > 1 << 16:
                self._known.clear()
            self._known[text] = clean(text, TEXT_LIMIT)
        return self._known[text]


def _rounded(name: str, values: pd.Series[float]) -> Any:
    places = next((places for suffix, places in _PLACES.items() if name.endswith(suffix)), None)
    numbers = values.to_numpy(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if name.startswith(("flop", "bytes")):  # what several launches share has fractions
        return np.rint(numbers)
    return np.round(numbers, places if places is not None else 6)


class Matcher:
    """Finds the launch that an event of the file is; each launch is found once.

    On a GPU it is the kernel, copy or fill with the same start, duration and name; on a CPU the operator in the same place of
    the list of operators. ``rank``: the launches are those of one rank alone.
    """

    def __init__(self, launches: pd.DataFrame, *, on_gpu: bool, rank: int | None = None) -> None:
        self._starts = launches["start_ns"].to_numpy(np.int64)
        self._lengths = launches["dur_ns"].to_numpy(np.int64)
        self._names = launches["kernel"].to_numpy(object)
        self._unused = np.ones(len(launches), bool)
        self._on_gpu, self._rank = on_gpu, rank
        places = [] if on_gpu else launches["op_index"].tolist()
        self._rows = {place: row for row, place in enumerate(places)}
        self._seen = 0
        self.found = 0

    def row(self, event: RawEvent) -> int:
        """Return the row of the launch that ``event`` is, -1 for none."""
        if event["ph"] != b'"X"' or "cat" not in event or _table_of(event) != ("device" if self._on_gpu else "op"):
            return -1
        if self._rank is not None and _rank_of(event["pid"]) not in (-1, self._rank):
            return -1
        start = nanoseconds(event["ts"])
        row = self._by_time(start, event) if self._on_gpu else self._by_place(start)
        if row < 0 and self._rank is not None:  # processes without a rank stand between the others
            row = self._by_time(start, event)
        if row >= 0:
            self._unused[row] = False
            self.found += 1
        return row

    def _by_place(self, start: int) -> int:
        row = self._rows.get(self._seen, -1)
        self._seen += 1
        return row if row >= 0 and self._starts[row] == start else -1

    def _by_time(self, start: int, event: RawEvent) -> int:
        name, length = _string(event["name"]), nanoseconds(event["dur"])
        low, high = (int(np.searchsorted(self._starts, start, side)) for side in ("left", "right"))
        rows = [row for row in range(low, min(high, low + _SAME_START)) if self._unused[row] and self._names[row] == name]
        # an operator's own time is shorter than its event
        return next((row for row in rows if not self._on_gpu or self._lengths[row] == length), -1)


def _table_of(event: RawEvent) -> str:
    found = table(event["cat"])
    return table(event["cat"], _string(event["name"])) if found in ("op", "note") else found


@lru_cache(maxsize=4096)
def _rank_of(pid: bytes) -> int:
    return rank_of(_string(pid)) if pid[:1] == b'"' else -1


def nanoseconds(raw: bytes) -> int:
    """Return a time in microseconds, a number as JSON text, as whole nanoseconds, exactly."""
    if raw.isdigit():
        return int(raw) * 1000
    return int((Decimal(raw.decode()) * 1000).to_integral_value())


def annotate(event: RawEvent, told: bytes) -> None:
    """Put ``told`` into the arguments of ``event`` under KEY, in place of what an earlier run of this task has put there."""
    args = event.get("args", b"{}")
    if _KEY in args:
        fields = fields_of(args)
        fields.pop(KEY, None)
        args = join(fields)
    inner = args[1:-1].strip()
    event["args"] = b"{%b%b%b:%b}" % (inner, b"," if inner else b"", _KEY, told)
