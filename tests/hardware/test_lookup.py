"""From device strings, as traces and torch print them, to sheets or reasons."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.hardware.lookup import find_sheet, look_up, sheets
from analyzer.hardware.sheet import Figure, GpuSheet
from analyzer.schema.run import DeviceFacts

GIB = 2**30


def gpu(name: str, sms: int | None = None, memory: float | None = None) -> DeviceFacts:
    return DeviceFacts(type="cuda", name=name, sm_count=sms, memory_bytes=int(memory) if memory else None)


def own(*names: str, sms: int | None = None) -> GpuSheet:
    figures = {"dram_bandwidth": Figure(500, "GB/s", "mine")}
    if sms:
        figures["sm_count"] = Figure(sms, "SM", "mine")
    return GpuSheet("mine", "Mine", "NVIDIA", "Ampere", "", None, "", names, figures, own=True)


@pytest.mark.parametrize(
    ("name", "sms", "memory", "key"),
    [
        ("NVIDIA H100 80GB HBM3", 132, 85018279936, "h100_sxm5_80gb"),
        ("NVIDIA H100 PCIe", 114, 79.1 * GIB, "h100_pcie"),
        ("NVIDIA H100 NVL", 132, 93.1 * GIB, "h100_nvl"),
        ("NVIDIA H200", 132, 139.8 * GIB, "h200_sxm"),
        ("NVIDIA GH200 480GB", 132, 94.5 * GIB, "gh200_96gb"),
        ("NVIDIA B200", 148, 191503138816, "b200"),
        ("NVIDIA A100-PG509-200", 108, 42297524224, "a100_sxm4_40gb"),
        ("NVIDIA A100-PG509-200", 108, 79.3 * GIB, "a100_sxm4_80gb"),
        ("NVIDIA A100-SXM4-40GB", 108, 42481549312, "a100_sxm4_40gb"),
        ("A100-SXM4-40GB", 108, 39.6 * GIB, "a100_sxm4_40gb"),
        ("A100-SXM-80GB", 108, 79.3 * GIB, "a100_sxm4_80gb"),
        ("NVIDIA A100-PCIe-40GB", 108, 39.4 * GIB, "a100_pcie_40gb"),
        ("NVIDIA A100 80GB PCIe", 108, 79.1 * GIB, "a100_pcie_80gb"),
        ("Tesla V100-DGXS-32GB", 80, 34084028416, "v100_sxm2_32gb"),
        ("Tesla V100-SXM2-32GB-LS", 80, 31.7 * GIB, "v100_sxm2_32gb"),
        ("Tesla V100-SXM2-16GB", 80, 15.8 * GIB, "v100_sxm2_16gb"),
        ("NVIDIA GeForce RTX 2080 Ti", 68, 11554586624, "rtx_2080_ti"),
        ("GeForce RTX 2080 Ti", 68, 10.8 * GIB, "rtx_2080_ti"),
        ("Tesla T4", 40, 14.7 * GIB, "t4"),
        ("NVIDIA A10", 72, 22.0 * GIB, "a10"),
        ("NVIDIA L4", 60, 22.0 * GIB, "l4"),
        ("NVIDIA L40S", 142, 44.4 * GIB, "l40s"),
        ("Orin", 16, 61.4 * GIB, "jetson_agx_orin_64gb"),
        ("AMD Instinct MI300X", 304, 192 * GIB, "mi300x"),
        ("AMD Instinct MI300X VF", 304, 205571227648, "mi300x"),
        ("AMD Instinct MI300X OAM", 304, 192 * GIB, "mi300x"),
        ("NVIDIA H100 80GB HBM3", None, None, "h100_sxm5_80gb"),
    ],
)
def test_device_strings(name: str, sms: int | None, memory: float | None, key: str) -> None:
    found = look_up(gpu(name, sms, memory))
    assert found.sheet, found.reason
    assert (found.sheet.key, found.reason) == (key, "")
    assert find_sheet(gpu(name, sms, memory)) == found.sheet


def test_every_name_of_the_database_finds_its_sheet() -> None:
    for key, sheet in sheets().items():
        devices = sheet.share()
        for name in sheet.device_names:
            found = look_up(gpu(name, devices.sm_count, (devices.dram_gb or 0) * 1e9)).sheet
            assert found, name
            assert found.key == key


@pytest.mark.parametrize(
    ("name", "sms", "memory", "reason"),
    [
        (
            "NVIDIA H100 80GB HBM3", 100, None,
            "'NVIDIA H100 80GB HBM3' with 100 multiprocessors is not the H100 SXM5 80GB of the database (132)",
        ),
        (
            "NVIDIA A100-SXM4-40GB", None, 4.75 * GIB,
            "'NVIDIA A100-SXM4-40GB' with 5.1 GB of memory is not the A100 SXM4 40GB of the database (40 GB)",
        ),
        (
            "NVIDIA A100-PG509-200", 14, 5e9,
            "'NVIDIA A100-PG509-200' with 14 multiprocessors is not the A100 SXM4 40GB of the database (108) nor the A100 SXM4 80GB"
            " of the database (108)",
        ),
        (
            "NVIDIA A100-PG509-200", 108, None,
            "'NVIDIA A100-PG509-200' can be A100 SXM4 40GB or A100 SXM4 80GB, and its memory, which would tell, is not recorded",
        ),
        ("NVIDIA Future", 200, None, "no datasheet for 'NVIDIA Future' in the database; pass gpu_spec=FILE.yaml (docs/hardware.md)"),
        ("Tesla V100-PCIE-32GB", 80, 32 * GIB, "no datasheet for 'Tesla V100-PCIE-32GB' in the database; pass gpu_spec=FILE.yaml (docs/hardware.md)"),
        ("NVIDIA", 1, None, "no datasheet for 'NVIDIA' in the database; pass gpu_spec=FILE.yaml (docs/hardware.md)"),
    ],
)  # fmt: skip
def test_what_is_no_sheet_says_why(name: str, sms: int | None, memory: float | None, reason: str) -> None:
    found = look_up(gpu(name, sms, memory))
    assert (found.sheet, found.reason) == (None, reason)


def test_a_slice_of_a_gpu_is_not_the_gpu() -> None:
    assert look_up(gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 14, 4.75 * GIB)).sheet is None


def test_one_device_of_an_mi250x_is_half_of_it() -> None:
    found = look_up(gpu("AMD Instinct MI250X", 110, 64 * GIB)).sheet
    whole = sheets()["mi250x"]
    assert found
    assert (found.sm_count, found.l2_mib, found.dram_gbps, found.matrix_tflops["float16"]) == (110, 8, 3277 / 2, 383 / 2)
    assert (found.boost_clock_mhz, found.l2_to_sm_bytes_per_clock) == (whole.boost_clock_mhz, whole.l2_to_sm_bytes_per_clock)
    assert "one of 2 devices" in found.name
    assert look_up(gpu("AMD Instinct MI250X / MI250", 110)).sheet == found
    assert look_up(gpu("AMD Instinct MI250X / MI250", 104)).sheet is None
    assert found.share() == found


def test_an_own_sheet_wins_for_the_names_it_lists() -> None:
    h100 = gpu("NVIDIA H100 80GB HBM3", 132)
    mine = own("nvidia h100 80GB HBM3")
    assert look_up(h100, mine).sheet is mine
    other = gpu("NVIDIA L4", 60)
    assert look_up(other, mine).sheet == sheets()["l4"]
    unknown = look_up(gpu("NVIDIA Future"), mine)
    assert unknown.sheet is None
    assert unknown.reason.endswith("and the gpu_spec sheet is of 'nvidia h100 80GB HBM3'")


def test_an_own_sheet_without_names_serves_what_the_database_does_not_know() -> None:
    mine = own()
    assert look_up(gpu("NVIDIA Future", 7), mine).sheet is mine
    assert look_up(gpu("NVIDIA H100 80GB HBM3", 132), mine).sheet == sheets()["h100_sxm5_80gb"]
    assert look_up(gpu("NVIDIA H100 80GB HBM3", 16), mine).sheet is mine


def test_an_own_sheet_must_fit_too() -> None:
    mine = own("NVIDIA H100 80GB HBM3", sms=16)
    assert look_up(gpu("NVIDIA H100 80GB HBM3", 16), mine).sheet is mine
    assert look_up(gpu("NVIDIA H100 80GB HBM3", 132), mine).sheet == sheets()["h100_sxm5_80gb"]
    reason = look_up(gpu("NVIDIA Future", 9), replace(mine, device_names=())).reason
    assert reason == "'NVIDIA Future' with 9 multiprocessors is not the Mine of the gpu_spec sheet (16)"


def test_a_cpu_has_no_sheet() -> None:
    assert look_up(DeviceFacts(type="cpu", name="CPU"), own()).sheet is None


def test_a_lookup_reads_only_the_files_that_have_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.hardware import lookup

    opened: list[str] = []
    read = lookup._sheet
    monkeypatch.setattr(lookup, "_sheet", lambda key: opened.append(key) or read(key))
    assert look_up(gpu("NVIDIA GeForce RTX 4090", 128)).sheet
    assert opened == ["rtx_4090"]


def test_the_devices_of_public_traces(public_traces: Path) -> None:
    found = {}
    for file in sorted(public_traces.glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8", errors="replace") as stream:
            head = stream.read(4_000_000)
        if match := re.search(r'"deviceProperties"\s*:\s*(\[.*?\])', head, flags=re.DOTALL):
            for device in json.loads(match[1])[:1]:
                facts = gpu(device["name"], device["numSms"], device["totalGlobalMem"])
                sheet = look_up(facts).sheet
                found[device["name"]] = sheet.key if sheet else None
    assert found == {
        "NVIDIA A100-PG509-200": "a100_sxm4_40gb",
        "Tesla V100-DGXS-32GB": "v100_sxm2_32gb",
        "NVIDIA GeForce RTX 2080 Ti": "rtx_2080_ti",
        "NVIDIA A100-SXM4-40GB": "a100_sxm4_40gb",
        "NVIDIA B200": "b200",
        "NVIDIA H100 80GB HBM3": "h100_sxm5_80gb",
        "AMD Instinct MI300X VF": "mi300x",
    }
