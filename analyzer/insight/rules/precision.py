"""Findings about products that leave the matrix units of a GPU unused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzer.insight.counters import all_counted
from analyzer.insight.rules.alignment import MULTIPLE, is_misfit, longest, sizes_of, with_vector
from analyzer.insight.rules.selection import (
    HALF,
    is_negligible,
    kernel_saving,
    kernels,
    limits,
    per,
    per_step_us,
    place,
    same_work,
    share_fact,
    shown,
    time_fact,
    waiting_note,
)
from analyzer.insight.rules.statement import fact, step_us, steps_of
from analyzer.metrics.memory import NAMED_BOUND_SHARE
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Effort, Fact, Finding
from analyzer.schema.results import Analysis
from analyzer.schema.run import AMD

IDLE_PIPE_PCT = 1.0
"""A tensor pipe that is active in no more of the cycles than this does none of a product's work."""
UNCOUNTED = "Read the tensor pipe counters of these kernels with Nsight Compute. If they are not zero, the names are misread."
COUNTED_IDLE = (
    "Hardware counters of this run agree that the tensor pipe is idle in these kernels. What is left to doubt is the gain: a "
    "run with the same products on matrix units that takes as long."
)


@dataclass(frozen=True, slots=True)
class _Format:
    """A number format that float32 can give way to: what it keeps of the range, and how one asks for it."""

    dtype: str
    name: str
    bits: int
    keeps: str
    how: str
    effort: Effort


FORMATS = (
    _Format("tfloat32", "TF32", 10, "its whole range",
            "", "a setting"),
    _Format("bfloat16", "bfloat16", 7, "its whole range",
            "torch.autocast switches it on", "a small change"),
    _Format("float16", "float16", 10, "far less of its range, so large values overflow",
            "torch.autocast switches it on; training needs a gradient scaler with it", "a small change"),
)  # fmt: skip
"""The first that the matrix units of a device know is the one to name: the least is given up for it."""
PRODUCTS_SWITCH = "torch.set_float32_matmul_precision with “high”"
CONVOLUTIONS_SWITCH = "torch.backends.cudnn.allow_tf32"
TILE = 16
"""Rows of the smallest tile that matrix units take (mma.m16n8, PTX ISA)."""
BATCHED = ("aten::bmm", "aten::baddbmm")
MANTISSA_BITS = 23
"""Of float32."""


def full_float32(a: Analysis) -> Finding | None:
    """Return that products run in float32 on the lanes beside the matrix units of the GPU.

    Only the floor of the arithmetic can shrink: to FLOP / peak of the matrix units, and no further than the bytes allow. The
    saving is that difference, at most for all these products; at least for those that arithmetic limits (a third of their time
    or more), with a third of the matrix peak reached. Kernels whose unit is not known count only where the device cannot have
    run float32 on matrix units (TF32).
    Approximation: matrix units reach the share of their datasheet's peak that the peak in float32 is of its own.
    """
    rows, known = kernels(a), limits(a)
    if a.device.type != "cuda" or known is None or known.sheet is None:
        return None
    there = known.sheet.matrix_tflops
    rows = rows[rows["product"] & rows["unit"].eq("vector") & rows["dtype"].eq("float32") & rows["floor_compute_us"].gt(0)]
    switches = _switches(a, rows)
    without = a.device.vendor == AMD or not switches
    target = next((f for f in FORMATS if f.dtype in there and not (without and f.dtype == "tfloat32")), None)
    if target is None:
        return None
    on_already = "tfloat32" in there and a.device.vendor != AMD and not switches
    if "tfloat32" in there:
        rows = rows[~rows["unit_assumed"].astype(bool)]
    used = known.peak("vector", "float32")
    peaks = known.spec_peak("matrix", target.dtype), known.spec_peak("vector", "float32")
    if rows.empty or is_negligible(a, rows) or used is None or peaks[0] is None or peaks[1] is None:
        return None
    times = peaks[0].value / peaks[1].value
    low, high = _faster(rows, times * used.value)
    ratio = fact("matrix peak over float32 peak", times, "x", Evidence.DERIVED)
    time, share = time_fact(a, rows, "time of these products"), share_fact(a, rows)
    floor = fact("floor of their arithmetic", float(rows["floor_compute_us"].sum()) / steps_of(a), "us", Evidence.MODELLED)
    bits = fact(f"bits of the fraction of {target.name}", target.bits, "count", Evidence.SPEC)
    full = fact("bits of the fraction of float32", MANTISSA_BITS, "count", Evidence.SPEC)
    note, more = waiting_note(a)
    return Finding(
        rule="full_float32",
        run=a.run.name,
        title=f"Products in full float32 take {shown(share)} of the kernel time",
        claim=(
            f"Products and convolutions in float32 take {shown(time)} {per(a)} on the vector units of the GPU; the floor of "
            f"their arithmetic is {shown(floor)}. Its matrix units have {shown(ratio)} the peak in {target.name}, which keeps "
            f"{shown(bits)} of the {shown(full)} fraction bits of float32 and {target.keeps}. "
            f"{_how(target, switches, on_already=on_already)}.{note}"
        ),
        facts=(share, time, floor, ratio, bits, full, *more),
        saving=kernel_saving(a, low / steps_of(a), high / steps_of(a), per_step_us(a, rows)),
        step_us=step_us(a),
        effort=target.effort,
        disproof=(
            f"Run {same_work(a)} in {target.name} and compare its results with those in float32. If these products take as "
            "long as before, arithmetic was not their limit; if the results differ too much, the precision was needed."
        ),
        target="roofline",
    )


def _switches(a: Analysis, rows: pd.DataFrame) -> tuple[str, ...]:
    """Return what allows TF32 for the products ``rows`` and, as far as the run tells, is not set already."""
    settings = a.run.facts.settings if a.run.facts else None
    products = settings is not None and settings.matmul_precision in ("high", "medium")
    convolutions = settings is not None and bool(settings.convolution_tf32)
    if settings is not None:  # of those that some of the rows need
        is_convolution = rows["kind"].isin(("convolution", "depthwise"))
        products = products or bool(is_convolution.all())
        convolutions = convolutions or not is_convolution.any()
    return (PRODUCTS_SWITCH,) * (not products) + (CONVOLUTIONS_SWITCH,) * (not convolutions)


def _how(target: _Format, switches: tuple[str, ...], *, on_already: bool) -> str:
    if target.dtype == "tfloat32":
        return f"{' and '.join(switches)} {'switches' if len(switches) == 1 else 'switch'} it on"
    return f"The run allows TF32 already, and these kernels do not use it; {target.how}" if on_already else target.how


def _faster(rows: pd.DataFrame, tflops: float) -> tuple[float, float]:
    """Return what the floors of ``rows`` shrink by in µs where matrix units of ``tflops`` do the arithmetic, (low, high)."""
    names = ("flop", "floor_compute_us", "floor_memory_us", "exclusive_us")
    flop, compute, memory, time = (rows[name].to_numpy(np.float64) for name in names)
    memory = np.nan_to_num(memory)
    least = np.minimum(np.maximum(compute, memory), time)
    high = np.maximum(least - np.maximum(flop / tflops / 1e6, memory), 0.0)
    low = np.maximum(least - np.maximum(flop / tflops / 1e6 / NAMED_BOUND_SHARE, memory), 0.0)
    limited = (compute >= NAMED_BOUND_SHARE * time) & (compute > memory)
    return float(low[limited].sum()), float(high.sum())


def no_matrix_units(a: Analysis) -> Finding | None:
    """Return that products in float16 or bfloat16 ran beside the matrix units that the device has for them.

    Told by kernel names alone; where hardware counters saw the tensor pipe at work in a kernel, its name is misread and it is
    left out. A product with a vector is left out: matrix units would not help it. The saving is at most the
    time above the floor that these products have on matrix units; at least what their floor shrinks by for those that
    arithmetic limits, with a third of the matrix peak reached.
    """
    rows, known = kernels(a), limits(a)
    if a.device.type != "cuda" or known is None or known.sheet is None:
        return None
    there = [dtype for dtype in HALF if dtype in known.sheet.matrix_tflops]
    rows = rows[rows["product"] & rows["unit"].eq("vector") & rows["dtype"].isin(there) & rows["floor_us"].gt(0)]
    rows = rows[~rows["unit_assumed"].astype(bool) & ~with_vector(rows)]
    found = a.launches.loc[rows.index]
    counts = all_counted(found, "tensor_active_pct")
    rows = rows[~found["tensor_active_pct"].gt(IDLE_PIPE_PCT)] if counts else rows
    if rows.empty or is_negligible(a, rows):
        return None
    low = best = 0.0
    for dtype, mine in rows.groupby("dtype"):
        peak = known.peak("matrix", str(dtype))
        if peak is None:
            return None
        low += _faster(mine, peak.value)[0]
        best += float(np.maximum(mine["flop"] / peak.value / 1e6, mine["floor_memory_us"].fillna(0.0)).sum())
    time, share = time_fact(a, rows, "time of these products"), share_fact(a, rows)
    floor = fact("floor on matrix units", best / steps_of(a), "us", Evidence.MODELLED)
    odd, odd_text = _told_sizes(a, rows)
    note, more = waiting_note(a)
    return Finding(
        rule="no_matrix_units",
        run=a.run.name,
        title=f"Products in float16 or bfloat16 without matrix units take {shown(share)} of the kernel time",
        claim=(
            f"Products of float16 or bfloat16 take {shown(time)} {per(a)} in kernels that, by their names, use the vector "
            f"units of the GPU. On its matrix units they need at least {shown(floor)}. The longest is {place(rows)}"
            f"{odd_text}{note}"
        ),
        facts=(share, time, floor, *odd, *more),
        saving=kernel_saving(a, low / steps_of(a), per_step_us(a, rows) - best / steps_of(a), per_step_us(a, rows)),
        step_us=step_us(a),
        effort="a small change",
        disproof=COUNTED_IDLE if counts else UNCOUNTED,
        target="roofline",
    )


def _told_sizes(a: Analysis, rows: pd.DataFrame) -> tuple[tuple[Fact, ...], str]:
    """Return the sizes of the longest of ``rows``, and how many have sizes that do not fit matrix units, in words."""
    facts: tuple[Fact, ...] = ()
    text = "."
    most = longest(rows)
    is_batched = most["op"].isin(BATCHED).any()
    if (sizes := sizes_of(most)) is not None:
        names = ("rows", "inner size", "columns")
        facts = tuple(fact(name, size, "count", Evidence.MEASURED) for name, size in zip(names, sizes, strict=True))
        count, inner, columns = map(shown, facts)
        text = f": {count} rows, inner size {inner}, {columns} columns."
        if min(sizes[0], sizes[2]) < TILE:
            larger = "a product with more of them" if is_batched else "a batched or larger product"
            text += f" So few rows or columns fill no tile of the matrix units; {larger} would."
    odd = rows[is_misfit(rows)]
    if odd.empty:
        return facts, text
    time = time_fact(a, odd, "time of those with odd sizes")
    of = fact("elements that sizes should be multiples of", MULTIPLE, "count", Evidence.SPEC)
    text += f" {shown(time)} of the time goes to sizes that are no multiples of {shown(of)} elements; padding would help."
    return (*facts, time, of), text
