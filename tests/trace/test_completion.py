"""What a trace leaves out of an operator's arguments, and a neighbour tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer.analysis import analyze
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.completion import complete_calls
from analyzer.trace.spans import Spans
from tests import traces


def t(*shape: int, dtype: str = "float32") -> TensorArg:
    return TensorArg(shape, dtype)


def complete(
    *ops: tuple[OpCall | None, int, int], kernels: dict[int, str] | None = None, threads: Any = None
) -> list[OpCall | None]:
    start, end = (np.array([op[i] for op in ops], np.int64) for i in (1, 2))
    spans = Spans(start, end, np.zeros(len(ops), np.int64) if threads is None else np.array(threads, np.int64))
    found = kernels or {}
    launches = pd.DataFrame({"op_index": list(found), "kernel": list(found.values())}, columns=["op_index", "kernel"])
    return complete_calls([op[0] for op in ops], spans, launches)


CONV = OpCall("aten::cudnn_convolution", (t(32, 3, 224, 224), t(64, 3, 7, 7), None, None, None, None))


def test_an_old_convolution_gets_its_output_from_the_next_operator_that_can_take_it() -> None:
    found = complete(
        (CONV, 0, 10),
        (OpCall("aten::add", (t(), t())), 11, 12),
        (OpCall("aten::view", (t(64),)), 13, 14),
        (OpCall("aten::batch_norm", (t(32, 64, 112, 112, dtype="float16"), t(64))), 15, 20),
    )
    assert found[0] is not None
    assert found[0].results() == [t(32, 64, 112, 112, dtype="float16")]
    assert found[3] == OpCall("aten::batch_norm", (t(32, 64, 112, 112, dtype="float16"), t(64)))


def test_it_is_not_taken_from_inside_from_before_or_from_another_thread() -> None:
    user = OpCall("aten::relu", (t(32, 64, 112, 112),))
    assert complete((CONV, 10, 20), (user, 12, 15), (user, 0, 5))[0] == CONV
    assert complete((CONV, 10, 20), (user, 22, 25), threads=[0, 1])[0] == CONV


def test_a_convolution_with_its_arguments_stays_as_it_is() -> None:
    call = OpCall("aten::cudnn_convolution", (t(1, 3, 8, 8), t(6, 3, 3, 3), (1, 1), (2, 2), (1, 1), 1))
    user = OpCall("aten::relu", (t(1, 6, 7, 7),))
    assert complete((call, 0, 10), (user, 11, 12))[0] is call


def test_pooling_keeps_its_channels() -> None:
    pool = OpCall("aten::max_pool2d_with_indices", (t(2, 64, 112, 112), None, None))
    conv = OpCall("aten::conv2d", (t(2, 64, 56, 56), t(64, 64, 1, 1)))
    found = complete((pool, 0, 1), (OpCall("aten::relu", (t(2, 32, 56, 56),)), 2, 3), (conv, 4, 5))[0]
    assert found is not None
    assert found.results() == [t(2, 64, 56, 56)]


def test_halves_of_a_backward_convolution_get_what_the_whole_was_given() -> None:
    image, grad, weight = t(2, 16, 8, 8), t(2, 32, 4, 4), t(32, 16, 3, 3)
    whole = OpCall("aten::cudnn_convolution_backward", (image, grad, weight))
    by_image = OpCall("aten::cudnn_convolution_backward_input", (None, grad, weight))
    by_weight = OpCall("aten::cudnn_convolution_backward_weight", (None, grad, image))
    found = complete((whole, 0, 100), (by_image, 10, 20), (by_weight, 30, 40))
    assert found[1] is not None
    assert found[2] is not None
    assert (found[1].results(), found[2].results()) == ([image], [weight])


LIST = (t(4, 1, 768, dtype="unknown"), t(4, 196, 768, dtype="unknown"))


def test_a_list_gets_the_element_type_of_what_takes_all_its_elements() -> None:
    cat = OpCall("aten::cat", (LIST, 1))
    wrong = OpCall("aten::add", (t(4, 196, 768, dtype="float64"),))
    user = OpCall("aten::add", (t(4, 197, 768, dtype="bfloat16"),))
    found = complete((cat, 0, 1), (wrong, 2, 3), (user, 4, 5))[0]
    assert found is not None
    assert {x.dtype for x in found.tensors()} == {"bfloat16"}
    assert found.results() == [t(4, 197, 768, dtype="bfloat16")]


def test_else_from_the_kernel_that_was_compiled_for_it() -> None:
    cat = OpCall("aten::cat", (LIST, 1))
    for name, dtype in (
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<bool, unsigned int, 3, 128, 1>(bool*)", "bool"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<c10::BFloat16, unsigned int, 2, 64, 64>(x)", "bfloat16"),
        ("CatArrayBatchedCopy_aligned16_contig<at::native::(anonymous namespace)::OpaqueType<4u>, unsigned int>", "4-byte"),
    ):
        found = complete((cat, 0, 1), kernels={0: name})[0]
        assert found is not None
        assert found.results()[0].dtype == dtype
    assert complete((cat, 0, 1), kernels={0: "CatArrayBatchedCopy<mystery>"})[0] == cat


def test_parts_that_do_not_fit_or_an_unknown_axis_stay_unknown() -> None:
    user = OpCall("aten::add", (t(4, 197, 768),))
    for call in (
        OpCall("aten::cat", (LIST, None)),
        OpCall("aten::cat", (LIST, 0)),
        OpCall("aten::cat", (LIST, 9)),
        OpCall("aten::stack", (LIST, 0)),
        OpCall("aten::cat", ()),
    ):
        assert complete((call, 0, 1), (user, 2, 3))[0] == call
    stacked = complete((OpCall("aten::stack", (LIST[:1] * 2, 0)), 0, 1), (OpCall("aten::add", (t(2, 4, 1, 768),)), 2, 3))[0]
    assert stacked is not None
    assert stacked.results()[0].shape == (2, 4, 1, 768)


def test_an_outer_call_without_shapes_leaves_the_work_to_the_inner_one(tmp_path: Path) -> None:
    """Calls on undefined or wrapped tensors show up twice: outside without shapes, inside with them."""
    bare = traces.op("aten::mm", 0, 50, dims=[[], []], types=["", ""])
    inner = traces.op("aten::mm", 5, 30, dims=[[64, 32], [32, 16]])
    events = [bare, inner, traces.launch(10, 1), traces.kernel("sgemm", 60.5, 5, 1)]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    assert a.totals.flop == 2 * 64 * 32 * 16
    assert a.totals.modelled_pct == 100
