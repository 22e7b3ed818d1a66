"""What summary.json and the masthead say of the memory of a run."""

from __future__ import annotations

from typing import Any

from analyzer.format import count
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis

TOP = 10
NO_EVENTS = "the trace has no memory events"
NO_TOTALS = "the trace has changes of memory alone, no totals"


def peak_memory(a: Analysis) -> Quantity:
    """Return the peak memory of a run in bytes; its source says what was counted, or why it is not known.

    That of the untraced pass, else the most that the allocator of one device had handed out in the trace, where the trace
    has such totals.
    """
    recorded = a.run.facts.memory if a.run.facts else None
    if recorded is not None:
        return Quantity(recorded.peak_bytes, "bytes", Evidence.MEASURED, source=clean(recorded.kind))
    mine = [p for p in a.memory if (p.device == "CPU") == (a.device.type == "cpu")]
    totals = [p for p in mine if p.is_absolute]
    if not totals:
        return Quantity.missing("bytes", NO_TOTALS if mine else NO_EVENTS)
    most = max(totals, key=lambda p: p.peak_bytes)
    where = f" of {clean(most.device)}, the most of {count(len(totals))}" if len(totals) > 1 else ""
    return Quantity(most.peak_bytes, "bytes", Evidence.MEASURED, source=f"handed out by the allocator{where}, traced")


def memory_summary(a: Analysis) -> list[dict[str, Any]]:
    """Return one entry per device that the trace has memory events of: its peak, and the TOP that hold memory there.

    ``held_before`` is None where it is not known; ``holders`` is empty where ``reason`` says why.
    """
    return [_entry(a, profile) for profile in a.memory]


def _entry(a: Analysis, p: MemoryProfile) -> dict[str, Any]:
    top = p.at_peak.head(TOP)
    rows = top.itertuples(index=False, name=None)
    return {
        "device": clean(p.device),
        "is_absolute": p.is_absolute,
        "events": len(p.curve),
        "peak": _bytes(p.peak_bytes, Evidence.MEASURED),
        "peak_at_us": (p.peak_ns - a.window.start_ns) / 1e3,
        "transient_bytes": _bytes(p.transient_bytes, Evidence.DERIVED),
        "held_before": _bytes(p.before_bytes, Evidence.DERIVED) if p.before_bytes else None,
        "holders": [
            {"module": clean(str(module)), "op": clean(str(op)), "bytes": float(held), "blocks": int(blocks)}
            for module, op, held, blocks in rows
        ],
        "holders_left_out": len(p.at_peak) - len(top),
        "reason": p.reason,
    }


def _bytes(value: float, evidence: Evidence) -> dict[str, Any]:
    return Quantity(value, "bytes", evidence).to_json()
