"""Linking: nested spans, kernels to operators and modules, and operators as launches on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.trace.kineto import read_trace
from analyzer.trace.link import Linked, link
from analyzer.trace.spans import Spans
from tests import traces


def _linked(tmp_path: Path, events: list[dict[str, object]], *, gpu: bool = True) -> Linked:
    return link(read_trace(traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu))))


def test_kernels_belong_to_innermost_operator_module_and_step(tmp_path: Path) -> None:
    linked = _linked(tmp_path, traces.gpu_step())
    assert linked.launches["op"].tolist() == ["aten::addmm", "aten::_softmax", ""]
    assert linked.launches["module"].tolist() == ["head", "", ""]
    assert linked.launches["step"].tolist() == [0, 0, 0]
    assert linked.steps == (("ProfilerStep#3", 0, 1_000_000),)


def test_containment_links_where_no_external_id_does(tmp_path: Path) -> None:
    events = traces.gpu_step()
    for event in events:
        if event["cat"] == "kernel":
            event["args"]["External id"] = 0
    assert _linked(tmp_path, events).launches["op"].tolist()[:2] == ["aten::addmm", "aten::_softmax"]


def test_external_id_links_where_the_launch_is_missing(tmp_path: Path) -> None:
    events = [e for e in traces.gpu_step() if e["cat"] != "cuda_runtime"]
    assert _linked(tmp_path, events).launches["op"].tolist()[:2] == ["aten::addmm", "aten::_softmax"]


def test_a_kernel_of_nobody_is_counted_as_unlinked(tmp_path: Path) -> None:
    linked = _linked(tmp_path, [*traces.gpu_step(), traces.kernel("stray", 900, 10, 999)])
    assert (linked.launches["op_index"] < 0).sum() == 2  # the stray kernel, and the copy that no operator encloses


def test_cpu_operators_stand_for_kernels_with_their_own_time(tmp_path: Path) -> None:
    linked = _linked(tmp_path, traces.cpu_step(), gpu=False)
    own = dict(zip(linked.launches["kernel"], linked.launches["dur_ns"], strict=True))
    assert own == {"aten::addmm": 170_000, "aten::copy_": 30_000, "aten::gelu": 100_000}
    assert linked.wrapper_ns == 20_000  # aten::linear around aten::addmm
    assert linked.launches["module"].tolist() == ["mlp.fc1", "mlp.fc1", ""]


def test_public_traces_link_to_operators(public_traces: Path) -> None:
    wanted = {
        "tracelens_h100_vit_nsfw_infer": 100.0,
        "tracelens_mi300_vit_nsfw_infer": 100.0,
        "kineto_v100_resnet50_train_nw0": 100.0,
        "tracelens_b200_eager": 99.5,
        "param_rtx2080ti_resnet_train": 95.0,
        "hta_a100_alexnet_critical_path": 95.0,
    }
    for name, share in wanted.items():
        launches = link(read_trace(public_traces / f"{name}.json.gz")).launches
        kernels = launches[launches["category"] == "kernel"]
        assert 100 * (kernels["op_index"] >= 0).mean() >= share, name


def test_addmm_owns_the_gemm_kernels_of_the_h100_trace(public_traces: Path) -> None:
    launches = link(read_trace(public_traces / "tracelens_h100_vit_nsfw_infer.json.gz")).launches
    owners = launches.loc[launches["kernel"].str.contains("gemm"), "op"].unique().tolist()
    assert owners == ["aten::addmm"]


@st.composite
def nested_spans(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Properly nested spans: a random tree laid out on a line."""
    spans: list[tuple[int, int]] = []

    def place(start: int, depth: int) -> int:
        at = start + draw(st.integers(0, 3))
        for _ in range(draw(st.integers(0, 3 if depth < 3 else 0))):
            at = place(at, depth + 1) + draw(st.integers(0, 3))
        end = at + draw(st.integers(1, 5))
        spans.append((start, end))
        return end

    at = 0
    for _ in range(draw(st.integers(1, 4))):
        at = place(at, 0) + draw(st.integers(0, 5))
    return spans


@given(nested_spans(), st.lists(st.integers(0, 120), max_size=20))
def test_innermost_is_the_shortest_enclosing_span(spans: list[tuple[int, int]], moments: list[int]) -> None:
    table = Spans(*(np.array(c, np.int64) for c in zip(*spans, strict=True)), np.zeros(len(spans), np.int64))
    found = table.innermost(np.array(moments, np.int64), np.zeros(len(moments), np.int64))
    for moment, index in zip(moments, found, strict=True):
        around = [(e - s) for s, e in spans if s <= moment <= e]
        if not around:
            assert index == -1
        else:
            s, e = spans[index]
            assert s <= moment <= e
            # at a shared border both spans enclose the moment; strictly inside, the innermost is the shortest
            strictly = [(b - a) for a, b in spans if a < moment < b]
            assert not strictly or e - s <= min(strictly)


@given(nested_spans())
def test_segments_partition_the_union_of_the_spans(spans: list[tuple[int, int]]) -> None:
    table = Spans(*(np.array(c, np.int64) for c in zip(*spans, strict=True)), np.zeros(len(spans), np.int64))
    start, end, owner = table.segments()
    covered = set()
    for s, e in spans:
        covered |= set(range(s, e))
    moments = [(t, o) for s, e, o in zip(start, end, owner, strict=True) for t in range(s, e)]
    assert sorted(t for t, _ in moments) == sorted(covered)
    for t, o in moments:
        assert spans[o][1] - spans[o][0] == min(e - s for s, e in spans if s <= t < e)


def test_a_child_that_sticks_out_by_rounding_still_counts_as_inside() -> None:
    table = Spans(np.array([0, 5]), np.array([10, 11]), np.array([0, 0]))
    assert table.parent.tolist() == [-1, 0]


@pytest.mark.parametrize("threads", [(1, 2)])
def test_threads_do_not_mix(threads: tuple[int, int]) -> None:
    table = Spans(np.array([0, 2]), np.array([10, 8]), np.array(threads))
    assert table.parent.tolist() == [-1, -1]
    assert table.innermost(np.array([3, 3]), np.array(threads)).tolist() == [0, 1]
