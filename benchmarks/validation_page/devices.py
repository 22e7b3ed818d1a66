"""Sections on what others see of the same runs: counters that were matched, GPM's averages, latencies that others published."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from analyzer.format import count, fixed
from analyzer.insight.activity import activity
from analyzer.schema.counters import CounterView
from analyzer.schema.evidence import Quantity
from benchmarks.validation_page.markdown import Section, absent, figure, table
from benchmarks.validation_page.runs import PAIRS, Reference, model_pairs

PUBLISHED = Path(__file__).with_name("published.csv")
"""Images per second of ViT-B/16 and ConvNeXt-B, from timm's results/benchmark-infer-amp-nchw-*.csv."""


MATCHED_PCT = 98.0
"""Share of the kernel time that counters are meant to be matched to, in %."""


def counters_section(runs: Sequence[Reference]) -> Section:
    """Return how much of each run with counters they could be matched to, beside the target."""
    head = ("run", "counted by", "launches counted", "launches matched", "of the kernel time", "target", "met")
    rows = [_matched(run, view) for run in runs if (view := run.analysis.counters) is not None]
    about = (
        "Measured. Counters come from a pass of their own, and each counted launch is looked for in the trace. What is not "
        "matched has no counters in the sections below."
    )
    missing = () if rows else (absent("launches matched to those that Nsight Compute counted"),)
    return Section("Counters", about, (table(head, rows, texts=2),) if rows else (), missing)


def _matched(run: Reference, view: CounterView) -> tuple[str, ...]:
    met = "yes" if view.matched_pct >= MATCHED_PCT and not view.refused else "**no**"
    return (
        f"`{run.device}/{run.name}`", view.tool or view.kind, count(view.rows), count(view.used),
        f"{fixed(view.matched_pct, 2)} %", f"{fixed(MATCHED_PCT, 0)} %", met,
    )  # fmt: skip


def telemetry_section(runs: Sequence[Reference]) -> Section:
    """Return GPM's averages beside what the trace and the counters say of the same seconds."""
    head = ("run", "what", "GPM", "trace", "counters", "on the expected side")
    rows = [
        (
            f"`{run.device}/{run.name}`", line.name, _shown(line.gpm), _shown(line.traced), _shown(line.counted),
            {True: "yes", False: "**no**", None: ""}[line.as_expected],
        )
        for run in runs
        for line in activity(run.analysis).lines
    ]  # fmt: skip
    about = (
        "GPM (averages that the GPU itself keeps) is measured, what stands beside it derived from the trace or counted. Both "
        "differ for known reasons, so only the side is predicted; the report of a run says why for each."
    )
    missing = () if rows else (absent("averages of GPM beside the trace", "an NVIDIA GPU from Hopper on"),)
    return Section("Telemetry against trace", about, (table(head, rows, texts=2),) if rows else (), missing)


def _shown(value: Quantity) -> str:
    return figure(value) if value.value is not None else ""


def published_section(runs: Sequence[Reference]) -> Section:
    """Return the published throughput ratios of the pair, beside measured ones of the same GPU, size and mode."""
    head = ("GPU", "torch", "mode", "image", "ViT-B/16, images/s", "ConvNeXt-B, images/s", "ViT over ConvNeXt", "measured here")
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = [_published(row, runs) for row in csv.DictReader(file)]
    about = (
        "Published by timm (`huggingface/pytorch-image-models`, `results/benchmark-infer-amp-nchw-*.csv`): images per second "
        "with automatic mixed precision and large batches. Above 1 the ViT is the faster one. The last column is the same "
        "ratio of the reference runs of that GPU, size and mode, whatever their batch and element type."
    )
    missing = (
        () if any(row[-1] for row in rows) else (absent("throughput of the pair on a GPU of this table", "one of these GPUs"),)
    )
    return Section("Published throughput", about, (table(head, rows),), missing)


def _published(row: dict[str, str], runs: Sequence[Reference]) -> tuple[str, ...]:
    vit, cnn = float(row["vit_images_per_s"]), float(row["cnn_images_per_s"])
    found = [measured_ratio(one, two) for one, two in model_pairs(runs) if _matches(one, row)]
    own = ", ".join(fixed(value, 2) for value in found if value)
    size = f"{row['image_size']} px"
    return row["gpu"], row["torch"], row["mode"], size, fixed(vit, 1), fixed(cnn, 1), fixed(vit / cnn, 2), own


def _matches(vit: Reference, row: dict[str, str]) -> bool:
    settings = vit.facts.settings
    mode = "eager" if settings.compile == "off" else "compiled"
    same = (vit.device, settings.image_size, mode) == (row["gpu_key"], int(row["image_size"]), row["mode"])
    return same and vit.facts.model.name == PAIRS[0][0]


def measured_ratio(vit: Reference, cnn: Reference) -> float:
    """Return images per second of ``vit`` over those of ``cnn``; 0 where a latency is missing."""
    one, two = vit.analysis.latency, cnn.analysis.latency
    if one is None or two is None or not one.median_ms.value or not two.median_ms.value:
        return 0.0
    return float(two.median_ms.value / one.median_ms.value)
