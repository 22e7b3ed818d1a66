"""FLOP and parameters of whole models, counted on the meta device, against published figures and torch's own counter."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

from analyzer.metrics.work import work_of
from analyzer.schema.operators import OpCall
from analyzer.schema.settings import ModelChoice
from analyzer.trace.calls import exact_call
from analyzer.trace.kinds import operator_kind

PUBLISHED = {
    # name: (GFLOP per image at 224 px with a multiply-add as 2, parameters)
    "vit_base_patch16_224": (35.128, 86_567_656),
    "resnet50": (8.178, 25_557_032),
    "convnext_tiny": (8.911, 28_589_128),
    "swin_tiny_patch4_window7_224": (8.981, 28_288_354),
}
EVERY = [
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_large_patch16_224", "deit_small_patch16_224", "samvit_base_patch16",
    "convnext_base", "resnet18", "efficientnet_b0", "dm_nfnet_f0", "dm_nfnet_f1", *PUBLISHED,
]  # fmt: skip

# what the same call is named on CUDA, and where its arguments move: (stride, padding, dilation, groups) -> cuDNN's order
CUDA_NAMES = {"aten::scaled_dot_product_attention": "aten::_scaled_dot_product_flash_attention"}


@lru_cache(maxsize=32)
def _calls(name: str) -> tuple[OpCall, ...]:
    from analyzer.capture.meta import record_ops

    return tuple(exact_call(op) for op in record_ops(ModelChoice("vit", name, name), 1, 224, "float32"))


def _flop(calls: tuple[OpCall, ...]) -> float:
    found = [work_of(call) for call in calls]
    assert all(w is not None and w.basis == "formula" for w in found), "an operator without a work model"
    return sum(w.flop for w in found if w is not None)


@pytest.mark.parametrize("name", PUBLISHED)
def test_flop_and_parameters_equal_the_published_ones(name: str) -> None:
    from analyzer.capture.meta import parameters

    gflop, count = PUBLISHED[name]
    assert _flop(_calls(name)) / 1e9 == pytest.approx(gflop, rel=0.005)
    assert parameters(ModelChoice("vit", name, name), 224) == count


@pytest.mark.parametrize("name", EVERY)
def test_products_equal_torchs_own_counter(name: str) -> None:
    """Multiply-adds alone, exactly, for every model of conf/."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from analyzer.capture.workload import build

    with torch.device("meta"), torch.inference_mode():
        model = build(ModelChoice("vit", name, name), 1, 224).model
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224))
    kinds = ("matmul", "convolution", "depthwise", "attention")
    products = [c for c in _calls(name) if operator_kind(c.name) in kinds]
    assert _flop(tuple(products)) == counter.get_total_flops()


def _as_cuda(call: OpCall) -> OpCall:
    """Return the call as CUDA runs it: cuDNN's convolution with its own argument order, flash attention; no outputs recorded."""
    if call.name == "aten::convolution":
        image, weight, _, stride, padding, dilation, _, _, groups = call.inputs
        return OpCall("aten::cudnn_convolution", (image, weight, padding, stride, dilation, groups))
    return OpCall(CUDA_NAMES.get(call.name, call.name), call.inputs)


def _as_cpu(call: OpCall) -> OpCall:
    if call.name == "aten::convolution":
        image, weight, bias, stride, padding, dilation, _, _, groups = call.inputs
        return OpCall("aten::mkldnn_convolution", (image, weight, bias, padding, stride, dilation, groups))
    attention = {"aten::scaled_dot_product_attention": "aten::_scaled_dot_product_flash_attention_for_cpu"}
    return OpCall(attention.get(call.name, call.name), call.inputs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cpu_and_cuda_names_count_the_same(name: str) -> None:
    def total(rename: Any) -> float:
        kinds = ("matmul", "convolution", "attention")
        return _flop(tuple(rename(c) for c in _calls(name) if operator_kind(c.name) in kinds))

    assert total(_as_cpu) == total(_as_cuda) == total(lambda call: call)
