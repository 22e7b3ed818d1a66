"""What the page is made of: sections, tables, and the one line that says what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.format import interval, quantity, times
from analyzer.schema.evidence import Quantity

EVIDENCE_COMMAND = "make gpu-evidence minutes=9"


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page. ``missing`` says what there is no data for, and why; ``texts`` are paragraphs and tables."""

    title: str
    about: str
    texts: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def render(self) -> str:
        """Return the section as Markdown."""
        lines = [f"Not measured yet: {text}." for text in self.missing]
        return "\n\n".join((f"## {self.title}", self.about, *self.texts, *lines))


def absent(what: str, device: str = "an NVIDIA GPU") -> str:
    """Return what is missing, with the command that brings it."""
    return f"{what}. `{EVIDENCE_COMMAND}` on {device} records it"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Return a table; the first ``texts`` columns are text, the others are figures."""
    lines = [_row(head), _row(["---"] * texts + ["---:"] * (len(head) - texts)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def figure(value: Quantity) -> str:
    """Return a figure with its interval in brackets, where it has one."""
    text = times(value) if value.unit == "x" else quantity(value)
    ends = interval(value)
    return f"{text} ({ends})" if ends else text
