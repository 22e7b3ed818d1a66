"""The tables of docs/method.md are what the report's own method section says."""

from __future__ import annotations

import re

from analyzer.report.sections.method import COUNTER_FORMULAS, FORMULAS, approximations
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "method.md"


def tables() -> dict[str, str]:
    """Return the generated parts of the page by their names."""
    formulas = "".join(f"| {name} | {text} |\n" for name, text in (*FORMULAS, *COUNTER_FORMULAS))
    simple = "".join(f"| `{place}` | {text[:1].upper()}{text[1:]} |\n" for place, text in approximations())
    return {
        "formulas": f"| figure | formula |\n|---|---|\n{formulas}",
        "simplifications": f"| where | what is simplified |\n|---|---|\n{simple}",
    }


def written(page: str) -> str:
    """Return ``page`` with its generated parts as they should be."""
    for name, text in tables().items():
        mark = f"<!-- generated: {name} -->\n"
        assert mark in page
        page = re.sub(
            rf"{mark}.*?<!-- end -->", lambda _, m=mark, t=text: f"{m}{t}<!-- end -->", page, count=1, flags=re.DOTALL
        )  # type: ignore[misc]
    return page


def test_the_page_says_what_the_report_says() -> None:
    page = PAGE.read_text()
    assert page == written(page), "python -m tests.test_documented_method writes it anew"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
