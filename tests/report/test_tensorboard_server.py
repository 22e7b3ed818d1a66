"""The real TensorBoard on a log directory of ours, asked over HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from analyzer.report.tensorboard import LogRun, write_logdir
from tests import traces
from tests.conftest import PUBLIC_TRACES
from tests.report.synthetic import Fake, trace, write_run
from tests.report.tensorboard_server import PLUGIN, Server, serve

PUBLIC = "tracelens_h100_vit_nsfw_infer"
Served = tuple[Server, dict[str, LogRun]]


def _sources(root: Path) -> list[Path]:
    """Return a CPU run, a GPU run with a second trace, a bare GPU trace, one that the plugin cannot read, and public ones."""
    gpu = write_run(root, Fake("vit"))
    with gzip.open(gpu / "ungraphed.pt.trace.json.gz", "wt") as file:
        json.dump(trace(Fake("vit", steps=1)), file)
    found = [write_run(root, Fake("cnn", device="cpu")), gpu]
    found += [traces.write(root / "bare.json.gz", traces.document(traces.gpu_step()))]
    found += [traces.write(root / "instant.json", traces.document([traces.op("aten::add", 5, 0)], gpu=False))]
    public = PUBLIC_TRACES / f"{PUBLIC}.json.gz"
    return found + ([public] if public.is_file() else [])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    (root / "log").mkdir()
    runs = {run.name: run for run in write_logdir(_sources(root), root / "log", lambda: None)}
    with serve(root / "log") as server:
        server.wait_until_loaded(profiles=len(runs) - 1, runs=len(runs))
        yield server, runs


def shown(runs: dict[str, LogRun]) -> list[tuple[str, str]]:
    return [(name, p.worker) for name, run in runs.items() for p in run.profiles if p.view is not None]


def test_the_plugin_lists_every_run_that_it_can_read(served: Served) -> None:
    server, runs = served
    found = server.ask(f"{PLUGIN}/runs")
    assert set(found["runs"]) == set(runs) - {"instant"}
    assert found["loading"] is False
    for name, run in runs.items():
        if name != "instant":
            assert server.ask(f"{PLUGIN}/views", run=name)[:2] == ["Overview", "Operator"]
            assert server.ask(f"{PLUGIN}/workers", run=name, view="Overview") == sorted(p.worker for p in run.profiles)


def test_the_overview_names_the_device_and_the_steps(served: Served) -> None:
    server, runs = served
    for name, worker in shown(runs):
        view = server.plugin("overview", name, worker=worker)
        told = {row["title"]: row["value"] for row in view["environments"]}
        assert told["Device Type"] == ("CPU" if name == "cnn-cpu" else "GPU")
        (average,) = view["performance"]
        assert average["value"] > 0
    steps = server.plugin("overview", "vit-cuda", worker="vit-cuda")["steps"]["rows"]
    assert [row[0] for row in steps] == ["1", "2", "3"]


def test_operators_have_device_times(served: Served) -> None:
    server, runs = served
    for name, worker in shown(runs):
        rows = server.plugin("operation/table", name, worker=worker, group_by="Operation")["data"]
        assert sum(row["host_self_duration"] for row in rows) > 0
        if name != "cnn-cpu":
            assert sum(row["device_self_duration"] for row in rows) > 0, name
            assert server.plugin("operation", name, worker=worker, group_by="Operation")["device_self_time"]["rows"]
    rows = {row["name"]: row for row in server.plugin("operation/table", "bare", group_by="Operation")["data"]}
    assert {name: row["device_self_duration"] for name, row in rows.items()} == {
        "aten::linear": 0, "aten::addmm": 150, "aten::_softmax": 100,
    }  # fmt: skip
    assert rows["aten::linear"]["device_total_duration"] == 150
    shapes = server.plugin("operation/table", "bare", group_by="OperationAndInputShape")["data"]
    assert len(shapes) == 3


def test_kernels_are_as_many_as_in_the_report(served: Served) -> None:
    server, runs = served
    for name, run in runs.items():
        for profile in run.profiles:
            if profile.view is None or not profile.view.kernels:
                continue
            rows = server.plugin("kernel/table", name, worker=profile.worker, group_by="Kernel")["data"]["rows"]
            assert sum(row[2] for row in rows) == profile.view.kernels
            pie = server.plugin("kernel", name, worker=profile.worker)["total"]["rows"]
            assert sum(row[1] for row in pie) == pytest.approx(profile.view.kernel_us)
    scalars = {name: server.ask("data/plugin/scalars/scalars", run=name, tag="time/kernel_ms") for name in runs}
    assert scalars["bare"][0][2] == pytest.approx(0.25)
    by_operator = server.plugin("kernel/table", "bare", group_by="KernelNameAndOpName")["data"]["rows"]
    assert {row[1] for row in by_operator} == {"aten::addmm", "aten::_softmax"}


def test_a_public_trace_has_the_kernels_that_it_has(served: Served) -> None:
    server, runs = served
    if PUBLIC not in runs:
        pytest.skip("the public traces are not here: they lie in ../shared and are not part of the repository")
    rows = server.plugin("kernel/table", PUBLIC, group_by="Kernel")["data"]["rows"]
    (point,) = server.ask("data/plugin/scalars/scalars", run=PUBLIC, tag="time/launches")
    assert sum(row[2] for row in rows) == point[2] == 154
    assert len(server.plugin("overview", PUBLIC)["steps"]["rows"]) == 1
    assert "Module" in server.ask(f"{PLUGIN}/views", run=PUBLIC)


def test_the_timeline_is_json_that_ends_as_it_should(served: Served) -> None:
    """To the trace of a GPU the plugin adds counters, that of a CPU it sends as the file is."""
    server, runs = served
    for name, worker in shown(runs):
        document = server.plugin("trace", name, worker=worker)
        names = {event["name"] for event in document["traceEvents"]}
        assert ("GPU 0 Utilization" in names) == (name != "cnn-cpu")


def test_scalars_and_texts_are_served_with_their_descriptions(served: Served) -> None:
    server, runs = served
    tags = server.ask("data/plugin/scalars/tags")
    assert set(tags) == set(runs)
    for name, run in runs.items():
        assert len(tags[name]) == len(run.tags)
        assert all("Evidence: <strong>" in tag["description"] for tag in tags[name].values())
    assert "<strong>measured</strong>" in tags["cnn-cpu"]["latency/median_ms"]["description"]
    points = server.ask("data/plugin/scalars/scalars", run="cnn-cpu", tag="latency/iterations_ms")
    assert len(points) == 120
    (found,) = server.ask("data/plugin/text/text", run="instant", tag="analyzer/2_figures")
    assert "<td>unavailable</td>" in found["text"]


def test_settings_are_the_columns_of_hparams(served: Served) -> None:
    server, runs = served
    plugins = server.ask("data/plugins_listing")
    enabled = {name for name, plugin in plugins.items() if plugin["enabled"]}
    assert {"scalars", "text", "hparams", "pytorch_profiler"} <= enabled
    columns = server.post("data/plugin/hparams/experiment", {"experimentName": ""})
    assert {found["name"] for found in columns["hparamInfos"]} == set().union(*(run.settings for run in runs.values()))
    assert [found["name"]["tag"] for found in columns["metricInfos"]][:2] == ["latency/median_ms", "throughput/images_per_s"]
    asked = {"experimentName": "", "startIndex": 0, "sliceSize": 99, "colParams": [{"hparam": "device"}]}
    groups = server.post("data/plugin/hparams/session_groups", asked | {"allowedStatuses": ["STATUS_UNKNOWN"]})["sessionGroups"]
    assert {group["name"]: group["hparams"]["device"] for group in groups}["cnn-cpu"] == "Made-up CPU"
    assert {group["name"] for group in groups} == set(runs)


def test_a_directory_without_any_trace_for_the_plugin_hangs_nothing(tmp_path: Path) -> None:
    """An empty dashboard once hung TensorBoard (kineto #270, #334): then the plugin is not active, and scalars are there."""
    instant = traces.write(tmp_path / "instant.json", traces.document([traces.op("aten::add", 5, 0)], gpu=False))
    (tmp_path / "log").mkdir()
    write_logdir([instant], tmp_path / "log", lambda: None)
    with serve(tmp_path / "log") as server:
        assert server.wait_until_loaded(profiles=0, runs=1) == []
        assert server.ask("data/plugins_listing")["pytorch_profiler"]["enabled"] is False
        status, _ = server.get(f"{PLUGIN}/views", run="instant")
        assert status == 404
        assert server.ask("data/plugin/scalars/tags")["instant"]
