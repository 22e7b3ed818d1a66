"""How a figure came to be known, and figures that carry it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Evidence(StrEnum):
    """The five levels of ``docs/reading-the-report.md``."""

    MEASURED = "measured"
    DERIVED = "derived"
    MODELLED = "modelled"
    SPEC = "spec"
    UNAVAILABLE = "unavailable"


def combine(*levels: Evidence) -> Evidence:
    """Return the level of a figure computed from figures of ``levels``: as weak as the weakest.

    Measured and spec figures together make a derived one; any model makes it modelled; any gap makes it unavailable.
    """
    found = set(levels)
    for level in (Evidence.UNAVAILABLE, Evidence.MODELLED):
        if level in found:
            return level
    return next(iter(found)) if len(found) == 1 else Evidence.DERIVED


@dataclass(frozen=True, slots=True)
class Quantity:
    """A figure with its unit, its evidence and, where known, its interval.

    ``value`` is None exactly when the evidence is ``unavailable``; ``source`` then holds the reason.
    """

    value: float | None
    unit: str
    evidence: Evidence
    low: float | None = None
    high: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.evidence is Evidence.UNAVAILABLE):
            raise ValueError(f"a quantity without value must be unavailable, and only then: {self}")

    @classmethod
    def missing(cls, unit: str, reason: str) -> Quantity:
        """Return an unavailable figure; ``reason`` says why and what would make it available."""
        return cls(None, unit, Evidence.UNAVAILABLE, source=reason)

    def to_json(self) -> dict[str, Any]:
        """Return the form used in ``summary.json``."""
        out: dict[str, Any] = {"value": self.value, "unit": self.unit, "evidence": self.evidence.value}
        if self.low is not None and self.high is not None:
            out |= {"low": self.low, "high": self.high}
        if self.source:
            out["source"] = self.source
        return out
