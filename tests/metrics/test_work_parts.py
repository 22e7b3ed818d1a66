"""Kernels of which the operators are known exactly: their work, by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.metrics.attribution import add_work
from analyzer.metrics.work import bytes_apart, work_of
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.kinds import composed_kind
from analyzer.trace.link import link
from tests import traces
from tests.trace.test_compiled_regions import read, region


def s(*shape: int, of: int | None = None) -> TensorArg:
    return TensorArg(shape, "float32", None, of)


ADD = OpCall("aten::add", (s(4, 8, of=1), s(4, 8, of=2)), (s(4, 8, of=3),))
GELU = OpCall("aten::gelu", (s(4, 8, of=3), "none"), (s(4, 8, of=4),))
MM = OpCall("aten::mm", (s(4, 8, of=4), s(8, 2, of=5)), (s(4, 2, of=6),))


def test_flop_of_all_parts_and_bytes_of_the_whole() -> None:
    call = OpCall("triton_poi_fused_add_gelu_0", (s(4, 8), s(4, 8)), (s(4, 8),), parts=(ADD, GELU))
    work = work_of(call)
    assert work is not None
    # one FLOP each for 32 elements; two tensors in and one out, of 128 bytes, where apart they are three and two
    assert (work.flop, work.bytes, work.basis) == (64, 3 * 128, "formula")
    assert bytes_apart(call) == 5 * 128
    assert bytes_apart(ADD) == 3 * 128


def test_what_parts_hand_on_is_not_moved_where_the_ends_were_not_recorded() -> None:
    work = work_of(OpCall("cpp_fused_add_gelu_mm_0", (), parts=(ADD, GELU, MM)))
    assert work is not None
    assert work.flop == 32 + 32 + 2 * 4 * 8 * 2
    assert work.bytes == 128 + 128 + 4 * 8 * 2 + 4 * 4 * 2  # storages 1, 2 and 5 in, 6 out
    unknown = OpCall("cpp_fused_add_0", (), parts=(OpCall("aten::add", (s(4, 8), s(4, 8)), (s(4, 8),)),))
    assert work_of(unknown) is None


@pytest.mark.parametrize(
    ("name", "flop"),
    [("prims::convert_element_type", 0), ("aten::clone", 0), ("aten::view", 0), ("aten::erf", 32), ("prims::fancy", 32)],
)
def test_operators_without_a_formula_count_by_element_or_move(name: str, flop: float) -> None:
    one = OpCall(name, (s(4, 8),), (s(4, 8),))
    work = work_of(OpCall("cpp_fused_0", (s(4, 8),), (s(4, 8),), parts=(one,)))
    assert work is not None
    assert (work.flop, work.bytes) == (flop, 256)


def test_an_operator_with_arithmetic_of_its_own_and_no_shapes_leaves_the_kernel_without_work() -> None:
    bare = OpCall("aten::mm", (), ())
    call = OpCall("triton_tem_fused_mm_0", (s(4, 8),), (s(4, 2),), parts=(bare,))
    assert work_of(call) is None
    assert math.isnan(bytes_apart(call))


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (("aten::_native_batch_norm_legit_no_training", "aten::relu"), "normalisation"),
        (("aten::add", "aten::native_layer_norm"), "normalisation"),
        (("aten::convolution", "aten::_native_batch_norm_legit_no_training", "aten::relu"), "convolution"),
        (("aten::clone", "aten::view"), "layout"), (("aten::clone", "aten::add"), "pointwise"),
        (("aten::mul", "aten::mean"), "reduction"), (("aten::view",), None), ((), None),
    ],
)  # fmt: skip
def test_the_kind_of_a_kernel_is_that_of_its_weightiest_operator(parts: tuple[str, ...], kind: str | None) -> None:
    assert composed_kind(parts) == kind


def _worked(tmp_path: Any, *parts: OpCall) -> Any:
    """Return the launches of a region with an addmm (and a copy in it) and one generated kernel of ``parts``."""
    events = region(["aten::addmm", "graph_0_cpp_fused_add_gelu_0"], 10)
    events[3]["args"] |= {"Input Dims": [[8], [2, 4], [4, 8]], "Input type": ["float"] * 3}
    trace, linked = read(tmp_path, [*events, traces.op("aten::copy_", 13, 2)])
    names = trace.ops["name"].astype(object).tolist()
    addmm = OpCall("aten::addmm", (s(8), s(2, 4), s(4, 8)), (s(2, 8),))
    kernel = OpCall("graph_0_cpp_fused_add_gelu_0", (s(4, 8), s(4, 8)), (s(4, 8),), parts=parts)
    calls = [addmm if n == "aten::addmm" else kernel if "fused" in n else None for n in names]
    launches = linked.launches.assign(kind=["matmul", "layout", "pointwise"])
    return add_work(launches, calls, link(trace).ops, names).set_index("kernel")


def test_launches_tell_how_many_operators_are_in_them_and_what_these_move_apart(tmp_path: Any) -> None:
    rows = _worked(tmp_path, ADD, OpCall("aten::view", (s(4, 8),), (s(32),)), GELU)
    fused = rows.loc["graph_0_cpp_fused_add_gelu_0"]
    assert (fused["parts"], fused["bytes_apart"], fused["bytes_compulsory"]) == (2, 5 * 128, 3 * 128)
    assert (fused["owner_op"], fused["basis"]) == ("aten::add+aten::gelu", "formula")
    product = rows.loc["aten::addmm"]
    assert product["parts"] == 1
    assert product["bytes_apart"] == product["bytes_compulsory"] == 4 * (8 + 2 * 4 + 4 * 8 + 2 * 8)
    assert rows.loc["aten::copy_", "basis"] == "helper"


def test_a_name_tells_how_many_operators_but_not_what_each_would_move(tmp_path: Any) -> None:
    rows = _worked(tmp_path)
    fused = rows.loc["graph_0_cpp_fused_add_gelu_0"]
    assert (fused["parts"], fused["owner_op"]) == (2, "aten::add+aten::gelu")
    assert np.isnan(fused["bytes_apart"])


SHAPES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=6)


@given(SHAPES)
def test_a_chain_moves_no_more_as_a_whole_than_apart(shapes: list[tuple[int, int]]) -> None:
    """Each part reads what the one before it wrote, so only the first input and the last output remain."""
    size = [s(*shapes[0], of=i) for i in range(len(shapes) + 1)]
    parts = tuple(OpCall("aten::gelu", (a, "none"), (b,)) for a, b in pairwise(size))
    call = OpCall("cpp_fused_gelu_0", (), parts=parts)
    work = work_of(call)
    assert work is not None
    one = 4 * math.prod(shapes[0])
    assert (work.bytes, bytes_apart(call)) == (2 * one, 2 * one * len(parts))
    assert work.flop == math.prod(shapes[0]) * len(parts)
