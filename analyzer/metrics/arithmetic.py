"""Which units of a device a launch computes on and in which number format, told from kernel name and element type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analyzer.schema.run import AMD, DeviceFacts, RunSettings

MATRIX_KINDS = ("matmul", "convolution", "attention", "moe")
"""Kinds whose work is products, which matrix units (tensor cores, matrix cores, AMX) can do."""

Unit = Literal["matrix", "vector", "core"]
"""Tensor or matrix cores, the lanes beside them, or the cores of a CPU, which are not told apart."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a launch computes with: ``unit`` and number format (``dtype``).

    ``product``: its work is products; ``assumed``: its name does not tell the unit.
    """

    unit: Unit
    dtype: str
    product: bool
    assumed: bool = False


_MATRIX = re.compile(
    r"tensorop|_tensor\d|wmma|hmma|imma|(?<![\da-z])[his]?(884|1688|16816|161616|8816|16832)(?!\d)|gmma|utcmma|umma|warpgroup|nvjet|"
    r"flash_?(attn_)?(fwd|bwd)|flash::|fmha(?!_cutlass[fb]_f32\w*sm[567])|native_sdpa|_flash_[fb]prop|mfma|_mi\d+x\d+x|xdl|"
    r"gtcx|attn_(fwd|bwd)|(^|_)_?fwd_kernel|tf32|xf32|xmma_\w*?(f16f16|bf16bf16|e4m3|e5m2|i8i8)"
)
_VECTOR = re.compile(
    r"[sdc]gemm|simt|scudnn|dcudnn|ffma|winograd|(im|ex)plicit_convolve|gemv|gemm(sn|k1)|gemmk1|dot_kernel|fft|depthwise|conv_dw|"
    r"naive_conv|dgrad_engine|wgrad_alg\d|direct_conv|sp3asm|f32f32_f32f32|fmha_cutlass[fb]_f32"
)
_HALF = re.compile(r"(?<![\da-z])h(884|1688|16816|161616)(?!\d)|f16f16_f16f16_f16")
HALF_ACCUMULATE = "float16_fp16acc"
"""Products of float16 that accumulate in float16, twice as fast on GeForce cards."""
_WINOGRAD = re.compile(r"winograd|_wino|sp3asm", re.IGNORECASE)
_FFT = re.compile(r"fft|gcgemm", re.IGNORECASE)
WINOGRAD_SAVING = 4.0
"""F(4x4, 3x3) needs 36 multiplications where the direct sum needs 144: the most that cuDNN's Winograd kernels save.
Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4."""


def arithmetic_of(kernel: str, dtype: str, kind: str, device: DeviceFacts, settings: RunSettings | None = None) -> Arithmetic:
    """Return the units and the number format of one launch.

    ``dtype`` is the element type of its operator, empty where not known (then float32). Float32 on NVIDIA's tensor cores is
    always TF32; without a telling name, float32 products count as TF32 only where the run's ``settings`` allow it.
    Approximation: norms, pointwise operators and other vector work count as float32 whatever their storage, as torch computes
    them.
    """
    product = kind in MATRIX_KINDS
    if device.type == "cpu":
        return Arithmetic("core", dtype or "float32", product)
    wide = "float64" if dtype == "float64" else "float32"
    if not product:
        return Arithmetic("vector", wide, product)
    dtype, name = dtype or "float32", kernel[:2000].lower()
    matrix = _MATRIX.search(name) is not None
    told = matrix or _VECTOR.search(name) is not None
    if not told:
        matrix = dtype not in ("float32", "float64") or (dtype == "float32" and _may_be_tf32(kind, settings))
    if matrix:
        return Arithmetic("matrix", _format(dtype, name, device), product, assumed=not told)
    return Arithmetic("vector", wide, product, assumed=not told)


def _format(dtype: str, name: str, device: DeviceFacts) -> str:
    if dtype.startswith("float8") or re.search(r"e4m3|e5m2", name):
        return "float8"
    if dtype == "float16" and _HALF.search(name):
        return HALF_ACCUMULATE
    if dtype == "float32" and device.vendor != AMD:
        return "tfloat32"
    return "tfloat32" if dtype == "float32" and "xf32" in name else dtype


def _may_be_tf32(kind: str, settings: RunSettings | None) -> bool:
    if settings is None:
        return False
    products = settings.matmul_precision in ("high", "medium")
    return bool(settings.convolution_tf32) if kind == "convolution" else products


def add_arithmetic(launches: pd.DataFrame, device: DeviceFacts, settings: RunSettings | None) -> pd.DataFrame:
    """Return ``launches`` with what each computes with (see ``Arithmetic``) and with ``saving``.

    ``saving`` is how many times fewer multiplications the algorithm needs than the formula counts: 1, up to 4 for Winograd,
    infinite where their number is not known (FFT). Such a convolution is several kernels of one operator (``owner``), so what
    one of them saves counts for all. The other columns are ``unit, number_format, product, unit_assumed``. Columns read:
    ``kernel, dtype, kind, owner``.
    """
    keys = list(zip(*(launches[name].tolist() for name in ("kernel", "dtype", "kind")), strict=True))
    known = {(name, dtype, kind): arithmetic_of(name, dtype, kind, device, settings) for name, dtype, kind in set(keys)}
    found = [known[key] for key in keys]
    saving = launches["kernel"].map({name: _saving(name) for name in launches["kernel"].unique()}).astype(float)
    convolution = launches["kind"].isin(("convolution", "depthwise")) & launches["owner"].ge(0)
    most = saving[convolution].groupby(launches["owner"][convolution]).transform("max")
    return launches.assign(
        unit=[a.unit for a in found],
        number_format=[a.dtype for a in found],
        product=[a.product for a in found],
        unit_assumed=[a.assumed for a in found],
        saving=most.reindex(launches.index).fillna(1.0),
    )


def _saving(kernel: str) -> float:
    if _FFT.search(kernel):
        return float("inf")
    return WINOGRAD_SAVING if _WINOGRAD.search(kernel) else 1.0


def used_units(launches: pd.DataFrame) -> tuple[tuple[Unit, str], ...]:
    """Return the units and number formats that the arithmetic of ``launches`` ran on, the one with most time first."""
    busy = launches[launches["flop"] > 0]
    if busy.empty:
        return ()
    times = busy.groupby(["unit", "number_format"], sort=False)["dur_ns"].sum().sort_values(ascending=False, kind="stable")
    return tuple((unit, dtype) for unit, dtype in times.index)
