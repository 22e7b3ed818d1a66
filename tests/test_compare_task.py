"""``analyzer task=compare``: which runs it reads, what it leaves out, which one is the baseline, and what it ends with."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.errors import ConfigError, TraceError
from analyzer.progress import Reporter
from analyzer.report.comparison_files import FILES
from analyzer.schema.settings import CaptureSettings, Settings
from analyzer.tasks.compare import compare
from analyzer.tasks.outcome import Outcome
from tests.report.synthetic import Fake, write_run
from tests.test_cli import run


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two run directories, the same trace without its run, and a file that is no trace."""
    where = tmp_path_factory.mktemp("traces")
    for name in ("one", "two"):
        write_run(where / name, Fake())
    (trace,) = (where / "one").rglob("*.json.gz")
    shutil.copy(trace, where / "bare.json.gz")
    with gzip.open(where / "broken.json.gz", "wt") as stream:
        stream.write("not json")
    return where


def _compare(where: Path, out: Path, *names: str, **given: object) -> Outcome:
    runs = tuple(str(where / name) for name in names)
    settings = Settings("compare", (), CaptureSettings(), runs=runs, out=out)
    return compare(replace(settings, **given), Reporter(quiet=True))  # type: ignore[arg-type]


def _run_of(where: Path, name: str) -> str:
    """Return the path of the run directory that was written below ``where / name``."""
    return str(next((where / name).rglob("run.json")).parent.relative_to(where))


def test_runs_and_bare_traces_are_compared(traces: Path, tmp_path: Path) -> None:
    one, two = _run_of(traces, "one"), _run_of(traces, "two")
    done = _compare(traces, tmp_path / "out", one, two, "bare.json.gz")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*FILES, "index.html"}
    document = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert document == done.document
    assert len(document["runs"]) == 3
    assert done.lines[1] == document["headline"]
    assert document["baseline"] == document["runs"][0]["name"]
    assert any(line.startswith("Not measured: untraced times of 1 run") for line in done.lines)
    assert done.lines[-2].startswith(f"Report: {tmp_path / 'out' / 'index.html'}")
    assert done.exit_code == 0
    _compare(traces, tmp_path / "out", one, two)  # an older comparison is replaced


def test_an_unreadable_run_is_left_out_and_named(traces: Path, tmp_path: Path) -> None:
    one, two = _run_of(traces, "one"), _run_of(traces, "two")
    done = _compare(traces, tmp_path / "out", "broken.json.gz", one, two)
    assert len(done.document["runs"]) == 2
    assert done.document["caveats"][0]["text"].startswith("broken is left out")
    assert "Left out: 1 run that cannot be read" in done.lines
    with pytest.raises(ConfigError, match="1 of 2 runs can be read"):
        _compare(traces, tmp_path / "none", one, "broken.json.gz")
    assert not (tmp_path / "none").exists()


def test_a_run_given_twice_gets_a_number(traces: Path, tmp_path: Path) -> None:
    one = _run_of(traces, "one")
    names = [r["name"] for r in _compare(traces, tmp_path / "out", one, one).document["runs"]]
    assert names[1] == f"{names[0]}-2"


def test_the_baseline_is_a_path_a_name_or_a_further_run(traces: Path, tmp_path: Path) -> None:
    one, two = _run_of(traces, "one"), _run_of(traces, "two")
    runs = (one, "bare.json.gz")
    by_path = _compare(traces, tmp_path / "a", *runs, baseline=(str(traces / "bare.json.gz"),))
    by_name = _compare(traces, tmp_path / "b", *runs, baseline=("bare",))
    assert by_path.document["baseline"] == by_name.document["baseline"] == by_path.document["runs"][1]["name"]
    further = _compare(traces, tmp_path / "c", "bare.json.gz", one, baseline=(str(traces / two),))
    assert len(further.document["runs"]) == 3
    assert further.document["baseline"] == further.document["runs"][0]["name"]
    with pytest.raises(ConfigError, match="baseline=nobody is no run"):
        _compare(traces, tmp_path / "d", *runs, baseline=("nobody",))
    with pytest.raises(ConfigError, match="baseline= names 2 runs"):
        _compare(traces, tmp_path / "d", *runs, baseline=("a", "b"))
    with pytest.raises(TraceError):
        _compare(traces, tmp_path / "d", one, two, baseline=(str(traces / "broken.json.gz"),))


def test_one_run_is_refused(traces: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two runs"):
        _compare(traces, tmp_path / "out", _run_of(traces, "one"))
    with pytest.raises(ConfigError, match="runs= is missing"):
        _compare(traces, tmp_path / "out")


def test_a_dry_run_reads_and_writes_nothing(traces: Path, tmp_path: Path) -> None:
    done = _compare(traces, tmp_path / "out", "broken.json.gz", "bare.json.gz", dry_run=True)
    assert done.document == {
        "runs": [str(traces / "broken.json.gz"), str(traces / "bare.json.gz")],
        "baseline": None,  # which one that is takes reading them
    }
    assert "with the first whose trace has shapes and steps" in done.lines[0]
    assert not (tmp_path / "out").exists()


def test_the_directory_of_somebody_else_is_left_alone(traces: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        _compare(traces, tmp_path, _run_of(traces, "one"), _run_of(traces, "two"))
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


def test_the_command_prints_json_alone(traces: Path, tmp_path: Path) -> None:
    done = run("task=compare", f"runs={traces}/b*.json.gz", "baseline=bare", "json=true", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 of 2 runs can be read" in done.stderr
    assert "Traceback" not in done.stderr
    one, two = _run_of(traces, "one"), _run_of(traces, "two")
    done = run("task=compare", f"runs=[{traces / one},{traces / two},{traces}/b*.json.gz]", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 3
    (report,) = (tmp_path / "reports").iterdir()
    assert report.name.endswith("-compare-4-runs")


def test_the_public_traces_in_one_command(public_traces: Path, tmp_path: Path) -> None:
    found = sorted(str(path) for path in public_traces.glob("*.json.gz"))
    settings = Settings("compare", (), CaptureSettings(), runs=(str(public_traces / "*.json.gz"),), out=tmp_path / "out")
    done = compare(settings, Reporter(quiet=True))
    assert len(done.document["runs"]) == len(found)
    for device in ("V100", "RTX 2080 Ti", "A100", "H100", "B200", "MI300X"):
        assert device in done.lines[1]
