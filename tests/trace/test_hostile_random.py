"""Random input against the standard library: no crash, no wrong total in silence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.errors import TraceError
from analyzer.trace.kineto import read_trace
from fuzz.examine import check_against, examine, pieces_of, read_truth
from fuzz.inputs import PIECES, make, mutate, seeds
from tests import traces

GENERATED = 150
FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from([2**63, -(2**63), 2**64, 1e300, "7", "1.5", "N/A"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6
)
lengths = st.integers(-5, 10**7) | st.integers(0, 10**12).map(lambda ns: ns / 1000)
starts = lengths | st.sampled_from([1700000000123456, 1414456661986.051])


def events(strange: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Events with ``strange`` in the place of some of their values."""
    args = st.dictionaries(
        st.sampled_from(["correlation", "stream", "grid", "External id", "device"]), st.integers(0, 9) | strange, max_size=4
    )
    fields = {
        "ph": st.sampled_from(["X", "X", "X", "i"]),
        "cat": st.sampled_from(["kernel", "Kernel", "cpu_op", "cuda_runtime", "gpu_memcpy"]),
        "name": st.text(max_size=20),
        "ts": starts | strange,
        "dur": lengths | strange,
        "args": args | strange,
    }
    return st.fixed_dictionaries(
        fields, optional={"pid": st.integers(0, 3) | strange, "tid": st.sampled_from(["7", 7]) | strange}
    )


@given(found=st.lists(events(st.nothing()), min_size=1, max_size=12), piece=st.sampled_from(PIECES))
@FEW
def test_sound_events_give_the_totals_of_the_standard_library(tmp_path: Path, found: list[dict[str, Any]], piece: int) -> None:
    text = json.dumps({"traceEvents": [*found, traces.op("aten::relu", 0, 1)]}).encode()
    (tmp_path / "t.json").write_bytes(text)
    with pieces_of(piece):
        trace = read_trace(tmp_path / "t.json")
    kernels = [e for e in found if e["ph"] == "X" and e["cat"].lower() == "kernel"]
    assert trace.kernels["dur_ns"].tolist() == [max(0, round(e["dur"] * 1000)) for e in kernels]
    assert trace.kernels["name"].tolist() == [e["name"].encode("utf-8", "replace").decode() for e in kernels]
    told = [warning for warning in trace.warnings if "negative" in warning]
    assert bool(told) == any(e["dur"] < 0 for e in found if e["ph"] == "X")


@given(found=st.lists(events(values), min_size=1, max_size=12), piece=st.sampled_from(PIECES))
@FEW
def test_strange_values_never_change_a_total_in_silence(tmp_path: Path, found: list[dict[str, Any]], piece: int) -> None:
    text = json.dumps([*found, traces.op("aten::relu", 0, 1)]).encode()
    (tmp_path / "t.json").write_bytes(text)
    examine(tmp_path / "t.json", text, piece)


@given(st.randoms(use_true_random=False), st.integers(1, 4), st.sampled_from(PIECES))
@FEW
def test_mutations_of_a_sound_trace_lose_nothing_in_silence(tmp_path: Path, random: Random, times: int, piece: int) -> None:
    """An event whose text is still there is read, or a warning tells, or the text is JSON that does not hold it as an event."""
    known = [traces.kernel(f"k{i}", 10 * i, i + 0.5, i) for i in range(5)]
    text = json.dumps(traces.document(known)).encode()
    for _ in range(times):
        text = mutate(random, text, [])
    path = tmp_path / "t.json"
    path.write_bytes(text)
    if examine(path, text, piece) == "sound" and read_truth(text) is None:
        left = {event["name"] for event in known if json.dumps(event).encode() in text}
        assert left <= set(read_trace(path).kernels["name"])


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"{", b"[{", b'{"traceEvents":[{"ph":"X","cat":"kernel",', b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"]),
)
@FEW
def test_any_bytes_give_one_line_or_tables(tmp_path: Path, data: bytes, start: bytes) -> None:
    for content in (start + data, gzip.compress(start + data, 1)):
        (tmp_path / "t.json").write_bytes(content)
        examine(tmp_path / "t.json", None)


def test_generated_inputs_of_the_long_run(tmp_path: Path) -> None:
    """The first ones of ``make fuzz``."""
    corpus, ends = seeds(), []
    for number in range(GENERATED):
        found = make(0, number, corpus)
        path = tmp_path / f"input{found.suffix}"
        path.write_bytes(found.data)
        ends.append(examine(path, found.plain, found.piece_bytes))
    assert {ends.count(end) > GENERATED // 10 for end in ("sound", "warnings", "error")} == {True}


@pytest.mark.parametrize(
    "wrong", [lambda kernels: kernels[1:], lambda kernels: [*kernels[1:], kernels[0] | {"dur": 3}], lambda kernels: kernels * 2]
)
def test_the_check_itself_sees_a_wrong_total(tmp_path: Path, wrong: Callable[[list[Any]], list[Any]]) -> None:
    kernels = [traces.kernel("k", i, 2, i) for i in range(4)]
    trace = read_trace(traces.write(tmp_path / "t.json", kernels))
    check_against(trace, json.dumps(kernels).encode())
    with pytest.raises(AssertionError):
        check_against(trace, json.dumps(wrong(kernels)).encode())
    with pytest.raises(TraceError):
        read_trace(traces.write(tmp_path / "t.json", []))
