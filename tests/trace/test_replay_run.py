"""Runs with CUDA graphs from their files to a report: replayed kernels are analysed as those of an eager run are."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.examination import examine
from analyzer.metrics.attribution import IN_PART
from analyzer.metrics.guard import check_overlap
from analyzer.metrics.limits import limits_of
from analyzer.report.render import write_report
from analyzer.report.sections.waiting import LINK_NAMES
from analyzer.schema.results import Analysis
from analyzer.schema.settings import Selection
from analyzer.tasks.inputs import expand_runs
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import ALIGNED, GRAPH, LINKS
from analyzer.trace.replay import adopt_replay, adopt_ungraphed
from analyzer.trace.rundir import COMPILED_FILE, TRACE_FILE, UNGRAPHED_FILE, open_run
from analyzer.trace.source import MAX_EXPANSION
from tests import traces
from tests.report.synthetic import Fake, trace, write_run
from tests.trace.replays import described
from tests.traces import write

BLOCKS = 6
Document = dict[str, Any]


def eager(steps: int) -> Document:
    """Return the made-up ViT with a module scope around each operator."""
    document = trace(Fake(steps=steps, blocks=BLOCKS))
    ops = [e for e in document["traceEvents"] if e["cat"] == "cpu_op"]
    notes = [
        e | {"cat": "user_annotation", "name": f"module::blocks.{i // 4 % BLOCKS}.{i % 4}", "args": {}}
        for i, e in enumerate(ops)
    ]
    return document | {"traceEvents": [*document["traceEvents"], *notes]}


def graphed(document: Document) -> Document:
    """Return the same steps with their kernels in one graph each: no operator, no scope, one launch per step."""
    events: list[Document] = []
    number = 0
    for event in copy.deepcopy(document["traceEvents"]):
        if event["name"].startswith("ProfilerStep"):
            number += 1
            launch = {"correlation": 9000 + number}
            events += [
                event,
                {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": event["ts"] + 2, "dur": 1.0, "pid": 1,
                 "tid": 1, "args": launch},
            ]  # fmt: skip
    steps = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if "dur" in e and e["cat"] == "user_annotation")
    for event in copy.deepcopy(document["traceEvents"]):
        if event["cat"] in ("kernel", "gpu_memcpy"):
            step = next(i for i, (start, end) in enumerate(steps) if start <= event["ts"] <= end)
            event["args"]["correlation"] = 9001 + step
            events.append(event)
    return document | {"traceEvents": events}


def run_directory(root: Path, *, reference: Document | None) -> Path:
    """Write a run of three steps with CUDA graphs."""
    run = write_run(root, Fake(blocks=BLOCKS))
    (run / TRACE_FILE).write_bytes(gzip.compress(json.dumps(graphed(eager(3))).encode()))
    if reference is not None:
        (run / UNGRAPHED_FILE).write_bytes(gzip.compress(json.dumps(reference).encode()))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_directory(tmp_path_factory.mktemp("graphed"), reference=eager(1))


@pytest.fixture(scope="module")
def replayed(run: Path) -> Analysis:
    return analyze(run)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """The same three steps launched kernel by kernel."""
    root = tmp_path_factory.mktemp("eager")
    run = write_run(root, Fake(blocks=BLOCKS))
    (run / TRACE_FILE).write_bytes(gzip.compress(json.dumps(eager(3)).encode()))
    return analyze(run)


def kernels_of(a: Analysis) -> pd.DataFrame:
    rows = a.launches[a.launches["category"] == "kernel"]
    return rows.sort_values("start_ns", kind="stable").reset_index(drop=True)


SAME = [
    "kernel", "op", "module", "kind", "role", "basis", "unmodelled", "flop", "bytes_compulsory", "bytes_high", "floor_us",
    "shapes", "dtype", "unit", "owner_op", "is_backward", "occupancy_pct", "waves", "bytes_dram_low", "bytes_dram_high", "step",
]  # fmt: skip


def test_replayed_kernels_are_analysed_as_launched_ones_are(replayed: Analysis, launched: Analysis) -> None:
    one, other = kernels_of(replayed), kernels_of(launched)
    assert len(one) == 3 * 4 * BLOCKS
    assert set(one["link"]) == {ALIGNED}
    pd.testing.assert_frame_equal(one[SAME], other[SAME], check_dtype=False)
    assert set(one["basis"]) == {"formula"}
    # addmm of [6304, 768] x [768, 2304], three steps of six blocks: 2 m n k
    products = one[one["op"] == "aten::addmm"]
    assert products["flop"].sum() == pytest.approx(18 * 2 * 6304 * 768 * 2304, rel=1e-9)
    assert one["module"].tolist()[:5] == ["blocks.0.0", "blocks.0.1", "blocks.0.2", "blocks.0.3", "blocks.1.0"]


def test_sums_kinds_ledger_and_rooflines_agree_with_the_launched_run(replayed: Analysis, launched: Analysis) -> None:
    assert replayed.totals.flop == launched.totals.flop
    assert replayed.totals.bytes_compulsory == launched.totals.bytes_compulsory
    assert replayed.totals.linked_pct == launched.totals.linked_pct == 100.0
    pd.testing.assert_frame_equal(replayed.kinds, launched.kinds)
    pd.testing.assert_frame_equal(replayed.terms, launched.terms)
    for name in ("operators", "modules", "model"):
        pd.testing.assert_frame_equal(getattr(replayed.rooflines, name), getattr(launched.rooflines, name))
    assert not [w for w in replayed.warnings if "graph" in w.lower()]


def test_shares_are_told(replayed: Analysis, launched: Analysis) -> None:
    assert replayed.attribution is not None
    assert launched.attribution is not None
    assert (replayed.attribution.replayed_pct, replayed.attribution.aligned_pct) == (100.0, 100.0)
    assert (replayed.attribution.operators_pct, replayed.attribution.modules_pct) == (100.0, 100.0)
    assert replayed.attribution.notes == ()
    assert (launched.attribution.replayed_pct, np.isnan(launched.attribution.aligned_pct)) == (0.0, True)


def test_the_host_view_shows_the_host_of_the_replays_and_not_of_the_reference(replayed: Analysis) -> None:
    """No operator ran there, so no time of the reference's operators may count as time of this host."""
    host = replayed.host
    assert host is not None
    assert len(host.operators) == len(host.modules) == 0
    assert host.steps["host_us"].isna().all()
    assert host.steps["kernel_us"].sum() == pytest.approx(kernels_of(replayed)["dur_ns"].sum() / 1e3)


def test_the_report_shows_operators_and_says_where_they_come_from(replayed: Analysis, tmp_path: Path) -> None:
    write_report(compare(replayed), tmp_path)
    table = pd.read_csv(tmp_path / "kernels.csv")
    assert set(table["op"]) == {"aten::addmm", "aten::_flash_attention_forward", "aten::native_layer_norm", "aten::gelu"}
    assert table[["op", "module", "flop", "bytes_compulsory"]].notna().all().all()
    html = (tmp_path / "index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert (
        "to the operator of the same kernel in a trace of the same code without graphs: a CUDA or HIP graph replayed it" in html
    )
    assert "0 kernels launched one by one and 1 launch of a graph with 24 kernels per step" in html


def test_without_a_reference_replayed_kernels_have_no_operator(tmp_path: Path) -> None:
    a = analyze(run_directory(tmp_path, reference=None))
    rows = kernels_of(a)
    assert set(rows["link"]) == {GRAPH}
    assert set(rows["op"]) == set(rows["module"]) == {""}
    assert a.totals.flop == 0.0


def test_selected_steps_are_aligned_too(run: Path, replayed: Analysis) -> None:
    rows = kernels_of(analyze(run, Selection(steps=(2,))))
    whole = kernels_of(replayed)
    assert len(rows) == 4 * BLOCKS
    assert rows["module"].tolist() == whole.loc[whole["step"] == 1, "module"].tolist()
    assert rows["flop"].sum() == pytest.approx(whole["flop"].sum() / 3)


def test_a_reference_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    run = run_directory(tmp_path, reference=None)
    (run / UNGRAPHED_FILE).write_bytes(b"no trace at all")
    a = analyze(run)
    assert "the trace without CUDA graphs cannot be read: replayed kernels have no operator" in a.warnings
    assert set(kernels_of(a)["link"]) == {GRAPH}


@pytest.mark.parametrize("name", ["some.ungraphed.json.gz", "some.ungraphed.json"])
def test_a_reference_beside_a_bare_trace_is_found(tmp_path: Path, name: str) -> None:
    bare = write(tmp_path / "some.json.gz", graphed(eager(2)))
    beside = write(tmp_path / name, eager(1))
    assert open_run(bare).ungraphed == beside
    assert set(kernels_of(analyze(bare))["link"]) == {ALIGNED}
    assert expand_runs((f"{tmp_path}/*.json*",)) == [bare]  # it is no run of its own
    assert expand_runs((str(beside),)) == [beside]  # unless it is asked for by name


def test_an_examination_tells_what_the_reference_adds(tmp_path: Path) -> None:
    bare = write(tmp_path / "some.json", graphed(eager(2)))
    alone = examine(bare)
    assert "graph_kernels" in {o.code for o in alone.oddities}
    assert any("NAME.ungraphed.json.gz" in remark for remark in alone.recording.remarks)
    write(tmp_path / "some.ungraphed.json", eager(1))
    both = examine(bare)
    (odd,) = [o for o in both.oddities if o.code == "graph_kernels_aligned"]
    assert odd.count == 2 * 4 * BLOCKS
    assert odd.meaning == "the trace without graphs gives 48 of them (100 % of kernel time) their operators"
    assert not any("NAME.ungraphed.json.gz" in remark for remark in both.recording.remarks)
    details = {c.key: c.detail for c in both.capabilities}
    assert details["launches"].startswith("operator known for all 48 kernels")
    assert details["modules"].endswith("and from the trace without CUDA graphs")


def test_an_examination_tells_why_a_reference_does_not_help(tmp_path: Path) -> None:
    other = trace(Fake(family="cnn", steps=1))
    bare = write(tmp_path / "some.json", graphed(eager(1)))
    write(tmp_path / "some.ungraphed.json", other)
    found = {o.code: o for o in examine(bare).oddities}
    assert "graph_kernels" in found
    assert found["graph_kernels_not_aligned"].finding.startswith("1 of 1 replay of CUDA graphs have no operators")


def test_an_operator_that_was_replayed_in_part_has_no_work(tmp_path: Path) -> None:
    """The reference launches a second kernel for each product, which the graph has not: what the one left does is not told."""
    reference = eager(1)
    kernels = [e for e in reference["traceEvents"] if e["cat"] == "kernel" and "gemm" in e["name"]]
    twice = [e | {"name": "splitKreduce_kernel", "ts": e["ts"] + 1, "dur": 1.0} for e in kernels]
    reference["traceEvents"] += twice
    rows = kernels_of(analyze(run_directory(tmp_path, reference=reference)))
    products = rows["op"] == "aten::addmm"
    assert products.sum() == 18
    assert set(rows.loc[products, "unmodelled"]) == {IN_PART}
    assert rows.loc[products, "flop"].isna().all()
    assert set(rows.loc[~products, "basis"]) == {"formula"}


def _launched_apart(rows: pd.DataFrame, left_out: set[int]) -> Document:
    """Return a trace that launches each of ``rows`` from an operator of its own in a module of its number."""
    events: list[Document] = []
    for i, row in enumerate(rows.itertuples()):
        if i in left_out:
            continue
        at = 10.0 * i
        shape = [int(n) for n in str(row.grid).split(",")], [int(n) for n in str(row.block).split(",")]
        kernel = traces.kernel(str(row.kernel), at + 5, row.dur_ns / 1e3, i + 1, grid=shape[0], block=shape[1])
        events += [traces.note(f"module::{i}", at, 8), traces.op("aten::some", at + 1, 5), traces.launch(at + 2, i + 1), kernel]
    return traces.document(events)


@pytest.mark.parametrize("left_out", [set(), {20, 21, 300}, set(range(100, 130)), set(range(0, 554, 9))])
def test_the_graph_of_a_public_trace_with_kernels_missing_on_the_other_side(
    public_traces: Path, tmp_path: Path, left_out: set[int]
) -> None:
    """Its 554 kernels come in 32 equal blocks. Whatever the other side lacks, no kernel may get the operator of another one."""
    path = public_traces / "saf_a100_sam_amg_vith_fast.json.gz"
    graphed = described(read_trace(path))
    assert adopt_ungraphed(open_run(path), graphed, described, MAX_EXPANSION) == (graphed, ())  # nothing lies beside it
    rows = graphed.launches[graphed.launches["link"] == GRAPH].sort_values("start_ns", kind="stable")
    rows = rows[rows["category"] == "kernel"]
    assert len(rows) == 554
    other = write(tmp_path / "other.json", _launched_apart(rows, left_out))
    found, notes = adopt_replay(graphed, described(read_trace(other)))
    module = found.launches.loc[rows.index, "module"].tolist()
    known = [i for i, name in enumerate(module) if name]
    assert [module[i] for i in known] == [str(i) for i in known]
    assert not set(known) & left_out
    assert len(notes) == (len(left_out) > 3)  # more than 1 % of the time
    assert len(known) == 554 if not left_out else len(known) >= 0.8 * (554 - len(left_out))


def _tensor(*shape: int, storage: int) -> Document:
    stride = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    return {
        "shape": list(shape), "stride": stride, "dtype": "float32", "storage": storage, "offset": 0, "itemsize": 4,
    }  # fmt: skip


def _compiled() -> Document:
    """Return what Inductor made of ``relu(x + y)`` and of ``gelu`` of that, in two modules of the same code."""
    a, b, c, d = (_tensor(64, 128, storage=i) for i in range(4))
    add = {"name": "aten::add", "inputs": [a, b, {"value": 1}], "outputs": [c], "module": "blocks.0"}
    relu = {"name": "aten::relu", "inputs": [c], "outputs": [c], "module": "blocks.0.act"}
    gelu = {"name": "aten::gelu", "inputs": [c, {"value": "none"}], "outputs": [d], "module": "blocks.1"}
    calls = [
        {"kernel": "triton_poi_fused_add_relu_0", "fused": True, "parts": [add, relu], "reads": [a, b], "writes": [c]},
        {"kernel": "triton_poi_fused_gelu_1", "fused": True, "parts": [gelu], "reads": [c], "writes": [d]},
    ]
    return {"format_version": 1, "torch": "2.13.0", "note": "", "graphs": [{"calls": calls}]}


def test_what_a_compiler_fused_is_known_in_the_replay_as_well(tmp_path: Path) -> None:
    names = ["triton_poi_fused_add_relu_0", "triton_poi_fused_gelu_1"]
    without = [traces.note("ProfilerStep#0", 0, 900), traces.note("## Call CompiledFxGraph abc ##", 5, 100)]
    with_graph = [traces.note("ProfilerStep#0", 0, 900), traces.launch(10, 50, name="cudaGraphLaunch")]
    for i, name in enumerate(names):
        without += [
            traces.op(name, 10 + 20 * i, 10),
            traces.launch(12 + 20 * i, i + 1, name="cuLaunchKernel", cat="cuda_driver"),
        ]
        without.append(traces.kernel(name, 200 + 20 * i, 10, i + 1))
        with_graph.append(traces.kernel(name, 200 + 20 * i, 10, 50))
    run = write_run(tmp_path, Fake())
    for file, content in (
        (TRACE_FILE, traces.document(with_graph)), (UNGRAPHED_FILE, traces.document(without)), (COMPILED_FILE, _compiled()),
    ):  # fmt: skip
        (run / file).write_bytes(gzip.compress(json.dumps(content).encode()))
    a = analyze(run)
    rows = kernels_of(a)
    assert rows["link"].tolist() == [ALIGNED] * 2
    assert rows["op"].tolist() == ["aten::add+aten::relu", "aten::gelu"]
    assert rows["module"].tolist() == ["blocks.0.act", "blocks.1"]
    assert rows["parts"].tolist() == [2, 1]
    size = 64 * 128 * 4
    assert rows["bytes_compulsory"].tolist() == [3 * size, 2 * size]  # x, y and the result; that and the next
    assert rows["bytes_apart"].tolist() == [(3 + 2) * size, 2 * size]
    assert a.attribution is not None
    assert (a.attribution.graphs, a.attribution.calls, a.attribution.matched_pct) == (1, 2, 100.0)
    assert (a.attribution.replayed_pct, a.attribution.aligned_pct, a.attribution.modules_pct) == (100.0, 100.0, 100.0)


def test_every_way_to_link_a_kernel_has_its_words() -> None:
    assert set(LINK_NAMES) == set(LINKS)


def test_kernels_of_a_graph_may_overlap_whether_aligned_or_not(replayed: Analysis, launched: Analysis) -> None:
    def longer(a: Analysis) -> tuple[object, ...]:
        return check_overlap(a.launches.assign(dur_ns=2 * a.launches["dur_ns"]), limits_of(a.run, a.device, None))

    assert longer(replayed) == ()
    assert len(longer(launched)) == 1
