"""Tables of section "host": trees of operators and modules, steps in parts, and call stacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from analyzer.format import count, counted, fixed, percent
from analyzer.report.blocks import Cell, Head, Node, Row, Table, Tree, missing, number
from analyzer.report.figures.steps import PART_NAMES
from analyzer.report.marks.host import MIN_SHARE, Branch, StepBar, StepBars, forest
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.profile import STEP_PARTS
from analyzer.schema.results import Analysis, Study
from analyzer.schema.tables import records

M, D = Evidence.MEASURED, Evidence.DERIVED
MAX_STACKS = 20
MAX_FRAMES = 24
_NAME = 96
NOTHING_US = 0.001
"""Less than what a trace resolves: sums of floating-point numbers differ by that much."""
MIN_SHOWN_PCT = 0.1

DEVICE_SHARE = Head(
    "device share", "%", True, D, "kernel time launched in this call or below it, of all kernel time of the run"
)
HOST_SHARE = Head("host share", "%", True, D, "host time in this call or below it, of that of all calls")
DEVICE_TOTAL = Head("device total", "ms", True, M, "sum of the durations of the kernels launched in this call or below it")
DEVICE_SELF = Head("device self", "ms", True, M, "the same without the kernels launched in calls below it")
HOST_TOTAL = Head("host total", "ms", True, M, "time of the calling thread inside this call; the profiler's own cost is in it")
HOST_SELF = Head("host self", "ms", True, M, "the same without the time in calls below it")
CALLS = Head("calls", "", True, M, "how often it was called")
MEANINGS = {
    "kernel": "a kernel runs, whatever the host does",
    "memcpy": "a copy runs and no kernel does",
    "memset": "a fill runs, and neither kernel nor copy",
    "runtime": "the host is in a call of the runtime or driver while the device does nothing",
    "dataloader": "the host waits for a data loader, and nothing of the columns before happens",
    "host": "the host is inside an operator, and nothing of the columns before happens",
    "other": "nothing of the columns before: Python between operators, or waiting",
}


def tree_block(run: int, a: Analysis, tree: Any, which: str, limit: int) -> Tree:
    """Return a tree (TREE_COLUMNS) of one run as the page shows it, times per step where steps are known."""
    on_gpu = not tree["device_total_us"].isna().all()
    shown = forest(tree, limit)
    rows = list(records(tree))
    per = a.window.batches or 1
    column = "device_total_us" if on_gpu else "host_total_us"
    placed = sum(float(getattr(row, column)) for row in rows if row.depth == 0)
    whole = max(a.totals.kernel_time_us, placed) if on_gpu else placed
    painter = _Painter(rows, per, whole, column, on_gpu=on_gpu)
    nodes = [painter.node(branch) for branch in shown.roots]
    outside = (painter.outside(whole - placed, which),) if whole - placed > NOTHING_US else ()
    heads = (DEVICE_SHARE, DEVICE_TOTAL, DEVICE_SELF) if on_gpu else (HOST_SHARE,)
    unit = "per step" if a.window.batches else "in the traced window"
    rows_shown = f"{count(shown.shown)} of {counted(shown.total, 'path', 'paths')}"
    caption = f"{clean(a.label, 60)}: {which} by who called whom, times and calls {unit}; {rows_shown}"
    return Tree(
        f"tree-{which}-{run}",
        caption,
        (Head("operator" if which == "operators" else "module"), *heads, HOST_TOTAL, HOST_SELF, CALLS),
        (*nodes, *painter.rest(shown.rest), *outside),
        run=run,
        note=_note(which, on_gpu=on_gpu),
    )


def _note(which: str, *, on_gpu: bool) -> str:
    below = f"Calls with less than {percent(100 * MIN_SHARE)} of the time are taken together; all of them are in "
    if which == "operators":
        kernels = " A kernel counts where it was launched, one of the backward pass in the backward." if on_gpu else ""
        return f"{below}operator_tree.csv. The self times of all calls add up to the totals of those at the top.{kernels}"
    backward = (
        " A kernel of the backward pass counts for the module of its forward; the host time of that pass is in no module."
        if on_gpu
        else ""
    )
    return f"{below}module_tree.csv. * stands for any number: blocks.* are all blocks together.{backward}"


class _Painter:
    """Turns rows of a tree into nodes."""

    def __init__(self, rows: list[Any], per: int, whole: float, column: str, *, on_gpu: bool) -> None:
        self._rows, self._per, self._whole, self._column, self._on_gpu = rows, per, whole, column, on_gpu

    def node(self, branch: Branch) -> Node:
        row = self._rows[branch.row]
        children = (*(self.node(child) for child in branch.children), *(self.rest(branch.rest) if branch.children else ()))
        return self._node(clean(row.name, _NAME), [row], children, is_open=branch.open)

    def rest(self, places: Sequence[int]) -> tuple[Node, ...]:
        """Return one node for all of ``places``, none without."""
        if not places:
            return ()
        rows = [self._rows[i] for i in places]
        return (self._node(f"… {counted(len(rows), 'smaller one', 'smaller ones')}", rows, (), rest=True),)

    def outside(self, time_us: float, which: str) -> Node:
        """Return the node of the kernel time that no call of the tree launched, so that all shares add up to 100 %."""
        share = 100 * time_us / self._whole
        time = number(time_us / 1e3 / self._per, 3)
        name = "(no operator)" if which == "operators" else "(no module)"
        cells = (Cell(name), Cell(_share_text(share), share, D), time, time, missing(), missing(), missing())
        return Node(cells, min(share, 100.0), rest=True)

    def _node(
        self, name: str, rows: list[Any], children: tuple[Node, ...], *, is_open: bool = False, rest: bool = False
    ) -> Node:
        total = sum(float(getattr(row, self._column)) for row in rows)
        share = 100 * total / self._whole if self._whole > 0 else 0.0
        device = ("device_total_us", "device_self_us") if self._on_gpu else ()
        times = [self._time(rows, column) for column in (*device, "host_total_us", "host_self_us")]
        calls = sum(float(row.calls) for row in rows) / self._per
        cells = (
            Cell(name),
            Cell(_share_text(share), share, D),
            *times,
            Cell(count(calls) if calls == int(calls) else fixed(calls, 1), calls, M),
        )
        return Node(cells, min(share, 100.0), children, is_open, rest)

    def _time(self, rows: list[Any], column: str) -> Cell:
        return number(sum(float(getattr(row, column)) for row in rows) / 1e3 / self._per, 3)


def _share_text(share: float) -> str:
    """Return a share for the narrow column beside its bar, whose header has the unit."""
    return "<0.1" if 0 < share < MIN_SHOWN_PCT else percent(share).removesuffix(" %")


def steps_table(found: tuple[StepBars, ...]) -> Table:
    """Return the parts of each step, and their mean for each run."""
    parts = [part for part in STEP_PARTS if any(part == name for bars in found for name, _ in bars.mean.parts)]
    heads = (
        Head("run"),
        Head("step"),
        Head("whole step", "ms", True, M, "from the start of the step to its end, or to the end of what was launched in it"),
        *(Head(PART_NAMES[part], "ms", True, D, MEANINGS[part]) for part in parts),
    )
    rows = [_step_row(bars, bar, parts) for bars in found for bar in bars.bars]
    rows += [_step_row(bars, bars.mean, parts, total=True) for bars in found if bars.mean.steps > 1]
    note = "The parts of a step add up to the whole step."
    return Table("steps-table", "Steps in parts", heads, tuple(rows), note)


def _step_row(bars: StepBars, bar: StepBar, parts: list[str], *, total: bool = False) -> Row:
    values = dict(bar.parts)
    cells = (number(values.get(part, math.nan) / 1e3, 3, D) for part in parts)
    return Row((Cell(clean(bars.label, 60)), Cell(clean(bar.name, 60)), number(bar.total_us / 1e3, 3), *cells), total=total)


def stack_table(study: Study) -> Table | None:
    """Return the call stacks with the most time of each run; None where no run has any."""
    found = [a for a in study.analyses if a.host is not None and len(a.host.stacks)]
    if not found:
        return None
    on_gpu = any(a.device.type == "cuda" for a in found)
    limit = max(MAX_STACKS // len(found), 8)
    several = len(study.analyses) > 1
    rows = [row for a in found for row in _stack_rows(a, limit, on_gpu=on_gpu, several=several)]
    times = (DEVICE_OF_STACK, HOST_OF_STACK) if on_gpu else (HOST_OF_STACK,)
    total = sum(len(a.host.stacks) for a in found if a.host)
    caption = f"Time by call stack: {count(len(rows))} of {count(total)} stacks, longest first"
    note = (
        "A row is one place in Python with everything that called it; open it to see the whole stack, innermost first. Each "
        "operator and kernel counts for one stack. The number in brackets is the line that the profiler wrote: that of the "
        "call or, in newer traces, where the function begins. Built-in functions and the machinery that calls a module are "
        "left out; paths are trimmed."
    )
    heads = (STACK, *((Head("run"),) if several else ()), *times, STACK_CALLS)
    return Table("stack-table", caption, heads, tuple(rows), note)


STACK = Head("called from", meaning="innermost frame of the call stack, below it the first one outside of torch")
DEVICE_OF_STACK = Head("device", "ms", True, M, "kernel time launched from this stack")
HOST_OF_STACK = Head("host", "ms", True, M, "host time in operators called from this stack")
STACK_CALLS = Head("operators", "", True, M, "operators called from this stack directly")


def _stack_rows(a: Analysis, limit: int, *, on_gpu: bool, several: bool) -> list[Row]:
    if a.host is None:
        return []
    per = a.window.batches or 1
    out = []
    for row in records(a.host.stacks.head(limit)):
        frames = [clean(frame, 160) for frame in str(row.stack).split("\n")]
        outer = next((frame for frame in frames[1:] if not frame.startswith("torch/")), "")
        detail = [(str(place), frame) for place, frame in enumerate(frames[:MAX_FRAMES], 1)]
        if len(frames) > MAX_FRAMES:
            detail.append(("…", counted(len(frames) - MAX_FRAMES, "more frame", "more frames")))
        device = (number(float(row.device_us) / 1e3 / per, 3) if math.isfinite(row.device_us) else missing(),) if on_gpu else ()
        calls = float(row.calls) / per
        cells = (
            Cell(clean(frames[0], _NAME), remark=f"from {clean(outer, 80)}" if outer else "", detail=tuple(detail)),
            *((Cell(clean(a.label, 60)),) if several else ()),
            *device,
            number(float(row.host_us) / 1e3 / per, 3),
            Cell(count(calls) if calls == int(calls) else fixed(calls, 1), calls, M),
        )
        out.append(Row(cells, run=clean(a.label, 60)))
    return out
