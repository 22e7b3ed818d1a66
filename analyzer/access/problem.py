"""What a kernel computes, apart from how: the few loop nests that the access model knows, with their sizes.

Each problem tells its FLOP, the distinct bytes it reads and writes, and itself at another image size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Product:
    """``batch`` products C[m,n] = A[m,k] B[k,n]: linear layers, convolutions without overlap, Q K^T and P V.

    ``m`` counts rows (tokens, pixels, queries), ``n`` columns (output features, keys). A linear layer has one batch and all
    tokens in ``m``. ``itemsize`` is of A and B, ``out_itemsize`` of C, both in bytes; ``extra_bytes`` is what is read once
    beside them (bias, summand).
    """

    batch: int
    m: int
    n: int
    k: int
    itemsize: int
    out_itemsize: int
    extra_bytes: int = 0

    @property
    def flop(self) -> float:
        """2 b m n k."""
        return 2.0 * self.batch * self.m * self.n * self.k

    @property
    def read_bytes(self) -> int:
        """A, B and what is read beside them, once each."""
        return self.batch * self.k * (self.m + self.n) * self.itemsize + self.extra_bytes

    @property
    def write_bytes(self) -> int:
        """C, once."""
        return self.batch * self.m * self.n * self.out_itemsize


@dataclass(frozen=True, slots=True)
class Convolution:
    """A dense or grouped 2-D convolution with overlapping windows, x[images, groups * channels, h, w].

    ``channels`` and ``filters`` are those of one group; ``kernel``, ``stride``, ``padding``, ``dilation`` are (rows, columns).
    """

    images: int
    groups: int
    channels: int
    filters: int
    height: int
    width: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    itemsize: int
    extra_bytes: int = 0

    @property
    def out(self) -> Pair:
        """Rows and columns of the output."""
        return _out((self.height, self.width), self.kernel, self.stride, self.padding, self.dilation)

    @property
    def flop(self) -> float:
        """2 N P Q K C R S per group; taps that fall into the padding count, as published figures do."""
        p, q = self.out
        return 2.0 * self.images * self.groups * p * q * self.filters * self.channels * math.prod(self.kernel)

    @property
    def read_bytes(self) -> int:
        """Image and weights, once each."""
        image = self.images * self.groups * self.channels * self.height * self.width
        weight = self.groups * self.filters * self.channels * math.prod(self.kernel)
        return (image + weight) * self.itemsize + self.extra_bytes

    @property
    def write_bytes(self) -> int:
        """The output, once."""
        p, q = self.out
        return self.images * self.groups * self.filters * p * q * self.itemsize


@dataclass(frozen=True, slots=True)
class Window:
    """Each channel by itself under a moving window: depthwise convolution and pooling, x[planes, h, w].

    ``planes`` is images * channels; ``weight_bytes`` is 0 for pooling. ``flop_per_tap`` is 2 for a convolution, 1 for an
    average, 0 for a maximum. ``index_bytes`` are written per output beside its value; ``extra_bytes`` (a bias) are read once.
    """

    planes: int
    height: int
    width: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    itemsize: int
    weight_bytes: int = 0
    flop_per_tap: int = 2
    index_bytes: int = 0
    out_size: Pair | None = None
    extra_bytes: int = 0

    @property
    def out(self) -> Pair:
        """Rows and columns of the output; ``out_size`` where it was recorded (rounding up, adaptive pooling)."""
        return self.out_size or _out((self.height, self.width), self.kernel, self.stride, self.padding, self.dilation)

    @property
    def flop(self) -> float:
        """flop_per_tap * planes * P Q R S."""
        return float(self.flop_per_tap * self.planes * math.prod(self.out) * math.prod(self.kernel))

    @property
    def read_bytes(self) -> int:
        """Image and weights, once each."""
        return self.planes * self.height * self.width * self.itemsize + self.weight_bytes + self.extra_bytes

    @property
    def write_bytes(self) -> int:
        """The output and its indices, once."""
        return self.planes * math.prod(self.out) * (self.itemsize + self.index_bytes)


@dataclass(frozen=True, slots=True)
class Attention:
    """softmax(Q K^T) V in one kernel: q[batch, heads, queries, width], k and v[batch, kv_heads, keys, width].

    Windowed attention has several windows per image in ``batch``. ``extra_bytes`` are those of a mask.
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    itemsize: int
    causal: bool = False
    extra_bytes: int = 0

    @property
    def flop(self) -> float:
        """2 B H N_q N_k (D_qk + D_v); causal masks are not subtracted, as in torch's counter."""
        return 2.0 * self.batch * self.heads * self.queries * self.keys * (self.width + self.value_width)

    @property
    def read_bytes(self) -> int:
        """Q, K, V and the mask, once each."""
        keys = self.kv_heads * self.keys * (self.width + self.value_width)
        return self.batch * (self.heads * self.queries * self.width + keys) * self.itemsize + self.extra_bytes

    @property
    def write_bytes(self) -> int:
        """The output, once."""
        return self.batch * self.heads * self.queries * self.value_width * self.itemsize

    @property
    def score_bytes(self) -> int:
        """One matrix of scores, B H N_q N_k elements, which fused kernels never write."""
        return self.batch * self.heads * self.queries * self.keys * self.itemsize


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over its operands: every element read once, every result written once, in any order.

    Normalisation, softmax, pointwise work, layout changes. ``fixed_bytes`` is the part of ``read_bytes`` that does not grow
    with the image (weights of a normalisation).
    """

    read_bytes: int
    write_bytes: int
    flop: float = 0.0
    fixed_bytes: int = 0


Problem = Product | Convolution | Window | Attention | Pass

PATTERNS = (
    "linear", "conv3x3", "conv1x1", "conv", "depthwise", "patch_embed", "attention_fused", "attention_materialised", "scores",
    "product_backward", "norm", "softmax", "pointwise", "pooling", "layout", "other",
)  # fmt: skip
"""Access patterns. ``product_backward`` is a product that autograd called.
``conv`` is a dense convolution of another kernel size; ``scores`` a product of two activations alone."""


@dataclass(frozen=True, slots=True)
class Described:
    """A problem with the name of its pattern and its shapes as text."""

    pattern: str
    problem: Problem
    shapes: str
    dtype: str


def _out(sides: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    (h, w), (r, s) = sides, kernel
    rows = (h + 2 * padding[0] - dilation[0] * (r - 1) - 1) // stride[0] + 1
    columns = (w + 2 * padding[1] - dilation[1] * (s - 1) - 1) // stride[1] + 1
    return rows, columns
