"""Compiled code in a trace: its kernels get the operators and modules of the graph that they are calls of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analyzer.schema.compiled import CompiledCall, CompiledGraph, Part
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.fitting import key
from analyzer.trace.generated import with_generated
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import Linked, link
from analyzer.trace.regions import Adopted, adopt_compiled, fused_name
from tests import traces

DIMS = [[4, 8]]
CALL = "## Call CompiledFxGraph None ##"


def tensor(*shape: int, storage: int | None = None) -> TensorArg:
    return TensorArg(shape, "float32", None, storage)


def part(name: str, module: str = "", *inputs: Any, outputs: Any = None) -> Part:
    return Part(OpCall(name, inputs or (tensor(4, 8),), outputs or (tensor(4, 8),)), module)


def fused(kernel: str, *parts: Part) -> CompiledCall:
    return CompiledCall(kernel, True, parts, OpCall(kernel, (tensor(4, 8),), (tensor(4, 8),)))


def library(name: str, module: str, *parts: Part) -> CompiledCall:
    return CompiledCall(name, False, parts or (part(name, module),))


def block(number: int) -> tuple[CompiledCall, ...]:
    """Three kernels of a block: addmm, gelu, and an addition with the norm behind it."""
    path = f"blocks.{number}"
    return (
        library("aten::addmm", f"{path}.fc"),
        fused("cpp_fused_gelu_view_0", part("aten::view", f"{path}.fc"), part("aten::gelu", f"{path}.act")),
        fused("cpp_fused_add_native_layer_norm_1", part("aten::add", path), part("aten::native_layer_norm", f"{path}.norm")),
    )


def region(names: list[str], start: float, *, tid: int = 1, width: float = 10, dims: Any = None) -> list[dict[str, Any]]:
    """What a compiled CPU run records: a region, the call of its graph, and in it ``names`` one after the other.

    ``dims``: the shapes of the tensors that go into a library's operators, where the trace has them.
    """
    length = width * (len(names) + 1)
    ops = [
        traces.op(name, start + 2 + width * i, width - 2, tid=tid, dims=dims if "::" in name else None)
        for i, name in enumerate(names)
    ]
    return [
        traces.op("Torch-Compiled Region: 0/0", start, length, tid=tid),
        traces.op("Pregraph bytecode", start + 0.5, 0.5, tid=tid),
        traces.note(CALL, start + 1.5, length - 2, tid=tid),
        *ops,
    ]


def names_of(*calls: CompiledCall) -> list[str]:
    return [f"graph_0_{call.kernel}" if call.kernel.startswith("cpp") else call.kernel for call in calls]


def read(tmp_path: Path, events: list[dict[str, Any]], *, gpu: bool = False) -> tuple[Trace, Linked]:
    trace = with_generated(read_trace(traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu))))
    return trace, link(trace)


def adopt(tmp_path: Path, events: list[dict[str, Any]], *graphs: tuple[CompiledCall, ...], gpu: bool = False) -> Adopted:
    return adopt_compiled(*read(tmp_path, events, gpu=gpu), tuple(CompiledGraph(calls) for calls in graphs))


def told(found: Adopted) -> list[tuple[str, str]]:
    return list(zip(found.launches["op"], found.launches["module"], strict=True))


FUSED = "aten::add+aten::native_layer_norm"
BLOCK = [("aten::addmm", "blocks.{0}.fc"), ("aten::gelu", "blocks.{0}.act"), (FUSED, "blocks.{0}.norm")]


def expected(number: int) -> list[tuple[str, str]]:
    return [(op, module.format(number)) for op, module in BLOCK]


def test_a_region_is_the_calls_of_its_graph_in_order(tmp_path: Path) -> None:
    calls = (*block(0), *block(1))
    found = adopt(tmp_path, [traces.note("ProfilerStep#0", 0, 900), *region(names_of(*calls), 10, dims=DIMS)], calls)
    assert told(found) == [*expected(0), *expected(1)]
    assert (found.matched_pct, found.notes) == (100.0, ())
    norm = found.calls[max(found.calls)]
    assert [each.name for each in norm.parts] == ["aten::add", "aten::native_layer_norm"]
    assert (norm.inputs, norm.outputs) == ((tensor(4, 8),), (tensor(4, 8),))


def test_what_lies_below_a_call_has_its_module(tmp_path: Path) -> None:
    inside = traces.op("aten::copy_", 13, 2)
    found = adopt(tmp_path, [*region(names_of(*block(0)), 10), inside], block(0))
    assert ("aten::copy_", "blocks.0.fc") in told(found)


def test_operators_between_regions_keep_what_they_have(tmp_path: Path) -> None:
    one, two = block(0), block(1)
    eager = [traces.note("module::eager", 100, 30), traces.op("aten::gelu", 105, 10)]
    found = adopt(tmp_path, [*region(names_of(*one), 10), *eager, *region(names_of(*two), 200)], (*one,), (*two[:1], *two[2:]))
    assert told(found)[3] == ("aten::gelu", "eager")
    assert found.matched_pct == 100.0


def test_graphs_with_the_same_kernels_take_turns(tmp_path: Path) -> None:
    steps = [traces.note(f"ProfilerStep#{i}", 1000 * i, 900) for i in range(2)]
    events = [event for i in range(4) for event in region(names_of(*block(0)), 1000 * (i // 2) + 10 + 100 * (i % 2))]
    found = adopt(tmp_path, [*steps, *events], block(0), block(1))
    assert told(found) == [*expected(0), *expected(1), *expected(0), *expected(1)]
    odd = adopt(tmp_path, [*steps, *events[: len(events) // 2], *events[-len(events) // 4 :]], block(0), block(1))
    assert told(odd)[:6] == [*expected(0), *expected(1)]
    # one call of two graphs: it may be either, so the operators, which are the same in both, are all that is known
    assert told(odd)[6:] == [(op, "") for op, _ in expected(0)]
    assert odd.notes[0].startswith("2 graphs in compiled.json.gz have the same kernels, nothing tells which ran")
    assert odd.matched_pct == 100.0


def test_a_kernel_that_is_missing_shifts_nothing(tmp_path: Path) -> None:
    calls = (*block(0), *block(1), *block(2))
    names = names_of(*calls)
    found = adopt(tmp_path, region([*names[:4], *names[5:]], 10, dims=DIMS), calls)
    assert told(found) == [*expected(0), expected(1)[0], expected(1)[2], *expected(2)]
    assert found.matched_pct == pytest.approx(100 * 8 / 9)
    assert found.notes == ("1 of 9 kernels that compiled code calls are not in the trace",)


def test_another_operator_in_a_region_stays_as_it_was(tmp_path: Path) -> None:
    names = names_of(*block(0))
    found = adopt(tmp_path, region([names[0], "mine::op", "graph_0_cpp_fused_mul_7", *names[1:]], 10), block(0))
    assert told(found) == [expected(0)[0], ("mine::op", ""), ("aten::mul", ""), *expected(0)[1:]]


def test_a_region_of_other_code_keeps_what_its_kernels_say(tmp_path: Path) -> None:
    other = region(["graph_0_cpp_fused_mul_0", "graph_0_cpp_fused_relu_1", "aten::addmm"], 10)
    found = adopt(tmp_path, [*other, *region(names_of(*block(0)), 100)], block(0))
    assert told(found) == [("aten::mul", ""), ("aten::relu", ""), ("aten::addmm", ""), *expected(0)]
    assert "1 call of compiled code ran another graph" in found.notes[0]
    alone = adopt(tmp_path, other, block(0))
    assert (math.isnan(alone.matched_pct), len(alone.notes)) == (True, 1)
    assert "nothing in the trace" in alone.notes[0]


def test_a_graph_that_runs_for_several_modules_is_said_to(tmp_path: Path) -> None:
    events = [traces.note("ProfilerStep#0", 0, 900), *region(names_of(*block(0)), 10), *region(names_of(*block(0)), 100)]
    found = adopt(tmp_path, events, block(0))
    assert told(found) == [*expected(0), *expected(0)]
    assert "1 graph of torch.compile ran more than once in a step" in found.notes[0]


def test_the_better_fit_wins_over_a_graph_that_is_a_part_of_another(tmp_path: Path) -> None:
    calls = (*block(0), *block(1))
    found = adopt(tmp_path, region(names_of(*calls), 10), block(7), calls)
    assert told(found) == [*expected(0), *expected(1)]


def test_a_library_call_with_more_than_its_own_operator_is_all_of_them(tmp_path: Path) -> None:
    linear = library("mkldnn::_linear_pointwise", "", part("aten::linear", "fc"), part("aten::relu", "act"))
    found = adopt(tmp_path, region(["mkldnn::_linear_pointwise", "graph_0_cpp_fused_gelu_0"], 10), (linear, block(0)[1]))
    assert told(found)[0] == ("aten::linear+aten::relu", "fc")


def test_exact_arguments_are_taken_where_the_trace_agrees(tmp_path: Path) -> None:
    exact = part("aten::addmm", "fc", tensor(8), tensor(2, 4), tensor(4, 8), outputs=(tensor(2, 8),))
    graph = (library("aten::addmm", "", exact), block(0)[1])
    found = adopt(tmp_path, region(names_of(*graph), 10, dims=[[8], [2, 4], [4, 8]]), graph)
    assert [call.results()[0].shape for call in found.calls.values() if call.name == "aten::addmm"] == [(2, 8)]
    assert [module for _, module in told(found)] == ["fc", "blocks.0.act"]


def test_without_the_file_the_names_of_kernels_tell_their_operators(tmp_path: Path) -> None:
    found = adopt(tmp_path, region(names_of(*block(0)), 10))
    assert [op for op, _ in told(found)] == ["aten::addmm", "aten::gelu", FUSED]
    assert (found.calls, found.notes) == ({}, ())


NAMES = [
    ("triton_poi_fused_add_gelu_view_3", "aten::add+aten::gelu"), ("triton_poi_fused_view_0", "aten::view"),
    ("triton_poi_fused_convert_element_type_0", "prims::convert_element_type"), ("triton_for_fused_0", ""),
    ("aten::add", "aten::add"), ("Torch-Compiled Region: 1/0", ""), ("cudaLaunchKernel", ""), ("mine::a+b", "mine::a+b"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shown"), NAMES)
def test_the_operators_that_a_name_stands_for(name: str, shown: str) -> None:
    assert fused_name(name) == shown


def test_each_operator_stands_once_in_the_order_of_the_data() -> None:
    call = OpCall("k", (), parts=tuple(OpCall(f"aten::{name}", ()) for name in ("mul", "view", "add", "mul")))
    assert fused_name("triton_poi_fused_add_mul_0", call) == "aten::mul+aten::add"


def test_kernels_are_called_alike_in_both_files() -> None:
    assert key("graph_12_cpp_fused_add_3") == key("cpp_fused_add_3") != key("cpp_fused_add_4")
    assert key("aten::addmm.out") == "aten::addmm"
    assert key("triton_poi_fused_add_3") == "triton_poi_fused_add_3"


def test_a_compiled_region_works_where_its_kernels_are_hidden_and_only_dispatches_where_they_are_shown(tmp_path: Path) -> None:
    hidden, linked = read(tmp_path, region(["aten::addmm"], 10))
    found = adopt_compiled(hidden, linked)
    assert list(zip(found.launches["kernel"], found.launches["op"], strict=True)) == [
        ("Torch-Compiled Region: 0/0", ""), ("aten::addmm", "aten::addmm"),
    ]  # fmt: skip
    assert linked.wrapper_ns == 500  # of the bytecode
    _, linked = read(tmp_path, region(["aten::addmm", "graph_0_cpp_fused_gelu_0"], 10))
    assert linked.launches["kernel"].tolist() == ["aten::addmm", "graph_0_cpp_fused_gelu_0"]
    assert linked.wrapper_ns == 30_000 - 2 * 8_000
    own = link(hidden, shows_generated=True)  # compiled.json.gz lies with the run: there is just no generated kernel
    assert (own.launches["kernel"].tolist(), own.wrapper_ns) == (["aten::addmm"], 12_000)


def gpu_region(*launched: tuple[str, str]) -> list[dict[str, Any]]:
    """A region on a GPU: (operator around the launch call or nothing, kernel) one after the other."""
    events = [traces.op("Torch-Compiled Region: 0/0", 0, 1000), traces.note(CALL, 1, 990)]
    for i, (op, kernel) in enumerate(launched):
        events += [traces.op(op, 10 * i + 10, 8)] if op else []
        events += [traces.launch(10 * i + 12, i + 1), traces.kernel(kernel, 2000 + 10 * i, 5, i + 1)]
    return events


def test_a_generated_gpu_kernel_without_an_operator_of_its_own_is_one(tmp_path: Path) -> None:
    graph = (
        library("aten::mm", "fc"),
        fused("triton_poi_fused_gelu_0", part("aten::gelu", "act")),
        fused("triton_per_fused_add_native_layer_norm_1", part("aten::add", "b"), part("aten::native_layer_norm", "norm")),
    )
    by_name = [
        ("aten::mm", "gemm"),
        ("triton_poi_fused_gelu_0", "triton_poi_fused_gelu_0"),
        ("", "triton_per_fused_add_native_layer_norm_1"),
    ]
    found = adopt(tmp_path, gpu_region(*by_name), graph, gpu=True)
    assert told(found) == [("aten::mm", "fc"), ("aten::gelu", "act"), (FUSED, "norm")]
    assert found.launches["link"].tolist() == ["operator"] * 3


def test_a_kernel_that_a_compiled_region_launched_itself_has_no_operator(tmp_path: Path) -> None:
    events = gpu_region(("", "somebody_s_kernel"), ("cudaLaunchKernel", "another"), ("mine::op", "triton_poi_fused_add_0"))
    found = adopt(tmp_path, events, gpu=True)
    assert told(found) == [("", ""), ("", ""), ("mine::op", "")]
    assert found.launches["link"].tolist() == ["call", "call", "operator"]
    assert found.launches["op_index"].tolist()[:2] == [-1, -1]


def test_kernels_of_a_cuda_graph_get_no_operator_from_their_names(tmp_path: Path) -> None:
    events = [traces.launch(10, 7, name="cudaGraphLaunch"), traces.kernel("triton_poi_fused_add_0", 50, 5, 7)]
    trace, linked = read(tmp_path, events, gpu=True)
    assert len(trace.ops) == 0
    assert told(adopt_compiled(trace, linked)) == [("", "")]


def test_a_trace_without_generated_kernels_is_left_alone(tmp_path: Path) -> None:
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    assert with_generated(trace) is trace
    linked = link(trace)
    assert adopt_compiled(trace, linked).launches is linked.launches


def test_more_than_can_be_matched_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.trace.fitting._MAX_CELLS", 4)
    found = adopt(tmp_path, region(["graph_0_cpp_fused_mul_9", *names_of(*block(0))], 10), block(0))
    assert [module for _, module in told(found)] == [""] * 4
    assert "too long" in found.notes[-1]
