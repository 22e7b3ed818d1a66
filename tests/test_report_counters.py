"""``task=report`` with files of hardware counters: whose they are, what the last lines say, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analyzer.analysis import analyze
from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, Settings
from analyzer.tasks import profiling
from analyzer.tasks.inputs import expand_runs, is_counter_file
from analyzer.tasks.outcome import Outcome
from analyzer.trace.rundir import COUNTERS_FILE
from tests.report.synthetic import Fake, write_run
from tests.trace.counter_files import Row, counted, raw_page, write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path, Fake())


def counters_of(run: Path, path: Path, change: Callable[[list[Row]], list[Row]] = list) -> Path:
    """Write what ``ncu`` could have counted of one step of ``run``: 3 MB from DRAM and 1 MB to it for each kernel."""
    launches = analyze(run).launches
    rows = counted(launches[launches["step"] == launches["step"].max()])
    metrics = {
        "gpu__time_duration.sum": 50_000.0, "dram__bytes_read.sum": 3e6, "dram__bytes_write.sum": 1e6, "dram__bytes.sum": 4e6,
        "sm__warps_active.avg.pct_of_peak_sustained_active": 10.0,
    }  # fmt: skip
    made = [Row(row.id, row.kernel, metrics, row.grid, row.block, row.process, row.device, row.capability) for row in rows]
    return write(path, raw_page(change(made)))


def report(out: Path, *runs: Path, counters: Path | None = None) -> Outcome:
    settings = Settings(
        "report", (), CaptureSettings(counters="none"), runs=tuple(map(str, runs)), counter_file=counters, out=out
    )
    return profiling.report(settings, Reporter(quiet=True))


def test_counters_of_one_step_are_those_of_every_step(run: Path, tmp_path: Path) -> None:
    file = counters_of(run, tmp_path / "c.csv")
    outcome = report(tmp_path / "out", run, counters=file)
    (line,) = [text for text in outcome.lines if text.startswith("Counters")]
    assert line.startswith("Counters: 72 of 72 kernels, 100 % of the kernel time")
    (missing,) = [text for text in outcome.not_measured if "counters" in text]
    assert missing.startswith("cache hits and tensor-pipe use: not in the counters of this run")
    kernels = pd.read_csv(tmp_path / "out" / "kernels.csv")
    assert kernels["bytes_dram_counter"].tolist() == pytest.approx([4e6 * calls for calls in kernels["calls"]])
    assert set(kernels["occupancy_achieved_pct"]) == {10.0}
    assert (kernels["bytes_dram_low"].notna() & kernels["bytes_dram_counter"].notna()).any(), "both stay visible"
    html = (tmp_path / "out" / "index.html").read_text().replace("\u00a0", " ")
    assert 'id="counters"' in html
    assert f"{4e6 * 24 / 2**20:.1f} MiB per step" in html
    assert outcome.document["runs"][0]["counters"]["source"] == "c.csv"


def test_counters_in_the_run_directory_are_found(run: Path, tmp_path: Path) -> None:
    counters_of(run, run / COUNTERS_FILE)
    outcome = report(tmp_path / "out", run)
    assert any(text.startswith("Counters: 72 of 72 kernels") for text in outcome.lines)


def test_times_are_those_without_counters(run: Path, tmp_path: Path) -> None:
    report(tmp_path / "plain", run)
    report(tmp_path / "counted", run, counters=counters_of(run, tmp_path / "c.csv"))
    plain, with_them = (pd.read_csv(tmp_path / name / "kernels.csv") for name in ("plain", "counted"))
    for column in ("kernel", "calls", "time_us", "flop", "bytes_compulsory", "bytes_dram_low", "bytes_dram_high"):
        assert plain[column].equals(with_them[column])
    assert plain["bytes_dram_counter"].isna().all()


def test_each_of_several_runs_has_a_line_of_its_own(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path, Fake(family="cnn"))
    counters_of(run, run / COUNTERS_FILE)
    outcome = report(tmp_path / "out", run, other)
    assert [text.split(":")[0] for text in outcome.lines if text.startswith("Counters")] == ["Counters of ViT-B/16"]
    (missing,) = [text for text in outcome.not_measured if "DRAM bytes" in text]
    assert missing.startswith("ConvNeXt-B: ")


def test_counters_of_another_program_are_refused(run: Path, tmp_path: Path) -> None:
    file = counters_of(run, tmp_path / "c.csv", lambda rows: [Row(n, "other_kernel", r.values) for n, r in enumerate(rows)])
    outcome = report(tmp_path / "out", run, counters=file)
    assert not [text for text in outcome.lines if text.startswith("Counters")]
    (missing,) = [text for text in outcome.not_measured if "hardware counters" in text]
    assert "The counters of c.csv are refused" in missing
    assert pd.read_csv(tmp_path / "out" / "kernels.csv")["bytes_dram_counter"].isna().all()


def test_a_named_file_belongs_to_one_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"counters=c\.csv belongs to one run, and runs= names 2") as error:
        report(tmp_path / "out", run, run, counters=tmp_path / "c.csv")
    assert "NAME.counters.csv" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_a_table_is_no_run(run: Path, tmp_path: Path) -> None:
    file = counters_of(run, tmp_path / "c.csv")
    with pytest.raises(ConfigError, match=r"runs= names traces and c\.csv") as error:
        report(tmp_path / "out", run, file)
    assert error.value.hint == "the counters of one trace: runs=TRACE counters=c.csv"


def test_tables_alone_are_validated(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(profiling, "validate", lambda settings, _: seen.append(settings.runs) or Outcome([], {}))
    file = counters_of(run, tmp_path / "c.csv")
    report(tmp_path / "out", file)
    assert seen == [(str(file),)]


def test_a_glob_of_traces_leaves_out_the_counters_beside_them(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    shutil.copy(run / "trace.pt.trace.json.gz", folder / "a.json.gz")
    for name in ("a.counters.csv", "b.csv.gz", "note.txt"):
        (folder / name).write_text("ID\n")
    assert expand_runs((f"{folder}/*",)) == [folder / "a.json.gz"]
    assert expand_runs((f"{folder}/*.csv*",)) == [folder / "a.counters.csv", folder / "b.csv.gz"]
    with pytest.raises(ConfigError, match="no run or trace matches"):
        expand_runs((f"{folder}/*.txt",))
    assert not is_counter_file(run)
