"""The files beside the page are what section 5 of the design promises."""

from __future__ import annotations

import dataclasses
import getpass
import gzip
import json
import platform
import re
from pathlib import Path

import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.report import render
from analyzer.report.files import LAUNCH_COLUMNS, MAX_UNMODELLED
from analyzer.report.render import MAX_EMBEDDED_BYTES, summary, write_report
from analyzer.schema.results import GAP_COLUMNS, Study
from analyzer.tasks.inputs import REPORT_FILES
from tests.conftest import ROOT
from tests.report.conftest import make_study
from tests.report.synthetic import Fake, trace

RUN_KEYS = [
    "name",
    "gpu",
    "vendor",
    "compute_capability",
    "sm_count",
    "model",
    "batch_size",
    "steps",
    "wall_us",
    "kernel_time_us",
    "kernel_count",
    "copy_us",
    "idle_us",
    "classified_pct",
    "modelled_pct",
    "occupancy_pct",
    "occupancy_kineto_pct",
    "flop",
    "bytes_compulsory",
    "latency_ms",
]
KERNEL_COLUMNS = (
    "run,kernel,kind,role,op,module,shapes,dtype,calls,time_us,share_pct,mean_us,grid,block,registers,shared_bytes,"
    "occupancy_theoretical_pct,occupancy_pct,occupancy_kineto_pct,occupancy_limit,waves,tail_efficiency_pct,flop,bytes_compulsory,"
    "bytes_l2_sm,bytes_dram_low,bytes_dram_high,bytes_dram_counter,reuse_factor,footprint_bytes,reuse_distance_median_bytes,"
    "geometry_confidence,l2_hit_pct,occupancy_achieved_pct,tensor_active_pct,dram_gbps,dram_pct_of_peak,tflops,flop_per_byte,bound,"
    "evidence"
)


def no_constants(text: str) -> object:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.parametrize("name", ["gpu", "cpu", "single"])
def test_every_report_writes_all_files(reports: dict[str, Path], name: str) -> None:
    assert {f.name for f in reports[name].iterdir()} == REPORT_FILES
    found = no_constants((reports[name] / "summary.json").read_text())
    assert isinstance(found, dict)
    assert {"format_version", "headline", "reason", "not_measured", "runs", "gap", "findings", "environment"} <= set(found)
    for run in found["runs"]:
        assert set(RUN_KEYS) <= set(run)
        assert {"median", "low", "high", "n"} <= set(run["latency_ms"])
        for key in ("wall_us", "idle_us", "flop", "occupancy_pct"):
            assert {"value", "unit", "evidence"} <= set(run[key])
            assert (run[key]["value"] is None) == (run[key]["evidence"] == "unavailable")
    assert (reports[name] / "kernels.csv").read_text().splitlines()[0] == KERNEL_COLUMNS


def test_times_keep_their_nanoseconds(reports: dict[str, Path], gpu_pair: Study) -> None:
    launches = pd.read_csv(reports["gpu"] / "launches.csv.gz", dtype={"start_us": str, "dur_us": str})
    assert tuple(launches.columns) == LAUNCH_COLUMNS
    kept = [a.launches[a.launches["category"] == "kernel"] for a in gpu_pair.analyses]
    assert len(launches) == sum(map(len, kept))
    expected = [f"{ns // 1000}.{ns % 1000:03d}" for rows in kept for ns in rows["start_ns"]]
    assert launches["start_us"].tolist() == expected
    assert launches["dur_us"].str.fullmatch(r"\d+\.\d{3}").all()
    assert not launches["kernel"].str.contains("Memcpy").any()


def test_kernels_add_up(reports: dict[str, Path]) -> None:
    kernels = pd.read_csv(reports["gpu"] / "kernels.csv")
    runs = json.loads((reports["gpu"] / "summary.json").read_text())["runs"]
    for run in runs:
        mine = kernels[kernels["run"] == run["name"]]
        assert mine["time_us"].sum() == pytest.approx(run["kernel_time_us"]["value"])
        assert mine["calls"].sum() == run["kernel_count"]["value"]
    assert runs[0]["copy_us"]["value"] > 0


def test_gap_adds_up(gpu_pair: Study) -> None:
    gap = summary(gpu_pair)["gap"]
    assert sum(part["delta_us"] for part in gap["parts"]) == pytest.approx(gap["total_us"])
    assert sum(part["delta_us"] for part in gap["parts"] if not part["explained"]) == pytest.approx(gap["unexplained_us"])
    assert gap["total_us"] == pytest.approx(gap["first_us"] - gap["second_us"])
    assert set(gap["parts"][0]) == set(GAP_COLUMNS)
    open_parts = [part["delta_us"] for part in gap["parts"] if part["explained"] and not part["named"]]
    assert sum(open_parts) == pytest.approx(gap["unnamed_us"])
    effects = sum(role[f"{name}_us"] for role in gap["roles"] for name in ("work", "traffic", "rate", "other"))
    assert effects == pytest.approx(gap["total_us"])
    assert [run["untraced_us"] for run in gap["scaling"]] == [gap["first_us"], gap["second_us"]]
    images = summary(gpu_pair)["runs"][0]["batch_size"]
    assert gap["per"]["image"]["first_us"] == pytest.approx(gap["first_us"] / images)
    for found in gap["per"].values():
        assert sum(term["delta_us"] for term in found["terms"]) == pytest.approx(found["total_us"])


def test_the_same_run_twice_keeps_two_names(gpu_single: Study, tmp_path: Path) -> None:
    (a,) = gpu_single.analyses
    write_report(compare(a, a), tmp_path)
    assert pd.read_csv(tmp_path / "kernels.csv")["run"].nunique() == 2


def test_a_trace_without_kernels_gives_every_file(tmp_path: Path) -> None:
    empty = trace(Fake())
    empty["traceEvents"] = [e for e in empty["traceEvents"] if e["cat"] not in ("kernel", "gpu_memcpy", "cpu_op")]
    path = tmp_path / "empty.json.gz"
    path.write_bytes(gzip.compress(json.dumps(empty).encode()))
    out = tmp_path / "out"
    out.mkdir()
    write_report(compare(analyze(path)), out)
    assert {f.name for f in out.iterdir()} == REPORT_FILES
    assert len(pd.read_csv(out / "kernels.csv")) == 0
    assert len(pd.read_csv(out / "launches.csv.gz")) == 0
    assert "nothing to show" in (out / "index.html").read_text()


def test_the_summary_lists_the_longest_without_a_model_and_sums_the_others(gpu_single: Study) -> None:
    (a,) = gpu_single.analyses
    count = MAX_UNMODELLED + 3
    groups = pd.DataFrame(
        {
            "op": [f"own::{i}" for i in range(count)],
            "kind": "other",
            "why": "no formula",
            "calls": 2,
            "time_us": 1.5,
            "share_pct": 0.25,
        }
    )

    def listed(rows: int) -> list[dict[str, object]]:
        rooflines = dataclasses.replace(a.rooflines, unmodelled=groups.head(rows))
        study = dataclasses.replace(gpu_single, analyses=(dataclasses.replace(a, rooflines=rooflines),))
        found: list[dict[str, object]] = summary(study)["runs"][0]["unmodelled"]
        return found

    found = listed(count)
    assert [row["op"] for row in found] == [*(f"own::{i}" for i in range(MAX_UNMODELLED)), ""]
    assert found[-1] == {"op": "", "kind": "", "why": "", "calls": 6, "time_us": 4.5, "share_pct": 0.75, "more": 3}
    assert [len(listed(rows)) for rows in (0, MAX_UNMODELLED)] == [0, MAX_UNMODELLED]


@pytest.mark.parametrize("size", [100, MAX_EMBEDDED_BYTES])
def test_the_summary_of_a_page_is_encoded_once(gpu_single: Study, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Also where no page of them fits, however few its rows."""
    encode, calls, drawn = render.json_block, [], []

    def encoding(found: dict[str, object]) -> str:
        calls.append(found)
        return encode(found)

    def drawing(_study: Study, _sections: object, data: str) -> str:
        drawn.append(data)
        return "x" * 2000

    monkeypatch.setattr(render, "MAX_PAGE_BYTES", 1000)
    monkeypatch.setattr(render, "json_block", encoding)
    monkeypatch.setattr(render, "_render", drawing)
    found = {"text": "x" * size}
    render.page(gpu_single, found)
    assert calls.count(found) == 1
    left_out = [data for data in drawn if "left_out" in data]
    assert len(left_out) == (1 if size == 100 else len(drawn))


def test_nothing_private_leaves(tmp_path: Path) -> None:
    fake = Fake(
        warnings=("could not read /home/alice/secret/ops.json",),
        command=("analyzer", "out=/home/alice/reports/x", "runs=/Users/bob/t.json", "gpu_spec=/root/spec.yaml"),
    )
    found = make_study(tmp_path / "alice-home", fake)
    out = tmp_path / "out"
    out.mkdir()
    write_report(found, out)
    texts = [f.read_text() for f in out.iterdir() if f.suffix != ".gz"]
    texts.append(gzip.decompress((out / "launches.csv.gz").read_bytes()).decode())
    for text in texts:
        for word in ("alice", "bob", "/root/", str(tmp_path), str(ROOT)):
            assert word not in text, word
        for word in {platform.node(), getpass.getuser()} - {"root", "localhost", ""}:
            assert not re.search(rf"\b{re.escape(word)}\b", text)
