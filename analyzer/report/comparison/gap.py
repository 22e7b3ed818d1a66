"""Section "moves": how the ratio of a ViT and a CNN moved from device to device; without such a pair the times of a batch."""

from __future__ import annotations

from analyzer.format import counted, times
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, badge
from analyzer.report.comparison.cells import MEASURED, cut_note, ends, ratio, significant, with_numbers
from analyzer.report.comparison.times import tables
from analyzer.report.figures.comparison import dot_chart, slope_chart
from analyzer.report.marks.comparison import (
    MAX_PAIRS,
    RunTime,
    Slope,
    by_image,
    dots,
    one_size,
    one_work,
    run_times,
    slope_place,
    slopes,
)
from analyzer.report.marks.comparison_names import chart_lines, order_words, run_titles
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison
from analyzer.schema.evidence import Evidence

HOW_SLOPE = (
    "Down is faster. Both lines show the time of one batch; the y axis is logarithmic, so equal distances are equal ratios. "
    "The number beside each pair says how many times as long the ViT takes. Where the lines come closer, the gap shrinks."
)
MAX_ROWS, OPEN_ROWS = 200, 30
FASTER = "Left is faster."
LESS = "Left takes less time, which is not faster here: the runs do different work, as their names say."
HOW_DOTS = (
    " Filled marks are medians without the profiler, with their 95 % interval; hollow marks are traced times, which the "
    "profiler makes longer. Only times of one batch stand here; those of whole traces cannot be held against them."
)
HOW_IMAGES = " Batches differ in size, so the time of a batch is divided by the images in it."
RATIO = "how many times as long the ViT takes for one batch as the CNN on the same device"


def section(comparison: Comparison) -> Section:
    """Return the slope chart where a pair of models ran, and the time of each run."""
    found = slopes(comparison)
    blocks: list[Block] = []
    if found:
        blocks += _pairs(comparison, found)
    else:
        blocks.append(Notice(_no_pair(comparison)))
    shown = dots(run_times(comparison))
    batches, whole = tables(comparison)
    if len(shown) > 1 and not _moving(found):
        blocks += with_numbers(comparison, _dots(comparison, shown), batches)
    elif batches is not None:
        blocks.append(batches)
    blocks += [whole] if whole is not None else []
    heading = "How did the gap move?" if _moving(found) else "How large is the gap?"
    heading = heading if found else "How long does one batch take?"
    return Section("moves", heading, "Gap" if found else "Times", tuple(blocks))


def _dots(comparison: Comparison, shown: tuple[RunTime, ...]) -> Figure:
    """Return the times as dots: per image where batches differ in size and all sizes are known."""
    images = by_image(comparison, shown)
    per, drawn = ("image", images) if images else ("batch", shown)
    alike = one_work(comparison, shown) and (images is not None or one_size(comparison, shown))
    how = (FASTER if alike else LESS) + HOW_DOTS + (HOW_IMAGES if images else "")
    title = f"Time of one {per}"
    svg = dot_chart(drawn, chart_lines(comparison), title, per)
    return Figure("fig-times", title, how, svg, None, _left_out(comparison, shown), table_open=True)


def _no_pair(comparison: Comparison) -> str:
    families = {d.family for d in comparison.runs} - {""}
    if not families:
        why = "the traces do not tell whether a model is a ViT or a CNN; run directories that analyzer records do"
    elif families >= {"vit", "cnn"}:
        why = "no ViT and CNN among the runs share device, element type, batch and image size"
    else:
        why = "the runs hold no ViT and CNN both"
    return f"No gap to follow: {why}."


def _moving(found: tuple[Slope, ...]) -> tuple[Slope, ...]:
    """Return the pairs that stand in more than one place: repeats in one place are no move."""
    return tuple(slope for slope in found if len({slope_place(move) for move in slope.moves}) > 1)


def _pairs(comparison: Comparison, found: tuple[Slope, ...]) -> list[Block]:
    moving, table = _moving(found)[:MAX_PAIRS], _moves(comparison, found)
    blocks: list[Block] = [Prose(text, Evidence.DERIVED) for text in map(_lead, moving or found[:MAX_PAIRS]) if text]
    if not moving:
        return [*blocks, table]
    devices = {move.device for slope in moving for move in slope.moves}
    title = f"Time of one batch by {'device' if len(devices) > 1 else 'setting'}"
    left = len(found) - len(moving)
    caption = f"{counted(left, 'more pair is', 'more pairs are')} in the table." if left else ""
    order = order_words([comparison.runs[move.vit] for slope in moving for move in slope.moves])
    how = f"{HOW_SLOPE} The order along the axis: {order}." if len(devices) > 1 else HOW_SLOPE
    return [*blocks, *with_numbers(comparison, Figure("fig-gap", title, how, slope_chart(moving, title), None, caption), table)]


def _lead(slope: Slope) -> str:
    places: dict[tuple[str, str], list[str]] = {}
    for move in slope.moves:
        if move.ratio.value is not None:
            places.setdefault(slope_place(move), []).append(times(move.ratio))
    if not places:
        return ""
    texts = [f"{' and '.join(ratios)} on {_place_words(place)}{_repeats(len(ratios))}" for place, ratios in places.items()]
    settings = f" ({slope.settings})" if slope.settings else ""
    return f"How many times as long {slope.vit} takes as {slope.cnn} for one batch{settings}: {', '.join(texts)}."


def _place_words(place: tuple[str, str]) -> str:
    device, conditions = (clean(part, 60) for part in place)
    return f"{device} ({conditions})" if conditions else device


def _repeats(number: int) -> str:
    return f" ({counted(number, 'run', 'repeats')} under the same conditions)" if number > 1 else ""


def _moves(comparison: Comparison, found: tuple[Slope, ...]) -> Table:
    titles, rows = run_titles(comparison), []
    flat = [(pair, move) for pair in found for move in pair.moves]
    for slope, move in flat[:MAX_ROWS]:
        cells = (
            Cell(move.device),
            Cell(titles[move.vit]),
            Cell(titles[move.cnn]),
            Cell(", ".join(part for part in (slope.settings, clean(move.conditions, 80)) if part) or "–"),
            significant(move.vit_ms.value),
            significant(move.cnn_ms.value),
            ratio(move.ratio),
            ends(move.ratio),
            badge(move.ratio.evidence),
        )
        rows.append(Row(cells))
    heads = (
        Head("device", meaning="the device that both models ran on"),
        Head("run of the ViT"),
        Head("run of the CNN"),
        Head("settings", meaning="element type, batch and image size, which both runs share"),
        Head("ViT", "ms", True, MEASURED, "time of one batch of the ViT"),
        Head("CNN", "ms", True, MEASURED, "time of one batch of the CNN"),
        Head("ratio", "x", True, Evidence.DERIVED, RATIO),
        Head("95 % interval", "x", meaning="of the ratio, as in the report on the two; a dash where there is none"),
        Head("evidence"),
    )
    note = cut_note(len(rows), len(flat), "pair", "pairs", "summary.json")
    return Table("gap-table", "ViT against CNN by device", heads, tuple(rows), note, OPEN_ROWS if len(flat) > OPEN_ROWS else 0)


def _left_out(comparison: Comparison, shown: tuple[RunTime, ...]) -> str:
    whole = sum(not time.per_batch for time in run_times(comparison))
    left = len(comparison.runs) - len(shown) - whole
    out = [f"Not drawn: {counted(whole, 'whole trace', 'whole traces')}."] if whole else []
    out += [f"Drawn are the shortest and the longest; {counted(left, 'more is', 'more are')} in the table."] if left > 0 else []
    return " ".join(out)
