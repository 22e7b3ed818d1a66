"""A digest: one run in the figures by which it is held against others, small enough to keep hundreds of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analyzer.schema.evidence import Quantity
from analyzer.schema.ledger import Ledger
from analyzer.schema.results import Totals
from analyzer.schema.run import DeviceFacts, RunFacts

if TYPE_CHECKING:
    import pandas as pd

DIGEST_KINDS = ("role", "kind", "calls", "time_us", "flop", "bytes_compulsory", "floor_us", "modelled_us")
"""Columns of ``Digest.kinds``: sums per batch, a row per role and kind. ``floor_us`` and ``modelled_us``: floor and time of
what has a work model."""

DIGEST_GROUPS = (
    "role", "kind", "op", "shapes", "dtype", "module", "calls", "time_us", "flop", "bytes_compulsory", "kernels", "step_us",
)  # fmt: skip
"""Columns of ``Digest.groups``: a row per operator, shape, element type and module, sums per batch, longest first.

``kernels`` are the first 8 distinct names of what ran, a tuple (the sums also cover what has further names); ``step_us`` the
time in each traced step, a tuple with one figure per step, empty where the trace names no steps."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a datasheet says of the device of a run.

    ``figures`` by the names of the sheet (``dram_bandwidth``, ``l2``, ``matrix.bfloat16``, ``vector.float32`` ...); ``reason``
    says why there is no sheet.
    """

    key: str
    name: str
    vendor: str
    architecture: str
    figures: Mapping[str, Quantity] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the sampler saw during the untraced pass: medians, energy per batch, and names of what held the clocks down."""

    sm_clock_mhz: Quantity
    power_w: Quantity
    temperature_c: Quantity
    energy_j: Quantity
    throttled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """One analysed run without its launches. Times are per batch where ``batches`` is known, else of the whole window.

    ``facts`` is None for a bare trace. ``batch_size``, ``image_size`` and ``tokens`` (the longest sequence that attention saw)
    are None where not known. ``latency`` is a ``metrics.timing.Latency`` or None.
    """

    name: str
    label: str
    family: str
    trace: str
    device: DeviceFacts
    hardware: Hardware
    facts: RunFacts | None
    dtype: str
    batch_size: int | None
    image_size: int | None
    tokens: int | None
    window: str
    steps: int | None
    batches: int | None
    totals: Totals
    latency: Any
    ledger: Ledger
    kinds: pd.DataFrame
    groups: pd.DataFrame
    telemetry: Telemetry | None
    peak_memory: Quantity
    warnings: tuple[str, ...] = ()
    trace_versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that ran; of a bare trace those of CUDA or HIP that its header names."""
        return dict(self.facts.versions) if self.facts else dict(self.trace_versions)
