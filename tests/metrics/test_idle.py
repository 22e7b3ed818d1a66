"""Stretches of time, and what an idle GPU waits for."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import analyze, compare
from analyzer.errors import TraceError
from analyzer.metrics.timing import Stretches, intersect, length_ns, merge, subtract, union_ns
from analyzer.schema.results import Idle
from analyzer.schema.settings import Selection
from tests import traces

intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


def _stretches(drawn: list[tuple[int, int]]) -> Stretches:
    start = np.array([s for s, _ in drawn], np.int64)
    return merge(start, start + np.array([n for _, n in drawn], np.int64))


def _moments(drawn: list[tuple[int, int]]) -> set[int]:
    return {t for s, n in drawn for t in range(s, s + n)}


@given(intervals, intervals)
def test_stretches_follow_the_algebra_of_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    one, two = _stretches(a), _stretches(b)
    for found, wanted in (
        (one, _moments(a)),
        (intersect(one, two), _moments(a) & _moments(b)),
        (subtract(one, two), _moments(a) - _moments(b)),
    ):
        assert {t for s, e in zip(*found, strict=True) for t in range(s, e)} == wanted
        assert length_ns(found) == len(wanted)
        assert (found[0][1:] > found[1][:-1]).all()


def _idle(tmp_path: Path, events: list[dict[str, Any]]) -> Idle:
    totals = analyze(traces.write(tmp_path / "t.json", traces.document(events))).totals
    assert totals.idle is not None
    assert sum(astuple(totals.idle)) == pytest.approx(totals.idle_us)
    return totals.idle


def test_idle_time_is_split_at_the_launch_call(tmp_path: Path) -> None:
    events = [
        traces.launch(0, 1),
        traces.kernel("a", 10, 20, 1),  # idle 0-10: its launch is on its way
        traces.launch(25, 2),  # while a still runs
        traces.kernel("b", 40, 10, 2),  # idle 30-40: queued before, so the launch's own latency
        traces.launch(70, 3),
        traces.kernel("c", 75, 5, 3),  # idle 50-70: the host; 70-75: the launch
    ]
    assert _idle(tmp_path, events) == Idle(host_us=20, loader_us=0, sync_us=0, launch_us=10 + 10 + 5, unknown_us=0)


def test_waiting_inside_a_synchronising_call_is_told_apart(tmp_path: Path) -> None:
    sync = traces.launch(5, 9, name="cudaDeviceSynchronize") | {"dur": 35}
    events = [traces.launch(0, 1), traces.kernel("a", 2, 18, 1), sync, traces.launch(60, 2), traces.kernel("b", 61, 9, 2)]
    # idle 0-2 launch; 20-40 inside the call; 40-60 the host; 60-61 launch
    assert _idle(tmp_path, events) == Idle(host_us=20, loader_us=0, sync_us=20, launch_us=3, unknown_us=0)


def test_waiting_while_data_is_loaded_is_told_apart(tmp_path: Path) -> None:
    sync = traces.launch(5, 9, name="cudaDeviceSynchronize") | {"dur": 25}
    load = traces.note("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", 25, 25)
    events = [traces.launch(0, 1), traces.kernel("a", 2, 18, 1), sync, load, traces.launch(60, 2), traces.kernel("b", 61, 9, 2)]
    # idle 0-2 launch; 20-30 inside the call; 30-50 loading; 50-60 the host; 60-61 launch
    assert _idle(tmp_path, events) == Idle(host_us=10, loader_us=20, sync_us=10, launch_us=3, unknown_us=0)


def test_a_kernel_without_a_launch_leaves_its_wait_unknown_and_the_end_is_the_hosts(tmp_path: Path) -> None:
    events = [traces.op("aten::relu", 0, 100), traces.kernel("stray", 30, 10, 5)]
    assert _idle(tmp_path, events) == Idle(host_us=60, loader_us=0, sync_us=0, launch_us=0, unknown_us=30)


def test_time_with_copies_alone_is_busy_and_told(tmp_path: Path) -> None:
    totals = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))).totals
    assert totals.copy_only_us == 50


@pytest.mark.parametrize(
    "name", ["tracelens_h100_vit_nsfw_infer", "hta_a100_alexnet_critical_path", "kineto_v100_resnet50_train_nw0"]
)
def test_kinds_and_idle_fill_the_window_of_public_traces(public_traces: Path, name: str) -> None:
    one = analyze(public_traces / f"{name}.json.gz")
    assert one.kinds["time_us"].sum() + one.totals.idle_us == pytest.approx(one.totals.wall_us, rel=1e-12)
    idle = one.totals.idle
    assert idle is not None
    assert sum(astuple(idle)) == pytest.approx(one.totals.idle_us)
    start, end, _ = one.segments
    assert union_ns(start, end) / 1e3 == one.totals.busy_us


def _two_steps() -> list[dict[str, Any]]:
    """Two steps of 100 us; the kernel of the first runs 30 us into the second."""
    return [
        traces.note("ProfilerStep#4", 0, 100),
        traces.op("aten::mm", 10, 20),
        traces.launch(20, 1),
        traces.kernel("first", 60, 70, 1),
        traces.note("ProfilerStep#5", 100, 100),
        traces.note("forward", 105, 35),
        traces.op("aten::relu", 110, 20),
        traces.launch(120, 2),
        traces.kernel("second", 150, 30, 2),
    ]


@pytest.mark.parametrize(
    ("selection", "kernel", "wall", "idle", "batches"),
    [
        (Selection(steps=(4,)), "first", 130, 60, 1),  # until its kernel has ended
        (Selection(steps=(5,)), "second", 70, 40, 1),  # without the 30 us that only the other step's kernel ran
        (Selection(annotation="forward"), "second", 50, 20, None),  # 105 to 180, less the 25 us until 130
    ],
)
def test_a_selection_covers_what_was_launched_in_it(
    tmp_path: Path, selection: Selection, kernel: str, wall: float, idle: float, batches: int | None
) -> None:
    path = traces.write(tmp_path / "t.json", traces.document(_two_steps()))
    one = analyze(path, selection)
    assert one.launches["kernel"].tolist() == [kernel]
    assert (one.totals.wall_us, one.totals.idle_us, one.window.batches) == (wall, idle, batches)
    assert one.window.source.startswith("as asked: ")
    assert one.kinds["time_us"].sum() + one.totals.idle_us == one.totals.wall_us


def test_both_steps_selected_are_the_whole(tmp_path: Path) -> None:
    path = traces.write(tmp_path / "t.json", traces.document(_two_steps()))
    assert analyze(path, Selection(steps=(4, 5))).totals.wall_us == analyze(path).totals.wall_us == 200


@pytest.mark.parametrize(
    ("selection", "says", "hint"),
    [
        (Selection(steps=(9,)), "no profiler step 9", "it has 4 to 5"),
        (Selection(annotation="nothing"), "no user annotation 'nothing'", "'forward'"),
    ],
)
def test_a_selection_that_is_not_there_names_what_is(tmp_path: Path, selection: Selection, says: str, hint: str) -> None:
    path = traces.write(tmp_path / "t.json", traces.document(_two_steps()))
    with pytest.raises(TraceError, match=says) as caught:
        analyze(path, selection)
    assert hint in caught.value.hint


def test_times_before_the_clock_base_are_times(tmp_path: Path) -> None:
    events = [traces.launch(0, 1), traces.kernel("a", 10, 20, 1), traces.launch(60, 2), traces.kernel("b", 61, 9, 2)]
    early = [event | {"ts": event["ts"] - 1000} for event in events]
    assert (
        _idle(tmp_path, early)
        == _idle(tmp_path, events)
        == Idle(host_us=30, loader_us=0, sync_us=0, launch_us=11, unknown_us=0)
    )


def test_an_annotation_on_two_threads_is_one_stretch_where_it_overlaps(tmp_path: Path) -> None:
    events = [
        traces.note("forward", 0, 10),
        traces.note("forward", 5, 15, tid=2),
        traces.launch(2, 1),
        traces.kernel("a", 4, 2, 1),
        traces.launch(15, 2, tid=2),
        traces.kernel("b", 16, 2, 2),
    ]
    one = analyze(traces.write(tmp_path / "t.json", traces.document(events)), Selection(annotation="forward"))
    assert one.launches["kernel"].tolist() == ["a", "b"]
    assert (one.totals.wall_us, one.window.steps) == (20, None)


def test_an_annotation_is_never_called_a_step(public_traces: Path) -> None:
    one = analyze(public_traces / "kineto_v100_resnet50_train_nw0.json.gz", Selection(annotation="Optimizer.step#SGD.step"))
    assert (one.window.steps, one.window.batches, one.latency) == (None, None, None)
    assert "6 occurrences" in one.window.source
    assert "step takes" not in compare(one).verdict.headline
