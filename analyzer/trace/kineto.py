"""Kineto traces (JSON, plain or packed with gzip or zstd) to tables, with the facts of the device that ran them.

Only the keys named in this package are read: host names, paths and whatever else a trace holds never reach a table. Of the
paths in call stacks ``frames.trim`` keeps what names a source file.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.errors import TraceError
from analyzer.schema.run import AMD, NVIDIA, DeviceFacts
from analyzer.schema.tables import CALLS, COUNTER_RANGES, DEVICE_EVENTS, MEMORY_EVENTS, OPERATORS, SPANS, Table
from analyzer.trace.columns import Columns
from analyzer.trace.damage import Damage
from analyzer.trace.events import MALFORMED
from analyzer.trace.flows import fill_correlations
from analyzer.trace.reading import Ahead, read_again, read_contents
from analyzer.trace.source import MAX_EXPANSION, TRACE_HINT, read_blocks

_CUDA = {"cuda": "runtime", "cuda_driver": "driver"}
_MOST_CUDA, _MOST_HIP = 10**6, 10**9
"""Numbers from here on are no versions."""
_EMPTY = {"int": np.int64, "float": np.float64}


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


class _Distributed(msgspec.Struct):
    rank: int | None = None
    world_size: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The tables of one trace, declared in ``analyzer.schema.tables``; times are integer nanoseconds since ``base_unix_ns``.

    ``device_events`` (DEVICE_EVENTS): kernels, copies and fills. ``ops`` (OPERATORS): operators with their arguments as
    JSON text. ``calls`` (CALLS): calls of the runtime and driver. ``annotations`` (SPANS): user annotations. ``frames``
    (SPANS): nn.Module frames of the Python stack; ``stack_frames`` (SPANS): its functions, paths trimmed.
    ``counter_ranges``: what CUPTI counted per kernel, a column per metric; its durations are no kernel times.
    ``memory_events`` (MEMORY_EVENTS): what was allocated and freed, where recorded. ``processes`` gives the process of each
    ``thread``. ``versions`` are those of CUDA or HIP that the header names, called as in ``run.json``; ``cuda_driver`` is what
    the driver supports. ``rank`` and ``world_size`` are None where the trace does not tell. ``warnings`` says what of the file
    was damaged, lost or mended; ``impossible`` names the first kernel with a duration that none can have, and says how many
    have one.
    """

    path: Path
    device: DeviceFacts
    base_unix_ns: int
    device_events: pd.DataFrame
    ops: pd.DataFrame
    calls: pd.DataFrame
    annotations: pd.DataFrame
    frames: pd.DataFrame
    stack_frames: pd.DataFrame
    counter_ranges: pd.DataFrame
    memory_events: pd.DataFrame
    processes: tuple[int | str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    rank: int | None = None
    world_size: int | None = None
    event_count: int = 0
    warnings: tuple[str, ...] = ()
    impossible: tuple[tuple[str, str], ...] = ()

    @property
    def kernels(self) -> pd.DataFrame:
        """Return the kernels alone: the rows of ``device_events`` of that category, with ``dur_ns``."""
        found = self.device_events
        found = found[found["category"] == "kernel"].reset_index(drop=True)
        return found.assign(dur_ns=found["end_ns"] - found["start_ns"])


def read_trace(path: str | Path, *, max_expansion: float = MAX_EXPANSION, ahead: Ahead | None = None) -> Trace:
    """Return the tables of the Kineto trace at ``path``, read in bounded memory.

    A damaged file gives what of it is whole, and ``Trace.warnings`` says what is not. ``max_expansion`` limits how many times
    its own size a packed file may unpack to. ``ahead``: another process has begun to read it.

    Raises:
        TraceError: the file is missing, is no trace, holds no event that can be read, or unpacks to more than allowed.
    """
    path = Path(path)
    contents = ahead.contents() if ahead else read_contents(path, max_expansion)
    columns, values = contents.columns, contents.values
    ops, calls = _table(columns, "op", OPERATORS), _table(columns, "call", CALLS)
    device_events, ranges = _table(columns, "device", DEVICE_EVENTS), _table(columns, "range", COUNTER_RANGES)
    annotations, frames = _table(columns, "note", SPANS), _table(columns, "frame", SPANS)
    if (device_events["correlation"] <= 0).any():
        device_events, calls = fill_correlations(read_again(path, max_expansion), columns, device_events, calls)
    if not any(map(len, (ops, calls, device_events, ranges, annotations, frames))):
        said = "; ".join(contents.damage.sentences())
        raise TraceError(f"{path} holds no operator and no kernel: it is no PyTorch trace{said and f' ({said})'}", TRACE_HINT)
    ranges = pd.concat([ranges, pd.DataFrame(columns.metrics(), index=ranges.index)], axis=1) if len(ranges) else ranges
    device, others = _device(values, device_events)
    distributed = _decode(values.get("distributedInfo"), _Distributed) or _Distributed()
    return Trace(
        path=path,
        device=device,
        base_unix_ns=_decode(values.get("baseTimeNanoseconds"), int) or 0,
        device_events=device_events,
        ops=ops,
        calls=calls,
        annotations=annotations,
        frames=frames,
        stack_frames=_table(columns, "stack", SPANS),
        counter_ranges=ranges,
        memory_events=_table(columns, "memory", MEMORY_EVENTS),
        processes=tuple(columns.processes()),
        versions=_versions(values),
        rank=distributed.rank,
        world_size=distributed.world_size,
        event_count=columns.events,
        warnings=(*contents.damage.sentences(), *others),
        impossible=contents.damage.impossible(),
    )


def read_json(path: Path) -> Any:
    """Return the whole document at ``path`` untyped, for copies of a trace that keep what we do not read.

    Raises:
        TraceError: the file cannot be read, is damaged, or is no JSON.
    """
    damage = Damage()
    data = b"".join(read_blocks(path, damage))
    try:
        if damage.sentences():
            raise TraceError(f"{path} is damaged: {damage.sentences()[0]}", "copy it again, or record again")
        return msgspec.json.decode(data)
    except MALFORMED as error:
        raise TraceError(f"{path} is no whole JSON file: {error}", "copy it again, or record again") from error


def _table(columns: Columns, name: str, declared: Table) -> pd.DataFrame:
    """Return a table of ``columns``, text as categoricals, checked against its declaration."""
    found: dict[str, Any] = {}
    for column in declared.columns:
        values = columns.numbers(f"{name}.{column.name}")
        if column.dtype == "text":
            found[column.name] = _categorical(values, columns.texts(f"{name}.{column.name}"))
        else:
            found[column.name] = np.array([], _EMPTY[column.dtype]) if values is None else values
    return declared.check(pd.DataFrame(found))


def _categorical(codes: npt.NDArray[Any] | None, texts: list[str]) -> pd.Categorical:
    """Return a categorical; texts that came to be the same are one category."""
    unique = {text: code for code, text in enumerate(dict.fromkeys(texts))}
    mapped = np.array([unique[text] for text in texts], np.int32)
    rows = np.array([], np.int32) if codes is None else mapped[codes]
    return pd.Categorical.from_codes(rows, categories=pd.Index(list(unique), dtype=object))


def _decode(raw: bytes | None, wanted: Any) -> Any:
    """Return a value of the document, None where it is missing or of another type."""
    with contextlib.suppress(*MALFORMED):
        return None if raw is None else msgspec.json.decode(raw, type=wanted, strict=False)
    return None


def _versions(values: dict[str, bytes]) -> dict[str, str]:
    """Return the versions in the header: CUDA writes 12040 for 12.4, HIP 60443483 for 6.4.43483; 0 stands for none."""
    cuda = {name: _decode(values.get(f"cuda_{part}_version"), int) or 0 for name, part in _CUDA.items()}
    hip = _decode(values.get("hip_runtime_version"), int) or 0
    found = {name: f"{code // 1000}.{code % 1000 // 10}" for name, code in cuda.items() if 0 < code < _MOST_CUDA}
    return found | ({"hip": f"{hip // 10**7}.{hip // 10**5 % 100}.{hip % 10**5}"} if 0 < hip < _MOST_HIP else {})


def _device(values: dict[str, bytes], events: pd.DataFrame) -> tuple[DeviceFacts, tuple[str, ...]]:
    """Return the facts of the device with the most kernels, and a warning where others of another model ran some too."""
    known = _listed(values)
    if events.empty:
        return DeviceFacts(type="cpu", name="CPU"), ()
    index = int(events["device"].mode().iloc[0])
    facts = next((d for d in known if d.id == index), known[0] if known else None)
    amd = _is_amd(values)
    if facts is None:
        return DeviceFacts(type="cuda", name="GPU (not named in the trace)", vendor=AMD if amd else NVIDIA, index=index), ()
    names = {d.id: d.name_ for d in known}
    ran = sorted({names[i] for i in events["device"].unique().tolist() if names.get(i)} - {facts.name_})
    others = (f"kernels ran on {', '.join(ran)} as well; every limit is that of {facts.name_}, which ran most",) if ran else ()
    return _facts(facts, index, amd=amd), others


def listed_devices(values: dict[str, bytes]) -> dict[int, DeviceFacts]:
    """Return the facts of each named GPU that the header lists, by id, whether it ran anything or not.

    ``values``: the raw JSON of ``deviceProperties``, ``computeProperties``, ``hip_runtime_version`` and ``roctracer_version``.
    """
    return {device.id: _facts(device, device.id, amd=_is_amd(values)) for device in _listed(values) if device.name_}


def _listed(values: dict[str, bytes]) -> list[_DeviceArgs]:
    return [*_properties(values.get("deviceProperties")), *_properties(values.get("computeProperties"))]


def _is_amd(values: dict[str, bytes]) -> bool:
    return any(values.get(key, b"null") not in (b"null", b"0") for key in ("hip_runtime_version", "roctracer_version"))


def _facts(facts: _DeviceArgs, index: int, *, amd: bool) -> DeviceFacts:
    major = facts.computeMajor if facts.computeMajor is not None else facts.major
    minor = facts.computeMinor if facts.computeMinor is not None else facts.minor
    return DeviceFacts(
        type="cuda",
        name=facts.name_,
        vendor=AMD if amd or AMD in facts.name_ else NVIDIA,
        index=index,
        compute_capability=f"{major}.{minor}" if major is not None and minor is not None else None,
        sm_count=facts.numSms or facts.multiProcessorCount,
        memory_bytes=facts.totalGlobalMem,
    )


def _properties(raw: bytes | None) -> list[_DeviceArgs]:
    """Return the devices that can be read; the figures of one with another type are left out, its neighbours stay."""
    devices = [_decode(each, _DeviceArgs) for each in _decode(raw, list[msgspec.Raw]) or []]
    return [device for device in devices if device is not None]
