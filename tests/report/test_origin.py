"""What a page shows of where things lie: relative links below the working directory, nothing of what is above it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.origin import Origin, command_line, report_command, shown_path, trace_href
from analyzer.report.render import write_report
from analyzer.schema.results import Study
from analyzer.schema.run import Run
from tests.report.markup import read
from tests.report.synthetic import Fake, write_run


def bare(path: Path) -> Run:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return Run(name=path.stem, trace=path)


def test_a_link_leads_from_the_report_to_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = bare(tmp_path / "traces" / "a b:#?.json.gz")
    assert trace_href(run, Origin(Path("reports/x"))) == "../../traces/a%20b%3A%23%3F.json.gz"
    assert trace_href(bare(Path("javascript:alert(1).json")), Origin(Path())) == "javascript%3Aalert%281%29.json"


@pytest.mark.parametrize(("trace", "directory"), [("out/t.json", "in/r"), ("in/t.json", "out/r"), ("in/t.json", None)])
def test_no_link_leaves_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: str, directory: str | None
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    run = bare(tmp_path / trace)
    assert trace_href(run, Origin(tmp_path / directory if directory else None)) == ""


def test_no_link_names_a_host_or_follows_one_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    host = bare(Path("secret-host_12.1700000000000.pt.trace.json"))
    assert trace_href(host, Origin(Path("r"))) == ""
    assert shown_path(host) == "trace-1700000000000.pt.trace.json"
    outside = bare(tmp_path / "out" / "t.json")
    Path("link.json").symlink_to(outside.trace)
    assert trace_href(Run(name="l", trace=Path("link.json")), Origin(Path("r"))) == ""


@pytest.mark.parametrize("home", ["home", "Users", "root"])
def test_no_link_shows_a_home_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.chdir(tmp_path)
    run = bare(tmp_path / home / "alice" / "t.json")
    assert trace_href(run, Origin(tmp_path / "r")) == trace_href(run, Origin(tmp_path / home / "alice" / "r")) == ""
    assert trace_href(bare(tmp_path / "t.json"), Origin(tmp_path / home / "alice" / "r")) == ""
    assert shown_path(run) == "t.json"
    monkeypatch.chdir(tmp_path / home / "alice")
    assert trace_href(run, Origin(Path("r"))) == "../t.json"


def test_above_all_homes_only_names_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bare(tmp_path / "people" / "alice" / "t.json")
    origin = Origin(tmp_path / "people" / "alice" / "r")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "people" / "alice")
    for directory in (Path("/"), tmp_path, tmp_path / "people"):
        monkeypatch.chdir(directory)
        assert trace_href(run, origin) == ""
        assert shown_path(run) == "t.json"
        assert report_command((run,), origin) == "analyzer task=report runs=t.json"
    monkeypatch.chdir(tmp_path / "people" / "alice")
    assert trace_href(run, origin) == "../t.json"
    assert shown_path(run) == "t.json"


def test_the_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain, odd = bare(Path("t/a.json")), bare(Path('t/b=1,"2" $x.json'))
    assert report_command((plain,), Origin()) == "analyzer task=report runs=t/a.json"
    assert report_command((plain, plain), Origin()) == "analyzer task=report 'runs=[t/a.json,t/a.json]'"
    command = ("analyzer", "vit=deit", "steps=3-5", "json=true", "annotation='a b'")
    words = shlex.split(report_command((plain, odd), Origin(None, command)))
    assert words == ["analyzer", "task=report", r'runs=[t/a.json,"t/b=1,\"2\" $x.json"]', "steps=3-5", "annotation='a b'"]


def test_a_command_line_keeps_to_one_line() -> None:
    assert command_line(("analyzer", "a=\u202e$(x)\n", "k")) == "analyzer 'a=$(x)' k"
    assert len(command_line(("k" * 9000,))) <= 2000


def test_the_page_links_to_its_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = analyze(write_run(tmp_path / "traces", Fake(command=("analyzer", "vit=x y"))))
    second = analyze(first.run.trace)
    out = tmp_path / "reports" / "r"
    out.mkdir(parents=True)
    write_report(compare(first, second), out, ("analyzer", "task=report", "steps=1"))
    html = (out / "index.html").read_text()
    page = read(html)
    relative = f"../../{first.run.trace.relative_to(tmp_path).as_posix()}"
    assert page.references.count(relative) == 2
    assert (out / relative).resolve() == first.run.trace.resolve()
    assert "analyzer 'vit=x y'" in page.text
    folder = first.run.trace.parent.relative_to(tmp_path)
    assert f"analyzer task=report 'runs=[{folder},{folder}/{first.run.trace.name}]' steps=1" in page.text
    assert str(tmp_path) not in html


def test_a_page_of_unknown_origin_has_names_alone(gpu_single: Study, reports: dict[str, Path]) -> None:
    html = (reports["single"] / "index.html").read_text()
    (a,) = gpu_single.analyses
    assert a.run.trace_name in html
    assert str(a.run.trace.parent.parent) not in html
    bare_run = replace(a, run=Run(name="x", trace=a.run.trace))
    assert bare_run.run.facts is None
    assert report_command((bare_run.run,), Origin()) == f"analyzer task=report runs={a.run.trace_name}"
