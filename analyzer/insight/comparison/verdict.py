"""The sentences on top of a comparison. Every number comes from the objects that the tables show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from analyzer.format import counted, interval, milliseconds, percent, signed, times
from analyzer.insight.comparison.basis import device_name, is_untraced, same_input
from analyzer.insight.comparison.changes import BATCH, IMAGE, KERNELS
from analyzer.insight.comparison.facts import UNKNOWN
from analyzer.insight.comparison.gains import KERNELS as ALL_KERNELS
from analyzer.insight.comparison.gap_words import moved
from analyzer.insight.comparison.matching import ALIKE
from analyzer.insight.comparison.sentences import (
    CHANGES,
    FACTS,
    GAINS,
    MAX_REASONS,
    NAMED,
    SAID,
    TIME,
    Found,
    Said,
    as_long,
    inverse,
    offer_words,
    tail,
    taken,
)  # fmt: skip
from analyzer.insight.ledger import WAITING
from analyzer.schema.comparison import Change, FactRow
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Reason


def say(found: Found) -> Said:
    """Return headline, reason and main reasons."""
    tellers: tuple[Callable[[Found], Said | None], ...] = (moved, _changed, _one_model)
    for tell in tellers:
        said = tell(found)
        if said is not None:
            return said
    return _side_by_side(found)


# two runs of one model


def _changed(found: Found) -> Said | None:
    if not found.changes:
        return None
    base, other = found.baseline, found.others[0]
    whole = {c.name: c for c in found.changes if c.by == "model"}
    run = found.runs[base]
    if run.label == found.runs[other].label and _same_device(found, base, other):
        words = _change_words(found, whole, " as ".join(_at(tail(found, number)) for number in (other, base)))
        headline = f"{run.label} on {device_name(run)}: {words[0].lower()}{words[1:]}"
    else:
        headline = _change_words(found, whole, f"in {found.places[other]} as in {found.places[base]}")
    return headline, _change_reason(run, whole) + offer_words(found), _change_reasons(found.changes)


def _at(what: str) -> str:
    return f"in {what}" if what.startswith("run ") else f"with {what}"


def _same_device(found: Found, one: int, other: int) -> bool:
    return device_name(found.runs[one]) == device_name(found.runs[other])


def _change_words(found: Found, whole: Mapping[str, Change], where: str) -> str:
    """Return what became of the time of a batch, of an image where batches differ, or of the kernels of traced steps."""
    base, other = found.runs[found.baseline], found.runs[found.others[0]]
    timed = is_untraced(base) and is_untraced(other)
    ratio, of = taken(other, base)
    if timed and ratio.value is not None:
        speaks = whole[IMAGE if of == "an image" else BATCH]
        return f"{of.capitalize()} takes {_as_long_in(ratio, where)}{_verdict_on(speaks)}"
    if timed:
        return "Batches hold other work, so their times are not held against each other"
    kernels = whole[KERNELS]
    what = "Kernels take" if base.device.type == "cuda" else "Operators take"
    text = f"{what} {_as_long_in(_ratio_of(kernels), where)}"
    if BATCH in whole:
        text += f", a whole traced step {times(_ratio_of(whole[BATCH]))}"
    if not same_input(base, other):
        return f"{text}; the batches differ in size"
    if kernels.delta_us.low is None and base.steps == other.steps == 1:
        return f"{text}; one traced step each, so nothing is certain"
    return text + _verdict_on(kernels)


def _as_long_in(ratio: Quantity, where: str) -> str:
    certainty = f" ({interval(ratio)})" if ratio.low is not None else ""
    return f"{times(ratio)} as long {where}{certainty}"


def _ratio_of(change: Change) -> Quantity:
    if not change.first_us:
        return Quantity.missing("x", "no time to divide by")
    return Quantity(change.second_us / change.first_us, "x", Evidence.DERIVED)


def _verdict_on(change: Change) -> str:
    """Return what a change amounts to, where that is not a clear one."""
    if change.state == "same":
        return ": no change that counts"
    if change.delta_us.low is None:
        return f"; {NOTHING_CERTAIN}"
    return ": no clear change" if change.state == "unclear" else ""


NOTHING_CERTAIN = "no interval, so nothing is certain"


def _change_reason(base: Digest, whole: Mapping[str, Change]) -> str:
    parts = [f"{_whole_words(base, name)}: {_from_to(change)}." for name, change in whole.items()]
    first, kernels = next(iter(whole.values())), whole[KERNELS]
    waiting = first.name == BATCH and abs(first.delta_us.value or 0.0) > 2 * abs(kernels.delta_us.value or 0.0)
    if waiting and base.device.type == "cuda":
        parts.append("Most of the difference is time in which no kernel runs.")
    return " ".join(parts)


def _whole_words(base: Digest, name: str) -> str:
    if name == KERNELS:
        return "Kernels" if base.device.type == "cuda" else "Operators"
    if name == IMAGE:
        return "An image"
    return "A batch without the profiler" if is_untraced(base) else "A traced step"


def _from_to(change: Change) -> str:
    delta = change.delta_us
    ends = (
        f", {signed(delta.low)} to {signed(delta.high)}"
        if delta.low is not None and delta.high is not None
        else ", no interval"
    )
    return f"{milliseconds(change.first_us)}, then {milliseconds(change.second_us)} ({signed(delta.value or 0.0)}{ends})"


def _change_reasons(changes: Sequence[Change]) -> tuple[Reason, ...]:
    """Return the kinds that clearly changed most, or the largest differences, then what exists in one run only."""
    kinds = [c for c in changes if c.by == "kind" and c.kind != WAITING]
    known = [c for c in kinds if c.state not in ("added", "removed")]
    clear = [c for c in known if c.state in ("faster", "slower")]
    if not clear and known and not any(c.delta_us.low is not None for c in known):
        out = [Reason("too few traced steps for an interval, so nothing is certain; the largest differences:", CHANGES)]
        out += [Reason(_kind_words(c), CHANGES) for c in known[:_TOP]]
    elif not clear:
        largest = f"; the largest difference: {_kind_words(kinds[0])}" if kinds else ""
        out = [Reason(f"no kind of operator clearly changed{largest}", CHANGES)]
    else:
        out = [Reason(f"{c.state}: {_kind_words(c)}", CHANGES) for c in clear[:_TOP]]
    for state in ("added", "removed"):
        found = [c for c in changes if c.by == "operator" and c.state == state]
        if found:
            us = sum(c.first_us + c.second_us for c in found)
            out.append(Reason(f"{counted(len(found), 'operator', 'operators')} {state}: {milliseconds(us)} per batch", CHANGES))
    return tuple(out)


_TOP = 3


def _kind_words(change: Change) -> str:
    """Return a difference with its factor: ``attention takes 3.05x as long, +252 µs per batch``."""
    factor = f" takes {times(_ratio_of(change))} as long," if change.first_us and change.second_us else f" {change.state},"
    return f"{change.name}{factor} {signed(change.delta_us.value or 0.0)} per batch"


# one model in several places


def _one_model(found: Found) -> Said | None:
    """Say what one model takes in several places, where all runs are of it."""
    labels = {run.label for run in found.runs if run.facts}
    known = len(labels) == 1 and all(run.facts for run in found.runs)
    alike = all(found.matching.matched_pct[n] >= 100 * ALIKE for n in found.others)
    if not (known or alike):
        return None
    untraced = all(is_untraced(run) for run in found.runs)
    if untraced:
        held = {n: taken(found.runs[n], found.runs[found.baseline]) for n in found.others}
        ratios = {n: ratio for n, (ratio, _) in held.items() if ratio.value}
        what = "an image" if any(of == "an image" for _, of in held.values()) else "a batch"
    else:
        ratios = {
            g.run: inverse(g.speedup)
            for g in found.gains
            if (g.role, g.basis, g.baseline) == (ALL_KERNELS, "time", found.baseline) and g.speedup.value
        }
        what = "all kernels together"
    if len(ratios) != len(found.others):
        return None
    base, subject = found.places[found.baseline], f"{next(iter(labels))}, {what}" if known else what.capitalize()
    least, most = (pick(ratios, key=lambda n: ratios[n].value or 0.0) for pick in (min, max))
    if len(ratios) == 1:
        headline = f"{subject}: {as_long(ratios[least])} in {found.places[least]}, against {base}"
    else:
        ends = " and ".join(f"{as_long(ratios[n])} in {found.places[n]}" for n in (least, most))
        headline = f"{subject}: {ends}, each against {base}; {len(found.runs)} runs"
    reasons = tuple(Reason(f"{found.places[n]}: {as_long(ratios[n])}", GAINS) for n in found.others[:MAX_REASONS])
    how = "without the profiler" if untraced else "with the profiler"
    return headline, f"Times are those {how}; each ratio is against {base}." + offer_words(found), reasons


# whatever else


def _side_by_side(found: Found) -> Said:
    """Say what runs that cannot be compared as a whole have in common, and what not."""
    runs = found.runs
    devices = list(dict.fromkeys(map(device_name, runs)))
    named = ", ".join(devices[:NAMED]) + (f" and {len(devices) - NAMED} more" if len(devices) > NAMED else "")
    where = f"{counted(len(runs), 'run', 'runs')} on {counted(len(devices), 'device', 'devices')} ({named})"
    families = found.matching.families()
    reasons = [reason for family in families for reason in _same_work(found, family)][:MAX_REASONS]
    if families:
        inside = [n for family in families for n in family]
        same = list(dict.fromkeys(device_name(runs[n]) for n in inside))
        which = f"those on {' and '.join(same)}" if 1 < len(same) <= SAID else f"{len(inside)} of them"
        rest = "; the others are not known to do the same work" if len(inside) < len(runs) else ""
        work = f"{which} do the same work{rest}"
    else:
        work = "they are not known to do the same work"
    if any(g.basis != "time" and g.speedup.value is not None for g in found.gains):
        work += ", so rates are compared where times are not"
    if not reasons:
        reasons = [Reason(f"{row.fact} differs: {row.warning}", FACTS) for row in found.facts if row.warning][:MAX_REASONS]
    return f"{where}: {work}", _share_words(found) + _common_words(found.facts), tuple(reasons)


def _same_work(found: Found, family: Sequence[int]) -> list[Reason]:
    """Return how long the kernels of runs take that spend their time in the same operators; of batches alone."""
    timed = [n for n in family if found.runs[n].batches]
    out = []
    for first, second in pairwise(timed):
        us = [float(found.runs[n].kinds["time_us"].sum()) for n in (first, second)]
        taken = Quantity(us[1] / us[0], "x", Evidence.DERIVED) if us[0] else Quantity.missing("x", "no time")
        text = f"the same operators: kernels take {times(taken)} as long in {found.places[second]} as in {found.places[first]}"
        out.append(Reason(f"{text} ({milliseconds(us[1])} against {milliseconds(us[0])} per batch)", TIME))
    return out


def _share_words(found: Found) -> str:
    shares = [found.matching.matched_pct[n] for n in found.others]
    known = [share for share in shares if not math.isnan(share)]
    if not known:
        return ""
    most = percent(max(known))
    share = "nothing" if not max(known) else most if most.startswith("under") else f"at most {most}"
    return f"Of the kernel time of any other run, {share} is in operators that {found.places[found.baseline]} has too. "


def _common_words(facts: Sequence[FactRow]) -> str:
    """Return what all runs that tell it have in common, and in which facts that matter they differ."""
    common = []
    for row in facts:
        known = {value for value in row.values if value != UNKNOWN}
        if not row.differs and sum(value != UNKNOWN for value in row.values) > 1:
            common.append(f"{row.fact} {next(iter(known))}{'' if UNKNOWN not in row.values else ' (where recorded)'}")
    differing = [row.fact for row in facts if row.differs and row.warning]
    same = f"In common: {', '.join(common[:5])}. " if common else "No recorded fact is common to all. "
    return same + (f"Different: {', '.join(differing)}." if differing else "")
