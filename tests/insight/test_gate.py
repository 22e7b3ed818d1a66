"""The gate's arithmetic: intervals by hand, decisions at their borders, pairing, and who is named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.insight.gate import hold_against
from analyzer.insight.gate.decide import decide, margin_pct
from analyzer.insight.gate.estimate import Estimate, Part, Ratio, class_time, ratio, robust_deviation, whole_latency
from analyzer.insight.gate.pairing import conditions_of, pair
from analyzer.metrics.student import quantile, upper_tail
from analyzer.schema.gate import Gate, GateGroup, GateRun

CONDITIONS = (("batch size", "1"), ("image size", "64 px"), ("element type", "float32"), ("layout", "contiguous"))
SURROUNDINGS = (("device", "H100"), ("torch", "2.13.0"))


def group(kind: str, us: float, *, op: str = "", shapes: str = "8x8", module: str = "head", steps: int = 5) -> GateGroup:
    return GateGroup(kind, op or kind, shapes, "float32", module, us, (us,) * steps)


def run(
    *groups: GateGroup, ms: float = 1.0, model: str = "vit", name: str = "run", processes: int = 3, **more: object
) -> GateRun:
    samples = ((ms,) * 12,) * processes
    return replace(GateRun(name, model, model, CONDITIONS, SURROUNDINGS, samples, groups), **more)  # type: ignore[arg-type]


def steady(scale: float = 1.0, conv: float = 1.0) -> GateRun:
    """Return a run without any spread: 1000 us of latency, 600 of matmul, 300 of convolution, 100 of pointwise."""
    groups = group("matmul", 600 * scale), group("convolution", 300 * scale * conv), group("pointwise", 100 * scale)
    return run(*groups, ms=scale * (1 + 0.3 * (conv - 1)))


def bare(*groups: GateGroup, name: str = "trace") -> GateRun:
    return GateRun(name, name, "", (), (("device", "H100"),), (), groups)


def states(gate: Gate) -> dict[str, str]:
    return {row.name: row.state for row in gate.models[0].rows}


# --- Student's t: tables of Abramowitz and Stegun 26.10


@pytest.mark.parametrize(
    ("tail", "freedom", "value"),
    [(0.025, 1, 12.706), (0.025, 4, 2.776), (0.025, 10, 2.228), (0.005, 3, 5.841), (0.0005, 5, 6.869), (0.025, 120, 1.980)],
)
def test_quantiles_are_those_of_the_tables(tail: float, freedom: float, value: float) -> None:
    assert quantile(tail, freedom) == pytest.approx(value, abs=6e-4)


def test_quantiles_without_limit_are_normal_and_the_tail_is_half_at_zero() -> None:
    assert quantile(0.025, math.inf) == pytest.approx(1.959964, abs=1e-6)
    assert upper_tail(0.0, 7) == 0.5
    # one degree of freedom is Cauchy's distribution: 1/2 - atan(t)/pi
    assert upper_tail(3.0, 1) == pytest.approx(0.5 - math.atan(3.0) / math.pi, rel=1e-12)


@given(st.floats(1e-5, 0.4), st.floats(1, 500))
def test_a_quantile_is_the_inverse_of_the_tail(tail: float, freedom: float) -> None:
    assert upper_tail(quantile(tail, freedom), freedom) == pytest.approx(tail, rel=1e-6)


# --- intervals


def estimates(*logs: float) -> list[Estimate]:
    return [Estimate(100 * math.exp(log)) for log in logs]


def test_an_interval_from_runs_by_hand() -> None:
    # both sides: squares 2e-4 each, 4 degrees -> pooled 1e-4; times (1/3 + 1/3) -> 6.6667e-5, and 2 * 0.005**2 = 5e-5 more.
    # Welch: (1.16667e-4)**2 / (6.6667e-5**2 / 4) = 12.25 degrees; t(0.025, 12.25) = 2.1740; half = 2.1740 * 0.0108012 = 0.023482
    found = ratio(estimates(0.0, 0.01, 0.02), estimates(0.1, 0.11, 0.12), tests=1)
    assert found.measured
    assert found.value == pytest.approx(math.exp(0.1))
    assert found.low == pytest.approx(math.exp(0.1 - 0.023482), rel=2e-5)
    assert found.high == pytest.approx(math.exp(0.1 + 0.023482), rel=2e-5)


def test_an_interval_from_inside_single_runs_by_hand() -> None:
    # bare traces: 2 % a side is assumed: 1.959964 * sqrt(2) * 0.02 = 0.055436
    parts = (Part(0.02**2, math.inf),)
    found = ratio([Estimate(100, parts)], [Estimate(100, parts)], tests=1)
    assert not found.measured
    assert (found.low, found.high) == pytest.approx((math.exp(-0.055436), math.exp(0.055436)), rel=1e-5)


def test_more_ratios_together_make_each_interval_wider() -> None:
    one, ten = (ratio(estimates(0, 0.01, 0.02), estimates(0, 0.01, 0.02), tests) for tests in (1, 10))
    assert (ten.low or 0) < (one.low or 0) < 1


def test_runs_that_differ_more_than_they_say_inside_are_believed() -> None:
    parts = (Part(0.01**2, math.inf),)
    alike = ratio([Estimate(100, parts)] * 2, [Estimate(100, parts)] * 2, 1)
    apart = ratio([Estimate(100, parts), Estimate(150, parts)], [Estimate(100, parts), Estimate(150, parts)], 1)
    assert (apart.high or 0) > 2 > (alike.high or 9)


def test_the_latency_is_the_median_over_processes_of_the_tenth_percentile() -> None:
    process = tuple(float(value) for value in range(10, 21))  # 10 to 20 ms: the tenth percentile is 11
    found = whole_latency(replace(run(), samples=(process, tuple(2 * v for v in process), tuple(3 * v for v in process))))
    assert found.us == pytest.approx(22_000)


def test_a_class_is_the_sum_of_its_operators_tenth_percentiles() -> None:
    steps = tuple(float(value) for value in range(100, 111))  # 101
    one, two = replace(group("matmul", 105), step_us=steps), replace(group("matmul", 50), step_us=(50.0,) * 11)
    assert class_time(run(one, two), [one, two]).us == pytest.approx(151)


def test_a_quarter_of_the_time_has_twice_the_relative_deviation() -> None:
    # processes at 1.00, 1.02 and 1.04 ms; nothing varies within them or from step to step
    groups = group("matmul", 75), group("attention", 25)
    noisy = replace(run(*groups), samples=((1.0,) * 12, (1.02,) * 12, (1.04,) * 12))
    whole, part = (sum(p.variance for p in class_time(noisy, found).parts) - 1e-4 for found in (groups, groups[1:]))
    assert part == pytest.approx(4 * whole, rel=1e-9)
    assert whole == pytest.approx(0.0196**2, rel=0.02)


def test_the_spread_is_robust_against_one_outlier() -> None:
    assert robust_deviation([100, 101, 102, 103, 10_000]) == pytest.approx(math.log(103 / 101) / 1.349)
    assert robust_deviation([1.0, 2.0]) == 0


# --- decisions


@pytest.mark.parametrize(
    ("value", "low", "high", "state"),
    [
        (1.10, 1.02, 1.18, "regression"),
        (1.05, 1.001, 1.09, "regression"),
        (1.10, 0.99, 1.22, "cannot tell"),
        (1.04, 1.01, 1.07, "cannot tell"),
        (1.03, 1.01, 1.05, "no change"),
        (1.00, 0.96, 1.04, "no change"),
        (1.00, 0.90, 1.10, "cannot tell"),
        (0.90, 0.82, 0.98, "improved"),
        (0.97, 0.955, 0.99, "no change"),
        (3.00, None, None, "cannot tell"),
    ],
)
def test_a_decision_at_five_percent(value: float, low: float | None, high: float | None, state: str) -> None:
    found, why = decide(Ratio(value, low, high, True), 5.0)
    assert found == state
    assert bool(why) == (state == "cannot tell")


@pytest.mark.parametrize("way", [0.0, 2.0])
def test_a_change_that_counts_exactly_does_so_however_it_was_rounded(way: float) -> None:
    edge = math.nextafter(1.05, way)
    assert decide(Ratio(edge, 1.01, 1.09, True), 5.0)[0] == "regression"
    assert decide(Ratio(1 / edge, 1 / 1.09, 1 / 1.01, True), 5.0)[0] == "improved"
    assert decide(Ratio(1.0, 1 / edge, edge, True), 5.0)[0] == "no change"


def test_a_small_class_must_change_by_half_a_percent_of_the_model() -> None:
    assert margin_pct(50.0, 5.0) == 5.0
    assert margin_pct(2.0, 5.0) == 25.0


# --- whole gates


def test_the_same_run_twice_is_no_change() -> None:
    gate = hold_against([steady()], [steady()], 5.0)
    assert set(states(gate).values()) == {"no change"}
    assert not gate.failed
    assert not gate.not_told
    assert gate.headline == "No regression in 1 model"


def test_a_slower_class_is_a_regression_and_named() -> None:
    gate = hold_against([steady(conv=1.2)], [steady()], 5.0)
    found = states(gate)
    assert (found["convolution"], found["matmul"], found["pointwise"]) == ("regression", "no change", "no change")
    assert gate.failed
    assert gate.headline.startswith("Regression in vit")
    assert "convolution takes 1.20x as long" in gate.reason


def test_the_operator_and_its_modules_are_named_with_both_times() -> None:
    def built(slow: float) -> GateRun:
        blocks = [group("pointwise", 50 * (slow if n == 7 else 1), op="gelu", module=f"blocks.{n}.act") for n in range(8)]
        return run(group("matmul", 500), *blocks, group("pointwise", 100, op="add"))

    gate = hold_against([built(2.0)], [built(1.0)], 5.0)
    row = next(row for row in gate.models[0].rows if row.name == "pointwise")
    assert row.state == "regression"
    [operator] = row.responsible
    assert (operator.op, operator.shapes, operator.module_count) == ("gelu", "8x8", 8)
    assert operator.modules[0] == "blocks.7.act"
    assert (operator.old_us, operator.new_us) == pytest.approx((400, 450))


def test_noise_wider_than_the_effect_cannot_be_told() -> None:
    noisy = replace(steady(), samples=((1.0,) * 12, (1.3,) * 12, (1.6,) * 12))
    gate = hold_against([replace(steady(conv=1.1), samples=noisy.samples)], [noisy], 5.0)
    assert set(states(gate).values()) == {"cannot tell"}
    assert not gate.failed
    assert len(gate.not_told) == 4
    assert "has to exceed" in gate.not_told[0]


def test_a_class_on_one_side_alone_is_added_or_removed_and_no_failure() -> None:
    old = run(group("matmul", 900), group("normalisation", 100))
    new = run(group("matmul", 900), group("pointwise", 100))
    gate = hold_against([new], [old], 5.0)
    assert states(gate) == {
        "whole model": "no change", "matmul": "no change", "normalisation": "removed", "pointwise": "added",
    }  # fmt: skip
    assert not gate.failed


def test_a_class_under_one_percent_is_not_judged() -> None:
    old, new = (run(group("matmul", 1000), group("view", us)) for us in (5, 9))
    gate = hold_against([new], [old], 5.0)
    assert "view" not in states(gate)
    assert gate.models[0].unjudged == ("view",)


def test_other_software_is_said_and_counts_as_not_told() -> None:
    new = replace(steady(), surroundings=(("device", "H100"), ("torch", "2.14.0")))
    gate = hold_against([new], [steady()], 5.0)
    assert gate.models[0].differences == ("torch: 2.13.0 before, 2.14.0 now",)
    assert any("torch: 2.13.0 before" in text for text in gate.not_told)


def test_a_missing_model_is_said() -> None:
    gate = hold_against([steady()], [steady(), run(group("matmul", 10), model="cnn")], 5.0)
    assert gate.missing == ("cnn (batch 1, 64 px, float32)",)
    assert gate.headline == "No regression in 1 model; 1 model has no new run"
    assert gate.not_told == ("cnn (batch 1, 64 px, float32) has no new run",)


def test_bare_traces_are_judged_on_kernel_time_alone() -> None:
    gate = hold_against([bare(group("matmul", 120), name="b")], [bare(group("matmul", 100), name="a")], 5.0)
    assert states(gate) == {"all kernels": "regression", "matmul": "regression"}
    assert gate.models[0].basis.startswith("kernel time alone")
    assert gate.models[0].label == "b against a"


def test_bare_traces_of_other_models_are_not_held_against_each_other() -> None:
    gate = hold_against([bare(group("matmul", 120, shapes="9x9"))], [bare(group("matmul", 100))], 5.0)
    assert set(states(gate).values()) == {"cannot tell"}
    assert "do not run one model" in gate.not_told[0]


def test_a_whole_trace_is_not_held_against_a_batch() -> None:
    gate = hold_against([replace(bare(group("matmul", 120)), per_batch=False)], [bare(group("matmul", 100))], 5.0)
    assert set(states(gate).values()) == {"cannot tell"}


def test_a_side_without_kernels_cannot_be_told() -> None:
    gate = hold_against([bare()], [bare(group("matmul", 100))], 5.0)
    assert states(gate)["all kernels"] == "cannot tell"
    assert gate.models[0].rows[0].ratio.value is None


# --- pairing


def test_settings_tell_models_apart_and_older_runs_mean_the_presets() -> None:
    older = replace(steady(), conditions=CONDITIONS[:3])
    assert len(pair([older], [steady()]).pairs) == 1
    other = replace(steady(), conditions=(*CONDITIONS[:3], ("layout", "channels_last")))
    found = pair([steady()], [steady(), other])
    assert (len(found.pairs), len(found.extra), len(found.missing)) == (1, 1, 0)
    assert conditions_of(other) == "batch 1, 64 px, float32, layout channels_last"


def test_several_runs_of_one_model_are_repeats() -> None:
    [sides] = pair([steady()] * 3, [steady()] * 2).pairs
    assert (len(sides.old), len(sides.new)) == (3, 2)


def test_nothing_in_common_is_an_error_with_a_hint() -> None:
    with pytest.raises(
        ConfigError, match=r"no model of the baseline has a new run: it has vit .* the new runs have cnn"
    ) as error:
        pair([steady()], [run(model="cnn")])
    assert "same batch size" in error.value.hint


def test_several_bare_traces_on_a_side_are_refused() -> None:
    with pytest.raises(ConfigError, match="several bare traces"):
        pair([bare(), bare()], [bare()])


# --- properties

FACTORS = st.floats(0.5, 2.0)
NOISE = st.lists(st.floats(0.9, 1.1), min_size=3, max_size=3)


def noisy(conv: float, noise: list[float]) -> GateRun:
    return replace(steady(conv=conv), samples=tuple((factor * (0.7 + 0.3 * conv),) * 12 for factor in noise))


OPPOSITE = {"regression": "improved", "improved": "regression", "no change": "no change", "cannot tell": "cannot tell"}


@settings(deadline=None, max_examples=50)
@given(FACTORS, NOISE, NOISE)
def test_swapping_the_sides_swaps_regression_and_improvement(conv: float, first: list[float], second: list[float]) -> None:
    one, two = noisy(1.0, first), noisy(conv, second)
    forth, back = states(hold_against([two], [one], 5.0)), states(hold_against([one], [two], 5.0))
    assert {name: OPPOSITE[state] for name, state in forth.items()} == back


@settings(deadline=None, max_examples=50)
@given(FACTORS, NOISE, st.floats(0.01, 100))
@example(1.05, [1.0, 1.0, 1.0], 1 / 64)
def test_another_unit_of_time_changes_no_decision(conv: float, noise: list[float], scale: float) -> None:
    def scaled(found: GateRun) -> GateRun:
        groups = (replace(g, time_us=g.time_us * scale, step_us=tuple(us * scale for us in g.step_us)) for g in found.groups)
        samples = tuple(tuple(ms * scale for ms in process) for process in found.samples)
        return replace(found, groups=tuple(groups), samples=samples)

    one, two = noisy(1.0, noise), noisy(conv, noise)
    assert states(hold_against([scaled(two)], [scaled(one)], 5.0)) == states(hold_against([two], [one], 5.0))
