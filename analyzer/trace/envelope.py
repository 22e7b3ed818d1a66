"""What stands around the events of a trace: versions, the profiler's settings, every device, and how many events of which kind.

The tables of ``kineto`` leave this out, since no figure needs it; it is wanted where a trace itself is examined.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from analyzer.schema.run import DeviceFacts
from analyzer.trace.columns import MAX_DURATION_US
from analyzer.trace.damage import Damage
from analyzer.trace.document import Document
from analyzer.trace.events import MALFORMED, Event
from analyzer.trace.kineto import listed_devices
from analyzer.trace.source import MAX_EXPANSION, read_blocks

FLAGS = ("record_shapes", "profile_memory", "with_stack", "with_modules", "with_flops")
VERSIONS = (
    "cupti_version", "cuda_runtime_version", "cuda_driver_version", "hip_runtime_version", "hip_driver_version",
    "roctracer_version",
)  # fmt: skip
_WANTED = frozenset((*FLAGS, *VERSIONS, "schemaVersion", "deviceProperties", "computeProperties", "distributedInfo"))
_MAX_CATEGORIES = 1000
_OVERHEAD = "overhead"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around the events.

    ``flags``: the profiler's settings, those that the trace tells. ``versions``: of the libraries that traced, non-zero ones.
    ``devices``: the facts of each GPU that the header lists, by id, whether anything ran on it or not. ``categories``: complete
    events by category. ``overhead_us``: time of the profiler's own events, by name. ``distributed`` tells whether the header
    describes a distributed job. ``cut_off`` tells whether the file ends too early: what is not in it may have been lost.
    """

    flags: dict[str, bool] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    devices: dict[int, DeviceFacts] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    overhead_us: dict[str, float] = field(default_factory=dict)
    distributed: bool = False
    cut_off: bool = False


def read_envelope(path: str | Path, max_expansion: float = MAX_EXPANSION) -> Envelope:
    """Return what stands around the events of the trace at ``path``; what is of a wrong type is left out.

    Raises:
        TraceError: the file cannot be read, is no trace, or unpacks to more than ``max_expansion`` times its size.
    """
    path, damage = Path(path), Damage()
    document = Document(path, read_blocks(path, damage, max_expansion), _WANTED, damage, exact=True)
    categories: Counter[str] = Counter()
    overhead: defaultdict[str, float] = defaultdict(float)
    for _, events in document.pieces():
        for event in events:
            if event.ph == "X" and (event.cat in categories or len(categories) < _MAX_CATEGORIES):
                categories[event.cat] += 1
            if event.cat == _OVERHEAD and (event.name in overhead or len(overhead) < _MAX_CATEGORIES):
                overhead[event.name] += _length_us(event)
    values = {key: _decode(raw) for key, raw in document.values.items()}
    distributed = values.get("distributedInfo")
    return Envelope(
        flags={key: bool(values[key]) for key in FLAGS if isinstance(values.get(key), bool | int)},
        versions={key: int(values[key]) for key in VERSIONS if isinstance(values.get(key), int) and values[key]},
        devices=listed_devices(document.values),
        categories=dict(categories),
        overhead_us=dict(overhead),
        distributed=isinstance(distributed, dict) and bool(distributed),
        cut_off=damage.is_cut_off,
    )


def _length_us(event: Event) -> float:
    length = float(event.dur or 0)
    return length if 0 < length < MAX_DURATION_US else 0.0


def _decode(raw: bytes) -> Any:
    with contextlib.suppress(*MALFORMED):
        return msgspec.json.decode(raw)
    return None
