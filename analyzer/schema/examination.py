"""What an examination of a trace holds: what it supports, what is odd about it, and how to record it better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["yes", "partly", "no", "unknown", "unused"]
"""``unknown``: the file is cut off, and what is not in it may have stood behind that point. ``unused``: the trace would show
it, and the program did not use it (a CUDA graph, a collective), or it cannot arise."""

CAPABILITIES = {
    "kernels": "kernels",
    "operators": "operators",
    "launches": "launches linked",
    "shapes": "operand shapes",
    "strides": "operand strides",
    "modules": "modules",
    "stacks": "Python call stacks",
    "device": "device facts",
    "datasheet": "datasheet",
    "geometry": "grid and block",
    "resources": "registers, shared memory",
    "occupancy": "occupancy",
    "graphs": "CUDA graph ids",
    "steps": "profiler steps",
    "memory": "memory events",
    "clock": "clock base",
    "ranks": "rank of the job",
    "collectives": "collectives",
    "counters": "hardware counters",
    "latency": "untraced latency",
    "telemetry": "clocks and power",
    "calibration": "measured ceilings",
    "operands": "exact operands",
}
"""The capabilities that are looked for, in the order of every list, and what they are called."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether a trace supports something.

    ``detail`` says what was found, with figures. ``consequence`` says what the report lacks without it, empty where all of it
    is there. ``count`` of ``total`` things have it, both None where nothing can be counted.
    """

    key: str
    status: Status
    detail: str
    consequence: str = ""
    count: int | None = None
    total: int | None = None

    @property
    def name(self) -> str:
        """Return what the capability is called."""
        return CAPABILITIES[self.key]


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something odd: ``finding`` states it with figures, ``meaning`` says what it does to the report.

    ``code`` is stable, for programs. ``count`` events are concerned, which take ``share_pct`` of the time of all kernels, None
    where either does not arise.
    """

    code: str
    finding: str
    meaning: str
    count: int | None = None
    share_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """How to record better: ``missing`` are the capabilities that it adds, with the setting that adds each.

    ``snippet`` is Python for torch.profiler, empty where that has nothing to add; ``command`` is this program's own, which
    records what torch.profiler cannot, empty where it has nothing to add either. ``counting`` are shell commands that count
    the kernels of a program of one's own, empty where that adds nothing. ``remarks`` are what no setting changes.
    """

    missing: tuple[tuple[str, str], ...]
    snippet: str
    command: str
    remarks: tuple[str, ...] = ()
    counting: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """One trace, examined. ``name`` is that of its run or file; ``subject`` says in one line what was recorded."""

    name: str
    subject: str
    capabilities: tuple[Capability, ...]
    oddities: tuple[Oddity, ...]
    recording: Recording

    def status(self, key: str) -> Status:
        """Return the status of the capability called ``key``."""
        return next(c.status for c in self.capabilities if c.key == key)

    def unsupported(self) -> tuple[Capability, ...]:
        """Return the capabilities that the trace has nothing of, as far as can be read."""
        return tuple(c for c in self.capabilities if c.status in ("no", "unknown"))
