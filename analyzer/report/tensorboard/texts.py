"""What TensorBoard's text dashboard shows of a run: headline, all figures with unit and evidence, kinds, warnings."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from analyzer.format import count, milliseconds, percent, quantity, scaled, size
from analyzer.report.tensorboard.event_file import Text
from analyzer.report.tensorboard.figures import Figure, basis
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis, Verdict

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+.!|-])")
_WORDS = {
    Evidence.MEASURED: "a timer, the profiler or a counter",
    Evidence.DERIVED: "arithmetic on measured figures and on what vendors state",
    Evidence.MODELLED: "an assumption on what the operators compute and move",
    Evidence.SPEC: "what the vendor states",
    Evidence.UNAVAILABLE: "no figure, with the reason",
}


def texts(a: Analysis, verdict: Verdict, shown: Iterable[Figure]) -> tuple[Text, ...]:
    """Return the texts of a run; ``shown`` are its figures."""
    return (
        Text("analyzer/1_headline", "What the analyzer says of this run.", _headline(a, verdict)),
        Text("analyzer/2_figures", "Every figure with its unit and how it is known.", _figures(tuple(shown))),
        Text("analyzer/3_kinds", f"Where the time goes, by kind of operator, {basis(a)}.", _kinds(a)),
    )


def described(figure: Figure) -> str:
    """Return the description of a scalar: meaning, unit, evidence and where the figure comes from."""
    return described_as(figure.meaning, figure.figure.unit, figure.figure.evidence, figure.figure)


def described_as(meaning: str, unit: str, evidence: Evidence, figure: Quantity | None = None) -> str:
    """Return the same of figures that have more than one point."""
    parts = [f"{_escaped(meaning[:1].upper() + meaning[1:])}."]
    parts += [f"Unit: {_escaped(unit)}."] if unit else []
    parts += [f"Evidence: **{evidence.value}** ({_WORDS[evidence]})."]
    if figure is not None and figure.low is not None and figure.high is not None:
        parts += [f"From {_escaped(f'{figure.low:.6g}')} to {_escaped(f'{figure.high:.6g} {unit}'.rstrip())}."]
    if figure is not None and figure.source:
        parts += [f"{_escaped(clean(figure.source, 300))}."]
    return " ".join(parts)


def _headline(a: Analysis, verdict: Verdict) -> str:
    lines = [f"**{_escaped(clean(verdict.headline))}**", _escaped(clean(verdict.reason, 1800))]
    lines += [f"The figures cover: {_escaped(clean(a.window.source))}."]
    lines += [f"- Not measured: {_escaped(clean(text))}" for text in verdict.not_measured]
    lines += [f"- Warning: {_escaped(clean(text))}" for text in a.warnings]
    lines += [f"- {_escaped(clean(note))}" for note in (a.attribution.notes if a.attribution else ())]
    return "\n\n".join(line for line in lines if line)


def _figures(shown: tuple[Figure, ...]) -> str:
    rows = []
    for found in shown:
        figure = found.figure
        value = f"{quantity(figure, 4)}" if figure.value is not None else "unavailable"
        rows.append((found.tag, value, figure.evidence.value, found.meaning, clean(figure.source, 300)))
    return _table(("tag", "value", "evidence", "meaning", "source, or why there is none"), rows)


def _kinds(a: Analysis) -> str:
    batches = a.window.batches or 1
    total = float(a.kinds["time_us"].sum()) if len(a.kinds) else 0.0
    rows = [
        (
            str(row["kind"]),
            milliseconds(row["time_us"] / batches),
            percent(100 * row["time_us"] / total) if total else "",
            count(row["calls"] / batches),
            scaled(row["flop"] / batches, "FLOP") if row["flop"] else "",
            size(row["bytes_compulsory"] / batches) if row["bytes_compulsory"] else "",
        )
        for row in a.kinds.to_dict("records")
    ]
    return _table(("kind", "time", "share", "launches", "arithmetic", "compulsory bytes"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head)]
    body = [tuple(_escaped(cell) for cell in row) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*lines, *body])


def _escaped(text: str) -> str:
    """Return ``text`` so that Markdown and HTML take it as it stands: names of operators hold what both have a meaning for."""
    return _SPECIAL.sub(r"\\\1", html.escape(text, quote=False))
