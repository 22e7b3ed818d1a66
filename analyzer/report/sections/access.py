"""Section "access": what global and local access cost, and the patterns, caches and image sizes that this rests on."""

from __future__ import annotations

from analyzer.format import counted, milliseconds
from analyzer.insight.locality import against_gap, claim, coverage
from analyzer.report.blocks import Block, Figure, Folded, Listing, Prose, Section
from analyzer.report.figures.access_map import access_map
from analyzer.report.figures.curves import curves
from analyzer.report.figures.sizes import sizes as draw_sizes
from analyzer.report.marks.access import MAX_POINTS, Growth, Line, devices, growth, lines, name, representatives
from analyzer.report.marks.access_map import panels
from analyzer.report.sections.access_tables import (
    caches_table,
    curve_table,
    kernel_table,
    left_out_table,
    locality_table,
    map_table,
    size_table,
)
from analyzer.report.text import FULL_NAME_LIMIT, clean, run_label
from analyzer.schema.access import AccessResult, CacheFacts, PatternAccess
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Gap, Study

__all__ = ["HEADING", "ID", "MAX_POINTS", "SHORT", "section"]

ID, HEADING, SHORT = "access", "Why do attention and convolution touch memory differently?", "Access"
MODELLED = Evidence.MODELLED

GPU_WORDS = (
    "A kernel cuts its output into tiles, and each thread block computes one tile from the inputs that this tile needs. "
    "Blocks read through the L2, a cache that the whole GPU shares; what is not there comes from DRAM, the GPU's main memory. "
)
CPU_WORDS = (
    "An operator cuts its output into blocks, and a core computes one block from the inputs that it needs. How a CPU's library "
    "cuts is not recorded, so the blocks are assumed. Below, an operator stands where a GPU runs a kernel, its blocks are "
    "called thread blocks, and the cache that all cores share stands where a GPU has its L2. What is not there comes from main "
    "memory, here DRAM. "
)
PLAIN = (
    "Compulsory bytes are what has to cross DRAM in any case: each input read once, each output written once. Bytes "
    "that are needed again are re-use, and re-use is free of DRAM traffic only while the bytes are still in the cache. The "
    "reuse distance is the amount of other data touched in between: a cache larger than that still holds the bytes, a "
    "smaller one has to read them again."
)
CURVE_HOW = (
    "Each line falls as the cache grows: at 1x every byte is read from DRAM once, at 10x ten times. A circle marks the knee, "
    "the smallest cache with at most a tenth more than the compulsory reads. Thin vertical lines are the L2 of each GPU (the "
    "last cache of a CPU), named above; where a bar begins at half of it, the L2 has two halves that may each keep a copy, so "
    "the capacity that counts lies along the bar. A device whose line lies right of a circle reads the bytes of that pattern "
    "about once."
)
CURVE_CAPTION = (
    "Modelled for a fully associative LRU cache (it keeps what was used last, wherever it lies), one launch, empty at the "
    "start. It is not the hit rate of any device."
)
MAP_HOW = (
    "Right is later; each band is one operand from its first address (bottom) to its last (top), not to scale with the others. "
    "Colours tell operands apart; the thick strokes are what one thread block touches. Strokes that keep to a small part "
    "of a band are local, strokes that span it are global. Colour at the same height again and again is re-use."
)
MAP_CAPTION = (
    "The real layers with one image or head, and their first thread blocks, so that single accesses can be seen; points are "
    "thinned evenly."
)
SIZE_HOW = (
    "Right is a larger image, up is more bytes (left panel) or more arithmetic for each byte from DRAM (right panel). Bands "
    "run from the low to the high estimate of the cache, dotted lines are compulsory bytes alone. A band on its dotted line "
    "moves each byte once."
)


def of_study(study: Study) -> Section | None:
    """Return the section of the runs of a study."""
    return section(tuple(a.access for a in study.analyses if a.access), study.gap)


def section(results: tuple[AccessResult, ...], gap: Gap | None = None) -> Section | None:
    """Return the section on the access patterns of one or more models; None where there is nothing to show.

    Args:
        results: one per model, the first model of a comparison first.
        gap: the measured gap of the same two runs, against which the cost of access is set.
    """
    if not any(result.patterns for result in results):
        return None
    cases, facts = representatives(results), devices(results)
    blocks: list[Block] = [*_claim(results, gap), Prose((CPU_WORDS if facts and facts[0].key == "cpu" else GPU_WORDS) + PLAIN)]
    drawn = lines(cases)
    if drawn:
        blocks.append(_curves(cases, drawn, facts))
    blocks += [*_maps(results), *_sizes(results, facts)]
    if cases:
        blocks.append(locality_table(cases))
        if facts:
            blocks.append(caches_table(cases, facts))
        formulas = tuple(
            (f"{name(p.pattern)} · {run_label(p.model, 40)}", clean(p.formula, FULL_NAME_LIMIT)) for p in cases if p.formula
        )
        if formulas:
            blocks.append(Listing("The formula with this run's shapes", formulas, code=True))
    blocks += [Prose(clean(coverage(results))), kernel_table(results)]
    missing = left_out_table(results)
    if missing:
        blocks.append(
            Folded(f"What has no access model, and why: {counted(len(missing.rows), 'entry', 'entries')}", (missing,))
        )
    return Section(ID, HEADING, SHORT, tuple(blocks))


def _claim(results: tuple[AccessResult, ...], gap: Gap | None) -> list[Block]:
    found = claim(results)
    blocks: list[Block] = [Prose(clean(found.sentence), found.evidence)]
    reasons = [clean(reason) for reason in found.reasons]
    against = against_gap(found, gap.total_us) if gap is not None and "batch" in gap.basis else ""
    reasons += [against] if against else []
    reasons += [_measured(gap)] if gap is not None and found.outcome == "both_ways" else []
    if reasons:
        blocks.append(
            Listing(
                "Why (modelled)",
                tuple((_capital(term), _capital(text)) for term, _, text in (reason.partition(": ") for reason in reasons)),
            )
        )
    return blocks


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _measured(gap: Gap) -> str:
    """Return what attention took in both runs, beside what the model says of it."""
    first, second = (sum(e.us for e in ledger.entries if e.kind == "attention") for ledger in (gap.one, gap.two))
    takes = f"attention takes {milliseconds(first)} in {gap.first} and {milliseconds(second)} in {gap.second}"
    return clean(f"As recorded: {takes}, while tracing; the gap above has its other parts.")


def _curves(cases: tuple[PatternAccess, ...], drawn: tuple[Line, ...], facts: tuple[CacheFacts, ...]) -> Figure:
    title = "How much cache does each access pattern need?"
    flat = [line.label for line in drawn if line.knee is None]
    note = f" Without a circle, because the knee lies outside the axis: {'; '.join(flat)}." if flat else ""
    absent = [name(p.pattern) for p in cases if p.hypothetical and not p.in_parts]
    note += f" For comparison, and not run in this form: {'; '.join(absent)}." if absent else ""
    return Figure("fig5", title, CURVE_HOW, curves(drawn, facts, title), curve_table(cases, facts), CURVE_CAPTION + note)


def _maps(results: tuple[AccessResult, ...]) -> list[Block]:
    shown = panels(results)
    if not shown:
        return []
    title = "Which addresses does a thread block touch, and when?"
    return [Figure("fig6", title, MAP_HOW, access_map(shown, title), map_table(shown), MAP_CAPTION)]


def _sizes(results: tuple[AccessResult, ...], facts: tuple[CacheFacts, ...]) -> list[Block]:
    drawn: tuple[Growth, ...] = growth(results)
    if not drawn:
        return []
    key = drawn[0].points[0].device
    where = next((clean(d.name, 60) for d in facts if d.key == key), key)
    title = "Bytes per image against image size"
    caption = f"On {where}; the sum over all kernels, of which each finds the cache empty. The low end leaves in the "
    caption += "cache what it may still hold of the output, and can lie below the compulsory bytes. Every kernel takes the "
    caption += "likeliest order of its blocks here; the tables below span all orders that are plausible."
    return [Figure("fig7", title, SIZE_HOW, draw_sizes(drawn, title), size_table(drawn), caption)]
