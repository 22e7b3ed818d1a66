"""The runs in traces/reference are whole, real, small and readable, and the README's comparison of them works."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from statistics import median

import pytest

from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, Settings
from analyzer.tasks.compare import compare
from analyzer.tasks.inputs import expand_runs
from analyzer.tasks.profiling import report
from benchmarks import gallery
from benchmarks.evidence.identity import names_here
from benchmarks.evidence.promote import MOST_BYTES, RefusedError, accept
from tests.conftest import ROOT

REFERENCE = ROOT / "traces" / "reference"
RUNS = sorted(path.parent for path in REFERENCE.glob("*/*/run.json"))
FILES = {"run.json", "trace.pt.trace.json.gz", "timings.csv", "samples.csv"}
MOST_CPU_BYTES = 6_000_000
PAIR = (REFERENCE / "amd_epyc" / "vit_tiny-224-b1-float32", REFERENCE / "amd_epyc" / "resnet18-224-b1-float32")
quiet = Reporter(quiet=True)


def untraced_ms(run: Path) -> float:
    """Return the median of the untraced iterations, read without the analyzer."""
    with (run / "timings.csv").open(encoding="utf-8", newline="") as file:
        return median(float(row["latency_ms"]) for row in csv.DictReader(file) if row["pass"] == "untraced")


def named(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"


def test_there_is_a_pair() -> None:
    assert {*PAIR} <= {*RUNS}


@pytest.mark.parametrize("run", RUNS, ids=named)
def test_a_run_is_whole_and_of_a_device(run: Path) -> None:
    files = {path.name for path in run.iterdir()}
    assert files >= FILES
    assert files & {"ops.json.gz", "compiled.json.gz"}
    accepted = accept(run, names_here())
    assert accepted.key == run.parent.name
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert facts["versions"]["torch"]
    assert facts["device"]["name"]
    assert {"warmup", "untraced", "traced"} <= {each["name"] for each in facts["passes"]}
    assert not facts["model"].get("factory")


def test_nothing_else_stands_there_and_all_of_it_is_small() -> None:
    files = [path for path in REFERENCE.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == {REFERENCE, *RUNS}
    assert [path.name for path in REFERENCE.iterdir() if path.is_file()] == ["README.md"]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert sum(path.stat().st_size for path in (REFERENCE / "amd_epyc").rglob("*") if path.is_file()) <= MOST_CPU_BYTES


def test_the_page_beside_them_names_every_run() -> None:
    text = (REFERENCE / "README.md").read_text(encoding="utf-8")
    assert [run.name for run in RUNS if run.name not in text] == []


@pytest.mark.parametrize("file", ["run.json", "samples.csv"])
def test_a_run_with_the_name_of_a_host_may_not_stand_there(file: str, tmp_path: Path) -> None:
    copy = shutil.copytree(PAIR[0], tmp_path / PAIR[0].name)
    text = (copy / file).read_text(encoding="utf-8")
    (copy / file).write_text(text.replace("2.13.0", "rack17-blade") if file == "run.json" else f"{text}rack17-blade\n", "utf-8")
    with pytest.raises(RefusedError):
        accept(copy, names_here(host="rack17-blade", user="", home="/", environment={}))


def test_a_directory_of_runs_stands_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [ROOT / run for run in expand_runs(("traces/reference/*",))] == RUNS
    assert [ROOT / run for run in expand_runs(("traces/reference/*/*",))] == RUNS
    assert expand_runs((str(REFERENCE / "amd_epyc"),)) == [run for run in RUNS if run.parent.name == "amd_epyc"]
    assert expand_runs((str(PAIR[0]),)) == [PAIR[0]]
    (tmp_path / "empty").mkdir()
    assert expand_runs((str(tmp_path / "empty"),)) == [tmp_path / "empty"]  # whoever reads it says that it is no run


def test_the_comparison_that_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = Settings("compare", (), CaptureSettings(), runs=("traces/reference/*",), out=tmp_path / "out")
    done = compare(settings, quiet)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    times = {run["name"]: run["time_ms"] for run in found["runs"]}
    assert set(times) == {run.name for run in RUNS}
    for run in RUNS:
        assert times[run.name]["value"] == pytest.approx(untraced_ms(run))
        assert times[run.name]["evidence"] == "measured"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "AMD EPYC" in page
    assert "ViT-Ti/16" in page
    assert "<script src" not in page


def test_a_report_of_the_pair(tmp_path: Path) -> None:
    settings = Settings("report", (), CaptureSettings(), runs=tuple(map(str, PAIR)), out=tmp_path / "out")
    assert report(settings, quiet).exit_code == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert found["ratio"]["value"] == pytest.approx(untraced_ms(PAIR[0]) / untraced_ms(PAIR[1]))
    parts = sum(part["delta_us"] for part in found["gap"]["parts"])
    assert parts == pytest.approx(1e3 * (untraced_ms(PAIR[0]) - untraced_ms(PAIR[1])))
    assert (tmp_path / "out" / "kernels.csv").stat().st_size > 1000


def test_the_sample_report_is_what_its_runs_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = tuple(f"traces/reference/{name}" for name in gallery.PAIR)
    report(Settings("report", (), CaptureSettings(), runs=runs, out=tmp_path / "out"), quiet)
    kept = {path.name for path in (ROOT / "reports" / "sample").iterdir()}
    assert kept == {path.name for path in (tmp_path / "out").iterdir()}
    for name in kept - {"index.html", "launches.csv.gz"}:
        assert (tmp_path / "out" / name).read_bytes() == (ROOT / "reports" / "sample" / name).read_bytes(), (
            f"reports/sample/{name} is not what {' and '.join(runs)} give: python -m benchmarks.gallery"
        )
