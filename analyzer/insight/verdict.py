"""The sentences on top of the page and in the terminal. Every number comes from the objects that the tables show."""

from __future__ import annotations

import math

from analyzer.format import APPROXIMATELY, digits, input_size, interval, milliseconds, percent, signed, times
from analyzer.insight.causes import CAUSES, by_kind, by_term, contradictions, is_scaled_apart
from analyzer.insight.caveats import HOST_BOUND_PCT, HOST_PACE_PCT, find_caveats, find_pair_caveats, not_measured
from analyzer.insight.gap import comparable
from analyzer.insight.ledger import UNTRACED, WAITING
from analyzer.metrics.timing import MIN_ITERATIONS
from analyzer.schema.evidence import Quantity
from analyzer.schema.ledger import WAITING_TERMS
from analyzer.schema.results import Analysis, Gap, Reason, Verdict
from analyzer.schema.tables import records

NO_DIFFERENCE = 0.02
"""Ratios closer to 1 than this are no clear difference, however narrow their interval."""
UNEXPLAINED_LIMIT = 0.25
_SAID = 2
"""Runs whose waiting is told one by one; more of them are counted."""
TOO_WIDE = 1.5
"""An interval that holds 1 and whose ends differ by more than this factor is no evidence of equality."""


def place(a: Analysis) -> str:
    """Return the conditions of a run: ``NVIDIA H100 80GB HBM3 (bfloat16, batch 32, 224 px)``."""
    return f"{a.device.name} ({', '.join(_conditions(a))})"


def _conditions(a: Analysis) -> tuple[str, ...]:
    facts = a.run.facts
    if facts is None:
        return (a.dtype,)
    shown = input_size(facts.settings.image_size, facts.model.input_shape)
    return element_type(a), f"batch {facts.settings.batch_size}", shown


def _places(a: Analysis, b: Analysis) -> str:
    """Return the conditions of both runs, once where they are the same; what the labels say already is left out."""
    if place(a) == place(b):
        return place(a)
    pairs = list(zip(_conditions(a), _conditions(b), strict=False))
    if a.device.name == b.device.name and all(x == y or (x in a.label and y in b.label) for x, y in pairs):
        common = [x for x, y in pairs if x == y]
        return f"{a.device.name} ({', '.join(common)})" if common else a.device.name
    return f"{place(a)} against {place(b)}"


def element_type(a: Analysis) -> str:
    """Return the element type of a run: ``bfloat16``, or ``bfloat16 by autocast`` where weights stay float32."""
    return f"{a.dtype} by autocast" if a.run.facts and a.run.facts.settings.autocast else a.dtype


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
    where = _places(a, b)
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
    return text + _doubt(gap)


def _doubt(gap: Gap) -> str:
    return "; the cause is not established" if _open_share(gap) > UNEXPLAINED_LIMIT else ""


def _untimed_headline(a: Analysis, b: Analysis, gap: Gap, where: str) -> str:
    """Return the headline on traces without an untraced latency."""
    first, second = milliseconds(gap.first_us), milliseconds(gap.second_us)
    if not comparable(a, b):
        return f"{gap.first} spans {first}, {gap.second} {second} on {where}: traces that do not both divide into steps"
    longer, shorter = (gap.first, gap.second) if gap.total_us >= 0 else (gap.second, gap.first)
    low, high = sorted((gap.first_us, gap.second_us))
    if low <= 0:
        return f"{gap.first} and {gap.second} on {where}: no time to compare"
    if low == high:
        return f"{gap.first} and {gap.second} take equally long on {where}, traced and without an interval"
    return f"{longer} takes {high / low:.2f}x as long as {shorter} on {where}, traced and without an interval{_doubt(gap)}"


def _open_share(gap: Gap) -> float:
    """Return the size of the parts without an established cause over the gap; infinite where there is no gap to speak of."""
    if gap.total_us:
        return gap.open_us / abs(gap.total_us)
    return math.inf if gap.open_us else 0.0


def _reason(a: Analysis, b: Analysis, gap: Gap, ratio: Quantity | None) -> str:
    host = _host_bound(a, b)
    if not comparable(a, b):
        return f"{host}Without steps in both there is no telling whether they did the same amount of work."
    if ratio is not None and not clearly_different(ratio):
        why = "which is within their spread" if _interval_holds_one(ratio) else "less than 2 %"
        why = why if ratio.low is not None else f"from fewer than {MIN_ITERATIONS} iterations"
        return f"{host}The medians differ by {milliseconds(abs(gap.total_us))} per batch, {why}."
    if not gap.total_us:
        return f"{host}What they spend it on differs: see the parts of the gap."
    longer, sign = _direction(gap)
    kinds = [(_kind_name(kind, a, b), sign * sum(terms.values())) for kind, terms in by_kind(gap)[:2]]
    terms = [(term, us) for term, us in by_term(gap) if term not in WAITING_TERMS or not is_scaled_apart(gap)][:2]
    causes = [f"{CAUSES[term]} ({signed(sign * delta)})" for term, delta in terms]
    by_cause = f"; by cause, the largest are {' and '.join(causes)}" if causes else ""
    share = _open_share(gap)
    weight = percent(100 * share) if share <= 1 else "more than all"
    per = "per batch" if gap.basis == UNTRACED else "per step"
    return (
        f"{host}Of the {milliseconds(abs(gap.total_us))} that {longer} takes longer {per}, {_accounts(kinds)}{by_cause}. "
        f"Parts whose cause is not established are {milliseconds(gap.open_us)} in size, {weight} of the gap."
        f"{''.join(f' {text}' for text in contradictions(gap))}"
    )


def _accounts(parts: list[tuple[str, float]]) -> str:
    """Return (name, µs towards the gap) as a clause: ``X accounts for 1 ms and Y counts 2 ms the other way``."""
    said = [
        f"{name} accounts for {milliseconds(us)}" if us >= 0 else f"{name} counts {milliseconds(-us)} the other way"
        for name, us in parts
    ]
    return " and ".join(said) or "nothing accounts for any of it"


def _kind_name(kind: str, a: Analysis, b: Analysis) -> str:
    """Return ``kind`` in words: a GPU is idle, on a CPU the time lies between operators."""
    if kind != WAITING:
        return kind
    return "dispatch and time between operators" if a.device.type == b.device.type == "cpu" else "idle"


def _direction(gap: Gap) -> tuple[str, float]:
    """Return the run that takes longer, and the sign that turns first minus second into longer minus shorter."""
    return (gap.first, 1.0) if gap.total_us >= 0 else (gap.second, -1.0)


def _host_bound(*runs: Analysis) -> str:
    """Return a sentence that comes before any talk of memory when a GPU waits for its host."""
    waiting = [(r, waiting_pct(r)) for r in runs if r.device.type == "cuda" and waiting_pct(r) > HOST_BOUND_PCT]
    if not waiting:
        return ""
    if len(runs) > _SAID:
        return f"{len(waiting)} of {len(runs)} runs leave their GPU idle for more than {percent(HOST_BOUND_PCT)} of the time. "
    return f"The GPU is idle for {' and '.join(_idle_words(r, share) for r, share in waiting)}. "


def _idle_words(a: Analysis, share: float) -> str:
    """Return how long a GPU is idle and, where that is most of the time, what sets the pace."""
    text = f"{percent(share)} of the {'untraced' if _untraced(a) else 'traced'} time in {a.label}"
    idle = a.totals.idle
    if idle is not None and idle.loader_us > a.totals.idle_us / 2:
        return f"{text}, mostly because it waits for the data loader"
    return f"{text}, so the host sets the pace there" if share > HOST_PACE_PCT else text


def waiting_pct(a: Analysis) -> float:
    """Return the share of time in which the GPU has nothing to do: of the untraced median where there is one.

    The kernels take as long with the profiler as without it; what the host does between them does not. As in the ledger, no
    more counts as waiting than was seen while tracing.
    """
    untraced_us, steps = _untraced(a), a.window.batches or 1
    if not untraced_us:
        return a.totals.idle_pct
    waiting_us = min(max(untraced_us - a.totals.busy_us / steps, 0.0), a.totals.idle_us / steps)
    return 100 * waiting_us / untraced_us


def _untraced(a: Analysis) -> float:
    return 1e3 * (a.latency.median_ms.value or 0.0) if a.latency is not None and a.window.batches else 0.0


def _main_reasons(a: Analysis, b: Analysis, gap: Gap) -> tuple[Reason, ...]:
    """Return the kinds that differ most, each said of the run that takes longer in it, with the two largest causes."""
    found = []
    for kind, terms in by_kind(gap)[:3]:
        delta = sum(terms.values())
        longer, sign = (gap.first, 1.0) if delta >= 0 else (gap.second, -1.0)
        text = f"{_kind_name(kind, a, b)}: {longer} takes {milliseconds(abs(delta))} longer"
        largest = sorted(terms, key=lambda term: -abs(terms[term]))[:2]
        if kind != WAITING:
            why = [f"{APPROXIMATELY}{milliseconds(sign * terms[term])} {CAUSES[term]}" for term in largest if terms[term]]
            text += f" ({', '.join(why)})" if why else ""
        found.append(Reason(text, "busy" if kind == WAITING else "gap"))
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
    """Return the largest parts of the time, per step where the trace names steps; waiting counts as one."""
    steps, per = a.window.batches or 1, "per step" if a.window.batches else "in the trace"
    parts = [(str(row.kind), float(row.time_us)) for row in records(a.kinds)]
    parts.append(("idle" if a.device.type == "cuda" else "dispatch and time between operators", a.totals.idle_us))
    largest = sorted(parts, key=lambda part: -part[1])[:3]
    return tuple(Reason(f"{name}: {milliseconds(us / steps)} {per}, traced", "time") for name, us in largest)
