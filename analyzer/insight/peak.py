"""The peak memory of a run, from wherever it is known."""

from __future__ import annotations

from analyzer.format import count
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis

NO_EVENTS = "the trace has no memory events"
NO_TOTALS = "the trace has changes of memory alone, no totals"


def peak_memory(a: Analysis) -> Quantity:
    """Return the peak memory of a run in bytes; its source says what was counted, or why it is not known.

    That of the untraced pass, else the most that the allocator of one device had handed out in the trace, where the trace
    has such totals.
    """
    recorded = a.run.facts.memory if a.run.facts else None
    if recorded is not None:
        return Quantity(recorded.peak_bytes, "bytes", Evidence.MEASURED, source=recorded.kind)
    mine = [p for p in a.memory if (p.device == "CPU") == (a.device.type == "cpu")]
    totals = [p for p in mine if p.is_absolute]
    if not totals:
        return Quantity.missing("bytes", NO_TOTALS if mine else NO_EVENTS)
    most = max(totals, key=lambda p: p.peak_bytes)
    where = f" of {most.device}, the most of {count(len(totals))}" if len(totals) > 1 else ""
    return Quantity(most.peak_bytes, "bytes", Evidence.MEASURED, source=f"handed out by the allocator{where}, traced")
