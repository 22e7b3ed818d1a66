"""``task=perfetto``: the files, what the terminal and programs are told, and what is refused."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch_tb_profiler.profiler.data import RunProfileData

from analyzer.errors import ConfigError, TraceError
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, Selection, Settings
from analyzer.tasks.outcome import Outcome
from analyzer.tasks.perfetto import perfetto
from tests import traces
from tests.report.synthetic import Fake, write_run
from tests.report.trace_format import faults, load

GPU = "a.perfetto.json.gz"


def run(*runs: Path | str, **more: Any) -> Outcome:
    settings = Settings(task="perfetto", models=(), capture=CaptureSettings(), runs=tuple(map(str, runs)), **more)
    return perfetto(settings, Reporter(quiet=True))


def bare(folder: Path, name: str = "a.json", events: list[dict[str, Any]] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    return traces.write(folder / name, traces.document(traces.gpu_step() if events is None else events))


def test_the_terminal_names_the_file_and_what_is_not_in_it(tmp_path: Path) -> None:
    outcome = run(bare(tmp_path / "in"), out=tmp_path / "out")
    path = tmp_path / "out" / GPU
    assert outcome.lines[0] == ""
    assert outcome.lines[1].startswith(f"Annotated trace: {path} (")
    assert "; 11 events of the trace, 3 with findings, 26 added)" in outcome.lines[1]
    assert outcome.lines[2] == "  Not in it: memory curve: the trace has no memory events; record with profile_memory=True"
    assert outcome.lines[-2].startswith("Next: open https://ui.perfetto.dev and drag a file onto the page")
    assert "the file stays here" in outcome.lines[-2]
    assert [line.split(": ")[:2] for line in outcome.not_measured] == [[GPU, "memory curve"], [GPU, "telemetry"]]
    assert outcome.exit_code == 0
    written = outcome.document["traces"][0]
    assert (written["file"], written["events"], written["annotated"], written["launches"]) == (GPU, 11, 3, 3)
    assert written["bytes"] == path.stat().st_size
    assert json.loads(json.dumps(outcome.document)) == outcome.document
    assert faults(load(path)) == []


def test_each_run_has_a_file_of_its_own(tmp_path: Path) -> None:
    own = write_run(tmp_path, Fake())
    same = bare(tmp_path / "one"), bare(tmp_path / "two")
    outcome = run(own, *same, out=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-2.perfetto.json.gz", GPU, "vit-cuda.perfetto.json.gz"]
    assert [entry["file"] for entry in outcome.document["traces"]] == ["vit-cuda.perfetto.json.gz", GPU, "a-2.perfetto.json.gz"]
    assert "telemetry" not in outcome.document["traces"][0]["missing"]


def test_an_older_result_is_replaced_and_anything_else_left_alone(tmp_path: Path) -> None:
    source, out = bare(tmp_path / "in"), tmp_path / "out"
    run(source, out=out)
    first = (out / GPU).read_bytes()
    run(source, out=out)
    assert (out / GPU).read_bytes() == first
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="other files"):
        run(source, out=out)
    assert sorted(p.name for p in out.iterdir()) == [GPU, "notes.txt"]


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    damaged = tmp_path / "b.json"
    damaged.write_text("[1, 2]")
    with pytest.raises(TraceError):
        run(bare(tmp_path / "in"), damaged, out=tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.json", "in"]


def test_without_out_it_lies_among_the_reports(tmp_path: Path) -> None:
    outcome = run(bare(tmp_path / "in"), reports=tmp_path / "reports")
    (found,) = (tmp_path / "reports").iterdir()
    assert found.name.endswith("-perfetto-a")
    assert outcome.document["directory"] == str(found)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    source = bare(tmp_path / "in")
    outcome = run(source, out=tmp_path / "out", dry_run=True)
    assert outcome.lines == [f"would annotate: {source}"]
    assert outcome.document == {"runs": [str(source)]}
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_trace(tmp_path: Path) -> None:
    source = write_run(tmp_path, Fake())
    whole = run(source, out=tmp_path / "whole").document["traces"][0]
    part = run(source, out=tmp_path / "part", selection=Selection(steps=(2, 3))).document["traces"][0]
    assert (whole["annotated"], part["annotated"]) == (75, 50)
    assert whole["events"] == part["events"]
    with pytest.raises(TraceError, match="no profiler step 9"):
        run(source, out=tmp_path / "none", selection=Selection(steps=(9,)))
    with pytest.raises(TraceError, match="rank"):
        run(source, out=tmp_path / "none", selection=Selection(rank=3))
    assert not (tmp_path / "none").exists()


def test_counters_belong_to_one_run(tmp_path: Path) -> None:
    source, table = bare(tmp_path / "in"), tmp_path / "c.csv"
    table.write_text("x\n")
    with pytest.raises(ConfigError, match="one run"):
        run(source, source, out=tmp_path / "out", counter_file=table)
    with pytest.raises(ConfigError, match="file of counters"):
        run(table, out=tmp_path / "out")


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [*traces.gpu_step(), {"ph": "?", "name": "x", "pid": 1, "tid": 1, "ts": 1}]
    outcome = run(bare(tmp_path / "in", events=events), out=tmp_path / "out")
    assert "  Left out: 1 event that cannot be read or that the format does not allow" in outcome.lines
    assert outcome.document["traces"][0]["left_out"] == 1


def test_a_run_of_a_home_is_not_named_by_it(tmp_path: Path) -> None:
    """torch's tensorboard_trace_handler names its files HOST_PID.TIME.pt.trace.json."""
    outcome = run(bare(tmp_path / "in", "gpu-node-0042.corp_4711.1790000000000000000.pt.trace.json"), out=tmp_path / "out")
    assert "node-0042" not in outcome.document["traces"][0]["file"]


def test_the_command_line(tmp_path: Path) -> None:
    words = ["task=perfetto", f"runs={bare(tmp_path / 'in')}", f"out={tmp_path / 'out'}", "json=true"]
    done = subprocess.run([sys.executable, "-m", "analyzer", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["traces"][0]["annotated"] == 3
    strict = subprocess.run(
        [sys.executable, "-m", "analyzer", *words[:3], "strict=true", "onto=b200"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert strict.returncode == 1
    assert "task=perfetto takes no onto=" in strict.stderr


def test_the_plugin_of_tensorboard_reads_the_same(tmp_path: Path) -> None:
    """Neither tracks nor findings count for torch-tb-profiler, a parser that is not ours."""
    source = write_run(tmp_path, Fake()) / "trace.pt.trace.json.gz"
    run(source.parent, out=tmp_path / "out")
    document = json.loads(gzip.decompress(source.read_bytes()))
    read = []
    for number, path in enumerate(
        (traces.write(tmp_path / "plain.json.gz", document), tmp_path / "out" / "vit-cuda.perfetto.json.gz")
    ):
        cache = tmp_path / f"cache{number}"
        cache.mkdir()
        data = RunProfileData.parse("w", "1", str(path), str(cache))
        operators = sorted((str(o.name), o.calls, o.device_duration) for o in data.op_list_groupby_name)
        read.append((data.kernel_stat.to_csv(), operators, [step.costs for step in data.steps_costs]))
    assert read[0] == read[1]
    assert "flash" in read[0][0]
