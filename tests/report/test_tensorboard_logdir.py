"""The log directory: names, figures with unit and evidence, what is left out and why, and what it replaces."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from analyzer.errors import TraceError
from analyzer.report.tensorboard import LogRun, is_logdir, logdir, write_logdir
from analyzer.report.tensorboard.plugin import memory_needed
from analyzer.schema.settings import Selection
from tests import traces
from tests.report.synthetic import BATCH, UNIX_NS, Fake, trace, write_run
from tests.report.tensorboard_server import parse
from tests.test_cli import assert_one_line_and_hint, run
from tests.trace.test_privacy import SECRETS
from tests.trace.test_privacy import document as with_secrets

TRACE = ".pt.trace.json.gz"


def written(sources: list[Path], target: Path) -> list[LogRun]:
    target.mkdir()
    return write_logdir(sources, target, lambda: None)


def events_of(directory: Path) -> EventAccumulator:
    found = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    found.Reload()
    return found


def scalar(events: EventAccumulator, tag: str) -> list[float]:
    return [float(event.tensor_proto.float_val[0]) for event in events.Tensors(tag)]


def described(events: EventAccumulator, tag: str) -> str:
    return str(events.SummaryMetadata(tag).summary_description)


def text(events: EventAccumulator, tag: str) -> str:
    return bytes(events.Tensors(tag)[0].tensor_proto.string_val[0]).decode()


def gpu_trace(path: Path, **top: Any) -> Path:
    return traces.write(path, traces.document(traces.gpu_step(), **top))


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[LogRun, EventAccumulator]:
    root = tmp_path_factory.mktemp("gpu")
    (found,) = written([write_run(root, Fake("vit"))], root / "log")
    return found, events_of(root / "log" / found.name)


def test_the_figures_of_a_recorded_run(gpu: tuple[LogRun, EventAccumulator]) -> None:
    found, events = gpu
    tags = events.Tags()["tensors"]
    assert len(found.tags) == sum(not tag.startswith(("analyzer/", "_hparams_")) for tag in tags)
    # six blocks, each 1 % slower than the one before it
    kernels_us = 6 * 1.025 * (95.25 + 60.125 + 14.5 + 22.75)
    assert scalar(events, "time/kernel_ms") == [pytest.approx(kernels_us / 1e3, rel=1e-5)]
    assert scalar(events, "time/launches") == [24]
    assert scalar(events, "time/step_kernel_ms") == [pytest.approx(kernels_us / 1e3, rel=1e-5)] * 3
    (median,) = scalar(events, "latency/median_ms")
    assert scalar(events, "throughput/images_per_s") == [pytest.approx(1000 * BATCH / median, rel=1e-5)]
    assert len(scalar(events, "latency/iterations_ms")) == 120
    shares = [scalar(events, tag)[0] for tag in tags if tag.startswith("kinds/")]
    assert sum(shares) == pytest.approx(100, rel=1e-5)
    busy_us = kernels_us + 1.5  # a copy
    assert scalar(events, "kinds/attention_pct") == [pytest.approx(100 * 6 * 1.025 * 60.125 / busy_us, rel=1e-4)]
    assert scalar(events, "time/busy_ms") == [pytest.approx(busy_us / 1e3, rel=1e-5)]


def test_every_scalar_tells_its_unit_and_its_evidence(gpu: tuple[LogRun, EventAccumulator]) -> None:
    _, events = gpu
    for tag in events.Tags()["tensors"]:
        if tag.startswith(("analyzer/", "_hparams_")):
            continue
        told = described(events, tag)
        assert any(f"Evidence: **{level}**" in told for level in ("measured", "derived", "modelled")), told
        assert ("Unit: " in told) == (tag not in ("time/launches", "telemetry/clock_event_reasons")), told
    assert "Unit: ms. Evidence: **measured**" in described(events, "latency/median_ms")
    assert "bootstrap" in described(events, "latency/median_ms")
    assert "**modelled**" in described(events, "work/gflop")
    assert "**derived**" in described(events, "occupancy/mean_pct")


def test_the_texts_hold_the_headline_and_what_is_unavailable(gpu: tuple[LogRun, EventAccumulator], tmp_path: Path) -> None:
    _, events = gpu
    assert "NVIDIA" in text(events, "analyzer/1_headline")
    assert "| attention |" in text(events, "analyzer/3_kinds")
    (found,) = written([gpu_trace(tmp_path / "t.json")], tmp_path / "log")
    bare = events_of(tmp_path / "log" / found.name)
    row = next(line for line in text(bare, "analyzer/2_figures").splitlines() if "latency/median" in line)
    assert row.count("unavailable") == 2
    assert "a bare trace has no untraced iterations" in row
    assert "latency/median_ms" not in bare.Tags()["tensors"]


def test_points_carry_the_time_of_the_recording(gpu: tuple[LogRun, EventAccumulator]) -> None:
    _, events = gpu
    assert abs(events.Tensors("latency/iterations_ms")[0].wall_time - UNIX_NS / 1e9) < 3600
    times = [event.wall_time for event in events.Tensors("telemetry/power_average_w")]
    assert times == sorted(times)
    assert events.Tensors("telemetry/power_average_w")[0].step == 0


def test_names_of_operators_do_not_become_markup(tmp_path: Path) -> None:
    events = [event | {"name": "<script>|`x`*y*"} if event["cat"] == "kernel" else event for event in traces.gpu_step()]
    path = traces.write(tmp_path / "t.json", traces.document(events, deviceProperties=[traces.H100 | {"name": "<b>|GPU|`*"}]))
    (found,) = written([path], tmp_path / "log")
    shown = text(events_of(tmp_path / "log" / found.name), "analyzer/1_headline")
    assert "<b>" not in shown
    assert r"&lt;b&gt;\|GPU\|\`\*" in shown


def test_a_cpu_run_and_a_trace_without_kernels(tmp_path: Path) -> None:
    no_kernels = [event for event in traces.gpu_step() if event["cat"] in ("cpu_op", "user_annotation", "cuda_runtime")]
    idle = traces.write(tmp_path / "idle.json", traces.document(no_kernels))
    cpu, idle_run = written([write_run(tmp_path, Fake("cnn", device="cpu")), idle], tmp_path / "log")
    for found in (cpu, idle_run):
        (profile,) = found.profiles
        assert profile.view is not None
        assert profile.view.kernels == 0
        assert profile.view.views == ("Overview", "Operator", "Trace")
        assert profile.view.operators > 0
    tags = events_of(tmp_path / "log" / cpu.name).Tags()["tensors"]
    assert "time/copy_ms" not in tags
    assert "time/kernel_ms" in tags


def test_names_of_runs(tmp_path: Path) -> None:
    """The plugin takes what is behind the last dot for the number of a span, and two runs of one name need two directories."""
    names = ["a.12.json", "A ö.v2.json", "a-2.json", "node_9.1790000000000000000.pt.trace.json"]
    sources = []
    for number, name in enumerate(names):
        (tmp_path / str(number)).mkdir()
        sources.append(gpu_trace(tmp_path / str(number) / name))
    found = written([*sources, sources[0], sources[2]], tmp_path / "log")
    assert [f.name for f in found] == ["a", "a-2", "a-2-2", "trace-1790000000000000000", "a-3", "a-2-3"]
    own = {"runs.json", "events.out.tfevents.0000000000.analyzer"}
    assert {p.name for p in (tmp_path / "log").iterdir()} == own | {f.name for f in found}
    for run_ in found:
        (path,) = (tmp_path / "log" / run_.name).glob(f"*{TRACE}")
        assert path.name == f"{run_.name}{TRACE}"
        assert "." not in run_.name
        assert parse(path).kernels == (2, 250)


def test_the_trace_without_graphs_is_a_second_worker(tmp_path: Path) -> None:
    recorded = write_run(tmp_path, Fake("vit"))
    with gzip.open(recorded / "ungraphed.pt.trace.json.gz", "wt") as file:
        json.dump(trace(Fake("vit", steps=1)), file)
    (found,) = written([recorded], tmp_path / "log")
    assert [p.worker for p in found.profiles] == [found.name, f"{found.name}-without-graphs"]
    assert [p.view.kernels for p in found.profiles if p.view] == [72, 24]
    (recorded / "ungraphed.pt.trace.json.gz").write_bytes(b"{")
    (found,) = written([recorded], tmp_path / "second")
    assert [p.view is None for p in found.profiles] == [False, True]
    assert found.profiles[1].reason


def test_what_the_plugin_cannot_read_is_left_out_with_the_reason(tmp_path: Path) -> None:
    instant = traces.write(tmp_path / "instant.json", traces.document([traces.op("aten::add", 5, 0)], gpu=False))
    (found,) = written([instant], tmp_path / "log")
    (profile,) = found.profiles
    assert profile.view is None
    assert profile.reason.startswith("the plugin cannot read it (ZeroDivisionError")
    assert list((tmp_path / "log").rglob(f"*{TRACE}")) == []
    assert found.tags


def test_modules_nested_too_deep_are_left_out_alone(tmp_path: Path) -> None:
    deep = [
        {"ph": "X", "cat": "python_function", "name": f"nn.Module: M_{i}", "pid": 1, "tid": 1, "ts": i / 1000, "dur": 999 - i / 500,
         "args": {"Python id": i, "Python parent id": i - 1, "Python module id": i}}
        for i in range(1200)
    ]  # fmt: skip
    path = traces.write(tmp_path / "deep.json", traces.document([*traces.gpu_step(), *deep]))
    (found,) = written([path], tmp_path / "log")
    (profile,) = found.profiles
    assert profile.view is not None
    assert (profile.view.kernels, profile.view.operator_device_us) == (2, 250)
    assert "without Python functions" in profile.reason


def test_a_trace_too_large_for_this_machine_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logdir, "memory_here", lambda: 2 * memory_needed(0))
    (found,) = written([gpu_trace(tmp_path / "t.json")], tmp_path / "log")
    (profile,) = found.profiles
    assert profile.view is None
    assert profile.reason.startswith("too large")
    assert "MiB of memory" in profile.reason
    monkeypatch.setattr(logdir, "memory_here", lambda: 0)  # a system that does not tell
    (found,) = written([gpu_trace(tmp_path / "t.json")], tmp_path / "second")
    assert found.profiles[0].view is not None


def test_only_an_older_log_directory_is_replaced(tmp_path: Path) -> None:
    written([gpu_trace(tmp_path / "t.json.gz")], tmp_path / "log")
    assert is_logdir(tmp_path / "log")
    done = run("task=tensorboard", "runs=t.json.gz", "out=log", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert is_logdir(tmp_path / "log")
    strangers = ["notes.txt", "t/notes.txt", "t/events.out.tfevents.1.host", "extra/sub/x.csv"]
    for name in strangers:
        shutil.copytree(tmp_path / "log", tmp_path / "other")
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / name).write_text("mine")
        assert not is_logdir(tmp_path / "other"), name
        shutil.rmtree(tmp_path / "other")
    (tmp_path / "log" / "notes.txt").write_text("mine")
    assert_one_line_and_hint(
        run("task=tensorboard", "runs=t.json.gz", "out=log", cwd=tmp_path), tmp_path, "log holds other files"
    )
    assert (tmp_path / "log" / "notes.txt").read_text() == "mine"


def test_the_terminal_tells_counts_the_internet_and_the_command(tmp_path: Path) -> None:
    gpu_trace(tmp_path / "t.json.gz")
    done = run("task=tensorboard", "runs=t.json.gz", "out=my log", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("t: 2 kernels (250 µs), 3 operators as the plugin reads them; ")
    assert lines[1].endswith("my log")
    assert "www.gstatic.com" in lines[2]
    assert lines[3] == f"Next: tensorboard --logdir '{tmp_path / 'my log'}'"
    assert len(lines) == 4
    assert "Runtime" not in done.stderr
    assert "Warning" not in done.stderr
    # TensorBoard's own writer would put the name of the host there
    assert [re.sub(r"\d{10}", "N", p.name) for p in (tmp_path / "my log" / "t").glob("events*")] == [
        "events.out.tfevents.N.analyzer"
    ]


def test_json_has_what_the_plugin_reads(tmp_path: Path) -> None:
    gpu_trace(tmp_path / "t.json.gz")
    document = json.loads(run("task=tensorboard", "runs=t.json.gz", "out=log", "json=true", cwd=tmp_path).stdout)
    assert document["workers"] == ["t"]
    (profile,) = document["runs"][0]["profiles"]
    assert profile["view"] == {
        "kernels": 2, "kernel_us": 250.0, "operators": 3, "operator_device_us": 250.0, "views": ["Overview", "Operator", "Kernel", "Trace"],
    }  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"{", b'{"traceEvents": []}', b"PK\x03\x04zip"])
def test_no_trace_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(TraceError, match=r"t\.json"):
        written([tmp_path / "t.json"], tmp_path / "log")


def test_one_run_that_is_no_trace_leaves_nothing(tmp_path: Path) -> None:
    gpu_trace(tmp_path / "t.json")
    (tmp_path / "z.json").write_text("{")
    assert_one_line_and_hint(run("task=tensorboard", "runs=[t.json,z.json]", "out=log", cwd=tmp_path), tmp_path, "z.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.json", "z.json"]


def test_one_rank_of_several(tmp_path: Path) -> None:
    for rank in (0, 1):
        gpu_trace(tmp_path / f"rank{rank}.json", distributedInfo={"rank": rank, "world_size": 2})
    sources = [tmp_path / "rank0.json", tmp_path / "rank1.json"]
    (tmp_path / "log").mkdir()
    (found,) = write_logdir(sources, tmp_path / "log", lambda: None, Selection(rank=1))
    assert found.name == "rank1"
    (tmp_path / "none").mkdir()
    with pytest.raises(TraceError, match="is of rank 1, not 5"):
        write_logdir(sources, tmp_path / "none", lambda: None, Selection(rank=5))


def test_nothing_private_reaches_any_file(tmp_path: Path) -> None:
    path = traces.write(tmp_path / "gpu-node-0042.corp_4711.1790000000000000000.pt.trace.json.gz", with_secrets())
    written([path], tmp_path / "log")
    files = [p for p in (tmp_path / "log").rglob("*") if p.is_file()]
    assert len(files) == 4
    for file in files:
        data = gzip.decompress(file.read_bytes()) if file.name.endswith(".gz") else file.read_bytes()
        for secret in (*SECRETS, str(tmp_path)):
            assert secret.encode() not in data, (file.name, secret)
            assert secret not in str(file.relative_to(tmp_path))


def test_counters_are_no_trace(tmp_path: Path) -> None:
    (tmp_path / "counters.csv").write_text("x\n")
    assert_one_line_and_hint(run("task=tensorboard", "runs=counters.csv", cwd=tmp_path), tmp_path, "is a file of counters")
