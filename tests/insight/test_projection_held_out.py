"""The projection against public latencies that the calibration did not see. Skips where they are not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from analyzer.insight.projection.calibration import shipped
from analyzer.insight.projection.features import Device
from analyzer.insight.projection.fit import Measured, calibrate
from analyzer.insight.projection.scores import GPUS, SHAPES, scores
from benchmarks import projection as bench

Given = tuple[Measured, Mapping[str, Device]]


@pytest.fixture(scope="module")
def given() -> Given:
    if not bench.DATA.is_file():
        pytest.skip("the public latencies are not here: they lie in ../shared/data and are not part of the repository")
    return bench.read(), bench.devices()


def test_sizes_of_calls_by_hand() -> None:
    assert bench.call("linear", "2x3x5x7") == (1, 6, 7, 5, 2 * 6 * 5 * 7, 4 * (30 + 35 + 42 + 7))
    assert bench.call("bmm", "2x3x5x7") == (2, 3, 7, 5, 420, 4 * 2 * (15 + 35 + 21))
    images, channels, out, side = 2, 3, 4, 5
    flop = 2 * images * side * side * out * channels * 9
    moved = 4 * (images * channels * 25 + channels * 9 * out + images * out * 25)
    assert bench.call("conv", "2x3x4x3x5x1x1") == (1, 50, 4, 27, flop, moved)
    assert bench.call("add", "8x16") == (1, 128, 1, 1, 128, 3 * 4 * 128)
    assert bench.call("ln", "8x16") == (1, 8, 16, 1, 128, 2 * 4 * 128)


def test_halves_share_no_shape(given: Given) -> None:
    kept, held = bench.split(given[0])
    for kind in kept:
        one, two = (np.unique(np.concatenate([s.shape for s in half[kind].values()])) for half in (kept, held))
        assert not np.intersect1d(one, two).size
        sizes = [
            {tuple(row) for row in np.concatenate([s.calls for s in half[kind].values()]).round(3)} for half in (kept, held)
        ]
        assert not sizes[0] & sizes[1]  # whatever the operator: the fit sees sizes alone
        assert abs(len(sizes[0]) - len(sizes[1])) <= 1


def test_held_out_shapes_lie_inside_narrow_intervals(given: Given) -> None:
    found = bench.by_shapes(*given)
    whole = bench.summary(found, "kind").iloc[-1]
    assert whole["n"] > 50_000
    assert whole["coverage_pct"] >= 85
    assert whole["half_pct"] <= 35
    told = next(s for s in scores() if (s.held_out, s.title) == (SHAPES, "all"))
    assert (told.n, told.coverage_pct) == (whole["n"], pytest.approx(whole["coverage_pct"], abs=0.2))


def test_held_out_gpus_lie_inside_their_intervals(given: Given) -> None:
    found = bench.by_gpus(*given)
    whole = bench.summary(found, "kind").iloc[-1]
    assert set(found["target"]) == set(given[1])
    assert whole["coverage_pct"] >= 85
    assert whole["half_pct"] <= 35
    told = next(s for s in scores() if (s.held_out, s.title) == (GPUS, "all"))
    assert (told.n, told.half_pct) == (whole["n"], pytest.approx(whole["half_pct"], abs=0.2))


def test_the_shipped_calibration_is_that_of_the_data(given: Given) -> None:
    found, ours = calibrate(*given), shipped()
    for kind, fit in found.fits.items():
        assert fit.n == ours.fits[kind].n
        for key, values in fit.own.items():
            assert values == pytest.approx(ours.fits[kind].own[key], rel=1e-3, abs=1e-4)
    page = bench.DOC.read_text(encoding="utf-8")
    for score in scores():
        assert f"| {score.held_out} | {score.title} | " + f"{score.n:,}".replace(",", " ") in page
