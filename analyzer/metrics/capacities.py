"""How much the levels of memory of a device hold: what one multiprocessor keeps close, the last cache, and memory itself."""

from __future__ import annotations

from analyzer.metrics.limits import Limits
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import LimitFact

LAST_CACHES = ("L2 capacity", "L2 and Infinity Cache capacity", "last-level cache capacity")
"""Names of the level behind which only memory can be: of an NVIDIA GPU, of one with a memory-side cache, of a CPU."""

DRAM = "DRAM capacity"
_CLOSE = ("L1 and shared memory of one multiprocessor", "L1 of one core")
REPORTED = "as the device reports it"
NOT_RECORDED = "a bare trace does not tell the caches and the memory of a CPU; record a run with analyzer"


def capacity_facts(limits: Limits) -> tuple[LimitFact, ...]:
    """Return the capacities of the levels in bytes, nearest to the cores first; one that is not known says why.

    The first level is left out where the datasheet gives none.
    """
    close = _on_cpu(limits) if limits.device.type == "cpu" else _on_gpu(limits)
    return (*close, LimitFact(DRAM, _memory(limits)))


def _on_cpu(limits: Limits) -> tuple[LimitFact, ...]:
    device = limits.device
    first = (LimitFact(_CLOSE[1], _known(device.l1_bytes, REPORTED)),) if device.l1_bytes else ()
    last = _known(limits.cache_bytes, REPORTED) if limits.cache_bytes else Quantity.missing("bytes", NOT_RECORDED)
    return (*first, LimitFact(LAST_CACHES[2], last))


def _on_gpu(limits: Limits) -> tuple[LimitFact, ...]:
    sheet = limits.sheet
    title = sheet.title if sheet else ""
    close = sheet.figure("l1_and_shared_per_sm") if sheet else None
    first = (LimitFact(_CLOSE[0], _known(close.value * 2**10, f"{title}: {close.source}")),) if close else ()
    behind = sheet.figure("infinity_cache") if sheet else None
    name = LAST_CACHES[1] if behind else LAST_CACHES[0]
    if not limits.cache_bytes:
        reason = limits.reason or "not in the datasheet"
        return (*first, LimitFact(name, Quantity.missing("bytes", reason)))
    source = REPORTED if limits.device.l2_bytes and not behind else title
    return (*first, LimitFact(name, _known(limits.cache_bytes, source)))


def _memory(limits: Limits) -> Quantity:
    if limits.device.memory_bytes:
        return _known(limits.device.memory_bytes, REPORTED)
    nominal = limits.sheet.dram_gb if limits.sheet else None
    if nominal and limits.sheet:
        return _known(nominal * 1e9, f"{limits.sheet.title}, as printed")
    on_cpu = limits.device.type == "cpu"
    reason = NOT_RECORDED if on_cpu else limits.reason or "neither the trace nor a datasheet tells it"
    return Quantity.missing("bytes", reason)


def _known(value: float, source: str) -> Quantity:
    return Quantity(float(value), "bytes", Evidence.SPEC, source=source)
