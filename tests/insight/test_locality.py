"""The sentence on global against local access says what the costs say, whichever way they lie."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from analyzer.insight.locality import against_gap, backend, claim, coverage, span
from analyzer.schema.access import AccessResult
from analyzer.schema.evidence import Evidence
from tests.report.access_results import cnn, cost, shapes_alone, vit, written

VIT, CNN = "ViT-B/16", "ConvNeXt-B"


def pair(far: tuple[float, float], near: tuple[float, float], floor: float = 1000.0) -> tuple[AccessResult, AccessResult]:
    """Return a ViT and a CNN whose attention and convolutions cost ``far`` and ``near`` microseconds."""
    return (
        vit(costs=(cost(VIT, "attention", floor, *far),)),
        cnn(costs=(cost(CNN, "convolution", floor, *near),)),
    )


def test_global_access_that_costs_more_is_said_to() -> None:
    found = claim(pair((300.0, 420.0), (20.0, 50.0)))
    assert found.outcome == "global"
    assert found.evidence is Evidence.MODELLED
    assert "ViT-B/16's fused attention 0.30 to 0.42 ms per batch beyond moving every operand once" in found.sentence
    assert "ConvNeXt-B's convolutions 0.02 to 0.05 ms" in found.sentence
    assert f"So global access costs {VIT} 0.25 to 0.40 ms more than local access costs {CNN}." in found.sentence


def test_local_access_that_costs_more_is_said_to() -> None:
    found = claim(pair((20.0, 50.0), (300.0, 420.0)))
    assert found.outcome == "local"
    assert f"So local access costs {CNN} 0.25 to 0.40 ms more than global access costs {VIT}." in found.sentence


def test_wording_is_symmetric() -> None:
    """Exchanging the costs exchanges names and sides, and nothing else."""
    one, other = claim(pair((300.0, 420.0), (20.0, 50.0))), claim(pair((20.0, 50.0), (300.0, 420.0)))
    mine, theirs = (found.sentence.split(". ")[1] for found in (one, other))
    swapped = theirs.replace("local", "?").replace("global", "local").replace("?", "global")
    assert swapped.replace(VIT, "?").replace(CNN, VIT).replace("?", CNN) == mine


@pytest.mark.parametrize(
    ("far", "near"), [((20.0, 60.0), (50.0, 90.0)), ((50.0, 90.0), (20.0, 60.0)), ((20.0, 50.0), (50.0, 60.0))]
)
def test_ranges_that_overlap_are_no_difference(far: tuple[float, float], near: tuple[float, float]) -> None:
    found = claim(pair(far, near))
    assert found.outcome == "unclear"
    assert "no clear difference between global access and local access" in found.sentence


def test_costs_below_a_hundredth_of_the_least_time_separate_nothing() -> None:
    found = claim(pair((2.0, 4.0), (6.0, 9.0)))
    assert found.outcome == "neither"
    assert "Both are below 1.0 % of the least time that their model needs on this device" in found.sentence
    assert claim(pair((2.0, 4.0), (6.0, 11.0))).outcome == "local"
    assert claim(pair((6.0, 11.0), (2.0, 4.0))).outcome == "global"


def test_order_of_the_results_does_not_matter() -> None:
    assert claim((vit(), cnn())) == claim((cnn(), vit()))


def test_numbers_are_those_of_the_objects() -> None:
    far, near = vit(), cnn()
    found = claim((far, near))
    by_role = {(c.role, c.attention): c for result in (far, near) for c in result.costs}
    attention = by_role["attention", "fused"]
    local = [by_role["convolution", "fused"], by_role["depthwise", "fused"]]
    assert found.global_us == attention.excess_us
    assert found.local_us == (sum(c.excess_us[0] for c in local), sum(c.excess_us[1] for c in local))
    more = by_role["attention", "materialised"]
    base = more.floor_us - attention.floor_us
    assert found.written_us == pytest.approx(
        (base + more.excess_us[0] - attention.excess_us[1], base + more.excess_us[1] - attention.excess_us[0])
    )
    for band in (found.global_us, found.local_us, found.written_us):
        assert band is not None
        assert span(band) in found.sentence
    assert span((attention.floor_us, attention.floor_us)) in found.reasons[0]
    least = attention.floor_us + by_role["dense math", "fused"].floor_us
    assert f"of {span((least, least))} for the whole model" in found.reasons[0]
    assert f"at most {100 * attention.excess_us[1] / least:.1f} %" in found.reasons[0]
    assert found.reasons[0].startswith("ViT-B/16's fused attention: 1.00x to 1.05x")
    assert found.reasons[2].startswith("L2 to multiprocessors: ")
    assert "0.04 ms" in found.reasons[2]
    assert len(found.reasons) <= 4


def test_a_run_that_wrote_its_scores_is_judged_by_that() -> None:
    found = claim((written(), cnn()))
    assert found.outcome == "global"
    assert found.global_us == found.written_us
    assert found.written_us is not None
    text = f"writing the attention scores to memory costs {VIT} {span(found.written_us)} per batch beyond what fused attention takes"
    assert text in found.sentence
    assert f"So writing scores costs {VIT}" in found.sentence
    assert "Reading keys and values of the whole image, without writing scores, would cost 0.00 to 0.01 ms." in found.sentence


def test_written_scores_without_a_fused_case_are_compared_with_their_own_operands() -> None:
    found = claim((written(costs=(cost(VIT, "attention", 2000.0, 200.0, 300.0, "materialised"),)), cnn()))
    assert found.outcome == "global"
    assert found.written_us is None
    assert "beyond moving every operand but the scores once" in found.sentence


def test_one_model_alone() -> None:
    found = claim((vit(),))
    assert (found.outcome, found.local_us) == ("one_sided", None)
    assert "no second model to compare it with" in found.sentence
    found = claim((cnn(),))
    assert (found.outcome, found.global_us) == ("one_sided", None)
    assert "no second model to compare it with" in found.sentence
    assert "attention" not in found.sentence


def test_two_models_of_one_sort() -> None:
    no_attention = claim((cnn(), cnn(model="ResNet-50")))
    assert no_attention.outcome == "one_sided"
    assert "none of ConvNeXt-B, ResNet-50 has attention" in no_attention.sentence
    no_convolution = claim((vit(), vit(model="DeiT-S")))
    assert no_convolution.outcome == "one_sided"
    assert "no other model here works with convolutions" in no_convolution.sentence


def test_a_patch_embedding_does_not_make_a_vit_local() -> None:
    def with_patches(name: str) -> AccessResult:
        return vit(model=name, costs=(cost(name, "attention", 100.0, 0.0, 5.0), cost(name, "convolution", 20.0, 0.0, 3.0)))

    assert claim((with_patches("A"), with_patches("B"))).outcome == "one_sided"


def test_neither_attention_nor_convolution() -> None:
    found = claim((vit(costs=(cost(VIT, "dense math", 10.0, 0.0, 0.0),)),))
    assert (found.outcome, found.evidence) == ("unknown", Evidence.UNAVAILABLE)
    assert "Neither attention nor convolution" in found.sentence


@pytest.mark.parametrize("changes", [{"devices": ()}, {"costs": ()}])
def test_no_device_with_a_cache_model(changes: dict[str, tuple[()]]) -> None:
    found = claim((vit(**changes), cnn(**changes)))
    assert (found.outcome, found.evidence, found.reasons) == ("unknown", Evidence.UNAVAILABLE, ())
    assert "no device here has a cache model" in found.sentence
    assert claim(()).outcome == "unknown"


def test_another_device_stands_in_where_the_own_has_no_costs() -> None:
    results = tuple(replace(r, costs=tuple(replace(c, device="b200") for c in r.costs)) for r in (vit(), cnn()))
    assert claim(results).sentence.startswith("On B200, ")


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_run_without_costs_leaves_the_other_its_sentence(*, exchanged: bool) -> None:
    """An MI300X beside an H100: no model of its cache, so nothing is compared, and what is known is said."""
    known, other = vit(), cnn(own=None, costs=())
    found = claim((other, known) if exchanged else (known, other))
    assert (found.outcome, found.evidence) == ("one_sided", Evidence.MODELLED)
    assert (found.global_us, found.local_us) == ((0.0, 11.0), None)
    assert found.sentence.startswith(
        "No device has costs for both runs, so they are not compared: the device of ConvNeXt-B has no model of its cache and "
        "DRAM. On H100 SXM5 80GB, reading keys and values of the whole image costs ViT-B/16's fused attention 0.00 to 0.01 ms "
        "per batch beyond moving every operand once."
    )
    assert found.reasons[0].startswith("ViT-B/16's fused attention: ")
    near = claim((vit(own=None, costs=()), cnn()))
    assert (near.global_us, near.local_us) == (None, (20.0, 50.0))
    assert against_gap(near, 4000.0) == ""


def test_each_reason_for_missing_costs_is_said() -> None:
    own = vit().own
    assert own is not None
    for changes, text in (
        ({"own": replace(own, dram_gbps=None)}, "the DRAM bandwidth of H100 SXM5 80GB is not known"),
        ({"silent": "the trace holds a training step"}, "ConvNeXt-B: the trace holds a training step"),
        ({}, "the access model has no costs of ConvNeXt-B"),
    ):
        assert f"so they are not compared: {text}. On H100" in claim((vit(), cnn(costs=(), **changes))).sentence


def test_runs_with_costs_on_devices_of_their_own_are_not_compared() -> None:
    there = cnn(costs=tuple(replace(c, device="b200") for c in cnn().costs))
    found = claim((vit(), there))
    assert (found.outcome, found.global_us, found.local_us) == ("apart", None, None)
    assert found.sentence == (
        "No device has costs for both runs, so they are not compared: each has them on its own device alone."
    )
    assert found.reasons[0].startswith("On H100 SXM5 80GB: reading keys and values")
    assert found.reasons[1].startswith("On B200: reading windows of the image costs ConvNeXt-B's convolutions 0.02 to 0.05 ms")
    assert [reason.partition(":")[0] for reason in found.reasons[2:]] == [
        "ViT-B/16's fused attention",
        "ConvNeXt-B's convolutions",
    ]


def test_other_batch_sizes_are_compared_per_image() -> None:
    found = claim((vit(batch_size=8), cnn(batch_size=32)))
    assert found.per == "image"
    assert "per image" in found.sentence
    assert found.global_us == (0.0, 11.0 / 8)
    assert found.local_us == (20.0 / 32, 50.0 / 32)
    assert against_gap(found, 1700.0) == ""


def test_backend_is_what_takes_longer() -> None:
    assert backend(vit()) == "fused"
    assert backend(written()) == "materialised"
    assert backend(shapes_alone(written())) == "materialised"
    assert backend(cnn()) == "fused"


def test_the_gap_is_set_against_the_costs() -> None:
    found = claim(pair((300.0, 420.0), (20.0, 50.0)))
    assert against_gap(found, -4000.0).endswith(
        "4.00 ms per batch apart; the two costs differ by at most 0.40 ms, 10 % of that."
    )
    assert against_gap(found, 0.0) == ""
    assert against_gap(claim(pair((0.0, 0.0), (0.0, 0.0))), 4000.0) == ""
    assert "the two costs differ by under 0.1 µs, " in against_gap(claim(pair((0.0, 0.01), (0.0, 0.0))), 4000.0)
    assert against_gap(claim((vit(),)), 4000.0) == ""


@pytest.mark.parametrize(
    ("band", "text"),
    [((0.0, 0.0), "nothing"), ((0.0, 4.0), "0.0 to 4.0 µs"), ((0.0, 11.0), "0.00 to 0.01 ms"), ((2300.0, 2300.0), "2.30 ms"),
     ((-30.0, 20.0), "−0.03 to 0.02 ms"), ((-30.0, -20.0), "−0.03 to −0.02 ms"), ((150_000.0, 250_000.0), "150 to 250 ms")],
)  # fmt: skip
def test_spans(band: tuple[float, float], text: str) -> None:
    assert span(band) == text


def test_what_did_not_run_says_nothing_of_the_run() -> None:
    assert [p.pattern for p in vit().patterns if p.hypothetical] == ["attention_materialised"]
    assert backend(replace(vit(), patterns=tuple(replace(p, time_us=0.0) for p in vit().patterns))) == "fused"


def test_an_unknown_l2_rate_is_said() -> None:
    silent = replace(vit(), costs=tuple(replace(c, l2_excess_us=math.nan) for c in vit().costs))
    assert any(reason.startswith("Cache to cores: not priced") for reason in claim((silent, cnn())).reasons)


def test_a_trace_without_a_whole_model_says_why() -> None:
    found = claim((replace(vit(), costs=(), silent="the trace holds a training step"),))
    assert found.outcome == "unknown"
    assert found.sentence.endswith("is not said: the trace holds a training step.")


def test_windows_are_no_whole_image() -> None:
    small = tuple(replace(p, locality=replace(p.locality, dependency=0.02)) for p in vit().patterns)
    assert "keys and values of each window" in claim((replace(vit(), patterns=small), cnn())).sentence


def test_linear_layers_are_named_where_they_cost_more_than_the_comparison() -> None:
    dear = tuple(replace(c, excess_us=(10.0, 9000.0)) if c.role == "dense math" else c for c in vit().costs)
    reasons = claim((replace(vit(), costs=dear), cnn())).reasons
    assert any(reason.startswith("Linear layers: no part of this comparison") and "9.00 ms" in reason for reason in reasons)


def test_coverage_is_of_time_or_of_layers() -> None:
    text = coverage((vit(), shapes_alone(cnn())))
    assert text == "The access model covers 98 % of the kernel time of ViT-B/16 and 5 distinct layers of ConvNeXt-B."
    assert "5 distinct layers of ViT-B/16 (2 left out)" in coverage((shapes_alone(vit()),))
    assert coverage(()) == ""
    own = vit().own
    assert own is not None
    on_cpu = vit(own=replace(own, key="cpu"))
    assert coverage((on_cpu,)) == "The access model covers 98 % of the operator time of ViT-B/16."
    assert "(98 % of the operator time)" not in claim((on_cpu, cnn())).reasons[0]  # covered well: the whole model
    assert "(50 % of the operator time)" in claim((replace(on_cpu, modelled_pct=50.0), cnn())).reasons[0]
