"""Columns of a trace's tables, filled piece by piece: numbers as arrays, repeated text once, no objects kept per event.

A second process fills columns as well (see ``worker``), so this module keeps away from pandas, whose import takes longer than
most files.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from analyzer.trace.damage import Damage
from analyzer.trace.event_args import CallArgs, DeviceArgs, MemoryArgs, OpArgs, decode, external_ids
from analyzer.trace.events import EXACT_US, MALFORMED, Event
from analyzer.trace.frames import MAX_FRAMES, MAX_STACK_BYTES, MODULE_FRAME, NO_STACK, stack_frames, trim, trim_stack
from analyzer.trace.spans import Int64

Chunk = tuple[int, npt.NDArray[Any]]
"""The number of a piece and the values of one column in it."""

MAX_TIME_US = 4e15
"""Microseconds from 1970 to 2096: later times, and longer durations, are damage."""

MAX_DURATION_US = 1e12
"""Eleven days: longer durations are damage, since no profiler records that long."""

MAX_SUM_NS = 1 << 61
"""Durations of one table may add up to 73 years; what would exceed that is damage, since 64 bits could not hold the sum."""

MAX_TEXT_BYTES = 128 << 20
"""Memory for the different names and other texts of a file, in each process that reads it; texts beyond it are left out."""

_MEMORY = "[memory]"
"""Name of the instant events of the allocator, which have no category in old traces."""
_MAX_BYTES = 1 << 52
"""No machine holds more, and a double still tells single bytes apart."""
_OLD_ANNOTATIONS = ("ProfilerStep#", "Optimizer.", "enumerate(DataLoader)")
"""Annotations that Kineto filed under operators until it had a category of their own (2021)."""

_MAX_METRICS = 256

_CATEGORIES = {
    "kernel": "device",
    "gpu_memcpy": "device",
    "memcpy": "device",
    "gpu_memset": "device",
    "memset": "device",
    "mtia_ccp_events": "device",  # what Kineto's newer versions call kernel on MTIA
    "cpu_op": "op",
    "operator": "old op",
    "user_annotation": "note",
    "python_function": "frame",
    "cuda_profiler_range": "range",
}
_RUNTIME = re.compile(r"((cuda|hip|xpu|mtia|privateuse1|mlu|musa|gcu)_)?(runtime|driver)")


class InexactTimesError(Exception):
    """Times so far from zero that doubles round nanoseconds: the file has to be read again with times as decimals."""


class _Tables(dict[str, str]):
    """The table that the events of a category belong to, nothing for those that no table holds."""

    def __missing__(self, category: str) -> str:
        low = category.lower()
        found = self[category] = "call" if _RUNTIME.fullmatch(low) else _CATEGORIES.get(low, "")
        return found


def table_of(category: str, name: str = "") -> str:
    """Return the table that a complete event belongs to (``device``, ``op``, ``call``, ``note`` ...), empty for none."""
    found = _Tables()[category]
    return found if found != "old op" else "note" if name.startswith(_OLD_ANNOTATIONS) else "op"


class _Budget:
    """What is left of the memory for text, and how often a text was left out since there was none."""

    def __init__(self, left: int) -> None:
        self.left, self.refused = left, 0


class _Codes(dict[Any, int]):
    """A number for each distinct value, counted from 0 in order of appearance; one that is too much counts as None."""

    def __init__(self, budget: _Budget) -> None:
        super().__init__()
        self._budget = budget

    def __missing__(self, value: Any) -> int:
        size = sys.getsizeof(value) + (sum(map(sys.getsizeof, value)) if isinstance(value, tuple) else 0)
        if value is not None and size > self._budget.left:
            self._budget.refused += 1
            return self[None]
        self._budget.left -= size
        return self.take(value)

    def take(self, value: Any) -> int:
        """Return the number of ``value``, whatever memory it needs."""
        return self.setdefault(value, len(self))


class _Threads(dict[Any, int]):
    """A number for each thread, from its (pid, tid); digits count as the number that they spell."""

    def __missing__(self, pair: tuple[int | str, int | str]) -> int:
        plain = tuple(int(x) if isinstance(x, str) and x.isascii() and x.isdigit() and len(x) < 19 else x for x in pair)
        code = self[pair] = self[plain] if plain != pair else len(self.processes)
        if plain == pair:
            self.processes.append(pair[0])
        return code

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[int | str] = []

    def pairs(self) -> list[tuple[int | str, int | str]]:
        """Return one (pid, tid) of each thread, in the order of their numbers."""
        first = {code: pair for pair, code in reversed(self.items())}
        return [first[code] for code in range(len(self.processes))]


class Columns:
    """The tables of one trace in the making."""

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._tables = _Tables()
        self._threads = _Threads()
        self._codes: dict[str, _Codes] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._budget, self._stack_budget = _Budget(MAX_TEXT_BYTES), _Budget(MAX_STACK_BYTES)
        self._frames = 0
        self._metrics: list[tuple[int, int, dict[str, npt.NDArray[np.float64]]]] = []
        self._metric_names: set[str] = set()
        self._sums: dict[str, float] = {}
        self._piece = 0
        self.events = 0

    def add(self, events: list[Event], piece: int = 0) -> None:
        """Take what is wanted of ``events``, the piece of that number in the order of the file.

        Raises:
            InexactTimesError: times are too far from zero for doubles.
        """
        self._piece = piece
        self.events += len(events)
        of = self._tables
        found: dict[str, list[Event]] = {"device": [], "op": [], "call": [], "note": [], "frame": [], "range": [], "old op": []}
        memory: list[Event] = []
        for event in events:
            if event.ph == "X":
                if table := of[event.cat]:
                    found[table].append(event)
            elif event.name == _MEMORY:
                memory.append(event)
        for event in found.pop("old op"):
            found["note" if event.name.startswith(_OLD_ANNOTATIONS) else "op"].append(event)
        found["stack"] = self._stack_frames(found["frame"])
        found["frame"] = [event for event in found["frame"] if event.name.startswith(MODULE_FRAME)]
        for table, fill in self._FILL.items():
            if found[table]:
                kept = self._add_spans(table, found[table])
                fill(self, table, kept)
        if memory:
            self._add_memory(memory)

    def _stack_frames(self, events: list[Event]) -> list[Event]:
        """Return the frames that are kept for call stacks."""
        kept = stack_frames(events)
        left = MAX_FRAMES - self._frames
        self._damage.add("frames", max(len(kept) - left, 0))
        self._frames += min(len(kept), left)
        return kept[:left]

    def _add_spans(self, table: str, events: list[Event]) -> list[Event]:
        """Add name, thread, start and end of ``events``; return those whose times are times."""
        start, damaged = nanoseconds([e.ts for e in events])
        length, impossible = nanoseconds([0 if e.dur is None else e.dur for e in events])
        damaged |= impossible | (np.abs(length) > MAX_DURATION_US * 1000)
        sums = self._sums.get(table, 0.0) + np.cumsum(np.where(damaged, 0, length), dtype=np.float64)
        self._sums[table] = float(sums[-1])
        damaged |= sums > MAX_SUM_NS
        if damaged.any():
            self._damage.add("time", int(damaged.sum()))
            events = [e for e, bad in zip(events, damaged.tolist(), strict=True) if not bad]
            start, length = start[~damaged], length[~damaged]
        missing = np.fromiter((e.dur is None for e in events), bool, len(events))
        for what, wrong in (("no_duration", missing), ("negative", length < 0)):
            if wrong.any():
                on_device = events[int(np.argmax(wrong))].name if table == "device" else None
                self._damage.add(what, int(wrong.sum()), on_device)
        self._put(table, "start_ns", start)
        self._put(table, "end_ns", start + np.maximum(length, 0))
        self._put_text(table, "name", [trim(e.name) for e in events] if table == "stack" else [e.name for e in events])
        threads = self._threads
        self._put(table, "thread", np.array([threads[e.pid, e.tid] for e in events], np.int64))
        return events

    def _add_device(self, table: str, events: list[Event]) -> None:
        args = decode(events, DeviceArgs, self._damage)
        self._put_text(table, "category", [_category(e.cat) for e in events])
        for column in ("device", "stream", "correlation"):
            self._put(table, column, self._ints([getattr(a, column) for a in args]))
        self._put(table, "external_id", self._ints(external_ids(args)))
        for column in ("graph_id", "graph_node"):
            self._put(table, column, self._ints([getattr(a, column) for a in args]))
        for column in ("grid", "block"):
            self._put_text(table, column, [getattr(a, column) for a in args])
        occupancy = [a.occupancy if a.occupancy is not None else a.occupancy_old for a in args]
        self._put(table, "occupancy_kineto_pct", np.array(occupancy, np.float64))
        for column in ("registers", "shared_bytes", "copy_bytes"):
            self._put(table, column, np.array([getattr(a, column) for a in args], np.float64))

    def _add_ops(self, table: str, events: list[Event]) -> None:
        args = decode(events, OpArgs, self._damage)
        self._put(table, "external_id", self._ints(external_ids(args)))
        self._put(table, "sequence", self._ints([a.sequence for a in args]))
        self._put(table, "forward_thread", self._ints([a.forward_thread for a in args]))
        self._put_text(table, "dims", [bytes(a.dims or a.dims_old) for a in args])
        for column in ("types", "strides", "concrete"):
            self._put_text(table, column, [bytes(getattr(a, column)) for a in args])
        self._put_text(table, "stack", [trim_stack(bytes(a.stack)) if a.stack else NO_STACK for a in args])

    def _add_calls(self, table: str, events: list[Event]) -> None:
        self._put(table, "correlation", self._ints([a.correlation for a in decode(events, CallArgs, self._damage)]))

    def _add_ranges(self, table: str, events: list[Event]) -> None:
        counted: dict[str, npt.NDArray[np.float64]] = {}
        for row, event in enumerate(events):
            try:
                found = msgspec.json.decode(event.args, type=dict[str, msgspec.Raw])
            except MALFORMED:
                self._damage.add("arguments")
                continue
            for name, raw in found.items():
                # a file may have _MAX_METRICS names, since each is a column
                if "__" in name and (name in self._metric_names or len(self._metric_names) < _MAX_METRICS):
                    with contextlib.suppress(*MALFORMED):
                        value = msgspec.json.decode(raw, type=float)
                        self._metric_names.add(name)
                        if name not in counted:
                            counted[name] = np.full(len(events), np.nan)
                        counted[name][row] = value
        self._metrics.append((self._piece, len(events), counted))

    def _add_memory(self, events: list[Event]) -> None:
        """Add the allocator's events, but for those that tell no size or no time."""
        time, damaged = nanoseconds([e.ts for e in events])
        self._damage.add("time", int(damaged.sum()))
        known = self._damage.counts["arguments"]
        args = decode(events, MemoryArgs, self._damage)
        sized = np.array([a.bytes is not None and -_MAX_BYTES < a.bytes < _MAX_BYTES for a in args], bool)
        told = self._damage.counts["arguments"] - known  # what could not be decoded counts once
        self._damage.add("arguments", max(int((~sized & ~damaged).sum()) - told, 0))
        kept = np.flatnonzero(sized & ~damaged).tolist()
        threads, args = [self._threads[events[i].pid, events[i].tid] for i in kept], [args[i] for i in kept]
        self._put("memory", "time_ns", time[kept])
        self._put("memory", "thread", np.array(threads, np.int64))
        for column in ("bytes", "address", "device_type", "device"):
            self._put("memory", column, self._ints([getattr(a, column) for a in args]))
        for column in ("allocated", "reserved"):
            self._put("memory", f"{column}_bytes", self._totals([getattr(a, column) for a in args]))

    def _totals(self, values: Sequence[int | None]) -> npt.NDArray[np.float64]:
        """Return the totals of an allocator, NaN for those that are missing or that none can have."""
        wrong = [value is not None and not 0 <= value < _MAX_BYTES for value in values]
        self._damage.add("arguments", sum(wrong))
        return np.array([np.nan if v is None or bad else v for v, bad in zip(values, wrong, strict=True)], np.float64)

    def _add_nothing(self, table: str, events: list[Event]) -> None:
        """Spans have no more than their span."""

    _FILL: ClassVar[dict[str, Callable[[Columns, str, list[Event]], None]]] = {
        "device": _add_device,
        "op": _add_ops,
        "call": _add_calls,
        "note": _add_nothing,
        "frame": _add_nothing,
        "stack": _add_nothing,
        "range": _add_ranges,
    }

    def _ints(self, values: Sequence[int | None]) -> Int64:
        """Return the values as int64, -1 for those that are missing or too large to be an id."""
        try:
            return np.array([-1 if value is None else value for value in values], np.int64)
        except OverflowError:
            large = [value is not None and not -(1 << 63) <= value < 1 << 63 for value in values]
            self._damage.add("arguments", sum(large))
            return np.array([-1 if value is None or bad else value for value, bad in zip(values, large, strict=True)], np.int64)

    def _put(self, table: str, column: str, values: npt.NDArray[Any]) -> None:
        self._chunks.setdefault(f"{table}.{column}", []).append((self._piece, values))

    def _put_text(self, table: str, column: str, values: Sequence[Any]) -> None:
        budget = self._stack_budget if "stack" in (table, column) else self._budget
        codes = self._codes.setdefault(f"{table}.{column}", _Codes(budget))
        refused = budget.refused
        self._put(table, column, np.array([codes[value] for value in values], np.int32))
        self._damage.add("text", budget.refused - refused)

    def numbers(self, column: str) -> npt.NDArray[Any] | None:
        """Return the values of ``column``, named ``table.column``, in the order of the file; None where there is no row."""
        chunks = self._chunks.get(column)
        return np.concatenate([values for _, values in sorted(chunks, key=itemgetter(0))]) if chunks else None

    def texts(self, column: str) -> list[str]:
        """Return the texts that the numbers of a text column stand for."""
        return [_spell(value) for value in self._codes.get(column, ())]

    def metrics(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return what the counter ranges counted, an array per metric in the order of the file, NaN where one has it not."""
        pieces = sorted(self._metrics, key=itemgetter(0))
        found = {
            # each piece gives up what is joined, so that memory holds it once
            name: np.concatenate([c.pop(name) if name in c else np.full(count, np.nan) for _, count, c in pieces])
            for name in list(dict.fromkeys(name for _, _, counted in pieces for name in counted))
        }
        self._metrics = [(0, sum(count for _, count, _ in pieces), dict(found))]
        return found

    def merge(self, other: Columns) -> None:
        """Take what ``other`` has taken of the same file; its damage counts as found here."""
        threads = np.array([self._threads[pair] for pair in other._threads.pairs()], np.int64)
        for key, found in other._chunks.items():
            numbers = threads if key.endswith(".thread") else None
            if key in other._codes:
                known = self._codes.setdefault(key, _Codes(self._budget))
                numbers = np.array([known.take(value) for value in other._codes[key]], np.int32)
            renamed = found if numbers is None else [(piece, numbers[values]) for piece, values in found]
            self._chunks.setdefault(key, []).extend(renamed)
        self._metrics.extend(other._metrics)
        self.events += other.events
        self._damage.take(other._damage)

    def thread(self, event: Event) -> int:
        """Return the number of the thread (or stream) of ``event``."""
        return self._threads[event.pid, event.tid]

    def processes(self) -> list[int | str]:
        """Return the process (pid, as the trace has it) of each thread code."""
        return self._threads.processes


def _category(cat: str) -> str:
    low = cat.lower()
    return "memcpy" if low.endswith("memcpy") else "memset" if low.endswith("memset") else "kernel"


def _spell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) if value is not None else ""


def nanoseconds(values: Sequence[int | float | Decimal | None]) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Return times given in microseconds as whole nanoseconds, exactly, and which of them are no times."""
    given = np.array(values)
    if given.dtype.kind == "i":
        bad = (given >= MAX_TIME_US) | (given <= -MAX_TIME_US)  # the least int64 has no absolute value
        return np.where(bad, 0, given) * 1000, bad
    if given.dtype.kind == "f":
        if not (np.abs(given) < EXACT_US).all():
            raise InexactTimesError
        whole = np.floor(given)
        # the fraction of a double is exact, so only it is rounded
        return whole.astype(np.int64) * 1000 + np.rint((given - whole) * 1000).astype(np.int64), np.zeros(len(given), bool)
    plain = [_exact_ns(value) for value in values]
    return np.array([p or 0 for p in plain], np.int64), np.array([p is None for p in plain])


def _exact_ns(value: int | float | Decimal | None) -> int | None:
    if value is None or (isinstance(value, Decimal) and not value.is_finite()) or not -MAX_TIME_US < value < MAX_TIME_US:
        return None
    if isinstance(value, float) and abs(value) >= EXACT_US:
        raise InexactTimesError
    return value * 1000 if isinstance(value, int) else int((Decimal(value) * 1000).to_integral_value())
