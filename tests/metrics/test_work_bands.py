"""Works that depend on values, and properties that hold for any arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.metrics.work import registry, work_of
from analyzer.schema.operators import Arg, OpCall, TensorArg
from tests.metrics.test_work import t

BANDS: list[tuple[str, tuple[Arg, ...], float, float]] = [
    # from no element to all 40: read, written, and the mask
    ("aten::masked_select", (t(4, 10), t(4, 10, dtype="bool")), 40, 40 + 320),
    ("aten::index", (t(4, 10), (t(4, 10, dtype="bool"),)), 40, 40 + 320),
    # int64 coordinates of two dimensions
    ("aten::nonzero", (t(4, 10),), 160, 160 + 8 * 2 * 40),
    # an index list that was not recorded
    ("aten::index", (t(4, 10), ()), 0, 320),
    # three rows of 10 or three columns of 4, the source being 4x10
    ("aten::index", (t(4, 10), (t(3, dtype="int64"),)), 24 + 8 * 12, 24 + 8 * 30),
    ("aten::index_put_", (t(4, 10), (t(4, 10, dtype="bool"),), t(), False), 44, 44 + 160),
    # training or not: saved and running statistics of 3 channels
    (
        "aten::cudnn_batch_norm",
        (t(2, 3, 4), t(3), t(3), t(3), t(3), None, None, None),
        4 * (24 + 12 + 24),
        4 * (24 + 12 + 24 + 12),
    ),
    # dimensions not recorded: one element to as many as went in
    ("aten::sum", (t(4, 10), None, None, None), 164, 320),
]


@pytest.mark.parametrize(("name", "inputs", "low", "high"), BANDS, ids=[f"{b[0]}-{i}" for i, b in enumerate(BANDS)])
def test_what_values_decide_lies_in_a_band(name: str, inputs: tuple[Arg, ...], low: float, high: float) -> None:
    found = work_of(OpCall(name, inputs))
    assert found is not None
    assert (found.bytes, found.bytes_high, found.basis) == (low, high, "formula")


def test_an_output_that_was_recorded_closes_the_band() -> None:
    found = work_of(OpCall("aten::masked_select", (t(4, 10), t(4, 10, dtype="bool")), (t(7),)))
    assert found is not None
    assert (found.bytes, found.bytes_high) == (40 + 28 + 28, None)


def test_indices_of_all_dimensions_leave_nothing_open() -> None:
    found = work_of(OpCall("aten::index", (t(4, 10), (t(3, dtype="int64"), t(3, dtype="int64")))))
    assert found is not None
    assert (found.bytes, found.bytes_high) == (48 + 24, None)


TENSORS = st.builds(
    TensorArg,
    st.one_of(st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(0, 1 << 39), max_size=40)).map(tuple),
    st.sampled_from(["float32", "bfloat16", "int64", "bool", "unknown", "float8_e4m3fn", "odd"]),
)
NUMBERS = st.integers(-3, 9)
ARGS: Any = st.one_of(
    TENSORS, TENSORS, NUMBERS, st.none(), st.booleans(), st.floats(-2, 2), st.sampled_from(["same", "valid", "none", "float16", "ij,jk->ik"]),
    st.lists(NUMBERS, max_size=4).map(tuple), st.lists(TENSORS, max_size=3).map(tuple), st.lists(st.booleans(), max_size=4).map(tuple),
)  # fmt: skip
NAMES = [*sorted(registry._FORMULAS), "triton_poi_fused_add_relu_0", "triton_tem_fused_mm_1", "aten::no_such_operator"]


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(NAMES), st.lists(ARGS, max_size=12).map(tuple), st.none() | st.lists(TENSORS, max_size=3).map(tuple))
def test_no_arguments_make_a_work_that_cannot_be(name: str, inputs: tuple[Arg, ...], outputs: tuple[Arg, ...] | None) -> None:
    """Hostile arguments neither raise nor give negative or endless figures."""
    found = work_of(OpCall(name, inputs, outputs))
    if found is None:
        return
    assert math.isfinite(found.flop)
    assert math.isfinite(found.bytes)
    assert found.flop >= 0
    assert found.bytes >= 0
    assert found.basis in ("formula", "generic")
    assert found.bytes_high is None or found.bytes_high > found.bytes
