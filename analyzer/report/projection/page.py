"""From a projection to a directory: the page and the files beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analyzer.format import marked, milliseconds, percent
from analyzer.insight.projection.words import ends, headline, meanings, speed, verdict, whole
from analyzer.report.blocks import Block, Figure, Folded, Listing, Prose, Reading, Section, Tile
from analyzer.report.figures.projection import projected
from analyzer.report.projection.files import FILES, write_files
from analyzer.report.projection.tables import class_table, kernel_table, target_table, total_table, validation_table
from analyzer.report.render import PAGE_FILE, json_block, render
from analyzer.report.sections.glossary import glossary
from analyzer.report.sections.masthead import Masthead
from analyzer.report.sections.method import approximations
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.projection import Projection, RunProjection, Total

TOTAL_ID, CLASS_ID, KERNEL_ID, VALIDATION_ID, METHOD_ID = "total", "classes", "kernels", "validation", "method"
MAX_TILES = 6

HOW = (
    "Further right is longer; kernels and copies alone, without waiting. The outlined bar is the least that the datasheet "
    "allows. The mark is the projected time. It is filled, with an interval, where 90 % of the projected time is validated; "
    "where it is hollow its error is unknown."
)
FORMULAS = (
    ("projected time", "t = o + (t_source − o) × (R_target / e_target) / (R_source / e_source), validated classes"),
    ("R", "roofline time, max(FLOP / float32 peak, compulsory bytes / DRAM bandwidth), by the datasheets"),
    ("e", "efficiency: the share of R that a GPU reaches for a call of that class and these sizes, fitted to public latencies"),
    ("o", "3 µs to start and end a kernel, which is not scaled"),
    ("deviation", "by how much a call deviates from e on the source carries over to the target in a fitted share"),
    (
        "interval",
        "expected errors of both GPUs, root of the sum of squares, times a factor that held 87 % of calibration errors",
    ),
    ("sums", "linear within a class, root of the sum of squares across classes; what is not calibrated has no interval"),
    ("ratio", "o + (t_source − o) × R_target / R_source, at least the floor; R with the peak of the unit and format used"),
    ("limited by neither", "a kernel under 25 % of its R on the source keeps its time: a ratio of limits says nothing of it"),
    ("whole", "from max(kernels on the target, waiting) to max(kernels on the target, kernels on the source) + waiting"),
)


def write_projection(projection: Projection, directory: Path) -> None:
    """Write index.html, summary.json and projection.csv into ``directory``, which exists."""
    found = write_files(projection, directory)
    text = render(_masthead(projection), _sections(projection), json_block(found), files=FILES)
    (directory / PAGE_FILE).write_text(text, encoding="utf-8", errors="replace")


def _all(projection: Projection) -> list[tuple[RunProjection, Total]]:
    return [(run, total) for run in projection.runs for total in run.totals]


def _masthead(projection: Projection) -> Masthead:
    pairs = _all(projection)
    first = clean(headline(*pairs[0]))
    names = " and ".join(clean(target.name, 60) for target in projection.targets)
    labels = " and ".join(dict.fromkeys(clean(run.label, 60) for run in projection.runs))
    sources = " / ".join(dict.fromkeys(clean(run.source, 60) for run in projection.runs))
    notes = dict.fromkeys(clean(note) for _, total in pairs for note in total.notes)
    unvalidated = [
        f"{clean(run.label, 40)} on {clean(total.target.name, 40)}: {percent(100 - total.validated_pct)} of the projected time "
        "is not validated"
        for run, total in pairs
        if total.validated_pct < 99.95 and not total.same
    ]
    return Masthead(
        title=f"{labels} projected onto {names}",
        kicker=(f"measured on {sources}", f"projected onto {names}", "nothing ran there"),
        headline=first,
        reason=clean(whole(*pairs[0]), 1800),
        tiles=tuple(_tile(run, total) for run, total in pairs[:MAX_TILES]),
        reasons_title="On the other targets",
        reasons=tuple((clean(headline(run, total)), TOTAL_ID) for run, total in pairs[1 : 1 + MAX_TILES]),
        caveats=tuple(("warning", note, METHOD_ID, "Method") for note in notes),
        not_measured=("times on the targets: nothing ran there; every figure on them is modelled", *unvalidated),
    )


def _tile(run: RunProjection, total: Total) -> Tile:
    name = clean(run.label, 40)
    label = clean(total.target.name, 40)
    if total.reason:
        floor = (
            f"at least {milliseconds(total.floor_us)} of kernels by datasheet {total.arithmetic}".strip()
            if total.floor_us > 0
            else clean(total.reason, 120)
        )
        return Tile(label, (Reading(name, "n/a", Evidence.UNAVAILABLE, floor),))
    if total.same:
        return Tile(label, (Reading(name, milliseconds(run.kernel_us), Evidence.MEASURED, "kernels; the GPU of the run"),))
    sure = ends(total).strip(" ,()")
    remark = "; ".join(t for t in (f"kernels {total.arithmetic}".strip(), sure, speed(run, total), verdict(total).lower()) if t)
    return Tile(label, (Reading(name, marked(milliseconds(total.time_us), Evidence.MODELLED), Evidence.MODELLED, remark),))


def _sections(projection: Projection) -> tuple[Section, ...]:
    made = (_totals(projection), _classes(projection), _kernels(projection), _validation(projection), _method(projection))
    own = made[-1]
    return (*made[:-1], replace(own, blocks=(*own.blocks, Folded("Glossary of the tables", (glossary(made),)))))


def _totals(projection: Projection) -> Section:
    blocks: list[Block] = []
    for run, total in _all(projection)[1:]:  # the first stands at the top of the page
        if text := whole(run, total, source=False):
            blocks.append(Prose(clean(text, 1800), Evidence.MODELLED))
    title = "Kernel time on the source and on each target"
    blocks.append(
        Figure("fig-projection", title, HOW, projected(projection.runs, title), total_table(projection), table_open=True)
    )
    return Section(TOTAL_ID, "What would it take on the other GPUs?", "Total", tuple(blocks))


def _classes(projection: Projection) -> Section:
    words = Listing("What the statuses mean", tuple(meanings().items()))
    return Section(CLASS_ID, "Which parts of that can be trusted?", "Classes", (words, class_table(projection)))


def _kernels(projection: Projection) -> Section:
    return Section(KERNEL_ID, "What would each kernel take?", "Kernels", (kernel_table(projection),))


def _validation(projection: Projection) -> Section:
    text = (
        "Each call was measured on two GPUs. The calibration had seen nothing of the shape, of the target, of the source, or "
        "of either GPU. Then the time on the source was projected and held against the measured time on the target."
    )
    not_in = (
        "Not validated: products on tensor cores in any format, float16 and bfloat16, backward operators, attention kernels, "
        "convolutions other than 3 x 3 with stride 1, pooling, batch norm, compiled kernels, and AMD's GPUs."
    )
    chosen = (
        "No fitted number saw what was held out. But the design and the level of the intervals were chosen on tables like this "
        "one, so it flatters them; docs/projection.md says what was tried."
    )
    blocks = (Prose(text), Prose(chosen), Prose(not_in), validation_table(projection))
    return Section(VALIDATION_ID, "How wrong were such projections?", "Validation", blocks)


def _method(projection: Projection) -> Section:
    own = tuple((place, text) for place, text in approximations() if place.startswith("insight/projection"))
    blocks: list[Block] = [
        target_table(projection),
        Listing("Formulas", FORMULAS),
        Listing("Approximations", own or (("", "none"),)),
        Listing("What the calibration was made from", projection.sources),
    ]
    if projection.command:
        blocks.append(Listing("How to reproduce", (("", clean(" ".join(projection.command), 600)),), code=True))
    return Section(METHOD_ID, "How was this worked out?", "Method", tuple(blocks))
