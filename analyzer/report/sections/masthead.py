"""The first screen: which run this is, the verdict's figures as tiles, what is off and what was not measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analyzer.format import MISSING, digits, input_size, interval, marked, milliseconds, percent, quantity, scaled, size, times
from analyzer.insight.counters import is_counted, mean_by_time
from analyzer.insight.verdict import clearly_different, element_type
from analyzer.report.blocks import Reading, Tile
from analyzer.report.marks.time import time_word
from analyzer.report.memory_files import peak_memory
from analyzer.report.text import clean, run_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

UNSAID_PCT = 1.0
"""Time without a work model that the work's tile does not mention."""
MEASURED, DERIVED, MODELLED, UNAVAILABLE = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED, Evidence.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Masthead:
    """What stands above the sections. ``links`` and ``caveats`` carry the id of the section that shows more."""

    title: str
    kicker: tuple[str, ...]
    headline: str
    reason: str
    tiles: tuple[Tile, ...]
    reasons_title: str
    reasons: tuple[tuple[str, str], ...]
    caveats: tuple[tuple[str, str, str, str], ...]
    not_measured: tuple[str, ...]


def _reasons_title(study: Study) -> str:
    if study.gap is None:
        return "Largest parts"
    unclear = study.ratio is not None and not clearly_different(study.ratio)
    return "Where they differ all the same" if unclear else "Largest parts of the gap"


def masthead(study: Study, sections: Mapping[str, str]) -> Masthead:
    """Return the masthead. ``sections``: id and short name of those that the page has; links to others are dropped."""
    verdict = study.verdict
    headline = clean(verdict.headline)
    return Masthead(
        title=headline,
        kicker=_kicker(study.analyses),
        headline=headline,
        reason=clean(verdict.reason, 1800),
        tiles=tuple(tile for tile in _tiles(study) if tile is not None),
        reasons_title=_reasons_title(study),
        reasons=tuple((clean(r.text), r.target if r.target in sections else "") for r in verdict.reasons),
        caveats=tuple(
            (c.level, clean(c.text), c.target if c.target in sections else "", sections.get(c.target, ""))
            for c in verdict.caveats
        ),
        not_measured=tuple(clean(text) for text in verdict.not_measured),
    )


def _kicker(analyses: tuple[Analysis, ...]) -> tuple[str, ...]:
    """Return device, dtype, batch, image size, versions and date, those that the runs have in common once."""
    columns: dict[str, list[str]] = {}
    for a in analyses:
        facts = a.run.facts
        columns.setdefault("device", []).append(a.device.name)
        columns.setdefault("dtype", []).append("" if a.dtype == "not recorded" else element_type(a))
        if facts is None:
            columns.setdefault("source", []).append("bare trace")
            continue
        columns.setdefault("batch", []).append(f"batch {facts.settings.batch_size}")
        columns.setdefault("image", []).append(input_size(facts.settings.image_size, facts.model.input_shape))
        for name in ("torch", "cuda", "driver"):
            if name in facts.versions:
                columns.setdefault(name, []).append(f"{name} {facts.versions[name]}")
        columns.setdefault("date", []).append(facts.created_utc[:10])
    return tuple(text for values in columns.values() if (text := clean(" / ".join(dict.fromkeys(v for v in values if v)), 160)))


def _tiles(study: Study) -> tuple[Tile | None, ...]:
    runs = study.analyses
    return (
        Tile("Time per batch" if all(a.latency for a in runs) else "Time", _each(runs, _time)),
        _ratio(study),
        Tile("Work", _each(runs, _work)),
        Tile("Idle" if any(a.device.type == "cuda" for a in runs) else "Between operators", _each(runs, _idle)),
        Tile("Peak memory", _each(runs, _memory)),
        Tile("Occupancy", _each(runs, _occupancy)) if any(a.device.type == "cuda" for a in runs) else None,
    )


def _each(runs: tuple[Analysis, ...], make: Callable[[Analysis], tuple[str, Evidence, str]]) -> tuple[Reading, ...]:
    out = []
    for number, a in enumerate(runs):
        text, evidence, remark = make(a)
        name = run_label(a.label, 40) if len(runs) > 1 else ""
        out.append(Reading(name, text, evidence, remark, number if len(runs) > 1 else -1))
    return tuple(out)


def _time(a: Analysis) -> tuple[str, Evidence, str]:
    if a.latency is not None:
        median = a.latency.median_ms
        return f"{digits(median.value)} ms", MEASURED, f"95 %: {interval(median)}, n\u00a0=\u00a0{a.latency.n}"
    steps = a.window.batches
    where = "traced, per step" if steps else "traced, whole window"
    return milliseconds(a.totals.wall_us / (steps or 1)), MEASURED, f"{where}; no untraced latency"


def _ratio(study: Study) -> Tile | None:
    if study.gap is None:
        return None
    pair = f"{run_label(study.gap.first, 30)} : {run_label(study.gap.second, 30)}"
    if study.ratio is not None and study.ratio.value is not None:
        reading = Reading(pair, times(study.ratio), study.ratio.evidence, f"95 %: {interval(study.ratio)}")
    elif study.gap.second_us > 0:
        reading = Reading(pair, f"{study.gap.first_us / study.gap.second_us:.2f}x", DERIVED, "traced times, no interval")
    else:
        reading = Reading(pair, MISSING, UNAVAILABLE, "no time to compare")
    return Tile("Ratio of times", (reading,))


def _work(a: Analysis) -> tuple[str, Evidence, str]:
    facts, steps = a.run.facts, a.window.batches
    parameters = f"{scaled(facts.model.parameters, '').rstrip()} parameters" if facts else ""
    if not a.totals.flop:
        return MISSING, UNAVAILABLE, "the trace has no operator shapes"
    images = facts.settings.batch_size if facts and steps else 1
    unit = "per image" if facts and steps else "per step" if steps else "in the trace"
    text = scaled(a.totals.flop / (steps or 1) / images, "FLOP")
    without = 100 - a.totals.modelled_pct
    lacking = f"at least, without {percent(without)} of the {time_word(a)}" if without > UNSAID_PCT else ""
    return marked(text, MODELLED), MODELLED, ", ".join(part for part in (unit, parameters, lacking) if part)


def _idle(a: Analysis) -> tuple[str, Evidence, str]:
    where = "of the traced time, no kernel, copy or fill runs" if a.device.type == "cuda" else "of the traced time"
    return percent(a.totals.idle_pct), MEASURED, where


def _memory(a: Analysis) -> tuple[str, Evidence, str]:
    figure = peak_memory(a)
    text = MISSING if figure.value is None else size(figure.value)
    return text, figure.evidence, clean(figure.source, 80)


def _occupancy(a: Analysis) -> tuple[str, Evidence, str]:
    figure = a.totals.occupancy_pct
    if is_counted(a, "occupancy_achieved_pct"):
        achieved = mean_by_time(a.launches[a.launches["category"].eq("kernel")], "occupancy_achieved_pct")
        allowed = f"; the launches allow {quantity(figure)}" if figure.value is not None else ""
        return percent(achieved), MEASURED, f"achieved, by hardware counters{allowed}"
    if figure.value is None:
        return MISSING, UNAVAILABLE, clean(figure.source, 120)
    return quantity(figure), figure.evidence, "allowed by registers, shared memory and grid; not achieved"
