"""GPM beside the trace: every figure worked out by hand. The runs are made up; no GPU was there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.analysis import analyze
from analyzer.insight.activity import BARE, NO_PASS, NO_SAMPLES, Activity, Line, activity, readings
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis
from analyzer.schema.run import PassFacts, SourceFacts
from analyzer.schema.tables import SAMPLES
from tests.report.synthetic import UNIX_NS, Fake, write_run

SECOND = 1_000_000_000
COLUMNS = ("gpm_sm_util_pct", "gpm_sm_occupancy_pct", "gpm_tensor_pct", "gpm_dram_pct", "gpm_fp32_pct", "gpm_fp16_pct")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyze(write_run(tmp_path_factory.mktemp("activity"), Fake()))


def sampled(*rows: tuple[float, tuple[float, ...] | None]) -> pd.DataFrame:
    """Return samples at the seconds given, with the six figures of GPM or without."""
    frame = pd.DataFrame({name: np.full(len(rows), np.nan) for name in SAMPLES.names})
    for name in ("time_ns", "monotonic_ns"):
        frame[name] = [UNIX_NS + int(at * SECOND) for at, _ in rows]
    for place, column in enumerate(COLUMNS):
        frame[column] = [np.nan if figures is None else figures[place] for _, figures in rows]
    return frame


def looped(a: Analysis, samples: pd.DataFrame, steps: int = 600, **telemetry: Any) -> Analysis:
    """Return ``a`` with a pass of ``steps`` batches from second 10 to 13, and ``samples``."""
    facts = a.run.facts
    assert facts is not None
    assert facts.telemetry is not None
    span = PassFacts(name="looped", start_unix_ns=UNIX_NS + 10 * SECOND, end_unix_ns=UNIX_NS + 13 * SECOND, steps=steps)
    told = msgspec.structs.replace(facts.telemetry, **({"looped": SourceFacts(available=True)} | telemetry))
    passes = (*facts.passes, span) if steps else facts.passes
    run = msgspec.structs.replace(a.run, facts=msgspec.structs.replace(facts, telemetry=told, passes=passes))
    return replace(a, run=run, samples=samples)


THREE = sampled(
    (9.9, (1.0,) * 6),
    (10.02, (2.0,) * 6),  # averages from 9.9: before the pass
    (10.5, (70.0, 20.0, 30.0, 40.0, 6.0, 2.0)),
    (11.0, (80.0, 22.0, 33.0, 44.0, 7.0, 2.0)),
    (11.5, None),
    (12.5, (90.0, 24.0, 36.0, 48.0, 8.0, 2.0)),
    (12.95, (3.0,) * 6),  # taken between 12.95 and 13.1: perhaps after the pass
    (13.1, (4.0,) * 6),
)


def test_only_readings_whole_inside_the_pass_count(recorded: Analysis) -> None:
    found = activity(looped(recorded, THREE))
    assert (found.reason, found.readings, found.batches, found.seconds) == ("", 3, 600, 3.0)
    assert found.per_batch_ms == 5.0
    gpm = {line.name: (line.gpm.value, line.gpm.low, line.gpm.high, line.gpm.evidence) for line in found.lines}
    assert gpm == {
        "SM active": (80.0, 70.0, 90.0, Evidence.MEASURED),
        "SM occupancy": (22.0, 20.0, 24.0, Evidence.MEASURED),
        "tensor pipe active": (33.0, 30.0, 36.0, Evidence.MEASURED),
        "DRAM bandwidth": (44.0, 40.0, 48.0, Evidence.MEASURED),
        "FP32 pipe active": (7.0, 6.0, 8.0, Evidence.MEASURED),
        "FP16 pipe active": (2.0, 2.0, 2.0, Evidence.MEASURED),
    }
    # the datasheet of the H100 has 3350 GB/s
    assert (found.dram_gbps.value, found.dram_gbps.low, found.dram_gbps.high) == pytest.approx((1474.0, 1340.0, 1608.0))
    assert found.dram_gbps.evidence is Evidence.DERIVED


def test_what_the_trace_derives_for_the_same_seconds(recorded: Analysis) -> None:
    """Three traced steps; 600 batches in 3 s are 200 a second."""
    lines = {line.name: line for line in activity(looped(recorded, THREE)).lines}
    # per step of six blocks, each 1 % longer than the one before: 6.15 x (95.25 + 60.125 + 14.5 + 22.75) us = 1184.645 us
    busy = 200 * 1184.644e-6
    assert lines["SM active"].traced.value == pytest.approx(100 * busy, rel=1e-5)
    assert lines["SM active"].traced.evidence is Evidence.DERIVED
    # each kernel's occupancy is in launches; weighted by its time, and nothing in between
    mean = (95.25 * 18.75 + 60.125 * 12.5 + 14.5 * 100 + 22.75 * 56.818182) / (95.25 + 60.125 + 14.5 + 22.75)
    assert lines["SM occupancy"].traced.value == pytest.approx(mean * busy, rel=1e-4)
    # linear 2 x 6304 x 768 x 2304 FLOP, attention 4 x 32 x 12 x 197^2 x 64, six of each, over 989 TFLOP/s
    flop = 6 * (2 * 6304 * 768 * 2304 + 4 * 32 * 12 * 197**2 * 64)
    assert lines["tensor pipe active"].traced.value == pytest.approx(100 * 200 * flop / 989e12, rel=1e-6)
    assert lines["tensor pipe active"].traced.evidence is Evidence.MODELLED
    rows = recorded.launches
    low, high = (float(rows[name].sum()) / 3 * 200 / 3350e9 * 100 for name in ("bytes_dram_low", "bytes_dram_high"))
    band = lines["DRAM bandwidth"].traced
    assert (band.low, band.high, band.value) == pytest.approx((low, high, (low + high) / 2))
    least = activity(looped(recorded, THREE)).compulsory_pct
    assert least.value == pytest.approx(recorded.totals.bytes_compulsory / 3 * 200 / 3350e9 * 100)
    for name in ("FP32 pipe active", "FP16 pipe active"):
        assert lines[name].traced.value is None
        assert lines[name].as_expected is None
    assert all(line.counted.value is None for line in lines.values())
    assert all(line.why for line in lines.values())


def test_which_side_is_expected() -> None:
    def line(gpm: float, traced: float, expected: Any, low: float | None = None, high: float | None = None) -> bool | None:
        other = Quantity(traced, "%", Evidence.DERIVED, low, high)
        return Line("", Quantity(gpm, "%", Evidence.MEASURED), other, other, expected, "").as_expected

    assert line(50, 60, "below") is True
    assert line(62.9, 60, "below") is True
    assert line(63.1, 60, "below") is False
    assert line(68, 60, "below", 50, 66) is True
    assert line(60, 50, "above") is True
    assert line(46.9, 50, "above") is False
    assert line(46.9, 50, "above", 45, 55) is True
    assert line(46.9, 50, "either") is None


def test_counters_stand_between_gpm_and_the_models(recorded: Analysis) -> None:
    from analyzer.schema.counters import CounterView

    view = CounterView("counters.csv", "ncu", "", "warm", 72, 72, 100.0, "", pd.DataFrame())
    counted = recorded.launches.assign(bytes_dram_counter=1e6, tensor_active_pct=50.0, occupancy_achieved_pct=40.0)
    a = replace(looped(recorded, THREE), launches=counted, counters=view)
    lines = {line.name: line for line in activity(a).lines}
    busy = 200 * 1184.644e-6
    assert lines["tensor pipe active"].counted.value == pytest.approx(50 * busy, rel=1e-5)
    assert lines["SM occupancy"].counted.value == pytest.approx(40 * busy, rel=1e-5)
    # 25 launches a step, the copy among them
    assert lines["DRAM bandwidth"].counted.value == pytest.approx(100 * 25 * 1e6 * 200 / 3350e9)
    assert lines["DRAM bandwidth"].counted.evidence is Evidence.DERIVED
    assert lines["SM active"].counted.value is None


def test_without_a_known_peak_what_needs_none_stays(recorded: Analysis) -> None:
    found = activity(replace(looped(recorded, THREE), limits=()))
    lines = {line.name: line for line in found.lines}
    assert found.dram_gbps.value is None
    assert lines["DRAM bandwidth"].traced.value is None
    assert lines["tensor pipe active"].traced.value is None
    assert lines["SM active"].traced.value is not None


def test_without_steps_in_the_trace_nothing_is_derived(recorded: Analysis) -> None:
    a = looped(recorded, THREE)
    found = activity(replace(a, window=replace(a.window, batches=None)))
    assert len(found.lines) == 6
    assert all(line.traced.value is None for line in found.lines)
    assert "names no steps" in found.lines[0].traced.source


def test_every_reason(recorded: Analysis) -> None:
    facts = recorded.run.facts
    assert facts is not None
    gone = SourceFacts(available=False, reason="the device has no GPM (Hopper and newer have it)")
    none = SourceFacts(available=False, reason="counters=none")

    def why(samples: pd.DataFrame = THREE, steps: int = 0, **telemetry: Any) -> str:
        found = activity(looped(recorded, samples, steps, **telemetry))
        assert not found.lines
        return found.reason

    assert activity(recorded).reason == NO_PASS
    assert why(looped=None, gpm=gone) == gone.reason
    assert why(looped=gone, gpm=gone) == gone.reason
    assert why(looped=none) == "counters=none"
    assert why(THREE.head(2), 600) == NO_SAMPLES
    assert why(THREE.head(2), 600, gpm=gone) == gone.reason
    bare = replace(recorded, run=msgspec.structs.replace(recorded.run, facts=None))
    assert activity(bare) == Activity(recorded.label, BARE)
    silent = msgspec.structs.replace(facts, telemetry=None)
    assert (
        activity(replace(recorded, run=msgspec.structs.replace(recorded.run, facts=silent))).reason
        == "the run has no telemetry"
    )


def test_a_run_on_a_cpu_says_so(tmp_path: Path) -> None:
    found = activity(analyze(write_run(tmp_path, Fake(device="cpu"))))
    assert (found.reason, found.lines) == ("the model runs on the CPU", ())


@given(
    st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans()), min_size=1, max_size=40),
    st.floats(0.0, 20.0),
    st.floats(0.0, 20.0),
)
def test_no_reading_reaches_outside_its_pass(times: list[tuple[float, bool]], start: float, end: float) -> None:
    frame = sampled(*((at, (1.0,) * 6 if has else None) for at, has in sorted(times)))
    span = PassFacts(name="looped", start_unix_ns=UNIX_NS + int(start * SECOND), end_unix_ns=UNIX_NS + int(end * SECOND))
    with_gpm = [UNIX_NS + int(at * SECOND) for at, has in sorted(times) if has]
    for at in readings(frame, span)["time_ns"]:
        assert span.start_unix_ns <= at <= span.end_unix_ns
        assert with_gpm[0] >= span.start_unix_ns or any(span.start_unix_ns <= other <= at for other in with_gpm)
