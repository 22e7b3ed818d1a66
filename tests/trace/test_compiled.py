"""``compiled.json.gz``: what it says of kernels, and what a damaged or a hostile one does."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import TraceError
from analyzer.schema.operators import TensorArg
from analyzer.trace.compiled import read_compiled

X = {"shape": [4, 8], "stride": [8, 1], "dtype": "float32", "storage": 1, "offset": 0, "itemsize": 4}
ADD = {"name": "aten::add", "inputs": [X, {"value": 1.5}], "outputs": [X | {"storage": 2}], "module": "blocks.0"}
CALL = {"kernel": "cpp_fused_add_0", "fused": True, "parts": [ADD], "reads": [X], "writes": [X | {"storage": 2}]}


def write(path: Path, content: Any) -> Path:
    path.write_bytes(gzip.compress(content if isinstance(content, bytes) else json.dumps(content).encode()))
    return path


def document(*calls: Any) -> dict[str, Any]:
    return {"format_version": 1, "torch": "2.13.0", "note": "", "graphs": [{"calls": list(calls)}]}


def test_kernels_have_their_operators_modules_and_ends(tmp_path: Path) -> None:
    cat = {"name": "aten::cat", "inputs": [{"tensors": [X, X]}, {"value": 1}], "outputs": [X], "module": ""}
    library = {"kernel": "aten::addmm", "fused": False, "parts": [cat], "reads": None, "writes": None}
    (graph,) = read_compiled(write(tmp_path / "c.json.gz", document(CALL, library)))
    one, two = graph.calls
    tensor = TensorArg((4, 8), "float32", (8, 1), 1)
    assert (one.kernel, one.fused, one.parts[0].module) == ("cpp_fused_add_0", True, "blocks.0")
    assert one.parts[0].call.inputs == (tensor, 1.5)
    assert one.call is not None
    assert (one.call.tensors(), one.call.results()[0].storage) == ([tensor], 2)
    assert (two.fused, two.call) == (False, None)
    assert two.parts[0].call.tensors() == [tensor, tensor]


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    bare = {"kernel": "k", "parts": [{"name": "aten::add", "inputs": [{"value": [1, [2, {"a": 1}]]}, {}, {"shape": [2]}]}]}
    (graph,) = read_compiled(write(tmp_path / "c.json.gz", document(bare)))
    assert graph.calls[0].parts[0].call.inputs == ((1, (2, None)), None, TensorArg((2,), "unknown"))
    assert read_compiled(write(tmp_path / "d.json.gz", {"format_version": 1})) == ()
    odd = document(CALL | {"reads": [X | {"stride": [1]}]})  # one step for two dimensions: not to be relied on
    (graph,) = read_compiled(write(tmp_path / "e.json.gz", odd))
    assert graph.calls[0].call is not None
    assert graph.calls[0].call.tensors()[0].stride is None


def test_a_newer_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="format 2") as raised:
        read_compiled(write(tmp_path / "c.json.gz", {"format_version": 2, "graphs": "other"}))
    assert raised.value.hint == "update the analyzer"


DAMAGED: list[Any] = [
    b"", b"{", b"[]", b"\xff\xfe", b"null", {}, {"format_version": "1"}, {"format_version": 1, "graphs": {}},
    {"format_version": 1, "graphs": [{"calls": [{}]}]}, document(CALL | {"kernel": 3}), document(CALL | {"parts": "add"}),
    document(CALL | {"reads": [{"shape": [-1], "dtype": "float32"}]}), document(CALL | {"reads": [{"shape": [2**50], "dtype": "a"}]}),
    document(CALL | {"reads": [{"shape": ["4"], "dtype": "float32"}]}), b"[" * 100_000,
    b'{"format_version":1,"graphs":[{"calls":[{"kernel":"k","parts":[{"name":"a","inputs":[{"value":' + b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_an_error_with_a_hint(tmp_path: Path, content: Any) -> None:
    with pytest.raises(TraceError, match="damaged") as raised:
        read_compiled(write(tmp_path / "c.json.gz", content))
    assert "delete the file" in raised.value.hint


def test_what_is_no_gzip_or_cut_off_is_damaged(tmp_path: Path) -> None:
    whole = write(tmp_path / "c.json.gz", document(CALL)).read_bytes()
    for content in (b"no gzip", whole[:-9], whole[:20] + b"\0\0" + whole[22:]):
        path = tmp_path / "bad.json.gz"
        path.write_bytes(content)
        with pytest.raises(TraceError):
            read_compiled(path)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.trace.compiled._MAX_BYTES", 1000)
    with pytest.raises(TraceError, match="unpacks to more"):
        read_compiled(write(tmp_path / "c.json.gz", document(CALL | {"kernel": "k" * 2000})))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*X, *ADD, *CALL, "tensors", "value"]), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.json.gz", {"format_version": 1, "graphs": [{"calls": [content]}]})
    with suppress(TraceError):
        assert len(read_compiled(path)) == 1
