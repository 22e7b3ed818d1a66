"""Times beside the clock they ran at, and the energy of a batch: only where telemetry has them."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.format import counted
from analyzer.insight.comparison.basis import batch_time, is_untraced
from analyzer.schema.comparison import Normalised
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity, combine

NO_TELEMETRY = "no telemetry: a bare trace, or no sample fell into the untraced pass"


def normalise(runs: Sequence[Digest]) -> tuple[Normalised, ...]:
    """Return the runs whose telemetry has a clock, power or energy, with the clock cycles that one batch takes.

    Approximation: cycles are the median time of a batch times the median clock of its multiprocessors, as if that had held for
    the whole pass. They tell how a device would do at the other's clock only as far as its memory, which has its own clock,
    does not set the pace.
    """
    out = []
    for number, run in enumerate(runs):
        seen = run.telemetry
        if seen is None or not is_untraced(run):
            continue
        if any(figure.value is not None for figure in (seen.sm_clock_mhz, seen.power_w, seen.energy_j)):
            time = batch_time(run)
            out.append(
                Normalised(number, time, seen.sm_clock_mhz, _cycles(time, seen.sm_clock_mhz), seen.power_w, seen.energy_j)
            )
    return tuple(out)


def _cycles(time: Quantity, clock: Quantity) -> Quantity:
    """Return millions of clock cycles: ms times MHz are thousands."""
    if clock.value is None or time.value is None:
        return Quantity.missing("Mcycles", clock.source)
    scale = clock.value / 1e3
    low, high = (time.low * scale, time.high * scale) if time.low is not None and time.high is not None else (None, None)
    level = combine(time.evidence, clock.evidence, Evidence.DERIVED)
    return Quantity(time.value * scale, "Mcycles", level, low, high, "median time of a batch times the median clock")


def why_not(runs: Sequence[Digest], found: Sequence[Normalised]) -> tuple[str, ...]:
    """Return why runs are missing from the normalised view, one line; none where all are there."""
    missing = len(runs) - len(found)
    if not missing:
        return ()
    there = {row.run for row in found}
    reasons = sorted({_reason(run) for number, run in enumerate(runs) if number not in there})
    return (f"clock- and power-normalised time of {counted(missing, 'run', 'runs')}: {'; '.join(reasons)}",)


def _reason(run: Digest) -> str:
    if run.telemetry is None:
        return NO_TELEMETRY
    return run.telemetry.sm_clock_mhz.source or NO_TELEMETRY
