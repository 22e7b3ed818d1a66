"""Which setting won: the best of each model at each place against its runner-up, and both models at the same setting."""

from __future__ import annotations

from collections import Counter

from analyzer.format import counted
from analyzer.insight.crossover.contests import OUTCOME_WORDS, Best
from analyzer.insight.crossover.grid import Variant
from analyzer.insight.crossover.headline import had_choice, longer
from analyzer.insight.crossover.result import Crossover
from analyzer.report.blocks import Block, Cell, Head, Listing, Notice, Prose, Row, Section, Table, missing, number
from analyzer.report.crossover.cells import (
    BATCH,
    DERIVED,
    DEVICE,
    HIGH,
    LOW,
    MEASURED,
    MODEL,
    SETTING,
    SIZE,
    device,
    figures,
    places_for,
    short,
    signed_name,
    trim,
    whole,
)  # fmt: skip
from analyzer.report.text import clean
from analyzer.schema.evidence import Quantity

CHOICE_ID = "settings"
OPEN_ROWS, MAX_TOLD = 20, 8


def section(found: Crossover) -> Section | None:
    """Return what won, None where no point has a time."""
    timed = [b for b in found.best if b.best is not None]
    if not timed:
        return None
    blocks: list[Block] = [*_sets(found)]
    if any(b.runner_up for b in timed):
        blocks.append(_wins(found))
    blocks.append(_table(found))
    blocks += _alike(found)
    return Section(CHOICE_ID, "Which setting won?", "Settings", tuple(blocks))


def _sets(found: Crossover) -> list[Block]:
    """Return over which settings the best of each model was taken."""
    family = {m.number: m.family for m in found.grid.models}
    tried: dict[int, list[Variant]] = {m.number: [] for m in found.grid.models}
    for entry in found.grid.entries:
        if entry.variant not in tried[entry.model]:
            tried[entry.model].append(entry.variant)
    if not had_choice(found):
        return [Notice("Each model ran under one setting, so nothing was chosen; runner-ups are missing for that reason.")]
    sizes = {len(variants) for variants in tried.values()}
    sets = {found.grid.settings_timed(model) for model in tried}
    text = "A best setting is the fastest of those that were run, so it depends on what was run."
    if len(sizes) > 1:
        text += " The models below were not run under equally many settings: the one with more has more chances to win."
    if len(sets) > 1:
        text += " Not all have times under the same settings, so a difference of bests may be one of settings."
    items = []
    for model, variants in tried.items():
        words = [clean(found.grid.words(v, family[model]), 100) for v in variants]
        told = "; ".join(dict.fromkeys(words[:MAX_TOLD])) + (
            f"; and {len(words) - MAX_TOLD} more" if len(words) > MAX_TOLD else ""
        )
        items.append((short(found, model), f"{counted(len(variants), 'setting', 'settings')}: {told}"))
    return [Prose(text), Listing("Best of which settings", tuple(items))]


def _wins(found: Crossover) -> Table:
    won: Counter[tuple[int, Variant]] = Counter()
    clear: Counter[tuple[int, Variant]] = Counter()
    ran: Counter[tuple[int, Variant]] = Counter()
    for b in found.best:
        for entry in b.timed:
            ran[b.model, entry.variant] += 1
        if b.best is not None and b.runner_up is not None:
            won[b.model, b.best.variant] += 1
            clear[b.model, b.best.variant] += b.clear
    rows = tuple(
        Row((Cell(signed_name(found, model)), _setting(found, model, variant), whole(won[model, variant]),
             whole(clear[model, variant]), whole(ran[model, variant])))
        for model, variant in sorted(ran, key=lambda item: (item[0], -won[item], -ran[item]))
    )  # fmt: skip
    heads = (
        MODEL, SETTING,
        Head("won", "places", True, DERIVED, "batch and image sizes at which it has the smallest median of several settings"),
        Head("clearly", "places", True, DERIVED, "of those, where the runner-up takes clearly longer"),
        Head("ran", "places", True, DERIVED, "batch and image sizes at which it has a time"),
    )  # fmt: skip
    return Table("wins-table", "How often each setting won", heads, rows)


def _setting(found: Crossover, model: int, variant: Variant) -> Cell:
    return Cell(clean(found.grid.words(variant, found.grid.models[model].family), 120))


def _table(found: Crossover) -> Table:
    rows = tuple(_row(b, found) for b in found.best if b.best is not None)
    heads = (
        MODEL, DEVICE, BATCH, SIZE, SETTING,
        Head("attention that ran", meaning="implementation of attention by the operators that were recorded; – where none ran"),
        Head("time", "ms", True, MEASURED, "median untraced time of one batch"),
        Head("low", "ms", True, MEASURED, LOW), Head("high", "ms", True, MEASURED, HIGH),
        Head("runner-up", meaning="the second fastest setting of the same model at the same place"),
        Head("takes", "x", True, DERIVED, "how many times as long the runner-up takes as the best"),
        Head("clear", meaning="whether the interval of that ratio leaves 1 out and it is 2 % or more"),
        Head("timed", "settings", True, DERIVED, "settings with a time at this place"),
        Head("no time", "settings", True, DERIVED, "settings that were tried at this place and gave no time"),
    )  # fmt: skip
    note = "One row a model, device, batch and image size. best.csv has the same rows, points.csv every point."
    caption = "The best setting of each model at each place"
    none = () if any(b.runner_up for b in found.best) else ("runner-up", "takes", "clear")
    return trim(Table("best-table", caption, heads, rows, note, open_rows=OPEN_ROWS), found, *none)


def _row(b: Best, found: Crossover) -> Row:
    best = b.best
    if best is None:
        raise ValueError("no time at this place")
    shown = best.point.figures
    ran = clean(shown.attention_ran or "", 40) if shown else ""
    runner = _setting(found, b.model, b.runner_up.variant) if b.runner_up else Cell("–")
    return Row(
        (
            Cell(signed_name(found, b.model)), Cell(device(found, b.device, 28)), whole(b.batch), whole(b.size),
            _setting(found, b.model, best.variant), Cell(ran or "–"),
            *figures(best.latency_ms, places_for(best.time_ms)), runner,
            *_gain(b.gain), Cell(("yes" if b.clear else "no") if b.gain else "–"), whole(len(b.timed)),
            whole(sum(n for _, n in b.untimed)),
        )
    )  # fmt: skip


def _gain(gain: Quantity | None) -> tuple[Cell]:
    return (missing() if gain is None or gain.value is None else number(gain.value, 2, DERIVED),)


def _alike(found: Crossover) -> list[Block]:
    """Return both models at the same setting, where there is a choice of settings."""
    models = found.grid.models
    if len(models) < 2 or (not had_choice(found) and len({found.grid.settings_timed(m.number) for m in models}) == 1):
        return []
    rows = []
    for _, _, track in found.alike:
        for contest in track.timed:
            a, b = contest.first_entry, contest.second_entry
            if a is None or b is None:
                continue
            slow, fast, shown = longer(contest)
            clear = contest.outcome in ("first", "second")
            who = signed_name(found, fast, 24) if clear else OUTCOME_WORDS[contest.outcome]
            rows.append(
                Row(
                    (
                        Cell(f"{signed_name(found, track.first, 24)} / {signed_name(found, track.second, 24)}"),
                        Cell(device(found, track.device, 28)), whole(contest.batch), whole(contest.size),
                        Cell(clean(found.grid.shared_words(a.model, a.variant, b.model, b.variant), 120)),
                        Cell(who), *figures(shown, 2), Cell(signed_name(found, slow, 24)),
                    )
                )
            )  # fmt: skip
    if not rows:
        text = "No two models have a time at the same setting, batch and image size: there is no like-for-like comparison."
        return [Notice(text)]
    heads = (
        Head("pair", meaning="the two models"), DEVICE, BATCH, SIZE, SETTING,
        Head("less time", meaning="the model that takes less time, where that is clear"),
        Head("ratio", "x", True, DERIVED, "how many times as long the slower one takes by the medians"),
        Head("low", "x", True, DERIVED, "lower end of its 95 % interval"), Head("high", "x", True, DERIVED, "upper end"),
        Head("takes longer", meaning="the model with the larger median"),
    )  # fmt: skip
    caption = "Like for like: both models at the same setting"
    note = "Only settings that both models have a time at. Implementations of attention concern the ViT alone."
    return [trim(Table("alike-table", caption, heads, tuple(rows), note, open_rows=OPEN_ROWS), found)]
