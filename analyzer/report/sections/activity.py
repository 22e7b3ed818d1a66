"""What GPM averaged over seconds of each run, for section "counters"."""

from __future__ import annotations

from analyzer.format import counted, digits, fixed, marked, percent, quantity
from analyzer.insight.activity import TOLERANCE, Activity, Line, activity
from analyzer.report.blocks import Block, Cell, Figure, Head, Listing, Notice, Prose, Row, Table, missing, number
from analyzer.report.figures.activity import averages
from analyzer.report.marks.activity import marks
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Study

M = Evidence.MEASURED
SIDES = {"below": "at most", "above": "at least", "either": "either side"}
ON_CPU = "cpu"

PLAIN = (
    "GPM (GPU performance monitoring, Hopper and newer) averages the activity of the whole device over a tenth of a second and "
    "more, idle time included. It says nothing of a single kernel. Here the model ran over and over for some seconds, and what "
    "the trace says of one batch is multiplied by the batches per second of just these seconds."
)
HOW = (
    "The filled mark is GPM's mean, the thin line reaches from its lowest to its highest reading. The pale bar is what the "
    "trace derives for the same seconds. The two answer different questions, so they need not meet: the column “GPM expected” "
    "and the list below say on which side GPM should be, and why."
)
COUNTERS = Head(
    "from counters", "%", True, Evidence.DERIVED, "the same from hardware counters of each kernel, where there are some"
)
HEADS = (
    Head("figure", meaning="what GPM averages over the device and the time between two samples"),
    Head("GPM", "%", True, M, "mean of the readings whole inside the seconds of the loop; below it the lowest and the highest"),
    Head("from the trace", "%", True, None, "what the trace of one batch comes to at the batches per second of these seconds"),
    Head("evidence", meaning="how what the trace says came to be known"),
    Head("GPM expected", meaning="on which side of the figure from the trace GPM should be"),
    Head("found", meaning=f"whether it is, within {TOLERANCE:g} percentage points"),
)


def activity_blocks(study: Study) -> list[Block]:
    """Return what GPM averaged in each run on a GPU, or one line per reason why it did not; nothing for runs on a CPU alone."""
    runs = [(run, a) for run, a in enumerate(study.analyses) if a.device.type != ON_CPU]
    found = tuple(activity(a) for a in study.analyses)
    there = [(run, found[run]) for run, _ in runs if found[run].lines]
    blocks: list[Block] = []
    if there:
        labels = tuple(clean(a.label, 60) for a in study.analyses)
        title = "Activity of the device by GPM, beside the trace"
        table = _table([(labels[run], mine) for run, mine in there])
        shown = tuple(mine if mine.lines and (run, mine) in there else Activity("") for run, mine in enumerate(found))
        blocks += [Prose(f"{PLAIN} {' '.join(_lead(labels[run], mine) for run, mine in there)}", Evidence.MODELLED)]
        blocks.append(Figure("fig-activity", title, HOW, averages(marks(shown), labels, title), table, table_open=True))
        blocks.append(_whys([line for _, mine in there for line in mine.lines]))
    return [*blocks, *_absent([found[run] for run, _ in runs if not found[run].lines])]


def _lead(label: str, found: Activity) -> str:
    text = (
        f"{label}: {counted(found.batches, 'batch', 'batches')} in {digits(found.seconds)} s, {digits(found.per_batch_ms)} ms "
        f"each, and {counted(found.readings, 'reading', 'readings')} of GPM."
    )
    if found.dram_gbps.value is not None:
        text += f" DRAM moved {quantity(found.dram_gbps)}, GPM's share times the datasheet's peak"
        least = found.compulsory_pct
        text += f"; compulsory bytes alone would be {quantity(least)} of that peak." if least.value is not None else "."
    return text


def _table(runs: list[tuple[str, Activity]]) -> Table:
    several = len(runs) > 1
    counts = any(line.counted.value is not None for _, found in runs for line in found.lines)
    rows = tuple(
        Row((Cell(line.name), *((Cell(label),) if several else ()), *_cells(line, counts=counts)), run=label)
        for label, found in runs
        for line in found.lines
    )
    first, *rest, expected, verdict = HEADS
    heads = (first, *((Head("run"),) if several else ()), *rest, *((COUNTERS,) if counts else ()), expected, verdict)
    return Table("activity-table", "GPM while the model was looped, and the same from the trace", heads, rows)


def _cells(line: Line, *, counts: bool) -> tuple[Cell, ...]:
    other = line.traced
    verdict = {None: "–", True: "as expected", False: "not as expected"}[line.as_expected]
    return (
        _figure(line.gpm),
        _figure(other),
        Cell(other.evidence.value, evidence=other.evidence, badge=True),
        *((_figure(line.counted),) if counts else ()),
        Cell(SIDES[line.expected] if other.value is not None else "–"),
        Cell(verdict),
    )


def _figure(figure: Quantity) -> Cell:
    if figure.value is None:
        return missing()
    cell = number(figure.value, 1, figure.evidence)
    if figure.low is None or figure.high is None:
        return cell
    if figure.evidence is Evidence.MODELLED:  # a band has no middle that stands for it
        band = f"{fixed(figure.low, 1)} to {fixed(figure.high, 1)}"
        return Cell(marked(band, figure.evidence), figure.value, figure.evidence)
    return Cell(cell.text, cell.value, cell.evidence, remark=f"{percent(figure.low)} to {percent(figure.high)}")


def _whys(lines: list[Line]) -> Listing:
    items = dict.fromkeys((line.name, line.why) for line in lines)
    return Listing("Why GPM and the trace differ", tuple(items), folded=True)


def _absent(found: list[Activity]) -> list[Block]:
    """Return one line per reason, with the runs that it is true of."""
    reasons: dict[str, list[str]] = {}
    for mine in found:
        reasons.setdefault(mine.reason, []).append(clean(mine.label, 60))
    return [
        Notice(f"{' and '.join(dict.fromkeys(labels))}: no activity by GPM: {clean(reason, 300).rstrip('.')}.")
        for reason, labels in reasons.items()
    ]
