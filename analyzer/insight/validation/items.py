"""One counted figure beside the parts that its prediction is made of, so that it can be predicted with other parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from analyzer.schema.validation import HELD_OUT

SMALL_BYTES = 1e6
"""Counted bytes below this have an error in bytes, not in percent."""
RETAINED_TIMES = 4
"""DRAM writes are scored where the output is more than this many times what the cache may hold back."""
SMALL_OUTPUT = f"the output is less than {RETAINED_TIMES} x what the cache may hold back when the kernel ends"

BYTES = (
    "l2_sm_bytes", "sm_l2_bytes", "l2_lookup_bytes", "l2_miss_bytes", "dram_read_bytes", "dram_write_bytes", "dram_bytes",
)  # fmt: skip
BY_PARAMETERS = {
    "dram_read_bytes": ("dram_read_overhead",),
    "dram_write_bytes": ("l2_retained",),
    "dram_bytes": ("dram_read_overhead", "l2_retained"),
}
"""The parameters that the prediction of a quantity depends on; of all others it depends on none."""

Band = tuple[float, float, float]
"""Point, low end, high end."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """DRAM reads per byte missed in L2, and the most bytes written that L2 may still hold when a kernel ends."""

    read_overhead: float
    retained_bytes: float


@dataclass(frozen=True, slots=True)
class Item:
    """One quantity of one distinct kernel.

    ``family``: one of ``FAMILIES``; ``problem``: what tells it apart from others of its class. ``fixed``: the prediction where
    it depends on no parameter. ``missed``: bytes missed in L2; ``written``: bytes of the output; ``found``: inputs that a warm
    cache is taken to hold; ``before``: what the kernel before wrote, 0 where the cache was empty or the kernel ran alone.
    ``part``: the share of its operator's work that a launch does, where several launches do one operator's.
    ``unscored``: why no error counts, empty where one does.
    """

    run: str
    gpu: str
    family: str
    kernel: str
    op: str
    shapes: str
    problem: str
    mode: str
    quantity: str
    measured: float
    fixed: Band = (0.0, 0.0, 0.0)
    missed: Band = (0.0, 0.0, 0.0)
    written: float = 0.0
    found: float = 0.0
    before: float = 0.0
    part: float = 1.0
    shipped: Parameters = Parameters(1.0, 0.0)
    calls: float = 1.0
    share_pct: float = float("nan")
    status: str = HELD_OUT
    unscored: str = ""

    @property
    def key(self) -> str:
        """Return what tells distinct kernels apart: GPU, class, kernel and problem; no quantity, mode or measured figure."""
        told = "\x1f".join((self.gpu, self.family, self.kernel, self.problem))
        return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def predicted(item: Item, parameters: Parameters) -> Band:
    """Return point, low and high end of ``item`` with ``parameters``.

    Approximation: with a warm cache a kernel finds what the one before it wrote, as far as the cache holds it, and writes back
    what that one left.
    """
    if item.quantity not in BY_PARAMETERS:
        return item.fixed
    reads = _reads(item, parameters) if item.quantity != "dram_write_bytes" else (0.0, 0.0, 0.0)
    writes = _writes(item, parameters) if item.quantity != "dram_read_bytes" else (0.0, 0.0, 0.0)
    return reads[0] + writes[0], reads[1] + writes[1], reads[2] + writes[2]


def _reads(item: Item, parameters: Parameters) -> Band:
    point, low, high = (size * parameters.read_overhead for size in item.missed)
    return max(point - item.found, 0.0), max(low - item.found, 0.0), high


def _writes(item: Item, parameters: Parameters) -> Band:
    retained = parameters.retained_bytes * item.part
    low = max(item.written - retained, 0.0)
    high = item.written + min(item.before, retained)
    return (low + high) / 2, low, high


def output_is_small(written: float, parameters: Parameters) -> bool:
    """Tell whether nothing can be claimed of the writes to DRAM of a kernel that writes ``written`` bytes."""
    return written <= RETAINED_TIMES * parameters.retained_bytes
