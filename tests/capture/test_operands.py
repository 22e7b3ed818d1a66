from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from analyzer.capture.operands import _Observer, convert, record_step
from analyzer.errors import DeviceError

SCHEMA = [{"name": "op_schema", "value": "aten::x() -> Tensor"}]


def side(*storages: int) -> dict[str, Any]:
    return {
        "values": [[7, s, 0, 4, 4, "cpu"] for s in storages],
        "shapes": [[4]] * len(storages),
        "strides": [[1]] * len(storages),
        "types": ["Tensor(float)"] * len(storages),
    }


def node(number: int, caller: int, inputs: dict[str, Any], outputs: dict[str, Any], attrs: Any = SCHEMA) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"aten::op{number}",
        "ctrl_deps": caller,
        "inputs": inputs,
        "outputs": outputs,
        "attrs": attrs,
    }


def storages(arguments: list[dict[str, Any]]) -> list[int]:
    return [argument["storage"] for argument in arguments]


def test_operators_come_in_order_of_call_without_other_nodes() -> None:
    trace = {
        "nodes": [
            node(1, 0, side(), side(), attrs=[]),
            node(12, 11, side(5), side(6)),  # written when it ends, so before its caller
            node(11, 1, side(5), side(6)),
            node(13, 1, side(), side(), attrs=[{"name": "op_schema", "value": ""}]),
        ]
    }
    assert [op["name"] for op in convert(trace)] == ["aten::op11", "aten::op12"]


def test_an_address_that_is_used_again_is_another_storage() -> None:
    weight, x, address = 1, 2, 9
    first, second, third = convert(
        {
            "nodes": [
                node(10, 1, side(x, weight), side(address)),
                node(11, 1, side(address, weight), side(x)),  # x was free by then
                node(12, 1, side(x), side(address)),
            ]
        }
    )
    a, b, c = (storages(op["outputs"])[0] for op in (first, second, third))
    assert len({a, b, c, *storages(first["inputs"])}) == 5
    assert storages(second["inputs"]) == [a, storages(first["inputs"])[1]]
    assert storages(third["inputs"]) == [b]


def test_views_and_in_place_results_keep_their_storage() -> None:
    (op,) = convert({"nodes": [node(10, 1, side(3), side(3))]})
    assert storages(op["inputs"]) == storages(op["outputs"])


def test_a_result_of_an_inner_operator_is_that_of_the_outer() -> None:
    earlier, outer, allocation, inner = convert(
        {
            "nodes": [
                node(9, 1, side(3), side(8)),
                node(10, 1, side(3), side(8)),
                node(11, 10, side(), side(8)),
                node(12, 10, side(8, 3), side(8)),
            ]
        }
    )
    (made,) = storages(allocation["outputs"])
    assert made != storages(earlier["outputs"])[0]
    assert storages(inner["inputs"])[0] == storages(inner["outputs"])[0] == storages(outer["outputs"])[0] == made


def test_arguments_of_every_kind() -> None:
    inputs = {
        "values": [
            [[1, 2, 0, 4, 2, "cpu"], [3, 4, 8, 4, 2, "cpu"]],
            "<None>",
            [1, 2],
            [],
            "cpu",
            True,
            [1, 0, 0, 0, 0, "cpu"],
            [["<None>"], [5, 6, 0, 1, 8, "cpu"]],
        ],
        "shapes": [[[4], [4]], [], [[], []], [], [], [], [0], [[], [1]]],
        "strides": [[[1], [1]], [], [[], []], [], [], [], [1], [[], [1]]],
        "types": [
            "GenericList[Tensor(c10::BFloat16),Tensor(c10::BFloat16)]",
            "None",
            "GenericList[Int,Int]",
            "GenericList[]",
            "Device",
            "Bool",
            "Tensor(nullptr (uninitialized))",
            "GenericList[None,Tensor(long int)]",
        ],
    }
    (op,) = convert({"nodes": [node(10, 1, inputs, side())]})
    pair, none, ints, empty, device, flag, undefined, optional = op["inputs"]
    assert [t["dtype"] for t in pair["tensors"]] == ["bfloat16", "bfloat16"]
    assert pair["tensors"][1]["offset"] == 8
    assert (none, ints, empty) == ({"value": None}, {"value": [1, 2]}, {"value": []})
    assert (device, flag, undefined) == ({"value": "cpu"}, {"value": True}, {"value": None})
    assert [t["dtype"] for t in optional["tensors"]] == ["int64"]


def test_in_place_and_views_of_a_real_step(tmp_path: Path) -> None:
    x = torch.ones(2, 3)
    ops = record_step(lambda: x.t().add_(1).mm(x).relu(), torch.device("cpu"), tmp_path)
    named = {op["name"]: op for op in ops}
    start = named["aten::t"]["inputs"][0]["storage"]
    assert named["aten::add_"]["outputs"][0]["storage"] == start
    product = named["aten::mm"]["outputs"][0]["storage"]
    assert product != start
    assert named["aten::relu"]["inputs"][0]["storage"] == product
    assert list(tmp_path.iterdir()) == []


def test_an_execution_trace_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.capture.operands.convert", lambda trace: trace["absent"])
    with pytest.raises(DeviceError, match="no usable execution trace"):
        record_step(lambda: None, torch.device("cpu"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_observer_is_free_again_after_an_error(tmp_path: Path) -> None:
    def fails() -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            record_step(fails, torch.device("cpu"), tmp_path)
    assert record_step(lambda: torch.ones(1) + 1, torch.device("cpu"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_observer_dropped_before_it_is_initialised_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ctrl-C comes between the two: torch's own prints a traceback then."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    del (half := [_Observer.__new__(_Observer)])[0]
    assert half == []
    assert told == []
