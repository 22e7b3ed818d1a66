"""Section "comparable": can these runs be compared?"""

from __future__ import annotations

from analyzer.format import counted
from analyzer.insight.comparison.facts import POWER_CAP
from analyzer.report.blocks import Alert, Block, Cell, Head, Listing, Prose, Row, Section, Table
from analyzer.report.comparison.cells import COLUMNS
from analyzer.report.marks.comparison_names import run_titles
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison, FactRow

VALUE = 90
FACT_MEANING = "a property of the device, of the model, of the settings, of the software or of the trace"
TOLD = "what the run or its trace tells; unknown where it tells nothing"
UNKNOWN = "unknown"
TELLING = ("batch size", "image size", "element type", "torch", POWER_CAP)
"""Facts without which nobody can say that nothing makes times harder to compare."""
SHORT = {POWER_CAP: "power cap", "torch": "version of torch"}


def section(comparison: Comparison) -> Section:
    """Return the mismatches, the facts that differ, and once those that do not."""
    differing = tuple(fact for fact in comparison.facts if fact.differs)
    partly = tuple(fact for fact in comparison.facts if not fact.differs and len(set(fact.values)) > 1)
    common = tuple(fact for fact in comparison.facts if len(set(fact.values)) == 1 and fact.values[0] != UNKNOWN)
    warned = tuple(fact for fact in comparison.facts if fact.warning)
    blocks: list[Block] = [Prose(_lead(comparison, differing, warned))]
    if warned and len(comparison.runs) > COLUMNS:
        items = tuple((clean(fact.fact, 80), clean(fact.warning)) for fact in warned)
        blocks.append(Alert("What makes these times harder to compare", items, level="warning"))
    if shown := (*differing, *partly):
        blocks.append(_table(comparison, shown))
    if common:
        items = tuple((clean(fact.fact, 80), clean(fact.values[0], VALUE)) for fact in common)
        blocks.append(Listing(f"The same in all runs ({counted(len(common), 'fact', 'facts')})", items, folded=len(common) > 6))
    return Section("comparable", "Can these be compared?", "Facts", tuple(blocks))


def _lead(comparison: Comparison, differing: tuple[FactRow, ...], warned: tuple[FactRow, ...]) -> str:
    runs, unknown = counted(len(comparison.runs), "run", "runs"), _unknown(comparison)
    told = f" Not every run tells its {_listed(unknown)}." if unknown else ""
    if not differing:
        return f"No known fact differs among the {runs}.{told}"
    many = counted(len(differing), "known fact differs", "known facts differ")
    if not warned:
        which = "None of the known ones makes" if unknown else "None of them makes"
        return f"{many} among the {runs}. {which} the times harder to compare.{told}"
    which = "one of them makes" if len(warned) == 1 else f"{len(warned)} of them make"
    tail = "Nothing is refused: the figures below stand as they are."
    return f"{many} among the {runs}; {which} the times harder to compare.{told} {tail}"


def _unknown(comparison: Comparison) -> list[str]:
    """Return the telling facts that not every run tells; a CPU has no power cap to tell."""
    rows = {row.fact: row.values for row in comparison.facts}
    gpu = any(d.device.type == "cuda" for d in comparison.runs)
    wanted = [fact for fact in TELLING if gpu or fact != POWER_CAP]
    return [SHORT.get(fact, fact) for fact in wanted if UNKNOWN in rows.get(fact, (UNKNOWN,))]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _table(comparison: Comparison, facts: tuple[FactRow, ...]) -> Table:
    titles = run_titles(comparison)
    if len(titles) > COLUMNS:
        return _long(comparison, facts, titles)
    told = any(fact.warning for fact in facts)
    rows = tuple(
        Row(
            (
                Cell(clean(fact.fact, 80), remark=clean(fact.warning, 300)),
                *(Cell(clean(value, VALUE)) for value in fact.values),
            ),
            marked=bool(fact.warning),
        )
        for fact in facts
    )
    heads = (Head("fact", meaning=FACT_MEANING), *(Head(title, meaning=TOLD) for title in titles))
    why = "Rows that stand out make times harder to compare; why stands below the fact. " if told else ""
    note = f"{why}Unknown is not counted as a difference."
    return Table("facts-table", "Facts that differ, or that not every run tells", heads, rows, note)


def _long(comparison: Comparison, facts: tuple[FactRow, ...], titles: tuple[str, ...]) -> Table:
    rows = tuple(
        Row((Cell(title), *(Cell(clean(fact.values[run], VALUE)) for fact in facts)), marked=run == comparison.baseline)
        for run, title in enumerate(titles)
    )
    heads = [Head("run")]
    for fact in facts:
        why = f"{TOLD}. {clean(fact.warning, 200)}" if fact.warning else TOLD
        heads.append(Head(("≠ " if fact.warning else "") + clean(fact.fact, 60), meaning=why))
    note = (
        "Columns marked ≠ make times harder to compare. Unknown is not counted as a difference. The row that stands out is the "
        "baseline."
    )
    return Table("facts-table", "Facts that differ, or that not every run tells, by run", tuple(heads), rows, note)
