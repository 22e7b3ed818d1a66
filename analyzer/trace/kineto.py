"""Kineto traces (JSON or JSON.gz) to tables, with the facts of the device that ran them.

Only the keys named here are read: host names, paths and whatever else a trace holds never reach a table.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from analyzer.errors import TraceError
from analyzer.schema.run import AMD, NVIDIA, DeviceFacts

MAX_TRACE_BYTES = 16 << 30
"""Bound on the decompressed size, so that a gzip bomb ends in an error and not in the machine's memory."""

MAX_TIME_US = 4e15
"""Microseconds from 1970 to 2096: later times, and longer durations, are damage."""

_KERNEL = {"kernel"}
_MEMCPY = {"gpu_memcpy", "memcpy"}
_MEMSET = {"gpu_memset", "memset"}
_OPS = {"cpu_op", "operator"}
_RUNTIME = {"cuda_runtime", "cuda_driver", "runtime", "hip_runtime", "mtia_runtime"}
_ANNOTATION = {"user_annotation"}
_PYTHON = {"python_function"}
_HINT = "give a file written by torch.profiler's export_chrome_trace or tensorboard_trace_handler"


class _Event(msgspec.Struct):
    ph: str = ""
    cat: str = ""
    name: str = ""
    ts: int | float = 0
    dur: int | float = 0
    pid: int | str = 0
    tid: int | str = 0
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Document(msgspec.Struct):
    traceEvents: list[_Event]  # noqa: N815
    deviceProperties: msgspec.Raw = msgspec.Raw(b"[]")  # noqa: N815
    computeProperties: msgspec.Raw = msgspec.Raw(b"[]")  # noqa: N815
    baseTimeNanoseconds: int = 0  # noqa: N815
    hip_runtime_version: int | None = None


class _DeviceArgs(msgspec.Struct, rename={"name_": "name"}):
    id: int = 0
    name_: str = ""
    totalGlobalMem: int | None = None  # noqa: N815
    computeMajor: int | None = None  # noqa: N815
    computeMinor: int | None = None  # noqa: N815
    major: int | None = None
    minor: int | None = None
    numSms: int | None = None  # noqa: N815
    multiProcessorCount: int | None = None  # noqa: N815


class _OpArgs(msgspec.Struct):
    external: int | None = msgspec.field(default=None, name="External id")
    external_old: int | None = msgspec.field(default=None, name="external id")
    dims: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Dims")
    dims_old: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input dims")
    types: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input type")
    strides: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Strides")
    concrete: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Concrete Inputs")


class _KernelArgs(msgspec.Struct):
    device: int = 0
    stream: int = 0
    correlation: int = -1
    external: int | None = msgspec.field(default=None, name="External id")
    external_old: int | None = msgspec.field(default=None, name="external id")
    grid: tuple[int, int, int] | None = None
    block: tuple[int, int, int] | None = None
    registers: float | None = msgspec.field(default=None, name="registers per thread")
    shared: float | None = msgspec.field(default=None, name="shared memory")
    occupancy: float | None = msgspec.field(default=None, name="est. achieved occupancy %")
    bytes: float | None = None


class _CallArgs(msgspec.Struct):
    correlation: int = -1


@dataclass(frozen=True, slots=True)
class Trace:
    """The tables of one trace. Times are integer nanoseconds since ``base_unix_ns``; threads are small integers.

    ``device_events``: kernels, memcpys, memsets. ``ops``: operators with their arguments as JSON text. ``calls``: launches by
    runtime or driver. ``annotations``: user annotations. ``frames``: nn.Module frames of the Python stack.
    """

    path: Path
    device: DeviceFacts
    base_unix_ns: int
    device_events: pd.DataFrame
    ops: pd.DataFrame
    calls: pd.DataFrame
    annotations: pd.DataFrame
    frames: pd.DataFrame


def read_trace(path: Path) -> Trace:
    """Return the tables of the Kineto trace at ``path``.

    Raises:
        TraceError: the file is missing, damaged, larger than MAX_TRACE_BYTES, or no trace.
    """
    try:
        return _read_trace(path)
    except RecursionError as error:
        raise TraceError(f"{path} is nested too deeply for a PyTorch trace", _HINT) from error


def _read_trace(path: Path) -> Trace:
    document = _decode(path, _read_bytes(path))
    by_kind: dict[str, list[_Event]] = {"device": [], "op": [], "call": [], "note": [], "frame": []}
    for event in document.traceEvents:
        if event.ph != "X":
            continue
        kind = _kind_of(event)
        if kind:
            by_kind[kind].append(event)
    if not any(by_kind.values()):
        raise TraceError(f"{path} holds no operator and no kernel: it is no PyTorch trace", _HINT)
    threads = _Threads()
    try:
        device_events = _device_table(by_kind["device"])
        return Trace(
            path=path,
            device=_device(document, device_events),
            base_unix_ns=document.baseTimeNanoseconds,
            device_events=device_events,
            ops=_op_table(by_kind["op"], threads),
            calls=_call_table(by_kind["call"], threads),
            annotations=_span_table(by_kind["note"], threads),
            frames=_span_table(by_kind["frame"], threads),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise TraceError(f"{path} is damaged: {error}", _HINT) from error


def read_json(path: Path) -> Any:
    """Return the whole document at ``path`` untyped, for copies of a trace that keep what we do not read.

    Raises:
        TraceError: as ``read_trace``.
    """
    data = _read_bytes(path)
    _decode(path, data)
    return msgspec.json.decode(data)


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        opener = gzip.open if zipped else Path.open
        with opener(path, "rb") as file:
            data: bytes = file.read(MAX_TRACE_BYTES + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TraceError(
            f"{path} is a damaged gzip file, cut off or altered: {error}", "copy it again, or record again"
        ) from error
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}", _HINT) from error
    if len(data) > MAX_TRACE_BYTES:
        raise TraceError(f"{path} unpacks to more than {MAX_TRACE_BYTES >> 30} GiB", "trace fewer steps")
    return data


def _decode(path: Path, data: bytes) -> _Document:
    start = data[:64].lstrip()[:1]
    try:
        if start == b"[":
            return _Document(traceEvents=msgspec.json.decode(data, type=list[_Event]))
        if start == b"{":
            return msgspec.json.decode(data, type=_Document)
    except msgspec.ValidationError as error:
        raise TraceError(f"{path} is JSON but no PyTorch trace: {error}", _HINT) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} is no whole JSON file: {error}", "copy it again, or record again") from error
    raise TraceError(f"{path} is no JSON file", _HINT)


def _kind_of(event: _Event) -> str | None:
    cat = event.cat.lower()
    if cat in _KERNEL or cat in _MEMCPY or cat in _MEMSET:
        return "device"
    if cat in _OPS:
        return "op"
    if cat in _RUNTIME:
        return "call"
    if cat in _ANNOTATION:
        return "note"
    if cat in _PYTHON and event.name.startswith("nn.Module: "):
        return "frame"
    return None


class _Threads:
    """Small integers for (pid, tid) pairs, which are numbers or text."""

    def __init__(self) -> None:
        self._codes: dict[tuple[int | str, int | str], int] = {}

    def code(self, event: _Event) -> int:
        return self._codes.setdefault((event.pid, event.tid), len(self._codes))


def _ns(value: float) -> int:
    if not -MAX_TIME_US < value < MAX_TIME_US:
        raise OverflowError(f"a time of {value!r} us")
    return value * 1000 if isinstance(value, int) else round(value * 1000)


def _span_columns(events: Iterable[_Event]) -> dict[str, Any]:
    events = list(events)
    start = np.array([_ns(e.ts) for e in events], dtype=np.int64)
    return {
        "name": [e.name for e in events],
        "start_ns": start,
        "end_ns": start + np.array([max(_ns(e.dur), 0) for e in events], dtype=np.int64),
    }


def _span_table(events: list[_Event], threads: _Threads) -> pd.DataFrame:
    columns = _span_columns(events) | {"thread": np.array([threads.code(e) for e in events], dtype=np.int64)}
    return pd.DataFrame(columns)


def _op_table(events: list[_Event], threads: _Threads) -> pd.DataFrame:
    args = [msgspec.json.decode(e.args, type=_OpArgs) for e in events]
    frame = _span_table(events, threads)
    frame["external_id"] = np.array(
        [a.external if a.external is not None else a.external_old or -1 for a in args], dtype=np.int64
    )
    frame["dims"] = [bytes(a.dims or a.dims_old).decode() for a in args]
    for column in ("types", "strides", "concrete"):
        frame[column] = [bytes(getattr(a, column)).decode() for a in args]
    return frame


def _call_table(events: list[_Event], threads: _Threads) -> pd.DataFrame:
    frame = _span_table(events, threads)
    frame["correlation"] = np.array([msgspec.json.decode(e.args, type=_CallArgs).correlation for e in events], dtype=np.int64)
    return frame


def _device_table(events: list[_Event]) -> pd.DataFrame:
    args = [msgspec.json.decode(e.args, type=_KernelArgs) for e in events]
    frame = pd.DataFrame(_span_columns(events))
    frame["category"] = [_category(e.cat.lower()) for e in events]
    for column in ("device", "stream", "correlation"):
        frame[column] = np.array([getattr(a, column) for a in args], dtype=np.int64)
    frame["external_id"] = np.array(
        [a.external if a.external is not None else a.external_old or -1 for a in args], dtype=np.int64
    )
    for column in ("grid", "block"):
        frame[column] = [",".join(map(str, value)) if (value := getattr(a, column)) else "" for a in args]
    for column, name in (
        ("registers", "registers"),
        ("shared_bytes", "shared"),
        ("occupancy_kineto_pct", "occupancy"),
        ("copy_bytes", "bytes"),
    ):
        frame[column] = np.array([np.nan if (v := getattr(a, name)) is None else v for a in args], dtype=np.float64)
    return frame


def _category(cat: str) -> str:
    if cat in _KERNEL:
        return "kernel"
    return "memcpy" if cat in _MEMCPY else "memset"


def _device(document: _Document, events: pd.DataFrame) -> DeviceFacts:
    """Return the facts of the device with the most kernels."""
    known = [*_properties(document.deviceProperties), *_properties(document.computeProperties)]
    if events.empty:
        return DeviceFacts(type="cpu", name="CPU")
    index = int(events["device"].mode().iloc[0])
    facts = next((d for d in known if d.id == index), known[0] if known else None)
    vendor = AMD if document.hip_runtime_version or (facts and AMD in facts.name_) else NVIDIA
    if facts is None:
        return DeviceFacts(type="cuda", name="GPU (not named in the trace)", index=index)
    major = facts.computeMajor if facts.computeMajor is not None else facts.major
    minor = facts.computeMinor if facts.computeMinor is not None else facts.minor
    return DeviceFacts(
        type="cuda",
        name=facts.name_,
        vendor=vendor,
        index=index,
        compute_capability=f"{major}.{minor}" if major is not None and minor is not None else None,
        sm_count=facts.numSms or facts.multiProcessorCount,
        memory_bytes=facts.totalGlobalMem,
    )


def _properties(raw: msgspec.Raw) -> list[_DeviceArgs]:
    """Return the devices that can be read; the figures of one with another type are left out, its neighbours stay."""
    try:
        found = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return []
    devices = []
    for each in found:
        with contextlib.suppress(msgspec.DecodeError):
            devices.append(msgspec.json.decode(each, type=_DeviceArgs))
    return devices
