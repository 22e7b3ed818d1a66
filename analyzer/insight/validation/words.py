"""What a validation says in sentences and lines. Every number comes from the objects that the tables show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from analyzer.format import count, counted, percent
from analyzer.insight.validation.families import EVERY, READS, WARM_AS_COLD
from analyzer.insight.validation.published import NO_KERNEL
from analyzer.insight.validation.scoring import ENOUGH
from analyzer.schema.validation import QUANTITIES, REFITTED, SCORE, SHIPPED, WHOLE, Prediction, Score, Validation

LARGEST_PCT = 1e6
ROUNDED_PCT = 0.1
FEW = 10
"""Kernels below which a percentile would only be the worst one."""


def name_of(quantity: str) -> str:
    """Return the name of a quantity, empty for what is none."""
    return QUANTITIES[quantity][0] if quantity in QUANTITIES else quantity


def shipped_rows(v: Validation) -> tuple[Score, ...]:
    """Return the errors of the shipped parameters over all kernels."""
    return tuple(s for s in v.scores if (s.parameters, s.half) == (SHIPPED, WHOLE))


def blocks_of(rows: Iterable[Score]) -> list[tuple[str, str, list[Score]]]:
    """Return (quantity, mode, rows), neighbours together."""
    found: dict[tuple[str, str], list[Score]] = {}
    for row in rows:
        found.setdefault((row.quantity, row.mode), []).append(row)
    return [(quantity, mode, mine) for (quantity, mode), mine in found.items()]


def percent_of(value: float) -> str:
    """Return an error, with a sign where it has one."""
    return percent(value) if abs(value) < LARGEST_PCT else f"over {percent(LARGEST_PCT)}"


def verdict(quantity: str, mode: str, rows: Sequence[Score]) -> str:
    """Return the sentence on one quantity in one mode; ``rows`` are of the shipped parameters on all kernels."""
    whole = next((row for row in rows if row.family == EVERY), rows[0])
    name = name_of(quantity)
    text = f"{name[:1].upper()}{name[1:]} ({mode}): {_spread(whole)}"
    classes = [row for row in rows if row.family != EVERY]
    aimed = [row for row in classes if row.met is not None]
    if not aimed:
        if not any(row.has_target for row in classes):
            return f"{text}. The model has no target here."
        return f"{text}. Whether its target is met cannot be told: too few kernels are held out."
    met = sum(bool(row.met) for row in aimed)
    if len(aimed) == 1:
        which = "its class" if len(classes) == 1 else "the one class that can be judged"
        return f"{text}. The target of {which}{_by_bands(aimed[0])} is {'met' if met else 'missed'}."
    all_of = "Both" if met == 2 else f"All {met}"
    share = all_of if met == len(aimed) else f"{met} of {len(aimed)}" if met else f"None of the {len(aimed)}"
    judged = "with a target" if len(aimed) == sum(row.has_target for row in classes) else "that can be judged"
    return f"{text}. {share} classes {judged} meet their target."


def _by_bands(row: Score) -> str:
    """Return how many bands hold the counted figure, where the target is about them."""
    return f" ({inside_text(row)} bands hold the counted figure)" if row.inside_target is not None else ""


def inside_text(row: Score) -> str:
    """Return how many bands hold the counted figure, ``5/6``; empty where the predictions are no bands."""
    return f"{round(row.inside_pct * row.bands / 100)}/{row.bands}" if row.bands else ""


def met_text(row: Score) -> str:
    """Return whether the target is met in a word, empty without one."""
    if not row.has_target:
        return ""
    if row.met is None:
        return "fitted" if row.in_sample else "few"
    return "yes" if row.met else "NO"


def _spread(row: Score) -> str:
    """Return how large the errors of a row are; of few kernels the worst is told instead of a percentile."""
    if row.n == 1:
        return f"the error is {percent_of(row.worst_pct)} (1 kernel{', which helped to fit the model' if row.fitted else ''})"
    worst = f"the worst {percent_of(row.worst_pct)}" if row.n < FEW else f"nine in ten are within {percent_of(row.p90_pct)}"
    fitted = f", {'all' if row.fitted == row.n else row.fitted} of which helped to fit the model" if row.fitted else ""
    return f"the median error is {percent_of(row.median_pct)} over {counted(row.n, 'kernel', 'kernels')}{fitted}, {worst}"


def refit_sentence(v: Validation) -> str:
    """Return what fitting the parameters anew on one half changes on the other, in one or two sentences."""
    again = [s for s in v.scores if s.parameters == REFITTED]
    if not again:
        return (
            "No parameter was fitted anew: on no GPU do three distinct kernels of the half for fitting, with emptied caches, "
            "tell one. The shipped parameters stand. (Fitting takes counters read with ncu --cache-control all.)"
        )
    parts = []
    for row in again:
        whole = [r for r in again if (r.quantity, r.mode) == (row.quantity, row.mode)]
        if row.family != (EVERY if any(r.family == EVERY for r in whole) else row.family):
            continue
        parts.append(f"{name_of(row.quantity)} ({row.mode}): {_change(_twins(v, row), row)}")
    return f"With parameters fitted on the other half of the kernels: {'; '.join(parts)}."


def _change(twins: Sequence[Prediction], row: Score) -> str:
    """Return what the refitted parameters of ``row`` change; of few kernels no median, which hides what gets worse."""
    pairs = [(abs(p.error_pct), abs(p.refitted_error_pct)) for p in twins]
    better = sum(after < before for before, after in pairs)
    worst = f"the worst error goes from {percent_of(max(b for b, _ in pairs))} to {percent_of(row.worst_pct)}"
    text = f"better on {better} of {counted(len(pairs), 'kernel', 'kernels')}, {worst}"
    if row.n < FEW:
        return text
    before = median(b for b, _ in pairs)
    return f"{text}, the median from {percent_of(before)} to {percent_of(row.median_pct)}"


def _twins(v: Validation, row: Score) -> list[Prediction]:
    """Return the very kernels that ``row`` is of, with shipped and refitted errors."""
    mine = [p for p in v.predictions if p.scored and p.half == SCORE and math.isfinite(p.refitted)]
    return [p for p in mine if (p.quantity, p.mode) == (row.quantity, row.mode) and row.family in (EVERY, p.family)]


def fitted_note(v: Validation) -> str:
    """Return how many of the figures a shipped parameter was fitted on, empty where none."""
    rows = [row for row in shipped_rows(v) if row.family != EVERY and row.mode != WARM_AS_COLD]
    n, total = sum(row.fitted for row in rows), sum(row.n for row in rows)
    return (
        f"{n} of {total} scored figures helped to fit the shipped parameters. No parameter was fitted on the others, but the "
        "layout of the model was chosen with most published figures in view."
        if n
        else ""
    )


def uncompared(v: Validation) -> tuple[str, ...]:
    """Return the quantities that something was counted of and nothing could be scored of, each with the reason."""
    scored = {row.quantity for row in v.scores}
    reasons: dict[str, list[str]] = {}
    for _, quantity, why, _ in v.left_out:
        if quantity not in scored and why != NO_KERNEL:
            reasons.setdefault(name_of(quantity) or "counters", []).append(why)
    return tuple(f"{name}: {'; '.join(dict.fromkeys(found))}" for name, found in reasons.items())


def left_out_lines(v: Validation) -> list[str]:
    """Return a line for each quantity and reason of what could not be compared or is not scored."""
    found: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for family, quantity, why, n in v.left_out:
        before, classes = found.get((quantity, why), (0, []))
        found[quantity, why] = before + n, [*classes, *([family] if family else [])]
    lines = []
    for (quantity, why), (n, classes) in found.items():
        what = " ".join(part for part in (f"{n} x" if n else "", name_of(quantity)) if part)
        where = f" ({'; '.join(dict.fromkeys(classes))})" if classes else ""
        lines.append(f"{what}{where}: {why}" if what else why)
    return lines


def table_lines(rows: Sequence[Score]) -> list[str]:
    """Return a table of errors by class for the terminal, at most 100 columns wide."""
    head = f"  {'class':32}{'n':>4}{'median':>9}{'90 % in':>9}{'worst':>9}{'bias':>9}{'in band':>8}  {'target':13}met"
    return [head, *(_line(row) for row in rows)]


def _line(row: Score) -> str:
    errors = "".join(f"{_short(value):>9}" for value in (row.median_pct, row.p90_pct, row.worst_pct))
    errors += f"{_signed(row.bias_pct):>9}"
    inside, met = inside_text(row), met_text(row)
    return f"  {row.family:32}{row.n:>4}{errors}{inside:>8}  {target_text(row):13}{met}".rstrip()


def _short(value: float) -> str:
    return percent(value).replace("under 0.1 %", "< 0.1 %") if abs(value) < 1e5 else "> 100k %"


def _signed(value: float) -> str:
    """Return an error with its sign; one under 0.1 % has none to speak of."""
    return f"+{_short(value)}" if value >= ROUNDED_PCT else _short(value)


def target_text(row: Score) -> str:
    """Return the target of a row: ``8 / 15 %``, ``3 %``, ``85 % in band``, empty without one."""
    if row.inside_target is not None:
        return f"{count(row.inside_target)} % in band"
    if row.target is None:
        return ""
    typical, most = row.target
    return f"{count(typical)} %" if math.isnan(most) else f"{count(typical)} / {count(most)} %"


def headline(v: Validation) -> str:
    """Return one sentence on all of it: DRAM first, since most else of a report rests on it."""
    rows = blocks_of(shipped_rows(v))
    if not rows:
        return "Nothing that was counted could be compared with a prediction."
    return verdict(*max(rows, key=_weight))


def _weight(row: tuple[str, str, list[Score]]) -> tuple[bool, bool, int]:
    """Return what makes a quantity the one to name first."""
    quantity, mode, mine = row
    return quantity in READS, mode != WARM_AS_COLD, sum(score.n for score in mine if score.family != EVERY)


def figures(v: Validation) -> int:
    """Return how many figures were compared; one held against two predictions is one."""
    return sum(p.mode != WARM_AS_COLD for p in v.predictions)


def extent(v: Validation) -> str:
    """Return how much was compared."""
    once = [p for p in v.predictions if p.mode != WARM_AS_COLD]
    scored = sum(p.scored for p in once)
    kernels = len({p.key for p in once})
    return (
        f"{counted(figures(v), 'figure', 'figures')} of {counted(kernels, 'distinct kernel', 'distinct kernels')} "
        f"compared, {count(scored)} of them scored."
    )


def overall_note(v: Validation) -> str:
    """Return why all classes together have no target where they are too few, empty where they have one."""
    few = [row for row in shipped_rows(v) if row.family == EVERY and row.quantity.startswith("dram") and row.n < ENOUGH]
    return f"All classes together have a target from {ENOUGH} distinct kernels on." if few else ""
