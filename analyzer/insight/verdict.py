"""The sentences on top of the page and in the terminal. Every number comes from the objects that the tables show."""

from __future__ import annotations

from analyzer.format import APPROXIMATELY, digits, interval, milliseconds, percent, times
from analyzer.insight.caveats import HOST_BOUND_PCT, find_caveats, find_pair_caveats, not_measured
from analyzer.insight.gap import comparable
from analyzer.metrics.timing import MIN_ITERATIONS
from analyzer.schema.evidence import Quantity
from analyzer.schema.results import Analysis, Gap, Reason, Verdict
from analyzer.schema.tables import records

NO_DIFFERENCE = 0.02
"""Ratios closer to 1 than this are no clear difference, however narrow their interval."""
UNEXPLAINED_LIMIT = 0.25
TOO_WIDE = 1.5
"""An interval that holds 1 and whose ends differ by more than this factor is no evidence of equality."""

TERM_NAMES = {
    "floor": "floor of its work",
    "above": "time above that floor",
    "time": "time",
    "idle": "idle",
    "no_model": "no work model",
    "tracing": "untraced minus traced time",
}


def place(a: Analysis) -> str:
    """Return the conditions of a run: ``NVIDIA H100 80GB HBM3 (bfloat16, batch 32, 224 px)``."""
    facts = a.run.facts
    if facts is None:
        return f"{a.device.name} ({a.dtype})"
    return f"{a.device.name} ({a.dtype}, batch {facts.settings.batch_size}, {facts.settings.image_size} px)"


def clearly_different(ratio: Quantity) -> bool:
    """Tell whether a ratio differs from 1 by more than 2 % and its interval leaves 1 out."""
    if ratio.value is None or ratio.low is None:
        return False  # too few iterations to tell
    return not _interval_holds_one(ratio) and abs(ratio.value - 1) >= NO_DIFFERENCE


def _interval_holds_one(ratio: Quantity) -> bool:
    return ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high


def say_pair(a: Analysis, b: Analysis, gap: Gap, ratio: Quantity | None) -> Verdict:
    """Return the verdict on two runs: which takes longer, by how much, and what of that is explained."""
    caveats = (*find_pair_caveats(a, b), *find_caveats(a), *find_caveats(b))
    return Verdict(
        headline=_headline(a, b, gap, ratio),
        reason=_reason(a, b, gap, ratio),
        not_measured=not_measured((a, b)),
        reasons=_main_reasons(a, b, gap),
        caveats=caveats,
    )


def _headline(a: Analysis, b: Analysis, gap: Gap, ratio: Quantity | None) -> str:
    where = place(a) if place(a) == place(b) else f"{place(a)} against {place(b)}"
    if ratio is None or ratio.value is None:
        return _untimed_headline(a, b, gap, where)
    if ratio.low is None:
        return f"Too few iterations to tell {gap.first} and {gap.second} apart on {where}: {times(ratio)}"
    if not clearly_different(ratio):
        span = f"{times(ratio)} ({interval(ratio)})"
        if ratio.high is not None and ratio.high > TOO_WIDE * ratio.low:
            return f"Too unsteady to tell {gap.first} and {gap.second} apart on {where}: {span}"
        return f"No clear difference between {gap.first} and {gap.second} on {where}: {span}"
    longer, shorter, shown = gap.first, gap.second, ratio
    if ratio.value < 1 and ratio.low and ratio.high:
        longer, shorter = shorter, longer
        shown = Quantity(1 / ratio.value, "x", ratio.evidence, 1 / ratio.high, 1 / ratio.low)
    text = f"{longer} takes {times(shown)} as long as {shorter} on {where}"
    return f"{text}; the cause is not established" if _unexplained_share(gap) > UNEXPLAINED_LIMIT else text


def _untimed_headline(a: Analysis, b: Analysis, gap: Gap, where: str) -> str:
    """Return the headline on traces without an untraced latency."""
    first, second = milliseconds(gap.first_us), milliseconds(gap.second_us)
    if not comparable(a, b):
        return f"{gap.first} spans {first}, {gap.second} {second} on {where}: traces that do not both divide into steps"
    longer, shorter = (gap.first, gap.second) if gap.total_us >= 0 else (gap.second, gap.first)
    low, high = sorted((gap.first_us, gap.second_us))
    if low <= 0:
        return f"{gap.first} and {gap.second} on {where}: no time to compare"
    return f"{longer} takes {high / low:.2f}x as long as {shorter} on {where}, traced and without an interval"


def _unexplained_share(gap: Gap) -> float:
    return gap.unexplained_abs_us / abs(gap.total_us) if gap.total_us else 0.0


def by_kind(gap: Gap) -> list[tuple[str, float, float]]:
    """Return (kind, difference, part of it that is the floor of its work), largest difference first, explained kinds only."""
    kinds: dict[str, list[float]] = {}
    for part in gap.parts:
        if part.explained:
            entry = kinds.setdefault(part.kind, [0.0, 0.0])
            entry[0] += part.delta_us
            entry[1] += part.delta_us if part.term == "floor" else 0.0
    return sorted(((k, v[0], v[1]) for k, v in kinds.items()), key=lambda item: -abs(item[1]))


def _reason(a: Analysis, b: Analysis, gap: Gap, ratio: Quantity | None) -> str:
    host = _host_bound(a, b)
    if ratio is not None and not clearly_different(ratio):
        why = "which is within their spread" if _interval_holds_one(ratio) else "less than 2 %"
        why = why if ratio.low is not None else f"from fewer than {MIN_ITERATIONS} iterations"
        return f"{host}The medians differ by {milliseconds(abs(gap.total_us))} per batch, {why}."
    if ratio is None and not comparable(a, b):
        return f"{host}Without steps in both there is no telling whether they did the same amount of work."
    longer, sign = _direction(gap)
    named = [(_kind_name(kind, a, b), milliseconds(sign * delta)) for kind, delta, _ in by_kind(gap)[:2]]
    first, *more = named or [("nothing", "0 ms")]
    parts = f"{first[0]} accounts for {first[1]}" + "".join(f" and {kind} for {size}" for kind, size in more)
    share = _unexplained_share(gap)
    weight = f"{percent(100 * share)} of the gap in size" if share <= 1 else "more than the gap itself in size"
    return (
        f"{host}Of the {milliseconds(abs(gap.total_us))} that {longer} takes longer per batch, {parts}; "
        f"the unexplained parts sum to {milliseconds(sign * gap.unexplained_us)}, {weight}."
    )


def _kind_name(kind: str, a: Analysis, b: Analysis) -> str:
    """Return ``kind`` in words: on a CPU nothing is idle, the time lies between operators."""
    return "time between operators" if kind == "idle" and a.device.type == b.device.type == "cpu" else kind


def _direction(gap: Gap) -> tuple[str, float]:
    """Return the run that takes longer, and the sign that turns first minus second into longer minus shorter."""
    return (gap.first, 1.0) if gap.total_us >= 0 else (gap.second, -1.0)


def _host_bound(*runs: Analysis) -> str:
    """Return a sentence that comes before any talk of memory when a GPU waits for its host."""
    waiting = [(r, waiting_pct(r)) for r in runs if r.device.type == "cuda" and waiting_pct(r) > HOST_BOUND_PCT]
    if not waiting:
        return ""
    text = " and ".join(
        f"{percent(share)} of the {'untraced' if _untraced(r) else 'traced'} time in {r.label}" for r, share in waiting
    )
    return f"The GPU is idle for {text}, so the host sets the pace there. "


def waiting_pct(a: Analysis) -> float:
    """Return the share of time in which the GPU has nothing to do: of the untraced median where there is one.

    The kernels take as long with the profiler as without it; what the host does between them does not.
    """
    untraced_us = _untraced(a)
    if not untraced_us:
        return a.totals.idle_pct
    busy_us = a.totals.busy_us / (a.window.batches or 1)
    return max(0.0, 100 * (1 - busy_us / untraced_us))


def _untraced(a: Analysis) -> float:
    return 1e3 * (a.latency.median_ms.value or 0.0) if a.latency is not None and a.window.batches else 0.0


def _main_reasons(a: Analysis, b: Analysis, gap: Gap) -> tuple[Reason, ...]:
    """Return the kinds that differ most, each said of the run that takes longer in it; traced times, floors modelled."""
    found = []
    for kind, delta, floor in by_kind(gap)[:3]:
        longer, sign = (gap.first, 1.0) if delta >= 0 else (gap.second, -1.0)
        text = f"{_kind_name(kind, a, b)}: {longer} takes {milliseconds(abs(delta))} longer"
        if floor:
            work, above = milliseconds(sign * floor), milliseconds(sign * (delta - floor))
            text += f" ({APPROXIMATELY}{work} from the floor of its work, {APPROXIMATELY}{above} from time above it)"
        found.append(Reason(text, "busy" if kind == "idle" else "gap"))
    return tuple(found)


def say_one(analyses: tuple[Analysis, ...]) -> Verdict:
    """Return the verdict on runs that are not compared: what each takes and what most of it is."""
    lines = [_one(a) for a in analyses]
    first = analyses[0]
    headline = lines[0] if len(analyses) == 1 else f"{len(analyses)} runs side by side; give exactly two to have them compared"
    reason = _shares(first) if len(analyses) == 1 else " ".join(f"{line}." for line in lines)
    return Verdict(
        headline=headline,
        reason=_host_bound(*analyses) + reason,
        not_measured=not_measured(analyses),
        reasons=_top_kinds(first) if len(analyses) == 1 else (),
        caveats=tuple(caveat for a in analyses for caveat in find_caveats(a)),
    )


def _one(a: Analysis) -> str:
    if a.latency is not None:
        return f"{a.label} takes {digits(a.latency.median_ms.value)} ms per batch on {place(a)}"
    if a.device.type == "cuda" and not a.totals.kernel_count:
        return f"{a.label} on {place(a)}: the trace holds no kernels"
    work = "of it GPU time" if a.device.type == "cuda" else "of it in operators"
    steps = a.window.batches or 1
    wall, busy = milliseconds(a.totals.wall_us / steps), milliseconds(a.totals.busy_us / steps)
    part = "the selected part spans" if a.window.stretches else "the trace spans"
    what = part if not a.window.batches else "a step takes" if steps == 1 else f"a step takes, over {steps} steps,"
    return f"{a.label}: {what} {wall} on {place(a)}, {busy} {work}"


def _shares(a: Analysis) -> str:
    kinds = a.kinds.sort_values("time_us", ascending=False)
    busy = a.totals.busy_us
    if not busy:
        return "Nothing ran in the window of this trace."
    top = [f"{row.kind} {percent(100 * row.time_us / busy)}" for row in records(kinds.head(3))]
    return f"Of the busy time, {', '.join(top)}."


def _top_kinds(a: Analysis) -> tuple[Reason, ...]:
    kinds = a.kinds.sort_values("time_us", ascending=False).head(3)
    return tuple(Reason(f"{row.kind}: {milliseconds(row.time_us)}", "time") for row in records(kinds))
