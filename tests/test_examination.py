"""What an examination finds odd: each oddity with a trace that has it and one that has not; damage and the GPU in the header."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import TraceError
from analyzer.examination import examine
from analyzer.schema.examination import CAPABILITIES, Capability, Examination, Oddity
from tests.traces import H100, cpu_step, document, gpu_step, kernel, launch, note, op, write

Events = list[dict[str, Any]]
BASE = 1_700_000_000 * 10**9


def look(folder: Path, events: Events, *, name: str = "trace.json", **top: Any) -> Examination:
    return examine(write(folder / name, document(events, baseTimeNanoseconds=BASE) | top))


def capability(e: Examination, key: str) -> Capability:
    return next(c for c in e.capabilities if c.key == key)


def oddity(e: Examination, code: str) -> Oddity:
    return next(o for o in e.oddities if o.code == code)


def codes(e: Examination) -> set[str]:
    return {o.code for o in e.oddities}


def fractional() -> Events:
    """The sound step, with times that are not all whole microseconds and Kineto's occupancy as it would be with 12 %."""
    events = gpu_step()
    events[-2]["dur"] = 100.25
    return events


def train() -> Events:
    back = op("autograd::engine::evaluate_function: AddmmBackward0", 600, 50, dims=[[128, 32]], tid=2)
    back["args"] |= {"Sequence number": 4, "Fwd thread id": 1}
    return [*fractional(), back, note("Optimizer.step#SGD.step", 700, 10)]


def steps(*lengths: float) -> Events:
    """Profiler steps one after another, each with an operator and a kernel inside."""
    events: Events = []
    at = 0.0
    for number, length in enumerate(lengths):
        events += [
            note(f"ProfilerStep#{number}", at, length),
            op("aten::relu", at + 1, 20, dims=[[4]]),
            launch(at + 5, number + 1),
            kernel("relu_kernel", at + 10, 5.5, number + 1),
        ]
        at += length + 10
    return events


def labelled(*ranks: int) -> Events:
    """The same work in processes of several ranks, as a merging tool labels them."""
    events: Events = []
    for rank in ranks:
        pid = f"rank {rank}"
        events += [op("aten::relu", 1, 20, dims=[[4]]) | {"pid": pid}, launch(5, 1) | {"pid": pid}]
        events += [kernel("relu_kernel", 10, 5.5, 1) | {"pid": pid}]
    return events


def call(name: str, ts: float = 20, dur: float = 30, cat: str = "cuda_runtime") -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": {"correlation": 90}}


def no_launch() -> Events:
    return [e for e in fractional() if e["name"] != "cudaLaunchKernel"]


def no_kernel() -> Events:
    return [e for e in fractional() if e["cat"] not in ("kernel", "gpu_memcpy")]


def lost_kernel() -> Events:
    return [*fractional(), launch(450, 77)]


def large_block(occupancy: int) -> Events:
    """150 us of 250.25 us in a kernel of 96 KiB, of which Kineto writes ``occupancy``."""
    events = fractional()
    events[-3]["args"]["est. achieved occupancy %"] = occupancy
    return events


def graph() -> Events:
    return [
        *fractional(), launch(600, 21, name="cudaGraphLaunch"), kernel("softmax_a", 610, 40.5, 21),
        kernel("softmax_b", 660, 40.5, 21),
    ]  # fmt: skip


def overlapping(by: float) -> Events:
    return [*fractional(), launch(405, 31), kernel("softmax_c", 450.25 - by, 20, 31)]


A100 = H100 | {"name": "NVIDIA A100-SXM4-40GB", "computeMajor": 8, "numSms": 108, "totalGlobalMem": 42481549312}
OVERHEAD = {
    "ph": "X",
    "cat": "overhead",
    "name": "Activity Buffer Request",
    "pid": -1,
    "tid": 0,
    "ts": 5,
    "dur": 12,
    "args": {},
}
LAZY = OVERHEAD | {"name": "Lazy Function Loading"}
NEGATIVE = kernel("softmax_warp_forward<c10::Half>", 700, -4, 41)
SECOND = kernel("softmax_d", 700, 10.5, 51, device=1) | {"pid": 1}

ELSEWHERE = {"damaged", "recorded_warning", "unsteady", "graph_kernels_aligned", "graph_kernels_not_aligned"}
"""Oddities with tests of their own."""

FIRES: dict[str, tuple[Events, dict[str, Any], Events, dict[str, Any]]] = {
    # code: events and top level that fire it, events and top level that do not
    "no_kernels": (no_kernel(), {}, fractional(), {}),
    "gpu_unused": (cpu_step(), {}, cpu_step(), {"deviceProperties": []}),
    "launches_without_kernel": (lost_kernel(), {}, fractional(), {}),
    "kernels_without_launch": (no_launch(), {}, fractional(), {}),
    "impossible_time": ([*fractional(), launch(690, 41), NEGATIVE], {}, fractional(), {}),
    "overlap": (overlapping(5), {"deviceProperties": [A100]}, overlapping(0), {"deviceProperties": [A100]}),
    "dependent_launch": (overlapping(5), {}, overlapping(0), {}),
    "several_ranks": (labelled(0, 3), {}, labelled(3), {}),
    "mixed_devices": ([*fractional(), launch(650, 51), SECOND], {"deviceProperties": [H100, A100 | {"id": 1}]}, fractional(), {}),
    "several_devices": ([*fractional(), launch(650, 51), SECOND], {"deviceProperties": [H100, H100 | {"id": 1}]}, fractional(), {}),
    "device_not_listed": (fractional(), {"deviceProperties": [H100 | {"id": 3}]}, fractional(), {}),
    "training": (train(), {}, fractional(), {}),
    "loading": ([*fractional(), call("cuModuleLoadData", cat="cuda_driver")], {}, [*fractional(), call("cuModuleGetFunction")], {}),
    "allocating": ([*fractional(), call("cudaMalloc")], {}, [*fractional(), call("cudaMallocAsync"), call("cudaMallocInfo")], {}),
    "first_step": (steps(1000, 100, 110, 90), {}, steps(140, 100, 110, 90), {}),
    "outside_steps": ([*steps(100, 100), op("aten::gelu", 900, 20, dims=[[4]]),
                      launch(905, 61), kernel("gelu_kernel", 930, 5.5, 61)], {}, steps(100, 100), {}),
    "graph_kernels": (graph(), {}, fractional(), {}),
    "zero_occupancy": (large_block(0), {}, large_block(12), {}),
    "unclassified": ([*fractional(), op("mine::strange", 600, 40, dims=[[4]]), launch(610, 71), kernel("zzz", 650, 40.5, 71)], {},
                     fractional(), {}),
    "clock_base": (fractional(), {"baseTimeNanoseconds": 0}, fractional(), {"baseTimeNanoseconds": BASE}),
    "whole_microseconds": (gpu_step(), {}, fractional(), {}),
    "old_format": ([e | {"cat": "Kernel"} if e["cat"] == "kernel" else e for e in fractional()], {}, fractional(), {}),
    "profiler_overhead": ([*fractional(), OVERHEAD], {}, [*fractional(), OVERHEAD | {"dur": 0}], {}),
}  # fmt: skip


@pytest.mark.parametrize("code", FIRES)
def test_each_oddity_fires_where_it_is_and_nowhere_else(tmp_path: Path, code: str) -> None:
    odd, top, sound, sound_top = FIRES[code]
    assert code in codes(look(tmp_path, odd, **top))
    assert code not in codes(look(tmp_path, sound, **sound_top))


def test_every_oddity_of_the_source_has_such_a_pair() -> None:
    source = (Path(__file__).parents[1] / "analyzer/insight/oddities.py").read_text(encoding="utf-8")
    written = set(re.findall(r'Oddity\(\s*"(\w+)"', source))
    assert written - ELSEWHERE == set(FIRES)


def test_a_sound_step_has_no_oddity(tmp_path: Path) -> None:
    e = look(tmp_path, fractional())
    assert codes(e) == set()
    assert [c.key for c in e.capabilities] == list(CAPABILITIES)


def test_the_figures_of_oddities(tmp_path: Path) -> None:
    zero = oddity(look(tmp_path, large_block(0)), "zero_occupancy")
    assert (zero.count, zero.share_pct) == (1, pytest.approx(100 * 150 / 250.25))  # copies are no kernel time
    assert "1 of 1 kernels above 48 KiB" in zero.finding
    alone = oddity(look(tmp_path, no_launch()), "kernels_without_launch")
    assert (alone.count, alone.share_pct) == (2, pytest.approx(100))
    lost = oddity(look(tmp_path, lost_kernel()), "launches_without_kernel")
    assert (lost.count, lost.finding) == (1, "1 of 3 launches have no kernel")
    first = oddity(look(tmp_path, steps(1000, 100, 110, 90)), "first_step")
    assert "1.00 ms on the host, the median of the others 100 µs (10.0x)" in first.finding
    of_graph = oddity(look(tmp_path, graph()), "graph_kernels")
    assert (of_graph.count, of_graph.share_pct) == (2, pytest.approx(100 * 81 / 331.25))
    trained = oddity(look(tmp_path, train()), "training")
    assert trained.finding == "training, not inference: 1 backward operators and 1 optimizer step"
    spent = oddity(look(tmp_path, [*fractional(), OVERHEAD, LAZY]), "profiler_overhead")
    assert "Activity Buffer Request 12.0 µs, Lazy Function Loading 12.0 µs" in spent.finding


def test_lazy_loading_tells_a_cold_model(tmp_path: Path) -> None:
    assert "loading" in codes(look(tmp_path, [*fractional(), LAZY]))
    assert "loading" in codes(look(tmp_path, [*fractional(), note("_compile.compile_inner (dynamo_timed)", 5, 100)]))


def test_a_block_of_exactly_48_kib_is_not_above_it(tmp_path: Path) -> None:
    events = large_block(0)
    events[-3]["args"]["shared memory"] = 48 * 1024
    assert "zero_occupancy" not in codes(look(tmp_path, events))


def test_times_that_are_unix_times_need_no_base(tmp_path: Path) -> None:
    def moved(events: Events, us: float) -> Events:
        return [e | {"ts": e["ts"] + us} for e in events]

    e = look(tmp_path, moved(gpu_step(), 1_623_142_623_529_248), baseTimeNanoseconds=0)
    assert "clock_base" not in codes(e)
    assert capability(e, "clock").status == "yes"
    since_boot = look(tmp_path, moved(fractional(), 7_200_000_000), baseTimeNanoseconds=0)
    assert "2.00 hours" in oddity(since_boot, "clock_base").finding
    assert capability(since_boot, "clock").status == "no"


def test_a_truncated_copy_says_so_and_is_still_examined(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(document(fractional() * 400)).encode())
    path = tmp_path / "cut.json.gz"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    e = examine(path)
    assert "cut off" in oddity(e, "damaged").finding
    assert capability(e, "kernels").count
    assert "the header" not in oddity(e, "damaged").finding


def _strided(events: Events) -> Events:
    """Give each operator the strides that a recent torch writes."""
    return [
        e | {"args": e["args"] | {"Input Strides": [[1] * len(dims) for dims in e["args"]["Input Dims"]]}}
        if e["cat"] == "cpu_op" and "Input Dims" in e["args"]
        else e
        for e in events
    ]


def _cut(folder: Path, events: Events, behind: Events) -> Examination:
    """Examine a trace that ends where ``behind`` begins; its header would stand behind the events."""
    whole = json.dumps({"traceEvents": [*events, *behind]})
    path = folder / "cut.json"
    path.write_text(whole[: whole.index(json.dumps(behind)[1:]) + 20])
    return examine(path)


MEMORY = {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1, "ts": 5,
          "args": {"Bytes": 64, "Addr": 1, "Device Type": 1, "Device Id": 0, "Total Allocated": 64}}  # fmt: skip


@pytest.mark.parametrize(
    "sign",
    [MEMORY, op("aten::cudnn_convolution", 600, 5, dims=[[4]]), op("aten::_flash_attention_forward", 600, 5, dims=[[4]])],
)
def test_a_gpu_trace_that_is_cut_off_before_its_kernels_is_no_cpu_run(tmp_path: Path, sign: dict[str, Any]) -> None:
    e = _cut(tmp_path, _strided([*cpu_step(), sign]), gpu_step())
    assert e.subject.startswith("GPU not known, the file is cut off")
    asked = ("kernels", "launches", "device", "datasheet", "clock", "occupancy")
    found = {key: (capability(e, key).status, capability(e, key).detail) for key in asked}
    assert found == dict.fromkeys(asked, ("unknown", "not known, the file is cut off"))
    assert "clock_base" not in codes(e)
    assert "CUDA]" in e.recording.snippet
    assert "recent torch" not in e.recording.snippet + str(e.recording.missing)
    assert "device=cuda" in e.recording.command
    assert any("cut off" in remark for remark in e.recording.remarks)
    assert capability(e, "kernels") in e.unsupported()


def test_without_signs_of_a_gpu_a_cut_off_trace_leaves_it_open(tmp_path: Path) -> None:
    e = _cut(tmp_path, cpu_step(), gpu_step())
    assert e.subject.startswith("device not known")
    assert e.status("kernels") == "unknown"
    assert e.status("shapes") == "yes"  # the operators that are there tell it
    assert "device=auto" in e.recording.command
    assert "CUDA]" in e.recording.snippet


@pytest.mark.parametrize(
    "name", ["aten::_scaled_dot_product_flash_attention_for_cpu", "aten::conv2d", "aten::mkldnn_convolution"]
)
def test_operators_of_a_cpu_are_no_sign_of_a_gpu(tmp_path: Path, name: str) -> None:
    e = look(tmp_path, [*cpu_step(), op(name, 900, 5)], deviceProperties=[])
    assert (e.status("kernels"), e.subject.split(":")[0]) == ("unused", "a CPU")


def test_launches_without_kernels_are_of_the_gpu_in_the_header(tmp_path: Path) -> None:
    e = look(tmp_path, _strided(no_kernel()))
    assert (e.status("device"), e.status("datasheet"), e.status("kernels")) == ("yes", "yes", "no")
    assert capability(e, "device").detail.startswith("NVIDIA H100 80GB HBM3, cc 9.0, 132 multiprocessors")
    assert e.subject.startswith("nothing recorded on NVIDIA H100 80GB HBM3")
    assert "recent torch" not in e.recording.snippet + str(e.recording.missing)
    assert capability(e, "occupancy").detail == "no kernel is in the trace"
    unnamed = look(tmp_path, _strided(no_kernel()), deviceProperties=[H100, A100 | {"id": 1}])
    assert (unnamed.status("device"), unnamed.status("datasheet")) == ("no", "no")
    assert "recent torch" not in unnamed.recording.snippet + str(unnamed.recording.missing)


def test_a_gpu_that_gave_memory_was_used(tmp_path: Path) -> None:
    events = [e for e in no_kernel() if e["cat"] != "cuda_runtime"]
    assert "ran on the CPU, or" in oddity(look(tmp_path, events), "gpu_unused").meaning
    assert "memory was taken there" in oddity(look(tmp_path, [*events, MEMORY]), "gpu_unused").meaning


def test_links_are_graded_by_operator_and_launch_together(tmp_path: Path) -> None:
    sound = capability(look(tmp_path, fractional()), "launches")
    assert (sound.status, sound.count, sound.total, sound.consequence) == ("yes", 2, 2, "")
    e = look(tmp_path, [e for e in fractional() if e["cat"] != "cuda_runtime"])
    found = capability(e, "launches")
    assert (found.status, found.count, found.total) == ("partly", 0, 2)
    assert "launch call for 0 of 2" in found.detail
    assert "without its launch call the idle time before a kernel has no cause" in found.consequence
    assert "# or kernels that run later are lost" not in e.recording.snippet
    assert "# or kernels that run later are lost" in look(tmp_path, lost_kernel()).recording.snippet


def test_collectives_of_the_host_are_counted(tmp_path: Path) -> None:
    calls = [
        note(name, 900 + 20 * i, 10) for i, name in enumerate(("gloo:all_reduce", "nccl:all_reduce", "mpi:send", "my gloo:x"))
    ]
    found = capability(look(tmp_path, [*cpu_step(), *calls], deviceProperties=[]), "collectives")
    assert (found.status, found.count, found.detail) == ("yes", 3, "3 calls by the host")
    assert look(tmp_path, cpu_step(), deviceProperties=[]).status("collectives") == "unused"


def test_steps_that_hold_nothing_select_nothing(tmp_path: Path) -> None:
    some = FIRES["outside_steps"][0]
    alone = [note("ProfilerStep#1", 0, 1), *some[-3:]]
    assert "steps= selects some" in oddity(look(tmp_path, some), "outside_steps").meaning
    assert "nothing that steps= could select" in oddity(look(tmp_path, alone), "outside_steps").meaning


@pytest.mark.parametrize("content", [b"", b"no json", b"{}", b'{"traceEvents": []}', b"\x1f\x8b"])
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(TraceError):
        examine(path)
