"""What summary.json and the masthead say of the memory of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analyzer.insight import peak
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis

TOP = 10


def peak_memory(a: Analysis) -> Quantity:
    """Return the peak memory of a run in bytes, with a source that a page may show."""
    found = peak.peak_memory(a)
    return replace(found, source=clean(found.source))


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
