"""What the sentences on top of a comparison are made of, and the words for one ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.format import interval, times
from analyzer.insight.comparison.basis import device_name, is_untraced, same_images, same_input
from analyzer.insight.comparison.matching import Matching
from analyzer.insight.comparison.ratios import time_ratio
from analyzer.insight.verdict import NO_DIFFERENCE
from analyzer.schema.comparison import Change, FactRow, Gain, GapMove, Offer
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Reason

GAP, CHANGES, GAINS, FACTS, OPERATORS, TIME = "moves", "changes", "gains", "comparable", "operators", "time"
"""Ids of the sections of the page that show the numbers of a sentence."""

NAMED = 8
"""Devices that a headline names; more of them are counted."""
SAID = 3
"""Devices that a clause names."""
MAX_REASONS = 4

Said = tuple[str, str, tuple[Reason, ...]]


@dataclass(frozen=True, slots=True)
class Found:
    """What the sentences are made of."""

    runs: Sequence[Digest]
    names: Sequence[str]
    places: Sequence[str]
    baseline: int
    facts: Sequence[FactRow]
    moves: Sequence[GapMove]
    gains: Sequence[Gain]
    offers: Sequence[Offer]
    matching: Matching
    changes: Sequence[Change]

    @property
    def others(self) -> list[int]:
        """Return the numbers of all runs but the baseline."""
        return [number for number in range(len(self.runs)) if number != self.baseline]

    def labels(self, move: GapMove) -> tuple[str, str]:
        """Return the labels of the ViT and the CNN of a move."""
        return self.runs[move.vit].label, self.runs[move.cnn].label


def tail(found: Found, number: int) -> str:
    """Return what tells a run from others of its label and device, else its number: ``batch 8``, ``run 2``."""
    run = found.runs[number]
    head = f"{run.label} on {device_name(run)}, "
    place = found.places[number]
    return place.removeprefix(head) if place.startswith(head) else f"run {number + 1}"


def is_clear(ratio: Quantity) -> bool | None:
    """Tell whether a ratio differs from 1 by more than 2 % and its interval leaves 1 out; None without an interval."""
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return None
    return not ratio.low <= 1 <= ratio.high and abs(ratio.value - 1) >= NO_DIFFERENCE


def as_long(found: Quantity, each: str = "") -> str:
    """Return a ratio of times as words: ``takes 0.53x as long (0.52x to 0.54x)``, ``does not clearly change (0.98x, ...)``."""
    clear = is_clear(found)
    if clear is None:
        return f"takes {times(found)} as long{each} (no interval)"
    if clear:
        return f"takes {times(found)} as long{each} ({interval(found)})"
    return f"does not clearly change{each} ({times(found)}, {interval(found)})"


def inverse(speedup: Quantity) -> Quantity:
    """Return how many times as long something takes that is ``speedup`` times as fast."""
    if not speedup.value:
        return speedup
    low, high = (1 / speedup.high, 1 / speedup.low) if speedup.low and speedup.high else (None, None)
    return Quantity(1 / speedup.value, speedup.unit, speedup.evidence, low, high, speedup.source)


def taken(run: Digest, base: Digest) -> tuple[Quantity, str]:
    """Return how many times as long ``run`` takes as ``base``, and of what: ``a batch``, or ``an image`` where batches differ.

    Without a value where inputs are not known to be the same amount of work.
    """
    found = batch_ratio(run, base)
    if same_input(run, base) or found.value is None:
        return found, "a batch"
    if not same_images(run, base):
        return Quantity.missing("x", "images of other sizes, or batches of unknown size, are other work"), "an image"
    scale = (base.batch_size or 1) / (run.batch_size or 1)
    low, high = (None if end is None else end * scale for end in (found.low, found.high))
    return Quantity(found.value * scale, "x", found.evidence, low, high, f"{found.source}; per image"), "an image"


def batch_ratio(run: Digest, base: Digest) -> Quantity:
    """Return how many times as long a batch of ``run`` takes as one of ``base``, whatever they hold."""
    if is_untraced(run) and is_untraced(base):
        return time_ratio(run, base)
    if run.ledger.basis != base.ledger.basis or not base.ledger.total_us:
        return Quantity.missing("x", "one time is with the profiler, the other without, or of a whole trace")
    return Quantity(run.ledger.total_us / base.ledger.total_us, "x", Evidence.DERIVED, source="ratio of traced times")


def offer_words(found: Found) -> str:
    """Return what the only other device has more of by its datasheet; nothing where there are several or none."""
    known = [o for o in found.offers if o.ratio.value is not None and not o.name.startswith("multiprocessors")]
    devices = {found.runs[o.run].hardware.name for o in known}
    if len(devices) != 1:
        return ""
    number, base = known[0].run, known[0].baseline
    said = ", ".join(f"{times(o.ratio)} the {o.name.replace(', ', ' in ')}" for o in known if o.run == number)
    return f" By the datasheets {next(iter(devices))} has {said} of {found.runs[base].hardware.name}."
