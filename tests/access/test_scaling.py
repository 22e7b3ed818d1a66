"""Layers at another image size, against the same model recorded at that size."""

from __future__ import annotations

import pytest

from analyzer.access.describe import describe
from analyzer.access.problem import Attention, Convolution, Described, Pass, Problem, Product, Window
from analyzer.access.scaling import materialised, scaled, scaled_layers
from tests.access.test_describe import bytes_of, calls_of_model

ITEM = 2


def layers(name: str, batch: int, size: int) -> list[Problem]:
    return [found.problem for call in calls_of_model(name, batch, size) if (found := describe(call))]


@pytest.mark.parametrize(
    ("name", "batch", "size", "other"),
    [
        ("vit_base_patch16_224", 2, 224, 448),
        ("vit_base_patch16_224", 2, 224, 384),
        ("convnext_base", 2, 224, 448),
        ("resnet50", 2, 224, 448),
        ("resnet50", 1, 448, 224),
        ("efficientnet_b0", 2, 224, 448),
        ("dm_nfnet_f0", 2, 224, 448),
        ("swin_tiny_patch4_window7_224", 2, 224, 448),  # its last stage has one window at 224 px, which grows here
        ("swin_tiny_patch4_window7_224", 2, 448, 896),
        ("samvit_base_patch16", 2, 448, 896),  # whole windows; at other sizes they are padded
    ],
)
def test_a_scaled_model_is_the_model_at_that_size(name: str, batch: int, size: int, other: int) -> None:
    found = scaled_layers(layers(name, batch, size), other / size, batch)
    true = layers(name, batch, other)
    assert sum(p.flop for p in found) == pytest.approx(sum(p.flop for p in true), rel=0.02)
    assert sum(map(bytes_of, found)) == pytest.approx(sum(map(bytes_of, true)), rel=0.03)


def test_one_layer_alone_scales_as_in_its_model() -> None:
    name = "convnext_base"
    assert [scaled(p, 2.0, 2) for p in layers(name, 2, 224)] == scaled_layers(layers(name, 2, 224), 2.0, 2)


def test_products() -> None:
    assert scaled(Product(1, 2 * 197, 2304, 768, ITEM, ITEM), 2.0, 2) == Product(1, 2 * 785, 2304, 768, ITEM, ITEM)
    assert scaled(Product(1, 2 * 196, 768, 768, ITEM, ITEM, 9), 2.0, 2) == Product(1, 8 * 196, 768, 768, ITEM, ITEM, 9)
    classifier = Product(1, 2, 1000, 768, ITEM, ITEM)
    assert scaled(classifier, 2.0, 2) == classifier
    assert scaled(Product(24, 197, 197, 64, ITEM, ITEM), 2.0, 2) == Product(24, 785, 785, 64, ITEM, ITEM)
    assert scaled(Product(24, 197, 64, 197, ITEM, ITEM), 2.0, 2) == Product(24, 785, 64, 785, ITEM, ITEM)
    # 16 windows of 49 tokens in each of two images, three heads
    assert scaled(Product(96, 49, 49, 32, ITEM, ITEM), 2.0, 2, 2 * 16 * 49) == Product(384, 49, 49, 32, ITEM, ITEM)


def test_windows_and_convolutions() -> None:
    moves = ((3, 3), (2, 2), (1, 1), (1, 1))
    convolution = Convolution(2, 1, 8, 16, 56, 56, *moves, ITEM)
    assert scaled(convolution, 1.5, 2) == Convolution(2, 1, 8, 16, 84, 84, *moves, ITEM)
    assert scaled(Window(16, 7, 7, *moves, ITEM), 2.0, 2) == Window(16, 14, 14, *moves, ITEM)
    pooled = Window(16, 7, 7, (7, 7), (7, 7), (0, 0), (1, 1), ITEM, flop_per_tap=1)
    assert scaled(pooled, 2.0, 2) == Window(16, 14, 14, (14, 14), (14, 14), (0, 0), (1, 1), ITEM, flop_per_tap=1)
    rounded = Window(16, 7, 7, (2, 2), (2, 2), (0, 0), (1, 1), ITEM, out_size=(4, 4))
    assert scaled(rounded, 2.0, 2) == Window(16, 14, 14, (2, 2), (2, 2), (0, 0), (1, 1), ITEM, out_size=(8, 8))


def test_attention() -> None:
    whole = Attention(2, 12, 12, 196, 196, 64, 64, ITEM, extra_bytes=196 * 196)
    assert scaled(whole, 2.0, 2) == Attention(2, 12, 12, 784, 784, 64, 64, ITEM, extra_bytes=784 * 784)
    one_mask, masks = 3 * 49 * 49 * ITEM, 32 * 3 * 49 * 49 * ITEM
    for mask, grown in ((one_mask, one_mask), (masks, 4 * masks)):
        windows = Attention(32, 3, 3, 49, 49, 32, 32, ITEM, extra_bytes=mask)
        assert scaled(windows, 2.0, 2) == Attention(128, 3, 3, 49, 49, 32, 32, ITEM, extra_bytes=grown)
    # heads folded into the batch: the rows before it tell that there are no windows
    folded = Attention(24, 1, 1, 196, 196, 64, 64, ITEM)
    assert scaled(folded, 2.0, 2, 2 * 196) == Attention(24, 1, 1, 784, 784, 64, 64, ITEM)
    pooling = Attention(2, 12, 12, 1, 196, 64, 64, ITEM)
    assert scaled(pooling, 2.0, 2) == Attention(2, 12, 12, 1, 784, 64, 64, ITEM)


def test_passes_keep_their_weights() -> None:
    assert scaled(Pass(1000, 900, 50.0, 100), 2.0, 2) == Pass(3700, 3600, 200.0, 100)
    weights = Pass(1000, 900, 50.0, 1000)
    assert scaled(weights, 2.0, 2) == weights


def test_passes_over_scores_grow_as_those_do() -> None:
    scores = 24 * 196 * 196 * ITEM
    chain: list[Problem] = [
        Product(1, 2 * 196, 2304, 768, ITEM, ITEM),
        Product(24, 196, 196, 64, ITEM, ITEM),
        Pass(scores, scores),
        Product(24, 196, 64, 196, ITEM, ITEM),
        Product(1, 2 * 196, 768, 768, ITEM, ITEM),
        Pass(scores, scores),  # as large by chance, behind the next linear layer
    ]
    found = scaled_layers(chain, 2.0, 2)
    assert [bytes_of(p) / bytes_of(before) for p, before in zip(found, chain, strict=True) if isinstance(p, Pass)] == [16, 4]


@pytest.mark.parametrize("kv_heads", [12, 3])
def test_materialised_attention_moves_its_scores_four_times(kv_heads: int) -> None:
    attention = Attention(2, 12, kv_heads, 197, 197, 64, 64, ITEM)
    parts = materialised(attention, "float16")
    assert all(isinstance(part, Described) and part.pattern == "attention_materialised" for part in parts)
    scores, values = 2 * 12 * 197 * 197, 2 * 197 * 64
    expected = ITEM * (4 * scores + values * (2 * 12 + 2 * kv_heads))
    assert sum(bytes_of(part.problem) for part in parts) == expected
    assert sum(part.problem.flop for part in parts if isinstance(part.problem, Product)) == attention.flop
    assert parts[0].problem.write_bytes == parts[1].problem.read_bytes == attention.score_bytes
