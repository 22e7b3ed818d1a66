"""The floor: the whole document in one typed decode, then time per kernel. No links, no tables, no pandas."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import msgspec


class Args(msgspec.Struct, gc=False):
    """What an analyzer must at least read of an event."""

    correlation: int | None = None
    external: int | None = msgspec.field(default=None, name="External id")
    device: int | None = None
    stream: int | str | None = None
    grid: list[int] | None = None
    block: list[int] | None = None
    registers: int | None = msgspec.field(default=None, name="registers per thread")
    shared: int | None = msgspec.field(default=None, name="shared memory")
    occupancy: float | None = msgspec.field(default=None, name="est. achieved occupancy %")
    size: int | None = msgspec.field(default=None, name="bytes")


class Event(msgspec.Struct, gc=False):
    """One event of the trace."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    ts: float = 0.0
    dur: float = 0.0
    pid: int | str = ""
    tid: int | str = ""
    args: Args | None = None


class Document(msgspec.Struct):
    """The trace."""

    events: list[Event] = msgspec.field(name="traceEvents")


path = Path(sys.argv[1])
data = path.read_bytes()
text = gzip.decompress(data) if path.suffix == ".gz" else data
table: dict[str, tuple[int, float]] = {}
for event in msgspec.json.decode(text, type=Document).events:
    if event.ph == "X" and event.cat in {"kernel", "Kernel"}:
        calls, total_us = table.get(event.name, (0, 0.0))
        table[event.name] = calls + 1, total_us + event.dur
kernel_us = sum(total_us for _, total_us in table.values())
print(json.dumps({"kernels": sum(calls for calls, _ in table.values()), "kernel_us": kernel_us}))
