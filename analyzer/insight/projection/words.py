"""What a projection says in sentences. Every number comes from the objects that the tables show."""

from __future__ import annotations

import math

from analyzer.format import digits, milliseconds, percent
from analyzer.insight.projection.scores import ENOUGH_PCT, RATIOS, row
from analyzer.schema.projection import ESTIMATED, FLOOR, KEPT, RATIO, REFUSED, VALIDATED, ClassTotal, RunProjection, Total

UNKNOWN = "error unknown"


def meanings() -> dict[str, str]:
    """Return what each status means, by status."""
    return {
        VALIDATED: "a calibrated class in float32, both GPUs calibrated in it (or of the same chip as one that is), of usual "
        f"speed on the source, in the range that was measured, with intervals that held {ENOUGH_PCT:.0f} % of held-out times",
        ESTIMATED: "the calibration gives a time and an interval, but one of these conditions is not met: open the name for it",
        RATIO: _of_ratio(),
        FLOOR: "no time can be told, only the least that the datasheet allows",
        REFUSED: "the database has no peak of the target in this number format",
        KEPT: "the time is as on the source: copies, and kernels without a work model",
    }


def _of_ratio() -> str:
    text = f"a ratio of datasheet figures, {UNKNOWN}; only the floor is a bound"
    found = row(RATIOS)
    if found is None:
        return text
    return (
        f"{text}. On public float32 latencies such a ratio was off by {percent(found.median_pct)} in the median and by "
        f"{percent(found.p90_pct)} or more for one in ten"
    )


def headline(run: RunProjection, total: Total) -> str:
    """Return the sentence on one run on one target."""
    what = f"one batch of {run.label}" if run.per_batch else f"the whole trace of {run.label}"
    name = article(total.target.name)
    suffix = f" {total.arithmetic}" if total.arithmetic else ""
    if total.same:
        return f"{total.target.name} is the GPU of the run: its kernels took {milliseconds(run.kernel_us)} for {what}."
    if total.reason:
        least = f" By datasheet its kernels take at least {milliseconds(total.floor_us)}{suffix}." if total.floor_us > 0 else ""
        return f"On {name} {what} has no projected time: {total.reason}.{least}"
    return (
        f"On {name} the kernels of {what} would take about {milliseconds(total.time_us)}{suffix}{ends(total)}, against "
        f"{milliseconds(run.kernel_us)} on {run.source}: {speed(run, total)}. {verdict(total)}."
    )


def verdict(total: Total) -> str:
    """Return how much of the projected kernel time is validated."""
    return (
        f"{percent(total.validated_pct)} of the projected time is validated"
        if total.validated_pct
        else "None of it is validated"
    )


def ends(total: Total) -> str:
    """Return what follows a projected time: its interval, or that the error is unknown."""
    return f" ({span(total.low_us, total.high_us)})" if math.isfinite(total.low_us) else f", {UNKNOWN}"


def speed(run: RunProjection, total: Total) -> str:
    """Return the speed-up of the kernels, or how much longer they take."""
    ratio = run.kernel_us / total.time_us if total.time_us > 0 else math.nan
    return f"a speed-up of {digits(ratio)}" if ratio >= 1 else f"{digits(1 / ratio)} x as long"


def article(name: str) -> str:
    """Return a name with its article: ``an A100 SXM4 80GB``, ``a B200``."""
    spoken = name[:1] in "AEFHILMNORSX8" and not name.startswith(("Radeon", "Jetson"))
    return f"{'an' if spoken else 'a'} {name}"


def span(low_us: float, high_us: float) -> str:
    """Return an interval in one unit: ``10.1 to 15.2 ms``."""
    scale, unit = (1e6, "s") if high_us >= 1e6 else (1e3, "ms") if high_us >= 1e3 else (1.0, "µs")
    return f"{digits(low_us / scale)} to {digits(high_us / scale)} {unit}"


def whole(run: RunProjection, total: Total, *, source: bool = True) -> str:
    """Return what the whole would take with waiting, as a range in words; ``source``: after what it took there."""
    if total.reason or total.same:
        return ""
    kept = f" {milliseconds(total.kept_us)} of the kernel time is as on {run.source}." if total.kept_us else ""
    wall = f"It took {milliseconds(run.source_us)} there, {milliseconds(run.waiting_us)} of it without a kernel. "
    wall = wall if source else ""
    if run.waiting_us < 0.01 * run.source_us:
        return f"{wall}{kept.strip()}".strip()
    most = f"its kernels and that waiting, {milliseconds(total.most_us)}"
    if total.time_us <= run.kernel_us:
        most = f"as long as on {run.source}, {milliseconds(total.most_us)}, if the host or the loader sets the pace"
    return (
        f"{wall}On {total.target.name} the whole would take from {milliseconds(total.least_us)}, if kernels and waiting "
        f"overlapped, to {most}.{kept}"
    )


def class_line(total: ClassTotal) -> str:
    """Return one class on one target as a line: its status, the error where there is one, times."""
    source = milliseconds(total.source_us)
    if total.status in (VALIDATED, ESTIMATED):
        error = ""
        if math.isfinite(total.p90_pct):
            error = f", error p90 {percent(total.p90_pct)}, {percent(total.coverage_pct)} inside the interval on held-out data"
        why = f" ({total.why})" if total.status == ESTIMATED else ""
        status = f"{total.status}, unvalidated" if total.status == ESTIMATED else total.status
        time = f"{milliseconds(total.time_us)} ({span(total.low_us, total.high_us)})"
        return f"{total.title}: {status}{error}; {source} -> {time}{why}"
    if total.status == RATIO:
        figures = f"{source} -> about {milliseconds(total.time_us)}, {UNKNOWN}, floor {milliseconds(total.floor_us)}"
        return f"{total.title}: unvalidated, {total.why}; {figures}"
    if total.status == FLOOR:
        return f"{total.title}: {source} -> at least {milliseconds(total.floor_us)} ({total.why})"
    return f"{total.title}: {total.status}, {total.why}; {source} on the source"
