"""Which model is faster where: curves over the image size, a matrix for each pair, and the crossings."""

from __future__ import annotations

from analyzer.format import fixed, times
from analyzer.insight.crossover.contests import OUTCOME_WORDS
from analyzer.insight.crossover.crossings import Crossing, Track
from analyzer.insight.crossover.headline import had_choice, how_chosen, sampling
from analyzer.insight.crossover.result import Crossover
from analyzer.insight.crossover.standings import Standing
from analyzer.report.blocks import Block, Cell, Figure, Folded, Head, Notice, Prose, Row, Section, Table, missing, number
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
    outcome,
    places_for,
    sign,
    signed_name,
    trim,
    whole,
)  # fmt: skip
from analyzer.report.figures.crossover import Axis, curves
from analyzer.report.marks.crossover import Panels, over_batch, over_size, per_image_ms, ratios
from analyzer.report.text import clean

MAX_DEVICES, OPEN_PAIRS, OPEN_ROWS = 4, 3, 20
SPEED_ID, CROSSINGS_ID = "speed", "crossings"
STATES = {
    "resolved": "they cross", "unresolved": "they cross, place unresolved", "possible": "not established",
    "none": "no crossing", **OUTCOME_WORDS, "one size": "one size only", "untimed": "no common time",
}  # fmt: skip


def section(found: Crossover) -> Section:
    """Return curves and matrices."""
    blocks: list[Block] = []
    for number_of in range(min(len(found.grid.devices), MAX_DEVICES)):
        blocks += _curves(found, number_of)
    blocks += _left_out(found)
    if len(found.grid.models) > 2:
        blocks += [_fastest(found, number_of) for number_of in dict.fromkeys(s.device for s in found.standings)]
    matrices = _matrices(found)
    blocks += matrices[: OPEN_PAIRS * max(len(found.grid.devices), 1)]
    rest = tuple(matrices[OPEN_PAIRS * max(len(found.grid.devices), 1) :])
    blocks += [Folded(f"The other pairs ({len(rest)} tables)", rest)] if rest else []
    if not blocks:
        blocks.append(Notice("No point has a time: see what came of them below."))
    return Section(SPEED_ID, "Which model is faster where?", "Speed", tuple(blocks))


def _left_out(found: Crossover) -> list[Block]:
    more = len(found.grid.devices) - MAX_DEVICES
    return [Prose(f"{more} more devices are not drawn; the tables have them.")] if more > 0 else []


def caption(shown: Panels) -> str:
    """Return what the drawing had no room for, and what its crosses mean."""
    told = []
    if shown.has_lost:
        told.append("A cross at the upper edge: out of memory there, and no setting has a time.")
    if shown.cut:
        told.append("An interval goes beyond the drawing; its ends stand in the table.")
    if shown.left_out:
        told.append(f"{shown.left_out} more batch sizes are in the tables alone.")
    if shown.lines_left_out:
        told.append(f"{shown.lines_left_out} more models are in the tables alone.")
    return " ".join(told)


def _curves(found: Crossover, number_of: int) -> list[Block]:
    shown, over = over_size(found, number_of, per_image_ms, crossings=True), "image size"
    if shown.across < 2:
        shown, over = over_batch(found, number_of, per_image_ms), "batch size"
    if shown.across < 2:
        return []
    where = device(found, number_of)
    title = f"Time per image over {over}, {where}"
    chosen = how_chosen(found)
    how = (
        "Lower is faster. Each line is one model"
        + (f", {chosen}" if chosen else "")
        + "; bars are 95 % intervals. The axis on "
        "the right says the same as images per second. Where lines meet, both take equally long."
    )
    if len(found.grid.models) == 2 and over == "image size":
        how += " The shaded band lies between the measured sizes around a crossing, the dashed line at its interpolated place."
    text = f"Curves of the time per image in ms on {where}; the table of the best settings has the numbers"
    axis = Axis("image size, px" if over == "image size" else "images per batch", "ms per image", "images per s")
    svg = curves(f"speed-{number_of}", shown, axis, title, text)
    return [Figure(f"figure-speed-{number_of}", title, how, svg, _numbers(found, number_of), caption(shown))]


def _numbers(found: Crossover, number_of: int) -> Table:
    rows = []
    for b in found.best:
        if b.device == number_of and b.best is not None and b.best.latency_ms is not None:
            latency = b.best.latency_ms
            per_image = (latency.value or 0.0) / b.batch
            own = figures(latency, places_for(per_image), 1 / b.batch)
            rate = b.best.point.figures.images_per_s if b.best.point.figures else None
            rows.append(
                Row(
                    (
                        Cell(signed_name(found, b.model)), whole(b.batch), whole(b.size), *own,
                        *figures(rate, places_for((rate.value or 0) if rate else 0)),
                    )
                )
            )  # fmt: skip
    heads = (
        MODEL, BATCH, SIZE,
        Head("per image", "ms", True, DERIVED, "median untraced time of one batch over its images, at the fastest setting"),
        Head("low", "ms", True, DERIVED, LOW), Head("high", "ms", True, DERIVED, HIGH),
        Head("rate", "images/s", True, DERIVED, "images of one batch over its median time"),
        Head("rate, low", "images/s", True, DERIVED, "rate at the upper end of the time's interval"),
        Head("rate, high", "images/s", True, DERIVED, "rate at the lower end of the time's interval"),
    )  # fmt: skip
    return Table(f"speed-table-{number_of}", "Time per image and images per second, best settings", heads, tuple(rows))


def _matrices(found: Crossover) -> list[Table]:
    pairs = list(dict.fromkeys((t.first, t.second, t.device) for t in found.tracks))
    return [_matrix(found, first, second, where) for first, second, where in pairs]


def _matrix(found: Crossover, first: int, second: int, where: int) -> Table:
    tracks = [t for t in found.tracks if (t.first, t.second, t.device) == (first, second, where)]
    at = {(c.batch, c.size): c for t in tracks for c in t.contests}
    batches, sizes = sorted({b for b, _ in at}), sorted({s for _, s in at})
    told = "the model that takes less time and how many times as long the other one takes, with its 95 % interval"
    heads = (SIZE, *(Head(f"batch {batch}", meaning=told) for batch in batches))
    rows = tuple(Row((whole(size), *(outcome(at.get((batch, size)), found) for batch in batches))) for size in sizes)
    names = f"{signed_name(found, first)} or {signed_name(found, second)}"
    chosen = f", {how_chosen(found)}" if how_chosen(found) else ""
    text = f"{names} on {device(found, where)}{chosen}: who takes less time, and how many times as long the other takes"
    return Table(f"matrix-{first}-{second}-{where}", text, heads, rows, fixed_order=True)


def _fastest(found: Crossover, where: int) -> Table:
    """Return the fastest of more than two models at each place, how much longer the next one takes, and who has no time."""
    at = {(s.batch, s.size): s for s in found.standings if s.device == where}
    batches, sizes = sorted({b for b, _ in at}), sorted({s for _, s in at})
    told = (
        "the fastest of the models with a time, and how many times as long the next one takes; where no difference is clear, "
        "all that are level with it; in brackets the models without a time"
    )
    heads = (SIZE, *(Head(f"batch {batch}", meaning=told) for batch in batches))
    rows = tuple(Row((whole(size), *(_standing(at.get((batch, size)), found) for batch in batches))) for size in sizes)
    return Table(f"fastest-{where}", f"The fastest of all models on {device(found, where)}", heads, rows, fixed_order=True)


def _standing(s: Standing | None, found: Crossover) -> Cell:
    if s is None:
        return Cell("not run")
    gone = "; ".join(f"{clean(why, 60)}: {', '.join(signed_name(found, m, 24) for m in models)}" for why, models in s.without)
    rest = f" ({gone})" if gone else ""
    if not s.order:
        return Cell(f"no time{rest}")
    first = signed_name(found, s.order[0], 24)
    if s.gap is None or s.outcome is None:
        return Cell(f"{first} is the only one with a time{rest}")
    if s.clear:
        return Cell(f"{first}; {signed_name(found, s.order[1], 24)} takes {times(s.gap)}{rest}")
    names = ", ".join(signed_name(found, m, 24) for m in s.level)
    return Cell(f"{OUTCOME_WORDS.get(s.outcome, 'no clear difference')}: {names}{rest}")


# --- crossings -----------------------------------------------------------------------------------------------------------


def crossings(found: Crossover) -> Section | None:
    """Return where curves cross, None for fewer than two models."""
    if not found.tracks:
        return None
    told = [t for t in found.tracks if len(t.timed) > 1]
    blocks: list[Block] = []
    for number_of in range(min(len(found.grid.devices), MAX_DEVICES)):
        blocks += _ratio_figure(found, number_of)
    if not told:
        blocks.append(
            Notice("No two models have times at more than one image size on the same device and batch: nothing can cross.")
        )
    rows = [row for track in found.tracks for row in _rows(track, found, "best of each")]
    note = (
        "They cross where two neighbouring sizes differ clearly and to opposite sides; then the place is interpolated, and low "
        "and high hold what was sampled alone, not how far the curves are from straight lines. The place is unresolved where "
        "sizes between do not tell the models apart or have no time of both. It is not established where medians change sides "
        "without a clear difference on both sides."
    )
    caption_ = "Crossings over the image size, each model at its best setting"
    blocks.append(trim(Table("crossings-table", caption_, _HEADS, tuple(rows), note, open_rows=OPEN_ROWS), found, "setting"))
    alike = [row for a, b, t in found.alike for row in _rows(t, found, found.grid.shared_words(t.first, a, t.second, b))]
    if alike and had_choice(found):
        table = Table("alike-crossings", "Crossings over the image size, both models at the same setting", _HEADS, tuple(alike))
        blocks.append(Folded("The same with both models at the same setting", (trim(table, found),)))
    return Section(CROSSINGS_ID, "At which image size do they cross?", "Crossings", tuple(blocks))


def _ratio_figure(found: Crossover, number_of: int) -> list[Block]:
    shown = ratios(found, number_of)
    if shown.across < 2:
        return []
    where = device(found, number_of)
    title = f"How many times as long the first takes, over image size, {where}"
    how = (
        "Above the line at 1 the first model of the title takes longer, below it the second one. Each line is one batch size, "
        "each model at its fastest setting; bars are 95 % intervals. There is no clear difference where a bar touches the line "
        "at 1 or the ratio is less than 2 % from it."
    )
    text = f"Curves of the ratio of the times on {where}; the matrices above have the numbers"
    more = [f"{shown.left_out} more pairs are in the tables alone."] if shown.left_out else []
    more += ["An interval goes beyond the drawing; its ends stand in the tables."] if shown.cut else []
    svg = curves(f"ratio-{number_of}", shown, Axis("image size, px", "ratio of times, x", level=1.0), title, text)
    return [Figure(f"figure-ratio-{number_of}", title, how, svg, None, " ".join(more))]


_HEADS = (
    Head("pair", meaning="the two models"), DEVICE, BATCH, SETTING,
    Head("what is seen", meaning="whether who is faster changes over the image size, and whether that is established"),
    Head("from", "px", True, MEASURED, "the measured size below the crossing; the smallest one where there is none"),
    Head("to", "px", True, MEASURED, "the measured size above the crossing; the largest one where there is none"),
    Head("at", "px", True, DERIVED, "image size at which both take equally long, interpolated between logarithms"),
    Head("low", "px", True, DERIVED, f"{LOW}: sampling alone; – where it moves the crossing by less than a pixel"),
    Head("high", "px", True, DERIVED, f"{HIGH}: sampling alone; – where it moves the crossing by less than a pixel"),
    Head("less time below", meaning="the model that takes less time at sizes below the crossing, or at all sizes"),
)  # fmt: skip


def _rows(track: Track, found: Crossover, setting: str) -> list[Row]:
    start = (
        Cell(f"{signed_name(found, track.first, 24)} / {signed_name(found, track.second, 24)}"),
        Cell(device(found, track.device)), whole(track.batch), Cell(clean(setting, 120)),
    )  # fmt: skip
    if track.crossings:
        return [Row((*start, *_crossing(c, found))) for c in track.crossings]
    timed = track.timed
    told = {c.outcome for c in timed}
    level = "unclear" if "unclear" in told or len(told) > 1 else next(iter(told), "unclear")
    state = "untimed" if not timed else "one size" if len(timed) == 1 else "none" if any(track.signs) else level
    ends = (whole(timed[0].size), whole(timed[-1].size)) if timed else (missing(), missing())
    sides = {sign_ for sign_ in track.signs if sign_}
    faster = {1: track.second, -1: track.first}[sides.pop()] if len(sides) == 1 else -1
    name = Cell(signed_name(found, faster, 24)) if faster >= 0 else Cell("–")
    return [Row((*start, Cell(STATES[state]), *ends, missing(), missing(), missing(), name))]


def _crossing(c: Crossing, found: Crossover) -> tuple[Cell, ...]:
    place, ends = c.size_px, sampling(c.size_px)
    cells = (missing(),) * 3 if place.value is None else (
        number(place.value, 0, DERIVED), *((Cell("–"),) * 2 if ends is None else (Cell(fixed(e, 0), e) for e in ends)),
    )  # fmt: skip
    below = Cell(f"{sign(c.below)} {clean(found.grid.models[c.below].name, 24)}" if c.below >= 0 else "–")
    return (Cell(STATES[c.state]), whole(c.between[0]), whole(c.between[1]), *cells, below)
