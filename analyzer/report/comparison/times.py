"""The tables of times: of one batch of each run, and apart from them of whole traces, which are no time of a batch."""

from __future__ import annotations

from analyzer.format import count, size
from analyzer.report.blocks import Cell, Head, Row, Table, missing
from analyzer.report.comparison.cells import DERIVED, MEASURED, ends, significant
from analyzer.report.marks.comparison import RunTime, run_times
from analyzer.report.marks.comparison_names import run_titles, work_words
from analyzer.schema.comparison import Comparison
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Quantity

BUSY = "time in which a kernel, copy or fill (on a CPU: an operator that does work) ran, traced"
PER_IMAGE = "time of one batch by the images in it: what runs of different batch sizes are compared by"
RATE = "images in a batch by the time of the batch"
PEAK = "the most memory that PyTorch had handed out on the device at once; on a CPU the most that the process held"


def tables(comparison: Comparison) -> tuple[Table | None, Table | None]:
    """Return the times of one batch, and those of whole traces; None where no run has such a time."""
    found = run_times(comparison)
    batches, whole = (tuple(t for t in found if t.per_batch is per_batch) for per_batch in (True, False))
    return (_batches(comparison, batches) if batches else None), (_whole(comparison, whole) if whole else None)


def _batches(comparison: Comparison, found: tuple[RunTime, ...]) -> Table:
    images = any(t.per_image.value for t in found)
    memory = any(comparison.runs[t.run].peak_memory.value for t in found)
    titles, rows = run_titles(comparison), []
    for time in found:
        d = comparison.runs[time.run]
        cells = [
            Cell(titles[time.run], remark=work_words(d)),
            significant(time.figure.value),
            ends(time.figure),
            Cell(time.basis),
            *((_derived(time.per_image), _derived(time.rate)) if images else ()),
            *_counted(d),
            *((_memory(d.peak_memory),) if memory else ()),
        ]
        rows.append(Row(tuple(cells), marked=time.run == comparison.baseline))
    spread = "of the median, from the spread of iterations and processes; a dash where there is none"
    heads = (
        Head("run"),
        Head("time", "ms", True, MEASURED, "time of one batch or step"),
        Head("95 % interval", "ms", meaning=spread),
        Head("basis", meaning="whether the profiler was off, and what the time covers: one batch, one step or the whole trace"),
        *((Head("per image", "ms", True, DERIVED, PER_IMAGE), Head("images/s", "", True, DERIVED, RATE)) if images else ()),
        Head("busy", "ms", True, MEASURED, BUSY),
        Head("launches", "", True, MEASURED, "kernels (on a CPU: operators, views among them) in the same stretch"),
        *((Head("peak memory", "", True, MEASURED, PEAK),) if memory else ()),
    )
    return Table("times-table", "Time of one batch of each run; the baseline stands out", heads, tuple(rows))


def _whole(comparison: Comparison, found: tuple[RunTime, ...]) -> Table:
    titles = run_titles(comparison)
    rows = tuple(
        Row(
            (
                Cell(titles[time.run], remark=work_words(comparison.runs[time.run])),
                significant(time.figure.value),
                *_counted(comparison.runs[time.run]),
            ),
            marked=time.run == comparison.baseline,
        )
        for time in found
    )
    heads = (
        Head("run"),
        Head(
            "whole trace", "ms", True, MEASURED, "from the first to the last event of a trace that does not divide into steps"
        ),
        Head("busy", "ms", True, MEASURED, BUSY),
        Head("launches", "", True, MEASURED, "kernels (on a CPU: operators, views among them) in the same stretch"),
    )
    note = "How much work each of these traces holds is not known, so none of these times is that of a batch."
    return Table("whole-table", "Whole traces, which name no steps", heads, rows, note)


def _derived(found: Quantity) -> Cell:
    return significant(found.value, found.evidence)


def _counted(d: Digest) -> tuple[Cell, Cell]:
    launches = d.totals.kernel_count / (d.batches or 1)
    return significant(d.totals.busy_us / 1e3 / (d.batches or 1)), Cell(count(launches), launches, MEASURED)


def _memory(found: Quantity) -> Cell:
    return missing() if found.value is None else Cell(size(found.value), found.value, found.evidence)
