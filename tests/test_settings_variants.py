"""Settings given as lists: each value is a run, all in one report, and runs of one model are told apart in it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hydra import compose, initialize_config_dir

from analyzer import tasks
from analyzer.analysis import analyze, compare
from analyzer.cli.failures import config_dir
from analyzer.cli.reading import LISTS, read_settings
from analyzer.errors import ConfigError
from analyzer.insight.labels import told_apart
from analyzer.insight.locality import claim, span
from analyzer.insight.reproduction import is_own, recording_command
from analyzer.progress import Reporter
from analyzer.report.text import run_label
from analyzer.schema.results import Analysis
from analyzer.schema.settings import CaptureSettings, ModelChoice, Settings
from analyzer.tasks import profiling, sweep
from analyzer.tasks.outcome import Outcome
from analyzer.trace.rundir import open_run
from tests.report.access_results import vit, written

CHOICES = {"vit": "vit_base_patch16_224", "cnn": "convnext_base", "task": "profile"}


def read(*overrides: str) -> Settings:
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        return read_settings(compose("config", overrides=list(overrides)), CHOICES, ("analyzer", *overrides))


def test_a_list_makes_a_way_of_each_value() -> None:
    found = read("attention=[flash,math]")
    assert [way.attention for way in (found.capture, *found.variants)] == ["flash", "math"]
    assert replace(found.variants[0], attention="flash") == found.capture
    assert read("attention=flash").variants == ()


def test_lists_combine_and_say_each_value_once() -> None:
    found = read("compile=[off,default,off]", "autocast=[false,true]", "dtype=bfloat16")
    ways = [(way.autocast, way.compile) for way in (found.capture, *found.variants)]
    assert ways == [(False, "off"), (False, "default"), (True, "off"), (True, "default")]


@pytest.mark.parametrize("setting", sorted(LISTS))
def test_every_listed_setting_is_one(setting: str) -> None:
    values = {"batch_size": (1, 2), "image_size": (32, 64), "dtype": ("float32", "bfloat16"), "threads": (1, 2),
              "layout": ("contiguous", "channels_last"), "attention": ("flash", "math"), "compile": ("off", "default"),
              "autocast": (False, True), "cudnn_benchmark": (True, None), "input": ("device", "host")}[setting]  # fmt: skip
    typed = ",".join({None: "null"}.get(value, str(value).lower()) for value in values)
    found = read(f"{setting}=[{typed}]")
    assert tuple(getattr(way, setting) for way in (found.capture, *found.variants)) == values


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("attention=[]",), "attention= is an empty list"),
        (("attention=[flash,fast]",), "attention must be one of .*, not 'fast'"),
        (("task=report", "runs=x", "attention=[flash,math]"), "attention= is a list, and task=report takes one value"),
        (("seed=[1,2]",), "seed must be a whole number"),
        ((f"batch_size={list(range(1, 66))}".replace(" ", ""),), "more than 64 ways"),
    ],
)
def test_lists_that_cannot_be_meant(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(*overrides)


def test_a_sweep_takes_values_without_brackets() -> None:
    with pytest.raises(ConfigError, match="attention= is a list, and each point of a sweep has one value") as caught:
        sweep.check(read("attention=[flash,math]"))
    assert caught.value.hint == "with -m write the values without brackets: attention=A,B"


def test_a_cnn_runs_once_for_all_ways_of_attention() -> None:
    planned = profiling._planned(read("attention=[flash,math]", "image_size=[64,96]"))
    assert [(choice.family, way.image_size, way.attention) for choice, way in planned] == [
        ("vit", 64, "flash"), ("vit", 64, "math"), ("vit", 96, "flash"), ("vit", 96, "math"),
        ("cnn", 64, "flash"), ("cnn", 96, "flash"),
    ]  # fmt: skip


def test_each_run_records_its_own_command() -> None:
    planned = profiling._planned(read("cnn=none", "attention=[flash,math]", "cudnn_benchmark=[true,null]", "seed=1"))
    commands = [way.command for _, way in planned]
    assert commands[0] == ("analyzer", "cnn=none", "attention=flash", "cudnn_benchmark=true", "seed=1")
    assert commands[3] == ("analyzer", "cnn=none", "attention=math", "cudnn_benchmark=null", "seed=1")
    assert all(map(is_own, commands))


def test_more_runs_than_a_report_takes() -> None:
    with pytest.raises(ConfigError, match="these lists make 8 runs, a report takes up to 6"):
        profiling._planned(read("batch_size=[1,2]", "image_size=[64,96]"))


def test_a_value_that_cannot_be_met_is_told_before_anything_runs(tmp_path: Path) -> None:
    settings = read("model=vit_tiny_patch16_224", "device=cpu", "attention=[flash,cudnn]", f"traces={tmp_path}/t")
    from analyzer.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="attention=cudnn does not exist on a CPU"):
        tasks.run(settings, Reporter(quiet=True))
    assert not (tmp_path / "t").exists()


# --- both ways of attention, really run


@dataclass(frozen=True)
class Ran:
    """One command that recorded fused and written-out attention of one ViT."""

    outcome: Outcome
    runs: tuple[Path, ...]
    page: str


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    root = tmp_path_factory.mktemp("both")
    choice = ModelChoice("vit", "vit_tiny_patch16_224", "ViT-Ti/16", options={"depth": 1})
    capture = CaptureSettings(
        device="cpu", image_size=64, attention="flash", iterations=10, traced_steps=3, repeats=1, warmup_max_s=0.2, threads=1,
        calibrate="off", counters="none", out_root=root / "traces", command=("analyzer", "attention=[flash,math]"),
    )  # fmt: skip
    variants = (replace(capture, attention="math"),)
    settings = Settings("profile", (choice,), capture, variants=variants, out=root / "report")
    plan = tasks.run(replace(settings, dry_run=True), Reporter(quiet=True))
    assert [one["attention"] for one in plan.document["plan"]] == ["flash", "math"]
    outcome = tasks.run(settings, Reporter(quiet=True))
    runs = tuple(sorted(path for path in (root / "traces").iterdir() if path.is_dir() and "vit_tiny" in path.name))
    return Ran(outcome, runs, (root / "report" / "index.html").read_text(encoding="utf-8"))


FLASH, MATH = "ViT-Ti/16 (flash attention)", "ViT-Ti/16 (math attention)"


def test_one_command_records_both_ways_of_attention(both_ways: Ran) -> None:
    facts = [open_run(run).facts for run in both_ways.runs]
    assert all(fact is not None and not fact.warnings for fact in facts)
    assert [fact and fact.model.attention_backend for fact in facts] == ["flash_attention_for_cpu", "attention_math"]
    assert [fact and recording_command(fact) for fact in facts] == [
        ("analyzer", "attention=flash"), ("analyzer", "attention=math"),
    ]  # fmt: skip


def test_the_report_tells_both_runs_apart(both_ways: Ran) -> None:
    document = both_ways.outcome.document
    assert FLASH in document["headline"]
    assert MATH in document["headline"]
    assert both_ways.page.count(FLASH) > 10
    assert both_ways.page.count(MATH) > 10
    assert "analyzer attention=flash" in both_ways.page  # how to record each again
    assert "analyzer attention=math" in both_ways.page


def test_the_access_section_compares_both_ways(both_ways: Ran) -> None:
    study = compare(*both_ways.runs)
    ways = {a.label: a.access.attention for a in study.analyses if a.access is not None}
    assert ways == {FLASH: "fused", MATH: "materialised"}
    assert "For comparison, and not run in this form" not in both_ways.page
    assert "no other model here works with convolutions" not in both_ways.page


def test_what_both_ways_of_attention_cost_is_said_of_each() -> None:
    fused, out = vit(model=FLASH), written(model=MATH)
    found = claim((fused, out))
    assert (found.outcome, found.local_us) == ("both_ways", None)
    assert found.global_us is not None
    assert found.written_us is not None
    costs = (
        f"writing the attention scores to memory costs {MATH} {span(found.written_us)} per batch beyond what fused attention"
    )
    assert costs in found.sentence
    reading = f"reading keys and values of the whole image costs the fused attention of {FLASH} {span(found.global_us)} beyond"
    assert reading in found.sentence
    assert "nothing to compare" not in found.sentence
    assert claim((out, fused)).sentence == found.sentence
    assert claim((fused, vit(model="DeiT-S"))).outcome == "one_sided"
    assert claim((fused, out, vit(model="DeiT-S"))).outcome == "one_sided"


def _with(a: Analysis, label: str = "", **changes: Any) -> Analysis:
    assert a.run.facts is not None
    settings = msgspec.structs.replace(a.run.facts.settings, **changes)
    facts = msgspec.structs.replace(a.run.facts, settings=settings)
    return replace(a, run=msgspec.structs.replace(a.run, facts=facts), label=label or a.label)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compile": "default"}, ("eager", "compiled")),
        ({"compile": "max-autotune"}, ("eager", "compiled (max-autotune)")),
        ({"memory_format": "channels_last"}, ("contiguous", "channels_last")),
        ({"autocast": True}, ("float32", "float32 by autocast")),
        ({"input": "host"}, ("input on the device", "input on the host")),
        ({"cudnn_benchmark": True}, ("cudnn.benchmark off", "cudnn.benchmark on")),
        ({"batch_size": 8, "image_size": 96}, ("batch 1, 64 px", "batch 8, 96 px")),
        ({"threads": 7}, ("1 threads", "7 threads")),
    ],
)
def test_labels_say_what_differs(both_ways: Ran, changes: dict[str, Any], words: tuple[str, str]) -> None:
    one = analyze(both_ways.runs[0])
    assert [a.label for a in told_apart((one, _with(one, **changes)))] == [f"ViT-Ti/16 ({text})" for text in words]


def test_labels_that_differ_stay_and_equal_runs_are_numbered(both_ways: Ran) -> None:
    flash, math = map(analyze, both_ways.runs)
    other = _with(flash, label="ResNet-18")
    found = told_apart((flash, other, flash, math))
    assert [a.label for a in found] == [f"{FLASH} (1)", "ResNet-18", f"{FLASH} (2)", MATH]
    assert found[1] is other
    assert found[3].access is not None
    assert {p.model for p in found[3].access.patterns} | {c.model for c in found[3].access.costs} == {MATH}
    assert told_apart((flash, other)) == (flash, other)


def test_a_label_is_cut_in_the_name_of_the_model() -> None:
    assert run_label("ViT-Ti/16 (math attention)", 40) == "ViT-Ti/16 (math attention)"
    cut = run_label("vit_base_patch16_clip_224.openai (math attention)", 30)
    assert (cut, len(cut)) == ("vit_base_pat… (math attention)", 30)
    assert run_label("a_long_name_without_any_words_behind_it", 12) == "a_long_name…"
    assert run_label("vit (eight words that are far too long to be shown)", 20) == "vit… (eight words t…"
    assert len(run_label("x" * 100_000, 40)) == 40


def test_no_setting_is_forgotten() -> None:
    """A new field of CaptureSettings is one of the lists or stands here: it takes one value."""
    one_value = {
        "device", "iterations", "traced_steps", "stacks", "repeats", "warmup_max_s", "warmup_min_iterations", "seed",
        "sample_period_s", "calibrate", "counters", "out_root", "command",
    }  # fmt: skip
    assert {field.name for field in dataclasses.fields(CaptureSettings)} == one_value | set(LISTS)
