"""Comparisons of made-up runs: a ViT and a CNN, on the device that the traces name and on others put in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analyzer.analysis import digests
from analyzer.hardware.lookup import sheet_of
from analyzer.insight.comparison import compare_runs
from analyzer.insight.digest import hardware
from analyzer.schema.comparison import Comparison
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.run import DeviceFacts
from tests.report.synthetic import Fake, write_run


def made_up(root: Path, *fakes: Fake) -> tuple[Digest, ...]:
    """Return the digests of made-up runs, each in a directory of its own."""
    return tuple(digests(write_run(root / str(number), fake) for number, fake in enumerate(fakes)))


def moved(d: Digest, key: str, factor: float) -> Digest:
    """Return a run as if it had run on the device of another datasheet, with ``factor`` times the time without the profiler."""
    sheet = sheet_of(key)
    median = d.latency.median_ms
    scaled = [None if value is None else value * factor for value in (median.value, median.low, median.high)]
    latency = replace(d.latency, median_ms=replace(median, value=scaled[0], low=scaled[1], high=scaled[2]),
                      samples=tuple(tuple(v * factor for v in part) for part in d.latency.samples))  # fmt: skip
    device = DeviceFacts(
        type="cuda", name=sheet.device_names[0], vendor=sheet.vendor, compute_capability=sheet.compute_capability
    )
    ledger = replace(d.ledger, total_us=d.ledger.total_us * factor, low_us=(d.ledger.low_us or 0) * factor,
                     high_us=(d.ledger.high_us or 0) * factor)  # fmt: skip
    kinds = d.kinds.assign(time_us=d.kinds["time_us"] * factor, modelled_us=d.kinds["modelled_us"] * factor)
    return replace(
        d, name=f"{d.name}-{key}", device=device, hardware=hardware(device), latency=latency, ledger=ledger, kinds=kinds
    )


def pairs(root: Path) -> Comparison:
    """Return a ViT and a CNN on an H100 and on an A100, where the ViT takes 2 times and the CNN 1.5 times as long."""
    vit, cnn = made_up(root, Fake(), Fake(family="cnn", latency_ms=3.7))
    return compare_runs((moved(vit, "a100_sxm4_80gb", 2.0), moved(cnn, "a100_sxm4_80gb", 1.5), vit, cnn))


def missing() -> Quantity:
    """Return a figure without a value."""
    return Quantity.missing("x", "made up")


def known(value: float, unit: str = "us", spread: float = 0.0) -> Quantity:
    """Return a derived figure with an interval of ``spread`` to both sides."""
    return Quantity(value, unit, Evidence.DERIVED, value - spread, value + spread, "made up")
