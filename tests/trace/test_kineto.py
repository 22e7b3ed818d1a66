"""Reading: formats, exact times, damaged files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from analyzer.analysis import analyze
from analyzer.errors import TraceError
from analyzer.trace.kineto import read_trace
from tests import traces


def test_tables_of_a_small_gpu_trace(tmp_path: Path) -> None:
    trace = read_trace(traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step())))
    assert trace.device.name == "NVIDIA H100 80GB HBM3"
    assert (trace.device.vendor, trace.device.compute_capability, trace.device.sm_count) == ("NVIDIA", "9.0", 132)
    assert trace.base_unix_ns == 10**18
    assert trace.device_events["category"].tolist() == ["kernel", "kernel", "memcpy"]
    assert trace.device_events["copy_bytes"].tolist()[2] == 8192
    assert trace.device_events["grid"].tolist()[0] == "132,1,1"
    assert len(trace.ops) == 3
    assert len(trace.calls) == 3


def test_times_keep_their_nanoseconds(tmp_path: Path) -> None:
    events = [traces.kernel("k", 1414456661986.051, 2.208, 5), traces.kernel("l", 1751410836000123, 3, 6)]
    found = read_trace(traces.write(tmp_path / "t.json", traces.document(events))).device_events
    assert found["start_ns"].tolist() == [1414456661986051, 1751410836000123000]
    assert (found["end_ns"] - found["start_ns"]).tolist() == [2208, 3000]


def test_bare_list_old_categories_and_text_threads(tmp_path: Path) -> None:
    events = [
        traces.op("aten::relu", 0, 10, tid="main", ext=4) | {"cat": "Operator"},
        traces.launch(3, 9, tid="main", cat="Runtime"),
        traces.kernel("relu_kernel", 20, 5, 9) | {"cat": "Kernel", "tid": "stream 7"},
    ]
    trace = read_trace(traces.write(tmp_path / "t.json", events))
    assert (len(trace.ops), len(trace.calls), len(trace.device_events)) == (1, 1, 1)
    assert trace.device.name == "GPU (not named in the trace)"


def test_amd_is_told_from_nvidia_despite_its_capability(tmp_path: Path) -> None:
    amd = {"id": 0, "name": "AMD Instinct MI300X VF", "computeMajor": 9, "computeMinor": 4, "numSms": 304}
    document = traces.document([traces.kernel("Cijk_gemm", 0, 5, 1)]) | {
        "deviceProperties": [amd],
        "hip_runtime_version": 6,
    }
    assert read_trace(traces.write(tmp_path / "t.json", document)).device.vendor == "AMD"


def test_unknown_top_level_keys_are_not_read(tmp_path: Path) -> None:
    document = traces.document(traces.gpu_step(), hostname="secret-host", metadata={"env": {"TOKEN": "secret"}})
    assert "secret" not in repr(read_trace(traces.write(tmp_path / "t.json", document)).device)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello", "no JSON"),
        (b"{", "no whole JSON"),
        (b'{"a": 1}', "no PyTorch trace"),
        (b'{"traceEvents": 3}', "no PyTorch trace"),
        (b'{"traceEvents": []}', "no operator and no kernel"),
        (b'[{"ph": "X", "cat": "kernel", "name": 7}]', "no PyTorch trace"),
        (b'{"traceEvents": [{"ph": "X", "cat": "kernel", "args": {"stream": "x"}}]}', "without a start.*: 1"),
        (b'{"traceEvents": [{"ph": "X", "cat": "kernel", "ts": 1e300, "dur": 1}]}', "no clock gives.*: 1"),
        (b'{"traceEvents": [{"ph": "X", "cat": "kernel", "ts": 9e15, "dur": 9e15}]}', "no clock gives.*: 1"),
        (b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "args": ' + b"[" * 20000 + b"]" * 20000 + b"}]}", "trace"),
        (b"\xff\xfe\x00", "UTF-16 text: only JSON"),
        (b"\x1f\x8bnot gzip at all", "gzip file is damaged"),
        (b"PK\x03\x04", "a zip archive"),
    ],
)
def test_what_is_no_trace_gets_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=says) as caught:
        read_trace(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_one_unreadable_device_does_not_hide_the_others(tmp_path: Path) -> None:
    document = traces.document(traces.gpu_step()) | {"deviceProperties": [{"id": 1, "name": 7}, traces.H100]}
    assert read_trace(traces.write(tmp_path / "t.json", document)).device.sm_count == 132


def test_deep_nesting_of_operators_takes_linear_time(tmp_path: Path) -> None:
    """40,000 operators inside each other: a walk up from each of them would be 800 million steps."""
    depth = 40_000
    events = [traces.op("aten::relu", i, 2 * (depth - i), dims=[[4]]) for i in range(depth)]
    path = traces.write(tmp_path / "t.json", traces.document(events, gpu=False))
    one = analyze(path)
    assert one.totals.kernel_count == depth
    assert one.totals.flop == 0


def test_missing_file_and_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(TraceError):
            read_trace(path)


def test_public_traces_equal_a_plain_sum(public_traces: Path) -> None:
    """Counts and total durations against the standard library, exactly."""
    for path in sorted(public_traces.glob("*.json.gz")):
        document = json.loads(gzip.decompress(path.read_bytes()))
        events = document if isinstance(document, list) else document["traceEvents"]
        kernels = [e for e in events if e.get("ph") == "X" and str(e.get("cat", "")).lower() == "kernel"]
        table = read_trace(path).device_events
        mine = table[table["category"] == "kernel"]
        assert len(mine) == len(kernels), path.name
        total = sum(round(e["dur"] * 1000) for e in kernels)
        assert int((mine["end_ns"] - mine["start_ns"]).sum()) == total, path.name
