"""From shapes alone to a directory: the page on access patterns and the files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from analyzer.format import counted, digits, fixed, marked, scaled, size
from analyzer.insight.locality import claim
from analyzer.insight.moved import Moved, band, lines, moved, scale_of, words, written_ratio
from analyzer.report.access_files import CSV_FILE, JSON_FILE, AccessReport, write_access_files
from analyzer.report.blocks import Block, Cell, Folded, Head, Listing, Prose, Reading, Row, Section, Table, Tile, number
from analyzer.report.render import PAGE_FILE, json_block, render
from analyzer.report.sections import access
from analyzer.report.sections.glossary import glossary
from analyzer.report.sections.masthead import Masthead
from analyzer.report.sections.method import FORMULAS, LIMIT, approximations
from analyzer.report.text import clean
from analyzer.schema.access import AccessResult
from analyzer.schema.evidence import Evidence

DERIVED, MODELLED, SPEC, UNAVAILABLE = Evidence.DERIVED, Evidence.MODELLED, Evidence.SPEC, Evidence.UNAVAILABLE
WHOLE_ID, METHOD_ID = "whole", "method"

ASSUMED = (
    ("tiles", "no kernel has run, so none has a name: 128 x 128 outputs for products, FlashAttention-2's tiles for attention"),
    ("order of blocks", "not known either: DRAM bytes are a band over every order that is plausible"),
    ("layers", "one kernel each, as PyTorch runs them without a compiler; nothing is fused but attention"),
    ("cache", "empty when a layer begins; what a layer leaves for the next one is not counted"),
    ("other way of attention", "with its scores written out: QK^T, softmax and PV as three kernels, one after the other"),
    (
        "least times",
        "from the peaks of the datasheets: matrix units for products, convolutions and attention, else vector lanes",
    ),
)
_USED = ("FLOP", "compulsory bytes", "L2 to multiprocessors", "DRAM traffic")


def write_access_report(report: AccessReport, directory: Path) -> None:
    """Write index.html, access.json and access.csv into ``directory``, which exists."""
    found = write_access_files(report, directory)
    sections = _sections(report)
    head = _masthead(report, {section.id for section in sections})
    text = render(head, sections, json_block(found), files=(JSON_FILE, CSV_FILE))
    (directory / PAGE_FILE).write_text(text, encoding="utf-8", errors="replace")


def title(report: AccessReport) -> str:
    """Return the heading of the page."""
    models, gpus = (" and ".join(dict.fromkeys(names)) for names in (_models(report), [clean(g.name, 60) for g in report.gpus]))
    which = "the cache" if len(report.gpus) == 1 else "the caches"
    return f"What {models} {'does' if len(report.results) == 1 else 'do'} to {which} of {gpus}, from shapes alone"


def _models(report: AccessReport) -> list[str]:
    return [clean(result.model, 40) for result in report.results]


# --- the first screen ----------------------------------------------------------------------------------------------------


def _masthead(report: AccessReport, sections: set[str]) -> Masthead:
    link = WHOLE_ID if WHOLE_ID in sections else ""
    heading, found = title(report), claim(report.results)
    first = report.results[0]
    gpus = " / ".join(gpu.name for gpu in report.gpus)
    kicker = (gpus, report.dtype, f"batch {first.batch_size}", f"{first.image_size} px", "nothing was run")
    left = [
        f"{counted(len(r.left_out), 'operator', 'operators')} of {clean(r.model, 40)} without an access model"
        for r in report.results
        if r.left_out
    ]
    return Masthead(
        title=heading,
        kicker=tuple(clean(text, 160) for text in kicker),
        headline=heading,
        reason=clean(found.sentence, 1800),
        tiles=_tiles(report),
        reasons_title="In bytes (modelled)",
        reasons=tuple((clean(text), link) for text in lines(report.results, report.gpus)),
        caveats=(
            ("note", "Tiles and orders of blocks are assumed, because no kernel has run that tells them.", METHOD_ID, "Method"),
        ),
        not_measured=("times: nothing was run; every byte and every least time here is modelled", *left),
    )


def _tiles(report: AccessReport) -> tuple[Tile, ...]:
    """Return work, compulsory bytes and DRAM bytes of each model per image on the first GPU, and what attention adds."""
    gpu = report.gpus[0]
    sums = [(n, r, moved(r, gpu.key)) for n, r in enumerate(report.results)]
    several = len(sums) > 1
    divisor, unit = scale_of([m for _, _, found in sums for m in found])
    work: list[Reading] = []
    least: list[Reading] = []
    through: list[Reading] = []
    dram: list[Reading] = []
    for n, result, found in sums:
        name, run = (clean(result.model, 40), n) if several else ("", -1)
        if not found:
            work.append(Reading(name, "n/a", UNAVAILABLE, "a layer is too large to be worked out", run))
            continue
        own = found[0]
        work.append(Reading(name, marked(scaled(own.flop, "FLOP"), MODELLED), MODELLED, "per image", run))
        for values, value in ((least, own.compulsory_bytes), (through, own.l2_sm_bytes)):
            values.append(Reading(name, marked(f"{digits(value / divisor)} {unit}", MODELLED), MODELLED, "per image", run))
        for m in found:
            places = 2 if m.dram_bytes[1] < 10 * divisor else 1 if m.dram_bytes[1] < 100 * divisor else 0
            low, high = (fixed(value / divisor, places) for value in m.dram_bytes)
            text = f"{high} {unit}" if low == high else f"{low}–{high} {unit}"
            remark = "per image" + (f", {words(m.way)}" if m.way else "")
            dram.append(Reading(name, marked(text, MODELLED), MODELLED, remark, run))
    where = clean(gpu.name, 40)
    facts = f"{gpu.partitions} halves that each keep copies" if gpu.partitions > 1 else "undivided"
    tiles = [
        Tile("Work", tuple(work)),
        Tile("Compulsory bytes", tuple(least)),
        Tile("L2 to multiprocessors and back", tuple(through)),
        Tile(f"DRAM, {where}", tuple(dram)),
        _attention_tile(report),
        Tile(f"L2, {where}", (Reading("", size(gpu.capacity_bytes), SPEC, f"{facts}; cache model {clean(gpu.status, 20)}"),)),
    ]
    return tuple(tile for tile in tiles if tile is not None and tile.readings)


def _attention_tile(report: AccessReport) -> Tile | None:
    readings = []
    for n, result in enumerate(report.results):
        ratio = written_ratio(result, report.gpus[0].key)
        if ratio is not None:
            name, run = (clean(result.model, 40), n) if len(report.results) > 1 else ("", -1)
            text = marked(f"{band(*ratio, 1)}x", MODELLED)
            readings.append(Reading(name, text, MODELLED, "DRAM bytes of attention, scores written out over fused", run))
    return Tile("Writing scores out", tuple(readings)) if readings else None


# --- sections ------------------------------------------------------------------------------------------------------------


def _sections(report: AccessReport) -> tuple[Section, ...]:
    made = (_whole(report), access.section(report.results), _method(report))
    *others, own = (section for section in made if section is not None)
    explained = Folded("Glossary of the tables", (glossary((*others, own)),))
    return (*others, replace(own, blocks=(*own.blocks, explained)))


def _sums(report: AccessReport) -> Iterator[tuple[str, AccessResult, Moved]]:
    for gpu in report.gpus:
        for result in report.results:
            for m in moved(result, gpu.key):
                yield gpu.name, result, m


def _whole(report: AccessReport) -> Section | None:
    rows = []
    for gpu, _, m in _sums(report):
        low, high = m.dram_bytes
        cells = (
            Cell(clean(m.model, 60)),
            Cell(words(m.way) or "–"),
            Cell(clean(gpu, 60)),
            number(m.flop / 1e9, 1, MODELLED),
            number(m.compulsory_bytes / 1e6, 1, MODELLED),
            number(m.l2_sm_bytes / 1e6, 1, MODELLED),
            Cell(marked(band(low / 1e6, high / 1e6, 1), MODELLED), high, MODELLED),
            Cell(marked(band(low / m.compulsory_bytes, high / m.compulsory_bytes, 2), MODELLED), high, MODELLED),
        )
        rows.append(Row(cells))
    if not rows:
        return None
    heads = (
        Head("model"), Head("attention", meaning="the way that attention is computed: fused, or with its scores written out"),
        Head("GPU"), Head("work", "GFLOP", True, MODELLED, "of one image; a multiply-add counts 2"),
        Head("compulsory", "MB", True, MODELLED, "each operand of each layer read or written once"),
        Head("L2 and multiprocessors", "MB", True, MODELLED, "bytes that thread blocks read from the L2 and write to it"),
        Head("DRAM", "MB", True, MODELLED, "low to high; each layer finds the cache empty"),
        Head("DRAM over compulsory", "x", True, MODELLED, "low to high"),
    )  # fmt: skip
    note = (
        "Per image, reads and writes, the sum over all layers; access.csv has each. With scores written out, the scores "
        "themselves count as compulsory. The low end leaves in the cache what it may still hold of each output, so it can lie "
        "below the compulsory bytes; the high end takes the worst plausible order of blocks for every layer. The figure over "
        "image sizes takes the likeliest order alone, so its bands are narrower."
    )
    blocks: list[Block] = [Prose(clean(text), MODELLED) for text in lines(report.results, report.gpus)]
    blocks.append(Table("whole-table", "What the whole model moves", heads, tuple(rows), note))
    return Section(WHOLE_ID, "How many bytes does one image move?", "Bytes", tuple(blocks))


def _method(report: AccessReport) -> Section:
    own = tuple((place, text) for place, text in approximations() if place.startswith("access/"))
    blocks: list[Block] = [
        Prose(
            "Each model ran once on torch's meta device, which has shapes but no memory and no time. The tiles of a layer, the "
            "order in which thread blocks take them and their accesses follow from its shapes; a simulated L2 turns accesses "
            "into bytes."
        ),
        _gpus(report),
        Listing("What is assumed", ASSUMED),
        Listing("Formulas", tuple((name, text) for name, text in FORMULAS if name in _USED)),
        Listing("Approximations", own or (("", "none"),)),
    ]
    if report.command:
        blocks.append(Listing("How to reproduce", (("", clean(" ".join(report.command), 600)),), code=True))
    return Section(METHOD_ID, "How was this worked out?", "Method", tuple(blocks))


def _gpus(report: AccessReport) -> Table:
    rows = [
        Row((Cell(clean(gpu, 60)), Cell(limit), Cell(figure, None, SPEC), Cell(clean(source, 200))))
        for gpu, limit, figure, source in report.peaks
    ]
    for g in report.gpus:
        halves = f", {g.partitions} halves" if g.partitions > 1 else ""
        kept = f"up to {fixed(g.retained_bytes[1] / 1e6, 1)} MB of a layer's output may stay in it"
        text = Cell(f"{size(g.capacity_bytes)}{halves}")
        rows.append(
            Row((Cell(clean(g.name, 60)), Cell("L2"), text, Cell(f"{clean(g.status, 20)}: {clean(g.source, 200)}; {kept}")))
        )
    heads = (Head("GPU"), LIMIT, Head("figure", meaning="the limit with its unit, from datasheets"), Head("source"))
    return Table("limits-table", "Limits and cache models of the GPUs", heads, tuple(rows))
