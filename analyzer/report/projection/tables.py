"""Tables of the page on projections. Times in ms per batch."""

from __future__ import annotations

import math
from dataclasses import replace

from analyzer.format import count, fixed, marked, milliseconds
from analyzer.insight.projection.scores import ALL
from analyzer.report.blocks import Cell, Head, Row, Table, badge, missing, number
from analyzer.report.projection.files import ends_of, evidence_of
from analyzer.report.text import FULL_NAME_LIMIT, clean, kernel_label, operator_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.projection import KEPT, ClassTotal, Group, Projected, Projection, RunProjection, Target

MEASURED, DERIVED, MODELLED = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
OPEN_ROWS, MAX_ROWS, MIN_ROWS = 20, 240, 40
_Item = tuple[RunProjection, Group, Target, Projected]
TARGET = Head("target", meaning="the GPU that is projected onto")
STATUS = Head("status", meaning="how far the projected time can be trusted; the words are explained above the table of classes")
CLASS = Head("class", meaning="a class of operators that was calibrated, else the kind of the kernel")
SOURCE = Head(
    "on the source", "ms", True, MEASURED, "measured time of kernels and copies, per batch where the trace names steps"
)
TIME = Head("on the target", "ms", True, None, "time on the target; for what is not projected, the time on the source")
LOW = Head("low", "ms", True, MODELLED, "lower end of the interval; only calibrated times have one")
HIGH = Head("high", "ms", True, MODELLED, "upper end of the interval")
FLOOR = Head(
    "floor",
    "ms",
    True,
    MODELLED,
    "least time by datasheet for the source's algorithm: the longer of FLOP / peak and compulsory bytes / bandwidth",
)


def total_table(projection: Projection) -> Table:
    """Return a row per run and target."""
    heads = (
        TARGET, *_run_head(projection), SOURCE,
        Head("on the target", "ms", True, MODELLED, "kernels and copies on the target"), LOW, HIGH, FLOOR,
        Head("speed-up", "x", True, MODELLED, "source over target, kernels and copies; below 1 where the target takes longer"),
        Head("valid", "%", True, DERIVED, "validated share of the projected kernel time on the target"),
        Head("kept", "ms", True, MODELLED, "copies and kernels without a work model, as on the source"),
        Head("waiting", "ms", True, MEASURED, "time without a kernel on the source"),
        Head("whole, from", "ms", True, MODELLED, "the longer of kernels on the target and waiting, which overlap"),
        Head("to", "ms", True, MODELLED, "waiting, and kernels of the slower of the two GPUs"),
    )  # fmt: skip
    rows = []
    for run in projection.runs:
        for t in run.totals:
            time = missing() if t.reason else _ms(t.time_us)
            cells = (
                Cell(clean(t.target.name, 60)), *_run_cell(projection, run), _ms(run.kernel_us, MEASURED),
                time, _ms(t.low_us), _ms(t.high_us), _ms(t.floor_us),
                number(run.kernel_us / (t.time_us or math.nan), 2, MODELLED),
                missing() if t.same else number(t.validated_pct, 0, DERIVED), _ms(t.kept_us), _ms(run.waiting_us, MEASURED),
                _ms(t.least_us), _ms(t.most_us),
            )  # fmt: skip
            rows.append(Row(cells))
    note = "Low and high stand only where 90 % of the projected time is validated; elsewhere the error is unknown."
    return Table("projection-totals", "Each run on each target", heads, tuple(rows), note)


def class_table(projection: Projection) -> Table:
    """Return a row per run, target, class and status."""
    error = Head("error, p90", "%", True, MEASURED, "on held-out data of this class; nine tenths were nearer")
    inside = Head("inside", "%", True, MEASURED, "held-out times of this class that lay inside such intervals")
    heads = (CLASS, *_run_head(projection), TARGET, STATUS, SOURCE, TIME, Head("evidence"), LOW, HIGH, FLOOR, error, inside)
    rows = [
        Row(
            (
                Cell(found.title, detail=(("why", clean(found.why, 200)),)),
                *_run_cell(projection, run),
                Cell(clean(total.target.name, 60)),
                *_class_cells(found),
            )
        )
        for run in projection.runs
        for total in run.totals
        for found in total.classes
    ]
    note = "Within a class intervals add up linearly; open a class for the reason of its longest group."
    return Table("projection-classes", "Each class on each target", heads, tuple(rows[:MAX_ROWS]), note + _more(len(rows)))


def _class_cells(c: ClassTotal) -> tuple[Cell, ...]:
    return (
        Cell(c.status), _ms(c.source_us, MEASURED), *_figures(c.status, c),
        _ms(c.floor_us), number(c.p90_pct, 0), number(c.coverage_pct, 0),
    )  # fmt: skip


def kernel_table(projection: Projection) -> Table:
    """Return a row per group of kernels and target, that with most time on the source first."""
    heads = (
        Head("operator"), *_run_head(projection), TARGET, CLASS, STATUS, Head("calls", "", True, DERIVED, "per batch"), SOURCE,
        TIME, Head("evidence"), LOW, HIGH, FLOOR,
        Head("target over source", "x", True, MODELLED, "below 1 where the target would take less time"),
    )  # fmt: skip
    found, hidden = [], 0
    each = max(MAX_ROWS // max(len(projection.targets) * len(projection.runs), 1), MIN_ROWS)
    for run in projection.runs:
        for place, target in enumerate(projection.targets):
            mine = _folded([(run, group, target, group.on[place]) for group in run.groups])
            found += mine[:each]
            hidden += len(mine[each:])
    found.sort(key=_longest_first)
    rows = tuple(_kernel_row(projection, *item) for item in found)
    note = "Open a name for shapes, number format, kernel and reason; projection.csv has all."
    note += f" {count(hidden)} shorter rows are not shown." if hidden else ""
    return Table("projection-kernels", "Groups of alike kernels on each target", heads, rows, note, OPEN_ROWS)


def _folded(items: list[_Item]) -> list[_Item]:
    """Return the groups on one target, longest first, those that are not projected as one."""
    kept = [item for item in items if item[3].status == KEPT]
    rest = [item for item in items if item[3].status != KEPT]
    if len(kept) > 1:
        run, longest, target, on = max(kept, key=lambda item: item[1].source_us)
        time = sum(item[1].source_us for item in kept)
        whole = replace(
            longest, family="", kind=KEPT, op=f"{len(kept)} groups that are not projected", shapes="", dtype="", arithmetic="",
            module="", kernel="", calls=sum(item[1].calls for item in kept), source_us=time,
        )  # fmt: skip
        rest.append((run, whole, target, replace(on, why=f"mostly: {on.why}", time_us=time, low_us=time, high_us=time)))
    return sorted(rest if len(kept) > 1 else items, key=_longest_first)


def _longest_first(item: _Item) -> float:
    return -item[1].source_us


def _kernel_row(projection: Projection, run: RunProjection, g: Group, target: Target, on: Projected) -> Row:
    facts = (
        ("why", on.why), ("by ratio of peaks", _time(on.by_peaks_us)), ("by ratio of bandwidths", _time(on.by_bandwidths_us)),
        ("module", g.module), ("shapes", g.shapes), ("stored as", g.dtype), ("computes with", g.arithmetic),
        ("kernel", g.kernel),
    )  # fmt: skip
    detail = tuple((name, clean(text, FULL_NAME_LIMIT)) for name, text in facts if text)
    ratio = on.time_us / g.source_us if g.source_us else math.nan
    calls = Cell(count(g.calls) if g.calls.is_integer() else fixed(g.calls, 1), g.calls, DERIVED)
    cells = (
        Cell(operator_label(g.op) or kernel_label(g.kernel), detail=detail), *_run_cell(projection, run),
        Cell(clean(target.name, 60)), Cell(g.title), Cell(on.status), calls, _ms(g.source_us, MEASURED),
        *_figures(on.status, on), _ms(on.floor_us), number(ratio, 2, MODELLED),
    )  # fmt: skip
    return Row(cells, run=clean(run.label, 60), kind=g.kind)


def validation_table(projection: Projection) -> Table:
    """Return the errors on data that was held out of the calibration."""
    heads = (
        Head("held out", meaning="what the calibration did not see: shapes, the target GPU, or source and target GPU"), CLASS,
        Head("calls", "", True, MEASURED, "held-out pairs of a call on a source and the same call on a target"),
        Head("median error", "%", True, MEASURED, "half of the projections were nearer to the measured time"),
        Head("error, p90", "%", True, MEASURED, "nine tenths of the projections were nearer"),
        Head("bias", "%", True, MEASURED, "median of projected over measured, above 1; positive: projected too long"),
        Head("inside the interval", "%", True, MEASURED, "measured times that lay inside the interval"),
        Head("half-width", "%", True, MODELLED, "median half of the interval, in percent of the projected time"),
    )  # fmt: skip
    rows = tuple(
        Row(
            (
                Cell(s.held_out), Cell(s.title), Cell(count(s.n), s.n, MEASURED), number(s.median_pct, 1), number(s.p90_pct, 1),
                number(s.bias_pct, 1), number(s.coverage_pct, 1), number(s.half_pct, 1, MODELLED),
            ),
            marked=s.title.startswith(ALL),
        )
        for s in projection.scores
    )  # fmt: skip
    note = "All float32 on vector units, forward operators. `python -m benchmarks.projection` makes this table."
    return Table(
        "projection-validation", "Projections against measured times that were held out", heads, rows, note.replace("`", "")
    )


def target_table(projection: Projection) -> Table:
    """Return what the intervals of each target rest on."""
    heads = (TARGET, Head("key", meaning="its name in onto="), Head("rests on", meaning="what is known of its efficiencies"))
    rows = tuple(Row((Cell(clean(t.name, 60)), Cell(clean(t.key, 60)), Cell(clean(t.note, 300)))) for t in projection.targets)
    return Table("projection-targets", "What is known of the targets", heads, rows)


def _run_head(projection: Projection) -> tuple[Head, ...]:
    """Return the column of the run, which a page on one run does without."""
    return (Head("run"),) if len(projection.runs) > 1 else ()


def _run_cell(projection: Projection, run: RunProjection) -> tuple[Cell, ...]:
    return (Cell(clean(run.label, 60)),) if len(projection.runs) > 1 else ()


def _figures(status: str, found: ClassTotal | Projected) -> tuple[Cell, ...]:
    level = evidence_of(status)
    ends = ends_of(status, found.low_us, found.high_us)
    return (_ms(found.time_us, level), badge(level), *(_ms(end) for end in ends))


def _ms(us: float, evidence: Evidence = MODELLED) -> Cell:
    if not math.isfinite(us):
        return missing()
    ms = us / 1e3
    places = 1 if ms >= 100 else 2 if ms >= 10 else 3
    return Cell(marked(fixed(ms, places), evidence), ms, evidence)


def _time(us: float) -> str:
    return milliseconds(us) if math.isfinite(us) else ""


def _more(rows: int) -> str:
    return f" {count(rows - MAX_ROWS)} shorter rows are not shown." if rows > MAX_ROWS else ""
