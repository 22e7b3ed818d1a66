"""Launches of a trace as the access model takes them: what has a geometry, what has none and why, and how work is split."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyzer.access.kernel import Launch, kernel_access
from analyzer.access.launches import COLUMNS, HELPER, NO_PROBLEM, NO_WORK, add_access, input_of
from analyzer.access.problem import Attention, Described, Pass, Product
from analyzer.access.result import Subject
from analyzer.access.subject import caches
from analyzer.access.tiling import Geometry, Raster
from analyzer.access.units import Unit, attentions, in_roles, role_of, units_of, variant
from analyzer.analysis import analyze
from analyzer.schema.operators import OpCall, TensorArg

(H100,) = caches(("h100_sxm5_80gb",))
SUBJECT = Subject("a model", 2, 224, (H100,), (), H100.multiprocessors, 1.0)
GEMM = "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x32_stage4_warpsize2x2x1_tensor16x8x16_kernel"
COPY = "void at::native::elementwise_kernel<128, 4>(int, at::native::copy)"


def tensor(*shape: int, dtype: str = "float16") -> TensorArg:
    stride = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return TensorArg(shape, dtype, stride)


def linear(tokens: int = 512, k: int = 256, n: int = 384) -> OpCall:
    weight = TensorArg((k, n), "float16", (1, k))
    return OpCall("aten::mm", (tensor(tokens, k), weight), (tensor(tokens, n),))


RELU = OpCall("aten::relu", (tensor(512, 384),), (tensor(512, 384),))
CALLS: list[OpCall | None] = [linear(), RELU]


def row(**other: Any) -> dict[str, Any]:
    """A kernel that does the whole work of the linear layer."""
    return {
        "category": "kernel", "kernel": GEMM, "kind": "matmul", "grid": "4,3,1", "block": "256,1,1", "owner": 0, "op_index": 0, "op": "aten::mm",
        "basis": "formula", "module": "Model_0.Linear_0", "dtype": "float16", "shapes": "512x256 256x384",
        "bytes_compulsory": 851968.0, "dur_ns": 10_000, "resident_blocks": 1.0, "floor_compute_us": 1.0, "flop": 1e8, "step": 0,
        "unmodelled": "", "is_backward": False,
    } | other  # fmt: skip


def added(*rows: dict[str, Any], calls: list[OpCall | None] | None = None, **subject: Any) -> tuple[pd.DataFrame, Any]:
    return add_access(pd.DataFrame(list(rows)), CALLS if calls is None else calls, replace(SUBJECT, **subject), on_gpu=True)


def test_a_launch_gets_its_bytes_and_its_confidence() -> None:
    frame, result = added(row())
    (one,) = frame.to_dict("records")
    product = Product(1, 512, 384, 256, 2, 2)
    assert one["geometry_confidence"] == "exact"
    # 4 x 3 tiles of 128 x 128: A three times, B four times, C once
    assert one["bytes_l2_sm"] == 2 * (3 * 512 * 256 + 4 * 384 * 256) + product.write_bytes
    assert one["reuse_factor"] == pytest.approx((one["bytes_l2_sm"] - product.write_bytes) / product.read_bytes)
    assert one["bytes_dram_low"] == product.read_bytes  # all of it stays in the cache, writes too
    assert one["bytes_dram_high"] == product.read_bytes + product.write_bytes
    assert one["footprint_bytes"] == 2 * (128 * 256 * 2 + 128 * 128)
    assert result.modelled_pct == 100
    assert result.left_out == ()
    (pattern,) = result.patterns
    assert (pattern.pattern, pattern.calls, pattern.time_us, pattern.hypothetical) == ("linear", 1.0, 10.0, False)


def test_what_was_given_is_left_as_it_was() -> None:
    given = pd.DataFrame([row(), row(basis="helper", kind="layout", kernel=COPY, op_index=1)])
    before = given.copy()
    frame, _ = add_access(given, CALLS, SUBJECT, on_gpu=True)
    pd.testing.assert_frame_equal(given, before)
    pd.testing.assert_frame_equal(frame[list(given.columns)], before)
    assert list(frame.columns) == [*given.columns, *COLUMNS]


def test_launches_that_share_an_operator_share_its_bytes() -> None:
    whole, _ = added(row())
    parts, result = added(row(dur_ns=7500), row(dur_ns=2500))
    for name in ("bytes_l2_sm", "bytes_dram_low", "bytes_dram_high"):
        assert parts[name].tolist() == pytest.approx([0.75 * whole[name][0], 0.25 * whole[name][0]])
    # figures of a block are those of the whole launch
    assert parts["reuse_factor"].tolist() == [whole["reuse_factor"][0]] * 2
    (pattern,) = result.patterns
    assert (pattern.calls, pattern.time_us) == (1.0, 10.0)


def test_launches_of_a_helper_share_its_bytes() -> None:
    """A copy that was cut into several launches moves its tensor once."""
    copies = [row(basis="helper", kind="pointwise", kernel=COPY, op_index=1, dur_ns=ns) for ns in (3000, 1000)]
    frame, _ = added(row(), *copies)
    size = 512 * 384 * 2
    assert frame["bytes_l2_sm"].tolist()[1:] == [1.5 * size, 0.5 * size]


def test_a_refused_sibling_takes_no_bytes() -> None:
    frame, result = added(row(dur_ns=9000), row(kernel="splitKreduce_kernel", dur_ns=1000))
    whole, _ = added(row())
    assert frame["bytes_l2_sm"][0] == whole["bytes_l2_sm"][0]
    assert result.patterns[0].calls == 1.0


def test_times_and_calls_are_per_batch() -> None:
    rows = [row(step=step, owner=i, op_index=i) for i, step in enumerate((0, 0, 1, 1))]
    _, result = added(*rows, calls=[linear()] * 4, batches=2.0)
    (pattern,) = result.patterns
    assert (pattern.calls, pattern.time_us) == (2.0, 20.0)


def test_a_helper_of_the_operator_with_the_work_has_no_bytes_of_its_own() -> None:
    frame, result = added(row(dur_ns=9000), row(basis="helper", kind="layout", kernel=COPY, dur_ns=1000))
    assert math.isnan(frame["bytes_l2_sm"][1])
    assert frame["geometry_confidence"].tolist() == ["exact", ""]
    assert result.left_out == (("layout", HELPER, pytest.approx(10.0)),)
    assert result.modelled_pct == pytest.approx(90)


def test_a_helper_with_an_operator_of_its_own_is_that_operator() -> None:
    frame, result = added(row(), row(basis="helper", kind="pointwise", kernel=COPY, op_index=1))
    size = 512 * 384 * 2
    assert frame["bytes_l2_sm"][1] == 2 * size
    assert frame["geometry_confidence"][1] == "inferred"
    assert {p.pattern for p in result.patterns} == {"linear", "pointwise"}
    assert result.modelled_pct == 100


def test_every_launch_without_a_geometry_has_a_reason() -> None:
    frame, result = added(
        row(dur_ns=4000),
        row(basis="none", unmodelled="unknown operator", dur_ns=3000, kind="other"),
        row(basis="generic", unmodelled="", dur_ns=2000, kind="other"),
        row(kernel="void splitKreduce_kernel<32, 16, int>(cublasSplitKParams)", dur_ns=1000),
        row(owner=-1, op_index=-1, kind="matmul", dur_ns=500),
    )
    reasons = {why: share for _, why, share in result.left_out}
    assert {"unknown operator", NO_WORK, NO_PROBLEM} <= set(reasons)
    assert frame["geometry_confidence"].tolist() == ["exact", "", "", "", ""]
    assert sum(reasons.values()) == pytest.approx(100 * 6500 / 10_500)
    assert result.modelled_pct == pytest.approx(100 * 4000 / 10_500)
    shares = [share for _, _, share in result.left_out]
    assert shares == sorted(shares, reverse=True)


def test_views_and_copies_to_the_host_are_no_kernels() -> None:
    frame, result = added(
        row(), row(basis="view", kind="view", dur_ns=0), row(category="memcpy", basis="none", kind="transfer", dur_ns=50_000)
    )
    assert frame["geometry_confidence"].tolist() == ["exact", "", ""]
    assert result.left_out == ()
    assert result.modelled_pct == 100


def test_bytes_of_the_work_model_stand_in_for_arguments() -> None:
    frame, result = added(row(owner=-1, op_index=-1, kind="normalisation", kernel="layer_norm", bytes_compulsory=1e6))
    assert frame["bytes_l2_sm"].tolist() == [1e6]
    assert result.patterns[0].pattern == "norm"


def test_another_grid_is_another_order() -> None:
    frame, result = added(row(kernel="ampere_fp16_s16816gemm_fp16_128x128_ldg8_f2f_stages_32x5_tn", grid="3,4,1"), row())
    assert frame["geometry_confidence"].tolist() == ["exact", "exact"]
    assert len({p.order for p in result.patterns}) == len(result.patterns) == 2
    assert frame["bytes_l2_sm"][0] == frame["bytes_l2_sm"][1], "what crosses L2 does not depend on the order"


def test_a_grid_that_does_not_fit_is_never_exact() -> None:
    frame, result = added(row(grid="7,5,3"), row(grid=""))
    assert "exact" not in frame["geometry_confidence"].tolist()
    assert result.modelled_pct + sum(share for _, _, share in result.left_out) == pytest.approx(100)


def test_without_a_device_model_there_are_no_dram_bytes() -> None:
    frame, result = added(row(), devices=())
    assert math.isnan(frame["bytes_dram_low"][0])
    assert frame["bytes_l2_sm"][0] > 0
    assert result.sizes == result.costs == ()


def test_an_empty_trace_has_nothing() -> None:
    frame, result = add_access(pd.DataFrame([row()]).iloc[:0], [], SUBJECT, on_gpu=True)
    assert len(frame) == 0
    assert (result.patterns, result.left_out, result.modelled_pct) == ((), (), 0.0)


def test_a_cpu_operator_takes_assumed_blocks() -> None:
    frame, _ = add_access(
        pd.DataFrame([row(category="operator", kernel="aten::mm", grid="", block="")]), CALLS, SUBJECT, on_gpu=False
    )
    assert frame["geometry_confidence"].tolist() == ["assumed"]


def test_the_input_is_that_of_the_first_convolution_of_three_channels() -> None:
    def conv(*shape: int) -> OpCall:
        out = tensor(shape[0], 8, shape[2] - 2, shape[3] - 2)
        arguments = (tensor(*shape), tensor(8, shape[1], 3, 3), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)
        return OpCall("aten::convolution", arguments, (out,))

    assert input_of([None, RELU, conv(4, 8, 30, 30), conv(5, 3, 96, 96), conv(6, 3, 50, 50)]) == (5, 96)
    assert input_of([None, RELU]) == (0, 0)


@pytest.fixture(scope="module")
def h100(request: pytest.FixtureRequest) -> Any:
    from tests.conftest import PUBLIC_TRACES

    trace = PUBLIC_TRACES / "tracelens_h100_vit_nsfw_infer.json.gz"
    if not Path(trace).is_file():
        pytest.skip("the public traces are not here: they lie in ../shared and are not part of the repository")
    return analyze(trace)


def test_of_a_public_trace_every_kernel_is_modelled_or_listed(h100: Any) -> None:
    launches, result = h100.launches, h100.access
    kernels = launches[launches["category"] == "kernel"]
    assert len(kernels) > 100
    assert result.modelled_pct >= 95
    assert result.modelled_pct + sum(share for _, _, share in result.left_out) == pytest.approx(100)
    without = kernels[kernels["geometry_confidence"] == ""]
    assert set(kernels["geometry_confidence"]) <= {"exact", "inferred", "assumed", ""}
    assert 100 * without["dur_ns"].sum() / kernels["dur_ns"].sum() == pytest.approx(100 - result.modelled_pct)
    assert set(without["kind"]) == {kind for kind, _, _ in result.left_out}
    assert all(why for _, why, _ in result.left_out)


def test_of_a_public_trace_figures_hang_together(h100: Any) -> None:
    launches, result = h100.launches, h100.access
    found = launches[launches["geometry_confidence"] != ""]
    assert (found["bytes_dram_low"] <= found["bytes_dram_high"]).all()
    assert (found["bytes_l2_sm"] > 0).all()
    ran = [p for p in result.patterns if not p.hypothetical]
    assert sum(p.time_us * h100.window.batches for p in ran) == pytest.approx(found["dur_ns"].sum() / 1e3)
    # however many launches an operator has, they do its work once
    assert sum(p.calls * h100.window.batches for p in ran) == pytest.approx(found["op_index"].nunique())
    # products and attention read at least their operands; a matrix product of the MLP is read from L2 several times
    for pattern in ran:
        assert pattern.l2_sm_bytes[0] >= 0.999 * pattern.read_bytes
        for traffic in pattern.traffic.values():
            assert 0 <= traffic.read[0] <= traffic.read[1]
            assert traffic.write[0] <= traffic.write[1] <= pattern.write_bytes * (1 + 1e-9)
    assert max(p.l2_sm_bytes[0] / p.read_bytes for p in ran) > 2
    assert result.attention == "fused"
    assert {p.pattern for p in result.patterns if p.hypothetical} == {"attention_materialised"}


def test_a_public_trace_tells_its_own_input(h100: Any) -> None:
    assert (h100.access.batch_size, h100.access.image_size) == (4, 224)
    assert h100.access.devices[0].key == "h100_sxm5_80gb"


TILES = Geometry(128, 128, 64, (Raster("mnb"),), "exact", "")
BLOCKS = Geometry(128, 128, 64, (Raster("qhb"),), "exact", "")


def unit(pattern: str, problem: Any, *, materialised: bool = False) -> Unit:
    geometry = BLOCKS if isinstance(problem, Attention) else TILES
    return Unit(Described(pattern, problem, "", "float16"), Launch(problem, geometry, materialised=materialised), "Model_0")


HEADS, TOKENS, WIDTH = 24, 197, 64
SCORES = unit("scores", Product(HEADS, TOKENS, TOKENS, WIDTH, 2, 2))
SCORE_BYTES = HEADS * TOKENS * TOKENS * 2
SOFTMAX = unit("softmax", Pass(SCORE_BYTES, SCORE_BYTES))
SCALE = unit("pointwise", Pass(SCORE_BYTES, SCORE_BYTES))
VALUES = unit("scores", Product(HEADS, TOKENS, WIDTH, TOKENS, 2, 2))
LINEAR = unit("linear", Product(1, TOKENS, 768, 768, 2, 2))
FUSED = unit("attention_fused", Attention(2, 12, 12, TOKENS, TOKENS, WIDTH, WIDTH, 2))


def test_attention_in_one_kernel_and_in_parts() -> None:
    found = attentions([LINEAR, FUSED, LINEAR, SCORES, SCALE, SOFTMAX, VALUES, LINEAR])
    assert [(m.first, m.count) for m in found] == [(1, 1), (3, 4)]
    assert found[0].problem == FUSED.launch.problem
    whole = found[1].problem
    assert whole == Attention(HEADS, 1, 1, TOKENS, TOKENS, WIDTH, WIDTH, 2)
    assert isinstance(FUSED.launch.problem, Attention)
    for name in ("flop", "read_bytes", "write_bytes", "score_bytes"):
        assert getattr(whole, name) == getattr(FUSED.launch.problem, name)


@pytest.mark.parametrize(
    "units",
    [
        [SCORES, VALUES],  # no softmax
        [SCORES, SOFTMAX, unit("scores", Product(HEADS, TOKENS, WIDTH, TOKENS + 1, 2, 2))],  # another matrix
        [SCORES, SOFTMAX, unit("scores", Product(HEADS - 1, TOKENS, WIDTH, TOKENS, 2, 2))],  # another batch
        [SCORES, unit("softmax", Pass(10, 10)), VALUES],  # another softmax
        [SCORES, *[SCALE] * 24, SOFTMAX, VALUES],  # too far away
        [SCORES, SOFTMAX],
        [SOFTMAX, VALUES],
        [replace(FUSED, launch=replace(FUSED.launch, materialised=True))],
        [],
    ],
)
def test_what_is_no_attention(units: list[Unit]) -> None:
    assert attentions(units) == []


def test_whatever_stands_between_the_products_is_attention() -> None:
    units = [LINEAR, SCORES, SCALE, SOFTMAX, VALUES, SCALE, LINEAR]
    roles = [role_of(u) for u in in_roles(units)]
    assert roles == ["dense math", *["attention"] * 4, "other", "dense math"]
    assert [role_of(u) for u in units] == ["dense math", "attention", "other", "other", "attention", "other", "dense math"]


def test_the_other_way_keeps_the_problem() -> None:
    assert isinstance(FUSED.launch.problem, Attention)
    problem = FUSED.launch.problem
    out = variant(FUSED, problem, materialised=True)
    assert (out.pattern, out.launch.materialised, out.launch.problem) == ("attention_materialised", True, problem)
    assert out.launch.geometry == replace(BLOCKS, confidence="assumed")
    back = variant(SCORES, problem, materialised=False)
    assert (back.pattern, back.launch.materialised, back.launch.problem) == ("attention_fused", False, problem)
    assert back.launch.geometry.confidence == "assumed"
    assert back.launch.geometry.rasters[0].axes[0] == "q"
    assert (back.time_us, back.kernel, role_of(back)) == (0.0, "", "attention")


def test_scores_written_out_move_more_bytes() -> None:
    assert isinstance(FUSED.launch.problem, Attention)
    problem = FUSED.launch.problem
    fused, out = (
        kernel_access(variant(FUSED, problem, materialised=m).launch, (H100,), H100.multiprocessors) for m in (False, True)
    )
    assert out.l2_sm_bytes[1] == problem.write_bytes + 2 * problem.score_bytes
    assert sum(out.l2_sm_bytes) > 2 * sum(fused.l2_sm_bytes)


def test_layers_known_by_their_shapes() -> None:
    unknown = OpCall("aten::convolution_backward", (tensor(1, 4, 4, 4),), (tensor(1, 4, 4, 4),))
    view = OpCall("aten::view", (replace(tensor(4, 4), storage=1),), (replace(tensor(16), storage=1),))
    units, left = units_of([(linear(), "Model.Linear.0"), (unknown, ""), (view, ""), (RELU, "Model")], 2)
    assert [u.pattern for u in units] == ["linear", "pointwise"]
    assert [u.launch.geometry.confidence for u in units] == ["assumed", "inferred"]
    assert left == 1
    assert np.isnan(units[0].rate_tflops)


def test_a_product_that_autograd_called_is_no_linear_layer() -> None:
    _, result = added(row(), row(is_backward=True))
    assert {p.pattern for p in result.patterns} == {"linear", "product_backward"}
