"""Section "changes": what became of each module, operator and kind between two runs of one model."""

from __future__ import annotations

from analyzer.format import counted, percent, signed
from analyzer.report.blocks import Block, Cell, Figure, Head, Listing, Notice, Prose, Row, Section, Table, difference, number
from analyzer.report.comparison.cells import MEASURED, cut_note, ends, ms_places
from analyzer.report.figures.comparison import change_chart
from analyzer.report.marks.comparison import CHANGE_WORDS, CLEAR, drawn_changes, in_ms
from analyzer.report.marks.comparison_names import run_titles
from analyzer.report.text import clean, kernel_label
from analyzer.schema.comparison import Change, Comparison
from analyzer.schema.evidence import Evidence
from analyzer.trace.kinds import KINDS

OPEN_ROWS, MAX_ROWS, KERNELS = 15, 300, 4
STATES = (
    (
        "slower, faster",
        "the interval of the difference leaves 0 out, and the difference is as large as the smallest that counts",
    ),
    ("added, removed", "it ran in one of the two runs only"),
    ("cannot tell", "noise covers the difference; or a single step was traced, so that nothing tells how large the noise is"),
    ("no difference", "the interval lies within the smallest difference that counts"),
)
TITLES = {"kind": "By kind", "module": "By module", "operator": "By operator"}
HOW = (
    "Right of 0: the second run takes longer; left: it takes less. Bars are differences of the time of one batch, the largest "
    "first; whiskers are 95 % intervals."
)
ONLY_CLEAR = " Only differences that noise does not explain are drawn."
NO_PART = (
    "No kind, module or operator changed clearly: noise covers each of their differences, or each is too small to count. The "
    "whole batch has more measurements than its parts, so it may differ clearly all the same."
)
TRANSFER = (
    "Copies and fills have a kind of their own here. Where operators are matched they count with the operator that called "
    "them, so this kind can be added or removed although every operator has its match."
)
NONE_CLEAR = " Each run has a single traced step, so none of these differences can be told from noise: trace more steps."


def section(comparison: Comparison) -> Section | None:
    """Return the changes by kind, module and operator; None where the runs are not two of one model."""
    if not comparison.changes:
        return None
    changes = comparison.changes
    titles = run_titles(comparison)
    first = titles[comparison.baseline]
    second = next((t for run, t in enumerate(titles) if run != comparison.baseline), first)
    blocks: list[Block] = [Prose(f"First run: {first} (the baseline). Second run: {second}.")]
    blocks += [Prose(_model(c), Evidence.MEASURED) for c in changes if c.by == "model"]
    by, drawn = drawn_changes(changes)
    if drawn:
        clear = any(c.state in CLEAR for c in drawn)
        title = f"The largest {'clear changes' if clear else 'differences, none of them certain'}, by {by}"
        how = HOW + (ONLY_CLEAR if clear else NONE_CLEAR)
        blocks.append(Figure("fig-changes", title, how, change_chart(drawn, title), None, _caption(changes, by, len(drawn))))
    else:
        blocks.append(Notice(NO_PART))
    blocks.append(Listing("What the words of the column “change” mean", STATES, folded=True))
    for name in ("kind", "module", "operator"):
        if rows := tuple(c for c in changes if c.by == name):
            blocks.append(_table(name, rows, (first, second)))
    return Section("changes", "What changed?", "Changes", tuple(blocks))


def _model(change: Change) -> str:
    delta = change.delta_us
    name = clean(change.name, 60)
    if delta.value is None:
        return f"{name}: {clean(delta.source, 200)}."
    share = f" ({percent(100 * delta.value / change.first_us)})" if change.first_us else ""
    within = (
        f", 95 % interval {signed(delta.low)} to {signed(delta.high)}"
        if delta.low is not None and delta.high is not None
        else ""
    )
    return f"{name}: {signed(delta.value)}{share}{within}: {CHANGE_WORDS[change.state]}."


def _caption(changes: tuple[Change, ...], by: str, drawn: int) -> str:
    rows = [c for c in changes if c.by == by]
    clear = sum(1 for c in rows if c.state in CLEAR)
    unclear = sum(1 for c in rows if c.state == "unclear")
    text = f"{len(rows)} rows in the table: {counted(clear, 'clear change', 'clear changes')}"
    return text + (f", and {unclear} that cannot be told from noise." if unclear else ".") + f" Drawn: {drawn}."


def _table(name: str, changes: tuple[Change, ...], runs: tuple[str, str]) -> Table:
    ordered = sorted(
        changes, key=lambda c: -abs(c.delta_us.value if c.delta_us.value is not None else c.second_us - c.first_us)
    )
    shown = ordered[:MAX_ROWS]
    places = ms_places([v / 1e3 for c in shown for v in (c.first_us, c.second_us)])
    rows = tuple(_row(change, places, name == "operator") for change in shown)
    noun = {"kind": "kind", "module": "module", "operator": "operator"}[name]
    heads = (
        Head(noun, meaning="" if name != "operator" else "the PyTorch operator with the shapes of its inputs"),
        *(() if name == "kind" else (Head("kind"),)),
        Head("first", "ms", True, MEASURED, "traced time of one batch in the first run, the baseline"),
        Head("second", "ms", True, MEASURED, "traced time of one batch in the second run"),
        Head("difference", "ms", True, Evidence.DERIVED, "second minus first, per batch"),
        Head("95 % interval", "ms", meaning="of the difference, from the traced steps and repeats; a dash where there is none"),
        Head("change", meaning="whether the difference is clear"),
    )
    note = cut_note(len(shown), len(ordered), "row", "rows", "changes.csv")
    if name == "kind" and any(c.name == "transfer" and c.state in ("added", "removed") for c in shown):
        note = f"{note} {TRANSFER}".strip()
    caption = f"{TITLES[name]}: {runs[0]}, then {runs[1]}; the largest difference first"
    open_rows = OPEN_ROWS if name != "kind" else 0
    return Table(f"changes-{name}", caption, heads, rows, note, open_rows)


def _row(change: Change, places: int, with_kernels: bool) -> Row:
    delta = in_ms(change.delta_us)
    kind = clean(change.kind, 30)
    cells = [
        _name(change, with_kernels),
        number(change.first_us / 1e3, places),
        number(change.second_us / 1e3, places),
        difference(delta.value if delta.value is not None else float("nan"), places, delta.evidence),
        ends(delta),
        Cell(CHANGE_WORDS[change.state], chip=change.state),
    ]
    if change.by != "kind":
        cells.insert(1, Cell(kind, chip=kind if kind in KINDS else "waiting") if kind else Cell("–"))
    return Row(tuple(cells), kind=kind or "–")


def unnamed(*kernels: tuple[str, ...]) -> str:
    """Return what stands for something without an operator or module: its first kernel."""
    first = next((kernel_label(name) for names in kernels for name in names), "")
    return f"no operator: {first}" if first else "no operator"


def _name(change: Change, with_kernels: bool) -> Cell:
    name = clean(change.name, 110) or unnamed(*change.kernels)
    if change.by == "kind":
        return Cell(name, chip=name if name in KINDS else "waiting")
    detail = [
        (title, ", ".join(kernel_label(kernel) for kernel in kernels[:KERNELS]) + (" …" if len(kernels) > KERNELS else ""))
        for title, kernels in zip(("kernels, first", "kernels, second"), change.kernels, strict=True)
        if kernels
    ]
    return Cell(name, detail=tuple(detail) if with_kernels else ())
