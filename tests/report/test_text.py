"""Names made fit to be shown."""

from __future__ import annotations

import math

import pytest

from analyzer import format as fmt
from analyzer.report.text import clean, kernel_label
from analyzer.schema.evidence import Evidence, Quantity


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("a\u202eb\u200b\x00c\x1b[0m", "abc[0m"),
        ("two\nlines\t x", "two lines x"),
        ("at /home/alice/x/trace.json now", "at …/trace.json now"),
        ("runs=/Users/bob/t.json", "runs=…/t.json"),
        ("/root/spec.yaml", "…/spec.yaml"),
        ("out=~/reports/x", "out=…/x"),
        (r"C:\Users\eve\trace.json", "…/trace.json"),
        ("a/b and c / d", "a/b and c / d"),
        ("\ud800x", "x"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_clean_bounds_the_length() -> None:
    assert len(clean("x" * 100_000, 50)) == 50


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::F>(int, F)",
            "vectorized_elementwise_kernel",
        ),
        ("void cutlass::Kernel2<cutlass_80_tensorop<1, 2> >(Params)", "cutlass::Kernel2"),
        ("sm90_xmma_gemm_bf16", "sm90_xmma_gemm_bf16"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<float>(int)", "nchwToNhwcKernel"),
        ("<script>alert(1)</script>", "alert"),
        ("<<<", "<<<"),
        ("", ""),
    ],
)
def test_kernel_label(name: str, shown: str) -> None:
    assert kernel_label(name) == shown


def test_fixed_numbers() -> None:
    assert fmt.fixed(1234.5678, 2) == "1\u202f234.57"
    assert fmt.fixed(-0.0004, 3) == "0.000"
    assert fmt.fixed_signed(0.5, 1) == "+0.5"
    assert fmt.fixed_signed(-0.5, 1) == "−0.5"
    assert fmt.fixed_signed(0.0001, 3) == "0.000"
    assert fmt.fixed(math.nan, 3) == fmt.MISSING


def test_marked_by_evidence() -> None:
    assert fmt.marked("3", Evidence.MODELLED) == "≈ 3"
    assert fmt.marked("3", Evidence.MEASURED) == "3"
    assert fmt.marked("0", Evidence.UNAVAILABLE) == fmt.MISSING


def test_intervals() -> None:
    assert fmt.interval(Quantity(5.4, "ms", Evidence.MEASURED, 5.31, 5.52)) == "5.31 to 5.52 ms"
    assert fmt.interval(Quantity(1.46, "x", Evidence.DERIVED, 1.4, 1.6)) == "1.40x to 1.60x"
    assert fmt.interval(Quantity(5.4, "ms", Evidence.MEASURED)) == ""


def test_axis_and_counts() -> None:
    assert [fmt.axis_unit(us)[1] for us in (20.0, 2000.0, 2e7)] == ["µs", "ms", "s"]
    assert [fmt.decade(v) for v in (1e-5, 0.1, 1.0, 1e4)] == ["0.00001", "0.1", "1", "10\u202f000"]
    assert fmt.counted(1, "process", "processes") == "1 process"
    assert fmt.counted(2, "process", "processes") == "2 processes"
