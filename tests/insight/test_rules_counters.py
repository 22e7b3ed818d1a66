"""Findings where hardware counters tell what the models guess: they take the counted figure, or are silent where it refutes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analyzer.insight.rules.memory import depthwise_at_dram
from analyzer.insight.rules.precision import COUNTED_IDLE, UNCOUNTED, no_matrix_units
from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis
from tests.insight.test_rules_kernels import MATRIX, mm, trace
from tests.insight.test_rules_state import depthwise, held  # noqa: F401  a fixture


def depthwise_of(a: Analysis, counted_bytes: float) -> Analysis:
    made = replace(depthwise(a, 25.0), latency=None, totals=replace(a.totals, wall_us=3000.0))
    return replace(made, launches=made.launches.assign(**{RUN_BYTES: counted_bytes}))


def test_depthwise_takes_the_counted_bytes(held: Analysis) -> None:  # noqa: F811
    found = depthwise_at_dram(depthwise_of(held, 75e6))  # 75 MB in 25 us are 3000 GB/s of 3350
    assert found is not None
    facts = {fact.name: fact for fact in found.facts}
    assert facts["bytes that they move"].figure.value == pytest.approx(75e6)
    assert facts["bytes that they move"].figure.evidence is Evidence.MEASURED
    assert facts["bandwidth that they reach"].figure.value == pytest.approx(3000)
    assert facts["bandwidth that they reach"].figure.evidence is Evidence.DERIVED
    assert "ounters" not in found.disproof
    assert depthwise_at_dram(depthwise_of(held, 30e6)) is None, "the model's 67 MB would fire, and were not moved"
    uncounted = depthwise_at_dram(depthwise_of(held, np.nan))
    assert uncounted is not None
    assert uncounted.disproof.startswith("Hardware counters")


def test_a_name_that_counters_refute_is_no_finding(tmp_path: Path) -> None:
    a = trace(tmp_path, mm(MATRIX, "cutlass_simt_hgemm_128x128", 60.0))
    plain = no_matrix_units(a)
    assert plain is not None
    assert plain.disproof == UNCOUNTED
    idle = no_matrix_units(replace(a, launches=a.launches.assign(tensor_active_pct=0.2)))
    assert idle is not None
    assert idle.disproof == COUNTED_IDLE
    assert no_matrix_units(replace(a, launches=a.launches.assign(tensor_active_pct=40.0))) is None
