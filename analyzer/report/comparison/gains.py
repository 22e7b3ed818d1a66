"""Section "gains": did each role gain what the hardware offers?"""

from __future__ import annotations

from analyzer.format import counted
from analyzer.report.blocks import Block, Cell, Figure, Folded, Head, Notice, Row, Section, Table, badge
from analyzer.report.comparison.cells import cut_note, ends, ratio, with_numbers
from analyzer.report.figures.comparison_devices import gain_chart
from analyzer.report.marks.comparison import GainPanel, gain_panels
from analyzer.report.marks.comparison_names import run_titles
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison, Gain

MAX_ROWS, OPEN_ROWS = 400, 30
TOTAL = "total"
BASIS = (
    "what the ratio is one of: times where both runs do the same work, else rates of FLOP or of compulsory bytes, whose work "
    "is modelled"
)
ROLE = "what a kind of kernel does in the model, the same word for a ViT and a CNN; open it for what the ratio rests on"
SPEEDUP = "how many times as fast as the run in the column “over”: above 1 is faster"


def section(comparison: Comparison) -> Section | None:
    """Return the dot plot and the table of gains, None for a comparison without any."""
    if not comparison.gains:
        return None
    titles, panels = run_titles(comparison), gain_panels(comparison)
    known = tuple(g for g in comparison.gains if g.speedup.value is not None)
    table = _table(comparison, known) if known else None
    blocks: list[Block] = []
    if panels:
        title = f"Speed-up by role over {_over(panels, titles)}"
        svg = gain_chart(panels, titles, title)
        drawing = Figure("fig-gains", title, _how(panels), svg, None, _caption(comparison, panels))
        blocks += with_numbers(comparison, drawing, table)
    else:
        base = titles[comparison.baseline]
        blocks.append(
            Notice(f"No role has a speed-up; the baseline is {base}: {_why(comparison)}. Try another with baseline=.")
        )
    if len(known) < len(comparison.gains):
        blocks.append(Folded("Roles without a speed-up, and why", (_missing(comparison),)))
    if comparison.offers:
        blocks.append(Folded("What the hardware offers: ratios of datasheet figures", (_offers(comparison),)))
    offered = any(panel.offers for panel in panels)
    heading = "Did each role gain what the hardware offers?" if offered else "Which roles gained, and which lost?"
    return Section("gains", heading, "Gains", tuple(blocks))


def _over(panels: tuple[GainPanel, ...], titles: tuple[str, ...]) -> str:
    """Return the run that all panels are over, or words for several."""
    bases = {panel.baseline for panel in panels}
    return titles[panels[0].baseline] if len(bases) == 1 else "a run of the same model, named at each panel"


def _how(panels: tuple[GainPanel, ...]) -> str:
    text = (
        "Right of 1x is faster than the run named below the axis, left is slower; equal distances are equal ratios. A role is "
        "what a kind of kernel does in the model. “Whole batch” includes waiting and is of untraced times where both runs have "
        "them; all other rows are of traced times. Filled marks are ratios of times; hollow marks are ratios of rates, because "
        "the runs do different work, and their work is modelled."
    )
    if any(panel.offers for panel in panels):
        text += (
            " Vertical lines are ratios of datasheet figures. A role on the line of DRAM bandwidth gained what work limited "
            "by memory would gain; one to the right of it gained more, as caches or arithmetic units may allow; one to the "
            "left of it used less of what the device offers. The line alone does not say why."
        )
    return text


def _caption(comparison: Comparison, panels: tuple[GainPanel, ...]) -> str:
    shown = {panel.run for panel in panels}
    rest = {g.run for g in comparison.gains if g.speedup.value is not None} - shown
    out = []
    if rest:
        who = counted(len(rest), "run is", "runs are")
        out.append(f"{who} in the table alone: repeats, or between the least and the most gains.")
    drawn = {(panel.run, name) for panel in panels for name, _ in panel.offers}
    notes = [g.note for panel in panels for g in panel.gains] + [o.note for o in comparison.offers if (o.run, o.name) in drawn]
    out += [_sentence(note) for note in dict.fromkeys(notes) if note]
    return " ".join(out)


def _sentence(text: str) -> str:
    text = clean(text, 240)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _with_note(source: str, note: str) -> str:
    """Return what a ratio rests on, and what must stand beside it."""
    return "; ".join(part for part in (clean(note, 200), clean(source, 160)) if part) or "–"


def _why(comparison: Comparison) -> str:
    reasons = dict.fromkeys(clean(g.speedup.source, 160) for g in comparison.gains if g.speedup.source)
    return "; ".join(list(reasons)[:3]) or "no run has a role in common with it"


def role_name(role: str) -> str:
    """Return what a role is called on the page."""
    return "whole batch" if role == TOTAL else clean(role, 40)


def _table(comparison: Comparison, known: tuple[Gain, ...]) -> Table:
    titles = run_titles(comparison)
    rows = tuple(_row(g, titles) for g in known[:MAX_ROWS])
    heads = (
        Head("role", meaning=ROLE),
        Head("run"),
        Head("over", meaning="the run that it is held against: of the same model where there is one"),
        Head("basis", meaning=BASIS),
        Head("speed-up", "x", True, None, SPEEDUP),
        Head("95 % interval", "x", meaning="of the speed-up, from iterations or traced steps; a dash where there is none"),
        Head("evidence"),
    )
    note = cut_note(len(rows), len(known), "row", "rows", "gains.csv")
    open_rows = OPEN_ROWS if len(rows) > OPEN_ROWS else 0
    return Table("gains-table", "Speed-up by role", heads, rows, note, open_rows)


def _row(g: Gain, titles: tuple[str, ...]) -> Row:
    title = titles[g.run]
    cells = (
        Cell(role_name(g.role), detail=(("how it came about", _with_note(g.speedup.source, g.note)),)),
        Cell(title),
        Cell(titles[g.baseline]),
        Cell(g.basis),
        ratio(g.speedup),
        ends(g.speedup),
        badge(g.speedup.evidence),
    )
    return Row(cells, run=title)


def _missing(comparison: Comparison) -> Table:
    """Return the roles without a speed-up, those of one run with the same reason in one row."""
    titles, found = run_titles(comparison), dict[tuple[int, str], list[str]]()
    for g in comparison.gains:
        if g.speedup.value is None:
            found.setdefault((g.run, clean(g.speedup.source, 160) or "–"), []).append(role_name(g.role))
    rows = tuple(Row((Cell(titles[run]), Cell(", ".join(roles)), Cell(why))) for (run, why), roles in found.items())
    heads = (Head("run"), Head("roles", meaning="what kinds of kernels do in the model"), Head("why"))
    note = cut_note(min(len(rows), MAX_ROWS), len(rows), "row", "rows", "gains.csv")
    return Table("gains-missing", "Roles without a speed-up", heads, rows[:MAX_ROWS], note)


def _offers(comparison: Comparison) -> Table:
    titles = run_titles(comparison)
    rows = tuple(
        Row(
            (
                Cell(clean(offer.name, 60)),
                Cell(titles[offer.run]),
                Cell(titles[offer.baseline]),
                ratio(offer.ratio),
                badge(offer.ratio.evidence),
                Cell(_with_note(offer.ratio.source, offer.note)),
            )
        )
        for offer in comparison.offers[:MAX_ROWS]
    )
    heads = (
        Head("hardware", meaning="the figure of the datasheets whose ratio it is"),
        Head("run"),
        Head("over", meaning="the run that it is held against: of the same model where there is one"),
        Head("ratio", "x", True, None, "figure of the device of this run by that of the device that it is held against"),
        Head("evidence"),
        Head("source"),
    )
    note = cut_note(len(rows), len(comparison.offers), "row", "rows", "gains.csv")
    return Table("offers-table", "What each device has more of", heads, rows, note)
