"""What a run would take on other GPUs: per group of kernels, per class and in total."""

from __future__ import annotations

import math
from dataclasses import dataclass

VALIDATED, ESTIMATED, RATIO, FLOOR, REFUSED, KEPT = (
    "validated", "estimated", "ratio, unvalidated", "floor only", "refused", "not projected",
)  # fmt: skip
"""How far a projected time can be trusted.

``validated``: a calibrated class on two GPUs that were calibrated in it, of which held-out data confirmed the interval.
``estimated``: the calibration gives a time and an interval, but one of the conditions of a validated one is not met.
``ratio, unvalidated``: a ratio of datasheet figures, error unknown. ``floor only``: no time, only what the datasheet allows.
``refused``: the database has no peak of the target in the number format. ``not projected``: the time of the source stands."""
STATUSES = (VALIDATED, ESTIMATED, RATIO, FLOOR, REFUSED, KEPT)


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU that is projected onto. ``note`` says what its intervals rest on."""

    key: str
    name: str
    vendor: str
    note: str


@dataclass(frozen=True, slots=True)
class Projected:
    """One group of kernels on one target, in microseconds per batch; NaN where there is no figure.

    ``floor_us`` is what the datasheet allows for the source's algorithm. Only calibrated times have an interval; ``scheme``
    says how it was made. ``by_peaks_us`` and ``by_bandwidths_us``: the time by either ratio of datasheet figures, which bound
    nothing. ``why``: what the status rests on.
    """

    status: str
    why: str
    time_us: float
    low_us: float
    high_us: float
    floor_us: float
    scheme: str = ""
    by_peaks_us: float = math.nan
    by_bandwidths_us: float = math.nan


@dataclass(frozen=True, slots=True)
class Group:
    """Calls of one operator with the same shapes and kernel. ``source_us`` and ``calls`` per batch; ``on``: one per target.

    ``family`` is the calibrated class that the calls belong to, empty without one; ``arithmetic`` the unit and number format.
    """

    family: str
    role: str
    kind: str
    op: str
    shapes: str
    dtype: str
    arithmetic: str
    module: str
    kernel: str
    calls: float
    source_us: float
    on: tuple[Projected, ...]

    @property
    def title(self) -> str:
        """Return the class, or the kind where no class was calibrated."""
        return self.family or self.kind


@dataclass(frozen=True, slots=True)
class ClassTotal:
    """One class with one status on one target, in microseconds per batch.

    ``p90_pct`` and ``coverage_pct``: the error of that class on held-out data, and the share of held-out times that such
    intervals held, by the scheme with most time in it.
    """

    title: str
    status: str
    why: str
    source_us: float
    time_us: float
    low_us: float
    high_us: float
    floor_us: float
    p90_pct: float
    coverage_pct: float = math.nan


@dataclass(frozen=True, slots=True)
class Total:
    """A run on one target, in microseconds per batch. ``time_us`` is NaN where ``reason`` says why there is none.

    ``time_us``: kernels and copies on the target, those that are kept (``kept_us``) with the time of the source. ``low_us`` and
    ``high_us`` are NaN unless nearly all of it is validated. ``least_us`` and ``most_us``: a range for the whole, waiting
    included. ``validated_pct``: of the projected kernel time on the target. ``same``: the target is the GPU of the run.
    ``arithmetic``: what the figures hold for, where the target would by default compute otherwise. ``notes``: what has to be
    known.
    """

    target: Target
    classes: tuple[ClassTotal, ...]
    time_us: float
    low_us: float
    high_us: float
    least_us: float
    most_us: float
    floor_us: float
    kept_us: float
    validated_pct: float
    reason: str = ""
    same: bool = False
    arithmetic: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunProjection:
    """One run on every target. ``per_batch``: times are of one batch, else of the whole trace. ``kernel_us``: all kernels."""

    name: str
    label: str
    source: str
    on_cpu: bool
    per_batch: bool
    kernel_us: float
    waiting_us: float
    groups: tuple[Group, ...]
    totals: tuple[Total, ...]

    @property
    def source_us(self) -> float:
        """Return the time on the source: kernels, copies and waiting."""
        return self.kernel_us + self.waiting_us


@dataclass(frozen=True, slots=True)
class Score:
    """One row of the validation table, in percent: errors of projections that were held against measurements."""

    held_out: str
    title: str
    n: int
    median_pct: float
    p90_pct: float
    bias_pct: float
    coverage_pct: float
    half_pct: float


@dataclass(frozen=True, slots=True)
class Projection:
    """Everything that one report on projections shows."""

    runs: tuple[RunProjection, ...]
    targets: tuple[Target, ...]
    scores: tuple[Score, ...]
    sources: tuple[tuple[str, str], ...]
    command: tuple[str, ...] = ()
