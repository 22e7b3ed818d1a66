"""How much of the time belongs to operators and modules, of every sort of trace, and why not more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze
from analyzer.metrics.attributed import ANNOTATED, COMPILED_AWAY, NO_MODULES
from analyzer.report.attributed import attribution_entry, attribution_fact, attribution_text
from analyzer.schema.compiled import Attribution
from analyzer.schema.results import Analysis
from tests import traces
from tests.trace.test_compiled_regions import gpu_region, region


def analysed(tmp_path: Path, events: list[dict[str, Any]], *, gpu: bool = True) -> Analysis:
    return analyze(traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu)))


def attributed(tmp_path: Path, events: list[dict[str, Any]], *, gpu: bool = True) -> Attribution:
    found = analysed(tmp_path, events, gpu=gpu).attribution
    assert found is not None
    return found


def test_shares_are_of_kernel_time(tmp_path: Path) -> None:
    found = attributed(tmp_path, traces.gpu_step())
    # 150 of 250 µs are in module::head; the copy is no kernel
    assert (found.operators_pct, found.modules_pct, found.fused_pct) == (100.0, 60.0, 0.0)
    assert (found.graphs, found.calls, found.notes) == (0, 0, ())
    assert math.isnan(found.matched_pct)


def test_operators_of_a_cpu_run_are_their_own(tmp_path: Path) -> None:
    found = attributed(tmp_path, traces.cpu_step(), gpu=False)
    assert found.operators_pct == 100.0
    assert found.modules_pct == pytest.approx(100 * 200 / 300)


def test_modules_that_nothing_tells_are_unavailable_and_not_zero(tmp_path: Path) -> None:
    events = [event for event in traces.gpu_step() if not event["name"].startswith("module::")]
    found = attributed(tmp_path, events)
    assert math.isnan(found.modules_pct)
    assert found.notes == (NO_MODULES,)
    entry = attribution_entry(found)
    assert entry is not None
    assert (entry["modules_pct"]["evidence"], entry["modules_pct"]["value"]) == ("unavailable", None)
    assert entry["modules_pct"]["source"] == NO_MODULES


def test_annotations_are_modules_only_in_name(tmp_path: Path) -> None:
    events = [event | ({"name": "my part"} if event["name"] == "module::head" else {}) for event in traces.gpu_step()]
    found = attributed(tmp_path, events)
    assert (found.modules_pct, found.notes) == (60.0, (ANNOTATED,))


def test_generated_code_is_counted(tmp_path: Path) -> None:
    a = analysed(tmp_path, gpu_region(("aten::mm", "gemm"), ("", "triton_poi_fused_add_gelu_0"), ("", "mystery")))
    found = a.attribution
    assert found is not None
    assert found.operators_pct == pytest.approx(200 / 3)
    assert found.fused_pct == pytest.approx(100 / 3)
    assert found.notes == (COMPILED_AWAY,)
    assert a.launches["op"].tolist() == ["aten::mm", "aten::add+aten::gelu", ""]
    assert a.launches["parts"].tolist() == [1, 2, 0]
    text = attribution_text(a)
    assert text.startswith(
        "Of the kernel time, the operator is known for 67 %; the module is unavailable. 33 % of the kernel time"
    )
    assert attribution_fact(a).startswith("67 % / ")


def test_hidden_kernels_of_compiled_code_are_said_with_what_to_do(tmp_path: Path) -> None:
    a = analysed(tmp_path, region(["aten::addmm"], 10), gpu=False)
    found = a.attribution
    assert found is not None
    # the region lasts 20 µs, of which the addition takes 8 and the bytecode 0.5
    assert found.operators_pct == pytest.approx(100 * 8 / 19.5)
    assert "59 %" in found.notes[0]
    assert "enable_kernel_profile = True" in found.notes[0]
    region_row = a.launches[a.launches["kernel"].str.startswith("Torch-Compiled")].iloc[0]
    assert (region_row["op"], region_row["kind"], region_row["parts"]) == ("", "unclassified", 0)
    assert "compiled code" in region_row["unmodelled"]


def test_nothing_ran_nothing_is_said(tmp_path: Path) -> None:
    a = analysed(tmp_path, traces.gpu_step()[-1:])  # a copy, and no kernel
    assert a.attribution is not None
    assert (math.isnan(a.attribution.operators_pct), attribution_text(a)) == (True, "")


def test_a_share_that_is_not_all_does_not_read_as_all(tmp_path: Path) -> None:
    a = analysed(tmp_path, [*gpu_region(*[("aten::mm", "gemm")] * 1), traces.kernel("lost", 5000, 0.02, 77)])
    assert "the operator is known for all but 0.4 %" in attribution_text(a)


def test_every_kernel_of_a_public_trace_that_no_graph_replayed_has_its_operator(public_traces: Path) -> None:
    a = analyze(public_traces / "saf_a100_sam_amg_vith_fast.json.gz")
    kernels = a.launches[a.launches["category"] == "kernel"]
    replayed = kernels["link"] == "graph"
    assert int(replayed.sum()) == 554
    assert kernels.loc[~replayed, "op"].ne("").all()
    assert not kernels["op"].str.contains("Torch-Compiled|Launch|CompiledF").any()
    assert kernels.loc[replayed, "op"].eq("").all()
    assert kernels.loc[replayed, "launch"].eq("cudaGraphLaunch").all()
    assert kernels.loc[replayed, "kind"].ne("unclassified").all()
    assert a.attribution is not None
    assert a.attribution.operators_pct == pytest.approx(89.97, abs=0.005)
    assert a.attribution.replayed_pct == pytest.approx(10.03, abs=0.005)


def test_the_generated_kernel_of_a_public_trace_has_its_operators(public_traces: Path) -> None:
    a = analyze(public_traces / "tracelens_b200_eager.json.gz")
    row = a.launches[a.launches["kernel"].str.startswith("triton_poi_fused")].iloc[0]
    assert row["op"].split("+") == [
        f"aten::{name}" for name in ("add", "bitwise_and", "bitwise_not", "bitwise_or", "ge", "lt", "mul", "sub")
    ]
    assert (row["kind"], row["parts"]) == ("pointwise", 8)
