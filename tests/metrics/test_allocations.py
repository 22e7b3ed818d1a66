"""The allocator's curve, its peak and its holders, against numbers worked out by hand and by a plain simulation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.metrics.allocations import NO_ADDRESSES, memory_profiles
from analyzer.metrics.totals import choose_window
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.settings import Selection
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link
from tests import traces
from tests.traces import note, op

MIB = 2**20


def memory(ts: float, size: int, address: int | None = None, *, total: int | None = None, **args: Any) -> dict[str, Any]:
    found = {"Bytes": size, "Device Type": 1, "Device Id": 0} | args
    found |= {} if address is None else {"Addr": address}
    found |= {} if total is None else {"Total Allocated": total, "Total Reserved": 64 * MIB}
    return {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 1, "ts": ts, "args": found}


def profiles(path: Path, *events: dict[str, Any], selection: Selection | None = None) -> tuple[MemoryProfile, ...]:
    trace = read_trace(traces.write(path / "t.json.gz", traces.document(list(events))))
    linked = link(trace, selection or Selection())
    return memory_profiles(trace, linked, choose_window(linked))


def step(total: bool = True) -> list[dict[str, Any]]:
    """Two steps: in the first a linear layer keeps 6 MiB and a softmax scratches 2, in the second 10 MiB are held at once."""
    held = [100, 106, 108, 106, 110, 116, 110]
    sizes = [(6, 0xA), (2, 0xB), (-2, 0xB), (4, 0xB), (6, 0xC), (-6, 0xC)]
    times = [20, 60, 70, 520, 540, 560]
    events = [
        note("ProfilerStep#1", 0, 400), note("ProfilerStep#2", 500, 400),
        note("module::fc", 10, 35), note("module::act", 55, 30), note("module::fc", 515, 60),
        op("aten::linear", 12, 30), op("aten::addmm", 15, 20), op("aten::empty", 18, 4),
        op("aten::softmax", 56, 20), op("aten::empty_like", 515, 10), op("aten::gelu", 530, 25),
    ]  # fmt: skip
    for (size, address), time, now in zip(sizes, times, held[1:], strict=True):
        events.append(memory(time, size * MIB, address, total=now * MIB if total else None))
    return events


def test_curve_peak_and_holders_are_those_of_the_hand_written_steps(tmp_path: Path) -> None:
    (found,) = profiles(tmp_path, *step())
    assert (found.device, found.is_absolute, found.reason) == ("GPU 0", True, "")
    assert (found.curve["allocated_bytes"] / MIB).tolist() == [106, 108, 106, 110, 116, 110]
    assert found.curve["time_ns"].tolist() == [20_000, 60_000, 70_000, 520_000, 540_000, 560_000]
    assert set(found.curve["reserved_bytes"]) == {64 * MIB}
    assert (found.peak_ns, found.peak_bytes) == (540_000, 116 * MIB)
    # 0xA since the first step, 0xB again since 520 and by an operator that only makes room, 0xC; 0xB of the softmax is gone
    assert found.at_peak.to_dict("records") == [
        {"module": "fc", "op": "aten::addmm", "bytes": 6 * MIB, "blocks": 1},
        {"module": "fc", "op": "aten::gelu", "bytes": 6 * MIB, "blocks": 1},
        {"module": "fc", "op": "aten::empty_like", "bytes": 4 * MIB, "blocks": 1},
    ]
    assert found.before_bytes == 100 * MIB
    assert found.transient_bytes == 10 * MIB  # from 106 when the second step begins


def test_without_totals_the_curve_begins_at_zero(tmp_path: Path) -> None:
    (found,) = profiles(tmp_path, *step(total=False))
    assert not found.is_absolute
    assert (found.curve["allocated_bytes"] / MIB).tolist() == [6, 8, 6, 10, 16, 10]
    assert found.curve["reserved_bytes"].isna().all()
    assert (found.peak_bytes, found.before_bytes, found.transient_bytes) == (16 * MIB, 0.0, 10 * MIB)
    assert found.at_peak["bytes"].sum() == 16 * MIB


def test_a_selected_step_has_its_own_peak_and_still_knows_older_holders(tmp_path: Path) -> None:
    (found,) = profiles(tmp_path, *step(), selection=Selection(steps=(1,)))
    assert (found.curve["allocated_bytes"] / MIB).tolist() == [106, 108, 106]
    assert (found.peak_ns, found.transient_bytes) == (60_000, 8 * MIB)
    (found,) = profiles(tmp_path, *step(), selection=Selection(steps=(2,)))
    assert len(found.curve) == 3
    assert "aten::addmm" in set(found.at_peak["op"])


def test_without_addresses_nobody_is_named(tmp_path: Path) -> None:
    blind = [e if e["name"] != "[memory]" else e | {"args": {"Bytes": e["args"]["Bytes"], "Device Type": 1}} for e in step()]
    (found,) = profiles(tmp_path, *blind)
    assert found.at_peak.empty
    assert found.reason == NO_ADDRESSES
    assert (found.peak_bytes, found.before_bytes) == (16 * MIB, 0.0)


def test_each_device_has_its_profile_gpus_first(tmp_path: Path) -> None:
    cpu = {"Device Type": 0, "Device Id": -1}
    found = profiles(
        tmp_path, op("aten::add", 0, 100), memory(10, 5, 1, total=5, **cpu), memory(20, 7, 1, total=7, **{"Device Id": 1}),
        memory(30, 9, 2, total=9), memory(40, 3, 3, total=3, **{"Device Type": 6}), memory(500, 4, 9, **{"Device Id": 5}),
    )  # fmt: skip
    assert [(p.device, p.peak_bytes, p.is_absolute) for p in found] == [
        ("GPU 0", 9, True), ("GPU 1", 7, True), ("GPU 0", 3, True), ("CPU", 5, False),
    ]  # fmt: skip


def test_a_trace_without_events_has_no_profile(tmp_path: Path) -> None:
    assert profiles(tmp_path, *traces.gpu_step()) == ()


def test_a_block_freed_though_it_was_there_before_is_nobodys(tmp_path: Path) -> None:
    (found,) = profiles(tmp_path, op("aten::add", 0, 100), memory(10, -8, 1), memory(20, 4, 2))
    assert found.curve["allocated_bytes"].tolist() == [-8, -4]
    assert (found.peak_bytes, found.peak_ns) == (-4, 20_000)
    assert found.at_peak["bytes"].tolist() == [4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 1000)), min_size=1, max_size=40))
def test_holders_add_up_to_the_peak_of_a_simulated_allocator(tmp_path: Path, actions: list[tuple[int, int]]) -> None:
    held: dict[int, int] = {}
    events, best = [op("aten::add", 0, 1000)], (-1, {})
    for time, (address, size) in enumerate(actions, 1):  # an address in use is freed, a free one is taken
        change = -held.pop(address) if address in held else held.setdefault(address, size)
        events.append(memory(time, change, address))
        if sum(held.values()) > best[0]:
            best = sum(held.values()), dict(held)
    (found,) = profiles(tmp_path, *events)
    assert found.peak_bytes == best[0] == found.at_peak["bytes"].sum()
    assert found.at_peak["blocks"].sum() == len(best[1])
    assert 0 <= found.transient_bytes <= found.peak_bytes
    assert found.curve["allocated_bytes"].iloc[-1] == sum(held.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 900), st.integers(-(2**60), 2**60), st.none() | st.integers(-(2**70), 2**70),
            st.none() | st.integers(-5, 2**60), st.integers(-3, 40), st.integers(-3, 2**40),
        ),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_hostile_values_give_finite_profiles(tmp_path: Path, found: list[tuple[Any, ...]]) -> None:
    events = [
        memory(ts, size, address, **{"Total Allocated": total, "Device Type": sort, "Device Id": number})
        for ts, size, address, total, sort, number in found
    ]
    for profile in profiles(tmp_path, op("aten::add", 0, 1000), *events):
        assert np.isfinite([profile.peak_bytes, profile.before_bytes, profile.transient_bytes]).all()
        assert len(profile.curve) >= 1
        assert profile.before_bytes >= 0


@pytest.mark.parametrize("name", ["tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer"])
def test_public_curves_are_the_totals_of_the_trace(public_traces: Path, name: str) -> None:
    path = public_traces / f"{name}.json.gz"
    trace = read_trace(path)
    linked = link(trace)
    found = memory_profiles(trace, linked, choose_window(linked))
    raw = [e["args"] for e in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"] if e.get("name") == "[memory]"]
    gpu = [args for args in raw if args["Device Type"] != 0]
    assert found[0].curve["allocated_bytes"].tolist() == [args["Total Allocated"] for args in gpu]
    assert sum(len(p.curve) for p in found) == len(raw)
    assert found[0].is_absolute
    first = gpu[0]["Total Allocated"] - gpu[0]["Bytes"]
    held = found[0].at_peak["bytes"].sum()
    assert found[0].before_bytes == found[0].peak_bytes - held <= first
    assert (found[0].at_peak["op"] != "").all()
    assert not found[0].at_peak["op"].isin(["aten::empty", "aten::empty_strided"]).any()


def test_a_public_trace_without_addresses_gives_a_curve_alone(public_traces: Path) -> None:
    path = public_traces / "kineto_v100_resnet50_train_nw0.json.gz"
    trace = read_trace(path)
    linked = link(trace)
    gpu, cpu = memory_profiles(trace, linked, choose_window(linked))
    raw = [e["args"] for e in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"] if e.get("name") == "[memory]"]
    level = np.cumsum([args["Bytes"] for args in raw if args["Device Type"] == 1])
    assert gpu.curve["allocated_bytes"].tolist() == level.tolist()
    assert gpu.peak_bytes == level.max() == 2_791_636_480
    assert (gpu.device, cpu.device, len(gpu.curve)) == ("GPU 0", "CPU", 8220)
    assert gpu.reason == cpu.reason == NO_ADDRESSES
    assert not gpu.is_absolute
