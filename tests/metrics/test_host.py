"""Trees, steps and call stacks against numbers worked out by hand, against properties, and on real traces."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.analysis import analyze
from analyzer.metrics import trees
from analyzer.metrics.host import host_view
from analyzer.metrics.totals import choose_window
from analyzer.metrics.trees import merge_numbered, merge_paths, own_ns, tree_of, within
from analyzer.schema.profile import STEP_PARTS, TREE_COLUMNS, HostView
from analyzer.schema.settings import Selection
from analyzer.trace.frames import trim, trim_stack
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link
from analyzer.trace.spans import Spans
from tests import traces

PARTS = [f"{part}_us" for part in STEP_PARTS]


def view(tmp_path: Path, events: list[dict[str, Any]], selection: Selection | None = None, *, gpu: bool = True) -> HostView:
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu)))
    linked = link(trace, selection or Selection())
    return host_view(trace, linked, linked.launches, choose_window(linked))


def rows(tree: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """Return (calls, host self, host total, device self, device total) by path."""
    columns = ["calls", "host_self_us", "host_total_us", "device_self_us", "device_total_us"]
    return dict(zip(tree["path"], tree[columns].itertuples(index=False, name=None), strict=True))


def frame(name: str, ts: float, dur: float, tid: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": "python_function", "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": {}}


def test_the_tree_of_operators_has_self_and_total_times(tmp_path: Path) -> None:
    found = view(tmp_path, traces.gpu_step())
    assert tuple(found.operators.columns) == TREE_COLUMNS
    assert rows(found.operators) == {
        "aten::linear": (1, 50, 100, 0, 150),
        "aten::linear > aten::addmm": (1, 50, 50, 150, 150),
        "aten::_softmax": (1, 40, 40, 100, 100),
    }
    assert found.operators["depth"].tolist() == [0, 1, 0]
    assert found.left_out == (
        "100 µs of kernel time per step (40 %) was launched in no known module: it is the row (no module) of the tree of "
        "modules, which its file does not have",
    )


def test_the_tree_of_modules_has_the_time_around_its_operators(tmp_path: Path) -> None:
    assert rows(view(tmp_path, traces.gpu_step()).modules) == {"head": (1, 200, 200, 0 + 150, 150)}


def test_a_cpu_run_has_no_device_time(tmp_path: Path) -> None:
    found = view(tmp_path, traces.cpu_step(), gpu=False)
    times = {path: row[:3] for path, row in rows(found.operators).items()}
    assert times == {
        "aten::linear": (1, 20, 220),
        "aten::linear > aten::addmm": (1, 170, 200),
        "aten::linear > aten::addmm > aten::copy_": (1, 30, 30),
        "aten::gelu": (1, 100, 100),
    }
    assert found.operators[["device_self_us", "device_total_us"]].isna().all(axis=None)
    step = found.steps.iloc[0]
    assert step[["kernel_us", "memcpy_us", "memset_us", "runtime_us", "dataloader_us"]].isna().all()
    assert (step["host_us"], step["other_us"]) == (320, 680)


def test_calls_of_the_same_path_are_taken_together_and_others_are_not(tmp_path: Path) -> None:
    events = [
        traces.note("ProfilerStep#1", 0, 1000),
        *(event for k in range(3) for event in (traces.op("a", 100 * k, 40), traces.op("b", 100 * k + 10, 10))),
        traces.op("b", 400, 7),
    ]
    found = rows(view(tmp_path, events, gpu=False).operators)
    assert {path: row[:3] for path, row in found.items()} == {"a": (3, 90, 120), "a > b": (3, 30, 30), "b": (1, 7, 7)}


def test_backward_kernels_count_where_they_were_launched_and_for_the_module_of_their_forward(tmp_path: Path) -> None:
    forward, backward = traces.op("aten::mm", 20, 30), traces.op("MmBackward0", 200, 60, tid=2)
    forward["args"] |= {"Sequence number": 5, "Fwd thread id": 0}
    backward["args"] |= {"Sequence number": 5, "Fwd thread id": 1}
    events = [
        traces.note("ProfilerStep#1", 0, 1000), traces.note("module::fc", 10, 100), forward, traces.launch(30, 1), backward,
        traces.launch(210, 2, tid=2), traces.kernel("sgemm_a", 60, 70, 1), traces.kernel("sgemm_b", 300, 90, 2),
    ]  # fmt: skip
    found = view(tmp_path, events)
    assert {path: row[3:] for path, row in rows(found.operators).items()} == {"MmBackward0": (90, 90), "aten::mm": (70, 70)}
    assert rows(found.modules) == {"fc": (1, 100, 100, 160, 160)}


def test_nested_modules_carry_their_own_part_of_the_name(tmp_path: Path) -> None:
    notes = [("Net", 0, 900), ("blocks", 10, 800), ("blocks.0", 20, 300), ("blocks.0.mlp", 30, 100), ("blocks.1", 400, 300)]
    events = [traces.note(f"module::{name}", ts, dur) for name, ts, dur in notes] + [traces.op("aten::add", 40, 5)]
    tree = view(tmp_path, events, gpu=False).modules
    assert tree["name"].tolist() == ["Net", "blocks", "blocks.0", "mlp", "blocks.1"]
    assert tree["host_self_us"].tolist() == [100, 200, 200, 100, 300]
    merged = merge_numbered(tree)
    assert merged["path"].tolist() == [
        "Net", "Net > blocks", "Net > blocks > blocks.*", "Net > blocks > blocks.* > mlp",
    ]  # fmt: skip
    assert merged["calls"].tolist() == [1, 1, 2, 1]
    assert merged["host_self_us"].tolist() == [100, 200, 500, 100]
    assert merged["host_total_us"].tolist() == [900, 800, 600, 100]


def test_a_selection_counts_what_begins_in_it(tmp_path: Path) -> None:
    events = [
        traces.note("ProfilerStep#1", 0, 100), traces.note("ProfilerStep#2", 100, 100),
        traces.op("a", 10, 20), traces.op("b", 110, 30), traces.op("c", 120, 10),
    ]  # fmt: skip
    found = view(tmp_path, events, Selection(steps=(2,)), gpu=False)
    assert {path: row[1:3] for path, row in rows(found.operators).items()} == {"b": (20, 30), "b > c": (10, 10)}
    assert found.steps["step"].tolist() == ["ProfilerStep#2"]


def test_steps_count_each_moment_once_for_the_first_part(tmp_path: Path) -> None:
    """Step 1, 1000 us: loader 0-100 with an operator in it, operator 100-300 with a launch 150-152, kernel 200-400, copy
    350-450, synchronisation 420-500; step 2, 300 us, has a kernel that runs on until 1350."""
    events = [
        traces.note("ProfilerStep#1", 0, 1000), traces.note("ProfilerStep#2", 1000, 300),
        traces.note("enumerate(DataLoader)#_Iter.__next__", 0, 100), traces.op("aten::stack", 20, 30), traces.op("aten::mm", 100, 200),
        traces.launch(150, 1), traces.kernel("k", 200, 200, 1), traces.launch(410, 2, name="cudaMemcpyAsync"),
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy", "pid": 0, "tid": 7, "ts": 350, "dur": 100, "args": {"device": 0, "stream": 8, "correlation": 2}},
        {**traces.launch(420, 9, name="cudaDeviceSynchronize"), "dur": 80}, traces.launch(1200, 3), traces.kernel("k", 1250, 100, 3),
    ]  # fmt: skip
    steps = view(tmp_path, events).steps
    # runtime: 150-152 and 450-500 (before, the copy runs); host: 100-200 without the launch; other: 500-1000
    assert steps.loc[0, PARTS].tolist() == [200, 50, 0, 2 + 50, 100, 98, 500]
    assert steps.loc[1, PARTS].tolist() == [100, 0, 0, 2, 0, 0, 248]
    assert steps[PARTS].sum(axis=1).tolist() == [1000, 350]


def test_a_trace_without_steps_has_one_window(tmp_path: Path) -> None:
    events = [event for event in traces.gpu_step() if not event["name"].startswith("ProfilerStep")]
    found = view(tmp_path, events)
    assert found.steps["step"].tolist() == ["window"]
    assert "dataloader" in dict(found.silent)
    assert math.isnan(found.steps.loc[0, "dataloader_us"])
    assert found.steps[PARTS].sum(axis=1).tolist() == [530]  # from 20, the first operator, to 550, the end of the copy


def test_call_stacks_of_operators_are_inherited_by_what_they_call(tmp_path: Path) -> None:
    events = traces.gpu_step()
    for event in events:
        if event["name"] == "aten::linear":
            event["args"]["Call stack"] = (
                "/opt/conda/lib/python3.7/site-packages/torch/nn/functional.py(1690): linear;/data/x/y/proj/run.py(3): main"
            )
    found = view(tmp_path, events)
    assert found.stacks.to_dict("records") == [
        {
            "stack": "torch/nn/functional.py(1690): linear\nrun.py(3): main",
            "calls": 1,
            "host_us": 100.0,
            "device_us": 150.0,
        }
    ]
    assert any("no call stack is known for 100 µs of kernel time per step (40 %)" in text for text in found.left_out)


def test_call_stacks_from_frames_leave_out_what_is_short_or_built_in(tmp_path: Path) -> None:
    events = [
        *traces.gpu_step(),
        frame("/home/someone/proj/run.py(7): main", 0, 900), frame("torch/nn/modules/module.py(1739): _wrapped_call_impl", 12, 150),
        frame("torch/nn/functional.py(9): linear", 15, 110), frame("<built-in function linear>", 18, 105), frame("x.py(1): quick", 22, 2),
    ]  # fmt: skip
    found = view(tmp_path, events)
    assert found.stacks.to_dict("records") == [
        {"stack": "torch/nn/functional.py(9): linear\nrun.py(7): main", "calls": 1, "host_us": 100.0, "device_us": 150.0},
        {"stack": "run.py(7): main", "calls": 1, "host_us": 40.0, "device_us": 100.0},
    ]
    assert "stacks" not in dict(found.silent)


def test_an_operator_keeps_its_own_stack_and_the_others_those_of_python(tmp_path: Path) -> None:
    """TorchScript writes a stack to its operators only; linear 20-120 with addmm 30-80 in it, softmax 300-340."""
    events = [
        *traces.gpu_step(), frame("/home/someone/proj/run.py(7): main", 0, 900), frame("torch/nn/functional.py(9): linear", 15, 110),
    ]  # fmt: skip
    whole = view(tmp_path, events).stacks.to_dict("records")
    for event in events:
        if event["name"] == "aten::linear":
            event["args"]["Call stack"] = "/home/alice/scripted.py(4): f;"
    found = view(tmp_path, events)
    scripted, main = found.stacks.to_dict("records")
    assert scripted == {"stack": "scripted.py(4): f", "calls": 1, "host_us": 100.0, "device_us": 150.0}
    assert main == whole[1]
    assert main["stack"] == "run.py(7): main"
    for event in events:  # the same lines as Python's: one row
        if "Call stack" in event["args"]:
            event["args"]["Call stack"] = "torch/nn/functional.py(9): linear;run.py(7): main"
    assert view(tmp_path, events).stacks.to_dict("records") == whole
    events.append(frame("/home/someone/inner.py(1): called", 25, 90))  # within the scripted operator, around addmm
    inner = view(tmp_path, events).stacks
    assert inner["stack"].str.startswith("inner.py(1): called").any()


def test_a_trace_without_stacks_says_how_to_record_them(tmp_path: Path) -> None:
    assert "with_stack=True" in dict(view(tmp_path, traces.gpu_step()).silent)["stacks"]


@pytest.mark.parametrize(
    ("given_path", "kept"),
    [
        ("/home/jdoe/anaconda3/envs/x/lib/python3.7/site-packages/torch/nn/conv.py", "torch/nn/conv.py"),
        ("/usr/local/lib/python3.11/dist-packages/timm/layers/mlp.py", "timm/layers/mlp.py"),
        ("/usr/lib/python3.11/threading.py", "threading.py"),
        ("/home/jdoe/work/proj/models/vit.py", "vit.py"),
        ("/home/jdoe/train.py", "train.py"),
        ("/Users/jdoe/Documents/a/b/train.py", "train.py"),
        ("C:\\Users\\jdoe\\proj\\train.py", "train.py"),
        ("D:\\work\\proj\\src\\train.py", "train.py"),
        ("/root/train.py", "train.py"),
        ("/scratch/jdoe/train.py", "train.py"),
        ("/workspace/team/proj/train.py", "train.py"),
        ("../../jdoe/train.py", "train.py"),
        ("torch/nn/modules/linear.py", "torch/nn/modules/linear.py"),
        ("train.py", "train.py"),
        ("/tmp/torchinductor_jdoe/ab/cab.py", "cab.py"),
        ("torchinductor_jdoe/cab.py", "torchinductor/cab.py"),
        ("/nfs/home/jdoe/x.py", "x.py"),
        ("<string>", "<string>"),
        ("/home/lab/alice/run.py", "run.py"),
        ("/scratch/gpfs/alice/run.py", "run.py"),
        ("/mnt/data/alice/run.py", "run.py"),
        ("\\\\fileserver\\share\\alice\\run.py", "run.py"),
        ("/home/alice (work)/proj/run.py", "run.py"),
        ("/data (1)/alice/run.py", "run.py"),
        ("/data (1): x/alice/run.py", "run.py"),
        ("C:\\Users\\Alice Smith (Firm)\\p\\run.py", "run.py"),
        ("alice@host:/a/b/c.py", "c.py"),
        ("alice@host:c.py", "c.py"),
        ("C:run.py", "run.py"),
        ("file:///home/alice/x.py", "x.py"),
        ("home/alice/proj/run.py", "run.py"),
        ("proj/../alice/run.py", "run.py"),
        ("/home/alice/.local/lib/python3.11/site-packages/a/b.py", "a/b.py"),
        ("/home/alice", "…"),
        ("nn.Module: Linear_0", "nn.Module: Linear_0"),
    ],
)
def test_paths_of_frames_are_trimmed(given_path: str, kept: str) -> None:
    assert trim(f"{given_path}(12): forward") == f"{kept}(12): forward"
    assert trim(f"{given_path}(12)") == f"{kept}(12)"
    assert trim(given_path) == kept
    assert trim_stack(json.dumps(f"{given_path}(12): f;{given_path}(3): g;").encode()) == f"{kept}(12): f\n{kept}(3): g"


_FOLDER = st.text(st.characters(exclude_characters="/\\", exclude_categories=("Cs",)), min_size=1, max_size=12).map(
    "secret{}".format
)


@given(
    st.sampled_from(["/", "~", "~/", "C:/", "//host/share/", "../", "a@b:/", "/home/", "x/Users/", "/a/site-packages/../"]),
    st.lists(_FOLDER, min_size=1, max_size=6), st.booleans(), st.sampled_from(["(3): f", "(3)", ""]), st.sampled_from(["/", "\\"]),
)  # fmt: skip
def test_no_folder_of_an_absolute_path_stays(root: str, folders: list[str], inside: bool, line: str, separator: str) -> None:
    """Whatever it is called, brackets, line numbers and semicolons included; within a library the path below it stays."""
    library = ["site-packages", "pkg"] if inside else []
    frame = separator.join([root.rstrip("/"), *folders, *library, "run.py"]) + line
    assert trim(frame) == ("pkg/run.py" if inside else "run.py") + line


def test_a_frame_without_a_path_shows_none_in_its_function() -> None:
    assert trim("run.py(3): /home/alice/x") == "x"
    assert trim_stack(b'"/home/alice;smith/run.py(3): f;b.py(1): g"') == "run.py(3): f\nb.py(1): g"
    cut = "/alice" * 20_000
    assert "alice" not in trim_stack(json.dumps(f"a.py(1): f;{cut}/x.py(2): g").encode())
    assert trim(f"{cut}/x.py(2): g") == "x.py(2): g"


def test_call_stacks_are_bounded_and_damage_gives_none() -> None:
    deep = ";".join(f"/a/b/c/d{i}.py(1): f" for i in range(1000))
    assert trim_stack(f'"{deep}"'.encode()).count("\n") < 50
    assert len(trim("x" * 100_000)) <= 240
    assert trim_stack(b"17") == trim_stack(b'"broken') == ""


def test_more_paths_than_rows_leave_every_sum_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_ROWS", 5)
    events = [traces.note("ProfilerStep#1", 0, 10_000)]
    for k in range(20):
        events += [traces.op(f"op{k}", 100 * k, 10 + k), traces.op(f"in{k}", 100 * k + 1, 5)]
    found = view(tmp_path, events, gpu=False)
    assert len(found.operators) == 6  # five, and one for what is too much
    assert found.operators["host_self_us"].sum() == sum(10 + k for k in range(20))
    assert trees.OTHER in found.operators["name"].tolist()
    assert any("keeps its" in text for text in found.left_out)


def spans_strategy() -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    one = st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(0, 1), st.integers(0, 3))
    return st.lists(one, max_size=25)


@settings(deadline=None, max_examples=200)
@given(spans_strategy(), st.integers(0, 3))
def test_sums_hold_for_any_spans(found: list[tuple[int, int, int, int]], depth: int) -> None:
    """Also for spans that stick out of those around them, and where a tree may be only so deep."""
    start, length, thread, label = (np.array([row[i] for row in found], np.int64) for i in range(4))
    spans = Spans(start, start + length, thread)
    inside = within(spans, None)
    own = own_ns(spans, inside)
    assert (own >= 0).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "_MAX_DEPTH", depth)
        merged = merge_paths(spans, label, inside)
    device: npt.NDArray[np.int64] = np.arange(len(merged.parent), dtype=np.int64)
    tree, _ = tree_of(merged, ["a", "b", "c", "d"], own, device)
    roots = tree[tree["depth"] == 0]
    for what, whole in (("host", own.sum()), ("device", device.sum())):
        assert math.isclose(tree[f"{what}_self_us"].sum(), whole / 1e3, abs_tol=1e-9)
        assert math.isclose(roots[f"{what}_total_us"].sum(), whole / 1e3, abs_tol=1e-9)
    assert tree["path"].is_unique
    assert (tree["depth"] <= depth).all()
    assert (tree["calls"] >= 1).all()


PUBLIC = (
    "kineto_v100_resnet50_train_nw0", "param_rtx2080ti_resnet_train", "hta_a100_alexnet_critical_path", "saf_a100_sam_amg_vith_fast",
    "tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer", "tracelens_b200_eager", "hta_cpu_only_tiny",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_sums_hold_on_public_traces(public_traces: Path, name: str) -> None:
    a = analyze(public_traces / f"{name}.json.gz")
    assert a.host is not None
    for tree, column in ((a.host.operators, "op_index"), (a.host.modules, "scope")):
        roots = tree[tree["depth"] == 0]
        assert math.isclose(tree["host_self_us"].sum(), roots["host_total_us"].sum(), rel_tol=1e-9)
        if a.device.type == "cuda" and len(tree):
            unknown = a.launches[(a.launches["category"] == "kernel") & (a.launches[column] < 0)]["dur_ns"].sum() / 1e3
            assert math.isclose(roots["device_total_us"].sum() + unknown, a.totals.kernel_time_us, rel_tol=1e-9)
    covered = a.host.steps[PARTS].sum(axis=1).sum()
    assert covered <= a.totals.wall_us * (1 + 1e-9) or a.window.steps
    assert (a.host.steps[PARTS].fillna(0) >= 0).all(axis=None)
    stacks = a.host.stacks
    assert not stacks["stack"].str.contains(r"(?m)^(?:/|~|[A-Za-z]:)|/home/|yangu", regex=True).any()


def test_the_steps_of_the_v100_trace_wait_for_data(public_traces: Path) -> None:
    """The trace was recorded without loader processes (nw0), so a third of each step goes into loading."""
    host = analyze(public_traces / "kineto_v100_resnet50_train_nw0.json.gz").host
    assert host is not None
    shares = host.steps["dataloader_us"] / host.steps[PARTS].sum(axis=1)
    assert len(shares) == 6
    assert shares.between(0.25, 0.42).all()
    assert host.stacks["stack"].str.contains("torchvision/models/resnet.py").any()
