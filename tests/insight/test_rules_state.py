"""Rules on shapes, memory, clocks, feeding and the processor: each fires once with known figures, and stays silent once."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import format as fmt
from analyzer.analysis import analyze
from analyzer.insight.rules import find
from analyzer.insight.rules.memory import depthwise_at_dram, l2_resident, memory_peak
from analyzer.insight.rules.processor import processor_cores, processor_dispatch, processor_format
from analyzer.insight.rules.shapes import Padding, low_occupancy_fine, padded_sequence
from analyzer.insight.rules.state import power_cap, thermal_throttle, unstable_clocks, unsteady_latency
from analyzer.insight.rules.statement import saving
from analyzer.schema.findings import Finding
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis
from tests import traces
from tests.report import access_results
from tests.report.synthetic import Fake, write_run

HALF = "c10::BFloat16"


def check(found: Finding | None, rule: str, **facts: float) -> Finding:
    """Check that ``rule`` fired, that its figures hold ``facts`` (value by a word of its name), and that its prose tells them."""
    assert found is not None
    assert found.rule == rule
    for word, value in facts.items():
        mine = [f.figure.value for f in found.facts if word.replace("_", " ") in f.name]
        assert pytest.approx(value, rel=1e-5) in mine, (word, mine)
    check_prose(found)
    return found


def check_prose(found: Finding) -> None:
    """Check that every number in the texts is a fact as ``format.quantity`` writes it, and that the saving is bounded."""
    for text in (found.title, found.claim, found.disproof):
        rest = re.sub("“.*?”", "", text)
        for told in sorted((fmt.quantity(f.figure) for f in found.facts), key=len, reverse=True):
            rest = rest.replace(told, "")
        assert not re.search(r"(?<![A-Za-z_\d.])\d", rest), rest
        assert fmt.MISSING not in text
    assert all(math.isfinite(f.figure.value or 0.0) for f in found.facts)
    if found.saving is not None:
        assert found.saving.low is not None
        assert found.saving.high is not None
        assert 0 <= found.saving.low <= found.saving.high <= found.step_us * (1 + 1e-9)
    else:
        assert found.level == "note"


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """A GPU run whose power cap held the clocks at 1780 of 1980 MHz in 19 of the 61 samples of its timed pass."""
    return analyze(write_run(tmp_path_factory.mktemp("held"), Fake(held=True)))


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyze(write_run(tmp_path_factory.mktemp("cpu"), Fake(device="cpu")))


def gpu_trace(folder: Path, *events: dict[str, Any]) -> Analysis:
    """Analyse one step of 1000 us on an H100."""
    return analyze(traces.write(folder / "t.json", traces.document([traces.note("ProfilerStep#1", 0, 1000), *events])))


def attention(folder: Path, tokens: int) -> Analysis:
    shape = [[4, tokens, 12, 64]] * 3
    name = "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>(Params)"
    return gpu_trace(
        folder,
        traces.op("aten::_flash_attention_forward", 10, 20, dims=shape, types=[HALF] * 3, ext=1),
        traces.launch(15, 11),
        traces.kernel(name, 100, 500, 11, ext=1, grid=[math.ceil(tokens / 128), 4, 12], block=[128, 1, 1]),
    )


def test_padded_sequence(tmp_path: Path) -> None:
    found = check(
        padded_sequence(attention(tmp_path, 197)), "padded_sequence",
        queries=197, keys_in_whole_tiles=256, queries_per_tile=128, padded_share=100 * (1 - 197**2 / 256**2), time_of_fused=500,
    )  # fmt: skip
    floor = 4 * (4 * 197 * 12 * 64 * 2) / 3350e3  # queries, keys, values and the output of two bytes each at 3.35 TB/s
    assert found.saving is not None
    assert (found.saving.low, found.saving.high) == (0, pytest.approx((1 - 197**2 / 256**2) * (500 - floor), rel=1e-3))
    assert padded_sequence(attention(tmp_path, 256)) is None


def test_padded_sequence_marks_an_assumed_tile(held: Analysis) -> None:
    found = check(padded_sequence(held), "padded_sequence", queries=197, keys_per_tile=64, time_of_fused=6 * 60.125 * 1.025)
    assert "≈ 64 keys" in found.claim
    assert "is assumed" in found.claim


@given(*(st.integers(1, 5000),) * 2, *(st.sampled_from((16, 64, 128, 256)),) * 2)
def test_padding_is_what_whole_tiles_add(queries: int, keys: int, tile_q: int, tile_k: int) -> None:
    one = Padding(queries, keys, tile_q, tile_k, 1.0, "k", (True, True))
    whole_q, whole_k = one.whole
    assert (whole_q % tile_q, whole_k % tile_k) == (0, 0)
    assert queries <= whole_q < queries + tile_q
    assert keys <= whole_k < keys + tile_k
    assert 0 <= one.share < 1
    assert (one.share == 0) == (queries % tile_q == keys % tile_k == 0)


def product(folder: Path, us: float) -> Analysis:
    """Analyse a product of 2 x 4096^3 FLOP, 138.9 us at the 989.4 TFLOP/s of an H100, at one block of 128 threads per SM."""
    n = 4096
    shape = [[n], [n, n], [n, n]]
    return gpu_trace(
        folder,
        traces.op("aten::addmm", 10, 20, dims=shape, types=[HALF] * 3, ext=1),
        traces.launch(15, 11),
        traces.kernel("sm90_xmma_gemm_bf16", 100, us, 11, ext=1, block=[128, 1, 1], **{"shared memory": 200_000}),
    )


def test_low_occupancy_fine(tmp_path: Path) -> None:
    found = check(low_occupancy_fine(product(tmp_path, 200)), "low_occupancy_fine", occupancy=100 * 128 / 2048, kernels=1)
    (reached,) = [f.figure.value for f in found.facts if "reached" in f.name]
    assert reached == pytest.approx(100 * 2 * 4096**3 / 989.4e6 / 200, rel=1e-3)
    assert (found.level, found.saving) == ("note", None)
    assert low_occupancy_fine(product(tmp_path, 400)) is None  # 35 % of its limit: not fine
    a = product(tmp_path, 200)
    small_grid = a.launches.assign(occupancy_theoretical_pct=100.0)
    assert low_occupancy_fine(replace(a, launches=small_grid)) is None  # its own needs do not keep it low


def depthwise(a: Analysis, us: float) -> Analysis:
    """Return ``a`` as one depthwise kernel per step of 100 MB, of which the access model sees 67 MB go to DRAM."""
    rows = a.launches[a.launches["step"].ge(0)].groupby("step").head(1)
    return replace(
        a, launches=rows.assign(kind="depthwise", bytes_compulsory=100e6, bytes_dram_low=67e6, exclusive_us=us, floor_us=1.0)
    )


def test_depthwise_at_dram(held: Analysis) -> None:
    # 67 MB in 25 us are 2680 GB/s, 80 % of 3350
    check(
        depthwise_at_dram(replace(depthwise(held, 25.0), latency=None, totals=replace(held.totals, wall_us=3000.0))),
        "depthwise_at_dram", time_of_depthwise=25, bytes_that=67e6, bandwidth_that=2680, share_of=80,
    )  # fmt: skip
    slow = replace(depthwise(held, 50.0), latency=None, totals=replace(held.totals, wall_us=3000.0))
    assert depthwise_at_dram(slow) is None


def test_l2_resident(held: Analysis) -> None:
    access = replace(access_results.vit(), own=access_results.DEVICES[0])
    # half of 50 MiB; the outputs of 38.7 MB do not fit, 1200 of 4000 us
    found = check(
        l2_resident(replace(held, access=access)), "l2_resident",
        cache=25 * 2**20, largest_output=38.7e6, output_per=38.7e6 / 32, time_in=70, largest_batch=21,
    )  # fmt: skip
    assert "would fit at a batch of ≈ 21" in found.claim
    small = replace(access_results.DEVICES[0], capacity_bytes=2 * 2**20)
    assert l2_resident(replace(held, access=replace(access, own=small))) is None


def test_memory_peak_from_events(held: Analysis) -> None:
    rows = [("blocks.3.mlp", "aten::addmm", 600e6, 2), ("", "aten::gelu", 100e6, 1)]
    blocks = pd.DataFrame(rows, columns=["module", "op", "bytes", "blocks"])
    empty = pd.DataFrame(columns=["time_ns", "allocated_bytes", "reserved_bytes"])
    profile = MemoryProfile("0", empty, True, held.steps[0][1] + 5, 2e9, blocks, 1e9, 1e9)
    found = check(
        memory_peak(replace(held, memory=(profile,))), "memory_peak", bytes_of_one=600e6, blocks=2, share=60, peak=2e9
    )
    assert "“aten::addmm” in “blocks.3.mlp”" in found.claim
    assert "Splitting its work" in found.claim
    assert found.title == "One operator holds much of the memory that comes and goes in a step"
    assert "above what" not in found.claim
    relative = check(memory_peak(replace(held, memory=(replace(profile, is_absolute=False),))), "memory_peak")
    assert "above what was held before the recording" in relative.claim
    # 700 MB held at the peak, of which 500 MB came and went: 200 MB are older, and may be the operator's weights
    older = check(memory_peak(replace(held, memory=(replace(profile, transient_bytes=500e6),))), "memory_peak", share=80)
    assert "at least 80 % of the" in older.claim
    weights = replace(profile, transient_bytes=150e6)
    assert memory_peak(replace(held, memory=(weights,))) is None
    assert memory_peak(replace(held, memory=(profile,), steps=())) is None  # nothing tells what stays
    many = replace(profile, at_peak=blocks.assign(bytes=200e6))
    assert memory_peak(replace(held, memory=(many,))) is None
    # the hidden tensor of a perceptron beside its input: how any model runs
    assert memory_peak(replace(held, memory=(replace(profile, at_peak=blocks.assign(bytes=440e6)),))) is None


def workspace(held: Analysis, steps: list[float], moved: float) -> Finding | None:
    """Apply the rule to a layer that holds 84 MB in two blocks, after ``steps`` of the curve; its call moves ``moved`` bytes."""
    at_peak = pd.DataFrame([("fc1", "aten::addmm", 84e6, 2)], columns=["module", "op", "bytes", "blocks"])
    level = 100e6 + np.cumsum(steps)
    curve = pd.DataFrame({"time_ns": np.arange(len(level)), "allocated_bytes": level, "reserved_bytes": np.nan})
    profile = MemoryProfile("GPU 0", curve, True, held.steps[0][1] + 5, 260e6, at_peak, 1e8, 90e6)
    # the call launches two kernels, each with half of its bytes
    rows = held.launches.head(2).assign(op="aten::addmm", module="fc1", owner=7, bytes_compulsory=moved / 2)
    return memory_peak(replace(held, memory=(profile,), launches=rows))


def test_a_block_larger_than_its_tensors_is_a_workspace(held: Analysis) -> None:
    steps = [0, 80e6, 1e6, -80e6, -1e6, 80e6, 4e6, -84e6, 200e6]
    found = check(
        workspace(held, steps, 11e6),
        "memory_peak",
        largest_block=80e6,
        blocks_of_that_size=2,
        a_call_must=11e6,
        share=100 * 84 / 90,
    )
    assert "workspace" in found.title
    assert "Splitting" not in found.claim
    for other in (workspace(held, steps, 90e6), workspace(held, [0.0], 11e6), workspace(held, steps, math.nan)):
        assert "Splitting" in check(other, "memory_peak").claim


def test_memory_peak_from_written_scores(held: Analysis) -> None:
    # scores of 1665 MB against a recorded peak of 2.4 GB
    found = check(
        memory_peak(replace(held, access=access_results.written(), memory=())), "memory_peak", share=100 * 1665 / 2400
    )
    assert found.target == "access"
    assert memory_peak(replace(held, access=access_results.vit(), memory=())) is None


def test_power_cap(held: Analysis) -> None:
    found = check(
        power_cap(held), "power_cap",
        timed_samples=100 * 19 / 61, while_held=1780, highest_SM=1980, power_limit=500, default_limit=700, against=100 * 500 / 700,
    )  # fmt: skip
    assert found.saving is not None
    assert found.saving.high == pytest.approx(19 / 61 * held.totals.busy_us / 3 * (1 - 1780 / 1980))
    full = msgspec.structs.replace(held.device, power_limit_w=700.0)
    free = held.samples.assign(clock_event_reasons=0.0)
    assert power_cap(replace(held, device=full, samples=free)) is None
    lowered = check(power_cap(replace(held, samples=free)), "power_cap", power_limit=500)
    assert (lowered.level, lowered.saving) == ("note", None)


def test_thermal_throttle(held: Analysis) -> None:
    hot = held.samples.assign(clock_event_reasons=held.samples["clock_event_reasons"].replace(4.0, float(0x40)))
    # sample 79 is the last one held: 48 + 7.9 degrees
    check(
        thermal_throttle(replace(held, samples=hot)), "thermal_throttle",
        timed_samples=100 * 19 / 61, while_held=1780, highest_temperature=55.9,
    )  # fmt: skip
    assert thermal_throttle(held) is None


def test_unstable_clocks(held: Analysis) -> None:
    check(
        unstable_clocks(held), "unstable_clocks", low_end=1780, median=1980, high_end=1980, range=100 * 200 / 1980, samples=61
    )
    assert unstable_clocks(replace(held, samples=held.samples.assign(sm_clock_mhz=1980.0))) is None


def test_unsteady_latency(held: Analysis) -> None:
    run = (1.0,) * 5 + (1.05,) * 5 + (1.1,) * 5
    drifting = replace(held.latency, samples=(run, run), spread_pct=4.0)
    check(unsteady_latency(replace(held, latency=drifting)), "unsteady_latency", first_thirds=1.0, last_thirds=1.1, drift=10)
    wide = replace(held.latency, spread_pct=30.0)
    found = check(unsteady_latency(replace(held, latency=wide)), "unsteady_latency", spread=30, iterations=120)
    assert "first third" not in found.claim
    assert found.disproof.endswith("spreads as much.")
    assert unsteady_latency(held) is None
    assert unsteady_latency(replace(held, latency=None)) is None


def test_the_ends_of_a_saving_are_not_swapped(held: Analysis) -> None:
    # a model asks for 50 us where 30 were measured
    found = saving(held, 50.0, 30.0, 100.0)
    assert (found.low, found.value, found.high) == (30, 30, 30)
    assert (saving(held, 10.0, -5.0, 100.0).low, saving(held, 10.0, -5.0, 100.0).high) == (0, 0)


def test_processor_dispatch(tmp_path: Path, held: Analysis) -> None:
    # 200 us of addmm with its copy and 100 us of gelu in a step of 1000 us
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.cpu_step(), gpu=False)))
    found = check(processor_dispatch(a), "processor_dispatch", share=70, time_between=700, operators_that=3)
    assert found.saving is not None
    assert found.saving.high == pytest.approx(700)
    assert processor_dispatch(held) is None


def test_processor_dispatch_promises_no_more_than_the_untraced_step_leaves(cpu: Analysis) -> None:
    # three traced steps of 1000 us with operators for 900 us
    totals = replace(cpu.totals, wall_us=3000.0, busy_us=2700.0, idle_us=300.0)

    def dispatch(untraced_ms: float) -> Finding | None:
        latency = replace(cpu.latency, median_ms=replace(cpu.latency.median_ms, value=untraced_ms))
        return processor_dispatch(replace(cpu, totals=totals, latency=latency))

    found = check(
        dispatch(0.94), "processor_dispatch", share_of_the_traced=10, untraced_time=40, share_of_the_untraced=100 * 40 / 940
    )
    assert found.saving is not None
    assert (found.saving.low, found.saving.high) == (0, pytest.approx(40))
    assert "Without the profiler a step leaves" in found.claim
    assert dispatch(0.89) is None  # the operators fill it
    disturbed = check(dispatch(1.5), "processor_dispatch", time_between=100)
    assert disturbed.saving is not None
    assert disturbed.saving.high == pytest.approx(100)
    assert "Without the profiler" not in disturbed.claim


def test_no_words_of_a_gpu_on_a_processor(cpu: Analysis) -> None:
    own = replace(access_results.DEVICES[0], partitions=1)
    a = replace(cpu, access=replace(access_results.vit(), own=own))
    found = check(l2_resident(a), "l2_resident", largest_output_of_an_operator=38.7e6)
    assert "data between operators fits the last-level cache" in found.title
    totals = replace(cpu.totals, wall_us=3000.0, busy_us=2000.0, idle_us=1000.0)
    waiting: Any = SimpleNamespace(steps=pd.DataFrame({"step": [1], "dataloader_us": [9e3]}))
    layout = cpu.launches.assign(kind="layout", op="aten::copy_", owner_op="aten::contiguous")
    every = [*find(a), *find(replace(cpu, totals=totals, latency=None, host=waiting, launches=layout))]
    assert {"l2_resident", "data_loading", "processor_dispatch", "layout_conversions"} <= {one.rule for one in every}
    for one in every:
        check_prose(one)
        texts = (one.title, one.claim, one.disproof, *(f.name for f in one.facts))
        assert not re.search(r"kernel|GPU|\bL2\b", " ".join(texts)), one


def test_processor_cores(cpu: Analysis) -> None:
    found = check(
        processor_cores(replace(cpu, samples=cpu.samples.assign(cpu_pct=120.0))), "processor_cores",
        cores=2, threads=2, kept_busy=1.2,
    )  # fmt: skip
    assert found.saving is not None
    assert found.saving.high == pytest.approx(0.4 * found.step_us)
    assert processor_cores(replace(cpu, samples=cpu.samples.assign(cpu_pct=190.0))) is None


def test_processor_format(cpu: Analysis) -> None:
    flop, us = 2 * 6304 * 768 * 2304, 95.25 * 1.025  # the mean of six blocks, each one per cent longer
    found = check(
        processor_format(cpu), "processor_format",
        rate=flop / us / 1e6, measured_ceiling=900, share=100 * flop / us / 1e6 / 900, time_of=6 * us,
    )  # fmt: skip
    assert found.saving is not None
    assert found.saving.high == pytest.approx(6 * (us - flop / 900e6), rel=1e-5)
    assert processor_format(replace(cpu, dtype="float32")) is None


@pytest.mark.parametrize(
    ("ceilings", "told", "untold"),
    [
        ({"bfloat16": 900.0}, "So the format is not what is slow", "no fast path"),
        ({"float32": 900.0}, "Either the processor has no fast path for bfloat16", "So the processor"),
        ({"float32": 900.0, "bfloat16": 800.0}, "the format alone does not explain it", "no fast path"),
        ({"float32": 900.0, "bfloat16": 250.0}, "So the processor has no fast path for this format", "Either"),
    ],
)
def test_what_a_slow_format_is_put_down_to(cpu: Analysis, ceilings: dict[str, float], told: str, untold: str) -> None:
    facts = cpu.run.facts
    assert facts is not None
    one = next(c for c in facts.ceilings if c.name == "matmul")
    given = tuple(msgspec.structs.replace(one, dtype=dtype, value=value) for dtype, value in ceilings.items())
    run = msgspec.structs.replace(cpu.run, facts=msgspec.structs.replace(facts, ceilings=given))
    found = check(processor_format(replace(cpu, run=run)), "processor_format")
    assert told in found.claim
    assert untold not in found.claim


def test_public_traces_tell_only_facts(public_traces: Path) -> None:
    fired: set[str] = set()
    for path in sorted(public_traces.glob("*.json.gz")):
        a = analyze(path)
        for found in find(a):
            assert found.run == a.run.name
            check_prose(found)
            fired.add(found.rule)
    assert {"padded_sequence", "low_occupancy_fine", "l2_resident", "pageable_copies"} <= fired


def test_no_rule_fails_without_figures(held: Analysis) -> None:
    """Nothing is known: no telemetry, no access model, no limits, no latency, no launches."""
    a = replace(
        held, samples=held.samples.head(0), access=None, limits=(), latency=None, launches=held.launches.head(0),
        kernels=held.kernels.head(0), run=msgspec.structs.replace(held.run, facts=None), memory=(), host=None,
        totals=replace(held.totals, kernel_time_us=0.0, busy_us=0.0, copy_only_us=0.0, kernel_count=0),
    )  # fmt: skip
    for found in find(a):
        check_prose(found)
        assert not np.isnan(found.step_us)
