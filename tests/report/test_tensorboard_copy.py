"""The copy of a trace for TensorBoard's profiler plugin: its own parser reads what we read."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analyzer.report.tensorboard.trace_copy import copy_trace
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link
from tests import traces
from tests.report.tensorboard_server import Parsed, parse
from tests.trace.test_privacy import SECRETS
from tests.trace.test_privacy import document as with_secrets

GEMM, SOFTMAX = "sm90_xmma_gemm_f16f16_tilesize128x128x64", "softmax_warp_forward<c10::Half>"


def copied(folder: Path, document: Any, **how: Any) -> tuple[dict[str, Any], Parsed]:
    """Return the copy of a trace, and what the plugin reads of it."""
    source, target = traces.write(folder / "t.json", document), folder / "copy.pt.trace.json.gz"
    length = copy_trace(read_trace(source), target, **how)
    text = gzip.decompress(target.read_bytes())
    assert len(text) == length
    return json.loads(text), parse(target)


def test_operators_get_the_device_time_of_what_they_launched(tmp_path: Path) -> None:
    _, found = copied(tmp_path, traces.document(traces.gpu_step()))
    assert found.kernels == (2, 250)
    assert found.device_us == {"aten::addmm": 150, "aten::_softmax": 100}
    assert found.kernel_operators == {GEMM: "aten::addmm", SOFTMAX: "aten::_softmax"}
    assert found.data.steps_names == ["3"]
    assert [found.cost_us(role) for role in ("Kernel", "Memcpy", "Total")] == [250, 50, 1000]
    assert found.said == []


def test_a_plain_copy_of_the_same_trace_gives_no_operator_any_device_time(tmp_path: Path) -> None:
    """What the copy is for: the plugin's own reading of the categories that Kineto writes today."""
    path = traces.write(tmp_path / "plain.json", traces.document(traces.gpu_step()))
    found = parse(path)
    assert found.kernels == (2, 250)
    assert found.device_us == {}


def test_launches_that_carry_their_correlation_as_external_id(tmp_path: Path) -> None:
    """As Kineto wrote in 2022 and 2023: launch 12 has the external id of another operator, which would get its kernel."""
    events = traces.gpu_step()
    for event in events:
        if "correlation" in event["args"]:
            event["args"]["External id"] = event["args"]["correlation"]
        elif event["name"] == "aten::linear":
            event["args"]["External id"] = 12
    _, found = copied(tmp_path, traces.document(events))
    assert found.device_us == {"aten::addmm": 150, "aten::_softmax": 100}


@pytest.mark.parametrize(
    "categories",
    [("cuda_runtime", "cuda_driver"), ("hip_runtime", "hip_driver"), ("Runtime", "runtime"), ("xpu_runtime", "xpu_driver")],
)
def test_every_name_of_a_launch(tmp_path: Path, categories: tuple[str, str]) -> None:
    events = traces.gpu_step()
    for event in events:
        if event["cat"] == "cuda_runtime":
            event["cat"] = categories[event["args"]["correlation"] % 2]
    document, found = copied(tmp_path, traces.document(events))
    assert found.device_us == {"aten::addmm": 150, "aten::_softmax": 100}
    assert (
        found.cost_us("Runtime") == 4
    )  # two of the three launches: during the third a kernel runs, and the plugin counts that
    assert sum(event.get("cat") == "Runtime" for event in document["traceEvents"]) == 3


def test_annotations_that_kineto_repeats_on_the_device_are_no_steps(tmp_path: Path) -> None:
    repeated = traces.note("ProfilerStep#3", 100, 400, tid=7) | {"cat": "gpu_user_annotation", "pid": 0}
    _, found = copied(tmp_path, traces.document([*traces.gpu_step(), repeated]))
    assert found.data.steps_names == ["3"]
    assert found.cost_us("Total") == 1000


def test_an_annotation_takes_no_launch_by_its_own_id(tmp_path: Path) -> None:
    events = traces.gpu_step()
    for number, event in enumerate(event for event in events if event["cat"] == "user_annotation"):
        event["args"]["External id"] = number + 1
    _, found = copied(tmp_path, traces.document(events))
    assert sum(found.device_us.values()) == 250


def test_waiting_for_data_is_told(tmp_path: Path) -> None:
    loading = traces.note("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 600, 300)
    _, found = copied(tmp_path, traces.document([*traces.gpu_step(), loading]))
    assert found.cost_us("DataLoader") == 300
    assert "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__" not in [
        op.name for op in found.data.op_list_groupby_name
    ]


def test_an_operator_that_sticks_out_by_rounding_keeps_its_kernels(tmp_path: Path) -> None:
    events = traces.gpu_step()
    for event in events:
        if event["name"] == "aten::addmm":
            event["dur"] = 91  # from 30 to 121 in aten::linear, which ends at 120
    document, found = copied(tmp_path, traces.document(events))
    assert found.device_us["aten::addmm"] == 150
    assert found.said == []
    (addmm,) = (event for event in document["traceEvents"] if event["name"] == "aten::addmm")
    assert addmm["ts"] + addmm["dur"] == 120


def test_times_of_a_clock_that_counts_from_1970_keep_their_nanoseconds(tmp_path: Path) -> None:
    text = json.dumps(traces.document(traces.gpu_step()))
    for ts, dur in ((100, 150), (350, 100)):
        text = text.replace(f'"ts": {ts}, "dur": {dur}', f'"ts": 1790000000000{ts}.123, "dur": {dur}.004')
    for ts in (0, 10, 20, 30, 40, 300, 310, 400, 500):
        text = text.replace(f'"ts": {ts}, ', f'"ts": 1790000000000{ts:03d}.000, ')
    (tmp_path / "t.json").write_text(text)
    copy_trace(read_trace(tmp_path / "t.json"), tmp_path / "copy.pt.trace.json.gz")
    document = json.loads(gzip.decompress((tmp_path / "copy.pt.trace.json.gz").read_bytes()))
    found = parse(tmp_path / "copy.pt.trace.json.gz")
    assert found.device_us == {
        "aten::addmm": pytest.approx(150.004, abs=1e-9),
        "aten::_softmax": pytest.approx(100.004, abs=1e-9),
    }
    assert {event["name"]: event["ts"] for event in document["traceEvents"] if event.get("cat") == "kernel"} == {
        GEMM: 100.123,
        SOFTMAX: 350.123,
    }
    assert document["baseTimeNanoseconds"] == 10**18 + 1_790_000_000_000_000_000


def test_kernels_of_a_graph_get_no_operator(tmp_path: Path) -> None:
    events = traces.gpu_step()
    events += [
        traces.op("Torch-Compiled Region: 0/0", 600, 100, ext=4), traces.launch(610, 20, name="cudaGraphLaunch"),
        traces.kernel("triton_poi_fused_gelu_0", 700, 30, 20), traces.kernel("triton_red_fused_sum_1", 740, 20, 20),
    ]  # fmt: skip
    _, found = copied(tmp_path, traces.document(events))
    assert found.kernels == (4, 300)
    assert sum(found.device_us.values()) == 250
    assert found.kernel_operators["triton_poi_fused_gelu_0"] == "CallTreeRoot"


def test_a_trace_with_nothing_on_the_host_is_one_step(tmp_path: Path) -> None:
    kernels = [traces.kernel("a", 5000, 150, 1), traces.kernel("b", 5200, 50, 2)]
    _, found = copied(tmp_path, traces.document(kernels))
    assert found.kernels == (2, 200)
    assert [found.cost_us(role) for role in ("Kernel", "Other", "Total")] == [200, 50, 250]


def test_a_cpu_trace(tmp_path: Path) -> None:
    document, found = copied(tmp_path, traces.document(traces.cpu_step(), gpu=False))
    assert {op.name: op.self_host_duration for op in found.data.op_list_groupby_name} == {
        "aten::linear": 20, "aten::addmm": 170, "aten::copy_": 30, "aten::gelu": 100,
    }  # fmt: skip
    assert [view.display_name for view in found.profile.views] == ["Overview", "Operator", "Trace"]
    assert document["deviceProperties"] == []


def test_threads_of_two_processes_and_ids_used_twice(tmp_path: Path) -> None:
    """A file merged from two processes: both have a thread 1 and a launch 11."""
    second = [event | {"ts": event["ts"] + 5, "pid": "rank 1"} for event in traces.gpu_step()]
    for event in second:
        event["args"] |= {"device": 1} if "device" in event["args"] else {}
    first = [event | {"pid": "rank 0"} for event in traces.gpu_step()]
    _, found = copied(tmp_path, traces.document([*first, *second], deviceProperties=[traces.H100, traces.H100 | {"id": 1}]))
    assert found.kernels == (4, 500)
    assert found.device_us == {"aten::addmm": 300, "aten::_softmax": 200}
    assert found.data.used_devices == [0, 1]


def test_python_modules_reach_the_plugin(tmp_path: Path) -> None:
    def frame(name: str, ts: float, dur: float, number: int, parent: int | None, module: int | None) -> dict[str, Any]:
        args = {"Python id": number, "Python parent id": parent} | ({} if module is None else {"Python module id": module})
        return {"ph": "X", "cat": "python_function", "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": args}

    stack = [
        frame("/home/someone/run.py(3): main", 1, 998, 1, None, None), frame("nn.Module: Net_0", 12, 700, 2, 1, 0),
        frame("nn.Module: Linear_0", 15, 110, 3, 2, 0),
    ]  # fmt: skip
    document, found = copied(tmp_path, traces.document([*traces.gpu_step(), *stack]))
    (net,) = found.profile.module_stats
    (linear,) = net.children
    assert (net.name, net.device_duration, linear.name, linear.device_duration) == ("Net_0", 250, "Linear_0", 150)
    assert "run.py(3): main" in {event["name"] for event in document["traceEvents"]}
    bare, found = copied(tmp_path, traces.document([*traces.gpu_step(), *stack]), stacks=False)
    assert found.profile.module_stats is None
    assert "python_function" not in {event.get("cat") for event in bare["traceEvents"]}


def test_the_events_are_the_last_value_of_the_text(tmp_path: Path) -> None:
    """The plugin puts its own events before the last bracket of the text, whatever list that one closes."""
    events = traces.gpu_step()
    source = {"traceEvents": events, "deviceProperties": [traces.H100], "distributedInfo": {"rank": 0, "pg_config": [1]}}
    _, found = copied(tmp_path, source)
    text = gzip.decompress((tmp_path / "copy.pt.trace.json.gz").read_bytes())
    shown = json.loads(gzip.decompress(found.profile.append_gpu_metrics(text)))
    assert shown["deviceProperties"] == [
        {key: traces.H100[key] for key in ("id", "name", "totalGlobalMem", "computeMajor", "computeMinor", "numSms")}
    ]
    counters = [event for event in shown["traceEvents"] if event["ph"] == "C"]
    assert {event["name"] for event in counters} == {"GPU 0 Utilization"}


def test_nothing_private_reaches_the_copy(tmp_path: Path) -> None:
    document, found = copied(tmp_path, with_secrets())
    text = json.dumps(document)
    for secret in SECRETS:
        assert secret not in text
    assert found.device_us == {"aten::addmm": 150, "aten::_softmax": 100}


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_is_copied_up_to_there(tmp_path: Path, keep: float) -> None:
    text = json.dumps(traces.document(traces.gpu_step()))
    (tmp_path / "t.json").write_text(text[: int(len(text) * keep)])
    trace = read_trace(tmp_path / "t.json")
    copy_trace(trace, tmp_path / "copy.pt.trace.json.gz")
    assert parse(tmp_path / "copy.pt.trace.json.gz").kernels == (len(trace.kernels), trace.kernels["dur_ns"].sum() / 1e3)


def test_events_that_would_stop_the_plugin_are_left_out(tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "no time", "pid": 1, "tid": 1, "dur": 3}, {"ph": "X", "ts": 1, "dur": 1, "name": "no category"},
        {"ph": "X", "cat": "kernel", "name": "late", "ts": 1e18, "dur": 1, "pid": 0, "tid": 7, "args": {"device": 0}},
        {"ph": "s", "cat": "forward_backward", "name": "x", "pid": 1, "tid": 1, "ts": 3}, {"ph": "i", "name": "Record Window End", "ts": 9e9},
        {"ph": "i", "name": "Iteration Start: PyTorch Profiler", "ts": 1}, {"ph": "C", "name": "c"}, {},
        traces.op("aten::linear", 700, 10, tid="main", ext=9),
        *traces.gpu_step(),
    ]  # fmt: skip
    _, found = copied(tmp_path, traces.document(events, deviceProperties="?", distributedInfo=[3]))
    assert found.kernels == (2, 250)
    assert found.device_us == {"aten::addmm": 150, "aten::_softmax": 100}


def test_names_that_are_long_or_hostile(tmp_path: Path) -> None:
    name = "void </script><img src=x onerror=alert(1)> \u202e\x00\"'" + "x" * 100_000
    events = [event | {"name": name} if event["cat"] in ("kernel", "cpu_op") else event for event in traces.gpu_step()]
    _, found = copied(tmp_path, traces.document(events))
    shown = name.replace("\u202e", "").replace("\x00", "")
    assert found.device_us == {shown: 250}
    assert found.data.kernel_stat.index.tolist() == [shown]


def test_an_operator_around_one_of_its_own_name_keeps_its_launches(tmp_path: Path) -> None:
    events = [
        traces.op("aten::sum", 10, 100, ext=1),
        traces.op("aten::sum", 20, 30, ext=2),
        traces.op("aten::sum", 25, 10, ext=3),
    ]
    for number, at in enumerate((15, 22, 28, 60), 1):
        events += [traces.launch(at, number), traces.kernel(f"k{number}", 200 + 100 * number, 10 * number, number)]
    _, found = copied(tmp_path, traces.document(events))
    assert found.device_us == {"aten::sum": 100}


TIMES = st.integers(0, 300)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ops=st.lists(st.tuples(st.sampled_from("abc"), TIMES, st.integers(1, 120), st.integers(1, 2)), min_size=1, max_size=12),
    launches=st.lists(st.tuples(TIMES, st.integers(0, 50), st.integers(1, 2)), min_size=1, max_size=12),
)
def test_device_times_of_operators_are_ours_however_they_nest(ops: list[Any], launches: list[Any]) -> None:
    events = [traces.op(f"aten::{name}", ts, dur, tid=tid, ext=ts) for name, ts, dur, tid in ops]
    for number, (ts, dur, tid) in enumerate(launches, 1):
        events += [traces.launch(ts, number, tid=tid), traces.kernel(f"k{number}", 400 + 60 * number, dur, number)]
    with tempfile.TemporaryDirectory() as folder:
        source = traces.write(Path(folder) / "t.json", traces.document(events))
        trace = read_trace(source)
        copy_trace(trace, Path(folder) / "copy.pt.trace.json.gz")
        found = parse(Path(folder) / "copy.pt.trace.json.gz")
    linked = link(trace).launches
    ours = (linked[linked["op_index"] >= 0].groupby("op")["dur_ns"].sum() / 1e3).to_dict()
    assert found.kernels == (len(launches), sum(dur for _, dur, _ in launches))
    assert found.device_us == pytest.approx({op: us for op, us in ours.items() if us})
