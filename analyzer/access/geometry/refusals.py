"""Kernels whose algorithm is outside the model, by words in their names, with the reason that a table shows."""

from __future__ import annotations

import re

from analyzer.access.geometry.launch import Triple
from analyzer.access.geometry.named import READ
from analyzer.access.problem import Attention, Convolution, Product, Window

_ANYWHERE = (
    (r"winograd", "Winograd convolution"),
    (r"fft|(?:gc|c|z)gemm_\d|flip_filter", "FFT convolution"),
    (r"wgrad|_stridedB_|bwd|backward|fmha_cutlassB", "backward or transposed kernel"),
    (r"splitk_?reduce|splitk?v?_combine|_PostGSU", "merges partial results of another kernel"),
    (r"compute\w{0,10}Offsets|generate_?indices", "prepares addresses for another kernel"),
    (r"dynBatch|grouped_?gemm|group_gemm|moe::|_moe|moe_", "grouped product of uneven sizes"),
    (r"spmm|csrmm|cusparse", "sparse product"),
)
_HEAD = (
    (r"^(?:void )?epilogue::|addBias|add_tensor", "epilogue of another kernel"),
    (r"nchwTo|nhwcTo|nchw2|nhwc2|batched_transpose|transpose_readWrite|scalePackedTensor", "layout helper"),
    (r"elementwise|memcpy|memset|fill_?kernel|CatArray|softmax|layer_norm|quantize", "pointwise helper"),
)
_WINDOWS_OWN = ((r"dgrad", "backward or transposed kernel"), (r"reduce_kernel", "reduction helper"))
"""Words that speak of another problem everywhere but under a window: a mean over the image is pooling by a reduction, and
cuDNN runs depthwise convolutions with kernels that it also has for the backward pass."""

Rule = tuple[re.Pattern[str], str]


def _compiled(rules: tuple[tuple[str, str], ...]) -> tuple[Rule, ...]:
    return tuple((re.compile(words, re.IGNORECASE), reason) for words, reason in rules)


_NAME_RULES = _compiled(_ANYWHERE)
_HEAD_RULES = _compiled(_HEAD)
_OTHER_RULES = _compiled(_WINDOWS_OWN)
_LEGACY_GEMM = re.compile(r"(?:^|[ _])[sdh]\d{0,6}gemm_")
_WINOGRAD_LAYERS = (16, 36, 64)


def refusal(kernel: str, grid: Triple | None, problem: Product | Convolution | Window | Attention) -> str | None:
    """Return the reason why this kernel is not modelled, or None.

    A batched product of 16, 36 or 64 layers under a convolution with a window is the middle part of a Winograd convolution,
    which cuDNN runs as three kernels: (2 + 2)^2, (4 + 2)^2 and (6 + 2)^2 points.
    """
    text = kernel[:READ]
    # Template arguments name types of the epilogue even where the kernel is the product itself.
    head = text.split("<", 1)[0]
    others = () if isinstance(problem, Window) else _OTHER_RULES
    for rules, part in ((_NAME_RULES, text), (others, text), (_HEAD_RULES, head)):
        for words, reason in rules:
            if words.search(part):
                return reason
    if isinstance(problem, Convolution) and problem.kernel != (1, 1) and _LEGACY_GEMM.search(text):
        if grid is not None and grid[2] in _WINOGRAD_LAYERS:
            return "Winograd convolution: its batched product"
        return "product inside a convolution, cut in a way that is not known"
    return None
