"""The page of a comparison in a real browser: accessible in both themes, self-contained, sortable, printable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import digests
from analyzer.insight.comparison import compare_runs
from analyzer.report.comparison import write_comparison
from tests.report.comparisons import made_up, pairs
from tests.report.synthetic import Fake
from tests.report.test_browser import Opened, assert_accessible, assert_no_sideways_scroll
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.browser
NAMES = ("pairs", "many", "changes", "hostile")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("comparisons")
    four = pairs(root / "pairs")
    many = compare_runs([replace(four.runs[i % 4], label=f"model {i}", batch_size=i + 1) for i in range(14)])
    same = compare_runs(made_up(root / "same", Fake(), Fake(idle_us=9.0)))
    hostile = compare_runs(
        made_up(root / "hostile", Fake(names=HOSTILE, label=HOSTILE[0]), Fake(family="cnn", names=HOSTILE, label="w" * 300))
    )
    out = {}
    for name, found in zip(NAMES, (four, many, same, hostile), strict=True):
        out[name] = root / f"page-{name}"
        out[name].mkdir()
        write_comparison(found, out[name], ("analyzer", "task=compare"))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_and_nothing_logged(chromium: Any, pages: dict[str, Path], name: str) -> None:
    with Opened(chromium, pages[name]) as opened:
        opened.page.keyboard.press("e")
        opened.page.wait_for_timeout(100)
        assert opened.requests == [opened.url]
        assert not opened.messages
        assert opened.page.evaluate("window.pwned") is None
        assert_no_sideways_scroll(opened.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_no_accessibility_violations(chromium: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    with Opened(chromium, pages[name], color_scheme=scheme) as opened:
        opened.page.keyboard.press("e")
        assert_accessible(opened.page)


def test_tables_sort_and_filter(chromium: Any, pages: dict[str, Path]) -> None:
    with Opened(chromium, pages["many"]) as opened:
        page = opened.page
        table = page.locator("#times-table")
        table.locator('thead button:text-is("time")').click()
        values = [float(str(c.get_attribute("data-value"))) for c in table.locator("tbody tr td:nth-child(2)").all()]
        assert len(values) == 14
        assert values == sorted(values, reverse=True)
        page.locator("[data-for=times-table] [data-filter=text]").fill("model 13")
        assert table.locator("tbody tr:visible").count() == 1


def test_changes_filter_by_kind(chromium: Any, pages: dict[str, Path]) -> None:
    with Opened(chromium, pages["changes"]) as opened:
        page = opened.page
        page.locator("[data-for=changes-operator] [data-filter=kind]").select_option("matmul")
        rows = page.locator("#changes-operator tbody tr:visible")
        assert rows.count() == 1
        assert "addmm" in rows.first.inner_text() or "linear" in rows.first.inner_text()


def test_readable_without_scripts_and_in_print(chromium: Any, pages: dict[str, Path]) -> None:
    with Opened(chromium, pages["pairs"], java_script_enabled=False) as opened:
        assert opened.page.locator("svg[role=img]").count() == 4
        assert opened.page.locator("button:visible").count() == 0
    with Opened(chromium, pages["pairs"], color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.page.locator("#gap-table").count() == 1


def test_the_public_traces_are_accessible(chromium: Any, public_traces: Path, tmp_path: Path) -> None:
    write_comparison(compare_runs(tuple(digests(sorted(public_traces.glob("*.json.gz"))))), tmp_path)
    for scheme in ("light", "dark"):
        with Opened(chromium, tmp_path, color_scheme=scheme) as opened:
            opened.page.keyboard.press("e")
            assert_accessible(opened.page)
            assert_no_sideways_scroll(opened.page)
            assert opened.requests == [opened.url]
            assert not opened.messages
