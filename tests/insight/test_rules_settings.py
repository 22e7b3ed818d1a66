"""No finding advises what the run has on already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analyzer.analysis import analyze
from analyzer.insight.rules.fusion import layout_conversions, unfused_chains
from analyzer.insight.rules.host import host_bound, short_kernels
from analyzer.insight.rules.precision import full_float32
from analyzer.insight.rules.processor import processor_dispatch
from analyzer.insight.rules.statement import compile_mode
from analyzer.schema.findings import Finding
from analyzer.schema.results import Analysis
from tests import traces
from tests.insight.hand_made import CPU, run_facts
from tests.insight.test_rules_kernels import A100, CONV, MATRIX, Run, chain, conversions, mm, trace
from tests.insight.test_rules_state import check_prose


def recorded(a: Analysis, **settings: Any) -> Analysis:
    """Return ``a`` as if it came from a run with these settings."""
    return replace(a, run=msgspec.structs.replace(a.run, facts=run_facts(**settings)))


def words(found: Finding | None) -> tuple[str, str]:
    assert found is not None
    check_prose(found)
    return found.claim, found.disproof


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "off"),
        ({"compile": "default", "execution": "torch.compile (default)"}, "default"),
        ({"compile": "max-autotune"}, "max-autotune"),
        ({"execution": "torch.compile"}, "default"),
        ({"execution": "eager"}, "off"),
    ],
)
def test_the_mode_of_a_run(settings: dict[str, Any], mode: str, tmp_path: Path) -> None:
    a = trace(tmp_path, *chain())
    assert compile_mode(a) == "off"
    assert compile_mode(recorded(a, **settings)) == mode


def test_a_host_that_sets_the_pace(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    assert "A CUDA graph or torch.compile launches" in words(host_bound(recorded(a)))[0]
    default = words(host_bound(recorded(a, compile="default")))[0]
    assert "compiled already; with compile=reduce-overhead" in default
    asked = words(host_bound(recorded(a, compile="reduce-overhead")))[0]
    assert "asked torch.compile for CUDA graphs (compile=reduce-overhead)" in asked
    assert "or torch.compile launches" not in default + asked


def test_short_kernels_of_compiled_code(tmp_path: Path) -> None:
    add = Run("aten::add", [[1024], [1024]], "vectorized_elementwise_kernel_add", 2.0, "float")
    a = trace(tmp_path, mm(MATRIX, "sm90_xmma_gemm_f16f16", 180.0), *[add] * 10)
    assert "torch.compile makes fewer" in words(short_kernels(recorded(a)))[0]
    claim = words(short_kernels(recorded(a, compile="default")))[0]
    assert "torch.compile makes fewer" not in claim
    assert "compiled already" in claim


def test_chains_of_compiled_code(tmp_path: Path) -> None:
    a = trace(tmp_path, *chain())
    claim, disproof = words(unfused_chains(recorded(a)))
    assert "torch.compile makes one kernel of such a chain" in claim
    assert disproof.startswith("Run the model under torch.compile")
    claim, disproof = words(unfused_chains(recorded(a, compile="default")))
    assert "compiled already" in claim
    assert "graph breaks" in claim
    assert "Run the model under torch.compile" not in disproof


def test_conversions_of_a_run_in_channels_last(tmp_path: Path) -> None:
    a = trace(tmp_path, *conversions(), *conversions())
    claim, disproof = words(layout_conversions(recorded(a, memory_format="contiguous (NCHW)")))
    assert "In the channels_last format" in claim
    assert "memory_format=torch.channels_last" in disproof
    claim, disproof = words(layout_conversions(recorded(a, memory_format="channels_last")))
    assert "uses channels_last already" in claim
    assert "memory_format=torch.contiguous_format" in disproof
    assert "channels_last" not in disproof


PRODUCTS, CONVOLUTIONS = "set_float32_matmul_precision", "cudnn.allow_tf32"


@pytest.mark.parametrize(
    ("matmul", "convolution", "advised"),
    [
        ("highest", False, {PRODUCTS, CONVOLUTIONS}),
        ("highest", True, {PRODUCTS}),
        ("high", False, {CONVOLUTIONS}),
        ("high", True, set()),
        (None, None, {PRODUCTS, CONVOLUTIONS}),
    ],
)
def test_tf32_is_advised_where_it_is_off(
    matmul: str | None, convolution: bool | None, advised: set[str], tmp_path: Path
) -> None:
    concrete = ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "1"]
    types = ["float", "float", "", "ScalarList", "ScalarList", "ScalarList", "Scalar"]
    dims = [*CONV, [], [], [], [], []]
    conv = Run("aten::conv2d", dims, "implicit_convolve_sgemm", 4000.0, concrete=concrete, types=types)
    a = trace(tmp_path, mm(MATRIX, "ampere_sgemm_128x64_tn", 200.0, dtype="float"), conv, device=A100)
    found = full_float32(recorded(a, dtype="float32", matmul_precision=matmul, convolution_tf32=convolution))
    claim, disproof = words(found)
    assert {name for name in (PRODUCTS, CONVOLUTIONS) if name in claim} == advised
    assert ("peak in TF32" in claim) == bool(advised)
    assert ("The run allows TF32 already" in claim) == (not advised)
    assert ("in bfloat16" in disproof) == (not advised)


def test_tf32_is_advised_for_what_there_is(tmp_path: Path) -> None:
    a = trace(tmp_path, mm(MATRIX, "ampere_sgemm_128x64_tn", 200.0, dtype="float"), device=A100)
    alone = recorded(a, dtype="float32", matmul_precision="highest", convolution_tf32=False)
    assert "with “high” switches it on" in words(full_float32(alone))[0]
    assert "The run allows TF32 already" in words(full_float32(recorded(a, matmul_precision="high", convolution_tf32=False)))[0]


def test_a_compiled_run_on_a_cpu(tmp_path: Path) -> None:
    events = [traces.op("aten::mm", 0, 100, dims=[[64, 64]] * 2), traces.note("ProfilerStep#1", 0, 1000)]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events, gpu=False)))
    assert "A compiled model or" in words(processor_dispatch(recorded(a, device=CPU)))[0]
    assert "compiled already" in words(processor_dispatch(recorded(a, device=CPU, compile="default")))[0]
