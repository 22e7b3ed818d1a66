"""Arguments of the events of a trace, decoded as far as their types are what they should be."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from analyzer.trace.damage import Damage
from analyzer.trace.events import MALFORMED, Event


class DeviceArgs(msgspec.Struct, gc=False):
    """Arguments of a kernel, copy or fill."""

    device: int = 0
    stream: int = 0
    correlation: int = -1
    external: int | None = msgspec.field(default=None, name="External id")
    external_old: int | None = msgspec.field(default=None, name="external id")
    grid: tuple[int, int, int] | None = None
    block: tuple[int, int, int] | None = None
    registers: float | None = msgspec.field(default=None, name="registers per thread")
    shared_bytes: float | None = msgspec.field(default=None, name="shared memory")
    occupancy: float | None = msgspec.field(default=None, name="est. achieved occupancy %")
    occupancy_old: float | None = msgspec.field(default=None, name="theoretical occupancy %")
    copy_bytes: float | None = msgspec.field(default=None, name="bytes")
    graph_id: int | None = msgspec.field(default=None, name="graph id")
    graph_node: int | None = msgspec.field(default=None, name="graph node id")


class OpArgs(msgspec.Struct, gc=False):
    """Arguments of an operator; lists stay text."""

    external: int | None = msgspec.field(default=None, name="External id")
    external_old: int | None = msgspec.field(default=None, name="external id")
    sequence: int | None = msgspec.field(default=None, name="Sequence number")
    forward_thread: int | None = msgspec.field(default=None, name="Fwd thread id")
    dims: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Dims")
    dims_old: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input dims")
    types: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input type")
    strides: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Input Strides")
    concrete: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Concrete Inputs")
    stack: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="Call stack")


class CallArgs(msgspec.Struct, gc=False):
    """Arguments of a call of the runtime or driver."""

    correlation: int = -1


class MemoryArgs(msgspec.Struct, gc=False):
    """Arguments of an event of the allocator, in bytes."""

    bytes: int | None = msgspec.field(default=None, name="Bytes")
    address: int | None = msgspec.field(default=None, name="Addr")
    device_type: int | None = msgspec.field(default=None, name="Device Type")
    device: int | None = msgspec.field(default=None, name="Device Id")
    allocated: int | None = msgspec.field(default=None, name="Total Allocated")
    reserved: int | None = msgspec.field(default=None, name="Total Reserved")


_Args = TypeVar("_Args", DeviceArgs, OpArgs, CallArgs, MemoryArgs)


def decode(events: list[Event], wanted: type[_Args], damage: Damage) -> list[_Args]:
    """Return the arguments of ``events``, decoded all at once, or one by one where one of them is of another type."""
    try:
        return msgspec.json.decode(b"[%b]" % b",".join(e.args for e in events), type=list[wanted])  # type: ignore[valid-type]
    except MALFORMED:
        return [_decode_one(event.args, wanted, damage) for event in events]


def _decode_one(raw: msgspec.Raw, wanted: type[_Args], damage: Damage) -> _Args:
    try:
        return msgspec.json.decode(raw, type=wanted, strict=False)
    except MALFORMED:
        damage.add("arguments")
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except MALFORMED:
        return wanted()
    known = wanted()
    for field in msgspec.structs.fields(wanted):
        if field.encode_name in fields:
            with contextlib.suppress(*MALFORMED):
                setattr(known, field.name, msgspec.json.decode(fields[field.encode_name], type=field.type, strict=False))
    return known


def external_ids(args: Sequence[DeviceArgs] | Sequence[OpArgs]) -> list[int | None]:
    """Return the External id of each, under its new name or its old one."""
    return [a.external if a.external is not None else a.external_old for a in args]
