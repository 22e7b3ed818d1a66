"""Findings as ``summary.json`` holds them."""

from __future__ import annotations

from typing import Any

from analyzer.report.text import clean
from analyzer.schema.findings import Finding


def finding_entry(finding: Finding) -> dict[str, Any]:
    """Return one finding as plain values: times in µs per step, ``saving`` None where nothing would be saved."""
    shares = saving_pct_of_step(finding)
    return {
        "rule": finding.rule,
        "run": clean(finding.run),
        "level": finding.level,
        "title": clean(finding.title, 160),
        "claim": clean(finding.claim, 1600),
        "facts": [{"name": clean(fact.name, 120), **fact.figure.to_json()} for fact in finding.facts],
        "saving": finding.saving.to_json() if finding.saving else None,
        "saving_pct_of_step": {"low": shares[0], "high": shares[1]} if shares else None,
        "step_us": finding.step_us,
        "effort": finding.effort,
        "disproof": clean(finding.disproof, 900),
        "target": finding.target,
    }


def saving_pct_of_step(finding: Finding) -> tuple[float, float] | None:
    """Return the ends of the saving as shares of the step in %, None where there is none."""
    found = finding.saving
    if found is None or found.low is None or found.high is None or not finding.step_us > 0:
        return None
    return 100 * found.low / finding.step_us, 100 * found.high / finding.step_us
