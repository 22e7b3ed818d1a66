"""Holds the access model against what others measured: hardware counters, and sweeps of a re-read working set.

Prints one table. Every figure of the model is that of strict recency (LRU), in the order of blocks that the row gives; the band
reaches to one reference bit (NRU), and over the plausible orders where a row gives none. No figure is chosen row by row.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from analyzer.insight.validation import validation_of
from analyzer.insight.validation.families import ELEMENTWISE, FUSED, GEMM, GEMM_OPEN
from analyzer.insight.validation.items import RETAINED_TIMES, SMALL_OUTPUT
from analyzer.insight.validation.published import QUANTITY, published_items
from analyzer.schema.validation import Prediction
from benchmarks.access_sweeps import COUNTERS, DATA, SWEEPS, effective, effective_table, knee_table, knees

_KIND = {ELEMENTWISE: "elementwise", GEMM: "GEMM", GEMM_OPEN: "bmm", FUSED: "attention"}
"""Kinds of kernels, which docs/access-model.md speaks of; the only products without a known order here are batched ones."""
_COUNTER = {quantity: counter for counter, quantity in QUANTITY.items()}


@dataclass(frozen=True, slots=True)
class Row:
    """One counter of one kernel, in bytes per launch, with the ``point`` and the ``band`` (low, high) of the model.

    ``kind``: elementwise, GEMM, attention, bmm. ``status``: fitted, held out. ``scored``: false where the model does not claim
    the figure.
    """

    gpu: str
    mode: str
    kernel: str
    kind: str
    counter: str
    measured: float
    point: float
    band: tuple[float, float]
    status: str
    scored: bool = True

    @property
    def error_pct(self) -> float:
        """Error of the point in %."""
        return 100 * (self.point / self.measured - 1)

    @property
    def inside(self) -> bool:
        """Tell whether the band holds the measured figure; one of a single value has to meet it within 1 %."""
        low, high = self.band
        return 0.99 * low <= self.measured <= 1.01 * high

    @property
    def band_error_pct(self) -> float:
        """Error of the end of the band that is nearest to the measured figure, 0 inside."""
        low, high = self.band
        nearest = min(max(self.measured, low), high)
        return 100 * (nearest / self.measured - 1)


def counter_rows(data: Path = DATA) -> list[Row]:
    """Return every row of counters beside the model's figures, which are those of ``task=validate``."""
    items, _ = published_items(data / COUNTERS)
    return [_row(found) for found in validation_of(items).predictions]


def _row(p: Prediction) -> Row:
    kind, counter, scored = _KIND[p.family], _COUNTER[p.quantity], p.why != SMALL_OUTPUT
    return Row(p.gpu, p.mode, p.kernel, kind, counter, p.measured, p.point, (p.low, p.high), p.status, scored)


def table(rows: Sequence[Row]) -> list[str]:
    """Return the counters as lines of text, MB per launch."""
    head = f"{'GPU':9}{'mode':10}{'kernel':41}{'counter':16}{'measured':>9}{'model':>9}{'low':>9}{'high':>9}{'error':>9}  "
    out = [head + f"{'status':9}in band"]
    for row in rows:
        figures = "".join(f"{value / 1e6:9.2f}" for value in (row.measured, row.point, *row.band))
        ok = "yes" if row.inside else f"no, {row.band_error_pct:+.1f} %"
        note = ok if row.scored else f"not scored: output below {RETAINED_TIMES} x retained"
        out.append(
            f"{row.gpu:9}{row.mode:10}{row.kernel[:40]:41}{row.counter:16}{figures}{row.error_pct:+8.1f}%  {row.status:9}{note}"
        )
    return out


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the errors by class as lines of text."""
    out = []
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.scored:
            groups.setdefault((row.counter, row.kind, row.mode, row.status), []).append(row)
    for (counter, kind, mode, status), mine in groups.items():
        errors = [abs(row.error_pct) for row in mine]
        inside = sum(row.inside for row in mine)
        out.append(
            f"{counter:15} {kind:11} {mode:9} {status:8} n={len(mine)}  median {median(errors):6.2f} %  "
            f"worst {max(errors):6.2f} %  in band {inside}"
        )
    return out


def widths(rows: Iterable[Row]) -> list[float]:
    """Return high over low of every DRAM figure but writes; infinite where the low end is nothing."""
    dram = (row.band for row in rows if row.counter in ("dram_read", "dram_total"))
    return [high / low if low else math.inf if high else 1.0 for low, high in dram]


def report(data: Path = DATA) -> str:
    """Return all tables."""
    rows = counter_rows(data)
    wide = sorted(widths(rows))
    parts = [
        ["Counters, MB per launch; model: LRU; band: LRU to NRU and, without a known order, both orders", "", *table(rows)],
        ["By class, errors of the point", "", *summary(rows)],
        [f"Width of the bands of DRAM reads and totals, high over low: median {median(wide):.2f}, widest {wide[-1]:.2f}"],
        ["Bend of a cyclically re-read working set, MB (layout and ways chosen on these; L40 against the L40S's sheet)", "",
         *knee_table(knees(data))],
        ["Effective capacity over nominal capacity, bandwidth of DRAM taken as 0.34 of L2's", "",
         *effective_table(effective(data))],
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access_validation", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"the folder with {COUNTERS} and {SWEEPS}")
    print(report(parser.parse_args(arguments).data))


if __name__ == "__main__":
    main()
