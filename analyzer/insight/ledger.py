"""The ledger of one run: the time of one batch in parts that add up to it, stated for untraced time where that was measured."""

from __future__ import annotations

from dataclasses import replace

from analyzer.schema.evidence import Evidence
from analyzer.schema.ledger import Entry, Ledger, Scaling
from analyzer.schema.results import Analysis
from analyzer.schema.tables import records

MEASURED_TERMS = ("copies", "no_floor", "no_model")
"""Terms of kernels that are nothing but time; a model divides the others."""

WELL_MODELLED = 90.0
"""A time per GFLOP takes a work model of at least this share of the kernel time, in percent."""

UNTRACED, PER_STEP, WHOLE = (
    "untraced median per batch",
    "traced time per step",
    "whole traces: they do not both divide into steps",
)
ALONE = "the whole trace"
WAITING, TRACING = "waiting", "tracing"
"""Kind and role of entries that belong to no kernel."""


def own_ledger(a: Analysis) -> Ledger:
    """Return the ledger of a run that is compared with none: for its untraced median where it has one."""
    per_batch = bool(a.window.batches)
    found = ledger_of(a, untraced=a.latency is not None and per_batch, per_batch=per_batch)
    return found if per_batch else replace(found, basis=ALONE)


def ledger_of(a: Analysis, *, untraced: bool, per_batch: bool) -> Ledger:
    """Return the ledger of ``a``, per batch or of the whole window.

    ``untraced``: for the untraced median, which ``a`` then must have. Approximation: kernels take as long with the profiler as
    without it, so where the untraced time differs, waiting is scaled first; what that cannot account for stays unexplained.
    """
    steps = (a.window.batches if per_batch else None) or 1
    scaling = _scaling(a, steps, a.latency.median_ms.value * 1e3 if untraced else None)
    low, high = _interval(a) if untraced else (None, None)
    entries = [*_kernel_entries(a, steps), *_waiting_entries(a, steps, scaling, _ends(a, steps, low, high))]
    total = scaling.traced_us if scaling.untraced_us is None else scaling.untraced_us
    basis = UNTRACED if untraced else PER_STEP if per_batch else WHOLE
    images, flop = _images(a, per_batch=per_batch), _flop(a, steps)
    return Ledger(a.label, basis, total, low, high, tuple(entries), scaling, images, flop, a.missing_terms)


def _scaling(a: Analysis, steps: int, untraced_us: float | None) -> Scaling:
    """Return how the traced time of one batch becomes ``untraced_us``."""
    traced, waiting = a.totals.wall_us / steps, a.totals.idle_us / steps
    if untraced_us is None:
        return Scaling(traced, None, 1.0, 0.0)
    busy = traced - waiting
    if not waiting or untraced_us >= traced:
        return Scaling(traced, untraced_us, 1.0, untraced_us - traced)
    if untraced_us <= busy:
        return Scaling(traced, untraced_us, 0.0, untraced_us - busy)
    return Scaling(traced, untraced_us, (untraced_us - busy) / waiting, 0.0)


def _ends(a: Analysis, steps: int, low: float | None, high: float | None) -> tuple[Scaling, Scaling] | None:
    """Return the scaling at both ends of the interval of the untraced median, None without one."""
    return (_scaling(a, steps, low), _scaling(a, steps, high)) if low is not None and high is not None else None


def _interval(a: Analysis) -> tuple[float | None, float | None]:
    median = a.latency.median_ms
    return (median.low * 1e3, median.high * 1e3) if median.low is not None and median.high is not None else (None, None)


def _kernel_entries(a: Analysis, steps: int) -> list[Entry]:
    out = []
    for row in records(a.terms):
        level = Evidence.MEASURED if row.term in MEASURED_TERMS else Evidence.MODELLED
        if getattr(row, "counted", False):  # counted bytes at the bandwidth of the device
            level = Evidence.DERIVED
        out.append(Entry(row.role, row.kind, row.term, row.us / steps, row.low_us / steps, row.high_us / steps, level))
    return out


def _waiting_entries(a: Analysis, steps: int, scaling: Scaling, ends: tuple[Scaling, Scaling] | None) -> list[Entry]:
    """Return the time without a kernel, and what the profiler cannot account for."""
    level = Evidence.MEASURED if scaling.waiting == 1 else Evidence.MODELLED
    low, high = ends or (scaling, scaling)
    out = []
    for term, us in _waiting(a):
        if us:
            value, less, more = (us / steps * s.waiting for s in (scaling, low, high))
            out.append(Entry(WAITING, WAITING, term, value, less, more, level))
    if scaling.rest_us or low.rest_us or high.rest_us:
        out.append(Entry(TRACING, TRACING, "tracing", scaling.rest_us, low.rest_us, high.rest_us, Evidence.DERIVED))
    return out


def _waiting(a: Analysis) -> list[tuple[str, float]]:
    """Return (term, µs over the window) of the time without a kernel; they add up to the idle time."""
    idle = a.totals.idle
    if idle is None:
        return [("dispatch", a.totals.dispatch_us), ("between", a.totals.idle_us - a.totals.dispatch_us)]
    return [
        ("host", idle.host_us),
        ("loader", idle.loader_us),
        ("sync", idle.sync_us),
        ("launch", idle.launch_us),
        ("untold", idle.unknown_us),
    ]


def _images(a: Analysis, *, per_batch: bool) -> float | None:
    """Return the images of one batch: as the run was set, or as the first convolution of a foreign trace shows."""
    if a.run.facts is not None:
        return float(a.run.facts.settings.batch_size) if per_batch else None
    found = a.access.batch_size if a.access else 0
    return float(found) if found > 0 and per_batch else None


def _flop(a: Analysis, steps: int) -> float | None:
    """Return the FLOP of one batch, None where too much of the time has no work model to speak of the whole."""
    return a.totals.flop / steps if a.totals.flop and a.totals.modelled_pct >= WELL_MODELLED else None
