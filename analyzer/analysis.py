"""The spine: from a run directory or a bare trace to everything that a report may say."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from analyzer.hardware.spec import DeviceLimits, Roof, device_limits
from analyzer.insight.gap import explain
from analyzer.insight.verdict import say_one, say_pair
from analyzer.metrics.attribution import add_work
from analyzer.metrics.kernels import group_kernels
from analyzer.metrics.memory import add_floors
from analyzer.metrics.occupancy import add_occupancy
from analyzer.metrics.timing import latency, ratio
from analyzer.metrics.totals import add_exclusive, choose_window, sum_kinds, sum_totals
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.operators import OpCall
from analyzer.schema.results import Analysis, LimitFact, Study
from analyzer.schema.run import DeviceFacts, Run
from analyzer.trace.calls import match_exact, parse_call, read_calls
from analyzer.trace.kinds import classify_launches
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import Linked, link
from analyzer.trace.rundir import open_run, read_samples, read_timings


def analyze(source: str | Path) -> Analysis:
    """Return the analysis of a run directory or of a bare Kineto trace. Needs neither torch nor a GPU.

    Raises:
        TraceError: nothing is there, or it is damaged or no trace.
    """
    run = open_run(Path(source))
    trace = read_trace(run.trace)
    device = run.facts.device if run.facts else trace.device
    linked = link(trace)
    calls, warnings = _operator_calls(run, trace, linked)
    names = trace.ops["name"].astype(str).tolist()

    launches = classify_launches(linked.launches, calls, linked.ops, names)
    launches = add_work(launches, calls, linked.ops, names)
    limits = _limits(run, device)
    launches = add_floors(launches, limits)
    launches = add_occupancy(launches, device)
    window = choose_window(linked)
    launches = add_exclusive(launches, linked)

    dtype = run.facts.settings.dtype if run.facts else _main_dtype(launches)
    timings = read_timings(run)
    return Analysis(
        run=run,
        device=device,
        label=run.facts.model.label if run.facts else run.name,
        dtype=dtype,
        window=window,
        totals=sum_totals(launches, linked, window),
        kinds=sum_kinds(launches),
        kernels=group_kernels(launches, run.name, limits),
        launches=launches,
        limits=_limit_facts(limits(dtype), limits(dtype, "convolution")),
        latency=latency(timings),
        timings=timings,
        samples=read_samples(run),
        warnings=(*(run.facts.warnings if run.facts else ()), *warnings),
        segments=linked.segments,
        steps=linked.steps,
        base_unix_ns=trace.base_unix_ns,
    )


def study(analyses: tuple[Analysis, ...]) -> Study:
    """Return what a report on ``analyses`` says; two of them are compared, ViT first."""
    if len(analyses) != 2:
        return Study(analyses, say_one(analyses))
    return pair(*analyses)


def pair(a: Analysis, b: Analysis) -> Study:
    """Return the comparison of two runs: their ratio, the gap in parts that add up to it, and the verdict.

    The run of a ViT comes first, whatever the order given; otherwise the order stays.
    """
    if _family(b) == "vit" and _family(a) != "vit":
        a, b = b, a
    gap = explain(a, b)
    times = ratio(a.latency, b.latency) if a.latency and b.latency else None
    return Study((a, b), say_pair(a, b, gap, times), times, gap)


def _family(analysis: Analysis) -> str:
    return analysis.run.facts.model.family if analysis.run.facts else ""


def _operator_calls(run: Run, trace: Trace, linked: Linked) -> tuple[list[OpCall | None], tuple[str, ...]]:
    """Return the call of each operator: exact where the run recorded one, else from the trace's shapes."""
    columns = ("name", "dims", "types", "strides", "concrete")
    calls = [parse_call(*row) for row in zip(*(trace.ops[c].astype(str) for c in columns), strict=True)]
    if run.ops is None:
        missing = ("ops.json.gz is missing, so bytes come from the shapes of inputs, without strides and outputs",)
        return calls, missing if run.facts else ()
    exact = match_exact(trace.ops, read_calls(run.ops), linked.steps)
    missed = sum(1 for _, start, end in linked.steps if not _any_exact(trace, exact, start, end))
    warnings = (
        (f"{missed} of {len(linked.steps)} traced steps ran other operators than the recorded one: bytes from shapes there",)
        if missed
        else ()
    )
    return [e if e is not None else c for e, c in zip(exact, calls, strict=True)], warnings


def _any_exact(trace: Trace, exact: list[OpCall | None], start: int, end: int) -> bool:
    inside = (trace.ops["start_ns"] >= start) & (trace.ops["start_ns"] <= end)
    return any(exact[i] is not None for i in np.flatnonzero(inside.to_numpy()))


def _limits(run: Run, device: DeviceFacts) -> Callable[..., DeviceLimits]:
    """Return the limits by element type and kind; on CUDA float32 may run as TF32, separately for products and convolutions."""
    ceilings = run.facts.ceilings if run.facts else ()
    settings = run.facts.settings if run.facts else None
    tf32_products = settings is not None and settings.matmul_precision in ("high", "medium")
    tf32_convolutions = settings is not None and bool(settings.convolution_tf32)

    @lru_cache(maxsize=64)
    def of(dtype: str, kind: str = "") -> DeviceLimits:
        if dtype == "float32" and device.type == "cuda":
            if kind == "convolution" and tf32_convolutions:
                return device_limits(device, "tfloat32", ceilings)
            if tf32_products:
                return device_limits(device, dtype, ceilings, spec_dtype="tfloat32")
        return device_limits(device, dtype, ceilings)

    return of


def _limit_facts(limits: DeviceLimits, convolution: DeviceLimits) -> tuple[LimitFact, ...]:
    facts = []
    other = convolution.matrix != limits.matrix
    for name, roof, unit in (
        *((("matrix peak used for convolutions (TF32)", convolution.matrix, "TFLOP/s"),) if other else ()),
        ("bandwidth used for floors", limits.bandwidth, "GB/s"),
        ("matrix peak used for floors", limits.matrix, "TFLOP/s"),
        ("DRAM bandwidth, datasheet", limits.dram_spec, "GB/s"),
        ("matrix peak, datasheet", limits.matrix_spec, "TFLOP/s"),
        ("vector peak, datasheet", limits.vector, "TFLOP/s"),
    ):
        facts.append(LimitFact(name, _roof_quantity(roof, unit, limits.reason)))
    return tuple(facts)


def _roof_quantity(roof: Roof | None, unit: str, reason: str) -> Quantity:
    if roof is None:
        return Quantity.missing(unit, reason or "no datasheet figure for this device")
    evidence = Evidence.MEASURED if roof.measured else Evidence.SPEC
    return Quantity(roof.value, roof.unit, evidence, source=roof.source)


def _main_dtype(launches: pd.DataFrame) -> str:
    """Return the element type with the most time."""
    known = launches[launches["dtype"] != ""]
    return str(known.groupby("dtype")["dur_ns"].sum().idxmax()) if len(known) else "dtype not recorded"
