"""Section "occupancy": how full the launches of each run may make the multiprocessors."""

from __future__ import annotations

import math
from typing import Any

from analyzer.format import count, counted, digits, fixed, percent
from analyzer.hardware.capability import SmLimits, sm_limits
from analyzer.insight.counters import is_counted
from analyzer.metrics.occupancy import residency
from analyzer.report.blocks import Block, Cell, Figure, Head, Listing, Notice, Prose, Row, Section, Table, missing, number
from analyzer.report.figures.occupancy import occupancy as draw_occupancy
from analyzer.report.marks.occupancy import GRID, NAMED, UNKNOWN, Mark, Occupancy, Part, Summary, limits, occupancy
from analyzer.report.text import FULL_NAME_LIMIT, clean, kernel_label, kilobytes_omitted, operator_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

HEADING = "How full are the multiprocessors?"
OPEN_ROWS = 10
MAX_ROWS = 30
SHOWN_PCT = 0.05
MEASURED, DERIVED = Evidence.MEASURED, Evidence.DERIVED

PLAIN = "Occupancy is the share of a multiprocessor's warp slots that hold a warp. "
ALLOWED_ALONE = (
    "These figures are what the launches allow, not what was achieved; that needs hardware counters, and section Counters says "
    "why there are none. "
)
SOME_ACHIEVED = (
    "Figures named achieved are by hardware counters: warps resident in the cycles in which a multiprocessor has any. All "
    "others are what the launches allow. Achieved lies below that where blocks of a launch end at different times. "
)
NO_FAULT = (
    "A low figure alone is no fault: matrix products and attention written for Hopper and later give their warps different "
    "jobs and run one block per multiprocessor by design, so that one at 18.75 % (12 of 64 warps) can run at full speed."
)
HOW = (
    "Up is more resident warps; right is more blocks in the grid; area is the share of the run's kernel time. Left of one wave "
    "the grid has fewer blocks than fit, so some slots are never filled; the thin line above a larger mark ends at the "
    "theoretical occupancy, which a larger grid would reach. The line in the strip below is the share of all block slots "
    "that are ever filled, grey those that never are: just right of a whole number of waves the last wave is nearly empty."
)
MOVES = {
    GRID: "more blocks: a larger batch, smaller tiles or a split reduction. Some kernels launch few blocks on purpose and let "
    "each take its next piece of work itself",
    "registers": "fewer registers per thread: smaller tiles or launch bounds, as long as nothing spills to memory",
    "shared memory": "less of it per block: smaller tiles or fewer pipeline stages",
    "warps": "nothing where the theoretical occupancy is 100 %: all warp slots are taken. Below that, a block size that "
    "divides the number of warp slots evenly",
    "blocks": "larger blocks: all block slots are taken while warp slots are free",
}
NAMES = {
    GRID: "the grid (fewer blocks than would fit)",
    "warps": "warp slots",
    "blocks": "block slots",
}
LIMIT_NOTE = (
    "Limited by: what stops one more block from being resident; grid: there are fewer blocks than would fit. Sets the "
    "theoretical: the share of the time in which it would be the limit if the grid were large enough. Launch-limited: "
    "theoretical, capped by the blocks there are per multiprocessor. Tail efficiency: waves over waves rounded up, with all "
    "blocks taken to last equally long. All means are weighted by time."
)
KERNEL_NOTE = (
    "Registers per thread, threads and shared memory (static and dynamic) per block. Resident blocks: what fits on one "
    "multiprocessor. Launch-limited: theoretical, capped by the blocks there are. Kineto's: as the trace has it, in whole "
    "percent, and 0 for every kernel above 48 KiB of shared memory."
)

SHARE = Head("share of time", "%", True, MEASURED, "of the kernel time of its run")
LAUNCHES = Head("launches", "", True, MEASURED, "launches in the window")
WAVES = Head("waves", "", True, DERIVED, "blocks of the grid over the blocks that all multiprocessors hold at a time")
THEORETICAL = Head(
    "theoretical", "%", True, DERIVED, "occupancy that registers, shared memory and block size allow: resident over most warps"
)
ALLOWED = Head("launch-limited", "%", True, DERIVED, "the same, where the grid has too few blocks to fill the multiprocessors")
KINETO = Head("Kineto's", "%", True, MEASURED, "occupancy as the profiler wrote it into the trace; rounded, 0 above 48 KiB")
TAIL = Head("tail efficiency", "%", True, DERIVED, "waves over waves rounded up: how full the last wave is, spread over all")
ACHIEVED = Head("achieved", "%", True, MEASURED, "resident warps in active cycles by hardware counters, of the most possible")
LIMITED_BY = Head(
    "limited by", "", False, DERIVED, "what allows no more warps: registers, shared memory, threads, blocks, grid"
)


def section(study: Study) -> Section | None:
    """Return what the launches of each run on a GPU allow; None where every run is on a CPU."""
    if all(a.device.type == "cpu" for a in study.analyses):
        return None
    data = occupancy(study.analyses)
    labels = tuple(clean(a.label, 60) for a in study.analyses)
    blocks: list[Block] = [Prose(_sentence(study.analyses[s.run], s), DERIVED) for s in data.summaries]
    for a, label in zip(study.analyses, labels, strict=True):
        if a.totals.occupancy_pct.value is None:
            blocks.append(Notice(f"{label}: no occupancy, because {clean(a.totals.occupancy_pct.source)}."))
    if data.marks:
        title = "Occupancy that the launches allow, against waves"
        figure = Figure(
            "fig8", title, HOW, draw_occupancy(data, labels, title), _marks_table(data, labels), _caption(data, labels)
        )
        plain = PLAIN + (SOME_ACHIEVED if _has_achieved(study) else ALLOWED_ALONE) + NO_FAULT
        blocks += [Prose(plain), figure, _limit_table(data, labels), _moves(data), _kernel_table(study, data)]
    return Section("occupancy", HEADING, "Occupancy", tuple(blocks))


def _has_achieved(study: Study) -> bool:
    return any(bool(a.kernels["occupancy_achieved_pct"].notna().any()) for a in study.analyses)


def _sentence(a: Analysis, summary: Summary) -> str:
    whole = summary.whole
    parts = [part for part in summary.parts if part.limit != UNKNOWN]
    binding = _shares([(part.limit, part.share_pct) for part in parts])
    behind = _shares([(part.limit, part.sets_pct) for part in parts])
    unknown = 100 - whole.share_pct
    tail = f"; {percent(unknown)} of the time is not known" if unknown >= 0.1 else ""
    grid = any(part.limit == GRID and part.share_pct >= 1 for part in parts)
    otherwise = f" With larger grids it would be {behind}." if grid else ""
    return (
        f"{clean(a.label, 60)}: weighted by time, the launches allow {_one(whole.occupancy_pct)} occupancy; with grids large "
        f"enough it would be {_one(whole.theoretical_pct)}, the theoretical occupancy. {_achieved(a, summary)}"
        f"{_kineto(summary)} The limit is {binding}{tail}.{otherwise}"
    )


def _achieved(a: Analysis, summary: Summary) -> str:
    """Return what counters say was achieved, nothing where they are not there for the run."""
    if not is_counted(a, "occupancy_achieved_pct") or not math.isfinite(summary.whole.achieved_pct):
        return ""
    return f"Achieved, by hardware counters, is {_one(summary.whole.achieved_pct)}. "


def _shares(parts: list[tuple[str, float]]) -> str:
    """Return what limits how much of the kernel time, largest first."""
    found = sorted((part for part in parts if part[1] >= SHOWN_PCT), key=lambda part: -part[1])
    texts = [f"{NAMES.get(limit, limit)} in {percent(share)}" for limit, share in found]
    return ", ".join([f"{texts[0]} of the kernel time", *texts[1:]])


def _kineto(summary: Summary) -> str:
    """Return Kineto's figure and, where it differs, why."""
    theirs, ours = summary.whole.kineto_pct, summary.whole.occupancy_pct
    if not math.isfinite(theirs):
        return "The trace has no figure of Kineto's."
    own = f"Kineto's own figure is {_one(theirs)}"
    if summary.unseen_pct > 0 and ours - theirs >= 0.05:
        why = "because" if abs(ours - theirs - summary.unseen_points) < 0.5 else "partly because"
        share = percent(summary.unseen_pct)
        return f"{own}, {why} it writes 0 for kernels above 48 KiB of shared memory, which are {share} of the kernel time."
    if abs(theirs - ours) < 0.5:
        return f"{own}, the same but for its rounding to whole percent."
    return f"{own}; the trace does not tell why it differs."


def _one(value: float) -> str:
    return f"{fixed(value, 1)} %"


def _caption(data: Occupancy, labels: tuple[str, ...]) -> str:
    texts = []
    unknown = [f"{labels[s.run]} {percent(100 - s.whole.share_pct)}" for s in data.summaries if s.whole.share_pct < 99.95]
    if unknown:
        texts.append(f"Left out, because their launch or registers are not in the trace: {'; '.join(unknown)} of the time.")
    joined = [mark for mark in data.marks if mark.joined > 1]
    if joined:
        rows = sum(mark.joined for mark in joined)
        share = max(mark.share_pct for mark in joined)
        texts.append(
            f"{count(rows)} smaller launch shapes are joined with their neighbours into "
            f"{counted(len(joined), 'mark', 'marks')}, the largest of them {percent(share)} of the time."
        )
    named = sum(1 for mark in data.marks if mark.rank)
    texts.append(f"The {min(NAMED, named)} largest kernels are named; numbers refer to the table.")
    return " ".join(texts)


def _marks_table(data: Occupancy, labels: tuple[str, ...]) -> Table:
    heads = (
        Head("#", meaning="number of the mark in the figure"),
        Head("run"),
        Head("operator"),
        Head("kernel"),
        LAUNCHES,
        SHARE,
        WAVES,
        THEORETICAL,
        ALLOWED,
        KINETO,
        TAIL,
        LIMITED_BY,
    )
    rows = tuple(Row(_mark_cells(place, mark, labels[mark.run])) for place, mark in enumerate(data.marks, 1))
    return Table("occupancy-marks-table", "The marks: single kernels, then joined ones, each largest share first", heads, rows)


def _mark_cells(place: int, mark: Mark, label: str) -> tuple[Cell, ...]:
    return (
        Cell(str(place), float(place)),
        Cell(label),
        Cell(mark.name, chip=mark.kind),
        Cell(mark.kernel) if mark.kernel else Cell("–"),
        Cell(count(mark.calls), float(mark.calls)),
        number(mark.share_pct, 1),
        _waves(mark.waves),
        number(mark.theoretical_pct, 1, DERIVED),
        number(mark.occupancy_pct, 1, DERIVED),
        number(mark.kineto_pct, 1),
        number(mark.tail_pct, 1, DERIVED),
        Cell(mark.limit, evidence=DERIVED),
    )


def _waves(value: float) -> Cell:
    if not math.isfinite(value):
        return missing()
    text = digits(value, 1) if value < 0.01 else fixed(value, 2 if value < 100 else 0)
    return Cell(text, value, DERIVED)


def _limit_table(data: Occupancy, labels: tuple[str, ...]) -> Table:
    several = len(labels) > 1
    counts = any(math.isfinite(summary.whole.achieved_pct) for summary in data.summaries)
    rows: list[Row] = []
    for summary in data.summaries:
        run = (Cell(labels[summary.run]),) if several else ()
        for part in _shown(summary):
            rows.append(Row((*run, *_part_cells(part, counts)), run=labels[summary.run]))
        rows.append(Row((*run, *_part_cells(summary.whole, counts)), marked=True, run=labels[summary.run]))
    heads: tuple[Head, ...] = (
        Head("limited by"),
        SHARE,
        Head("sets the theoretical", "%", True, DERIVED, "share of the time that it would limit if grids were larger"),
        THEORETICAL,
        ALLOWED,
        *([ACHIEVED] if counts else []),
        TAIL,
    )
    heads = (Head("run"), *heads) if several else heads
    return Table("occupancy-limit-table", "What limits occupancy, by share of the kernel time", heads, tuple(rows), LIMIT_NOTE)


def _shown(summary: Summary) -> list[Part]:
    return [part for part in summary.parts if max(part.share_pct, part.sets_pct) >= SHOWN_PCT]


def _part_cells(part: Part, counts: bool) -> tuple[Cell, ...]:
    sets = number(part.sets_pct, 1, DERIVED) if part.limit not in ("", GRID, UNKNOWN) else Cell("–")
    means = (
        number(part.theoretical_pct, 1, DERIVED),
        number(part.occupancy_pct, 1, DERIVED),
        *([number(part.achieved_pct, 1)] if counts else []),
        number(part.tail_pct, 1, DERIVED),
    )
    name = part.limit or ("all" if part.share_pct > 99.95 else "all that is known")
    return Cell(name), number(part.share_pct, 1), sets, *(means if part.share_pct > 0 else (Cell("–"),) * len(means))


def _moves(data: Occupancy) -> Listing:
    there = {part.limit for summary in data.summaries for part in _shown(summary)}
    return Listing("What would move it", tuple((limit, f"{text}.") for limit, text in MOVES.items() if limit in there))


def _kernel_table(study: Study, data: Occupancy) -> Table:
    several = len(study.analyses) > 1
    shown = [study.analyses[summary.run] for summary in data.summaries]
    counts = _has_achieved(study)
    found = [item for a in shown for item in _kernel_rows(a, (several, counts), MAX_ROWS // len(shown))]
    found.sort(key=lambda item: -item[0])
    total = sum(len(a.kernels) for a in shown)
    heads = (
        Head("operator · kernel"),
        SHARE,
        Head("threads", "", True, MEASURED, "threads of a block"),
        Head("registers", "", True, MEASURED, "registers of a thread"),
        Head("shared", "KiB", True, MEASURED, "shared memory of a block"),
        Head("resident blocks", "", True, DERIVED, "blocks that fit on a multiprocessor at a time"),
        THEORETICAL,
        ALLOWED,
        *([ACHIEVED] if counts else []),
        KINETO,
        LIMITED_BY,
        WAVES,
        TAIL,
    )
    most = f", at most {MAX_ROWS // len(shown)} of each run" if len(shown) > 1 else ""
    caption = f"Launch shape and occupancy; {count(len(found))} of {count(total)} rows, largest share first{most}"
    rows = tuple(row for _, row in found)
    return Table("occupancy-kernel-table", caption, heads, rows, note=KERNEL_NOTE, open_rows=OPEN_ROWS)


def _kernel_rows(a: Analysis, shown: tuple[bool, bool], limit: int) -> list[tuple[float, Row]]:
    """Return (share, row); ``shown``: whether there are several runs, and whether what was achieved has a column."""
    several, counts = shown
    label = clean(a.label, 60)
    most = sm_limits(a.device.compute_capability)
    out = []
    for row in a.kernels.assign(limit=limits(a.kernels)).head(limit).to_dict("records"):
        threads = math.prod(map(int, row["block"].split(","))) if row["block"] else 0
        cells = (
            _name(row, label if several else clean(str(row["shapes"]), 46)),
            number(float(row["share_pct"]), 1),
            number(float(threads or math.nan), 0),
            number(float(row["registers"]), 0),
            number(float(row["shared_bytes"]) / 1024, 1),
            number(_resident(row, most, threads), 0, DERIVED),
            number(float(row["occupancy_theoretical_pct"]), 1, DERIVED),
            number(float(row["occupancy_pct"]), 1, DERIVED),
            *([number(float(row["occupancy_achieved_pct"]), 1)] if counts else []),
            number(float(row["occupancy_kineto_pct"]), 0),
            Cell(row["limit"], evidence=DERIVED) if row["limit"] != UNKNOWN else missing(),
            _waves(float(row["waves"])),
            number(float(row["tail_efficiency_pct"]), 1, DERIVED),
        )
        out.append((float(row["share_pct"]), Row(cells, run=label, kind=str(row["kind"]))))
    return out


def _resident(row: dict[Any, Any], most: SmLimits | None, threads: int) -> float:
    """Return the blocks that fit on one multiprocessor, NaN where occupancy is not known."""
    if most is None or not math.isfinite(float(row["occupancy_theoretical_pct"])):
        return math.nan
    shared = float(row["shared_bytes"])
    return residency(most, threads, int(row["registers"]), int(shared) if math.isfinite(shared) else 0).blocks


def _name(row: dict[Any, Any], remark: str) -> Cell:
    """Return the cell of a kernel; ``remark`` stands below its name: its shapes, or its run where there are several."""
    kernel, op = str(row["kernel"]), str(row["op"])
    text = f"{operator_label(op)} · {kernel_label(kernel)}" if op and op != kernel else kernel_label(kernel)
    detail = [("name", clean(kernel, FULL_NAME_LIMIT) + kilobytes_omitted(kernel))]
    for title in ("shapes", "grid", "block"):
        if row[title]:
            detail.append((title, clean(str(row[title]), 300)))
    if row["occupancy_limit"]:
        detail.append(("with a larger grid limited by", str(row["occupancy_limit"])))
    return Cell(clean(text, 72), remark=remark, detail=tuple(detail))
