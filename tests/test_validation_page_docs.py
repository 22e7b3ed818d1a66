"""docs/validation.md is what the reference runs give, and its figures are those of the analyzer's own functions."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from analyzer.analysis import compare
from analyzer.format import interval, milliseconds, times
from analyzer.insight.causes import CAUSES, by_term
from analyzer.insight.validation.scoring import scores
from analyzer.schema.counters import CounterView
from analyzer.schema.validation import Prediction, Validation
from benchmarks.validation_page.__main__ import PAGE, main
from benchmarks.validation_page.count_flop import COUNTS, MODELS, count
from benchmarks.validation_page.devices import counters_section, measured_ratio, published_section
from benchmarks.validation_page.models import bytes_section, equal_line, flop_section, model_flop, occupancy_section
from benchmarks.validation_page.page import render_page
from benchmarks.validation_page.runs import (
    REFERENCE,
    Reference,
    attention_pairs,
    compiled_pairs,
    device_pairs,
    model_pairs,
    read_references,
)
from benchmarks.validation_page.times import cost_section, more_bytes

TOKENS, HEADS, LAYERS, WIDTH = 197, 3, 12, 192
"""Of ViT-Ti/16 at 224 px: 14 x 14 patches and a class token."""
NOTHING = Validation((), (), ())


@pytest.fixture(scope="module")
def runs() -> tuple[Reference, ...]:
    return read_references()


@pytest.fixture(scope="module")
def page(runs: tuple[Reference, ...]) -> str:
    return render_page(runs)


def named(runs: tuple[Reference, ...], name: str) -> Reference:
    return next(run for run in runs if run.name == name)


def prediction(measured: float, point: float, quantity: str = "occupancy_theoretical_pct", calls: float = 1.0) -> Prediction:
    return Prediction(
        run="r", gpu="H100", family="convolution", key=f"{measured}-{point}", kernel="k", op="aten::convolution", shapes="",
        mode="cold", quantity=quantity, measured=measured, point=point, low=point, high=point, banded=False, calls=calls,
    )  # fmt: skip


def test_the_page_is_what_the_runs_give(page: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == page, "python -m benchmarks.validation_page writes it"


def test_check_tells_another_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = REFERENCE / "amd_epyc" / "resnet18-224-b1-float32"
    shutil.copytree(kept, tmp_path / "reference" / "amd_epyc" / kept.name)
    given = ["--reference", str(tmp_path / "reference"), "--out", str(tmp_path / "validation.md")]
    assert main([*given, "--check"]) == 1
    assert main(given) == 0
    assert main([*given, "--check"]) == 0
    (tmp_path / "validation.md").write_text("1.23x", encoding="utf-8")
    assert main([*given, "--check"]) == 1
    assert "is not what the reference runs give" in capsys.readouterr().out


def test_figures_are_those_of_the_analyzer(runs: tuple[Reference, ...], page: str) -> None:
    pairs = list(model_pairs(runs))
    assert ("vit_tiny-224-b1-float32", "resnet18-224-b1-float32") in [(vit.name, cnn.name) for vit, cnn in pairs]
    for vit, cnn in pairs:
        study = compare(vit.analysis, cnn.analysis)
        assert study.ratio
        assert study.gap
        assert f"{times(study.ratio)} ({interval(study.ratio)}) as long" in page
        assert study.verdict.headline in page
        assert milliseconds(abs(study.gap.total_us)) in page
        parts = by_term(study.gap, named=False)
        assert sum(us for _, us in parts) == pytest.approx(study.gap.total_us)
        for term, us in parts:
            assert not us or f"| {CAUSES[term]} | {'no' if term in ('residual', 'tracing', 'cached') else 'yes'} | " in page


def test_materialised_attention_moves_its_scores(runs: tuple[Reference, ...]) -> None:
    pairs = list(attention_pairs(runs))
    assert [(math_run.name, fused.name) for math_run, fused in pairs] == [
        ("vit_tiny-224-b1-float32-math", "vit_tiny-224-b1-float32")
    ]
    scores_bytes = 4 * HEADS * TOKENS**2 * LAYERS
    # written by the product, read and written by the softmax, read by the other product: four passes are the least
    assert more_bytes(*pairs[0]) >= 4 * scores_bytes
    assert more_bytes(*pairs[0]) <= 10 * scores_bytes


def test_flop_by_hand(runs: tuple[Reference, ...], page: str) -> None:
    inside, outside = model_flop(named(runs, "vit_tiny-224-b1-float32"))
    patches = 2 * 196 * WIDTH * 3 * 16 * 16
    layer = 2 * TOKENS * WIDTH * WIDTH * 12 + 2 * 2 * TOKENS**2 * WIDTH
    assert inside == patches + LAYERS * layer + 2 * WIDTH * 1000
    assert 0 < outside < 0.01 * inside
    known = json.loads(COUNTS.read_text(encoding="utf-8"))["flop"]
    assert known["vit_tiny_patch16_224"]["224"] == inside
    assert "`amd_epyc/vit_tiny-224-b1-float32` | 2.51 GFLOP | 2.51 GFLOP | 0.00 % |" in page


def test_the_kept_counts_are_those_of_torch() -> None:
    pytest.importorskip("torch")
    known = json.loads(COUNTS.read_text(encoding="utf-8"))["flop"]
    assert {model: tuple(map(int, sizes)) for model, sizes in known.items()} == MODELS
    assert count("resnet18", 224) == known["resnet18"]["224"]


def test_a_miss_of_the_flop_is_marked(runs: tuple[Reference, ...]) -> None:
    run = named(runs, "resnet18-224-b1-float32")
    launches = run.analysis.launches.assign(flop=2 * run.analysis.launches["flop"])
    wrong = replace(run, analysis=replace(run.analysis, launches=launches))
    assert "| **no** |" in flop_section([wrong], NOTHING).render()
    assert "| **no** |" not in flop_section([run], NOTHING).render()


def test_equal_occupancy_counts_launches() -> None:
    found = equal_line([prediction(50.0, 50.0, calls=99), prediction(50.0, 25.0)])
    assert found.startswith("99 of 100 counted launches (99.00 %)")
    assert "The target of 99 % is met. The largest difference is 25.0 points." in found
    missed = equal_line([prediction(50.0, 50.0, calls=98), prediction(50.0, 49.0, calls=2)])
    assert "The target of 99 % is **missed**" in missed
    assert equal_line([]) == ""


def test_bytes_stand_beside_their_targets_and_misses_are_marked() -> None:
    made = tuple(prediction(1e8, 1e8 * (1 + error), "dram_read_bytes") for error in (0.5, 0.6, 0.7))
    text = bytes_section(Validation(made, scores(made), ())).render()
    row = next(line for line in text.splitlines() if line.startswith("| convolution"))
    assert row == "| convolution | 3 | 60 % | 70 % | 70 % | 60 % |  | 15 / 40 % | **no** |"
    assert "Not measured yet" not in text


@pytest.mark.parametrize("section", ["Counters", "Occupancy", "Bytes", "Projection", "Telemetry against trace"])
def test_a_section_without_data_says_what_brings_it(section: str, runs: tuple[Reference, ...], page: str) -> None:
    if any(run.is_gpu for run in runs):
        pytest.skip("there are runs of a GPU")
    text = page.split(f"## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    assert "Not measured yet: " in text
    assert "`make gpu-evidence minutes=9`" in text
    assert "| ---" not in text


def test_nothing_at_all_is_a_page_of_its_own() -> None:
    text = render_page(())
    assert text.count("Not measured yet: ") >= 10
    assert "nan" not in text.lower().split()
    assert occupancy_section((), NOTHING).texts == ()


def test_a_published_ratio_stands_beside_the_measured_one(runs: tuple[Reference, ...]) -> None:
    vit, cnn = next(model_pairs(runs))
    assert vit.analysis.latency
    assert cnn.analysis.latency
    found = measured_ratio(vit, cnn)
    assert math.isclose(found, (cnn.analysis.latency.median_ms.value or 0) / (vit.analysis.latency.median_ms.value or 1))
    rows = [line for line in published_section(runs).render().splitlines() if line.startswith("| RTX")]
    assert len(rows) == 14
    assert rows[0].startswith("| RTX 3090 | 2.4 | eager | 224 px |")
    assert "| 1.21 |" in rows[0]  # 1570.7 / 1301.1


def test_the_cost_of_telemetry_comes_from_its_own_measurement(runs: tuple[Reference, ...], tmp_path: Path) -> None:
    assert "Not measured yet: latency with and without telemetry" in cost_section(runs, tmp_path).render()
    (tmp_path / "amd_epyc").mkdir()
    content = {"ratio": 1.0042, "low": 0.998, "high": 1.011, "n": 6, "settings": {"model": "resnet18"}}
    (tmp_path / "amd_epyc" / "sampler-cost.json").write_text(json.dumps(content), encoding="utf-8")
    text = cost_section(runs, tmp_path).render()
    assert "| amd_epyc | resnet18 | 1.0042x (0.9980x to 1.0110x) as long | 6 |" in text
    assert "Not measured yet" not in text


def test_pairs_differ_in_one_thing(runs: tuple[Reference, ...]) -> None:
    for compiled, eager in compiled_pairs(runs):
        assert compiled.facts.model.name == eager.facts.model.name
        assert (compiled.facts.settings.compile, eager.facts.settings.compile) == ("default", "off")
    assert all(one.device != two.device for one, two in device_pairs(runs))


@pytest.mark.parametrize(
    "setting", [{"threads": 2}, {"torch": "2.11.0"}, {"cudnn_benchmark": True}, {"convolution_tf32": True}]
)
def test_runs_of_other_threads_or_another_torch_are_not_held_side_by_side(
    setting: dict[str, object], runs: tuple[Reference, ...]
) -> None:
    vit, cnn = (named(runs, f"{name}-224-b1-float32") for name in ("vit_tiny", "resnet18"))
    assert len(list(model_pairs([vit, cnn]))) == 1
    if "torch" in setting:
        facts = msgspec.structs.replace(cnn.facts, versions={**cnn.facts.versions, **setting})
    else:
        facts = msgspec.structs.replace(cnn.facts, settings=msgspec.structs.replace(cnn.facts.settings, **setting))
    assert list(model_pairs([vit, replace(cnn, facts=facts)])) == []


@pytest.mark.parametrize(("matched", "refused", "met"), [(98.0, "", "yes"), (97.99, "", "**no**"), (99.0, "why", "**no**")])
def test_how_much_the_counters_cover_stands_beside_its_target(
    matched: float, refused: str, met: str, runs: tuple[Reference, ...]
) -> None:
    view = CounterView("counters.csv", "ncu", "ncu 2025.3", "warm", 1200, 1190, matched, "in order", pd.DataFrame(), refused)
    run = replace(runs[0], analysis=replace(runs[0].analysis, counters=view))
    text = counters_section([run]).render()
    assert text.splitlines()[-1].endswith(f"| ncu 2025.3 | 1\u202f200 | 1\u202f190 | {matched:.2f} % | 98 % | {met} |")
    assert "Not measured yet" not in text
