"""A GPU's sheet: the figures it may give, each with its unit and source, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

TOTALS = {
    "sm_count": ("SM", "CU"),
    "dram_capacity": ("GB",),
    "dram_bandwidth": ("GB/s",),
    "dram_bandwidth_attainable": ("GB/s",),
    "dram_read_attainable": ("GB/s",),
    "l2": ("MiB",),
    "l2_bandwidth_attainable": ("GB/s",),
    "l2_retained": ("MB",),
    "xcds": ("XCD",),
    "infinity_cache": ("MiB",),
    "power": ("W",),
}
"""Figures of a whole product: a product that shows as several devices has its share of them in each."""

UNITS = TOTALS | {
    "devices": ("devices",),
    "boost_clock": ("MHz",),
    "max_clock": ("MHz",),
    "tensor_peak_clock": ("MHz",),
    "tensor_rate": ("FLOP/clk/SM", "FLOP/clk/CU"),
    "l2_partitions": ("partitions",),
    "dram_read_overhead": ("bytes/byte",),
    "l2_per_xcd": ("MiB",),
    "l2_read_peak": ("B/clk",),
    "l2_to_sm": ("B/clk/SM", "B/clk/CU"),
    "l1_and_shared_per_sm": ("KiB",),
    "shared_per_sm": ("KiB",),
    "shared_optin_per_block": ("KiB",),
    "registers_per_sm": ("registers",),
    "max_warps_per_sm": ("warps",),
    "max_blocks_per_sm": ("blocks",),
    "max_threads_per_sm": ("threads",),
}
"""Every figure that a sheet may give, with the units it may stand in. GB is 1e9 bytes, KiB and MiB are powers of two."""

DTYPES = ("float64", "float32", "tfloat32", "float16", "float16_fp16acc", "bfloat16", "float8")
"""Element types of peaks; matrix products accumulate in float32, except ``float16_fp16acc``."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a sheet, with its unit and the text of its sources."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class GpuSheet:
    """One GPU: figures by name, peaks as ``vector.float32`` or ``matrix.bfloat16`` (dense, multiply-add = 2).

    ``key`` is the name of its file; ``own`` tells a user's file from the database. Measured figures have ``attainable`` in
    their names and never stand in for datasheet figures.
    """

    key: str
    name: str
    vendor: str
    architecture: str
    chip: str
    compute_capability: str | None
    dram_type: str
    device_names: tuple[str, ...]
    figures: Mapping[str, Figure]
    notes: tuple[str, ...] = ()
    own: bool = False

    def figure(self, name: str) -> Figure | None:
        """Return the figure called ``name``, for example ``dram_bandwidth`` or ``matrix.bfloat16``."""
        return self.figures.get(name)

    def share(self) -> GpuSheet:
        """Return the sheet of one device of a product that shows as several (``devices``), this sheet where it is one."""
        devices = self._value("devices") or 1
        if devices == 1:
            return self
        part = f"share of one of {devices:.0f} devices"
        figures = {
            name: replace(figure, value=figure.value / devices, source=f"{figure.source}; {part}")
            if name in TOTALS or name.startswith(("vector.", "matrix."))
            else figure
            for name, figure in self.figures.items()
            if name != "devices"
        }
        return replace(self, name=f"{self.name}, one of {devices:.0f} devices", figures=figures)

    def _value(self, name: str) -> float | None:
        found = self.figures.get(name)
        return found.value if found else None

    def _count(self, name: str) -> int | None:
        found = self.figures.get(name)
        return int(found.value) if found else None

    def _peaks(self, kind: str) -> dict[str, float]:
        names = ((dtype, self.figures.get(f"{kind}.{dtype}")) for dtype in DTYPES)
        return {dtype: found.value for dtype, found in names if found}

    @property
    def title(self) -> str:
        """What limits name as their source."""
        return f"gpu_spec sheet of {self.name}" if self.own else f"datasheet of {self.name}"

    @property
    def source(self) -> str:
        """The sources of all its figures, each once."""
        return "; ".join(dict.fromkeys(figure.source for figure in self.figures.values()))

    @property
    def sm_count(self) -> int | None:
        """Multiprocessors; compute units on AMD."""
        return self._count("sm_count")

    @property
    def boost_clock_mhz(self) -> float | None:
        """The clock behind the vector peaks."""
        return self._value("boost_clock")

    @property
    def max_clock_mhz(self) -> float | None:
        """The highest clock that a card of this product reaches by itself, in MHz; the boost clock where none is given."""
        return self._value("max_clock") or self.boost_clock_mhz

    @property
    def peak_clock_mhz(self) -> float | None:
        """The clock behind the matrix peaks; on Hopper it is below the boost clock."""
        return self._value("tensor_peak_clock")

    @property
    def dram_gb(self) -> float | None:
        """Nominal memory in GB, as printed; GiB for some vendors' parts."""
        return self._value("dram_capacity")

    @property
    def dram_gbps(self) -> float | None:
        """Datasheet bandwidth of the memory in GB/s."""
        return self._value("dram_bandwidth")

    @property
    def dram_attainable_gbps(self) -> float | None:
        """Measured copy bandwidth (read + write) in GB/s, where one of this very product is published."""
        return self._value("dram_bandwidth_attainable")

    @property
    def l2_mib(self) -> float | None:
        """L2 in MiB, the sum over its partitions or chiplets."""
        return self._value("l2")

    @property
    def l2_partitions(self) -> int | None:
        """Parts of the L2 that each keep their own copy of a line; None where not known."""
        return self._count("l2_partitions")

    @property
    def l2_attainable_gbps(self) -> float | None:
        """Measured L2 read bandwidth in GB/s."""
        return self._value("l2_bandwidth_attainable")

    @property
    def l2_to_sm_bytes_per_clock(self) -> float | None:
        """Bytes per clock that one multiprocessor can take from L2."""
        return self._value("l2_to_sm")

    @property
    def power_w(self) -> float | None:
        """Board power limit in W."""
        return self._value("power")

    @property
    def vector_tflops(self) -> dict[str, float]:
        """Peaks outside matrix units in TFLOP/s by dtype."""
        return self._peaks("vector")

    @property
    def matrix_tflops(self) -> dict[str, float]:
        """Dense peaks of the matrix units in TFLOP/s by dtype."""
        return self._peaks("matrix")

    @property
    def matrix_attainable_tflops(self) -> dict[str, float]:
        """Measured rates of matrix products in TFLOP/s by dtype."""
        return self._peaks("matrix_attainable")

    @property
    def peak_tflops(self) -> dict[str, float]:
        """The peak of each dtype in TFLOP/s: of the matrix units where they take it, else of the vector lanes.

        ``float32`` is the vector peak: matrix units take float32 as ``tfloat32`` only.
        """
        vector = self.vector_tflops
        return vector | self.matrix_tflops | {dtype: vector[dtype] for dtype in ("float32",) if dtype in vector}
