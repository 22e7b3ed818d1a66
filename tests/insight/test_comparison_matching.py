"""Operators of different libraries, vendors and tracers under one name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from analyzer.analysis import digests
from analyzer.insight.comparison import compare_runs
from analyzer.insight.comparison.changes import state_of
from analyzer.insight.comparison.identity import module_name, natural, operand_shapes, operator_name
from analyzer.insight.comparison.matching import match
from analyzer.insight.comparison.ratios import Spread, difference, quotient, spread
from analyzer.schema.comparison import Change
from analyzer.schema.evidence import Evidence, Quantity
from tests.insight.hand_made import CNN, H100, MI300X, VIT, made, renamed, run_facts, samples, scaled


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("aten::cudnn_convolution", "convolution"),
        ("aten::miopen_convolution", "convolution"),
        ("aten::miopen_depthwise_convolution", "convolution"),
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_overrideable", "convolution"),
        ("aten::_conv_depthwise2d", "convolution"),
        ("aten::thnn_conv2d", "convolution"),
        ("aten::_slow_conv2d_forward", "convolution"),
        ("aten::_convolution", "convolution"),
        ("aten::conv2d", "convolution"),
        ("aten::convolution_backward", "convolution_backward"),
        ("aten::cudnn_convolution_backward_weight", "convolution_backward"),
        ("aten::_slow_conv2d_backward", "convolution_backward"),
        ("aten::cudnn_batch_norm", "batch_norm"),
        ("aten::miopen_batch_norm", "batch_norm"),
        ("aten::native_batch_norm", "batch_norm"),
        ("aten::_batch_norm_impl_index", "batch_norm"),
        ("aten::cudnn_batch_norm_backward", "batch_norm_backward"),
        ("aten::native_layer_norm", "layer_norm"),
        ("aten::native_layer_norm_backward", "layer_norm_backward"),
        ("aten::native_group_norm", "group_norm"),
        ("aten::_scaled_dot_product_flash_attention", "scaled_dot_product_attention"),
        ("aten::_scaled_dot_product_efficient_attention", "scaled_dot_product_attention"),
        ("aten::_scaled_dot_product_cudnn_attention", "scaled_dot_product_attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "scaled_dot_product_attention"),
        ("aten::_scaled_dot_product_attention_math", "scaled_dot_product_attention"),
        ("aten::scaled_dot_product_attention", "scaled_dot_product_attention"),
        ("aten::_flash_attention_forward", "scaled_dot_product_attention"),
        ("aten::_efficient_attention_forward", "scaled_dot_product_attention"),
        ("aten::_scaled_dot_product_flash_attention_backward", "scaled_dot_product_attention_backward"),
        ("aten::_softmax", "softmax"),
        ("aten::_log_softmax", "log_softmax"),
        ("aten::relu_", "relu"),
        ("aten::max_pool2d_with_indices", "max_pool2d"),
        ("aten::_adaptive_avg_pool2d", "adaptive_avg_pool2d"),
        ("mkldnn::_linear_pointwise", "linear"),
        ("aten::linear", "linear"),
        # these stay what they are
        ("aten::conj", "conj"),
        ("aten::conv_tbc", "conv_tbc"),
        ("aten::convolution_add_relu", "convolution_add_relu"),
        ("aten::attention_bias", "attention_bias"),
        ("aten::embedding", "embedding"),
        ("aten::__and__", "__and"),
        ("___", "___"),
        ("", ""),
    ],
)
def test_operators_of_one_kind_share_a_name(op: str, name: str) -> None:
    assert operator_name(op) == name


def test_modules_and_shapes_of_different_tracers() -> None:
    assert module_name("_orig_mod.module.blocks[3].mlp") == "blocks.3.mlp"
    assert module_name("my_module.fc") == "my_module.fc"
    assert operand_shapes("scaled_dot_product_attention", "8x12x197x64 8x12x197x64 8x12x197x64 8x12x197x197") == operand_shapes(
        "scaled_dot_product_attention", "8x197x12x64 8x197x12x64 8x197x12x64"
    )
    assert operand_shapes("linear", "8x12 4x12") == "8x12 4x12"
    assert sorted(["b.10.a", "b.9.a", "b.0.c", f"b.{'9' * 5000}"], key=natural) == [
        "b.0.c",
        "b.9.a",
        "b.10.a",
        f"b.{'9' * 5000}",
    ]


def test_vendors_match_by_operator_and_not_by_kernel() -> None:
    nvidia = made("n", CNN, facts=run_facts("cnn", "R50"))
    amd = renamed(
        made("m", scaled(CNN, 2.0), device=MI300X, facts=run_facts("cnn", "R50", MI300X)),
        op=lambda op: op.replace("cudnn", "miopen"),
        kernels=lambda names: tuple(f"Cijk_{name}" for name in names),
    )
    found = compare_runs([nvidia, amd])
    assert found.matched_pct == (100.0, 100.0)
    assert all(row.time_us[1] == pytest.approx(2 * (row.time_us[0] or 0)) for row in found.matched)
    convolution = found.matched[0]
    assert convolution.op == "convolution"
    assert convolution.kernels == (("aten::cudnn_convolution_kernel",), ("Cijk_aten::cudnn_convolution_kernel",))


def test_modules_of_other_tracers_are_paired_in_their_order() -> None:
    layers = tuple(("matmul", "aten::linear", "32x197x768 768x768 768", f"blocks.{n}.attn.proj", 100.0 + n) for n in range(12))
    ours, theirs = (
        made("a", layers),
        renamed(made("b", layers, bare=True), module=lambda m: f"ViT_0.Layer_{m.split('.')[1]}.Linear"),
    )
    found = match([ours, theirs], 0)
    assert found.matched_pct == (100.0, 100.0)
    for row in found.operators():
        assert row.time_us[0] == row.time_us[1]


def test_a_run_without_modules_is_held_against_their_sum() -> None:
    layers = tuple(("matmul", "aten::linear", "32x197x768 768x768 768", f"blocks.{n}", 100.0) for n in range(12))
    found = match([made("a", layers), renamed(made("b", layers, bare=True), module=lambda _: "")], 0)
    (row,) = found.operators()
    assert row.time_us == pytest.approx((1200.0, 1200.0))
    assert row.calls == pytest.approx((12.0, 12.0))
    assert found.matched_pct == (100.0, 100.0)


def test_other_element_types_match_where_all_else_does() -> None:
    found = match([made("a"), made("b", dtype="float32")], 0)
    assert found.matched_pct == (100.0, 100.0)


def test_operators_without_shapes_match_only_among_traces_that_call_the_same() -> None:
    vit, cnn = (
        renamed(made(name, ops, bare=True), shapes=lambda _: "", module=lambda _: "") for name, ops in (("a", VIT), ("b", CNN))
    )
    assert match([vit, replace(vit, name="c")], 0).matched_pct == (100.0, 100.0)
    other = renamed(cnn, op=lambda op: "aten::gelu" if "relu" in op else op)
    found = match([vit, other], 0)
    assert found.matched_pct == (0.0, 0.0)
    assert all(None in row.time_us for row in found.operators())


def test_a_slower_kind_is_found_with_its_modules_and_operators() -> None:
    found = compare_runs([made("a"), made("b", scaled(VIT, 1.2, "attention"), batch_ms=1.14)])
    by = {(change.by, change.name): change for change in found.changes}
    assert by["kind", "attention"].state == "slower"
    assert by["kind", "attention"].delta_us.value == pytest.approx(40.0)
    assert by["module", "blocks.0.attn"].state == "slower"
    operator = next(c for c in found.changes if c.by == "operator" and c.name.startswith("scaled_dot_product_attention"))
    assert operator.state == "slower"
    assert {c.state for c in found.changes if c.by == "kind" and c.name != "attention"} == {"same"}
    # 3.6 % of a batch: clear, but less than the smallest effect
    assert by["model", "time of one batch"].state == "same"
    assert found.reasons[0].text == "slower: attention takes 1.20x as long, +40.0 µs per batch"


def test_baseline_and_other_change_sides() -> None:
    runs = [made("a"), made("b", scaled(VIT, 1.2), batch_ms=1.32)]
    there, back = compare_runs(runs, 0).changes, compare_runs(runs, 1).changes
    assert {c.state for c in there} == {"slower"}
    assert {c.state for c in back} == {"faster"}
    first, second = there[0].delta_us, back[0].delta_us
    assert first.value == pytest.approx(-(second.value or 0))
    assert first.low is not None
    assert second.high is not None
    assert first.low > 0 > second.high


def test_what_one_run_lacks_is_added_or_removed() -> None:
    found = compare_runs(
        [made("a"), made("b", (*VIT[:-1], ("pointwise", "aten::silu", "32x197x3072", "blocks.0.mlp.act", 90.0)))]
    )
    states = {(c.name, c.state) for c in found.changes if c.by == "operator" and c.state in ("added", "removed")}
    assert states == {("silu 32x197x3072", "added"), ("gelu 32x197x3072", "removed")}
    assert {c.state for c in found.changes if c.by == "kind" and c.name == "pointwise"} == {"faster"}
    assert [r.text for r in found.reasons][-2:] == [
        "1 operator added: 90.0 µs per batch",
        "1 operator removed: 100 µs per batch",
    ]


def test_processes_that_differ_make_a_change_unclear() -> None:
    noisy = samples(1.1, between=0.2)
    found = compare_runs([made("a", timings=noisy), made("b", scaled(VIT, 1.2, "attention"), timings=noisy)])
    attention = next(c for c in found.changes if (c.by, c.name) == ("kind", "attention"))
    assert attention.state == "unclear"
    assert "between processes" in attention.delta_us.source


def test_one_step_is_never_a_clear_change() -> None:
    found = compare_runs([made("a", bare=True, steps=1), made("b", scaled(VIT, 3.0), bare=True, steps=1, batch_ms=3.3)])
    assert found.changes
    assert {c.state for c in found.changes} == {"unclear"}
    assert "Kernels take 3.00x as long" in found.headline
    assert "a whole traced step 3.00x; one traced step each, so nothing is certain" in found.headline
    assert found.reasons[0].text.startswith("too few traced steps for an interval, so nothing is certain")
    assert [r.text for r in found.reasons[1:4]] == [
        "matmul takes 3.00x as long, +1.20 ms per batch",
        "attention takes 3.00x as long, +400 µs per batch",
        "normalisation takes 3.00x as long, +200 µs per batch",
    ]


def test_runs_on_other_inputs_have_no_changes_by_operator() -> None:
    found = compare_runs([made("a"), made("b", scaled(VIT, 2.0), facts=run_facts(batch_size=64), batch_ms=2.2)])
    assert {c.by for c in found.changes} == {"model", "kind", "module"}


@pytest.mark.parametrize(
    ("delta", "low", "high", "state"),
    [
        (10.0, 8.0, 12.0, "slower"), (-10.0, -12.0, -8.0, "faster"), (3.0, 2.0, 4.0, "same"), (3.0, 1.0, 9.0, "unclear"),
        (10.0, -1.0, 21.0, "unclear"), (0.0, -50.0, 50.0, "same"), (10.0, None, None, "unclear"), (5.0, 4.0, 6.0, "slower"),
    ],
)  # fmt: skip
def test_states_of_a_change_to_100_us_at_5_percent(delta: float, low: float | None, high: float | None, state: str) -> None:
    assert state_of(Quantity(delta, "us", Evidence.DERIVED, low, high), 100.0, 5.0) == state


def test_intervals_of_means_against_hand_computed_ones() -> None:
    # steps 9, 10, 11: variance 1, of the mean 1/3; 12, 13, 14 likewise. Welch: 4 degrees, t = 2.776, half = 2.776 * sqrt(2/3)
    run = made("a", bare=True)
    first, second = spread((9.0, 10.0, 11.0), run), spread((12.0, 13.0, 14.0), run)
    assert first is not None
    assert second is not None
    assert (first.mean, first.variance, first.freedom) == pytest.approx((10.0, 1 / 3, 2.0))
    ends = difference(first, second)
    assert ends == pytest.approx((3 - 2.2668, 3 + 2.2668), rel=0.01)
    around = quotient(Spread(20.0, 0.0, 2), Spread(10.0, 0.0, 2))
    assert around == pytest.approx((2.0, 2.0))
    assert spread((9.0, 10.0), run) == Spread(9.5, None, 0.0)
    assert spread((), run) is None


def test_the_same_vit_on_two_vendors_matches(public_traces: Path) -> None:
    names = ("tracelens_h100_vit_nsfw_infer", "tracelens_mi300_vit_nsfw_infer")
    found = compare_runs(list(digests([public_traces / f"{name}.json.gz" for name in names])))
    assert min(found.matched_pct) > 99
    assert {gain.basis for gain in found.gains} == {"time"}
    assert found.changes
    by_kind = {c.name: c for c in found.changes if c.by == "kind"}
    assert by_kind["attention"].delta_us.value == pytest.approx(374.687 - 122.848)


def test_mismatches_of_the_public_traces(public_traces: Path) -> None:
    names = [
        "kineto_v100_resnet50_train_nw0", "param_rtx2080ti_resnet_train", "hta_a100_alexnet_critical_path",
        "tracelens_h100_vit_nsfw_infer", "tracelens_b200_eager", "tracelens_mi300_vit_nsfw_infer", "hta_cpu_only_tiny",
    ]  # fmt: skip
    found = compare_runs(list(digests([public_traces / f"{name}.json.gz" for name in names])))
    rows = {row.fact: row for row in found.facts}
    assert rows["datasheet"].values == (
        "V100 SXM2 32GB", "RTX 2080 Ti", "A100 SXM4 40GB", "H100 SXM5 80GB", "B200", "MI300X", "unknown",
    )  # fmt: skip
    assert rows["vendor"].values == ("NVIDIA",) * 5 + ("AMD", "unknown")
    assert rows["compute capability"].values == ("7.0", "7.5", "8.0", "9.0", "10.0", "9.4", "unknown")
    assert rows["training or inference"].values == ("training", "training", *("inference",) * 4, "unknown")
    assert rows["CUDA or ROCm"].values == (*("unknown",) * 3, "CUDA 12.4", "CUDA 12.9", "ROCm 6.4.43483", "unknown")
    assert rows["CUDA that the driver supports"].values == (*("unknown",) * 3, "12.9", "13.0", "unknown", "unknown")
    assert rows["batch size"].values == ("32", "unknown", "unknown", "4", "unknown", "4", "unknown")
    assert rows["times cover"].values[0] == rows["times cover"].values[3] == rows["times cover"].values[5] == "one batch"
    assert {row.fact for row in found.facts if row.warning} == {
        "training or inference", "batch size", "element type", "times cover",
    }  # fmt: skip
    for device in ("V100", "RTX 2080 Ti", "A100", "H100", "B200", "MI300X"):
        assert device in found.headline
    assert "those on H100 SXM5 80GB and MI300X do the same work" in found.headline


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        ({"cuda_runtime_version": 12040, "cuda_driver_version": 13000}, {"cuda": "12.4", "cuda_driver": "13.0"}),
        ({"hip_runtime_version": 60443483, "cuda_runtime_version": 0}, {"hip": "6.4.43483"}),
        ({"cuda_runtime_version": "none", "cuda_driver_version": -1, "hip_runtime_version": 1e30}, {}),
    ],
)
def test_a_header_names_the_versions_of_a_bare_trace(
    tmp_path: Path, header: dict[str, object], versions: dict[str, str]
) -> None:
    event = {"ph": "X", "cat": "cpu_op", "name": "aten::add", "pid": 1, "tid": 1, "ts": 1.0, "dur": 1.0}
    (tmp_path / "t.json").write_text(json.dumps({**header, "traceEvents": [event]}))
    (found,) = digests([tmp_path / "t.json"])
    assert found.versions == versions


def test_a_change_is_of_the_kind_that_has_its_time() -> None:
    found = compare_runs([made("a", device=H100), made("b")])
    kinds = {c.name: c.kind for c in found.changes if c.by == "module"}
    assert kinds["blocks.0.attn"] == "attention"
    assert all(isinstance(c, Change) for c in found.changes)
