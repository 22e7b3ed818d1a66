"""The allocator's instant events become numbers in a table, whatever a file puts in their place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.schema.tables import MEMORY_EVENTS
from analyzer.trace.columns import Columns
from analyzer.trace.damage import Damage
from analyzer.trace.events import decode_events
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.ranks import select_rank
from tests import traces

PUBLIC = {
    "kineto_v100_resnet50_train_nw0": 12838,
    "tracelens_h100_vit_nsfw_infer": 620,
    "tracelens_mi300_vit_nsfw_infer": 620,
    "saf_a100_sam_amg_vith_fast": 0,
}
NEW = {
    "Bytes": 512,
    "Addr": 4096,
    "Device Type": 1,
    "Device Id": 0,
    "Total Allocated": 1536,
    "Total Reserved": 2048,
    "Ev Idx": 3,
}


def memory(ts: Any, args: Any, *, tid: Any = 1, **rest: Any) -> dict[str, Any]:
    return {
        "ph": "i",
        "cat": "cpu_instant_event",
        "s": "t",
        "name": "[memory]",
        "pid": 1,
        "tid": tid,
        "ts": ts,
        "args": args,
        **rest,
    }


def read(path: Path, *events: dict[str, Any]) -> Trace:
    return read_trace(traces.write(path / "t.json.gz", traces.document([*traces.gpu_step(), *events])))


def test_an_event_becomes_a_row_of_numbers(tmp_path: Path) -> None:
    old = {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 9, "ts": 7, "args": {"Device Type": 0, "Bytes": -64}}
    trace = read(tmp_path, memory(5.25, NEW), old)
    assert trace.warnings == ()
    assert list(trace.memory_events) == MEMORY_EVENTS.names
    first, second = trace.memory_events.to_dict("records")
    assert trace.processes[second.pop("thread")] == 1
    assert first["thread"] == trace.ops["thread"].iloc[0]
    assert first == {"time_ns": 5250, "thread": first["thread"], "device_type": 1, "device": 0, "bytes": 512, "address": 4096,
                     "allocated_bytes": 1536.0, "reserved_bytes": 2048.0}  # fmt: skip
    totals = [second.pop(column) for column in ("allocated_bytes", "reserved_bytes")]
    assert np.isnan(totals).all()
    assert second == {"time_ns": 7000, "device_type": 0, "device": -1, "bytes": -64, "address": -1}


def test_only_instants_of_that_name_are_taken(tmp_path: Path) -> None:
    span = traces.note("[memory]", 5, 1) | {"args": NEW}
    assert read(tmp_path, span, memory(5, NEW, name="[OutOfMemory]")).memory_events.empty


@pytest.mark.parametrize(
    ("args", "rows", "damaged"),
    [
        ({}, 0, 1),
        ({"Bytes": None}, 0, 1),
        ({"Bytes": "many"}, 0, 1),
        ({"Bytes": 1 << 60}, 0, 1),
        ({"Bytes": -(1 << 80)}, 0, 1),
        ([], 0, 1),
        ({"Bytes": "512"}, 1, 0),
        ({"Bytes": 512, "Total Allocated": -1}, 1, 1),
        ({"Bytes": 512, "Total Allocated": 1 << 70}, 1, 1),
        ({"Bytes": 512, "Addr": 1 << 64}, 1, 1),
        ({"Bytes": 512, "Addr": "here"}, 1, 1),
        ({"Bytes": 512, "Device Id": [0]}, 1, 1),
    ],
)
def test_what_no_allocator_writes_is_counted_and_left_out(tmp_path: Path, args: Any, rows: int, damaged: int) -> None:
    trace = read(tmp_path, memory(5, args))
    assert len(trace.memory_events) == rows
    assert any("wrong type" in text and text.endswith(f": {damaged}") for text in trace.warnings) == bool(damaged)
    for row in trace.memory_events.to_dict("records"):
        assert row["bytes"] == 512
        assert np.isnan(row["allocated_bytes"])
        assert row["address"] == -1
        assert row["device"] == -1


def test_an_event_without_a_time_is_left_out_as_anywhere_else(tmp_path: Path) -> None:
    trace = read(tmp_path, memory(None, NEW), memory(1e17, NEW), memory(5, NEW))
    assert trace.memory_events["time_ns"].tolist() == [5000]
    assert any("without a start" in text and text.endswith(": 2") for text in trace.warnings)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(ANYTHING, st.dictionaries(st.sampled_from(sorted(NEW)), ANYTHING, max_size=7) | ANYTHING), max_size=4)
)
def test_nothing_in_an_event_stops_the_reader(tmp_path: Path, found: list[tuple[Any, Any]]) -> None:
    trace = read(tmp_path, *(memory(ts, args) for ts, args in found), memory(5, NEW))
    table = trace.memory_events
    assert 1 <= len(table) <= len(found) + 1
    assert table["bytes"].abs().max() < 1 << 52
    assert not (table[["allocated_bytes", "reserved_bytes"]] < 0).any().any()


def test_pieces_from_two_processes_keep_order_and_thread() -> None:
    def events(*found: dict[str, Any]) -> Any:
        return decode_events(json.dumps(list(found)).encode())

    here, there = Columns(Damage()), Columns(Damage())
    here.add(events(memory(1, NEW, tid=7)), 1)
    there.add(events(memory(2, NEW, tid=8), memory(3, NEW, tid=7)), 2)
    here.add(events(memory(4, NEW, tid=9)), 3)
    here.merge(there)
    thread = here.numbers("memory.thread")
    assert here.numbers("memory.time_ns").tolist() == [1000, 2000, 3000, 4000]  # type: ignore[union-attr]
    assert thread is not None
    assert thread[0] == thread[2]
    assert len({*thread[[0, 1, 3]].tolist()}) == 3


def test_the_events_of_another_rank_are_left_out(tmp_path: Path) -> None:
    step = [event | {"pid": f"[{rank}] 1"} for rank in ("TP00", "TP01") for event in traces.gpu_step() if event["ph"] == "X"]
    found = [memory(5, NEW, pid="[TP00] 1"), memory(6, NEW, pid="[TP01] 1"), memory(7, NEW, pid="[TP01] 1")]
    trace = read_trace(traces.write(tmp_path / "t.json.gz", traces.document([*step, *found])))
    assert select_rank(trace, 1).memory_events["time_ns"].tolist() == [6000, 7000]


@pytest.mark.parametrize(("name", "count"), PUBLIC.items())
def test_public_traces_keep_every_event(public_traces: Path, name: str, count: int) -> None:
    path = public_traces / f"{name}.json.gz"
    raw = [
        e for e in json.loads(gzip.decompress(path.read_bytes()), strict=False)["traceEvents"] if e.get("name") == "[memory]"
    ]
    table = read_trace(path).memory_events
    assert len(table) == len(raw) == count
    assert table["bytes"].tolist() == [e["args"]["Bytes"] for e in raw]
    assert table["address"].tolist() == [e["args"].get("Addr", -1) for e in raw]
    totals = [e["args"].get("Total Allocated", np.nan) for e in raw]
    np.testing.assert_array_equal(table["allocated_bytes"].to_numpy(np.float64), np.array(totals, np.float64))
