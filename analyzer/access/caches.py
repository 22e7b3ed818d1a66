"""The last-level cache of each device as the model has it, with what its parameters rest on."""

from __future__ import annotations

from analyzer.access.l2 import Cache
from analyzer.hardware.sheet import GpuSheet
from analyzer.schema.access import CacheFacts
from analyzer.schema.run import AMD, DeviceFacts

WAYS = 16
"""Ways of a set: what reproduces the sweeps of A100, H100, H200 (not recently used) and of the L40 (least recently used)."""

RETAINED_SHARE = 0.27
"""Share of a cache that may hold written bytes when a kernel ends, where no counters tell: the most seen, on an H100."""

SWEPT = {
    "a100_sxm4_80gb": "bandwidth sweep of an A100 80GB",
    "h100_pcie": "bandwidth sweep of an H100 PCIe",
    "h200_sxm": "bandwidth sweep of an H200",
    "h100_sxm5_80gb": "bandwidth sweep of an H100 PCIe (same chip) and counters of an H100 SXM",
    "rtx_4090": "counters of an RTX 4090 and the bandwidth sweep of an L40 (same architecture)",
}
"""Products whose own measurements the model was held against."""

CHIPLETS = "several L2 caches behind a memory-side cache have no model yet"
NO_L2 = "the sheet gives no L2"


def cache_of(sheet: GpuSheet) -> CacheFacts | str:
    """Return the cache of a GPU, or the reason why it has no model."""
    if sheet.vendor == AMD:
        return CHIPLETS
    if not sheet.l2_mib or not sheet.sm_count:
        return NO_L2
    capacity = int(sheet.l2_mib * 2**20)
    partitions = sheet.l2_partitions
    retained, overhead = sheet.figure("l2_retained"), sheet.figure("dram_read_overhead")
    figure = sheet.figure("l2_partitions")
    swept = SWEPT.get(sheet.key)
    source = swept or (figure.source if figure else "nothing public tells its layout; one undivided cache assumed")
    return CacheFacts(
        key=sheet.key,
        name=sheet.name,
        capacity_bytes=capacity,
        partitions=partitions or 1,
        multiprocessors=sheet.sm_count,
        retained_bytes=(0.0, retained.value * 1e6 if retained else RETAINED_SHARE * capacity),
        read_overhead=overhead.value if overhead else 1.0,
        dram_gbps=sheet.dram_gbps,
        l2_gbps=sheet.l2_attainable_gbps,
        status="calibrated" if swept else "assumed",
        source=source,
    )


def cpu_cache(device: DeviceFacts, dram_gbps: float | None) -> CacheFacts | str:
    """Return the last-level cache of a CPU, which its cores share, or the reason why there is none."""
    capacity = device.l3_bytes or device.l2_bytes
    if not capacity:
        return "the run recorded no cache sizes"
    return CacheFacts(
        key="cpu",
        name=device.name,
        capacity_bytes=capacity,
        partitions=1,
        multiprocessors=device.threads or device.cores or 1,
        retained_bytes=(0.0, RETAINED_SHARE * capacity),
        read_overhead=1.0,
        dram_gbps=dram_gbps,
        l2_gbps=None,
        status="assumed",
        source="size as the run recorded it; one undivided cache assumed",
    )


def simulated(facts: CacheFacts) -> Cache:
    """Return the cache to simulate."""
    return Cache(facts.capacity_bytes, WAYS, facts.partitions)
