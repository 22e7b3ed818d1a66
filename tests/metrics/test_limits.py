"""Which limit applies to what: measured ceilings, datasheet figures, and the user's own sheet."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.metrics.limits import Limits, limit_facts, limits_of
from analyzer.schema.evidence import Evidence
from analyzer.schema.run import Ceiling, DeviceFacts, Run

H100 = DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", sm_count=132, memory_bytes=85018279936)
COPY = Ceiling(name="copy", unit="GB/s", dtype="uint8", value=3000, low=2990, high=3010, n=30, size="1 GiB")


def limits(device: DeviceFacts = H100, ceilings: tuple[Ceiling, ...] = (), *, tf32: bool = False) -> Limits:
    bare = limits_of(Run(name="r", trace=Path("t.json")), device)
    return Limits(device, bare.sheet, bare.reason, ceilings, tf32)


def matmul(dtype: str, value: float) -> Ceiling:
    return Ceiling(name="matmul", unit="TFLOP/s", dtype=dtype, value=value, low=value, high=value, n=30)


def test_measured_and_datasheet_figures_stay_apart() -> None:
    found = limits(ceilings=(COPY, matmul("bfloat16", 790)))
    bandwidth, sheet, published = found.bandwidth, found.dram_spec, found.dram_attainable
    assert bandwidth is not None
    assert sheet is not None
    assert published is not None
    assert (bandwidth.value, bandwidth.measured) == (3000, True)
    assert (sheet.value, sheet.measured) == (3350, False)
    assert sheet.source.startswith("datasheet of H100 SXM5 80GB")
    assert published.value < sheet.value
    peak, spec = found.peak("matrix", "bfloat16"), found.spec_peak("matrix", "bfloat16")
    assert peak is not None
    assert spec is not None
    assert ((peak.value, peak.measured), (spec.value, spec.measured)) == ((790, True), (989, False))
    # the ceiling of products says nothing of other work
    vector = limits(ceilings=(matmul("float32", 50),)).peak("vector", "float32", product=False)
    assert vector is not None
    assert (vector.value, vector.measured) == (67, False)


def test_tf32_and_float32_are_two_peaks() -> None:
    plain = limits()
    tf32, fp32 = plain.peak("matrix", "tfloat32"), plain.peak("vector", "float32")
    assert tf32 is not None
    assert fp32 is not None
    assert (tf32.value, fp32.value) == (494.5, 67)
    # a float32 product measured while TF32 was allowed is the ceiling of TF32, and of nothing else
    measured = limits(ceilings=(matmul("float32", 400),), tf32=True)
    tf32, fp32 = measured.peak("matrix", "tfloat32"), measured.peak("vector", "float32")
    assert tf32 is not None
    assert fp32 is not None
    assert ((tf32.value, tf32.measured), (fp32.value, fp32.measured)) == ((400, True), (67, False))


def test_the_physical_peak_is_at_boost_clock() -> None:
    """989 TFLOP/s are quoted at 1,830 MHz; 132 multiprocessors x 4,096 FLOP/clock x 1,980 MHz = 1,070.5."""
    peak = limits().physical_peak("matrix", "bfloat16")
    assert peak is not None
    assert peak.value == pytest.approx(132 * 4096 * 1.980e9 / 1e12, rel=0.002)


def test_the_way_from_l2_is_bytes_per_clock_of_every_multiprocessor() -> None:
    roof = limits().cache_to_sm
    assert roof is not None
    assert roof.value == pytest.approx(64 * 132 * 1.980)
    assert limits().cache_bytes == 50 * 2**20
    fact = next(fact for fact in limit_facts(limits(), ()) if fact.name.startswith("L2 to multiprocessors"))
    assert (fact.figure.value, fact.figure.evidence) == (roof.value, Evidence.MODELLED)  # no vendor gives the width
    assert fact.figure.source.startswith("for H100 SXM5 80GB: 64 B per clock into each of 132 multiprocessors, at 1980 MHz; ")


def test_amd_has_the_infinity_cache_behind_its_l2() -> None:
    found = limits(DeviceFacts(type="cuda", name="AMD Instinct MI300X", vendor="AMD", sm_count=304))
    assert found.cache_bytes == (32 + 256) * 2**20


def test_what_is_missing_says_why() -> None:
    unknown = limits(DeviceFacts(type="cuda", name="NVIDIA Future", sm_count=999))
    facts = limit_facts(unknown, (("matrix", "bfloat16"),))
    assert all(fact.figure.value is None for fact in facts)
    assert all("NVIDIA Future" in fact.figure.source for fact in facts)
    volta = limits(DeviceFacts(type="cuda", name="Tesla V100-SXM2-32GB", sm_count=80))
    facts = limit_facts(volta, (("matrix", "bfloat16"),))
    assert "not in the datasheet" in facts[-1].figure.source
    cpu = limits_of(Run(name="r", trace=Path("t.json")), DeviceFacts(type="cpu", name="CPU"))
    assert "calibrate" in limit_facts(cpu, ())[0].figure.source


def test_facts_name_the_units_in_use_once() -> None:
    found = limit_facts(limits(ceilings=(COPY, matmul("bfloat16", 790))), (("matrix", "bfloat16"), ("vector", "float32")))
    names = [fact.name for fact in found]
    assert len(names) == len(set(names))
    by_name = {fact.name: fact.figure for fact in found}
    assert by_name["matrix peak, bfloat16, used for floors"].evidence is Evidence.MEASURED
    assert by_name["matrix peak, bfloat16, datasheet"].value == 989
    assert by_name["vector peak, float32, used for floors"].evidence is Evidence.SPEC


def test_accumulating_in_float16_is_a_rate_of_its_own_where_it_differs() -> None:
    card = limits(DeviceFacts(type="cuda", name="NVIDIA GeForce RTX 4090", sm_count=128))
    wide, half = card.spec_peak("matrix", "float16"), card.spec_peak("matrix", "float16_fp16acc")
    assert wide is not None
    assert half is not None
    assert half.value == pytest.approx(2 * wide.value, rel=1e-3)
    same = limits().spec_peak("matrix", "float16_fp16acc")
    assert same is not None
    assert same.value == 989


def test_the_clock_of_the_device_itself_counts() -> None:
    told = limits(DeviceFacts(type="cuda", name="NVIDIA GeForce RTX 4090", sm_count=128, clock_mhz=3200))
    peak, spec = told.physical_peak("vector", "float32"), told.spec_peak("vector", "float32")
    assert peak is not None
    assert spec is not None
    assert peak.value / spec.value == pytest.approx(3200 / 2520)


def test_what_a_large_product_was_published_to_reach_stands_apart() -> None:
    found = {fact.name: fact.figure for fact in limit_facts(limits(), (("matrix", "bfloat16"),))}
    assert found["matrix peak, bfloat16, used for floors"].value == 989
    assert found["matrix peak, bfloat16, attainable by a large product"].value == 794.5
    assert limits().matrix_attainable("float16") is None
    assert not found["matrix peak, bfloat16, attainable by a large product"].source.startswith("datasheet")
