"""What the work model, the kinds and the occupancy make of real traces of six GPUs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from analyzer.analysis import analyze
from analyzer.metrics.attribution import IN_A_GRAPH, MODELLED, NO_FORMULA, NO_SHAPES
from analyzer.schema.results import Analysis

H100, MI300X, V100 = "tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer", "kineto_v100_resnet50_train_nw0"
SAM, B200 = "saf_a100_sam_amg_vith_fast", "tracelens_b200_eager"
TURING, ALEXNET = "param_rtx2080ti_resnet_train", "hta_a100_alexnet_critical_path"
NVIDIA = (H100, V100, SAM, B200, TURING, ALEXNET)
EVERY = (*NVIDIA, MI300X)


@lru_cache(maxsize=8)
def _analysis(path: Path) -> Analysis:
    return analyze(path)


@pytest.fixture
def analysis(public_traces: Path, request: pytest.FixtureRequest) -> Analysis:
    return _analysis(public_traces / f"{request.param}.json.gz")


@pytest.mark.parametrize("analysis", EVERY, indirect=True)
def test_every_kernel_has_a_kind(analysis: Analysis) -> None:
    assert analysis.totals.classified_pct >= 99


@pytest.mark.parametrize(("analysis", "least"), [(H100, 99), (MI300X, 99), (V100, 97)], indirect=["analysis"])
def test_modelled_shares(analysis: Analysis, least: float) -> None:
    assert analysis.totals.modelled_pct >= least


@pytest.mark.parametrize("analysis", [SAM], indirect=True)
def test_sam_is_modelled_but_for_its_graph(analysis: Analysis) -> None:
    kernels = analysis.launches[analysis.launches["category"] == "kernel"]
    graph = kernels["link"] == "graph"
    assert 0.05 < kernels.loc[graph, "dur_ns"].sum() / kernels["dur_ns"].sum() < 0.15
    assert set(kernels.loc[graph, "unmodelled"]) == {IN_A_GRAPH}
    rest = kernels[~graph]
    assert rest.loc[rest["basis"].isin(MODELLED), "dur_ns"].sum() / rest["dur_ns"].sum() >= 0.95
    # how many elements a mask chooses is not in the trace, so bytes lie between two figures
    chosen = rest[rest["op"] == "aten::index"]
    assert (chosen["bytes_high"] > chosen["bytes_compulsory"]).any()
    assert analysis.totals.bytes_high > analysis.totals.bytes_compulsory


@pytest.mark.parametrize(
    ("analysis", "reasons"), [(TURING, {NO_SHAPES}), (ALEXNET, {NO_SHAPES}), (B200, {NO_FORMULA})], indirect=["analysis"]
)
def test_what_lacks_a_model_says_why(analysis: Analysis, reasons: set[str]) -> None:
    kernels = analysis.launches[analysis.launches["category"] == "kernel"]
    lacking = kernels[~kernels["basis"].isin(MODELLED)]
    assert len(lacking)
    assert (lacking["unmodelled"] != "").all()
    assert (kernels.loc[kernels["basis"].isin(MODELLED), "unmodelled"] == "").all()
    times = lacking.groupby("unmodelled")["dur_ns"].sum()
    assert times[list(reasons)].sum() / times.sum() > 0.99


@pytest.mark.parametrize("analysis", [B200], indirect=True)
def test_experts_and_collectives_are_kinds(analysis: Analysis) -> None:
    kinds = analysis.kinds.set_index("kind")["time_us"] / analysis.totals.kernel_time_us * 100
    assert kinds["moe"] == pytest.approx(56, abs=2)
    assert kinds["collective"] == pytest.approx(20, abs=2)


@pytest.mark.parametrize(("analysis", "ours", "kineto"), [(H100, 19.6, 14.1), (B200, 26.1, 12.7)], indirect=["analysis"])
def test_occupancy_weighted_by_time(analysis: Analysis, ours: float, kineto: float) -> None:
    assert analysis.totals.occupancy_pct.value == pytest.approx(ours, abs=0.3)
    assert analysis.totals.occupancy_kineto_pct.value == pytest.approx(kineto, abs=0.3)


def test_occupancy_equals_kinetos_for_every_launch_up_to_48_kib(public_traces: Path) -> None:
    compared = 0
    for name in NVIDIA:
        launches = _analysis(public_traces / f"{name}.json.gz").launches
        kernels = launches[launches["category"].eq("kernel") & launches["shared_bytes"].le(48 * 1024)]
        ours, theirs = (kernels[c].to_numpy(np.float64) for c in ("occupancy_pct", "occupancy_kineto_pct"))
        assert np.isfinite(theirs).all()
        assert np.abs(ours - theirs).max() <= 0.5 + 1e-9, name
        compared += len(kernels)
    assert compared == 21_414


@pytest.mark.parametrize("analysis", [MI300X], indirect=True)
def test_amd_says_why_it_has_no_occupancy(analysis: Analysis) -> None:
    assert analysis.totals.occupancy_pct.value is None
    assert "wavefronts of 64" in analysis.totals.occupancy_pct.source


@pytest.mark.parametrize("analysis", EVERY, indirect=True)
def test_nothing_exceeds_a_ceiling_without_a_card(analysis: Analysis) -> None:
    assert [card for card in analysis.impossible if not card.explanation] == []
    frames = [analysis.kernels, analysis.rooflines.operators, analysis.rooflines.modules, analysis.rooflines.model]
    for frame in frames:
        assert not (frame["dram_pct_of_peak"] > 100).any()
    explained = {(card.kernel, card.subject.split(" ")[0]) for card in analysis.impossible}
    over = analysis.kernels[analysis.kernels["peak_pct"] > 100]
    assert all((row.kernel, row.op) in explained for row in over.itertuples())


@pytest.mark.parametrize("analysis", EVERY, indirect=True)
def test_operators_modules_and_the_model_add_up(analysis: Analysis) -> None:
    total = analysis.totals
    for frame in (analysis.rooflines.operators, analysis.rooflines.modules, analysis.rooflines.model):
        assert frame["time_us"].sum() == pytest.approx(total.kernel_time_us)
        assert frame["flop"].sum() == pytest.approx(total.flop)
        assert frame["bytes_compulsory"].sum() == pytest.approx(analysis.kernels["bytes_compulsory"].sum())
        assert frame["calls"].sum() == total.kernel_count


@pytest.mark.parametrize("analysis", [V100], indirect=True)
def test_winograd_convolutions_are_explained(analysis: Analysis) -> None:
    notes = [card for card in analysis.impossible if "Winograd" in card.explanation]
    assert notes
    assert all("vector peak is 15.7" in card.what for card in notes)


@pytest.mark.parametrize("analysis", [B200], indirect=True)
def test_overlap_on_blackwell_is_explained(analysis: Analysis) -> None:
    assert any("programmatic dependent launch" in card.explanation for card in analysis.impossible)


@pytest.mark.parametrize(("analysis", "gflop"), [(H100, 4 * 35.158), (MI300X, 4 * 35.158)], indirect=["analysis"])
def test_flop_of_a_foreign_vit_equal_those_of_its_architecture(analysis: Analysis, gflop: float) -> None:
    """ViT-B/16 with two classes in place of 1,000, a pooler and a batch of 4."""
    head = 4 * 2 * 768 * (768 + 2 - 1000) / 1e9
    assert analysis.totals.flop / 1e9 == pytest.approx(gflop + head, rel=0.002)
