"""The page says what the summary says, for every kind of study, and survives hostile names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from analyzer import format as fmt
from analyzer.analysis import analyze, compare
from analyzer.report.render import MAX_PAGE_BYTES, page, summary, write_report
from analyzer.report.sections.method import MARK, PERFETTO, approximations
from analyzer.schema.results import Study
from tests.conftest import PUBLIC_TRACES, ROOT
from tests.report.conftest import make_study
from tests.report.markup import read
from tests.report.synthetic import Fake

TRACES = sorted(PUBLIC_TRACES.glob("*.json.gz")) if PUBLIC_TRACES.is_dir() else []
REMOTE = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
HOSTILE = [
    "</script><script>window.pwned=1</script>",
    '<img src=x onerror="window.pwned=1">\'"&amp;',
    "$\\frac{1}{0}$ \u202egnp.exe \u200b\x1b[31m\x00 {{ 7*7 }}",
    "k" * 100_000,
]


def check_page(html: str) -> None:
    """Check what holds for every page."""
    found = read(html)
    assert len(html.encode()) < MAX_PAGE_BYTES
    assert len(found.ids) == len(set(found.ids)), sorted(i for i in found.ids if found.ids.count(i) > 1)
    assert not found.handlers
    assert {r for r in found.references if REMOTE.match(r)} <= {PERFETTO}, "only a link to the trace viewer leads out"
    assert f'href="{PERFETTO}"' in html or PERFETTO not in found.references
    targets = [r[1:] for r in found.references if r.startswith("#")]
    assert set(targets) <= set(found.ids)
    assert [attrs.get("src") for attrs, _ in found.scripts] == [None, None]
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert len(svg.encode()) < 150_000
        assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that the theme cannot change"
        assert 'role="img"' in svg
        assert "<title" in svg
        assert "<desc" in svg
        assert "<metadata" not in svg
    assert "nan" not in found.text.lower().split()
    assert found.title == found.headline


@pytest.mark.parametrize("name", ["gpu", "cpu", "single"])
def test_page_agrees_with_the_summary(reports: dict[str, Path], request: pytest.FixtureRequest, name: str) -> None:
    of = {"gpu": "gpu_pair", "cpu": "cpu_pair", "single": "gpu_single"}[name]
    html = (reports[name] / "index.html").read_text()
    told = json.loads((reports[name] / "summary.json").read_text())
    check_page(html)
    found = read(html)
    verdict = request.getfixturevalue(of).verdict
    assert found.headline == told["headline"] == verdict.headline
    assert told["reason"] == verdict.reason
    assert verdict.reason in found.text
    embedded = next(text for attrs, text in found.scripts if attrs.get("id") == "summary")
    assert json.loads(embedded) == told
    for run in told["runs"]:
        assert f"{fmt.digits(run['latency_ms']['median'])} ms" in found.text
        for kind in run["kinds"]:
            row = next(r for r in found.tables["time-table"] if r and r[0].text == kind["kind"])
            values = [cell.value for cell in row[1:]]
            assert any(v == pytest.approx(kind["time_us"] / run["steps"] / 1e3) for v in values if v is not None)


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_gap_table_adds_up(reports: dict[str, Path], name: str) -> None:
    gap = json.loads((reports[name] / "summary.json").read_text())["gap"]
    rows = read((reports[name] / "index.html").read_text()).tables["gap-table"][1:]
    parts, total = rows[:-1], rows[-1]
    assert len(parts) == len(gap["parts"])
    for column, key in ((3, "first_us"), (4, "second_us"), (5, "delta_us")):
        expected = gap["total_us" if key == "delta_us" else key] / 1e3
        assert total[column].value == pytest.approx(expected)
        assert sum(row[column].value or 0.0 for row in parts) == pytest.approx(expected)
        for row, part in zip(parts, gap["parts"], strict=True):
            assert row[column].value == pytest.approx(part[key] / 1e3)
            number = row[column].text.removeprefix(fmt.APPROXIMATELY)
            assert number == (fmt.fixed_signed if key == "delta_us" else fmt.fixed)(part[key] / 1e3, 3)
            assert row[column].text.startswith(fmt.APPROXIMATELY) == (part["evidence"] == "modelled")
            assert part["evidence"] in row[7].text


def test_kernel_table_shows_the_rows_of_kernels_csv(reports: dict[str, Path], gpu_pair: Study) -> None:
    rows = read((reports["gpu"] / "index.html").read_text()).tables["kernel-table"][2:]
    expected = sorted(
        (ms for a in gpu_pair.analyses for ms in a.kernels["time_us"] / 1e3 / (a.window.steps or 1)), reverse=True
    )
    assert [row[3].value for row in rows] == pytest.approx(expected)
    unknown = next(row for row in rows if "made_up_operator" in row[0].text)
    assert unknown[8].text == fmt.MISSING
    assert unknown[8].value is None


def test_sections_follow_the_study(reports: dict[str, Path]) -> None:
    pair, single = (read((reports[name] / "index.html").read_text()) for name in ("gpu", "single"))
    order = ["gap", "time", "busy", "roofline", "kernels", "steady", "method"]
    assert [i for i in pair.ids if i in order] == order
    assert [i for i in single.ids if i in order] == order[1:]
    for table in ("passes-table", "environment-table", "limits-table", "glossary", "glossary-samples"):
        assert table in pair.tables
    facts = [row[0].text for row in pair.tables["environment-table"][1:]]
    assert facts[0].startswith("≠")
    assert not any(fact.startswith("≠") for fact in facts[len([f for f in facts if f.startswith("≠")]) :])


def test_six_runs_fit_on_a_page(gpu_pair: Study) -> None:
    a, b = gpu_pair.analyses
    html = page(compare(a, b, a, b, a, b))
    check_page(html)
    assert 'id="gap"' not in html
    assert "fig10-3" in html


def test_every_admitted_approximation_is_listed(reports: dict[str, Path]) -> None:
    files = [f for f in (ROOT / "analyzer").glob("*/**/*.py") if not {"report", "capture"} & set(f.parts)]
    admitted = sum(f.read_text().count(MARK) for f in files)
    assert admitted == len(approximations()) > 0
    text = read((reports["gpu"] / "index.html").read_text()).text
    for _, sentence in approximations():
        assert sentence in text


@pytest.mark.parametrize("path", TRACES, ids=[p.name.split(".")[0] for p in TRACES])
def test_every_public_trace_gives_a_page(path: Path, tmp_path: Path) -> None:
    found = compare(analyze(path))
    write_report(found, tmp_path)
    html = (tmp_path / "index.html").read_text()
    check_page(html)
    assert read(html).headline == found.verdict.headline == json.loads((tmp_path / "summary.json").read_text())["headline"]


def test_two_public_traces_are_compared(public_traces: Path) -> None:
    names = ("tracelens_h100_vit_nsfw_infer.json.gz", "tracelens_mi300_vit_nsfw_infer.json.gz")
    html = page(compare(*(analyze(public_traces / name) for name in names)))
    check_page(html)
    assert 'id="gap"' in html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    label = "<b>ViT</b>\u202e</script>"
    found = make_study(tmp_path, Fake(names=HOSTILE, label=label), Fake(family="cnn", names=HOSTILE))
    html = page(found)
    check_page(html)
    assert "<script>window.pwned" not in html
    assert "<img" not in html
    assert "<b>ViT" not in html
    assert not set("\u202e\u200b\x00\x1b") & set(html)
    assert "49" not in re.findall(r"gnp\.exe.{0,40}", html)[0]
    assert "k" * 2000 not in html
    out = tmp_path / "out"
    out.mkdir()
    write_report(found, out)
    assert summary(found)["runs"][0]["label"] == "<b>ViT</b></script>"
