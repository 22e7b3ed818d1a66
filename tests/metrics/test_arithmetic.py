"""Which units and number formats kernels compute with, by names seen in real traces."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analyzer.metrics.arithmetic import add_arithmetic, arithmetic_of, used_units
from analyzer.schema.run import DeviceFacts, RunSettings

H100 = DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", compute_capability="9.0", sm_count=132)
MI300X = DeviceFacts(type="cuda", name="AMD Instinct MI300X", vendor="AMD", sm_count=304)
CPU = DeviceFacts(type="cpu", name="CPU")


def settings(precision: str, *, tf32: bool) -> RunSettings:
    return RunSettings(
        batch_size=1, image_size=224, dtype="float32", iterations=10, traced_steps=1, matmul_precision=precision,
        convolution_tf32=tf32,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "dtype", "unit", "number_format"),
    [
        ("ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", "bfloat16", "matrix", "bfloat16"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8>", "bfloat16", "matrix", "bfloat16"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1", "bfloat16", "matrix", "bfloat16"),
        ("nvjet_hsh_256x128_64x4_2x1_v_bz_coopA_NNT", "float16", "matrix", "float16"),
        ("volta_h884gemm_128x64_ldg8_nn_v1", "float16", "matrix", "float16_fp16acc"),
        ("turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_tn", "float16", "matrix", "float16"),
        ("ampere_h16816gemm_128x128_ldg8_stages_32x5_tn", "float16", "matrix", "float16_fp16acc"),
        ("cutlass_80_tensorop_h16816gemm_256x128_32x3_tn_align8", "float16", "matrix", "float16_fp16acc"),
        # float32 tensors on tensor cores are TF32
        ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4", "float32", "matrix", "tfloat32"),
        ("cutlass_80_tensorop_s1688gemm_128x128_16x4_tn_align4", "float32", "matrix", "tfloat32"),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80(AttentionKernel)", "float32", "matrix", "tfloat32"),
        # and on the lanes they are not
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm75(AttentionKernel)", "float32", "vector", "float32"),
        ("ampere_sgemm_128x64_tn", "float32", "vector", "float32"),
        ("volta_scudnn_128x64_relu_interior_nn_v1", "float32", "vector", "float32"),
        ("volta_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", "float32", "vector", "float32"),
        ("void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false, true, true>(int)", "float32", "vector", "float32"),
        ("void gemmSN_TN_kernel<float, 128, 16, 2, 4, 4, 4, true>(x)", "bfloat16", "vector", "float32"),
        ("void cutlass::Kernel<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>(x)", "float32", "vector", "float32"),
        ("fmhaSm100aKernel_QkvE4m3OBfloat16H64PagedKvCausalP16", "float8_e4m3fn", "matrix", "float8"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>(x)", "bfloat16", "matrix", "bfloat16"),
    ],
)  # fmt: skip
def test_names_tell_the_unit(kernel: str, dtype: str, unit: str, number_format: str) -> None:
    found = arithmetic_of(kernel, dtype, "attention" if "fmha" in kernel or "flash" in kernel else "matmul", H100)
    assert (found.unit, found.dtype, found.assumed, found.product) == (unit, number_format, False, True)


def test_amd_computes_float32_on_its_matrix_cores_as_float32() -> None:
    name = "Cijk_Alik_Bljk_S_B_Bias_HA_S_SAV_UserArgs_MT64x32x128_MI16x16x1_SN"
    assert arithmetic_of(name, "float32", "matmul", MI300X).dtype == "float32"
    assert arithmetic_of(name, "float32", "matmul", H100).dtype == "tfloat32"
    assert arithmetic_of("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt64x64x16", "bfloat16", "convolution", MI300X).unit == "matrix"


def test_what_a_name_does_not_tell_the_settings_may() -> None:
    untold = arithmetic_of("mystery", "float32", "matmul", H100)
    assert (untold.unit, untold.dtype, untold.assumed) == ("vector", "float32", True)
    allowed = arithmetic_of("mystery", "float32", "matmul", H100, settings("high", tf32=False))
    assert (allowed.unit, allowed.dtype, allowed.assumed) == ("matrix", "tfloat32", True)
    assert arithmetic_of("mystery", "float32", "convolution", H100, settings("high", tf32=False)).unit == "vector"
    assert arithmetic_of("mystery", "float32", "convolution", H100, settings("highest", tf32=True)).dtype == "tfloat32"
    assert arithmetic_of("mystery", "bfloat16", "matmul", H100).unit == "matrix"
    # a name that tells it wins over the settings
    assert arithmetic_of("ampere_sgemm_128x64_tn", "float32", "matmul", H100, settings("high", tf32=True)).unit == "vector"


def test_all_but_products_run_on_the_lanes_in_float32() -> None:
    for kind in ("pointwise", "normalisation", "depthwise", "reduction"):
        found = arithmetic_of("vectorized_elementwise_kernel", "bfloat16", kind, H100)
        assert (found.unit, found.dtype, found.product) == ("vector", "float32", False)
    assert arithmetic_of("aten::mm", "bfloat16", "matmul", CPU).unit == "core"


def test_what_winograd_saves_counts_for_all_kernels_of_its_operator() -> None:
    rows = pd.DataFrame(
        {
            "kernel": ["cudnn::winograd_nonfused::winogradForwardData4x4<float>", "volta_sgemm_64x64_nn", "volta_sgemm_64x64_nn", "fft2d_r2c_32x32"],
            "dtype": "float32", "kind": "convolution", "owner": [3, 3, 4, 5],
        }
    )  # fmt: skip
    assert add_arithmetic(rows, H100, None)["saving"].tolist() == [4.0, 4.0, 1.0, math.inf]
    rows = rows.head(1).assign(kernel="miopenSp3AsmConv_v30_3_1_gfx94x_fp32_f3x2_stride1")
    assert add_arithmetic(rows, MI300X, None)["saving"].tolist() == [4.0]


def test_used_units_come_by_time() -> None:
    rows = pd.DataFrame(
        {
            "flop": [1.0, 1.0, 1.0, 0.0], "unit": ["vector", "matrix", "vector", "vector"], "dur_ns": [3, 5, 1, 99],
            "number_format": ["float32", "bfloat16", "float32", "float64"], "category": "kernel",
        }
    )  # fmt: skip
    assert used_units(rows) == (("matrix", "bfloat16"), ("vector", "float32"))
    assert used_units(rows.head(0)) == ()
