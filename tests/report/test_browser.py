"""The page in a real browser: nothing fetched, nothing logged, accessible, usable by keyboard, readable without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.render import write_report
from analyzer.schema.results import Study
from tests.report.conftest import make_study
from tests.report.markup import read
from tests.report.synthetic import Fake
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.browser


class Opened:
    """A page with what it fetched and logged."""

    def __init__(self, browser: Any, directory: Path, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.url = (directory / "index.html").as_uri()
        self.page.goto(self.url)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def rows(self) -> list[str]:
        return list(self.page.locator("#kernel-table tbody tr:visible th summary").all_inner_texts())


@pytest.mark.parametrize("name", ["gpu", "cpu", "single"])
def test_nothing_is_fetched_and_nothing_logged(chromium: Any, reports: dict[str, Path], name: str) -> None:
    with Opened(chromium, reports[name]) as opened:
        opened.page.keyboard.press("e")
        opened.page.wait_for_timeout(100)
        assert opened.requests == [opened.url]
        assert not opened.messages
        assert_no_sideways_scroll(opened.page)


def assert_no_sideways_scroll(page: Any) -> None:
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["gpu", "cpu", "single"])
def test_no_accessibility_violations(chromium: Any, reports: dict[str, Path], name: str, scheme: str) -> None:
    with Opened(chromium, reports[name], color_scheme=scheme) as opened:
        opened.page.keyboard.press("e")
        assert_accessible(opened.page)


def test_the_h100_page_is_accessible(chromium: Any, public_traces: Path, tmp_path: Path) -> None:
    write_report(compare(analyze(public_traces / "tracelens_h100_vit_nsfw_infer.json.gz")), tmp_path)
    for scheme in ("light", "dark"):
        with Opened(chromium, tmp_path, color_scheme=scheme) as opened:
            assert_accessible(opened.page)
            assert opened.requests == [opened.url]
            assert not opened.messages


def assert_accessible(page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert not found, [(v["id"], [n["html"][:160] for n in v["nodes"]][:3]) for v in found]


def test_sorting_by_button(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        table = page.locator("#kernel-table")
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
        column = 'thead tr:last-child th:has(button:text-is("mean"))'
        table.locator(f"{column} button").focus()
        page.keyboard.press("Enter")
        values = [float(c.get_attribute("data-value")) for c in table.locator("tbody tr td:nth-child(8)").all()]
        assert values == sorted(values, reverse=True)
        table.locator(f"{column} button").click()
        assert table.locator(column).get_attribute("aria-sort") == "ascending"
        assert table.locator("th[aria-sort]").count() == 1
        values = [float(c.get_attribute("data-value")) for c in table.locator("tbody tr td:nth-child(8)").all()]
        assert values == sorted(values)
        table.locator('thead button:text-is("rate")').click()
        last = table.locator("tbody tr:last-child td:nth-child(11)")
        assert last.inner_text() == "n/a"


def test_filters(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        everything = len(opened.rows())
        assert everything == 8
        page.locator("[data-for=kernel-table] [data-filter=text]").fill("ELEMENTWISE")
        assert len(opened.rows()) == 2
        page.locator("[data-for=kernel-table] [data-filter=run]").select_option("ViT-B/16")
        assert len(opened.rows()) == 1
        assert page.locator("[data-for=kernel-table] output").inner_text() == "1 of 8 rows"
        page.locator("[data-for=kernel-table] [data-filter=text]").fill("")
        page.locator("[data-for=kernel-table] [data-filter=run]").select_option("")
        page.locator("[data-for=kernel-table] [data-filter=kind]").select_option("convolution")
        assert len(opened.rows()) == 1


def test_the_rest_is_folded(chromium: Any, tmp_path: Path) -> None:
    names = [f"kernel_{i}" for i in range(4)]
    (a,) = make_study(tmp_path, Fake(names=names)).analyses
    out = tmp_path / "out"
    out.mkdir()
    write_report(compare(*(a,) * 6), out)
    with Opened(chromium, out) as opened:
        assert len(opened.rows()) == 20
        button = opened.page.locator("[data-for=kernel-table] [data-action=fold]")
        button.click()
        assert len(opened.rows()) == 24
        button.click()
        assert len(opened.rows()) == 20


def test_every_longer_table_can_be_sorted_and_filtered(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        page.keyboard.press("e")
        tables = page.locator("main table").all()
        assert len(tables) > 15
        for table in tables:
            name, rows = table.get_attribute("id"), table.locator("tbody tr").count()
            bar = page.locator(f"[data-for={name}]")
            assert bar.count() == (rows > 6 or "many" in (table.get_attribute("class") or ""))
            if not bar.count():
                continue
            bar.locator("[data-filter=text]").fill("no such text")
            assert table.locator("tbody tr:visible").count() == 0
            assert bar.locator("output").inner_text() == f"No row matches; 0 of {rows} rows"
            bar.locator("[data-filter=text]").fill("")
            assert bar.locator("output").inner_text().endswith(f"of {rows} rows")
            heads = table.locator("thead tr:last-child th")
            assert heads.locator("button").count() == (
                0 if "filterable" in str(table.get_attribute("class")) else heads.count()
            )
        assert not opened.messages


def test_sorting_knows_signs_spaces_and_what_is_absent(chromium: Any, reports: dict[str, Path], tmp_path: Path) -> None:
    texts = ["≈ 3", "n/a", "−12.5", "+0.5", "1\u202f234", "–", "10"]
    rows = "".join(f"<tr><th>item {10 - i}</th><td class='num'>{text}</td></tr>" for i, text in enumerate(texts))
    table = (
        "<div class='filters' data-for='t' hidden><label>Find <input type='search' data-filter='text'></label><output></output>"
        "</div><div><table id='t' class='sortable'><thead><tr><th><span class='head'>name</span></th>"
        f"<th class='num'><span class='head'>x</span></th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    html = (reports["single"] / "index.html").read_text()
    start, end = html.index('<main id="main"'), html.index("</main>")
    (tmp_path / "index.html").write_text(html[:start] + f"<main>{table}" + html[end:])
    with Opened(chromium, tmp_path) as opened:
        opened.page.locator("#t thead button").last.click()
        found = opened.page.locator("#t td").all_inner_texts()
        assert found == ["1\u202f234", "10", "≈ 3", "+0.5", "−12.5", "n/a", "–"]
        opened.page.locator("#t thead button").last.click()
        assert opened.page.locator("#t td").all_inner_texts() == ["−12.5", "+0.5", "≈ 3", "10", "1\u202f234", "n/a", "–"]
        opened.page.locator("#t thead button").first.click()
        assert opened.page.locator("#t tbody th").all_inner_texts() == [f"item {i}" for i in range(4, 11)]


def test_sorting_keeps_each_row_whole(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        rows = page.locator("#kernel-table tbody tr")
        page.evaluate("document.querySelectorAll('#kernel-table details').forEach((item) => { item.open = true; })")
        before = rows.evaluate_all("(rows) => rows.map((row) => row.textContent)")
        page.locator('#kernel-table thead button:text-is("calls")').click()
        page.locator('#kernel-table thead button:text-is("operator · kernel")').click()
        after = rows.evaluate_all("(rows) => rows.map((row) => row.textContent)")
        assert before != after
        assert sorted(before) == sorted(after)
        assert page.locator("#kernel-table details[open]").count() == len(before)


def test_a_filter_hides_sums_of_all_rows(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        page.keyboard.press("e")
        assert page.locator("#time-table tfoot tr").is_visible()
        page.locator("[data-for=time-table] [data-filter=text]").fill("attention")
        assert not page.locator("#time-table tfoot tr").is_visible()
        page.locator("[data-for=time-table] [data-filter=text]").fill("")
        assert page.locator("#time-table tfoot tr").is_visible()


def test_the_slash_key_finds(chromium: Any, reports: dict[str, Path]) -> None:
    field = "document.activeElement.matches('[data-filter=text]') && document.activeElement.closest('.filters').dataset.for"
    with Opened(chromium, reports["gpu"], reduced_motion="reduce") as opened:
        page = opened.page
        page.evaluate("document.getElementById('kernels').scrollIntoView()")
        page.keyboard.press("/")
        assert page.evaluate(field) == "kernel-table"
        page.keyboard.type("elementwise j/k")
        assert page.locator("#kernel-table tbody tr:visible").count() == 0
        for _ in " j/k":
            page.keyboard.press("Backspace")
        found = page.locator("#kernel-table tbody tr:visible").count()
        assert found == 2
        page.keyboard.press("Escape")
        assert page.evaluate(field) is False
        assert page.locator("#kernel-table tbody tr:visible").count() == found
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#kernel-table') !== null")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.evaluate("document.getElementById('method').scrollIntoView()")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.closest('section').id") == "method"
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        assert page.locator("#keys dt", has_text="/").count() == 1


def test_theme_is_kept(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"], color_scheme="light") as opened:
        page = opened.page
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.keyboard.press("t")
        dark = page.evaluate(background)
        assert dark != light
        page.wait_for_timeout(500)  # the browser writes its storage a moment later
        page.reload()
        assert page.evaluate(background) == dark
        page.get_by_role("button", name="Theme").click()
        assert page.evaluate(background) == light


def test_keys(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        focused = "document.activeElement.id"
        page.keyboard.press("j")
        assert page.evaluate(focused) == "gap-title"
        page.wait_for_timeout(700)
        page.keyboard.press("j")
        assert page.evaluate(focused) == "time-title"
        page.wait_for_timeout(700)
        page.keyboard.press("k")
        assert page.evaluate(focused) == "gap-title"
        page.keyboard.press("e")
        assert page.locator("details.numbers:not([open])").count() == 0
        page.keyboard.press("e")
        assert page.locator("details.numbers[open]").count() == 0
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#keys").is_visible()
        page.locator("[data-for=kernel-table] [data-filter=text]").fill("jt?")
        assert page.locator("[data-for=kernel-table] [data-filter=text]").input_value() == "jt?"
        assert page.evaluate("document.documentElement.dataset.theme") is None


def test_readable_without_scripts(chromium: Any, reports: dict[str, Path], gpu_pair: Study) -> None:
    with Opened(chromium, reports["gpu"], java_script_enabled=False) as opened:
        page = opened.page
        assert page.locator("h1").inner_text() == gpu_pair.verdict.headline
        assert page.locator("svg[role=img]").count() >= 6
        assert len(opened.rows()) == sum(len(a.kernels) for a in gpu_pair.analyses)
        assert page.locator("button:visible").count() == 0
        details = page.locator("#fig2 details.numbers summary")
        details.click()
        assert page.locator("#time-table").is_visible()


def test_all_rows_and_columns_are_there_without_scripts(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"], java_script_enabled=False) as opened:
        page = opened.page
        html = (reports["gpu"] / "index.html").read_text()
        for name, rows in read(html).tables.items():
            assert page.locator(f"#{name} tr").count() == len(rows)
        assert page.locator("#kernel-table tbody tr:visible").count() == page.locator("#kernel-table tbody tr").count()
        assert page.locator(".filters:visible").count() == 0
        assert "analyzer task=report" in page.locator("#method").inner_text()


def test_print_says_how_many_rows_it_shows(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"], color_scheme="dark") as opened:
        page = opened.page
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        bar = page.locator("[data-for=kernel-table]")
        assert not bar.is_visible()
        page.locator("[data-for=kernel-table] [data-filter=text]").evaluate(
            "(field) => { field.value = 'elementwise'; field.dispatchEvent(new Event('input')); }"
        )
        assert bar.locator("output").is_visible()
        assert bar.locator("output").inner_text() == "2 of 8 rows"
        assert not bar.locator("input").is_visible()
        assert page.locator("#kernel-table tbody tr:visible").count() == 2


def test_print_opens_the_details(chromium: Any, reports: dict[str, Path]) -> None:
    with Opened(chromium, reports["gpu"]) as opened:
        page = opened.page
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details.numbers:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.numbers:not([open])").count() > 0


def test_hostile_names_never_run(chromium: Any, tmp_path: Path) -> None:
    found = make_study(tmp_path, Fake(names=HOSTILE, label=HOSTILE[0]), Fake(family="cnn", names=HOSTILE, label="w" * 300))
    out = tmp_path / "out"
    out.mkdir()
    write_report(found, out)
    with Opened(chromium, out) as opened:
        opened.page.keyboard.press("e")
        assert opened.page.evaluate("window.pwned") is None
        assert not opened.messages
        assert opened.requests == [opened.url]
        assert_no_sideways_scroll(opened.page)
