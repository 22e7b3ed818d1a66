"""A user's sheet: the documented example, and one clear line for every mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.hardware.sheet import DTYPES, UNITS
from analyzer.hardware.sheet_file import read_sheet
from tests.conftest import ROOT

GOOD = """\
name: My GPU
vendor: NVIDIA
architecture: Ampere
device_names: [NVIDIA My GPU]
figures:
  sm_count: {value: 80, unit: SM, source: deviceQuery}
  dram_bandwidth: {value: 600, unit: GB/s, source: [datasheet, page 2]}
peaks:
  matrix:
    bfloat16: {value: 70, unit: TFLOP/s, source: sheet}
sources:
  sheet: 'the datasheet of My GPU'
"""


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def example() -> str:
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_the_documented_example_is_a_sheet(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path / "a10g.yaml", example()))
    assert (sheet.key, sheet.own, sheet.device_names) == ("a10g", True, ("NVIDIA A10G",))
    assert (sheet.sm_count, sheet.dram_gbps, sheet.matrix_tflops["bfloat16"], sheet.l2_mib) == (80, 600, 70, 6)
    assert all(figure.source for figure in sheet.figures.values())


def test_the_documentation_names_every_figure_and_unit() -> None:
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    for name, units in UNITS.items():
        assert f"| `{name}` | {' or '.join(units)} |" in page, name
    for dtype in DTYPES:
        assert f"`{dtype}`" in page


def test_sources_are_spelled_out(tmp_path: Path) -> None:
    sheet = read_sheet(written(tmp_path / "g.yaml", GOOD))
    assert [f.source for f in sheet.figures.values()] == ["deviceQuery", "datasheet + page 2", "the datasheet of My GPU"]
    assert sheet.title == "gpu_spec sheet of My GPU"
    assert sheet.figure("matrix.float16") is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("value: 80", "value: '80'", "figures.sm_count.value: expected a number, not text"),
        ("value: 80", "value: -80", "figures.sm_count.value: expected a number > 0"),
        ("value: 80", "value: .nan", "figures.sm_count.value: expected a number > 0"),
        ("value: 600", "value: .inf", "figures.dram_bandwidth.value: expected a number <"),
        ("value: 600", "value: true", "figures.dram_bandwidth.value: expected a number, not true or false"),
        ("value: 600", "value: 6e2x", "figures.dram_bandwidth.value: expected a number, not text"),
        ("value: 600, ", "", "figures.dram_bandwidth: 'value' is missing"),
        ("value: 80", "value: 80.5", "figures.sm_count.value: expected a whole number, not 80.5"),
        ("unit: GB/s", "unit: TB/s", "figures.dram_bandwidth.unit: expected GB/s, not 'TB/s'"),
        ("unit: TFLOP/s", "unit: GFLOP/s", "peaks.matrix.bfloat16.unit: expected TFLOP/s, not 'GFLOP/s'"),
        (", source: deviceQuery", "", "figures.sm_count: 'source' is missing"),
        ("dram_bandwidth:", "dram_bandwith:", "figures: unknown key 'dram_bandwith'"),
        ("bfloat16:", "bf16:", "peaks.matrix: unknown key 'bf16'"),
        ("matrix:", "tensor:", "peaks: unknown key 'tensor'"),
        ("name: My GPU\n", "", "'name' is missing"),
        ("name: My GPU\n", "name: [1]\n", "name: expected text, not a list"),
        ("name: My GPU\n", "name: My GPU\nname: Other\n", "line 2: 'name' stands twice"),
        ("vendor: NVIDIA", "vendor: &a NVIDIA\nchip: *a", "aliases"),
        ("vendor: NVIDIA", "vendor: !!python/name:os.system x", "no YAML: could not determine a constructor"),
        ("vendor: NVIDIA", "vendor: !!int ''", "a value of a type that no sheet has"),
        ("vendor: NVIDIA", "vendor: 2024-99-99", "a value of a type that no sheet has"),
        ("vendor: NVIDIA", "vendor: {", "no YAML"),
        ("vendor: NVIDIA", "vendor: " + "[" * 30_000, "nested over"),
        ("vendor: NVIDIA", "1: 2", "expected text"),
        (GOOD, "", "the file: expected a mapping, not nothing"),
        (GOOD, "- a\n", "the file: expected a mapping, not a list"),
        (GOOD, "a: 1\n---\nb: 2\n", "no YAML: but found another document"),
    ],
)
def test_a_mistake_gets_one_line_that_names_file_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    path = written(tmp_path / "g.yaml", GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_sheet(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert says in caught.value.message
    assert caught.value.hint


def test_a_near_name_is_the_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_sheet(written(tmp_path / "g.yaml", GOOD.replace("dram_bandwidth", "dram_bandwith")))
    assert "nearest: dram_bandwidth" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "missing"), (b"\xff\xfe\x00", "UTF-8"), (b"#" * (2**20 + 1), "over 1 MiB"), (b"\x00", "no YAML")],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "g.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        read_sheet(path)
    with pytest.raises(ConfigError, match="no file"):
        read_sheet(tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, len(GOOD)), cut=st.integers(0, 12), put=st.text("{}[]:,'\"\n -&*!|>%@`0.eE~#ab\t?", max_size=8))
def test_a_damaged_file_is_a_sheet_or_a_config_error(tmp_path: Path, at: int, cut: int, put: str) -> None:
    path = written(tmp_path / "g.yaml", GOOD[:at] + put + GOOD[at + cut :])
    problem = sheet = None
    try:
        sheet = read_sheet(path)
    except ConfigError as error:
        problem = error
    if problem is not None:
        assert "\n" not in problem.message
        assert problem.hint
    if sheet is not None:
        assert all(figure.value > 0 for figure in sheet.figures.values())
