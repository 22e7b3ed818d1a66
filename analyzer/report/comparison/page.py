"""From a comparison to a directory: the page and the files beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analyzer.report.blocks import Section
from analyzer.report.comparison.changes import section as changes
from analyzer.report.comparison.facts import section as facts
from analyzer.report.comparison.gains import section as gains
from analyzer.report.comparison.gap import section as gap
from analyzer.report.comparison.hardware import section as hardware
from analyzer.report.comparison.masthead import masthead
from analyzer.report.comparison.method import section as method
from analyzer.report.comparison.normalised import section as normalised
from analyzer.report.comparison.operators import section as operators
from analyzer.report.comparison.rooflines import section as rooflines
from analyzer.report.comparison.time import section as time
from analyzer.report.comparison_files import write_comparison_files
from analyzer.report.render import MAX_EMBEDDED_BYTES, MAX_PAGE_BYTES, PAGE_FILE, SHORTER, json_block, render, shorten
from analyzer.schema.comparison import Comparison

SECTIONS: tuple[Callable[[Comparison], Section | None], ...] = (
    facts,
    gap,
    time,
    gains,
    rooflines,
    hardware,
    changes,
    operators,
    normalised,
)


def write_comparison(comparison: Comparison, directory: Path, command: tuple[str, ...] = ()) -> None:
    """Write index.html and the files beside it into ``directory``, which exists.

    ``command`` is the command line that asked for it, without the paths of this machine.
    """
    found = write_comparison_files(comparison, directory)
    files = tuple(sorted(path.name for path in directory.iterdir() if path.is_file() and path.name != PAGE_FILE))
    text = page(comparison, found, files, command)
    (directory / PAGE_FILE).write_text(text, encoding="utf-8", errors="replace")


def page(
    comparison: Comparison, found: dict[str, Any], files: tuple[str, ...] = ("summary.json",), command: tuple[str, ...] = ()
) -> str:
    """Return the page. ``found`` is the summary, embedded for programs unless it is too long for that.

    A page that would pass MAX_PAGE_BYTES loses rows of its tables and says how many below each; the files have them all.
    """
    made = tuple(section for section in (make(comparison) for make in SECTIONS) if section is not None)
    sections = (*made, method(comparison, made, command))
    data = json_block(found)
    left_out = json_block({"left_out": "too long for this page; see summary.json"})
    if len(data) > MAX_EMBEDDED_BYTES:
        data = left_out
    text = _render(comparison, sections, data, files)
    for rows in SHORTER:
        if _fits(text):
            return text
        sections = tuple(shorten(section, rows) for section in sections)
        text = _render(comparison, sections, data, files)
    if not _fits(text):
        text = _render(comparison, sections, left_out, files)
    return text


def _fits(text: str) -> bool:
    return len(text.encode("utf-8", "replace")) <= MAX_PAGE_BYTES


def _render(comparison: Comparison, sections: tuple[Section, ...], data: Markup, files: tuple[str, ...]) -> str:
    head = masthead(comparison, {section.id: section.short for section in sections})
    return render(head, sections, data, files=files)
