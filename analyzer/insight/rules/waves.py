"""The finding about products whose last wave of thread blocks leaves much of the GPU without work."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.rules.selection import (
    NEGLIGIBLE_PCT,
    count_fact,
    kernel_saving,
    kernels,
    per,
    per_step_us,
    place,
    share_fact,
    shown,
    time_fact,
    waiting_note,
)
from analyzer.insight.rules.statement import fact, step_us, steps_of
from analyzer.metrics.memory import NAMED_BOUND_SHARE
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.results import Analysis

TAIL_PCT = 80.0
"""A kernel whose waves are filled to this share on average or more has no partial wave to speak of."""
BETTER = 0.5
"""Another batch is named only if it has at most this share of the loss per image."""
MOST_IMAGES = 65_536
"""No batch above this is asked about: a run directory may say anything."""
CANDIDATES = 1024
"""Batches that are tried, evenly spaced where there are more."""

Floats = npt.NDArray[np.float64]


def partial_waves(a: Analysis) -> Finding | None:
    """Return that the last wave of thread blocks of products fills the GPU only in part.

    Kernels of at most one wave tell nothing: a persistent kernel launches what fits and loops inside. Neither do kernels that
    DRAM limits, which are left out with everything that is no product or has no floor: a part of the multiprocessors can
    keep DRAM busy. The saving is
    at most the time times the empty share of the waves. At least it is the same over single multiprocessors, (blocks /
    multiprocessors) over its next whole number, where blocks share a multiprocessor without slowing each other.
    Approximation: all blocks of a kernel take equally long.
    """
    every = kernels(a)
    products = every[every["product"] & every["waves"].gt(0)]
    by_memory = products["floor_memory_us"].gt(products["floor_compute_us"])
    limited = products["floor_us"].gt(0) & ~(by_memory & products["floor_us"].ge(NAMED_BOUND_SHARE * products["exclusive_us"]))
    rows = products[limited & products["waves"].gt(1) & products["tail_efficiency_pct"].lt(TAIL_PCT)]
    if rows.empty:
        return None
    time, waves, per_sm = (rows[name].to_numpy(np.float64) for name in ("exclusive_us", "waves", "blocks_per_sm"))
    high, low = (float((time * _empty(filled)).sum()) / steps_of(a) for filled in (waves, per_sm))
    if high < NEGLIGIBLE_PCT / 100 * per_step_us(a, every):
        return None
    mean = 100 * float(np.average(1 - _empty(waves), weights=time))
    filled = fact("mean filling of their waves", mean, "%", Evidence.DERIVED)
    total, share = time_fact(a, rows, "time of these products"), share_fact(a, rows)
    count = count_fact(a, len(rows), "kernels")
    batch, text = _batch(a, products)
    note, more = waiting_note(a)
    return Finding(
        rule="partial_waves",
        run=a.run.name,
        title=f"Products that end in a partly empty wave take {shown(share)} of the kernel time",
        claim=(
            f"{shown(count)} kernels {per(a)} with {shown(total)} have more thread blocks than the GPU runs at once. The last "
            f"round of blocks (the last wave) is partly empty: their waves are filled to {shown(filled)} on average. The "
            f"longest are those of {place(rows)}.{text}{note}"
        ),
        facts=(share, count, total, filled, *batch, *more),
        saving=kernel_saving(a, low, high, per_step_us(a, rows)),
        step_us=step_us(a),
        effort="a setting",
        disproof=(
            "Time these kernels over a range of batch sizes. If the time grows evenly and not in steps, the waves overlap and "
            "nothing is lost."
        ),
        target="occupancy",
    )


def _empty(filled: Floats) -> Floats:
    """Return the share of the last whole number of waves that is empty."""
    return np.asarray(1 - filled / np.ceil(filled), np.float64)


def _batch(a: Analysis, rows: pd.DataFrame) -> tuple[tuple[Fact, ...], str]:
    """Return the batch up to twice the present one that loses least per image, and the sentence on it; nothing if not known.

    ``rows`` are all products: what has full waves now may lose them with another batch.
    """
    images = a.run.facts.settings.batch_size if a.run.facts else (a.access.batch_size if a.access else 0)
    if not 0 < images <= MOST_IMAGES:
        return (), ""
    shape = rows.groupby(["waves"], sort=False)["exclusive_us"].sum()
    waves, time = shape.index.to_numpy(np.float64), shape.to_numpy(np.float64)
    sizes = np.unique(np.linspace(images, 2 * images, min(images + 1, CANDIDATES)).round().astype(np.int64))
    # the time of a kernel goes with its whole waves, so per image with whole waves over the batch
    cost = np.array([(time * np.ceil(_grown(waves, n / images)) / np.ceil(waves)).sum() * images / n for n in sizes])
    ideal = float((time * waves / np.ceil(waves)).sum())
    present = fact("filling of the waves of all products", 100 * ideal / float(cost[0]), "%", Evidence.DERIVED)
    best = int(np.argmin(cost))
    if best == 0 or cost[best] - ideal > BETTER * (cost[0] - ideal):
        return (), ""
    filled = fact("filling at that batch", min(100 * ideal / float(cost[best]), 100.0), "%", Evidence.MODELLED)
    now = fact("batch", images, "count", Evidence.MEASURED)
    then = fact("batch that fills the waves", int(sizes[best]), "count", Evidence.DERIVED)
    text = (
        f" Over all products the waves are filled to {shown(present)} with the batch of {shown(now)}; with {shown(then)} they "
        f"would be to {shown(filled)}, if the grids grow with the batch."
    )
    return (now, then, present, filled), text


def _grown(waves: Floats, factor: float) -> Floats:
    """Return the waves of a grid that grew by ``factor``; a whole number stays one whatever the rounding of floats."""
    grown = waves * factor
    near = np.round(grown)
    return np.where(np.abs(grown - near) < 1e-9 * max(math.ceil(factor), 1), near, grown)
