"""Six years of Kineto formats: the same step in each of them gives the same tables."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zstandard

from analyzer.schema.tables import CALLS, DEVICE_EVENTS, OPERATORS, SPANS
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import link
from tests import traces

OLD = {"kernel": "Kernel", "gpu_memcpy": "Memcpy", "cpu_op": "Operator", "cuda_runtime": "Runtime"}


def _facts(trace: Trace) -> list[Any]:
    """Return what must be the same in every format."""
    found = link(trace).launches
    columns = ["start_ns", "dur_ns", "kernel", "category", "op", "stream", "grid", "registers", "copy_bytes", "launch_ns"]
    return [found[column].fillna(-1).tolist() for column in columns]


def _old_categories(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for event in events:
        args = dict(event["args"])
        if "External id" in args:
            args["external id"] = args.pop("External id")
        out.append(event | {"cat": OLD.get(event["cat"], event["cat"]), "args": args})
    return out


def _text_threads(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As in 2021: threads of runtime calls as numbers, those of operators as text, streams by name."""
    out = []
    for event in events:
        tid = f"stream {event['tid']}" if event["cat"] in ("kernel", "gpu_memcpy") else event["tid"]
        tid = str(tid) if event["cat"] == "cpu_op" else tid
        out.append(event | {"tid": tid})
    return out


def _document(events: list[dict[str, Any]], **top: Any) -> dict[str, Any]:
    return {"schemaVersion": 1, **top, "traceEvents": events}


FORMATS: dict[str, Callable[[], Any]] = {
    "properties before": lambda: traces.document(traces.gpu_step()),
    "properties after": lambda: {**_document(traces.gpu_step()), "deviceProperties": [traces.H100]},
    "no properties": lambda: _document(traces.gpu_step()),
    "empty properties": lambda: _document(traces.gpu_step(), deviceProperties=[]),
    "a bare list": traces.gpu_step,
    "old categories": lambda: traces.document(_old_categories(traces.gpu_step())),
    "text threads": lambda: traces.document(_text_threads(traces.gpu_step())),
    "fractional times": lambda: traces.document([e | {"ts": float(e["ts"]), "dur": e["dur"] + 0.0} for e in traces.gpu_step()]),
    "numbers as text": lambda: traces.document([e | {"ts": str(e["ts"]), "dur": str(e["dur"])} for e in traces.gpu_step()]),
    "events that no table holds": lambda: traces.document(
        [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}}, *traces.gpu_step(),
         {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "ts": 4, "pid": 1, "tid": 1, "s": "t", "args": {"Bytes": 512}},
         {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "ts": 0, "dur": 9, "pid": "Spans", "tid": "PyTorch Profiler"}]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_launches(tmp_path: Path, name: str) -> None:
    wanted = _facts(read_trace(traces.write(tmp_path / "plain.json", traces.document(traces.gpu_step()))))
    trace = read_trace(traces.write(tmp_path / "t.json", FORMATS[name]()))
    assert _facts(trace) == wanted
    assert trace.warnings == ()


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        zstandard.compress,
        lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]),
        lambda d: b"\xef\xbb\xbf" + d,
    ],
    ids=["gzip", "zstd", "gzip of two members", "byte order mark"],
)
def test_packings(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = json.dumps(traces.document(traces.gpu_step())).encode()
    wanted = _facts(read_trace(traces.write(tmp_path / "plain.json", traces.document(traces.gpu_step()))))
    path = tmp_path / "t.json"
    path.write_bytes(pack(data))
    assert _facts(read_trace(path)) == wanted


def test_compute_properties_name_the_device(tmp_path: Path) -> None:
    old = {"id": 0, "name": "Tesla V100", "major": 7, "minor": 0, "multiProcessorCount": 80}
    trace = read_trace(traces.write(tmp_path / "t.json", _document(traces.gpu_step(), computeProperties=[old])))
    assert (trace.device.name, trace.device.compute_capability, trace.device.sm_count) == ("Tesla V100", "7.0", 80)


def test_rocm_is_told_apart_from_hopper_although_its_compute_capability_is_alike(tmp_path: Path) -> None:
    device = traces.H100 | {"name": "gfx942", "computeMinor": 4}
    for sign in ({"hip_runtime_version": 60443483}, {"roctracer_version": 4}):
        trace = read_trace(traces.write(tmp_path / "t.json", _document(traces.gpu_step(), deviceProperties=[device], **sign)))
        assert trace.device.vendor == "AMD"


def test_device_work_of_mtia_counts_as_kernels(tmp_path: Path) -> None:
    rename = {"kernel": "mtia_ccp_events", "cuda_runtime": "mtia_runtime"}
    events = [event | {"cat": rename.get(event["cat"], event["cat"])} for event in traces.gpu_step()]
    found = link(
        read_trace(traces.write(tmp_path / "t.json", _document(events, deviceProperties=[{"id": 0, "name": "MTIA"}])))
    ).launches
    assert found["op"].tolist()[:2] == ["aten::addmm", "aten::_softmax"]


def test_counter_ranges_are_a_table_and_no_kernel_time(tmp_path: Path) -> None:
    metric = "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum"
    events = [
        {
            "ph": "X",
            "cat": "cuda_profiler_range",
            "name": f"k{i}",
            "pid": 0,
            "tid": 0,
            "ts": 10 * i,
            "dur": 121431,
            "args": {metric: 7.0 * i},
        }
        for i in range(3)
    ]
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document([*traces.cpu_step(), *events])))
    assert trace.counter_ranges["name"].tolist() == ["k0", "k1", "k2"]
    assert trace.counter_ranges[metric].tolist() == [0.0, 7.0, 14.0]
    assert len(trace.kernels) == 0
    assert link(trace).launches["dur_ns"].sum() == 300_000


def test_steps_of_2021_are_annotations_and_no_operators(tmp_path: Path) -> None:
    step = traces.note("ProfilerStep#5", 0, 1000) | {"cat": "Operator"}
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document([step, *_old_categories(traces.gpu_step()[1:])])))
    assert link(trace).steps == (("ProfilerStep#5", 0, 1_000_000),)
    assert "ProfilerStep#5" not in trace.ops["name"].tolist()


@pytest.mark.parametrize("ts", ["1700000000123456.789", "1623142623531625", "9000000000000.001", "8796093022208.501", "-3.001"])
def test_nanoseconds_are_exact_however_large_the_time(tmp_path: Path, ts: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(f'[{{"ph":"X","cat":"kernel","name":"k","ts":{ts},"dur":0.001,"pid":0,"tid":7,"args":{{}}}}]')
    kernel = read_trace(path).kernels.iloc[0]
    assert (int(kernel["start_ns"]), int(kernel["dur_ns"])) == (int(Decimal(ts) * 1000), 1)


def test_tables_have_their_declared_columns_and_types(tmp_path: Path) -> None:
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    empty = read_trace(traces.write(tmp_path / "cpu.json", traces.document(traces.cpu_step(), gpu=False)))
    assert list(trace.kernels) == [*DEVICE_EVENTS.names, "dur_ns"]
    for one in (trace, empty):
        for table, declared in (
            (one.device_events, DEVICE_EVENTS),
            (one.ops, OPERATORS),
            (one.calls, CALLS),
            (one.frames, SPANS),
        ):
            assert list(table) == declared.names
            for column in declared.columns:
                kind = table[column.name].dtype
                assert isinstance(kind, pd.CategoricalDtype) if column.dtype == "text" else kind in (np.int64, np.float64)


def test_public_traces_equal_torch_tb_profiler(public_traces: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Kernel counts and total durations against the plugin's own parser, on every trace that it reads."""
    from torch_tb_profiler.profiler.data import RunProfileData

    caplog.set_level(logging.CRITICAL)
    for path in sorted(public_traces.glob("*.json.gz")):
        kernels = read_trace(path).kernels
        if kernels.empty:
            continue
        stats = RunProfileData.parse("worker", None, str(path), None).kernel_stat
        assert int(stats["count"].sum()) == len(kernels), path.name
        assert round(float(stats["sum"].sum()) * 1000) == int(kernels["dur_ns"].sum()), path.name
