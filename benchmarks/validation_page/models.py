"""Sections on what the models say: FLOP, occupancy, bytes, projections."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from analyzer.format import count, fixed, fixed_signed, percent, scaled
from analyzer.hardware.lookup import find_sheet
from analyzer.insight.projection.calibration import shipped
from analyzer.insight.projection.project import project
from analyzer.insight.validation import validate_analyses, words
from analyzer.schema.validation import Prediction, Score, Validation
from benchmarks.validation_page.count_flop import COUNTS
from benchmarks.validation_page.markdown import Section, absent, table
from benchmarks.validation_page.runs import Reference, device_pairs, said

COUNTED_KINDS = ("attention", "matmul", "convolution", "depthwise")
"""Kinds of work that FlopCounterMode counts too; it leaves out the rest."""
PUBLISHED_GMAC = {
    ("vit_tiny_patch16_224", 224): 1.26,
    ("resnet18", 224): 1.82,
    ("vit_base_patch16_224", 224): 17.58,
    ("convnext_base", 224): 15.38,
}
"""Multiply-adds of one image in 1e9, from timm's table results/benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv."""
EQUAL_POINTS = 0.1
"""Percentage points within which two occupancies are the same."""
OCCUPANCY, ACHIEVED, FLOP = "occupancy_theoretical_pct", "occupancy_pct", "flop"
FLOP_TOLERANCE_PCT = 1.0


def flop_section(runs: Sequence[Reference], validation: Validation) -> Section:
    """Return the FLOP of the work model against FlopCounterMode, timm's table and, where counted, the tensor cores."""
    known = json.loads(COUNTS.read_text(encoding="utf-8"))
    head = ("run", "work model", "FlopCounterMode", "difference", "timm's table", "difference", "within 1 %", "other operators")
    rows = [row for run in runs if (row := _flop_row(run, known["flop"]))]
    about = (
        "Work model: modelled, products, convolutions and attention of one image, from the shapes of the traced operators. "
        f"FlopCounterMode: torch {known['torch']} counts the same model without running it, attention as two products "
        "(`python -m benchmarks.validation_page.count_flop`). timm's table: twice its multiply-adds, which it rounds to 1e7 "
        "and counts by another tool. *Other operators*: what the work model has beyond the operators that FlopCounterMode "
        "counts. Attention that is written out includes its softmax in the work model alone."
    )
    texts = [table(head, rows)] if rows else []
    scored = _score_tables(validation, (FLOP,))
    missing = () if scored else (absent("FLOP against the counted operations of tensor cores"),)
    return Section("FLOP", about, (*texts, *scored), missing)


def model_flop(run: Reference) -> tuple[float, float]:
    """Return the FLOP of one image that FlopCounterMode counts too, and the FLOP of all other operators."""
    images = run.batches * run.facts.settings.batch_size
    launches = run.analysis.launches
    is_counted = launches["kind"].isin(COUNTED_KINDS)
    inside, outside = (float(launches.loc[rows, "flop"].sum()) / images for rows in (is_counted, ~is_counted))
    return inside, outside


def _flop_row(run: Reference, known: dict[str, dict[str, int]]) -> tuple[str, ...]:
    model, pixels = run.facts.model.name, run.facts.settings.image_size
    torch = float(known.get(model, {}).get(str(pixels), math.nan))
    timm = 2e9 * PUBLISHED_GMAC.get((model, pixels or 0), math.nan)
    inside, outside = model_flop(run)
    errors = [100 * (inside / other - 1) for other in (torch, timm)]
    if all(map(math.isnan, errors)):
        return ()
    met = "" if math.isnan(errors[0]) else "yes" if abs(errors[0]) <= FLOP_TOLERANCE_PCT else "**no**"
    return (
        f"`{run.device}/{run.name}`", scaled(inside, "FLOP"), _or_none(torch, scaled(torch, "FLOP")), _signed(errors[0]),
        _or_none(timm, scaled(timm, "FLOP")), _signed(errors[1]), met, scaled(outside, "FLOP"),
    )  # fmt: skip


def _or_none(value: float, text: str) -> str:
    return text if math.isfinite(value) else "none"


def _signed(value: float) -> str:
    return f"{fixed_signed(value, 2)} %" if math.isfinite(value) else ""


def validation_of_runs(runs: Sequence[Reference]) -> Validation:
    """Return what the models predict of the kernels of the runs with counters; empty without any."""
    return validate_analyses(run.analysis for run in runs if run.analysis.counters is not None)


def occupancy_section(runs: Sequence[Reference], validation: Validation) -> Section:
    """Return corrected occupancy against that of Nsight Compute, and how often Kineto says 0."""
    about = (
        "Derived, against measured figures of Nsight Compute (ncu). Occupancy is computed from registers, shared memory and "
        "block size; Kineto writes 0 for every kernel that uses more than 48 KiB of shared memory."
    )
    texts = []
    if equal := equal_line([p for p in validation.predictions if p.quantity == OCCUPANCY]):
        texts.append(equal)
    zeros = [row for run in runs if run.is_gpu and (row := _zeros(run))]
    if zeros:
        texts.append(table(("run", "launches", "Kineto says 0", "their share of kernel time"), zeros))
    texts += _score_tables(validation, (ACHIEVED,))
    missing = [] if equal else [absent("occupancy against what Nsight Compute calls theoretical occupancy")]
    missing += [] if zeros else [absent("how many launches of a GPU Kineto gives an occupancy of 0")]
    return Section("Occupancy", about, tuple(texts), tuple(missing))


def equal_line(predictions: Sequence[Prediction]) -> str:
    """Return the sentence on how many launches have exactly the occupancy that was counted, empty without any."""
    if not predictions:
        return ""
    total = sum(p.calls for p in predictions)
    equal = sum(p.calls for p in predictions if abs(p.point - p.measured) <= EQUAL_POINTS)
    worst = max(predictions, key=lambda p: abs(p.point - p.measured))
    share = 100 * equal / total
    met = "The target of 99 % is met" if share >= 99 else "The target of 99 % is **missed**"
    return (
        f"{count(equal)} of {count(total)} counted launches ({fixed(share, 2)} %) have the theoretical occupancy of ncu within "
        f"{EQUAL_POINTS} percentage points. {met}. The largest difference is "
        f"{fixed(abs(worst.point - worst.measured), 1)} points."
    )


def _zeros(run: Reference) -> tuple[str, ...]:
    launches = run.analysis.launches
    kernels = launches[launches["category"].eq("kernel") & launches["occupancy_pct"].gt(0)]
    if not len(kernels):
        return ()
    zero = kernels["occupancy_kineto_pct"].eq(0)
    share = 100 * float(kernels.loc[zero, "dur_ns"].sum()) / float(kernels["dur_ns"].sum())
    return f"`{run.device}/{run.name}`", count(len(kernels)), count(int(zero.sum())), percent(share)


def bytes_section(validation: Validation) -> Section:
    """Return the bytes of the access model against counted ones, by class, beside the targets."""
    quantities = ("l2_sm_bytes", "sm_l2_bytes", "dram_read_bytes", "dram_write_bytes", "dram_bytes")
    about = (
        "Modelled, against measured counters. How kernels are sorted into classes and what is scored stands in "
        "[validation-method.md](validation-method.md), with the targets; what counters that others published say of the model "
        "stands there too."
    )
    texts = _score_tables(validation, quantities)
    if texts:
        texts.append(words.refit_sentence(validation))
        texts += [f"- {line}" for line in words.left_out_lines(validation)]
    missing = () if texts else (absent("bytes from L2 and through DRAM by class of kernel, against counters of our own"),)
    return Section("Bytes", about, tuple(texts), missing)


def _score_tables(validation: Validation, quantities: Sequence[str]) -> list[str]:
    """Return a sentence and a table for each of ``quantities`` that was counted."""
    texts = []
    head = ("class", "kernels", "median error", "nine in ten within", "worst", "bias", "in band", "target", "met")
    for quantity, mode, rows in words.blocks_of(words.shipped_rows(validation)):
        if quantity in quantities:
            texts += [words.verdict(quantity, mode, rows), table(head, map(_score_row, rows))]
    return texts


def _score_row(row: Score) -> tuple[str, ...]:
    errors = [words.percent_of(value) for value in (row.median_pct, row.p90_pct, row.worst_pct, row.bias_pct)]
    met = words.met_text(row).replace("NO", "**no**")
    return row.family, count(row.n), *errors, words.inside_text(row), words.target_text(row), met


def projection_section(runs: Sequence[Reference]) -> Section:
    """Return what one GPU predicted of another beside what that one measured."""
    head = (
        "measured on",
        "projected onto",
        "run",
        "projected kernels",
        "measured kernels",
        "error",
        "range holds it",
        "validated",
    )
    rows = [row for source, target in device_pairs(runs) if (row := _projected(source, target))]
    about = (
        "Modelled, against measured kernel time. Each run is projected from the GPU that it ran on onto the other, which ran "
        "the same setting ([projection.md](projection.md))."
    )
    missing = (
        ()
        if rows
        else (absent("one GPU predicting another: this takes runs of two GPUs", "two NVIDIA GPUs, one after the other,"),)
    )
    return Section("Projection", about, (table(head, rows),) if rows else (), missing)


def _projected(source: Reference, target: Reference) -> tuple[str, ...]:
    sheet = find_sheet(target.facts.device)
    if sheet is None:
        return ()
    found = project(source.analysis, [sheet], shipped()).totals[0]
    measured = target.analysis.totals.kernel_time_us / target.batches
    if found.reason or not measured:
        return ()
    inside = found.least_us <= measured <= found.most_us
    return (
        source.device, target.device, f"{source.facts.model.label}, {said(source)}", f"≈ {fixed(found.time_us / 1e3, 2)} ms",
        f"{fixed(measured / 1e3, 2)} ms", _signed(100 * (found.time_us / measured - 1)), "yes" if inside else "**no**",
        percent(found.validated_pct),
    )  # fmt: skip
