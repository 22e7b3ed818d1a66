"""One ratio of two runs has one interval, whichever task shows it: held together on a recorded pair."""

from __future__ import annotations

import pytest

from analyzer.analysis import compare, digests
from analyzer.insight.comparison import compare_runs
from analyzer.insight.crossover.figures import point_figures
from analyzer.insight.crossover.reading import record_of
from analyzer.insight.crossover.result import crossover
from analyzer.schema.comparison import Comparison
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Quantity
from analyzer.schema.results import Study
from analyzer.schema.sweep import Point, Sweep
from tests.conftest import ROOT

WHERE = ROOT / "traces" / "reference" / "amd_epyc"
PAIR = (WHERE / "vit_tiny-224-b1-float32", WHERE / "resnet18-224-b1-float32")
EAGER, MATH = PAIR[0], WHERE / "vit_tiny-224-b1-float32-math"
"""Two runs of one model."""


def ends(found: Quantity | None) -> tuple[float, float, float]:
    assert found is not None
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return found.value, found.low, found.high


def turned(found: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = found
    return 1 / value, 1 / high, 1 / low


@pytest.fixture(scope="module")
def study() -> Study:
    return compare(*PAIR)


@pytest.fixture(scope="module")
def runs() -> list[Digest]:
    return list(digests(list(PAIR)))


@pytest.fixture(scope="module")
def both_ways(runs: list[Digest]) -> tuple[Comparison, Comparison]:
    return compare_runs(runs, 0), compare_runs(runs, 1)


def test_report_and_compare(study: Study, both_ways: tuple[Comparison, Comparison]) -> None:
    for comparison in both_ways:
        (move,) = comparison.moves
        assert ends(move.ratio) == ends(study.ratio)


def test_report_and_crossover(study: Study, runs: list[Digest]) -> None:
    points = tuple(Point(record_of(run.facts), point_figures(run)) for run in runs if run.facts is not None)
    for order in (points, points[::-1]):
        (track,) = crossover(Sweep("", order)).tracks
        (contest,) = track.contests
        assert ends(contest.ratio) == ends(study.ratio)


def test_the_gap_of_a_report_has_the_interval_of_its_ratio(study: Study) -> None:
    value, low, high = ends(study.ratio)
    assert study.gap is not None
    second_us = study.gap.second_us
    assert study.gap.total_us == pytest.approx((value - 1) * second_us)
    assert study.gap.interval_us == pytest.approx(((low - 1) * second_us, (high - 1) * second_us))


def test_two_runs_of_one_model() -> None:
    report = ends(compare(EAGER, MATH).ratio)
    for baseline, expected in ((1, report), (0, turned(report))):
        found = compare_runs(list(digests([EAGER, MATH])), baseline)
        (whole,) = [change for change in found.changes if change.name == "time of one batch"]
        (total,) = [gain.speedup for gain in found.gains if gain.role == "total"]
        assert turned(ends(total)) == pytest.approx(expected, rel=1e-4)
        assert tuple(1 + us / whole.first_us for us in ends(whole.delta_us)) == pytest.approx(expected, rel=1e-4)
