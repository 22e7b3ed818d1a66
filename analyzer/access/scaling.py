"""The same layer at another image size, and attention with its scores written to memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from analyzer.access.problem import Attention, Convolution, Described, Pair, Pass, Problem, Product, Window


def scaled_layers(problems: Sequence[Problem], factor: float, images: int) -> list[Problem]:
    """Return the layers of one forward pass, in their order, at ``factor`` times the image's sides.

    As ``scaled`` for each. The order tells what one layer cannot: rows of the linear layer before an attention say how many
    windows it has, and passes that write as much as its scores (softmax, masks) grow as those do.
    """
    segments: list[list[Problem]] = [[]]
    for problem in problems:
        if isinstance(problem, Product) and problem.batch == 1:
            segments.append([])
        segments[-1].append(problem)
    return [problem for segment in segments for problem in _segment(segment, factor, images)]


def _segment(problems: list[Problem], factor: float, images: int) -> list[Problem]:
    """Scale a linear layer and what follows it up to the next one."""
    first = problems[0] if problems else None
    rows = first.m if isinstance(first, Product) else 0
    done = [scaled(problem, factor, images, rows) for problem in problems]
    growth = {}
    for before, after in zip(problems, done, strict=True):
        if isinstance(before, Attention) and isinstance(after, Attention):
            growth[before.score_bytes] = after.score_bytes / before.score_bytes
        elif isinstance(before, Product) and before.batch > 1 and before.n == before.m:
            growth[before.write_bytes] = after.write_bytes / before.write_bytes
    return [
        _pass(before, growth[before.write_bytes]) if isinstance(before, Pass) and before.write_bytes in growth else after
        for before, after in zip(problems, done, strict=True)
    ]


def scaled(problem: Problem, factor: float, images: int, rows: int = 0) -> Problem:
    """Return ``problem`` as it is in the same model at ``factor`` times the image's sides, with the same ``images`` per batch.

    Weights, channels, heads and batch stay; pixels and tokens grow with the area. A layer behind global pooling (as many rows
    as images) stays as it is, and so does the size of attention windows, of which there are more (Swin, SAM). ``rows``: of the
    linear layer before it, which tells windows; without, attention with a larger batch than images is taken for windowed.

    Approximation: a class token is taken to be there where the tokens less one are a square and the tokens are not. Windows
    that cover the whole image grow with it. Adaptive pools to more than one pixel, tables of relative positions and their
    products are scaled as other layers.
    """
    area = factor * factor
    if isinstance(problem, Product):
        return _product(problem, area, images, rows)
    if isinstance(problem, Attention):
        return _attention(problem, area, images, rows)
    if isinstance(problem, Pass):
        return _pass(problem, area)
    return _moving(problem, factor)


def _product(problem: Product, area: float, images: int, rows: int) -> Product:
    batch, m, n, k = problem.batch, problem.m, problem.n, problem.k
    if batch == 1:
        if m == images:
            return problem
        tokens = m // images if images > 0 and m % images == 0 else m
        return replace(problem, m=_tokens(tokens, area) * (m // tokens))
    if _windows(rows, images, m) > 1:
        return replace(problem, batch=round(batch * area))
    grown = replace(problem, m=_tokens(m, area))
    if n == m:  # Q K^T
        return replace(grown, n=_tokens(n, area))
    return replace(grown, k=_tokens(k, area)) if k == m else grown  # P V


def _attention(problem: Attention, area: float, images: int, rows: int) -> Attention:
    extra = problem.extra_bytes
    windows = _windows(rows, images, problem.queries)
    if windows > 1 or (not windows and problem.batch > images > 0):
        one = problem.heads * problem.queries * problem.keys * problem.itemsize
        grown = round(extra * area) if extra > one else extra  # beyond one matrix per head every window has its own mask
        return replace(problem, batch=round(problem.batch * area), extra_bytes=grown)
    queries, keys = _tokens(problem.queries, area), _tokens(problem.keys, area)
    growth = queries * keys / (problem.queries * problem.keys)
    return replace(problem, queries=queries, keys=keys, extra_bytes=round(extra * growth))


def _windows(rows: int, images: int, tokens: int) -> int:
    """Return the windows per image that ``rows`` rows make of ``tokens`` each, 0 where they do not tell."""
    one = images * tokens
    return rows // one if one > 0 and rows % one == 0 else 0


def _moving(problem: Convolution | Window, factor: float) -> Convolution | Window:
    height, width = _sides((problem.height, problem.width), factor)
    if isinstance(problem, Convolution):
        return replace(problem, height=height, width=width)
    whole = problem.kernel == (problem.height, problem.width) and problem.out == (1, 1)
    if whole:
        return replace(problem, height=height, width=width, kernel=(height, width), stride=(height, width))
    out = None if problem.out_size is None else _sides(problem.out_size, factor)
    return replace(problem, height=height, width=width, out_size=out)


def _sides(sides: Pair, factor: float) -> Pair:
    return max(round(sides[0] * factor), 1), max(round(sides[1] * factor), 1)


def _pass(problem: Pass, growth: float) -> Pass:
    if problem.read_bytes and problem.read_bytes == problem.fixed_bytes:  # nothing but weights
        return problem
    fixed = problem.fixed_bytes
    read = round((problem.read_bytes - fixed) * growth) + fixed
    return replace(problem, read_bytes=read, write_bytes=round(problem.write_bytes * growth), flop=problem.flop * growth)


def _tokens(count: int, area: float) -> int:
    """Return the tokens of an ``area`` times as large image; one token alone, a query over all others, stays one."""
    if count <= 1:
        return count
    patches = count - 1
    if not _is_square(count) and _is_square(patches):
        return round(patches * area) + 1
    return max(round(count * area), 1)


def _is_square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count


def materialised(attention: Attention, dtype: str = "") -> tuple[Described, ...]:
    """Return Q K^T, softmax and P V as three kernels that hand each other the scores through memory.

    Compulsory bytes of all: 4 e B H N^2 + 4 e B H N D. Queries that share keys are rows of one product. A mask is read by the
    first product, as summand.
    """
    shared = attention.heads // attention.kv_heads
    batch, rows = attention.batch * attention.kv_heads, attention.queries * shared
    item, keys, width, value_width = attention.itemsize, attention.keys, attention.width, attention.value_width
    scores = Product(batch, rows, keys, width, item, item, attention.extra_bytes)
    weighted = Product(batch, rows, value_width, keys, item, item)
    softmax = Pass(attention.score_bytes, attention.score_bytes, 4.0 * batch * rows * keys)
    steps: tuple[tuple[Problem, str], ...] = (
        (scores, f"{batch}x{rows}x{width} {batch}x{width}x{keys}"),
        (softmax, f"{batch}x{rows}x{keys}"),
        (weighted, f"{batch}x{rows}x{keys} {batch}x{keys}x{value_width}"),
    )
    return tuple(Described("attention_materialised", problem, shapes, dtype) for problem, shapes in steps)
