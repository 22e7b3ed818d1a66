"""The validation table that comes with the calibration: errors on data that was held out."""

from __future__ import annotations

from functools import lru_cache

from analyzer.insight.projection.calibration import BOTH_NEW, KNOWN, NEW_SOURCE, NEW_TARGET, shipped
from analyzer.schema.projection import Score

SHAPES, GPUS, SOURCES, PAIRS = HELD_OUT = (
    "half of the shapes", "one whole GPU, the target", "one whole GPU, the source", "two whole GPUs, source and target",
)  # fmt: skip
RATIOS = "nothing fitted: a ratio of datasheet figures"
ALL, NO_TWINS = "all", "all, targets without a twin"
"""Titles of sums; a twin is another product with the same chip among the calibrated GPUs."""
ENOUGH_PCT = 85.0
"""The share of held-out times that an interval has to hold for its class to count as validated."""
_OF_SCHEME = {KNOWN: SHAPES, NEW_TARGET: GPUS, NEW_SOURCE: SOURCES, BOTH_NEW: PAIRS}


@lru_cache(maxsize=1)
def scores() -> tuple[Score, ...]:
    """Return the rows of the table, by what was held out and by class; sums last of each."""
    return tuple(Score(**entry) for entry in shipped().scores)


def score_of(scheme: str, title: str) -> Score | None:
    """Return the row of one class for one of ``calibration.SCHEMES``, None without."""
    return row(_OF_SCHEME.get(scheme, ""), title)


def row(held_out: str, title: str = ALL) -> Score | None:
    """Return one row of the table, None where it has none."""
    return next((s for s in scores() if (s.held_out, s.title) == (held_out, title)), None)
