"""A ledger: the time of one batch in parts that add up to it, by what each part is due to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.schema.evidence import Evidence

if TYPE_CHECKING:
    import pandas as pd

KERNEL_TERMS = (
    "work", "vector", "locality", "copies", "cached", "short", "tail", "clock", "residual", "no_floor", "no_model",
)  # fmt: skip
"""What the time of a launch is split into; the parts add up to it.

``work``: floor of its work. ``vector``: what the same floor is longer on vector units, where matrix units exist for its element
type. ``locality``: floor with the bytes that the access model expects minus floor with compulsory ones. ``copies``: all time of
layout, copy and fill kernels. ``cached``: less than the floor, as far as a cache may have served the bytes (negative).
``short``: start and end of short kernels. ``tail``: partial waves. ``clock``: clocks below that of the peak. ``residual``: the
rest above the floor. ``no_floor``: the floor of its work is not known. ``no_model``: its work is not known."""

WAITING_TERMS = ("host", "loader", "sync", "launch", "untold", "dispatch", "between")
"""Time without a kernel: a GPU waits for its host, for a data loader, inside a synchronising call, for a launch on its way, or
the trace does not tell; a CPU is inside operators that only call others, or between operators."""

TERMS = (*KERNEL_TERMS, *WAITING_TERMS, "tracing")
"""All terms in their order. ``tracing``: untraced minus traced time, as far as waiting does not account for it."""

UNEXPLAINED = ("no_model", "tracing")
UNNAMED = ("cached", "residual", "no_floor")
"""Terms whose cause is not established: they count as unexplained in the headline. A cache may have served what is faster than
DRAM allows, but so may a wrong work model look."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One part of a ledger in µs per batch. ``low_us`` and ``high_us`` are its ends where the part is a band or an interval."""

    role: str
    kind: str
    term: str
    us: float
    low_us: float
    high_us: float
    evidence: Evidence


LEDGER_COLUMNS = ("role", "kind", "term", "us", "low_us", "high_us", "evidence")
"""Columns of a ledger's table, and, behind ``run``, of ledger.csv."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How traced time became untraced time, per batch.

    Kernels keep theirs, waiting is multiplied by ``waiting``, and ``rest_us`` of the untraced median stays unexplained.
    ``traced_us`` is the traced wall time; ``untraced_us`` is None where nothing was measured without the profiler.
    """

    traced_us: float
    untraced_us: float | None
    waiting: float
    rest_us: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of one run, which add up to ``total_us``; ``low_us`` and ``high_us`` are its 95 % interval, None without one.

    ``images`` and ``flop`` per batch are None where they are not known; ``lacking`` are the terms that cannot be told.
    """

    label: str
    basis: str
    total_us: float
    low_us: float | None
    high_us: float | None
    entries: tuple[Entry, ...]
    scaling: Scaling
    images: float | None
    flop: float | None
    lacking: tuple[str, ...] = ()

    def table(self) -> pd.DataFrame:
        """Return the entries as a DataFrame, a row each: LEDGER_COLUMNS."""
        import pandas as pd

        rows = [[getattr(entry, name) for name in LEDGER_COLUMNS] for entry in self.entries]
        return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS)).astype({"evidence": str})
