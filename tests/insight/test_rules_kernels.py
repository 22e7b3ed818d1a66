"""Rules on GPU kernels and their host: each fires once with figures worked out by hand, and stays silent once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import analyze
from analyzer.insight.rules import RULES
from analyzer.insight.rules.alignment import product_sizes, small_products
from analyzer.insight.rules.attention import materialised_attention
from analyzer.insight.rules.fusion import layout_conversions, unfused_chains
from analyzer.insight.rules.host import host_bound, short_kernels, synchronising
from analyzer.insight.rules.precision import full_float32, no_matrix_units
from analyzer.insight.rules.selection import named
from analyzer.insight.rules.waves import partial_waves
from analyzer.schema.findings import Finding
from analyzer.schema.results import Analysis
from tests import traces
from tests.insight.test_rules_state import check_prose

MINE = (
    host_bound, short_kernels, synchronising, materialised_attention, full_float32, no_matrix_units, small_products,
    layout_conversions, unfused_chains, partial_waves,
)  # fmt: skip
HALF = "c10::Half"
A100 = {
    "id": 0,
    "name": "NVIDIA A100-SXM4-80GB",
    "totalGlobalMem": 85_000_000_000,
    "computeMajor": 8,
    "computeMinor": 0,
    "numSms": 108,
}
V100 = {
    "id": 0,
    "name": "Tesla V100-SXM2-16GB",
    "totalGlobalMem": 16_900_000_000,
    "computeMajor": 7,
    "computeMinor": 0,
    "numSms": 80,
}
MATRIX = [[1024, 1024], [1024, 1024]]
MATRIX_FLOP = 2 * 1024**3


@dataclass(frozen=True)
class Run:
    """One kernel of ``us`` and its operator; ``extra`` goes to the kernel, ``same`` puts it into the operator before."""

    op: str
    dims: Any
    kernel: str
    us: float
    dtype: str = HALF
    same: bool = False
    extra: dict[str, Any] | None = None
    concrete: list[str] | None = None
    types: list[str] | None = None


def trace(folder: Path, *runs: Run, steps: bool = True, device: dict[str, Any] | None = None) -> Analysis:
    """Analyse one step whose kernels follow each other without a gap, 7 us after its start."""
    events, end = [], 7.0
    for i, run in enumerate(runs):
        at = 20.0 * i
        if not run.same:
            wide = 20.0 * sum(1 for _ in _followers(runs, i)) + 18
            dtypes = run.types or [run.dtype] * len(run.dims)
            events.append(traces.op(run.op, at, wide, dims=run.dims, types=dtypes, concrete=run.concrete, ext=i))
        # launched at once, so that no kernel waits for its launch
        events.append(traces.launch(at + 1, i + 1))
        start = max(end, at + 4)
        events.append(traces.kernel(run.kernel, start, run.us, i + 1, ext=i, **(run.extra or {})))
        end = start + run.us
    if steps:
        events.append(traces.note("ProfilerStep#1", 0, max(end, 20.0 * len(runs))))
    top = {"deviceProperties": [device]} if device else {}
    return analyze(traces.write(folder / "t.json", traces.document(events, **top)))


def _followers(runs: tuple[Run, ...], i: int) -> Any:
    for run in runs[i + 1 :]:
        if not run.same:
            return
        yield run


def fired(found: Finding | None, low: float, high: float, **facts: float) -> Finding:
    """Check the saving of a finding, its figures (by a word of their name) and that its prose tells them."""
    assert found is not None
    assert found.saving is not None
    assert (found.saving.low, found.saving.high) == (pytest.approx(low, rel=1e-4, abs=1e-6), pytest.approx(high, rel=1e-4))
    told(found, **facts)
    return found


def told(found: Finding, **facts: float) -> None:
    for word, value in facts.items():
        mine = [f.figure.value for f in found.facts if word.replace("_", " ") in f.name]
        assert pytest.approx(value, rel=1e-4) in mine, (word, mine)
    check_prose(found)


def mm(dims: Any, kernel: str, us: float, **more: Any) -> Run:
    return Run("aten::mm", dims, kernel, us, **more)


def test_every_rule_is_registered() -> None:
    assert set(MINE) <= set(RULES)


def written(dtype: str = HALF, *, softmax: int = 197) -> list[Run]:
    """Attention of 12 heads, 197 tokens and 64 channels, in parts; the softmax over ``softmax`` columns."""
    return [
        Run("aten::bmm", [[12, 197, 64], [12, 64, 197]], "sm90_xmma_gemm_f16f16_qk", 50.0, dtype),
        Run("aten::mul", [[12, 197, 197], []], "vectorized_elementwise_kernel_mul", 20.0, dtype),
        Run("aten::_softmax", [[12, 197, softmax]], "softmax_warp_forward", 30.0, dtype),
        Run("aten::bmm", [[12, 197, 197], [12, 197, 64]], "sm90_xmma_gemm_f16f16_pv", 50.0, dtype),
    ]


def test_materialised_attention(tmp_path: Path) -> None:
    scores = 12 * 197 * 197 * 2
    fused = 4 * 12 * 197 * 64 * 2 / 3350e3  # more than the arithmetic, 4 x 12 x 197 x 197 x 64 / 989e6 = 0.12 us
    other = mm(MATRIX, "sm90_xmma_gemm_f16f16", 150.0)
    a = trace(tmp_path, *written(), other, steps=False)
    found = fired(materialised_attention(a), 0, 150 - fused, share=50, attentions=1, scores=scores, fused=fused)
    assert "in the whole trace" in found.claim
    assert materialised_attention(trace(tmp_path, *written(softmax=99), other)) is None
    assert materialised_attention(trace(tmp_path, *written()[:3], other)) is None


def test_materialised_attention_by_the_access_model(tmp_path: Path) -> None:
    a = trace(tmp_path, *written())
    assert a.access is not None
    ways = {c.attention: c for c in a.access.costs if c.role == "attention" and c.device == a.access.devices[0].key}
    fused, parts = ways["fused"], ways["materialised"]
    least = max(parts.floor_us + parts.excess_us[0] - fused.floor_us - fused.excess_us[1], 0)
    fired(materialised_attention(a), least, 150 - fused.floor_us - fused.excess_us[0], time=150)


def test_materialised_attention_on_a_cpu(tmp_path: Path) -> None:
    at, events = 0.0, [traces.note("ProfilerStep#1", 0, 1000)]
    for run in written("float"):
        events.append(traces.op(run.op, at, 10 * run.us, dims=run.dims, types=["float"] * len(run.dims)))
        at += 10 * run.us + 10
    found = materialised_attention(analyze(traces.write(tmp_path / "t.json", traces.document(events, gpu=False))))
    assert found is not None
    told(found, time=1500, share=100, scores=12 * 197 * 197 * 4)
    assert "all operators" in found.title


def test_full_float32(tmp_path: Path) -> None:
    run = mm(MATRIX, "ampere_sgemm_128x64_tn", 200.0, dtype="float")
    floor = MATRIX_FLOP / 19.5e6
    # TF32 has 156 TFLOP/s; a third of that at least
    a = trace(tmp_path, run, device=A100)
    found = fired(
        full_float32(a), floor - 3 * MATRIX_FLOP / 156e6, floor - MATRIX_FLOP / 156e6, share=100, peak=8, floor=floor, TF32=10
    )
    assert found.effort == "a setting"
    assert "TF32" in found.claim
    assert full_float32(trace(tmp_path, replace(run, kernel="ampere_tf32_s1688gemm"), device=A100)) is None
    assert full_float32(trace(tmp_path, replace(run, kernel="mystery_gemm"), device=A100)) is None


def test_full_float32_before_ampere(tmp_path: Path) -> None:
    found = full_float32(trace(tmp_path, mm(MATRIX, "volta_sgemm_128x64_nn", 200.0, dtype="float"), device=V100))
    assert found is not None
    assert "peak in float16" in found.claim
    assert "TF32" not in found.claim
    assert found.effort == "a small change"


def test_full_float32_bound_by_memory_saves_little(tmp_path: Path) -> None:
    # the bytes take 2.09 us at 2039 GB/s, the arithmetic 0.86 us
    a = trace(tmp_path, mm([[1024, 8], [8, 1024]], "ampere_sgemm_64x32", 100.0, dtype="float"), device=A100)
    found = full_float32(a)
    assert found is not None
    assert found.saving is not None
    assert found.saving.high == 0


def test_no_matrix_units(tmp_path: Path) -> None:
    run = mm(MATRIX, "cutlass_simt_hgemm_128x128", 60.0)
    best, vector = MATRIX_FLOP / 989e6, MATRIX_FLOP / 67e6
    found = fired(
        no_matrix_units(trace(tmp_path, run)), vector - 3 * best, 60 - best, share=100, floor=best, rows=1024, columns=1024
    )
    assert "“aten::mm”: 1\u202f024 rows" in found.claim
    assert no_matrix_units(trace(tmp_path, replace(run, kernel="sm90_xmma_gemm_f16f16"))) is None
    assert no_matrix_units(trace(tmp_path, replace(run, kernel="gemv2T", dims=[[1, 1024], [1024, 1024]]))) is None


def test_no_matrix_units_with_odd_sizes(tmp_path: Path) -> None:
    found = no_matrix_units(trace(tmp_path, mm([[1024, 1023], [1023, 1024]], "cutlass_simt_hgemm", 60.0)))
    assert found is not None
    told(found, odd_sizes=60, multiples=8, inner=1023)


def test_few_rows_of_a_batched_product(tmp_path: Path) -> None:
    few = Run("aten::bmm", [[512, 4, 32], [512, 32, 4096]], "cutlass_simt_hgemm", 60.0)
    found = no_matrix_units(trace(tmp_path, few))
    assert found is not None
    assert "a product with more of them would" in found.claim
    alone = no_matrix_units(trace(tmp_path, mm([[4, 4096], [4096, 4096]], "cutlass_simt_hgemm", 60.0)))
    assert alone is not None
    assert "a batched or larger product would" in alone.claim


def test_small_products(tmp_path: Path) -> None:
    odd, even = mm([[1024, 1023], [1023, 1024]], "sm90_xmma_gemm_f16f16", 300.0), mm(MATRIX, "sm90_xmma_gemm_f16f16", 200.0)
    # as near to its floor as the fitting product, the odd one would take 199.8 us
    high = 300 - 200 * 1023 / 1024
    fired(small_products(trace(tmp_path, odd, even)), 0, high, share=60, inner=1023, columns=1024, multiples=8, kernels=1)
    assert small_products(trace(tmp_path, even)) is None
    assert small_products(trace(tmp_path, replace(odd, dtype="float"))) is None
    note = small_products(trace(tmp_path, replace(odd, us=150.0), even))
    assert note is not None
    assert (note.level, note.saving) == ("note", None)
    told(note, time=150)


@pytest.mark.parametrize(
    ("op", "shapes", "sizes"),
    [
        ("aten::linear", "4x197x768 1000x768 1000", (788, 768, 1000)), ("aten::addmm", "30 16x64 64x30", (16, 64, 30)),
        ("aten::bmm", "12x197x64 12x64x197", (197, 64, 197)), ("aten::mm", "5x7", None), ("aten::gelu", "5x7 7x5", None),
        ("aten::mm", "", None), ("aten::mm", "scalar 3x3", None),
    ],
)  # fmt: skip
def test_sizes_of_products(op: str, shapes: str, sizes: tuple[int, int, int] | None) -> None:
    assert product_sizes(op, shapes) == sizes


CONV = [[32, 64, 56, 56], [64, 64, 3, 3]]


def conversions() -> list[Run]:
    parts = [("nchwToNhwcKernel", 10.0), ("sm90_xmma_fprop_implicit_gemm_f16f16", 85.0), ("nhwcToNchwKernel", 5.0)]
    return [Run("aten::cudnn_convolution", CONV, name, us, same=i > 0) for i, (name, us) in enumerate(parts)]


def test_layout_conversions(tmp_path: Path) -> None:
    clone = Run("aten::clone", [[32, 64, 56, 56]], "elementwise_kernel_direct_copy_kernel_cuda", 50.0)
    a = trace(tmp_path, *conversions(), *conversions(), clone)
    found = fired(layout_conversions(a), 15, 80, share=32, around_convolutions=30, elsewhere=50, launches=5)
    assert "channels_last" in found.claim
    assert "kind layout" not in found.claim
    assert layout_conversions(trace(tmp_path, conversions()[1])) is None
    few = [replace(run, us=run.us / 100) for run in conversions()]
    cat = Run("aten::cat", [[4, 768], [4, 768]], "CatArrayBatchedCopy", 30.0)
    rest = fired(layout_conversions(trace(tmp_path, *few, clone, cat)), 0, 50.15, kind_layout=80.15, elsewhere=50)
    assert "The rest is not counted here" in rest.claim
    assert "channels_last" not in rest.claim
    assert "A copy can be left out where" in rest.claim


def test_copies_for_other_reasons_are_no_conversions(tmp_path: Path) -> None:
    cat = Run("aten::cat", [[4, 768], [4, 768]], "CatArrayBatchedCopy", 50.0)
    bias = [Run("aten::linear", [[8, 8], [8, 8], [8]], "elementwise_kernel_direct_copy_kernel_cuda", 50.0)]
    assert layout_conversions(trace(tmp_path, cat, *bias)) is None


BIG = [4096, 4096]


def chain() -> list[Run]:
    return [
        Run("aten::native_layer_norm", [BIG, [], [4096], [4096]], "vectorized_layer_norm_kernel", 100.0, "float"),
        Run("aten::gelu", [BIG], "vectorized_elementwise_kernel_gelu", 80.0, "float"),
        Run("aten::add", [BIG, BIG], "vectorized_elementwise_kernel_add", 60.0, "float"),
    ]


def test_unfused_chains(tmp_path: Path) -> None:
    # 64 MiB pass twice, more than the 50 MiB of cache
    size = 4096 * 4096 * 4
    alone = mm(MATRIX, "sm90_xmma_gemm_f16f16", 160.0)
    a = trace(tmp_path, *chain(), alone, chain()[1])
    fired(unfused_chains(a), 2 * size / 3350e3, 140, share=50, kernels=3, passed=2 * size, time=240)
    assert unfused_chains(trace(tmp_path, chain()[0], alone, chain()[1], alone, chain()[2])) is None
    compiled = [replace(run, kernel=f"triton_poi_fused_gelu_{i}") for i, run in enumerate(chain())]
    assert unfused_chains(trace(tmp_path, *compiled)) is None


def test_a_copy_ends_a_chain(tmp_path: Path) -> None:
    a = trace(tmp_path, *chain()[1:])
    found = unfused_chains(a)
    assert found is not None
    assert "in 1 chain:" in found.claim
    first, second = a.launches.sort_values("start_ns").to_dict("records")
    copy = first | {"category": "memcpy", "start_ns": second["start_ns"] - 1, "kind": "copy", "exclusive_us": 1.0}
    between = pd.concat([a.launches, pd.DataFrame([copy], index=[99])])
    assert unfused_chains(replace(a, launches=between)) is None
    other = pd.concat([a.launches, pd.DataFrame([copy | {"stream": 99}], index=[99])])
    assert unfused_chains(replace(a, launches=other)) is not None


def test_what_fits_into_the_cache_saves_nothing_for_certain(tmp_path: Path) -> None:
    small = [replace(run, dims=[[1024, 1024]]) for run in chain()[1:]]
    fired(unfused_chains(trace(tmp_path, *small)), 0, 60, passed=4 * 2**20, chains=1)


def test_partial_waves(tmp_path: Path) -> None:
    # 8 blocks of 256 threads fit on each of 132 multiprocessors: 1254 blocks are 1.1875 waves, 9.5 per multiprocessor
    run = mm(MATRIX, "sm90_xmma_gemm_f16f16", 1000.0, extra={"grid": [1254, 1, 1]})
    a = trace(tmp_path, run)
    found = fired(partial_waves(a), 1000 * 0.05, 1000 * (1 - 1.1875 / 2), share=100, filling=100 * 1.1875 / 2, kernels=1)
    assert "batch of" not in found.claim
    for grid in ([1056, 1, 1], [132, 1, 1], [2112, 1, 1]):
        assert partial_waves(trace(tmp_path, replace(run, extra={"grid": grid}))) is None


def test_the_batch_that_fills_the_waves(tmp_path: Path) -> None:
    stem = [[32, 3, 224, 224], [64, 3, 7, 7], *[[]] * 7]
    concrete = ["", "", "[3, 3]", "[2, 2]", "[1, 1]", "1", *["False"] * 3]
    types = [HALF, HALF, *["ScalarList"] * 3, *["Scalar"] * 4]
    run = Run("aten::cudnn_convolution", stem, "sm90_xmma_fprop_implicit_gemm_f16f16", 1000.0, concrete=concrete, types=types)
    found = partial_waves(trace(tmp_path, replace(run, extra={"grid": [1254, 1, 1]})))
    assert found is not None
    # 2 waves hold 32 x 2 / 1.1875 = 53.9 images
    told(found, batch=32, batch_that_fills=53, at_that_batch=100 * 1.1875 * 53 / 32 / 2)


@pytest.mark.parametrize(("images", "told_of"), [(10**9, False), (65_536, True), (0, False)])
def test_a_batch_size_from_a_file_is_no_order(tmp_path: Path, images: int, told_of: bool) -> None:
    run = mm(MATRIX, "sm90_xmma_gemm_f16f16", 1000.0, extra={"grid": [1254, 1, 1]})
    a = replace(trace(tmp_path, run), access=SimpleNamespace(batch_size=images))
    found = partial_waves(a)
    assert found is not None
    assert ("with the batch of" in found.claim) == told_of


def test_a_name_of_the_trace_is_cut_and_stays_in_its_quotes() -> None:
    assert named("a“b”\n\u202e" + "x" * 100_000).count("”") == 1
    assert len(named("y" * 100_000)) < 70


@given(st.text(max_size=200), st.text(max_size=60))
def test_sizes_from_any_text(op: str, shapes: str) -> None:
    for name in (op, "aten::mm", "aten::linear", "aten::addmm"):
        found = product_sizes(name, shapes)
        assert found is None or (len(found) == 3 and all(isinstance(size, int) and size >= 0 for size in found))


def test_public_traces(public_traces: Path) -> None:
    """What each must say and must not, and that every text holds its figures."""
    expected = {
        "kineto_v100_resnet50_train_nw0": {"host_bound", "full_float32", "unfused_chains", "partial_waves"},
        "tracelens_h100_vit_nsfw_infer": {"host_bound", "short_kernels", "layout_conversions", "unfused_chains"},
        "tracelens_mi300_vit_nsfw_infer": {"host_bound", "short_kernels", "unfused_chains"},
        "saf_a100_sam_amg_vith_fast": {"host_bound", "no_matrix_units", "layout_conversions", "unfused_chains"},
        "hta_cpu_only_tiny": set(),
    }
    for name, rules in expected.items():
        a = analyze(public_traces / f"{name}.json.gz")
        found = [finding for rule in MINE if (finding := rule(a)) is not None]
        assert {f.rule for f in found} == rules, name
        for finding in found:
            check_prose(finding)
