"""``task=project`` from the command line: what it prints, what it refuses, and the files it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analyzer.report.projection.files import CSV_COLUMNS
from tests.report.synthetic import Fake, trace, write_run
from tests.test_cli import run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("project"), Fake())


def test_a_plan_runs_nothing(recorded: Path, tmp_path: Path) -> None:
    done = run("task=project", f"runs={recorded}", "onto=[b200,t4]", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "onto B200, T4" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_nobody_knows_and_none_at_all(recorded: Path, tmp_path: Path) -> None:
    unknown = run("task=project", f"runs={recorded}", "onto=a100", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "no GPU called 'a100'" in unknown.stderr
    assert "a100_sxm4_80gb" in unknown.stderr
    missing = run("task=project", f"runs={recorded}", cwd=tmp_path)
    assert missing.returncode == 1
    assert "onto=[a100_sxm4_80gb,b200]" in missing.stderr
    for done in (unknown, missing):
        assert "Traceback" not in done.stderr


def test_the_report_says_what_is_not_validated(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("task=project", f"runs={recorded}", "onto=[b200,t4]", f"out={out}", "strict=true", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert {entry.name for entry in out.iterdir()} == {"index.html", "summary.json", "projection.csv"}
    found = json.loads((out / "summary.json").read_text())
    (told,) = found["runs"]
    on = {total["target"]: total for total in told["targets"]}
    assert found["format_version"] == 1
    assert on["b200"]["headline"] in done.stdout
    assert on["b200"]["validated_pct"] == 0  # bfloat16 on tensor cores
    assert on["b200"]["kernels"]["evidence"] == "modelled"
    assert on["t4"]["kernels"]["value"] is None
    assert "bfloat16" in on["t4"]["kernels"]["reason"]
    assert on["t4"]["kernels"]["evidence"] == "unavailable"
    table = pd.read_csv(out / "projection.csv")
    assert tuple(table.columns) == CSV_COLUMNS
    assert table.groupby("target")["source_us"].sum().nunique() == 1
    assert set(table["target"]) == {"b200", "t4"}
    timed = table[table["time_us"].notna() & table["floor_us"].notna()]
    assert (timed["floor_us"] <= timed["time_us"] * 1.000001).all()
    assert table["low_us"].isna().all()  # bfloat16: nothing is calibrated
    assert table["by_ratio_of_peaks_us"].notna().any()
    again = run("task=project", f"runs={recorded}", "onto=[b200]", f"out={out}", "json=true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr  # its own report may be replaced
    assert json.loads(again.stdout) == json.loads((out / "summary.json").read_text())


def test_a_run_of_a_cpu_has_floors_alone(tmp_path: Path) -> None:
    source = write_run(tmp_path / "cpu", Fake(device="cpu"))
    done = run("task=project", f"runs={source}", "onto=[b200]", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (total,) = json.loads(done.stdout)["runs"][0]["targets"]
    assert total["kernels"]["value"] is None
    assert "CPU" in total["kernels"]["reason"]
    assert {c["status"] for c in total["classes"]} <= {"floor only", "not projected", "refused"}
    assert total["floor_us"] > 0


def test_a_float32_trace_of_a_v100(public_traces: Path, tmp_path: Path) -> None:
    """Convolutions of 3 x 3 have an interval, backward operators have none, and TF32 is mentioned where the target has it."""
    path = public_traces / "kineto_v100_resnet50_train_nw0.json.gz"
    done = run("task=project", f"runs={path}", "onto=[a100_sxm4_80gb,t4]", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ampere, turing = found["runs"][0]["targets"]
    statuses = {(c["title"], c["status"]): c for c in ampere["classes"]}
    assert "same chip" in statuses["convolution", "estimated"]["why"]  # calibrated siblings; unusually slow on the source
    assert statuses["convolution", "ratio, unvalidated"]["low_us"] is None
    assert 0 <= ampere["validated_pct"] < 90
    assert "in float32 without TF32, error unknown" in ampere["headline"]
    assert any("TF32" in note for note in ampere["notes"])
    assert not any("TF32" in note for note in turing["notes"])
    assert ampere["kernels"]["low"] is None
    assert ampere["kernels"]["value"] < turing["kernels"]["value"]
    assert ampere["whole"]["low"] < ampere["whole"]["high"]


def test_the_gpu_of_the_run_is_no_target(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("task=project", f"runs={recorded}", "onto=h100_sxm5_80gb", f"out={out}", "strict=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is the GPU of the run" in done.stdout


def test_a_gpu_trace_without_kernels_says_so(tmp_path: Path) -> None:
    whole = trace(Fake())
    whole["traceEvents"] = [event for event in whole["traceEvents"] if event["cat"] not in ("kernel", "gpu_memcpy")]
    whole["cuda_runtime_version"] = 12040
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(whole))
    done = run("task=project", f"runs={path}", "onto=b200", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (total,) = json.loads(done.stdout)["runs"][0]["targets"]
    assert "the trace has no GPU kernels" in total["headline"]
