"""The copy of a trace that TensorBoard's profiler plugin can read, written event by event in bounded memory.

torch-tb-profiler 0.4.3 (October 2023, frozen upstream) expects what Kineto wrote in 2021:

- A launch has the category ``runtime``. Kineto renamed it to ``cuda_runtime`` and ``cuda_driver``.
- A launch has the ``External id`` of the operator that made it. From 2022 to 2023 Kineto wrote its correlation id there, so
  that operators get the kernels of others or none.
- ``ProfilerStep#3`` stands once, on the host. Kineto repeats annotations on the device, which the plugin counts as more steps.
- Waiting for data is an operator. Kineto files it under annotations, which the plugin leaves out.
- Spans of a thread nest exactly, and times are small enough that a double tells nanoseconds apart.

So categories and ids are written anew from the links that the analyzer found, and times count from the first event. Kernels of
a CUDA graph get no operator: the one around the launch of the graph is not theirs.
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analyzer.report.tensorboard import arguments
from analyzer.report.tensorboard.rows import WAITING, Rows
from analyzer.report.text import visible
from analyzer.trace.columns import nanoseconds
from analyzer.trace.damage import Damage
from analyzer.trace.document import Document
from analyzer.trace.events import MALFORMED, Event
from analyzer.trace.kineto import Trace
from analyzer.trace.source import MAX_EXPANSION, read_blocks

_ON_DEVICE = {"kernel": "kernel", "memcpy": "gpu_memcpy", "memset": "gpu_memset"}
_STACK, _REPEATED, _MEMORY = "python_function", "gpu_user_annotation", "[memory]"
_PLAIN = {_REPEATED: "gpu_annotation", "cuda_sync": "cuda_sync", "overhead": "overhead"}
"""Spans that are kept for the timeline alone: the plugin takes them for nothing."""
_WHOLE = "PyTorch Profiler (0)"
"""The span of the whole recording, over which the plugin draws the utilisation of the GPU."""
_ARROWS = frozenset(("ac2g", "async", "async_cpu_to_gpu", "async_gpu", "fwdbwd", "forward_backward"))
_FIRST_MADE = 1 << 31
"""Numbers from here on are given to processes and threads that have none of their own."""
_HOST, _ALL = "host", "ProfilerStep#0"


def copy_trace(trace: Trace, target: Path, *, stacks: bool = True, max_expansion: float = MAX_EXPANSION) -> int:
    """Write the copy of ``trace`` to ``target`` and return its size unpacked, in bytes.

    ``stacks``: with the Python functions of the trace, which the plugin's module view is made of.

    Raises:
        TraceError: the file cannot be read any more.
    """
    damage = Damage()
    blocks = read_blocks(trace.path, damage, max_expansion)
    document = Document(trace.path, blocks, frozenset(key for key, _ in _TOP), damage, exact=True)
    copy = _Copy(Rows.of(trace), stacks=stacks)
    with tempfile.TemporaryFile(dir=target.parent) as part:
        for _, events in document.pieces():
            part.write(b"".join(b",\n" + msgspec.json.encode(found) for found in copy.rewritten(events)))
        part.write(b"".join(b",\n" + msgspec.json.encode(found) for found in copy.labels()))
        length = part.tell()
        part.seek(0)
        # the events go last and in one piece: the plugin adds its own before the last bracket of the text, and hands the
        # packed file of a CPU run to the browser as it is
        top = _sound(document.values) | {"baseTimeNanoseconds": trace.base_unix_ns + copy.origin_ns}
        head = msgspec.json.encode(top)[:-1] + b',"traceEvents":[' + msgspec.json.encode(copy.head())
        with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=1) as file:
            file.write(head)
            shutil.copyfileobj(part, file, 1 << 20)
            file.write(b"]}")
    return len(head) + length + 2


class _Device(msgspec.Struct, omit_defaults=True, rename={"name_": "name"}):
    """What the plugin shows of a GPU."""

    id: int = -1
    name_: str = ""
    totalGlobalMem: int | None = None  # noqa: N815
    computeMajor: int | None = None  # noqa: N815
    computeMinor: int | None = None  # noqa: N815
    numSms: int | None = None  # noqa: N815


class _Distributed(msgspec.Struct, omit_defaults=True):
    rank: int | None = None
    world_size: int | None = None


_TOP: tuple[tuple[str, Any], ...] = (
    ("schemaVersion", int),
    ("deviceProperties", list[_Device]),
    ("distributedInfo", _Distributed),
)


def _sound(values: dict[str, bytes]) -> dict[str, Any]:
    """Return what the plugin reads beside the events, where it has the types that the plugin takes for granted."""
    kept = {}
    for key, kind in _TOP:
        with contextlib.suppress(KeyError, *MALFORMED):
            kept[key] = msgspec.json.decode(values[key], type=kind)
    return kept


class _Copy:
    """Rewrites the events of one file in its order."""

    def __init__(self, rows: Rows, *, stacks: bool) -> None:
        self._rows, self._stacks = rows, stacks
        self.origin_ns = rows.first_ns
        self._processes: dict[str, int] = {}
        self._threads: dict[tuple[int | str, int | str], int] = {}
        self._taken: set[int] = set()
        self._devices: set[int] = set()

    def head(self) -> dict[str, Any]:
        """Return the first event: a note on the copy, or one step over all of a trace that has nothing on the host.

        Without anything on the host the plugin counts its only step from the end of all time to its beginning.
        """
        span = {"pid": 0, "tid": 0, "ts": 0, "args": {}}
        if self._rows.has_host:
            return span | {"ph": "i", "s": "g", "cat": "analyzer", "name": "copy for TensorBoard, ids and categories rewritten"}
        length = _microseconds(self._rows.last_ns - self.origin_ns)
        return span | {"ph": "X", "cat": "user_annotation", "name": _ALL, "dur": length}

    def labels(self) -> Iterator[dict[str, Any]]:
        """Yield the names of processes, as the timeline shows them."""
        hosts = {self._process(pid) for pid, _ in self._threads} - self._devices
        for pid, name in [*((pid, _HOST) for pid in sorted(hosts)), *((pid, f"GPU {pid}") for pid in sorted(self._devices))]:
            yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}

    def rewritten(self, events: list[Event]) -> Iterator[dict[str, Any]]:
        """Yield the events that are kept, as the plugin wants them."""
        start, bad = nanoseconds([event.ts for event in events])
        length, wrong = nanoseconds([0 if event.dur is None else event.dur for event in events])
        end = start + np.maximum(length, 0)
        for event, begin, stop, untimed in zip(events, start.tolist(), end.tolist(), (bad | wrong).tolist(), strict=True):
            if not untimed:
                found = self._span(event, begin, stop) if event.ph == "X" else self._moment(event, begin)
                if found is not None:
                    yield found

    def _moment(self, event: Event, at: int) -> dict[str, Any] | None:
        """Return an event of the allocator or one end of an arrow; None for others."""
        if event.name == _MEMORY:
            shown = self._placed(event, at, event.cat, _MEMORY, arguments.kept(event, arguments.MEMORY))
            return shown | {"ph": "i", "s": "t"}
        if event.ph in ("s", "f") and event.id and event.cat in _ARROWS:
            shown = self._placed(event, at, event.cat, event.cat, {})
            return shown | {"ph": event.ph, "id": event.id} | ({"bp": "e"} if event.ph == "f" else {})
        return None

    def _span(self, event: Event, start: int, end: int) -> dict[str, Any] | None:
        if event.cat in _PLAIN:
            return self._timed(event, start, end, _PLAIN[event.cat], {})
        rows, key = self._rows, (start, end, event.name)
        if (row := rows.device.take(*key)) >= 0:
            return self._on_device(event, row, start, end)
        if (row := rows.ops.take(*key)) >= 0:
            args = arguments.kept(event, arguments.OPERATOR) | {"External id": row + 1}
            return self._timed(event, start, rows.end_of(rows.ops, row), "cpu_op", args)
        if (row := rows.calls.take(*key)) >= 0:
            ids = {"External id": rows.call_id[row], "correlation": rows.call_correlation[row]}
            return self._timed(event, start, end, "Runtime", arguments.kept(event, arguments.CALL) | ids)
        if (row := rows.notes.take(*key)) >= 0:
            cat = "cpu_op" if event.name.startswith(WAITING) else "user_annotation"
            # an id that no launch has: annotations have ids of their own, and the plugin gives them the launches with the same
            args = arguments.kept(event, arguments.NOTE) | {"External id": -1 - row}
            return self._timed(event, start, rows.end_of(rows.notes, row), cat, args)
        return self._other(event, start, end)

    def _other(self, event: Event, start: int, end: int) -> dict[str, Any] | None:
        """Return a Python function or the span of the whole recording; None for what the plugin has no use for."""
        rows = self._rows
        if (row := rows.frames.take(start, end, event.name)) >= 0:
            end = rows.end_of(rows.frames, row)
        if event.cat == _STACK and self._stacks:
            names = arguments.MODULE if row >= 0 else arguments.FUNCTION
            return self._timed(event, start, end, _STACK, arguments.kept(event, names))
        return self._timed(event, start, end, "Trace", {}) if event.name == _WHOLE else None

    def _on_device(self, event: Event, row: int, start: int, end: int) -> dict[str, Any]:
        rows = self._rows
        device = rows.device_number[row]
        self._devices.add(device)
        ids = {"External id": rows.device_id[row], "correlation": rows.device_correlation[row], "device": device}
        return {
            "ph": "X",
            "cat": _ON_DEVICE[rows.device_category[row]],
            "name": visible(event.name),
            "pid": device,
            "tid": rows.device_stream[row],
            "ts": _microseconds(start - self.origin_ns),
            "dur": _microseconds(end - start),
            "args": arguments.kept(event, arguments.DEVICE) | ids,
        }

    def _timed(self, event: Event, start: int, end: int, cat: str, args: dict[str, Any]) -> dict[str, Any]:
        self._thread(event.pid, event.tid)
        name = arguments.function_name(event.name) if cat == _STACK else arguments.shown(event.name)
        return self._placed(event, start, cat, name, args) | {"ph": "X", "dur": _microseconds(end - start)}

    def _placed(self, event: Event, at: int, cat: str, name: str, args: dict[str, Any]) -> dict[str, Any]:
        pid, tid = self._process(event.pid), self._threads.get((event.pid, event.tid))
        tid = _number(event.tid) if tid is None else tid
        return {"cat": cat, "name": name, "pid": pid, "tid": tid, "ts": _microseconds(at - self.origin_ns), "args": args}

    def _process(self, pid: int | str) -> int:
        """Return a number for a process; a label such as a host's name becomes one."""
        if isinstance(pid, int):
            return pid
        number = _number(pid)
        return number if number >= 0 else self._processes.setdefault(pid, _FIRST_MADE + len(self._processes))

    def _thread(self, pid: int | str, tid: int | str) -> None:
        """Give a thread of the host a number that none of another process has: the plugin looks at nothing else."""
        if (pid, tid) not in self._threads:
            number = _number(tid)
            if number < 0 or number in self._taken:
                number = _FIRST_MADE + len(self._threads)
            self._taken.add(number)
            self._threads[pid, tid] = number


def _number(label: int | str) -> int:
    """Return what ``label`` spells, -1 where it is no number."""
    if isinstance(label, int):
        return label
    return int(label) if label.isascii() and label.isdigit() and len(label) < 19 else -1


def _microseconds(ns: int) -> int | float:
    return ns // 1000 if ns % 1000 == 0 else ns / 1000
