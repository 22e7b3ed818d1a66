"""What the runs of a comparison are called, what sets their work apart, and the order of their devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from analyzer.hardware.capability import sm_limits
from analyzer.insight.comparison.basis import is_training
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison
from analyzer.schema.digest import Digest

LABEL, DEVICE = 40, 72
UNDATED = 9999

ARCHITECTURE_YEARS = {
    "Pascal": 2016, "Volta": 2017, "Turing": 2018, "CDNA": 2020, "Ampere": 2020, "CDNA2": 2021, "Hopper": 2022, "Ada": 2022,
    "CDNA3": 2023, "Blackwell": 2024,
}  # fmt: skip
"""The year in which each architecture came out: the order of devices in charts. Nothing is computed from it."""


def architecture_of(d: Digest) -> str:
    """Return the architecture of a device: by its datasheet, else by NVIDIA's compute capability, empty where neither tells."""
    if d.hardware.architecture:
        return d.hardware.architecture
    if d.device.vendor not in (None, "", "NVIDIA"):
        return ""  # AMD numbers its own in the same form
    limits = sm_limits(d.device.compute_capability)
    return limits.architecture if limits else ""


def release_year(d: Digest) -> int:
    """Return the year of the architecture of a device, UNDATED where it is not known, so that such devices come last."""
    return ARCHITECTURE_YEARS.get(architecture_of(d).partition(" ")[0], UNDATED)


def order_words(runs: Sequence[Digest]) -> str:
    """Return in which order devices stand, and which of them have no year, as a sentence without its full stop."""
    undated = list(dict.fromkeys(device_name(d) for d in runs if release_year(d) == UNDATED))
    text = "devices in the order of the years of their architectures"
    if not undated:
        return text
    more = f" and {len(undated) - 3} more" if len(undated) > 3 else ""
    return f"{text}; those without a known year come last: {', '.join(undated[:3])}{more}"


def device_name(d: Digest) -> str:
    """Return what a device is called on the page: the product by its datasheet, else the name that it gives itself."""
    return clean(d.hardware.name if d.hardware.key else d.device.name or d.hardware.name, 40)


def run_lines(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Return what each run is called on two lines: its label, then its device with what sets it apart; both unique."""
    found = [_lines(d, place) for d, place in zip(comparison.runs, comparison.places, strict=True)]
    seen = Counter(found)
    return tuple(
        (label, f"{device}, run {number}" if seen[(label, device)] > 1 else device)
        for number, (label, device) in enumerate(found, 1)
    )


def _lines(d: Digest, place: str) -> tuple[str, str]:
    """Cut label and device each for itself, so that a long label does not push the device out of the name."""
    head = f"{d.label} on "
    if place.startswith(head):
        return clean(d.label, LABEL), clean(place[len(head) :], DEVICE)
    return clean(place, LABEL), device_name(d)


def run_titles(comparison: Comparison) -> tuple[str, ...]:
    """Return what each run is called on one line, unique: the comparison's ``places``, cut to what fits."""
    return tuple(f"{label} on {device}" for label, device in run_lines(comparison))


def chart_lines(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Return ``run_lines`` with what sets the work of a run apart behind the device."""
    lines, work = run_lines(comparison), work_apart(comparison)
    return tuple(
        (label, f"{device} · {words}" if words else device) for (label, device), words in zip(lines, work, strict=True)
    )


def work_words(d: Digest) -> str:
    """Return what one step of a run does, as far as it is known: ``training, batch 32``."""
    training = is_training(d)
    words = ["" if training is None else "training" if training else "inference"]
    words.append(f"batch {d.batch_size}" if d.batch_size else "")
    return ", ".join(word for word in words if word)


def work_apart(comparison: Comparison) -> tuple[str, ...]:
    """Return for each run the words in which the work of a step differs among the runs and that its name does not hold yet."""
    found = [(d, run) for run, d in enumerate(comparison.runs)]
    mixed = len({is_training(d) for d, _ in found} - {None}) > 1
    sizes = len({d.batch_size for d, _ in found} - {None}) > 1
    out = []
    for d, run in found:
        training, words = is_training(d), []
        if mixed and training is not None:
            words.append("training" if training else "inference")
        if sizes and d.batch_size and f"batch {d.batch_size}" not in comparison.places[run]:
            words.append(f"batch {d.batch_size}")
        out.append(", ".join(words))
    return tuple(out)
