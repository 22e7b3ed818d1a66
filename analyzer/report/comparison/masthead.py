"""The first screen of a comparison: headline, reasons, caveats, and the time of each run."""

from __future__ import annotations

from collections.abc import Mapping

from analyzer.format import MISSING, counted, digits, interval, milliseconds
from analyzer.report.blocks import Reading, Tile
from analyzer.report.marks.comparison import RunTime, one_size, run_times
from analyzer.report.marks.comparison_names import device_name, run_lines, run_titles, work_words
from analyzer.report.sections.masthead import Masthead
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison
from analyzer.schema.evidence import Evidence

TILES = 6
FACTS_ID = "comparable"


def masthead(comparison: Comparison, sections: Mapping[str, str]) -> Masthead:
    """Return the masthead. ``sections``: id and short name of those that the page has; links to others are dropped."""
    headline = clean(comparison.headline)
    return Masthead(
        title=headline,
        kicker=_kicker(comparison),
        headline=headline,
        reason=clean(comparison.reason, 1800),
        tiles=_tiles(comparison),
        reasons_title="What the runs show" if any(r.target != FACTS_ID for r in comparison.reasons) else "What differs most",
        reasons=tuple((clean(r.text), r.target if r.target in sections else "") for r in comparison.reasons),
        caveats=_caveats(comparison, sections),
        not_measured=tuple(clean(text) for text in comparison.not_measured),
    )


def _caveats(comparison: Comparison, sections: Mapping[str, str]) -> tuple[tuple[str, str, str, str], ...]:
    """Return the caveats; facts that differ are named in one, since why they matter stands below, among the facts.

    Facts that the reasons name are left out.
    """
    starts = {fact.fact: f"{fact.fact} differs" for fact in comparison.facts if fact.warning}
    own = [c for c in comparison.caveats if not c.text.startswith(tuple(starts.values()))]
    said = [fact for fact, start in starts.items() if not any(r.text.startswith(start) for r in comparison.reasons)]
    these = "this fact differs" if len(said) == 1 else "these facts differ"
    text = f"times are harder to compare because {these}: {clean(', '.join(said), 400)}"
    merged = [("warning", text, FACTS_ID)] if said else []
    found = [*merged, *((c.level, clean(c.text), c.target) for c in own)]
    return tuple((level, text, *((to, sections[to]) if to in sections else ("", ""))) for level, text, to in found)


def _kicker(comparison: Comparison) -> tuple[str, ...]:
    runs = comparison.runs
    columns = (
        [device_name(d) for d in runs],
        [d.dtype for d in runs],
        [f"batch {d.batch_size}" if d.batch_size else "batch unknown" for d in runs],
        [f"{d.image_size} px" if d.image_size else "image size unknown" for d in runs],
    )
    texts = [counted(len(runs), "run", "runs")]
    if len(runs) <= TILES:
        texts += [" / ".join(dict.fromkeys(clean(value, 40) for value in column)) for column in columns]
    return (*(clean(text, 180) for text in texts), f"baseline: {run_titles(comparison)[comparison.baseline]}")


def _tiles(comparison: Comparison) -> tuple[Tile, ...]:
    times, lines = run_times(comparison), run_lines(comparison)
    if len(times) <= TILES:
        return tuple(_tile(comparison, time, lines[time.run]) for time in times)
    per_batch = sorted((t for t in times if t.per_batch and t.figure.value), key=lambda t: t.figure.value or 0.0)
    models = len({d.label for d in comparison.runs})
    devices = len({device_name(d) for d in comparison.runs})
    tiles = [
        Tile(
            "Runs",
            (Reading("", str(len(times)), Evidence.DERIVED, f"{counted(models, 'model or trace', 'models or traces')}"),),
        ),
        Tile("Devices", (Reading("", str(devices), Evidence.DERIVED, "by product, or by name where it has no datasheet"),)),
    ]
    if per_batch:
        for label, time in (("Shortest time of a batch", per_batch[0]), ("Longest time of a batch", per_batch[-1])):
            work = work_words(comparison.runs[time.run])
            tiles.append(Tile(label, (_reading(time, " on ".join(lines[time.run]), work),)))
    return tuple(tiles)


def _tile(comparison: Comparison, time: RunTime, line: tuple[str, str]) -> Tile:
    d = comparison.runs[time.run]
    readings = [_reading(time, line[0], work_words(d))]
    if time.per_image.value and not one_size(comparison, run_times(comparison)):
        rate = f"{digits(time.rate.value)} images/s" if time.rate.value else ""
        readings.append(Reading("", f"{digits(time.per_image.value)} ms per image", time.per_image.evidence, rate))
    if not time.untraced and d.device.type == "cuda":
        busy = d.totals.busy_us / (d.batches or 1)
        text = milliseconds(busy) if busy else MISSING
        level = Evidence.MEASURED if busy else Evidence.UNAVAILABLE
        readings.append(Reading("", text, level, "of it a kernel or copy runs; for the rest the GPU waits"))
    return Tile(line[1] + (" (baseline)" if time.run == comparison.baseline else ""), tuple(readings))


def _reading(time: RunTime, name: str, work: str) -> Reading:
    within = f"95 %: {interval(time.figure)}" if interval(time.figure) else ""
    remark = ", ".join(part for part in (within, time.basis, work) if part)
    value = time.figure.value
    text = MISSING if value is None else f"{digits(value)} ms" if time.untraced else milliseconds(value * 1e3)
    return Reading(name, text, time.figure.evidence, remark, time.run)
