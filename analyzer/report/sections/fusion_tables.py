"""Tables of section "fusion": both runs side by side, where the kernel time went, modules, and what each kernel does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analyzer.format import count, fixed, percent, size
from analyzer.insight.causes import CAUSES
from analyzer.report.blocks import Cell, Head, Row, Table, badge, difference, number
from analyzer.report.marks.fusion import NO_MODULE, byte_groups, module_label, modules_label, operators_label
from analyzer.report.text import FULL_NAME_LIMIT, clean
from analyzer.schema.evidence import Evidence, combine
from analyzer.schema.fusion import FusedGroup, Fusion, ModuleChange, Side
from analyzer.schema.ledger import UNEXPLAINED, UNNAMED

MEASURED, DERIVED, MODELLED = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
SAVED = "eager minus compiled; below zero the compiled run takes longer"
OTHERS = (
    "of the launches: kernels and operators of libraries and of PyTorch, with operators inside them, such as the copy in addmm"
)
SUBTOTAL = "of these: several operators, all of them in the eager run"
MAX_GROUPS = 60
LONG, OPEN_ROWS = 24, 15
"""A table of module patterns that is longer than the first of these shows as many rows as the second until it is opened."""
WORDS = {
    "generated": "operators that generated kernels do",
    "library": "operators that compiled code calls one by one",
    "only eager": "operators of the eager run alone",
    "only compiled": "kernels of the compiled run alone",
}


def side_table(found: Fusion, per: str) -> Table:
    """Return both runs side by side: launches, kernel time, and time without a kernel."""
    on_gpu = found.eager.on_gpu
    waiting = "waiting for the host" if on_gpu else "dispatch"
    told = (
        "of the time without a kernel: the host had not launched the next one yet"
        if on_gpu
        else "of the time without a kernel: own time of operators and compiled regions that only call others"
    )
    heads = (
        Head("run"),
        Head("launches", "", True, MEASURED, "kernels launched; on a CPU operators that do work, without views"),
        Head("by compiler", "", True, MEASURED, "of the launches: kernels that the compiler generated"),
        Head("others", "", True, MEASURED, OTHERS),
        Head("kernel time", "ms", True, MEASURED, "exclusive time of all launches, with copies and fills"),
        Head("by compiler", "ms", True, MEASURED, "of the kernel time: kernels that the compiler generated"),
        Head("without a kernel", "ms", True, MEASURED, "traced time in which no kernel runs"),
        Head(f"of it {waiting}", "ms", True, MEASURED, told),
        Head("traced step", "ms", True, MEASURED, "all of the traced time, with the profiler's own cost"),
    )
    rows = [_side(side, word) for side, word in ((found.eager, "eager"), (found.compiled, "compiled"))]
    cells = [Cell("eager minus compiled")]
    for one, two in zip(_figures(found.eager), _figures(found.compiled), strict=True):
        cells.append(difference(one - two, _places(len(cells))))
    rows.append(Row(tuple(cells), total=True))
    return Table("fusion-runs", f"Both runs, {per}, traced", heads, tuple(rows))


def _figures(side: Side) -> tuple[float, ...]:
    waiting = side.host_us if side.on_gpu else side.dispatch_us
    times = (side.kernel_us, side.generated_us, side.idle_us, waiting, side.traced_us)
    return (side.launches, side.generated, side.library, *(us / 1e3 for us in times))


def _places(column: int) -> int:
    return 0 if column <= 3 else 3


def _side(side: Side, name: str) -> Row:
    figures = (number(value, _places(i)) for i, value in enumerate(_figures(side), 1))
    return Row((Cell(name, remark=clean(side.label, 60)), *figures))


def sum_table(found: Fusion, per: str) -> Table:
    """Return where the difference lies: kernels by what they do, then time without a kernel; it adds up to the whole."""
    rows = []
    for part, words in WORDS.items():
        groups = [group for group in found.groups if group.part == part]
        if groups:
            times = (sum(group.eager_us for group in groups), sum(group.compiled_us for group in groups))
            rows.append(_sum_row(words, *times, combine(*(group.evidence for group in groups))))
    rows.append(_sum_row("all kernels", found.eager.kernel_us, found.compiled.kernel_us, MEASURED, marked=True))
    rows += [_sum_row(CAUSES[rest.term], rest.eager_us, rest.compiled_us, rest.evidence) for rest in found.rest]
    whole = found.total_us / 1e3
    ends = _whole_times(found)
    rows.append(Row((Cell(found.basis), *ends, difference(whole, 3), badge(MEASURED)), total=True))
    heads = (
        Head("part", meaning="what the time is spent on; kernels first, then time in which none runs"),
        Head("eager", "ms", True, None, "time in the eager run"),
        Head("compiled", "ms", True, None, "time in the compiled run"),
        Head("saved", "ms", True, None, SAVED),
        Head("evidence"),
    )
    note = (
        "Operators are matched by module and operator, in the order of their calls; what compiling took apart or renamed is "
        "matched within its module. The rows above “all kernels” add up to it, and it and the rows below it to the last one."
    )
    note += _scaled(found)
    return Table("fusion-sum", f"Where the difference lies, {per}", heads, tuple(rows), note=note, fixed_order=True)


def _scaled(found: Fusion) -> str:
    """Return what the traced time without a kernel was multiplied with in the rows of it; nothing where it was not."""
    one, two = found.waiting
    if one == two == 1:
        return ""
    text = (
        " The time without a kernel is that of the trace, scaled so that kernels and it add up to the untraced batch: times "
        f"{fixed(one, 3)} in the eager run and times {fixed(two, 3)} in the compiled one. “{CAUSES['tracing']}” is what that "
        "scaling cannot account for."
    )
    if {one, two} == {0.0, 1.0}:
        text += " With 0 for one run and 1 for the other, the difference of these rows comes from the scaling and is no cause."
    return text


def _whole_times(found: Fusion) -> tuple[Cell, Cell]:
    eager = found.eager.kernel_us + sum(rest.eager_us for rest in found.rest)
    compiled = found.compiled.kernel_us + sum(rest.compiled_us for rest in found.rest)
    return number(eager / 1e3, 3), number(compiled / 1e3, 3)


def _sum_row(words: str, eager_us: float, compiled_us: float, level: Evidence, *, marked: bool = False) -> Row:
    times = (number(us / 1e3, 3, level) for us in (eager_us, compiled_us))
    return Row((Cell(words), *times, difference((eager_us - compiled_us) / 1e3, 3, level), badge(level)), marked=marked)


def has_terms(found: Fusion) -> bool:
    """Tell whether the difference by module can be divided into floor and time above it."""
    return any(change.terms for change in found.modules)


def module_table(found: Fusion, per: str) -> Table:
    """Return the kernel time by module pattern in both runs, and what the difference is due to where that is known."""
    told = has_terms(found)
    rows = [_module_row(change, told=told) for change in found.modules]
    every = [entry for change in found.modules for entry in change.terms]
    total = (
        Cell("all kernels"),
        number(found.eager.kernel_us / 1e3, 3),
        number(found.compiled.kernel_us / 1e3, 3),
        difference(found.kernel_delta_us / 1e3, 3),
        *(_sorted(every) if told else ()),
        Cell("–"),
    )
    rows.append(Row(total, total=True))
    heads = (*MODULE_HEADS, *(TERM_HEADS if told else ()), SHARED)
    note = (
        "The time of a kernel that works for several modules is divided among them as the eager times of its operators are, so "
        "a module alone says less than the modules next to it together."
    )
    note += " The four columns behind “saved” add up to it." if told else ""
    caption = f"Kernel time by module, {per}; the largest difference first"
    folded = OPEN_ROWS if len(found.modules) > LONG else 0
    return Table("fusion-modules", caption, heads, tuple(rows), note=note, open_rows=folded)


MODULE_HEADS = (
    Head("module"),
    Head("eager", "ms", True, MEASURED, "kernel time of the modules of this pattern in the eager run"),
    Head("compiled", "ms", True, MODELLED, "the same in the compiled run; ≈ where kernels work for other modules too"),
    Head("saved", "ms", True, MODELLED, SAVED),
)
TERM_HEADS = (
    Head("floor of work", "ms", True, MODELLED, "of what is saved: the floor of the work, which fewer bytes lower"),
    Head("named causes", "ms", True, MODELLED, "of what is saved: time above the floor that has a cause, and copies"),
    Head("no cause named", "ms", True, MODELLED, "of what is saved: time above the floor without a cause"),
    Head("no model", "ms", True, MODELLED, "of what is saved: kernels without a work model"),
)
SHARED = Head("shared", "%", True, DERIVED, "of the compiled time: kernels that work for modules of other patterns too")


def _module_row(change: ModuleChange, *, told: bool) -> Row:
    level = change.evidence
    return Row(
        (
            _named(module_label(change.module), change.module or NO_MODULE, "module"),
            number(change.eager_us / 1e3, 3),
            number(change.compiled_us / 1e3, 3, level),
            difference(change.delta_us / 1e3, 3, level),
            *(_sorted(change.terms) if told else ()),
            number(change.shared_pct, 0, DERIVED),
        )
    )


def _sorted(terms: Iterable[tuple[str, float, float]]) -> tuple[Cell, ...]:
    """Return what is saved by the sort of its term: floor of the work, named, without a cause, unexplained."""
    sums = dict.fromkeys(("work", "named", "unnamed", "unexplained"), 0.0)
    for term, eager_us, compiled_us in terms:
        sums[_sort(term)] += eager_us - compiled_us
    return tuple(difference(us / 1e3, 3, MODELLED) for us in sums.values())


def _sort(term: str) -> str:
    if term in UNEXPLAINED:
        return "unexplained"
    if term in UNNAMED:
        return "unnamed"
    return "work" if term == "work" else "named"


DIVIDED = "≈ where the compiler repeats an operator in several kernels, so that its eager time is divided among them"
GROUP_HEADS = (
    Head(
        "operators in one kernel", meaning="what the kernel does, in the order of the data, without views; below: the modules"
    ),
    Head("kernels", "", True, MEASURED, "calls of kernels with these operators"),
    Head("eager", "ms", True, MODELLED, f"time of the same operators of the same modules in the eager run; {DIVIDED}"),
    Head("compiled", "ms", True, MEASURED, "time of the kernels"),
    Head("saved", "ms", True, MODELLED, SAVED),
    Head(
        "apart",
        "MiB",
        True,
        MODELLED,
        "bytes that the same operators move in the eager run: each on its own, inputs once, outputs once",
    ),
    Head("whole", "MiB", True, MODELLED, "bytes that the kernel as a whole has to move"),
    Head("bytes saved", "MiB", True, MODELLED, "apart minus whole: what no longer has to pass through memory"),
    Head(
        "time of these",
        "ms",
        True,
        MODELLED,
        "what moving the bytes saved takes at the bandwidth used for floors; this is not the time saved",
    ),
)


def group_table(found: Fusion, per: str) -> Table:
    """Return what every group of generated kernels does, its time in both runs and its bytes."""
    groups = found.fused[:MAX_GROUPS]
    rows = [_group_row(group) for group in groups]
    comparable = byte_groups(found)
    if 0 < len(comparable) < len(found.fused):
        rows.append(_group_total(SUBTOTAL, comparable))
    rows.append(_group_total("generated kernels with a counterpart", found.fused))
    left = len(found.fused) - len(groups)
    more = f" {count(left)} more are in fusion.csv." if left else ""
    note = (
        "Kernels without any counterpart in the eager run, and operators that compiled code calls one by one, are in tables of "
        "their own. Where the eager run lacks some operators of a kernel, its bytes are held against nothing. "
        "Kernels with the same operators in modules of one pattern are one row. A number before an operator says how often it "
        f"is in the kernel. {DIVIDED[0].upper()}{DIVIDED[1:]}.{more}"
    )
    return Table(
        "fusion-groups", f"Generated kernels, {per}; the largest difference first", GROUP_HEADS, tuple(rows), note=note
    )


def _group_row(group: FusedGroup) -> Row:
    mib = (group.bytes_apart / 2**20, group.bytes_whole / 2**20, group.bytes_saved / 2**20)
    return Row(
        (
            _operators(group),
            number(group.calls, 0),
            number(group.eager_us / 1e3, 3, group.evidence),
            number(group.compiled_us / 1e3, 3),
            difference(group.delta_us / 1e3, 3, group.evidence),
            *(number(value, 2, MODELLED) for value in mib),
            number(group.saved_us / 1e3, 3, MODELLED),
        )
    )


def _group_total(words: str, groups: Sequence[FusedGroup]) -> Row:
    apart, whole, saved = (
        sum(getattr(group, name) for group in groups) / 2**20 for name in ("bytes_apart", "bytes_whole", "bytes_saved")
    )
    names = ("eager_us", "compiled_us", "delta_us", "saved_us")
    times = [sum(getattr(group, name) for group in groups) / 1e3 for name in names]
    level = combine(*(group.evidence for group in groups))
    return Row(
        (
            Cell(words),
            number(sum(group.calls for group in groups), 0),
            number(times[0], 3, level),
            number(times[1], 3),
            difference(times[2], 3, level),
            number(apart, 2, MODELLED),
            number(whole, 2, MODELLED),
            number(saved, 2, MODELLED),
            number(times[3], 3, MODELLED),
        ),
        total=True,
    )


def _operators(group: FusedGroup) -> Cell:
    """Return the operators of a group and their modules, with the whole of both and the names of its kernels behind."""
    text, below = operators_label(group), modules_label(group)
    if group.part in ("generated", "library") and not group.is_complete:
        below += f"; {percent(group.matched_pct)} of these operators are in the eager run"
    kernels = clean(", ".join(group.kernels), FULL_NAME_LIMIT)
    parts = clean(", ".join(group.operators), FULL_NAME_LIMIT)
    whole = (("operators", parts), ("modules", modules_label(group, FULL_NAME_LIMIT)), ("kernels", kernels))
    return Cell(text, remark=below, detail=whole)


def _named(text: str, whole: str, term: str) -> Cell:
    return Cell(text, detail=((term, clean(whole, FULL_NAME_LIMIT)),)) if text.endswith("…") else Cell(text)


def other_tables(found: Fusion, per: str) -> tuple[Table, ...]:
    """Return the operators outside generated kernels: called one by one in both runs, or in one run alone."""
    tables = []
    for part in ("library", "only eager", "only compiled"):
        groups = [group for group in found.groups if group.part == part]
        if groups:
            tables.append(_other(part, groups, per))
    return tuple(tables)


def _other(part: str, groups: list[FusedGroup], per: str) -> Table:
    kept = groups[:MAX_GROUPS]
    rows = [
        Row(
            (
                _operators(group),
                number(group.calls, 0),
                number(group.eager_us / 1e3, 3, group.evidence),
                number(group.compiled_us / 1e3, 3),
                difference(group.delta_us / 1e3, 3, group.evidence),
            )
        )
        for group in kept
    ]
    heads = (
        Head("operator", meaning="the operator, or the kernel where no operator is known"),
        Head("calls", "", True, MEASURED, "calls of it in the run that has it; of both, in the compiled one"),
        *GROUP_HEADS[2:5],
    )
    left = len(groups) - len(kept)
    more = f"{count(left)} more are in fusion.csv." if left else ""
    text = f"{WORDS[part][0].upper()}{WORDS[part][1:]}, {per}"
    return Table(f"fusion-{part.replace(' ', '-')}", text, heads, tuple(rows), note=more)


def bandwidth_words(found: Fusion) -> str:
    """Return the bandwidth that bytes are held against, ``120 GB/s (copy, measured)``; empty where it is not known."""
    figure = found.bandwidth
    return f"{fixed(figure.value, 0 if figure.value >= 10 else 1)} {figure.unit}" if figure.value is not None else ""


def saved_words(groups: Sequence[FusedGroup]) -> tuple[str, str]:
    """Return the bytes of ``groups`` apart and as a whole in words."""
    apart, whole = (sum(getattr(group, name) for group in groups) for name in ("bytes_apart", "bytes_whole"))
    return size(apart), size(whole)
