"""``compiled.json.gz`` against the shapes in the trace: a graph of another input is refused, equal graphs are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analyzer.schema.compiled import CompiledCall, Part
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.fitting import compare_shapes
from tests import traces
from tests.trace.test_compiled_regions import (
    DIMS,
    FUSED,
    adopt,
    block,
    expected,
    fused,
    library,
    names_of,
    part,
    region,
    tensor,
    told,
)  # fmt: skip

Calls = tuple[CompiledCall, ...]


def _grown(calls: Calls, factor: int) -> Calls:
    """Return the same calls for an input ``factor`` times as large."""

    def grow(call: OpCall) -> OpCall:
        inputs, outputs = (
            tuple(replace(a, shape=(factor * a.shape[0], *a.shape[1:])) if isinstance(a, TensorArg) else a for a in side)
            for side in (call.inputs, call.outputs or ())
        )
        return replace(call, inputs=inputs, outputs=outputs)

    return tuple(
        replace(c, parts=tuple(Part(grow(p.call), p.module) for p in c.parts), call=grow(c.call) if c.call else None)
        for c in calls
    )


def test_a_graph_of_another_batch_size_is_refused_whole(tmp_path: Path) -> None:
    """The kernels have the same names for every batch: only the shapes of the product tell that it is another graph."""
    found = adopt(tmp_path, region(names_of(*block(0)), 10, dims=DIMS), _grown(block(0), 4))
    assert told(found) == [("aten::addmm", ""), ("aten::gelu", ""), (FUSED, "")]
    assert found.calls == {}
    assert found.matched_pct != found.matched_pct  # no graph was found
    assert found.notes == (
        "1 call of compiled code ran with other shapes than those in compiled.json.gz, which was refused there: the kernels "
        "have the operators in their names and no module of their own",
    )


def test_one_product_that_contradicts_refuses_all_of_its_graph(tmp_path: Path) -> None:
    exact = part("aten::addmm", "fc", tensor(8), tensor(2, 4), tensor(4, 8), outputs=(tensor(2, 8),))
    other = part("aten::addmm", "fc2", tensor(8), tensor(5, 4), tensor(4, 8), outputs=(tensor(5, 8),))
    graph = (library("aten::addmm", "", exact), library("aten::addmm", "", other), block(0)[1])
    found = adopt(tmp_path, region(names_of(*graph), 10, dims=[[8], [2, 4], [4, 8]]), graph)
    assert (found.calls, [module for _, module in told(found)]) == ({}, ["", "", ""])


def test_shapes_that_the_trace_does_not_have_are_said_to_be_unchecked(tmp_path: Path) -> None:
    found = adopt(tmp_path, region(names_of(*block(0)), 10), block(0))
    assert told(found) == expected(0)
    assert found.notes == (
        "the shapes of 1 graph in compiled.json.gz were not checked: the trace has none of library operators in that code",
    )


@pytest.mark.parametrize("order", [(1, 4), (4, 1)])
def test_of_graphs_with_the_same_kernels_the_one_with_the_shapes_is_taken(tmp_path: Path, order: tuple[int, int]) -> None:
    graphs = {1: block(1), 4: _grown(block(4), 4)}
    steps = [traces.note(f"ProfilerStep#{i}", 1000 * i, 900) for i in range(2)]
    one = region(names_of(*block(0)), 10, dims=DIMS)
    four = region(names_of(*block(0)), 1010, dims=[[16, 8]])
    found = adopt(tmp_path, [*steps, *one, *four], *(graphs[batch] for batch in order))
    assert told(found) == [*expected(1), *expected(4)]
    assert [call.tensors()[0].shape for call in found.calls.values() if call.parts] == [(4, 8)] * 2 + [(16, 8)] * 2
    assert (found.matched_pct, found.notes) == (100.0, ())


def test_what_equal_graphs_agree_on_is_adopted_label_by_label(tmp_path: Path) -> None:
    """Two graphs, one call: the first kernel has one module in both, the second two, the third is larger in one of them."""
    one = block(0)
    larger = _grown(one[2:], 2)
    two = (one[0], replace(one[1], parts=tuple(Part(p.call, "other") for p in one[1].parts)), *larger)
    found = adopt(tmp_path, region(names_of(*one), 10, dims=DIMS), one, two)
    assert told(found) == [expected(0)[0], ("aten::gelu", ""), expected(0)[2]]
    gelu, norm = (call for call in found.calls.values() if call.parts)
    assert gelu.tensors() == [tensor(4, 8)]
    assert norm.tensors() == []  # how large it is they do not agree on
    assert [each.name for each in norm.parts] == ["aten::add", "aten::native_layer_norm"]
    assert found.matched_pct == 100.0
    assert found.notes == (
        "2 graphs in compiled.json.gz have the same kernels, nothing tells which ran: only what all of them say was adopted",
    )
    equal = adopt(tmp_path, region(names_of(*one), 10, dims=DIMS), one, block(0))
    assert (told(equal), equal.notes) == (expected(0), ())  # whichever it was, it did the same


def test_generated_kernels_without_a_call_in_the_file_are_counted(tmp_path: Path) -> None:
    calls = (*block(0), *block(1))
    events = region(names_of(*calls), 10, dims=DIMS)
    found = adopt(tmp_path, events, (*calls[:2], *calls[3:]))
    assert told(found) == [*expected(0)[:2], (FUSED, ""), *expected(1)]
    assert found.matched_pct == 100.0
    assert found.notes == ("1 kernel of compiled code is not in compiled.json.gz",)
    more = adopt(tmp_path, events, calls[:4])
    assert more.notes == ("2 kernels of compiled code are not in compiled.json.gz",)


def _told_call(*shapes: tuple[int, ...], name: str = "aten::addmm") -> OpCall:
    return OpCall(name, tuple(tensor(*shape) for shape in shapes))


ADDMM = library("aten::addmm", "fc", part("aten::addmm", "fc", tensor(8), tensor(6, 4), tensor(4, 8), outputs=(tensor(6, 8),)))
PACKED = replace(ADDMM, kernel="mkldnn::_linear_pointwise")
SHAPES: list[tuple[Any, CompiledCall, bool | None]] = [
    (_told_call((8,), (6, 4), (4, 8)), ADDMM, True),
    (_told_call((8,), (6, 4), (4, 8), (6, 8)), ADDMM, True),  # with the result that it writes to
    (_told_call((6, 8), (6, 4), (4, 8)), ADDMM, True),  # the bias expanded
    (_told_call((8,), (2, 3, 4), (4, 8)), ADDMM, True),  # a view of the same elements
    (_told_call((8,), (7, 4), (4, 8)), ADDMM, False),
    (_told_call((2, 3, 4), name="mkldnn::_linear_pointwise"), PACKED, None),
    (_told_call((6, 4), (9, 9, 9), name="mkldnn::_linear_pointwise"), PACKED, True),
    (_told_call((7, 4), (9, 9, 9), name="mkldnn::_linear_pointwise"), PACKED, False),
    (None, ADDMM, None),
    (OpCall("aten::addmm", ()), ADDMM, None),
    (_told_call((8,)), CompiledCall("aten::addmm", False, ()), None),
]


@pytest.mark.parametrize(("told_call", "call", "same"), SHAPES)
def test_shapes_are_the_same_others_or_not_known(told_call: OpCall | None, call: CompiledCall, same: bool | None) -> None:
    assert compare_shapes(told_call, call) is same


def test_a_generated_kernel_has_no_shapes_to_compare(tmp_path: Path) -> None:
    """Some records of generated kernels have the shapes of their pointers' buffers, in an order of their own."""
    graph = (fused("cpp_fused_gelu_0", part("aten::gelu", "act")), library("aten::addmm", "fc"))
    events = region(names_of(*graph), 10, dims=DIMS)
    for event in events:
        if "gelu" in event["name"]:
            event["args"] |= {"Input Dims": [[99]], "Input type": ["float"]}
    assert [module for _, module in told(adopt(tmp_path, events, graph))] == ["act", "fc"]
