"""Tiles and orders from real kernel names: public traces, and names that other projects print."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.access.geometry import assumed_geometry, geometry_of
from analyzer.access.problem import Attention, Convolution, Pass, Problem, Product, Window
from analyzer.access.tiling import Geometry

TRIPLE = tuple[int, int, int]
SOFTMAX = Pass(1024, 1024)


def product(m: int, n: int, k: int, batch: int = 1) -> Product:
    return Product(batch, m, n, k, 2, 2)


def conv(images: int, channels: int, filters: int, side: int, kernel: int, stride: int, padding: int) -> Convolution:
    pairs = [(value, value) for value in (kernel, stride, padding, 1)]
    return Convolution(images, 1, channels, filters, side, side, pairs[0], pairs[1], pairs[2], pairs[3], 4)


def attention(batch: int, heads: int, queries: int, keys: int, width: int, kv_heads: int = 0) -> Attention:
    return Attention(batch, heads, kv_heads or heads, queries, keys, width, width, 2)


def orders(geometry: Geometry) -> str:
    return " ".join(raster.axes + (str(raster.panel) if raster.panel else "") for raster in geometry.rasters)


H100_VIT: tuple[tuple[str, TRIPLE, TRIPLE, Problem, str], ...] = (
    ("cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8", (104, 1, 1), (128, 1, 1), product(788, 768, 768), "64x128x64 nmb exact"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas", (14, 7, 1), (384, 1, 1), product(788, 3072, 768), "128x128x64 nmb mnb nmb8 inferred"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x64x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas", (98, 1, 1), (384, 1, 1), product(788, 768, 3072), "128x64x64 nmb mnb nmb8 inferred"),
    ("pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, cutlass::bfloat16_t", (2, 4, 12), (128, 1, 1), attention(4, 12, 197, 197, 64), "128x128x64 qbh exact"),
    ("cutlass_tensorop_bf16_s16816fprop_optimized_bf16_256x64_32x4_nhwc_align8", (16, 3, 1), (128, 1, 1), product(784, 768, 768), "256x64x32 nmb4 exact"),
    ("cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8", (8, 2, 1), (128, 1, 1), product(4, 768, 768), "64x64x64 nmb exact"),
)  # fmt: skip
MI300_VIT: tuple[tuple[str, TRIPLE, TRIPLE, Problem, str], ...] = (
    ("Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT64x32x128_MI16x16x1_SN", (76800, 1, 1), (256, 1, 1), product(788, 768, 768), "32x64x128 nmb mnb nmb8 inferred"),
    ("attn_fwd", (2, 12, 4), (256, 1, 1), attention(4, 12, 197, 197, 64), "128x64x64 qhb inferred"),
    ("Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT64x32x256_MI16x16x1_SN", (76800, 1, 1), (256, 1, 1), product(788, 768, 3072), "32x64x256 nmb mnb nmb8 inferred"),
    ("Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT64x160x128_MI16x16x1_SN", (61440, 1, 1), (256, 1, 1), product(788, 3072, 768), "160x64x128 nmb mnb nmb8 inferred"),
    ("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt64x64x16_wt16x16x4_ws1x1", (39936, 1, 1), (256, 1, 1), product(784, 768, 768), "64x64x16 nmb mnb nmb8 inferred"),
    ("Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT16x16x256_MI16x16x1_SN_LDSB1_AFC1_AFEM1_AFEM1_ASEM1_CLR1_CADS0_DTVA0_DTVB0_EPS0_FDSI0_GRPM1_GRVWA8_GRVWB8_GSUAMBSK_GLS0", (36864, 1, 1), (256, 1, 1), product(4, 768, 768), "16x16x256 nmb exact"),
)  # fmt: skip
OTHERS: tuple[tuple[str, TRIPLE, TRIPLE, Problem, str], ...] = (
    # B200, vLLM: clusters pad the grid (131 tiles of 192 columns in clusters of four make 132 blocks).
    ("nvjet_tst_192x8_64x8_4x1_v_bz_TNT", (132, 1, 1), (256, 1, 1), product(1, 25136, 2880), "8x192x64 nmb exact"),
    ("nvjet_tst_144x128_64x6_2x1_v_bz_bias_TNN", (140, 1, 1), (256, 1, 1), product(888, 2880, 512), "128x144x64 nmb mnb nmb8 inferred"),
    ("nvjet_tst_64x16_64x16_2x4_2cta_h_bz_bias_TNT", (112, 1, 1), (256, 1, 1), product(888, 128, 2880), "16x64x64 nmb mnb mnb8 inferred"),
    ("nvjet_hsh_256x128_64x4_2x1_v_bz_coopA_NNT", (132, 1, 1), (384, 1, 1), product(25216, 3072, 768), "128x256x64 nmb mnb nmb8 mnb8 inferred"),
    ("fmhaSm100aKernel_QkvE4m3OBfloat16H64PagedKvCausalP16VarSeqQ128Kv128PersistentContext", (4, 8, 1), (512, 1, 1), attention(1, 8, 888, 888, 64, 1), "128x128x64 qhb inferred"),
    # A100, AlexNet: split k in the grid's z; pixels by filters, filters fastest.
    ("ampere_sgemm_32x32_sliced1x4_tn", (128, 4, 1), (128, 1, 1), product(128, 4096, 9216), "32x32x8 nmb exact"),
    ("ampere_sgemm_32x32_sliced1x4_tn", (32, 4, 6), (128, 1, 1), product(128, 1000, 4096), "32x32x8 nmb exact"),
    ("cudnn_ampere_scudnn_128x64_relu_xregs_large_nn_v1", (3025, 1, 1), (128, 1, 1), conv(128, 3, 64, 224, 11, 4, 2), "128x64x8 nmb exact"),
    ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4_warpsize2x2x1_g1_tensor16x8x8", (2, 169, 1), (128, 1, 1), conv(128, 384, 256, 13, 3, 1, 1), "128x128x16 nmb exact"),
    # V100 and RTX 2080 Ti, ResNet: pixels fastest.
    ("void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false, true, true>(int", (98, 8, 1), (8, 32, 1), conv(32, 256, 1024, 14, 1, 1, 0), "64x128x8 mnb exact"),
    ("void explicit_convolve_sgemm<float, int, 1024, 5, 5, 3, 3, 3, 0, false>(int, int", (49, 16, 1), (8, 8, 1), conv(32, 512, 512, 14, 3, 2, 1), "32x32x8 mnb exact"),
    ("volta_scudnn_128x64_relu_interior_nn_v1", (784, 4, 1), (128, 1, 1), conv(32, 64, 256, 56, 1, 1, 0), "128x64x8 mnb exact"),
    ("cudnn_volta_scudnn_128x128_relu_small_nn_v1", (49, 4, 1), (256, 1, 1), conv(128, 256, 512, 14, 3, 2, 1), "128x128x8 mnb exact"),
    # A100, Segment Anything.
    ("void gemmSN_TN_kernel<float, 128, 16, 2, 4, 4, 4, true, cublasGemvTensorStridedBatched<__nv_bfloat16 const>", (8192, 1, 512), (128, 1, 1), product(4, 65536, 32, 512), "4x8x32 nmb inferred"),
    ("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tt", (1, 32, 512), (128, 1, 1), product(4096, 128, 256, 512), "128x128x32 nmb exact"),
    ("ampere_bf16_s16816gemm_bf16_256x128_ldg8_relu_f2f_stages_32x3_tn", (8, 28, 1), (256, 1, 1), product(3584, 2048, 256), "128x256x32 nmb exact"),
    ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<", (4, 16, 25), (32, 8, 1), attention(25, 16, 196, 196, 80), "64x128x80 qhb exact"),
    ("_fwd_kernel_aligned_0d1d2d3d45d6de7de8c9de10de11c12de13de14c15de16de17c18de19de20c21de22de23de", (32, 16, 1), (256, 1, 1), attention(1, 16, 4096, 4096, 80), "128x64x80 qhb inferred"),
    ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<32, 128, 128, 4, false", (32, 512, 8), (128, 1, 1), attention(512, 8, 4096, 7, 16), "128x128x16 qbh exact"),
    ("cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x1_tn_align8", (64, 1, 1), (32, 1, 1), product(512, 32, 256), "16x16x128 nmb exact"),
    # Names that other projects print: H100 with FlashInfer, a Triton prefill with heads in front, cuDNN, CUTLASS 3.
    ("void flashinfer::PrefillWithKVCacheKernel<flashinfer::AttentionKernelTraits<1, 128, 128, 128, 128, 2, x", (132, 1, 1), (384, 1, 1), attention(4, 32, 2048, 2048, 128, 8), "128x128x128 qhb inferred"),
    ("_fwd_kernel", (4, 32, 16), (128, 1, 1), attention(4, 32, 2048, 2048, 128), "128x64x128 bhq inferred"),
    ("cudnn_generated_fort_native_sdpa_sm120_flash_fprop_f16_knob_3_64x64x128_4x1x1_kernel0_0", (4, 12, 8), (128, 1, 1), attention(8, 12, 197, 197, 64), "64x64x64 qhb exact"),
    ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2, cute::tuple<cute::C<1>, cute::C<1>, cute::C<1>>, cute::tuple<cute::C<128>, cute::C<176>, cute::C<64>>, 64", (132, 1, 1), (384, 1, 1), attention(32, 12, 1025, 1025, 64), "128x176x64 qhb inferred"),
    ("void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int>, cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<5, cute::tuple<cute::C<2>, cute::C<1>, cute::C<1>>, K>, cute::tuple<cute::C<256>, cute::C<128>, cute::C<64>>", (132, 1, 1), (384, 1, 1), product(8192, 8192, 8192), "128x256x64 nmb mnb nmb8 inferred"),
    ("gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4, false>", (1000, 1, 1), (128, 1, 1), product(1, 1000, 2048), "1x1x2048 nmb inferred"),
    ("triton_tem_fused_addmm_3", (84, 1, 1), (128, 1, 1), product(788, 768, 768), "128x64x32 mnb nmb assumed"),
    ("sgemm_128x128x8_NT_vec", (4, 10, 40), (256, 1, 1), product(10240, 2560, 1024), "128x128x8 mnb2 exact"),
    # Windows: one thread per output.
    ("void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<3, float, int>", (9408, 1, 1), (256, 1, 1), Window(32 * 384, 14, 14, (3, 3), (1, 1), (1, 1), (1, 1), 4), "256x1x9 mnb exact"),
    ("void at::native::(anonymous namespace)::max_pool_forward_nchw<float, float>", (25088, 1, 1), (1024, 1, 1), Window(32 * 64, 112, 112, (3, 3), (2, 2), (1, 1), (1, 1), 4), "256x1x9 mnb inferred"),
)  # fmt: skip


@pytest.mark.parametrize(("kernel", "grid", "block", "problem", "expected"), H100_VIT + MI300_VIT + OTHERS)
def test_names_and_grids(kernel: str, grid: TRIPLE, block: TRIPLE, problem: Problem, expected: str) -> None:
    found = geometry_of(kernel, grid, block, problem, 132)
    assert isinstance(found, Geometry), found
    assert f"{found.tile_m}x{found.tile_n}x{found.tile_k} {orders(found)} {found.confidence}" == expected, found.source


def test_facts_beside_the_tile() -> None:
    split = geometry_of("ampere_sgemm_32x32_sliced1x4_tn", (32, 4, 6), (128, 1, 1), product(128, 1000, 4096), 108)
    nvjet = geometry_of("nvjet_hsh_256x128_64x4_2x1_v_bz_coopA_NNT", (132, 1, 1), (384, 1, 1), product(25216, 3072, 768), 132)
    square = geometry_of("nvjet_tst_64x64_64x16_2x1_2cta_v_bz_bias_TNT", (140, 1, 1), (256, 1, 1), product(888, 640, 2880), 148)
    stream = geometry_of("Cijk_S_MT16x16x256_MI16_GSUAMBSK_GLS0", (36864, 1, 1), (256, 1, 1), product(4, 768, 768), 304)
    assert isinstance(split, Geometry)
    assert isinstance(nvjet, Geometry)
    assert isinstance(square, Geometry)
    assert isinstance(stream, Geometry)
    assert split.split_k == 6
    # The name's first number cuts columns, so two blocks along it share the same rows.
    assert (nvjet.cluster, nvjet.stages, nvjet.persistent) == ((1, 2), 4, True)
    assert (square.cluster, square.stages, square.persistent) == ((1, 2), 16, False)
    assert stream.split_k == 3


@pytest.mark.parametrize(
    ("kernel", "grid", "problem", "reason"),
    [
        ("volta_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", (64, 7, 4), conv(32, 64, 64, 56, 3, 1, 1), "Winograd"),
        ("volta_sgemm_64x64_nn", (8, 4, 36), conv(32, 256, 256, 14, 3, 1, 1), "Winograd"),
        ("ampere_gcgemm_64x64_nt", (3, 2, 544), conv(128, 64, 192, 27, 5, 1, 2), "FFT"),
        ("void fft2d_c2r_32x32<float, false, false, 0u, false, false>", (1536, 1, 1), conv(128, 64, 192, 27, 5, 1, 2), "FFT"),
        ("void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>", (16, 7, 32), conv(32, 256, 1024, 14, 1, 1, 0), "backward"),
        ("void cask_cudnn::computeOffsetsKernel<false, false>", (12, 1, 1), conv(128, 64, 192, 27, 5, 1, 2), "addresses"),
        ("void epilogue::impl::globalKernel<float, float, float, true, true>", (128, 4, 1), product(128, 4096, 9216), "epilogue"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", (64, 1, 1), product(128, 4096, 9216), "partial results"),
        ("void cudnn::ops::nchwToNhwcKernel<float, float>", (64, 1, 1), conv(32, 64, 64, 56, 3, 1, 1), "layout"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::gelu>", (64, 1, 1), product(128, 4096, 9216), "pointwise"),
        ("bmm_MxE4m3_MxE2m1MxE4m3_Fp32_t128x16x256u2_s3_transOut_dynBatch_sm100f", (8, 342, 1), product(888, 3072, 128), "uneven"),
        ("pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<x>", (2, 4, 12), attention(4, 12, 197, 197, 64), "backward"),
        ("my_kernel", (8, 8, 1), product(128, 4096, 9216), "no known family"),
    ],
)  # fmt: skip
def test_outside_the_model(kernel: str, grid: TRIPLE, problem: Problem, reason: str) -> None:
    found = geometry_of(kernel, grid, (128, 1, 1), problem, 132)
    assert isinstance(found, str)
    assert reason in found


def test_a_pass_needs_no_tile() -> None:
    found = geometry_of("anything", None, None, SOFTMAX, None)
    assert isinstance(found, Geometry)
    assert (found.tile_m, found.tile_n, found.confidence) == (0, 0, "inferred")


def test_a_grid_that_contradicts_the_name_is_said() -> None:
    found = geometry_of("ampere_sgemm_128x64_tn", (7, 5, 1), (128, 1, 1), product(10240, 2560, 1024), 108)
    assert isinstance(found, Geometry)
    assert found.confidence == "assumed"
    assert "do not explain" in found.source
    assert len(found.rasters) == 3


def test_without_a_grid_the_order_stays_open() -> None:
    found = geometry_of("ampere_sgemm_128x64_tn", None, None, product(10240, 2560, 1024), None)
    assert isinstance(found, Geometry)
    assert (found.tile_m, found.tile_n, found.confidence, orders(found)) == (64, 128, "inferred", "nmb mnb nmb8")


@pytest.mark.parametrize(
    ("problem", "cpu", "expected"),
    [
        (product(25216, 3072, 768), False, "128x128x64 nmb mnb nmb8"),
        (product(4, 1000, 2048), False, "16x128x64 nmb"),
        (product(25216, 3072, 768), True, "64x64x256 nmb mnb nmb8"),
        (conv(32, 64, 64, 56, 3, 1, 1), False, "128x64x32 nmb"),
        (attention(32, 12, 197, 197, 64), False, "128x128x64 qhb"),
        (attention(32, 12, 197, 197, 96), False, "128x64x96 qhb"),
        (attention(32, 12, 197, 197, 256), False, "64x64x256 qhb"),
        (attention(32, 12, 197, 197, 64), True, "64x512x64 qhb"),
        (Window(384, 14, 14, (3, 3), (1, 1), (1, 1), (1, 1), 4), False, "256x1x9 mnb"),
        (Window(384, 14, 14, (3, 3), (1, 1), (1, 1), (1, 1), 4), True, "14x1x9 mnb"),
    ],
)
def test_assumed(problem: Problem, cpu: bool, expected: str) -> None:
    found = assumed_geometry(problem, "float16", cpu=cpu)
    assert f"{found.tile_m}x{found.tile_n}x{found.tile_k} {orders(found)}" == expected
    assert found.confidence == "assumed"
    assert "library not named in the trace" in found.source


@pytest.mark.parametrize(
    ("trace", "known"),
    [("tracelens_h100_vit_nsfw_infer.json.gz", H100_VIT), ("tracelens_mi300_vit_nsfw_infer.json.gz", MI300_VIT)],
)
def test_every_matrix_kernel_of_a_vision_transformer_is_covered(
    trace: str, known: tuple[tuple[str, TRIPLE, TRIPLE, Problem, str], ...], public_traces: Path
) -> None:
    events = json.loads(gzip.decompress((public_traces / trace).read_bytes()))["traceEvents"]
    words = ("gemm", "fprop", "flash_fwd", "attn_fwd", "Cijk", "igemm")
    launched = {
        (event["name"], tuple(event["args"]["grid"])) for event in events
        if event.get("cat") == "kernel" and any(word in event["name"] for word in words)
    }  # fmt: skip
    assert len(launched) == 6
    for name, grid in launched:
        rows = [row for row in known if row[0] in name and row[1] == grid]
        assert len(rows) == 1, name
        assert isinstance(geometry_of(name, grid, rows[0][2], rows[0][3], 132), Geometry)


FRAGMENTS = st.sampled_from([
    "nvjet_", "tst_", "256x128_", "64x4_", "2x1_", "v_bz_", "cutlass_80_tensorop_", "s16816gemm_", "fprop_", "xmma_gemm_",
    "tilesize", "128x64x32", "scudnn_", "sgemm_", "99999x1_", "0x0_", "0x0x0_", "implicit_convolve_sgemm<float, float, 1024, ",
    "6, 7, 3, ", "63, 99, 3, ", "Cijk_A_MT", "igemm_fwd_a_bt", "Flash_fwd_kernel_traits<64, 128, 128,", "fmha_cutlassF_bf16_aligned_",
    "gemv", "triton_tem_", "attn_fwd", "conv", "pool", "cutlass gemm ", "tuple<C<128>, C<64>, C<32>>", "a" * 50, "_" * 50,
])  # fmt: skip
NAMES = st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=12).map("".join))
SIZES = st.integers(1, 5000)
TRIPLES = st.none() | st.tuples(st.integers(-1, 70000), st.integers(0, 70000), st.integers(0, 70000))
PROBLEMS = st.one_of(
    st.builds(product, SIZES, SIZES, SIZES, st.integers(1, 64)),
    st.builds(conv, SIZES, SIZES, SIZES, st.integers(7, 300), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3)),
    st.builds(attention, SIZES, st.integers(1, 64), SIZES, SIZES, st.integers(1, 256)),
    st.builds(lambda planes, side: Window(planes, side, side, (3, 3), (1, 1), (1, 1), (1, 1), 4), SIZES, SIZES),
)


@settings(max_examples=400, deadline=None)
@given(NAMES, TRIPLES, TRIPLES, PROBLEMS, st.none() | st.integers(1, 300))
def test_any_name_gives_a_geometry_or_a_reason(
    kernel: str, grid: TRIPLE | None, block: TRIPLE | None, problem: Problem, multiprocessors: int | None
) -> None:
    found = geometry_of(kernel, grid, block, problem, multiprocessors)
    if isinstance(found, str):
        assert found
    else:
        assert min(found.tile_m, found.tile_n, found.tile_k, found.split_k, *found.cluster) >= 1
        assert max(found.tile_m, found.tile_n) <= 4096
        assert found.rasters
        assert len(set(found.rasters)) == len(found.rasters)


@settings(max_examples=100, deadline=None)
@given(PROBLEMS, st.booleans())
def test_assumed_tiles_are_never_empty(problem: Problem, cpu: bool) -> None:
    found = assumed_geometry(problem, "float32", cpu=cpu)
    assert min(found.tile_m, found.tile_n, found.tile_k) >= 1
    assert found.rasters


@pytest.mark.parametrize(
    "part",
    ["nvjet_", "nvjet_a_", "xmma_", "cutlass_tensorop_", "cutlass3x_", "Cijk_", "igemm_fwd_", "sdpa_", "FlashAttnFwdSm90",
     "tuple<C<1>, ", "fmhaSm100", "fmha_fwd_d64_", "1x", "_", "gemm_1x1", "convolve_sgemm<float, "],
)  # fmt: skip
def test_a_hostile_name_costs_no_time(part: str) -> None:
    kernel = (part * 10_000)[:10_000]
    start = time.perf_counter()
    geometry_of(kernel, (8, 8, 1), (128, 1, 1), product(1024, 1024, 1024), 132)
    geometry_of(kernel, (8, 8, 1), (128, 1, 1), attention(4, 12, 197, 197, 64), 132)
    assert time.perf_counter() - start < 1.0
