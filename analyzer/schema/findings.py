"""What could be changed in a run, and what looks wrong and is not: statements with their evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analyzer.schema.evidence import Quantity

Effort = Literal["none", "a setting", "a small change", "a larger change"]
Level = Literal["opportunity", "note"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure that a finding rests on. Every number in its text is one of these, as ``format.quantity`` writes it."""

    name: str
    figure: Quantity


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement on one run.

    ``rule`` names the function that made it. ``saving`` is in µs per step (per batch; of the whole window where the trace names
    no steps) with its low and high end, never more than the time of what would change; None where nothing would be saved.
    ``step_us`` is the time that the saving is a share of. ``disproof`` says what would show that it is wrong. ``target`` is the
    section that shows more. ``level``: ``note`` for what may look wrong and is not, or cannot be changed from here.
    """

    rule: str
    run: str
    title: str
    claim: str
    facts: tuple[Fact, ...]
    saving: Quantity | None
    step_us: float
    effort: Effort
    disproof: str
    target: str
    level: Level = "opportunity"
