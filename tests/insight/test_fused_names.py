"""Names of several operators that a compiler put into one kernel: compared whole, shown readably, priced as what they are."""

from __future__ import annotations

import pytest

from analyzer.insight.comparison.identity import operator_name
from analyzer.report.text import operator_label
from analyzer.trace.kinds import operator_kind

JOINED = "aten::add_+aten::native_layer_norm"


def test_a_fused_kernel_is_not_taken_for_its_last_operator() -> None:
    assert operator_name(JOINED) == "add+layer_norm"
    assert operator_name("aten::native_layer_norm") == "layer_norm"


@pytest.mark.parametrize(
    ("op", "label"),
    [(JOINED, "add_ + native_layer_norm"), ("aten::gelu", "gelu"), ("", ""), ("mine::op", "mine::op"),
     ("aten::a+<script>\u202e", "a + <script>")],
)  # fmt: skip
def test_operators_are_shown_without_their_namespaces(op: str, label: str) -> None:
    assert operator_label(op) == label


def test_a_long_list_of_operators_is_cut() -> None:
    assert len(operator_label("+".join(["aten::mul"] * 10_000))) <= 72


def test_the_kind_of_a_joined_name_is_that_of_its_weightiest_operator() -> None:
    assert operator_kind(JOINED) == "normalisation"
    assert operator_kind("aten::add+aten::gelu") == "pointwise"
    assert operator_kind("aten::view+aten::nothing_known") is None
