"""From the points of a sweep to a directory: the page and the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analyzer.format import MISSING, counted, digits, interval, times
from analyzer.insight.crossover.contests import Best
from analyzer.insight.crossover.headline import headline, longer, reason, say, spread
from analyzer.insight.crossover.result import Crossover
from analyzer.report.blocks import Reading, Section, Tile
from analyzer.report.crossover import choice, resources, speed, untimed
from analyzer.report.crossover.caveats import caveats
from analyzer.report.crossover.cells import DERIVED, device, short
from analyzer.report.crossover.files import FILES, not_measured, write_crossover_files
from analyzer.report.figures.theme import RUNS
from analyzer.report.render import MAX_EMBEDDED_BYTES, MAX_PAGE_BYTES, PAGE_FILE, json_block, render, shorten
from analyzer.report.sections.masthead import Masthead
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence

SHORTER = (200, 60, 20, 6)
"""Rows of a table on a page that would be too large, and on ones that still are."""
_REASONS, _READINGS = 6, 6


def write_crossover_report(found: Crossover, directory: Path, command: tuple[str, ...] = ()) -> dict[str, Any]:
    """Write index.html, summary.json, points.csv and best.csv into ``directory``, which exists; return the summary.

    A page that would pass MAX_PAGE_BYTES loses rows of its tables and says how many below each; the files have all.
    """
    out = write_crossover_files(found, directory)
    sections = build(found, command)
    data = json_block(out)
    if len(data) > MAX_EMBEDDED_BYTES // 2:
        data = json_block({"left_out": "too long for this page; see summary.json"})
    head = masthead(found, {section.id for section in sections})
    text = render(head, sections, data, files=FILES)
    for rows in SHORTER:
        if len(text.encode("utf-8", "replace")) <= MAX_PAGE_BYTES:
            break
        text = render(head, tuple(shorten(section, rows) for section in sections), data, files=FILES)
    (directory / PAGE_FILE).write_text(text, encoding="utf-8", errors="replace")
    return out


def build(found: Crossover, command: tuple[str, ...] = ()) -> tuple[Section, ...]:
    """Return the sections of the page in their order."""
    made = (
        speed.section(found), choice.section(found), speed.crossings(found), resources.memory(found), resources.cost(found),
        resources.work(found), untimed.section(found),
    )  # fmt: skip
    sections = tuple(section for section in made if section is not None)
    return (*sections, untimed.method(found, sections, command))


def masthead(found: Crossover, sections: set[str]) -> Masthead:
    """Return what stands above the sections."""
    told = clean(headline(found))
    usable = [t for t in found.tracks if t.timed]
    told_of = spread(usable, _REASONS)
    lines = [clean(f"{say(t, found)} (batch {t.batch}, {device(found, t.device, 40)})") for t in told_of]
    more = len(usable) - len(told_of)
    rest = [f"{counted(more, 'more comparison is', 'more comparisons are')} in the tables."] if more else []
    return Masthead(
        title=told,
        kicker=tuple(clean(text, 160) for text in _kicker(found)),
        headline=told,
        reason=clean(reason(found), 1800),
        tiles=tuple(tile for tile in _tiles(found) if tile.readings),
        reasons_title="Pair by pair",
        reasons=tuple((text, speed.CROSSINGS_ID if speed.CROSSINGS_ID in sections else "") for text in (*lines, *rest)),
        caveats=caveats(found),
        not_measured=not_measured(found),
    )


def _kicker(found: Crossover) -> list[str]:
    entries = found.grid.entries
    sizes, batches = ({getattr(e, name) for e in entries} for name in ("size", "batch"))
    return [
        "Sweep" + (f" {found.sweep.name}" if found.sweep.name else ""),
        " / ".join(found.grid.devices[:3])
        + (f" and {len(found.grid.devices) - 3} more" if len(found.grid.devices) > 3 else ""),
        " / ".join(sorted({e.variant.dtype for e in entries})),
        f"batch {_range(batches)}",
        f"{_range(sizes)} px",
    ]


def _range(values: set[int]) -> str:
    if not values:
        return "–"
    return str(min(values)) if len(values) == 1 else f"{min(values)} to {max(values)}"


def _tiles(found: Crossover) -> list[Tile]:
    """Return a tile per batch size with the ratio at the smallest and the largest size, and the highest rate of each model."""
    tiles = []
    usable = [t for t in found.tracks if t.timed]
    first = [t for t in usable if (t.first, t.second, t.device) == (usable[0].first, usable[0].second, usable[0].device)]
    for track in first[:3]:
        readings = []
        for contest in dict.fromkeys((track.timed[0], track.timed[-1])):
            slow, fast, shown = longer(contest)
            remark = f"{short(found, slow, 24)} against {short(found, fast, 24)}; 95 %: {interval(shown) or MISSING}"
            readings.append(Reading(f"{contest.size} px", times(shown), DERIVED, remark))
        tiles.append(Tile(f"Ratio of times, batch {track.batch}", tuple(readings)))
    tiles.append(_rates(found))
    return tiles


def _rates(found: Crossover) -> Tile:
    readings = []
    for model in found.grid.models[:_READINGS]:
        timed = [b for b in found.best if b.model == model.number and b.best is not None]
        if not timed:
            readings.append(
                Reading(
                    short(found, model.number, 24), MISSING, Evidence.UNAVAILABLE, "no point has a time", model.number % RUNS
                )
            )
            continue
        best = max(timed, key=_rate)
        where = f"batch {best.batch}, {best.size} px" + (
            f", {device(found, best.device, 24)}" if len(found.grid.devices) > 1 else ""
        )
        readings.append(
            Reading(short(found, model.number, 24), f"{digits(_rate(best))} images/s", DERIVED, where, model.number % RUNS)
        )
    return Tile("Highest rate", tuple(readings))


def _rate(b: Best) -> float:
    return 1e3 * b.batch / b.best.time_ms if b.best is not None else 0.0
