"""From a validation to a directory: the page and the files beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analyzer.format import counted
from analyzer.insight.validation.alone import counted_table
from analyzer.insight.validation.families import EVERY, FAMILIES, MEANINGS
from analyzer.insight.validation.words import (
    blocks_of,
    figures,
    fitted_note,
    headline,
    left_out_lines,
    percent_of,
    refit_sentence,
    shipped_rows,
)
from analyzer.report.blocks import Block, Folded, Listing, Notice, Reading, Section, Tile
from analyzer.report.render import PAGE_FILE, json_block, render
from analyzer.report.sections.glossary import glossary
from analyzer.report.sections.masthead import Masthead
from analyzer.report.sections.method import approximations
from analyzer.report.text import clean
from analyzer.report.validation.blocks import (
    NOTHING,
    figure_blocks,
    left_blocks,
    parameter_blocks,
    verdict_blocks,
)
from analyzer.report.validation.files import FILES, write_files
from analyzer.report.validation.marks import title_of
from analyzer.report.validation.tables import counted_tables, kernel_table
from analyzer.schema.evidence import Evidence
from analyzer.schema.validation import Validation
from analyzer.trace.counters import CounterFile

ERROR_ID, PARAMETER_ID, KERNEL_ID, COUNTED_ID, LEFT_ID, METHOD_ID = (
    "errors", "parameters", "kernels", "counted", "left-out", "method",
)  # fmt: skip
MAX_TILES, MAX_NOTES = 6, 5

FORMULAS = (
    ("error", "(predicted − measured) / measured, per distinct kernel; figures are means per launch"),
    ("distinct kernel", "the same GPU, class, kernel name and problem; counts of several launches are averaged first"),
    ("DRAM reads", "bytes that miss in the simulated L2 × DRAM reads per byte missed"),
    ("DRAM writes", "the output, less half of what L2 may still hold when the kernel ends; the band takes none of it, or all"),
    (
        "halves",
        "kernels of a GPU sorted by class and by a hash of name and problem, then taken in turns; all figures of one kernel "
        "lie in the same half",
    ),
    (
        "refitted",
        "DRAM reads per byte missed: median of measured over missed; bytes held back: twice the median of output minus "
        "measured writes. From kernels for fitting with emptied caches alone, and only where three or more tell",
    ),
    ("caches warm", "the kernel finds what the one before it wrote, as far as L2 holds it, and writes back what that one left"),
    (
        "occupancy",
        "theoretical: what registers, shared memory and block size allow; the other one capped by the blocks there are",
    ),
    ("tensor cores", "FLOP of the operator's sizes, without padding, against the operations counted"),
)


def write_validation(v: Validation, directory: Path, files: tuple[CounterFile, ...] = ()) -> None:
    """Write index.html, summary.json, predictions.csv and scores.csv into ``directory``, which exists.

    ``files``: counters without a trace, of which the page shows what was counted.
    """
    found = write_files(v, directory)
    text = render(_masthead(v), _sections(v, files), json_block(found), files=FILES)
    (directory / PAGE_FILE).write_text(text, encoding="utf-8", errors="replace")


def _masthead(v: Validation) -> Masthead:
    first = clean(headline(v)) if v.predictions else NOTHING
    gpus = " and ".join(dict.fromkeys(clean(p.gpu, 60) for p in v.predictions))
    kernels = len({p.key for p in v.predictions})
    kicker = (gpus, counted(kernels, "distinct kernel", "distinct kernels"), counted(figures(v), "figure", "figures"))
    return Masthead(
        title="Predicted against measured",
        kicker=tuple(text for text in kicker if text),
        headline=first,
        reason=clean(" ".join(text for text in (refit_sentence(v) if v.parameters else "", fitted_note(v)) if text), 1800),
        tiles=_tiles(v),
        reasons_title="",
        reasons=(),
        caveats=tuple(("note", clean(text, 300), LEFT_ID, "Left out") for text in left_out_lines(v)[:MAX_NOTES]),
        not_measured=(),  # what was counted and not compared stands in a section of its own
    )


def _tiles(v: Validation) -> tuple[Tile, ...]:
    tiles = []
    rows_of = sorted(blocks_of(shipped_rows(v)), key=lambda row: not row[0].startswith("dram"))  # most of a report rests on it
    for quantity, mode, rows in rows_of[:MAX_TILES]:
        whole = next((row for row in rows if row.family == EVERY), rows[0])
        remark = f"{mode}; {counted(whole.n, 'kernel', 'kernels')}, worst {percent_of(whole.worst_pct)}"
        reading = Reading("median error", percent_of(whole.median_pct), Evidence.DERIVED, remark)
        tiles.append(Tile(title_of(quantity), (reading,)))
    return tuple(tiles)


def _sections(v: Validation, files: tuple[CounterFile, ...]) -> tuple[Section, ...]:
    made = [Section(ERROR_ID, "How far off are the models?", "Errors", (*verdict_blocks(v), *figure_blocks(v)))]
    if v.parameters:
        made.append(Section(PARAMETER_ID, "Do the parameters hold on other kernels?", "Parameters", tuple(parameter_blocks(v))))
    if v.predictions:
        made.append(Section(KERNEL_ID, "What about each kernel?", "Kernels", (kernel_table(v),)))
    else:
        made[0] = replace(made[0], blocks=(Notice(NOTHING),))
    tables = counted_tables([(file.name, counted_table(file)) for file in files])
    if tables:
        made.append(Section(COUNTED_ID, "What was counted without a trace?", "Counted", tuple(tables)))
    if v.left_out:
        made.append(Section(LEFT_ID, "What could not be compared?", "Left out", tuple(_unfolded(left_blocks(v)))))
    own = _method(v)
    return (*made, replace(own, blocks=(*own.blocks, Folded("Glossary of the tables", (glossary((*made, own)),)))))


def _unfolded(blocks: list[Block]) -> list[Block]:
    return [table for block in blocks if isinstance(block, Folded) for table in block.blocks]


def _method(v: Validation) -> Section:
    places = ("insight/validation", "access", "metrics/occupancy")
    own = tuple((place, text) for place, text in approximations() if place.startswith(places))
    seen = {p.family for p in v.predictions}
    blocks: list[Block] = [
        Listing("Where the counters come from", tuple((clean(name, 120), clean(what, 400)) for name, what in v.sources)),
        Listing("Classes of kernels", tuple((family, MEANINGS[family]) for family in FAMILIES if family in seen)),
        Listing("Formulas", FORMULAS),
        Listing("Approximations", own or (("", "none"),), folded=True),
    ]
    if v.command:
        blocks.append(Listing("How to reproduce", (("", clean(" ".join(v.command), 600)),), code=True))
    return Section(METHOD_ID, "How was this worked out?", "Method", tuple(b for b in blocks if b.items))  # type: ignore[union-attr]
