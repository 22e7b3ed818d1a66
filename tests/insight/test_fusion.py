"""What compiling changed: figures worked out by hand on a made-up pair, what counts as a pair, and sums that add up, for any."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from analyzer.analysis import analyze, compare
from analyzer.insight.fusion import find_fusion
from analyzer.insight.fusion_pair import find_cautions, generated_pct, oriented
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.fusion import FusedGroup, Fusion, ModuleChange
from analyzer.schema.results import Analysis, Study
from tests.report import compiled_pair
from tests.report.compiled_pair import ROWS, TENSOR, VECTOR

GBPS = 30.0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return compiled_pair.study(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def found(study: Study) -> Fusion:
    assert study.fusion is not None
    return study.fusion


def group(found: Fusion, part: str, *operators: str) -> FusedGroup:
    (one,) = (g for g in found.groups if (g.part, g.operators) == (part, tuple(f"aten::{op}" for op in operators)))
    return one


def module(found: Fusion, pattern: str) -> ModuleChange:
    (one,) = (change for change in found.modules if change.module == pattern)
    return one


def test_launches_and_times_of_both_runs(found: Fusion) -> None:
    eager, compiled = found.eager, found.compiled
    assert (eager.launches, eager.generated, eager.library) == (10, 0, 10)
    assert (compiled.launches, compiled.generated, compiled.library) == (8, 6, 2)
    assert (eager.kernel_us, compiled.kernel_us, found.kernel_delta_us) == pytest.approx((390, 324, 66))
    assert compiled.generated_us == pytest.approx(144)
    assert eager.idle_us + eager.kernel_us == pytest.approx(eager.traced_us)
    assert compiled.dispatch_us == pytest.approx(19)  # the region around 8 kernels: 4 - 1 before them, 2 after each
    assert not eager.on_gpu


def test_a_fused_group_has_the_time_and_bytes_of_its_operators(found: Fusion) -> None:
    fused = group(found, "generated", "add", "native_layer_norm")
    assert fused.is_fused
    assert fused.modules == ("blocks.*.norm", "blocks.*")
    assert (fused.calls, fused.eager_us, fused.compiled_us, fused.delta_us) == pytest.approx((2, 100, 50, 50))
    assert fused.matched_pct == 100
    moments = 2 * ROWS * 4  # mean and rstd, which the eager operator writes and the kernel has no use for
    # two in and one out; one in and one out, weight and bias
    assert fused.bytes_apart == 2 * (3 * TENSOR + 2 * TENSOR + 2 * VECTOR + moments)
    assert fused.bytes_whole == 2 * (3 * TENSOR + 2 * VECTOR)
    assert fused.bytes_saved == 2 * (2 * TENSOR + moments)  # what add writes and the norm reads
    assert fused.saved_us == pytest.approx(fused.bytes_saved / GBPS / 1e3)
    assert (found.bandwidth.value, found.bandwidth.unit) == (GBPS, "GB/s")


def test_what_takes_longer_compiled_is_below_zero(found: Fusion) -> None:
    gelu = group(found, "generated", "gelu")
    assert (gelu.eager_us, gelu.compiled_us, gelu.delta_us) == pytest.approx((80, 90, -10))
    assert not gelu.is_fused
    assert gelu.bytes_saved == 0
    assert module(found, "blocks.*.act").delta_us == pytest.approx(-10)


def test_what_only_one_run_has_stands_apart(found: Fusion) -> None:
    copies, zeros = group(found, "only eager", "copy_"), group(found, "only compiled", "zeros")
    assert (copies.eager_us, copies.compiled_us) == pytest.approx((10, 0))
    assert (zeros.eager_us, zeros.compiled_us, zeros.matched_pct) == pytest.approx((0, 4, 0))
    assert found.matched_eager_pct == pytest.approx(100 * 380 / 390)
    assert found.matched_compiled_pct == pytest.approx(100 * 320 / 324)
    library = group(found, "library", "addmm")
    assert (library.eager_us, library.compiled_us) == pytest.approx((200, 180))
    assert math.isnan(library.bytes_apart)


def test_a_kernel_of_two_modules_is_divided_as_their_eager_times_are(found: Fusion) -> None:
    block, norm = module(found, "blocks.*"), module(found, "blocks.*.norm")
    assert (block.eager_us, block.compiled_us) == pytest.approx((2 * 20 + 2 * 5, 50 * 40 / 100))
    assert (norm.eager_us, norm.compiled_us) == pytest.approx((60, 50 * 60 / 100))
    assert (block.shared_pct, norm.shared_pct) == pytest.approx((100, 100))
    assert (norm.evidence, module(found, "blocks.*.fc").evidence) == (Evidence.MODELLED, Evidence.MEASURED)


def test_terms_of_a_module_add_up_to_its_times(found: Fusion) -> None:
    for change in found.modules:
        sums = [sum(term[run] for term in change.terms) for run in (1, 2)]
        assert sums == pytest.approx([change.eager_us, change.compiled_us], abs=1e-9)
    copies = {term: eager for term, eager, _ in module(found, "blocks.*").terms}
    assert copies["copies"] == pytest.approx(10)


def check_sums(found: Fusion) -> None:
    for parts in (found.groups, found.modules):
        assert sum(part.eager_us for part in parts) == pytest.approx(found.eager.kernel_us, abs=1e-6)
        assert sum(part.compiled_us for part in parts) == pytest.approx(found.compiled.kernel_us, abs=1e-6)
        assert sum(part.delta_us for part in parts) == pytest.approx(found.kernel_delta_us, abs=1e-6)
    assert found.kernel_delta_us + sum(rest.delta_us for rest in found.rest) == pytest.approx(found.total_us, abs=1e-6)


def test_all_parts_add_up_to_the_gap(study: Study, found: Fusion) -> None:
    assert study.gap is not None
    assert found.total_us == study.gap.total_us
    assert {rest.term for rest in found.rest} == {"dispatch", "between", "tracing"}
    check_sums(found)


def test_the_order_of_the_runs_changes_nothing_but_the_sign_of_the_gap(study: Study, found: Fusion) -> None:
    turned = compare(*reversed(study.analyses)).fusion
    assert turned is not None
    assert (turned.eager.place, turned.compiled.place) == (1, 0)
    assert [(g.operators, g.delta_us) for g in turned.groups] == [(g.operators, g.delta_us) for g in found.groups]
    assert turned.total_us == pytest.approx(found.total_us)
    assert turned.interval_us == pytest.approx(found.interval_us, rel=0.2)
    check_sums(turned)
    one, two = found.ratio, turned.ratio
    assert one is not None
    assert two is not None
    assert one.value is not None
    assert (two.value, two.unit) == (pytest.approx(one.value), "x")
    assert two.low is not None
    assert two.high is not None
    assert two.low <= one.value <= two.high


def changed(a: Analysis, **settings: Any) -> Analysis:
    assert a.run.facts is not None
    facts = structs.replace(a.run.facts, settings=structs.replace(a.run.facts.settings, **settings))
    return replace(a, run=structs.replace(a.run, facts=facts))


def other_model(a: Analysis) -> Analysis:
    assert a.run.facts is not None
    facts = structs.replace(a.run.facts, model=structs.replace(a.run.facts.model, name="another"))
    return replace(a, run=structs.replace(a.run, facts=facts))


def test_what_counts_as_a_pair(study: Study) -> None:
    eager, compiled = study.analyses
    assert (oriented(eager, compiled), oriented(compiled, eager)) == ((0, 1), (1, 0))
    assert oriented(eager, eager) is None
    assert oriented(compiled, changed(compiled, compile="max-autotune")) is None
    assert oriented(eager, other_model(compiled)) is None
    assert compare(eager, eager).fusion is None
    assert compare(eager).fusion is None
    assert compare(eager, compiled, eager).fusion is None


def bare(a: Analysis, batch: int = 32) -> Analysis:
    access = a.access
    assert access is not None
    return replace(a, run=structs.replace(a.run, facts=None), access=replace(access, batch_size=batch, image_size=224))


def test_foreign_traces_are_a_pair_only_with_the_same_input_and_the_same_work(study: Study) -> None:
    eager, compiled = study.analyses
    assert generated_pct(compiled) == pytest.approx(100 * 144 / 324)
    assert oriented(bare(eager), bare(compiled)) == (0, 1)
    assert oriented(bare(eager), bare(eager)) is None
    assert oriented(bare(eager), bare(compiled, batch=8)) is None
    assert oriented(bare(eager, batch=0), bare(compiled, batch=0)) is None
    assert oriented(eager, bare(compiled)) is None
    half = compiled.launches.assign(flop=compiled.launches["flop"] / 2)
    assert oriented(bare(eager), replace(bare(compiled), launches=half)) is None


def test_a_trace_that_does_not_divide_into_steps_is_not_compared(study: Study) -> None:
    eager, compiled = study.analyses
    whole = replace(compiled, window=replace(compiled.window, batches=None))
    assert compare(eager, whole).fusion is None


def test_what_else_differs_is_said(study: Study) -> None:
    eager, compiled = study.analyses
    assert find_cautions(eager, compiled) == ()
    (text,) = find_cautions(eager, changed(compiled, threads=1, memory_format="channels_last"))
    assert "threads (2 and 1)" in text
    assert "layout (None and channels_last)" in text


def test_kernels_that_took_longer_than_a_batch_are_said(tmp_path: Path) -> None:
    made = compiled_pair.eager()
    made.latency_ms = 0.3  # its kernels take 0.39 ms
    found = compiled_pair.study(tmp_path, made, compiled_pair.compiled()).fusion
    assert found is not None
    text, *others = found.cautions
    assert len(others) == 2  # nor do its kernels, or what was traced, account for a difference of the other sign
    assert text.startswith("While traced, the kernels of the eager run took 390 µs, more than the 302 µs")
    check_sums(found)


def finding(run: str, low: float, high: float) -> Finding:
    saving = Quantity((low + high) / 2, "us", Evidence.MODELLED, low, high)
    facts = (Fact("time of the chains", Quantity(100.0, "us", Evidence.MEASURED)),)
    return Finding("unfused_chains", run, "Chains", "", facts, saving, 400.0, "a small change", "", "kernels")


def test_a_prediction_of_the_eager_run_stands_beside_what_fusing_did(study: Study) -> None:
    eager, compiled = study.analyses
    assert study.gap is not None
    both = [finding("model-cpu-default", 1.0, 2.0), finding("model-cpu-off", 8.0, 60.0)]
    found = find_fusion(eager, compiled, study.gap, study.ratio, both)
    assert found is not None
    assert found.prediction is not None
    assert (found.prediction.saving.low, found.prediction.chains_us) == (8.0, 100.0)
    assert found.prediction.delta_us == pytest.approx(50)  # of kernels of several operators alone
    assert find_fusion(eager, compiled, study.gap, study.ratio, both[:1]).prediction is None  # type: ignore[union-attr]


def test_without_the_compilers_file_names_tell_the_operators(tmp_path: Path) -> None:
    made = compiled_pair.compiled()
    made.compiled = None
    found = compiled_pair.study(tmp_path, compiled_pair.eager(), made).fusion
    assert found is not None
    check_sums(found)
    fused = group(found, "generated", "add", "native_layer_norm")
    assert fused.eager_us == pytest.approx(100)  # there is one of each operator per block, so names are enough
    assert math.isnan(fused.bytes_whole)
    assert math.isnan(fused.bytes_saved)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_sums_add_up_whatever_the_times(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    runs = [compiled_pair.eager(), compiled_pair.compiled()]
    times = st.floats(0.01, 500.0)
    for made in runs:
        kept = data.draw(st.lists(st.sampled_from(range(len(made.ops))), min_size=1, unique=True).map(sorted))
        made.ops = [(*made.ops[i][:3], round(data.draw(times), 3)) for i in kept]
    found = compiled_pair.study(tmp_path_factory.mktemp("any"), *runs).fusion
    assert found is not None
    check_sums(found)


@pytest.mark.parametrize("name", ["tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer"])
def test_an_eager_public_trace_is_no_compiled_one(public_traces: Path, name: str) -> None:
    a = analyze(public_traces / f"{name}.json.gz")
    assert generated_pct(a) == 0
    assert oriented(a, a) is None


def test_on_a_gpu_waiting_for_the_host_stands_in_place_of_dispatch(tmp_path: Path) -> None:
    pair = compiled_pair.study(tmp_path, *map(compiled_pair.on_gpu, (compiled_pair.eager(), compiled_pair.compiled())))
    found = pair.fusion
    assert found is not None
    check_sums(found)
    assert found.eager.on_gpu
    assert math.isnan(found.eager.dispatch_us)
    assert found.eager.host_us > 0
    assert (found.eager.launches, found.compiled.generated) == (10, 6)
    assert group(found, "generated", "add", "native_layer_norm").delta_us == pytest.approx(50)
    assert found.prediction is not None  # the rule on chains speaks of GPUs alone
    chains = next(one for one in pair.findings if one.rule == "unfused_chains")
    assert found.prediction.saving == chains.saving
    assert found.prediction.delta_us == pytest.approx(50)
