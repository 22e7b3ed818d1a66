"""The figures of one point, and how ratios and rates turn round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analyzer.insight.crossover.draws import Draws, ratio
from analyzer.insight.crossover.figures import images_per_second, point_figures
from analyzer.insight.crossover.grid import grid
from analyzer.insight.crossover.headline import longer
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.sweep import Point, Sweep
from tests.insight.test_crossover import of_ratios
from tests.report.crossover_points import around, record, setting, timed


def test_longer_turns_a_ratio_so_that_it_is_one_or_more() -> None:
    (contest,) = of_ratios({224: 0.8}).tracks[0].contests
    slow, fast, shown = longer(contest)
    assert (slow, fast) == (1, 0)
    assert shown.value == pytest.approx(1.25)
    assert contest.ratio is not None
    assert shown.low == pytest.approx(1 / (contest.ratio.high or 0))


def test_a_ratio_needs_two_times() -> None:
    places = grid(Sweep("", (timed(setting(), around(5)), Point(record(setting("cnn"), "failed")))))
    with pytest.raises(ValueError, match="two times"):
        ratio(places.entries[0], places.entries[1], Draws())


def test_images_per_second_turns_the_interval_round() -> None:
    rate = images_per_second(Quantity(20.0, "ms", Evidence.MEASURED, 10.0, 40.0), 4)
    assert (rate.value, rate.low, rate.high) == (200.0, 100.0, 400.0)
    assert images_per_second(Quantity.missing("ms", "why"), 4).source == "why"
    assert images_per_second(Quantity(1.0, "ms", Evidence.MEASURED), None).value is None


@pytest.mark.parametrize("price", [None, 2.0])
def test_the_figures_of_a_point(price: float | None, tmp_path: Any) -> None:
    from analyzer.analysis import analyze
    from analyzer.insight.digest import digest
    from tests.report.synthetic import Fake, write_run

    made = digest(analyze(write_run(tmp_path, Fake(latency_ms=5.0))))
    shown = point_figures(made, price)
    batch = made.batch_size or 0
    assert made.latency is not None
    assert shown.images_per_s.value == pytest.approx(1e3 * batch / made.latency.median_ms.value)
    assert shown.flop.value == pytest.approx(made.totals.flop / (made.batches or 0) / batch)
    assert shown.flop.evidence is Evidence.MODELLED
    assert shown.samples == made.latency.samples
    if price is None:
        assert shown.images_per_price.value is None
        assert "price=" in shown.images_per_price.source
    else:
        assert shown.images_per_price.value == pytest.approx((shown.images_per_s.value or 0) * 1800)
    no_time = point_figures(replace(made, latency=None), price)
    assert no_time.images_per_s.value is None
    assert no_time.images_per_price.value is None
