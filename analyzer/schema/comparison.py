"""A comparison: any number of runs side by side, whatever their devices, models and libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Quantity
from analyzer.schema.results import Caveat, Reason

Topic = Literal["model", "device", "settings", "software", "trace"]


@dataclass(frozen=True, slots=True)
class FactRow:
    """One fact of all runs. ``values``: one text per run, ``unknown`` where it is not recorded.

    ``differs``: known values differ. ``warning``: why that makes times harder to compare, empty where it does not.
    """

    topic: Topic
    fact: str
    values: tuple[str, ...]
    differs: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class GapMove:
    """A ViT against a CNN on one device under the same settings: ``ratio`` is how many times as long the ViT takes.

    ``vit`` and ``cnn`` are numbers of runs; ``vit_ms`` and ``cnn_ms`` their times of one batch. ``conditions`` are the settings
    and versions in which the moves of one comparison differ, beside the device; empty where they do not.
    """

    device: str
    vit: int
    cnn: int
    ratio: Quantity
    vit_ms: Quantity
    cnn_ms: Quantity
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a role (or ``total``, or ``all kernels``) of run ``run`` gained over the same role of the run ``baseline``.

    ``speedup`` is how many times as fast: a ratio of times where both runs do the same work (``basis`` ``time``), else of rates
    (``FLOP/s`` or ``bytes/s``, of compulsory bytes), without a value where neither is known. ``baseline`` is a run of the same
    model where there is one, so it differs from run to run; a run that no other can be held against has one entry, of
    ``total``, without a value. ``note`` is what must stand beside the ratio (element types that differ), mostly empty.
    """

    role: str
    run: int
    baseline: int
    basis: Literal["time", "FLOP/s", "bytes/s"]
    speedup: Quantity
    note: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the device of ``run`` has more of than that of ``baseline``, by their datasheets.

    ``name`` is ``DRAM bandwidth``, ``matrix peak, bfloat16``, ``vector peak, float32``, ``L2 capacity`` or ``multiprocessors``.
    ``baseline`` is the run that the gains of ``run`` are over. ``note`` is what must stand beside the ratio, mostly empty.
    """

    name: str
    run: int
    baseline: int
    ratio: Quantity
    note: str = ""


@dataclass(frozen=True, slots=True)
class MatchedOperator:
    """One operator with its shapes, element type and module, in all runs that have it. Never matched by kernel names.

    ``time_us``, ``kernels`` and ``calls``: one entry per run, None and empty where the run has no such operator; times and
    calls are per batch, or of the whole trace where it names no steps. ``dtype`` is the baseline's, where it has the operator.
    """

    kind: str
    op: str
    shapes: str
    module: str
    time_us: tuple[float | None, ...]
    kernels: tuple[tuple[str, ...], ...]
    calls: tuple[float | None, ...] = ()
    dtype: str = ""


ChangeState = Literal["added", "removed", "faster", "slower", "unclear", "same"]
"""``unclear``: the noise covers the difference. ``same``: the interval lies within the smallest effect that counts."""
ChangeBy = Literal["model", "kind", "module", "operator"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one module or operator between two runs of one model, in µs per batch; the baseline is the first.

    ``delta_us`` is second minus first, with its interval where steps or repeats allow one. ``by`` ``model`` has up to three
    rows: the time of one batch, of one image (in µs per image, only where batches differ in size) and the kernel time. ``kind``
    is empty there.
    """

    by: ChangeBy
    name: str
    kind: str
    first_us: float
    second_us: float
    delta_us: Quantity
    state: ChangeState
    kernels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@dataclass(frozen=True, slots=True)
class Normalised:
    """The time of one batch of a run beside what it would be at the clock, and its energy: only where telemetry has them."""

    run: int
    time_ms: Quantity
    clock_mhz: Quantity
    mega_cycles: Quantity
    power_w: Quantity
    energy_j: Quantity


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything that a comparison shows.

    ``names``: a unique name per run. ``places``: what each run is called in charts: label and device. ``changes`` is empty
    unless exactly two runs of one model are compared. ``matched_pct``: per run, the share of its kernel time in operators that
    the baseline has too, and of the baseline's own in operators that any other run has; NaN where nothing ran. ``times``: per
    run, the time of one batch with its interval, of the whole trace where it names no steps (``source`` says which).
    ``operators_left_out``: how many more operators there are than ``matched`` lists, those with the least time.
    ``image_times``: per run, ms per image; ``image_rates``: images per second; without a value where the size of a batch is not
    known. ``gain_bases``: per run, the run that its gains are over, None for a baseline and where there is none.
    ``better_baseline``: a run that does the same work as others, where the baseline does that of none.
    """

    runs: tuple[Digest, ...]
    names: tuple[str, ...]
    places: tuple[str, ...]
    baseline: int
    headline: str
    reason: str
    reasons: tuple[Reason, ...]
    caveats: tuple[Caveat, ...]
    not_measured: tuple[str, ...]
    facts: tuple[FactRow, ...]
    moves: tuple[GapMove, ...]
    gains: tuple[Gain, ...]
    offers: tuple[Offer, ...]
    matched: tuple[MatchedOperator, ...]
    matched_pct: tuple[float, ...]
    changes: tuple[Change, ...]
    normalised: tuple[Normalised, ...]
    times: tuple[Quantity, ...] = ()
    operators_left_out: int = 0
    image_times: tuple[Quantity, ...] = ()
    image_rates: tuple[Quantity, ...] = ()
    gain_bases: tuple[int | None, ...] = ()
    better_baseline: int | None = None
