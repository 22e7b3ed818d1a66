"""Alignments that are the best and may be wrong all the same: another batch size, and branches that run side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze
from analyzer.metrics.attribution import IN_PART
from analyzer.trace.link import ALIGNED, GRAPH
from analyzer.trace.replay import Described
from tests import traces
from tests.trace.replays import K, adopted, reference, replays, told

OTHER = "1 step with CUDA graphs launched kernels with other grids or blocks than the trace without graphs"
STREAMS = "ran in graphs on several streams, whose nodes the trace does not number"


def _block(number: int, rows: int) -> list[K]:
    """A block at a batch of ``rows``: the product is persistent, its grid is the device's whatever the batch."""
    path = f"blocks.{number}"
    return [
        K("norm", 5, "aten::native_layer_norm", f"{path}.norm", rows, (rows // 8, 1, 1)),
        K("nvjet", 20, "aten::addmm", f"{path}.fc", rows),
        K("gelu", 5, "aten::gelu", f"{path}.act", rows, (rows // 2, 1, 1)),
    ]


def _model(rows: int) -> list[K]:
    return [*_block(0, rows), *_block(1, rows)]


def _rows(found: Described) -> list[int | None]:
    """Return the rows of the input that each launch has from its operator, None where what it does is not known."""
    calls = found.operators.calls
    index = found.launches.sort_values("start_ns", kind="stable")["op_index"].tolist()
    return [calls[i].tensor(0).shape[0] if i >= 0 and calls[i] else None for i in index]


@pytest.mark.parametrize("rows", [64, 6400])
def test_a_reference_of_another_batch_size_gives_no_work(tmp_path: Path, rows: int) -> None:
    found, notes = adopted(tmp_path, replays([_model(640)]), reference(_model(rows)))
    assert told(found) == ["", "blocks.0.fc", "", "", "blocks.1.fc", ""]
    assert told(found, "op")[1] == "aten::addmm"
    assert _rows(found) == [None] * 6
    assert notes[0] == (
        f"{OTHER}, as other batch or image sizes do: the kernels there have operators and modules at most, and no FLOP, bytes "
        "or shapes"
    )
    same, notes = adopted(tmp_path, replays([_model(rows)]), reference(_model(rows)))
    assert (_rows(same), notes) == ([rows] * 6, ())


def test_of_steps_with_several_batch_sizes_one_has_the_work_of_the_reference(tmp_path: Path) -> None:
    found, notes = adopted(tmp_path, replays([_model(64)], [_model(512)]), reference(_model(512)))
    assert _rows(found) == [None] * 6 + [512] * 6
    assert notes[0].startswith(OTHER)
    both, _ = adopted(tmp_path, replays([_model(64), _model(512)]), reference([*_model(512), *_model(512)]))
    assert 512 not in _rows(both)[:6]  # and both in one step


def test_all_graphs_of_a_step_have_its_batch_size(tmp_path: Path) -> None:
    """The second graph of the step holds the persistent product alone, so nothing in it tells the size."""
    graphs = [_block(0, 64), [_block(1, 64)[1]]]
    found, _ = adopted(tmp_path, replays(graphs), reference([*_block(0, 512), _block(1, 512)[1]]))
    assert told(found)[1] == "blocks.0.fc"
    assert told(found, "link")[3] == ALIGNED
    assert _rows(found) == [None] * 4


def test_a_kernel_that_the_reference_lacks_says_nothing_of_sizes(tmp_path: Path) -> None:
    """Kernels of one name and two grids, one of which the reference lacks: it has no third one in its place."""
    wide = K("norm", 5, "aten::native_layer_norm", "head", 64, (99, 1, 1))
    found, notes = adopted(tmp_path, replays([[*_model(64), wide]]), reference(_model(64)))
    assert _rows(found) == [64] * 6 + [None]
    assert not [note for note in notes if OTHER in note]


@pytest.mark.parametrize("lacking", ["grid", "block"])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_compared_by_name_alone_gets_no_work(tmp_path: Path, lacking: str, side: int) -> None:
    sides = replays([_model(64)]), reference(_model(64))
    for event in sides[side]:
        if event["cat"] == "kernel":
            del event["args"][lacking]
    found, notes = adopted(tmp_path, *sides)
    assert told(found) == [k.module for k in _model(64)]
    assert _rows(found) == [None] * 6
    assert notes[0].startswith("6 kernels of CUDA graphs have no grid or block on one side")
    assert "no FLOP, bytes or shapes" in notes[0]


def test_kernels_beside_those_without_a_grid_keep_their_work(tmp_path: Path) -> None:
    graphed = replays([_model(64)])
    for event in graphed:
        if event["name"] == "gelu":
            del event["args"]["grid"]
    assert _rows(adopted(tmp_path, graphed, reference(_model(64)))[0]) == [64, 64, None] * 2


def test_no_flop_of_another_batch_size_reaches_an_analysis(tmp_path: Path) -> None:
    without = reference(_model(6400))
    for event in without:
        if event["name"] == "aten::addmm":
            event["args"] |= {"Input Dims": [[64], [6400, 64], [64, 64]], "Input type": ["float"] * 3}
    traces.write(tmp_path / "t.ungraphed.json", traces.document(without))
    a = analyze(traces.write(tmp_path / "t.json", traces.document(replays([_model(64)]))))
    products = a.launches[a.launches["op"] == "aten::addmm"]
    assert products["flop"].isna().all()
    assert set(products["unmodelled"]) == {IN_PART}
    assert (a.totals.flop, [OTHER in warning for warning in a.warnings][:1]) == (0.0, [True])


def _on(events: list[dict[str, Any]], *streams: int) -> list[dict[str, Any]]:
    kernels = [event for event in events if event["cat"] == "kernel"]
    for event, stream in zip(kernels, streams, strict=True):
        event["tid"] = event["args"]["stream"] = stream
    return events


def _product(name: str, node: int | None = None) -> K:
    return K("gemm", 10, "aten::addmm", f"attn.{name}", node=node)


def test_equal_kernels_on_branches_of_a_graph_cannot_be_told_apart_by_their_starts(tmp_path: Path) -> None:
    """The branch of k starts first: that of q must not get its module."""
    started = [_product("k"), _product("q"), _product("v")]
    without = reference([_product("q"), _product("k"), _product("v")])
    found, notes = adopted(tmp_path, _on(replays([started]), 8, 7, 9), without)
    assert (told(found), set(told(found, "link"))) == ([""] * 3, {GRAPH})
    assert notes[1] == f"3 of these kernels {STREAMS}: which of the equal kernels is which cannot be told"
    one, notes = adopted(tmp_path, _on(replays([started]), 7, 7, 7), without)
    assert (told(one), notes) == (["attn.q", "attn.k", "attn.v"], ())  # one stream keeps the order of the launches


def test_nodes_tell_branches_apart(tmp_path: Path) -> None:
    started = [_product("k", 2), _product("q", 1), _product("v", 3)]
    without = reference([_product("q"), _product("k"), _product("v")])
    found, notes = adopted(tmp_path, _on(replays([started], graph_ids=True), 8, 7, 9), without)
    assert (told(found), notes) == (["attn.k", "attn.q", "attn.v"], ())


def test_branches_that_do_the_same_need_not_be_told_apart(tmp_path: Path) -> None:
    same = [_product("qkv")] * 3
    found, notes = adopted(tmp_path, _on(replays([same]), 8, 7, 9), reference(same))
    assert (told(found), notes) == (["attn.qkv"] * 3, ())


def test_kernels_of_one_branch_keep_theirs_where_they_are_in_turn(tmp_path: Path) -> None:
    """Each key on one stream: the products keep their order, however the other branch falls between them."""
    model = [_product("a"), K("side", 30, module="y"), _product("b"), K("tail", 30, module="z")]
    straight, notes = adopted(tmp_path, _on(replays([model]), 7, 8, 7, 8), reference(model))
    assert (told(straight), notes) == (["attn.a", "y", "attn.b", "z"], ())
    # The second branch starts late: between its kernels lies the other product of the same key
    late = [model[0], model[1], model[2], model[3]]
    early = reference([model[1], model[0], model[3], model[2]])
    found, notes = adopted(tmp_path, _on(replays([late]), 7, 8, 7, 8), early)
    assert told(found) == ["", "y", "", "z"]
    assert STREAMS in notes[-1]
