"""The compiled loops that write down accesses. Every emitter runs twice: once to count, once to fill.

Emitters take the order (block and step of each turn) and operand descriptors (``stream.DESCRIPTOR``), and return how many
accesses there are. Arrays of length 0 mean: only count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.access.compiled import compiled, inlined


@compiled
def interleave(steps: Any, slots: int, seed: int) -> Any:
    """Return (block, step) of each turn: resident blocks advance one step a turn, in an order that changes every time.

    ``steps`` [blocks] is how many each has. A slot takes the next block when its own has ended, so blocks of different length
    drift apart as on a GPU. Blocks start in the order of ``steps``.
    """
    np.random.seed(seed)
    count = len(steps)
    total = 0
    for i in range(count):
        total += steps[i]
    block, step = np.empty(total, np.int32), np.empty(total, np.int32)
    active = min(slots, count)
    running = np.arange(active).astype(np.int32)
    done = np.zeros(active, np.int32)
    following, n = active, 0
    while active > 0:
        for i in range(active - 1, 0, -1):
            j = np.random.randint(0, i + 1)
            running[i], running[j] = running[j], running[i]
            done[i], done[j] = done[j], done[i]
        kept = 0
        for i in range(active):
            mine, at = running[i], done[i]
            block[n], step[n] = mine, at
            n += 1
            at += 1
            if at == steps[mine]:
                if following == count:
                    continue
                mine, at = following, 0
                following += 1
            running[kept], done[kept] = mine, at
            kept += 1
        active = kept
    return block, step


@inlined
def touch(out: Any, n: int, operand: Any, place: Any, mark: Any) -> int:
    """Append the granules of rows [place1, place2) and columns [place3, place4) of matrix place0; return the new count.

    ``out``: (granule, moved, block, write); ``mark``: (block, write).
    """
    base, itemsize, tall, wide = operand[0], operand[3], operand[4], operand[5]
    first = base + place[0] * operand[6] * operand[7]
    r0, r1, c0, c1 = place[1], min(place[2], operand[1]), place[3], min(place[4], operand[2])
    if r0 >= r1 or c0 >= c1:
        return n
    fill = len(out[0]) > 0
    for i in range(r0 // tall, (r1 - 1) // tall + 1):
        rows = min(r1, (i + 1) * tall) - max(r0, i * tall)
        for j in range(c0 // wide, (c1 - 1) // wide + 1):
            if fill:
                columns = min(c1, (j + 1) * wide) - max(c0, j * wide)
                out[0][n] = first + i * operand[7] + j
                out[1][n] = rows * columns * itemsize
                out[2][n] = mark[0]
                out[3][n] = mark[1]
            n += 1
    return n


@compiled
def product(out: Any, order: Any, tiles: Any, operands: Any, shape: Any) -> int:
    """Emit a product: each step reads a piece of A and of B, the last one writes the tile of C.

    ``tiles`` [blocks, 3]: batch, first row, first column. ``operands``: A [m, k], B [n, k], C [m, n]. ``shape``: tile rows,
    tile columns, k-step, steps, whether B is stored as [k, n] and read along its rows.
    """
    tall, wide, deep, steps, by_rows = shape
    n = 0
    for turn in range(len(order[0])):
        block, step = order[0][turn], order[1][turn]
        batch, row, column = tiles[block, 0], tiles[block, 1], tiles[block, 2]
        k = step * deep
        n = touch(out, n, operands[0], (batch, row, row + tall, k, k + deep), (block, 0))
        place = (batch, k, k + deep, column, column + wide) if by_rows else (batch, column, column + wide, k, k + deep)
        n = touch(out, n, operands[1], place, (block, 0))
        if step == steps - 1:
            n = touch(out, n, operands[2], (batch, row, row + tall, column, column + wide), (block, 1))
    return n


@compiled
def attention(out: Any, order: Any, tiles: Any, operands: Any, shape: Any) -> int:
    """Emit fused attention: a block reads its queries, then keys and values piece by piece, then writes its output.

    ``tiles`` [blocks, 4]: matrix of Q, matrix of K and V, first query, steps. ``operands``: Q, K, V, O. ``shape``: queries and
    keys of a tile.
    """
    queries, keys = shape
    n = 0
    for turn in range(len(order[0])):
        block, step = order[0][turn], order[1][turn]
        mine, theirs, first, steps = tiles[block, 0], tiles[block, 1], tiles[block, 2], tiles[block, 3]
        if step == 0:
            n = touch(out, n, operands[0], (mine, first, first + queries, 0, operands[0, 2]), (block, 0))
        n = touch(out, n, operands[1], (theirs, step * keys, (step + 1) * keys, 0, operands[1, 2]), (block, 0))
        n = touch(out, n, operands[2], (theirs, step * keys, (step + 1) * keys, 0, operands[2, 2]), (block, 0))
        if step == steps - 1:
            n = touch(out, n, operands[3], (mine, first, first + queries, 0, operands[3, 2]), (block, 1))
    return n


@inlined
def pixels(out: Any, n: int, image: Any, place: Any, mark: Any) -> int:
    """Append the granules of every ``place4``-th pixel in [place2, place3] of the row that begins at pixel place1.

    ``place``: matrix, first pixel of the row, first and last column, stride, first and last + 1 channel.
    """
    matrix, line, x0, x1, stride, c0, c1 = place
    base = image[0] + matrix * image[6] * image[7]
    tall, wide, itemsize = image[4], image[5], image[3]
    c1 = min(c1, image[2])
    fill = len(out[0]) > 0
    x = x0
    while x <= x1:
        granule = (line + x) // tall
        end = min((granule + 1) * tall - line, x1 + 1)
        count = (end - x + stride - 1) // stride
        x += count * stride
        for j in range(c0 // wide, (c1 - 1) // wide + 1):
            if fill:
                columns = min(c1, (j + 1) * wide) - max(c0, j * wide)
                out[0][n] = base + granule * image[7] + j
                out[1][n] = count * columns * itemsize
                out[2][n] = mark[0]
                out[3][n] = mark[1]
            n += 1
    return n


@compiled
def convolution(out: Any, order: Any, tiles: Any, operands: Any, shape: Any) -> int:
    """Emit an implicit-GEMM convolution: a step is one tap of the window and some channels.

    ``tiles`` [blocks, 3]: group, first output pixel (counted over all images), first filter. ``operands``: image
    [images * groups, h * w pixels, channels], weight [groups, filters, r * s * channels], output [groups, pixels, filters].
    ``shape``: tile pixels, tile filters, channels per step, groups, height, width, p, q, r, s, strides, paddings, dilations.
    """
    tall, wide, deep, groups, height, width, p, q, r, s, u, v, top, left, down, across = shape
    image, weight, result = operands[0], operands[1], operands[2]
    channels = image[2]
    parts = -(-channels // deep)
    total = result[1]
    n = 0
    for turn in range(len(order[0])):
        block, step = order[0][turn], order[1][turn]
        group, first, filters = tiles[block, 0], tiles[block, 1], tiles[block, 2]
        tap, c0 = step // parts, step % parts * deep
        c1 = min(c0 + deep, channels)
        last = min(first + tall, total)
        at = first
        while at < last:
            picture, y, x = at // (p * q), at // q % p, at % q
            length = min(q - x, last - at)
            row = y * u + tap // s * down - top
            if 0 <= row < height:
                shift = tap % s * across - left
                x0, x1 = x * v + shift, (x + length - 1) * v + shift
                if x0 < 0:
                    x0 += (-x0 + v - 1) // v * v
                if x1 >= width:
                    x1 -= (x1 - width + v) // v * v
                n = pixels(out, n, image, (picture * groups + group, row * width, x0, x1, v, c0, c1), (block, 0))
            at += length
        begin = tap * channels + c0
        n = touch(out, n, weight, (group, filters, filters + wide, begin, begin + c1 - c0), (block, 0))
        if step == parts * r * s - 1:
            n = touch(out, n, result, (group, first, last, filters, filters + wide), (block, 1))
    return n


@compiled
def window(out: Any, order: Any, firsts: Any, operands: Any, shape: Any) -> int:
    """Emit a kernel that treats each plane by itself: a block reads what its outputs need once, then writes them.

    ``firsts`` [blocks]: first output, counted over all planes. ``operands``: image [1, planes * h, w], output
    [1, planes * p, q], weight [1, channels, r * s]. ``shape``: outputs of a block, height, width, p, q, r, s, strides,
    paddings, dilations, planes.
    """
    many, height, width, p, q, r, s, u, v, top, left, down, across, planes = shape
    n = 0
    for turn in range(len(order[0])):
        block = order[0][turn]
        at, last = firsts[block], min(firsts[block] + many, planes * p * q)
        while at < last:
            plane = at // (p * q)
            end = min(last, (plane + 1) * p * q)
            y0, y1, x0, x1 = at // q % p, (end - 1) // q % p, at % q, (end - 1) % q
            if y1 > y0:
                x0, x1 = 0, q - 1
            top_row, low_row = max(y0 * u - top, 0), min(y1 * u - top + (r - 1) * down, height - 1)
            begin, finish = max(x0 * v - left, 0), min(x1 * v - left + (s - 1) * across, width - 1)
            place = (0, plane * height + top_row, plane * height + low_row + 1, begin, finish + 1)
            n = touch(out, n, operands[0], place, (block, 0))
            if len(operands) > 2:
                channel = plane % operands[2, 1]
                n = touch(out, n, operands[2], (0, channel, channel + 1, 0, operands[2, 2]), (block, 0))
            if y1 > y0:  # the outputs themselves are exactly those of the block
                n = touch(out, n, operands[1], (0, plane * p + y0, plane * p + y0 + 1, at % q, q), (block, 1))
                n = touch(out, n, operands[1], (0, plane * p + y0 + 1, plane * p + y1, 0, q), (block, 1))
                n = touch(out, n, operands[1], (0, plane * p + y1, plane * p + y1 + 1, 0, (end - 1) % q + 1), (block, 1))
            else:
                n = touch(out, n, operands[1], (0, plane * p + y0, plane * p + y0 + 1, x0, x1 + 1), (block, 1))
            at = end
    return n


@compiled
def sweep(out: Any, order: Any, tiles: Any, operands: Any, shape: Any) -> int:
    """Emit one pass: a block reads its rows of the first operand and writes the same rows of the second.

    ``tiles`` [blocks, 2]: batch, first row. ``shape``: rows of a block.
    """
    rows = shape[0]
    n = 0
    for turn in range(len(order[0])):
        block = order[0][turn]
        batch, first = tiles[block, 0], tiles[block, 1]
        n = touch(out, n, operands[0], (batch, first, first + rows, 0, operands[0, 2]), (block, 0))
        n = touch(out, n, operands[1], (batch, first, first + rows, 0, operands[1, 2]), (block, 1))
    return n
