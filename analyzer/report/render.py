"""From a study to a directory: the page and the files beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from analyzer.report.blocks import Section
from analyzer.report.figures.theme import chips, variables
from analyzer.report.files import FILES, summary, write_files
from analyzer.report.sections import build
from analyzer.report.sections import kernels as kernel_section
from analyzer.report.sections.masthead import Masthead, masthead
from analyzer.schema.results import Study

__all__ = ["MAX_PAGE_BYTES", "PAGE_FILE", "page", "render", "summary", "write_report"]

MAX_PAGE_BYTES = 2_000_000
PAGE_FILE = "index.html"


def write_report(study: Study, directory: Path) -> None:
    """Write ``index.html``, ``summary.json``, ``kernels.csv`` and ``launches.csv.gz`` into ``directory``, which exists."""
    found = write_files(study, directory)
    (directory / PAGE_FILE).write_text(page(study, found), encoding="utf-8", errors="replace")


def page(study: Study, found: dict[str, Any] | None = None) -> str:
    """Return the page. ``found`` is the summary where it is there already.

    A page that would pass MAX_PAGE_BYTES loses rows of its kernel table; all of them are in kernels.csv.
    """
    sections = build(study)
    embedded = found if found is not None else summary(study)
    text = _render(study, sections, embedded)
    for rows in (kernel_section.OPEN_ROWS * 3, kernel_section.OPEN_ROWS):
        if len(text.encode("utf-8", "replace")) <= MAX_PAGE_BYTES:
            break
        shorter = kernel_section.section(study, rows)
        sections = tuple(shorter if section.id == shorter.id else section for section in sections)
        text = _render(study, sections, embedded)
    return text


def _render(study: Study, sections: tuple[Section, ...], found: dict[str, Any]) -> str:
    head = masthead(study, {section.id: section.short for section in sections})
    return render(head, sections, found, files=FILES, runs=len(study.analyses))


def render(
    head: Masthead, sections: tuple[Section, ...], found: dict[str, Any], *, files: tuple[str, ...], runs: int = 1
) -> str:
    """Return a page of ``sections`` under ``head``.

    Args:
        head: what stands above the sections.
        sections: in their order.
        found: plain JSON values to embed for programs.
        files: names of the files beside the page.
        runs: how many runs or models the tables tell apart.
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
        data=_json_block(found),
        svg=Markup,
        tied=_tied,
        whole=_whole,
        breakable=_breakable,
        runs=runs,
        files=files,
    )


def _tied(text: str) -> str:
    """Return ``text`` with no-break spaces between numbers and their units."""
    return re.sub(r"(?<=\d) (?=(?:%|ms|µs|s|x|px|GB/s|[GT]FLOP|MiB|GiB|[KMG]B|W)\b|%)", "\u00a0", text)


def _whole(text: str) -> Markup:
    """Return ``text`` with hyphenated names and numbers with their units kept on one line."""
    parts = re.split(r"(\d[\d.,]* (?:px|ms|µs|s)\b\S*|\S{1,24}-\S{1,24})", text)
    return Markup("").join(Markup('<span class="nb">{}</span>').format(p) if i % 2 else p for i, p in enumerate(parts))


def _breakable(text: str) -> Markup:
    """Return a name that may be broken behind its underscores."""
    return Markup(escape(text).replace("_", Markup("_<wbr>")))


def _asset(name: str) -> str:
    return (resources.files("analyzer.report") / "assets" / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Return a policy under which nothing is fetched and only our one script runs. SVG carries its style in attributes."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _json_block(found: dict[str, Any]) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(found, ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
