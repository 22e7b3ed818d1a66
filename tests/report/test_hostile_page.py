"""A page of nothing but hostile texts: nothing runs, nothing is fetched, nothing is wider than the window."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.render import write_report
from tests.report.hostile import FORBIDDEN, TEXTS, write_hostile_run
from tests.report.synthetic import Fake
from tests.report.test_browser import Opened, assert_accessible, assert_no_sideways_scroll
from tests.report.test_page import check_page


@pytest.fixture(scope="module", params=[(kind, device) for kind in TEXTS for device in ("cuda", "cpu")], ids=str)
def hostile_report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, device = request.param
    root = tmp_path_factory.mktemp("hostile")
    fakes = (Fake(device=device, blocks=2), Fake(family="cnn", device=device, blocks=2))
    runs = [analyze(write_hostile_run(root, fake, TEXTS[kind])) for fake in fakes]
    out = root / "out"
    out.mkdir()
    write_report(compare(*runs), out, ("analyzer", "task=report", f"annotation={TEXTS[kind][:1000]}"))
    return out


def test_hostile_texts_stay_text(hostile_report: Path) -> None:
    html = (hostile_report / "index.html").read_bytes().decode()
    check_page(html)
    assert not FORBIDDEN & set(html)
    assert html.count("<script") == html.count("</script>") == 2
    assert "<img" not in html
    assert "{{" in html or "7*7" not in html
    assert max(map(len, re.findall(r"(?:long)+", html)), default=0) <= 1100


@pytest.mark.browser
def test_a_hostile_page_does_nothing(chromium: Any, hostile_report: Path) -> None:
    with Opened(chromium, hostile_report) as opened:
        dialogs: list[str] = []
        opened.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        opened.page.keyboard.press("e")
        opened.page.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
        opened.page.wait_for_timeout(50)
        assert not dialogs
        assert not opened.messages
        assert opened.requests == [opened.url]
        assert opened.page.evaluate("window.pwned") is None
        assert_no_sideways_scroll(opened.page)
        assert_accessible(opened.page)
