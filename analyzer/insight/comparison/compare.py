"""From the digests of any number of runs to everything that a comparison shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from analyzer.errors import ConfigError
from analyzer.insight.comparison import caveats, normalised
from analyzer.insight.comparison.bases import find_bases
from analyzer.insight.comparison.basis import batch_time, device_name, has_shapes, names_of, per_image
from analyzer.insight.comparison.changes import find_changes
from analyzer.insight.comparison.facts import UNKNOWN, compare_facts
from analyzer.insight.comparison.gains import gains
from analyzer.insight.comparison.matching import match
from analyzer.insight.comparison.moves import find_moves
from analyzer.insight.comparison.offers import offers
from analyzer.insight.comparison.sentences import Found
from analyzer.insight.comparison.verdict import say
from analyzer.schema.comparison import Comparison, FactRow
from analyzer.schema.digest import Digest

MIN_EFFECT_PCT = 5.0
_TELLING: tuple[tuple[str, str], ...] = (
    ("element type", ""), ("batch size", "batch "), ("image size", ""), ("memory layout", ""), ("execution", ""),
    ("attention", "attention "), ("autocast", "autocast "), ("input lies on the", "input on the "),
    ("cudnn.benchmark", "cudnn.benchmark "), ("TF32 in matrix products", "TF32 "), ("CPU threads", "threads "),
    ("torch", "torch "), ("driver", "driver "),
)  # fmt: skip
"""Facts that tell runs of one model on one device apart, in the order in which they are tried, and the word before them."""


def compare_runs(digests: Sequence[Digest], baseline: int | None = None, min_effect_pct: float = MIN_EFFECT_PCT) -> Comparison:
    """Return the comparison of any number of runs with the one numbered ``baseline``.

    Without a number that is the first run whose trace has shapes and steps, or else the first. ``min_effect_pct``: what a
    change of a part must come to, in percent of its time, before it counts.

    Raises:
        ConfigError: there are fewer than two runs, or no run of that number.
    """
    runs = tuple(digests)
    if len(runs) < 2:
        raise ConfigError("a comparison takes at least two runs", "give more: runs=[A,B] or runs=traces/*")
    chosen, baseline = baseline is None, default_baseline(runs) if baseline is None else baseline
    if not 0 <= baseline < len(runs):
        raise ConfigError(f"there is no run number {baseline} among {len(runs)}", "name the baseline by its path: baseline=A")
    names, facts = names_of(runs), compare_facts(runs)
    places = _places(runs, facts)
    matching = match(runs, baseline)
    families = matching.families()
    bases = find_bases(runs, baseline, families)
    moves, gained, offered = find_moves(runs), gains(runs, bases, baseline), offers(runs, bases.of)
    changes = find_changes(runs, matching, baseline, min_effect_pct)
    headline, reason, reasons = say(Found(runs, names, places, baseline, facts, moves, gained, offered, matching, changes))
    normal, listed = normalised.normalise(runs), matching.operators()
    images = tuple(map(per_image, runs))
    return Comparison(
        runs=runs,
        names=names,
        places=places,
        baseline=baseline,
        headline=headline,
        reason=reason,
        reasons=reasons,
        caveats=(
            *caveats.of_baseline(places, baseline if chosen else 0),
            *caveats.find_caveats(runs, places, facts, matching.matched_pct),
        ),
        not_measured=(*caveats.not_measured(runs, places), *normalised.why_not(runs, normal)),
        facts=facts,
        moves=moves,
        gains=gained,
        offers=offered,
        matched=listed,
        matched_pct=matching.matched_pct,
        changes=changes,
        normalised=normal,
        times=tuple(map(batch_time, runs)),
        operators_left_out=matching.count() - len(listed),
        image_times=tuple(time for time, _ in images),
        image_rates=tuple(rate for _, rate in images),
        gain_bases=bases.of,
        better_baseline=_better_baseline(families, baseline),
    )


def default_baseline(runs: Sequence[Digest]) -> int:
    """Return the first run with shapes and steps: without shapes nothing matches, without steps no batch has a time."""
    fit = (number for number, run in enumerate(runs) if run.batches and has_shapes(run))
    return next(fit, 0)


def _better_baseline(families: Sequence[Sequence[int]], baseline: int) -> int | None:
    """Return the first run of the most that do the same work, None where the baseline does it too or no two do."""
    if not families or any(baseline in family for family in families):
        return None
    return max(families, key=len)[0]


def _places(runs: Sequence[Digest], facts: Sequence[FactRow]) -> tuple[str, ...]:
    """Return what each run is called: label and device, then settings that tell it from others, at last its number."""
    places = [f"{run.label} on {device_name(run)}" for run in runs]
    rows = {row.fact: row for row in facts}
    for fact, word in _TELLING:
        repeated = {place for place, times in Counter(places).items() if times > 1}
        row = rows.get(fact)
        if not repeated or row is None or not row.differs:
            continue
        for place in repeated:
            mine = [number for number, found in enumerate(places) if found == place]
            if len({row.values[number] for number in mine} - {UNKNOWN}) > 1:
                for number in mine:
                    places[number] = f"{place}, {word}{row.values[number]}"
    seen = Counter(places)
    return tuple(f"{place}, run {number}" if seen[place] > 1 else place for number, place in enumerate(places, 1))
