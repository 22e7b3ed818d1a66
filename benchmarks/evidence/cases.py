"""The kernels of the calibration: what each reads and writes is known beforehand, so that what a cache does shows.

Four experiments, after section 8 of the plan of the access model:

- ``reread``: a set of W bytes read again and again in the same order, 20 sizes around L2. One launch reads it many times, so
  that the time of a launch does not count. What no longer fits comes from DRAM.
- ``retention``: W bytes written, then 2 x L2 of other bytes read. What the first kernel did not write to DRAM, the second one
  has to: how much L2 holds back.
- ``copy``: W bytes read and W written: DRAM reads per byte that the kernel asks for.
- ``raster``: one product by one tiled kernel in two orders of tiles, row after row and in groups of 8 rows.

Approximation: L1 may serve a part of a re-read: at most its share of the set, as blocks take rows in no fixed place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

ROW = 8192
"""Elements of float32 that one block of the reading kernel sums up."""
ROW_BYTES = 4 * ROW
_READ_AT_ONCE = {"cuda": 2 << 30, "cpu": 96 << 20}
_MIB = 1 << 20
_RASTER = (8192, 8192, 16384)
REREAD_SIZES = 20


@dataclass(frozen=True, slots=True)
class Case:
    """One size of one experiment. ``launches`` names the kernels that ``counted`` launches, in order.

    ``read_bytes`` and ``written_bytes`` are what all of them ask for; ``before`` brings the caches into a known state.
    """

    experiment: str
    name: str
    set_bytes: int
    read_bytes: int
    written_bytes: int
    launches: tuple[str, ...]
    before: Callable[[], object]
    counted: tuple[Callable[[], object], ...]
    flop: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cases run: the device, the bytes of its last-level cache, the bytes that may be taken."""

    device: torch.device
    cache_bytes: int
    free_bytes: int


def sizes_around(cache_bytes: int, count: int = REREAD_SIZES) -> list[int]:
    """Return ``count`` set sizes in whole rows from 0.3 to 2.5 times the cache, in equal ratios, without repeats."""
    ratio = (2.5 / 0.3) ** (1 / (count - 1))
    wanted = (0.3 * cache_bytes * ratio**number for number in range(count))
    return sorted({max(1, round(size / ROW_BYTES)) * ROW_BYTES for size in wanted})


def times_read(set_bytes: int, device_type: str) -> int:
    """Return how often one launch reads a set: a given number of bytes in all, and four times at least."""
    return max(4, min(512, _READ_AT_ONCE[device_type] // set_bytes))


def all_cases(place: Place) -> Iterator[Case]:
    """Yield the cases one after the other; each frees what it holds before the next."""
    yield from rereads(place)
    yield from retentions(place)
    yield from copies(place)
    if place.device.type == "cuda":
        yield from rasters(place)


def rereads(place: Place) -> Iterator[Case]:
    """Yield the cyclic re-reads."""
    for size in sizes_around(place.cache_bytes):
        often = times_read(size, place.device.type)
        base = torch.ones(size // 4, dtype=torch.float32, device=place.device)
        # a view that holds the set ``often`` times: the first dimension does not move
        again = base.as_strided((often, size // ROW_BYTES, ROW), (0, ROW, 1))
        out = torch.empty((often, size // ROW_BYTES), dtype=torch.float32, device=place.device)
        yield Case(
            "reread", f"{size / _MIB:.1f} MiB {often} times", size, often * size, out.numel() * 4, ("read",),
            _nothing, (_sum(again, out),),
        )  # fmt: skip


def retentions(place: Place) -> Iterator[Case]:
    """Yield what is written, then read over."""
    flush, other = _other(place), _other(place)
    for megabytes in (2, 4, 8, 12, 16, 20, 25, 30, 40, 50, 60, 80, 100):
        size = megabytes * 1_000_000 // ROW_BYTES * ROW_BYTES
        if 4 * size > place.free_bytes:
            continue
        written = torch.empty(size // 4, dtype=torch.float32, device=place.device)
        yield Case(
            "retention", f"{megabytes} MB written", size, other.read_bytes, size, ("write", "read others"),
            flush.read, (_fill(written), other.read),
        )  # fmt: skip


def copies(place: Place) -> Iterator[Case]:
    """Yield copies, by a kernel and not by the copy engine, which ncu does not count."""
    flush = _other(place)
    for mebibytes in (4, 8, 16, 32, 64, 128, 256, 512):
        size = mebibytes * _MIB
        if 4 * size > place.free_bytes or (place.device.type == "cpu" and mebibytes > 64):
            continue
        source = torch.ones(size // 4, dtype=torch.float32, device=place.device)
        target = torch.empty_like(source)
        yield Case(
            "copy", f"{mebibytes} MiB", size, size, size, ("copy",), flush.read, (_negate(source, target),)
        )  # fmt: skip


def rasters(place: Place) -> Iterator[Case]:
    """Yield the product in both orders of tiles; nothing where Triton or the memory is missing."""
    m, n, k = _RASTER
    needed = 2 * (m * k + k * n + m * n)
    if 2 * needed > place.free_bytes:
        return
    try:
        from benchmarks.evidence.rasters import product
    except ImportError:
        return
    a, b = (torch.randn(shape, device=place.device).to(torch.bfloat16) for shape in ((m, k), (k, n)))
    c = torch.empty((m, n), dtype=torch.bfloat16, device=place.device)
    flush = _other(place)
    for group, what in ((1, "row after row"), (8, "groups of 8 rows")):
        yield Case(
            "raster", f"{m} x {n} x {k}, {what}", needed, 2 * (m * k + k * n), 2 * m * n, ("product",),
            flush.read, (product(a, b, c, group),), 2 * m * n * k,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Other:
    """Bytes that are in no case; reading them puts what was there out of the cache."""

    read: Callable[[], object]
    read_bytes: int


def _other(place: Place) -> _Other:
    rows = max(1, min(2 * place.cache_bytes, place.free_bytes // 8) // ROW_BYTES)
    base = torch.ones((rows, ROW), dtype=torch.float32, device=place.device)
    return _Other(_sum(base, torch.empty(rows, dtype=torch.float32, device=place.device)), rows * ROW_BYTES)


def _nothing() -> None:
    return None


def _sum(what: Any, out: Any) -> Callable[[], object]:
    return lambda: torch.sum(what, dim=-1, out=out)


def _fill(what: Any) -> Callable[[], object]:
    return lambda: what.fill_(1.0)  # not 0, which would be a memset and no kernel


def _negate(source: Any, target: Any) -> Callable[[], object]:
    return lambda: torch.neg(source, out=target)
