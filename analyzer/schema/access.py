"""What the access model says of a run: per kernel, per pattern, per GPU and over image sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

KNEE_RATIO = 1.1
"""The knee of a curve is the smallest cache with at most this many times the compulsory reads."""


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """The last-level cache of one device as the model has it. ``partitions`` 2: each half keeps its own copies.

    ``retained_bytes`` (low, high): written bytes that are still in the cache when a kernel ends. ``read_overhead``: DRAM reads
    per byte missed. ``status`` is ``calibrated``, ``scored`` or ``assumed``; ``source`` says on what.
    """

    key: str
    name: str
    capacity_bytes: int
    partitions: int
    multiprocessors: int
    retained_bytes: tuple[float, float]
    read_overhead: float
    dram_gbps: float | None
    l2_gbps: float | None
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one launch through DRAM on one device, each as (low, high).

    ``point``: the reads under strict recency in the first of the plausible orders, NaN where they were not worked out.
    """

    read: tuple[float, float]
    write: tuple[float, float]
    point: float = math.nan

    @property
    def total(self) -> tuple[float, float]:
        """Reads plus writes."""
        return self.read[0] + self.write[0], self.read[1] + self.write[1]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A miss-ratio curve: DRAM reads in bytes of a fully associative LRU cache of each capacity in bytes, one launch.

    ``cold_bytes``: the reads that no cache avoids.
    """

    capacity_bytes: Any
    read_bytes: Any
    knee_bytes: float
    cold_bytes: float


@dataclass(frozen=True, slots=True)
class Locality:
    """Descriptors of one launch.

    ``footprint_bytes``: distinct bytes that one thread block touches. ``dependency``: share of the image or sequence that one
    output tile reads. ``byte_share``: footprint over the bytes of all operands. ``reuse_factor``: bytes read from L2 over
    compulsory reads. ``distance_median_bytes`` and ``distance_p90_bytes``: reuse distances, weighted by bytes, NaN without
    reuse. ``span_ratio``: address range that a block touches over that of its operands. ``stride_entropy`` in bits.
    """

    footprint_bytes: float
    dependency: float
    byte_share: float
    reuse_factor: float
    distance_median_bytes: float
    distance_p90_bytes: float
    span_ratio: float
    stride_entropy: float


@dataclass(frozen=True, slots=True, eq=False)
class PatternAccess:
    """One distinct layer or kernel on one device. Bytes are of one launch; ``calls`` is how often it runs.

    ``time_us`` is the measured time of all calls, 0 where only shapes are known; ``traffic`` by key of the device.
    ``l2_sm_bytes`` is (reads from L2, writes to L2). ``tiles`` and ``order`` are in words; ``confidence`` is that of the
    geometry. ``hypothetical``: it did not run, and stands beside one that did for comparison (the other way to do attention).
    ``in_parts``: it ran as several kernels, which have rows of their own.
    """

    pattern: str
    module: str
    shapes: str
    dtype: str
    calls: float
    flop: float
    read_bytes: float
    write_bytes: float
    l2_sm_bytes: tuple[float, float]
    traffic: dict[str, Traffic]
    locality: Locality
    curve: Curve | None
    confidence: str
    tiles: str
    order: str
    formula: str
    model: str = ""
    kernel: str = ""
    time_us: float = 0.0
    hypothetical: bool = False
    in_parts: bool = False

    @property
    def compulsory_bytes(self) -> float:
        """Distinct bytes of one launch, reads plus writes."""
        return self.read_bytes + self.write_bytes


@dataclass(frozen=True, slots=True, eq=False)
class AccessMap:
    """Which addresses a few thread blocks of a small real case touch, and when.

    Every access of theirs, in order: ``time`` from 0 to 1, ``address_bytes``, ``operand`` (its number), ``block``. ``extents``:
    (first byte, bytes) of each operand.
    """

    pattern: str
    title: str
    operands: tuple[str, ...]
    extents: tuple[tuple[int, int], ...]
    time: Any
    address_bytes: Any
    operand: Any
    block: Any


@dataclass(frozen=True, slots=True)
class SizePoint:
    """A whole model at one image size on one device, per image.

    ``attention``: ``fused`` or ``materialised`` (a model without attention has ``fused`` alone). ``dram_bytes`` (low, high)
    sums over kernels of which each finds the cache empty; ``warm_bytes`` where each finds what fits of its inputs.
    ``floor_us`` is the sum of max(FLOP / peak, DRAM bytes / bandwidth) over kernels; ``memory_share`` of it where memory wins.
    """

    model: str
    device: str
    image_size: int
    attention: str
    flop: float
    compulsory_bytes: float
    dram_bytes: tuple[float, float]
    warm_bytes: float
    floor_us: float
    memory_share: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What the access pattern of one role costs one model on one device, in microseconds per batch.

    ``excess_us`` (low, high) is the time floor with modelled traffic through DRAM and L2 minus that with compulsory bytes
    through DRAM, ``floor_us``: 0 where every operand moves once. ``bytes_ratio`` is DRAM bytes over compulsory (low, high).
    Scores count as compulsory in neither way of attention: what it costs to write them out is in ``excess_us``.
    ``l2_excess_us`` is the part of the high end that is due to L2, NaN where its bandwidth is not published.
    """

    model: str
    device: str
    role: str
    attention: str
    floor_us: float
    excess_us: tuple[float, float]
    l2_excess_us: float
    bytes_ratio: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class AccessResult:
    """All that the access model says of one run or one list of layers.

    ``patterns``: a row per distinct kernel, longest first. ``modelled_pct``: share of the kernel time with a geometry;
    ``left_out``: (what, why, share in %). ``devices``: the run's own first, then those it is compared with; ``own`` is the one
    that all patterns were worked out for, None where it has no cache model. ``attention``: how the model's attention ran,
    ``fused``, ``materialised``, ``both``, empty without one. ``silent``: why nothing is said of the whole model (``costs`` and
    ``sizes``), empty where something is.
    """

    model: str
    batch_size: int
    image_size: int
    devices: tuple[CacheFacts, ...]
    patterns: tuple[PatternAccess, ...]
    left_out: tuple[tuple[str, str, float], ...] = ()
    modelled_pct: float = 0.0
    maps: tuple[AccessMap, ...] = ()
    sizes: tuple[SizePoint, ...] = ()
    costs: tuple[Cost, ...] = ()
    attention: str = ""
    silent: str = ""
    own: CacheFacts | None = None
