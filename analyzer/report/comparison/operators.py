"""Section "operators": what matches between runs, and what one run alone has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analyzer.format import count, counted, percent
from analyzer.report.blocks import Block, Cell, Head, Prose, Row, Section, Table, missing, number
from analyzer.report.comparison.cells import COLUMNS, MEASURED, cut_note, ms_places
from analyzer.report.comparison.changes import unnamed
from analyzer.report.marks.comparison_names import run_titles
from analyzer.report.text import clean, kernel_label, operator_label
from analyzer.schema.comparison import Comparison, MatchedOperator
from analyzer.schema.evidence import Evidence

MAX_ROWS, OPEN_ROWS, MAX_ONLY, KERNELS = 200, 20, 120, 4
OPERATOR = "the PyTorch operator, by one name where libraries name it differently; open it for shapes, module and kernels"
WHERE = "time of this operator in the run, per batch where the trace has steps; a dash where the run has none"


def section(comparison: Comparison) -> Section | None:
    """Return the operators of two and more runs and those of one alone, None where nothing ran."""
    both = [m for m in comparison.matched if _present(m) > 1]
    alone = [m for m in comparison.matched if _present(m) == 1]
    if not both and not alone:
        return None
    titles = run_titles(comparison)
    blocks: list[Block] = [Prose(_lead(both, alone)), *_shares(comparison, titles)]
    if both:
        blocks.append(_matched(sorted(both, key=_time), titles))
    if alone:
        blocks.append(_alone(sorted(alone, key=_time), titles))
    return Section("operators", "Which operators match, and which has one run alone?", "Operators", tuple(blocks))


def _present(m: MatchedOperator) -> int:
    return sum(time is not None for time in m.time_us)


def _time(m: MatchedOperator) -> float:
    """Return the sort key that puts the longest time first."""
    return -max((time for time in m.time_us if time is not None), default=0.0)


def _lead(both: list[MatchedOperator], alone: list[MatchedOperator]) -> str:
    return (
        f"{counted(len(both), 'operator', 'operators')} ran in two runs or more with the same shapes, element type and module; "
        f"{count(len(alone))} ran in one run only. Kernels are never matched by their names, because each library has its own. "
        "Copies and fills count with the operator that called them, so an operator can match though one run copies more."
    )


def _shares(comparison: Comparison, titles: tuple[str, ...]) -> list[Block]:
    base = titles[comparison.baseline]
    found = [(titles[run], pct) for run, pct in enumerate(comparison.matched_pct) if run != comparison.baseline]
    if not any(pct > 0 for _, pct in found):
        return [
            Prose(f"No other run has an operator of {base} with the same shapes, element type and module.", Evidence.DERIVED)
        ]
    if len(found) <= COLUMNS:
        known = [f"{title} {percent(pct)}" for title, pct in found if math.isfinite(pct)]
        text = f"Share of the time in operators that {base} has too: {', '.join(known)}."
        return [Prose(text, Evidence.DERIVED)] if known else []
    rows = tuple(Row((Cell(title), number(pct, 1, Evidence.DERIVED))) for title, pct in found)
    heads = (
        Head("run"),
        Head("matched", "%", True, Evidence.DERIVED, "share of the time in operators that the baseline has too"),
    )
    return [Table("matched-shares", f"Time in operators that {base} has too", heads, rows)]


def _matched(found: list[MatchedOperator], titles: tuple[str, ...]) -> Table:
    shown = found[:MAX_ROWS]
    few = len(titles) <= COLUMNS
    places = ms_places([t / 1e3 for m in shown for t in m.time_us if t is not None])
    make = _wide if few else _long
    rows = tuple(Row((_name(m, titles), _kind(m), *make(m, titles, places)), kind=clean(m.kind, 30)) for m in shown)
    heads = (Head("operator", meaning=OPERATOR), Head("kind"), *(_wide_heads(titles) if few else _long_heads()))
    note = cut_note(len(shown), len(found), "operator", "operators", "matched.csv")
    return Table(
        "matched-table" if few else "matched-many",
        "Operators of two runs and more, the longest first",
        heads,
        rows,
        note,
        OPEN_ROWS,
    )


def _wide_heads(titles: tuple[str, ...]) -> tuple[Head, ...]:
    return tuple(Head(title, "ms", True, MEASURED, WHERE) for title in titles)


def _long_heads() -> tuple[Head, ...]:
    return (
        Head("runs", "", True, MEASURED, "how many runs have the operator"),
        Head("shortest", "ms", True, MEASURED, "the least time of it among the runs that have it"),
        Head("shortest in", meaning="the run of the shortest time"),
        Head("longest", "ms", True, MEASURED, "the most time of it among the runs that have it"),
        Head("longest in", meaning="the run of the longest time"),
    )


def _wide(m: MatchedOperator, titles: tuple[str, ...], places: int) -> Sequence[Cell]:
    return [Cell("–") if time is None else number(time / 1e3, places) for time in m.time_us]


def _long(m: MatchedOperator, titles: tuple[str, ...], places: int) -> Sequence[Cell]:
    known = [(time, run) for run, time in enumerate(m.time_us) if time is not None]
    if not known:
        return [missing()] * 5
    (least, first), (most, last) = min(known), max(known)
    shortest, longest = number(least / 1e3, places), number(most / 1e3, places)
    return [Cell(str(len(known)), len(known)), shortest, Cell(titles[first]), longest, Cell(titles[last])]


def _alone(found: list[MatchedOperator], titles: tuple[str, ...]) -> Table:
    shown = found[:MAX_ONLY]
    places = ms_places([t / 1e3 for m in shown for t in m.time_us if t is not None])
    rows = []
    for m in shown:
        run = next(i for i, time in enumerate(m.time_us) if time is not None)
        time = m.time_us[run] or 0.0
        cells = (_name(m, titles), _kind(m), Cell(titles[run]), number(time / 1e3, places))
        rows.append(Row(cells, run=titles[run], kind=clean(m.kind, 30)))
    heads = (
        Head("operator", meaning=OPERATOR),
        Head("kind"),
        Head("run"),
        Head("time", "ms", True, MEASURED, "time of this operator in the run, per batch where the trace has steps"),
    )
    note = cut_note(len(shown), len(found), "operator", "operators", "matched.csv")
    return Table("alone-table", "Operators of one run only, the longest first", heads, tuple(rows), note, OPEN_ROWS)


def _where(m: MatchedOperator) -> str:
    """Return shapes and the end of the module path, so that the layers of a model can be told apart."""
    module = clean(m.module, 400)
    tail = module if len(module) <= 40 else f"…{module[-39:]}"
    return " · ".join(part for part in (clean(m.shapes, 46), tail) if part)


def _kind(m: MatchedOperator) -> Cell:
    kind = clean(m.kind, 30)
    return Cell(kind, chip=kind)


def _name(m: MatchedOperator, titles: tuple[str, ...]) -> Cell:
    detail = [("shapes", clean(m.shapes, 200)), ("module", clean(m.module, 120)), ("type", clean(m.dtype, 40))]
    kernels: dict[str, str] = {}
    for title, names in zip(titles, m.kernels, strict=True):
        if names and len(kernels) < COLUMNS:
            kernels[title] = ", ".join(kernel_label(name) for name in names[:KERNELS]) + (" …" if len(names) > KERNELS else "")
    detail += list(kernels.items())
    return Cell(operator_label(m.op) or unnamed(*m.kernels), remark=_where(m), detail=tuple((k, v) for k, v in detail if v))
