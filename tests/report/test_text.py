"""Names made fit to be shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import format as fmt
from analyzer.report.plain import plain
from analyzer.report.text import clean, kernel_label, without_homes
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
        (r"C:\Users\Alice Smith\p\run.json", "…/run.json"),
        (r"C:\Users\O'Brien\One Drive - Firm\run.json now", "…/run.json now"),
        ("C:/Users/Alice Smith/x.json", "…/x.json"),
        ("/home/alice smith/x.yaml", "…/x.yaml"),
        ("/home/alice", "…"),
        ("in (/home/alice).", "in (…)."),
        ("from /home/alice to /home/bob/x", "from … to …/x"),
        ("/home/alice/t.json differs from traces/b.json", "…/t.json differs from traces/b.json"),
        (r"\\host\share\alice\x", "…/x"),
        (r"\\host\share", "…"),
        ("~bob/x and void k<~Foo>()", "…/x and void k<~Foo>()"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


_HOMES = ("/home/{}/", "/home2/{}/", "/nfs/home/{}/", "/Users/{}/", "C:\\Users\\{}\\", "c:/users/{}/", "\\\\host\\{}\\")


@given(
    st.sampled_from(_HOMES), st.lists(st.from_regex(r"secret[\w.-]{0,6}(?: secret[\w.-]{0,6})?", fullmatch=True), min_size=1, max_size=3),
    st.lists(st.from_regex(r"secret[\w.-]{0,6}", fullmatch=True), max_size=4),
)  # fmt: skip
def test_no_folder_of_a_home_stays(home: str, users: list[str], folders: list[str]) -> None:
    separator = "\\" if "\\" in home else "/"
    paths = [home.format(user) + "".join(folder + separator for folder in folders) + "x.json" for user in users]
    shown = without_homes(f"load '{paths[0]}', " + ", ".join(paths))
    assert "secret" not in shown
    assert shown.count("…/x.json") == len(paths) + 1


@pytest.mark.parametrize(
    "piece", ["/home/", "/home/a b c d e ", "\\\\a\\", "~a", "\\", "C:\\Users\\a b ", "/home/a'", "/home/x/a=", "~/"]
)
def test_home_folders_are_found_in_any_text(piece: str) -> None:
    """Names of 100 kB: a search that tries all ways to read one would not come to an end."""
    assert len(without_homes("/home/a " + piece * 100_000)) <= 8 + len(piece) * 100_000


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


@pytest.mark.parametrize("value", [0.05, -0.05])
def test_a_trace_of_something_has_no_sign(value: float) -> None:
    assert fmt.percent(value) == "under 0.1 %"


@pytest.mark.parametrize(
    ("value", "low", "high", "written", "ends"),
    [
        (0.147, 0.13, 0.98, "0.15x", "0.13x to 0.98x"),  # two digits at least, though the interval is wide
        (1.4, 1.0064, 1.8, "1.40x", "1.01x to 1.80x"),  # an end that leaves 1 out is not written as 1
        (15.4, 0.77, 300.0, "15.4x", "0.8x to 300.0x"),  # nor one on the other side of it
        (1.4, 1.0004, 1.8, "1.4000x", "1.0004x to 1.8000x"),
        (1.2, 0.9999, 1.9, "1.20x", "1.00x to 1.90x"),  # which no two decimals can tell from 1
        (8.2, 3.0, 20.0, "8.2x", "3.0x to 20.0x"),
        (30.0, 20.0, 60.0, "30x", "20x to 60x"),
        (2.0, None, None, "2.00x", ""),
        (0.0043, None, None, "0.0043x", ""),
    ],
)
def test_a_ratio_has_the_digits_that_it_takes(
    value: float, low: float | None, high: float | None, written: str, ends: str
) -> None:
    ratio = Quantity(value, "x", Evidence.DERIVED, low, high)
    assert (fmt.times(ratio), fmt.interval(ratio)) == (written, ends)


def test_what_a_file_holds_has_no_half_characters_and_no_nan() -> None:
    assert plain({"a\ud83d": ["b\u202e\n", float("nan"), ("c", 1)]}) == {"a": ["b ", None, ["c", 1]]}
