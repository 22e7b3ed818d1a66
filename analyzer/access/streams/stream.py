"""Streams: every access of a kernel to the last-level cache, in order, and the matrices that they fall into."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

LINE_BYTES = 128
"""A cache line of every GPU modelled here."""

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]

DESCRIPTOR = ("base", "rows", "columns", "itemsize", "granule_rows", "line_columns", "row_granules", "column_granules")
"""What the emitters read of an operand, in this order."""


@dataclass(frozen=True, slots=True)
class Operand:
    """``batch`` matrices [rows, columns], cut into granules of ``granule_rows`` rows of ``granule_width`` bytes.

    Granules are the unit of the caches: 16 rows of a line for matrices, a single pixel for the images of convolutions.
    ``granule_width`` of an operand that is not cut yet is the most that it may have: what one block writes of a row.
    ``base`` is the number of the first one; the granules of a matrix are numbered row by row, matrix after matrix.
    """

    name: str
    batch: int
    rows: int
    columns: int
    itemsize: int
    granule_rows: int = 1
    granule_width: int = 1 << 30
    base: int = 0

    @property
    def line_columns(self) -> int:
        """Elements of one row of a granule."""
        return max(self.granule_width // self.itemsize, 1)

    @property
    def row_granules(self) -> int:
        """Granules one above the other."""
        return math.ceil(self.rows / self.granule_rows)

    @property
    def column_granules(self) -> int:
        """Granules side by side."""
        return math.ceil(self.columns / self.line_columns)

    @property
    def count(self) -> int:
        """Granules in all."""
        return self.batch * self.row_granules * self.column_granules

    @property
    def bytes(self) -> int:
        """Size of all matrices."""
        return self.batch * self.rows * self.columns * self.itemsize

    def descriptor(self) -> tuple[int, ...]:
        """Return the numbers that DESCRIPTOR names."""
        return tuple(getattr(self, name) for name in DESCRIPTOR)

    def sizes(self) -> Int32:
        """Return the bytes of each of the ``count`` granules; those at the edges are smaller."""
        rows = np.full(self.row_granules, self.granule_rows, np.int64)
        rows[-1] = self.rows - (self.row_granules - 1) * self.granule_rows
        columns = np.full(self.column_granules, self.line_columns, np.int64)
        columns[-1] = self.columns - (self.column_granules - 1) * self.line_columns
        one = np.outer(rows, columns * self.itemsize).ravel()
        return np.tile(one, self.batch).astype(np.int32)


def placed(*operands: Operand) -> tuple[Operand, ...]:
    """Return the operands one behind the other in one address space."""
    base, out = 0, []
    for operand in operands:
        out.append(replace(operand, base=base))
        base += operand.count
    return tuple(out)


def descriptors(operands: tuple[Operand, ...]) -> Int64:
    """Return the descriptors of ``operands`` for the emitters, [operands, 8]."""
    return np.array([operand.descriptor() for operand in operands], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The accesses of one kernel.

    Arrays of one entry per access: ``granule``, ``moved`` (bytes between L2 and the multiprocessor), ``block`` (thread block),
    ``write``. ``sizes`` [granules] are bytes by granule, ``side`` [blocks] the half of the cache next to each block.
    ``scale``: how many times the stream stands for the kernel, where only a part of a periodic one is simulated.
    """

    operands: tuple[Operand, ...]
    granule: Int32
    moved: Int32
    block: Int32
    write: Flags
    sizes: Int32
    side: Flags
    granule_bytes: int
    scale: float = 1.0

    @property
    def read_bytes(self) -> float:
        """Bytes read from L2, of the whole kernel."""
        return float(self.moved[self.write == 0].sum(dtype=np.int64)) * self.scale

    @property
    def write_bytes(self) -> float:
        """Bytes written to L2, of the whole kernel."""
        return float(self.moved[self.write == 1].sum(dtype=np.int64)) * self.scale


def joined(first: Stream, *others: Stream) -> Stream:
    """Return streams of kernels that run one after the other over the same operands."""
    streams = (first, *others)
    offsets = np.cumsum([0] + [len(s.side) for s in streams[:-1]])
    return Stream(
        first.operands,
        np.concatenate([s.granule for s in streams]),
        np.concatenate([s.moved for s in streams]),
        np.concatenate([s.block + np.int32(o) for s, o in zip(streams, offsets, strict=True)]),
        np.concatenate([s.write for s in streams]),
        first.sizes,
        np.concatenate([s.side for s in streams]),
        first.granule_bytes,
        first.scale,
    )
