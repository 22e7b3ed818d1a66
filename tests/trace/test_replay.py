"""What a trace without CUDA graphs gives to the kernels of replays, and what it must not give."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analyzer.trace.link import ALIGNED, GRAPH, LINKS, as_launched, is_replayed
from analyzer.trace.replay import adopt_replay, replay_shares
from tests import traces
from tests.trace.replays import K, adopted, described, read, reference, replays, told

LAYERS = [
    K("norm", 5, "aten::native_layer_norm", "blocks.0.norm1"),
    K("gemm", 40, "aten::addmm", "blocks.0.attn.qkv"),
    K("softmax", 20, "aten::_softmax", "blocks.0.attn"),
    K("gemm", 40, "aten::addmm", "blocks.0.mlp.fc1"),
    K("gelu", 8, "aten::gelu", "blocks.0.mlp.act"),
]


def test_an_exact_replay_gets_every_operator_and_module(tmp_path: Path) -> None:
    found, notes = adopted(tmp_path, replays([LAYERS], [LAYERS]), reference(LAYERS))
    assert told(found) == [k.module for k in LAYERS] * 2
    assert told(found, "op") == [k.op for k in LAYERS] * 2
    assert set(found.launches["link"]) == {ALIGNED}
    assert set(found.launches["launch"]) == {"cudaGraphLaunch"}
    assert notes == ()
    assert ALIGNED in LINKS


def test_op_index_points_to_copies_of_the_reference_one_per_step(tmp_path: Path) -> None:
    graphed = [*replays([LAYERS], [LAYERS]), traces.op("aten::own", 2, 3)]
    found, _ = adopted(tmp_path, graphed, reference(LAYERS))
    index = found.launches["op_index"].tolist()
    assert sorted(index) == list(range(1, 11))  # row 0 is the operator of the trace itself
    operators = found.operators
    assert len(operators.names) == len(operators.calls) == len(operators.ops.start) == 11
    assert [operators.names[i] for i in index] == told(found, "op")
    assert all(operators.calls[i].tensor(0).shape == (64, 64) for i in index)  # type: ignore[union-attr]
    assert (operators.ops.parent == -1).all()  # none nests in an operator of the trace
    assert len(set(operators.ops.thread.tolist())) == 3


def test_an_operator_keeps_the_operators_around_it(tmp_path: Path) -> None:
    around = [traces.op("aten::linear", 9, 15, dims=[[64, 64], [64, 64], [64]]), *reference([LAYERS[1]])]
    found, _ = adopted(tmp_path, replays([[LAYERS[1]]]), around)
    (index,) = found.launches["op_index"]
    operators = found.operators
    assert (operators.names[index], operators.names[operators.ops.parent[index]]) == ("aten::addmm", "aten::linear")


def test_a_kernel_that_the_replay_lacks_disturbs_no_other(tmp_path: Path) -> None:
    dropped = [k for k in LAYERS if k.name != "softmax"]
    found, notes = adopted(tmp_path, replays([dropped]), reference(LAYERS))
    assert told(found) == [k.module for k in dropped]
    assert notes == ()


def test_what_stays_without_an_operator_is_counted(tmp_path: Path) -> None:
    """Of 93 µs one product of two (40) may stand in two places, and the copy (10) in none."""
    graphed = [K("gemm", 40), K("copy_of_inputs", 10), LAYERS[4], K("tail", 35)]
    without = [LAYERS[1], LAYERS[3], LAYERS[4], K("tail", 35, module="tail")]
    found, notes = adopted(tmp_path, replays([graphed]), reference(without))
    assert told(found) == ["", "", "blocks.0.mlp.act", "tail"]
    assert notes == (
        "2 kernels of CUDA graphs (54 % of their time) got no operator: 1 fit several places in the trace without graphs, "
        "1 none",
    )
    small = [*LAYERS, K("copy_of_inputs", 1)]
    assert adopted(tmp_path, replays([small]), reference(LAYERS))[1] == ()  # 1 of 114 µs


def test_a_kernel_that_the_reference_lacks_stays_empty(tmp_path: Path) -> None:
    added = [*LAYERS[:2], K("copy_of_inputs", 3), *LAYERS[2:]]
    found, _ = adopted(tmp_path, replays([added]), reference(LAYERS))
    assert told(found) == [*(k.module for k in LAYERS[:2]), "", *(k.module for k in LAYERS[2:])]
    assert told(found, "link")[2] == GRAPH
    assert told(found, "op")[2] == ""
    assert found.launches["op_index"].tolist()[2] == -1


def test_which_of_two_equal_kernels_is_missing_cannot_be_told(tmp_path: Path) -> None:
    """Of two products in two modules one is gone: the one that is left may be either."""
    both = [K("gemm", 40, "aten::addmm", "fc1"), K("gemm", 40, "aten::addmm", "fc2")]
    found, _ = adopted(tmp_path, replays([[K("gemm", 41)]]), reference(both))
    assert told(found, "link") == [GRAPH]
    same = [K("gemm", 40, "aten::addmm", "fc1"), K("gemm", 40, "aten::addmm", "fc1")]
    found, _ = adopted(tmp_path, replays([[K("gemm", 41)]]), reference(same))
    assert (told(found), told(found, "op")) == (["fc1"], ["aten::addmm"])
    wider = [K("gemm", 40, "aten::addmm", "fc1"), K("gemm", 40, "aten::addmm", "fc1", rows=128)]
    found, _ = adopted(tmp_path, replays([[K("gemm", 41)]]), reference(wider))
    assert told(found, "link") == [GRAPH]  # the same operator with other arguments is another piece of work


def test_a_kernel_that_the_replay_repeats_is_ambiguous_whatever_it_lasts(tmp_path: Path) -> None:
    """Three for two: each of them is left out in one of the best alignments. That one lasts longest is chance."""
    graphed = [K("norm", 5), K("gemm", 40), K("gemm", 44), K("gemm", 39), K("gelu", 8)]
    without = [K("norm", module="n"), K("gemm", module="fc1"), K("gemm", module="fc2"), K("gelu", module="act")]
    found, _ = adopted(tmp_path, replays([graphed]), reference(without))
    assert told(found) == ["n", "", "", "", "act"]
    same = [K("norm", module="n"), K("gemm", module="fc"), K("gemm", module="fc"), K("gelu", module="act")]
    found, _ = adopted(tmp_path, replays([graphed]), reference(same))
    assert told(found) == ["n", "", "", "", "act"]  # one of them has no partner, and it may be any


def test_of_two_that_changed_places_the_shorter_moved(tmp_path: Path) -> None:
    swapped = [LAYERS[0], LAYERS[2], LAYERS[1], *LAYERS[3:]]
    found, _ = adopted(tmp_path, replays([swapped]), reference(LAYERS))
    # softmax (20) crosses the product (40): the products stay, the softmax is empty
    assert told(found) == ["blocks.0.norm1", "", "blocks.0.attn.qkv", "blocks.0.mlp.fc1", "blocks.0.mlp.act"]
    equal = [K("a", 10, module="a"), K("b", 10, module="b"), K("c", 50, module="c")]
    found, _ = adopted(tmp_path, replays([[equal[1], equal[0], equal[2]]]), reference(equal))
    assert told(found) == ["", "", "c"]  # as long as one another: either may have moved


@pytest.mark.parametrize("grid", [(66, 1, 1), (132, 2, 1)])
def test_another_grid_is_another_kernel(tmp_path: Path, grid: tuple[int, ...]) -> None:
    other = [K("norm", 5, grid=grid), *LAYERS[1:]]
    found, _ = adopted(tmp_path, replays([other]), reference(LAYERS))
    assert told(found) == ["", *(k.module for k in LAYERS[1:])]


def test_another_block_is_another_kernel(tmp_path: Path) -> None:
    events = replays([LAYERS])
    kernel = next(e for e in events if e["name"] == "gelu")
    kernel["args"]["block"] = [512, 1, 1]
    assert told(adopted(tmp_path, events, reference(LAYERS))[0])[-1] == ""


def test_kernels_without_a_grid_are_compared_by_name_and_that_is_said(tmp_path: Path) -> None:
    """ROCm writes no grid for kernels of graphs."""
    bare = [K(k.name, k.dur, grid=None) for k in LAYERS]
    found, notes = adopted(tmp_path, replays([bare]), reference(LAYERS))
    assert told(found) == [k.module for k in LAYERS]
    assert notes == (
        "5 kernels of CUDA graphs have no grid or block on one side, so their names alone were compared with the trace "
        "without graphs: they have no FLOP, bytes or shapes, as nothing tells the size",
    )


def test_several_graphs_in_a_step_take_up_one_part_of_the_reference_after_the_other(tmp_path: Path) -> None:
    """Two blocks of equal kernels, each a graph of its own: only their order tells which is which."""
    blocks = [[K("norm", module=f"blocks.{i}.norm"), K("gemm", 40, module=f"blocks.{i}.fc")] for i in range(2)]
    found, _ = adopted(tmp_path, replays(blocks, blocks), reference([*blocks[0], *blocks[1]]))
    assert told(found) == ["blocks.0.norm", "blocks.0.fc", "blocks.1.norm", "blocks.1.fc"] * 2


def test_kernels_between_the_graphs_of_a_step_keep_their_own_operators(tmp_path: Path) -> None:
    blocks = [[K("norm", module=f"blocks.{i}.norm")] for i in range(2)]
    middle = K("norm", 10, "aten::native_layer_norm", "between")
    graphed = [
        *replays(blocks), traces.op("aten::eager", 11, 3), traces.launch(12, 77), traces.kernel("norm", 1005, 10, 77),
    ]  # fmt: skip
    found, _ = adopted(tmp_path, graphed, reference([*blocks[0], middle, *blocks[1]]))
    rows = found.launches.sort_values("launch_ns")
    assert rows["op"].tolist() == ["aten::relu", "aten::eager", "aten::relu"]
    assert rows["module"].tolist() == ["blocks.0.norm", "", "blocks.1.norm"]
    assert rows["link"].tolist() == [ALIGNED, "operator", ALIGNED]


def test_without_steps_a_pass_begins_where_a_graph_comes_back(tmp_path: Path) -> None:
    first, second = [LAYERS[0], LAYERS[1]], LAYERS[2:]
    graphed = replays([first, second], [first, second], stepped=False)
    found, _ = adopted(tmp_path, graphed, reference(LAYERS))
    assert told(found) == [k.module for k in LAYERS] * 2


def test_a_replay_of_something_else_gets_nothing_and_that_is_said(tmp_path: Path) -> None:
    """Of 49 + 51 µs only the 49 have a partner."""
    graphed = [K("gemm", 49), K("unknown", 51)]
    found, notes = adopted(tmp_path, replays([graphed], [graphed]), reference(LAYERS[1:3]))
    assert set(found.launches["link"]) == {GRAPH}
    assert notes == (
        "2 of 2 replays of CUDA graphs have no operators: the trace without graphs has less than half of their kernel time",
    )
    graphed = [K("gemm", 50), K("unknown", 50)]
    found, notes = adopted(tmp_path, replays([graphed]), reference(LAYERS[1:3]))
    assert told(found, "link") == [ALIGNED, GRAPH]
    assert [note[:42] for note in notes] == ["1 kernel of CUDA graphs (50 % of their tim"]


def test_nodes_of_a_graph_are_in_their_order_and_not_in_that_of_their_starts(tmp_path: Path) -> None:
    """Two branches of a graph run side by side, and the one that was recorded second starts first."""
    kernels = [K("c", 30, module="c", node=3), K("a", 10, module="a", node=1), K("b", 10, module="b", node=2)]
    without = reference([kernels[1], kernels[2], kernels[0]])
    assert told(adopted(tmp_path, replays([kernels], graph_ids=True), without)[0]) == ["c", "a", "b"]
    nameless = [K(k.name, k.dur) for k in kernels]
    assert told(adopted(tmp_path, replays([nameless]), without)[0]) == ["c", "", ""]


def _nodes(kernels: list[K]) -> list[K]:
    return [K(k.name, k.dur, k.op, k.module, k.rows, k.grid, node) for node, k in enumerate(kernels)]


def test_what_one_replay_proves_holds_for_the_node_in_all(tmp_path: Path) -> None:
    """The second recording of the graph lacks what tells its two products apart."""
    whole = _nodes([K("gemm", 40, module="fc1"), K("gelu", module="act"), K("gemm", 40, module="fc2")])
    part = [k for k in whole if k.node == 2]
    without = reference(whole)
    assert told(adopted(tmp_path, replays([whole], [part]), without)[0]) == ["fc1", "act", "fc2", ""]
    known, _ = adopted(tmp_path, replays([whole], [part], graph_ids=True), without)
    assert told(known) == ["fc1", "act", "fc2", "fc2"]


def test_replays_of_a_node_that_disagree_leave_it_empty_in_all(tmp_path: Path) -> None:
    """One graph called twice in a step, by two modules: its nodes belong to neither."""
    one = _nodes([K("norm"), K("gemm", 40)])
    without = reference([K(k.name, k.dur, module=f"blocks.{i}.{k.name}") for i in range(2) for k in one])
    events = replays([one, one], graph_ids=True)
    for event in events:
        if "graph id" in event.get("args", {}):
            event["args"]["graph id"] = 50
    found, _ = adopted(tmp_path, events, without)
    assert set(found.launches["link"]) == {GRAPH}
    assert told(adopted(tmp_path, replays([one, one]), without)[0])[0] == "blocks.0.norm"


def test_copies_and_fills_mark_the_way_and_get_nothing(tmp_path: Path) -> None:
    def fill(ts: float, correlation: int) -> dict[str, Any]:
        args = {"device": 0, "stream": 7, "correlation": correlation, "bytes": 64}
        return {"ph": "X", "cat": "gpu_memset", "name": "Memset (Device)", "pid": 0, "tid": 7, "ts": ts, "dur": 1, "args": args}

    without = [
        *reference([K("gemm", 40, module="fc1"), K("gemm", 40, module="fc2")]),
        traces.launch(25, 99, name="cudaMemsetAsync"), fill(5015, 99),
    ]  # fmt: skip
    graphed = replays([[K("gemm", 40)]])
    found, _ = adopted(tmp_path, [*graphed, fill(1090, 1001)], without)
    assert list(zip(told(found), told(found, "link"), strict=True)) == [("fc1", ALIGNED), ("", GRAPH)]
    found, _ = adopted(tmp_path, [*graphed, fill(900, 1001)], without)
    assert list(zip(told(found), told(found, "link"), strict=True)) == [("", GRAPH), ("fc2", ALIGNED)]


def test_work_that_was_only_partly_replayed_is_not_known(tmp_path: Path) -> None:
    """An operator with two kernels of which the replay has one: what that one does of it is anybody's guess."""
    events = reference([K("gemm", 40, "aten::addmm", "fc")])
    events += [traces.launch(15, 90), traces.kernel("reduce", 5015, 5, 90)]
    both, _ = adopted(tmp_path, replays([[K("gemm", 40), K("reduce", 5)]]), events)
    assert both.launches["op_index"].nunique() == 1
    assert both.operators.calls[0] is not None
    one, _ = adopted(tmp_path, replays([[K("gemm", 40)]]), events)
    assert (told(one, "op"), told(one), one.operators.calls) == (["aten::addmm"], ["fc"], [None])


def test_replayed_kernels_belong_on_the_host_to_no_operator(tmp_path: Path) -> None:
    found, _ = adopted(tmp_path, replays([[*LAYERS, K("other")]]), reference(LAYERS))
    assert is_replayed(found.launches).all()
    assert (as_launched(found.launches)["op_index"] == -1).all()


def test_shares_of_time(tmp_path: Path) -> None:
    """100 µs replayed of 200, of which 75 have a partner."""
    graphed = [
        *replays([[K("gemm", 75), K("other", 25)]]),
        traces.op("aten::eager", 400, 20), traces.launch(405, 7), traces.kernel("alone", 3000, 100, 7),
    ]  # fmt: skip
    found, _ = adopted(tmp_path, graphed, reference([K("gemm", 75, module="fc")]))
    assert replay_shares(found.launches) == pytest.approx((50.0, 75.0))
    eager = described(read(tmp_path, traces.gpu_step()))
    replayed, aligned = replay_shares(eager.launches)
    assert replayed == 0.0
    assert math.isnan(aligned)


def test_a_trace_without_graphs_is_left_alone_and_so_is_one_without_a_useful_reference(tmp_path: Path) -> None:
    eager = described(read(tmp_path, traces.gpu_step()))
    assert adopt_replay(eager, eager) == (eager, ())
    graphed = described(read(tmp_path, replays([LAYERS])))
    found, notes = adopt_replay(graphed, described(read(tmp_path, traces.cpu_step(), "u.json")))
    assert found is graphed
    assert notes == ("the trace without CUDA graphs holds no kernel: replayed kernels have no operator",)
