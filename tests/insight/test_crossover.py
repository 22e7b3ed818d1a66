"""Who is faster where, which setting won and where curves cross: against sweeps whose answers are known by hand."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from analyzer.insight.crossover.contests import find_best
from analyzer.insight.crossover.draws import Draws
from analyzer.insight.crossover.grid import grid
from analyzer.insight.crossover.headline import headline, reason, say, say_mismatch, spread
from analyzer.insight.crossover.result import Crossover, crossover
from analyzer.insight.verdict import NO_DIFFERENCE
from analyzer.metrics.timing import draw
from analyzer.schema.run import DeviceFacts
from analyzer.schema.sweep import Point, Sweep
from tests.report.crossover_points import GPU, Lines, around, record, rich, setting, timed

SIZES = (64, 96, 128, 160, 224)


def of_ratios(ratios: dict[int, float], spread: float = 0.001) -> Crossover:
    """Return a sweep in which the ViT takes ``ratios[size]`` as long as the CNN."""
    points = [timed(setting("vit", 1, size), around(10 * r, spread)) for size, r in ratios.items()]
    points += [timed(setting("cnn", 1, size), around(10, spread)) for size in ratios]
    return crossover(Sweep("", tuple(points)))


def test_two_straight_lines_cross_where_they_are_equal() -> None:
    # (s / 64) ** 2 = 2 s / 64 at s = 128, which is not among the sizes
    found = Lines(sizes=(64, 96, 160, 224)).found()
    (track,) = found.tracks
    (crossing,) = track.crossings
    assert crossing.state == "resolved"
    assert crossing.between == (96, 160)
    assert crossing.size_px.value == pytest.approx(128)
    assert crossing.size_px.low is not None
    assert crossing.size_px.high is not None
    assert 127 < crossing.size_px.low <= 128 <= crossing.size_px.high < 129
    assert found.grid.models[crossing.below].name == "ViT-Ti/16"
    assert track.signs == (-1, -1, 1, 1)
    assert headline(found) == (
        "ResNet-18 takes 2.00x as long as ViT-Ti/16 at 64 px, and ViT-Ti/16 1.75x as long at 224 px: they cross between 96 and 160 px, "
        "interpolated at 128 px; batch 1, NVIDIA H100 80GB HBM3, float32"  # both ends of the interval round to 128
    )


def test_a_crossing_at_a_measured_size_is_unresolved() -> None:
    found = Lines(sizes=SIZES).found()
    (crossing,) = found.tracks[0].crossings
    assert (crossing.state, crossing.between) == ("unresolved", (96, 160))
    assert crossing.size_px.value is None
    assert "128 px" in crossing.size_px.source
    assert "they cross somewhere between 96 and 160 px" in headline(found)


def test_several_crossings_are_all_found() -> None:
    found = of_ratios({64: 0.5, 128: 2.0, 256: 0.5, 512: 2.0})
    places = [c.size_px.value for c in found.tracks[0].crossings]
    assert places == pytest.approx([64 * math.sqrt(2), 128 * math.sqrt(2), 256 * math.sqrt(2)])
    assert [c.below for c in found.tracks[0].crossings] == [0, 1, 0]
    assert "they cross 3 times" in headline(found)


def test_no_crossing() -> None:
    found = of_ratios({64: 1.5, 128: 2.0, 256: 3.0})
    assert found.tracks[0].crossings == ()
    assert headline(found).startswith("No crossing within 64 to 256 px: ViT-Ti/16 takes 1.50x to 3.00x as long as ResNet-18;")


def test_no_clear_difference_anywhere() -> None:
    found = of_ratios({64: 1.001, 128: 0.999, 256: 1.002}, spread=0.2)
    assert found.tracks[0].crossings == ()
    assert headline(found).startswith(
        "No clear difference between ViT-Ti/16 and ResNet-18 at any of 3 sizes from 64 to 256 px;"
    )


def test_a_change_of_sides_within_the_spread_is_only_possible() -> None:
    found = of_ratios({64: 0.99, 128: 1.5, 256: 1.6}, spread=0.2)
    (crossing,) = found.tracks[0].crossings
    assert (crossing.state, crossing.between, crossing.below) == ("possible", (64, 128), -1)
    assert "at 128, 256 px; no clear difference at 64 px, so no crossing is established" in headline(found)


def test_touching_without_passing_is_no_crossing() -> None:
    assert of_ratios({64: 1.5, 128: 1.0, 256: 1.6}).tracks[0].crossings == ()
    found = of_ratios({64: 1.5, 128: 0.99, 256: 1.6}, spread=0.1)
    (crossing,) = found.tracks[0].crossings
    assert (crossing.state, crossing.between, crossing.below) == ("possible", (64, 256), -1)


def test_a_crossing_is_not_placed_across_a_size_without_a_time() -> None:
    gone = Point(record(setting("vit", 1, 128), "out_of_memory", reason="no room"))
    found = Lines(sizes=(64, 96, 160, 224), extra=[gone]).found()
    (crossing,) = found.tracks[0].crossings
    assert (crossing.state, crossing.between, crossing.size_px.value) == ("unresolved", (96, 160), None)
    assert "somewhere between 96 and 160 px (there is no time of both at 128 px); ViT-Ti/16 ran out of" in headline(found)
    (lost,) = [c for c in found.tracks[0].contests if c.ratio is None]
    assert (lost.outcome, lost.why) == ("neither", "out of memory / not run")


def test_too_few_iterations_establish_nothing() -> None:
    points = [
        timed(setting(f, 1, s), [t] * 3) for f, s, t in (("vit", 64, 1), ("vit", 128, 9), ("cnn", 64, 3), ("cnn", 128, 3))
    ]
    found = crossover(Sweep("", tuple(points)))
    assert found.tracks[0].signs == (0, 0)
    assert {c.outcome for c in found.tracks[0].contests} == {"too_few"}
    assert headline(found).startswith("Too few iterations to tell ViT-Ti/16 and ResNet-18 apart at any of 2 sizes from 64 to")
    assert found.tracks[0].crossings == ()


def test_one_size_and_one_model_and_nothing() -> None:
    one = of_ratios({224: 1.5})
    assert headline(one).startswith("ViT-Ti/16 takes 1.50x as long as ResNet-18 at 224 px; batch 1")
    alone = crossover(Sweep("", (timed(setting("vit", 4, 224), around(10)),)))
    assert headline(alone) == "ViT-Ti/16 takes 2.50 ms per image at best: 224 px, batch 4, float32, NVIDIA H100 80GB HBM3"
    assert alone.tracks == ()
    assert headline(crossover(Sweep("", ()))) == "None of 0 points has a time"
    failed = crossover(Sweep("", (Point(record(setting(), "failed", reason="x")),), ("a=1",)))
    assert headline(failed) == "None of 2 points has a time"
    assert reason(failed) == "2 points: 1 failed, 1 not run."


@given(scale=st.floats(0.01, 100), crossing=st.floats(70, 210), slopes=st.tuples(st.floats(0.5, 1.5), st.floats(1.7, 3.0)))
@example(1.0, 70.0, (1.5, 1.71875))
def test_the_crossing_lies_where_the_lines_do_at_any_scale(scale: float, crossing: float, slopes: tuple[float, float]) -> None:
    first = scale * (64 / crossing) ** slopes[1]
    second = scale * (64 / crossing) ** slopes[0]
    found = Lines((first, slopes[1]), (second, slopes[0]), sizes=(64, 224), spread=1e-6).found()
    (made,) = found.tracks[0].crossings
    assert made.between == (64, 224)
    apart = min(abs((size / crossing) ** (slopes[1] - slopes[0]) - 1) for size in made.between)
    assume(abs(apart - NO_DIFFERENCE) > 1e-9)  # at the limit itself rounding decides
    if apart < NO_DIFFERENCE:  # a size so close to the crossing that the two are level there: no place is told
        assert (made.state, made.size_px.value) == ("possible", None)
        return
    assert made.state == "resolved"
    assert made.size_px.value == pytest.approx(crossing, rel=1e-6)


@pytest.mark.parametrize(("processes", "between"), [(1, 0.0), (5, 0.02)])
def test_the_interval_covers_the_true_crossing_about_as_often_as_it_says(processes: int, between: float) -> None:
    rng = np.random.default_rng(7)
    tries, hits = 100, 0
    for _ in range(tries):
        points = []
        for family, base, slope in (("vit", 1.0, 2.0), ("cnn", 2.0, 1.0)):
            for size in (96, 160):
                noise = [np.exp(rng.normal(0, between) + rng.normal(0, 0.03, 20)) for _ in range(processes)]
                points.append(timed(setting(family, 1, size), [base * (size / 64) ** slope * times for times in noise]))
        (crossing,) = crossover(Sweep("", tuple(points))).tracks[0].crossings
        assert crossing.size_px.low is not None
        assert crossing.size_px.high is not None
        hits += crossing.size_px.low <= 128 <= crossing.size_px.high
    assert 0.87 <= hits / tries <= 1.0


def test_draws_resample_processes_first() -> None:
    two = ((1.0,) * 10, (2.0,) * 10)
    drawn = draw(two)
    assert {round(float(v), 2) for v in np.unique(drawn)} == {1.0, 1.5, 2.0}
    assert float(np.mean(drawn == 1.0)) == pytest.approx(0.25, abs=0.05)
    assert len(draw(((1.0,) * 10, (2.0,) * 4))) == len(drawn)
    assert np.array_equal(drawn, draw(two))
    assert not np.array_equal(drawn, draw(two, again=1))
    few, many = (grid(Sweep("", (timed(setting(), [1.0] * n),))).entries[0] for n in (9, 10))
    assert Draws().of(few) is None
    found = Draws().of(many)
    assert found is not None
    assert len(found) == len(drawn)


def test_the_best_setting_and_what_it_gains() -> None:
    points = (
        timed(setting("vit", dtype="bfloat16"), around(5)),
        timed(setting("vit", dtype="float32"), around(10)),
        Point(record(setting("vit", dtype="float16"), "unsupported", reason="no float16")),
    )
    places = grid(Sweep("", points))
    (best,) = find_best(places, Draws())
    assert best.best is not None
    assert best.best.variant.dtype == "bfloat16"
    assert best.gain is not None
    assert best.gain.value == pytest.approx(2.0)
    assert best.clear
    assert (len(best.timed), best.untimed) == (2, (("unsupported", 1),))


def test_a_runner_up_within_the_spread_is_no_clear_win() -> None:
    points = (
        timed(setting("vit", attention="flash"), around(5.0, 0.2)),
        timed(setting("vit", attention="math"), around(5.01, 0.2)),
    )
    (best,) = find_best(grid(Sweep("", points)), Draws())
    assert not best.clear


def test_like_for_like_pairs_settings_and_leaves_attention_to_the_vit() -> None:
    points = (
        timed(setting("vit", dtype="bfloat16", attention="flash"), around(5)),
        timed(setting("vit", dtype="float32", attention="math"), around(30)),
        timed(setting("cnn", dtype="bfloat16"), around(10)),
        timed(setting("cnn", dtype="float32"), around(20)),
        timed(setting("cnn", dtype="float16"), around(1)),
    )
    found = crossover(Sweep("", points))
    shown = {(a.dtype, b.dtype): track.timed[0].ratio.value for a, b, track in found.alike if track.timed[0].ratio}
    assert shown == {("bfloat16", "bfloat16"): pytest.approx(0.5), ("float32", "float32"): pytest.approx(1.5)}
    (best,) = found.tracks
    assert best.timed[0].ratio is not None
    assert best.timed[0].ratio.value == pytest.approx(5.0)  # best of both: 5 ms against 1 ms


def test_only_a_model_with_several_settings_had_a_choice() -> None:
    vit = timed(setting("vit", attention="flash"), around(5))
    cnn = timed(setting("cnn"), around(10))
    assert headline(crossover(Sweep("", (vit, cnn)))).endswith("H100 80GB HBM3, float32, attention flash")
    other = timed(setting("cnn", dtype="bfloat16"), around(10))
    assert headline(crossover(Sweep("", (vit, other)))).endswith("each at its own setting")
    assert headline(crossover(Sweep("", (vit, cnn, other)))).endswith("each at its best setting")


def test_two_vits_share_their_implementation_of_attention() -> None:
    points = tuple(
        timed(setting("vit", label=label, attention=attention), around(5))
        for label in ("A", "B")
        for attention in ("flash", "math")
    )
    found = crossover(Sweep("", points))
    assert {(a.attention, b.attention) for a, b, _ in found.alike} == {("flash", "flash"), ("math", "math")}


def test_the_largest_batch_that_fits() -> None:
    points = (
        timed(setting("vit", 8), around(5)),
        timed(setting("vit", 32, dtype="bfloat16"), around(5)),
        Point(record(setting("vit", 32, dtype="float32"), "out_of_memory")),
        Point(record(setting("vit", 64, dtype="bfloat16"), "out_of_memory")),
        Point(record(setting("vit", 64, dtype="float32"), "failed")),
        Point(record(setting("vit", 128), "out_of_memory")),
        timed(setting("cnn", 8), around(5)),
    )
    vit, cnn = crossover(Sweep("", points)).fits
    assert (vit.largest, vit.smallest_failed) == (32, 64)  # the other setting there failed: none has a time
    assert (cnn.largest, cnn.smallest_failed) == (8, None)


def test_too_large_is_out_of_memory_without_a_time_and_ran_is_a_time() -> None:
    refused = Point(record(setting("vit", 32, dtype="float32", attention="flash"), "unsupported"))
    full = Point(record(setting("vit", 32, dtype="bfloat16"), "out_of_memory"))
    gone = Point(record(setting("vit", 16), created_utc=""), None, "the run directory is gone")
    failed = Point(record(setting("cnn", 32), "failed"))
    found = crossover(Sweep("", (timed(setting("vit", 8), around(5)), refused, full, gone, failed)))
    assert [(f.largest, f.smallest_failed) for f in found.fits] == [(8, 32), (None, None)]
    assert [(b.model, b.batch) for b in found.best if b.too_large] == [(0, 32)]
    ran = Point(record(setting("vit", 32), created_utc=""), None, "the run directory is gone")
    assert not any(b.too_large for b in crossover(Sweep("", (full, ran))).best)  # memory sufficed for the one that is gone


@pytest.mark.parametrize(("ratio_at_64", "outcome"), [(0.99, "unclear"), (0.97, "first"), (1.03, "second")])
def test_less_than_two_percent_is_no_sign_however_narrow_the_interval(ratio_at_64: float, outcome: str) -> None:
    (track,) = of_ratios({64: ratio_at_64, 128: 1.5}, spread=1e-5).tracks
    assert track.timed[0].outcome == outcome
    assert track.signs == ({"unclear": 0, "first": -1, "second": 1}[outcome], 1)
    assert [c.state for c in track.crossings] == {"unclear": ["possible"], "first": ["resolved"], "second": []}[outcome]


@pytest.mark.parametrize(
    ("spread", "n", "words"), [(0.9, 21, "Too unsteady to tell"), (0.001, 5, "Too few iterations to tell")]
)
def test_what_cannot_be_told_is_not_called_equal(spread: float, n: int, words: str) -> None:
    points = [timed(setting(f, 1, s), around(10, spread, n)) for f in ("vit", "cnn") for s in (64, 128)]
    assert headline(crossover(Sweep("", tuple(points)))).startswith(f"{words} ViT-Ti/16 and ResNet-18 apart at any of 2 sizes")
    one = crossover(Sweep("", tuple(p for p in points if p.record.setting.image_size == 64)))
    assert headline(one).startswith(f"{words} ViT-Ti/16 and ResNet-18 apart at 64 px")


def test_out_of_memory_at_larger_sizes_is_said_beside_no_crossing() -> None:
    points = [timed(setting("vit", 1, s), around(15)) for s in (64, 128)]
    points += [timed(setting("cnn", 1, s), around(10)) for s in (64, 128, 256)]
    points.append(Point(record(setting("vit", 1, 256), "out_of_memory")))
    points.append(Point(record(setting("vit", 1, 256, attention="flash"), "unsupported")))
    text = headline(crossover(Sweep("", tuple(points))))
    assert text.startswith("No crossing within 64 to 128 px: ViT-Ti/16 takes 1.50x as long as ResNet-18; ViT-Ti/16 ran out of")
    assert "ran out of memory at 256 px; batch 1" in text


def test_models_on_different_devices_are_not_said_to_lack_sizes() -> None:
    other = DeviceFacts(type="cuda", name="NVIDIA A100", vendor="NVIDIA")
    found = crossover(Sweep("", (timed(setting("vit"), around(5)), timed(setting("cnn"), around(5), other))))
    assert headline(found) == "No two of 2 models have a time on the same device at the same batch and image size"


def test_standings_name_no_winner_of_equals_and_every_model_without_a_time() -> None:
    labels = [("A", 10.0, 224), ("B", 10.01, 224), ("C", 20.0, 224), ("D", 5.0, 64)]
    points = [timed(setting("vit", 1, size, label=label), around(ms, 0.05)) for label, ms, size in labels]
    points.append(Point(record(setting("vit", 1, 224, label="E"), "out_of_memory")))
    small, large = crossover(Sweep("", tuple(points))).standings
    assert (small.order, small.gap, small.clear, small.level) == ((3,), None, False, (3,))
    assert (large.order, large.level, large.clear, large.outcome) == ((0, 1, 2), (0, 1), False, "unclear")
    assert large.without == (("not run", (3,)), ("out of memory", (4,)))
    assert large.gap is not None
    assert large.gap.value == pytest.approx(1.001)


def test_the_pairs_are_told_in_turn_beginning_with_that_of_the_headline() -> None:
    points = [timed(setting("vit", b, 64, label=m), around(5 + n)) for n, m in enumerate("ABC") for b in (1, 2, 4)]
    points.append(timed(setting("vit", 2, 128, label="A"), around(5)))
    points.append(timed(setting("vit", 2, 128, label="B"), around(6)))
    found = crossover(Sweep("", tuple(points)))
    told = [(t.first, t.second, t.batch) for t in spread(found.tracks, 4)]
    assert told == [(0, 1, 2), (0, 2, 1), (1, 2, 1), (0, 1, 1)]
    assert "The headline is one of 9 comparisons" in reason(found)
    assert spread((), 4) == []


def test_the_mismatch_of_a_pair() -> None:
    found = of_ratios({64: 1.5, 128: 2.0})
    (mismatch,) = found.mismatches
    assert mismatch.flop_pct == ((64, pytest.approx(100.0)), (128, pytest.approx(100.0)))
    assert mismatch.parameters_pct == pytest.approx(100 * (5.7 / 11.7 - 1))
    assert (
        say_mismatch(mismatch, found)
        == "ViT-Ti/16 has 100 % more FLOP per image at 64 px; 51 % fewer parameters against ResNet-18."
    )


def test_models_and_devices_of_one_name_are_told_apart() -> None:
    small = DeviceFacts(type="cuda", name=GPU.name, vendor="NVIDIA", memory_bytes=40 << 30, sm_count=132)
    points = (
        timed(setting("vit", options={"patch_size": 8}), around(5)),
        timed(setting("vit", options={"patch_size": 16}), around(5)),
        timed(setting("vit", model="other"), around(5)),
        timed(setting("vit"), around(5), small),
    )
    places = grid(Sweep("", points))
    assert [m.name for m in places.models] == [
        "ViT-Ti/16 (patch_size=8)", "ViT-Ti/16 (patch_size=16)", "ViT-Ti/16 (other)", "ViT-Ti/16 (vit-ti/16)",
    ]  # fmt: skip
    assert len(set(places.devices)) == 2
    assert "40 GiB" in places.devices[1]


def test_the_newest_of_two_equal_points_counts() -> None:
    old = timed(setting(), around(5), key="a", created_utc="2026-01-01T00:00:00+00:00")
    new = timed(setting(), around(7), key="b", created_utc="2026-01-02T00:00:00+00:00")
    lost = Point(record(setting(), key="c", created_utc="2026-01-03T00:00:00+00:00"), None, "gone")
    zone = timed(setting(), around(9), key="d", created_utc="2026-01-02T01:00:00+02:00")  # an hour before the newest
    for order in permutations((old, new, lost, zone)):
        places = grid(Sweep("", order))
        assert [e.time_ms for e in places.entries] == [pytest.approx(7)]
        assert places.repeated == 3
    twins = [timed(setting(), around(ms), key="k", run=run) for ms, run in ((5, "run-a"), (6, "run-b"))]
    assert {grid(Sweep("", order)).entries[0].time_ms for order in permutations(twins)} == {6.0}


def test_every_sentence_of_a_rich_sweep_is_one_of_its_own() -> None:
    found = rich()
    assert len(found.tracks) == 8  # two devices, batches 1, 8 and 32 on both, 16 and 64 on one
    # 0.2 r**2.4 = 0.5 r**1.6 at r = 2.5 ** (1 / 0.8)
    true = 128 * 2.5 ** (1 / 0.8)
    for track in found.tracks:
        if track.timed:
            (crossing,) = track.crossings
            assert crossing.size_px.value == pytest.approx(true)
            assert "they cross between 384 and 512 px, interpolated at 402 px (sampling alone: " in say(track, found)
    assert reason(found).startswith("183 points: 144 with a time, 8 out of memory, 28 unsupported, 1 failed, 1 with a run that")
