"""Each capability that an examination finds: there, in part and not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyzer.examination import examine
from tests.test_examination import Events, capability, codes, fractional, graph, look, no_kernel, oddity
from tests.traces import H100, cpu_step, kernel, launch, note, op


def _without(events: Events, key: str) -> Events:
    return [e | {"args": {k: v for k, v in e["args"].items() if not k.startswith(key)}} for e in events]


NOT_THERE: dict[str, Callable[[], tuple[Events, dict[str, Any]]]] = {
    "kernels": lambda: (no_kernel(), {}),
    "operators": lambda: ([e for e in fractional() if e["cat"] != "cpu_op"], {}),
    "launches": lambda: ([e for e in _without(fractional(), "External id") if e["cat"] not in ("cpu_op", "cuda_runtime")], {}),
    "shapes": lambda: (_without(fractional(), "Input Dims"), {}),
    "strides": lambda: (fractional(), {}),
    "modules": lambda: ([e for e in fractional() if not e["name"].startswith("module::")], {}),
    "stacks": lambda: (fractional(), {}),
    "datasheet": lambda: (fractional(), {"deviceProperties": [H100 | {"name": "NVIDIA X1"}]}),
    "geometry": lambda: (_without(fractional(), "grid"), {}),
    "resources": lambda: (_without(fractional(), "registers"), {}),
    "occupancy": lambda: (_without(fractional(), "registers"), {}),
    "graphs": lambda: (graph(), {}),
    "steps": lambda: ([e for e in fractional() if not e["name"].startswith("ProfilerStep")], {}),
    "memory": lambda: (fractional(), {}),
    "clock": lambda: (fractional(), {"baseTimeNanoseconds": 0}),
    "ranks": lambda: ([*fractional(), launch(600, 81), kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 610, 9, 81)], {}),
    "counters": lambda: (fractional(), {}),
    "latency": lambda: (fractional(), {}),
    "telemetry": lambda: (fractional(), {}),
    "calibration": lambda: (fractional(), {}),
    "operands": lambda: (fractional(), {}),
}


@pytest.mark.parametrize("key", NOT_THERE)
def test_a_capability_that_is_not_there_says_what_the_report_lacks(tmp_path: Path, key: str) -> None:
    events, top = NOT_THERE[key]()
    found = capability(look(tmp_path, events, **top), key)
    assert found.status == "no"
    assert found.consequence
    assert found.detail


def _rich() -> tuple[Events, dict[str, Any]]:
    """A step with all that torch.profiler can write."""
    events = fractional()
    for event in events:
        if event["cat"] == "cpu_op":
            event["args"]["Input Strides"] = [[1] * len(d) for d in event["args"]["Input Dims"]]
    memory = {"Bytes": 64, "Addr": 1, "Device Type": 1, "Device Id": 0, "Total Allocated": 64, "Total Reserved": 128}
    events += [
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1, "ts": 5, "args": memory},
        note("module::norm", 290, 110),
        {"ph": "X", "cat": "python_function", "name": "run.py(3): main", "pid": 1, "tid": 1, "ts": 1, "dur": 900, "args": {}},
        {
            "ph": "X",
            "cat": "cuda_profiler_range",
            "name": "softmax",
            "pid": 0,
            "tid": 7,
            "ts": 350,
            "dur": 9,
            "args": {"x": 1.5},
        },
        launch(600, 21, name="cudaGraphLaunch"),
        kernel("softmax_a", 610, 4.5, 21, **{"graph id": 1, "graph node id": 5}),
        launch(690, 81),
        kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 700, 3.5, 81),
    ]
    return events, {"distributedInfo": {"rank": 2, "world_size": 4}}


BY_PROFILER = (
    "kernels", "operators", "shapes", "strides", "stacks", "device", "datasheet", "geometry", "resources", "occupancy",
    "graphs", "steps", "memory", "clock", "ranks", "collectives", "counters",
)  # fmt: skip


def test_what_is_there_is_found(tmp_path: Path) -> None:
    events, top = _rich()
    e = look(tmp_path, events, **top)
    assert {key: e.status(key) for key in BY_PROFILER} == dict.fromkeys(BY_PROFILER, "yes")
    assert all(not c.consequence for c in e.capabilities if c.status in ("yes", "unused"))
    assert capability(e, "ranks").detail == "rank 2 of 4"
    assert (capability(e, "shapes").count, capability(e, "shapes").total) == (3, 3)


def test_shares_of_what_is_there_in_part(tmp_path: Path) -> None:
    e = look(tmp_path, graph())
    linked = capability(e, "launches")
    assert (linked.status, linked.count, linked.total) == ("partly", 2, 4)
    assert "2 of 4 kernels (76 % of kernel time)" in linked.detail  # 250.25 of 331.25 us
    events = fractional()
    del events[5]["args"]["Input Dims"]  # of three operators, one has no shapes
    shapes = capability(look(tmp_path, events), "shapes")
    assert (shapes.status, shapes.count, shapes.total) == ("partly", 2, 3)
    modules = capability(look(tmp_path, fractional()), "modules")
    assert (modules.status, modules.count, modules.total) == ("partly", 1, 2)


def test_device_facts_in_part(tmp_path: Path) -> None:
    e = look(tmp_path, fractional(), deviceProperties=[{"id": 0, "name": "NVIDIA H100 80GB HBM3"}])
    found = capability(e, "device")
    assert (found.status, found.count, found.total) == ("partly", 1, 4)
    assert found.detail == "NVIDIA H100 80GB HBM3; not told: compute capability, multiprocessors, memory"


def test_amd_gets_no_advice_that_cannot_help(tmp_path: Path) -> None:
    mi300 = {"id": 0, "name": "AMD Instinct MI300X", "computeMajor": 9, "computeMinor": 4, "numSms": 304,
             "totalGlobalMem": 205571227648}  # fmt: skip
    e = look(tmp_path, _without(fractional(), "registers"), deviceProperties=[mi300], hip_runtime_version=60443483)
    assert e.status("resources") == "no"
    assert "registers, shared memory" not in dict(e.recording.missing)
    assert any("AMD" in remark for remark in e.recording.remarks)


def test_a_cpu_run_lacks_nothing_of_a_gpu(tmp_path: Path) -> None:
    e = look(tmp_path, cpu_step(), deviceProperties=[])
    of_gpu = ("kernels", "launches", "datasheet", "geometry", "resources", "occupancy", "graphs", "collectives", "counters")
    assert {key: e.status(key) for key in of_gpu} == dict.fromkeys(of_gpu, "unused")
    assert "ProfilerActivity.CUDA" not in e.recording.snippet
    assert "cuda" not in e.recording.command


def test_the_command_knows_the_input_of_the_model(tmp_path: Path) -> None:
    dims = [[32, 3, 384, 384], [64, 3, 7, 7], [], [], [], []]
    types = ["c10::BFloat16", "c10::BFloat16", "", "ScalarList", "ScalarList", "ScalarList"]
    conv = op("aten::conv2d", 600, 40, dims=dims, types=types, concrete=["", "", "", "[2, 2]", "[3, 3]", "[1, 1]"])
    e = look(tmp_path, [*fractional(), conv])
    assert "batch_size=32 image_size=384 dtype=bfloat16 device=cuda" in e.recording.command
    assert "batch_size=IMAGES image_size=PIXELS" in look(tmp_path, fractional()).recording.command


def test_public_traces_are_told_as_they_are(public_traces: Path) -> None:
    """Figures by hand: counts of kernels and zeros are those of the traces' own index, the rest counted in the files."""
    found = {name: examine(public_traces / f"{name}.json.gz") for name in _PUBLIC}
    for name, (kernels, without, odd) in _PUBLIC.items():
        e = found[name]
        assert capability(e, "kernels").count == kernels
        assert {key for key in _ASKED if e.status(key) == "no"} == set(without.split())
        assert codes(e) == set(odd.split())
    assert oddity(found["tracelens_h100_vit_nsfw_infer"], "zero_occupancy").count == 74
    assert oddity(found["saf_a100_sam_amg_vith_fast"], "graph_kernels").count == 2514 - 1948 - 8 - 4  # kernels less launches
    assert capability(found["tracelens_b200_eager"], "ranks").detail == "rank 0 of 8"
    assert "636 kernels have a duration of 0" in oddity(found["kineto_v100_resnet50_train_nw0"], "whole_microseconds").finding
    assert "batch_size=4 image_size=224" in found["tracelens_h100_vit_nsfw_infer"].recording.command


_ASKED = ("kernels", "shapes", "strides", "modules", "stacks", "resources", "occupancy", "steps", "memory", "datasheet")
_PUBLIC = {
    "hta_a100_alexnet_critical_path": (79, "shapes strides stacks steps memory", "allocating zero_occupancy whole_microseconds"),
    "hta_cpu_only_tiny": (0, "strides modules stacks memory", "outside_steps"),
    "kineto_v100_resnet50_train_nw0": (8772, "strides modules", "training whole_microseconds old_format"),
    "param_rtx2080ti_resnet_train": (
        9628, "shapes strides modules stacks steps memory", "training allocating whole_microseconds",
    ),
    "saf_a100_sam_amg_vith_fast": (2514, "strides modules stacks steps memory", "graph_kernels zero_occupancy whole_microseconds"),
    "tracelens_b200_eager": (768, "steps memory", "dependent_launch loading zero_occupancy profiler_overhead"),
    "tracelens_h100_vit_nsfw_infer": (154, "", "zero_occupancy"),
    "tracelens_mi300_vit_nsfw_infer": (155, "resources occupancy", "device_not_listed"),
}  # fmt: skip
