"""What an image needs: memory, energy and money, FLOP and bytes beside its time."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.format import count, counted, fixed
from analyzer.insight.crossover.contests import Best
from analyzer.insight.crossover.grid import Entry
from analyzer.insight.crossover.headline import say_mismatch
from analyzer.insight.crossover.result import Crossover
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, missing, number
from analyzer.report.crossover.cells import (
    BATCH,
    DERIVED,
    DEVICE,
    HIGH,
    LOW,
    MEASURED,
    MODEL,
    MODELLED,
    SETTING,
    SIZE,
    device,
    figures,
    places_for,
    rounded,
    signed_name,
    trim,
    whole,
)  # fmt: skip
from analyzer.report.crossover.speed import MAX_DEVICES, caption
from analyzer.report.figures.crossover import Axis, curves
from analyzer.report.marks.crossover import Figure as Drawn
from analyzer.report.marks.crossover import over_size, over_work, peak_gib, peak_mib, per_joule
from analyzer.report.text import clean
from analyzer.schema.evidence import Quantity
from analyzer.schema.sweep import PointFigures

_LARGE_MIB = 4096
COVERED_PCT = 95.0
"""Below this share of the time the work of a model is told to be too small."""
MEMORY_ID, COST_ID, WORK_ID = "memory", "cost", "work"


def memory(found: Crossover) -> Section | None:
    """Return peak memory over the image size and the largest batch that fits; what was counted differently stands apart."""
    if not found.fits:
        return None
    blocks: list[Block] = []
    kinds = _kinds(found, None)
    for number_of in range(min(len(found.grid.devices), MAX_DEVICES)):
        here = _kinds(found, number_of)
        for place, kind in enumerate(here):
            blocks += _peak_curves(found, number_of, kind, f"-{place}" if place else "", len(here) > 1)
    if kinds:
        blocks.append(Prose(f"What was counted: {'; '.join(clean(kind, 120) for kind in kinds)}.", MEASURED))
    else:
        blocks.append(Notice("No point has a peak of memory."))
    if len(kinds) > 1:
        blocks.append(Notice("Peaks that count different things do not compare; each way of counting has its own figure."))
    if any(fit.smallest_failed is not None for fit in found.fits):
        blocks.append(trim(_fits(found), found))
    else:
        blocks.append(_nothing_failed(found))
    return Section(MEMORY_ID, "How much memory do they need, and what fits?", "Memory", tuple(blocks))


def _kinds(found: Crossover, number_of: int | None) -> list[str]:
    """Return what was counted as the peak of the best settings on one device, or on all."""
    peaks = [f.peak_bytes for b in found.best if number_of in (None, b.device) and (f := _of(b)) is not None]
    return list(dict.fromkeys(peak.source for peak in peaks if peak.value is not None))


def _peak_curves(found: Crossover, number_of: int, kind: str, suffix: str, several: bool) -> list[Block]:
    def of_kind(get: Callable[[Entry], Drawn | None]) -> Callable[[Entry], Drawn | None]:
        return lambda e: get(e) if e.point.figures is not None and e.point.figures.peak_bytes.source == kind else None

    shown, unit = over_size(found, number_of, of_kind(peak_mib)), "MiB"
    if shown.across < 2:
        return []
    if shown.span()[1] > _LARGE_MIB:
        shown, unit = over_size(found, number_of, of_kind(peak_gib)), "GiB"
    where = device(found, number_of) + (f": {clean(kind, 60)}" if several else "")
    title = f"Peak memory over image size, {where}"
    how = (
        "Each line is one model at its fastest setting. A line that is flat at the left is held up by the weights or, on a "
        "CPU, by the libraries of the process."
    )
    text = f"Curves of the peak of memory on {where}; the table has the numbers"
    svg = curves(f"memory-{number_of}{suffix}", shown, Axis("image size, px", f"peak memory, {unit}"), title, text)
    table = _peaks(found, number_of, kind, suffix)
    return [Figure(f"figure-memory-{number_of}{suffix}", title, how, svg, table, caption(shown))]


def _peaks(found: Crossover, number_of: int, kind: str, suffix: str) -> Table:
    rows = []
    for b in found.best:
        shown = _of(b)
        if b.device != number_of or shown is None or shown.peak_bytes.value is None or shown.peak_bytes.source != kind:
            continue
        peak = number(shown.peak_bytes.value / 2**20, 0, shown.peak_bytes.evidence)
        rows.append(Row((Cell(signed_name(found, b.model)), whole(b.batch), whole(b.size), peak, Cell(clean(kind, 80)))))
    heads = (
        MODEL, BATCH, SIZE, Head("peak", "MiB", True, MEASURED, "most memory in use during the untraced pass"),
        Head("counted", meaning="what the peak of memory counts; peaks that count different things do not compare"),
    )  # fmt: skip
    return Table(f"memory-table-{number_of}{suffix}", "Peak memory at the fastest setting", heads, tuple(rows))


def _nothing_failed(found: Crossover) -> Notice:
    """Return the line that stands for the table where nothing ran out of memory."""
    largest = max((fit.largest for fit in found.fits if fit.largest is not None), default=None)
    ran = f"; the largest that ran is {largest}" if largest is not None else ""
    return Notice(f"No batch size was found too large for memory, so the largest that fits is not known{ran}.")


def _fits(found: Crossover) -> Table:
    rows = []
    for fit in found.fits:
        largest = missing() if fit.largest is None else whole(fit.largest)
        failed = Cell("–") if fit.smallest_failed is None else whole(fit.smallest_failed)
        known = "yes" if fit.smallest_failed is not None else "no"
        rows.append(
            Row(
                (
                    Cell(signed_name(found, fit.model)),
                    Cell(device(found, fit.device, 40)),
                    whole(fit.size),
                    largest,
                    failed,
                    Cell(known),
                )
            )
        )
    heads = (
        MODEL, DEVICE, SIZE,
        Head("largest that ran", "images", True, MEASURED, "largest batch with a time under any setting"),
        Head("smallest too large", "images", True, MEASURED, "smallest batch above it that is out of memory and has no time"),
        Head("limit found", meaning="whether a larger batch was tried and ran out of memory; without it, larger ones may fit"),
    )  # fmt: skip
    note = "The limit lies between the two batches; sizes between them were not run."
    return Table("fits-table", "The largest batch that fits", heads, tuple(rows), note)


# --- cost ----------------------------------------------------------------------------------------------------------------


def cost(found: Crossover) -> Section:
    """Return images per joule and per unit of currency, or one line each on why not."""
    blocks: list[Block] = []
    timed = [b for b in found.best if b.best is not None and b.best.point.figures is not None]
    columns: list[tuple[Head, Callable[[PointFigures], Quantity]]] = []
    for what, unit, meaning, get in _COSTS:
        known = [get(f) for b in timed if (f := _of(b)) is not None]
        if any(q.value is not None for q in known):
            columns.append((Head(what, unit, True, DERIVED, meaning), get))
        else:
            why = next((q.source for q in known if q.source), "no point has a time")
            blocks.append(Notice(f"No {what}: {clean(why, 200)}."))
    if columns:
        blocks.insert(0, _cost_table(found, timed, columns))
        for number_of in range(min(len(found.grid.devices), MAX_DEVICES)):
            blocks += _joules(found, number_of)
    if found.sweep.price is not None:
        blocks.append(
            Prose(f"Price: {fixed(found.sweep.price, 2)} units of currency per hour, as given, for every device of this page.")
        )
    return Section(COST_ID, "What does an image cost?", "Cost", tuple(blocks))


_COSTS: tuple[tuple[str, str, str, Callable[[PointFigures], Quantity]], ...] = (
    ("images per joule", "1/J", "images of one batch over the energy of the device during it", lambda f: f.images_per_j),
    (
        "images per unit of currency", "", "images in an hour over the price of an hour, with the device always busy",
        lambda f: f.images_per_price,
    ),
)  # fmt: skip


def _of(b: Best) -> PointFigures | None:
    return b.best.point.figures if b.best is not None else None


def _cost_table(found: Crossover, timed: list[Best], columns: list[tuple[Head, Callable[[PointFigures], Quantity]]]) -> Table:
    rows = []
    for b in timed:
        shown, best = _of(b), b.best
        if shown is None or best is None:
            continue
        cells = []
        for _, get in columns:
            figure = get(shown)
            cells.append(rounded(figure.value, figure.evidence))
        words = clean(found.grid.words(best.variant, found.grid.models[b.model].family), 120)
        rows.append(
            Row(
                (
                    Cell(signed_name(found, b.model)),
                    Cell(device(found, b.device, 40)),
                    whole(b.batch),
                    whole(b.size),
                    Cell(words),
                    *cells,
                )
            )
        )
    heads = (MODEL, DEVICE, BATCH, SIZE, SETTING, *(head for head, _ in columns))
    note = "At the fastest setting, which need not be the cheapest; points.csv has every setting."
    return trim(Table("cost-table", "Images per joule and per unit of currency", heads, tuple(rows), note), found)


def _joules(found: Crossover, number_of: int) -> list[Block]:
    shown = over_size(found, number_of, per_joule)
    if shown.across < 2:
        return []
    where = device(found, number_of)
    title = f"Images per joule over image size, {where}"
    how = "Higher is better. Each line is one model at its fastest setting."
    text = f"Curves of images per joule on {where}; the table has the numbers"
    svg = curves(f"joule-{number_of}", shown, Axis("image size, px", "images per joule"), title, text)
    return [Figure(f"figure-joule-{number_of}", title, how, svg, None, caption(shown))]


# --- work ----------------------------------------------------------------------------------------------------------------


def work(found: Crossover) -> Section | None:
    """Return FLOP and compulsory bytes of an image beside its time, and how far pairs are from equal work."""
    rows = [_work_row(b, found) for b in found.best if b.best is not None]
    if not rows:
        return None
    blocks: list[Block] = [Prose(clean(text), MODELLED) for text in (say_mismatch(m, found) for m in found.mismatches) if text]
    for number_of in range(min(len(found.grid.devices), MAX_DEVICES)):
        shown = over_work(found, number_of)
        if shown.across > 1:
            where = device(found, number_of)
            title = f"Time per image over FLOP per image, {where}"
            how = (
                "Each point is one image size, smallest at the left. Of two points at the same FLOP, the lower one "
                "does more FLOP per second. If FLOP explained the time, all lines would lie on one another."
            )
            text = f"Time of an image in ms over its GFLOP on {where}; the table has the numbers"
            svg = curves(
                f"work-{number_of}", shown, Axis("GFLOP per image (from shapes)", "ms per image", sizes=False), title, text
            )
            blocks.append(Figure(f"figure-work-{number_of}", title, how, svg, None, caption(shown)))
    heads = (
        MODEL, DEVICE, BATCH, SIZE,
        Head("tokens", "", True, DERIVED, "longest sequence that attention saw; n/a where no attention ran"),
        Head("weights", "M", True, DERIVED, "parameters of the model"),
        Head("FLOP", "GFLOP", True, MODELLED, "of one image, from operator shapes; a multiply-add counts 2"),
        Head("compulsory bytes", "MB", True, MODELLED, "per image; every operand once, weights once a batch"),
        Head("covered", "%", True, DERIVED, "time in operators with a work model, of the traced time; the rest is left out"),
        Head("time", "ms", True, DERIVED, "of one image: median time of a batch over its images"),
        Head("low", "ms", True, DERIVED, LOW), Head("high", "ms", True, DERIVED, HIGH),
        Head("delivered", "GFLOP/s", True, MODELLED, "FLOP of an image over its time"),
        Head("moved at least", "GB/s", True, MODELLED, "compulsory bytes of an image over its time"),
    )  # fmt: skip
    covered = [f.modelled_pct for b in found.best if (f := _of(b)) is not None and f.modelled_pct is not None]
    low = sum(share < COVERED_PCT for share in covered)
    note = (
        f"{counted(low, 'row has', 'rows have')} work models for less than {COVERED_PCT:.0f} % of the time: FLOP, bytes and "
        "what follows from them are too small there."
        if low
        else ""
    )
    caption_ = "Work of an image beside its time, best settings"
    table = trim(
        Table("work-table", caption_, heads, tuple(rows), note, open_rows=20), found, *(() if covered else ("covered",))
    )
    return Section(WORK_ID, "Does the amount of work explain the time?", "Work", (*blocks, table))


def _work_row(b: Best, found: Crossover) -> Row:
    best, shown = b.best, _of(b)
    if best is None or shown is None:
        raise ValueError("no time at this place")
    per_image = best.time_ms / b.batch
    flop, moved = shown.flop.value, shown.bytes_compulsory.value
    parameters = missing() if not shown.parameters else number(shown.parameters / 1e6, 2)
    return Row(
        (
            Cell(signed_name(found, b.model)), Cell(device(found, b.device, 28)), whole(b.batch), whole(b.size),
            Cell(count(shown.tokens), shown.tokens) if shown.tokens else missing(), parameters,
            rounded(flop / 1e9 if flop else None, MODELLED), rounded(moved / 1e6 if moved else None, MODELLED),
            missing() if shown.modelled_pct is None else number(shown.modelled_pct, 0, DERIVED),
            *figures(best.latency_ms, places_for(per_image), 1 / b.batch),
            rounded(flop / per_image / 1e6 if flop else None, MODELLED),
            rounded(moved / per_image / 1e6 if moved else None, MODELLED),
        )
    )  # fmt: skip
