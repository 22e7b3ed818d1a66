"""A reader of our own pages: ids, tables with the numbers behind their cells, references and text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Cell:
    text: str = ""
    value: float | None = None


@dataclass
class Page(HTMLParser):
    """What tests ask of a page, collected in one pass."""

    ids: list[str] = field(default_factory=list)
    tables: dict[str, list[list[Cell]]] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)
    headline: str = ""
    title: str = ""
    text: str = ""
    headings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._stack: list[str] = []
        self._table = ""
        self._cell: Cell | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.references += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        if tag == "table":
            self._table = str(found.get("id"))
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in ("th", "td") and self._table:
            value = found.get("data-value")
            self._cell = Cell(value=None if value is None else float(value))
            self.tables[self._table][-1].append(self._cell)
        elif tag == "script":
            self.scripts.append((found, ""))
        elif tag == "h2":
            self.headings.append("")
        if tag not in ("meta", "link", "input", "br"):
            self._stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._stack and self._stack.pop() != tag:
            pass
        if tag == "table":
            self._table = ""
        elif tag in ("th", "td"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        if "script" in self._stack:
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
            return
        if "style" in self._stack:
            return
        if self._cell is not None:
            self._cell.text = (self._cell.text + data).strip()
        if "h1" in self._stack:
            self.headline += data
        if "h2" in self._stack:
            self.headings[-1] += data
        if "title" in self._stack and "svg" not in self._stack:
            self.title += data
        self.text += data


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page
