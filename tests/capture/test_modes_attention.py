"""Which implementation of attention ran, told from operators and kernels, and whether it is the one that was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from analyzer.capture import attention, session
from analyzer.capture.presets import resolve
from analyzer.capture.profiler import Written
from analyzer.insight.caveats import find_caveats
from analyzer.progress import Reporter
from analyzer.schema.run import Run
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir
from analyzer.trace.kineto import read_trace

SDPA = "aten::scaled_dot_product_attention"
FLASH_KERNEL = (
    "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, "
    "cutlass::bfloat16_t, pytorch_flash::Flash_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t> >, false, false>()"
)
EFFICIENT_KERNEL = "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>)"
CUDNN_KERNEL = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0"
PRODUCT = "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT"


def ran(*names: str) -> attention.Ran:
    """Return what names tell: those that begin with ``aten::`` are of operators, the others of kernels."""
    operators = frozenset(name for name in names if name.startswith("aten::"))
    return attention.ran(operators, frozenset(names) - operators)


def op(name: str) -> str:
    return f"aten::_scaled_dot_product_{name}"


@pytest.mark.parametrize(
    ("kernel", "family"),
    [
        (FLASH_KERNEL, "flash"),
        ("void pytorch_flash::flash_fwd_splitkv_kernel<x>", "flash"),
        (
            "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloop>>>",
            "flash",
        ),
        ("kernel_cutlass_kernel_flash_attncuteflash_fwd_sm100FlashAttentionForwardSm100_object", "flash"),
        (EFFICIENT_KERNEL, "efficient"),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<float>)", "efficient"),
        (CUDNN_KERNEL, "cudnn"),
        ("cudnn_generated_oss_sdpa_sm100_flash_fprop_f16_knob_7_128x128x128_4x1x1_cga1x1x1_kernel0_0", "cudnn"),
        ("attn_fwd", "fused"),
        (PRODUCT, None),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", None),
        ("void at::native::(anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, false>", None),
    ],
)
def test_what_a_kernel_implements(kernel: str, family: str | None) -> None:
    assert ran(kernel).kernels == ((family,) if family else ())


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("flash", (SDPA, op("flash_attention"), FLASH_KERNEL, PRODUCT)),
        ("efficient", (SDPA, op("efficient_attention"), EFFICIENT_KERNEL)),
        ("cudnn", (SDPA, op("cudnn_attention"), CUDNN_KERNEL)),
        ("math", (SDPA, op("attention_math"), PRODUCT)),
        ("flash", (SDPA, op("flash_attention"), "attn_fwd")),
        ("efficient", (SDPA, op("efficient_attention"), "attn_fwd")),
        ("flash", (op("flash_attention"), "a_kernel_of_a_later_version")),
        ("flash", (op("flash_attention_for_cpu"),)),
        ("auto", (op("attention_math"), FLASH_KERNEL)),
        ("auto", ()),
    ],
)
def test_what_was_asked_for_ran(asked: str, names: tuple[str, ...]) -> None:
    assert attention.objection(asked, ran(*names), compiled=False) == ""


@pytest.mark.parametrize(
    ("asked", "names", "told", "text"),
    [
        ("flash", (op("attention_math"), PRODUCT), "attention=flash was asked for, and what ran is attention_math",
         "attention_math"),
        ("cudnn", (op("efficient_attention"), EFFICIENT_KERNEL),
         "attention=cudnn was asked for, and what ran is efficient_attention", "efficient_attention"),
        ("flash", (op("flash_attention"), CUDNN_KERNEL),
         "attention=flash was asked for; the operator is flash_attention, but its kernels are of cudnn", "cudnn_attention"),
        ("flash", (op("flash_attention"), op("attention_math"), FLASH_KERNEL),
         "attention=flash was asked for, and math ran too", "attention_math, flash_attention"),
        ("math", (PRODUCT, EFFICIENT_KERNEL), "attention=math was asked for, and what ran is efficient_attention",
         "efficient_attention"),
        ("flash", ("aten::bmm", PRODUCT), "attention=flash had no effect: the model calls no scaled_dot_product_attention", None),
    ],
)  # fmt: skip
def test_a_silent_fall_back_is_told(asked: str, names: tuple[str, ...], told: str, text: str | None) -> None:
    found = ran(*names)
    assert attention.objection(asked, found, compiled=False) == told
    assert found.text == text


def test_compiled_code_shows_its_kernels_alone() -> None:
    replayed = ran(FLASH_KERNEL, PRODUCT)
    assert (replayed.text, attention.objection("flash", replayed, compiled=True)) == ("flash_attention", "")
    assert attention.objection("efficient", replayed, compiled=True).endswith("what ran is flash_attention")
    products = ran("aten::bmm", "triton_per_fused__softmax_3")
    assert (products.text, attention.objection("math", products, compiled=True)) == (None, "")
    assert attention.objection("flash", products, compiled=True) == (
        "attention=flash was asked for, and the trace of the compiled code shows no operator and no kernel of a fused attention"
    )
    assert attention.objection("flash", ran("attn_fwd"), compiled=True) == ""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tracelens_h100_vit_nsfw_infer", "flash_attention"),
        ("tracelens_mi300_vit_nsfw_infer", "flash_attention"),
        ("saf_a100_sam_amg_vith_fast", "flash_attention, efficient_attention"),
    ],
)
def test_what_ran_in_public_traces(file: str, text: str, public_traces: Path) -> None:
    trace = read_trace(public_traces / f"{file}.json.gz")
    kernels = trace.kernels["name"].astype(str)
    found = attention.ran(frozenset(trace.ops["name"].astype(str)), frozenset(kernels))
    assert found.text == text
    told = attention.objection("flash", found, compiled=False)
    assert told == ("" if text == "flash_attention" else "attention=flash was asked for, and efficient ran too")


def test_a_session_tells_what_ran(small: CaptureSettings, vit: ModelChoice, tmp_path: Path) -> None:
    settings = dataclasses.replace(resolve(small), attention="flash")
    one = session._Session(vit, small, settings, Reporter(quiet=True), tmp_path)
    written = Written(2, frozenset({op("flash_attention")}), None, frozenset({EFFICIENT_KERNEL}))
    assert one._attention(written) == "efficient_attention"
    assert one.warnings == ["attention=flash was asked for; the operator is flash_attention, but its kernels are of efficient"]


OWN_CHOICE = """
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

class Stubborn(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 16, 16)
    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)[:, None]
        with sdpa_kernel(SDPBackend.MATH):
            return nn.functional.scaled_dot_product_attention(x, x, x)

def stubborn(): return Stubborn()
"""


def _run(module: str, small: CaptureSettings, attention: str) -> Run:
    own = ModelChoice("vit", "own", "own", f"{module}:stubborn")
    settings = dataclasses.replace(small, attention=attention)
    return rundir.open_run(session.capture(own, settings, Reporter(quiet=True)))


def test_a_model_that_overrules_the_request_is_caught(
    small: CaptureSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really run: torch lets the innermost choice win, and says nothing."""
    from analyzer.analysis import analyze

    module = f"stubborn_models_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(OWN_CHOICE)
    monkeypatch.chdir(tmp_path)
    run = _run(module, small, "flash")
    told = "attention=flash was asked for, and what ran is attention_math"
    assert run.facts is not None
    assert run.facts.model.attention_backend == "attention_math"
    assert run.facts.warnings == (told,)
    assert f"own: {told}" in [caveat.text for caveat in find_caveats(analyze(run.trace.parent))]
    agreed = _run(module, small, "math")
    assert agreed.facts is not None
    assert agreed.facts.warnings == ()
