"""``analyzer task=access``: bytes from shapes alone, on the page, in its files and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer.errors import ConfigError
from analyzer.layers import DEFAULT_GPU, Layers, Target, analyze_layers, peaks, rates_of, targets
from analyzer.report.render import MAX_PAGE_BYTES
from tests.report.markup import read
from tests.report.test_page import check_page
from tests.test_cli import assert_one_line_and_hint, run

REQUIRED = (
    "pattern", "gpu", "module", "shapes", "calls", "flop", "bytes_compulsory", "bytes_l2_sm", "bytes_dram_low",
    "bytes_dram_high", "reuse_factor", "footprint_bytes", "confidence",
)  # fmt: skip
SMALL = ("task=access", "vit=vit_tiny_patch16_224", "cnn=resnet18", "batch_size=2", "image_size=64")
GPUS = ("h100_sxm5_80gb", "a100_sxm4_80gb")
SHEET = """\
name: My GPU
vendor: NVIDIA
architecture: Hopper
figures:
  dram_bandwidth: {value: 1234, unit: GB/s, source: measured by me}
  sm_count: {value: 10, unit: SM, source: measured by me}
  l2: {value: 4, unit: MiB, source: measured by me}
"""

Finished = tuple[Path, str, str]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A small pair on two GPUs: the report directory, what stood on stdout, and what on stderr."""
    where = tmp_path_factory.mktemp("access")
    done = run(*SMALL, f"gpu=[{','.join(GPUS)}]", cwd=where)
    assert done.returncode == 0, done.stderr
    (directory,) = (where / "reports").iterdir()
    assert directory.name.endswith("-access-vit_tiny_patch16_224-resnet18-64")
    return directory, done.stdout, done.stderr


@pytest.fixture(scope="module")
def rows(small: Finished) -> list[dict[str, Any]]:
    return json.loads((small[0] / "access.json").read_text())["patterns"]  # type: ignore[no-any-return]


def test_json_alone_is_the_patterns_of_the_file(small: Finished, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    done = run(*SMALL, f"gpu=[{','.join(GPUS)}]", "json=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"patterns": rows}
    assert "NaN" not in done.stdout


def test_every_layer_has_an_entry_on_every_gpu(rows: list[dict[str, Any]]) -> None:
    assert all(set(REQUIRED) <= set(row) for row in rows)
    by_gpu = [[(r["model"], r["module"], r["shapes"], r["pattern"]) for r in rows if r["gpu"] == gpu] for gpu in GPUS]
    assert by_gpu[0] == by_gpu[1]
    assert {"linear", "conv3x3", "conv1x1", "patch_embed", "norm", "pointwise", "pooling", "layout"} <= {
        r["pattern"] for r in rows
    }


def test_both_ways_of_attention_are_listed(rows: list[dict[str, Any]]) -> None:
    for gpu in GPUS:
        ways = {r["pattern"]: r for r in rows if r["gpu"] == gpu and r["pattern"].startswith("attention")}
        assert set(ways) == {"attention_fused", "attention_materialised"}
        fused, written = ways["attention_fused"], ways["attention_materialised"]
        assert (fused["hypothetical"], written["hypothetical"]) == (False, True)
        assert fused["calls"] == written["calls"] == 12
        assert fused["flop"] == written["flop"]
        scores = 12 * 2 * 3 * 17 * 17 * 2  # layers x images x heads x tokens squared x bytes
        assert written["bytes_compulsory"] == fused["bytes_compulsory"] + 4 * scores


def test_bytes_and_flop_are_totals_over_calls(rows: list[dict[str, Any]]) -> None:
    """Of the four linear layers of a block, fc1 by hand: 2 x 17 tokens, 192 to 768 channels, 2 bytes, with a bias."""
    fc1 = next(r for r in rows if r["module"] == "blocks.*.mlp.fc1")
    assert fc1["calls"] == 12
    assert fc1["flop"] == 12 * 2 * 34 * 192 * 768
    assert fc1["bytes_compulsory"] == 12 * 2 * (34 * 192 + 192 * 768 + 768 + 34 * 768)
    for row in rows:
        assert row["bytes_l2_sm"] >= 0.999 * row["bytes_compulsory"] or row["pattern"] in ("patch_embed", "conv1x1", "pooling")
        assert 0 <= row["bytes_dram_low"] <= row["bytes_dram_high"]
        assert row["dram_read_low"] <= row["dram_read_high"] <= row["bytes_dram_high"]
        assert row["confidence"] in ("exact", "inferred", "assumed")


def test_what_is_not_known_is_null(rows: list[dict[str, Any]]) -> None:
    assert all(r["footprint_bytes"] is None for r in rows if r["pattern"] == "norm")
    assert all(r["footprint_bytes"] > 0 for r in rows if r["pattern"] == "linear")
    assert not any(isinstance(value, float) and not math.isfinite(value) for row in rows for value in row.values())


def test_the_table_is_the_json(small: Finished, rows: list[dict[str, Any]]) -> None:
    found = pd.read_csv(small[0] / "access.csv", keep_default_na=False, na_values=[""])
    assert list(found.columns) == list(rows[0])
    assert len(found) == len(rows)
    for name in REQUIRED:
        told = [row[name] for row in rows]
        listed = found[name].tolist()
        assert all(pd.isna(a) if b in (None, "") else a == pytest.approx(b) for a, b in zip(listed, told, strict=True)), name


def test_the_file_holds_sizes_costs_and_the_claim(small: Finished) -> None:
    found = json.loads((small[0] / "access.json").read_text())
    assert found["format_version"] == 1
    assert {point["device"] for point in found["sizes"]} == set(GPUS) == {gpu["key"] for gpu in found["gpus"]}
    assert {cost["role"] for cost in found["costs"]} >= {"attention", "convolution", "dense math"}
    assert [m["attention"] for m in found["models"]] == ["fused", ""]
    assert found["claim"]["sentence"] in small[1]


def test_the_page_passes_the_checks_of_every_page(small: Finished) -> None:
    html = (small[0] / "index.html").read_text()
    check_page(html)
    assert len(html.encode()) < MAX_PAGE_BYTES
    found = read(html)
    assert [i for i in found.ids if i in ("whole", "access", "method")] == ["whole", "access", "method"]
    assert found.headline == (
        "What ViT-Ti/16 and ResNet-18 do to the caches of H100 SXM5 80GB and A100 SXM4 80GB, from shapes alone"
    )
    assert "default-src &#39;none&#39;" in html
    assert "summary.json" not in found.text
    for name in ("access.json", "access.csv", "batch 2", "64 px", "float16"):
        assert name in found.text
    embedded = json.loads(next(text for attrs, text in found.scripts if attrs.get("id") == "summary"))
    assert "patterns" not in embedded
    assert sorted(p.name for p in small[0].iterdir()) == ["access.csv", "access.json", "index.html"]


def test_sums_of_the_page_are_sums_of_the_table(small: Finished, rows: list[dict[str, Any]]) -> None:
    table = read((small[0] / "index.html").read_text()).tables["whole-table"][1:]
    listed = {(r[0].text, r[1].text, r[2].text): r for r in table}
    mine = [r for r in rows if r["model"] == "ViT-Ti/16" and r["gpu"] == DEFAULT_GPU]
    fused = [r for r in mine if not r["hypothetical"]]
    written = [r for r in mine if r["pattern"] != "attention_fused"]
    for way, those in (("fused attention", fused), ("scores written out", written)):
        row = listed["ViT-Ti/16", way, "H100 SXM5 80GB"]
        assert row[3].value == pytest.approx(sum(r["flop"] for r in those) / 2 / 1e9)
        assert row[4].value == pytest.approx(sum(r["bytes_compulsory"] for r in those) / 2 / 1e6)
        assert row[6].value == pytest.approx(sum(r["bytes_dram_high"] for r in those) / 2)
    assert len(table) == 6


def test_the_last_lines_say_what_where_and_what_next(small: Finished) -> None:
    lines = small[1].strip().splitlines()
    assert lines[0].startswith("On H100 SXM5 80GB, ")
    assert lines[1].startswith("H100 SXM5 80GB, DRAM per image: ViT-Ti/16 ")
    assert lines[2].startswith("A100 SXM4 80GB, DRAM per image: ")
    assert lines[3].startswith("Attention of ViT-Ti/16 with scores written out moves ")
    assert lines[4].startswith("Assumed: ")
    assert "-access-vit_tiny_patch16_224-resnet18-64/index.html (" in lines[5]
    assert lines[6].startswith("Next: analyzer task=access")
    assert "work out the access of ViT-Ti/16" in small[2]


def test_out_names_the_directory_and_replaces_its_own_kind_alone(tmp_path: Path) -> None:
    command = ("task=access", "vit=none", "cnn=resnet18", "batch_size=1", "image_size=64", "out=r")
    for _ in range(2):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    assert "attention" not in {r["pattern"] for r in json.loads((tmp_path / "r" / "access.json").read_text())["patterns"]}
    (tmp_path / "r" / "mine.txt").write_text("precious")
    assert_one_line_and_hint(run(*command, cwd=tmp_path), tmp_path, "holds other files")


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = run("task=access", "dry_run=true", "json=true", "gpu=b200", "cnn=none", cwd=tmp_path)
    assert json.loads(done.stdout)["plan"] == {
        "models": ["ViT-B/16"], "gpus": ["B200"], "batch_size": 32, "image_size": 224, "dtype": "float16"
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_prints_one_document_a_line(tmp_path: Path) -> None:
    sizes = ("-m", "image_size=64,96", "task=access", "vit=none", "cnn=resnet18", "batch_size=1", "json=true")
    done = run(*sizes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["patterns"] for line in done.stdout.splitlines()]
    assert len(found) == 2
    assert found[0][0]["shapes"] != found[1][0]["shapes"]
    names = sorted(p.name.partition("-access-")[2] for p in (tmp_path / "reports").iterdir())
    assert names == ["resnet18-64", "resnet18-96"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["task=access", "gpu=h100"], "no GPU called 'h100'"),
        (["task=access", "gpu=[b200,mi300x]"], "gpu=mi300x has no cache model: several L2 caches"),
        (["task=access", "gpu=4090"], "gpu= must name GPUs"),
        (["task=access", "gpu=[]"], "gpu= must name GPUs"),
        (["task=report", "gpu=b200", "runs=x"], "task=report takes no gpu="),
        (["gpu=b200"], "task=profile takes no gpu="),
        (["task=access", "vit=none", "cnn=none"], "nothing to look at"),
        (["task=access", "dtype=int4"], "unknown dtype int4"),
        (["task=access", "runs=x"], "takes no runs="),
        (["task=access", "vit=vit_tiny_patch16_224", "cnn=none", "image_size=225"], "not a multiple"),
    ],
)
def test_mistakes_get_one_line_and_a_hint(tmp_path: Path, args: list[str], says: str) -> None:
    assert_one_line_and_hint(run(*args, cwd=tmp_path), tmp_path, says)


def test_an_unknown_gpu_gets_the_nearest_names() -> None:
    with pytest.raises(ConfigError) as caught:
        targets(("h100",))
    assert "h100_sxm5_80gb" in caught.value.hint


def test_an_own_sheet_is_a_device(tmp_path: Path) -> None:
    (tmp_path / "h200_sxm.yaml").write_text(SHEET)
    command = ("vit=none", "cnn=resnet18", "batch_size=1", "image_size=64", "json=true")
    done = run("task=access", *command, "gpu_spec=h200_sxm.yaml", "gpu=t4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["patterns"]
    own = [r for r in found if r["gpu"] == "h200_sxm_own"]
    assert len(own) * 2 == len(found)
    assert {r["gpu"] for r in found} == {"h200_sxm_own", "t4"}
    assert {r["l2_model"] for r in own} == {"assumed"}, "an own sheet has nothing from the product of that name"


def test_peaks_come_from_the_sheets() -> None:
    h100, turing = targets(("h100_sxm5_80gb", "rtx_2080_ti"))
    found = {words: figure for name, words, figure, _ in peaks((h100,), "float16") if name == "H100 SXM5 80GB"}
    assert list(found.values()) == ["989 TFLOP/s", "67 TFLOP/s", "3350 GB/s"]
    half = analyze_layers(Layers("none", 1, 64, "float16", ()), (h100,))
    assert half.patterns == ()
    rate = rates_of((h100, turing), "bfloat16")
    linear, norm = _units()
    assert (rate(h100.cache, linear), rate(h100.cache, norm)) == (989, 67)
    assert math.isnan(rate(turing.cache, linear))


def _units() -> tuple[Any, Any]:
    from analyzer.access.geometry import assumed_geometry
    from analyzer.access.kernel import Launch
    from analyzer.access.problem import Described, Pass, Problem, Product
    from analyzer.access.units import Unit

    def unit(pattern: str, problem: Problem) -> Unit:
        launch = Launch(problem, assumed_geometry(problem, "bfloat16"))
        return Unit(Described(pattern, problem, "", "bfloat16"), launch, "")

    return unit("linear", Product(1, 128, 128, 128, 2, 2)), unit("norm", Pass(1024, 1024))


def _attention(image_size: int) -> dict[str, dict[str, Any]]:
    from analyzer.capture.meta import record_ops
    from analyzer.report.access_files import AccessReport, patterns
    from analyzer.schema.settings import ModelChoice

    choice = ModelChoice("vit", "vit_base_patch16_224", "ViT-B/16", options={"depth": 1})
    gpus: tuple[Target, ...] = targets(("h100_sxm5_80gb",))
    layers = Layers("ViT-B/16", 32, image_size, "float16", record_ops(choice, 32, image_size, "float16"))
    attention = [r for r in layers.records if r["name"] == "aten::scaled_dot_product_attention"]
    assert len(attention) == 1
    alone = Layers(layers.label, layers.images, 0, layers.dtype, attention)  # no image size: no other sizes are worked out
    report = AccessReport((analyze_layers(alone, gpus),), (gpus[0].cache,), "float16")
    return {row["pattern"]: row for row in patterns(report)}


def test_fused_attention_at_1024_px_reads_little_more_than_it_must() -> None:
    fused = _attention(1024)["attention_fused"]
    compulsory_reads = 0.75 * fused["bytes_compulsory"]  # Q, K and V of Q, K, V and the output
    assert fused["order"] == "query tiles fastest"
    assert compulsory_reads == 32 * 12 * 4097 * 64 * 2 * 3
    assert fused["dram_read_low"] == pytest.approx(compulsory_reads, rel=0.05)
    assert fused["dram_read_high"] == pytest.approx(compulsory_reads, rel=0.05)


def test_written_scores_at_512_px_move_15_to_22_times_the_bytes_of_fused() -> None:
    found = _attention(512)
    fused, written = found["attention_fused"], found["attention_materialised"]
    for end in ("low", "high"):
        assert 15 <= written[f"bytes_dram_{end}"] / fused[f"bytes_dram_{end}"] <= 22


def test_a_model_of_parts_has_both_ways() -> None:
    """Swin adds a bias to its scores, so its attention runs as product, softmax and product."""
    from analyzer.capture.meta import record_ops
    from analyzer.schema.settings import ModelChoice

    gpus = targets(())
    choice = ModelChoice("vit", "swin_tiny_patch4_window7_224", "Swin-T")
    records = record_ops(choice, 1, 224, "float16")
    found = analyze_layers(Layers("Swin-T", 1, 224, "float16", records), gpus)
    patterns = {(p.pattern, p.hypothetical) for p in found.patterns}
    assert {("attention_fused", True), ("attention_materialised", True), ("scores", False), ("softmax", False)} <= patterns


def test_what_has_no_model_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer import layers as layers_module

    keep: Callable[..., Any] = layers_module.units_of
    monkeypatch.setattr(layers_module, "units_of", lambda layers, n: keep(layers, n) if "mm" in layers[0][0].name else ([], 1))
    from analyzer.capture.meta import record_ops
    from analyzer.schema.settings import ModelChoice

    records = record_ops(ModelChoice("cnn", "resnet18", "ResNet-18"), 1, 64, "float16")
    found = analyze_layers(Layers("ResNet-18", 1, 64, "float16", records), targets(()))
    assert ("aten::convolution (20x)", layers_module.NO_PROBLEM) in [entry[:2] for entry in found.left_out]
