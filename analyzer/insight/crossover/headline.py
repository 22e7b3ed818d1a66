"""The sentences of a crossover report. Every number comes from the objects that its tables show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from analyzer.format import counted, digits, fixed, interval, percent, times
from analyzer.insight.crossover.contests import OUTCOME_WORDS, Contest
from analyzer.insight.crossover.crossings import Crossing, Track
from analyzer.insight.crossover.result import Crossover, Mismatch
from analyzer.schema.evidence import Quantity

_NAMED = 60


def sampling(figure: Quantity) -> tuple[float, float] | None:
    """Return the interval of a crossing in px, None without one and where its ends round to the same pixel."""
    if figure.low is None or figure.high is None or fixed(figure.low, 0) == fixed(figure.high, 0):
        return None
    return figure.low, figure.high


def longer(contest: Contest) -> tuple[int, int, Quantity]:
    """Return (the model that takes longer, the other, how many times as long) of a contest in which both have a time."""
    found = contest.ratio
    if found is None or not found.value:
        raise ValueError("a contest without a ratio")
    if found.value >= 1:
        return contest.first, contest.second, found
    low, high = (1 / found.high if found.high else None), (1 / found.low if found.low else None)
    return contest.second, contest.first, Quantity(1 / found.value, "x", found.evidence, low, high, found.source)


def headline(found: Crossover) -> str:
    """Return the first sentence of the report: the track of the first pair with the most sizes, the smallest batch of those."""
    usable = [t for t in found.tracks if t.timed]
    if not usable:
        return _alone(found)
    track = leading(usable)
    return f"{say(track, found)}; {where(track, found)}"


def leading(usable: Sequence[Track]) -> Track:
    """Return the track that the headline is about."""
    first = usable[0]
    same = [t for t in usable if (t.first, t.second, t.device) == (first.first, first.second, first.device)]
    return max(same, key=lambda t: (len(t.timed), -t.batch))


def spread(usable: Sequence[Track], most: int) -> list[Track]:
    """Return at most ``most`` of ``usable``: of each pair in turn one, beginning with the one of the headline."""
    groups: dict[tuple[int, int], list[Track]] = {}
    first = leading(usable) if usable else None
    for track in sorted(usable, key=lambda t: t is not first):
        groups.setdefault((track.first, track.second), []).append(track)
    return [track for turn in zip_longest(*groups.values()) for track in turn if track is not None][:most]


def where(track: Track, found: Crossover) -> str:
    """Return the conditions of a track: ``batch 1, NVIDIA A100, each at its best setting``."""
    how = f", {how_chosen(found)}" if how_chosen(found) else ""
    return f"batch {track.batch}, {found.grid.devices[track.device][:_NAMED]}{how}"


def how_chosen(found: Crossover) -> str:
    """Return that settings were chosen where a model had a choice or settings differ, else the one setting in words."""
    variants = list(dict.fromkeys(e.variant for e in found.grid.entries))
    if had_choice(found):
        return "each at its best setting"
    if len({v.but_attention for v in variants}) > 1:
        return "each at its own setting"
    return found.grid.words(variants[0], found.grid.models[found.grid.entries[0].model].family) if variants else ""


def had_choice(found: Crossover) -> bool:
    """Tell whether a model was run under more than one setting."""
    pairs = {(e.model, e.variant) for e in found.grid.entries}
    return len(pairs) > len({model for model, _ in pairs})


def say(track: Track, found: Crossover) -> str:
    """Return what a track shows in one clause, without the conditions."""
    first, second = (name(found, number) for number in (track.first, track.second))
    timed = track.timed
    if not timed:
        return f"No size at which both {first} and {second} have a time"
    if len(timed) == 1:
        return _one_size(timed[0], first, second, found) + _lost(track, found)
    span = f"{timed[0].size} to {timed[-1].size} px"
    established = [c for c in track.crossings if c.state != "possible"]
    if established:
        text = _crossed(track, established, found)
    elif not any(track.signs):
        text = _untold(track, span, first, second)
    else:
        text = _one_sided(track, span, found)
    return text + _lost(track, found)


def _untold(track: Track, span: str, first: str, second: str) -> str:
    """Return the clause for a pair that no size tells apart, by what stands in the way."""
    outcomes = Counter(c.outcome for c in track.timed)
    sizes = f"{counted(len(track.timed), 'size', 'sizes')} from {span}"
    if set(outcomes) == {"unclear"}:
        return f"No clear difference between {first} and {second} at any of {sizes}"
    if len(outcomes) == 1:
        return f"{OUTCOME_WORDS[next(iter(outcomes))].capitalize()} {first} and {second} apart at any of {sizes}"
    told = ", ".join(f"{OUTCOME_WORDS[outcome]} at {n}" for outcome, n in outcomes.most_common())
    return f"{first} and {second} are not told apart at any of {sizes}: {told}"


def _lost(track: Track, found: Crossover) -> str:
    """Return which of the two ran out of memory where, empty where none did."""
    sizes: dict[int, list[str]] = {}
    for contest in track.contests:
        for model in contest.too_large:
            sizes.setdefault(model, []).append(str(contest.size))
    told = [f"{name(found, model)} ran out of memory at {', '.join(at)} px" for model, at in sizes.items()]
    return "; " + "; ".join(told) if told else ""


def _one_size(contest: Contest, first: str, second: str, found: Crossover) -> str:
    slow, fast, shown = longer(contest)
    if contest.outcome in ("first", "second"):
        return f"{name(found, slow)} takes {times(shown)} as long as {name(found, fast)} at {contest.size} px"
    span = f"{times(shown)} ({interval(shown)})" if shown.low is not None else f"{times(shown)}, without an interval"
    words = OUTCOME_WORDS[contest.outcome].capitalize()
    text = f"{words} between {first} and {second}" if contest.outcome == "unclear" else f"{words} {first} and {second} apart"
    return f"{text} at {contest.size} px: {name(found, slow)} takes {span} as long"


def _one_sided(track: Track, span: str, found: Crossover) -> str:
    """Return the clause for a pair of which one is always ahead where they differ."""
    sign = next(s for s in track.signs if s)
    slow, fast = (track.first, track.second) if sign > 0 else (track.second, track.first)
    known = [c for c, s in zip(track.timed, track.signs, strict=True) if s]
    unclear: dict[str, list[str]] = {}
    for contest, side in zip(track.timed, track.signs, strict=True):
        if not side:
            unclear.setdefault(OUTCOME_WORDS[contest.outcome], []).append(str(contest.size))
    ratios = sorted((longer(c)[2] for c in known), key=lambda r: r.value or 0.0)
    ends = list(dict.fromkeys((times(ratios[0]), times(ratios[-1]))))
    text = f"{name(found, slow)} takes {' to '.join(ends)} as long as {name(found, fast)}"
    if not unclear:
        return f"No crossing within {span}: {text}"
    sizes = ", ".join(f"{c.size}" for c in known)
    more = ", so no crossing is established" if track.crossings else ""
    rest = " and ".join(f"{words} at {', '.join(at)} px" for words, at in unclear.items())
    return f"{text} at {sizes} px; {rest}{more}"


def _crossed(track: Track, crossings: list[Crossing], found: Crossover) -> str:
    """Return the clause for a pair that crosses: the two ends, and where it happens."""
    known = [(c, s) for c, s in zip(track.timed, track.signs, strict=True) if s]
    small, large = known[0][0], known[-1][0]
    slow, fast, shown = longer(small)
    text = f"{name(found, slow)} takes {times(shown)} as long as {name(found, fast)} at {small.size} px"
    slow, _, shown = longer(large)
    text += f", and {name(found, slow)} {times(shown)} as long at {large.size} px"
    if len(crossings) == 1:
        return f"{text}: they cross {_place(crossings[0])}"
    return f"{text}: they cross {len(crossings)} times: {', '.join(_place(c) for c in crossings)}"


def _place(crossing: Crossing) -> str:
    """Return the measured sizes around a crossing, and where it is interpolated; its interval is of sampling alone."""
    text = f"between {crossing.between[0]} and {crossing.between[1]} px"
    place = crossing.size_px
    if place.value is None:
        return f"somewhere {text}" + (f" ({place.source})" if place.source else "")
    ends = sampling(place)
    span = f" (sampling alone: {fixed(ends[0], 0)} to {fixed(ends[1], 0)} px)" if ends else ""
    return f"{text}, interpolated at {fixed(place.value, 0)} px{span}"


def _alone(found: Crossover) -> str:
    """Return the headline of a sweep in which no two models have a time at the same place."""
    timed = [e for e in found.grid.entries if e.latency_ms is not None]
    total = len(found.sweep.points) + len(found.sweep.missing)
    if not timed:
        return f"None of {counted(total, 'point', 'points')} has a time"
    models = sorted({e.model for e in timed})
    if len(models) > 1:
        return f"No two of {len(models)} models have a time on the same device at the same batch and image size"
    best = [b.best for b in found.best if b.best is not None]
    fastest = min(best, key=lambda e: e.time_ms / e.batch)
    return (
        f"{name(found, models[0])} takes {digits(fastest.time_ms / fastest.batch)} ms per image at best: "
        f"{fastest.size} px, batch {fastest.batch}, {found.grid.words(fastest.variant, found.grid.models[models[0]].family)}, "
        f"{found.grid.devices[fastest.device][:_NAMED]}"
    )


def name(found: Crossover, model: int) -> str:
    """Return the name of a model, cut to what a sentence can hold."""
    text = found.grid.models[model].name
    return text if len(text) <= _NAMED else f"{text[: _NAMED - 1]}…"


def say_mismatch(mismatch: Mismatch, found: Crossover) -> str:
    """Return how far a pair is from equal FLOP and parameters, empty where neither is known."""
    first, second = name(found, mismatch.first), name(found, mismatch.second)
    parts = []
    if mismatch.flop_pct:
        small, large = mismatch.flop_pct[0], mismatch.flop_pct[-1]
        text = f"{_more(small[1])} FLOP per image at {small[0]} px"
        if _more(large[1]) != _more(small[1]):
            text += f" and {_more(large[1])} at {large[0]} px"
        parts.append(text)
    if mismatch.parameters_pct is not None:
        parts.append(f"{_more(mismatch.parameters_pct)} parameters")
    return f"{first} has {'; '.join(parts)} against {second}." if parts else ""


def _more(share_pct: float) -> str:
    if abs(share_pct) < 0.05:
        return "equally many"
    return f"{percent(abs(share_pct))} {'more' if share_pct > 0 else 'fewer'}"


def reason(found: Crossover) -> str:
    """Return the second sentence: how many points there are and what came of them."""
    statuses: dict[str, int] = {}
    for point in found.sweep.points:
        status: str = "unreadable" if point.problem else point.record.status
        if status == "measured" and (point.figures is None or point.figures.latency_ms.value is None):
            status = "untimed"
        statuses[status] = statuses.get(status, 0) + 1
    words = {
        "measured": "with a time", "out_of_memory": "out of memory", "unsupported": "unsupported", "failed": "failed",
        "unreadable": "with a run that cannot be read", "untimed": "measured without a time",
    }  # fmt: skip
    told = [f"{statuses[key]} {text}" for key, text in words.items() if key in statuses]
    told += [f"{len(found.sweep.missing)} not run"] if found.sweep.missing else []
    total = len(found.sweep.points) + len(found.sweep.missing)
    text = f"{counted(total, 'point', 'points')}: {', '.join(told) or 'none'}."
    if found.grid.repeated:
        repeats = counted(found.grid.repeated, "point repeats", "points repeat")
        text += f" {repeats} what another one measured; of each such group the newest with a time counts."
    told_of = sum(bool(t.timed) for t in found.tracks)
    if told_of > 1:
        text += f" The headline is one of {told_of} comparisons: pairs of models, on each device and at each batch size."
    if had_choice(found):
        text += " Times are those of the fastest setting of each model at each batch and image size, unless said otherwise."
    return text
