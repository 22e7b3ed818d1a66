"""How a kernel finds its launch, its operator and its module, in every way that traces allow."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer.trace.kineto import read_trace
from analyzer.trace.link import LINKS, link
from analyzer.trace.ranks import OtherRankError, ranks_in, select_rank
from tests import traces


def _launches(tmp_path: Path, events: list[dict[str, Any]], **top: Any) -> pd.DataFrame:
    return link(read_trace(traces.write(tmp_path / "t.json", traces.document(events, **top)))).launches


def test_kernels_of_a_graph_belong_to_its_launch_and_to_no_operator(tmp_path: Path) -> None:
    events = [
        traces.op("aten::copy_", 0, 100, ext=5),
        traces.launch(10, 7, name="cudaGraphLaunch"),
        *(traces.kernel(f"k{i}", 50 + 10 * i, 5, 7, ext=5) for i in range(3)),
        traces.launch(70, 8),
        traces.kernel("plain", 90, 5, 8, ext=5),
        # of a graph whose launch call the trace does not hold, told by its graph id alone
        traces.kernel("lost", 95, 5, 99, ext=5, **{"graph id": 3, "graph node id": 12}),
    ]
    found = _launches(tmp_path, events)
    assert found["op"].tolist() == ["", "", "", "aten::copy_", ""]
    assert found["launch"].tolist() == ["cudaGraphLaunch"] * 3 + ["cudaLaunchKernel", ""]
    assert found["link"].tolist() == ["graph"] * 3 + ["operator", "graph"]
    assert (found["graph_id"].tolist()[-1], found["graph_node"].tolist()[-1]) == (3, 12)


def test_hip_graphs_count_as_graphs(tmp_path: Path) -> None:
    events = [traces.op("aten::mm", 0, 100), traces.launch(10, 7, name="hipGraphLaunch"), traces.kernel("k", 50, 5, 7)]
    assert _launches(tmp_path, events)["link"].tolist() == ["graph"]


def test_flow_arrows_link_where_kernels_have_no_correlation(tmp_path: Path) -> None:
    kernel = traces.kernel("k", 60, 5, 0, ext=0)
    call = traces.launch(20, 0)
    for event in (kernel, call):
        del event["args"]["correlation"]
    arrows = [
        {"ph": "s", "id": 77, "cat": "ac2g", "name": "ac2g", "pid": 1, "tid": 1, "ts": 20},
        {"ph": "f", "id": 77, "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 7, "ts": 60, "bp": "e"},
    ]
    events = [traces.op("aten::mm", 10, 30), call, kernel]
    assert _launches(tmp_path, events)["link"].tolist() == ["none"]
    found = _launches(tmp_path, [*events, *arrows])
    assert (found["op"].tolist(), found["link"].tolist(), found["launch_ns"].tolist()) == (["aten::mm"], ["operator"], [20_000])


def test_an_id_used_twice_belongs_to_the_call_before_its_kernel(tmp_path: Path) -> None:
    events = [
        traces.op("aten::mm", 0, 20),
        traces.launch(5, 7),
        traces.kernel("first", 30, 5, 7),
        traces.op("aten::relu", 100, 20),
        traces.launch(105, 7),
        traces.kernel("second", 130, 5, 7),
    ]
    assert _launches(tmp_path, events)["op"].tolist() == ["aten::mm", "aten::relu"]


def _merged_ranks() -> list[dict[str, Any]]:
    """Two ranks in one file, at the same time and with the same ids."""
    events = []
    for rank, name in ((0, "aten::mm"), (1, "aten::relu")):
        parts = [traces.op(name, 0, 20), traces.launch(5, 7), traces.kernel(f"k{rank}", 30 + rank, 5 + rank, 7)]
        events += [event | {"pid": f"[TP0{rank}] {event['pid']}"} for event in parts]
    return events


def test_ranks_of_a_merged_file_do_not_mix_and_can_be_selected(tmp_path: Path) -> None:
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document(_merged_ranks())))
    assert ranks_in(trace) == [0, 1]
    found = link(trace).launches
    assert dict(zip(found["kernel"], found["op"], strict=True)) == {"k0": "aten::mm", "k1": "aten::relu"}
    one = link(select_rank(trace, 1)).launches
    assert (one["kernel"].tolist(), one["op"].tolist()) == (["k1"], ["aten::relu"])
    with pytest.raises(OtherRankError, match="of rank 0, 1, not 5"):
        select_rank(trace, 5)


def test_the_rank_of_a_file_comes_from_its_distributed_info(tmp_path: Path) -> None:
    info = {"backend": "nccl", "rank": 3, "world_size": 8}
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step(), distributedInfo=info)))
    assert (trace.rank, trace.world_size) == (3, 8)
    assert select_rank(trace, 3) is trace
    with pytest.raises(OtherRankError, match="of rank 3, not 0"):
        select_rank(trace, 0)


def _backward() -> list[dict[str, Any]]:
    """A forward linear on thread 1 inside a module, its gradient on thread 2 outside of any."""
    forward = traces.op("aten::addmm", 10, 20, ext=1)
    forward["args"]["Sequence number"] = 42
    around = traces.op("autograd::engine::evaluate_function: AddmmBackward0", 100, 60, tid=2, ext=2)
    around["args"] |= {"Sequence number": 42, "Fwd thread id": 1}
    return [
        forward,
        traces.launch(15, 1),
        traces.kernel("forward", 40, 5, 1),
        around,
        traces.op("aten::mm", 110, 20, tid=2, ext=3),
        traces.launch(115, 2, tid=2),
        traces.kernel("backward", 140, 5, 2),
    ]


def test_a_backward_kernel_has_the_module_of_its_forward_operator(tmp_path: Path) -> None:
    found = _launches(tmp_path, [traces.note("module::blocks.0.mlp", 5, 40), *_backward()])
    assert found["op"].tolist() == ["aten::addmm", "aten::mm"]
    assert found["module"].tolist() == ["blocks.0.mlp", "blocks.0.mlp"]


def test_user_annotations_stand_in_where_there_are_no_modules(tmp_path: Path) -> None:
    notes = [
        traces.note("ProfilerStep#1", 0, 200),
        traces.note("encoder", 2, 100),
        traces.note("Optimizer.step#SGD.step", 6, 40),
    ]
    assert _launches(tmp_path, [*notes, *_backward()])["module"].tolist()[0] == "encoder"


def test_what_torch_compile_notes_is_no_module(tmp_path: Path) -> None:
    notes = [traces.note("## Call CompiledFxGraph f2ca7n2tyrfaeqb6uzy6utltdtzwb3r2 ##", 0, 200)]
    assert set(_launches(tmp_path, [*notes, *_backward()])["module"]) == {""}
    assert "encoder" in set(_launches(tmp_path, [*notes, traces.note("encoder", 2, 100), *_backward()])["module"])


def test_compiled_code_on_a_cpu_stands_beside_the_work_of_its_compiler(tmp_path: Path) -> None:
    """Guards and bookkeeping count as dispatch; what the region spends itself is the fused code."""
    events = [
        traces.op("TorchDynamo Cache Lookup", 0, 10),
        traces.op("Torch-Compiled Region: 0/0", 10, 80),
        traces.op("Pregraph bytecode", 12, 2),
        traces.op("AOTDispatcher Runtime Wrapper Prologue", 14, 2),
        traces.op("aten::mm", 20, 30),
    ]
    found = link(read_trace(traces.write(tmp_path / "t.json", traces.document(events, gpu=False))))
    assert dict(zip(found.launches["op"], found.launches["dur_ns"], strict=True)) == {
        "Torch-Compiled Region: 0/0": 46_000,
        "aten::mm": 30_000,
    }
    assert found.wrapper_ns == 14_000


def test_a_launch_from_a_thread_without_operators_uses_the_external_id(tmp_path: Path) -> None:
    events = [traces.op("triton_poi_fused_add_0", 0, 50, ext=9), traces.launch(10, 4, tid=33, name="cuLaunchKernel", cat="cuda_driver"),
              traces.kernel("triton_poi_fused_add_0", 30, 5, 4, ext=9)]  # fmt: skip
    found = _launches(tmp_path, events)
    assert (found["op"].tolist(), found["link"].tolist()) == (["triton_poi_fused_add_0"], ["external id"])


def test_external_ids_of_two_ranks_do_not_mix(tmp_path: Path) -> None:
    events = []
    for rank, name in ((0, "aten::mm"), (1, "aten::relu")):
        parts = [traces.op(name, 0, 20, ext=5), traces.kernel(f"k{rank}", 30, 5, 0, ext=5)]
        events += [event | {"pid": f"rank {rank}: {event['pid']}"} for event in parts]
    found = _launches(tmp_path, events)
    assert dict(zip(found["kernel"], found["op"], strict=True)) == {"k0": "aten::mm", "k1": "aten::relu"}


def test_external_ids_that_contradict_containment_are_not_believed(public_traces: Path, tmp_path: Path) -> None:
    """The RTX 2080 Ti trace numbers operators and launches apart: its ids name operators that the kernels do not belong to."""
    document = json.loads(gzip.decompress((public_traces / "param_rtx2080ti_resnet_train.json.gz").read_bytes()))
    events = document["traceEvents"]
    launches = [e for e in events if e.get("cat") == "cuda_runtime" and e["name"] == "cudaLaunchKernel"][:500]
    gone = {e["args"]["correlation"] for e in launches}
    document["traceEvents"] = [e for e in events if e.get("cat") != "cuda_runtime" or e["args"]["correlation"] not in gone]
    found = link(read_trace(traces.write(tmp_path / "t.json", document))).launches
    lost = found[found["correlation"].isin(gone)]
    assert len(lost) == 500
    assert set(lost["link"]) == {"none"}


def test_a_kernel_known_by_its_id_alone_has_the_module_and_step_of_its_operator(tmp_path: Path) -> None:
    events = [
        traces.note("ProfilerStep#1", 0, 100),
        traces.note("module::net.fc", 5, 40),
        traces.op("aten::addmm", 10, 20, ext=9),
        traces.note("ProfilerStep#2", 100, 100),
        traces.kernel("late", 120, 5, 0, ext=9),
    ]
    found = _launches(tmp_path, events)
    assert (found["op"].tolist(), found["module"].tolist(), found["step"].tolist()) == (["aten::addmm"], ["net.fc"], [0])


def test_arrows_and_correlation_ids_are_numbers_of_their_own(tmp_path: Path) -> None:
    """Arrow 7 leads to the call in ``a``; another call has the correlation id 7."""
    kernel = traces.kernel("by arrow", 60, 5, 0, ext=0)
    call = traces.launch(20, 0)
    for event in (kernel, call):
        del event["args"]["correlation"]
    events = [
        traces.op("aten::a", 10, 20), call, kernel,
        traces.op("aten::b", 40, 10), traces.launch(45, 7), traces.kernel("by id", 80, 5, 7, ext=0),
        {"ph": "s", "id": 7, "cat": "ac2g", "name": "ac2g", "pid": 1, "tid": 1, "ts": 20},
        {"ph": "f", "id": 7, "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 7, "ts": 60, "bp": "e"},
        {"ph": "s", "id": 7, "cat": "fwdbwd", "name": "fwdbwd", "pid": 1, "tid": 1, "ts": 45},
    ]  # fmt: skip
    assert _launches(tmp_path, events)["op"].tolist() == ["aten::a", "aten::b"]


def test_a_sequence_number_of_two_forward_threads_names_no_module(tmp_path: Path) -> None:
    other = traces.op("aten::addmm", 10, 20, tid=5, ext=7)
    other["args"]["Sequence number"] = 42
    events = [traces.note("module::left", 5, 40), traces.note("module::right", 5, 40, tid=5), other, *_backward()]
    assert _launches(tmp_path, events)["module"].tolist() == ["left", ""]


def test_a_step_inside_another_one_does_not_hide_it(tmp_path: Path) -> None:
    events = [
        traces.note("ProfilerStep#1", 0, 100),
        traces.note("ProfilerStep#2", 10, 10),
        traces.note("ProfilerStep#2", 12, 3, tid=9),
        *(
            part
            for i, at in enumerate((15, 51))
            for part in (traces.launch(at, i + 1), traces.kernel(f"k{i}", at + 5, 1, i + 1))
        ),
    ]
    assert _launches(tmp_path, events)["step"].tolist() == [1, 0]


def test_an_operator_with_a_stream_argument_is_no_kernel(tmp_path: Path) -> None:
    """Triton writes ``stream`` into its operators; a reader that goes by it counts them as GPU time."""
    triton = traces.op("triton_poi_fused_add_0", 0, 50, ext=9)
    triton["args"] |= {"stream": 7, "kernel_backend": "triton", "grid": "grid(100,)"}
    trace = read_trace(
        traces.write(tmp_path / "t.json", traces.document([triton, traces.launch(10, 4), traces.kernel("k", 30, 5, 4)]))
    )
    assert (len(trace.kernels), int(trace.kernels["dur_ns"].sum())) == (1, 5000)


def _kernels_of_graphs(path: Path) -> int:
    """Count, with the standard library alone, the kernels that share the correlation id of a graph launch."""
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    ids = {e["args"]["correlation"] for e in events if "GraphLaunch" in str(e.get("name"))}
    return sum(str(e.get("cat")).lower() == "kernel" and e["args"]["correlation"] in ids for e in events if e.get("ph") == "X")


OPERATOR_SHARE = {
    "tracelens_h100_vit_nsfw_infer": 100.0,
    "tracelens_mi300_vit_nsfw_infer": 100.0,
    "kineto_v100_resnet50_train_nw0": 100.0,
    "tracelens_b200_eager": 99.5,
    "param_rtx2080ti_resnet_train": 95.0,
    "hta_a100_alexnet_critical_path": 95.0,
    "saf_a100_sam_amg_vith_fast": 95.0,
}


@pytest.mark.parametrize("name", OPERATOR_SHARE)
def test_public_kernels_link_to_launches_and_operators(public_traces: Path, name: str) -> None:
    launches = link(read_trace(public_traces / f"{name}.json.gz")).launches
    kernels = launches[launches["category"] == "kernel"]
    assert (kernels["launch"] != "").all()
    assert set(kernels["link"]) <= set(LINKS)
    graph = kernels["link"] == "graph"
    assert graph.sum() == _kernels_of_graphs(public_traces / f"{name}.json.gz")
    assert (kernels.loc[graph, "op_index"] == -1).all()
    assert 100 * (kernels.loc[~graph, "op_index"] >= 0).mean() >= OPERATOR_SHARE[name]


@pytest.mark.parametrize(
    "name", ["tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer", "hta_a100_alexnet_critical_path"]
)
def test_addmm_owns_gemm_kernels_of_public_traces(public_traces: Path, name: str) -> None:
    launches = link(read_trace(public_traces / f"{name}.json.gz")).launches
    kernels = launches[launches["category"] == "kernel"]
    gemm = kernels["kernel"].str.contains(r"gemm|Cijk", case=False)
    of_addmm = kernels["op"] == "aten::addmm"
    assert of_addmm.any()
    assert kernels.loc[of_addmm & gemm, "dur_ns"].sum() > 0.9 * kernels.loc[of_addmm, "dur_ns"].sum()
    assert not kernels.loc[gemm, "op"].str.contains("softmax|norm|relu|add_$").any()
