"""Operator arguments from Kineto's text and from the recorded operators."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.errors import TraceError
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.calls import calls_of, match_exact, parse_call, read_calls


def test_kineto_arguments() -> None:
    call = parse_call(
        "aten::convolution",
        "[[4, 3, 224, 224], [768, 3, 16, 16], [768], [], []]",
        '["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "ScalarList", "Scalar"]',
        "[[150528, 50176, 224, 1], [768, 256, 16, 1], [1], [], []]",
        '["", "", "", "[16, 16]", "False"]',
    )
    assert call is not None
    assert call.tensor(0) == TensorArg((4, 3, 224, 224), "bfloat16", (150528, 50176, 224, 1))
    assert call.ints(3) == (16, 16)
    assert call.value(4) is False
    assert call.outputs is None


def test_tensor_lists_and_missing_shapes() -> None:
    call = parse_call("aten::cat", "[[[4, 1, 768], [4, 196, 768]], []]", '["TensorList", "Scalar"]', "", '["", "1"]')
    assert call is not None
    assert [t.shape for t in call.tensors()] == [(4, 1, 768), (4, 196, 768)]
    assert parse_call("aten::cat", "", "", "", "") is None


@pytest.mark.parametrize("dims", ["{}", "3", "[" * 5000, "[[-1, 3]]", '[["a"]]', "null", "[[1" + "0" * 200 + "]]"])
def test_hostile_arguments_do_not_raise(dims: str) -> None:
    call = parse_call("aten::add", dims, '["float"]', "[[1]]", "[3]")
    assert call is None or isinstance(call, OpCall)


def test_expanded_tensor_covers_its_distinct_bytes_only() -> None:
    assert TensorArg((8, 197, 768), "float32", (0, 768, 1)).footprint_bytes == 197 * 768 * 4
    assert TensorArg((8, 197, 768), "float32").footprint_bytes == 8 * 197 * 768 * 4


def _ops_file(path: Path, names: list[str]) -> Path:
    tensor = {"shape": [2, 3], "stride": [3, 1], "dtype": "float32", "storage": 1, "offset": 0, "itemsize": 4}
    ops = [{"name": name, "inputs": [tensor, {"value": 1.5}], "outputs": [tensor]} for name in names]
    path.write_bytes(gzip.compress(json.dumps({"format_version": 1, "ops": ops}).encode()))
    return path


def test_records_may_name_the_module_that_ran_them(tmp_path: Path) -> None:
    path = _ops_file(tmp_path / "ops.json.gz", ["aten::gelu"])
    document = json.loads(gzip.decompress(path.read_bytes()))
    plain = read_calls(path)
    document["ops"][0]["module"] = "blocks.0.act"
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert read_calls(path) == calls_of(document["ops"]) == plain


def test_recorded_operators_match_step_by_step(tmp_path: Path) -> None:
    calls = read_calls(_ops_file(tmp_path / "ops.json.gz", ["aten::linear", "aten::addmm", "aten::gelu"]))
    assert calls[0].tensor(0) == TensorArg((2, 3), "float32", (3, 1), 1)
    start = np.array([10, 20, 50, 110, 120, 150])
    ops = pd.DataFrame(
        {
            "name": ["aten::linear", "aten::addmm", "aten::gelu", "aten::linear", "aten::mm", "aten::gelu"],
            "start_ns": start,
            "end_ns": start + 30,
        }
    )
    exact = match_exact(ops, calls, (("ProfilerStep#1", 0, 100), ("ProfilerStep#2", 101, 200)))
    assert [c.name if c else None for c in exact] == ["aten::linear", "aten::addmm", "aten::gelu", None, None, None]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format_version": 1, "ops": [3]}', b'{"format_version": 9, "ops": []}'])
def test_damaged_operator_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ops.json.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(TraceError):
        read_calls(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[True, True, False]", (True, True, False)), ("True", True), ("1.", 1.0), ("0.", 0.0), ("[0.5, 2.]", (0.5, 2.0)),
        ("[1, -1]", (1, -1)), ("1.0000000000000001e-05", 1e-05), ("none", "none"), ("bhqk,bhkd->bhqd", "bhqk,bhkd->bhqd"),
        ("[None, 3]", (None, 3)), ("1.e", "1.e"), ('["True", "1."]', ("True", "1.")), ('"v1."', "v1."),
    ],
)  # fmt: skip
def test_concrete_arguments_as_kineto_writes_them(text: str, value: object) -> None:
    call = parse_call("aten::x", "[[]]", '["ScalarList"]', "", json.dumps([text]))
    assert call is not None
    assert call.inputs == (value,)


def test_a_tensor_that_the_profiler_could_not_describe_is_told_apart_from_a_number() -> None:
    call = parse_call("aten::add", "[[], [1, 256, 64, 64], []]", '["", "c10::BFloat16", "Scalar"]', "", '["", "", "1"]')
    assert call is not None
    assert call.untold == (0,)
    assert call.lacks(0, 1)
    assert not call.lacks(1, 2)
