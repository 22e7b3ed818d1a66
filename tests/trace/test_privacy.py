"""What a trace tells of people and machines stays in it: no table and no file of a report holds it."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.render import write_report
from analyzer.tasks.inputs import REPORT_FILES
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import Linked, link
from tests import traces

HOST, USER, HOME, TOKEN = "gpu-node-0042.corp", "jdoe-secret", "/home/jdoe-secret/project", "hf_aBcDeF123456"
SECRETS = (HOST, USER, HOME, TOKEN, "gpu-node", "10.1.2.3", "secret_kernel_file", "secret-label")
STACK = "train.py(3): my_private_function"
"""What a call stack keeps: it names source files and functions, without their folders."""
TABLES = ("device_events", "ops", "calls", "annotations", "frames", "counter_ranges")


def metadata(name: str, value: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": 1, "tid": 1, "ts": 0, "args": {"name": value, "labels": value}}


def frame(name: str, ts: float) -> dict[str, Any]:
    args = {"Python id": 1, "Python parent id": None, "Python module id": 0, "path": HOME}
    return {"ph": "X", "cat": "python_function", "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": 90, "args": args}


def document() -> dict[str, Any]:
    """A GPU step in which everything that may hold a secret does."""
    events = [
        metadata("process_name", f"python {HOME}/train.py"), metadata("process_labels", f"secret-label {HOST}"), metadata("thread_name", USER),
        frame(f"{HOME}/train.py(12): my_private_function", 1), frame("nn.Module: Linear_0", 2), frame(f"<built-in {TOKEN}>", 3),
        {"ph": "i", "name": f"Record {TOKEN}", "pid": 1, "tid": 1, "ts": 5, "s": "g", "args": {"host": HOST}},
        {"ph": "X", "cat": "Trace", "name": f"PyTorch Profiler {HOST}", "pid": "Spans", "tid": USER, "ts": 0, "dur": 900},
        {"ph": "X", "cat": "cuda_profiler_range", "name": "r", "pid": 0, "tid": 0, "ts": 1, "dur": 1, "args": {"m__x.sum": 3, "host": HOST}},
    ]  # fmt: skip
    for event in traces.gpu_step():
        event["args"] |= {
            "Call stack": f"{HOME}/train.py(3): my_private_function;{HOME}/x.py(1): run", "kernel_file": f"{HOME}/secret_kernel_file.py",
            "kernel_backend": "triton", "kernel_hash": TOKEN, "Module Hierarchy": HOME, "host": HOST, "user": USER, "Collective name": TOKEN,
            "Process Group Description": HOST,
        }  # fmt: skip
        events.append(event)
    top: dict[str, Any] = {
        "traceName": f"{HOME}/log/{HOST}_123.pt.trace.json", "hostname": HOST, "user": USER, "cwd": HOME, "metadata": {"env": {"TOKEN": TOKEN}},
        "distributedInfo": {
            "backend": "nccl", "rank": 0, "world_size": 8, "master_addr": "10.1.2.3", "pg_config": [{"pg_desc": HOST}], "nccl_version": TOKEN,
        },
        TOKEN: HOST,
    }  # fmt: skip
    return traces.document(events, **top)


def spell(found: Trace | Linked) -> str:
    """Return all that ``found`` holds, but for its path and the pids and labels of processes, which no report reads."""
    parts = []
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, pd.DataFrame):
            parts += [value.to_csv(), *(" ".join(map(str, value[c].cat.categories)) for c in value if hasattr(value[c], "cat"))]
        elif field.name not in ("path", "processes"):
            parts.append(repr(value))
    return "\n".join(parts)


def files_of(directory: Path) -> dict[str, str]:
    read = {path.name: path.read_bytes() for path in directory.iterdir()}
    return {name: (gzip.decompress(data) if name.endswith(".gz") else data).decode() for name, data in read.items()}


@pytest.mark.parametrize("damaged", [False, True])
def test_no_secret_of_a_trace_reaches_a_table(tmp_path: Path, damaged: bool) -> None:
    text = json.dumps(document())
    path = tmp_path / "t.json"
    path.write_text(text.replace('"dur": 150', '"dur": N/A')[: -200 if damaged else None])
    trace = read_trace(path)
    assert (len(trace.kernels), len(trace.frames), len(trace.counter_ranges)) == (2, 1, 1)
    assert damaged or trace.ops["stack"].astype(str).str.startswith(STACK).all()
    assert trace.stack_frames["name"].tolist() == ["train.py(12): my_private_function"]
    for found in (spell(trace), spell(link(trace))):
        assert "softmax_warp_forward" in found
        for secret in SECRETS:
            assert secret not in found


def write_report_of(path: Path, out: Path) -> dict[str, str]:
    out.mkdir()
    write_report(compare(analyze(path)), out)
    return files_of(out)


@pytest.mark.parametrize("damaged", [False, True])
def test_no_secret_of_a_trace_reaches_a_report(tmp_path: Path, damaged: bool) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document())[: -200 if damaged else None])
    files = write_report_of(path, tmp_path / "out")
    assert set(files) == REPORT_FILES
    for name, text in files.items():
        assert name not in ("kernels.csv", "launches.csv.gz") or "softmax_warp_forward" in text
        for secret in (*SECRETS, str(tmp_path)):
            assert secret not in text, name


@pytest.mark.parametrize("host", ["gpu-node-0042.corp.example", "gpu-node-0042", "GPU_Node_0042"])
def test_the_host_in_the_name_of_a_trace_reaches_no_report(tmp_path: Path, host: str) -> None:
    """torch's tensorboard_trace_handler names its files HOST_PID.TIME.pt.trace.json.gz."""
    path = traces.write(tmp_path / f"{host}_4711.1790000000000000000.pt.trace.json.gz", document())
    for text in write_report_of(path, tmp_path / "out").values():
        assert "node-0042" not in text.lower().replace("_", "-")


@pytest.mark.parametrize("gpu", [True, False])
def test_no_home_in_a_name_reaches_a_file(tmp_path: Path, gpu: bool) -> None:
    """Names of modules, operators and annotations are those of people; that of a GPU kernel stays exactly as it is."""
    known = {
        "module::head": f"module::load {HOME}/data/x.pt", "ProfilerStep#3": f"read {HOME}", "ProfilerStep#1": f"read {HOME}",
        "module::mlp.fc1": f"module::C:\\Users\\{USER} Smith\\x.pt", "aten::linear": f"mine::{HOME}/ops/x", "aten::gelu": f"mine::{HOME}/y",
    }  # fmt: skip
    events = traces.gpu_step() if gpu else traces.cpu_step()
    for event in events:
        event["name"] = known.get(event["name"], event["name"])
    if gpu:
        events += [
            traces.op(f"mine::{HOME}/y", 600, 50, ext=9),
            traces.launch(610, 19),
            traces.kernel("void k<a, b>(/x/y)", 620, 30, 19, ext=9),
        ]
    path = traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu))
    files = write_report_of(path, tmp_path / "out")
    for name, text in files.items():
        for word in (USER, "Smith"):
            assert word not in text, name
    assert "mine::…/y" in files["kernels.csv"]
    assert "mine::…/y" in files["operators.csv"]
    assert "mine::…/y" in files["launches.csv.gz"]
    assert "mine::…/" in files["operator_tree.csv"]
    assert ("load …/x.pt" if gpu else "…/x.pt") in files["module_tree.csv"]
    assert ("load …/x.pt" if gpu else "…/x.pt") in files["modules.csv"]
    assert not gpu or '"void k<a, b>(/x/y)"' in files["kernels.csv"]
