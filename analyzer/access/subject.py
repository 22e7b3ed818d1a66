"""What the access model looks at, and the devices that it is compared on."""

from __future__ import annotations

from dataclasses import replace

from analyzer.access.caches import cache_of, cpu_cache
from analyzer.access.result import Subject
from analyzer.hardware.lookup import sheet_of
from analyzer.hardware.sheet import GpuSheet
from analyzer.schema.access import CacheFacts
from analyzer.schema.run import DeviceFacts

COMPARED = ("v100_sxm2_16gb", "a100_sxm4_80gb", "h100_sxm5_80gb", "h200_sxm", "rtx_4090", "b200")
"""GPUs whose caches stand beside the run's own: five generations, both layouts."""


def caches(keys: tuple[str, ...]) -> tuple[CacheFacts, ...]:
    """Return the caches of GPUs of the database; those without a model are left out.

    Raises:
        KeyError: no such GPU.
    """
    found = (cache_of(sheet_of(key)) for key in keys)
    return tuple(cache for cache in found if not isinstance(cache, str))


def subject_of(
    model: str,
    batch: tuple[int, int],
    device: DeviceFacts,
    sheet: GpuSheet | None,
    gbps: float | None,
    batches: float,
) -> Subject:
    """Return the subject of a run on ``device``. ``batch``: images and image size; ``gbps``: the bandwidth used for floors."""
    if device.type == "cpu":
        own = cpu_cache(device, gbps)
        multiprocessors = device.threads or device.cores or 1
    else:
        own = cache_of(sheet) if sheet else "no datasheet"
        multiprocessors = device.sm_count or (sheet.sm_count if sheet else None) or 100
    mine = () if isinstance(own, str) else (replace(own, dram_gbps=gbps or own.dram_gbps),)
    return Subject(model, *batch, mine, caches(COMPARED), multiprocessors, batches)
