"""``task=calibrate``: what the device here reaches."""

from __future__ import annotations

from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.outcome import Outcome


def calibrate(settings: Settings, reporter: Reporter) -> Outcome:
    """Measure the ceilings of the device and put them into the cache."""
    from analyzer.capture.calibrate import calibrate as measure
    from analyzer.capture.environment import device_facts, versions
    from analyzer.capture.presets import resolve
    from analyzer.format import digits

    resolved = resolve(settings.capture)
    if settings.dry_run:
        return Outcome([f"would measure copy bandwidth and matmul rate of {resolved.device} for {resolved.dtype}"], {})
    with reporter.stage(f"calibrate {resolved.device}") as stage:
        found = measure(resolved, device_facts(resolved.device), versions())
        stage.note = found.origin
    lines = [
        f"{c.name}: {digits(c.value)} {c.unit} ({digits(c.low)} to {digits(c.high)}, n={c.n}; {c.dtype}; {c.size})"
        for c in found.found
    ]
    document = [{"name": c.name, "value": c.value, "low": c.low, "high": c.high, "unit": c.unit, "n": c.n} for c in found.found]
    return Outcome([*lines, *found.warnings], {"ceilings": document})
