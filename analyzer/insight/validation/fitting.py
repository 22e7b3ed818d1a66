"""Parameters of the model fitted on one half of the kernels: two per GPU, both of them medians."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from analyzer.insight.validation.families import COLD
from analyzer.insight.validation.items import BY_PARAMETERS, SMALL_BYTES, Item, Parameters, output_is_small
from analyzer.schema.validation import FIT, Parameter

LEAST_KERNELS = 3
"""Distinct kernels that have to tell a parameter; with fewer the shipped one stays."""
UNITS = {"dram_read_overhead": "x", "l2_retained": "bytes"}


@dataclass(frozen=True, slots=True)
class Fit:
    """The parameters of one GPU: those used, and the rows of the table, NaN where the half FIT does not tell one."""

    used: Parameters
    rows: tuple[Parameter, ...]

    def tells(self, quantity: str) -> bool:
        """Tell whether a parameter that ``quantity`` depends on was fitted."""
        return any(row.name in BY_PARAMETERS.get(quantity, ()) and math.isfinite(row.refitted) for row in self.rows)


def fit(items: Iterable[Item], half_of: dict[str, str]) -> dict[str, Fit]:
    """Return the parameters of each GPU, fitted on the cold kernels of FIT alone.

    ``dram_read_overhead`` is the median of counted DRAM reads over bytes missed. ``l2_retained`` is twice the median of what
    counted writes fall short of the output, since the model's point lies in the middle of 0 and it; where no writes were
    counted, the totals less the modelled reads tell.
    """
    by_gpu: dict[str, list[Item]] = {}
    for item in items:
        by_gpu.setdefault(item.gpu, []).append(item)
    return {gpu: _fit([i for i in mine if _usable(i, half_of)], gpu, mine[0].shipped) for gpu, mine in by_gpu.items()}


def _usable(item: Item, half_of: dict[str, str]) -> bool:
    return half_of[item.key] == FIT and item.mode == COLD and item.measured >= SMALL_BYTES


def _fit(mine: Sequence[Item], gpu: str, shipped: Parameters) -> Fit:
    ratios = [(i.key, i.measured / i.missed[0]) for i in mine if i.quantity == "dram_read_bytes" and i.missed[0] > 0]
    overhead = _told(ratios)
    used = overhead if math.isfinite(overhead) else shipped.read_overhead
    # a smaller output tells no more than that L2 can hold much of it back
    large = [i for i in mine if not output_is_small(i.written / i.part, shipped)]
    short = [(i.key, (i.written - i.measured) / i.part) for i in large if i.quantity == "dram_write_bytes"]
    if not short:
        totals = [i for i in large if i.quantity == "dram_bytes"]
        short = [(i.key, (i.written + used * i.missed[0] - i.measured) / i.part) for i in totals]
    kept = _told([(key, 2 * max(size, 0.0)) for key, size in short])
    rows = (
        Parameter(gpu, "dram_read_overhead", UNITS["dram_read_overhead"], shipped.read_overhead, overhead, _kernels(ratios)),
        Parameter(gpu, "l2_retained", UNITS["l2_retained"], shipped.retained_bytes, kept, _kernels(short)),
    )
    return Fit(Parameters(used, kept if math.isfinite(kept) else shipped.retained_bytes), rows)


def _kernels(told: Sequence[tuple[str, float]]) -> int:
    return len({key for key, _ in told})


def _told(values: Sequence[tuple[str, float]]) -> float:
    """Return the median, NaN where too few kernels tell."""
    return median(value for _, value in values) if _kernels(values) >= LEAST_KERNELS else math.nan
