"""``task=validate`` from the command line: what it prints, what it refuses, and the files it writes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analyzer.analysis import analyze
from analyzer.insight.validation.published import COLUMNS
from analyzer.report.validation.files import FILES
from analyzer.tasks.inputs import expand_runs
from analyzer.tasks.validate import COUNTERS, RUN, inputs
from tests.conftest import SHARED
from tests.report.synthetic import Fake, write_run
from tests.test_cli import run
from tests.trace.counter_files import Row, raw_page

PUBLIC = SHARED / "data" / "counters_public.csv"


def published(path: Path, **other: str) -> Path:
    """Write a table of one product, read from L2 without an error."""
    known = {
        "gpu": "RTX 4090", "mode": "cold", "kernel": "gemm", "description": "a layer", "dtype": "fp16", "m": "512", "n": "512",
        "k": "256", "tile": "128x128", "raster": "rows fastest", "calls": "1", "counter": "l2_to_sm_read", "bytes": "2097152",
    }  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(known | other)
    return path


def with_counters(recorded: Path, target: Path) -> Path:
    """Copy a run and lay counters of its kernels beside the trace: DRAM reads and occupancy as predicted, a few writes."""
    shutil.copytree(recorded, target)
    launches = analyze(target).launches
    kernels = launches[launches["category"] == "kernel"].sort_values("launch_ns")
    rows = [
        Row(
            id=n, kernel=str(k["kernel"]), grid=str(k["grid"]), block=str(k["block"]),
            values={
                "gpu__time_duration.sum": float(k["dur_ns"]), "dram__bytes_read.sum": float(round(k["bytes_dram_read"])),
                "dram__bytes_write.sum": 1e6, "sm__warps_active.avg.pct_of_peak_sustained_active": float(k["occupancy_pct"]),
            },
        )
        for n, k in enumerate(kernels.to_dict("records"))
    ]  # fmt: skip
    (target / "counters.csv").write_text(raw_page(rows))
    return target


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("validate"), Fake())


@pytest.fixture(scope="module")
def counted(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_counters(recorded, tmp_path_factory.mktemp("counted") / "counted")


def test_a_plan_compares_nothing(tmp_path: Path, recorded: Path) -> None:
    table = published(tmp_path / "table.csv")
    (tmp_path / "ncu.csv").write_text("anything")
    done = run("task=validate", f"runs=[{table},{recorded},{tmp_path}/ncu.csv]", "dry_run=true", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = [entry["kind"] for entry in json.loads(done.stdout)["plan"]["runs"]]
    assert kinds == ["published counters", "run", "counters without a trace"]
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "ncu.csv"}


def test_a_table_of_published_counters(tmp_path: Path) -> None:
    table, out = published(tmp_path / "table.csv"), tmp_path / "out"
    done = run("task=validate", f"runs={table}", f"out={out}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"index.html", *FILES}
    assert (
        "Bytes from L2 to the multiprocessors (cold): the error is 0.0 % (1 kernel). Whether its target is met "
        "cannot be told: too few kernels are held out." in " ".join(done.stdout.split())
    )
    assert f"Report: {out}/index.html" in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.splitlines() if "Report:" not in line)
    again = run("task=validate", f"runs={table}", f"out={out}", "json=true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr  # its own report may be replaced
    assert json.loads(again.stdout) == json.loads((out / "summary.json").read_text())
    (out / "mine.txt").write_text("not yours")
    refused = run("task=validate", f"runs={table}", f"out={out}", cwd=tmp_path)
    assert refused.returncode == 1
    assert "holds other files" in refused.stderr


def test_strict_asks_for_a_figure_of_every_quantity_that_was_counted(tmp_path: Path) -> None:
    table = published(tmp_path / "table.csv", counter="dram_read", gpu="Voodoo 2")
    alone = run("task=validate", f"runs={table}", f"out={tmp_path / 'a'}", cwd=tmp_path)
    assert alone.returncode == 1
    assert "nothing in table.csv could be compared: the database has no GPU called Voodoo 2" in alone.stderr
    assert not (tmp_path / "a").exists()
    other = published(tmp_path / "other.csv", counter="l2_to_sm_read")
    done = run("task=validate", f"runs=[{table},{other}]", f"out={tmp_path / 'a'}", "strict=true", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "strict=true: bytes read from DRAM: the database has no GPU called Voodoo 2" in done.stderr
    good = run("task=validate", f"runs={published(table)}", f"out={tmp_path / 'b'}", "strict=true", cwd=tmp_path)
    assert good.returncode == 0, good.stderr


def test_a_run_with_counters_beside_its_trace(counted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("task=validate", f"runs={counted}", f"out={out}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(out / "predictions.csv")
    occupancy = found[found["quantity"] == "occupancy_pct"]
    assert len(occupancy) == 4
    assert (occupancy["error_pct"].abs() < 1e-3).all()
    reads = found[
        (found["quantity"] == "dram_read_bytes") & found["mode"].isin(["cold", "caches not told", "warm, cold figure"])
    ]
    assert len(reads) == 4
    assert (reads["error_pct"].abs() < 1e-3).all()
    assert (occupancy["calls"] == 18).all()  # 3 steps of 6 blocks
    assert "Achieved occupancy against what the launch allows (" in done.stdout


def test_counters_that_are_named_go_with_one_run(recorded: Path, counted: Path, tmp_path: Path) -> None:
    file = counted / "counters.csv"
    done = run("task=validate", f"runs={recorded}", f"counters={file}", f"out={tmp_path / 'out'}", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kernels"] == 4
    several = run("task=validate", f"runs=[{recorded},{counted}]", f"counters={file}", cwd=tmp_path)
    assert several.returncode == 1
    assert "belongs to one run" in several.stderr


def test_a_mixture_and_a_glob(counted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    shutil.copytree(counted, folder / "run")
    published(folder / "table.csv")
    shutil.copy(counted / "counters.csv", folder / "alone.csv")
    done = run("task=validate", f"runs={folder}/*", f"out={tmp_path / 'out'}", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [name for name, _ in found["sources"]] == ["alone.csv", "run", "table.csv"]
    assert found["figures"] > 5


def test_a_directory_that_holds_runs_stands_for_them(counted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    runs = [shutil.copytree(counted, folder / name) for name in ("gpu_1/a", "gpu_1/b", "gpu_2/c")]
    shutil.copy(counted / "counters.csv", folder / "alone.csv")
    (folder / "empty").mkdir()
    alone = (folder / "alone.csv", COUNTERS)
    assert inputs((str(folder / "gpu_1"),)) == [(run, RUN) for run in runs[:2]]
    assert inputs((f"{folder}/*",)) == [alone, *((run, RUN) for run in runs)]
    assert inputs((f"{folder}/gpu_*",)) == [(run, RUN) for run in expand_runs((f"{folder}/gpu_*",))]
    assert inputs((str(folder / "gpu_1"), str(runs[0]))) == [(run, RUN) for run in runs[:2]]
    done = run("task=validate", f"runs={folder}/gpu_1", f"out={tmp_path / 'out'}", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["sources"]) == 2


def test_a_file_without_a_trace(counted: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "counters.csv", tmp_path / "out"
    shutil.copy(counted / "counters.csv", file)
    done = run("task=validate", f"runs={file}", f"out={out}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a trace of the same program beside it" in " ".join(done.stdout.split())
    assert "What was counted without a trace?" in (out / "index.html").read_text()


def test_a_run_without_counters_says_how_to_get_them(recorded: Path, tmp_path: Path) -> None:
    done = run("task=validate", f"runs={recorded}", f"out={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode == 1
    assert "has no counters" in done.stderr
    assert "counters=ncu" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("runs", "words"),
    [("[]", "runs= must name paths"), ("nowhere.csv", "is not there"), ("no*.csv", "no run and no file of counters matches")],
)
def test_mistakes_are_one_line_and_a_hint(runs: str, words: str, tmp_path: Path) -> None:
    done = run("task=validate", f"runs={runs}", cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_file_leaves_no_report(tmp_path: Path) -> None:
    bad = published(tmp_path / "bad.csv", bytes="lots")
    noise = tmp_path / "noise.csv"
    noise.write_bytes(b"\x00\xff\n" * 100)
    for path in (bad, noise):
        done = run("task=validate", f"runs={path}", f"out={tmp_path / 'out'}", cwd=tmp_path)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


def test_the_public_counters(tmp_path: Path) -> None:
    if not PUBLIC.is_file():
        pytest.skip("the published measurements are not here: they lie in ../shared and are not part of the repository")
    done = run("task=validate", f"runs={PUBLIC}", f"out={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "35 figures of 14 distinct kernels compared, 30 of them scored." in text
    assert (
        "Bytes read from DRAM (cold): the median error is 0.6 % over 6 kernels, 3 of which helped to fit the model, the worst 1.0 %."
        in text
    )
    assert "The target of the one class that can be judged is met." in text
    assert "The target of its class (5/6 bands hold the counted figure) is missed." in text
    assert "Whether its target is met cannot be told: too few kernels are held out." in text
    assert "better on 1 of 3 kernels" in text
    assert "4 x effective capacity of L2" in text
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 35
