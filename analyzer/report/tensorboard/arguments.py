"""Which arguments and names go into the copy of a trace: named ones alone, so that hosts, users and paths stay behind."""

from __future__ import annotations

from typing import Any

import msgspec

from analyzer.report.text import visible, without_homes
from analyzer.trace.events import MALFORMED, Event
from analyzer.trace.frames import MODULE_FRAME, frames_of, trim

_SPAN = ("Ev Idx", "Record function id", "Sequence number", "Fwd thread id")
OPERATOR = (*_SPAN, "Input Dims", "Input dims", "Input type", "Input Strides", "Concrete Inputs")
CALL = ("cbid",)
DEVICE = (
    "stream", "context", "queued", "grid", "block", "registers per thread", "shared memory", "blocks per SM", "warps per SM",
    "est. achieved occupancy %", "theoretical occupancy %", "bytes", "memory bandwidth (GB/s)", "graph id", "graph node id",
)  # fmt: skip
FUNCTION = ("Python id", "Python parent id")
MODULE = (*FUNCTION, "Python module id")
"""A number that makes the plugin take a function for a module."""
MEMORY = ("Addr", "Bytes", "Total Allocated", "Total Reserved", "Device Type", "Device Id")
NOTE: tuple[str, ...] = ()

_STACK = "Call stack"
_BUILT_IN = "<built-in"


def kept(event: Event, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of ``event`` with one of ``names``, and its call stack with trimmed paths; none of broken ones."""
    try:
        found = msgspec.json.decode(event.args, type=dict[str, msgspec.Raw])
        out = {name: found[name] for name in names if name in found}
        # numbers and lists of them as they are, texts without homes: concrete arguments may be any
        args = {name: raw if b'"' not in bytes(raw) else _homeless(msgspec.json.decode(raw)) for name, raw in out.items()}
        if names is OPERATOR and _STACK in found:
            args[_STACK] = ";".join(frames_of(msgspec.json.decode(found[_STACK], type=str)))
    except MALFORMED:
        return {}
    return args


def shown(name: str) -> str:
    """Return a name that people gave, without homes and invisible characters."""
    return without_homes(visible(name))


def function_name(name: str) -> str:
    """Return the name of a Python function, its path trimmed; what is built in may be called after anything."""
    if name.startswith(MODULE_FRAME):
        return shown(name)
    return f"{_BUILT_IN}>" if name.startswith(_BUILT_IN) else trim(visible(name))


def _homeless(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    return [_homeless(item) for item in value] if isinstance(value, list) else value if not isinstance(value, dict) else {}
