"""The findings: one function each, from an analysis to a finding or to None. Nothing here presumes which model is faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analyzer.insight.rules.alignment import small_products
from analyzer.insight.rules.attention import materialised_attention
from analyzer.insight.rules.feeding import data_loading, pageable_copies
from analyzer.insight.rules.fusion import layout_conversions, unfused_chains
from analyzer.insight.rules.host import host_bound, short_kernels, synchronising
from analyzer.insight.rules.memory import depthwise_at_dram, l2_resident, memory_peak
from analyzer.insight.rules.precision import full_float32, no_matrix_units
from analyzer.insight.rules.processor import processor_cores, processor_dispatch, processor_format
from analyzer.insight.rules.shapes import low_occupancy_fine, padded_sequence
from analyzer.insight.rules.state import power_cap, thermal_throttle, unstable_clocks, unsteady_latency
from analyzer.insight.rules.statement import step_us
from analyzer.insight.rules.waves import partial_waves
from analyzer.schema.findings import Finding
from analyzer.schema.results import Analysis, run_names

RULES: tuple[Callable[[Analysis], Finding | None], ...] = (
    padded_sequence,
    low_occupancy_fine,
    depthwise_at_dram,
    l2_resident,
    memory_peak,
    power_cap,
    thermal_throttle,
    unstable_clocks,
    unsteady_latency,
    pageable_copies,
    data_loading,
    processor_dispatch,
    processor_cores,
    processor_format,
    host_bound,
    short_kernels,
    synchronising,
    materialised_attention,
    full_float32,
    no_matrix_units,
    small_products,
    layout_conversions,
    unfused_chains,
    partial_waves,
)
"""Every finding there is, in no order: findings are sorted by what they may save."""


def find(analysis: Analysis) -> tuple[Finding, ...]:
    """Return what the rules find in one run: opportunities by their middle saving, largest first, then notes.

    ``run`` of each is the name of the run, as in ``summary.json``.
    """
    return _found(analysis, analysis.run.name)


def _found(analysis: Analysis, name: str) -> tuple[Finding, ...]:
    if not step_us(analysis) > 0:  # a trace of nothing but moments: there is no time to save, and no share of it
        return ()
    found = [replace(finding, run=name) for rule in RULES if (finding := rule(analysis)) is not None]
    return tuple(sorted(found, key=_rank))


def find_all(analyses: tuple[Analysis, ...]) -> tuple[Finding, ...]:
    """Return what the rules find in all runs, in the order of ``find``."""
    named = zip(analyses, run_names(analyses), strict=True)
    return tuple(sorted((finding for a, name in named for finding in _found(a, name)), key=_rank))


def _rank(finding: Finding) -> tuple[bool, float, str]:
    saved = finding.saving.value if finding.saving else None
    return finding.level == "note", -(saved or 0.0), finding.rule
