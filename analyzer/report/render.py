"""From a study to a directory: the page and the files beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from analyzer.format import counted
from analyzer.report.blocks import Block, Figure, Folded, Section, Table
from analyzer.report.figures.theme import chips, variables
from analyzer.report.files import FILES, summary, write_files
from analyzer.report.origin import Origin
from analyzer.report.sections import build
from analyzer.report.sections import kernels as kernel_section
from analyzer.report.sections.masthead import Masthead, masthead
from analyzer.schema.results import Study

__all__ = ["MAX_PAGE_BYTES", "PAGE_FILE", "page", "render", "summary", "write_report"]

MAX_PAGE_BYTES = 2_000_000
MAX_EMBEDDED_BYTES = MAX_PAGE_BYTES // 2
PAGE_FILE = "index.html"
SHORTER = (60, 20)
"""Rows of a table on a page that would be too large, and on one that still is."""


def write_report(study: Study, directory: Path, command: tuple[str, ...] = ()) -> None:
    """Write ``index.html``, ``summary.json``, ``kernels.csv`` and ``launches.csv.gz`` into ``directory``, which exists.

    ``command`` is the command line that asked for it, without the paths of this machine.
    """
    found = write_files(study, directory)
    text = page(study, found, Origin(directory, command))
    (directory / PAGE_FILE).write_text(text, encoding="utf-8", errors="replace")


def page(study: Study, found: dict[str, Any] | None = None, origin: Origin | None = None) -> str:
    """Return the page. ``found`` is the summary where it is there already.

    A page that would pass MAX_PAGE_BYTES loses rows of its tables, the kernel table first, and says how many below each. A
    summary of more than MAX_EMBEDDED_BYTES is not embedded, so that the tables keep their rows, nor is one for which the
    shortest page has no room; it stands in summary.json all the same.
    """
    sections = build(study, origin)
    data = json_block(found if found is not None else summary(study))
    left_out = json_block({"left_out": "too long for this page; see summary.json"})
    if len(data) > MAX_EMBEDDED_BYTES:
        data = left_out
    text = _render(study, sections, data)
    for rows in SHORTER:
        if _fits(text):
            return text
        shorter = kernel_section.section(study, rows)
        sections = tuple(shorter if section.id == shorter.id else shorten(section, rows) for section in sections)
        text = _render(study, sections, data)
    return text if _fits(text) or data == left_out else _render(study, sections, left_out)


def _fits(text: str) -> bool:
    return len(text.encode("utf-8", "replace")) <= MAX_PAGE_BYTES


def _render(study: Study, sections: tuple[Section, ...], data: Markup) -> str:
    head = masthead(study, {section.id: section.short for section in sections})
    return render(head, sections, data, files=FILES)


def shorten(section: Section, rows: int) -> Section:
    """Return ``section`` with at most ``rows`` rows in each of its tables and a note on what is left out; sums stay."""
    return replace(section, blocks=tuple(_shorten_block(block, rows) for block in section.blocks))


def _shorten_block(block: Block, rows: int) -> Block:
    if isinstance(block, Table):
        return _shorten_table(block, rows)
    if isinstance(block, Figure) and block.table is not None:
        return replace(block, table=_shorten_table(block.table, rows))
    if isinstance(block, Folded):
        return replace(block, blocks=tuple(_shorten_table(table, rows) for table in block.blocks))
    return block


def _shorten_table(table: Table, rows: int) -> Table:
    body = [row for row in table.rows if not row.total]
    if len(body) <= rows or table.id.startswith("glossary"):
        return table
    kept = (*body[:rows], *(row for row in table.rows if row.total))
    note = f"{table.note} {counted(len(body) - rows, 'more row is', 'more rows are')} left out here to keep the page small."
    return replace(table, rows=kept, note=note.strip())


def render(head: Masthead, sections: tuple[Section, ...], data: Markup, *, files: tuple[str, ...]) -> str:
    """Return a page of ``sections`` under ``head``.

    Args:
        head: what stands above the sections.
        sections: in their order.
        data: JSON to embed for programs, from ``json_block``.
        files: names of the files beside the page.
    """
    style = _asset("style.css").replace("/*kinds*/", variables()) + chips()
    script = _asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_asset("page.html.j2"))
    return template.render(
        head=head,
        sections=sections,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(script),
        data=data,
        svg=Markup,
        tied=_tied,
        whole=_whole,
        breakable=_breakable,
        files=files,
    )


def _tied(text: str) -> str:
    """Return ``text`` with no-break spaces between numbers and their units."""
    return re.sub(r"(?<=\d) (?=(?:%|ms|µs|s|x|px|GB/s|[GT]FLOP|MiB|GiB|[KMG]B|W)\b|%)|(?<=≈) (?=\d)", "\u00a0", text)


def _whole(text: str) -> Markup:
    """Return ``text`` with hyphenated names and numbers with their units kept on one line."""
    parts = re.split(r"(\d[\d.,]* (?:px|ms|µs|s)\b\S*|\S{1,24}-\S{1,24})", text)
    return Markup("").join(Markup('<span class="nb">{}</span>').format(p) if i % 2 else p for i, p in enumerate(parts))


def _breakable(text: str) -> Markup:
    """Return a name that may be broken behind its underscores and slashes."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/])", text))


def _asset(name: str) -> str:
    return (resources.files("analyzer.report") / "assets" / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Return a policy under which nothing is fetched and only our one script runs. SVG carries its style in attributes."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def json_block(found: dict[str, Any]) -> Markup:
    """Return plain JSON values as JSON, in ASCII, that cannot end the script element it stands in."""
    text = json.dumps(found, ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
